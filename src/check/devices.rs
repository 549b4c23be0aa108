//! Ports and stores: is the device there, does it belong to us, will it do?

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use engine::{PortConfig, StoreConfig, StoreDevice};

use super::Report;
use super::identify::{self, Sgl};
use crate::config::{PortDevice, port_device, transport_field, transport_pci};
use crate::host::{CLASS_ETHERNET, CLASS_NVME, Host, PciDevice};

/// Kernel drivers that hand a device to user space.
pub(crate) const USER_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
/// Kernel drivers that share a NIC with DPDK.
pub(crate) const SHARED_DRIVERS: [&str; 2] = ["mlx5_core", "mlx4_core"];

/// Can devices be kept to our memory?
pub(super) fn iommu(host: &Host, report: &mut Report) {
    match host.iommu_groups() {
        0 => report.hint(
            "iommu",
            "there is none: devices can reach all memory, and vfio-pci does not work",
            "switch it on in the firmware and boot with intel_iommu=on (or amd_iommu=on) iommu=pt; \
            without it bind devices to uio_pci_generic",
        ),
        groups => report.ok("iommu", format!("on, {groups} groups: vfio-pci works")),
    }
}

/// NICs and drives that could be used.
pub(super) fn candidates(host: &Host, report: &mut Report) {
    let found = host.pci_candidates();
    if found.is_empty() {
        let remedy = "ports on interfaces of the kernel and malloc stores work without";
        report.hint("devices", "no Ethernet and no NVMe device on PCI", remedy);
    }
    for device in found {
        let kind = if device.class == CLASS_NVME {
            "NVMe"
        } else {
            "Ethernet"
        };
        let driver = device.driver.as_deref().unwrap_or("no driver");
        let what = format!("{} {kind}, {driver}{}", device.address, names(&device));
        let in_use = host.uses(&device);
        if !in_use.is_empty() {
            report.ok(
                "devices",
                format!("{what}, in use by this system: {}", in_use.join(", ")),
            );
        } else if driver_serves(&device) {
            report.ok("devices", what);
        } else {
            report.hint("devices", what, format!("to use it: {}", bind(&device)));
        }
    }
}

pub(super) fn port(host: &Host, port: &PortConfig, report: &mut Report) {
    let topic = format!("port {}", port.name);
    match port_device(&port.device) {
        Some(PortDevice::Pci(address)) => {
            let Some(device) = host.pci(&address) else {
                let remedy = "`lspci -D` lists the devices there are";
                report.no(&topic, format!("there is no PCI device {address}"), remedy);
                return;
            };
            if device.class != CLASS_ETHERNET {
                let what = format!(
                    "{address} is not an Ethernet device (class {:04x})",
                    device.class
                );
                report.no(&topic, what, "`lspci -D | grep Ethernet` lists those");
                return;
            }
            pci(host, &topic, &device, report);
        }
        Some(PortDevice::Interface(name)) => interface(host, &topic, port, &name, report),
        _ => report.ok(&topic, format!("{} is made by DPDK at start", port.device)),
    }
}

/// A port over an interface of the kernel.
fn interface(host: &Host, topic: &str, port: &PortConfig, name: &str, report: &mut Report) {
    let Some(interface) = host.interface(name) else {
        let remedy = "`ip link` lists the interfaces there are";
        report.no(topic, format!("there is no interface {name}"), remedy);
        return;
    };
    if !interface.up {
        report.no(
            topic,
            format!("{name} is down"),
            format!("ip link set {name} up"),
        );
    } else if interface.carrier == Some(false) {
        report.hint(
            topic,
            format!("{name} has no link"),
            "plug in the cable, or see to the other end",
        );
    } else {
        report.ok(topic, format!("{name} is up, MTU {}", interface.mtu));
    }
    if interface.mtu < port.mtu.into() {
        report.no(
            topic,
            format!(
                "{name} has an MTU of {}, less than the port's {}",
                interface.mtu, port.mtu
            ),
            format!(
                "ip link set {name} mtu {}, or write `mtu = {}`",
                port.mtu, interface.mtu
            ),
        );
    }
    if interface.addressed {
        report.hint(
            topic,
            format!("the kernel has an address on {name} and will answer to frames that are ours"),
            format!("ip address flush dev {name}"),
        );
    }
}

pub(super) fn store(host: &Host, store: &StoreConfig, report: &mut Report) {
    let topic = format!("store {}", store.name);
    match &store.device {
        StoreDevice::Bdev(name) => {
            report.ok(&topic, format!("bdev {name} is made by SPDK at start"))
        }
        StoreDevice::Nvme { transport_id, .. } => match transport_pci(transport_id) {
            Some(address) => drive(host, &topic, &address, report),
            None => fabrics(&topic, transport_id, report),
        },
    }
}

