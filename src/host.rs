//! What the kernel says of this machine, in /proc and /sys.

use std::fs;
use std::path::PathBuf;

/// A machine: this one, or a test's directory that looks like one.
pub(crate) struct Host {
    root: PathBuf,
}

/// 2 MiB hugepages, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hugepages {
    pub(crate) total: u64,
    pub(crate) free: u64,
}

/// A PCI function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PciDevice {
    pub(crate) address: String,
    /// Base class and subclass, such as 0x0200 for Ethernet and 0x0108 for NVMe.
    pub(crate) class: u32,
    pub(crate) driver: Option<String>,
    /// How its IOMMU group translates (`DMA`, `DMA-FQ`, `identity`); `None` without an IOMMU.
    pub(crate) iommu: Option<String>,
    /// Network interfaces the kernel's driver made of it.
    pub(crate) interfaces: Vec<String>,
    /// Its name as an NVMe controller of the kernel, such as `nvme0`.
    pub(crate) controller: Option<String>,
    /// Its name as a device of the kernel's UIO, such as `uio0`.
    pub(crate) uio: Option<String>,
    /// The NUMA node it is attached to, where there are several.
    pub(crate) node: Option<u32>,
    /// Its IOMMU group, whose devices change hands together.
    pub(crate) group: Option<String>,
}

pub(crate) const CLASS_ETHERNET: u32 = 0x0200;
pub(crate) const CLASS_NVME: u32 = 0x0108;

/// A network interface of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) mtu: u64,
    /// Set up by the administrator.
    pub(crate) up: bool,
    /// The link is there; `None` when the driver does not say.
    pub(crate) carrier: Option<bool>,
    /// The kernel has a network on it.
    pub(crate) addressed: bool,
}

impl Host {
    pub(crate) fn here() -> Self {
        Self {
            root: PathBuf::from("/"),
        }
    }

