//! Log pages of an I/O controller (base 5.16.1).

use std::sync::atomic::Ordering;

use block::Smart;

use super::features::Features;
use super::window::Window;
use super::{Controller, access};
use crate::command::{AdminCommand, NvmCommand};
use crate::namespaces::Namespaces;
use crate::status::Status;

/// Log Page Identifiers (base 5.16.1, Figure 202).
pub(super) mod lid {
    pub(crate) const SUPPORTED: u8 = 0x00;
    pub(crate) const ERRORS: u8 = 0x01;
    pub(crate) const SMART: u8 = 0x02;
    pub(crate) const FIRMWARE: u8 = 0x03;
    pub(crate) const CHANGED_NAMESPACES: u8 = 0x04;
    pub(crate) const EFFECTS: u8 = 0x05;
    pub(crate) const ACCESS: u8 = 0x0c;
    pub(crate) const FEATURES: u8 = 0x12;
    pub(crate) const MANAGEMENT: u8 = 0x13;
    pub(crate) const DISCOVERY: u8 = 0x70;
}

/// The logs of every I/O controller, in order.
const IO_LOGS: [u8; 8] = [
    lid::SUPPORTED,
    lid::ERRORS,
    lid::SMART,
    lid::FIRMWARE,
    lid::CHANGED_NAMESPACES,
    lid::EFFECTS,
    lid::FEATURES,
    lid::MANAGEMENT,
];

/// What the logs of an I/O controller are made from.
pub(super) struct Logs<'a> {
    pub controller: &'a Controller,
    /// As its Admin Queue sees them.
    pub namespaces: &'a Namespaces,
    /// Those that changed.
    pub changed: &'a ChangedNamespaces,
    /// How often the log of ANA groups had been changed when the controller was last reset.
    pub changes_at_reset: u64,
}

impl Logs<'_> {
    /// Bytes of the log `lid` with the Log Specific Parameter `specific`.
    ///
    /// # Errors
    /// [`Status::INVALID_LOG_PAGE`] if there is no such log.
    pub fn len(&self, lid: u8, specific: u8) -> Result<u64, Status> {
        match lid {
            lid::SUPPORTED | lid::FEATURES => Ok(1024),
            lid::ERRORS => Ok(64),
            lid::SMART | lid::FIRMWARE => Ok(512),
            lid::CHANGED_NAMESPACES | lid::EFFECTS | lid::MANAGEMENT => Ok(4096),
            lid::ACCESS if self.namespaces.has_groups() => Ok(access::len(specific)),
            _ => Err(Status::INVALID_LOG_PAGE),
        }
    }

    /// Writes the part of the log `lid` that `w` shows.
    pub fn fill(&self, lid: u8, csi: u8, specific: u8, w: &mut Window<'_>) {
        match lid {
            // LSUPP for each (base 5.16.1.1).
            lid::SUPPORTED => {
                let access = self.namespaces.has_groups().then_some(lid::ACCESS);
                for lid in IO_LOGS.into_iter().chain(access) {
                    w.put(u64::from(lid) * 4, [1]);
                }
            }
            lid::SMART => {
                let drives = self.namespaces.iter().filter_map(|ns| ns.smart.get());
                smart(self.controller, drives.reduce(Smart::worst), w);
            }
            lid::FIRMWARE => {
                // AFI: slot 1 is active; its revision (base 5.16.1.4).
                w.put(0, [1]);
                w.put_text(8, 8, env!("CARGO_PKG_VERSION"), b' ');
            }
            lid::CHANGED_NAMESPACES => self.changed.fill(w),
            lid::EFFECTS if csi == 0 => effects(w),
            lid::ACCESS => access::fill(self.namespaces, specific, self.changes_at_reset, w),
            lid::FEATURES => {
                // FSUPP (base 5.16.1.18).
                for &fid in Features::of(self.controller) {
                    w.put(u64::from(fid) * 4, (1 | SCOPE_CONTROLLER).to_le_bytes());
                }
            }
            // NVMe-MI Commands Supported and Effects (base 5.16.1.19): none is, as there is no
            // NVMe-MI Send. The log belongs to what LPA bit 5 says.
            lid::MANAGEMENT => {}
            // Error Information: no entry is ever made, as every error is reported in
            // the completion of the command it belongs to (base 5.16.1.2).
            _ => {}
        }
    }
}

