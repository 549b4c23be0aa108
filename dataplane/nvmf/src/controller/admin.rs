//! What an Admin Queue holds besides its commands, and how Admin commands are executed.

use std::sync::Arc;

use super::events::Notice;
use super::features::{self, Features};
use super::identify::{self, Identify, has_write_cache};
use super::log::{ChangedNamespaces, Logs, lid};
use super::properties::{Change, Properties};
use super::window::Window;
use super::{Controller, Events, Quiescence, discovery};
use crate::ana::AnaState;
use crate::command::{AdminCommand, FabricsCommand, FeatureSelect, SqeView};
use crate::namespaces::Namespaces;
use crate::status::Status;
use crate::subsystem::Subsystems;
use crate::target::Target;
use crate::units::{Cid, Nsid, Qid, Timestamp};
use crate::work::{NamespaceRef, Work};

/// The side of a controller that its Admin Queue owns.
#[derive(Debug)]
pub(crate) struct AdminQueue {
    pub controller: Arc<Controller>,
    /// Parked asynchronous event requests.
    pub events: Events,
    properties: Properties,
    features: Features,
    /// As last seen; `None` for a discovery controller.
    namespaces: Option<Arc<Namespaces>>,
    changed: ChangedNamespaces,
    /// How often the log of ANA groups had been changed when the controller was last reset.
    changes_at_reset: u64,
    /// Of a discovery controller: the log that its host was last known to have before it.
    discovered: Option<discovery::Seen>,
    /// When the Keep Alive Timer runs out; `None` if it is disabled.
    deadline: Option<Timestamp>,
    /// Since when the host waits for the controller to be quiet.
    unsettled: Option<Timestamp>,
}

/// What is to be done for a command.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// It is done; dwords 0 and 1 of the completion.
    Done(u64),
    /// It is an asynchronous event request.
    Park,
    /// It wants another command aborted.
    Abort {
        /// The queue of that command.
        qid: Qid,
        /// Its identifier.
        cid: Cid,
    },
    /// `len` bytes go to the host.
    Data {
        /// Which data they are.
        work: Work,
        /// Their number.
        len: u32,
    },
    /// `len` bytes come from the host.
    Receive {
        /// What is to be done with them.
        work: Work,
        /// Their number.
        len: u32,
    },
    /// The controller was reset: parked requests are void.
    Reset,
    /// The host shut the controller down: what was written is to be flushed.
    ShutDown,
}

/// Life of a discovery controller without a Keep Alive Timeout since its last
/// command, in milliseconds (base 3.1.2.3).
const DISCOVERY_IDLE_MS: u32 = 120_000;

/// How long a reset, or a controller's start, waits for what volumes still have of what the host
/// did before, in milliseconds: less than CAP.TO. What is left then stays behind its
/// fences for as long as its device has it.
const QUIET_MS: u64 = 4000;

/// NSID of a command that is about no namespace.
fn names_none(nsid: Nsid) -> bool {
    nsid == Nsid(0) || nsid == Nsid::BROADCAST
}

impl AdminQueue {
    /// The Admin Queue of `controller`, just connected. I/O queues may have
    /// `queue_depth` entries.
    pub fn new(
        controller: Arc<Controller>,
        queue_depth: u16,
        keep_alive_ms: u32,
        now: Timestamp,
    ) -> Self {
        let namespaces = controller.namespaces();
        let mut queue = Self {
            properties: Properties::new(queue_depth),
            features: Features::new(keep_alive_ms),
            events: Events::new(),
            changes_at_reset: namespaces.as_ref().map_or(0, |n| n.group_changes()),
            changed: ChangedNamespaces::none(),
            discovered: None,
            deadline: None,
            unsettled: None,
            namespaces,
            controller,
        };
        queue.touch_keep_alive(now);
        queue
    }

    /// Whether the host has been silent for too long (base 3.9).
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// Traffic Based Keep Alive (base 3.9.2): when the Keep Alive Timer runs out and
    /// any queue had a command meanwhile, it starts again.
    pub fn touch_keep_alive_by_traffic(&mut self, now: Timestamp) {
        // Discovery controllers do not offer it.
        if self.is_overdue(now) && !self.is_discovery() && self.controller.take_traffic() {
            self.touch_keep_alive(now);
        }
    }

