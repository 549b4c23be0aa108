//! Machines of files: each lacks something, and is told what to do.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::config::Surroundings;

/// A machine on which the configuration below runs.
struct Machine(TempDir);

impl Machine {
    fn good() -> Self {
        let machine = Self(TempDir::new().unwrap());
        let at = |path: &str, text: &str| machine.write(path, text);
        at("proc/self/status", "Name:\tx\nUid:\t0\t0\t0\t0\n");
        at(
            "proc/cpuinfo",
            "flags\t\t: sse4_2 ssse3 popcnt constant_tsc\n",
        );
        at(
            "proc/meminfo",
            "MemTotal: 8 kB\nMemAvailable:   4194304 kB\n",
        );
        at("proc/net/route", "Iface\tDestination\neth0\t00000000\n");
        at("proc/self/mounts", "/dev/sda1 / ext4 rw 0 0\n");
        at("sys/devices/system/cpu/online", "0-3\n");
        at("sys/devices/system/cpu/isolated", "1\n");
        at(
            "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            "2048\n",
        );
        at(
            "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
            "2048\n",
        );
        at("sys/kernel/iommu_groups/7/type", "identity\n");
        at("sys/class/net/eth1/flags", "0x1003\n");
        at("sys/class/net/eth1/mtu", "1500\n");
        at("sys/class/net/eth1/carrier", "1\n");
        machine.pci("0000:01:00.0", "0x020000", "vfio-pci");
        machine.pci("0000:04:00.0", "0x010802", "vfio-pci");
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn pci(&self, address: &str, class: &str, driver: &str) {
        let at = format!("sys/bus/pci/devices/{address}");
        self.write(&format!("{at}/class"), class);
        for (link, target) in [
            ("driver", format!("/drivers/{driver}")),
            ("iommu_group", "/7".into()),
        ] {
            let link = self.0.path().join(&at).join(link);
            let _ = fs::remove_file(&link);
            if link.ends_with("driver") {
                symlink(target, link).unwrap();
            } else {
                symlink(self.0.path().join("sys/kernel/iommu_groups/7"), link).unwrap();
            }
        }
    }

    fn remove(&self, path: &str) {
        let path = self.0.path().join(path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    fn check(&self) -> Report {
        let text = r#"cores = [1]
            [[port]]
            device = "0000:01:00.0"
            addresses = ["192.0.2.1/24"]
            [[port]]
            device = "eth1"
            addresses = ["198.51.100.1/24"]
            [[store]]
            name = "flash0"
            nvme = { transport_id = "trtype:PCIe traddr:0000:04:00.0" }
            [[store]]
            name = "ram0"
            malloc = { size_mib = 64 }
            [[subsystem]]
            nqn = "nqn.2026-01.com.example:a"
            namespaces = ["flash0", "ram0"]
            [control]
            socket = "/tmp/no-such-program-is-here.sock""#;
        let read = |_: &Path| Err("no".to_owned());
        let surroundings = Surroundings {
            cores: None,
            read: &read,
        };
        let parsed = config::parse(Path::new("t.toml"), text, &surroundings).unwrap();
        program(&Host::at(self.0.path()), &parsed)
    }
}

fn finding<'r>(report: &'r Report, part: &str) -> &'r Finding {
    let found = report
        .findings
        .iter()
        .find(|finding| finding.what.contains(part));
    found.unwrap_or_else(|| panic!("{part}\nis not in\n{report}"))
}

#[test]
fn k06_a_good_machine_is_ready() {
    let report = Machine::good().check();
    assert!(report.ready, "{report}");
    assert!(
        report
            .findings
            .iter()
            .all(|finding| finding.level == Level::Ok),
        "{report}"
    );
    assert!(report.to_string().ends_with("\nReady.\n"));
    // 64 MiB of clusters, 128 of pages and one page of zeros, in pages of 2 MiB.
    finding(
        &report,
        "770 MiB needed: 194 MiB 1 × (32,768 clusters of 2 KiB + 32,768 pages)",
    );
    finding(
        &report,
        "512 MiB DPDK and SPDK, 64 MiB malloc stores; 4096 MiB free of 4096",
    );
}

/// What is broken, what is found, and the remedy.
#[test]
fn k06_every_no_comes_with_its_remedy() {
    type Break = fn(&Machine);
    let cases: &[(Break, &str, &str)] = &[
        (
            |m| m.write("proc/self/status", "Uid:\t1\t1\t1\t1\n"),
            "not root",
            "run it as root",
        ),
        (
            |m| m.write("proc/cpuinfo", "flags : sse4_2\n"),
            "lacks ssse3, popcnt",
            "x86-64-v2",
        ),
        (
            |m| m.write("sys/devices/system/cpu/online", "0"),
            "core 1 is not online",
            "out of core 0",
        ),
        (
            |m| {
                m.write(
                    "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
                    "100",
                )
            },
            "only 200 MiB free of 4096",
            "write vm.nr_hugepages = 2333 in hugepages.conf",
        ),
        (
            |m| {
                m.write(
                    "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
                    "0",
                );
                m.write("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0");
            },
            "only 0 MiB free of 0",
            "sysctl -p hugepages.conf; or lower [memory]",
        ),
        (
            |m| {
                m.write(
                    "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
                    "0",
                );
                m.write("proc/meminfo", "MemAvailable: 1024 kB\n");
            },
            "only 0 MiB free",
            "the machine has only 1 MiB of memory left",
        ),
        (
            |m| m.remove("sys/kernel/mm/hugepages"),
            "the kernel has no 2 MiB hugepages",
            "CONFIG_HUGETLBFS",
        ),
        (
            |m| m.remove("sys/bus/pci/devices/0000:01:00.0"),
            "there is no PCI device 0000:01:00.0",
            "lspci -D",
        ),
        (
            |m| m.pci("0000:01:00.0", "0x010802", "vfio-pci"),
            "0000:01:00.0 is not an Ethernet device (class 0108)",
            "lspci -D | grep Ethernet",
        ),
        (
            |m| {
                m.pci("0000:01:00.0", "0x020000", "e1000e");
                m.write("sys/bus/pci/devices/0000:01:00.0/net/eth7/mtu", "");
            },
            "0000:01:00.0 belongs to the kernel's e1000e (eth7)",
            "throughline bind 0000:01:00.0",
        ),
        (
            |m| {
                m.pci("0000:01:00.0", "0x020000", "virtio-pci");
                m.write("sys/bus/pci/devices/0000:01:00.0/virtio0/net/eth1/mtu", "");
                m.write("proc/net/route", "Iface\neth1\t000200C0\n");
            },
            "0000:01:00.0 belongs to the kernel's virtio-pci (eth1)",
            "this system uses it (eth1 has addresses): move that elsewhere first; then throughline bind",
        ),
        (
            |m| m.remove("sys/bus/pci/devices/0000:01:00.0/driver"),
            "0000:01:00.0 has no driver",
            "throughline bind 0000:01:00.0",
        ),
        (
            |m| m.remove("sys/bus/pci/devices/0000:01:00.0/iommu_group"),
            "bound to vfio-pci, which needs an IOMMU",
            "throughline bind --driver uio_pci_generic 0000:01:00.0",
        ),
        (
            |m| {
                m.pci("0000:01:00.0", "0x020000", "uio_pci_generic");
                m.write("sys/kernel/iommu_groups/7/type", "DMA-FQ");
            },
            "behind an IOMMU that will stop it",
            "iommu=pt",
        ),
        (
            |m| {
                m.pci("0000:04:00.0", "0x010802", "nvme");
                m.write("sys/bus/pci/devices/0000:04:00.0/nvme/nvme9/model", "");
                m.write("sys/class/block/nvme9n1/size", "");
                m.write("sys/class/block/nvme9n1p1/holders/dm-0/x", "");
            },
            "in use by this system: nvme9n1p1 carries dm-0",
            "its data would be lost",
        ),
        (
            |m| {
                m.pci("0000:04:00.0", "0x010802", "nvme");
                m.write("sys/bus/pci/devices/0000:04:00.0/nvme/nvme9/model", "");
            },
            "0000:04:00.0 belongs to the kernel's nvme (nvme9)",
            "throughline bind 0000:04:00.0",
        ),
        (
            |m| m.remove("sys/class/net/eth1"),
            "there is no interface eth1",
            "ip link",
        ),
        (
            |m| m.write("sys/class/net/eth1/flags", "0x1002"),
            "eth1 is down",
            "ip link set eth1 up",
        ),
        (
            |m| m.write("sys/class/net/eth1/mtu", "1400"),
            "an MTU of 1400, less than the port's 1500",
            "ip link set eth1 mtu 1500",
        ),
    ];
    for (break_it, part, remedy) in cases {
        let machine = Machine::good();
        break_it(&machine);
        let report = machine.check();
        assert!(!report.ready, "{part}\n{report}");
        let found = finding(&report, part);
        assert_eq!(found.level, Level::No, "{part}\n{report}");
        assert!(
            found.remedy.contains(remedy),
            "{remedy}\nis not in\n{report}"
        );
    }
}

#[test]
fn k06_hints_do_not_prevent_a_run() {
    let machine = Machine::good();
    machine.write("sys/devices/system/cpu/isolated", "");
    machine.write("proc/net/route", "Iface\neth1\t000200C0\n");
    machine.write("sys/class/net/eth1/carrier", "0");
    let report = machine.check();
    assert!(report.ready, "{report}");
    assert!(
        finding(&report, "other work may run on core 1")
            .remedy
            .contains("isolcpus=1")
    );
    assert_eq!(finding(&report, "eth1 has no link").level, Level::Hint);
    assert!(
        finding(&report, "the kernel has an address on eth1")
            .remedy
            .contains("flush dev eth1")
    );
}

#[test]
fn k06_far_cores_devices_and_memory_are_told() {
    let machine = Machine::good();
    let node = |node: u32, cores: &str, free: &str| {
        let at = format!("sys/devices/system/node/node{node}");
        machine.write(&format!("{at}/cpulist"), cores);
        machine.write(
            &format!("{at}/hugepages/hugepages-2048kB/nr_hugepages"),
            "1024",
        );
        machine.write(
            &format!("{at}/hugepages/hugepages-2048kB/free_hugepages"),
            free,
        );
    };
    machine.write("sys/devices/system/node/online", "0-1");
    node(0, "0-1", "1024");
    node(1, "2-3", "1024");
    let numa = |node: &str| machine.write("sys/bus/pci/devices/0000:04:00.0/numa_node", node);
    for near in ["0", "-1"] {
        numa(near);
        let report = machine.check();
        assert_eq!(finding(&report, "are on the same nodes").level, Level::Ok);
    }
    numa("1");
    node(0, "0-1", "50");
    let report = machine.check();
    assert!(report.ready, "{report}");
    let far = finding(&report, "0000:04:00.0 is on node 1, core 1 on another");
    assert!(
        far.remedy.contains("`cores` out of cores 2 to 3"),
        "{report}"
    );
    let short = finding(
        &report,
        "node 0 has 100 MiB of hugepages free, and its shards take 194 MiB",
    );
    assert!(short.remedy.contains("node0/hugepages"), "{report}");
}

#[test]
fn k06_a_machine_without_a_configuration_is_told_what_it_has() {
    let machine = Machine::good();
    machine.pci("0000:05:00.0", "0x010802", "nvme");
    let report = super::machine(&Host::at(machine.0.path()));
    assert!(report.ready, "{report}");
    finding(&report, "0000:01:00.0 Ethernet, vfio-pci");
    assert!(
        finding(&report, "0000:05:00.0 NVMe, nvme")
            .remedy
            .contains("throughline bind 0000:05:00.0")
    );
    assert!(super::memory::reserved_by_default() > 0);
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.starts_with(
        r#"{"ready":true,"findings":[{"level":"ok","topic":"user","what":"root","remedy":""}"#
    ));
}

