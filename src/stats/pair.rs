//! How volumes of pairs stand, and what the lanes to the other node have done.

use engine::PairReport;
use serde::{Deserialize, Serialize};

use super::Shard;
use crate::config::uuid_text;
use crate::text::{Table, bytes};

/// A volume of a pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) store: String,
    /// The node that has the other replica.
    pub(crate) peer: String,
    /// `source`, `destination` or `yielding`.
    pub(crate) role: String,
    pub(crate) serves_hosts: bool,
    pub(crate) in_sync: bool,
    /// None: there is no etcd.
    pub(crate) takeover: Option<bool>,
    pub(crate) generation: String,
    pub(crate) to_copy_bytes: u64,
    /// An operator severed it, here or at the other node.
    #[serde(default)]
    pub(crate) severed_by_operator: bool,
    /// What this node has may be read as a backup.
    #[serde(default)]
    pub(crate) readable_as_backup: bool,
    /// What the link to the other node is encrypted by, or `in the clear`. None: there is no link now.
    #[serde(default)]
    pub(crate) link: Option<String>,
    /// How far the two nodes are, in a word, and since when.
    pub(crate) step: String,
    pub(crate) since_seconds: u64,
}

impl Pair {
    pub(super) fn new(report: &PairReport) -> Self {
        Self {
            store: report.name.clone(),
            peer: uuid_text(report.peer),
            role: report.role.word().into(),
            serves_hosts: report.serves,
            in_sync: report.is_in_sync,
            takeover: report.takeover,
            generation: report.generation.to_string(),
            to_copy_bytes: report.to_copy_bytes(),
            severed_by_operator: report.severed.is_some(),
            readable_as_backup: report.is_backup,
            link: report.link.map(|link| link.name().into()),
            step: report.step.into(),
            since_seconds: report.since.as_secs(),
        }
    }
}

/// Columns of a table of pairs, and the row of one.
pub(crate) const COLUMNS: [&str; 9] = [
    "pair", "peer", "role", "hosts", "in sync", "step", "since", "to copy", "takeover",
];

pub(crate) fn row(pair: &Pair) -> Vec<String> {
    let yes = |is_it: bool| if is_it { "yes" } else { "no" }.to_owned();
    vec![
        pair.store.clone(),
        // As much of it as tells a few nodes apart.
        pair.peer.chars().take(8).collect(),
        pair.role.clone(),
        match pair.serves_hosts {
            true => "served".into(),
            false => "not served".into(),
        },
        yes(pair.in_sync),
        pair.step.clone(),
        format!("{} s", pair.since_seconds),
        bytes(pair.to_copy_bytes),
        pair.takeover.map_or("-".into(), yes),
    ]
}

pub(super) fn table(pairs: &[Pair]) -> Table {
    let mut table = Table::new(COLUMNS).left(&[1, 2, 3, 4, 5]);
    for pair in pairs {
        table.row(row(pair));
    }
    table
}

/// What the lanes of a shard, or of several together, have done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Mirror {
    pub(crate) lanes: u64,
    pub(crate) lanes_up: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) messages_sent: u64,
    pub(crate) messages_resent: u64,
    pub(crate) messages_unanswered: u64,
    pub(crate) changes_waiting: u64,
}

impl Mirror {
    /// `None`: there is no other node.
    pub(crate) fn of(shard: &Shard) -> Option<Self> {
        let counters = shard.counters.get("mirror")?;
        let count = |name| counters.get(name).copied().unwrap_or_default();
        Some(Self {
            lanes: count("lanes"),
            lanes_up: count("lanes_up"),
            bytes_sent: count("bytes_sent"),
            bytes_received: count("bytes_received"),
            messages_sent: count("messages_sent"),
            messages_resent: count("messages_resent"),
            messages_unanswered: count("messages_unanswered"),
            changes_waiting: count("changes_waiting"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;

    #[test]
    fn r04_stats_show_how_pairs_stand() {
        let mut stats = sample();
        let shown = stats.to_string();
        for line in [
            "  pair    peer      role    hosts   in sync  step            since  to copy  takeover",
            "  flash0  0c0c0c0c  source  served  no       source_copying   75 s  320 MiB        no",
        ] {
            assert!(shown.contains(line), "{line}\nis not in\n{shown}");
        }
        stats.pairs.clear();
        assert!(!stats.to_string().contains("Mirrored pairs"));
    }
}
