//! Asymmetric Namespace Access: how controllers reach namespaces (base 2.0, 8.1).
//!
//! Every namespace is an ANA group of its own, whose number is the namespace's: so groups are the
//! same on all nodes that show a subsystem, and each namespace may move alone.

use std::fmt;

use crate::listener::Listener;
use crate::status::Status;
use crate::units::Nsid;

/// ANA Transition Time: how long a transition may take, in seconds (ANATT, base 5.17.2.1).
pub(crate) const TRANSITION_S: u8 = 10;

/// How a controller reaches the namespaces of an ANA group (base 8.1.3), by the values of the
/// Asymmetric Namespace Access log page (base 5.16.1.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AnaState {
    /// In the best way there is.
    Optimized = 0x1,
    /// Not as well as another controller does.
    NonOptimized = 0x2,
    /// Not now; another controller may.
    Inaccessible = 0x3,
    /// Never again.
    PersistentLoss = 0x4,
    /// Not before the state has become another one.
    Change = 0xf,
}

impl AnaState {
    /// Every state.
    pub const ALL: [AnaState; 5] = [
        AnaState::Optimized,
        AnaState::NonOptimized,
        AnaState::Inaccessible,
        AnaState::PersistentLoss,
        AnaState::Change,
    ];

    /// Whether commands get to the data of namespaces.
    pub const fn is_accessible(self) -> bool {
        matches!(self, AnaState::Optimized | AnaState::NonOptimized)
    }

    /// Its name: SPDK's where that has one.
    pub const fn name(self) -> &'static str {
        match self {
            AnaState::Optimized => "optimized",
            AnaState::NonOptimized => "non_optimized",
            AnaState::Inaccessible => "inaccessible",
            AnaState::PersistentLoss => "persistent_loss",
            AnaState::Change => "change",
        }
    }

    /// The state of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// What a command for a namespace in this state is aborted with; none if it is not (base 8.1.3).
    pub(crate) const fn status(self) -> Option<Status> {
        match self {
            AnaState::Optimized | AnaState::NonOptimized => None,
            AnaState::Inaccessible => Some(Status::ASYMMETRIC_ACCESS_INACCESSIBLE),
            AnaState::PersistentLoss => Some(Status::ASYMMETRIC_ACCESS_PERSISTENT_LOSS),
            AnaState::Change => Some(Status::ASYMMETRIC_ACCESS_TRANSITION),
        }
    }

    /// Whether capacity is not told while a namespace is in this state (base 8.1.4).
    pub(crate) const fn hides_capacity(self) -> bool {
        matches!(self, AnaState::Inaccessible | AnaState::PersistentLoss)
    }
}

impl fmt::Display for AnaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which groups are in which states where, as it was said: what was said last holds.
#[derive(Clone, Debug)]
pub(crate) struct AnaStates {
    /// Of groups of which nothing was said.
    initial: AnaState,
    said: Vec<Said>,
}

#[derive(Clone, Copy, Debug)]
struct Said {
    /// For controllers that are connected to by it; `None`: by whichever.
    listener: Option<Listener>,
    /// `None`: every group.
    group: Option<Nsid>,
    state: AnaState,
}

impl AnaStates {
    /// Every group is in the state `initial`.
    pub fn new(initial: AnaState) -> Self {
        Self {
            initial,
            said: Vec::new(),
        }
    }

    /// Groups are in `state` from now on: one, or all, by a listener, or by all.
    pub fn say(&mut self, listener: Option<Listener>, group: Option<Nsid>, state: AnaState) {
        // What this overrules entirely would never be found again.
        self.said.retain(|old| {
            let is_listener = listener.is_none() || listener == old.listener;
            let is_group = group.is_none() || group == old.group;
            !(is_listener && is_group)
        });
        self.said.push(Said {
            listener,
            group,
            state,
        });
    }

    /// The state of `group` by `listener`; `None` is one of which nothing of its own was said.
    pub fn of(&self, listener: Option<Listener>, group: Nsid) -> AnaState {
        let fits = |said: &&Said| {
            (said.listener.is_none() || said.listener == listener)
                && said.group.is_none_or(|said| said == group)
        };
        let last = self.said.iter().rev().find(fits);
        last.map_or(self.initial, |said| said.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AnaState::{Change, Inaccessible, NonOptimized, Optimized};

    fn listener(port: u16) -> Listener {
        Listener {
            address: [192, 0, 2, 1].into(),
            port,
        }
    }

    #[test]
    fn base_8_1_3_the_state_of_a_group_is_what_was_said_of_it_last() {
        let (a, b) = (Some(listener(1)), Some(listener(2)));
        let mut states = AnaStates::new(Inaccessible);
        let of = |states: &AnaStates| {
            let groups = [Nsid(1), Nsid(2)];
            let by = |listener| groups.map(|group| states.of(listener, group));
            [by(a), by(b), by(None)]
        };
        assert_eq!(of(&states), [[Inaccessible; 2]; 3]);
        states.say(None, Some(Nsid(1)), Optimized);
        assert_eq!(of(&states), [[Optimized, Inaccessible]; 3]);
        states.say(a, None, Change);
        let rest = [Optimized, Inaccessible];
        assert_eq!(of(&states), [[Change; 2], rest, rest]);
        states.say(a, Some(Nsid(2)), NonOptimized);
        assert_eq!(of(&states), [[Change, NonOptimized], rest, rest]);
        states.say(None, Some(Nsid(1)), Inaccessible);
        let rest = [Inaccessible; 2];
        assert_eq!(of(&states), [[Inaccessible, NonOptimized], rest, rest]);
        states.say(None, None, Optimized);
        assert_eq!(of(&states), [[Optimized; 2]; 3]);
        assert_eq!(states.said.len(), 1, "nothing that is overruled is kept");
    }

    #[test]
    fn base_8_1_3_states_have_names() {
        for state in AnaState::ALL {
            assert_eq!(AnaState::of_name(state.name()), Some(state));
            assert_eq!(state.is_accessible(), state.status().is_none());
        }
        assert_eq!(AnaState::of_name("Optimized"), None);
    }
}
