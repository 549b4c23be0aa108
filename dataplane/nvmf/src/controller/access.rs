//! The Asymmetric Namespace Access log page (base 5.16.1.13).

use super::window::Window;
use crate::config::NamespaceConfig;
use crate::namespaces::Namespaces;

/// Length of the header in bytes.
const HEADER_LEN: u64 = 16;
/// Length of an ANA Group Descriptor in bytes, without its namespaces.
const DESCRIPTOR_LEN: u64 = 32;

/// LSP bit 0, Return Groups Only (RGO): descriptors name no namespaces.
const GROUPS_ONLY: u8 = 1 << 0;

/// Bytes of a descriptor: each group has one namespace.
fn descriptor_len(specific: u8) -> u64 {
    match specific & GROUPS_ONLY {
        0 => DESCRIPTOR_LEN + 4,
        _ => DESCRIPTOR_LEN,
    }
}

/// Bytes of the log with the Log Specific Parameter `specific`, of as many groups as there can be: those that there are not are
/// zeros. Hosts read all of it, in parts of 4096 bytes (nvme-cli), and an offset behind a log's end is refused.
pub(super) fn len(specific: u8) -> u64 {
    HEADER_LEN + u64::from(NamespaceConfig::NSID_MAX) * descriptor_len(specific)
}

/// Writes the part of the log that `w` shows. Changes are counted from the last reset of the controller on, at
/// which the log had been changed `changes_at_reset` times.
pub(super) fn fill(
    namespaces: &Namespaces,
    specific: u8,
    changes_at_reset: u64,
    w: &mut Window<'_>,
) {
    let since_reset = |changes: u64| changes.saturating_sub(changes_at_reset).to_le_bytes();
    let mut groups: u16 = 0;
    for ns in namespaces.iter() {
        let Some(group) = namespaces.group(ns.nsid) else {
            continue;
        };
        let at = HEADER_LEN + u64::from(groups) * descriptor_len(specific);
        groups += 1;
        // ANA Group ID, Number of NSID Values, Change Count, Asymmetric Namespace Access State.
        w.put(at, ns.nsid.0.to_le_bytes());
        w.put(at + 8, since_reset(group.changes));
        w.put(at + 16, [group.state as u8]);
        if specific & GROUPS_ONLY == 0 {
            w.put(at + 4, 1u32.to_le_bytes());
            w.put(at + DESCRIPTOR_LEN, ns.nsid.0.to_le_bytes());
        }
    }
    // Change Count, Number of ANA Group Descriptors.
    w.put(0, since_reset(namespaces.group_changes()));
    w.put(8, groups.to_le_bytes());
}
