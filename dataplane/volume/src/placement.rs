//! Which shard owns a page: every page of a volume has exactly one.

use std::ops::Range;

use block::VolumeId;
use mutant::mutant;

/// Bytes of a volume that have one owner: a request that does not cross a
/// border of this size concerns one shard alone.
pub(crate) const OWNED_RANGE: u64 = 1 << 20;

/// Version of the map of owners, which a log says that it was written by.
pub(crate) const VERSION: u32 = 1;

/// The shard, of `shards`, that owns byte `offset` of volume `volume`.
///
/// The same on every shard and in every run; neighbouring ranges are spread
/// evenly.
///
/// # Panics
/// If there is no shard.
pub(crate) fn owner(volume: VolumeId, offset: u64, shards: usize) -> usize {
    assert!(shards > 0, "a page has an owner");
    let range = offset / OWNED_RANGE;
    let mut hash = (range ^ u64::from(volume.0) << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    ((u128::from(hash ^ hash >> 32) * shards as u128) >> 64) as usize
}

/// The parts of bytes `range` of volume `volume` by owner: as few as possible.
pub(crate) fn by_owner(
    volume: VolumeId,
    range: Range<u64>,
    shards: usize,
) -> impl Iterator<Item = (usize, Range<u64>)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let start = at;
        let shard = owner(volume, start, shards);
        while at < range.end && owner(volume, at, shards) == shard {
            at = (at / OWNED_RANGE + 1)
                .saturating_mul(OWNED_RANGE)
                .saturating_add(if mutant!("part-too-long") { 512 } else { 0 })
                .min(range.end);
        }
        Some((shard, start..at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_owner_and_owners_share_evenly() {
        let mut owned = [0; 8];
        for range in 0..8000u64 {
            let shard = owner(VolumeId(3), range * OWNED_RANGE, 8);
            assert_eq!(
                shard,
                owner(VolumeId(3), range * OWNED_RANGE + OWNED_RANGE - 1, 8)
            );
            owned[shard] += 1;
        }
        assert!(owned.iter().all(|&n| (900..1100).contains(&n)), "{owned:?}");
        assert_ne!(
            (0..64)
                .map(|r| owner(VolumeId(1), r * OWNED_RANGE, 8))
                .collect::<Vec<_>>(),
            (0..64)
                .map(|r| owner(VolumeId(2), r * OWNED_RANGE, 8))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_range_is_cut_where_the_owner_changes() {
        let range = 1000..(40 << 20) + 5;
        let parts: Vec<_> = by_owner(VolumeId(0), range.clone(), 3).collect();
        assert_eq!(
            (parts[0].1.start, parts.last().unwrap().1.end),
            (range.start, range.end)
        );
        for pair in parts.windows(2) {
            assert_eq!(pair[0].1.end, pair[1].1.start);
            assert_ne!(pair[0].0, pair[1].0);
        }
        assert_eq!(by_owner(VolumeId(0), 5..5, 3).count(), 0);
        assert_eq!(by_owner(VolumeId(0), range, 1).count(), 1);
    }
}
