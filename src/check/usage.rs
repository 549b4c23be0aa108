//! What of this machine is in use, and by whom: what a system would lose with
//! a device that is taken from it.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::host::{Host, PciDevice};

impl Host {
    /// Why this system needs a device: a phrase for each interface with
    /// addresses and each disk that is mounted or built upon.
    pub(crate) fn uses(&self, device: &PciDevice) -> Vec<String> {
        let interfaces = (device.interfaces.iter()).filter_map(|name| self.interface_use(name));
        let disks = (device.controller.iter()).flat_map(|controller| {
            let disks = self.disks(controller);
            let blocks = disks
                .into_iter()
                .flat_map(|disk| self.with_partitions(disk));
            blocks.filter_map(|name| self.disk_use(&name))
        });
        interfaces.chain(disks).collect()
    }

    /// What the kernel made of a device, and takes away with its driver.
    pub(crate) fn made_of(&self, device: &PciDevice) -> Vec<String> {
        let disks = (device.controller.iter())
            .flat_map(|controller| self.disks(controller))
            .map(|disk| {
                let at = format!("sys/class/block/{disk}");
                let mib = self.number(&format!("{at}/size")).unwrap_or(0) >> 11;
                match self.with_partitions(disk.clone()).len() - 1 {
                    0 => format!("{disk} ({mib} MiB, no partitions)"),
                    1 => format!("{disk} ({mib} MiB, one partition)"),
                    n => format!("{disk} ({mib} MiB, {n} partitions)"),
                }
            });
        device.interfaces.iter().cloned().chain(disks).collect()
    }

    /// Programs that drive a device from user space, as `name (pid)`.
    pub(crate) fn drivers_in_user_space(&self, device: &PciDevice) -> Vec<String> {
        let nodes: Vec<String> = (device.uio.iter().map(|uio| format!("/dev/{uio}")))
            .chain(
                device
                    .group
                    .iter()
                    .map(|group| format!("/dev/vfio/{group}")),
            )
            .collect();
        let holds = |process: &String| {
            let at = format!("proc/{process}/fd");
            let files = self.names(&at).into_iter();
            files
                .filter_map(|fd| fs::read_link(self.path(&format!("{at}/{fd}"))).ok())
                .any(|file| nodes.iter().any(|node| file.as_os_str() == node.as_str()))
        };
        if nodes.is_empty() {
            return Vec::new();
        }
        (self.names("proc").into_iter())
            .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
            .filter(holds)
            .map(|process| {
                let name = self.read(&format!("proc/{process}/comm"));
                format!("{} ({process})", name.unwrap_or_else(|| "process".into()))
            })
            .collect()
    }

    /// What a block device of this number is called (`8:1`: `sda1`).
    pub(crate) fn block_name(&self, number: &str) -> String {
        let link = fs::read_link(self.path(&format!("sys/dev/block/{number}")));
        let name = link
            .ok()
            .and_then(|to| Some(to.file_name()?.to_str()?.to_owned()));
        name.unwrap_or_else(|| number.to_owned())
    }

    /// Why this system needs a block device: it, or a part of it, is mounted or built upon.
    pub(crate) fn block_use(&self, name: &str) -> Option<String> {
        let parts = self.names(&format!("sys/class/block/{name}")).into_iter();
        let parts = parts.filter(|part| part.starts_with(name));
        let mut blocks = std::iter::once(name.to_owned()).chain(parts);
        blocks.find_map(|block| self.disk_use(&block))
    }

    /// The file that a loop device is made of.
    pub(crate) fn backing_file(&self, name: &str) -> Option<PathBuf> {
        let path = self.read(&format!("sys/class/block/{name}/loop/backing_file"))?;
        Some(path.into())
    }

    /// The loop devices that are made of such a file.
    pub(crate) fn loops_of(&self, is_it: impl Fn(&Path) -> bool) -> Vec<String> {
        let blocks = self.names("sys/class/block").into_iter();
        let loops = blocks.filter(|name| name.starts_with("loop"));
        loops
            .filter(|name| self.backing_file(name).is_some_and(|file| is_it(&file)))
            .collect()
    }

    fn interface_use(&self, name: &str) -> Option<String> {
        if self.interface(name).is_some_and(|i| i.addressed) {
            return Some(format!("{name} has addresses"));
        }
        // Its bridge, bond or team; its VLANs.
        let links = self.names(&format!("sys/class/net/{name}"));
        let above = links.iter().find_map(|link| link.strip_prefix("upper_"));
        above.map(|above| format!("{name} is part of {above}"))
    }

    /// A controller's block devices. With native multipath their names are
    /// the subsystem's, whose number may be another one.
    fn disks(&self, controller: &str) -> Vec<String> {
        let head = |name: &String| {
            let rest = name.strip_prefix("nvme").unwrap_or_default();
            let numbers = rest.split_once('n').map(|(a, b)| [a, b]);
            numbers.is_some_and(|numbers| {
                (numbers.iter()).all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            })
        };
        let subsystems = self.names("sys/class/nvme-subsystem").into_iter();
        let of_subsystem = subsystems
            .map(|name| self.names(&format!("sys/class/nvme-subsystem/{name}")))
            .filter(|entries| entries.iter().any(|entry| entry == controller))
            .flatten();
        let own = format!("{controller}n");
        let of_name = self.names("sys/class/block").into_iter();
        let of_name = of_name.filter(|name| name.starts_with(&own));
        let disks: BTreeSet<String> = of_subsystem.chain(of_name).filter(head).collect();
        disks.into_iter().collect()
    }

    /// A disk, and its partitions.
    fn with_partitions(&self, disk: String) -> Vec<String> {
        let prefix = format!("{disk}p");
        let blocks = self.names("sys/class/block").into_iter();
        let partitions: Vec<String> = blocks.filter(|name| name.starts_with(&prefix)).collect();
        std::iter::once(disk).chain(partitions).collect()
    }

    fn disk_use(&self, name: &str) -> Option<String> {
        let node = format!("/dev/{name}");
        let listed = |file: &str, column: usize, what: &str| {
            let text = self.read(file).unwrap_or_default();
            let mut lines = text.lines();
            lines.any(|line| line.split_ascii_whitespace().nth(column) == Some(what))
        };
        if let Some(holder) = self
            .names(&format!("sys/class/block/{name}/holders"))
            .first()
        {
            return Some(format!("{name} carries {holder}"));
        }
        let number = self.read(&format!("sys/class/block/{name}/dev"));
        if listed("proc/self/mounts", 0, &node)
            || number.is_some_and(|number| listed("proc/self/mountinfo", 2, &number))
        {
            return Some(format!("{name} is mounted"));
        }
        if listed("proc/swaps", 0, &node) {
            return Some(format!("{name} is swap"));
        }
        self.is_claimed(name)
            .then(|| format!("{name} is held open"))
    }

    /// Whether somebody has a disk to himself: mounts in other namespaces, file
    /// systems that the tables above do not name by their device.
    fn is_claimed(&self, name: &str) -> bool {
        let mut options = OpenOptions::new();
        let exclusive = options
            .read(true)
            .custom_flags(libc::O_EXCL | libc::O_NONBLOCK);
        let opened = exclusive.open(self.path(&format!("dev/{name}")));
        opened.is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
    }
}
