//! The pair's key: what is proved by it at a session's start, and the keyed checksums that follow from it.

use std::fmt;
use std::hash::Hasher;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use siphasher::sip::SipHasher24;

use crate::bytes::u64_at;

/// Bytes of a proof.
pub(crate) const PROOF: usize = 32;

/// The secret that two nodes share.
#[derive(Clone)]
pub struct PairKey([u8; 32]);

impl PairKey {
    /// Of 32 bytes that nobody can guess.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn mac(&self, what: &[u8], hellos: [&[u8]; 2]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("keys of any length are taken");
        mac.update(what);
        for hello in hellos {
            mac.update(hello);
        }
        mac
    }

    /// That `side` has the key; the hellos are the opener's, then the acceptor's.
    pub(crate) fn prove(&self, side: Side, hellos: [&[u8]; 2]) -> [u8; PROOF] {
        self.mac(side.proof(), hellos)
            .finalize()
            .into_bytes()
            .into()
    }

    /// Whether `proof` is that of `side`.
    pub(crate) fn verify(&self, side: Side, hellos: [&[u8]; 2], proof: &[u8]) -> bool {
        self.mac(side.proof(), hellos).verify_slice(proof).is_ok()
    }

    /// The name of what is remembered from a session on that has these hellos; not 0.
    pub(crate) fn history(&self, hellos: [&[u8]; 2]) -> u64 {
        let bytes = self
            .mac(b"mirror 1: history", hellos)
            .finalize()
            .into_bytes();
        u64_at(&bytes, 0).max(1)
    }

    /// What connections that `opener` opens to `acceptor` are encrypted by: HKDF-SHA256 (RFC 5869) of the key, without salt, for a label of its
    /// own and the [identity](LinkPsk::identity). Each direction of opening has its own.
    pub fn link_psk(&self, opener: &[u8; 16], acceptor: &[u8; 16]) -> LinkPsk {
        let identity = link_identity(opener, acceptor);
        let mut secret = [0; 32];
        Hkdf::<Sha256>::new(None, &self.0)
            .expand_multi_info(&[b"mirror 1: TLS PSK ", identity.as_bytes()], &mut secret)
            .expect("as long as the hash");
        LinkPsk { identity, secret }
    }

    /// The keyed checksums of what `side` sends.
    pub(crate) fn keyed(&self, side: Side, hellos: [&[u8]; 2]) -> Keyed {
        let bytes = self.mac(side.session(), hellos).finalize().into_bytes();
        let mut key = [0; 16];
        key.copy_from_slice(&bytes[..16]);
        Keyed { key, count: 0 }
    }
}

/// The identity of the key that a link is encrypted by, as TLS shows it to everybody: the version of its derivation, then the node that
/// opens the connection and the one that accepts it.
pub(crate) fn link_identity(opener: &[u8; 16], acceptor: &[u8; 16]) -> String {
    let [opener, acceptor] = [opener, acceptor].map(|id| u128::from_be_bytes(*id));
    format!("TLMP1 {opener:032x} {acceptor:032x}")
}

/// A key that connections of one node to another are encrypted by.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkPsk {
    /// What it is offered by.
    pub identity: String,
    /// The key.
    pub secret: [u8; 32],
}

impl fmt::Debug for LinkPsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkPsk({})", self.identity)
    }
}

impl fmt::Debug for PairKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairKey")
    }
}

/// Which of the two has opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that did.
    Opener,
    /// The other one.
    Acceptor,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Opener => Self::Acceptor,
            Self::Acceptor => Self::Opener,
        }
    }

    /// Each side's own words: a proof cannot be sent back to who made it.
    fn proof(self) -> &'static [u8] {
        match self {
            Self::Opener => b"mirror 1: proof of the opener",
            Self::Acceptor => b"mirror 1: proof of the acceptor",
        }
    }

    fn session(self) -> &'static [u8] {
        match self {
            Self::Opener => b"mirror 1: frames of the opener",
            Self::Acceptor => b"mirror 1: frames of the acceptor",
        }
    }
}

/// Makes the keyed checksums of one side's frames: SipHash-2-4 of the frame's number in the session, and of its
/// header. A frame that is sent again by somebody else, left out or moved has another number.
#[derive(Clone)]
pub struct Keyed {
    key: [u8; 16],
    count: u64,
}

impl Keyed {
    /// That of the next frame.
    pub(crate) fn next(&mut self, header: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(&self.count.to_le_bytes());
        hasher.write(header);
        self.count += 1;
        hasher.finish()
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyed {{ count: {} }}", self.count)
    }
}