/// Scopes of commands and features, in their effects data structures (base 5.16.1.6, 5.16.1.18):
/// what one of them concerns.
const SCOPE_NAMESPACE: u32 = 1 << 20;
const SCOPE_CONTROLLER: u32 = 1 << 21;

/// What a controller says whose namespaces have no drive that was asked: memory, files and block devices say
/// nothing of their health. The temperature, 20 °C, is a constant. The field is mandatory and has
/// no value for "not reported"; 0 K is shown as -273 °C, and monitoring takes it for a fault. How it is computed
/// is the implementation's, and it "may not represent the actual temperature of any physical point" (base
/// 5.16.1.3, Figure 207): so it is one that lies below every threshold, and never moves.
const NO_DRIVE: Smart = Smart {
    critical_warning: 0,
    temperature_kelvin: 293,
    spare_percent: 100,
    spare_threshold_percent: 10,
    used_percent: 0,
};

/// Critical Warning, bit 5: of a persistent memory region, which this controller has not, whatever drives have.
const PERSISTENT_MEMORY: u8 = 1 << 5;

/// SMART / Health Information (base 5.16.1.3): of the controller, and so the worst of its drives, and the
/// I/O of its own queues.
fn smart(controller: &Controller, drives: Option<Smart>, w: &mut Window<'_>) {
    let smart = drives.unwrap_or(NO_DRIVE);
    w.put(0, [smart.critical_warning & !PERSISTENT_MEMORY]);
    // A drive that gives no temperature is as good as none.
    let temperature = match smart.temperature_kelvin {
        0 => NO_DRIVE.temperature_kelvin,
        kelvin => kelvin,
    };
    w.put(1, temperature.to_le_bytes());
    // Available Spare, its threshold, Percentage Used.
    w.put(
        3,
        [
            smart.spare_percent,
            smart.spare_threshold_percent,
            smart.used_percent,
        ],
    );
    let usage = &controller.usage;
    let load = |n: &std::sync::atomic::AtomicU64| u128::from(n.load(Ordering::Relaxed));
    // Data Units are thousands of 512 bytes, rounded up.
    let units = [&usage.units_read, &usage.units_written].map(|n| load(n).div_ceil(1000));
    let commands = [load(&usage.reads), load(&usage.writes)];
    for (i, value) in units.into_iter().chain(commands).enumerate() {
        w.put(32 + i as u64 * 16, value.to_le_bytes());
    }
}

/// Commands Supported and Effects (base 5.16.1.6).
fn effects(w: &mut Window<'_>) {
    const CSUPP: u32 = 1;
    /// Logical Block Content Change.
    const LBCC: u32 = 1 << 1;
    for opcode in AdminCommand::OPCODES {
        w.put(
            u64::from(opcode) * 4,
            (CSUPP | SCOPE_CONTROLLER).to_le_bytes(),
        );
    }
    for opcode in NvmCommand::OPCODES {
        let changes = !matches!(opcode, 0x00 | 0x02);
        let effects = CSUPP | SCOPE_NAMESPACE | if changes { LBCC } else { 0 };
        w.put(1024 + u64::from(opcode) * 4, effects.to_le_bytes());
    }
}

/// Namespaces that changed since the host last read the log (base 5.16.1.5).
#[derive(Debug)]
pub(super) struct ChangedNamespaces([u64; 17]);

impl ChangedNamespaces {
    pub fn none() -> Self {
        Self([0; 17])
    }

    /// Notes that the namespace numbered `nsid`, at most 1,024, changed.
    pub fn note(&mut self, nsid: u32) {
        if let Some(word) = self.0.get_mut(nsid as usize / 64) {
            *word |= 1 << (nsid % 64);
        }
    }

    pub fn clear(&mut self) {
        self.0 = [0; 17];
    }

    fn fill(&self, w: &mut Window<'_>) {
        let changed = |nsid: &u32| self.0[*nsid as usize / 64] >> (nsid % 64) & 1 == 1;
        let numbers = (1..=1024u32).filter(changed);
        for (i, nsid) in numbers.enumerate() {
            w.put(i as u64 * 4, nsid.to_le_bytes());
        }
    }
}
