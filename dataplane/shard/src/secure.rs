//! What is between TCP and a door where there is TLS: how a connection begins, and its records from then on.
//!
//! ```text
//!            ┌───────── first octet ─────────┐
//!            │ 16h                           │ anything else
//!            ▼                               ▼
//!        handshake ──▶ records           in the clear (where that is allowed)
//!            │            │
//!            └──▶ over ◀──┘
//! ```
//!
//! The handshake is done at the desk ([`nvmf::AuthDesk`]), off the polling cores, a record at a time: nothing is read
//! meanwhile, and nothing that came behind the peer's last record of it is ever seen by it.
//!
//! A host is always the client. Of two nodes of a pair the one that opens the connection is; it begins the handshake when TCP has connected.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mirror::LinkPsk;
use mutant::mutant;
use nvmf::{CloseReason, HandshakeFault, PskNames, Target, Tls};
use pages::{Chunk, Inline, Slice};
use tls::{
    Alert, Established, HANDSHAKE_BYTES_MAX, HANDSHAKE_CONTENT_TYPE, HEADER_LEN, HandshakeReason,
    Handshaker, Handshakes, Hash, Identity, Limits, Opener, Progress, PskTable, Sealer, Step,
    TlsPsk,
};

/// What makes handshakes, for the thread that does them.
pub type SharedHandshakes = Arc<Mutex<Box<dyn Handshakes>>>;

/// What encrypted connections of a shard share.
#[derive(Default)]
pub struct TlsDoor {
    /// None: there is no TLS, and listeners cannot have it.
    pub handshakes: Option<SharedHandshakes>,
    /// When keys are replaced.
    pub limits: Limits,
    /// Hosts take new keys (KeyUpdate); else a connection ends when its key is worn out. Linux's NVMe/TCP takes none, to 7.2 at least: a
    /// queue that gets one hangs until its commands time out.
    pub updates_keys: bool,
    /// What connections of other nodes that come in are encrypted by.
    pub link_psks: Arc<PskTable>,
    /// What is counted of them.
    pub counters: TlsCounters,
}

events::counters! {
    /// What happened on a shard's encrypted connections since it started.
    pub struct TlsCounters {
        /// Handshakes that succeeded.
        handshakes,
        /// Handshakes that failed, and connections in the clear where every one is to be encrypted.
        handshake_failures,
        /// Bytes of plaintext that records were opened to.
        opened_bytes,
        /// Bytes of plaintext that records were sealed from.
        sealed_bytes,
        /// New keys that peers took, and that were taken.
        key_updates,
        /// Connections that ended because what came could not be opened, or was none of what may come.
        bad_records,
        /// Times that a connection waited for free pages to open or seal into.
        page_waits,
    }
}

impl TlsCounters {
    /// A connection ends for this reason.
    pub(crate) fn note(&mut self, reason: CloseReason) {
        match reason {
            CloseReason::NotSecured(_) | CloseReason::InTheClear => self.handshake_failures += 1,
            CloseReason::BadRecord(_) => self.bad_records += 1,
            _ => {}
        }
    }
}

/// Whose connection it is, and so by whose keys it is encrypted.
enum Peer {
    /// A host's, which came in.
    Host(Tls),
    /// Another node's, which came in.
    Opener(Tls),
    /// Ours, to another node.
    Acceptor(TlsPsk),
}

