//! The TLS 1.3 handshake with pre-shared keys, by OpenSSL: bytes in, bytes out.
//!
//! What [`tls::Handshaker`] asks for, of either side. It opens no socket, reads no clock and waits for nothing; each call takes what
//! arithmetic takes, a tenth of a millisecond to some.
//!
//! # What is agreed on
//!
//! TLS 1.3 and nothing older, one suite (that of the key's hash), `psk_dhe_ke` alone (RFC 8446, 4.2.9), the groups of OpenSSL's default, no
//! ticket, no early data, no certificate, record_size_limit (RFC 8449: ours is the longest there is). A server looks at a
//! ClientHello before OpenSSL does ([`tls::ClientHello`]): which key it means and whether it proves it. Nothing of a peer reaches
//! OpenSSL that has not proved a key, if it is a client.
//!
//! # Why OpenSSL
//!
//! Whole, kept, reviewed by many, in every distribution, and it has external PSKs on both sides and gives out traffic secrets. rustls
//! has no external PSK. s2n-tls has, and gives out secrets by a crate of bindings that promises nothing. Writing one is out of the question. It is Debian's, linked dynamically: its fixes come with the system's. Records are not its
//! business (`tls`), it copies too much.

mod context;
mod pipe;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use openssl::ssl::{HandshakeError, MidHandshakeSslStream, Ssl, SslStream};
use tls::{
    Alert, CIPHERTEXT_LEN_MAX, ClientHello, Established, HANDSHAKE_BYTES_MAX,
    HANDSHAKE_RECORDS_MAX, HEADER_LEN, HandshakeFailure, HandshakeReason, Handshaker, Handshakes,
    NoKey, Progress, PskTable, Side, Step, TlsPsk,
};

use context::{Contexts, Session};
use pipe::Pipe;

/// Handshakes of OpenSSL's.
pub struct OpenSsl {
    contexts: Arc<Contexts>,
}

impl OpenSsl {
    /// Ready to make them.
    ///
    /// # Errors
    /// If OpenSSL cannot do what is wanted of it: it is too old, or its configuration forbids it.
    pub fn new() -> Result<Self, Unusable> {
        let contexts = Arc::new(Contexts::new().map_err(|error| Unusable(error.to_string()))?);
        Ok(Self { contexts })
    }
}

/// OpenSSL cannot do what is wanted of it.
#[derive(Debug, thiserror::Error)]
#[error(
    "OpenSSL does not do TLS 1.3 with pre-shared keys here ({0}): is /etc/ssl/openssl.cnf sound?"
)]
pub struct Unusable(String);

impl Handshakes for OpenSsl {
    fn accept(&mut self, keys: Arc<PskTable>) -> Box<dyn Handshaker> {
        Box::new(Handshake::new(&self.contexts, Stage::Hello(keys)))
    }

    fn connect(&mut self, key: &TlsPsk) -> Box<dyn Handshaker> {
        Box::new(Handshake::new(&self.contexts, Stage::Begin(key.clone())))
    }
}

/// One side of a handshake.
struct Handshake {
    contexts: Arc<Contexts>,
    stage: Stage,
    /// What the peer sent, and OpenSSL has not been given.
    input: Vec<u8>,
    /// What it was given.
    fed_bytes: usize,
    fed_records: usize,
}

enum Stage {
    /// A server waits for the ClientHello, as a whole.
    Hello(Arc<PskTable>),
    /// A client has said nothing yet.
    Begin(TlsPsk),
    /// OpenSSL has begun.
    Under(Side, Arc<Mutex<Session>>, MidHandshakeSslStream<Pipe>),
    /// It is done, and the secrets were given out.
    Done,
    Failed(HandshakeFailure),
}

/// How it goes on, or why not.
type Going = Result<Option<Established>, HandshakeFailure>;

impl Handshaker for Handshake {
    fn advance(&mut self, received: &[u8]) -> Step {
        let mut send = Vec::new();
        if let Stage::Failed(failure) = &self.stage {
            let progress = Progress::Failed(failure.clone());
            return Step { send, progress };
        }
        self.input.extend_from_slice(received);
        let progress = match self.go(&mut send) {
            Ok(None) => Progress::Wants,
            Ok(Some(established)) => Progress::Done(Box::new(established)),
            Err(failure) => {
                if let Some(alert) = failure.alert
                    && !has_alert(&send)
                {
                    send.extend([ALERT, 3, 3, 0, 2, 2, alert as u8]);
                }
                self.stage = Stage::Failed(failure.clone());
                Progress::Failed(failure)
            }
        };
        Step { send, progress }
    }
}

const ALERT: u8 = 21;

impl Handshake {
    fn new(contexts: &Arc<Contexts>, stage: Stage) -> Self {
        Self {
            contexts: Arc::clone(contexts),
            stage,
            input: Vec::new(),
            fed_bytes: 0,
            fed_records: 0,
        }
    }

    fn go(&mut self, send: &mut Vec<u8>) -> Going {
        match &self.stage {
            Stage::Hello(keys) => {
                let keys = Arc::clone(keys);
                let Some(key) = self.hello(&keys)? else {
                    return self.check_caps().map(|()| None);
                };
                let (ssl, session) = self.ssl(Side::Server, key)?;
                let stream = ssl.accept(Pipe::default());
                self.keep(Side::Server, session, stream, send)?;
            }
            Stage::Begin(key) => {
                let key = key.clone();
                let (ssl, session) = self.ssl(Side::Client, &key)?;
                let stream = ssl.connect(Pipe::default());
                self.keep(Side::Client, session, stream, send)?;
            }
            Stage::Under(..) | Stage::Done | Stage::Failed(_) => {}
        }
        while let Some(record) = self.next_record()? {
            if let Some(established) = self.feed(&record, send)? {
                return Ok(Some(established));
            }
        }
        self.check_caps().map(|()| None)
    }

