//! In-band authentication of NVMe over fabrics: DH-HMAC-CHAP, sans I/O.
//!
//! Messages and randomness go in, messages and a verdict come out. How messages travel (Authentication Send and Receive), and
//! what a queue may do before there is a verdict, is `nvmf`'s; when and on which thread the arithmetic is done, the control
//! side's.
//!
//! * [`Controller`] is our side of a transaction, [`Host`] the other one: for tests, and for hosts of ours.
//! * [`Key`] is a shared secret, in the text that nvme-cli, Linux and SPDK have for it. It is zeroed after use, and shown by nothing.
//! * [`Message`] is a message, byte by byte.
//!
//! ```text
//! host                                     controller
//!   AUTH_Negotiate: hashes, groups  ─────▶
//!                                   ◀─────  Challenge: hash, group, C1, S1, g^x
//!   Reply: R1, g^y (C2, S2)         ─────▶  R1 = HMAC(Kh, Ca1 ‖ S1 ‖ T_ID ‖ SC_C ‖ "HostHost" ‖ NQNh ‖ 0 ‖ NQNc)
//!                                   ◀─────  Success1 (R2)
//!  (Success2)                       ─────▶  R2 = HMAC(Kc, Ca2 ‖ S2 ‖ T_ID ‖ SC_C ‖ "Controller" ‖ NQNc ‖ 0 ‖ NQNh)
//!
//! Kh, Kc: the keys, transformed.  Ca = C without a group, else HMAC(H(g^xy), C).
//! ```
//!
//! # What is obeyed
//!
//! NVM Express Base Specification 2.0, 8.13 (2.1: 8.3.4):
//!
//! | what | where |
//! | --- | --- |
//! | AUTH_Negotiate: every protocol looked at, DH-HMAC-CHAP taken; lists within the bounds of their descriptor | `message`, `controller` |
//! | SHA-256, SHA-384, SHA-512; no group, ffdhe2048 to ffdhe8192: the first of the target's own order that the host offers | `controller`, `group` |
//! | a fresh challenge as long as the hash, a sequence number that is not 0, a fresh exponent for each transaction | `controller` |
//! | public values are as long as the prime, and within [2, p - 2] (RFC 7919, 5.1) | `group`, `controller` |
//! | augmented challenges, where there is a group | `transcript` |
//! | responses of either side, compared in constant time; a host's challenge is not ours sent back, and its sequence number not 0 | `controller` |
//! | the controller proves who it is if the host asks and there is a key for it | `controller` |
//! | AUTH_Failure1, with reason and explanation; AUTH_Failure2 ends it | `controller` |
//! | the T_ID of the Negotiate in every message | `controller`, `host` |
//! | secret keys: `DHHC-1`, lengths, checksum, transformation | `key` |
//!
//! # What is deliberately not done
//!
//! | what | why |
//! | --- | --- |
//! | secure channel concatenation (SC_C other than 0: a PSK for TLS out of the exchange) | refused with the reason that there is for it (03h): connections are not encrypted |
//! | other protocols | none is defined |
//! | authentication verification by a third party | keys are where the appliance is |
//!
//! # Why these libraries
//!
//! The responses are RustCrypto's `hmac` and `sha2`, comparisons `subtle`, zeroing `zeroize`: small, kept, without C. The groups
//! are `crypto-bigint`, of the same people: exponentiation in constant time, which `num-bigint` has not, and no second TLS library in
//! the program for five primes, which `openssl` or `aws-lc` would be. It is slower than those, by a factor of three or so: some
//! milliseconds for each side of an exchange, on a thread that nothing waits for but hosts that connect.
#![forbid(unsafe_code)]

mod controller;
mod group;
mod hash;
mod host;
mod key;
mod message;
mod transcript;

pub use controller::{Controller, HostKeys, Policy, Step, Verdict};
pub use group::Group;
pub use hash::{DIGEST_LEN_MAX, Hash};
pub use host::{Host, HostStep};
pub use key::{KEY_TEXT_LEN_MAX, Key, KeyError};
pub use message::{Body, Explanation, MESSAGE_LEN_MAX, Malformed, Message, Offer};
pub use transcript::Names;