/// What the handshake proved.
pub(crate) enum Proved {
    /// A host and the subsystem that it wants.
    Host(PskNames),
    /// Both nodes of a link: the identity that names them, and the suite.
    Node(String, &'static str),
}

/// The hash of links' keys, and so their suite: TLS_AES_128_GCM_SHA256, the faster one, whose keys are of a pair's key of 256 bits.
const LINK_HASH: Hash = Hash::Sha256;

/// As the handshake takes it.
pub(crate) fn link_key(psk: &LinkPsk) -> TlsPsk {
    (TlsPsk::external(&psk.identity, LINK_HASH, &psk.secret)).expect("as long as the hash")
}

/// What another node is told, in the clear, that begins as it is not to: a record with the alert handshake_failure (RFC 8446, 6.2).
const NOT_AS_HERE: [u8; 7] = [21, 3, 3, 0, 2, 2, Alert::HandshakeFailure as u8];

/// A connection where there is TLS, or may be.
pub(crate) struct Secure {
    peer: Peer,
    pub(crate) state: State,
    /// What came and was not looked at yet.
    pub(crate) rest: Option<Slice>,
    /// What the handshake has to say, and how much of it is out.
    out: Vec<u8>,
    out_sent: usize,
    /// It waits for free pages.
    pub(crate) wants_page: bool,
    /// The host that the peer says it is, if no more is known of it.
    pub(crate) claimed: Option<String>,
}

/// How far it is.
pub(crate) enum State {
    /// Nothing has come.
    Fresh,
    /// Who it is, is being proved.
    Handshake(Handshake),
    /// It is encrypted.
    Open(Box<Records>),
    /// It ends: what is still to be said is in the clear.
    Over,
}

/// Whose keys a handshake is about.
enum Keys {
    Target(Arc<Target>),
    Links(Arc<PskTable>),
    Ours(TlsPsk),
}

/// A handshake under way.
#[derive(Default)]
pub(crate) struct Handshake {
    seat: Arc<Seat>,
    is_at_desk: bool,
    /// The record that is coming.
    record: Vec<u8>,
    /// Bytes of those before it.
    bytes: usize,
}

/// What the desk has of a handshake.
#[derive(Default)]
struct Seat {
    /// Locked by whoever works on it alone.
    handshaker: Mutex<Option<Box<dyn Handshaker>>>,
    answer: Mutex<Option<Step>>,
}

/// Both directions of an encrypted connection.
pub(crate) struct Records {
    pub(crate) opener: Opener,
    pub(crate) sealer: Sealer,
    /// Sealed, and TCP had no room for it.
    pub(crate) held: Option<Chunk>,
    /// The last record was sealed.
    pub(crate) is_ended: bool,
    /// The peer was asked for a new key of its own.
    pub(crate) has_asked: bool,
    /// In the link's list of those with a record that is begun.
    pub(crate) is_listed: bool,
}

impl Records {
    /// Whether there is something that TCP has not been given.
    pub(crate) fn holds(&self) -> bool {
        self.held.is_some() || !self.sealer.is_empty()
    }
}

/// What became of bytes of a handshake.
pub(crate) enum Heard {
    /// It needs more.
    Wants,
    /// A record is whole, and for the desk.
    Record(Vec<u8>),
    /// It is no handshake.
    Fault(HandshakeFault),
}

/// What an answer of the desk comes to.
pub(crate) enum Came {
    /// It goes on.
    On,
    /// The connection is encrypted.
    Open(Proved),
    /// It is not to be.
    Failed(CloseReason),
}

impl Secure {
    /// A host's that came in where there is TLS.
    pub(crate) fn new(tls: Tls) -> Self {
        Self::with(Peer::Host(tls))
    }

    /// Another node's that came in. Without TLS it is told apart all the same.
    pub(crate) fn of_node(tls: Tls) -> Self {
        Self::with(Peer::Opener(tls))
    }

    /// Ours to another node.
    pub(crate) fn to_node(key: TlsPsk) -> Self {
        Self::with(Peer::Acceptor(key))
    }

    fn with(peer: Peer) -> Self {
        Self {
            peer,
            state: State::Fresh,
            rest: None,
            out: Vec::new(),
            out_sent: 0,
            wants_page: false,
            claimed: None,
        }
    }

    /// Whether the desk has a record of it.
    pub(crate) fn is_at_desk(&self) -> bool {
        matches!(&self.state, State::Handshake(handshake) if handshake.is_at_desk)
    }

    /// Whether it is being proved who the peer is.
    pub(crate) fn is_in_handshake(&self) -> bool {
        matches!(self.state, State::Handshake(_))
    }

