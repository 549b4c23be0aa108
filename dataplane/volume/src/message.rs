//! What shards say to each other about pages that one asks of the other.
//!
//! ```text
//! who asks ──▶ who owns    a request: read, write, write zeroes, flush
//!          ──▶             a write's bytes: lent segments and holes, in order
//!          ◀──             a read's bytes: lent segments and holes, in order
//!          ◀──             its end
//!          ◀─▶             lent segments that come back
//! ```

use block::{Fault, Flags, Op, VolumeId};
use pages::{LentSegment, Return};

/// Names what is asked until it is done: a number of the asking shard's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) u16);

#[derive(Debug)]
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

/// Words of a message: a tag, and two that depend on its kind.
pub(crate) const WORDS: usize = 3;

/// Kinds of messages; a request's is the number of its operation.
const BYTES: u64 = 0x10;
const HOLE: u64 = 0x11;
const DONE: u64 = 0x12;
const RETURN: u64 = 0x13;
/// Of a request: force unit access. Of bytes: they are an answer.
const FLAG: u64 = 1 << 8;
/// Of a request: deallocate what reads as zeros.
const DEALLOCATE: u64 = 1 << 9;

const fn bit(set: bool, bit: u64) -> u64 {
    if set { bit } else { 0 }
}

impl Message {
    /// The tag has the kind in bits 0 to 7, then flags, the volume in bits 16 to
    /// 31 and the token in bits 32 to 47.
    pub(crate) fn into_words(self) -> [u64; WORDS] {
        let tag = |kind: u64, token: Token| kind | u64::from(token.0) << 32;
        match self {
            Message::Request {
                token,
                op,
                flags,
                volume,
                offset,
                len,
            } => {
                let flags = bit(flags.fua, FLAG) | bit(flags.deallocate, DEALLOCATE);
                let volume = u64::from(volume.0) << 16;
                [tag(op as u64, token) | flags | volume, offset, len]
            }
            Message::Bytes {
                token,
                answer,
                segment,
            } => {
                let [a, b] = segment.into_words();
                [tag(BYTES, token) | bit(answer, FLAG), a, b]
            }
            Message::Hole { token, answer, len } => [tag(HOLE, token) | bit(answer, FLAG), len, 0],
            Message::Done { token, result } => {
                let result = result.map_or_else(|fault| fault.to_word().into(), |()| 0);
                [tag(DONE, token), result, 0]
            }
            Message::Return(segment) => [RETURN, segment.into_word(), 0],
        }
    }

    /// What [`Message::into_words`] gave, come over the ring from a peer.
    #[allow(unsafe_code)]
    pub(crate) fn from_words([tag, a, b]: [u64; WORDS]) -> Self {
        let token = Token((tag >> 32) as u16);
        let flag = tag & FLAG != 0;
        match tag & 0xff {
            BYTES => Message::Bytes {
                token,
                answer: flag,
                // SAFETY: peers alone send over these rings. They send a segment
                // once, when they lend it, and a slot is received once.
                segment: unsafe { LentSegment::from_words([a, b]) },
            },
            HOLE => Message::Hole {
                token,
                answer: flag,
                len: a,
            },
            // SAFETY: as above; a return is sent once, when nothing refers to the
            // segment any more.
            RETURN => Message::Return(unsafe { Return::from_word(a) }),
            DONE => Message::Done {
                token,
                result: match a as u32 {
                    0 => Ok(()),
                    word => Err(Fault::from_word(word)),
                },
            },
            op => Message::Request {
                token,
                op: Op::ALL[op as usize],
                flags: Flags {
                    fua: flag,
                    deallocate: tag & DEALLOCATE != 0,
                },
                volume: VolumeId((tag >> 16) as u16),
                offset: a,
                len: b,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use pages::{Arena, BorrowedPool, ClusterPool, HeapRegion, LentTable, PAGE_SIZE, Segment};

    use super::*;

    #[test]
    fn messages_come_through_as_they_were_sent() {
        for sent in Op::ALL {
            for (fua, deallocate) in [(false, false), (true, false), (false, true), (true, true)] {
                let flags = Flags { fua, deallocate };
                let message = Message::Request {
                    token: Token(0xfedc),
                    op: sent,
                    flags,
                    volume: VolumeId(0xba98),
                    offset: u64::MAX - 1,
                    len: 1 << 40,
                };
                let Message::Request {
                    token,
                    op,
                    flags: came,
                    volume,
                    offset,
                    len,
                } = Message::from_words(message.into_words())
                else {
                    panic!("a request");
                };
                assert_eq!((token, op, came), (Token(0xfedc), sent, flags));
                assert_eq!(volume, VolumeId(0xba98));
                assert_eq!((offset, len), (u64::MAX - 1, 1 << 40));
            }
        }
        let hole = Message::Hole {
            token: Token(7),
            answer: true,
            len: 4096,
        };
        assert!(matches!(
            Message::from_words(hole.into_words()),
            Message::Hole {
                token: Token(7),
                answer: true,
                len: 4096
            }
        ));
        for sent in [Ok(()), Err(Fault::WriteError)] {
            let done = Message::Done {
                token: Token(8),
                result: sent,
            };
            assert!(matches!(
                Message::from_words(done.into_words()),
                Message::Done { token: Token(8), result } if result == sent
            ));
        }
    }

    #[test]
    fn lent_segments_and_their_returns_come_through() {
        let arena = Arena::new(HeapRegion::new(1));
        let pool = ClusterPool::carve(&arena, 1, PAGE_SIZE).unwrap();
        let slice = pool.alloc().unwrap().freeze().slice(100..1100);
        let (mut table, borrowed) = (LentTable::new(0xfedc, 1), BorrowedPool::new(1));
        let bytes = Message::Bytes {
            token: Token(0xfedc),
            answer: true,
            segment: table.lend(Segment::data(slice)).unwrap(),
        };
        let Message::Bytes {
            token: Token(0xfedc),
            answer: true,
            segment,
        } = Message::from_words(bytes.into_words())
        else {
            panic!("bytes");
        };
        assert_eq!(borrowed.borrow(segment).unwrap().len(), 1000);
        let back = Message::Return(borrowed.next_return().unwrap());
        let Message::Return(back) = Message::from_words(back.into_words()) else {
            panic!("a return");
        };
        assert_eq!(back.lender(), 0xfedc);
        table.take_back(back);
        assert_eq!((table.len(), pool.held()), (0, 0));
    }
}
