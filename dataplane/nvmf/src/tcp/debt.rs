//! What is owed to a host: bytes that TCP has taken and the host has not acknowledged.
//!
//! They pin the pages they lie in for as long as the host likes not to read, and TCP
//! probes its closed window for as long as it answers (RFC 9293, 3.8.6.1). What ends that
//! is for us to say (RFC 6429: whoever needs the memory may abort).

use mutant::mutant;

use crate::queue::slots::PROGRESS_BYTES;
use crate::units::Timestamp;

/// Bytes of a connection's stream, counted from its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Debt {
    sent: u64,
    acknowledged: u64,
    /// What the host has to acknowledge next: a page more, or all that there was.
    due: u64,
    /// Since when that is due.
    since: Timestamp,
}

impl Debt {
    /// Nothing is owed.
    pub const NONE: Debt = Debt {
        sent: 0,
        acknowledged: 0,
        due: 0,
        since: Timestamp(0),
    };

    /// Bytes that are owed.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.sent - self.acknowledged
    }

    /// Since when the host has acknowledged neither a page nor all that was owed by then;
    /// `None` if nothing is.
    #[inline]
    pub fn since(&self) -> Option<Timestamp> {
        (self.bytes() > 0).then_some(self.since)
    }

    /// TCP has taken `bytes` more.
    #[inline]
    pub fn add(&mut self, bytes: u64, now: Timestamp) {
        let owed_nothing = self.bytes() == 0;
        let bytes = if mutant!("debt-forgotten") { 0 } else { bytes };
        self.sent += bytes;
        if owed_nothing {
            self.ask(now);
        }
    }

    /// Of what TCP has taken, `bytes` are not acknowledged.
    #[inline]
    pub fn set(&mut self, bytes: u64, now: Timestamp) {
        // What was given back unsent, or counted elsewhere, is not owed.
        self.acknowledged = self.sent.saturating_sub(bytes).max(self.acknowledged);
        if self.acknowledged >= self.due {
            self.ask(now);
        }
    }

    fn ask(&mut self, now: Timestamp) {
        self.due = self.sent.min(self.acknowledged + u64::from(PROGRESS_BYTES));
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: u64 = PROGRESS_BYTES as u64;

    #[test]
    fn z12_a_page_is_progress_and_so_is_everything() {
        let mut debt = Debt::NONE;
        assert_eq!((debt.bytes(), debt.since()), (0, None));
        debt.add(3 * PAGE, Timestamp(10));
        assert_eq!(
            (debt.bytes(), debt.since()),
            (3 * PAGE, Some(Timestamp(10)))
        );
        // What comes behind it makes it no younger, nor does a byte now and then.
        debt.add(PAGE, Timestamp(20));
        debt.set(4 * PAGE - 1, Timestamp(30));
        debt.set(3 * PAGE + 1, Timestamp(40));
        assert_eq!(debt.since(), Some(Timestamp(10)));
        debt.set(3 * PAGE, Timestamp(50));
        assert_eq!(debt.since(), Some(Timestamp(50)));
        debt.set(0, Timestamp(60));
        assert_eq!(debt.since(), None);
        // Of a few bytes all are: whoever answers one small command at a time over a long
        // way is never seen with nothing under way.
        debt.add(16, Timestamp(70));
        debt.add(16, Timestamp(80));
        debt.set(16, Timestamp(90));
        assert_eq!((debt.bytes(), debt.since()), (16, Some(Timestamp(90))));
    }

    proptest! {
        /// Whatever the pace: `since` is no older than the last time that a page, or all that
        /// was owed then, had come, and a host that takes nothing grows no younger.
        #[test]
        fn z12_a_host_that_takes_nothing_grows_no_younger(
            ops in prop::collection::vec((0u8..2, 0u64..3 * PAGE), 1..60)
        ) {
            let mut debt = Debt::NONE;
            let (mut sent, mut acked) = (0u64, 0u64);
            for (at, (op, n)) in (1..).zip(ops) {
                let (before, now) = (debt.since(), Timestamp(at));
                match op {
                    0 => {
                        sent += n + 1;
                        debt.add(n + 1, now);
                        prop_assert_eq!(debt.since(), before.or(Some(now)));
                    }
                    _ => {
                        let took = n.min(sent - acked);
                        acked += took;
                        debt.set(sent - acked, now);
                        if took == 0 {
                            prop_assert_eq!(debt.since(), before);
                        }
                        if took >= PAGE && acked < sent {
                            prop_assert_eq!(debt.since(), Some(now));
                        }
                    }
                }
                prop_assert_eq!(debt.bytes(), sent - acked);
            }
        }
    }
}