    /// The first slice tells how it goes on: true if by a handshake, false if in the clear.
    ///
    /// # Errors
    /// It may not be in the clear here.
    pub(crate) fn begin(&mut self, slice: &Slice) -> Result<bool, CloseReason> {
        let is_tls = slice.bytes().first() == Some(&HANDSHAKE_CONTENT_TYPE);
        match (&self.peer, is_tls) {
            (Peer::Opener(Tls::Off), true) => {
                self.out = NOT_AS_HERE.to_vec();
                Err(CloseReason::NotSecured(HandshakeFault::NothingInCommon))
            }
            (Peer::Host(_) | Peer::Opener(_), true) => {
                self.state = State::Handshake(Handshake::default());
                Ok(true)
            }
            (Peer::Opener(Tls::Required), false) if !mutant!("link-in-clear-let-in") => {
                self.out = NOT_AS_HERE.to_vec();
                Err(CloseReason::InTheClear)
            }
            (Peer::Host(Tls::Required) | Peer::Acceptor(_), _) => Err(CloseReason::InTheClear),
            (Peer::Host(_) | Peer::Opener(_), false) => Ok(false),
        }
    }

    /// TCP has connected it: if it is ours, the handshake begins.
    pub(crate) fn connect(&mut self, peer: IpAddr, target: &Arc<Target>, door: &TlsDoor) {
        if matches!((&self.peer, &self.state), (Peer::Acceptor(_), State::Fresh)) {
            self.state = State::Handshake(Handshake::default());
            self.ask(peer, Vec::new(), target, door);
        }
    }

    /// The last thing that the handshake says, or said: nothing is read any more.
    pub(crate) fn end(&mut self) {
        self.rest = None;
        if !matches!(self.state, State::Open(_)) {
            self.state = State::Over;
        }
    }

    /// Leaves a record at the desk.
    pub(crate) fn ask(
        &mut self,
        peer: IpAddr,
        record: Vec<u8>,
        target: &Arc<Target>,
        door: &TlsDoor,
    ) {
        let (State::Handshake(handshake), Some(makes)) = (&mut self.state, &door.handshakes) else {
            return;
        };
        handshake.is_at_desk = true;
        let (seat, makes) = (Arc::clone(&handshake.seat), Arc::clone(makes));
        let keys = match &self.peer {
            Peer::Host(_) => Keys::Target(Arc::clone(target)),
            Peer::Opener(_) => Keys::Links(Arc::clone(&door.link_psks)),
            Peer::Acceptor(key) => Keys::Ours(key.clone()),
        };
        target.auth_desk().ask(
            peer,
            Box::new(move |_| {
                // Nobody waits for what a connection asked that is gone.
                if Arc::strong_count(&seat) == 1 {
                    return false;
                }
                let mut handshaker = lock(&seat.handshaker);
                let make = || match &keys {
                    Keys::Target(target) => lock(&makes).accept(target.psks()),
                    Keys::Links(psks) => lock(&makes).accept(Arc::clone(psks)),
                    Keys::Ours(key) => lock(&makes).connect(key),
                };
                let step = handshaker.get_or_insert_with(make).advance(&record);
                *lock(&seat.answer) = Some(step);
                true
            }),
        );
    }

    /// Takes the answer of the desk, if there is one.
    pub(crate) fn answer(&mut self, limits: Limits, updates_keys: bool) -> Option<Came> {
        let State::Handshake(handshake) = &mut self.state else {
            return None;
        };
        let Step { send, progress } = lock(&handshake.seat.answer).take()?;
        handshake.is_at_desk = false;
        self.out = send;
        self.out_sent = 0;
        Some(match progress {
            Progress::Wants => Came::On,
            Progress::Done(established) => self.establish(&established, limits, updates_keys),
            Progress::Failed(failure) => {
                let offered = failure.identity.as_deref().map(str::as_bytes);
                let offered = offered.and_then(Identity::read);
                self.claimed = offered.map(|identity| identity.host);
                Came::Failed(CloseReason::NotSecured(fault(&failure.reason)))
            }
        })
    }

