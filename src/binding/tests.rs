//! A machine of files whose kernel does what is written to it.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const NIC: &str = "0000:01:00.0";
const DRIVE: &str = "0000:04:00.0";

/// Drivers come with their modules; a device goes to the one that
/// `driver_override` names, else to its own.
struct Machine {
    root: TempDir,
    loaded: RefCell<Vec<String>>,
    /// A driver that takes no device.
    sulks: &'static str,
}

impl Machine {
    fn new() -> Self {
        let machine = Self {
            root: TempDir::new().unwrap(),
            loaded: RefCell::default(),
            sulks: "",
        };
        machine.device(NIC, "0x020000", "e1000e");
        machine.device(DRIVE, "0x010802", "nvme");
        machine.file(&format!("sys/bus/pci/devices/{NIC}/net/eth1/mtu"), "1500");
        machine.file(&format!("sys/bus/pci/devices/{DRIVE}/nvme/nvme1/model"), "");
        // With native multipath the disk bears its subsystem's number.
        machine.file("sys/class/nvme-subsystem/nvme-subsys3/nvme1/model", "");
        machine.file("sys/class/nvme-subsystem/nvme-subsys3/nvme3n1/size", "");
        machine.file("sys/class/block/nvme3n1/size", "131072");
        machine.file("sys/class/block/nvme3n1p1/size", "1");
        machine.file("sys/class/net/eth1/flags", "0x1003");
        machine
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join(path)
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn device(&self, address: &str, class: &str, driver: &str) {
        let at = format!("sys/bus/pci/devices/{address}");
        self.file(&format!("{at}/class"), class);
        self.file(&format!("{at}/modalias"), &format!("pci:{driver}"));
        self.file(&format!("{at}/driver_override"), "(null)\n");
        self.load_driver(driver);
        self.link(
            &format!("{at}/driver"),
            &format!("sys/bus/pci/drivers/{driver}"),
        );
    }

    fn load_driver(&self, driver: &str) {
        fs::create_dir_all(self.at(&format!("sys/bus/pci/drivers/{driver}"))).unwrap();
    }

    fn link(&self, from: &str, to: &str) {
        fs::create_dir_all(self.at(from).parent().unwrap()).unwrap();
        let _ = fs::remove_file(self.at(from));
        symlink(self.at(to), self.at(from)).unwrap();
    }

    /// Puts devices behind an IOMMU, into one group.
    fn group(&self, addresses: &[&str], kind: &str) {
        self.file("sys/kernel/iommu_groups/7/type", kind);
        for address in addresses {
            let group = "sys/kernel/iommu_groups/7";
            self.file(&format!("{group}/devices/{address}"), "");
            self.link(&format!("sys/bus/pci/devices/{address}/iommu_group"), group);
        }
    }

    fn host(&self) -> Host {
        Host::at(self.root.path())
    }

    fn driver(&self, address: &str) -> String {
        self.host().pci(address).unwrap().driver.unwrap_or_default()
    }

    fn bind(&self, addresses: &[&str], driver: Option<Driver>) -> Result<Vec<String>, String> {
        let host = self.host();
        let steps = plan_bind(&host, &owned(addresses), driver).map_err(|r| r.to_string())?;
        execute(&host, self, &steps)?;
        Ok(steps.iter().map(Step::to_string).collect())
    }

    fn unbind(&self, addresses: &[&str]) -> Result<Vec<String>, String> {
        let host = self.host();
        let steps = plan_unbind(&host, &owned(addresses)).map_err(|r| r.to_string())?;
        execute(&host, self, &steps)?;
        Ok(steps.iter().map(Step::to_string).collect())
    }
}

impl Kernel for Machine {
    fn write(&self, path: &str, text: &str) -> io::Result<()> {
        let file = self.at(path);
        if path.ends_with("/driver/unbind") {
            let link = format!("sys/bus/pci/devices/{text}/driver");
            return fs::remove_file(self.at(&link));
        }
        if path.ends_with("drivers_probe") {
            let at = format!("sys/bus/pci/devices/{text}");
            if self.at(&format!("{at}/driver")).exists() {
                return Ok(());
            }
            let wish = fs::read_to_string(self.at(&format!("{at}/driver_override")))?;
            let alias = fs::read_to_string(self.at(&format!("{at}/modalias")))?;
            let wish = match wish.trim() {
                "" => alias.trim_start_matches("pci:").to_owned(),
                wish => wish.to_owned(),
            };
            let driver = format!("sys/bus/pci/drivers/{wish}");
            if wish != self.sulks && self.at(&driver).is_dir() {
                self.link(&format!("{at}/driver"), &driver);
            }
            return Ok(());
        }
        assert!(file.exists(), "{path} is no file of sysfs");
        fs::write(file, text)
    }

