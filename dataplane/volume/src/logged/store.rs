//! A log's device: lists of any memory to it and from it.

use std::collections::VecDeque;
use std::time::Duration;

use block::{Command, Device, DeviceState, Fault, Geometry, NotStarted, Op, OpIndex, OpTable};
use collections::Slab;
use mutant::mutant;
use sgl::{Element, RequestState};

use crate::backing::{Backing, LOOK};

/// What is read, written or flushed. The memory of its elements stays where it is until it has ended.
struct Transfer {
    ticket: u32,
    op: Op,
    elements: Vec<Element>,
    state: RequestState<usize>,
    /// A flush is still to follow what is written.
    then_flush: bool,
    in_flight: u32,
    since: Duration,
    stalled: bool,
    is_refused: bool,
    result: Result<(), Fault>,
}

impl Transfer {
    fn is_over(&self) -> bool {
        self.result.is_err() || self.state.is_formatted() && !self.then_flush
    }
}

/// How a transfer ended.
pub(crate) struct Ended {
    pub(crate) ticket: u32,
    pub(crate) result: Result<(), Fault>,
    /// Its elements, to be used again.
    pub(crate) elements: Vec<Element>,
}

/// A shard's way to a log store.
pub(crate) struct LogStore<D: Device> {
    backing: Backing<D>,
    ops: OpTable<D::Slot>,
    transfers: Slab<Transfer>,
    ended: VecDeque<u32>,
    now: Duration,
    look_at: Duration,
}

impl<D: Device> LogStore<D> {
    /// `transfers`: how many may be under way at once. `elements`: of one device list.
    pub(crate) fn new(
        device: D,
        transfers: usize,
        elements: usize,
        slot: impl FnMut() -> D::Slot,
    ) -> Self {
        Self {
            backing: Backing::new(device, elements, transfers),
            ops: OpTable::new(4 * transfers, elements, slot),
            transfers: Slab::new(transfers),
            ended: VecDeque::with_capacity(transfers),
            now: Duration::ZERO,
            look_at: Duration::ZERO,
        }
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.backing.geometry
    }

    /// How the device does.
    pub(crate) fn state(&self) -> DeviceState {
        self.backing.state()
    }

    /// Transfers that have not ended.
    pub(crate) fn in_flight(&self) -> usize {
        self.transfers.len()
    }

    /// Whether it may be that the device does not take some group as it lies.
    pub(crate) fn is_particular(&self) -> bool {
        /// Elements of a block: of eight records of 512 bytes each, a header, and what fills it up.
        const OF_A_BLOCK: u32 = (nvlog::PAGE / 512) as u32 * pages::MAX_SEGMENTS as u32 + 2;
        let geometry = &self.backing.geometry;
        geometry.is_particular() || geometry.max_elements < OF_A_BLOCK
    }

    /// Whether the device takes these elements as they lie.
    pub(crate) fn takes(&self, at: u64, len: u64, elements: &[Element]) -> bool {
        let state = RequestState::new(at, len);
        !self.is_particular()
            || (self.backing.divider)
                .count(&state, elements, usize::MAX)
                .is_ok()
    }

    /// Reads, or writes and, where the device has a volatile cache, makes stable what is at `at` of it.
    ///
    /// # Panics
    /// If there is no room.
    pub(crate) fn start(&mut self, ticket: u32, op: Op, at: u64, len: u64, elements: Vec<Element>) {
        let caches = self.backing.geometry.write_cache;
        let is_skipped = mutant!("log-not-flushed") && op == Op::Write;
        let transfer = Transfer {
            ticket,
            op,
            elements,
            state: RequestState::new(at, len),
            then_flush: op != Op::Read && caches && !is_skipped,
            in_flight: 0,
            since: self.now,
            stalled: false,
            is_refused: false,
            result: Ok(()),
        };
        let Ok(index) = self.transfers.insert(transfer) else {
            panic!("the caller looked for room");
        };
        self.go_on(index);
    }