fn drive(host: &Host, topic: &str, address: &str, report: &mut Report) {
    let Some(device) = host.pci(address) else {
        let remedy = "`lspci -D` lists the devices there are";
        report.no(topic, format!("there is no PCI device {address}"), remedy);
        return;
    };
    if device.class != CLASS_NVME {
        let what = format!(
            "{address} is not an NVMe drive (class {:04x})",
            device.class
        );
        report.no(topic, what, "`lspci -D | grep Non-Volatile` lists those");
        return;
    }
    let Some(controller) = &device.controller else {
        pci(host, topic, &device, report);
        let what = "whether it takes SGLs can be told while the kernel's nvme driver has it; \
            `throughline run` logs it";
        report.ok(topic, what);
        return;
    };
    let in_use = host.uses(&device);
    if !in_use.is_empty() {
        let what = format!("{address} is in use by this system: {}", in_use.join(", "));
        report.no(
            topic,
            what,
            "unmount it, or name another drive: its data would be lost",
        );
        return;
    }
    let told = identify::controller(controller);
    sgl(topic, told.map(|told| told.sgl), report);
    pci(host, topic, &device, report);
}

fn sgl(topic: &str, answer: Result<Sgl, std::io::Error>, report: &mut Report) {
    match answer {
        Ok(Sgl::Any) => report.ok(topic, "takes SGLs at any alignment: nothing is copied"),
        Ok(Sgl::Dword) => report.ok(topic, "takes dword-aligned SGLs: nothing is copied"),
        Ok(Sgl::None) => report.hint(
            topic,
            "takes PRPs only: a page of several segments is pulled up into one (one copy, counted)",
            "use a drive that takes SGLs (`nvme id-ctrl`: sgls other than 0)",
        ),
        Err(error) => {
            report.hint(
                topic,
                format!("it does not say whether it takes SGLs: {error}"),
                "",
            );
        }
    }
}

fn fabrics(topic: &str, transport_id: &str, report: &mut Report) {
    let transport = transport_field(transport_id, "trtype").unwrap_or_default();
    let address = transport_field(transport_id, "traddr").unwrap_or_default();
    report.ok(
        topic,
        format!("NVMe over {transport} to {address}, connected at start"),
    );
}

/// Does anybody listen where a store of NVMe/TCP is?
pub(super) fn reach(store: &StoreConfig, report: &mut Report) {
    /// Of a connection to a shelf that is there.
    const PATIENCE: Duration = Duration::from_secs(2);
    let StoreDevice::Nvme { transport_id, .. } = &store.device else {
        return;
    };
    let field = |key| transport_field(transport_id, key);
    let Some((address, port)) = field("traddr").zip(field("trsvcid")) else {
        return;
    };
    let (Ok(address), Ok(port)) = (address.parse::<IpAddr>(), port.parse()) else {
        return;
    };
    if !field("trtype").is_some_and(|kind| kind.eq_ignore_ascii_case("tcp")) {
        return;
    }
    let address = SocketAddr::new(address, port);
    if let Err(error) = TcpStream::connect_timeout(&address, PATIENCE) {
        let topic = format!("store {}", store.name);
        let what = format!("nobody answers at {address}: {error}");
        report.no(
            &topic,
            what,
            "see to the target there, and to the way to it",
        );
    }
}

/// Is a device bound so that we can drive it?
fn pci(host: &Host, topic: &str, device: &PciDevice, report: &mut Report) {
    let address = &device.address;
    let Some(driver) = &device.driver else {
        let what = format!("{address} has no driver");
        report.no(topic, what, bind(device));
        return;
    };
    if !driver_serves(device) {
        let what = format!(
            "{address} belongs to the kernel's {driver}{}",
            names(device)
        );
        let remedy = match host.uses(device).as_slice() {
            [] => bind(device),
            used => format!(
                "this system uses it ({}): move that elsewhere first; then {}",
                used.join(", "),
                bind(device)
            ),
        };
        report.no(topic, what, remedy);
        return;
    }
    if driver == "vfio-pci" && device.iommu.is_none() && !host.vfio_without_iommu() {
        let what = format!("{address} is bound to vfio-pci, which needs an IOMMU");
        report.no(
            topic,
            what,
            format!("switch the IOMMU on, or throughline bind --driver uio_pci_generic {address}"),
        );
        return;
    }
    let translated = device
        .iommu
        .as_deref()
        .is_some_and(|kind| kind.starts_with("DMA"));
    if driver.contains("uio") && translated {
        let what = format!("{address} is bound to {driver} and behind an IOMMU that will stop it");
        let remedy = format!("throughline bind --driver vfio-pci {address}, or boot with iommu=pt");
        report.no(topic, what, remedy);
        return;
    }
    report.ok(topic, format!("{address} is bound to {driver}"));
}

pub(crate) fn driver_serves(device: &PciDevice) -> bool {
    let serves = |drivers: &[&str]| {
        device
            .driver
            .as_deref()
            .is_some_and(|d| drivers.contains(&d))
    };
    serves(&USER_DRIVERS) || device.class == CLASS_ETHERNET && serves(&SHARED_DRIVERS)
}

/// The command that hands a device to user space.
fn bind(device: &PciDevice) -> String {
    format!("throughline bind {}", device.address)
}

/// What the kernel calls a device, in parentheses.
fn names(device: &PciDevice) -> String {
    let names: Vec<&str> = device
        .interfaces
        .iter()
        .chain(&device.controller)
        .map(String::as_str)
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(" ({})", names.join(", "))
    }
}