/// A configuration for `check::trial`, which looks at this very machine.
fn tried(device: &str, socket: &Path, rest: &str) -> Report {
    let text = format!(
        r#"cores = [1]
        [[port]]
        device = "{device}"
        addresses = ["192.0.2.1/24"]
        [[store]]
        name = "ram0"
        malloc = {{ size_mib = 64 }}
        [[subsystem]]
        nqn = "nqn.2026-01.com.example:a"
        namespaces = ["ram0"]
        [control]
        socket = "{}"
        {rest}"#,
        socket.display()
    );
    let read = |_: &Path| Err("no".to_owned());
    let surroundings = Surroundings {
        cores: None,
        read: &read,
    };
    let parsed = config::parse(Path::new("t.toml"), &text, &surroundings).unwrap();
    trial(&parsed, Report::default())
}

#[test]
fn k06_check_tries_what_run_will_do() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("c.sock");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let report = tried("net_null0", &socket, "metrics = \"127.0.0.1:0\"");
    assert!(report.ready, "{report}");
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        0,
        "something is left behind"
    );

    let told = |report: Report, what: &str| {
        assert!(!report.ready, "{report}");
        finding(&report, what);
    };
    told(tried("lo", &socket, ""), "lo has no Ethernet address");
    told(
        tried("net_null0", directory.path(), ""),
        "exists and is not a socket",
    );
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    told(tried("net_null0", &file, ""), "exists and is not a socket");
    let running = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    told(
        tried("net_null0", &socket, ""),
        "another program answers on the control socket",
    );
    drop(running);
    told(
        tried("net_null0", &socket, &format!("metrics = \"{taken}\"")),
        "Address already in use",
    );
    // An address of documentation (RFC 5737): the kernel does not have it.
    told(
        tried("net_null0", &socket, "metrics = \"198.51.100.1:9464\""),
        "no address of this system's kernel",
    );
}

#[test]
fn r06_a_command_for_alerts_that_is_not_there_is_told_of() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("notify");
    let mut report = Report::default();
    alert(&file, &mut report);
    fs::write(&file, "").unwrap();
    alert(&file, &mut report);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
    alert(&file, &mut report);
    let levels = report.findings.iter().map(|finding| finding.level);
    assert!(levels.eq([Level::Hint, Level::Hint, Level::Ok]), "{report}");
    let told = report.to_string();
    assert!(
        told.contains("No such file") && told.contains("is no executable file"),
        "{told}"
    );
    assert!(report.finish().ready, "it serves without");
}
