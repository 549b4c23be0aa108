//! Pairs, as the control side sees them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How a volume of a pair stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairReport {
    /// Its store.
    pub name: String,
    /// Hosts write to this node, or would.
    pub is_source: bool,
    /// Hosts are served here.
    pub serves: bool,
    /// Both nodes have the same.
    pub is_in_sync: bool,
    /// The generation of this node's replica.
    pub generation: String,
    /// Granules of 64 KiB that are to be copied to the other node.
    pub granules: u64,
    /// All of it in words.
    pub state: String,
}

#[derive(Default)]
struct Inner {
    names: Vec<String>,
    reports: Vec<PairReport>,
    /// Volumes that are to be promoted, and how it went.
    promotions: VecDeque<usize>,
    promoted: VecDeque<Result<(), String>>,
}

/// Where the control side and the shard with the pairs meet.
#[derive(Default)]
pub(crate) struct PairDesk {
    /// One order at a time: its end belongs to whoever gave it.
    turn: Mutex<()>,
    inner: Mutex<Inner>,
    done: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PairDesk {
    /// There are pairs of these stores.
    pub(crate) fn expect(&self, names: Vec<String>) {
        lock(&self.inner).names = names;
    }

    pub(crate) fn name(&self, pair: usize) -> String {
        lock(&self.inner)
            .names
            .get(pair)
            .cloned()
            .unwrap_or_default()
    }

    /// How they stand now.
    pub(crate) fn tell(&self, mut reports: Vec<PairReport>) {
        let mut inner = lock(&self.inner);
        for (report, name) in reports.iter_mut().zip(&inner.names) {
            report.name.clone_from(name);
        }
        inner.reports = reports;
    }

    /// How they stood last.
    pub(crate) fn reports(&self) -> Vec<PairReport> {
        lock(&self.inner).reports.clone()
    }

    pub(crate) fn next_promotion(&self) -> Option<usize> {
        lock(&self.inner).promotions.pop_front()
    }

    pub(crate) fn promoted(&self, result: Result<(), String>) {
        lock(&self.inner).promoted.push_back(result);
        self.done.notify_all();
    }

    /// Has the volume on a store promoted; says why it is not.
    pub(crate) fn promote(&self, name: &str, timeout: Duration) -> Result<(), String> {
        let _turn = lock(&self.turn);
        let deadline = Instant::now() + timeout;
        let mut inner = lock(&self.inner);
        let place = inner.names.iter().position(|known| known == name);
        let Some(place) = place else {
            return Err(match inner.names.is_empty() {
                true => "there is no pair, or the program does not serve yet".into(),
                false => format!(
                    "no pair has a volume on store {name:?}; there are: {}",
                    inner.names.join(", ")
                ),
            });
        };
        inner.promoted.clear();
        inner.promotions.push_back(place);
        loop {
            if let Some(result) = inner.promoted.pop_front() {
                return result;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                inner.promotions.clear();
                return Err("the program does not answer".into());
            };
            let waited = self.done.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r04_a_promotion_says_why_there_is_none() {
        let desk = PairDesk::default();
        let short = Duration::from_millis(1);
        assert!(desk.promote("data", short).unwrap_err().contains("no pair"));
        desk.expect(vec!["data".into()]);
        assert!(
            desk.promote("date", short)
                .unwrap_err()
                .contains("there are: data")
        );
        assert!(
            desk.promote("data", short)
                .unwrap_err()
                .contains("does not answer")
        );
        assert_eq!(desk.next_promotion(), None, "it was taken back");
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| desk.promote("data", Duration::from_secs(60)));
            while desk.next_promotion() != Some(0) {
                std::thread::yield_now();
            }
            desk.promoted(Err("it is not whole".into()));
            assert_eq!(asked.join().unwrap(), Err("it is not whole".into()));
        });
    }

    #[test]
    fn r04_reports_have_the_names_of_stores() {
        let desk = PairDesk::default();
        desk.expect(vec!["data".into()]);
        desk.tell(vec![PairReport::default()]);
        assert_eq!(desk.reports()[0].name, "data");
    }
}
