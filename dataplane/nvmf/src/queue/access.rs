//! Namespaces that commands do not get to any more: what waits for them ends (base 8.1.3).
//!
//! New commands are refused by the plan. Those that came before, and have not been handed to volumes, are aborted
//! here with the status of the state; those that volumes have end as they end. Hosts try the former again,
//! by another path.

use super::flow::Waiting;
use super::slots::{Slot, SlotIndex, SlotState};
use super::{Queue, Role, Transport};
use crate::namespaces::Namespaces;
use crate::resources::Resources;
use crate::status::Status;
use crate::work::Work;

impl Queue {
    /// Aborts commands for namespaces that are withheld since it last looked, as far as volumes have nothing of them.
    pub(super) fn withdraw(
        &mut self,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) {
        let Role::Io(io) = &mut self.role else {
            return;
        };
        let Some(namespaces) = io.news() else {
            return;
        };
        self.waiting.withdraw(&namespaces);
        let mut index = self.held.first();
        while index != SlotIndex::NONE {
            let next = resources.commands.slots.after(index);
            if let Some(status) = withheld(&resources.commands.slots[index], &namespaces) {
                // What cannot be taken back is at a volume, or has its status already.
                let _ = self.take_back(index, status, transport, resources);
            }
            index = next;
        }
        self.promote(transport, resources);
    }

    /// Whether volumes have requests for namespaces that commands do not get to.
    pub fn has_withheld(&self, resources: &Resources<'_>) -> bool {
        let controller = match &self.role {
            Role::Io(io) => Some(&io.controller),
            _ => self.left.as_ref(),
        };
        if self.requests.outstanding() == 0 {
            return false;
        }
        let Some(namespaces) = controller.and_then(|controller| controller.namespaces()) else {
            return false;
        };
        let slots = &resources.commands.slots;
        let mut index = self.held.first();
        while index != SlotIndex::NONE {
            let slot = &slots[index];
            if slot.at_device > 0 && withheld(slot, &namespaces).is_some() {
                return true;
            }
            index = slots.after(index);
        }
        false
    }
}

/// The status to abort the command in `slot` with, if it is for a namespace that is withheld.
fn withheld(slot: &Slot, namespaces: &Namespaces) -> Option<Status> {
    let is_io = matches!(
        slot.work,
        Work::Read { .. }
            | Work::Write { .. }
            | Work::WriteZeroes { .. }
            | Work::Flush
            | Work::Dataset { .. }
    );
    if !is_io || slot.state == SlotState::Sending {
        return None;
    }
    namespaces.group(slot.namespace.nsid)?.state.status()
}

impl Waiting {
    /// Commands without a slot for namespaces that are withheld fail in their turn.
    fn withdraw(&mut self, namespaces: &Namespaces) {
        self.fail_in_turn(|namespace| namespaces.group(namespace.nsid)?.state.status());
    }
}
