//! Who may connect: `nvmf_subsystem_add_host`, `nvmf_subsystem_remove_host`,
//! `nvmf_subsystem_allow_any_host`, `nvmf_subsystem_set_keys`.

use engine::{Config, HostConfig, HostKeyConfig, SubsystemConfig};
use serde::Deserialize;
use serde_json::{Value, json};

use super::change::{Change, ChangeError};
use super::params::{Nqn, Params, read, without, without_target};
use super::target::{Running, error_of};
use crate::config::keys;
use crate::control::ErrorObject;

/// `nvmf_subsystem_add_host`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Add {
    nqn: String,
    host: Nqn,
    dhchap_key: Option<String>,
    dhchap_ctrlr_key: Option<String>,
}

impl Add {
    pub(super) fn read(mut params: Params) -> Result<Self, ErrorObject> {
        without_target(&mut params)?;
        without(&mut params, "psk", &[], "Throughline has no TLS")?;
        read(params)
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        running.change(|config| {
            let mut hosts = listed(config, &self.nqn)?;
            let keys = named(config, self.dhchap_key, self.dhchap_ctrlr_key)?;
            let nqn = self.host.0;
            if let Some(known) = hosts.iter().find(|host| host.nqn == nqn) {
                if known.keys == keys {
                    return Ok((None, Value::Bool(true)));
                }
                let why = format!(
                    "{nqn} is let in already, with other keys: nvmf_subsystem_set_keys gives it these"
                );
                return Err(ErrorObject::invalid_params(&why));
            }
            hosts.push(HostConfig { nqn, keys });
            Ok(lets_in(self.nqn, Some(hosts)))
        })
    }
}

/// `nvmf_subsystem_set_keys`: those that a host has from now on, none where they are left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetKeys {
    nqn: String,
    host: String,
    dhchap_key: Option<String>,
    dhchap_ctrlr_key: Option<String>,
}

impl SetKeys {
    pub(super) fn read(mut params: Params) -> Result<Self, ErrorObject> {
        without_target(&mut params)?;
        read(params)
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        running.change(|config| {
            let mut hosts = listed(config, &self.nqn)?;
            let keys = named(config, self.dhchap_key, self.dhchap_ctrlr_key)?;
            let Some(host) = hosts.iter_mut().find(|host| host.nqn == self.host) else {
                return Err(not_let_in(&self.nqn, &self.host));
            };
            if host.keys == keys {
                return Ok((None, Value::Bool(true)));
            }
            host.keys = keys;
            Ok(lets_in(self.nqn, Some(hosts)))
        })
    }
}

/// The hosts of a subsystem from now on, and what is answered.
fn lets_in(nqn: String, hosts: Option<Vec<HostConfig>>) -> (Option<Change>, Value) {
    (Some(Change::SetHosts { nqn, hosts }), Value::Bool(true))
}

fn not_let_in(nqn: &str, host: &str) -> ErrorObject {
    ErrorObject::invalid_params(&format!("{nqn} does not let {host} in already"))
}

/// The keys of these names.
fn named(
    config: &Config,
    host: Option<String>,
    controller: Option<String>,
) -> Result<Option<HostKeyConfig>, ErrorObject> {
    let key = |name: &String| {
        let found = keys::find(&config.target.keys, name);
        found.ok_or_else(|| {
            let why = format!("there is no key `{name}`: call keyring_file_add_key first");
            ErrorObject::invalid_params(&why)
        })
    };
    let (host, controller) = (
        host.as_ref().map(key).transpose()?,
        controller.as_ref().map(key).transpose()?,
    );
    match (host, controller) {
        (None, None) => Ok(None),
        (Some(host), controller) => Ok(Some(keys::host_keys(host, controller))),
        (None, Some(_)) => Err(ErrorObject::invalid_params(
            "the controller proves who it is to hosts that do so themselves: give `dhchap_key` too",
        )),
    }
}

/// `nvmf_subsystem_remove_host`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remove {
    nqn: String,
    host: String,
}

impl Remove {
    pub(super) fn read(mut params: Params) -> Result<Self, ErrorObject> {
        without_target(&mut params)?;
        read(params)
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        running.change(|config| {
            let mut hosts = listed(config, &self.nqn)?;
            let Some(at) = hosts.iter().position(|host| host.nqn == self.host) else {
                return Err(not_let_in(&self.nqn, &self.host));
            };
            hosts.remove(at);
            Ok(lets_in(self.nqn, Some(hosts)))
        })
    }
}

/// `nvmf_subsystem_allow_any_host`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowAny {
    nqn: String,
    allow_any_host: bool,
    /// Our own: who may connect when not any host may.
    hosts: Option<Vec<Nqn>>,
}

impl AllowAny {
    pub(super) fn read(mut params: Params) -> Result<Self, ErrorObject> {
        without_target(&mut params)?;
        let allow: Self = read(params)?;
        if allow.allow_any_host && allow.hosts.is_some() {
            let why = "`hosts` is for `allow_any_host: false`: leave it out";
            return Err(ErrorObject::invalid_params(why));
        }
        Ok(allow)
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        running.change(|config| {
            let now = &subsystem(config, &self.nqn)?.hosts;
            let given = self.hosts.map(|hosts| {
                // Those that are let in already keep their keys.
                let before = |nqn: &str| {
                    let known = now.iter().flatten().find(|known| known.nqn == nqn);
                    known.cloned().unwrap_or_else(|| HostConfig::from(nqn))
                };
                let mut unique: Vec<HostConfig> = Vec::new();
                for Nqn(host) in hosts {
                    if !unique.iter().any(|known| known.nqn == host) {
                        unique.push(before(&host));
                    }
                }
                unique
            });
            let hosts = match self.allow_any_host {
                true => None,
                false => Some(given.or_else(|| now.clone()).unwrap_or_default()),
            };
            let nqn = self.nqn;
            let change = (hosts != *now).then_some(Change::SetHosts { nqn, hosts });
            Ok((change, Value::Bool(true)))
        })
    }
}

fn subsystem<'c>(config: &'c Config, nqn: &str) -> Result<&'c SubsystemConfig, ErrorObject> {
    let found = config.target.subsystems.iter().find(|s| s.nqn == nqn);
    found.ok_or_else(|| error_of(config, &ChangeError::NoSubsystem(nqn.to_owned())))
}

/// The hosts that may connect. Where any may, there is no list to change: SPDK keeps one
/// that has no effect until then.
fn listed(config: &Config, nqn: &str) -> Result<Vec<HostConfig>, ErrorObject> {
    (subsystem(config, nqn)?.hosts.clone()).ok_or_else(|| {
        ErrorObject::invalid_params(&format!(
            "any host may connect to {nqn}, and other than SPDK Throughline keeps no list then: \
            call nvmf_subsystem_allow_any_host with `allow_any_host: false` and, in `hosts`, \
            those that may"
        ))
    })
}

/// A host and the names of its keys, as SPDK shows them.
pub(super) fn shown(host: &HostConfig) -> Value {
    let mut shown = json!({ "nqn": host.nqn });
    if let Some(keys) = &host.keys {
        shown["dhchap_key"] = keys.dhchap_key.as_str().into();
        if let Some(controller) = &keys.dhchap_ctrlr_key {
            shown["dhchap_ctrlr_key"] = controller.as_str().into();
        }
    }
    shown
}
