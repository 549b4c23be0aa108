//! The comparison of two replicas while hosts use them (row R3, *verify*): what shards do of it, and what came of it.
//!
//! An operator begins it at the source of two that are in sync. Each shard reads the granules that are its own, when no change of
//! them is on its way, and asks the other node whether it has the same, by checksums of 4 KiB each. What was changed
//! meanwhile is compared again.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use pages::PageRun;

use crate::commands::COMPARED;

/// Ranges that differ and are remembered, of one comparison.
const FOUND_MAX: usize = 256;

/// How a comparison stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Granules that were compared, of all.
    pub compared: u64,
    /// All.
    pub granules: u64,
    /// Blocks of 4 KiB that differ.
    pub differing: u64,
    /// Granules that could not be compared: hosts changed them all the while, or a drive failed.
    pub skipped: u64,
    /// What differs is copied to the other node.
    pub mends: bool,
    /// It has ended.
    pub is_over: bool,
    /// It ended before its end, as the nodes lost each other.
    pub is_cut: bool,
    /// What differs, in bytes of the volume: the first of them.
    pub found: Vec<Range<u64>>,
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            compared, granules, ..
        } = self;
        let how = match (self.is_over, self.is_cut) {
            (false, _) => "verify",
            (true, false) => "verify ended",
            (true, true) => "verify was cut off, as the nodes lost each other",
        };
        write!(f, "{how}: {compared} of {granules} granules compared")?;
        if self.skipped > 0 {
            write!(
                f,
                ", {} could not be: hosts changed them all the while, or a drive failed",
                self.skipped
            )?;
        }
        match (self.differing, self.mends) {
            (0, _) => f.write_str(", none differs"),
            (blocks, true) => write!(
                f,
                "; blocks of 4 KiB that differed, and are copied to the other node: {blocks}"
            ),
            (blocks, false) => write!(f, "; blocks of 4 KiB that differ: {blocks}"),
        }
    }
}

/// The comparison of a volume that was begun last, as all shards see it.
#[derive(Debug)]
pub struct Verification {
    granules: AtomicU64,
    /// Its number; 0: there was none.
    run: AtomicU64,
    mends: AtomicBool,
    is_cut: AtomicBool,
    /// By shard: the last one that it has ended.
    ended: Box<[AtomicU64]>,
    compared: AtomicU64,
    differing: AtomicU64,
    skipped: AtomicU64,
    found: Mutex<Vec<Range<u64>>>,
}

impl Verification {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            granules: AtomicU64::new(0),
            run: AtomicU64::new(0),
            mends: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            ended: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            compared: AtomicU64::new(0),
            differing: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            found: Mutex::default(),
        }
    }

    /// Whether every shard has done its part of the one that was begun last.
    pub(crate) fn is_over(&self) -> bool {
        let run = self.run.load(SeqCst);
        self.ended.iter().all(|ended| ended.load(SeqCst) == run)
    }

    /// Begins one of so many granules; false if another one is under way.
    pub(crate) fn begin(&self, granules: u64, mends: bool) -> bool {
        if !self.is_over() {
            return false;
        }
        self.granules.store(granules, SeqCst);
        self.mends.store(mends, SeqCst);
        self.is_cut.store(false, SeqCst);
        for counter in [&self.compared, &self.differing, &self.skipped] {
            counter.store(0, SeqCst);
        }
        self.found().clear();
        self.run.fetch_add(1, SeqCst);
        true
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Vec<Range<u64>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the one that was begun last, to be carried out by every shard; 0: there was none.
    #[inline]
    pub fn run(&self) -> u64 {
        self.run.load(SeqCst)
    }

    /// A shard has a granule compared, or could not.
    pub fn compared(&self, is_good: bool) {
        match is_good {
            true => self.compared.fetch_add(1, SeqCst),
            false => self.skipped.fetch_add(1, SeqCst),
        };
    }

    /// A block of 4 KiB differs; whether what does is to be copied.
    pub fn differs(&self, range: Range<u64>) -> bool {
        self.differing.fetch_add(1, SeqCst);
        let mut found = self.found();
        let before = found.iter().position(|known| known.end == range.start);
        match before {
            Some(at) => found[at].end = range.end,
            None if found.len() < FOUND_MAX => found.push(range),
            None => {}
        }
        self.mends.load(SeqCst)
    }

    /// A shard has done its part of a run; or, `is_cut`, cannot.
    pub fn ends(&self, shard: usize, run: u64, is_cut: bool) {
        if is_cut {
            self.is_cut.store(true, SeqCst);
        }
        self.ended[shard].store(run, SeqCst);
    }

    /// How it stands; `None` if there was none.
    pub fn report(&self) -> Option<VerifyReport> {
        (self.run() != 0).then(|| {
            let mut found = self.found().clone();
            found.sort_by_key(|range| range.start);
            VerifyReport {
                compared: self.compared.load(SeqCst),
                granules: self.granules.load(SeqCst),
                differing: self.differing.load(SeqCst),
                skipped: self.skipped.load(SeqCst),
                mends: self.mends.load(SeqCst),
                is_over: self.is_over(),
                is_cut: self.is_cut.load(SeqCst),
                found,
            }
        })
    }
}

