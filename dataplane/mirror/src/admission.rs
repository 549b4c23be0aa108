//! Changes of the other node are let in, or not; and whether some are under way.

use std::sync::atomic::Ordering::SeqCst;

use crate::atomics::AtomicU64;

/// Any shard asks to be let in; one thread says who is. When it has let nobody in and it [is quiet](Admission::is_quiet), nothing of what was
/// let in before goes on.
///
/// Both sides change a word and then look at the other one. They look by a change, too (of nothing): so one of the two sees the other, in
/// any order that changes of a word can have.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Changes that came with this ticket are let in; 0: none are.
    ticket: AtomicU64,
    /// Messages that were let in, or ask to be.
    inside: AtomicU64,
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self {
            ticket: AtomicU64::new(0),
            inside: AtomicU64::new(0),
        }
    }

    /// Whether what came with a ticket is let in. If so, [`Admission::leave`] is to follow.
    pub(crate) fn enter(&self, ticket: u64) -> bool {
        self.inside.fetch_add(1, SeqCst);
        let is_in = ticket != 0 && self.ticket.fetch_add(0, SeqCst) == ticket;
        if !is_in {
            self.leave();
        }
        is_in
    }

    pub(crate) fn leave(&self) {
        self.inside.fetch_sub(1, SeqCst);
    }

    /// Lets in what comes with a ticket; 0: nothing.
    pub(crate) fn open(&self, ticket: u64) {
        self.ticket.swap(ticket, SeqCst);
    }

    /// Whether anything is let in.
    pub(crate) fn is_open(&self) -> bool {
        self.ticket.load(SeqCst) != 0
    }

    /// Whether nothing is inside.
    pub(crate) fn is_quiet(&self) -> bool {
        self.inside.fetch_add(0, SeqCst) == 0
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A shard changes the volume while it is inside; the one that decides does so when it has closed and it is quiet. Loom sees every access,
    /// and fails if two are not ordered.
    #[test]
    fn r07_nothing_goes_on_when_nothing_is_let_in_and_it_is_quiet() {
        loom::model(|| {
            let admission = Arc::new(Admission::new());
            let volume = Arc::new(UnsafeCell::new(()));
            admission.open(7);
            let shards: Vec<_> = (0..2)
                .map(|_| {
                    let (admission, volume) = (Arc::clone(&admission), Arc::clone(&volume));
                    thread::spawn(move || {
                        if admission.enter(7) {
                            volume.with(|_| thread::yield_now());
                            admission.leave();
                        }
                    })
                })
                .collect();
            admission.open(0);
            if admission.is_quiet() {
                volume.with_mut(|_| ());
            }
            for shard in shards {
                shard.join().unwrap();
            }
            assert!(admission.is_quiet());
        });
    }
}
