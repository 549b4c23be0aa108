//! Alerts, and what goes wrong with a connection (RFC 8446, 6).

use std::fmt;

/// Descriptions of alerts that are sent (RFC 8446, 6); others may be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Alert {
    /// The sender will send no more; no error.
    CloseNotify = 0,
    /// A message that must not come here.
    UnexpectedMessage = 10,
    /// A record that does not open.
    BadRecordMac = 20,
    /// A record that is too long.
    RecordOverflow = 22,
    /// No common parameters.
    HandshakeFailure = 40,
    /// A field out of range.
    IllegalParameter = 47,
    /// A message that cannot be read.
    DecodeError = 50,
    /// A Finished or a binder that is wrong.
    DecryptError = 51,
    /// No common version.
    ProtocolVersion = 70,
    /// Something of ours is at fault.
    InternalError = 80,
    /// The user gave up.
    UserCanceled = 90,
    /// An extension that must be there is not.
    MissingExtension = 109,
    /// No PSK identity that is known.
    UnknownPskIdentity = 115,
}

impl Alert {
    const ALL: [Alert; 13] = [
        Alert::CloseNotify,
        Alert::UnexpectedMessage,
        Alert::BadRecordMac,
        Alert::RecordOverflow,
        Alert::HandshakeFailure,
        Alert::IllegalParameter,
        Alert::DecodeError,
        Alert::DecryptError,
        Alert::ProtocolVersion,
        Alert::InternalError,
        Alert::UserCanceled,
        Alert::MissingExtension,
        Alert::UnknownPskIdentity,
    ];

    /// The alert with this number, if it is one that is known.
    pub fn of_number(number: u8) -> Option<Alert> {
        Alert::ALL.into_iter().find(|alert| *alert as u8 == number)
    }

    /// Its name in RFC 8446.
    pub const fn name(self) -> &'static str {
        match self {
            Alert::CloseNotify => "close_notify",
            Alert::UnexpectedMessage => "unexpected_message",
            Alert::BadRecordMac => "bad_record_mac",
            Alert::RecordOverflow => "record_overflow",
            Alert::HandshakeFailure => "handshake_failure",
            Alert::IllegalParameter => "illegal_parameter",
            Alert::DecodeError => "decode_error",
            Alert::DecryptError => "decrypt_error",
            Alert::ProtocolVersion => "protocol_version",
            Alert::InternalError => "internal_error",
            Alert::UserCanceled => "user_canceled",
            Alert::MissingExtension => "missing_extension",
            Alert::UnknownPskIdentity => "unknown_psk_identity",
        }
    }
}

/// Why a connection of records ends. Nothing comes out of an opener after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// We end it: the alert is to be [sent](crate::Sealer::alert), then the connection closed.
    Ours(Alert),
    /// The peer ended it with an alert of this number; nothing is to be sent.
    Theirs(u8),
    /// The peer has sent as much under one key as is safe (RFC 8446, 5.5), and took no new one: we close, and it may connect again.
    KeyWornOut,
}

impl Failure {
    /// The alert to send, if there is one to be sent.
    pub const fn alert(self) -> Option<Alert> {
        match self {
            Failure::Ours(alert) => Some(alert),
            Failure::Theirs(_) => None,
            Failure::KeyWornOut => Some(Alert::CloseNotify),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Failure::Ours(alert) => write!(f, "TLS: {}", alert.name()),
            Failure::Theirs(number) => match Alert::of_number(number) {
                Some(alert) => write!(f, "TLS: the peer sent the alert {}", alert.name()),
                None => write!(f, "TLS: the peer sent alert {number}"),
            },
            Failure::KeyWornOut => f.write_str(
                "TLS: the peer sent as much as is safe under one key, and takes no new one",
            ),
        }
    }
}

impl std::error::Error for Failure {}
