//! Stores, which SPDK's users know as bdevs: `bdev_get_bdevs`.

use engine::{Config, SpanConfig, StoreConfig, StoreDevice};
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
        let wanted = |name: &str| self.name.as_ref().is_none_or(|n| n == name);
        let stores = config.stores.iter().filter(|store| wanted(&store.name));
        let spans = config.spans.iter().filter(|span| wanted(&span.name));
        let stores = stores.map(|store| show(&config, store, &description));
        let spans = spans.map(|span| show_span(&config, span, &description));
        let shown: Vec<Value> = stores.chain(spans).collect();
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
    add_size(&mut shown, &store.name, description);
    let is_part = config.span_on(&store.name).is_some();
    shown["claimed"] = (is_part || is_namespace(config, &store.name)).into();
    shown["driver_specific"] = match &store.device {
        StoreDevice::Bdev(_) => json!({}),
        StoreDevice::Nvme { transport_id, nsid } => {
            json!({ "nvme": [{ "trid": fields(transport_id), "ns_data": { "id": nsid } }] })
        }
    };
    shown
}

/// What lies on several stores, much as SPDK shows a raid of level `concat`.
fn show_span(config: &Config, span: &SpanConfig, description: &Description) -> Value {
    let mut shown = json!({ "name": span.name, "aliases": [], "product_name": "Span" });
    add_size(&mut shown, &span.name, description);
    shown["claimed"] = is_namespace(config, &span.name).into();
    shown["driver_specific"] = json!({ "span": { "base_bdevs_list": span.stores } });
    shown
}

fn add_size(shown: &mut Value, store: &str, description: &Description) {
    let mut open = description.stores.iter();
    if let Some(open) = open.find(|open| open.name == store) {
        shown["block_size"] = open.block_size.into();
        shown["num_blocks"] = open.blocks.into();
    }
}

fn is_namespace(config: &Config, store: &str) -> bool {
    let mut namespaces = config.target.subsystems.iter().flat_map(|s| &s.namespaces);
    namespaces.any(|ns| ns.store == store)
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
