//! Parameters of answers.

use std::fmt;

use crate::bytes::{put, u16_at, u64_at};

/// Bytes of a refusal's text at most.
const TEXT_MAX: usize = 1024;
const DAMAGED: u16 = 1;
const REFUSED: u16 = 2;

/// Why a message was not executed: the *type and nature* of row R5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of reason it is, by a number of the command's.
    pub nature: u16,
    /// What an operator is told.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.nature)
    }
}

impl std::error::Error for Refusal {}

/// What an error frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorReply {
    /// A frame came damaged: all frames from this sequence on are wanted again.
    Damaged {
        /// The sequence.
        from: u64,
    },
    /// The message was refused, for good.
    Refused(Refusal),
}

impl ErrorReply {
    /// As parameters.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Damaged { from } => {
                let mut bytes = vec![0; 16];
                put(&mut bytes, 0, &DAMAGED.to_le_bytes());
                put(&mut bytes, 8, &from.to_le_bytes());
                bytes
            }
            Self::Refused(Refusal { nature, text }) => {
                let mut end = text.len().min(TEXT_MAX);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                let mut bytes = vec![0; 4];
                put(&mut bytes, 0, &REFUSED.to_le_bytes());
                put(&mut bytes, 2, &nature.to_le_bytes());
                bytes.extend_from_slice(&text.as_bytes()[..end]);
                bytes
            }
        }
    }

    /// From parameters; `None` if they are none of an error's.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 4 || bytes.len() > 4 + TEXT_MAX {
            return None;
        }
        match u16_at(bytes, 0) {
            DAMAGED if bytes.len() == 16 => Some(Self::Damaged {
                from: u64_at(bytes, 8),
            }),
            REFUSED => {
                let nature = u16_at(bytes, 2);
                let text = String::from_utf8_lossy(&bytes[4..]).into_owned();
                Some(Self::Refused(Refusal { nature, text }))
            }
            _ => None,
        }
    }
}
