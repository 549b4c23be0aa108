//! Who may connect: `nvmf_subsystem_add_host`, `nvmf_subsystem_remove_host`,
//! `nvmf_subsystem_allow_any_host`.

use engine::{Config, SubsystemConfig};
use serde::Deserialize;
use serde_json::Value;

use super::change::{Change, ChangeError};
use super::params::{Nqn, Params, read, without, without_target};
use super::target::{Running, error_of};
use crate::control::ErrorObject;

/// `nvmf_subsystem_add_host`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Add {
    nqn: String,
    host: Nqn,
}

impl Add {
    pub(super) fn read(mut params: Params) -> Result<Self, ErrorObject> {
        without_target(&mut params)?;
        for secret in ["psk", "dhchap_key", "dhchap_ctrlr_key"] {
            without(
                &mut params,
                secret,
                &[],
                "Throughline authenticates no hosts",
            )?;
        }
        read(params)
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        running.change(|config| {
            let mut hosts = listed(config, &self.nqn)?;
            let host = self.host.0;
            if hosts.contains(&host) {
                return Ok((None, Value::Bool(true)));
            }
            hosts.push(host);
            let (nqn, hosts) = (self.nqn, Some(hosts));
            Ok((Some(Change::SetHosts { nqn, hosts }), Value::Bool(true)))
        })
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
            let Some(at) = hosts.iter().position(|host| *host == self.host) else {
                let why = format!("{} does not let {} in already", self.nqn, self.host);
                return Err(ErrorObject::invalid_params(&why));
            };
            hosts.remove(at);
            let (nqn, hosts) = (self.nqn, Some(hosts));
            Ok((Some(Change::SetHosts { nqn, hosts }), Value::Bool(true)))
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
                let mut unique: Vec<String> = Vec::new();
                for Nqn(host) in hosts {
                    if !unique.contains(&host) {
                        unique.push(host);
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
fn listed(config: &Config, nqn: &str) -> Result<Vec<String>, ErrorObject> {
    (subsystem(config, nqn)?.hosts.clone()).ok_or_else(|| {
        ErrorObject::invalid_params(&format!(
            "any host may connect to {nqn}, and other than SPDK Throughline keeps no list then: \
            call nvmf_subsystem_allow_any_host with `allow_any_host: false` and, in `hosts`, \
            those that may"
        ))
    })
}
