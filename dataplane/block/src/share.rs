//! How what many draw on is shared.

/// Whether somebody who has `held` of something of which `left` are free may take `more`: nobody
/// takes more than is left then (the dynamic threshold of shared buffers: Choudhury and Hahne,
/// 1998).
///
/// One who gives nothing back ends up with half of what there is, a second one with half of the
/// rest. Who has none is never refused: it would wait for others only.
#[inline]
pub fn may_take(held: usize, more: usize, left: usize) -> bool {
    held == 0 || held + 2 * more <= left
}

#[cfg(test)]
mod tests {
    use super::may_take;

    /// How much is left by those who take `more` at a time while they may, one after the other.
    fn left_by(takers: usize, more: usize, all: usize) -> usize {
        let mut left = all;
        for _ in 0..takers {
            let mut held = 0;
            while left >= more && may_take(held, more, left) {
                (held, left) = (held + more, left - more);
            }
        }
        left
    }

    #[test]
    fn z12_each_that_gives_nothing_back_leaves_half_of_the_rest() {
        assert_eq!(
            [1, 2, 3].map(|takers| left_by(takers, 1, 1024)),
            [512, 256, 128]
        );
    }

    #[test]
    fn z12_whoever_takes_much_at_a_time_leaves_as_much_as_it_has() {
        for more in 1..=256 {
            let left = left_by(1, more, 1024);
            assert!(left >= 512, "{left} left by one who takes {more} at a time");
        }
        // One who has nothing gets its first all the same.
        assert_eq!(left_by(1, 768, 1024), 256);
    }
}
