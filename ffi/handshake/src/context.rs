//! OpenSSL's contexts, and what it calls back.
//!
//! Callbacks find their handshake's [`Session`] at the `SSL` itself (ex data), and do nothing that may panic.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_uchar};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use foreign_types_shared::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{
    ExtensionContext, Ssl, SslAlert, SslContext, SslContextBuilder, SslMethod, SslOptions, SslRef,
    SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl_sys as ffi;
use tls::{
    Alert, Established, HASH_LEN_MAX, HandshakeFailure, HandshakeReason, PLAINTEXT_LEN_MAX, Secret,
    Side, Suite, TlsPsk,
};
use zeroize::Zeroizing;

/// record_size_limit (RFC 8449, 3).
const RECORD_SIZE_LIMIT: u16 = 28;
/// Ours: the longest plaintext there is, with its content type.
const OUR_LIMIT: u16 = PLAINTEXT_LEN_MAX as u16 + 1;
/// The least that there may be (RFC 8449, 4).
const LIMIT_MIN: u16 = 64;

const CB_READ_ALERT: c_int = 0x4004;
const CB_WRITE_ALERT: c_int = 0x4008;

type FindSession =
    unsafe extern "C" fn(*mut ffi::SSL, *const c_uchar, usize, *mut *mut ffi::SSL_SESSION) -> c_int;
type UseSession = unsafe extern "C" fn(
    *mut ffi::SSL,
    *const ffi::EVP_MD,
    *mut *const c_uchar,
    *mut usize,
    *mut *mut ffi::SSL_SESSION,
) -> c_int;
type Info = unsafe extern "C" fn(*const ffi::SSL, c_int, c_int);

// What openssl-sys has not, as OpenSSL 1.1.1 and later declare it in ssl.h.
unsafe extern "C" {
    fn SSL_CTX_set_psk_find_session_callback(ctx: *mut ffi::SSL_CTX, cb: Option<FindSession>);
    fn SSL_CTX_set_psk_use_session_callback(ctx: *mut ffi::SSL_CTX, cb: Option<UseSession>);
    fn SSL_CTX_set_info_callback(ctx: *mut ffi::SSL_CTX, cb: Option<Info>);
    fn SSL_SESSION_new() -> *mut ffi::SSL_SESSION;
    fn SSL_SESSION_set1_master_key(
        session: *mut ffi::SSL_SESSION,
        key: *const c_uchar,
        len: usize,
    ) -> c_int;
    fn SSL_SESSION_set_cipher(
        session: *mut ffi::SSL_SESSION,
        cipher: *const ffi::SSL_CIPHER,
    ) -> c_int;
    fn SSL_SESSION_set_protocol_version(session: *mut ffi::SSL_SESSION, version: c_int) -> c_int;
    fn SSL_CIPHER_find(ssl: *mut ffi::SSL, number: *const c_uchar) -> *const ffi::SSL_CIPHER;
}

/// What one handshake has to do with OpenSSL's callbacks.
pub(crate) struct Session {
    key: TlsPsk,
    identity: Vec<u8>,
    /// Of the client and the server, once there are any.
    secrets: [Option<Secret>; 2],
    record_size_limit: Option<u16>,
    alert_sent: Option<u8>,
    alert_received: Option<u8>,
}

/// Contexts by side and suite: OpenSSL chooses a suite before it knows the key, so there is one to choose.
pub(crate) struct Contexts {
    contexts: [(Side, Suite, SslContext); 4],
}

impl Contexts {
    pub fn new() -> Result<Self, ErrorStack> {
        Self::with(OUR_LIMIT, |_| Ok(()))
    }

    /// With another record_size_limit, and what else is to be so.
    pub fn with(
        limit: u16,
        adjust: impl Fn(&mut SslContextBuilder) -> Result<(), ErrorStack>,
    ) -> Result<Self, ErrorStack> {
        let of = |side, suite| {
            let mut context = context(side, suite, limit)?;
            adjust(&mut context)?;
            Ok((side, suite, context.build()))
        };
        Ok(Self {
            contexts: [
                of(Side::Server, Suite::Aes128GcmSha256)?,
                of(Side::Server, Suite::Aes256GcmSha384)?,
                of(Side::Client, Suite::Aes128GcmSha256)?,
                of(Side::Client, Suite::Aes256GcmSha384)?,
            ],
        })
    }

