//! Stores, which SPDK's users know as bdevs: `bdev_get_bdevs`.

use engine::{Config, StoreConfig, StoreDevice};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::params::{Params, read};
use super::target::{Description, Running};
use crate::config::transport_field;
use crate::control::ErrorObject;

/// What SPDK answers where nothing has that name: its errno.
const ENODEV: i64 = -19;

/// `bdev_get_bdevs`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Get {
    name: Option<String>,
    /// Milliseconds to wait for it. Stores are there from the start: nobody waits.
    #[serde(rename = "timeout")]
    _timeout: Option<u64>,
}

impl Get {
    pub(super) fn read(params: Params) -> Result<Self, ErrorObject> {
        read(params)
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        let (config, description) = (running.config(), running.describe());
        let wanted = |store: &&StoreConfig| self.name.as_ref().is_none_or(|n| *n == store.name);
        let stores = config.stores.iter().filter(wanted);
        let shown: Vec<Value> = stores
            .map(|store| show(&config, store, &description))
            .collect();
        match self.name {
            Some(name) if shown.is_empty() => {
                let why = format!("No such device: there is no store `{name}`");
                Err(ErrorObject::new(ENODEV, why))
            }
            _ => Ok(Value::Array(shown)),
        }
    }
}

fn show(config: &Config, store: &StoreConfig, description: &Description) -> Value {
    let (product, aliases) = match &store.device {
        StoreDevice::Bdev(bdev) if *bdev == store.name => ("SPDK bdev", Vec::new()),
        StoreDevice::Bdev(bdev) => ("SPDK bdev", vec![bdev.clone()]),
        StoreDevice::Nvme { .. } => ("NVMe disk", Vec::new()),
    };
    let mut shown = json!({ "name": store.name, "aliases": aliases, "product_name": product });
    let described = description
        .stores
        .iter()
        .find(|open| open.name == store.name);
    if let Some(open) = described {
        shown["block_size"] = open.block_size.into();
        shown["num_blocks"] = open.blocks.into();
    }
    let mut namespaces = config.target.subsystems.iter().flat_map(|s| &s.namespaces);
    shown["claimed"] = namespaces.any(|ns| ns.store == store.name).into();
    shown["driver_specific"] = match &store.device {
        StoreDevice::Bdev(_) => json!({}),
        StoreDevice::Nvme { transport_id, nsid } => {
            json!({ "nvme": [{ "trid": fields(transport_id), "ns_data": { "id": nsid } }] })
        }
    };
    shown
}

/// A transport id as an object, as SPDK shows it.
fn fields(transport_id: &str) -> Value {
    let keys = ["trtype", "adrfam", "traddr", "trsvcid", "subnqn"];
    let field = |key: &str| {
        let value = transport_field(transport_id, key)?;
        Some((key.to_owned(), Value::from(value)))
    };
    Value::Object(Map::from_iter(keys.into_iter().filter_map(field)))
}
