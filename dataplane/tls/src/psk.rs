//! Pre-shared keys of NVMe/TCP, and what TLS is given of them (NVMe/TCP transport specification 1.0 and 1.1, 3.6.1).
//!
//! ```text
//! configured PSK ──HostNQN──▶ retained PSK ──identity──▶ TLS PSK
//! (text in a file)            (of one host)              (of one host and one subsystem)
//! ```
//!
//! How the two arrows are drawn depends on who draws them: see [`Derivation`]. Identities of version 1 have a digest of the retained
//! PSK in them, and so tell which, unless the configured PSK is the retained one; those of version 0 have names alone. The [`PskTable`] has a
//! key for each, and a handshake tells by the binder ([`ClientHello`](crate::ClientHello)).

mod derive;
mod table;
mod text;

use std::fmt;

use crate::suite::{Hash, Secret};

pub use derive::{Derivation, IDENTITY_CONTEXT_LEN_MAX, IdentityVersion, NameTooLong};
pub use table::PskTable;
pub use text::{ConfiguredPsk, PSK_TEXT_LEN_MAX, PskError};

/// A key that TLS proves: of one host and one subsystem, or of two others who know each other.
#[derive(Clone)]
pub struct TlsPsk {
    identity: String,
    hash: Hash,
    /// Of those of NVMe/TCP.
    derivation: Option<Derivation>,
    secret: Secret,
}

impl TlsPsk {
    /// One that is none of NVMe/TCP's, with an identity of its owners' own; `None` if it is longer than [`HASH_LEN_MAX`](crate::HASH_LEN_MAX).
    pub fn external(identity: &str, hash: Hash, secret: &[u8]) -> Option<Self> {
        Some(Self {
            identity: identity.to_owned(),
            hash,
            derivation: None,
            secret: Secret::new(secret)?,
        })
    }

    /// The identity that it is offered by, as it travels: of NVMe/TCP's, [`Identity::read`] reads it.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// How it was derived, if it is one of NVMe/TCP's.
    pub fn derivation(&self) -> Option<Derivation> {
        self.derivation
    }

    /// Its hash function, and so the suite that it is used with.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The key itself, for a handshake.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Debug for TlsPsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.derivation {
            Some(derivation) => write!(f, "TlsPsk({}, {derivation:?})", self.identity),
            None => write!(f, "TlsPsk({})", self.identity),
        }
    }
}

/// The identity of a PSK (3.6.1.3): `NVMe<version>R<hash> <host NQN> <subsystem NQN>[ <digest>]`.
///
/// `R`: of a retained PSK. Generated ones (`G`), which come out of an authentication, are not offered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Hash function of the key.
    pub hash: Hash,
    /// Host NQN.
    pub host: String,
    /// NQN of the subsystem.
    pub subsystem: String,
    /// Version 1 has it: base64 of HMAC(retained PSK, names).
    pub digest: Option<String>,
}

impl Identity {
    /// Reads an identity, as a ClientHello has it; `None` if it is none of NVMe/TCP's.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut parts = text.split(' ');
        let (has_digest, hash) = match parts.next()? {
            "NVMe0R01" => (false, Hash::Sha256),
            "NVMe0R02" => (false, Hash::Sha384),
            "NVMe1R01" => (true, Hash::Sha256),
            "NVMe1R02" => (true, Hash::Sha384),
            _ => return None,
        };
        let mut name = || parts.next().filter(|name| !name.is_empty());
        let (host, subsystem) = (name()?.to_owned(), name()?.to_owned());
        let digest = match has_digest {
            true => Some(name()?.to_owned()),
            false => None,
        };
        parts.next().is_none().then_some(Self {
            hash,
            host,
            subsystem,
            digest,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = u8::from(self.digest.is_some());
        let (hash, host, subsystem) = (self.hash as u8, &self.host, &self.subsystem);
        write!(f, "NVMe{version}R{hash:02} {host} {subsystem}")?;
        match &self.digest {
            Some(digest) => write!(f, " {digest}"),
            None => Ok(()),
        }
    }
}
