//! Machines with several NUMA nodes: are cores, their memory and their devices
//! on one?

use super::{Report, memory};
use crate::config::{self, PortDevice, Program, port_device, transport_pci};
use crate::host::Host;
use engine::StoreDevice;

const TOPIC: &str = "numa";

/// Hints only: everything works from everywhere, and is slower from afar.
pub(super) fn placement(host: &Host, program: &Program, report: &mut Report) {
    let nodes = host.nodes();
    if nodes.len() < 2 {
        return;
    }
    let cores: Vec<(u32, u32)> = (program.engine.cores.iter())
        .filter_map(|&core| Some((core, host.node_of_core(core)?)))
        .collect();
    let findings = report.findings.len();
    for address in devices(program) {
        let Some(node) = host.pci(&address).and_then(|device| device.node) else {
            continue;
        };
        let far: Vec<u32> = (cores.iter())
            .filter(|(_, at)| *at != node)
            .map(|&(core, _)| core)
            .collect();
        if !far.is_empty() {
            let near = host.cores_of_node(node);
            report.hint(
                TOPIC,
                format!(
                    "{address} is on node {node}, {} on another",
                    config::ranges(&far)
                ),
                format!(
                    "write `cores` out of {}, or put the card into a slot of the other processor",
                    config::ranges(&near)
                ),
            );
        }
    }
    for node in nodes {
        let shards = cores.iter().filter(|(_, at)| *at == node).count() as u64;
        let need = shards * memory::of_shard(program);
        let free = host.hugepages_of_node(node).unwrap_or_default().free * memory::HUGEPAGE_MIB;
        if free < need {
            let directory =
                format!("/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB");
            report.hint(
                TOPIC,
                format!(
                    "node {node} has {free} MiB of hugepages free, and its shards take {need} MiB"
                ),
                format!("write a larger number to {directory}/nr_hugepages"),
            );
        }
    }
    if report.findings.len() == findings {
        report.ok(TOPIC, "cores, memory and devices are on the same nodes");
    }
}

/// Every PCI device of a port or a store.
fn devices(program: &Program) -> Vec<String> {
    let ports = (program.engine.ports.iter()).filter_map(|port| match port_device(&port.device) {
        Some(PortDevice::Pci(address)) => Some(address),
        _ => None,
    });
    let stores = (program.engine.stores.iter()).filter_map(|store| match &store.device {
        StoreDevice::Nvme { transport_id, .. } => transport_pci(transport_id),
        StoreDevice::Bdev(_) => None,
    });
    let mut devices: Vec<String> = ports.chain(stores).collect();
    devices.sort_unstable();
    devices.dedup();
    devices
}
