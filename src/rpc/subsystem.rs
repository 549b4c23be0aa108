//! Subsystems: `nvmf_create_subsystem`, `nvmf_delete_subsystem`, `nvmf_get_subsystems`.

use engine::{AnaState, CNTLIDS, Config, NamespaceConfig, SubsystemConfig, WritePolicy};
use serde::Deserialize;
use serde_json::{Value, json};

use super::change::{Change, NSID_MAX};
use super::params::{DISCOVERY, Identify, Nqn, Params, Within, read, without, without_target};
use super::target::{Description, Running};
use super::{ana, host, listener};
use crate::config::{default_serial, nguid_text, uuid_text};
use crate::control::ErrorObject;

/// What SPDK answers where nothing has that name: its errno.
const ENODEV: i64 = -19;

/// `nvmf_create_subsystem`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    nqn: Nqn,
    serial_number: Option<Identify<20>>,
    model_number: Option<Identify<40>>,
    #[serde(default)]
    allow_any_host: bool,
    #[serde(default)]
    ana_reporting: bool,
    #[serde(default = "Cntlid::least")]
    min_cntlid: Cntlid,
    #[serde(default = "Cntlid::most")]
    max_cntlid: Cntlid,
}

/// A number that a controller may have: [`CNTLIDS`].
type Cntlid = Within<1, 65519>;

impl Cntlid {
    fn least() -> Self {
        Self((*CNTLIDS.start()).into())
    }

    fn most() -> Self {
        Self((*CNTLIDS.end()).into())
    }
}

impl Create {
    pub(super) fn read(mut params: Params) -> Result<Self, ErrorObject> {
        without_target(&mut params)?;
        let no = [json!(false)];
        let none = [json!(0)];
        let mut without = |key, harmless: &[Value], why| without(&mut params, key, harmless, why);
        without("passthrough", &no, "Throughline passes no command through")?;
        without("enable_nssr", &no, "Throughline has no subsystem reset")?;
        let namespaces = [json!(0), json!(NSID_MAX)];
        let why = "every subsystem takes 1024 namespaces";
        without("max_namespaces", &namespaces, why)?;
        let why = "the largest transfer limits these commands too";
        for limit in [
            "max_discard_size_kib",
            "max_write_zeroes_size_kib",
            "dmrsl",
            "wzsl",
        ] {
            without(limit, &none, why)?;
        }
        let create: Self = read(params)?;
        if create.min_cntlid > create.max_cntlid {
            let why = "`min_cntlid` is not above `max_cntlid`";
            return Err(ErrorObject::invalid_params(why));
        }
        Ok(create)
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        running.change(|config| {
            let serial = self.serial_number.map(|serial| serial.0);
            let subsystem = SubsystemConfig {
                nqn: self.nqn.0,
                serial: serial.unwrap_or_else(|| free_serial(config)),
                model: self
                    .model_number
                    .map_or("Throughline".into(), |model| model.0),
                hosts: (!self.allow_any_host).then(Vec::new),
                ana: self.ana_reporting.then_some(AnaState::Optimized),
                controller_ids: self.min_cntlid.0 as u16..=self.max_cntlid.0 as u16,
                peer_listeners: Vec::new(),
                namespaces: Vec::new(),
            };
            Ok((Some(Change::AddSubsystem(subsystem)), Value::Bool(true)))
        })
    }
}

/// The first of the serial numbers that subsystems have by themselves and none has.
fn free_serial(config: &Config) -> String {
    let subsystems = &config.target.subsystems;
    let serials = (0..).map(default_serial);
    let mut free = serials.filter(|serial| !subsystems.iter().any(|s| s.serial == *serial));
    free.next().unwrap_or_default()
}

/// `nvmf_delete_subsystem`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delete {
    nqn: String,
}

impl Delete {
    pub(super) fn read(mut params: Params) -> Result<Self, ErrorObject> {
        without_target(&mut params)?;
        read(params)
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        let change = Change::RemoveSubsystem { nqn: self.nqn };
        running.change(|_| Ok((Some(change), Value::Bool(true))))
    }
}

/// `nvmf_get_subsystems`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Get {
    nqn: Option<String>,
}

impl Get {
    pub(super) fn read(mut params: Params) -> Result<Self, ErrorObject> {
        without_target(&mut params)?;
        read(params)
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        let (config, description) = (running.config(), running.describe());
        let listeners: Vec<Value> = (config.target.listeners.iter())
            .map(listener::shown)
            .collect();
        let discovery = json!({
            "nqn": DISCOVERY,
            "subtype": "Discovery",
            "listen_addresses": listeners,
            "allow_any_host": true,
            "hosts": [],
        });
        let subsystems = config.target.subsystems.iter();
        let shown = subsystems.map(|subsystem| show(subsystem, &listeners, &description));
        let mut all: Vec<Value> = [discovery].into_iter().chain(shown).collect();
        if let Some(nqn) = &self.nqn {
            all.retain(|subsystem| subsystem["nqn"] == **nqn);
            if all.is_empty() {
                let why = format!("No such device: there is no subsystem {nqn}");
                return Err(ErrorObject::new(ENODEV, why));
            }
        }
        Ok(Value::Array(all))
    }
}

fn show(subsystem: &SubsystemConfig, listeners: &[Value], description: &Description) -> Value {
    let hosts = subsystem.hosts.iter().flatten();
    let hosts: Vec<Value> = hosts.map(host::shown).collect();
    let namespaces = subsystem.namespaces.iter();
    let namespaces: Vec<Value> = namespaces
        .map(|namespace| show_namespace(subsystem, namespace, description))
        .collect();
    let mut shown = json!({
        "nqn": subsystem.nqn,
        "subtype": "NVMe",
        "listen_addresses": listeners,
        "allow_any_host": subsystem.hosts.is_none(),
        "hosts": hosts,
        "serial_number": subsystem.serial,
        "model_number": subsystem.model,
        "max_namespaces": NSID_MAX,
        "min_cntlid": subsystem.controller_ids.start(),
        "max_cntlid": subsystem.controller_ids.end(),
        "namespaces": namespaces,
    });
    if subsystem.ana.is_some() {
        shown["ana_reporting"] = true.into();
    }
    shown
}

fn show_namespace(
    subsystem: &SubsystemConfig,
    namespace: &NamespaceConfig,
    description: &Description,
) -> Value {
    let nqn = &subsystem.nqn;
    let mut shown = json!({
        "nsid": namespace.nsid,
        "bdev_name": namespace.store,
        "name": namespace.store,
    });
    let mut described = description.namespaces.iter();
    let described = described.find(|ns| ns.nqn == *nqn && ns.nsid == namespace.nsid);
    if let Some(nguid) = namespace.nguid.or(described.map(|ns| ns.nguid)) {
        // SPDK writes this one in capitals.
        shown["nguid"] = nguid_text(nguid).to_uppercase().into();
    }
    if let Some(uuid) = namespace.uuid.or(described.map(|ns| ns.uuid)) {
        shown["uuid"] = uuid_text(uuid).into();
    }
    shown["write"] = match namespace.write {
        WritePolicy::Through => "through",
        WritePolicy::Back => "back",
        WritePolicy::Logged => "logged",
    }
    .into();
    if namespace.backup_of.is_some() {
        shown["backup"] = true.into();
    }
    if let Some(size) = namespace.block_size {
        shown["block_size"] = size.into();
    }
    if subsystem.ana.is_some() {
        shown["anagrpid"] = namespace.nsid.into();
        shown["ana_states"] = ana::states(nqn, namespace.nsid, description);
    }
    shown
}
