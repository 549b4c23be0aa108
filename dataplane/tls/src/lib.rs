//! TLS 1.3 with pre-shared keys over a stream of slices, sans I/O.
#![deny(unsafe_code)]

mod aead;
mod alert;
mod handshake;
mod hello;
pub mod psk;
mod record;
mod suite;
#[cfg(feature = "testing")]
pub mod testing;

pub use alert::{Alert, Failure};
pub use handshake::{
    Established, HANDSHAKE_BYTES_MAX, HANDSHAKE_CONTENT_TYPE, HANDSHAKE_RECORDS_MAX,
    HandshakeFailure, HandshakeReason, Handshaker, Handshakes, Progress, Side, Step,
};
pub use hello::{ClientHello, MalformedHello, NoKey};
pub use psk::{
    ConfiguredPsk, Derivation, Identity, IdentityVersion, NameTooLong, PSK_TEXT_LEN_MAX, PskError,
    PskTable, TlsPsk,
};
pub use record::{
    CIPHERTEXT_LEN_MAX, HEADER_LEN, Limits, Memory, Next, Opener, PLAINTEXT_LEN_MAX, Place, Room,
    Sealer, TAG_LEN,
};
pub use suite::{HASH_LEN_MAX, Hash, Secret, Suite};