    #[cfg(test)]
    pub(crate) fn at(root: &std::path::Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Where a path of the machine, without its first `/`, is.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(super) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path))
            .ok()
            .map(|text| text.trim().to_owned())
    }

    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// Names in a directory, sorted.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// The last part of what a symbolic link points to.
    fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.root.join(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    pub(crate) fn is_root(&self) -> bool {
        let status = self.read("proc/self/status").unwrap_or_default();
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        uids.and_then(|uids| uids.split_ascii_whitespace().nth(1)) == Some("0")
    }

    pub(crate) fn cores(&self) -> Option<Vec<u32>> {
        parse_list(&self.read("sys/devices/system/cpu/online")?)
    }

    pub(crate) fn isolated_cores(&self) -> Vec<u32> {
        let list = self.read("sys/devices/system/cpu/isolated");
        list.and_then(|list| parse_list(&list)).unwrap_or_default()
    }

    /// Other cores on the same physical core.
    pub(crate) fn siblings(&self, core: u32) -> Vec<u32> {
        let path = format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let mut list = self
            .read(&path)
            .and_then(|list| parse_list(&list))
            .unwrap_or_default();
        list.retain(|&sibling| sibling != core);
        list
    }

    pub(crate) fn has_cpu_flag(&self, flag: &str) -> bool {
        let text = self.read("proc/cpuinfo").unwrap_or_default();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags"));
        flags.is_some_and(|flags| flags.split_ascii_whitespace().any(|f| f == flag))
    }

    /// NUMA nodes.
    pub(crate) fn nodes(&self) -> Vec<u32> {
        let list = self.read("sys/devices/system/node/online");
        list.and_then(|list| parse_list(&list)).unwrap_or_default()
    }

    pub(crate) fn cores_of_node(&self, node: u32) -> Vec<u32> {
        let list = self.read(&format!("sys/devices/system/node/node{node}/cpulist"));
        list.and_then(|list| parse_list(&list)).unwrap_or_default()
    }

    pub(crate) fn node_of_core(&self, core: u32) -> Option<u32> {
        let mut nodes = self.nodes().into_iter();
        nodes.find(|&node| self.cores_of_node(node).contains(&core))
    }

    pub(crate) fn hugepages(&self) -> Option<Hugepages> {
        self.hugepages_at("sys/kernel/mm/hugepages")
    }

    pub(crate) fn hugepages_of_node(&self, node: u32) -> Option<Hugepages> {
        self.hugepages_at(&format!("sys/devices/system/node/node{node}/hugepages"))
    }

    fn hugepages_at(&self, path: &str) -> Option<Hugepages> {
        let path = format!("{path}/hugepages-2048kB");
        Some(Hugepages {
            total: self.number(&format!("{path}/nr_hugepages"))?,
            free: self.number(&format!("{path}/free_hugepages"))?,
        })
    }

    pub(crate) fn available_mib(&self) -> Option<u64> {
        let text = self.read("proc/meminfo")?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        Some(kib >> 10)
    }

    pub(crate) fn iommu_groups(&self) -> usize {
        self.names("sys/kernel/iommu_groups").len()
    }

    /// VFIO was told to do without an IOMMU.
    pub(crate) fn vfio_without_iommu(&self) -> bool {
        let path = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
        matches!(self.read(path).as_deref(), Some("Y" | "1"))
    }

    pub(crate) fn pci(&self, address: &str) -> Option<PciDevice> {
        let at = format!("sys/bus/pci/devices/{address}");
        let class = self.read(&format!("{at}/class"))?;
        let class = u32::from_str_radix(class.trim_start_matches("0x"), 16).unwrap_or(0) >> 8;
        let iommu = self.link(&format!("{at}/iommu_group")).map(|_| {
            self.read(&format!("{at}/iommu_group/type"))
                .unwrap_or_else(|| "DMA".into())
        });
        Some(PciDevice {
            address: address.to_owned(),
            class,
            driver: self.link(&format!("{at}/driver")),
            iommu,
            interfaces: self.interfaces(&at),
            controller: self.names(&format!("{at}/nvme")).into_iter().next(),
            uio: self.names(&format!("{at}/uio")).into_iter().next(),
            // -1 where the firmware does not say.
            node: (self.read(&format!("{at}/numa_node"))).and_then(|node| node.parse().ok()),
            group: self.link(&format!("{at}/iommu_group")),
        })
    }

    /// Network interfaces of a PCI function; virtio has a device of its own between the two.
    fn interfaces(&self, at: &str) -> Vec<String> {
        let devices = self
            .names(at)
            .into_iter()
            .filter(|name| name.starts_with("virtio"));
        let between = devices.flat_map(|device| self.names(&format!("{at}/{device}/net")));
        self.names(&format!("{at}/net"))
            .into_iter()
            .chain(between)
            .collect()
    }

    /// Other devices of a device's IOMMU group, without bridges, which need no driver of ours.
    pub(crate) fn group_members(&self, device: &PciDevice) -> Vec<PciDevice> {
        const CLASS_BRIDGE: u32 = 0x06;
        let Some(group) = &device.group else {
            return Vec::new();
        };
        let names = self.names(&format!("sys/kernel/iommu_groups/{group}/devices"));
        (names.iter())
            .filter(|name| **name != device.address)
            .filter_map(|name| self.pci(name))
            .filter(|other| other.class >> 8 != CLASS_BRIDGE)
            .collect()
    }

    /// Whether the kernel has a driver for PCI devices.
    pub(crate) fn has_driver(&self, name: &str) -> bool {
        self.path(&format!("sys/bus/pci/drivers/{name}")).is_dir()
    }

    /// What tells modprobe which driver a device wants.
    pub(crate) fn modalias(&self, address: &str) -> Option<String> {
        self.read(&format!("sys/bus/pci/devices/{address}/modalias"))
    }

    /// Every Ethernet and NVMe function.
    pub(crate) fn pci_candidates(&self) -> Vec<PciDevice> {
        let devices = self.names("sys/bus/pci/devices").into_iter();
        devices
            .filter_map(|address| self.pci(&address))
            .filter(|device| [CLASS_ETHERNET, CLASS_NVME].contains(&device.class))
            .collect()
    }

    pub(crate) fn interface(&self, name: &str) -> Option<Interface> {
        // A name from a configuration must not lead elsewhere.
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return None;
        }
        let at = format!("sys/class/net/{name}");
        let flags = self.read(&format!("{at}/flags"))?;
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap_or(0);
        let routes = self.read("proc/net/route").unwrap_or_default();
        let addresses = self.read("proc/net/if_inet6").unwrap_or_default();
        // Address, index, prefix length, scope, flags, name. Link-local addresses (scope 20) come by themselves.
        let global = |line: &str| {
            let mut columns = line.split_ascii_whitespace().skip(3);
            columns.next() != Some("20") && columns.nth(1) == Some(name)
        };
        Some(Interface {
            mtu: self.number(&format!("{at}/mtu")).unwrap_or(0),
            up: flags & 1 == 1,
            carrier: self
                .number(&format!("{at}/carrier"))
                .map(|carrier| carrier == 1),
            addressed: routes
                .lines()
                .any(|line| line.split_ascii_whitespace().next() == Some(name))
                || addresses.lines().any(global),
        })
    }
}

/// The kernel's lists: `0-3,8`.
fn parse_list(text: &str) -> Option<Vec<u32>> {
    const MOST: u32 = 4096;
    let mut list = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last > MOST {
            return None;
        }
        list.extend(first..=last);
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k06_the_kernels_lists() {
        assert_eq!(parse_list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_list(""), Some(vec![]));
        assert_eq!((parse_list("x"), parse_list("0-9999999")), (None, None));
    }

    #[test]
    fn k06_this_machine_is_read_without_a_fault() {
        let host = Host::here();
        assert!(!host.cores().unwrap().is_empty());
        assert!(host.available_mib().unwrap() > 0);
        assert!(host.interface("lo").unwrap().mtu > 0);
        assert_eq!(
            (host.interface("../lo"), host.pci("ffff:ff:1f.7")),
            (None, None)
        );
        host.pci_candidates();
    }
}
