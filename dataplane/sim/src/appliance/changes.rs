//! What an appliance offers, changed while it runs: as its control side does, one change after the other.

use std::collections::VecDeque;

use shard::{Change, ChangeError, HostConfig, NamespaceConfig};

use super::{Appliance, Running, SUBSYSTEM};
use crate::clock::{self, Nanoseconds};
use crate::plan::{HOSTS_MAX, OfferChange, host_nqn};
use crate::trace::event;

/// Changes that are still to be made, and what hosts miss meanwhile.
pub(super) struct Offering {
    wanted: VecDeque<OfferChange>,
    under_way: Option<OfferChange>,
    /// By volume.
    absences: Vec<Absence>,
    /// Why a change was not made.
    wrong: Option<String>,
    /// A change has begun that ends connections.
    has_disturbed: bool,
}

/// Whether a namespace is not offered, and when it last was not.
#[derive(Clone, Copy, Default)]
struct Absence {
    is_now: bool,
    until: Option<Nanoseconds>,
}

impl Absence {
    fn begin(&mut self) {
        self.is_now = true;
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.is_now) {
            self.until = Some(clock::now());
        }
    }
}

impl Offering {
    pub(super) fn new(volumes: usize) -> Self {
        Self {
            wanted: VecDeque::new(),
            under_way: None,
            absences: vec![Absence::default(); volumes],
            wrong: None,
            has_disturbed: false,
        }
    }

    /// The appliance is off. When it starts again it offers what its configuration says.
    pub(super) fn end(&mut self) {
        self.wanted.clear();
        self.under_way = None;
        self.absences.iter_mut().for_each(Absence::end);
    }

    fn absences_of(&mut self, change: OfferChange) -> &mut [Absence] {
        match change {
            OfferChange::RemoveNamespace { volume } | OfferChange::AddNamespace { volume, .. } => {
                &mut self.absences[volume..=volume]
            }
            OfferChange::RemoveSubsystem | OfferChange::AddSubsystem => &mut self.absences,
            _ => &mut [],
        }
    }

    fn begun(&mut self, change: OfferChange) {
        if let OfferChange::RemoveNamespace { .. } | OfferChange::RemoveSubsystem = change {
            (self.absences_of(change).iter_mut()).for_each(Absence::begin);
        }
        self.under_way = Some(change);
        self.has_disturbed |= !change.keeps_connections();
    }

    fn ended(&mut self, change: OfferChange) {
        if let OfferChange::AddNamespace { .. } | OfferChange::AddSubsystem = change {
            (self.absences_of(change).iter_mut()).for_each(Absence::end);
        }
        self.under_way = None;
    }
}

impl Appliance {
    /// Changes what it offers, once it serves and the changes before are made.
    pub(crate) fn change_offer(&mut self, change: OfferChange) {
        if self.is_running() {
            self.offering.wanted.push_back(change);
        }
    }

    /// Whether a change is not made yet.
    pub(crate) fn is_changing(&self) -> bool {
        self.offering.under_way.is_some() || !self.offering.wanted.is_empty()
    }

    /// Whether a change has begun, since this was last asked, that connections may not survive.
    pub(crate) fn has_disturbed(&mut self) -> bool {
        std::mem::take(&mut self.offering.has_disturbed)
    }

    /// Whether a namespace was not offered at some time since `since`.
    pub(crate) fn was_absent(&self, volume: usize, since: Nanoseconds) -> bool {
        let absence = self.offering.absences[volume];
        absence.is_now || absence.until.is_some_and(|until| until >= since)
    }

    /// Why a change was not made that had to be.
    pub(super) fn wrong_change(&self) -> Option<String> {
        self.offering.wrong.clone()
    }

    /// Goes on with the change under way, or begins the next.
    pub(super) fn go_on_changing(&mut self) {
        if !self.is_changing() || !self.is_serving() || !self.random.one_in(4) {
            return;
        }
        let Some(running) = &self.running else {
            return;
        };
        if let Some(change) = self.offering.under_way {
            match running.handle.poll_change() {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => self.offering.wrong = Some(format!("{change:?}: {error}")),
            }
            event!(self.trace, "changed", [self.index], "{change:?}");
            return self.offering.ended(change);
        }
        let Some(change) = self.offering.wanted.pop_front() else {
            return;
        };
        match running.handle.begin_change(running.change(change)) {
            Ok(()) => {
                event!(self.trace, "change", [self.index], "{change:?}");
                self.offering.begun(change);
            }
            // Two that take the same away overlap, or a start in between has given it back.
            Err(
                ChangeError::NoNamespace(..)
                | ChangeError::NamespaceExists(..)
                | ChangeError::NoSubsystem(..)
                | ChangeError::SubsystemExists(..)
                | ChangeError::NoListener(..)
                | ChangeError::ListenerExists(..),
            ) => {}
            Err(error) => self.offering.wrong = Some(format!("{change:?}: {error}")),
        }
    }
}

impl Running {
    /// As it is let in: with its keys, if it has any.
    fn host_config(&self, host: usize) -> HostConfig {
        let nqn = host_nqn(host);
        let mut listed = self.subsystem.hosts.iter().flatten();
        let known = listed.find(|known| known.nqn == nqn);
        known.cloned().unwrap_or_else(|| HostConfig::from(&*nqn))
    }

    fn change(&self, change: OfferChange) -> Change {
        let nqn = SUBSYSTEM.to_owned();
        match change {
            OfferChange::RemoveNamespace { volume } => Change::RemoveNamespace {
                nqn,
                nsid: self.subsystem.namespaces[volume].nsid,
            },
            OfferChange::AddNamespace { volume, policy } => Change::AddNamespace {
                nqn,
                namespace: NamespaceConfig {
                    write: policy,
                    ..self.subsystem.namespaces[volume].clone()
                },
            },
            OfferChange::RemoveSubsystem => Change::RemoveSubsystem { nqn },
            OfferChange::AddSubsystem => Change::AddSubsystem(self.subsystem.clone()),
            OfferChange::RefuseHost { host } => Change::SetHosts {
                nqn,
                hosts: Some(
                    (0..HOSTS_MAX)
                        .filter(|&other| other != host)
                        .map(|host| self.host_config(host))
                        .collect(),
                ),
            },
            OfferChange::AllowHosts => Change::SetHosts {
                nqn,
                hosts: self.subsystem.hosts.clone(),
            },
            OfferChange::RemoveListener => Change::RemoveListener(self.listener.address()),
            OfferChange::AddListener => Change::AddListener(self.listener),
        }
    }
}
