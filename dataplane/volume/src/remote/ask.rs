//! What this shard asks of owners, for as long as a volume leaves others their part of the way.

use std::ops::Range;
use std::time::Duration;

use block::{Fault, Flags, Io, Op, VolumeId};
use pages::{PAGE_SIZE, PageRun};

use super::{Context, Remote, place_segment};
use crate::message::{Message, Token};
use crate::other_shard::{Part, Way};
use crate::requester::Requester;

/// Why an owner was not asked.
pub(super) enum NotAsked {
    /// There is no room for anybody.
    Short,
    /// The volume has its share of what there is.
    Greedy,
}

/// How long writes of a volume wait for what an owner was lent for it before that is asked to
/// flush the volume.
const FLUSH_AFTER: Duration = Duration::from_secs(1);

/// The checksums of the pages in `place` of a run, if its data digest has made them. Parts end where the run
/// does, or between pages.
fn checksums_of(run: &PageRun, place: Range<usize>) -> &[u32] {
    let page_of = |at: usize| (run.offset() as usize % PAGE_SIZE + at) / PAGE_SIZE;
    let last = page_of(place.end - 1);
    match run.checksums().len() == run.pages().len() {
        true => &run.checksums()[page_of(place.start)..=last],
        false => &[],
    }
}

impl Remote {
    /// Asks our own cache for bytes `range` of a request.
    pub(super) fn ask_here(
        &mut self,
        id: u32,
        range: &Range<u64>,
        cx: &mut Context<'_>,
    ) -> Result<(), NotAsked> {
        let Some(split) = self.splits.get_mut(id) else {
            return Ok(());
        };
        if !self.own.has_room() {
            return Err(NotAsked::Short);
        }
        let held = self.own_of[split.volume.index()];
        if !cx.cached.may_take(held, 1, self.own.room()) {
            return Err(NotAsked::Greedy);
        }
        let (offset, len) = (range.start, range.end - range.start);
        let place = split.place_of(range);
        let io = match split.op {
            Op::Read | Op::Write => {
                let Some(mut run) = self.runs.take() else {
                    return Err(NotAsked::Short);
                };
                let mut placed = run.begin(offset, len as usize).is_ok();
                if let (Op::Write, Some(whole)) = (split.op, &split.run) {
                    let mut to = 0;
                    for segment in whole.parts(place.clone()) {
                        let n = segment.len();
                        placed &= place_segment(&mut run, to, segment, cx.buffers);
                        to += n;
                    }
                    let checksums = checksums_of(whole, place.clone());
                    run.checksums_mut().extend_from_slice(checksums);
                }
                if !placed {
                    self.runs.put(run);
                    return Err(NotAsked::Short);
                }
                match split.op {
                    Op::Read => Io::read(run, split.flags),
                    _ => Io::write(run, split.flags),
                }
            }
            Op::WriteZeroes => Io::write_zeroes(offset, len, split.flags),
            Op::Deallocate => Io::deallocate(offset, len),
            Op::Flush => Io::flush(),
        };
        let volume = split.volume;
        let Ok(part) = (self.own).insert(Part {
            split: Some(id),
            volume,
            at: place.start,
            moved: 0,
        }) else {
            unreachable!("there was room");
        };
        self.own_of[volume.index()] += 1;
        (cx.cached).start(Requester::Part(part), volume, io, cx.buffers, cx.ends);
        Ok(())
    }