    fn establish(&mut self, established: &Established, limits: Limits, updates_keys: bool) -> Came {
        // A record at a time was fed: behind the last there is nothing, unless two messages were in one.
        let proved = match &self.peer {
            Peer::Host(_) => Identity::read(&established.identity).map(|identity| {
                Proved::Host(PskNames {
                    host: identity.host,
                    subsystem: identity.subsystem,
                })
            }),
            Peer::Opener(_) | Peer::Acceptor(_) => {
                let identity = String::from_utf8(established.identity.clone());
                let identity = identity.ok();
                identity.map(|identity| Proved::Node(identity, established.suite.name()))
            }
        };
        let (Some(proved), true) = (proved, established.unread.is_empty()) else {
            return Came::Failed(CloseReason::NotSecured(HandshakeFault::Malformed));
        };
        let sealer = Sealer::new(established).with_limits(limits);
        self.state = State::Open(Box::new(Records {
            opener: Opener::new(established).with_limits(limits),
            sealer: match &self.peer {
                Peer::Host(_) if updates_keys => sealer,
                Peer::Host(_) => sealer.without_updates(),
                // Other nodes take new keys, whatever hosts do, and keep what they open where it came in.
                Peer::Opener(_) | Peer::Acceptor(_) => sealer.with_whole_pages(),
            },
            held: None,
            is_ended: false,
            has_asked: false,
            is_listed: false,
        }));
        Came::Open(proved)
    }

    /// Sends what the handshake has to say, by `send`, as far as there is room; whether all is out.
    pub(crate) fn say(&mut self, mut send: impl FnMut(Chunk) -> Result<(), Chunk>) -> bool {
        while let Some(rest) = self
            .out
            .get(self.out_sent..)
            .filter(|rest| !rest.is_empty())
        {
            let len = rest.len().min(Inline::CAPACITY);
            let Some(inline) = Inline::new(&rest[..len]) else {
                break;
            };
            if send(Chunk::Inline(inline)).is_err() {
                return false;
            }
            self.out_sent += len;
        }
        self.out = Vec::new();
        self.out_sent = 0;
        true
    }
}

impl Handshake {
    /// Takes bytes off `slice` until a record is whole.
    pub(crate) fn hear(&mut self, slice: &mut Slice) -> Heard {
        let header = HEADER_LEN.saturating_sub(self.record.len());
        self.take(slice, header);
        let Some(len) = self.record.get(3..HEADER_LEN) else {
            return Heard::Wants;
        };
        let whole = HEADER_LEN + usize::from(u16::from_be_bytes([len[0], len[1]]));
        if self.bytes + whole > HANDSHAKE_BYTES_MAX {
            return Heard::Fault(HandshakeFault::Malformed);
        }
        self.take(slice, whole - self.record.len());
        if self.record.len() < whole {
            return Heard::Wants;
        }
        self.bytes += whole;
        Heard::Record(std::mem::take(&mut self.record))
    }

