//! Handing PCI devices to user space, and giving them back: what `throughline
//! bind` and `unbind` do, by the kernel's `driver_override`.
//!
//! Nothing is kept anywhere: a device that is given back goes to whatever driver
//! the kernel has for it.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::process::Command;

use crate::check::{USER_DRIVERS, driver_serves};
use crate::host::{CLASS_ETHERNET, CLASS_NVME, Host, PciDevice};

/// What changes the machine; a test's stands in for a kernel.
pub(crate) trait Kernel {
    /// Writes to a file, its path without the first `/`.
    fn write(&self, path: &str, text: &str) -> io::Result<()>;
    /// Loads a module, by its name or by an alias.
    fn load(&self, module: &str) -> io::Result<()>;
}

impl Kernel for Host {
    fn write(&self, path: &str, text: &str) -> io::Result<()> {
        std::fs::write(self.path(path), text)
    }

    fn load(&self, module: &str) -> io::Result<()> {
        let output = Command::new("modprobe").arg("--").arg(module).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(said.trim().to_owned()))
    }
}

/// A kernel driver that hands a device to user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Driver {
    /// Keeps the device to our memory; needs an IOMMU
    #[value(name = "vfio-pci")]
    Vfio,
    /// Works without an IOMMU
    #[value(name = "uio_pci_generic")]
    Uio,
}

impl Driver {
    fn name(self) -> &'static str {
        match self {
            Driver::Vfio => "vfio-pci",
            Driver::Uio => "uio_pci_generic",
        }
    }
}

/// What is to become of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// From the driver it has to one of user space; the system loses `made`.
    Bind {
        device: PciDevice,
        driver: Driver,
        made: Vec<String>,
    },
    /// Back to the kernel's own driver.
    Release(PciDevice),
    /// It is where it should be.
    Leave { device: PciDevice, why: String },
}

/// Devices that were asked for and cannot be had; nothing was changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusals(pub(crate) Vec<String>);

impl std::error::Error for Refusals {}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nNothing was changed.", self.0.join("\n"))
    }
}

/// What binding devices would do. Refused as a whole if one of them cannot be had.
pub(crate) fn plan_bind(
    host: &Host,
    addresses: &[String],
    driver: Option<Driver>,
) -> Result<Vec<Step>, Refusals> {
    plan(addresses, |address| {
        bind_one(host, address, addresses, driver)
    })
}

/// What giving devices back would do.
pub(crate) fn plan_unbind(host: &Host, addresses: &[String]) -> Result<Vec<Step>, Refusals> {
    plan(addresses, |address| unbind_one(host, address))
}

/// Does it. When the kernel refuses a device, those before it are given back.
pub(crate) fn execute(host: &Host, kernel: &impl Kernel, steps: &[Step]) -> Result<(), String> {
    for (index, step) in steps.iter().enumerate() {
        let result = match step {
            Step::Bind { device, driver, .. } => take(host, kernel, device, *driver),
            Step::Release(device) => give_back(host, kernel, device),
            Step::Leave { .. } => Ok(()),
        };
        let Err(mut why) = result else { continue };
        for done in steps[..=index].iter().rev() {
            if let Step::Bind { device, .. } = done {
                why += &match give_back(host, kernel, device) {
                    Ok(()) => format!("\n{} was given back to the kernel", device.address),
                    Err(error) => format!("\n{error}"),
                };
            }
        }
        return Err(why);
    }
    Ok(())
}

fn plan(
    addresses: &[String],
    one: impl Fn(&str) -> Result<Step, String>,
) -> Result<Vec<Step>, Refusals> {
    let (mut steps, mut refusals) = (Vec::new(), Vec::new());
    for address in addresses {
        match one(address) {
            Ok(step) => steps.push(step),
            Err(why) => refusals.push(why),
        }
    }
    if refusals.is_empty() {
        Ok(steps)
    } else {
        Err(Refusals(refusals))
    }
}

fn find(host: &Host, address: &str) -> Result<PciDevice, String> {
    host.pci(address).ok_or_else(|| {
        format!("{address}: there is no such PCI device; `lspci -D` lists those there are")
    })
}

