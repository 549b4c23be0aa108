//! Why hosts were dropped, for the log.
//!
//! When a session ends its connection, or TCP gives it up, what is known of it is noted here, in
//! memory that is there already. Between turns lines are made of it: one a second for each reason at
//! most, however many hosts go.

use std::fmt::Write;

use nvmf::pdu::FatalStatus;
use nvmf::{
    CloseReason, Cntlid, Departure, Endpoints, HandshakeFault, NQN_LEN_MAX, Qid, Timestamp,
};

/// Between two lines for one reason, in milliseconds.
const INTERVAL_MS: u64 = 1000;

/// Hosts that were dropped, and not yet written of.
pub(crate) struct Drops {
    by_reason: Box<[Reason]>,
}

/// Those that were dropped for one reason.
#[derive(Clone)]
struct Reason {
    /// The first since the last line.
    first: Option<Record>,
    /// How many more.
    more: u64,
    /// When the next line may come.
    next: Timestamp,
}

/// A host that was dropped.
#[derive(Clone)]
struct Record {
    reason: CloseReason,
    endpoints: Endpoints,
    queue: Option<(Cntlid, Qid)>,
    host: [u8; NQN_LEN_MAX],
    host_len: u8,
}

/// Reasons that are told apart.
const REASONS: usize = 26;

/// The place of a reason; none for what is no news: the host went by itself, or the Admin Queue of
/// its controller says why.
fn place(departure: &Departure<'_>) -> Option<usize> {
    let is_admin = departure.queue.is_some_and(|(_, qid, _)| qid == Qid::ADMIN);
    Some(match departure.reason {
        CloseReason::Disconnected | CloseReason::ConnectionLost => return None,
        CloseReason::ControllerGone if !is_admin => return None,
        CloseReason::ControllerGone => 0,
        CloseReason::HandshakeTimeout => 1,
        CloseReason::KeepAliveTimeout => 2,
        CloseReason::DataTimeout => 3,
        CloseReason::SendTimeout => 4,
        CloseReason::WantOfResources => 5,
        CloseReason::Unresponsive => 6,
        CloseReason::TerminatedByHost(_) => 7,
        CloseReason::Malformed(status) => match status {
            FatalStatus::InvalidHeaderField => 8,
            FatalStatus::SequenceError => 9,
            FatalStatus::HeaderDigestError => 10,
            FatalStatus::DataOutOfRange => 11,
            FatalStatus::DataLimitExceeded => 12,
            FatalStatus::UnsupportedParameter => 13,
        },
        CloseReason::AuthenticationFailed => 14,
        CloseReason::AuthenticationTimeout => 15,
        CloseReason::NotSecured(fault) => match fault {
            HandshakeFault::UnknownIdentity => 16,
            HandshakeFault::WrongKey => 17,
            HandshakeFault::HashOfBinder => 24,
            HandshakeFault::NothingInCommon | HandshakeFault::Malformed => 18,
            HandshakeFault::Alert(_) => 19,
            HandshakeFault::Internal | HandshakeFault::Crowded => 20,
        },
        CloseReason::InTheClear => 21,
        CloseReason::BadRecord(_) | CloseReason::Alerted(_) => 22,
        CloseReason::KeyWornOut => 23,
        CloseReason::NotLetIn => 25,
    })
}

