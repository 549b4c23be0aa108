//! Pairs, as the control side sees them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mirror::{Answer, Generation, Question, Role, Tables, VerifyReport};

/// How a volume of a pair stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairReport {
    /// Its store.
    pub name: String,
    /// The node that has the other replica.
    pub peer: [u8; 16],
    /// What this node is for it.
    pub role: Role,
    /// Hosts are served here.
    pub serves: bool,
    /// Both nodes have the same.
    pub is_in_sync: bool,
    /// The arbiter knows that the other node may take over from this one; `None`: there is no arbiter.
    pub takeover: Option<bool>,
    /// The generation of this node's replica.
    pub generation: Generation,
    /// Bytes of the volume.
    pub bytes: u64,
    /// Bytes that it is about to have.
    pub resizes_to: Option<u64>,
    /// Granules of 64 KiB that are to be copied before it has grown.
    pub growing: u64,
    /// Granules of 64 KiB that are to be copied to the other node.
    pub granules: u64,
    /// How the comparison that was begun last stands, if there was one.
    pub verification: Option<VerifyReport>,
    /// How far the two nodes are, in a word.
    pub step: &'static str,
    /// How long it has been that.
    pub since: Duration,
    /// When an operator severed the pair, here or, if this node is not the source, at the other one: seconds since 1970.
    pub severed: Option<u64>,
    /// What this node has may be read as a backup.
    pub is_backup: bool,
    /// How the link to the other node is encrypted; `None` while there is none.
    pub link: Option<mirror::Security>,
    /// All of it in words.
    pub state: String,
}

impl PairReport {
    /// Bytes that are to be copied before the volume has grown.
    pub fn growing_bytes(&self) -> u64 {
        self.growing * mirror::GRANULE
    }

    /// Bytes that are to be copied to the other node.
    pub fn to_copy_bytes(&self) -> u64 {
        self.granules * mirror::GRANULE
    }
}

/// What an operator may say of a volume of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairOrder {
    /// This node is the source from now on, and the other one is not.
    Promote {
        /// Whatever the arbiter says.
        is_forced: bool,
    },
    /// The other node is to be the source, which has the same.
    Demote,
    /// Both replicas are compared.
    Verify {
        /// What differs is copied to the other node.
        mends: bool,
    },
    /// This node, the source, gives up the other one, until an operator says otherwise.
    Sever {
        /// When that is said: seconds since 1970.
        now: u64,
    },
    /// That ends.
    Reestablish,
    /// What this node's store has is the volume, of which neither node has data.
    Establish,
    /// This node gives up what it has, and is copied to.
    Discard {
        /// Whether or not the other node is there, and the source.
        is_forced: bool,
    },
    /// The volume has another size, on both nodes.
    Resize {
        /// Bytes; `None`: those of this node's device.
        bytes: Option<u64>,
        /// What is behind may be lost.
        is_named: bool,
    },
    /// Both nodes' tables are compared.
    UpdateTables,
    /// Frames to and from the other node are so long at most.
    SetFrameSize {
        /// Bytes of payload.
        bytes: u32,
    },
}

/// What comes of an order, or why it is not carried out: tables, if those were asked for.
pub type PairOutcome = Result<Option<Tables>, String>;

/// Tells an order from others.
pub(crate) type OrderNumber = u64;

/// What a pair asks the arbiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairQuestion {
    /// Which volume, in the order of the configuration.
    pub pair: usize,
    /// Which peer it is with: each may have an arbiter of its own.
    pub peer: usize,
    /// What it knows the question by.
    pub token: u64,
    /// What it asks.
    pub question: Question,
}

#[derive(Default)]
struct Inner {
    /// Stores, and the nodes that have the other replicas.
    names: Vec<(String, [u8; 16])>,
    reports: Vec<PairReport>,
    /// What operators said of which volume, and how it went.
    orders: VecDeque<(OrderNumber, usize, PairOrder)>,
    done: VecDeque<(OrderNumber, PairOutcome)>,
    /// How many there were.
    count: OrderNumber,
    /// What the arbiter is to be asked, and has answered: the pair, its token, and what.
    questions: VecDeque<PairQuestion>,
    answers: VecDeque<(usize, u64, Answer)>,
    /// By peer: until when the node's lease at the arbiter lasts.
    leased: Vec<(usize, Instant)>,
}

