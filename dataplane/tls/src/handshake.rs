//! What a handshake is to the rest: bytes in, bytes out, and in the end the secrets.
//!
//! The handshake itself is a library's (`ffi/handshake`: OpenSSL), or, where hosts and targets are simulated, one of
//! [`testing`](crate::testing). Neither opens a socket, reads a clock or waits. It takes a tenth of a millisecond to some: call it off the cores
//! that poll.

use std::fmt;
use std::sync::Arc;

use crate::alert::Alert;
use crate::psk::{PskTable, TlsPsk};
use crate::suite::{Secret, Suite};

/// Most bytes of the peer that a handshake takes, all in all: a ClientHello of NVMe/TCP has half a kilobyte.
pub const HANDSHAKE_BYTES_MAX: usize = 16 << 10;

/// Most records of the peer that a handshake takes. A client needs three with HelloRetryRequest, each followed by a
/// change_cipher_spec.
pub const HANDSHAKE_RECORDS_MAX: usize = 16;

/// Content type of a handshake's records, and so the first byte of a connection that begins with a ClientHello (RFC 8446, 5.1). No NVMe/TCP
/// PDU begins with it.
pub const HANDSHAKE_CONTENT_TYPE: u8 = 22;

/// Makes handshakes. Its threads' own: not shared.
pub trait Handshakes: Send {
    /// As the server, for clients that prove one of these keys.
    fn accept(&mut self, keys: Arc<PskTable>) -> Box<dyn Handshaker>;

    /// As the client, which proves this key. Its ClientHello comes out of the first
    /// [`advance`](Handshaker::advance), which is given no bytes.
    fn connect(&mut self, key: &TlsPsk) -> Box<dyn Handshaker>;
}

/// One side of one handshake.
pub trait Handshaker: Send {
    /// Takes the next bytes of the peer, in any cut. After it ended, and before anything else is said, nothing may be fed
    /// any more: what it says then is the end again.
    ///
    /// Caps of its own hold: [`HANDSHAKE_BYTES_MAX`], [`HANDSHAKE_RECORDS_MAX`]. Time is the caller's to limit.
    fn advance(&mut self, received: &[u8]) -> Step;
}

/// What came of some bytes.
#[derive(Debug)]
pub struct Step {
    /// To be sent to the peer, whatever the progress says: an alert is among it if the handshake failed.
    pub send: Vec<u8>,
    /// How far it is.
    pub progress: Progress,
}

/// How far a handshake is.
#[derive(Debug)]
pub enum Progress {
    /// It needs more of the peer.
    Wants,
    /// Both sides have proved the key: records may begin.
    Done(Box<Established>),
    /// It failed: the connection is to be closed once [`Step::send`] is sent.
    Failed(HandshakeFailure),
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that began it.
    Client,
    /// The other one.
    Server,
}

/// What a handshake leaves to the records ([`crate::Opener`], [`crate::Sealer`]).
#[derive(Clone, Debug)]
pub struct Established {
    /// Which side we are.
    pub side: Side,
    /// The identity of the key that was proved, as it travelled: see [`crate::Identity::read`].
    pub identity: Vec<u8>,
    /// The suite.
    pub suite: Suite,
    /// What the peer sends under: its application traffic secret (RFC 8446, 7.1).
    pub read_secret: Secret,
    /// What we send under.
    pub write_secret: Secret,
    /// The sequence number of the next record of the peer.
    pub read_sequence: u64,
    /// The sequence number of our next record.
    pub write_sequence: u64,
    /// Bytes that were fed and lie behind the peer's last one of the handshake: the first of its records, to be opened before what
    /// is received next.
    pub unread: Vec<u8>,
    /// The peer's record_size_limit (RFC 8449), if it has one: plaintext with its content type.
    pub record_size_limit: Option<u16>,
}

/// Why a handshake failed. It names no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeFailure {
    /// The alert that was sent; `None` if the peer sent one, or there was no sense in it.
    pub alert: Option<Alert>,
    /// For the log.
    pub reason: HandshakeReason,
    /// The identity that the peer offered, if it came to that: for the log, and not to be believed.
    pub identity: Option<String>,
}

/// The reason of a [`HandshakeFailure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeReason {
    /// None of the identities that the client offers is known.
    UnknownIdentity,
    /// The client knows an identity, and not its key.
    WrongKey,
    /// The client's proof is made with another hash than its key's: [`NoKey::HashOfBinder`](crate::NoKey::HashOfBinder).
    HashOfBinder,
    /// The peer offers no PSK, no version, no suite, no group or no mode that this side has.
    NothingInCommon,
    /// The peer sends more than a handshake needs.
    TooMuch,
    /// What the peer sent is no TLS, or not in its place.
    Malformed,
    /// The peer ended it, with an alert of this number.
    Alert(u8),
    /// Something of the library's, in its words.
    Library(String),
}

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            HandshakeReason::UnknownIdentity => {
                f.write_str("TLS: there is no PSK of the identity it offers")
            }
            HandshakeReason::WrongKey => f.write_str("TLS: its PSK is not ours"),
            HandshakeReason::HashOfBinder => {
                f.write_str("TLS: it proves its PSK with another hash than the key's")
            }
            HandshakeReason::NothingInCommon => {
                f.write_str("TLS: it offers no PSK, suite, group or mode that is taken here")
            }
            HandshakeReason::TooMuch => f.write_str("TLS: it sends more than a handshake needs"),
            HandshakeReason::Malformed => f.write_str("TLS: what it sends is no TLS handshake"),
            HandshakeReason::Alert(number) => match Alert::of_number(*number) {
                Some(alert) => write!(f, "TLS: it sent the alert {}", alert.name()),
                None => write!(f, "TLS: it sent alert {number}"),
            },
            HandshakeReason::Library(text) => write!(f, "TLS: {text}"),
        }
    }
}

impl std::error::Error for HandshakeFailure {}