/// What happened, and what to do about it.
fn cause_and_remedy(reason: CloseReason) -> (&'static str, &'static str) {
    const CAPTURE: &str = "one of the two is at fault: `throughline capture` shows the PDUs";
    match reason {
        CloseReason::ControllerGone => (
            "its subsystem was removed, or lets it in no more",
            "`throughline rpc nvmf_get_subsystems` shows who may connect",
        ),
        CloseReason::HandshakeTimeout => (
            "it connected and did not become a queue in time",
            "if it is a host, look for what holds it up; a probe of a monitor looks like this too",
        ),
        CloseReason::KeepAliveTimeout => (
            "it was silent for longer than its Keep Alive Timeout",
            "see whether it is up, and the network between; a host may ask for a longer timeout \
             (`nvme connect --keep-alive-tmo`)",
        ),
        CloseReason::AuthenticationFailed => (
            "it could not prove that it is that host (DH-HMAC-CHAP), or found that this is not the controller it wants",
            "compare its --dhchap-secret and --dhchap-ctrl-secret with the keys that `throughline rpc nvmf_get_subsystems` \
             names; if it is not one of yours, somebody tries",
        ),
        CloseReason::AuthenticationTimeout => (
            "it did not prove in time that it is that host (DH-HMAC-CHAP)",
            "give it its key (`nvme connect --dhchap-secret`); if it is not one of yours, somebody tries",
        ),
        CloseReason::NotSecured(fault) => not_secured(fault),
        CloseReason::InTheClear => (
            "it spoke in the clear where TLS is required",
            "connect with TLS (`nvme connect --tls`), or by a listener that has `tls = \"allowed\"`",
        ),
        CloseReason::BadRecord(_) => (
            "what it sent on an encrypted connection could not be opened",
            "bytes are damaged between its TLS and ours, or somebody changes them: look at NICs, cables and switches",
        ),
        CloseReason::KeyWornOut => (
            "as much went over it as may under one key of TLS",
            "nothing: it connects again; for hosts that take new keys, which Linux does not, there is `tls_key_update = true` in [target]",
        ),
        CloseReason::Alerted(_) => (
            "it ended the encrypted connection with an alert",
            "its own log says why",
        ),
        CloseReason::NotLetIn => (
            "it is not let in there, or not without TLS",
            "`throughline rpc nvmf_get_subsystems` shows who may connect: a host with a PSK connects with TLS (`nvme connect --tls`); \
             if it is not one of yours, somebody tries",
        ),
        CloseReason::DataTimeout => (
            "it did not send the data of a write, or the rest of a PDU, in time",
            "see whether it hangs, and whether the network between loses frames (`throughline top`)",
        ),
        CloseReason::SendTimeout => (
            "it did not read what was sent to it",
            "see whether it hangs, and whether the network between loses frames (`throughline top`)",
        ),
        CloseReason::WantOfResources => (
            "others waited for command slots or memory that it held, and it sent and read nothing \
             for a second",
            "if that is often, raise `requests`, `clusters` and `pages` in [memory]",
        ),
        CloseReason::Unresponsive => (
            "it acknowledged nothing any more",
            "see whether it is up, and the network between",
        ),
        CloseReason::TerminatedByHost(_) => (
            "it found fault with a PDU of ours, and said so (H2CTermReq)",
            CAPTURE,
        ),
        CloseReason::Malformed(FatalStatus::HeaderDigestError) => (
            "the digest of a PDU's header did not match",
            "bytes are damaged between its NVMe/TCP and ours: look at NICs, cables and switches",
        ),
        CloseReason::Malformed(FatalStatus::SequenceError) => (
            "it sent a PDU out of order, or more commands than its queue has entries",
            CAPTURE,
        ),
        CloseReason::Malformed(FatalStatus::DataOutOfRange) => {
            ("it sent data that was not requested of it", CAPTURE)
        }
        CloseReason::Malformed(FatalStatus::DataLimitExceeded) => {
            ("it sent more data in a PDU than it may", CAPTURE)
        }
        CloseReason::Malformed(FatalStatus::UnsupportedParameter) => (
            "it asked for what this version of NVMe/TCP has not (PFV)",
            "use a host that speaks NVMe/TCP 1.0",
        ),
        CloseReason::Malformed(FatalStatus::InvalidHeaderField) => (
            "it sent a PDU with a field that cannot be",
            "if it connects with TLS, its listener has none (`tls = \"allowed\"`); else one of the two is at fault: \
             `throughline capture` shows the PDUs",
        ),
        CloseReason::Disconnected | CloseReason::ConnectionLost => ("it went", "nothing"),
    }
}

/// Why there was no encrypted connection, and what to do about it.
fn not_secured(fault: HandshakeFault) -> (&'static str, &'static str) {
    match fault {
        HandshakeFault::UnknownIdentity => (
            "it offers a PSK that there is none of (TLS)",
            "give it one: `psk` of the host, for the subsystem that it names; if it is not one of yours, somebody tries",
        ),
        HandshakeFault::WrongKey => (
            "it does not have the PSK that it offers (TLS)",
            "compare its key with the one that `throughline rpc nvmf_get_subsystems` names; if it is not one of yours, \
             somebody tries",
        ),
        HandshakeFault::HashOfBinder => (
            "it proves its PSK with another hash than the key's (TLS): GnuTLS before 3.8.11, which tlshd uses, takes SHA-256 alone",
            "give host and target a key of SHA-256 (`throughline key gen --tls`, NVMeTLSkey-1:01), or the host a newer GnuTLS and tlshd",
        ),
        HandshakeFault::NothingInCommon | HandshakeFault::Malformed => (
            "its handshake offers nothing that is taken (TLS)",
            "use TLS 1.3 with a PSK of NVMe/TCP, TLS_AES_128_GCM_SHA256 or TLS_AES_256_GCM_SHA384, and psk_dhe_ke",
        ),
        HandshakeFault::Alert(_) => (
            "it ended the handshake with an alert (TLS)",
            "its own log says why: tlshd's, where it is Linux's",
        ),
        HandshakeFault::Internal => (
            "its handshake failed for a fault of ours (TLS)",
            "the line before this one says what it was",
        ),
        HandshakeFault::Crowded => (
            "it did not go on with its handshake while others came (TLS)",
            "if it is not one of yours, somebody tries",
        ),
    }
}