    fn take(&mut self, slice: &mut Slice, most: usize) {
        let len = most.min(slice.len());
        self.record.extend_from_slice(&slice.bytes()[..len]);
        slice.advance(len);
    }
}

/// What a peer is told last for a failure, and why its connection ends. Whose alert came is told nothing, nor is anything but the farewell who
/// may connect again.
pub(crate) const fn alert_of(failure: tls::Failure) -> (Option<Alert>, CloseReason) {
    match failure {
        tls::Failure::Ours(alert) => (Some(alert), CloseReason::BadRecord(alert as u8)),
        tls::Failure::KeyWornOut => (None, CloseReason::KeyWornOut),
        tls::Failure::Theirs(number) => (None, CloseReason::Alerted(number)),
    }
}

/// Why there is no connection with another node, and what the operator can do about it; `is_ours`: it was opened here.
pub(crate) fn link_fault(reason: CloseReason, is_ours: bool) -> String {
    const SAME: &str = "write the same `tls` in [pair] of both nodes";
    const KEYS: &str = "compare the key files of both nodes";
    const DECRYPT_ERROR: u8 = Alert::DecryptError as u8;
    const HANDSHAKE_FAILURE: u8 = Alert::HandshakeFailure as u8;
    use HandshakeFault as Fault;
    match reason {
        CloseReason::InTheClear => {
            format!("it is in the clear, and the link is to be in TLS: {SAME}")
        }
        CloseReason::NotSecured(fault) => match fault {
            Fault::WrongKey => format!("TLS: its key is another one: {KEYS}"),
            Fault::UnknownIdentity => format!(
                "TLS: it is of no node whose link is in TLS here: compare `node` and `peer` of both, and {SAME}"
            ),
            Fault::HashOfBinder => "TLS: its key is proved with another hash".into(),
            Fault::NothingInCommon if is_ours => {
                format!("TLS: the two have nothing in common: {SAME}")
            }
            Fault::NothingInCommon => format!("it begins with TLS as it is not taken here: {SAME}"),
            Fault::Alert(DECRYPT_ERROR) => {
                format!("TLS: the other node does not take this one's key: {KEYS}, and {SAME}")
            }
            Fault::Alert(HANDSHAKE_FAILURE) => {
                format!("TLS: the other node does not take it: {SAME}")
            }
            Fault::Alert(number) => {
                format!("TLS: the other node ended the handshake with alert {number}")
            }
            Fault::Malformed => {
                "TLS: what comes is no handshake: has the other program TLS?".into()
            }
            Fault::Internal => {
                "TLS: something of this node's failed; another line says what".into()
            }
            Fault::Crowded => "TLS: others came when too many had not gone on".into(),
        },
        CloseReason::BadRecord(alert) => {
            format!("TLS: what came could not be opened, or may not come (alert {alert})")
        }
        CloseReason::Alerted(number) => format!("TLS: the other node ended it with alert {number}"),
        CloseReason::KeyWornOut => "TLS: the other node takes no new key".into(),
        other => format!("{other:?}"),
    }
}

fn fault(reason: &HandshakeReason) -> HandshakeFault {
    match reason {
        HandshakeReason::UnknownIdentity => HandshakeFault::UnknownIdentity,
        HandshakeReason::WrongKey => HandshakeFault::WrongKey,
        HandshakeReason::HashOfBinder => HandshakeFault::HashOfBinder,
        HandshakeReason::NothingInCommon => HandshakeFault::NothingInCommon,
        HandshakeReason::TooMuch | HandshakeReason::Malformed => HandshakeFault::Malformed,
        HandshakeReason::Alert(number) => HandshakeFault::Alert(*number),
        HandshakeReason::Library(why) => {
            log::error!("TLS: {why}");
            HandshakeFault::Internal
        }
    }
}

/// Locks, whatever a panicking holder may have left: what is in it is replaced whole.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use pages::{Arena, ClusterPool, HeapRegion};

    use super::*;

    fn slice(pool: &ClusterPool, bytes: &[u8]) -> Slice {
        let mut fresh = pool.alloc().unwrap();
        fresh[..bytes.len()].copy_from_slice(bytes);
        fresh.freeze_filled(bytes.len()).slice(0..bytes.len())
    }

    fn pool() -> ClusterPool {
        ClusterPool::carve(&Arena::new(HeapRegion::new(64)), 64, 4096).unwrap()
    }

    /// A handshake that has begun with these bytes.
    fn begun(pool: &ClusterPool, bytes: &[u8]) -> Secure {
        let mut secure = Secure::new(Tls::Required);
        assert_eq!(secure.begin(&slice(pool, bytes)), Ok(true));
        secure
    }

    /// The records that come out of bytes in cuts of `len`, until it is no handshake.
    fn records(bytes: &[u8], len: usize) -> (Vec<Vec<u8>>, Option<HandshakeFault>) {
        let pool = pool();
        let mut secure = begun(&pool, &bytes[..1]);
        let State::Handshake(handshake) = &mut secure.state else {
            panic!("it has begun");
        };
        let mut records = Vec::new();
        for part in bytes.chunks(len) {
            let mut slice = slice(&pool, part);
            while !slice.is_empty() {
                match handshake.hear(&mut slice) {
                    Heard::Wants => assert!(slice.is_empty(), "all was looked at"),
                    Heard::Record(record) => records.push(record),
                    Heard::Fault(fault) => return (records, Some(fault)),
                }
            }
        }
        (records, None)
    }

