//! What is in records that have no application data: alerts, and messages behind the handshake (RFC 8446, 4.6, 6).

use super::ContentType;
use crate::alert::{Alert, Failure};
use crate::handshake::Side;

/// Records without application data that may follow each other: empty ones, KeyUpdates, tickets. RFC 8446 has no bound; a flood of them
/// costs us a decryption each, and whoever sends it nothing.
pub(super) const IDLE_RECORDS_MAX: u32 = 32;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Post-handshake messages, which records may cut anywhere (RFC 8446, 5.1).
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Type and length of the message under way.
    head: [u8; 4],
    head_len: usize,
    /// What is left of its body.
    left: usize,
}

/// What a record without application data means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing to be done.
    Nothing,
    /// The peer has a new key from here on, and wants us to take one if so.
    KeyUpdate { is_requested: bool },
    /// The peer sends no more.
    Closed,
}

impl Messages {
    /// Whether a message is under way: no other record may come now.
    pub fn is_cut(&self) -> bool {
        self.head_len > 0
    }

    /// Takes a part of a handshake record's content; whether it is the last.
    pub fn take(
        &mut self,
        mut content: &[u8],
        is_end: bool,
        side: Side,
    ) -> Result<Meaning, Failure> {
        while !content.is_empty() {
            while self.head_len < 4 && !content.is_empty() {
                self.head[self.head_len] = content[0];
                self.head_len += 1;
                content = &content[1..];
                self.check_head(side)?;
            }
            if self.head_len < 4 {
                break;
            }
            if self.head[0] == KEY_UPDATE {
                let Some((&request, rest)) = content.split_first() else {
                    break;
                };
                self.head_len = 0;
                // 5.1: a message before a key change ends with its record.
                let is_last = rest.is_empty() && is_end;
                return match request {
                    _ if !is_last => Err(Failure::Ours(Alert::UnexpectedMessage)),
                    0 | 1 => Ok(Meaning::KeyUpdate {
                        is_requested: request == 1,
                    }),
                    _ => Err(Failure::Ours(Alert::IllegalParameter)),
                };
            }
            // A ticket: we resume nothing.
            let n = self.left.min(content.len());
            self.left -= n;
            content = &content[n..];
            if self.left == 0 {
                self.head_len = 0;
            }
        }
        Ok(Meaning::Nothing)
    }

    fn check_head(&mut self, side: Side) -> Result<(), Failure> {
        let [kind, high, middle, low] = self.head;
        match kind {
            KEY_UPDATE => {}
            // Only servers send them (4.6.1).
            NEW_SESSION_TICKET if side == Side::Client => {}
            // Among them: what renegotiation was, and authentication behind the handshake, to which nobody has agreed.
            _ => return Err(Failure::Ours(Alert::UnexpectedMessage)),
        }
        if self.head_len == 4 {
            self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if kind == KEY_UPDATE && self.left != 1 {
                return Err(Failure::Ours(Alert::DecodeError));
            }
            if kind == NEW_SESSION_TICKET && self.left == 0 {
                return Err(Failure::Ours(Alert::DecodeError));
            }
        }
        Ok(())
    }
}

/// What an alert means (RFC 8446, 6).
pub(super) fn alert(content: &[u8]) -> Result<Meaning, Failure> {
    match *content {
        // 5.4: not without content.
        [] => Err(Failure::Ours(Alert::UnexpectedMessage)),
        // 6: the level says nothing; an alert has a record of its own.
        [_, 0] => Ok(Meaning::Closed),
        // 6.1: close_notify is to follow.
        [_, 90] => Ok(Meaning::Nothing),
        [_, number] => Err(Failure::Theirs(number)),
        _ => Err(Failure::Ours(Alert::DecodeError)),
    }
}

/// The content type that ends a record's plaintext (RFC 8446, 5.4).
pub(super) fn content_type(byte: u8) -> Result<ContentType, Failure> {
    match byte {
        21 => Ok(ContentType::Alert),
        22 => Ok(ContentType::Handshake),
        23 => Ok(ContentType::ApplicationData),
        _ => Err(Failure::Ours(Alert::UnexpectedMessage)),
    }
}