    /// Restarts the Keep Alive Timer. What came before it counts no more.
    pub fn touch_keep_alive(&mut self, now: Timestamp) {
        let idle = match self.features.keep_alive_ms {
            0 if self.is_discovery() => DISCOVERY_IDLE_MS,
            ms => ms,
        };
        self.deadline = (idle > 0).then(|| now.plus_ms(idle.into()));
        self.controller.take_traffic();
    }

    fn is_discovery(&self) -> bool {
        self.controller.subsystem.is_none()
    }

    /// Looks whether the namespaces changed, or how they are reached, or the discovery log. An event may be due then.
    pub fn refresh(&mut self, target: &Target) {
        let (Some(subsystem), Some(seen)) = (&self.controller.subsystem, &self.namespaces) else {
            return self.refresh_discovery(&target.subsystems());
        };
        if subsystem.is_current(seen) {
            return;
        }
        let current = subsystem.namespaces_at(self.controller.listener);
        for nsid in 1..=identify::highest_nsid(seen).max(identify::highest_nsid(&current)) {
            let nsid = Nsid(nsid);
            if seen.get(nsid) != current.get(nsid) {
                self.changed.note(nsid.0);
                self.events.note_change(Notice::Namespaces);
            }
            // Upon entry to any state but Change, unless the namespace came with it; a transition that failed
            // enters the state that was before (base 8.1.3.6).
            if let (Some(before), Some(now)) = (seen.group(nsid), current.group(nsid))
                && before != now
                && now.state != AnaState::Change
            {
                self.events.note_change(Notice::Access);
            }
        }
        self.namespaces = Some(current);
    }

    /// Looks whether the log is another one for the host of this discovery controller.
    fn refresh_discovery(&mut self, subsystems: &Subsystems) {
        let host = &self.controller.host;
        let seen = (self.discovered).get_or_insert_with(|| discovery::Seen::new(subsystems, host));
        if seen.refresh(subsystems, host) {
            self.events.note_change(Notice::Discovery);
        }
    }

    /// The Asynchronous Event Configuration.
    pub fn event_config(&self) -> u32 {
        self.features.async_events
    }

    /// Executes Property Get and Property Set.
    ///
    /// # Errors
    /// The status to complete the command with.
    pub fn fabrics(
        &mut self,
        command: FabricsCommand,
        target: &Target,
        now: Timestamp,
    ) -> Result<Reply, Status> {
        match command {
            FabricsCommand::PropertyGet { offset, width } => {
                self.settle(target, now);
                self.properties.get(offset, width).map(Reply::Done)
            }
            FabricsCommand::PropertySet {
                offset,
                width,
                value,
            } => match self.properties.set(offset, width, value)? {
                Change::None => Ok(Reply::Done(0)),
                Change::Enabled => {
                    self.unsettled = None;
                    self.settle(target, now);
                    Ok(Reply::Done(0))
                }
                Change::Disabled => {
                    self.controller.disable();
                    self.features.reset();
                    self.events.reset();
                    self.changes_at_reset =
                        (self.namespaces.as_ref()).map_or(0, |n| n.group_changes());
                    self.unsettled = None;
                    self.settle(target, now);
                    Ok(Reply::Reset)
                }
                Change::ShutDown => {
                    self.controller.disable();
                    Ok(Reply::ShutDown)
                }
            },
            // The queue knows what to do with these.
            FabricsCommand::AuthenticationSend { .. }
            | FabricsCommand::AuthenticationReceive { .. } => Err(Status::INVALID_OPCODE),
            // The queue exists: another Connect is out of order.
            FabricsCommand::Connect { .. } => Err(Status::COMMAND_SEQUENCE_ERROR),
            // The Admin Queue goes with its connection (base 6.4).
            FabricsCommand::Disconnect { .. } => Err(Status::INVALID_QUEUE_TYPE),
        }
    }

    /// The first namespace from `first` on that has a volatile write cache, and
    /// so must be flushed before a shutdown is complete (base 3.6.2).
    pub fn next_cached(&self, first: Nsid) -> Option<NamespaceRef> {
        let namespaces = self.namespaces.as_deref()?;
        let next = namespaces
            .iter()
            .find(|ns| ns.nsid >= first && ns.volatile_write_cache)?;
        Some(NamespaceRef {
            nsid: next.nsid,
            index: next.index,
            block_size: next.block_size,
        })
    }

