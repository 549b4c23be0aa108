//! Rings between any two of several threads, one each way.

use crate::ring::{Receiver, Sender, ring};

/// One shard's ends of the two rings between it and another.
pub struct Ends<M> {
    /// What this shard sends.
    pub to: Sender<M>,
    /// What the other sends.
    pub from: Receiver<M>,
}

/// Rings for `capacity` messages each between so many shards: for each shard
/// its ends, by shard; `None` in its own place.
pub fn mesh<M: Send>(shards: usize, capacity: usize) -> Vec<Vec<Option<Ends<M>>>> {
    let mut ends: Vec<Vec<Option<Ends<M>>>> = (0..shards)
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
