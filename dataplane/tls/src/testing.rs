//! A handshake for simulated hosts and targets: deterministic, without a library, and worth nothing outside a simulation.
//!
//! Three fixed messages, each in a record as TLS has them, so that who tells TLS by its first byte does here, too:
//!
//! ```text
//! client                                        server
//!   hello: nonce (16), suite (2), identity ────▶
//!                                        ◀────  reply: nonce (16), proof (32)
//!   finish: proof (32)                   ────▶
//! ```
//!
//! A proof is HMAC(key, name of the side ‖ both nonces), a traffic secret HKDF(key, name of the side, both nonces): whoever has not the key
//! comes no further, and no two connections have the same secrets. Everything goes in the clear, and nothing is agreed on.

use std::sync::Arc;

use subtle::ConstantTimeEq;

use crate::aead::{Direction, Gcm};
use crate::alert::Alert;
use crate::handshake::{
    Established, HANDSHAKE_BYTES_MAX, HANDSHAKE_CONTENT_TYPE, HandshakeFailure, HandshakeReason,
    Handshaker, Handshakes, Progress, Side, Step,
};
use crate::psk::{PskTable, TlsPsk};
use crate::record::{HEADER_LEN, TAG_LEN};
use crate::suite::{Secret, Suite};

const NONCE_LEN: usize = 16;
const PROOF_LEN: usize = 32;
const ALERT: u8 = 21;

type Nonce = [u8; NONCE_LEN];

/// Handshakes of a few fixed messages. The records behind them are those of everybody.
#[derive(Debug)]
pub struct Exchange {
    seed: u64,
    count: u64,
}

impl Exchange {
    /// Its nonces follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }

    fn nonce(&mut self) -> Nonce {
        self.count += 1;
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.seed.to_be_bytes());
        nonce[8..].copy_from_slice(&self.count.to_be_bytes());
        nonce
    }
}

impl Handshakes for Exchange {
    fn accept(&mut self, keys: Arc<PskTable>) -> Box<dyn Handshaker> {
        let proved = None;
        Box::new(Party::new(self.nonce(), Server { keys, proved }))
    }

    fn connect(&mut self, key: &TlsPsk) -> Box<dyn Handshaker> {
        let (key, is_begun) = (key.clone(), false);
        Box::new(Party::new(self.nonce(), Client { key, is_begun }))
    }
}

/// One of both.
struct Party<R> {
    inbox: Inbox,
    nonce: Nonce,
    role: R,
    failed: Option<HandshakeFailure>,
}

impl<R> Party<R> {
    fn new(nonce: Nonce, role: R) -> Self {
        Self {
            inbox: Inbox::default(),
            nonce,
            role,
            failed: None,
        }
    }
}

impl<R: Role> Handshaker for Party<R> {
    fn advance(&mut self, received: &[u8]) -> Step {
        let mut send = Vec::new();
        let progress = match &self.failed {
            Some(failure) => Err(failure.clone()),
            None => {
                self.inbox.bytes.extend_from_slice(received);
                (self.role).progress(&mut self.inbox, &self.nonce, &mut send)
            }
        };
        step(send, progress, &mut self.failed)
    }
}

/// What a side does with what has come: what is to be sent goes to `send`.
trait Role: Send {
    fn progress(
        &mut self,
        inbox: &mut Inbox,
        own: &Nonce,
        send: &mut Vec<u8>,
    ) -> Result<Option<Established>, HandshakeFailure>;
}

struct Server {
    keys: Arc<PskTable>,
    /// The client's nonce, and the key that it named.
    proved: Option<(Nonce, TlsPsk)>,
}

struct Client {
    key: TlsPsk,
    is_begun: bool,
}