    /// Which key a client means and proves; none while its hello is not whole.
    fn hello<'k>(&self, keys: &'k PskTable) -> Result<Option<&'k TlsPsk>, HandshakeFailure> {
        let hello = ClientHello::read(&self.input)
            .map_err(|_| failure(Alert::DecodeError, HandshakeReason::Malformed))?;
        let Some(hello) = hello else {
            return Ok(None);
        };
        let Some(first) = hello.identities().next() else {
            let reason = HandshakeReason::NothingInCommon;
            return Err(failure(Alert::HandshakeFailure, reason));
        };
        let reason = match hello.choose(keys) {
            Ok(key) => return Ok(Some(key)),
            Err(NoKey::UnknownIdentity) => HandshakeReason::UnknownIdentity,
            Err(NoKey::WrongKey) => HandshakeReason::WrongKey,
            Err(NoKey::HashOfBinder) => HandshakeReason::HashOfBinder,
        };
        // RFC 8446, 6.2: the same for all, so that it does not tell which names there are.
        Err(HandshakeFailure {
            identity: Some(String::from_utf8_lossy(first).into_owned()),
            ..failure(Alert::DecryptError, reason)
        })
    }

    fn ssl(
        &self,
        side: Side,
        key: &TlsPsk,
    ) -> Result<(Ssl, Arc<Mutex<Session>>), HandshakeFailure> {
        (self.contexts.ssl(side, key)).map_err(|error| library(&error.to_string()))
    }

    /// The next record of the peer, if it is whole.
    fn next_record(&mut self) -> Result<Option<Vec<u8>>, HandshakeFailure> {
        if matches!(self.stage, Stage::Done) {
            return Ok(None);
        }
        let [kind, _, _, high, low, ..] = self.input[..] else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if !(20..=23).contains(&kind) || len > CIPHERTEXT_LEN_MAX {
            return Err(failure(Alert::DecodeError, HandshakeReason::Malformed));
        }
        if self.input.len() < HEADER_LEN + len {
            return Ok(None);
        }
        let record: Vec<u8> = self.input.drain(..HEADER_LEN + len).collect();
        self.fed_bytes += record.len();
        self.fed_records += 1;
        self.check_caps().map(|()| Some(record))
    }

    /// Of what was fed, and what waits to be whole: what is behind a handshake is not counted.
    fn check_caps(&self) -> Result<(), HandshakeFailure> {
        let bytes = self.fed_bytes + self.input.len().min(CIPHERTEXT_LEN_MAX);
        let is_over = match self.stage {
            Stage::Done => false,
            _ if self.fed_records > HANDSHAKE_RECORDS_MAX => true,
            Stage::Hello(_) => bytes > HANDSHAKE_BYTES_MAX,
            _ => self.fed_bytes > HANDSHAKE_BYTES_MAX,
        };
        match is_over {
            true => Err(failure(Alert::UnexpectedMessage, HandshakeReason::TooMuch)),
            false => Ok(()),
        }
    }

    /// Gives OpenSSL one record: none that comes behind the peer's last one.
    fn feed(&mut self, record: &[u8], send: &mut Vec<u8>) -> Going {
        let Stage::Under(side, session, mut stream) =
            std::mem::replace(&mut self.stage, Stage::Done)
        else {
            return Ok(None);
        };
        stream.get_mut().received(record);
        self.keep(side, session, stream.handshake(), send)
    }

    /// Keeps what OpenSSL gives back, and takes what it sends.
    fn keep(
        &mut self,
        side: Side,
        session: Arc<Mutex<Session>>,
        stream: Result<SslStream<Pipe>, HandshakeError<Pipe>>,
        send: &mut Vec<u8>,
    ) -> Going {
        match stream {
            Ok(mut stream) => {
                send.append(&mut stream.get_mut().sent);
                self.stage = Stage::Done;
                // Without the key there is a certificate at best: never for us.
                let is_proved = stream.ssl().session_reused();
                let unread = std::mem::take(&mut self.input);
                let established = context::lock(&session).established(side, unread);
                established.filter(|_| is_proved).map(Some).ok_or_else(|| {
                    failure(Alert::HandshakeFailure, HandshakeReason::NothingInCommon)
                })
            }
            Err(HandshakeError::WouldBlock(mut stream)) => {
                send.append(&mut stream.get_mut().sent);
                self.stage = Stage::Under(side, session, stream);
                Ok(None)
            }
            Err(HandshakeError::Failure(mut stream)) => {
                send.append(&mut stream.get_mut().sent);
                let text = stream.error().to_string();
                Err(context::lock(&session).failure(&text))
            }
            Err(HandshakeError::SetupFailure(error)) => Err(library(&error.to_string())),
        }
    }
}

/// Whether the last of the records that are to be sent is an alert, in the clear or not.
fn has_alert(send: &[u8]) -> bool {
    let mut rest = send;
    let mut is_alert = false;
    while let [kind, _, _, high, low, body @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        // Under a key: a level, a description, a type, a tag.
        is_alert = *kind == ALERT || len == 2 + 1 + 16;
        rest = body.get(len..).unwrap_or_default();
    }
    is_alert
}

fn failure(alert: Alert, reason: HandshakeReason) -> HandshakeFailure {
    HandshakeFailure {
        alert: Some(alert),
        reason,
        identity: None,
    }
}

fn library(text: &str) -> HandshakeFailure {
    failure(
        Alert::InternalError,
        HandshakeReason::Library(text.to_owned()),
    )
}