    /// A handshake of this side, which proves this key.
    pub fn ssl(&self, side: Side, key: &TlsPsk) -> Result<(Ssl, Arc<Mutex<Session>>), ErrorStack> {
        let suite = key.hash().suite();
        let (.., context) = (self.contexts.iter())
            .find(|(of, with, _)| (*of, *with) == (side, suite))
            .expect("there is one of each");
        let session = Arc::new(Mutex::new(Session {
            identity: key.identity().to_string().into_bytes(),
            key: key.clone(),
            secrets: [None, None],
            record_size_limit: None,
            alert_sent: None,
            alert_received: None,
        }));
        let mut ssl = Ssl::new(context)?;
        ssl.set_ex_data(index()?, Arc::clone(&session));
        Ok((ssl, session))
    }
}

impl Session {
    /// What is left to the records, if both secrets came out.
    pub fn established(&self, side: Side, unread: Vec<u8>) -> Option<Established> {
        let [Some(client), Some(server)] = &self.secrets else {
            return None;
        };
        let (read, write) = match side {
            Side::Client => (server, client),
            Side::Server => (client, server),
        };
        Some(Established {
            side,
            identity: self.identity.clone(),
            suite: self.key.hash().suite(),
            read_secret: read.clone(),
            write_secret: write.clone(),
            // No ticket is sent, and nothing behind the peer's last message was fed: no record was sealed or opened under them.
            read_sequence: 0,
            write_sequence: 0,
            unread,
            record_size_limit: self.record_size_limit,
        })
    }

    /// Why it failed; OpenSSL says `text`.
    pub fn failure(&self, text: &str) -> HandshakeFailure {
        let alert = match self.alert_received {
            Some(_) => None,
            None => Some(
                (self.alert_sent.and_then(Alert::of_number)).unwrap_or(Alert::HandshakeFailure),
            ),
        };
        let reason = match (self.alert_received, alert) {
            (Some(number), _) => HandshakeReason::Alert(number),
            (None, Some(Alert::DecryptError | Alert::BadRecordMac)) => HandshakeReason::WrongKey,
            (
                None,
                Some(Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::MissingExtension),
            ) => HandshakeReason::NothingInCommon,
            (None, Some(Alert::DecodeError | Alert::UnexpectedMessage | Alert::RecordOverflow)) => {
                HandshakeReason::Malformed
            }
            _ => HandshakeReason::Library(text.to_owned()),
        };
        HandshakeFailure {
            alert,
            reason,
            identity: Some(String::from_utf8_lossy(&self.identity).into_owned()),
        }
    }
}

pub(crate) fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where an `SSL` keeps its session.
fn index() -> Result<Index<Ssl, Arc<Mutex<Session>>>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Arc<Mutex<Session>>>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let index = Ssl::new_ex_index()?;
    Ok(*INDEX.get_or_init(|| index))
}

fn session(ssl: &SslRef) -> Option<&Arc<Mutex<Session>>> {
    ssl.ex_data(index().ok()?)
}

fn context(side: Side, suite: Suite, limit: u16) -> Result<SslContextBuilder, ErrorStack> {
    let method = match side {
        Side::Client => SslMethod::tls_client(),
        Side::Server => SslMethod::tls_server(),
    };
    let mut context = SslContextBuilder::new(method)?;
    context.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_max_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_ciphersuites(suite.name())?;
    context.set_options(SslOptions::NO_TICKET);
    context.set_num_tickets(0)?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    if side == Side::Client {
        // No certificate of anybody's is good: there are no authorities.
        context.set_verify(SslVerifyMode::PEER);
    }
    context.set_keylog_callback(keylog);
    context.add_custom_ext(
        RECORD_SIZE_LIMIT,
        ExtensionContext::TLS1_3_ONLY
            | ExtensionContext::CLIENT_HELLO
            | ExtensionContext::TLS1_3_ENCRYPTED_EXTENSIONS,
        move |_, _, _| Ok(Some(limit.to_be_bytes())),
        |ssl, _, bytes, _| read_limit(ssl, bytes),
    )?;
    // SAFETY: the context is alive, and the functions are of the types that ssl.h has.
    unsafe {
        match side {
            Side::Server => SSL_CTX_set_psk_find_session_callback(context.as_ptr(), Some(find)),
            Side::Client => SSL_CTX_set_psk_use_session_callback(context.as_ptr(), Some(offer)),
        }
        SSL_CTX_set_info_callback(context.as_ptr(), Some(info));
    }
    Ok(context)
}

