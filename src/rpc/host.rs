//! Who may connect: `nvmf_subsystem_add_host`, `nvmf_subsystem_remove_host`,
//! `nvmf_subsystem_allow_any_host`, `nvmf_subsystem_set_keys`.

use engine::{Config, HostConfig, HostKeyConfig, KeyConfig, PskConfig, SubsystemConfig};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::change::{Change, ChangeError};
use super::params::{Nqn, Params, read, without_target};
use super::target::{Running, error_of};
use crate::config::keys;
use crate::config::values::Wrong;
use crate::control::ErrorObject;

/// `nvmf_subsystem_add_host`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Add {
    nqn: String,
    host: Nqn,
    psk: Option<String>,
    dhchap_key: Option<String>,
    dhchap_ctrlr_key: Option<String>,
}

impl Add {
    pub(super) fn read(mut params: Params) -> Result<Self, ErrorObject> {
        without_target(&mut params)?;
        read(params)
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        running.change(|config| {
            let mut hosts = listed(config, &self.nqn)?;
            let keys = named(config, self.dhchap_key, self.dhchap_ctrlr_key)?;
            let psk = self.psk.map(|name| named_psk(config, &name)).transpose()?;
            let nqn = self.host.0;
            if let Some(known) = hosts.iter().find(|host| host.nqn == nqn) {
                if known.keys == keys && known.psk == psk {
                    return Ok((None, Value::Bool(true)));
                }
                let why = format!(
                    "{nqn} is let in already, with other keys: nvmf_subsystem_set_keys gives it these"
                );
                return Err(ErrorObject::invalid_params(&why));
            }
            hosts.push(HostConfig { nqn, keys, psk });
            Ok(lets_in(self.nqn, Some(hosts)))
        })
    }
}

/// `nvmf_subsystem_set_keys`: those of DH-HMAC-CHAP that a host has from now on, none where they are left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetKeys {
    nqn: String,
    host: String,
    /// Our own: the PSK that it has from now on; null for none. It has the one that it had if this is left out, as SPDK's clients do.
    #[serde(default, deserialize_with = "given")]
    psk: Option<Option<String>>,
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
            let psk = match self.psk {
                None => host.psk.clone(),
                Some(name) => name.map(|name| named_psk(config, &name)).transpose()?,
            };
            if host.keys == keys && host.psk == psk {
                return Ok((None, Value::Bool(true)));
            }
            (host.keys, host.psk) = (keys, psk);
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

/// A value that is there, null included.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// The key of that name, as what it is to be.
fn key_named<T>(
    config: &Config,
    name: &str,
    of: fn(&KeyConfig) -> Result<T, Wrong>,
) -> Result<T, ErrorObject> {
    let found = keys::find(&config.target.keys, name);
    let key = found.ok_or_else(|| {
        let why = format!("there is no key `{name}`: call keyring_file_add_key first");
        ErrorObject::invalid_params(&why)
    })?;
    of(key)
        .map_err(|wrong| ErrorObject::invalid_params(&format!("{}: {}", wrong.message, wrong.help)))
}

/// The PSK of that name.
fn named_psk(config: &Config, name: &str) -> Result<PskConfig, ErrorObject> {
    key_named(config, name, keys::psk)
}

/// The keys of these names.
fn named(
    config: &Config,
    host: Option<String>,
    controller: Option<String>,
) -> Result<Option<HostKeyConfig>, ErrorObject> {
    let key = |name: String| key_named(config, &name, keys::dhchap);
    let (host, controller) = (host.map(key).transpose()?, controller.map(key).transpose()?);
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
    if let Some(psk) = &host.psk {
        shown["psk"] = psk.name.as_str().into();
    }
    shown
}
