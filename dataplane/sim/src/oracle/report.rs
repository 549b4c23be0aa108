//! What was expected and what came, in words.

use super::{End, NEVER, OpId, Oracle, Violation};

impl Oracle {
    /// A request in words.
    pub(crate) fn describe(&self, id: OpId) -> String {
        let op = &self.ops[id.0 as usize];
        let extent = op.extent;
        let time = |ns: u64| ns as f64 / 1e9;
        let end = match op.end {
            End::UnderWay => "under way".into(),
            End::Succeeded => format!("succeeded at {:.6}", time(op.ended)),
            End::Failed(status) => format!("failed with {status:#06x} at {:.6}", time(op.ended)),
            End::Aborted => format!("aborted at {:.6}", time(op.ended)),
            End::Lost => format!("connection lost at {:.6}", time(op.ended)),
        };
        let fua = if op.fua { " with FUA" } else { "" };
        format!(
            "#{} ({:?}{fua} of {} at sector {} of volume {}, {} sectors, from {:.6}, {end})",
            id.0,
            op.kind,
            op.who,
            extent.first,
            extent.volume,
            extent.sectors,
            time(op.begun),
        )
    }

    /// A sector that is not what it should be.
    pub(super) fn unexpected(&self, id: OpId, sector: u64, came: &str) -> Violation {
        let op = &self.ops[id.0 as usize];
        let entries = self.volumes[op.extent.volume].1.entries(sector);
        let mut text = format!(
            "volume {} sector {sector}: {} returned {came}; expected one of:",
            op.extent.volume,
            self.describe(id)
        );
        if entries.is_empty() {
            text += "\n    zeros: never written";
        }
        for entry in entries.iter().filter(|entry| entry.superseded > op.start) {
            text += &format!("\n    {} of {}", entry.value, self.describe(entry.write));
        }
        let older = entries.iter().filter(|entry| entry.superseded <= op.start);
        for entry in older {
            let gone = if entry.is_gone { ", for good" } else { "" };
            text += &format!(
                "\n    not {} of {}: overwritten{gone}",
                entry.value,
                self.describe(entry.write)
            );
        }
        if entries.iter().all(|entry| entry.superseded < NEVER) && !entries.is_empty() {
            text += "\n    (nothing is possible: the oracle is wrong)";
        }
        Violation(text)
    }
}
