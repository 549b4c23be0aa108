//! What a configuration wants for itself, each thing under one name however it is spelled.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use engine::{PortConfig, StoreConfig, StoreDevice};
use uuid::Uuid;

use super::Refusal;
use super::device::Device;
use crate::config::{PortDevice, Program, port_device, transport_pci};
use crate::host::Host;

/// Something that one process may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// What of the configuration wants it: `port port0`, `store flash0`.
    pub(crate) owner: String,
    /// What the configuration calls it.
    pub(super) what: String,
    /// Its own name, and that of its lock.
    pub(super) key: String,
    pub(super) device: Option<Device>,
}

/// What a configuration wants.
///
/// # Errors
/// Two parts of it want the same.
pub(crate) fn wanted(host: &Host, program: &Program) -> Result<Vec<Wanted>, Refusal> {
    let mut list = List(Vec::new());
    let engine = &program.engine;
    for port in &engine.ports {
        of_port(host, port, &mut list)?;
    }
    for store in &engine.stores {
        of_store(host, store, &mut list)?;
    }
    for (bdev, path) in &program.bdev_files {
        of_file(host, bdev, path, &mut list)?;
    }
    for address in &engine.pci_allow {
        list.add_pci("[spdk]".into(), address, address)?;
    }
    Ok(list.0)
}

struct List(Vec<Wanted>);

impl List {
    fn add(
        &mut self,
        owner: &str,
        what: &str,
        key: String,
        device: Option<Device>,
    ) -> Result<(), Refusal> {
        if let Some(other) = self.0.iter().find(|other| other.key == key) {
            return Err(Refusal(format!(
                "{owner}: {what} is {} of {}: a device has one owner, leave one out",
                other.what, other.owner
            )));
        }
        self.0.push(Wanted {
            owner: owner.to_owned(),
            what: what.to_owned(),
            key,
            device,
        });
        Ok(())
    }

    /// A PCI function. Drives have several namespaces, which several stores may be.
    fn add_pci(&mut self, owner: String, what: &str, address: &str) -> Result<(), Refusal> {
        let key = format!("pci-{address}");
        let is_port = |owner: &str| owner.starts_with("port ");
        match self.0.iter().find(|other| other.key == key) {
            Some(other) if !is_port(&other.owner) || owner == "[spdk]" => Ok(()),
            _ => self.add(&owner, what, key, None),
        }
    }
}

fn of_port(host: &Host, port: &PortConfig, list: &mut List) -> Result<(), Refusal> {
    let owner = format!("port {}", port.name);
    let argument = |name: &str| {
        let arguments = port.device.split(',').skip(1);
        let mut values = arguments.filter_map(|pair| pair.split_once('='));
        values.find_map(|(key, value)| (key == name).then(|| value.to_owned()))
    };
    let interface = match port_device(&port.device) {
        Some(PortDevice::Pci(address)) => return list.add_pci(owner, &address, &address),
        Some(PortDevice::Interface(name)) => Some(name),
        // net_tap0,iface=tl0 makes that interface, net_af_packet0,iface=eth1 takes it.
        Some(PortDevice::Virtual(_)) => argument("iface"),
        None => None,
    };
    let Some(name) = interface else { return Ok(()) };
    let key = format!("interface-{}-{name}", network(host));
    list.add(&owner, &name, key, None)?;
    // The NIC itself, by its PCI address, if nothing else is made of it.
    let mut nics = host.pci_candidates().into_iter();
    match nics.find(|nic| nic.interfaces == [name.clone()]) {
        Some(nic) => {
            let what = format!("{name} ({})", nic.address);
            list.add(&owner, &what, format!("pci-{}", nic.address), None)
        }
        None => Ok(()),
    }
}

fn of_store(host: &Host, store: &StoreConfig, list: &mut List) -> Result<(), Refusal> {
    let owner = format!("store {}", store.name);
    let StoreDevice::Nvme { transport_id, nsid } = &store.device else {
        // The device of a bdev is that of what it is made of, and bdevs are the process's own.
        return Ok(());
    };
    if let Some(address) = transport_pci(transport_id) {
        return list.add_pci(owner, &address, &address);
    }
    let mut fields: Vec<String> = (transport_id.split_ascii_whitespace())
        .map(|field| field.replacen('=', ":", 1))
        .collect();
    fields.sort_unstable();
    let name = format!("{} {} {nsid}", network(host), fields.join(" "));
    let key = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
    let what = format!("namespace {nsid} of {transport_id}");
    list.add(&owner, &what, format!("fabrics-{key}"), None)
}

/// A file, or a block device, that a bdev is made of.
fn of_file(host: &Host, bdev: &str, path: &Path, list: &mut List) -> Result<(), Refusal> {
    let owner = format!("bdev {bdev}");
    let what = path.display().to_string();
    let Some(device) = Device::find(host, path) else {
        return Ok(());
    };
    let backing = device.backing(host);
    list.add(&owner, &what, device.key(), Some(device))?;
    match backing {
        Some(file) => list.add(&owner, &format!("{what} (its file)"), file.key(), None),
        None => Ok(()),
    }
}

/// The network namespace, in which interfaces and addresses have their names.
fn network(host: &Host) -> u64 {
    let metadata = std::fs::metadata(host.path("proc/thread-self/ns/net"));
    metadata.map_or(0, |metadata| metadata.ino())
}
