//! Protocol data units: a checked view over the bytes, and a value for each type.
//!
//! A [`HeaderView`] is a PDU header whose common fields agree with each other
//! and with what the connection negotiated; the values ([`IcReq`], [`R2t`] …)
//! are read from one, and written to a [`HeaderBytes`].
//!
//! Source: NVM Express TCP Transport Specification 1.0, 3.6 (PDU definitions),
//! 3.5 (errors).

mod connection;
mod header;
mod transfer;

pub use connection::{IcReq, IcResp, TermReq};
pub(crate) use header::DIGEST_LEN;
pub use header::{FatalError, FatalStatus, Flags, Format, HeaderBytes, HeaderView, PduType};
pub use transfer::{C2hData, CapsuleCmd, CapsuleResp, H2cData, R2t};
