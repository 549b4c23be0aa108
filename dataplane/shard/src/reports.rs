//! Peers that were turned away: counted by the shards, told to the log by the control
//! side, a line a minute at most. What a flood does, it must not do to the log as well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use net::Counters;

/// Between one line and the next.
const PAUSE: Duration = Duration::from_secs(60);
/// From the first to what the first line counts.
const GATHER: Duration = Duration::from_secs(1);

/// How many were turned away, and by what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TurnedAway {
    /// Found no slot: each is that of a host with a controller.
    refused: u64,
    /// Lost their slot to others, before they had a controller.
    displaced: u64,
    /// Were answered with cookies: their SYNs were not remembered.
    cookies: u64,
}

impl TurnedAway {
    /// Since the start, on one port of a shard.
    pub(crate) fn of(counters: &Counters) -> Self {
        Self {
            refused: counters.tcp_no_slot,
            displaced: counters.tcp_displaced,
            cookies: counters.tcp_cookies_sent,
        }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            refused: self.refused - before.refused,
            displaced: self.displaced - before.displaced,
            cookies: self.cookies - before.cookies,
        }
    }

    /// What an operator should know of it.
    fn line(self) -> String {
        let Self {
            refused,
            displaced,
            cookies,
        } = self;
        let mut why = Vec::new();
        if refused > 0 {
            why.push(format!(
                "{refused} connections refused, as every place is taken by a host with a controller"
            ));
        }
        if displaced > 0 {
            why.push(format!(
                "{displaced} connections that had not finished Connect displaced by newer ones"
            ));
        }
        if cookies > 0 {
            why.push(format!(
                "{cookies} SYNs answered with cookies, as too many handshakes or places were open"
            ));
        }
        let advice = if refused > 0 {
            "raise `connections` in `[memory]`, or let fewer hosts or queues connect"
        } else {
            "if these are hosts, raise `connections` in `[memory]`; if not, keep them off the \
             storage network: hosts that are connected lose nothing"
        };
        let what = if refused + displaced > 0 {
            "connections are turned away"
        } else {
            "very many connections are being opened"
        };
        format!("{what}: {}; {advice}", why.join("; "))
    }
}

/// What the log was told, when; and since when there is more.
#[derive(Default)]
struct Told {
    at: Option<Instant>,
    counted: TurnedAway,
    news_since: Option<Instant>,
}

/// What all shards counted, and what of it the log was told.
#[derive(Default)]
pub(crate) struct Reports {
    refused: AtomicU64,
    displaced: AtomicU64,
    cookies: AtomicU64,
    told: Mutex<Told>,
}

impl Reports {
    /// A shard has turned so many more away.
    pub(crate) fn add(&self, more: TurnedAway) {
        let add = |to: &AtomicU64, n| to.fetch_add(n, Ordering::Relaxed);
        add(&self.refused, more.refused);
        add(&self.displaced, more.displaced);
        add(&self.cookies, more.cookies);
    }

    /// A line for the log, if there is news and the last one was a while ago.
    pub(crate) fn poll(&self, now: Instant) -> Option<String> {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let all = TurnedAway {
            refused: count(&self.refused),
            displaced: count(&self.displaced),
            cookies: count(&self.cookies),
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.counted;
        if all == before {
            return None;
        }
        let since = *told.news_since.get_or_insert(now);
        let pauses = told.at.is_some_and(|at| now.duration_since(at) < PAUSE);
        if pauses || now.duration_since(since) < GATHER {
            return None;
        }
        *told = Told {
            at: Some(now),
            counted: all,
            news_since: None,
        };
        Some(all.since(before).line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn z12_the_log_is_told_of_hosts_turned_away_once_a_minute_and_why() {
        let (reports, start) = (Reports::default(), Instant::now());
        assert_eq!(reports.poll(start), None);
        let flood = |cookies| TurnedAway {
            cookies,
            ..TurnedAway::default()
        };
        reports.add(flood(3));
        assert_eq!(reports.poll(start), None, "more will come");
        reports.add(flood(4));
        let start = start + Duration::from_secs(1);
        let line = reports.poll(start).unwrap();
        assert!(line.contains("7 SYNs answered with cookies"), "{line}");
        assert!(!line.contains("refused") && !line.contains("displaced"));
        // What comes within a minute is in the next line; with nothing new there is none.
        for second in 1..=60 {
            reports.add(flood(1000));
            let line = reports.poll(start + Duration::from_secs(second));
            assert_eq!(line.is_some(), second == 60);
            assert!(line.is_none_or(|line| line.contains("60000 SYNs")));
        }
        assert_eq!(reports.poll(start + Duration::from_secs(1000)), None);
        reports.add(TurnedAway {
            refused: 1,
            displaced: 2,
            cookies: 0,
        });
        assert_eq!(reports.poll(start + Duration::from_secs(1001)), None);
        let line = reports.poll(start + Duration::from_secs(1002)).unwrap();
        for part in [
            "1 connections refused",
            "2 connections",
            "raise `connections`",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }
}