impl Role for Server {
    fn progress(
        &mut self,
        inbox: &mut Inbox,
        own: &Nonce,
        send: &mut Vec<u8>,
    ) -> Result<Option<Established>, HandshakeFailure> {
        if self.proved.is_none() {
            let Some(hello) = inbox.message()? else {
                return Ok(None);
            };
            let (nonce, rest) = hello.split_first_chunk().ok_or_else(malformed)?;
            let (suite, identity) = rest.split_first_chunk().ok_or_else(malformed)?;
            let key = (self.keys.find(identity).first()).ok_or_else(|| HandshakeFailure {
                alert: Some(Alert::DecryptError),
                reason: HandshakeReason::UnknownIdentity,
                identity: Some(String::from_utf8_lossy(identity).into_owned()),
            })?;
            if key.hash().suite() as u16 != u16::from_be_bytes(*suite) {
                return Err(failure(
                    Alert::HandshakeFailure,
                    HandshakeReason::NothingInCommon,
                ));
            }
            let proof = proof(key, Side::Server, nonce, own);
            put(send, &[own, &proof]);
            self.proved = Some((*nonce, key.clone()));
        }
        let Some((nonce, key)) = &self.proved else {
            return Ok(None);
        };
        let Some(finish) = inbox.message()? else {
            return Ok(None);
        };
        check(&finish, &proof(key, Side::Client, nonce, own), key)?;
        let unread = std::mem::take(&mut inbox.bytes);
        Ok(Some(established(Side::Server, key, nonce, own, unread)))
    }
}

impl Role for Client {
    fn progress(
        &mut self,
        inbox: &mut Inbox,
        own: &Nonce,
        send: &mut Vec<u8>,
    ) -> Result<Option<Established>, HandshakeFailure> {
        if !self.is_begun {
            self.is_begun = true;
            let suite = (self.key.hash().suite() as u16).to_be_bytes();
            let identity = self.key.identity().to_string();
            put(send, &[own, &suite, identity.as_bytes()]);
        }
        let Some(reply) = inbox.message()? else {
            return Ok(None);
        };
        let (nonce, theirs) = reply.split_first_chunk().ok_or_else(malformed)?;
        let key = &self.key;
        check(theirs, &proof(key, Side::Server, own, nonce), key)?;
        put(send, &[&proof(key, Side::Client, own, nonce)]);
        let unread = std::mem::take(&mut inbox.bytes);
        Ok(Some(established(Side::Client, key, own, nonce, unread)))
    }
}

/// What the peer sent, and was not read.
#[derive(Default)]
struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    /// The content of the next record, if it is whole.
    fn message(&mut self) -> Result<Option<Vec<u8>>, HandshakeFailure> {
        let [kind, _, _, high, low, body @ ..] = &self.bytes[..] else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        match *kind {
            HANDSHAKE_CONTENT_TYPE | ALERT if len <= HANDSHAKE_BYTES_MAX => {}
            _ => return Err(malformed()),
        }
        let Some(content) = body.get(..len).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        if let (ALERT, &[_, number]) = (*kind, &content[..]) {
            return Err(HandshakeFailure {
                alert: None,
                reason: HandshakeReason::Alert(number),
                identity: None,
            });
        }
        self.bytes.drain(..HEADER_LEN + len);
        Ok(Some(content))
    }
}

/// Puts a record into `send`.
fn put(send: &mut Vec<u8>, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let [high, low] = (len as u16).to_be_bytes();
    send.extend([HANDSHAKE_CONTENT_TYPE, 3, 3, high, low]);
    parts.iter().for_each(|part| send.extend_from_slice(part));
}

fn label(side: Side) -> &'static [u8] {
    match side {
        Side::Client => b"client",
        Side::Server => b"server",
    }
}

fn proof(key: &TlsPsk, side: Side, client: &Nonce, server: &Nonce) -> [u8; PROOF_LEN] {
    let parts = [label(side), client, server];
    let mac = key.hash().hmac(key.secret().bytes(), &parts);
    let mut proof = [0; PROOF_LEN];
    proof.copy_from_slice(&mac.bytes()[..PROOF_LEN]);
    proof
}

