//! Alerts of pairs, on their way to whoever runs the operator's command for them (row R6).

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mirror::Alert;

/// Alerts that wait at most: those of a minute or two in which all goes wrong that can.
const WAITING: usize = 64;

/// What an operator is to know of a volume of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairAlert {
    /// Which one, in the order of the configuration.
    pub pair: usize,
    /// When it was said.
    pub at: SystemTime,
    /// What.
    pub alert: Alert,
}

events::counters! {
    /// What became of alerts.
    pub struct AlertCounters {
        /// Alerts of pairs.
        alerts,
        /// Alerts that the command of `alert` was not run for, as too many waited.
        alerts_dropped,
        /// Times that the command of `alert` was run.
        alert_commands,
        /// Times that the command of `alert` could not be started, said that it failed, or took too long.
        alert_commands_failed,
    }
}

#[derive(Default)]
struct Inner {
    /// Somebody runs a command for them.
    is_wanted: bool,
    waiting: VecDeque<PairAlert>,
    counters: AlertCounters,
}

/// Where the shard with the pairs leaves alerts, and who runs the command takes them.
#[derive(Default)]
pub(crate) struct AlertDesk {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl AlertDesk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Alerts are kept for [`AlertDesk::next`] from now on.
    pub(crate) fn want(&self) {
        self.lock().is_wanted = true;
    }

    /// There is one. Of too many the oldest go: the last ones say how it stands.
    pub(crate) fn tell(&self, pair: usize, alert: Alert) {
        let mut inner = self.lock();
        inner.counters.alerts += 1;
        if !inner.is_wanted {
            return;
        }
        if inner.waiting.len() >= WAITING {
            inner.waiting.pop_front();
            inner.counters.alerts_dropped += 1;
        }
        let at = SystemTime::now();
        inner.waiting.push_back(PairAlert { pair, at, alert });
        self.changed.notify_all();
    }

    /// The next one; waits for it so long at most.
    pub(crate) fn next(&self, timeout: Duration) -> Option<PairAlert> {
        let deadline = Instant::now() + timeout;
        let mut inner = self.lock();
        loop {
            if let Some(alert) = inner.waiting.pop_front() {
                return Some(alert);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let waited = self.changed.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Nobody will run the command for those that wait; how many those are.
    pub(crate) fn drop_waiting(&self) -> usize {
        let mut inner = self.lock();
        let dropped = std::mem::take(&mut inner.waiting).len();
        inner.counters.alerts_dropped += dropped as u64;
        inner.is_wanted = false;
        dropped
    }

    /// The command was run.
    pub(crate) fn ran(&self, is_good: bool) {
        let counters = &mut self.lock().counters;
        counters.alert_commands += 1;
        counters.alert_commands_failed += u64::from(!is_good);
    }

    pub(crate) fn counters(&self) -> AlertCounters {
        self.lock().counters.clone()
    }
}

#[cfg(test)]
mod tests {
    use mirror::{AlertEvent, Generation, Role};

    use super::*;

    fn alert(text: impl Into<String>) -> Alert {
        Alert {
            event: AlertEvent::Severed,
            text: text.into(),
            role: Role::Source,
            generation: Generation { number: 2, tag: 7 },
        }
    }

    #[test]
    fn r06_alerts_wait_in_order_and_of_too_many_the_last_ones() {
        let desk = AlertDesk::default();
        let none = Duration::ZERO;
        desk.tell(0, alert("nobody wants it"));
        desk.want();
        assert_eq!(desk.next(none), None);
        for n in 0..WAITING + 2 {
            desk.tell(1, alert(n.to_string()));
        }
        for n in 2..WAITING + 1 {
            let next = desk.next(none).expect("it waits");
            assert_eq!((next.pair, next.alert.text), (1, n.to_string()));
        }
        desk.ran(true);
        desk.ran(false);
        assert_eq!(desk.drop_waiting(), 1);
        desk.tell(0, alert("nobody wants it any more"));
        assert_eq!(desk.next(none), None);
        let expected = AlertCounters {
            alerts: WAITING as u64 + 4,
            alerts_dropped: 3,
            alert_commands: 2,
            alert_commands_failed: 1,
        };
        assert_eq!(desk.counters(), expected);
    }
}