    /// Asks another shard for bytes `range` of a request.
    pub(super) fn ask_there(
        &mut self,
        id: u32,
        owner: usize,
        range: &Range<u64>,
        cx: &Context<'_>,
    ) -> Result<(), NotAsked> {
        let (Some(split), Some(other)) = (self.splits.get_mut(id), &mut self.others[owner]) else {
            return Ok(());
        };
        let volume = split.volume;
        if other.dealings[volume.index()].refused == self.pass {
            // Behind those of the volume that came before it.
            return Err(NotAsked::Greedy);
        }
        let place = split.place_of(range);
        let written = match (split.op, split.run.as_deref()) {
            (Op::Write, Some(run)) => Some(run),
            _ => None,
        };
        let segments = written.map_or(0, |run| run.parts(place.clone()).count());
        let checksums = written.map_or(&[][..], |run| checksums_of(run, place.clone()));
        let room = other.parts.has_room() && other.has_room_to_write(segments, checksums.len());
        let dealings = other.dealings[volume.index()];
        let may_lend = segments == 0
            || (cx.cached).may_take(dealings.written, segments, other.room_to_lend(Way::Written));
        let may_ask = (cx.cached).may_take(dealings.parts, 1, other.parts.room());
        if !room || !may_lend || !may_ask {
            self.refused(owner, volume, segments, cx);
            return Err(match may_lend && may_ask {
                true => NotAsked::Short,
                false => NotAsked::Greedy,
            });
        }
        let part = Part {
            split: Some(id),
            volume,
            at: place.start,
            moved: 0,
        };
        let Ok(token) = other.parts.insert(part) else {
            unreachable!("there was room");
        };
        let token = Token(token as u16);
        other.send(Message::Request {
            token,
            op: split.op,
            flags: split.flags,
            volume,
            offset: range.start,
            len: range.end - range.start,
        });
        if let Some(run) = written {
            other.send_checksums(token, checksums);
            other.send_bytes(Way::Written, token, volume, run.parts(place));
        }
        let dealings = &mut other.dealings[volume.index()];
        dealings.parts += 1;
        if segments > 0 {
            dealings.short_since = None;
        }
        self.asked += 1;
        Ok(())
    }

    /// A volume waits for what the owner was lent for it, or does for it.
    ///
    /// What the owner cannot write keeps what it was lent. If that takes long it is asked to flush
    /// the volume: either some comes back, or what waits is told why not.
    #[cold]
    fn refused(&mut self, owner: usize, volume: VolumeId, segments: usize, cx: &Context<'_>) {
        let Some(other) = &mut self.others[owner] else {
            return;
        };
        let dealings = &mut other.dealings[volume.index()];
        dealings.refused = self.pass;
        if segments == 0 || dealings.written == 0 || dealings.is_flushing {
            return;
        }
        let since = *dealings.short_since.get_or_insert(cx.now);
        if cx.now.saturating_sub(since) < FLUSH_AFTER || !other.has_room(Way::Written, 0) {
            return;
        }
        let flush = Part {
            split: None,
            volume,
            at: 0,
            moved: 0,
        };
        let Ok(token) = other.parts.insert(flush) else {
            return;
        };
        let dealings = &mut other.dealings[volume.index()];
        dealings.is_flushing = true;
        dealings.parts += 1;
        other.send(Message::Request {
            token: Token(token as u16),
            op: Op::Flush,
            // To its drive, whatever the log has.
            flags: Flags::fua(true),
            volume,
            offset: 0,
            len: 0,
        });
    }

    /// The owner has flushed a volume for which it was lent too much, or failed to: then the writes
    /// that wait fail as that did. Those that a log would take may do better later.
    pub(super) fn flushed(
        &mut self,
        owner: usize,
        volume: VolumeId,
        result: Result<(), Fault>,
        cx: &Context<'_>,
    ) {
        let now = cx.now;
        let result = match cx.cached.is_logged(volume) {
            true => result.map_err(|_| Fault::Busy),
            false => result,
        };
        if let Some(other) = &mut self.others[owner] {
            let dealings = &mut other.dealings[volume.index()];
            dealings.is_flushing = false;
            dealings.short_since = Some(now);
        }
        for &id in self.waiting.iter().filter(|_| result.is_err()) {
            if let Some(split) = self.splits.get_mut(id)
                && (split.volume, split.op) == (volume, Op::Write)
                && split
                    .next(self.shards, now)
                    .is_some_and(|(next, _)| next == owner)
            {
                split.result = result;
            }
        }
    }
}
