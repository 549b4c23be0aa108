//! Keys: `keyring_file_add_key`, `keyring_file_remove_key`, `keyring_get_keys`.
//!
//! A key is read when it is added. Who has it keeps it, whatever becomes of its file.

use std::path::PathBuf;

use engine::{HostConfig, KeyConfig};
use serde::Deserialize;
use serde_json::{Value, json};

use super::params::{Nothing, Params, read};
use super::target::Running;
use crate::config::{key_names, keys};
use crate::control::ErrorObject;

/// `keyring_file_add_key`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Add {
    name: String,
    path: PathBuf,
}

impl Add {
    pub(super) fn read(params: Params) -> Result<Self, ErrorObject> {
        read(params)
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        let refused = |wrong: crate::config::values::Wrong| {
            ErrorObject::invalid_params(&format!("{}: {}", wrong.message, wrong.help))
        };
        let name = keys::key_name(&self.name).map_err(refused)?;
        let path = self.path;
        let secret = keys::load(&path).map_err(refused)?;
        running.edit_keys(|known, _| {
            if keys::find(known, &name).is_some() {
                let why =
                    format!("there is a key `{name}` already: take another name, or remove it");
                return Err(ErrorObject::invalid_params(&why));
            }
            log::info!(
                "asked by the control socket: key `{name}` of {}",
                path.display()
            );
            known.push(KeyConfig { name, path, secret });
            Ok(Value::Bool(true))
        })
    }
}

/// `keyring_file_remove_key`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remove {
    name: String,
}

impl Remove {
    pub(super) fn read(params: Params) -> Result<Self, ErrorObject> {
        read(params)
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        running.edit_keys(|known, subsystems| {
            let Some(at) = known.iter().position(|key| key.name == self.name) else {
                let why = format!("there is no key `{}`", self.name);
                return Err(ErrorObject::invalid_params(&why));
            };
            let has_it = |host: &&HostConfig| key_names(host).any(|name| name == self.name);
            for subsystem in subsystems {
                if let Some(host) = subsystem.hosts.iter().flatten().find(has_it) {
                    let why = format!(
                        "{} has it for {}: give that host another one with nvmf_subsystem_set_keys first",
                        host.nqn, subsystem.nqn
                    );
                    return Err(ErrorObject::invalid_params(&why));
                }
            }
            known.remove(at);
            Ok(Value::Bool(true))
        })
    }
}

/// `keyring_get_keys`: names and files, and nothing of what is in them.
pub(super) fn get(_: Nothing, running: &Running) -> Value {
    let keys = running.config().target.keys;
    let shown = keys.iter().map(|key| {
        json!({ "name": key.name, "module": "keyring_file", "path": key.path.display().to_string() })
    });
    Value::Array(shown.collect())
}
