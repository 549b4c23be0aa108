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
use pages::ring::Crossing;
use pages::{Parcel, Return};

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
        parcel: Parcel,
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

/// Kinds of messages; a request's is the number of its operation.
const BYTES: u64 = 0x10;
const HOLE: u64 = 0x11;
const DONE: u64 = 0x12;
/// Of a request: force unit access. Of bytes: they are an answer.
const FLAG: u64 = 1 << 8;
/// Of a request: deallocate what reads as zeros.
const DEALLOCATE: u64 = 1 << 9;

const fn bit(set: bool, bit: u64) -> u64 {
    if set { bit } else { 0 }
}

impl Message {
    pub(crate) fn into_crossing(self) -> Crossing {
        let tag = |kind: u64, token: Token| kind | u64::from(token.0) << 32;
        match self {
            Message::Request {
                token,
                op,
                flags,
                volume,
                offset,
                len,
            } => Crossing::Message {
                tag: tag(op as u64, token)
                    | bit(flags.fua, FLAG)
                    | bit(flags.deallocate, DEALLOCATE)
                    | u64::from(volume.0) << 16,
                words: [offset, len],
            },
            Message::Bytes {
                token,
                answer,
                parcel,
            } => Crossing::Parcel {
                tag: tag(BYTES, token) | bit(answer, FLAG),
                parcel,
            },
            Message::Hole { token, answer, len } => Crossing::Message {
                tag: tag(HOLE, token) | bit(answer, FLAG),
                words: [len, 0],
            },
            Message::Done { token, result } => Crossing::Message {
                tag: tag(DONE, token),
                words: [
                    result.map_or_else(|fault| fault.to_word().into(), |()| 0),
                    0,
                ],
            },
            Message::Return(parcel) => Crossing::Return(parcel),
        }
    }

    pub(crate) fn from_crossing(crossing: Crossing) -> Self {
        let token = |tag: u64| Token((tag >> 32) as u16);
        match crossing {
            Crossing::Return(parcel) => Message::Return(parcel),
            Crossing::Parcel { tag, parcel } => Message::Bytes {
                token: token(tag),
                answer: tag & FLAG != 0,
                parcel,
            },
            Crossing::Message { tag, words: [a, b] } => match tag & 0xff {
                HOLE => Message::Hole {
                    token: token(tag),
                    answer: tag & FLAG != 0,
                    len: a,
                },
                DONE => Message::Done {
                    token: token(tag),
                    result: match a as u32 {
                        0 => Ok(()),
                        word => Err(Fault::from_word(word)),
                    },
                },
                op => Message::Request {
                    token: token(tag),
                    op: Op::ALL[op as usize],
                    flags: Flags {
                        fua: tag & FLAG != 0,
                        deallocate: tag & DEALLOCATE != 0,
                    },
                    volume: VolumeId((tag >> 16) as u16),
                    offset: a,
                    len: b,
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
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
                } = Message::from_crossing(message.into_crossing())
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
            Message::from_crossing(hole.into_crossing()),
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
                Message::from_crossing(done.into_crossing()),
                Message::Done { token: Token(8), result } if result == sent
            ));
        }
    }
}