impl Drops {
    pub(crate) fn new() -> Self {
        let none = Reason {
            first: None,
            more: 0,
            next: Timestamp(0),
        };
        Self {
            by_reason: vec![none; REASONS].into(),
        }
    }

    /// A connection ends.
    /// `claimed`: the host that the peer says it is, where no more is known of it.
    pub(crate) fn note(&mut self, departure: &Departure<'_>, claimed: Option<&str>) {
        let Some(reason) = place(departure).and_then(|at| self.by_reason.get_mut(at)) else {
            return;
        };
        if reason.first.is_some() {
            reason.more += 1;
        } else {
            reason.first = Some(Record::of(departure, claimed));
        }
    }

    /// The next line that is due.
    pub(crate) fn line(&mut self, now: Timestamp) -> Option<String> {
        let mut reasons = self.by_reason.iter_mut();
        let due = reasons.find(|reason| reason.first.is_some() && now >= reason.next)?;
        due.next = now.plus_ms(INTERVAL_MS);
        let more = std::mem::take(&mut due.more);
        due.first.take().map(|first| first.describe(more))
    }
}

impl Record {
    fn of(departure: &Departure<'_>, claimed: Option<&str>) -> Self {
        let mut host = [0; NQN_LEN_MAX];
        let name = departure.queue.map(|(_, _, host)| host);
        let name = name.or(departure.claimed).or(claimed);
        let name = name.unwrap_or_default().as_bytes();
        let len = name.len().min(NQN_LEN_MAX);
        host[..len].copy_from_slice(&name[..len]);
        Self {
            reason: departure.reason,
            endpoints: departure.endpoints,
            queue: departure.queue.map(|(cntlid, qid, _)| (cntlid, qid)),
            host,
            host_len: len as u8,
        }
    }

    /// The line about it, and `more` others.
    fn describe(&self, more: u64) -> String {
        let (what, remedy) = cause_and_remedy(self.reason);
        let mut line = String::from("dropped ");
        let name = &self.host[..usize::from(self.host_len)];
        // What a peer says of itself may be anything.
        let name = str::from_utf8(name)
            .unwrap_or("?")
            .escape_debug()
            .to_string();
        let name = name.as_str();
        // Writing to a string never fails.
        let _ = match self.queue {
            None if name.is_empty() => write!(line, "a connection"),
            None => write!(line, "a connection of whoever says to be host {name},"),
            Some((cntlid, qid)) => {
                let name = match name {
                    "" => "without a name",
                    name => name,
                };
                write!(line, "host {name}, controller {cntlid}, queue {qid},")
            }
        };
        let _ = write!(
            line,
            " from {} at {}: {what}",
            self.endpoints.host, self.endpoints.local
        );
        if let CloseReason::TerminatedByHost(status) = self.reason {
            let _ = write!(line, " with FES {status:#x}");
        }
        if more > 0 {
            let _ = write!(line, "; and {more} more for that reason");
        }
        let _ = write!(line, ". {}{}", remedy[..1].to_uppercase(), &remedy[1..]);
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "nqn.2026-01.com.example:host0";

    fn departure(reason: CloseReason, qid: Option<u16>) -> Departure<'static> {
        Departure {
            reason,
            endpoints: Endpoints {
                local: "192.0.2.1:4420".parse().unwrap(),
                host: "192.0.2.9:40000".parse().unwrap(),
            },
            queue: qid.map(|qid| (Cntlid(7), Qid(qid), HOST)),
            claimed: None,
        }
    }

