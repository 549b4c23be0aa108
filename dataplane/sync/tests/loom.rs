//! Every interleaving of what threads share: run with
//! `RUSTFLAGS="--cfg loom" cargo test -p sync --test loom --release`.
#![cfg(loom)]
#![allow(unsafe_code)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use sync::ring::{Receiver, ring};
use sync::slots::{Reader, slots};
use sync::{Progress, Watched};

/// As wide as the messages between shards: no word of one may come with those of another.
fn message(n: u64) -> [u64; 4] {
    [n, n + 1, n + 2, n + 3]
}

fn wait<T>(receiver: &mut Receiver<T>) -> T {
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
        let got: Vec<[u64; 4]> = early
            .into_iter()
            .chain(std::iter::from_fn(|| receiver.receive()))
            .collect();
        let expected: Vec<[u64; 4]> = (0..1 + u64::from(second)).map(message).collect();
        assert_eq!(got, expected);
    });
}

/// Everything in the ring of a capture: records of a number and as many words more.
fn collect(reader: &mut Reader<u64>, into: &mut Vec<u64>) {
    let mut left = reader.look();
    while left > 0 {
        let n = reader.take().expect("a record's head");
        for _ in 0..n {
            assert_eq!(reader.take(), Some(n), "a record is whole");
        }
        reader.release();
        left -= 1 + n as usize;
        into.push(n);
    }
}

/// Records of several slots, as a capture of frames writes them: they are whole
/// and in order, and once the writer is gone nothing of it is out of sight.
#[test]
fn records_are_whole_and_all_there_when_the_writer_is_gone() {
    loom::model(|| {
        let (mut writer, mut reader) = slots::<u64>(4);
        let writing = thread::spawn(move || {
            for n in 1..=2 {
                if !writer.has_room(1 + n as usize) {
                    writer.miss();
                    continue;
                }
                (0..=n).for_each(|_| writer.put(n));
                writer.publish();
            }
        });
        let mut seen = Vec::new();
        // Between two looks at it anything may happen.
        collect(&mut reader, &mut seen);
        while !reader.is_closed() {
            thread::yield_now();
        }
        collect(&mut reader, &mut seen);
        match reader.missed() {
            0 => assert_eq!(seen, [1, 2]),
            missed => assert_eq!((missed, &seen[..]), (1, &[1][..])),
        }
        writing.join().unwrap();
    });
}

/// A slot, and what it stands for, are the writer's again only when the reader has
/// released them. (loom lets no load see a later store, so the words of the slot
/// alone would not show it.)
#[test]
fn a_slot_is_not_written_again_before_it_is_released() {
    loom::model(|| {
        let (mut writer, mut reader) = slots::<u64>(1);
        let cell = Arc::new(UnsafeCell::new(0));
        let seen = Arc::clone(&cell);
        let writing = thread::spawn(move || {
            for n in 1..=2 {
                while !writer.has_room(1) {
                    thread::yield_now();
                }
                // SAFETY: the slot is the writer's; loom checks it.
                cell.with_mut(|value| unsafe { *value = n });
                writer.put(n);
                writer.publish();
            }
        });
        for n in 1..=2 {
            while reader.look() == 0 {
                thread::yield_now();
            }
            assert_eq!(reader.take(), Some(n));
            // SAFETY: not released yet; loom checks it.
            assert_eq!(seen.with(|value| unsafe { *value }), n);
            reader.release();
        }
        writing.join().unwrap();
    });
}

/// A capture's offer: a thread that sees without the lock that there is news, finds it.
#[test]
fn news_is_there_for_whoever_sees_its_number() {
    loom::model(|| {
        let desk = Arc::new(Watched::new(0));
        let before = Arc::new(UnsafeCell::new(0));
        let (put, outside) = (Arc::clone(&desk), Arc::clone(&before));
        let putting = thread::spawn(move || {
            // SAFETY: before the number is published; loom checks it.
            outside.with_mut(|value| unsafe { *value = 1 });
            for number in 1..=2 {
                let mut held = put.lock();
                *held = number;
                put.publish(&held, number);
            }
        });
        let mut last = 0;
        while last < 2 {
            let seen = desk.number();
            assert!(seen >= last, "numbers go on");
            if seen == last {
                thread::yield_now();
                continue;
            }
            // SAFETY: after it was published; loom checks it.
            assert_eq!(before.with(|value| unsafe { *value }), 1);
            let held = desk.lock();
            assert!(*held >= seen, "what came with the number, or later");
            assert_eq!(*held, desk.number(), "the number of what is there");
            last = seen;
        }
        putting.join().unwrap();
    });
}

/// A question for counters, and who gave up: the answer to an old question is
/// never taken for one to the new.
#[test]
fn an_answer_belongs_to_its_question() {
    loom::model(|| {
        let questions = Arc::new(Watched::new(None));
        let asked = Arc::clone(&questions);
        let shard = thread::spawn(move || {
            let mut answered = 0;
            while answered < 2 {
                let question = asked.number();
                if question == answered {
                    thread::yield_now();
                    continue;
                }
                answered = question;
                let mut answer = asked.lock();
                if asked.number() == question {
                    *answer = Some(question);
                }
            }
        });
        for question in 1..=2 {
            let mut answer = questions.lock();
            *answer = None;
            questions.publish(&answer, question);
            drop(answer);
            // The first is given up at once; the second is waited for.
            loop {
                let answer = questions.lock().take();
                assert!(answer.is_none_or(|of| of == question));
                if answer.is_some() || question == 1 {
                    break;
                }
                thread::yield_now();
            }
        }
        shard.join().unwrap();
    });
}

/// Shards that stop in step: who sees that all have arrived sees what each did before.
#[test]
fn what_was_done_before_a_step_is_in_sight_after_it() {
    loom::model(|| {
        let done = Arc::new((
            Progress::default(),
            [UnsafeCell::new(0), UnsafeCell::new(0)],
        ));
        let workers = [0, 1].map(|me| {
            let done = Arc::clone(&done);
            thread::spawn(move || {
                // SAFETY: nobody reads before both have stepped; loom checks it.
                done.1[me].with_mut(|work| unsafe { *work = me + 1 });
                done.0.step();
            })
        });
        while done.0.place() < 2 {
            thread::yield_now();
        }
        for (me, work) in done.1.iter().enumerate() {
            // SAFETY: both have stepped; loom checks it.
            assert_eq!(work.with(|work| unsafe { *work }), me + 1);
        }
        for worker in workers {
            worker.join().unwrap();
        }
    });
}
