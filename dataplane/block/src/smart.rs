//! What drives say of their health.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a drive says of its medium: the first bytes of its SMART / Health Information log (NVMe base
/// 2.0, 5.16.1.3, Figure 207).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Smart {
    /// Critical Warning: a bit each, as in the log.
    pub critical_warning: u8,
    /// Composite Temperature; 0 is none.
    pub temperature_kelvin: u16,
    /// Available Spare.
    pub spare_percent: u8,
    /// Below it the spare is a critical warning.
    pub spare_threshold_percent: u8,
    /// Percentage Used of its life: 255 is 255 or more.
    pub used_percent: u8,
}

impl Smart {
    /// Bytes of a log that are looked at.
    pub const LEN: usize = 6;

    /// Reads a log.
    pub fn of_log(log: [u8; Self::LEN]) -> Self {
        let [
            critical_warning,
            low,
            high,
            spare_percent,
            spare_threshold_percent,
            used_percent,
        ] = log;
        Self {
            critical_warning,
            temperature_kelvin: u16::from_le_bytes([low, high]),
            spare_percent,
            spare_threshold_percent,
            used_percent,
        }
    }

    /// Composite Temperature; `None` if there is none.
    pub fn temperature_celsius(&self) -> Option<i32> {
        let kelvin = i32::from(self.temperature_kelvin);
        (kelvin > 0).then_some(kelvin - 273)
    }

    /// The worst of two drives: every warning of both, the higher temperature, the spare that is
    /// nearer to its threshold, with that, and the longer use.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        let margin = |smart: &Self| {
            i16::from(smart.spare_percent) - i16::from(smart.spare_threshold_percent)
        };
        let spare = if margin(&other) < margin(&self) {
            other
        } else {
            self
        };
        Self {
            critical_warning: self.critical_warning | other.critical_warning,
            temperature_kelvin: self.temperature_kelvin.max(other.temperature_kelvin),
            used_percent: self.used_percent.max(other.used_percent),
            ..spare
        }
    }
}

/// What a drive last said of its health, for everybody who wants to know: whoever asks the drive
/// writes it, and clones read it.
///
/// One word of a drive, so that nobody reads half of an answer. Of what lies on several drives there are several.
#[derive(Clone, Debug, Default)]
pub struct LastSmart(Vec<Arc<AtomicU64>>);

/// The drive has said something: above the bytes of its log.
const SAID: u64 = 1 << 63;

impl LastSmart {
    /// Of a drive that is going to be asked. The default is that of a device that says nothing.
    pub fn of_drive() -> Self {
        Self(vec![Arc::default()])
    }

    /// Of all of these: the worst of what they say.
    pub fn of_all<'a>(drives: impl IntoIterator<Item = &'a Self>) -> Self {
        let drives = drives.into_iter();
        Self(drives.flat_map(|drive| drive.0.iter().cloned()).collect())
    }

    /// The drive said that; `None`: it gives no answer any more.
    pub fn set(&self, log: Option<[u8; Smart::LEN]>) {
        let said = log.map_or(0, |log| {
            let mut word = [0; 8];
            word[..Smart::LEN].copy_from_slice(&log);
            SAID | u64::from_le_bytes(word)
        });
        for word in &self.0 {
            word.store(said, Ordering::Relaxed);
        }
    }

    /// What it last said; `None` if that is nothing.
    pub fn get(&self) -> Option<Smart> {
        let said = |word: &Arc<AtomicU64>| {
            let word = word.load(Ordering::Relaxed);
            let [a, b, c, d, e, f, ..] = word.to_le_bytes();
            (word & SAID != 0).then(|| Smart::of_log([a, b, c, d, e, f]))
        };
        self.0.iter().filter_map(said).reduce(Smart::worst)
    }
}

/// Whether it is one and the same drive, whatever that says.
impl PartialEq for LastSmart {
    fn eq(&self, other: &Self) -> bool {
        let mut both = self.0.iter().zip(&other.0);
        self.0.len() == other.0.len() && both.all(|(ours, theirs)| Arc::ptr_eq(ours, theirs))
    }
}

impl Eq for LastSmart {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_drive_is_kept_until_it_says_nothing() {
        let mute = LastSmart::default();
        mute.set(Some([0; 6]));
        assert_eq!(mute.get(), None);
        let drive = LastSmart::of_drive();
        let reader = drive.clone();
        assert_eq!(reader.get(), None);
        drive.set(Some([0xff, 0x43, 0x01, 99, 10, 255]));
        let expected = Smart {
            critical_warning: 0xff,
            temperature_kelvin: 323,
            spare_percent: 99,
            spare_threshold_percent: 10,
            used_percent: 255,
        };
        assert_eq!(reader.get(), Some(expected));
        drive.set(Some([0; 6]));
        assert_eq!(reader.get(), Some(Smart::of_log([0; 6])));
        assert_eq!(expected.temperature_celsius(), Some(50));
        assert_eq!(Smart::of_log([0; 6]).temperature_celsius(), None);
        drive.set(None);
        assert_eq!(reader.get(), None);
        assert!(reader == drive && drive != LastSmart::of_drive() && drive != mute);
    }

    #[test]
    fn r08_of_several_drives_the_worst_is_said() {
        let (one, two) = (LastSmart::of_drive(), LastSmart::of_drive());
        let both = LastSmart::of_all([&one, &LastSmart::default(), &two]);
        assert_eq!(both.get(), None);
        two.set(Some([0, 0x20, 0x01, 50, 10, 3]));
        assert_eq!(both.get(), two.get());
        one.set(Some([1, 0x60, 0x01, 90, 10, 1]));
        let worst = Smart::of_log([1, 0x60, 0x01, 50, 10, 3]);
        assert_eq!(both.get(), Some(worst));
        assert!(both == both.clone() && both != one);
    }

    #[test]
    fn the_worst_of_two_drives_is_that_of_each_by_itself() {
        let hot = Smart::of_log([0b10, 0x60, 0x01, 40, 10, 3]);
        let worn = Smart::of_log([0b01, 0x20, 0x01, 50, 49, 120]);
        let worst = Smart::of_log([0b11, 0x60, 0x01, 50, 49, 120]);
        assert_eq!((hot.worst(worn), worn.worst(hot)), (worst, worst));
    }
}
