//! From a configured PSK to the key of one host and one subsystem (3.6.1.2, 3.6.1.3).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{ConfiguredPsk, Identity, TlsPsk};
use crate::suite::{Hash, Secret};

/// Longest identity of version 0 that a key can be derived with, in bytes: HKDF-Expand-Label takes no longer context (RFC 8446, 7.1).
pub const IDENTITY_CONTEXT_LEN_MAX: usize = 255;

/// How keys are derived. The specification means the first; hosts of the second are in the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Derivation {
    /// HKDF-Expand-Label of RFC 8446: libnvme from 1.16 on, SPDK.
    Rfc8446,
    /// As libnvme to 1.15 has it (`nvme --compat` of later ones): the length is little-endian, label and context have no lengths before them.
    Libnvme,
}

/// The names of host and subsystem are too long for an identity of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameTooLong;

impl fmt::Display for NameTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the names of host and subsystem are too long for a PSK identity: {IDENTITY_CONTEXT_LEN_MAX} bytes with what it has beside them",
        )
    }
}

impl std::error::Error for NameTooLong {}

impl Derivation {
    /// Both, the specification's first.
    pub const ALL: [Derivation; 2] = [Derivation::Rfc8446, Derivation::Libnvme];

    /// A key as long as the hash, out of `secret`.
    fn derive(self, hash: Hash, secret: &[u8], label: &[u8], context: &[u8]) -> Option<Secret> {
        let key = hash.extract(&[], secret);
        let len = hash.len();
        match self {
            Derivation::Rfc8446 => hash.expand_label(key.bytes(), label, context, len),
            Derivation::Libnvme => {
                let info = [&(len as u16).to_le_bytes()[..], b"tls13 ", label, context];
                Some(hash.expand(key.bytes(), &info, len))
            }
        }
    }
}

impl ConfiguredPsk {
    /// The key of a host and a subsystem, with an identity of version 0 (names alone) or 1.
    ///
    /// # Errors
    /// If the names are too long.
    pub fn derive(
        &self,
        host: &str,
        subsystem: &str,
        version: IdentityVersion,
        derivation: Derivation,
    ) -> Result<TlsPsk, NameTooLong> {
        let hash = self.hash();
        let retained = match self.retained_by {
            None => self.secret.clone(),
            Some(_) => derivation
                .derive(hash, self.secret.bytes(), b"HostNQN", host.as_bytes())
                .ok_or(NameTooLong)?,
        };
        let digest = || {
            let names = [host, subsystem, "NVMe-over-Fabrics"].join(" ");
            let digest = hash.hmac(retained.bytes(), &[names.as_bytes()]);
            STANDARD.encode(digest.bytes())
        };
        let identity = Identity {
            hash,
            host: host.to_owned(),
            subsystem: subsystem.to_owned(),
            digest: (version == IdentityVersion::One).then(digest),
        };
        let context = match &identity.digest {
            None => identity.to_string(),
            Some(digest) => format!("{:02} {digest}", hash as u8),
        };
        let secret = derivation
            .derive(hash, retained.bytes(), b"nvme-tls-psk", context.as_bytes())
            .ok_or(NameTooLong)?;
        Ok(TlsPsk {
            identity: identity.to_string(),
            hash,
            derivation: Some(derivation),
            secret,
        })
    }
}

/// The version of a PSK identity (3.6.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityVersion {
    /// `NVMe0R`: names alone. SPDK's, and nvme-cli's without `--identity`.
    Zero,
    /// `NVMe1R`: with a digest of the key.
    One,
}

impl IdentityVersion {
    /// Both.
    pub const ALL: [IdentityVersion; 2] = [IdentityVersion::Zero, IdentityVersion::One];
}
