//! What shards say to each other about pages that one asks of the other.
//!
//! ```text
//! who asks ──▶ who owns    a request: read, write, write zeroes, deallocate, flush
//!          ──▶             checksums of a write's pages, if its data digest has made them
//!          ──▶             a write's bytes: lent segments and holes, in order
//!          ◀──             a read's bytes: lent segments and holes, in order
//!          ◀──             its end
//!          ◀─▶             lent segments that come back
//! ```

use block::{Fault, Flags, Op, VolumeId};
use pages::{LentSegment, Return};

/// Checksums that a message has room for.
pub(crate) const CHECKSUMS: usize = 6;

/// Names what is asked until it is done: a number of the asking shard's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) u16);

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// What a shard asks of the owner of a range, in bytes of the volume.
    Request {
        token: Token,
        op: Op,
        flags: Flags,
        volume: VolumeId,
        offset: u64,
        len: u64,
    },
    /// Checksums of the next pages of a write, in order; all before its bytes. The first `count` are.
    Checksums {
        token: Token,
        count: u8,
        checksums: [u32; CHECKSUMS],
    },
    /// The next bytes of a write, or of the answer to a read.
    Bytes {
        token: Token,
        answer: bool,
        segment: LentSegment,
    },
    /// As `Bytes`: so many zeros, which need not be lent.
    Hole {
        token: Token,
        answer: bool,
        len: u64,
    },
    /// How what was asked for ended.
    Done {
        token: Token,
        result: Result<(), Fault>,
    },
    Return(Return),
}

#[cfg(test)]
mod tests {
    use pages::{Arena, BorrowedPool, ClusterPool, HeapRegion, LentTable, PAGE_SIZE, Segment};

    use sync::ring::ring;

    use super::*;

    #[test]
    fn lent_segments_and_their_returns_come_through() {
        let arena = Arena::new(HeapRegion::new(1));
        let pool = ClusterPool::carve(&arena, 1, PAGE_SIZE).unwrap();
        let slice = pool.alloc().unwrap().freeze().slice(100..1100);
        let (mut table, borrowed) = (LentTable::new(0xfedc, 1), BorrowedPool::new(1));
        let bytes = Message::Bytes {
            token: Token(0xfedc),
            answer: true,
            segment: table.lend(Segment::data(slice), 0).unwrap(),
        };
        let (mut sender, mut receiver) = ring(1);
        sender.send(bytes).unwrap();
        let Some(Message::Bytes {
            token: Token(0xfedc),
            answer: true,
            segment,
        }) = receiver.receive()
        else {
            panic!("bytes");
        };
        assert_eq!(borrowed.borrow(segment).unwrap().len(), 1000);
        let back = Message::Return(borrowed.next_return().unwrap());
        sender.send(back).unwrap();
        let Some(Message::Return(back)) = receiver.receive() else {
            panic!("a return");
        };
        assert_eq!(back.lender(), 0xfedc);
        table.take_back(back);
        assert_eq!((table.len(), pool.held()), (0, 0));
    }

    #[test]
    fn messages_come_through_as_they_were_sent() {
        let (mut sender, mut receiver) = ring(1);
        let mut crosses = |message: &dyn Fn() -> Message| {
            sender.send(message()).unwrap();
            assert_eq!(receiver.receive(), Some(message()));
        };
        for op in Op::ALL {
            for (fua, deallocate) in [(false, false), (true, false), (false, true), (true, true)] {
                crosses(&|| Message::Request {
                    token: Token(0xfedc),
                    op,
                    flags: Flags {
                        fua,
                        deallocate,
                        forwarded: fua,
                    },
                    volume: VolumeId(0xba98),
                    offset: u64::MAX - 1,
                    len: 1 << 40,
                });
            }
        }
        crosses(&|| Message::Checksums {
            token: Token(6),
            count: CHECKSUMS as u8,
            checksums: [u32::MAX; CHECKSUMS],
        });
        crosses(&|| Message::Hole {
            token: Token(7),
            answer: true,
            len: 4096,
        });
        for result in [Ok(()), Err(Fault::WriteError)] {
            let token = Token(8);
            crosses(&|| Message::Done { token, result });
        }
    }

    #[test]
    fn messages_are_no_larger_than_they_need_be() {
        assert!(size_of::<Message>() <= 32, "two to a cache line");
    }
}
