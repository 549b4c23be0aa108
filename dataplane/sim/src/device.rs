//! A shard's way to a device, and what it needs of the world besides.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use block::{Command, Fault, Geometry, NotStarted, OpIndex, OpTable};

use crate::clock::VirtualTime;
use crate::disk::{Disk, Ticket};
use crate::dma::List;
use crate::memory::Memory;
use crate::port::Port;

/// A shard's way to a device.
pub struct Device {
    shard: usize,
    disk: Rc<RefCell<Disk>>,
    is_dead: Rc<Cell<bool>>,
}

impl Device {
    /// `is_dead`: the appliance was killed, and what is left of it must not reach the device.
    pub(crate) fn new(shard: usize, disk: &Rc<RefCell<Disk>>, is_dead: &Rc<Cell<bool>>) -> Self {
        Self {
            shard,
            disk: Rc::clone(disk),
            is_dead: Rc::clone(is_dead),
        }
    }
}

impl block::Device for Device {
    type Slot = ();

    fn geometry(&self) -> Geometry {
        self.disk.borrow().geometry()
    }

    fn is_gone(&self) -> bool {
        self.disk.borrow().is_gone() && !self.is_dead.get()
    }

    fn timeout(&self) -> Option<Duration> {
        self.disk
            .borrow()
            .config()
            .timeout
            .map(Duration::from_nanos)
    }

    fn recover(&mut self) {
        if !self.is_dead.get() {
            self.disk.borrow_mut().recover();
        }
    }

    fn give_up(&mut self) {
        if !self.is_dead.get() {
            self.disk.borrow_mut().give_up();
        }
    }

    fn poll(&mut self) -> bool {
        let mut any = false;
        let mut disk = self.disk.borrow_mut();
        while let Some((ticket, result)) = disk.next_ended(self.shard) {
            any = true;
            ticket.end(result);
        }
        any
    }

    fn submit(
        &mut self,
        ops: &mut OpTable<()>,
        op: OpIndex,
        elements: usize,
        command: Command,
    ) -> Result<(), NotStarted> {
        let ticket = Ticket {
            shard: self.shard,
            ends: ops.ends(),
            op,
            request: ops.request(op),
        };
        if self.is_dead.get() {
            ticket.end(Ok(()));
            return Ok(());
        }
        let mut disk = self.disk.borrow_mut();
        match List::of(ops, op, elements, disk.reach()) {
            Ok(list) => disk.submit(ticket, list, command),
            Err(element) => {
                disk.report(format!(
                    "{element:?} is no memory of the appliance: {command:?}"
                ));
                Err(NotStarted::Failed(Fault::Internal))
            }
        }
    }
}

/// The world of a simulated shard.
pub struct Machine;

impl shard::Machine for Machine {
    type Ticks = VirtualTime;
    type Memory = Memory;
    type Port = Port;
    type Device = Device;

    fn enter(&self) {}

    fn poll(&mut self) -> bool {
        false
    }
}
