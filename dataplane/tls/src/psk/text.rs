//! The interchange format of configured PSKs (3.6.1.5): `NVMeTLSkey-1:<hash>:<base64>:`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, checksum};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::suite::{Hash, Secret};

const PREFIX: &str = "NVMeTLSkey-1:";

/// Longest text of a key in bytes: 48 bytes with their checksum.
pub const PSK_TEXT_LEN_MAX: usize = PREFIX.len() + 3 + (48usize + 4).div_ceil(3) * 4 + 1;

/// A PSK as an administrator gives it to both sides.
///
/// Its text is `NVMeTLSkey-1:hh:base64:`. `hh` says by which hash function the retained PSK is made of it: `01` SHA-256, `02` SHA-384; `00`:
/// it is the retained PSK already. Encoded are 32 bytes (of SHA-256) or 48 (of SHA-384), and their CRC-32, little-endian.
#[derive(Clone)]
pub struct ConfiguredPsk {
    pub(super) secret: Secret,
    /// `None`: `00`.
    pub(super) retained_by: Option<Hash>,
}

/// What is wrong with the text of a PSK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PskError {
    /// It does not begin with `NVMeTLSkey-1:`, two digits and a colon, or does not end with a colon.
    Form,
    /// The two digits are not 00, 01 or 02.
    Hash,
    /// What is between the colons is not base64.
    Base64,
    /// It is not 32 or 48 bytes, with four more of a checksum.
    Length,
    /// A key is as long as the output of its hash, and this one is not.
    LengthOfHash(Hash),
    /// The checksum is another one: a character is wrong.
    Checksum,
}

impl std::error::Error for PskError {}

impl fmt::Display for PskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PskError::Form => f.write_str("it is not of the form NVMeTLSkey-1:01:<base64>:"),
            PskError::Hash => {
                f.write_str("the two digits behind NVMeTLSkey-1 are not one of 00, 01, 02")
            }
            PskError::Base64 => f.write_str("what is between the last two colons is not base64"),
            PskError::Length => {
                f.write_str("it is not 32 or 48 bytes with four of a checksum behind them")
            }
            PskError::LengthOfHash(hash) => write!(
                f,
                "a key of {} has {} bytes, and this one has not",
                hash.name(),
                hash.len()
            ),
            PskError::Checksum => {
                f.write_str("its checksum is wrong: a character is missing, or is another one")
            }
        }
    }
}

impl ConfiguredPsk {
    /// Reads the text of a key; white space around it is let pass.
    ///
    /// # Errors
    /// What is wrong with it. Never a part of it.
    pub fn read(text: &str) -> Result<Self, PskError> {
        let rest = text.trim().strip_prefix(PREFIX).ok_or(PskError::Form)?;
        let (hash, rest) = rest.split_once(':').ok_or(PskError::Form)?;
        let encoded = rest.strip_suffix(':').ok_or(PskError::Form)?;
        let retained_by = match hash {
            "00" => None,
            "01" => Some(Hash::Sha256),
            "02" => Some(Hash::Sha384),
            _ => return Err(PskError::Hash),
        };
        let mut room = Zeroizing::new([0; PSK_TEXT_LEN_MAX]);
        if encoded.len() > room.len() {
            return Err(PskError::Length);
        }
        let len = (STANDARD.decode_slice(encoded, &mut *room)).map_err(|_| PskError::Base64)?;
        let (secret, check) = room[..len]
            .split_at_checked(len.wrapping_sub(4))
            .ok_or(PskError::Length)?;
        if ![32, 48].contains(&secret.len()) {
            return Err(PskError::Length);
        }
        if crc32(secret).to_le_bytes() != check {
            return Err(PskError::Checksum);
        }
        Self::new(secret, retained_by)
    }

    /// A key of these bytes.
    ///
    /// # Errors
    /// If there are too few or too many.
    pub fn new(secret: &[u8], retained_by: Option<Hash>) -> Result<Self, PskError> {
        match retained_by {
            Some(hash) if secret.len() != hash.len() => Err(PskError::LengthOfHash(hash)),
            None if ![32, 48].contains(&secret.len()) => Err(PskError::Length),
            _ => Ok(Self {
                secret: Secret::new(secret).ok_or(PskError::Length)?,
                retained_by,
            }),
        }
    }

    /// A fresh key, as long as the output of its hash.
    pub fn generate(hash: Hash, random: &mut dyn FnMut(&mut [u8])) -> Self {
        let mut bytes = Zeroizing::new([0; 48]);
        let bytes = &mut bytes[..hash.len()];
        random(bytes);
        Self::new(bytes, Some(hash)).expect("as long as its hash")
    }

    /// Its text.
    pub fn text(&self) -> Zeroizing<String> {
        let secret = self.secret.bytes();
        let mut plain = Zeroizing::new(Vec::with_capacity(secret.len() + 4));
        plain.extend_from_slice(secret);
        plain.extend_from_slice(&crc32(secret).to_le_bytes());
        let mut text = Zeroizing::new(String::with_capacity(PSK_TEXT_LEN_MAX));
        text.push_str(PREFIX);
        text.push('0');
        text.push((b'0' + self.retained_by.map_or(0, |hash| hash as u8)).into());
        text.push(':');
        STANDARD.encode_string(&*plain, &mut text);
        text.push(':');
        text
    }

    /// The hash function that goes with it, and so the suite: of a key that is retained already, by its length.
    pub fn hash(&self) -> Hash {
        match (self.retained_by, self.secret.bytes().len()) {
            (Some(hash), _) => hash,
            (None, 48) => Hash::Sha384,
            (None, _) => Hash::Sha256,
        }
    }
}

/// As little as a log may say of it.
impl fmt::Debug for ConfiguredPsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConfiguredPsk")
    }
}

/// In a time that does not depend on where they differ.
impl PartialEq for ConfiguredPsk {
    fn eq(&self, other: &Self) -> bool {
        let is_same = self.secret.bytes().ct_eq(other.secret.bytes());
        self.retained_by == other.retained_by && bool::from(is_same)
    }
}

impl Eq for ConfiguredPsk {}

/// CRC-32 as in Ethernet and zip.
fn crc32(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32IsoHdlc, bytes) as u32
}
