//! What the links of a shard share.

use block::Request;
use events::StageClock;
use nvmf::Timestamp;
use volume::{Origin, Volumes};

use crate::door::Doors;
use crate::machine::{Machine, Memory};

/// What every link of a shard uses besides its own connections.
pub struct Common<M: Machine> {
    /// Where frames and pages lie.
    pub memory: M::Memory,
    /// Its end of the volumes.
    pub volumes: Volumes<M::Device>,
    /// What sessions share, by door.
    pub doors: Doors,
}

/// How much of what sessions wait for is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    runs: usize,
    pages: usize,
    /// Of a link: more once a host has acknowledged something.
    chunks: usize,
    commands_in_use: usize,
    write_bytes_granted: u64,
}

impl<M: Machine> Common<M> {
    /// How much there is, for a link that can queue so many `chunks`.
    pub(crate) fn resources(&self, chunks: usize) -> Resources {
        let (buffers, commands) = (self.memory.buffers(), &self.doors.nvme.commands);
        Resources {
            runs: buffers.runs.available(),
            pages: buffers.pages.unheld(),
            chunks,
            commands_in_use: commands.in_use(),
            write_bytes_granted: commands.write_bytes_granted(),
        }
    }

    /// Tells sessions what volumes have left for reads.
    #[inline]
    pub(crate) fn lend(&mut self) {
        let left = self.volumes.read_bytes_left(self.memory.buffers());
        (self.doors.nvme.commands).set_read_bytes_left(left.unwrap_or(u64::MAX));
    }

    /// Tells sessions if volumes wait for what they hold.
    pub(crate) fn note_waits(&mut self, now: Timestamp) {
        if let Some(since) = self.volumes.short_since() {
            let since = Timestamp(since.as_millis() as u64);
            (self.doors.nvme.commands).note_wait(since, now);
        }
    }

    /// What sessions borrow.
    #[inline]
    pub(crate) fn for_doors(&mut self) -> (&block::Buffers, &mut Doors) {
        (self.memory.buffers(), &mut self.doors)
    }

    /// A session's request, to its volume.
    #[inline]
    pub(crate) fn start(
        &mut self,
        origin: Origin,
        request: Request,
        stages: &mut StageClock<M::Ticks>,
    ) {
        (self.volumes).start(origin, request, self.memory.buffers(), stages);
    }
}
