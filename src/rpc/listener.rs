//! Where the target listens: `nvmf_subsystem_add_listener`, `nvmf_subsystem_remove_listener`.
//!
//! SPDK's listeners belong to subsystems, ours to the target: a host that reaches one
//! reaches every subsystem that lets it in.

use std::net::{IpAddr, SocketAddr};

use engine::{Config, ListenerConfig, Tls};
use serde::Deserialize;
use serde_json::{Value, json};

use super::change::{Change, ChangeError};
use super::params::{DISCOVERY, Params, read, without, without_target};
use super::target::{Running, error_of};
use crate::control::ErrorObject;

/// Both methods' parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    nqn: String,
    listen_address: ListenAddress,
}

/// What more a listener that comes may be given.
#[derive(Debug, Default, Deserialize)]
struct Encryption {
    /// As SPDK has it: TLS, for all that connect.
    secure_channel: Option<bool>,
    /// Our own: whether connections are encrypted.
    tls: Option<Encrypted>,
}

/// The name of a [`Tls`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encrypted {
    Off,
    Allowed,
    Required,
}

impl Encryption {
    fn take(params: &mut Params) -> Result<Tls, ErrorObject> {
        let keys = ["secure_channel", "tls"];
        let own = keys.iter().filter_map(|&key| params.remove_entry(key));
        let said: Self = read(own.collect())?;
        let tls = said.tls.map(|tls| match tls {
            Encrypted::Off => Tls::Off,
            Encrypted::Allowed => Tls::Allowed,
            Encrypted::Required => Tls::Required,
        });
        let secure = said.secure_channel.map(|secure| match secure {
            true => Tls::Required,
            false => Tls::Off,
        });
        match (tls, secure) {
            (Some(tls), Some(secure)) if tls != secure => Err(ErrorObject::invalid_params(
                "`secure_channel` is `tls: \"required\"`, and both are given: leave one out",
            )),
            (tls, secure) => Ok(tls.or(secure).unwrap_or_default()),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenAddress {
    trtype: String,
    adrfam: Option<String>,
    traddr: IpAddr,
    trsvcid: String,
}

impl Given {
    fn read(mut params: Params) -> Result<(String, SocketAddr), ErrorObject> {
        without_target(&mut params)?;
        let given: Self = read(params)?;
        Ok((given.nqn, given.listen_address.check()?))
    }
}

impl ListenAddress {
    pub(super) fn check(self) -> Result<SocketAddr, ErrorObject> {
        let refuse = |why: String| Err(ErrorObject::invalid_params(&why));
        if !self.trtype.eq_ignore_ascii_case("tcp") {
            let why = "`listen_address.trtype` is \"TCP\": Throughline has no other transport";
            return refuse(why.into());
        }
        let family = if self.traddr.is_ipv4() {
            "IPv4"
        } else {
            "IPv6"
        };
        if let Some(given) = self
            .adrfam
            .filter(|given| !given.eq_ignore_ascii_case(family))
        {
            return refuse(format!(
                "`listen_address.adrfam` of {} is \"{family}\", not \"{given}\"",
                self.traddr
            ));
        }
        match self.trsvcid.parse::<u16>() {
            Ok(port) if port != 0 => Ok(SocketAddr::new(self.traddr, port)),
            _ => refuse(format!(
                "`listen_address.trsvcid` is a TCP port as a string, such as \"4420\", not \"{}\"",
                self.trsvcid
            )),
        }
    }
}

/// `nvmf_subsystem_add_listener`
#[derive(Debug)]
pub(super) struct Add {
    nqn: String,
    listener: ListenerConfig,
}

impl Add {
    pub(super) fn read(mut params: Params) -> Result<Self, ErrorObject> {
        let tls = Encryption::take(&mut params)?;
        let optimized = [json!("optimized")];
        without(
            &mut params,
            "ana_state",
            &optimized,
            "call nvmf_subsystem_listener_set_ana_state for another state",
        )?;
        without(&mut params, "sock_impl", &[], "Throughline has its own TCP")?;
        let (nqn, address) = Given::read(params)?;
        let listener = ListenerConfig {
            tls,
            ..address.into()
        };
        Ok(Self { nqn, listener })
    }

    /// Where the target listens already, the subsystem can be reached there, which is what is asked for.
    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        running.change(|config| {
            check_subsystem(config, &self.nqn)?;
            let address = self.listener.address();
            let mut listeners = config.target.listeners.iter();
            let known = listeners.find(|known| known.address() == address);
            if let Some(known) = known
                && known.tls != self.listener.tls
            {
                let (now, asked) = (known.tls.name(), self.listener.tls.name());
                return Err(ErrorObject::invalid_params(&format!(
                    "the target listens at {address} with `tls: \"{now}\"`, not \"{asked}\": remove that listener first"
                )));
            }
            let change = known.is_none().then_some(Change::AddListener(self.listener));
            Ok((change, Value::Bool(true)))
        })
    }
}

/// `nvmf_subsystem_remove_listener`
#[derive(Debug)]
pub(super) struct Remove {
    nqn: String,
    address: SocketAddr,
}

impl Remove {
    pub(super) fn read(params: Params) -> Result<Self, ErrorObject> {
        let (nqn, address) = Given::read(params)?;
        Ok(Self { nqn, address })
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        running.change(|config| {
            check_subsystem(config, &self.nqn)?;
            let subsystems = &config.target.subsystems;
            let others = subsystems.iter().any(|other| other.nqn != self.nqn);
            if self.nqn != DISCOVERY && others && listens(config, self.address) {
                return Err(ErrorObject::invalid_params(&format!(
                    "{} is every subsystem's, other than in SPDK: call this with the `nqn` {DISCOVERY} \
                    to close it for all, or change the subsystem's hosts",
                    self.address
                )));
            }
            Ok((Some(Change::RemoveListener(self.address)), Value::Bool(true)))
        })
    }
}

fn listens(config: &Config, address: SocketAddr) -> bool {
    let mut listeners = config.target.listeners.iter();
    listeners.any(|listener| listener.address() == address)
}

/// The subsystem is there, or the whole target is meant.
fn check_subsystem(config: &Config, nqn: &str) -> Result<(), ErrorObject> {
    let known = config.target.subsystems.iter().any(|s| s.nqn == nqn);
    if nqn == DISCOVERY || known {
        return Ok(());
    }
    Err(error_of(config, &ChangeError::NoSubsystem(nqn.to_owned())))
}

/// A listener as SPDK shows it, and beyond that whether it has TLS.
pub(super) fn shown(listener: &ListenerConfig) -> Value {
    let address = listener.address();
    let mut shown = json!({
        "trtype": "TCP",
        "adrfam": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "traddr": address.ip().to_string(),
        "trsvcid": address.port().to_string(),
    });
    if listener.tls != Tls::Off {
        shown["tls"] = listener.tls.name().into();
    }
    shown
}
