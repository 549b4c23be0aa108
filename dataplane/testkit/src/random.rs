//! Numbers that look random and follow from a seed.

use std::ops::{Bound, RangeBounds};

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
/// 2014): one word of state, every seed as good as any other, the same on every machine.
///
/// Not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// Integers that [`Random`] chooses from. Of signed ones, those that are not negative.
pub trait Integer: Copy {
    /// As a word. Panics if it is negative.
    fn to_word(self) -> u64;
    /// From a word that is no larger than one that [`Integer::to_word`] gave.
    fn from_word(word: u64) -> Self;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Integer for $t {
            fn to_word(self) -> u64 {
                u64::try_from(self).expect("a number that is not negative")
            }
            fn from_word(word: u64) -> Self {
                word as $t
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, usize, i32);

impl Random {
    /// The generator that `seed` names.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// One of `0..n`; 0 if `n` is 0.
    pub fn below<T: Integer>(&mut self, n: T) -> T {
        // The upper half of the product: no division, and a bias of n in 2^64.
        let product = u128::from(self.word()) * u128::from(n.to_word());
        T::from_word((product >> 64) as u64)
    }

    /// One number of a range, which must not be empty.
    #[track_caller]
    pub fn range<T: Integer>(&mut self, range: impl RangeBounds<T>) -> T {
        let first = match range.start_bound() {
            Bound::Included(first) => first.to_word(),
            Bound::Excluded(before) => before.to_word() + 1,
            Bound::Unbounded => 0,
        };
        let count = match range.end_bound() {
            Bound::Included(last) => (last.to_word() + 1).checked_sub(first),
            Bound::Excluded(end) => end.to_word().checked_sub(first),
            Bound::Unbounded => panic!("a range without an end"),
        };
        let count = count.filter(|&count| count > 0).expect("an empty range");
        T::from_word(first + self.below(count))
    }

    /// True in `cases` of `of`.
    pub fn chance(&mut self, cases: u64, of: u64) -> bool {
        self.below(of) < cases
    }

    /// True once in `n` times; always if `n` is 0 or 1.
    pub fn one_in<T: Integer>(&mut self, n: T) -> bool {
        self.below(n.to_word()) == 0
    }

    /// One of `items`, which must not be empty.
    #[track_caller]
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        assert!(!items.is_empty(), "nothing to choose from");
        &items[self.below(items.len())]
    }

    /// Puts `items` in an order by chance.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let word = self.word().to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
    }

    /// `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.fill(&mut bytes);
        bytes
    }

    /// A generator of its own, for a part of a test whose numbers must not change when
    /// another part asks for more of them.
    pub fn fork(&mut self) -> Self {
        Self(self.word())
    }
}

/// The finalizer of SplitMix64: a bijection of words, in which every bit of the result
/// depends on every bit of `word`.
pub(crate) fn mix(word: u64) -> u64 {
    let z = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the reference implementation for the seed 1234567.
    #[test]
    fn numbers_are_those_of_splitmix64() {
        let mut random = Random::new(1_234_567);
        let words = [(); 5].map(|()| random.word());
        assert_eq!(
            words,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
    }

    #[test]
    fn ranges_are_reached_to_both_ends_and_not_left() {
        let mut random = Random::new(1);
        let mut seen = [0; 8];
        for _ in 0..8000 {
            seen[usize::from(random.range(3..=5u8))] += 1;
            seen[random.range(6..8usize)] += 1;
            seen[random.below(2)] += 1;
        }
        assert_eq!(seen[2], 0);
        for at in [0, 1, 6, 7] {
            assert!((3700..4300).contains(&seen[at]), "{seen:?}");
        }
        for at in 3..6 {
            assert!((2400..2950).contains(&seen[at]), "{seen:?}");
        }
        assert_eq!(random.range(u64::MAX - 1..u64::MAX), u64::MAX - 1);
    }

    #[test]
    fn chances_are_kept() {
        let mut random = Random::new(2);
        let hits = (0..10_000).filter(|_| random.chance(3, 10)).count();
        assert!((2800..3200).contains(&hits), "{hits}");
        let hits = (0..10_000).filter(|_| random.one_in(10)).count();
        assert!((850..1150).contains(&hits), "{hits}");
        assert!(!random.chance(0, 10) && random.chance(10, 10) && random.one_in(1));
    }

    #[test]
    fn a_fork_is_a_sequence_of_its_own() {
        let mut random = Random::new(3);
        let mut fork = random.fork();
        let (mine, its): (Vec<u64>, Vec<u64>) = (
            (0..100).map(|_| random.word()).collect(),
            (0..100).map(|_| fork.word()).collect(),
        );
        assert!(mine.iter().all(|word| !its.contains(word)));
    }

    #[test]
    fn bytes_of_any_length_are_not_zeros() {
        let mut random = Random::new(4);
        for n in 0..40 {
            let bytes = random.bytes(n);
            assert_eq!(bytes.len(), n);
            assert!(bytes.iter().filter(|&&byte| byte == 0).count() <= 3);
        }
        let mut order: Vec<u32> = (0..50).collect();
        random.shuffle(&mut order);
        assert_ne!(order, (0..50).collect::<Vec<u32>>());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<u32>>());
        assert!((7..9).contains(random.pick(&[7, 8])));
    }
}