    fn load(&self, module: &str) -> io::Result<()> {
        self.loaded.borrow_mut().push(module.to_owned());
        if module == "uio_pci_generic" && self.at("no-uio").exists() {
            return Err(io::Error::other("Module uio_pci_generic not found"));
        }
        self.load_driver(module.trim_start_matches("pci:"));
        Ok(())
    }
}

fn owned(addresses: &[&str]) -> Vec<String> {
    addresses.iter().map(|&a| a.to_owned()).collect()
}

#[test]
fn k06_devices_go_to_user_space_and_come_back() {
    let machine = Machine::new();
    let told = machine.bind(&[NIC, DRIVE], None).unwrap();
    assert_eq!(
        told,
        [
            "0000:01:00.0 Ethernet  e1000e → uio_pci_generic: this system loses eth1",
            "0000:04:00.0 NVMe      nvme → uio_pci_generic: this system loses nvme3n1 (64 MiB, one partition)",
        ]
    );
    assert_eq!(machine.driver(NIC), "uio_pci_generic");
    assert_eq!(machine.driver(DRIVE), "uio_pci_generic");
    assert_eq!(*machine.loaded.borrow(), ["uio_pci_generic"]);

    let again = machine.bind(&[DRIVE], None).unwrap();
    assert_eq!(
        again,
        ["0000:04:00.0 NVMe      bound to uio_pci_generic already"]
    );
    let back = machine.unbind(&[NIC, DRIVE]).unwrap();
    assert_eq!(
        back[1],
        "0000:04:00.0 NVMe      uio_pci_generic → the kernel's own driver"
    );
    assert_eq!(
        (machine.driver(NIC), machine.driver(DRIVE)),
        ("e1000e".into(), "nvme".into())
    );
    let left = machine.unbind(&[NIC]).unwrap();
    assert_eq!(left, ["0000:01:00.0 Ethernet  the kernel's e1000e has it"]);
}

#[test]
fn k06_behind_an_iommu_it_is_vfio() {
    let machine = Machine::new();
    machine.group(&[DRIVE], "DMA-FQ");
    machine.bind(&[DRIVE], None).unwrap();
    assert_eq!(machine.driver(DRIVE), "vfio-pci");
    // From one driver of user space to another, where the IOMMU lets it.
    machine.group(&[DRIVE], "identity");
    machine.bind(&[DRIVE], Some(Driver::Uio)).unwrap();
    assert_eq!(machine.driver(DRIVE), "uio_pci_generic");
    machine.unbind(&[DRIVE]).unwrap();
    assert_eq!(machine.driver(DRIVE), "nvme");
}

#[test]
fn k06_a_group_changes_hands_as_a_whole() {
    let machine = Machine::new();
    machine.group(&[NIC, DRIVE], "DMA");
    let why = machine.bind(&[DRIVE], None).unwrap_err();
    assert!(
        why.contains("shares its IOMMU group with 0000:01:00.0 (e1000e)"),
        "{why}"
    );
    machine.bind(&[NIC, DRIVE], None).unwrap();
    assert_eq!(
        (machine.driver(NIC), machine.driver(DRIVE)),
        ("vfio-pci".into(), "vfio-pci".into())
    );
}

/// What is in the way, and what is said; nothing changes, not even what could be bound.
#[test]
fn k06_what_the_system_uses_is_refused() {
    type Use = fn(&Machine);
    let cases: &[(Use, &str)] = &[
        (
            |m| m.file("proc/net/route", "Iface\tDestination\neth1\t00000000\n"),
            "0000:01:00.0 is in use by this system: eth1 has addresses; move that elsewhere first",
        ),
        (
            |m| {
                m.file(
                    "proc/net/if_inet6",
                    "20010db8000000000000000000000001 02 40 00 80 eth1\n",
                )
            },
            "eth1 has addresses",
        ),
        (
            |m| m.file("sys/class/net/eth1/upper_br0/mtu", ""),
            "eth1 is part of br0",
        ),
        (
            |m| m.file("proc/self/mounts", "/dev/nvme3n1p1 /srv ext4 rw 0 0\n"),
            "0000:04:00.0 is in use by this system: nvme3n1p1 is mounted",
        ),
        (
            |m| {
                m.file(
                    "proc/self/mountinfo",
                    "36 35 259:7 / / rw - ext4 /dev/root rw\n",
                );
                m.file("sys/class/block/nvme3n1p1/dev", "259:7");
            },
            "nvme3n1p1 is mounted",
        ),
        (
            |m| m.file("proc/swaps", "Filename\n/dev/nvme3n1 partition 1 0 -2\n"),
            "nvme3n1 is swap",
        ),
        (
            |m| m.file("sys/class/block/nvme3n1p1/holders/dm-0/x", ""),
            "nvme3n1p1 carries dm-0",
        ),
        (
            |m| {
                m.device(DRIVE, "0x010802", "uio_pci_generic");
                m.file(&format!("sys/bus/pci/devices/{DRIVE}/uio/uio0/name"), "");
                m.file("proc/812/comm", "throughline\n");
                m.link("proc/812/fd/9", "elsewhere");
                fs::remove_file(m.at("proc/812/fd/9")).unwrap();
                symlink("/dev/uio0", m.at("proc/812/fd/9")).unwrap();
                let why = m.unbind(&[DRIVE]).unwrap_err();
                assert!(
                    why.contains("is driven by throughline (812): stop that first"),
                    "{why}"
                );
                m.group(&[DRIVE], "identity");
                let why = m.bind(&[DRIVE], Some(Driver::Vfio)).unwrap_err();
                assert!(why.contains("is driven by throughline (812)"), "{why}");
                m.file("proc/self/mounts", "/dev/nvme3n1 / ext4 rw 0 0\n");
                m.device(DRIVE, "0x010802", "nvme");
            },
            "nvme3n1 is mounted",
        ),
        (
            |m| m.device(NIC, "0x030000", "nouveau"),
            "0000:01:00.0 is neither an Ethernet nor an NVMe device (class 0300)",
        ),
        (
            |m| fs::remove_dir_all(m.at(&format!("sys/bus/pci/devices/{NIC}"))).unwrap(),
            "0000:01:00.0: there is no such PCI device; `lspci -D`",
        ),
    ];
    for (using, part) in cases {
        let machine = Machine::new();
        using(&machine);
        let why = machine.bind(&[NIC, DRIVE], None).unwrap_err();
        assert!(why.contains(part), "{part}\nis not in\n{why}");
        assert!(why.ends_with("\nNothing was changed."), "{why}");
        assert_eq!(machine.driver(DRIVE), "nvme", "{part}");
    }
    // Addresses that every interface gives itself are nobody's.
    let machine = Machine::new();
    machine.file(
        "proc/net/if_inet6",
        "fe800000000000000000000000000001 02 40 20 80 eth1\n",
    );
    machine.bind(&[NIC], None).unwrap();
}

#[test]
fn k06_drivers_that_do_not_suit_are_refused() {
    let machine = Machine::new();
    let why = machine.bind(&[NIC], Some(Driver::Vfio)).unwrap_err();
    assert!(why.contains("vfio-pci needs an IOMMU"), "{why}");
    machine.group(&[NIC], "DMA-FQ");
    let why = machine.bind(&[NIC], Some(Driver::Uio)).unwrap_err();
    assert!(why.contains("behind an IOMMU that would stop it"), "{why}");
    // A NIC that DPDK shares with the kernel is bound to nothing.
    machine.device(NIC, "0x020000", "mlx5_core");
    let told = machine.bind(&[NIC], None).unwrap();
    assert_eq!(
        told,
        ["0000:01:00.0 Ethernet  mlx5_core shares it with the kernel: it stays where it is"]
    );
}

#[test]
fn k06_what_fails_half_way_is_undone() {
    let mut machine = Machine::new();
    machine.group(&[DRIVE], "DMA");
    machine.sulks = "vfio-pci";
    // The NIC goes first, then the drive's driver does not take it.
    let why = machine.bind(&[NIC, DRIVE], None).unwrap_err();
    assert!(
        why.contains("0000:04:00.0: vfio-pci did not take it"),
        "{why}"
    );
    assert_eq!(
        (machine.driver(NIC), machine.driver(DRIVE)),
        ("e1000e".into(), "nvme".into())
    );

    let machine = Machine::new();
    machine.file("no-uio", "");
    let why = machine.bind(&[NIC], None).unwrap_err();
    assert!(
        why.contains("uio_pci_generic cannot be loaded: Module uio_pci_generic not found"),
        "{why}"
    );
    assert_eq!(machine.driver(NIC), "e1000e");
}
