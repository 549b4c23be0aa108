//! `[[port]]`: network ports, their addresses and routes.

use std::collections::HashMap;
use std::net::IpAddr;

use engine::PortConfig;

use super::reader::{Item, Section};
use super::values::{self, PortDevice, Wrong};

/// The ports, and what other sections ask about them.
pub(super) struct Ports {
    list: Vec<(PortConfig, Option<PortDevice>)>,
}

impl Ports {
    /// PCI addresses that ports are on.
    pub(super) fn devices(&self) -> impl Iterator<Item = String> {
        self.list.iter().filter_map(|(_, device)| match device {
            Some(PortDevice::Pci(address)) => Some(address.clone()),
            _ => None,
        })
    }

    /// Every address of every port.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.list
            .iter()
            .flat_map(|(port, _)| port.addresses.iter().map(|&(address, _)| address))
    }

    pub(super) fn into_configs(self) -> Vec<PortConfig> {
        self.list.into_iter().map(|(port, _)| port).collect()
    }
}

pub(super) fn read(root: &Section<'_>) -> Ports {
    let sections = root.tables("port");
    if sections.is_empty() && root.get("port").is_none() {
        root.report(
            0..0,
            "there is no port",
            "add `[[port]]` with `device = \"…\"` and `addresses = [\"192.0.2.1/24\"]`",
        );
    }
    let mut seen = Seen::default();
    let list = sections
        .into_iter()
        .enumerate()
        .map(|(i, s)| read_port(i, s, &mut seen))
        .collect();
    Ports { list }
}

/// What no two ports may have in common, and who has it.
#[derive(Default)]
struct Seen {
    names: HashMap<String, usize>,
    devices: HashMap<String, String>,
    addresses: HashMap<IpAddr, String>,
}

fn read_port(
    index: usize,
    section: Section<'_>,
    seen: &mut Seen,
) -> (PortConfig, Option<PortDevice>) {
    let mut port = PortConfig {
        name: format!("port{index}"),
        device: String::new(),
        mtu: section.integer("mtu", 576..=9216, 1500),
        addresses: Vec::new(),
        routes: Vec::new(),
        vlan: None,
    };
    let name = section.get("name");
    if let Some(item) = &name
        && let Some(name) = item.string("storage0")
    {
        port.name = name.to_owned();
        accept(item, values::name(name));
    }
    if seen.names.insert(port.name.clone(), index).is_some() {
        let span = name.map_or(section.span.clone(), |item| item.span);
        section.report(
            span,
            format!("two ports are called `{}`", port.name),
            "rename one",
        );
    }
    let device = read_device(&section, &mut port, seen);
    if let Some(item) = section.get("vlan") {
        port.vlan = item.integer(1..=4094, 100);
    }
    read_addresses(&section, &mut port, seen);
    read_routes(&section, &mut port);
    section.finish();
    (port, device)
}

fn read_device(
    section: &Section<'_>,
    port: &mut PortConfig,
    seen: &mut Seen,
) -> Option<PortDevice> {
    const EXAMPLE: &str = "\"0000:01:00.0\"";
    let item = section.require("device", EXAMPLE)?;
    let text = item.string("0000:01:00.0")?;
    let Some(device) = values::port_device(text) else {
        item.report(
            "that is not a device of DPDK's, nor the name of an interface",
            format!(
                "write a PCI address such as {EXAMPLE}, an interface of the kernel such as \"eth1\", \
                or a virtual device such as \"net_tap0,iface=tl0\""
            ),
        );
        return None;
    };
    port.device = text.to_owned();
    let (PortDevice::Pci(key) | PortDevice::Virtual(key) | PortDevice::Interface(key)) = &device;
    if let Some(other) = seen.devices.insert(key.clone(), port.name.clone()) {
        let message = format!("port `{other}` already has {key}");
        item.report(message, "give every port a device of its own");
    }
    Some(device)
}

fn read_addresses(section: &Section<'_>, port: &mut PortConfig, seen: &mut Seen) {
    const EXAMPLE: &str = "[\"192.0.2.1/24\"]";
    let Some(item) = section.require("addresses", EXAMPLE) else {
        return;
    };
    if item.is_empty_array() {
        item.report(
            "a port needs an address",
            format!("write `addresses = {EXAMPLE}`"),
        );
    }
    for element in item.elements(EXAMPLE) {
        let Some(text) = element.string("192.0.2.1/24") else {
            continue;
        };
        let Some(address) = accept(&element, values::interface_address(text)) else {
            continue;
        };
        if let Some(other) = seen.addresses.insert(address.0, port.name.clone()) {
            let message = format!("port `{other}` already has {}", address.0);
            element.report(message, "give every address to one port");
        }
        port.addresses.push(address);
    }
    // RFC 8200, 5: every link carries 1280 bytes.
    if port.mtu < 1280 && port.addresses.iter().any(|(address, _)| address.is_ipv6()) {
        let span = section
            .get("mtu")
            .map_or(section.span.clone(), |item| item.span);
        section.report(
            span,
            "IPv6 needs an MTU of 1280 or more",
            "write `mtu = 1500`",
        );
    }
}

fn read_routes(section: &Section<'_>, port: &mut PortConfig) {
    const EXAMPLE: &str = "[{ to = \"0.0.0.0/0\", via = \"192.0.2.254\" }]";
    let Some(item) = section.get("routes") else {
        return;
    };
    for element in item.elements(EXAMPLE) {
        let Some(route) = element.table("a route") else {
            continue;
        };
        let to = route.require("to", "\"0.0.0.0/0\"");
        let via = route.require("via", "\"192.0.2.254\"");
        route.finish();
        let (Some(to), Some(via)) = (to, via) else {
            continue;
        };
        let destination = to
            .string("0.0.0.0/0")
            .and_then(|text| accept(&to, values::destination(text)));
        let Some(text) = via.string("192.0.2.254") else {
            continue;
        };
        let Ok(hop) = text.parse::<IpAddr>() else {
            via.report(
                "that is not an IP address",
                "write the next router's address",
            );
            continue;
        };
        let Some((network, length)) = destination else {
            continue;
        };
        if network.is_ipv4() != hop.is_ipv4() {
            via.report(
                format!("{hop} and {network}/{length} are of different IP versions"),
                "write a router of the destination's version",
            );
        } else if port.addresses.iter().any(|&(own, _)| own == hop) {
            via.report(
                format!("{hop} is this port itself"),
                "write the next router's address",
            );
        } else if !port
            .addresses
            .iter()
            .any(|&(own, len)| values::same_network(own, hop, len))
        {
            via.report(
                format!("{hop} is in no network of this port"),
                "write a router that an address of this port can reach directly",
            );
        }
        port.routes.push((network, length, hop));
    }
}

/// The value, or its problem reported.
pub(super) fn accept<T>(item: &Item<'_>, parsed: Result<T, Wrong>) -> Option<T> {
    parsed
        .map_err(|wrong| item.report(wrong.message, wrong.help))
        .ok()
}