fn check(theirs: &[u8], expected: &[u8; PROOF_LEN], key: &TlsPsk) -> Result<(), HandshakeFailure> {
    match theirs.ct_eq(expected).into() {
        true => Ok(()),
        false => Err(HandshakeFailure {
            alert: Some(Alert::DecryptError),
            reason: HandshakeReason::WrongKey,
            identity: Some(key.identity().to_string()),
        }),
    }
}

fn established(
    side: Side,
    key: &TlsPsk,
    client: &Nonce,
    server: &Nonce,
    unread: Vec<u8>,
) -> Established {
    let hash = key.hash();
    let secret = |of: Side| -> Secret {
        let nonces = [&client[..], server].concat();
        let key = hash.extract(&nonces, key.secret().bytes());
        hash.expand(key.bytes(), &[label(of), b" traffic"], hash.len())
    };
    let (read, write) = match side {
        Side::Client => (Side::Server, Side::Client),
        Side::Server => (Side::Client, Side::Server),
    };
    Established {
        side,
        identity: key.identity().to_string().into_bytes(),
        suite: hash.suite(),
        read_secret: secret(read),
        write_secret: secret(write),
        read_sequence: 0,
        write_sequence: 0,
        unread,
        record_size_limit: None,
    }
}

fn failure(alert: Alert, reason: HandshakeReason) -> HandshakeFailure {
    HandshakeFailure {
        alert: Some(alert),
        reason,
        identity: None,
    }
}

fn malformed() -> HandshakeFailure {
    failure(Alert::DecodeError, HandshakeReason::Malformed)
}

/// What is to be sent with it: of a failure, its alert, once.
fn step(
    mut send: Vec<u8>,
    progress: Result<Option<Established>, HandshakeFailure>,
    failed: &mut Option<HandshakeFailure>,
) -> Step {
    let progress = match progress {
        Ok(None) => Progress::Wants,
        Ok(Some(established)) => Progress::Done(Box::new(established)),
        Err(failure) => {
            if let (None, Some(alert)) = (&failed, failure.alert) {
                send.extend([ALERT, 3, 3, 0, 2, 2, alert as u8]);
            }
            *failed = Some(failure.clone());
            Progress::Failed(failure)
        }
    };
    Step { send, progress }
}

/// The cipher alone, without records: what benchmarks hold the rest against. Its key is no secret.
pub struct Cipher {
    opens: Gcm,
    seals: Gcm,
    sequence: u64,
}

impl Cipher {
    /// Of this suite.
    ///
    /// # Panics
    /// If there is no memory for it.
    pub fn new(suite: Suite) -> Self {
        let secret = Secret::new(&vec![7; suite.hash().len()]).expect("as long as the hash");
        Self {
            opens: Gcm::new(suite, &secret, Direction::Open),
            seals: Gcm::new(suite, &secret, Direction::Seal),
            sequence: 0,
        }
    }

    /// Opens a record's content where it lies, in pieces that end at `cuts`. Its tag is wrong: that takes no less.
    pub fn open(&mut self, content: &mut [u8], cuts: &[usize]) {
        pass(&mut self.opens, &mut self.sequence, content, cuts);
        let is_right = self.opens.verify(&[0; TAG_LEN]);
        std::hint::black_box(is_right);
    }

    /// Seals a record's content where it lies, in pieces that end at `cuts`.
    pub fn seal(&mut self, content: &mut [u8], cuts: &[usize]) {
        pass(&mut self.seals, &mut self.sequence, content, cuts);
        std::hint::black_box(self.seals.tag());
    }
}

fn pass(gcm: &mut Gcm, sequence: &mut u64, mut content: &mut [u8], cuts: &[usize]) {
    gcm.begin(*sequence, &[0; HEADER_LEN]);
    *sequence += 1;
    let mut at = 0;
    for &cut in cuts {
        let (piece, rest) = content.split_at_mut(cut - at);
        gcm.apply(piece);
        (content, at) = (rest, cut);
    }
    gcm.apply(content);
    gcm.apply(&mut [0]);
}