/// The peer's record_size_limit.
fn read_limit(ssl: &mut SslRef, bytes: &[u8]) -> Result<(), SslAlert> {
    let limit = <[u8; 2]>::try_from(bytes).map_err(|_| SslAlert::DECODE_ERROR)?;
    let limit = u16::from_be_bytes(limit);
    if limit < LIMIT_MIN {
        return Err(SslAlert::ILLEGAL_PARAMETER);
    }
    if let Some(session) = session(ssl) {
        lock(session).record_size_limit = Some(limit);
    }
    Ok(())
}

/// A line of the key log: label, client random, secret.
fn keylog(ssl: &SslRef, line: &str) {
    let mut words = line.split(' ');
    let place = match words.next() {
        Some("CLIENT_TRAFFIC_SECRET_0") => 0,
        Some("SERVER_TRAFFIC_SECRET_0") => 1,
        _ => return,
    };
    let mut room = Zeroizing::new([0; HASH_LEN_MAX]);
    let Some(digits) = words.nth(1).map(str::as_bytes) else {
        return;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
    for (byte, pair) in room.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0]) << 4 | digit(pair[1]);
    }
    let len = digits.len() / 2;
    let secret = room.get(..len).and_then(Secret::new);
    if let Some(session) = session(ssl) {
        lock(session).secrets[place] = secret;
    }
}

/// OpenSSL's form of a key. Null if there is no memory.
///
/// # Safety
/// `ssl` is alive.
unsafe fn ssl_session(ssl: *mut ffi::SSL, key: &TlsPsk) -> *mut ffi::SSL_SESSION {
    let number = (key.hash().suite() as u16).to_be_bytes();
    let secret = key.secret().bytes();
    // SAFETY: the number has its two bytes, the secret its length, which are copied; the session is made here, and freed
    // here if it is given to nobody.
    unsafe {
        let session = SSL_SESSION_new();
        let cipher = SSL_CIPHER_find(ssl, number.as_ptr());
        if session.is_null()
            || cipher.is_null()
            || SSL_SESSION_set1_master_key(session, secret.as_ptr(), secret.len()) != 1
            || SSL_SESSION_set_cipher(session, cipher) != 1
            || SSL_SESSION_set_protocol_version(session, ffi::TLS1_3_VERSION) != 1
        {
            ffi::SSL_SESSION_free(session);
            return ptr::null_mut();
        }
        session
    }
}

/// A client offers an identity: the one whose key it has proved already, or none.
unsafe extern "C" fn find(
    ssl: *mut ffi::SSL,
    identity: *const c_uchar,
    len: usize,
    found: *mut *mut ffi::SSL_SESSION,
) -> c_int {
    // SAFETY: OpenSSL calls with its own `SSL`, an identity of `len` bytes, and a place for the answer.
    unsafe {
        *found = ptr::null_mut();
        let Some(session) = session(SslRef::from_ptr(ssl)) else {
            return 1;
        };
        let session = lock(session);
        if len > 0 && std::slice::from_raw_parts(identity, len) == session.identity {
            *found = ssl_session(ssl, &session.key);
        }
    }
    1
}

/// The key that we offer as a client.
unsafe extern "C" fn offer(
    ssl: *mut ffi::SSL,
    _: *const ffi::EVP_MD,
    identity: *mut *const c_uchar,
    len: *mut usize,
    offered: *mut *mut ffi::SSL_SESSION,
) -> c_int {
    // SAFETY: OpenSSL calls with its own `SSL` and places for the answer; the identity stays where it is as long as the `SSL` has its
    // session, and nothing changes it.
    unsafe {
        *offered = ptr::null_mut();
        let Some(session) = session(SslRef::from_ptr(ssl)) else {
            return 1;
        };
        let session = lock(session);
        *identity = session.identity.as_ptr();
        *len = session.identity.len();
        *offered = ssl_session(ssl, &session.key);
        c_int::from(!(*offered).is_null())
    }
}

/// An alert was sent or received.
unsafe extern "C" fn info(ssl: *const ffi::SSL, event: c_int, value: c_int) {
    if event != CB_READ_ALERT && event != CB_WRITE_ALERT {
        return;
    }
    // SAFETY: OpenSSL calls with its own `SSL`, of which nothing but its ex data is read.
    let Some(session) = session(unsafe { SslRef::from_ptr(ssl.cast_mut()) }) else {
        return;
    };
    let number = Some(value as u8);
    match event {
        CB_READ_ALERT => lock(session).alert_received = number,
        _ => lock(session).alert_sent = number,
    }
}