/// Checksums of what a run that begins at a multiple of [`COMPARED`] bytes of its volume has, by so many bytes.
pub fn sums(run: &PageRun) -> Vec<u32> {
    let sum = |page: &pages::LogicalPage| {
        let mut crc = checksum::Crc32c::default();
        for segment in page.segments() {
            crc.take(segment.bytes().unwrap_or_default());
        }
        crc.end()
    };
    run.pages().iter().map(sum).collect()
}

/// Which bytes of `range` have other checksums.
pub fn differing(range: &Range<u64>, mine: &[u32], theirs: &[u32]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for (at, (mine, theirs)) in (range.start..)
        .step_by(COMPARED as usize)
        .zip(mine.iter().zip(theirs))
    {
        let end = (at + COMPARED).min(range.end);
        match ranges.last_mut() {
            _ if mine == theirs => {}
            Some(last) if last.end == at => last.end = end,
            _ => ranges.push(at..end),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r03_what_differs_is_told_by_4_kib() {
        let told = |mine: &[u32], theirs: &[u32]| differing(&(8192..8192 + 10_000), mine, theirs);
        assert_eq!(told(&[1, 2, 3], &[1, 2, 3]), []);
        assert_eq!(told(&[1, 2, 3], &[1, 9, 9]).first(), Some(&(12288..18192)));
        assert_eq!(told(&[1, 2, 3], &[0, 2, 9]), [8192..12288, 16384..18192]);
    }

    #[test]
    fn r03_a_comparison_has_ended_when_every_shard_has() {
        let verification = Verification::new(2);
        assert_eq!(verification.report(), None);
        assert!(verification.begin(10, true));
        assert!(!verification.begin(10, false), "one is under way");
        let run = verification.run();
        verification.compared(true);
        verification.compared(false);
        assert!(verification.differs(65536..69632));
        assert!(verification.differs(69632..73728));
        assert!(verification.differs(4096..8192));
        verification.ends(0, run, false);
        let report = verification.report().expect("there was one");
        assert!(!report.is_over);
        verification.ends(1, run, true);
        let report = verification.report().expect("there was one");
        let (found, granules) = (vec![4096..8192, 65536..73728], 10);
        let expected = VerifyReport {
            compared: 1,
            granules,
            differing: 3,
            skipped: 1,
            mends: true,
            is_over: true,
            is_cut: true,
            found,
        };
        assert_eq!(report, expected);
        assert!(verification.begin(10, false));
        let report = verification.report().expect("it begins anew");
        assert_eq!(
            report,
            VerifyReport {
                granules,
                ..VerifyReport::default()
            }
        );
    }
}
