//! A controller: what its queues share, wherever their connections are.
//!
//! The queues of one controller may be on different shards. What they share is
//! here; everything else of a controller belongs to its Admin Queue
//! ([`AdminQueue`]).

mod aborts;
mod access;
mod admin;
mod discovery;
mod events;
mod features;
mod identify;
mod log;
mod properties;
mod ticks;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aborts::Aborts;
pub(crate) use admin::{AdminQueue, Reply};
pub(crate) use events::Events;
use sync::{Held, Watched};
pub use ticks::TICK_MS;

use crate::command::FabricsCommand;
use crate::config::DISCOVERY_NQN;
use crate::listener::Listener;
use crate::namespaces::Namespaces;
use crate::status::Status;
use crate::subsystem::{ConnectError, Subsystem};
use crate::units::{Cid, Cntlid, Qid};
use crate::work::AbortId;

/// One controller of the target.
#[derive(Debug)]
pub(crate) struct Controller {
    pub cntlid: Cntlid,
    /// `None` for a discovery controller.
    pub subsystem: Option<Arc<Subsystem>>,
    /// Where its host connected the Admin Queue.
    pub listener: Listener,
    /// Host NQN of the association.
    pub host: String,
    /// Host Identifier of the association.
    pub host_id: [u8; 16],
    /// Whether its Admin Queue is encrypted: then all its queues are.
    pub is_secure: bool,
    /// Whether it counts as one of the target's: its host need not prove who it is, or has.
    admitted: AtomicBool,
    /// Whether its host has proved who it is.
    authenticated: AtomicBool,
    /// What its I/O queues moved; they add to it now and then.
    pub usage: Usage,
    /// WCE of the Volatile Write Cache feature (base 5.27.1.4).
    write_cache: AtomicBool,
    /// ACRE of the Host Behavior Support feature (base 5.27.1.18).
    retry_delays: AtomicBool,
    /// Whether any queue had a command since the Keep Alive Timer was last started.
    traffic: AtomicBool,
    /// Their number counts enables and disables: odd while enabled. [`ENDED`] is
    /// the end.
    queues: Watched<Queues>,
    /// How often its queues were asked to abort a command.
    aborts_asked: AtomicU64,
}

/// Who a controller belongs to, and how it was reached.
#[derive(Clone, Debug)]
pub(crate) struct Association {
    /// Where the Admin Queue was connected.
    pub listener: Listener,
    /// Host NQN.
    pub host: String,
    /// Host Identifier.
    pub host_id: [u8; 16],
    /// Whether its connection is encrypted.
    pub is_secure: bool,
}

/// Data that a SMART log reports (base 5.16.1.3).
#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub reads: AtomicU64,
    pub writes: AtomicU64,
    /// In 512-byte units.
    pub units_read: AtomicU64,
    /// In 512-byte units.
    pub units_written: AtomicU64,
}

#[derive(Debug)]
struct Queues {
    /// I/O queues the host may connect (Number of Queues feature).
    granted: u16,
    /// Those it has connected: bit `qid`.
    connected: [u64; 17],
    /// Those that were connected and have not ended, whenever that was.
    open: u16,
    /// Those that were connected and are open, or of which volumes still have requests.
    busy: u16,
    /// What they are asked to abort.
    aborts: Aborts,
}

/// Whether anything of what a controller was before a reset, or before its end, is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quiescence {
    /// Nothing.
    Quiet,
    /// No queue, but requests that volumes have not ended; their blocks are fenced.
    Fenced,
    /// Queues that do not know yet that they have ended.
    Open,
}

/// Proof that a controller was enabled, and which time it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Enabled(u64);

/// The controller's association is over.
const ENDED: u64 = u64::MAX;

impl Controller {
    pub fn new(
        cntlid: Cntlid,
        subsystem: Option<Arc<Subsystem>>,
        association: Association,
    ) -> Self {
        let granted = subsystem.as_ref().map_or(0, |s| s.config.max_queues);
        Self {
            cntlid,
            subsystem,
            listener: association.listener,
            host: association.host,
            host_id: association.host_id,
            is_secure: association.is_secure,
            admitted: AtomicBool::new(false),
            authenticated: AtomicBool::new(false),
            usage: Usage::default(),
            write_cache: AtomicBool::new(true),
            retry_delays: AtomicBool::new(false),
            traffic: AtomicBool::new(false),
            queues: Watched::new(Queues {
                granted,
                connected: [0; 17],
                open: 0,
                busy: 0,
                aborts: Aborts::default(),
            }),
            aborts_asked: AtomicU64::new(0),
        }
    }

