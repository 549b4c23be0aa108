//! What responses are made of (base 2.0, 8.13.5).

use crate::hash::{Digest, Hash};
use crate::key::Key;

/// Who speaks with whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Host NQN.
    pub host: String,
    /// NQN of the subsystem.
    pub subsystem: String,
}

/// Whose response it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Host,
    Controller,
}

/// What both sides know when responses are made.
pub(crate) struct Transcript<'a> {
    pub names: &'a Names,
    pub hash: Hash,
    /// The hash of what the group's exchange gave both; `None` without a group.
    pub session: Option<&'a Digest>,
    pub t_id: u16,
}

impl Transcript<'_> {
    /// The response of `side`, which has `key`, to a challenge.
    pub fn response(&self, side: Side, key: &Key, challenge: &[u8], sequence: u32) -> Digest {
        let Names { host, subsystem } = self.names;
        let (label, own, other): (&[u8], _, _) = match side {
            Side::Host => (b"HostHost", host, subsystem),
            Side::Controller => (b"Controller", subsystem, host),
        };
        let augmented = self
            .session
            .map(|session| self.hash.hmac(session.bytes(), &[challenge]));
        let parts = [
            augmented.as_ref().map_or(challenge, Digest::bytes),
            &sequence.to_le_bytes(),
            &self.t_id.to_le_bytes(),
            // SC_C: no secure channel.
            &[0],
            label,
            own.as_bytes(),
            &[0],
            other.as_bytes(),
        ];
        self.hash.hmac(&key.transformed(own), &parts)
    }
}
