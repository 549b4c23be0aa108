//! Cipher suites, and the key schedule from traffic secrets on (RFC 8446, 7).

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256, Sha384};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Longest output of a hash function of a suite, in bytes.
pub const HASH_LEN_MAX: usize = 48;

/// A hash function: of a suite, and of what keys are derived by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Hash {
    /// SHA-256.
    Sha256 = 1,
    /// SHA-384.
    Sha384 = 2,
}

/// A cipher suite (RFC 8446, B.4), of those that NVMe/TCP has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Suite {
    /// TLS_AES_128_GCM_SHA256.
    Aes128GcmSha256 = 0x1301,
    /// TLS_AES_256_GCM_SHA384.
    Aes256GcmSha384 = 0x1302,
}

impl Hash {
    /// Both.
    pub const ALL: [Hash; 2] = [Hash::Sha256, Hash::Sha384];

    /// Bytes of its output.
    #[expect(clippy::len_without_is_empty, reason = "none is empty")]
    pub const fn len(self) -> usize {
        match self {
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Hash::Sha256 => "SHA-256",
            Hash::Sha384 => "SHA-384",
        }
    }

    /// The suite that a PSK of this hash is used with (RFC 8446, 4.2.11).
    pub const fn suite(self) -> Suite {
        match self {
            Hash::Sha256 => Suite::Aes128GcmSha256,
            Hash::Sha384 => Suite::Aes256GcmSha384,
        }
    }

    /// HKDF-Extract (RFC 5869, 2.2).
    pub(crate) fn extract(self, salt: &[u8], input: &[u8]) -> Secret {
        match self {
            Hash::Sha256 => Secret::of(&Hkdf::<Sha256>::extract(Some(salt), input).0),
            Hash::Sha384 => Secret::of(&Hkdf::<Sha384>::extract(Some(salt), input).0),
        }
    }

    /// HKDF-Expand (RFC 5869, 2.3) of so many bytes, [`HASH_LEN_MAX`] at most.
    pub(crate) fn expand(self, key: &[u8], info: &[&[u8]], len: usize) -> Secret {
        let mut secret = Secret::zeros(len);
        let out = &mut secret.bytes[..len];
        match self {
            Hash::Sha256 => {
                Hkdf::<Sha256>::from_prk(key).map(|hkdf| hkdf.expand_multi_info(info, out).is_ok())
            }
            Hash::Sha384 => {
                Hkdf::<Sha384>::from_prk(key).map(|hkdf| hkdf.expand_multi_info(info, out).is_ok())
            }
        }
        .ok()
        .filter(|is_done| *is_done)
        .expect("a key as long as the hash, and few bytes");
        secret
    }

    /// HKDF-Expand-Label (RFC 8446, 7.1); `None` if the context is too long for it.
    pub(crate) fn expand_label(
        self,
        key: &[u8],
        label: &[u8],
        context: &[u8],
        len: usize,
    ) -> Option<Secret> {
        let context_len = u8::try_from(context.len()).ok()?;
        let info: [&[u8]; 6] = [
            &(len as u16).to_be_bytes(),
            &[6 + label.len() as u8],
            b"tls13 ",
            label,
            &[context_len],
            context,
        ];
        Some(self.expand(key, &info, len))
    }

    /// HMAC of `parts`, one behind the other (RFC 2104).
    pub(crate) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Secret {
        fn mac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Secret {
            let mut mac =
                <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
            parts.iter().for_each(|part| mac.update(part));
            Secret::of(&mac.finalize().into_bytes())
        }
        match self {
            Hash::Sha256 => mac::<Hmac<Sha256>>(key, parts),
            Hash::Sha384 => mac::<Hmac<Sha384>>(key, parts),
        }
    }

    /// The hash of `bytes`.
    pub(crate) fn digest(self, bytes: &[u8]) -> Secret {
        match self {
            Hash::Sha256 => Secret::of(&Sha256::digest(bytes)),
            Hash::Sha384 => Secret::of(&Sha384::digest(bytes)),
        }
    }
}

impl Suite {
    /// Both, the stronger first.
    pub const ALL: [Suite; 2] = [Suite::Aes256GcmSha384, Suite::Aes128GcmSha256];

    /// The suite with this number.
    pub fn of_number(number: u16) -> Option<Suite> {
        Suite::ALL.into_iter().find(|suite| *suite as u16 == number)
    }

    /// Its name in RFC 8446.
    pub const fn name(self) -> &'static str {
        match self {
            Suite::Aes128GcmSha256 => "TLS_AES_128_GCM_SHA256",
            Suite::Aes256GcmSha384 => "TLS_AES_256_GCM_SHA384",
        }
    }

    /// Its hash function.
    pub const fn hash(self) -> Hash {
        match self {
            Suite::Aes128GcmSha256 => Hash::Sha256,
            Suite::Aes256GcmSha384 => Hash::Sha384,
        }
    }

    /// Bytes of an AES key.
    pub(crate) const fn key_len(self) -> usize {
        match self {
            Suite::Aes128GcmSha256 => 16,
            Suite::Aes256GcmSha384 => 32,
        }
    }
}

/// A secret of up to [`HASH_LEN_MAX`] bytes: zeroed after use, and shown to nobody.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret {
    bytes: [u8; HASH_LEN_MAX],
    #[zeroize(skip)]
    len: usize,
}

impl Secret {
    /// A secret of these bytes; `None` if there are more than [`HASH_LEN_MAX`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= HASH_LEN_MAX).then(|| Self::of(bytes))
    }

    fn of(bytes: &[u8]) -> Self {
        let mut secret = Self::zeros(bytes.len());
        secret.bytes[..bytes.len()].copy_from_slice(bytes);
        secret
    }

    fn zeros(len: usize) -> Self {
        Self {
            bytes: [0; HASH_LEN_MAX],
            len,
        }
    }

    /// The bytes, for who derives from them or hands them to a library.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The traffic secret that follows this one (RFC 8446, 7.2).
    pub(crate) fn next(&self, suite: Suite) -> Secret {
        (suite.hash())
            .expand_label(self.bytes(), b"traffic upd", b"", suite.hash().len())
            .expect("no context")
    }

    /// Write key and IV of a traffic secret (RFC 8446, 7.3).
    pub(crate) fn key_and_iv(&self, suite: Suite) -> (Secret, Secret) {
        let expand = |label: &[u8], len| {
            (suite.hash())
                .expand_label(self.bytes(), label, b"", len)
                .expect("no context")
        };
        (expand(b"key", suite.key_len()), expand(b"iv", 12))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