/// Where the control side and the shard with the pairs meet.
#[derive(Default)]
pub(crate) struct PairDesk {
    /// One order at a time: its end belongs to whoever gave it.
    turn: Mutex<()>,
    inner: Mutex<Inner>,
    changed: Condvar,
    /// There is something for the shard.
    has_news: AtomicBool,
}

/// What there is for the shard.
#[derive(Default)]
pub(crate) struct PairNews {
    pub(crate) orders: VecDeque<(OrderNumber, usize, PairOrder)>,
    pub(crate) answers: VecDeque<(usize, u64, Answer)>,
    pub(crate) leased: Vec<(usize, Instant)>,
}

fn stores(names: &[(String, [u8; 16])]) -> Vec<&str> {
    names.iter().map(|(store, _)| store.as_str()).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PairDesk {
    /// There are pairs of these stores with these nodes.
    pub(crate) fn expect(&self, names: Vec<(String, [u8; 16])>) {
        lock(&self.inner).names = names;
    }

    pub(crate) fn name(&self, pair: usize) -> String {
        lock(&self.inner)
            .names
            .get(pair)
            .map(|(store, _)| store.clone())
            .unwrap_or_default()
    }

    /// How they stand now.
    pub(crate) fn tell(&self, mut reports: Vec<PairReport>) {
        let mut inner = lock(&self.inner);
        for (report, (store, peer)) in reports.iter_mut().zip(&inner.names) {
            report.name.clone_from(store);
            report.peer = *peer;
        }
        inner.reports = reports;
    }

    /// How they stood last.
    pub(crate) fn reports(&self) -> Vec<PairReport> {
        lock(&self.inner).reports.clone()
    }

    /// What there is for the shard since it was last asked. Takes no lock if that is nothing.
    pub(crate) fn news(&self) -> Option<PairNews> {
        if !self.has_news.swap(false, Ordering::AcqRel) {
            return None;
        }
        let mut inner = lock(&self.inner);
        Some(PairNews {
            orders: std::mem::take(&mut inner.orders),
            answers: std::mem::take(&mut inner.answers),
            leased: std::mem::take(&mut inner.leased),
        })
    }

    /// How an order went.
    pub(crate) fn done(&self, order: OrderNumber, result: PairOutcome) {
        lock(&self.inner).done.push_back((order, result));
        self.changed.notify_all();
    }

    /// A pair asks the arbiter.
    pub(crate) fn ask(&self, question: PairQuestion) {
        lock(&self.inner).questions.push_back(question);
        self.changed.notify_all();
    }

    /// What the arbiter of the pair with a peer is to be asked next; waits for it so long at most.
    pub(crate) fn next_question(&self, peer: usize, timeout: Duration) -> Option<PairQuestion> {
        let mut deadline = None;
        let mut inner = lock(&self.inner);
        loop {
            let mut questions = inner.questions.iter();
            if let Some(place) = questions.position(|question| question.peer == peer) {
                return inner.questions.remove(place);
            }
            if timeout.is_zero() {
                return None;
            }
            let now = Instant::now();
            let left = deadline
                .get_or_insert(now + timeout)
                .checked_duration_since(now)?;
            let waited = self.changed.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// It has answered.
    pub(crate) fn answered(&self, question: &PairQuestion, answer: Answer) {
        let mut inner = lock(&self.inner);
        (inner.answers).push_back((question.pair, question.token, answer));
        self.has_news.store(true, Ordering::Release);
    }

    /// The node's lease at the arbiter of the pair with a peer lasts until then at least.
    pub(crate) fn leased(&self, peer: usize, until: Instant) {
        lock(&self.inner).leased.push((peer, until));
        self.has_news.store(true, Ordering::Release);
    }

    /// Has an order about the volume on a store carried out; says why it is not.
    pub(crate) fn order(&self, name: &str, order: PairOrder, timeout: Duration) -> PairOutcome {
        let _turn = lock(&self.turn);
        let deadline = Instant::now() + timeout;
        let mut inner = lock(&self.inner);
        let place = inner.names.iter().position(|(store, _)| store == name);
        let Some(place) = place else {
            return Err(match inner.names.is_empty() {
                true => "there is no pair, or the program does not serve yet".into(),
                false => format!(
                    "no pair has a volume on store {name:?}; there are: {}",
                    stores(&inner.names).join(", ")
                ),
            });
        };
        inner.count += 1;
        let number = inner.count;
        inner.orders.push_back((number, place, order));
        self.has_news.store(true, Ordering::Release);
        loop {
            // Those of whom nobody waits any more come first.
            while let Some((of, result)) = inner.done.pop_front() {
                if of == number {
                    return result;
                }
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                inner.orders.clear();
                return Err("the program does not answer".into());
            };
            let waited = self.changed.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMOTE: PairOrder = PairOrder::Promote { is_forced: false };

    #[test]
    fn r04_an_order_says_why_it_is_not_carried_out() {
        let desk = PairDesk::default();
        let short = Duration::from_millis(1);
        let order = |name| desk.order(name, PROMOTE, short).unwrap_err();
        assert!(order("data").contains("no pair"));
        desk.expect(vec![("data".into(), [2; 16])]);
        assert!(order("date").contains("there are: data"));
        assert!(order("data").contains("does not answer"));
        let taken_back = desk.news().map_or(0, |news| news.orders.len());
        assert_eq!(taken_back, 0, "it was taken back");
        std::thread::scope(|scope| {
            let (desk, long) = (&desk, Duration::from_secs(60));
            let asked = scope.spawn(move || desk.order("data", PairOrder::Demote, long));
            let news = loop {
                match desk.news() {
                    Some(news) => break news,
                    None => std::thread::yield_now(),
                }
            };
            // That of another one, who waits no more.
            desk.done(1, Ok(None));
            assert_eq!(news.orders, [(2, 0, PairOrder::Demote)]);
            desk.done(2, Err("it is not whole".into()));
            assert_eq!(asked.join().unwrap(), Err("it is not whole".into()));
        });
    }

    #[test]
    fn s08_the_arbiter_is_asked_and_its_answers_come_back() {
        let desk = PairDesk::default();
        let none = Duration::from_millis(1);
        assert_eq!(desk.next_question(0, none), None);
        let question = PairQuestion {
            pair: 1,
            peer: 0,
            token: 7,
            question: Question::Look,
        };
        desk.ask(question);
        // Each peer may have an arbiter of its own.
        assert_eq!(desk.next_question(1, none), None);
        assert_eq!(desk.next_question(0, none), Some(question));
        assert!(desk.news().is_none());
        let until = Instant::now();
        desk.leased(0, until);
        desk.answered(&question, Answer::Unreachable);
        let news = desk.news().expect("there are");
        assert_eq!(news.answers, [(1, 7, Answer::Unreachable)]);
        assert_eq!(news.leased, [(0, until)]);
        assert!(desk.news().is_none());
    }

    #[test]
    fn r04_reports_have_the_names_of_stores() {
        let desk = PairDesk::default();
        desk.expect(vec![("data".into(), [2; 16])]);
        desk.tell(vec![PairReport {
            name: String::new(),
            peer: [0; 16],
            role: Role::Source,
            serves: true,
            is_in_sync: false,
            takeover: None,
            generation: Generation { number: 1, tag: 7 },
            bytes: 1 << 20,
            resizes_to: None,
            growing: 0,
            granules: 0,
            verification: None,
            step: "apart",
            since: Duration::ZERO,
            severed: None,
            is_backup: false,
            link: None,
            state: String::new(),
        }]);
        assert_eq!(desk.reports()[0].name, "data");
    }
}
