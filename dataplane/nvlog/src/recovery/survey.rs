//! What a log has, for whoever looks.

use std::ops::Range;

use super::{Loss, Replayed};

/// What a log has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// By region.
    pub regions: Vec<RegionSurvey>,
    /// By volume of the superblock's list.
    pub volumes: Vec<VolumeSurvey>,
}

/// What a region of it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionSurvey {
    /// Bytes of each half that a replay reads groups from.
    pub used: [u64; 2],
    /// Numbers of these groups; also of those without records.
    pub groups: Range<u64>,
    /// The highest group that some header says was acknowledged; 0 if none says so.
    pub acknowledged: u64,
    /// What a replay would do of it.
    pub done: Replayed,
    /// What it has lost: it is not replayed then.
    pub lost: Option<Loss>,
}

/// What a log has of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeSurvey {
    /// Records.
    pub records: u64,
    /// Those of them that make a range read as zeros.
    pub zeroes: u64,
    /// Those that deallocate one.
    pub deallocations: u64,
    /// Bytes that they change.
    pub bytes: u64,
}

impl Survey {
    /// What a replay would do.
    pub fn total(&self) -> Replayed {
        let mut total = Replayed::default();
        for RegionSurvey { done, .. } in &self.regions {
            total.groups += done.groups;
            total.records += done.records;
            total.bytes = total.bytes.saturating_add(done.bytes);
            total.torn += done.torn;
            total.read += done.read;
        }
        total
    }

    /// What regions have lost.
    pub fn losses(&self) -> Vec<Loss> {
        let lost = self.regions.iter().map(|region| region.lost.clone());
        lost.flatten().collect()
    }
}

impl Replayed {
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            groups: self.groups - before.groups,
            records: self.records - before.records,
            bytes: self.bytes.saturating_sub(before.bytes),
            torn: self.torn - before.torn,
            read: self.read - before.read,
            mended: [0, 1].map(|i| self.mended[i] - before.mended[i]),
        }
    }
}