    /// Lets CSTS be what CC wants, once nothing of what the host did before is under way: volumes
    /// have ended its requests, or they have had their time and are fenced.
    pub fn settle(&mut self, target: &Target, now: Timestamp) {
        if !self.properties.is_unsettled() {
            return;
        }
        let since = *self.unsettled.get_or_insert(now);
        let is_quiet = match target.quiescence(&self.controller) {
            Quiescence::Quiet => true,
            Quiescence::Fenced => now >= since.plus_ms(QUIET_MS),
            Quiescence::Open => false,
        };
        if is_quiet {
            self.unsettled = None;
            if self.properties.settle() {
                self.controller.enable();
            }
        }
    }

    /// Every flush of a shutdown is done.
    pub fn flushed(&mut self) {
        self.properties.flushed();
    }

    /// Executes an Admin command as far as it needs no data.
    ///
    /// # Errors
    /// The status to complete the command with.
    pub fn execute(
        &mut self,
        sqe: &SqeView<'_>,
        target: &Target,
        now: Timestamp,
    ) -> Result<Reply, Status> {
        if !self.properties.is_ready() {
            return Err(Status::COMMAND_SEQUENCE_ERROR);
        }
        self.refresh(target);
        let subsystems = &*target.subsystems();
        let command = AdminCommand::read(sqe)?;
        if self.is_discovery() && self.features.keep_alive_ms == 0 {
            self.touch_keep_alive(now);
        }
        match command {
            AdminCommand::Identify { cns, csi, .. } => {
                self.identify(subsystems).check(cns, csi, sqe.nsid())?;
                let work = Work::Identify { cns, csi };
                let len = identify::LEN;
                Ok(Reply::Data { work, len })
            }
            AdminCommand::GetLogPage {
                lid,
                specific,
                retain,
                len,
                offset,
                csi,
            } => {
                let whole = self.log_len(lid, specific, subsystems, sqe.nsid())?;
                // MDTS; and no log begins behind its end (base 5.16).
                if len > u64::from(subsystems.config().max_io_bytes) || offset > whole {
                    return Err(Status::INVALID_FIELD);
                }
                let work = Work::LogPage {
                    lid,
                    csi,
                    specific,
                    retain,
                    offset,
                };
                let len = len as u32;
                Ok(Reply::Data { work, len })
            }
            AdminCommand::GetFeatures { fid, select, .. } => {
                if features::is_of_command_set(fid) {
                    self.check_access(sqe.nsid())?;
                }
                let value = self
                    .features
                    .get(fid, select, &self.controller, self.has_cache())?;
                match Features::data_len(fid) {
                    len if len > 0 && select == FeatureSelect::Current => Ok(Reply::Data {
                        work: Work::FeatureData { fid },
                        len,
                    }),
                    _ => Ok(Reply::Done(value.into())),
                }
            }
            AdminCommand::SetFeatures { fid, save, value } => {
                self.set_features(fid, save, value, sqe.nsid(), now)
            }
            // Not of a discovery controller (base 3.1.2.3).
            AdminCommand::Abort { .. } if self.is_discovery() => Err(Status::INVALID_OPCODE),
            AdminCommand::Abort { qid, cid } => Ok(Reply::Abort { qid, cid }),
            AdminCommand::AsyncEventRequest => Ok(Reply::Park),
            AdminCommand::KeepAlive => {
                self.touch_keep_alive(now);
                Ok(Reply::Done(0))
            }
        }
    }

    fn set_features(
        &mut self,
        fid: u8,
        save: bool,
        value: u32,
        nsid: Nsid,
        now: Timestamp,
    ) -> Result<Reply, Status> {
        if !Features::of(&self.controller).contains(&fid) {
            return Err(Status::INVALID_FIELD);
        }
        if save {
            return Err(Status::FEATURE_NOT_SAVEABLE);
        }
        self.check_access_to_set(fid, nsid)?;
        if !names_none(nsid) {
            return Err(Status::FEATURE_NOT_NAMESPACE_SPECIFIC);
        }
        if fid == features::fid::HOST_BEHAVIOR {
            return Ok(Reply::Receive {
                work: Work::SetHostBehavior,
                len: features::HOST_BEHAVIOR_LEN,
            });
        }
        let has_cache = self.has_cache();
        let result = self.features.set(fid, value, &self.controller, has_cache)?;
        if fid == features::fid::KEEP_ALIVE_TIMER {
            self.touch_keep_alive(now);
        }
        Ok(Reply::Done(result.into()))
    }