fn bind_one(
    host: &Host,
    address: &str,
    all: &[String],
    wish: Option<Driver>,
) -> Result<Step, String> {
    let device = find(host, address)?;
    if ![CLASS_ETHERNET, CLASS_NVME].contains(&device.class) {
        let class = device.class;
        return Err(format!(
            "{address} is neither an Ethernet nor an NVMe device (class {class:04x})"
        ));
    }
    let has = device.driver.as_deref().unwrap_or_default();
    if wish.is_none_or(|wish| wish.name() == has) && driver_serves(&device) {
        let why = if USER_DRIVERS.contains(&has) {
            format!("bound to {has} already")
        } else {
            format!("{has} shares it with the kernel: it stays where it is")
        };
        return Ok(Step::Leave { device, why });
    }
    let uses = host.uses(&device);
    if !uses.is_empty() {
        return Err(format!(
            "{address} is in use by this system: {}; move that elsewhere first",
            uses.join(", ")
        ));
    }
    idle(host, &device)?;
    let driver = wish.unwrap_or(if device.group.is_some() {
        Driver::Vfio
    } else {
        Driver::Uio
    });
    match driver {
        Driver::Vfio if device.group.is_none() && !host.vfio_without_iommu() => {
            return Err(format!(
                "{address}: vfio-pci needs an IOMMU, and there is none; use uio_pci_generic"
            ));
        }
        Driver::Vfio => whole_group(host, &device, all)?,
        Driver::Uio
            if device
                .iommu
                .as_deref()
                .is_some_and(|k| k.starts_with("DMA")) =>
        {
            return Err(format!(
                "{address} is behind an IOMMU that would stop it under uio_pci_generic; \
                 use vfio-pci, or boot with iommu=pt"
            ));
        }
        Driver::Uio => {}
    }
    let made = host.made_of(&device);
    Ok(Step::Bind {
        device,
        driver,
        made,
    })
}

/// The kernel lets a device of a group go to user space only if none of the
/// others is driven by a kernel driver.
fn whole_group(host: &Host, device: &PciDevice, all: &[String]) -> Result<(), String> {
    let kept: Vec<String> = (host.group_members(device).into_iter())
        .filter(|other| !all.contains(&other.address))
        .filter_map(|other| {
            let driver = other.driver?;
            (!USER_DRIVERS.contains(&driver.as_str()))
                .then(|| format!("{} ({driver})", other.address))
        })
        .collect();
    if kept.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} shares its IOMMU group with {}, which the kernel drives: bind those too, \
         or take them from their drivers",
        device.address,
        kept.join(", ")
    ))
}

fn unbind_one(host: &Host, address: &str) -> Result<Step, String> {
    let device = find(host, address)?;
    match device.driver.as_deref() {
        Some(has) if !USER_DRIVERS.contains(&has) => {
            let why = format!("the kernel's {has} has it");
            Ok(Step::Leave { device, why })
        }
        _ => idle(host, &device).map(|()| Step::Release(device)),
    }
}

/// Taking a device from under a running program hangs the one, or the other.
fn idle(host: &Host, device: &PciDevice) -> Result<(), String> {
    let users = host.drivers_in_user_space(device);
    if users.is_empty() {
        return Ok(());
    }
    let users = users.join(", ");
    Err(format!(
        "{} is driven by {users}: stop that first",
        device.address
    ))
}

fn take(
    host: &Host,
    kernel: &impl Kernel,
    device: &PciDevice,
    driver: Driver,
) -> Result<(), String> {
    let (address, name) = (&device.address, driver.name());
    if !host.has_driver(name) {
        let cannot = |error| format!("{address}: the kernel's {name} cannot be loaded: {error}");
        kernel.load(name).map_err(cannot)?;
    }
    hand_over(host, kernel, address, name)?;
    match host.pci(address).and_then(|device| device.driver) {
        Some(has) if has == name => Ok(()),
        _ => Err(format!(
            "{address}: {name} did not take it; `dmesg` says why"
        )),
    }
}

fn give_back(host: &Host, kernel: &impl Kernel, device: &PciDevice) -> Result<(), String> {
    if let Some(alias) = host.modalias(&device.address)
        && let Err(error) = kernel.load(&alias)
    {
        log::debug!("{}: no module for {alias}: {error}", device.address);
    }
    hand_over(host, kernel, &device.address, "\n")
}

/// Takes a device from its driver, and lets the kernel look for another: the
/// one named, or any if the name is empty.
fn hand_over(host: &Host, kernel: &impl Kernel, address: &str, driver: &str) -> Result<(), String> {
    let write = |path: &str, text: &str| {
        let cannot = |error| format!("{address}: the kernel refused a write to /{path}: {error}");
        kernel.write(path, text).map_err(cannot)
    };
    let at = format!("sys/bus/pci/devices/{address}");
    write(&format!("{at}/driver_override"), driver)?;
    if host
        .pci(address)
        .is_some_and(|device| device.driver.is_some())
    {
        write(&format!("{at}/driver/unbind"), address)?;
    }
    write("sys/bus/pci/drivers_probe", address)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Step::Bind { device, .. } | Step::Release(device) | Step::Leave { device, .. }) = self;
        let kind = match device.class {
            CLASS_NVME => "NVMe",
            CLASS_ETHERNET => "Ethernet",
            _ => "",
        };
        let has = device.driver.as_deref().unwrap_or("no driver");
        write!(f, "{} {kind:<8}  ", device.address)?;
        match self {
            Step::Bind { driver, made, .. } => {
                write!(f, "{has} → {}", driver.name())?;
                if !made.is_empty() {
                    write!(f, ": this system loses {}", made.join(", "))?;
                }
                Ok(())
            }
            Step::Release(_) => write!(f, "{has} → the kernel's own driver"),
            Step::Leave { why, .. } => f.write_str(why),
        }
    }
}