    /// Lets the device work, and what waited for it go on; whether there was work.
    pub(crate) fn poll(&mut self, now: Duration) -> bool {
        self.now = now;
        let mut busy = self.backing.device.poll();
        for _ in 0..self.backing.stalled.len() {
            let Some(index) = self.backing.stalled.pop_front() else {
                break;
            };
            if let Some(transfer) = self.transfers.get_mut(index) {
                transfer.stalled = false;
            }
            self.go_on(index);
        }
        while let Some(completed) = self.ops.next_completed() {
            busy = true;
            self.completed(completed.op, completed.request, completed.result);
        }
        if now >= self.look_at {
            self.look_at = now + LOOK;
            self.look_for_overdue();
        }
        busy || !self.ended.is_empty()
    }

    /// The next transfer that ended.
    pub(crate) fn next_ended(&mut self) -> Option<Ended> {
        let index = self.ended.pop_front()?;
        let mut transfer = self.transfers.remove(index)?;
        transfer.elements.clear();
        Some(Ended {
            ticket: transfer.ticket,
            result: transfer.result,
            elements: transfer.elements,
        })
    }

    /// Hands over commands until all is at the device, or it takes no more.
    fn go_on(&mut self, index: u32) {
        loop {
            match self.submit_next(index) {
                Ok(true) => continue,
                Ok(false) => return,
                Err(error) => return self.stop(index, error),
            }
        }
    }

    fn stop(&mut self, index: u32, error: NotStarted) {
        let Some(transfer) = self.transfers.get_mut(index) else {
            return;
        };
        match error {
            NotStarted::Full => {
                (transfer.stalled, transfer.is_refused) = (true, true);
                self.backing.stalled.push_back(index);
            }
            NotStarted::Failed(fault) => {
                transfer.result = Err(fault);
                if transfer.in_flight == 0 {
                    self.ended.push_back(index);
                }
            }
        }
    }

    /// One command more; `Ok(false)` when there is none to add.
    fn submit_next(&mut self, index: u32) -> Result<bool, NotStarted> {
        let Some(transfer) = self.transfers.get_mut(index) else {
            return Ok(false);
        };
        let flush = transfer.state.is_formatted();
        if transfer.is_over() || flush && transfer.in_flight > 0 {
            if transfer.in_flight == 0 {
                self.ended.push_back(index);
            }
            return Ok(false);
        }
        if self.backing.device.is_gone() {
            return Err(NotStarted::Failed(Fault::Gone));
        }
        let op = self.ops.take(index).ok_or(NotStarted::Full)?;
        let before = transfer.state;
        let formatted = if flush {
            Ok((Command::FLUSH, 0))
        } else {
            let (state, chain) = (&mut transfer.state, &transfer.elements[..]);
            (self.backing).data_command(transfer.op, state, chain, self.ops.list(op))
        };
        let (command, elements) = match formatted {
            Ok(formatted) => formatted,
            Err(refused) => {
                self.ops.release(op);
                log::error!("a group fits no list of the log's device: {refused}");
                return Err(NotStarted::Failed(Fault::Internal));
            }
        };
        if let Err(error) = (self.backing.device).submit(&mut self.ops, op, elements, command) {
            transfer.state = before;
            self.ops.release(op);
            return Err(error);
        }
        transfer.then_flush &= !flush;
        transfer.is_refused = false;
        transfer.in_flight += 1;
        transfer.since = self.now;
        self.backing.operations += 1;
        Ok(true)
    }

    fn completed(&mut self, op: OpIndex, index: u32, result: Result<(), Fault>) {
        self.ops.release(op);
        self.backing.ended(self.now);
        let Some(transfer) = self.transfers.get_mut(index) else {
            return;
        };
        transfer.in_flight -= 1;
        transfer.since = self.now;
        if transfer.result.is_ok() {
            transfer.result = result;
        }
        // A stalled one goes on, or ends, from its list.
        if transfer.in_flight > 0 || transfer.stalled {
            return;
        }
        match transfer.is_over() {
            true => self.ended.push_back(index),
            false => self.go_on(index),
        }
    }

    /// Recovers the device if it keeps a command for longer than it may, or gives it up.
    #[cold]
    fn look_for_overdue(&mut self) {
        let (now, backing) = (self.now, &mut self.backing);
        let is_late = |transfer: &mut Transfer| {
            let has_commands = transfer.in_flight > 0;
            backing.is_late(transfer.since, has_commands, transfer.is_refused, now)
        };
        if self.transfers.iter_mut().any(is_late) && backing.hurry().is_some() {
            // It has as long again.
            for transfer in self.transfers.iter_mut() {
                transfer.since = now;
            }
        }
    }
}
