//! What this shard does for others, as the owner of pages.

use std::ops::Range;

use block::{Fault, Flags, Io, Op, VolumeId};
use pages::{PageRun, RunPool, Segment};

use super::{Context, Remote, place_segment};
use crate::message::{Message, Token};
use crate::other_shard::{OtherShard, RemoteRequest, Way};
use crate::requester::Requester;

/// What another shard asks for.
pub(super) struct Asked {
    pub(super) op: Op,
    pub(super) flags: Flags,
    pub(super) volume: VolumeId,
    pub(super) range: Range<u64>,
}

impl Remote {
    /// Another shard asks for something that we own.
    pub(super) fn serve(&mut self, shard: usize, token: Token, asked: Asked, cx: &mut Context<'_>) {
        let Asked {
            op,
            flags,
            volume,
            range,
        } = asked;
        let len = range.end - range.start;
        let mut run = None;
        if op.moves_data() {
            run = self.runs.take();
            if let Some(begun) = &mut run
                && begun.begin(range.start, len as usize).is_err()
                && let Some(run) = run.take()
            {
                self.runs.put(run);
            }
        }
        let (io, run) = match (op, run) {
            (Op::Read, Some(run)) => (Some(Io::read(run, flags)), None),
            (Op::WriteZeroes, _) => (Some(Io::write_zeroes(range.start, len, flags)), None),
            (Op::Deallocate, _) => (Some(Io::deallocate(range.start, len)), None),
            (Op::Flush, _) => {
                let io = Io::flush();
                (Some(Io { flags, ..io }), None)
            }
            // It starts when its bytes have come.
            (Op::Read | Op::Write, run) => (None, run),
        };
        let failed = io.is_none() && run.is_none();
        let Some(other) = &mut self.others[shard] else {
            return;
        };
        other.requests[usize::from(token.0)] = Some(RemoteRequest {
            op,
            flags,
            volume,
            run,
            moved: 0,
            result: match failed {
                true => Err(Fault::Internal),
                false => Ok(()),
            },
        });
        if let Some(io) = io {
            let requester = Requester::Remote {
                shard: shard as u16,
                token: token.0,
            };
            (cx.cached).start(requester, volume, io, cx.buffers, cx.ends);
        } else if failed {
            other.ended.push_back(token);
        }
    }

    /// Checksums of the next pages of another shard's write have come.
    pub(super) fn checksums_written(&mut self, shard: usize, token: Token, checksums: &[u32]) {
        let request = self.others[shard].as_mut();
        let request = request.and_then(|other| other.requests[usize::from(token.0)].as_mut());
        if let Some(run) = request.and_then(|request| request.run.as_mut()) {
            run.checksums_mut().extend_from_slice(checksums);
        }
    }

    /// Bytes of another shard's write have come.
    pub(super) fn bytes_written(
        &mut self,
        shard: usize,
        token: Token,
        segment: Segment,
        cx: &mut Context<'_>,
    ) {
        let request = self.others[shard].as_mut();
        let request = request.and_then(|other| other.requests[usize::from(token.0)].as_mut());
        let Some(request) = request else { return };
        let Some(run) = &mut request.run else { return };
        let len = segment.len();
        if request.result.is_ok() && !place_segment(run, request.moved, segment, cx.buffers) {
            request.result = Err(Fault::Internal);
        }
        request.moved += len;
        if request.moved < run.len() {
            return;
        }
        let (Op::Write, Some(run)) = (request.op, request.run.take()) else {
            return;
        };
        let (result, volume, flags) = (request.result, request.volume, request.flags);
        let shard = shard as u16;
        if result.is_err() {
            return self.served(shard, token.0, result, Some(run));
        }
        let requester = Requester::Remote {
            shard,
            token: token.0,
        };
        (cx.cached).start(
            requester,
            volume,
            Io::write(run, flags),
            cx.buffers,
            cx.ends,
        );
    }

    /// What another shard asked for is done.
    pub(crate) fn served(
        &mut self,
        shard: u16,
        token: u16,
        result: Result<(), Fault>,
        run: Option<Box<PageRun>>,
    ) {
        let Some(other) = &mut self.others[usize::from(shard)] else {
            return;
        };
        if let Some(request) = &mut other.requests[usize::from(token)] {
            (request.result, request.run) = (result, run);
        }
        other.ended.push_back(Token(token));
        while send_end(other, &self.runs) {}
    }
}

/// Sends the end of the request that ended first, if there is one and room for it.
pub(super) fn send_end(other: &mut OtherShard, runs: &RunPool) -> bool {
    let Some(&token) = other.ended.front() else {
        return false;
    };
    let Some(request) = &mut other.requests[usize::from(token.0)] else {
        unreachable!("a request stays until its end is sent");
    };
    let result = request.result;
    let read = match (request.op, &request.run) {
        (Op::Read, Some(run)) if result.is_ok() => run.segments().count(),
        _ => 0,
    };
    if !other.has_room(Way::Read, read) {
        return false;
    }
    other.ended.pop_front();
    if let Some(RemoteRequest {
        volume,
        run: Some(run),
        ..
    }) = other.requests[usize::from(token.0)].take()
    {
        if read > 0 {
            other.send_bytes(Way::Read, token, volume, run.segments().cloned());
        }
        runs.put(run);
    }
    other.send(Message::Done { token, result });
    true
}
