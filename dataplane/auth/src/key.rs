//! Keys, in the text that nvme-cli, Linux and SPDK know them by (base 2.0, 8.13.5).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, checksum};
use subtle::ConstantTimeEq;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::hash::Hash;

/// Longest text of a key in bytes: 64 bytes with their checksum.
pub const KEY_TEXT_LEN_MAX: usize = 10 + (64usize + 4).div_ceil(3) * 4 + 1;

/// What comes behind the NQN where a key is transformed.
const TRANSFORM: &[u8] = b"NVMe-over-Fabrics";

/// A secret that a host and a controller share.
///
/// Its text is `DHHC-1:hh:base64:`. `hh` says how it is transformed before it is used: `00` not at all, `01` to `03` by HMAC with
/// SHA-256, SHA-384, SHA-512. Encoded are 32, 48 or 64 bytes, and their CRC-32, little-endian.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Key {
    secret: Vec<u8>,
    #[zeroize(skip)]
    transform: Option<Hash>,
}

/// What is wrong with the text of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// It does not begin with `DHHC-1:`, two digits and a colon, or does not end with a colon.
    Form,
    /// The two digits are not 00 to 03.
    Transform,
    /// What is between the colons is not base64.
    Base64,
    /// It is not 32, 48 or 64 bytes, with four more of a checksum.
    Length,
    /// A key that is transformed with a hash is as long as its output, and this one is not.
    LengthOfHash(Hash),
    /// The checksum is another one: a character is wrong.
    Checksum,
}

impl std::error::Error for KeyError {}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Form => f.write_str("it is not of the form DHHC-1:00:<base64>:"),
            KeyError::Transform => {
                f.write_str("the two digits behind DHHC-1 are not one of 00, 01, 02, 03")
            }
            KeyError::Base64 => f.write_str("what is between the last two colons is not base64"),
            KeyError::Length => {
                f.write_str("it is not 32, 48 or 64 bytes with four of a checksum behind them")
            }
            KeyError::LengthOfHash(hash) => write!(
                f,
                "a key that is transformed by {} has {} bytes, and this one has not",
                hash.name(),
                hash.len()
            ),
            KeyError::Checksum => {
                f.write_str("its checksum is wrong: a character is missing, or is another one")
            }
        }
    }
}

impl Key {
    /// Reads the text of a key; white space around it is let pass.
    ///
    /// # Errors
    /// What is wrong with it. Never a part of it.
    pub fn read(text: &str) -> Result<Self, KeyError> {
        let rest = text.trim().strip_prefix("DHHC-1:").ok_or(KeyError::Form)?;
        let (transform, rest) = rest.split_once(':').ok_or(KeyError::Form)?;
        let encoded = rest.strip_suffix(':').ok_or(KeyError::Form)?;
        let transform = match transform {
            "00" => None,
            "01" => Some(Hash::Sha256),
            "02" => Some(Hash::Sha384),
            "03" => Some(Hash::Sha512),
            _ => return Err(KeyError::Transform),
        };
        let mut room = Zeroizing::new([0; KEY_TEXT_LEN_MAX]);
        if encoded.len() > room.len() {
            return Err(KeyError::Length);
        }
        let len = (STANDARD.decode_slice(encoded, &mut *room)).map_err(|_| KeyError::Base64)?;
        if ![36, 52, 68].contains(&len) {
            return Err(KeyError::Length);
        }
        let (secret, check) = room[..len].split_at(len - 4);
        if crc32(secret).to_le_bytes() != check {
            return Err(KeyError::Checksum);
        }
        Self::new(secret, transform)
    }

    /// A key of these bytes.
    ///
    /// # Errors
    /// If there are too few or too many.
    pub fn new(secret: &[u8], transform: Option<Hash>) -> Result<Self, KeyError> {
        match transform {
            Some(hash) if secret.len() != hash.len() => Err(KeyError::LengthOfHash(hash)),
            None if ![32, 48, 64].contains(&secret.len()) => Err(KeyError::Length),
            _ => Ok(Self {
                secret: secret.to_vec(),
                transform,
            }),
        }
    }

