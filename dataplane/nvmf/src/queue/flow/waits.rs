//! What a command waits for: its host, its own device, or what others hold. Nothing waits behind one that waits for its
//! device, and none waits for others for as long as their devices like.

use super::{Queue, Transport};
use crate::queue::slots::{SlotIndex, SlotState};
use crate::queue::{PATIENCE_MS, Role};
use crate::resources::Resources;
use crate::units::Timestamp;
use crate::work::{NamespaceRef, Work};

impl Queue {
    /// Whether a read is to wait until the queue's host has more of what it asked for before.
    #[inline]
    pub(super) fn owes_too_much(
        &self,
        index: SlotIndex,
        transport: &impl Transport,
        resources: &Resources<'_>,
    ) -> bool {
        let slot = &resources.commands.slots[index];
        let owed = self.waiting.owed + transport.owed();
        matches!(slot.work, Work::Read { .. })
            && !resources.may_read(slot.len, owed)
            && !resources.may_read(
                slot.len,
                owed - self.with_devices(slot.namespace, resources).1,
            )
    }

    /// Whether a command is to wait until others of its namespace are done: it has its share of what commands take, or its
    /// device has as much of this queue's reads as the host may be sent.
    pub(super) fn waits_for_device(
        &self,
        namespace: NamespaceRef,
        work: &Work,
        len: u32,
        transport: &impl Transport,
        resources: &Resources<'_>,
    ) -> bool {
        if resources.is_greedy(namespace.index, work, len) {
            return true;
        }
        let owed = self.waiting.owed + transport.owed();
        if !matches!(work, Work::Read { .. }) || resources.may_read(len, owed) {
            return false;
        }
        let (own, others) = self.with_devices(namespace, resources);
        own > 0 && !resources.may_read(len, owed - others)
    }

    /// Bytes of the queue's reads that devices have not done: that of the namespace, and those of others. What a device
    /// holds is no reason for reads of others to wait for this host: it has nothing of it to take.
    #[cold]
    fn with_devices(&self, namespace: NamespaceRef, resources: &Resources<'_>) -> (u64, u64) {
        let (mut own, mut others) = (0, 0);
        if resources.commands.is_one_namespace() {
            return (own, others);
        }
        let slots = &resources.commands.slots;
        let mut index = self.held.first();
        while index != SlotIndex::NONE {
            let slot = &slots[index];
            if matches!(slot.state, SlotState::Ready | SlotState::AtDevice) {
                match slot.namespace.index == namespace.index {
                    true => own += u64::from(slot.owed),
                    false => others += u64::from(slot.owed),
                }
            }
            index = slots.after(index);
        }
        (own, others)
    }

    /// Whether a command of an I/O queue has waited since `since` for what others hold, and is to be tried again rather than to
    /// wait on.
    pub(super) fn is_out_of_patience(&self, since: Timestamp) -> bool {
        matches!(self.role, Role::Io(_)) && self.now >= since.plus_ms(PATIENCE_MS)
    }
}
