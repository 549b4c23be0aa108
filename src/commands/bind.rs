//! `throughline bind` and `throughline unbind`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};

use super::print;
use crate::binding::{self, Driver, Step};
use crate::config;
use crate::host::Host;

/// Which devices, and whether to touch them.
#[derive(clap::Args)]
pub(crate) struct Devices {
    /// PCI addresses, such as 0000:01:00.0
    #[arg(value_name = "ADDRESS", required_unless_present = "config")]
    addresses: Vec<String>,
    /// All PCI devices of a configuration file
    #[arg(long, short, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Only tell what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// `throughline bind`
pub(crate) fn bind(devices: &Devices, driver: Option<Driver>) -> anyhow::Result<ExitCode> {
    let host = Host::here();
    let steps = binding::plan_bind(&host, &devices.all(&host)?, driver)?;
    carry_out(&host, &steps, devices.dry_run)
}

/// `throughline unbind`
pub(crate) fn unbind(devices: &Devices) -> anyhow::Result<ExitCode> {
    let host = Host::here();
    let steps = binding::plan_unbind(&host, &devices.all(&host)?)?;
    carry_out(&host, &steps, devices.dry_run)
}

fn carry_out(host: &Host, steps: &[Step], dry_run: bool) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    for step in steps {
        text += &format!("{step}\n");
    }
    if dry_run {
        text += "Nothing was changed (--dry-run).\n";
    }
    print(&text)?;
    let changes = steps.iter().any(|step| !matches!(step, Step::Leave { .. }));
    if changes && !dry_run {
        ensure!(
            host.is_root(),
            "only root can change which driver a device has"
        );
        binding::execute(host, host, steps).map_err(anyhow::Error::msg)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Devices {
    /// Full addresses, each once.
    fn all(&self, host: &Host) -> anyhow::Result<Vec<String>> {
        let mut all = Vec::new();
        for text in &self.addresses {
            let address = config::pci_address(text);
            all.push(address.with_context(|| {
                format!("{text} is not a PCI address: write it as 0000:01:00.0")
            })?);
        }
        if let Some(path) = &self.config {
            all.extend(of_configuration(path, host)?);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }
}

fn of_configuration(path: &Path, host: &Host) -> anyhow::Result<Vec<String>> {
    let program = config::load(path, host.cores().as_deref())?;
    Ok(program.engine.pci_allow)
}
