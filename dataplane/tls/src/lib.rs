//! TLS 1.3 with pre-shared keys over a stream of slices, sans I/O: what NVMe/TCP has of it.
//!
//! * [`ConfiguredPsk`] is a key as an administrator gives it; [`TlsPsk`] what is made of it for one host and one subsystem; a [`PskTable`] has
//!   those of a target, by the identities that hosts offer.
//! * [`Handshakes`] makes a [`Handshaker`]: bytes in, bytes out, and in the end [`Established`]: secrets. The handshake is a library's
//!   (`ffi/handshake`), or that of simulations (`testing`). [`ClientHello`] says which key a client means, before a library looks at it.
//! * [`Opener`] and [`Sealer`] are the records behind it, one for each direction.
//!
//! ```text
//!  slices of clusters           ┌────────┐   slices of the same clusters        ┌─────────┐
//!  [hdr|ciphertext…][…|tag|hdr] │ Opener │   […plaintext…][…]                   │ session │
//!  ────────────────────────────▶│        │─────────────────────────────────────▶│         │
//!                               └────────┘                                      │         │
//!  chunks                       ┌────────┐   chunks: headers by value, pages by │         │
//!  [hdr][ciphertext][type, tag] │ Sealer │   reference                          │         │
//!  ◀────────────────────────────│        │◀─────────────────────────────────────│         │
//!                               └────────┘                                      └─────────┘
//! ```
//!
//! # Where bytes are opened and sealed
//!
//! Opening and sealing read and write each byte anyway, so they are done where the bytes lie: a record is opened in the clusters that it came in,
//! and header, content type, padding and tag are cut off the list of slices; payload is sealed in its page, and header, type and
//! tag are small chunks beside it. What TCP sends again is what its chunks refer to: the same ciphertext, and never a nonce twice.
//!
//! That holds where nobody else has a handle ([`pages::Cluster::is_sole`]; `pages/src/rewrite.rs` says why that is sound). Where somebody has, the
//! bytes go into fresh pages in the same pass: `open` and `seal` of the copy ledger, lines of their own. A device that
//! wants addresses of its own gets a [`Place`]: records are opened into buffers that it names.
//!
//! Nothing of a record comes out before its tag is verified. There is no allocation behind the handshake but at a key update, no lock, and no copy.
//!
//! # What is obeyed
//!
//! RFC 8446:
//!
//! | section | what | where |
//! | --- | --- | --- |
//! | 4.2.11, 4.2.11.2 | pre_shared_key is the last extension; binders, compared in constant time | `hello` |
//! | 4.6.1 | tickets: let pass by a client, refused by a server | `record/inner` |
//! | 4.6.3, 7.2 | KeyUpdate, both ways, asked for or not; on a record's border | `record/inner`, `opener`, `sealer` |
//! | 5 | change_cipher_spec is dropped in a handshake (OpenSSL's), and unexpected behind it | `record/opener` |
//! | 5.1 | records to 2^14 bytes; the version says nothing; messages cut by records, with nothing between; not empty | `record/opener`, `inner` |
//! | 5.2, 5.3 | header as additional data; nonces of sequence numbers; bounds of either length, record_overflow | `aead`, `record` |
//! | 5.4 | padding of any length is cut off; zeros alone are unexpected | `record/opener` |
//! | 5.5 | keys are updated before 2^34.5 blocks, which is 2^24.5 full-size records; a peer that is asked and does not is left | [`Limits`] |
//! | 6, 6.1, 6.2 | close_notify ends one direction; every other alert but user_canceled both; each error has its description | `alert`, `record/inner` |
//! | 7.1, 7.3 | HKDF-Expand-Label; keys and IVs of traffic secrets | `suite` |
//! | 9.1, B.4 | TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384 | `suite` |
//!
//! RFC 8449: the peer's record_size_limit bounds what is sealed; ours is the longest there is. NVMe/TCP transport specification
//! 1.0 and 1.1, 3.6.1: interchange format, retained PSK, TLS PSK, identities of version 0 and 1 (`psk`).
//!
//! # What is deliberately not done
//!
//! | section | what | why |
//! | --- | --- | --- |
//! | 2.2, 4.6.1 | resumption, tickets of ours | a PSK costs no more than a ticket, and there is none to steal |
//! | 2.3, 4.2.10 | early data | replayable: commands must not be |
//! | 4.2.9 | `psk_ke` | a key that is lost would open what was recorded |
//! | 4.4.2, 4.6.2 | certificates, authentication behind the handshake | NVMe/TCP has PSKs alone |
//! | 5.4 | padding of ours | lengths of NVMe/TCP say what its commands say anyway, and it costs bandwidth |
//! | 8 | anti-replay | it is of early data |
//! | B.4 | CHACHA20, CCM | NVMe/TCP has two suites |
//! | NVMe/TCP 3.6.1.3 | generated PSKs (`NVMe0G`, `NVMe1G`), of an authentication | authentication does not make any (`auth`) |
//!
//! A bound that is ours: 32 records without application data (empty ones, KeyUpdates, tickets) may follow each other, a longer flood ends the
//! connection.
//!
//! # Why these libraries
//!
//! AES-GCM is `aws-lc-sys`, by its streaming interface: see `aead.rs`. It is C and assembly that a crate brings with it, built by any C compiler:
//! no native library of the system. Hashes, HMAC and HKDF are RustCrypto's, as in `auth`. The handshake is not here, so that this crate, and
//! all that is simulated, builds without OpenSSL.
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
