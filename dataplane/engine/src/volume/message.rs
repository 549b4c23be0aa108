//! What shards say to each other about pages that one asks of the other.
//!
//! ```text
//! who asks ──▶ who owns    Read, Zeroes, Flush
//!          ──▶             Write, then its bytes: parcels and holes, in order
//!          ◀──             a read's bytes: parcels and holes, in order
//!          ◀──             Done
//!          ◀─▶             returns of parcels
//! ```

use nvmf::Status;
use pages::ring::Crossing;
use pages::{Parcel, Return};

/// Names what is asked until it is done: a number of the asking shard's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(pub(super) u16);

/// What a shard asks of the owner of a range. Bytes are the volume's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Read,
    Write { fua: bool },
    Zeroes { fua: bool },
    Flush,
}

#[derive(Debug)]
pub(super) enum Message {
    Ask {
        token: Token,
        ask: Ask,
        volume: u16,
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
    Done {
        token: Token,
        status: Status,
    },
    Return(Return),
}

const READ: u64 = 1;
const WRITE: u64 = 2;
const ZEROES: u64 = 3;
const FLUSH: u64 = 4;
const BYTES: u64 = 5;
const HOLE: u64 = 6;
const DONE: u64 = 7;
/// Force unit access, of what is asked; an answer, of bytes.
const FLAG: u64 = 1 << 8;

impl Message {
    pub(super) fn into_crossing(self) -> Crossing {
        let tag = |kind: u64, flag: bool, volume: u16, token: Token| {
            kind | if flag { FLAG } else { 0 } | u64::from(volume) << 16 | u64::from(token.0) << 32
        };
        match self {
            Message::Ask {
                token,
                ask,
                volume,
                offset,
                len,
            } => {
                let (kind, fua) = match ask {
                    Ask::Read => (READ, false),
                    Ask::Write { fua } => (WRITE, fua),
                    Ask::Zeroes { fua } => (ZEROES, fua),
                    Ask::Flush => (FLUSH, false),
                };
                Crossing::Message {
                    tag: tag(kind, fua, volume, token),
                    words: [offset, len],
                }
            }
            Message::Bytes {
                token,
                answer,
                parcel,
            } => Crossing::Parcel {
                tag: tag(BYTES, answer, 0, token),
                parcel,
            },
            Message::Hole { token, answer, len } => Crossing::Message {
                tag: tag(HOLE, answer, 0, token),
                words: [len, 0],
            },
            Message::Done { token, status } => Crossing::Message {
                tag: tag(DONE, false, 0, token),
                words: [status.field().into(), 0],
            },
            Message::Return(parcel) => Crossing::Return(parcel),
        }
    }

    pub(super) fn from_crossing(crossing: Crossing) -> Self {
        let token = |tag: u64| Token((tag >> 32) as u16);
        match crossing {
            Crossing::Return(parcel) => Message::Return(parcel),
            Crossing::Parcel { tag, parcel } => Message::Bytes {
                token: token(tag),
                answer: tag & FLAG != 0,
                parcel,
            },
            Crossing::Message { tag, words: [a, b] } => {
                let flag = tag & FLAG != 0;
                let ask = match tag & 0xff {
                    READ => Ask::Read,
                    WRITE => Ask::Write { fua: flag },
                    ZEROES => Ask::Zeroes { fua: flag },
                    FLUSH => Ask::Flush,
                    HOLE => {
                        return Message::Hole {
                            token: token(tag),
                            answer: flag,
                            len: a,
                        };
                    }
                    _ => {
                        return Message::Done {
                            token: token(tag),
                            status: Status::from_field(a as u16),
                        };
                    }
                };
                Message::Ask {
                    token: token(tag),
                    ask,
                    volume: (tag >> 16) as u16,
                    offset: a,
                    len: b,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_through_as_they_were_sent() {
        let asks = [
            Ask::Read,
            Ask::Write { fua: true },
            Ask::Write { fua: false },
            Ask::Zeroes { fua: true },
            Ask::Flush,
        ];
        for sent in asks {
            let message = Message::Ask {
                token: Token(0xfedc),
                ask: sent,
                volume: 0xba98,
                offset: u64::MAX - 1,
                len: 1 << 40,
            };
            let Message::Ask {
                token,
                ask,
                volume,
                offset,
                len,
            } = Message::from_crossing(message.into_crossing())
            else {
                panic!("an ask");
            };
            assert_eq!((token, ask, volume), (Token(0xfedc), sent, 0xba98));
            assert_eq!((offset, len), (u64::MAX - 1, 1 << 40));
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
        let done = Message::Done {
            token: Token(8),
            status: Status::WRITE_FAULT,
        };
        assert!(matches!(
            Message::from_crossing(done.into_crossing()),
            Message::Done { token: Token(8), status } if status == Status::WRITE_FAULT
        ));
    }
}
