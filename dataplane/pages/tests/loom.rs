//! Every interleaving of lending over a ring: run with
//! `RUSTFLAGS="--cfg loom" cargo test -p pages --test loom --release`.
#![cfg(loom)]
#![allow(unsafe_code)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use sync::ring::{Receiver, ring};

fn wait(receiver: &mut Receiver<u64>) -> u64 {
    loop {
        match receiver.receive() {
            Some(message) => return message,
            None => thread::yield_now(),
        }
    }
}

/// The protocol of lending: the lender writes a cluster, lends it, and writes it
/// again only after it was returned; the borrower reads it in between. `loom`
/// sees every access to the bytes and fails if two are not ordered.
#[test]
fn lent_bytes_are_never_written_while_another_shard_reads_them() {
    loom::model(|| {
        let cluster = Arc::new(UnsafeCell::new(0u64));
        let (mut there, mut arrivals) = ring(1);
        let (mut back, mut returns) = ring(1);
        let seen = Arc::clone(&cluster);
        let borrower = thread::spawn(move || {
            for round in 1..=2 {
                assert_eq!(wait(&mut arrivals), round);
                // SAFETY: lent, and not returned yet; loom checks it.
                let value = seen.with(|bytes| unsafe { *bytes });
                assert_eq!(value, round, "the bytes came with the message");
                back.send(round).unwrap();
            }
        });
        for round in 1..=2 {
            // SAFETY: not lent; loom checks it.
            cluster.with_mut(|bytes| unsafe { *bytes = round });
            there.send(round).unwrap();
            assert_eq!(wait(&mut returns), round);
        }
        borrower.join().unwrap();
    });
}