    /// Whether the namespace `nsid`, if it is one, is in a state in which commands get to it.
    fn check_access(&self, nsid: Nsid) -> Result<(), Status> {
        let namespaces = self.namespaces.as_deref();
        let group = namespaces.and_then(|namespaces| namespaces.group(nsid));
        match group.and_then(|group| group.state.status()) {
            Some(status) => Err(status),
            None => Ok(()),
        }
    }

    /// Whether the states of ANA groups let Set Features be (base 8.1.4).
    fn check_access_to_set(&self, fid: u8, nsid: Nsid) -> Result<(), Status> {
        if nsid == Nsid::BROADCAST {
            // Note 3: if it is so for any namespace.
            let withholding = self.namespaces.as_ref().and_then(|n| n.withholding());
            return withholding.and_then(AnaState::status).map_or(Ok(()), Err);
        }
        match self.check_access(nsid) {
            Err(status)
                if status == Status::ASYMMETRIC_ACCESS_PERSISTENT_LOSS
                    || features::is_of_command_set(fid) =>
            {
                Err(status)
            }
            _ => Ok(()),
        }
    }

    /// Host Behavior Support, now that its data has come. `acre` is byte 0,
    /// Advanced Command Retry Enable; the rest is not offered.
    pub fn set_host_behavior(&mut self, acre: u8) {
        self.controller.set_retry_delays(acre == 1);
    }

    /// Bytes of the log `lid`.
    fn log_len(
        &self,
        lid: u8,
        specific: u8,
        subsystems: &Subsystems,
        nsid: Nsid,
    ) -> Result<u64, Status> {
        match &self.namespaces {
            None if lid == lid::DISCOVERY => Ok(discovery::len(subsystems, &self.controller.host)),
            None => Err(Status::INVALID_LOG_PAGE),
            Some(namespaces) => {
                let len = self.logs(namespaces).len(lid, specific)?;
                // All logs are about the controller (LPA bit 0 is clear).
                if names_none(nsid) {
                    Ok(len)
                } else {
                    Err(Status::INVALID_FIELD)
                }
            }
        }
    }

    /// Writes bytes `at..` of the data for `work` into `page`.
    pub fn fill(
        &mut self,
        work: Work,
        nsid: Nsid,
        subsystems: &Subsystems,
        at: u64,
        page: &mut [u8],
    ) {
        match work {
            Work::Identify { cns, csi } => {
                let identify = self.identify(subsystems);
                // Checked before, but namespaces may have gone since.
                match identify.check(cns, csi, nsid) {
                    Ok(structure) => identify.fill(structure, nsid, page),
                    Err(_) => page.fill(0),
                }
            }
            Work::LogPage {
                lid,
                csi,
                specific,
                offset,
                ..
            } => {
                let mut w = Window::new(offset + at, page);
                match &self.namespaces {
                    None => discovery::fill(subsystems, &self.controller.host, &mut w),
                    Some(namespaces) => {
                        self.logs(namespaces).fill(lid, csi, specific, &mut w);
                    }
                }
            }
            Work::FeatureData { fid } => {
                let mut w = Window::new(at, page);
                match fid {
                    features::fid::HOST_IDENTIFIER => w.put(0, self.controller.host_id),
                    _ => w.put(0, [u8::from(self.controller.retry_delays())]),
                }
            }
            _ => page.fill(0),
        }
    }

    /// The data for `work` is on its way: a log that was read forgets.
    pub fn filled(&mut self, work: Work) {
        if let Work::LogPage { lid, retain, .. } = work {
            if lid == lid::CHANGED_NAMESPACES {
                // Reading clears the list; the event stays masked under RAE.
                self.changed.clear();
            }
            if !retain {
                self.events.log_read(lid);
            }
        }
    }

    fn logs<'a>(&'a self, namespaces: &'a Namespaces) -> Logs<'a> {
        Logs {
            controller: &self.controller,
            namespaces,
            changed: &self.changed,
            changes_at_reset: self.changes_at_reset,
        }
    }

    fn identify<'a>(&'a self, subsystems: &'a Subsystems) -> Identify<'a> {
        let subsystem = self.controller.subsystem.as_deref();
        Identify {
            config: subsystems.config(),
            cntlid: self.controller.cntlid,
            subsystem: subsystem.zip(self.namespaces.as_deref()),
        }
    }

    fn has_cache(&self) -> bool {
        self.namespaces.as_deref().is_some_and(has_write_cache)
    }
}
