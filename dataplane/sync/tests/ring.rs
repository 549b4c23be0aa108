//! Rings between threads as they are; `loom.rs` has every interleaving.
#![cfg(not(loom))]

use std::sync::Arc;
use std::thread;

use sync::ring::ring;
use sync::slots::slots;

#[test]
fn messages_of_any_type_arrive_in_order() {
    let (mut sender, mut receiver) = ring(8);
    let sending = thread::spawn(move || {
        for n in 0..100_000u64 {
            let mut unsent = (n, Box::new(n));
            while let Err(back) = sender.send(unsent) {
                unsent = back;
                thread::yield_now();
            }
        }
    });
    for n in 0..100_000 {
        let (number, boxed) = loop {
            match receiver.receive() {
                Some(message) => break message,
                None => thread::yield_now(),
            }
        };
        assert_eq!((number, *boxed), (n, n));
    }
    sending.join().unwrap();
    assert!(receiver.receive().is_none());
}

#[test]
fn every_message_is_dropped_once() {
    let message = Arc::new(());
    for received in 0..=3 {
        let (mut sender, mut receiver) = ring(4);
        // The ring goes round: what is left lies over its end.
        for _ in 0..3 {
            sender.send(Arc::clone(&message)).unwrap();
            drop(receiver.receive().unwrap());
        }
        for _ in 0..3 {
            sender.send(Arc::clone(&message)).unwrap();
        }
        for _ in 0..received {
            drop(receiver.receive().unwrap());
        }
        assert_eq!(Arc::strong_count(&message), 1 + 3 - received);
        match received % 2 {
            0 => drop((sender, receiver)),
            _ => drop((receiver, sender)),
        }
        assert_eq!(Arc::strong_count(&message), 1);
    }
}

#[test]
fn what_was_put_but_not_published_and_taken_but_not_released_is_dropped_once() {
    let value = Arc::new(());
    let (mut writer, mut reader) = slots(4);
    for _ in 0..2 {
        writer.put(Arc::clone(&value));
    }
    writer.publish();
    writer.put(Arc::clone(&value));
    drop(reader.take().unwrap());
    assert_eq!(Arc::strong_count(&value), 3);
    drop(writer);
    assert_eq!(Arc::strong_count(&value), 2, "it was never published");
    assert_eq!((reader.is_closed(), reader.look()), (true, 1));
    drop(reader);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
#[should_panic(expected = "no room in the ring")]
fn nothing_is_put_over_what_was_not_taken() {
    let (mut writer, _reader) = slots(2);
    for n in 0..3 {
        writer.put(n);
    }
}

#[test]
fn a_full_ring_gives_the_message_back() {
    let (mut sender, mut receiver) = ring(2);
    assert_eq!((sender.room(), receiver.receive()), (2, None));
    assert_eq!((sender.send(1), sender.send(2)), (Ok(()), Ok(())));
    assert_eq!((sender.send(3), sender.room()), (Err(3), 0));
    assert_eq!(receiver.receive(), Some(1));
    assert_eq!((sender.send(3), sender.room()), (Ok(()), 0));
}
