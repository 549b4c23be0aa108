//! The running target: its configuration with what was changed since the start.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::{AnaSnapshot, Config, Handle, KeyConfig, SubsystemConfig};

use super::change::{self, Change, ChangeError};
use crate::config::{Source, digest};
use crate::control::ErrorObject;

/// How long shards may take to make a change.
const CHANGE: Duration = Duration::from_secs(5);

/// What methods need of the engine.
pub(crate) trait Target: Send + Sync {
    /// Makes a change on every shard, or says why not.
    ///
    /// # Errors
    /// Nothing has changed, but for [`ChangeError::Unanswered`].
    fn change(&self, change: Change, timeout: Duration) -> Result<(), ChangeError>;

    /// What only the engine knows.
    fn describe(&self) -> Description;
}

/// What the configuration does not say of the stores and namespaces there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Description {
    /// Stores that are open.
    pub(crate) stores: Vec<StoreDescription>,
    /// Namespaces as hosts see them.
    pub(crate) namespaces: Vec<NamespaceDescription>,
    /// How hosts reach those of subsystems that report asymmetric access.
    pub(crate) ana: Vec<AnaSnapshot>,
}

/// An open store.
#[derive(Clone, Debug)]
pub(crate) struct StoreDescription {
    /// Its name in the configuration.
    pub(crate) name: String,
    /// Bytes of a block.
    pub(crate) block_size: u32,
    /// Number of blocks.
    pub(crate) blocks: u64,
}

/// A namespace as hosts see it.
#[derive(Clone, Debug)]
pub(crate) struct NamespaceDescription {
    /// NQN of its subsystem.
    pub(crate) nqn: String,
    /// Its number there.
    pub(crate) nsid: u32,
    /// Its UUID, given or derived.
    pub(crate) uuid: [u8; 16],
    /// Its NGUID, given or derived.
    pub(crate) nguid: [u8; 16],
}

impl Target for Handle {
    fn change(&self, change: Change, timeout: Duration) -> Result<(), ChangeError> {
        Handle::change(self, change, timeout)
    }

    fn describe(&self) -> Description {
        let (stores, namespaces) = self.offered();
        let store = |store: engine::StoreInfo| StoreDescription {
            name: store.name,
            block_size: store.geometry.block_size,
            blocks: store.geometry.blocks,
        };
        let namespace =
            |(nqn, namespace): (String, engine::OfferedNamespace)| NamespaceDescription {
                nqn,
                nsid: namespace.nsid.0,
                uuid: namespace.uuid,
                nguid: namespace.nguid,
            };
        Description {
            stores: stores.into_iter().map(store).collect(),
            namespaces: namespaces.into_iter().map(namespace).collect(),
            ana: self.ana_states(),
        }
    }
}

/// The target, the configuration it runs with, and the file that came from.
pub(crate) struct Running {
    target: Box<dyn Target>,
    source: Source,
    state: Mutex<State>,
}

struct State {
    config: Config,
    /// Digests of the files that this program has read or given.
    known: Vec<String>,
}

impl Running {
    pub(crate) fn new(target: Box<dyn Target>, config: Config, source: Source) -> Self {
        let known = vec![digest(source.text())];
        Self {
            target,
            source,
            state: Mutex::new(State { config, known }),
        }
    }

    /// The configuration as it is now.
    pub(super) fn config(&self) -> Config {
        self.state().config.clone()
    }

    /// What only the engine knows.
    pub(super) fn describe(&self) -> Description {
        self.target.describe()
    }

    /// Makes the change that `decide` derives from the configuration as it is, if
    /// any, before anybody else makes another.
    pub(super) fn change<T>(
        &self,
        decide: impl FnOnce(&Config) -> Result<(Option<Change>, T), ErrorObject>,
    ) -> Result<T, ErrorObject> {
        let mut state = self.state();
        let (change, result) = decide(&state.config)?;
        let Some(change) = change else {
            return Ok(result);
        };
        let mut next = state.config.clone();
        (change::apply(&change, &mut next)).map_err(|error| error_of(&state.config, &error))?;
        log::info!("asked by the control socket: {change:?}");
        match self.target.change(change, CHANGE) {
            Ok(()) => {
                state.config = next;
                Ok(result)
            }
            Err(error) => {
                log::warn!("a change was not made: {error}");
                let refusal = error_of(&state.config, &error);
                if error == ChangeError::Unanswered {
                    state.config = next;
                }
                Err(refusal)
            }
        }
    }

