//! Hash functions of DH-HMAC-CHAP, and what they are used for.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;
use zeroize::ZeroizeOnDrop;

/// Longest output in bytes.
pub const DIGEST_LEN_MAX: usize = 64;

/// A hash function (base 2.0, 8.13.5: HashID).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Hash {
    /// SHA-256.
    Sha256 = 1,
    /// SHA-384.
    Sha384 = 2,
    /// SHA-512.
    Sha512 = 3,
}

impl Hash {
    /// All of them, the longest first.
    pub const ALL: [Hash; 3] = [Hash::Sha512, Hash::Sha384, Hash::Sha256];

    /// The function with this identifier.
    pub fn of_id(id: u8) -> Option<Hash> {
        Hash::ALL.into_iter().find(|hash| *hash as u8 == id)
    }

    /// Its name, as SPDK and configurations have it.
    pub const fn name(self) -> &'static str {
        match self {
            Hash::Sha256 => "sha256",
            Hash::Sha384 => "sha384",
            Hash::Sha512 => "sha512",
        }
    }

    /// The function of this name.
    pub fn of_name(name: &str) -> Option<Hash> {
        Hash::ALL.into_iter().find(|hash| hash.name() == name)
    }

    /// Bytes of its output.
    #[expect(clippy::len_without_is_empty, reason = "none is empty")]
    pub const fn len(self) -> usize {
        match self {
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
            Hash::Sha512 => 64,
        }
    }

    /// HMAC of `parts`, one behind the other (RFC 2104).
    pub(crate) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Digest {
        fn mac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Digest {
            let mut mac =
                <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
            parts.iter().for_each(|part| mac.update(part));
            Digest::of(&mac.finalize().into_bytes())
        }
        match self {
            Hash::Sha256 => mac::<Hmac<Sha256>>(key, parts),
            Hash::Sha384 => mac::<Hmac<Sha384>>(key, parts),
            Hash::Sha512 => mac::<Hmac<Sha512>>(key, parts),
        }
    }

    /// The hash of `bytes`.
    pub(crate) fn digest(self, bytes: &[u8]) -> Digest {
        match self {
            Hash::Sha256 => Digest::of(&Sha256::digest(bytes)),
            Hash::Sha384 => Digest::of(&Sha384::digest(bytes)),
            Hash::Sha512 => Digest::of(&Sha512::digest(bytes)),
        }
    }
}

/// An output, which may be a secret: zeroed after use, and shown to nobody.
#[derive(Clone, ZeroizeOnDrop)]
pub(crate) struct Digest {
    bytes: [u8; DIGEST_LEN_MAX],
    len: usize,
}

impl Digest {
    fn of(output: &[u8]) -> Self {
        let mut bytes = [0; DIGEST_LEN_MAX];
        bytes[..output.len()].copy_from_slice(output);
        Self {
            bytes,
            len: output.len(),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Whether it is `other`, in a time that does not depend on where they differ.
    pub fn is(&self, other: &[u8]) -> bool {
        self.bytes().ct_eq(other).into()
    }
}
