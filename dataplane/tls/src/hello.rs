//! ClientHello (RFC 8446, 4.1.2), as far as it has to be known which key a client means: before a library is given it.
//!
//! An identity of version 0 does not tell by which [`Derivation`](crate::Derivation) its key was made. The binder does: it is a MAC of the ClientHello under the key (RFC
//! 8446, 4.2.11.2), so the keys that the identity may mean are tried on it. And the suite is that of the key, which a library that
//! first chooses the suite gets wrong.

use std::fmt;

use subtle::ConstantTimeEq;

use crate::handshake::HANDSHAKE_CONTENT_TYPE;
use crate::psk::{PskTable, TlsPsk};
use crate::record::{HEADER_LEN, PLAINTEXT_LEN_MAX};

const CLIENT_HELLO: u8 = 1;
const PRE_SHARED_KEY: u16 = 41;
/// Identities that are looked at: NVMe/TCP's hosts offer one or two.
const IDENTITIES_MAX: usize = 16;

/// A ClientHello that offers pre-shared keys.
#[derive(Debug)]
pub struct ClientHello {
    message: Vec<u8>,
    /// Where its binders begin: it is bound as far as there.
    truncated: usize,
    /// Where in the message each identity is, with its binder.
    offers: Vec<(std::ops::Range<usize>, std::ops::Range<usize>)>,
}

/// What a peer sends is no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedHello;

impl fmt::Display for MalformedHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no ClientHello")
    }
}

impl std::error::Error for MalformedHello {}

impl ClientHello {
    /// Reads the first bytes of a connection: records, in which the message may be cut. `None` until it is whole.
    ///
    /// # Errors
    /// If they are something else.
    pub fn read(stream: &[u8]) -> Result<Option<Self>, MalformedHello> {
        let mut message = Vec::new();
        let mut rest = stream;
        loop {
            if let Some((&kind, _)) = message.split_first()
                && kind != CLIENT_HELLO
            {
                return Err(MalformedHello);
            }
            if let [_, high, middle, low, ..] = message[..] {
                let len = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                if len > PLAINTEXT_LEN_MAX {
                    return Err(MalformedHello);
                }
                if message.len() >= 4 + len {
                    message.truncate(4 + len);
                    return Self::of(message).map(Some).ok_or(MalformedHello);
                }
            }
            match rest.first() {
                Some(&HANDSHAKE_CONTENT_TYPE) => {}
                Some(_) => return Err(MalformedHello),
                None => return Ok(None),
            }
            let Some((header, behind)) = rest.split_at_checked(HEADER_LEN) else {
                return Ok(None);
            };
            let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
            if len == 0 || len > PLAINTEXT_LEN_MAX {
                return Err(MalformedHello);
            }
            let Some((fragment, behind)) = behind.split_at_checked(len) else {
                return Ok(None);
            };
            message.extend_from_slice(fragment);
            rest = behind;
        }
    }

    /// A message with its type and length.
    fn of(message: Vec<u8>) -> Option<Self> {
        let mut fields = Fields {
            bytes: &message,
            at: 4,
        };
        // Version, random.
        fields.skip(2 + 32)?;
        // Session ID, suites, compression methods.
        let _ = fields.list(1)?;
        let _ = fields.list(2)?;
        let _ = fields.list(1)?;
        let mut extensions = fields.list(2)?;
        let is_end = fields.is_empty();
        let mut found = None;
        while !extensions.is_empty() {
            let kind = extensions.number(2)?;
            let body = extensions.list(2)?;
            // 4.2.11: it is the last.
            if kind == usize::from(PRE_SHARED_KEY) && extensions.is_empty() {
                found = Some(body);
            }
        }
        let mut hello = Self {
            truncated: message.len(),
            offers: Vec::new(),
            message: Vec::new(),
        };
        if let Some(mut body) = found.filter(|_| is_end) {
            let mut identities = body.list(2)?;
            hello.truncated = body.at;
            let mut binders = body.list(2)?;
            while !identities.is_empty() && hello.offers.len() < IDENTITIES_MAX {
                let identity = identities.list(2)?.range();
                // Of tickets: their age.
                identities.skip(4)?;
                hello.offers.push((identity, binders.list(1)?.range()));
            }
        }
        hello.message = message;
        Some(hello)
    }

