//! Whether a store may be made a log store without a word: what somebody else has written is not
//! overwritten, nor a log of which little is left.

use super::{Buffer, PART, Refusal, Store};
use crate::LogId;
use crate::bytes::array;
use crate::header::Header;
use crate::layout::{
    AREA, AREAS, Layout, REGION_SUPERBLOCK, REGIONS_MAX, SUPERBLOCK, TABLES, UNIT,
};
use crate::superblock::{Bad, RegionSuperblock, Superblock, WAVES};
use crate::table;

/// Whether no log began in a store whose superblocks are `copies`, and nothing else is there: all
/// management areas are zeros, but for what [`begin`](super::begin) leaves there if the power goes before
/// it has written two copies of the first superblock.
pub(super) async fn never_began<S: Store>(
    store: &S,
    len: u64,
    copies: &[Result<Superblock, Bad>; AREAS],
) -> Result<bool, Refusal<S::Error>> {
    let is_first = |copy: &Result<Superblock, Bad>| match copy {
        Ok(superblock) => superblock.generation == 1,
        Err(Bad::Blank | Bad::Foreign | Bad::OtherLog | Bad::Checksum) => true,
        Err(Bad::Version(_) | Bad::Fields) => false,
    };
    let is_blank = |copy: usize| copies[copy] == Err(Bad::Blank);
    if !WAVES[1].into_iter().all(is_blank) || !copies.iter().all(is_first) {
        return Ok(false);
    }
    // Those of regions are flushed before any of the store's is written.
    let mut of_first_region = 0;
    for copy in 0..AREAS {
        for from in (0..AREA).step_by(PART) {
            let at = Layout::area(len, copy) + from;
            let buffer = store.read(at, PART).await.map_err(Refusal::Failed)?;
            for unit in (0..PART).step_by(UNIT as usize) {
                let place = from as usize + unit;
                if place < SUPERBLOCK {
                    continue;
                }
                let bytes = buffer.to_vec(unit..unit + UNIT as usize);
                let number = (place - SUPERBLOCK) / UNIT as usize;
                let is_regions = number < REGIONS_MAX && is_first_of_region(&bytes, number);
                if !is_regions && bytes.iter().any(|&byte| byte != 0) {
                    return Ok(false);
                }
                of_first_region += usize::from(is_regions && number == 0);
            }
        }
    }
    // Where the first group of a log without tables goes, or else the first copy of its first entry.
    let first = store.read(TABLES, UNIT as usize).await;
    let first = first.map_err(Refusal::Failed)?;
    let is_written = Header::begins(first.slices(0..4)) || table::begins(&first.to_vec(0..8));
    let is_begun = !(0..AREAS).all(is_blank);
    Ok(!is_written && (!is_begun || of_first_region == AREAS))
}

/// Whether a unit holds the superblock that a region begins with, of whichever log.
fn is_first_of_region(unit: &[u8], number: usize) -> bool {
    let (superblock, rest) = unit.split_at(REGION_SUPERBLOCK);
    let log = LogId(array(superblock, 16));
    RegionSuperblock::decode(superblock, log, number)
        .is_ok_and(|superblock| superblock.generation == 1)
        && rest.iter().all(|&byte| byte == 0)
}