    /// A fresh key, as long as `transform` wants it, or of so many bytes.
    ///
    /// # Errors
    /// If there are too few or too many.
    pub fn generate(
        len: usize,
        transform: Option<Hash>,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, KeyError> {
        let mut secret = Zeroizing::new([0; 64]);
        let secret = secret.get_mut(..len).ok_or(KeyError::Length)?;
        random(secret);
        Self::new(secret, transform)
    }

    /// Its text.
    pub fn text(&self) -> Zeroizing<String> {
        let mut plain = Zeroizing::new(Vec::with_capacity(self.secret.len() + 4));
        plain.extend_from_slice(&self.secret);
        plain.extend_from_slice(&crc32(&self.secret).to_le_bytes());
        let mut text = Zeroizing::new(String::with_capacity(KEY_TEXT_LEN_MAX));
        text.push_str("DHHC-1:0");
        text.push((b'0' + self.transform.map_or(0, |hash| hash as u8)).into());
        text.push(':');
        STANDARD.encode_string(&*plain, &mut text);
        text.push(':');
        text
    }

    /// The key that responses are made with: `nqn` is the one of whom it authenticates (base 2.0, 8.13.5).
    pub(crate) fn transformed(&self, nqn: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self.transform {
            None => self.secret.clone(),
            Some(hash) => {
                let digest = hash.hmac(&self.secret, &[nqn.as_bytes(), TRANSFORM]);
                digest.bytes().to_vec()
            }
        })
    }
}

/// As little as a log may say of it.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// In a time that does not depend on where they differ.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.transform == other.transform && bool::from(self.secret.ct_eq(&other.secret))
    }
}

impl Eq for Key {}

/// CRC-32 as in Ethernet and zip.
fn crc32(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32IsoHdlc, bytes) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes 00 to 1f; computed by zlib and base64 of Python.
    const KNOWN: [&str; 2] = [
        "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:",
        "DHHC-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:",
    ];

    #[test]
    fn a_known_text_is_read_and_written() {
        let secret: Vec<u8> = (0..32).collect();
        for (text, transform) in KNOWN.into_iter().zip([None, Some(Hash::Sha256)]) {
            let key = Key::read(&format!("{text}\n")).unwrap();
            assert_eq!(key, Key::new(&secret, transform).unwrap());
            assert_eq!(*key.text(), text);
            assert_eq!(format!("{key:?}"), "Key");
        }
        assert_ne!(Key::read(KNOWN[0]), Key::read(KNOWN[1]));
    }

    #[test]
    fn a_key_of_nvme_cli_is_read() {
        let text =
            "DHHC-1:02:qwT3hw9uIucyhD1EEPJ5ozwRUmiu3CfT0odfw/XuhjjdVakYR0V3PpHHtbmjJt8qf251cg==:";
        let key = Key::read(text).unwrap();
        assert_eq!((key.transform, key.secret.len()), (Some(Hash::Sha384), 48));
        assert_eq!(*key.text(), text);
    }

    #[test]
    fn each_fault_has_its_reason() {
        let known = KNOWN[0];
        for (text, error) in [
            (String::new(), KeyError::Form),
            ("NVMeTLSkey-1:01:abc:".into(), KeyError::Form),
            (known.trim_end_matches(':').into(), KeyError::Form),
            (known.replace(":00:", ":04:"), KeyError::Transform),
            (known.replace(":00:", ":1:"), KeyError::Transform),
            (known.replace("AAEC", "AA!C"), KeyError::Base64),
            (known.replace("AAEC", ""), KeyError::Length),
            ("DHHC-1:00::".into(), KeyError::Length),
            (format!("DHHC-1:00:{}:", "A".repeat(200)), KeyError::Length),
            (known.replace("AAEC", "AAED"), KeyError::Checksum),
            (
                known.replace(":00:", ":02:"),
                KeyError::LengthOfHash(Hash::Sha384),
            ),
        ] {
            assert_eq!(Key::read(&text), Err(error), "{text}");
            assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn a_fresh_key_has_the_length_that_was_asked_for() {
        let mut random = |bytes: &mut [u8]| bytes.fill(7);
        for len in [32, 48, 64] {
            let key = Key::generate(len, None, &mut random).unwrap();
            assert_eq!(Key::read(&key.text()), Ok(key.clone()));
            assert!(key.text().len() <= KEY_TEXT_LEN_MAX);
        }
        let longest = Key::generate(64, Some(Hash::Sha512), &mut random).unwrap();
        assert_eq!(longest.text().len(), KEY_TEXT_LEN_MAX);
        for len in [0, 31, 33, 65] {
            assert_eq!(Key::generate(len, None, &mut random), Err(KeyError::Length));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(DHHC-1:0[0-4]:)?[A-Za-z0-9+/=:]{0,120}") {
            if let Ok(key) = Key::read(&text) {
                let written = key.text();
                prop_assert_eq!(written.as_str(), text.trim());
            }
        }

        #[test]
        fn one_wrong_character_is_found(at in 10usize..57, to in "[A-Za-z0-9+/]") {
            let mut text = KNOWN[0].to_owned();
            text.replace_range(at..=at, &to);
            prop_assert!(text == KNOWN[0] || Key::read(&text).is_err());
        }
    }
}