    /// It counts as one of the target's from now on; its host may have proved who it is.
    pub fn admit(&self, authenticated: bool) {
        self.authenticated.store(authenticated, Ordering::Relaxed);
        self.admitted.store(true, Ordering::Relaxed);
    }

    /// Whether it counts as one of the target's; said with the registry locked.
    pub fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Whether its host has proved who it is.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed)
    }

    /// The namespaces of its subsystem as it sees them; `None` for a discovery controller.
    pub fn namespaces(&self) -> Option<Arc<Namespaces>> {
        let subsystem = self.subsystem.as_ref()?;
        Some(subsystem.namespaces_at(self.listener))
    }

    /// NQN of its subsystem.
    pub fn subsystem_nqn(&self) -> &str {
        match &self.subsystem {
            Some(subsystem) => &subsystem.config.nqn,
            None => DISCOVERY_NQN,
        }
    }

    /// Whether it is still enabled as it was. I/O queues check it before
    /// each command: one load, no lock.
    #[inline]
    pub fn is_still(&self, enabled: Enabled) -> bool {
        self.queues.number() == enabled.0
    }

    /// Whether the association is over.
    pub fn has_ended(&self) -> bool {
        self.queues.number() == ENDED
    }

    /// CC.EN went from 0 to 1.
    pub fn enable(&self) {
        let queues = self.queues.lock();
        self.step(&queues, true);
    }

    /// CC.EN went from 1 to 0, or the host shut the controller down: its I/O
    /// queues are gone, and what Set Features set is forgotten (base 3.7.2).
    pub fn disable(&self) {
        let mut queues = self.queues.lock();
        queues.connected = [0; 17];
        queues.aborts.end_all(None);
        queues.granted = self.subsystem.as_ref().map_or(0, |s| s.config.max_queues);
        self.write_cache.store(true, Ordering::Relaxed);
        self.retry_delays.store(false, Ordering::Relaxed);
        self.step(&queues, false);
    }

    /// The association is over: every connection of it closes.
    pub fn end(&self) {
        let mut queues = self.queues.lock();
        queues.aborts.end_all(None);
        self.queues.publish(&queues, ENDED);
    }

    fn step(&self, queues: &Held<'_, Queues>, enable: bool) {
        let epoch = self.queues.number();
        if epoch != ENDED && (epoch % 2 == 1) != enable {
            self.queues.publish(queues, epoch + 1);
        }
    }

    /// A command of any of its queues came, or is done (base 3.9.2). The word
    /// is written once in an interval: what a command pays is a load of a line
    /// that every shard keeps.
    #[inline]
    pub fn note_traffic(&self) {
        if !self.traffic.load(Ordering::Relaxed) {
            self.traffic.store(true, Ordering::Relaxed);
        }
    }

    /// Whether there was traffic, and forgets it: the Keep Alive Timer starts anew.
    pub fn take_traffic(&self) -> bool {
        self.traffic.swap(false, Ordering::Relaxed)
    }

    /// Whether the I/O queue `qid` could be connected.
    pub fn may_add_queue(&self, qid: Qid) -> Result<Enabled, ConnectError> {
        self.check_queue(&self.queues.lock(), qid)
    }

    /// Connects the I/O queue `qid`.
    pub fn add_queue(&self, qid: Qid) -> Result<Enabled, ConnectError> {
        let mut queues = self.queues.lock();
        let enabled = self.check_queue(&queues, qid)?;
        queues.connected[usize::from(qid.0 / 64)] |= 1 << (qid.0 % 64);
        queues.open += 1;
        queues.busy += 1;
        Ok(enabled)
    }

    fn check_queue(&self, queues: &Queues, qid: Qid) -> Result<Enabled, ConnectError> {
        let epoch = self.queues.number();
        if epoch == ENDED || epoch.is_multiple_of(2) {
            return Err(Status::COMMAND_SEQUENCE_ERROR.into());
        }
        if qid == Qid::ADMIN || qid.0 > queues.granted {
            return Err(ConnectError::command(FabricsCommand::CONNECT_QID_AT));
        }
        let (word, bit) = (usize::from(qid.0 / 64), 1 << (qid.0 % 64));
        if queues.connected[word] & bit != 0 {
            return Err(Status::COMMAND_SEQUENCE_ERROR.into());
        }
        Ok(Enabled(epoch))
    }

    /// The I/O queue `qid` has ended, and what volumes have of it is fenced.
    pub fn remove_queue(&self, qid: Qid, enabled: Enabled) {
        let mut queues = self.queues.lock();
        queues.open -= 1;
        if self.is_still(enabled) {
            queues.connected[usize::from(qid.0 / 64)] &= !(1 << (qid.0 % 64));
            queues.aborts.end_all(Some(qid));
        }
    }

    /// Volumes have nothing more of an I/O queue that has ended.
    pub fn queue_is_quiet(&self) {
        self.queues.lock().busy -= 1;
    }

    /// Asks the I/O queue `qid` to abort its command `cid`; none if there is no such queue.
    ///
    /// # Errors
    /// [`Status::ABORT_LIMIT_EXCEEDED`].
    pub fn ask_abort(&self, qid: Qid, cid: Cid) -> Result<Option<AbortId>, Status> {
        let mut queues = self.queues.lock();
        let word = queues.connected.get(usize::from(qid.0 / 64));
        if word.is_none_or(|word| word >> (qid.0 % 64) & 1 == 0) {
            return Ok(None);
        }
        let id = queues.aborts.ask(qid, cid)?;
        self.aborts_asked.fetch_add(1, Ordering::Release);
        Ok(id)
    }

    /// How often its queues were asked to abort a command: a queue looks when it has changed.
    pub fn aborts_asked(&self) -> u64 {
        self.aborts_asked.load(Ordering::Acquire)
    }

    /// The next command that the I/O queue `qid` is asked to abort.
    pub fn next_abort(&self, qid: Qid) -> Option<Cid> {
        self.queues.lock().aborts.take(qid)
    }

    /// The I/O queue `qid` says whether its command `cid` was aborted.
    pub fn end_abort(&self, qid: Qid, cid: Cid, aborted: bool) {
        self.queues.lock().aborts.end(qid, cid, aborted);
    }

    /// Whether the command was aborted, once that is known.
    pub fn take_abort(&self, id: AbortId) -> Option<bool> {
        self.queues.lock().aborts.take_end(id)
    }

    /// Nobody waits for the end of an Abort any more.
    pub fn forget_abort(&self, id: AbortId) {
        self.queues.lock().aborts.forget(id);
    }

    /// What is left of its queues. Queues of now are left too.
    pub fn quiescence(&self) -> Quiescence {
        let queues = self.queues.lock();
        match (queues.open, queues.busy) {
            (0, 0) => Quiescence::Quiet,
            (0, _) => Quiescence::Fenced,
            _ => Quiescence::Open,
        }
    }

    /// I/O queues connected.
    pub fn io_queues(&self) -> u16 {
        let queues = self.queues.lock();
        queues.connected.iter().map(|w| w.count_ones() as u16).sum()
    }

    /// Number of Queues feature: grants up to `requested` I/O queues.
    ///
    /// # Errors
    /// [`Status::COMMAND_SEQUENCE_ERROR`] once I/O queues exist (base 5.27.1.5).
    pub fn grant_queues(&self, requested: u16) -> Result<u16, Status> {
        let mut queues = self.queues.lock();
        if queues.connected != [0; 17] {
            return Err(Status::COMMAND_SEQUENCE_ERROR);
        }
        let most = self.subsystem.as_ref().map_or(0, |s| s.config.max_queues);
        queues.granted = requested.min(most);
        Ok(queues.granted)
    }

    /// I/O queues the host may connect.
    pub fn granted_queues(&self) -> u16 {
        self.queues.lock().granted
    }

    /// Whether the host lets writes sit in a volatile cache.
    #[inline]
    pub fn write_cache(&self) -> bool {
        self.write_cache.load(Ordering::Relaxed)
    }

    /// Sets [`Controller::write_cache`].
    pub fn set_write_cache(&self, on: bool) {
        self.write_cache.store(on, Ordering::Relaxed);
    }

    /// Whether the host obeys the retry delay in a status (ACRE).
    pub fn retry_delays(&self) -> bool {
        self.retry_delays.load(Ordering::Relaxed)
    }

    /// Sets [`Controller::retry_delays`].
    pub fn set_retry_delays(&self, on: bool) {
        self.retry_delays.store(on, Ordering::Relaxed);
    }
}