    fn record(kind: u8, len: usize) -> Vec<u8> {
        let len = len as u16;
        let header = [kind, 3, 3, (len >> 8) as u8, len as u8];
        [&header[..], &vec![7; len.into()]].concat()
    }

    #[test]
    fn k06_the_first_octet_tells_how_a_connection_goes_on() {
        let pool = pool();
        let begins = |tls, bytes: &[u8]| Secure::new(tls).begin(&slice(&pool, bytes));
        assert_eq!(begins(Tls::Allowed, &[0x16, 3, 1]), Ok(true));
        assert_eq!(begins(Tls::Required, &[0x16]), Ok(true));
        assert_eq!(begins(Tls::Allowed, &[0, 0, 128]), Ok(false));
        for first in (0..=255).filter(|first| *first != 0x16) {
            let in_the_clear = Err(CloseReason::InTheClear);
            assert_eq!(begins(Tls::Required, &[first]), in_the_clear);
        }
    }

    #[test]
    fn k06_a_node_that_begins_otherwise_than_here_is_told_so() {
        let pool = pool();
        let begins = |tls, bytes: &[u8]| {
            let mut secure = Secure::of_node(tls);
            let begun = secure.begin(&slice(&pool, bytes));
            let mut said = Vec::new();
            secure.say(|chunk| {
                let Chunk::Inline(inline) = chunk else {
                    panic!("it is short");
                };
                said.extend_from_slice(inline.bytes());
                Ok(())
            });
            (begun, said)
        };
        let in_common = HandshakeFault::NothingInCommon;
        let other = Err(CloseReason::NotSecured(in_common));
        let alert = vec![21, 3, 3, 0, 2, 2, 40];
        assert_eq!(begins(Tls::Off, b"TLMP"), (Ok(false), vec![]));
        assert_eq!(begins(Tls::Off, &[22, 3, 1]), (other, alert.clone()));
        assert_eq!(begins(Tls::Allowed, b"TLMP"), (Ok(false), vec![]));
        assert_eq!(begins(Tls::Allowed, &[22, 3, 1]), (Ok(true), vec![]));
        assert_eq!(begins(Tls::Required, &[22, 3, 1]), (Ok(true), vec![]));
        let in_the_clear = Err(CloseReason::InTheClear);
        assert_eq!(begins(Tls::Required, b"TLMP"), (in_the_clear, alert));
        // Each of both says what the operator can do.
        for (reason, is_ours) in [
            (CloseReason::InTheClear, false),
            (CloseReason::NotSecured(in_common), false),
            (CloseReason::NotSecured(HandshakeFault::Alert(40)), true),
        ] {
            let told = link_fault(reason, is_ours);
            assert!(told.contains("write the same `tls`"), "{told}");
        }
        for fault in [HandshakeFault::WrongKey, HandshakeFault::Alert(51)] {
            let told = link_fault(CloseReason::NotSecured(fault), true);
            assert!(told.contains("compare the key files"), "{told}");
        }
    }

    #[test]
    fn k06_records_of_a_handshake_come_whole_in_whatever_cut() {
        let all = [
            record(22, 500),
            record(20, 1),
            record(23, 0),
            record(23, 53),
        ];
        let bytes = all.concat();
        for len in (1..bytes.len() + 1).filter(|len| *len < 12 || len.is_multiple_of(97)) {
            assert_eq!(
                records(&bytes, len.min(4096)),
                (all.to_vec(), None),
                "{len}"
            );
        }
    }

    #[test]
    fn k06_what_is_longer_than_any_handshake_is_none() {
        let fault = Some(HandshakeFault::Malformed);
        // One record that says so, and many.
        assert_eq!(records(&[22, 3, 3, 0x40, 0xff, 1], 6), (Vec::new(), fault));
        let many: Vec<u8> = (0..20).flat_map(|_| record(22, 1000)).collect();
        let (before, came) = records(&many, 1448);
        assert_eq!((before.len(), came), (16, fault));
    }
}
