//! Rings between shards: a ring each way between any two.

use sync::ring::{Receiver, Sender, ring};

/// One shard's ends of the two rings between it and another, of messages of `N` words.
pub struct Ends<const N: usize> {
    /// What this shard sends.
    pub to: Sender<N>,
    /// What the other sends.
    pub from: Receiver<N>,
}

/// Rings for `capacity` messages each between so many shards: for each shard
/// its ends, by shard; `None` in its own place.
pub fn mesh<const N: usize>(shards: usize, capacity: usize) -> Vec<Vec<Option<Ends<N>>>> {
    let mut ends: Vec<Vec<Option<Ends<N>>>> = (0..shards)
        .map(|_| (0..shards).map(|_| None).collect())
        .collect();
    let pairs = (0..shards).flat_map(|one| (one + 1..shards).map(move |other| (one, other)));
    for (one, other) in pairs {
        let (there, here) = (ring(capacity), ring(capacity));
        ends[one][other] = Some(Ends {
            to: there.0,
            from: here.1,
        });
        ends[other][one] = Some(Ends {
            to: here.0,
            from: there.1,
        });
    }
    ends
}