    #[test]
    fn k08_a_line_says_who_from_where_why_and_what_to_do() {
        let mut drops = Drops::new();
        drops.note(&departure(CloseReason::KeepAliveTimeout, Some(0)), None);
        let line = drops.line(Timestamp(5)).unwrap();
        for part in [
            HOST,
            "controller 7, queue 0",
            "192.0.2.9:40000",
            "192.0.2.1:4420",
            "Keep Alive Timeout",
            "--keep-alive-tmo",
        ] {
            assert!(line.contains(part), "{line}");
        }
        assert!(!line.contains("more for that reason"), "{line}");
        assert_eq!(drops.line(Timestamp(5)), None);
        // Before Connect nobody knows whose it is.
        drops.note(&departure(CloseReason::HandshakeTimeout, None), None);
        let line = drops.line(Timestamp(5)).unwrap();
        assert!(
            line.starts_with("dropped a connection from 192.0.2.9:40000"),
            "{line}"
        );
        drops.note(&departure(CloseReason::TerminatedByHost(3), Some(1)), None);
        assert!(drops.line(Timestamp(5)).unwrap().contains("FES 0x3"));
    }

    #[test]
    fn k08_each_reason_has_a_line_a_second_at_most() {
        let mut drops = Drops::new();
        let malformed = CloseReason::Malformed(FatalStatus::HeaderDigestError);
        for _ in 0..1000 {
            drops.note(&departure(malformed, Some(1)), None);
        }
        let line = drops.line(Timestamp(10)).unwrap();
        assert!(line.contains("and 999 more for that reason"), "{line}");
        drops.note(&departure(malformed, Some(2)), None);
        drops.note(&departure(malformed, Some(3)), None);
        assert_eq!(drops.line(Timestamp(1009)), None);
        // Another reason waits for nothing.
        drops.note(&departure(CloseReason::SendTimeout, Some(1)), None);
        assert!(
            drops
                .line(Timestamp(1009))
                .unwrap()
                .contains("did not read")
        );
        let line = drops.line(Timestamp(1010)).unwrap();
        assert!(
            line.contains("queue 2") && line.contains("and 1 more"),
            "{line}"
        );
        assert_eq!(drops.line(Timestamp(9999)), None);
    }

    #[test]
    fn k08_who_goes_by_himself_is_no_news() {
        let mut drops = Drops::new();
        drops.note(&departure(CloseReason::Disconnected, Some(1)), None);
        drops.note(&departure(CloseReason::ConnectionLost, Some(0)), None);
        // Its Admin Queue says why, if there is anything to say.
        drops.note(&departure(CloseReason::ControllerGone, Some(1)), None);
        assert_eq!(drops.line(Timestamp(0)), None);
        drops.note(&departure(CloseReason::ControllerGone, Some(0)), None);
        assert!(drops.line(Timestamp(0)).is_some());
    }

    #[test]
    fn k08_every_reason_has_a_place_and_a_line_of_its_own() {
        use FatalStatus::*;
        let malformed = [
            InvalidHeaderField,
            SequenceError,
            HeaderDigestError,
            DataOutOfRange,
            DataLimitExceeded,
            UnsupportedParameter,
        ];
        let mut reasons = vec![
            CloseReason::ControllerGone,
            CloseReason::HandshakeTimeout,
            CloseReason::KeepAliveTimeout,
            CloseReason::DataTimeout,
            CloseReason::SendTimeout,
            CloseReason::WantOfResources,
            CloseReason::Unresponsive,
            CloseReason::TerminatedByHost(1),
            CloseReason::AuthenticationFailed,
            CloseReason::AuthenticationTimeout,
            CloseReason::NotSecured(HandshakeFault::UnknownIdentity),
            CloseReason::NotSecured(HandshakeFault::WrongKey),
            CloseReason::NotSecured(HandshakeFault::HashOfBinder),
            CloseReason::NotSecured(HandshakeFault::Malformed),
            CloseReason::NotSecured(HandshakeFault::Alert(40)),
            CloseReason::NotSecured(HandshakeFault::Crowded),
            CloseReason::InTheClear,
            CloseReason::BadRecord(20),
            CloseReason::KeyWornOut,
            CloseReason::NotLetIn,
        ];
        reasons.extend(malformed.map(CloseReason::Malformed));
        assert_eq!(reasons.len(), REASONS);
        let mut drops = Drops::new();
        reasons
            .iter()
            .for_each(|&reason| drops.note(&departure(reason, Some(0)), None));
        let mut lines: Vec<_> = std::iter::from_fn(|| drops.line(Timestamp(0))).collect();
        lines.sort();
        lines.dedup();
        assert_eq!(lines.len(), REASONS);
    }
}
