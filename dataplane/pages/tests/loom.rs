//! Every interleaving of what shards share: run with
//! `RUSTFLAGS="--cfg loom" cargo test -p pages --test loom --release`.
#![cfg(loom)]
#![allow(unsafe_code)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use pages::ring::{Crossing, Receiver, ring};

fn message(n: u64) -> Crossing {
    Crossing::Message {
        tag: n,
        words: [n + 1, n + 2],
    }
}

fn wait(receiver: &mut Receiver) -> Crossing {
    loop {
        match receiver.receive() {
            Some(message) => return message,
            None => thread::yield_now(),
        }
    }
}

#[test]
fn messages_arrive_in_order_and_whole_and_once() {
    loom::model(|| {
        // Fewer slots than messages: they are used again.
        let (mut sender, mut receiver) = ring(2);
        let sending = thread::spawn(move || {
            for n in 0..3 {
                let mut unsent = message(n);
                while let Err(back) = sender.send(unsent) {
                    unsent = back;
                    thread::yield_now();
                }
            }
        });
        for n in 0..3 {
            assert_eq!(wait(&mut receiver), message(n));
        }
        sending.join().unwrap();
        assert_eq!(receiver.receive(), None);
    });
}

#[test]
fn a_full_ring_refuses_and_keeps_what_it_has() {
    loom::model(|| {
        let (mut sender, mut receiver) = ring(1);
        let sending = thread::spawn(move || {
            let first = sender.send(message(0)).is_ok();
            (first, sender.send(message(1)).is_ok())
        });
        let early = receiver.receive();
        let (first, second) = sending.join().unwrap();
        assert!(first);
        let got: Vec<Crossing> = early
            .into_iter()
            .chain(std::iter::from_fn(|| receiver.receive()))
            .collect();
        let expected: Vec<Crossing> = (0..1 + u64::from(second)).map(message).collect();
        assert_eq!(got, expected);
    });
}

/// The protocol of a parcel: the home writes a cluster, lends it, and writes it
/// again only after it came home; the other shard reads it in between. `loom`
/// sees every access to the bytes and fails if two are not ordered.
#[test]
fn a_parcels_bytes_are_never_written_while_another_shard_reads_them() {
    loom::model(|| {
        let cluster = Arc::new(UnsafeCell::new(0u64));
        let (mut there, mut arrivals) = ring(1);
        let (mut back, mut returns) = ring(1);
        let seen = Arc::clone(&cluster);
        let guest = thread::spawn(move || {
            for round in 1..=2 {
                assert_eq!(wait(&mut arrivals), message(round));
                // SAFETY: lent, and not returned yet; loom checks it.
                let value = seen.with(|bytes| unsafe { *bytes });
                assert_eq!(value, round, "the bytes came with the parcel");
                back.send(message(round)).unwrap();
            }
        });
        for round in 1..=2 {
            // SAFETY: at home; loom checks it.
            cluster.with_mut(|bytes| unsafe { *bytes = round });
            there.send(message(round)).unwrap();
            assert_eq!(wait(&mut returns), message(round));
        }
        guest.join().unwrap();
    });
}
