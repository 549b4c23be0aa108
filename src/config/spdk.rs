//! `[spdk]`: SPDK's own JSON configuration, with the malloc stores added.

mod saved;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Surroundings;
use super::reader::{Item, Section, Sink};
use super::stores::{Malloc, Stores};
use super::values;

/// What SPDK is started with.
pub(super) struct Spdk {
    pub(super) json: Option<String>,
    pub(super) pci_allow: Vec<String>,
    /// What of the kernel's bdevs are made of, by the bdev's name.
    pub(super) files: Vec<(String, PathBuf)>,
}

pub(super) fn read(
    root: &Section<'_>,
    stores: &Stores,
    surroundings: &Surroundings<'_>,
    warnings: &Sink,
) -> Spdk {
    let section = root.table("spdk");
    let config = section.as_ref().and_then(|section| section.get("config"));
    let mut pci_allow = section.as_ref().map(read_pci_allow).unwrap_or_default();
    if let Some(section) = section {
        section.finish();
    }
    if config.is_none() {
        refuse_unmade(root, stores);
    }
    let document = config
        .as_ref()
        .and_then(|item| read_document(item, stores, surroundings, warnings));
    if document.is_none() && stores.mallocs.is_empty() {
        return Spdk {
            json: None,
            pci_allow,
            files: Vec::new(),
        };
    }
    let is_theirs = document.is_some();
    let mut document = document.unwrap_or_else(|| json!({ "subsystems": [] }));
    pci_allow.extend(attached_drives(&document));
    let files = named_files(&document);
    add_mallocs(&mut document, &stores.mallocs, is_theirs);
    Spdk {
        json: Some(document.to_string()),
        pci_allow,
        files,
    }
}

fn read_pci_allow(section: &Section<'_>) -> Vec<String> {
    const EXAMPLE: &str = "\"0000:01:00.0\"";
    let Some(item) = section.get("pci_allow") else {
        return Vec::new();
    };
    let address = |element: Item<'_>| {
        let text = element.string("0000:01:00.0")?;
        let address = values::pci_address(text);
        if address.is_none() {
            element.report(
                "that is not a PCI address",
                format!("write {EXAMPLE}; `lspci -D` lists them"),
            );
        }
        address
    };
    item.elements(&format!("[{EXAMPLE}]"))
        .into_iter()
        .filter_map(address)
        .collect()
}

/// Without an SPDK configuration, only malloc stores make bdevs.
fn refuse_unmade(root: &Section<'_>, stores: &Stores) {
    for (bdev, span) in &stores.bdevs {
        if !stores.mallocs.iter().any(|malloc| malloc.name == *bdev) {
            root.report(
                span.clone(),
                format!("nothing creates the bdev `{bdev}`"),
                "add `[spdk]` with `config = \"spdk.json\"`, a file that creates it",
            );
        }
    }
}

fn read_document(
    item: &Item<'_>,
    stores: &Stores,
    surroundings: &Surroundings<'_>,
    warnings: &Sink,
) -> Option<Value> {
    let name = item.string("spdk.json")?;
    let refuse = |message: String, help: &str| -> Option<Value> {
        item.report(message, help);
        None
    };
    let text = match (surroundings.read)(Path::new(name)) {
        Ok(text) => text,
        Err(why) => {
            return refuse(
                format!("cannot read {}: {why}", name),
                "write a path relative to this file, or an absolute one",
            );
        }
    };
    let document: Value = match serde_json::from_str(&text) {
        Ok(document) => document,
        Err(error) => {
            return refuse(
                format!("{}: {error}", name),
                "it must be JSON, as SPDK's save_config writes it",
            );
        }
    };
    let shaped = document
        .get("subsystems")
        .and_then(Value::as_array)
        .is_some_and(|subsystems| subsystems.iter().all(Value::is_object));
    if !shaped {
        return refuse(
            format!("{} has no list of `subsystems`", name),
            "it must look as SPDK's save_config writes it: {\"subsystems\": [ … ]}",
        );
    }
    let applied = saved::apply(&document, &saved::Library::linked());
    for why in applied.refused {
        item.report(
            format!("{name}: {why}"),
            "take the call out of that file, or build with the SPDK that wrote it",
        );
    }
    if !applied.left_out.is_empty() {
        warnings.report(
            item.span.clone(),
            format!("of {name} is left out: {}", applied.left_out.join(", ")),
            "it makes no block device, or this program's SPDK does not know it",
        );
    }
    let document = applied.document;
    for call in calls(&document) {
        let made = call.pointer("/params/name").and_then(Value::as_str);
        if let Some(malloc) = stores
            .mallocs
            .iter()
            .find(|malloc| Some(malloc.name.as_str()) == made)
        {
            item.report(
                format!("{} makes a `{}` too", name, malloc.name),
                "rename the store or the one in that file",
            );
        }
    }
    Some(document)
}

/// Every method call of a configuration.
fn calls(document: &Value) -> impl Iterator<Item = &Value> {
    let subsystems = document.get("subsystems").and_then(Value::as_array);
    subsystems
        .into_iter()
        .flatten()
        .filter_map(|subsystem| subsystem.get("config").and_then(Value::as_array))
        .flatten()
}

/// PCI addresses of the drives a configuration attaches.
fn attached_drives(document: &Value) -> Vec<String> {
    let drive = |call: &Value| {
        let params = call.get("params")?;
        let transport = params.get("trtype")?.as_str()?;
        let address = params.get("traddr")?.as_str()?;
        transport
            .eq_ignore_ascii_case("pcie")
            .then(|| values::pci_address(address))
            .flatten()
    };
    calls(document).filter_map(drive).collect()
}

/// Files and block devices that a configuration makes bdevs of (`bdev_aio_create`,
/// `bdev_uring_create`), by the bdev's name.
fn named_files(document: &Value) -> Vec<(String, PathBuf)> {
    let file = |call: &Value| {
        let params = call.get("params")?;
        let (name, file) = (params.get("name")?, params.get("filename")?);
        Some((name.as_str()?.to_owned(), file.as_str()?.into()))
    };
    calls(document).filter_map(file).collect()
}

/// Makes the malloc stores before anything else of the bdev subsystem, so that
/// a configuration may build on them; with notes that they come (`stepped`) where
/// there are other calls that might fail.
fn add_mallocs(document: &mut Value, mallocs: &[Malloc], stepped: bool) {
    let create = |malloc: &Malloc| {
        json!({
            "method": "bdev_malloc_create",
            "params": {
                "name": malloc.name,
                "num_blocks": malloc.blocks(),
                "block_size": malloc.block_size,
            },
        })
    };
    let mut config: Vec<Value> = match stepped {
        true => (mallocs.iter().map(create))
            .flat_map(saved::stepped)
            .collect(),
        false => mallocs.iter().map(create).collect(),
    };
    let Some(subsystems) = document.get_mut("subsystems").and_then(Value::as_array_mut) else {
        return;
    };
    let bdev = |subsystem: &&mut Value| {
        subsystem
            .get("subsystem")
            .is_some_and(|name| name == "bdev")
    };
    match subsystems.iter_mut().find(bdev) {
        Some(subsystem) => {
            if let Some(Value::Array(theirs)) = subsystem.get_mut("config") {
                config.append(theirs);
            }
            subsystem["config"] = Value::Array(config);
        }
        None => subsystems.push(json!({ "subsystem": "bdev", "config": config })),
    }
}
