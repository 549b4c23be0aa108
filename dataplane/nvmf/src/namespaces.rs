//! The namespaces of a subsystem at some time, as some of its controllers see them.

use crate::ana::{AnaState, AnaStates};
use crate::config::NamespaceConfig;
use crate::listener::Listener;
use crate::status::Status;
use crate::units::Nsid;
use block::NamespaceIndex;

/// The namespaces of a subsystem at some time, by number, and the states of their ANA groups by
/// some of its listeners.
#[derive(Debug)]
pub(crate) struct Namespaces {
    pub(crate) generation: u64,
    by_nsid: Box<[Entry]>,
    /// None if the subsystem does not report asymmetric access.
    groups: Option<Groups>,
}

/// What a number stands for.
///
/// Namespaces that are withheld are told from others by their entries: commands for the others, which find an entry
/// that serves or none, pay nothing for that.
#[derive(Clone, Debug)]
enum Entry {
    /// No namespace.
    Inactive,
    /// A backup that is not to be read now: to hosts, no namespace.
    Hidden(NamespaceConfig),
    /// A namespace that commands get to.
    Serving(NamespaceConfig),
    /// A namespace whose group is in a state in which they do not (base 8.1.3).
    Withheld(NamespaceConfig),
}

/// The ANA groups of the namespaces.
#[derive(Debug)]
struct Groups {
    /// How often what the log page says of them was changed.
    changes: u64,
    /// One for each entry.
    list: Box<[Group]>,
}

/// An ANA group, of one namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub state: AnaState,
    /// How often the log page had been changed when this was.
    pub changes: u64,
}

impl Namespaces {
    /// Those that a subsystem begins with: its backups are not among them.
    pub fn new(
        namespaces: Vec<NamespaceConfig>,
        states: Option<&AnaStates>,
        listener: Option<Listener>,
    ) -> Self {
        let none = Self {
            generation: 0,
            by_nsid: Box::default(),
            groups: None,
        };
        Self {
            generation: 0,
            ..Self::after(&none, namespaces, states, &[], listener)
        }
    }

    /// Those that come after `before`, in the states that `states` has for `listener`; of backups, those that are `readable`.
    pub fn after(
        before: &Self,
        namespaces: Vec<NamespaceConfig>,
        states: Option<&AnaStates>,
        readable: &[NamespaceIndex],
        listener: Option<Listener>,
    ) -> Self {
        let highest = namespaces.iter().map(|ns| ns.nsid.0).max().unwrap_or(0);
        let mut by_nsid = vec![Entry::Inactive; highest as usize].into_boxed_slice();
        for ns in namespaces {
            let state = states.map(|states| states.of(listener, ns.nsid));
            let at = ns.nsid.0 as usize - 1;
            by_nsid[at] = match state {
                _ if ns.is_backup && !readable.contains(&ns.index) => Entry::Hidden(ns),
                Some(state) if !state.is_accessible() => Entry::Withheld(ns),
                _ => Entry::Serving(ns),
            };
        }
        let mut next = Self {
            generation: before.generation + 1,
            by_nsid,
            groups: None,
        };
        next.groups = states.map(|states| Groups::after(before, &next, states, listener));
        next
    }

    /// The namespace `nsid`, if it is active.
    pub fn get(&self, nsid: Nsid) -> Option<&NamespaceConfig> {
        match self.entry(nsid)? {
            Entry::Inactive | Entry::Hidden(_) => None,
            Entry::Serving(ns) | Entry::Withheld(ns) => Some(ns),
        }
    }

    /// The namespace `nsid`, if commands get to it.
    #[inline]
    pub fn serving(&self, nsid: Nsid) -> Option<&NamespaceConfig> {
        match self.entry(nsid)? {
            Entry::Serving(ns) => Some(ns),
            _ => None,
        }
    }

    #[inline]
    fn entry(&self, nsid: Nsid) -> Option<&Entry> {
        let at = (nsid.0 as usize).checked_sub(1)?;
        self.by_nsid.get(at)
    }

    /// Why commands do not get to the namespace `nsid`.
    #[cold]
    pub fn refusal(&self, nsid: Nsid) -> Status {
        let status = self.group(nsid).and_then(|group| group.state.status());
        status.unwrap_or(Status::INVALID_NAMESPACE)
    }

    /// The active namespaces, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &NamespaceConfig> {
        self.by_nsid.iter().filter_map(|entry| match entry {
            Entry::Inactive | Entry::Hidden(_) => None,
            Entry::Serving(ns) | Entry::Withheld(ns) => Some(ns),
        })
    }

    /// The same, and those that are hidden.
    pub fn all(&self) -> impl Iterator<Item = &NamespaceConfig> {
        self.by_nsid.iter().filter_map(|entry| match entry {
            Entry::Inactive => None,
            Entry::Hidden(ns) | Entry::Serving(ns) | Entry::Withheld(ns) => Some(ns),
        })
    }

    /// Whether the subsystem reports asymmetric access.
    pub fn has_groups(&self) -> bool {
        self.groups.is_some()
    }

    /// The ANA group of the active namespace `nsid`; none if the subsystem does not report asymmetric access.
    pub fn group(&self, nsid: Nsid) -> Option<Group> {
        self.get(nsid)?;
        let groups = self.groups.as_ref()?;
        groups.list.get(nsid.0 as usize - 1).copied()
    }

    /// How often what the log page says of ANA groups was changed.
    pub fn group_changes(&self) -> u64 {
        self.groups.as_ref().map_or(0, |groups| groups.changes)
    }

    /// The state of a group that withholds its namespaces, if there is one.
    pub fn withholding(&self) -> Option<AnaState> {
        let mut groups = self.iter().filter_map(|ns| self.group(ns.nsid));
        let withholding = groups.find(|group| !group.state.is_accessible());
        withholding.map(|group| group.state)
    }
}

impl Groups {
    /// Those of `now`, which comes after `before`.
    fn after(
        before: &Namespaces,
        now: &Namespaces,
        states: &AnaStates,
        listener: Option<Listener>,
    ) -> Self {
        let changes = before.group_changes();
        let mut any = before.iter().any(|ns| now.get(ns.nsid).is_none());
        let mut group = |at: usize| {
            let nsid = Nsid(at as u32 + 1);
            let state = states.of(listener, nsid);
            match before.group(nsid) {
                Some(group) if group.state == state => group,
                was => {
                    any |= was.is_some() || now.get(nsid).is_some();
                    let changes = changes + 1;
                    Group { state, changes }
                }
            }
        };
        let list = (0..now.by_nsid.len()).map(&mut group).collect();
        Self {
            changes: changes + u64::from(any),
            list,
        }
    }
}