    /// The identities that it offers, in its order.
    pub fn identities(&self) -> impl Iterator<Item = &[u8]> {
        (self.offers.iter()).map(|(identity, _)| &self.message[identity.clone()])
    }

    /// Whether the first offer of the key's identity proves the key.
    pub fn proves(&self, key: &TlsPsk) -> bool {
        let text = key.identity().to_string();
        let offer = (self.offers.iter())
            .find(|(identity, _)| self.message[identity.clone()] == *text.as_bytes());
        let Some((_, binder)) = offer else {
            return false;
        };
        let (hash, len) = (key.hash(), key.hash().len());
        let early = hash.extract(&[], key.secret().bytes());
        let derive = |secret: &[u8], label: &[u8], context: &[u8]| {
            (hash.expand_label(secret, label, context, len)).expect("a hash is a short context")
        };
        let binder_key = derive(early.bytes(), b"ext binder", hash.digest(&[]).bytes());
        let finished = derive(binder_key.bytes(), b"finished", &[]);
        let transcript = hash.digest(&self.message[..self.truncated]);
        let expected = hash.hmac(finished.bytes(), &[transcript.bytes()]);
        expected.bytes().ct_eq(&self.message[binder.clone()]).into()
    }

    /// The key that the client means: of the first identity that is known. If its name may mean several, the one that it proves.
    ///
    /// # Errors
    /// Why there is none.
    pub fn choose<'k>(&self, keys: &'k PskTable) -> Result<&'k TlsPsk, NoKey> {
        let known = (self.identities())
            .map(|identity| keys.find(identity))
            .find(|candidates| !candidates.is_empty())
            .ok_or(NoKey::UnknownIdentity)?;
        (known.iter().find(|key| self.proves(key))).ok_or_else(|| self.unproved(known))
    }

    /// Why it proves none of the keys of an identity that it offers: as long as the output of their hash (RFC 8446, 4.2.11) is what it says of them.
    fn unproved(&self, known: &[TlsPsk]) -> NoKey {
        let is_as_long = |key: &TlsPsk| {
            (self.offers.iter()).any(|(identity, binder)| {
                self.message[identity.clone()] == *key.identity().as_bytes()
                    && binder.len() == key.hash().len()
            })
        };
        match known.iter().any(is_as_long) {
            true => NoKey::WrongKey,
            false => NoKey::HashOfBinder,
        }
    }
}

/// Why a ClientHello names no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// None of its identities is known.
    UnknownIdentity,
    /// It does not prove any key of the identity.
    WrongKey,
    /// Its proof is made with another hash than the key's: GnuTLS before 3.8.11 takes SHA-256 for every key, and a host that uses it has none of
    /// SHA-384.
    HashOfBinder,
}

/// A run of a message.
struct Fields<'a> {
    /// As far as the run goes.
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.at..self.bytes.len()
    }

    fn skip(&mut self, len: usize) -> Option<()> {
        self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(())
    }

    fn number(&mut self, len: usize) -> Option<usize> {
        let from = self.at;
        self.skip(len)?;
        let bytes = &self.bytes[from..self.at];
        Some(bytes.iter().fold(0, |n, &byte| n << 8 | usize::from(byte)))
    }

    /// The run that a length of so many bytes is before.
    fn list(&mut self, len: usize) -> Option<Fields<'a>> {
        let len = self.number(len)?;
        let at = self.at;
        self.skip(len)?;
        Some(Fields {
            bytes: &self.bytes[..self.at],
            at,
        })
    }
}
