//! What shards say to each other about pages that one asks of the other.
//!
//! ```text
//! who asks ──▶ who owns    Read, Zeroes, Flush
//!          ──▶             Write, then its bytes: segments and holes, in order
//!          ◀──             a read's bytes: segments and holes, in order
//!          ◀──             Done
//!          ◀─▶             returns of segments
//! ```

use nvmf::Status;
use pages::{LentSegment, Return};

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
        segment: LentSegment,
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

/// Words of a message: a tag, and two that depend on its kind.
pub(super) const WORDS: usize = 3;

const READ: u64 = 1;
const WRITE: u64 = 2;
const ZEROES: u64 = 3;
const FLUSH: u64 = 4;
const BYTES: u64 = 5;
const HOLE: u64 = 6;
const DONE: u64 = 7;
const RETURN: u64 = 8;
/// Force unit access, of what is asked; an answer, of bytes.
const FLAG: u64 = 1 << 8;

impl Message {
    /// The tag has the kind in bits 0 to 7, then a flag, the volume in bits 16 to
    /// 31 and the token in bits 32 to 47.
    pub(super) fn into_words(self) -> [u64; WORDS] {
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
                [tag(kind, fua, volume, token), offset, len]
            }
            Message::Bytes {
                token,
                answer,
                segment,
            } => {
                let [a, b] = segment.into_words();
                [tag(BYTES, answer, 0, token), a, b]
            }
            Message::Hole { token, answer, len } => [tag(HOLE, answer, 0, token), len, 0],
            Message::Done { token, status } => {
                [tag(DONE, false, 0, token), status.field().into(), 0]
            }
            Message::Return(segment) => [RETURN, segment.into_word(), 0],
        }
    }

    /// What [`Message::into_words`] gave, come over the ring from a peer.
    #[allow(unsafe_code)]
    pub(super) fn from_words([tag, a, b]: [u64; WORDS]) -> Self {
        let token = Token((tag >> 32) as u16);
        let flag = tag & FLAG != 0;
        let ask = match tag & 0xff {
            READ => Ask::Read,
            WRITE => Ask::Write { fua: flag },
            ZEROES => Ask::Zeroes { fua: flag },
            FLUSH => Ask::Flush,
            BYTES => {
                return Message::Bytes {
                    token,
                    answer: flag,
                    // SAFETY: peers alone send over these rings. They send a segment
                    // once, when they lend it, and a slot is received once.
                    segment: unsafe { LentSegment::from_words([a, b]) },
                };
            }
            HOLE => {
                return Message::Hole {
                    token,
                    answer: flag,
                    len: a,
                };
            }
            // SAFETY: as above; a return is sent once, when nothing refers to the
            // segment any more.
            RETURN => return Message::Return(unsafe { Return::from_word(a) }),
            _ => {
                return Message::Done {
                    token,
                    status: Status::from_field(a as u16),
                };
            }
        };
        Message::Ask {
            token,
            ask,
            volume: (tag >> 16) as u16,
            offset: a,
            len: b,
        }
    }
}

#[cfg(test)]
mod tests {
    use pages::{Arena, BorrowedPool, ClusterPool, HeapRegion, LentTable, PAGE_SIZE, Segment};

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
            } = Message::from_words(message.into_words())
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
            Message::from_words(hole.into_words()),
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
            Message::from_words(done.into_words()),
            Message::Done { token: Token(8), status } if status == Status::WRITE_FAULT
        ));
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