    /// Changes the keys that hosts may be given, of these subsystems.
    pub(super) fn edit_keys<T>(
        &self,
        edit: impl FnOnce(&mut Vec<KeyConfig>, &[SubsystemConfig]) -> Result<T, ErrorObject>,
    ) -> Result<T, ErrorObject> {
        let target = &mut self.state().config.target;
        edit(&mut target.keys, &target.subsystems)
    }

    /// Frames of the pair that has the volume on a store are so long from now on, if `set` has it done.
    pub(super) fn set_frame_size(
        &self,
        store: &str,
        bytes: u32,
        set: impl FnOnce() -> Result<(), ErrorObject>,
    ) -> Result<(), ErrorObject> {
        let mut state = self.state();
        set()?;
        for pair in &mut state.config.pairs {
            if pair.volumes.iter().any(|volume| volume.store == store) {
                pair.frame_bytes = bytes;
            }
        }
        Ok(())
    }

    /// The file with what was changed, where it is, and the digests of files that
    /// it may replace without a loss.
    pub(super) fn file(&self) -> Result<(String, String, Vec<String>), ErrorObject> {
        let mut state = self.state();
        let text = (self.source.with(&state.config)).map_err(ErrorObject::internal)?;
        let own = digest(&text);
        if !state.known.contains(&own) {
            state.known.push(own);
        }
        let path = self.source.path().display().to_string();
        Ok((path, text, state.known.clone()))
    }

    /// A panic elsewhere leaves a configuration that is whole: it is replaced at once.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error as JSON-RPC has it, with what there is in place of what is not.
pub(super) fn error_of(config: &Config, error: &ChangeError) -> ErrorObject {
    let list = |names: Vec<String>| match names.is_empty() {
        true => "there is none".to_owned(),
        false => format!("there is {}", names.join(", ")),
    };
    let subsystems = &config.target.subsystems;
    let hint = match error {
        ChangeError::Unanswered => return ErrorObject::internal(error.to_string()),
        ChangeError::NotServing | ChangeError::Refused(_) => {
            return ErrorObject::internal(format!("Not changed: {error}"));
        }
        ChangeError::NoSubsystem(_) => list(subsystems.iter().map(|s| s.nqn.clone()).collect()),
        ChangeError::SubsystemExists(_) => "take another NQN, or delete it first".into(),
        ChangeError::NoNamespace(nqn, _) => {
            let namespaces = subsystems.iter().filter(|s| s.nqn == *nqn);
            let nsids = namespaces.flat_map(|s| &s.namespaces);
            list(nsids.map(|ns| ns.nsid.to_string()).collect())
        }
        ChangeError::NamespaceExists(..) => "take another `nsid`, or leave it out".into(),
        ChangeError::NsidOutOfRange(_) => "leave it out for the lowest that is free".into(),
        ChangeError::NoStore(_) => list(config.store_names().map(str::to_owned).collect()),
        ChangeError::StoreTaken(..) => {
            "remove that namespace first: a store is one namespace at most".into()
        }
        ChangeError::IdentifierTaken(field, ..) => {
            format!("take another `{field}`, or leave it out to have one derived")
        }
        ChangeError::NoAna(_) => {
            "write `ana = \"optimized\"` in its section of the configuration, or create it with `ana_reporting`".into()
        }
        ChangeError::NoAddress(_) => {
            let addresses = config.ports.iter().flat_map(|port| &port.addresses);
            list(addresses.map(|(address, _)| address.to_string()).collect())
        }
        ChangeError::ListenerExists(_) | ChangeError::NoListener(_) => {
            let listeners = config.target.listeners.iter();
            list(listeners.map(|l| l.address().to_string()).collect())
        }
    };
    ErrorObject::invalid_params(&format!("{error}: {hint}"))
}
