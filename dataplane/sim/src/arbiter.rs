//! An arbiter of pairs, as `etcd` is one: keys with revisions, keys of nodes that go with their leases, and ways to it that
//! are slow, lose what goes by them, and are cut. Its clock goes faster or slower than those of nodes; and when it comes back, as another
//! member of `etcd` that leads now, leases that it knew may begin anew, but never end early.

use mirror::{Answer, Entry, Generation, Question, ReplicaId, Seen};
use shard::PairQuestion;
use testkit::Random;

use crate::clock::{self, MILLISECOND, Nanoseconds, SECOND};

/// How long a node waits for an answer.
const PATIENCE: Nanoseconds = SECOND;
/// How long nothing is heard of a node until its key is gone, by the arbiter's clock.
pub(crate) const LEASE: Nanoseconds = 4 * SECOND;

/// A node in one of its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) node: usize,
    pub(crate) run: u64,
}

/// What a question is of: a volume, and the node that has its other replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) volume: usize,
    pub(crate) peer: usize,
}

/// What a node is told.
#[derive(Debug)]
pub(crate) enum Told {
    Answer(PairQuestion, Answer),
    /// Its lease was renewed by what it sent then.
    Leased(Nanoseconds),
}

#[derive(Debug)]
enum Mail {
    Renewal {
        from: Run,
        sent: Nanoseconds,
    },
    Question {
        from: Run,
        of: Asked,
        question: PairQuestion,
        sent: Nanoseconds,
    },
    ToNode(Run, Told),
}

/// The arbiter, and the ways to it.
pub(crate) struct Arbiter {
    /// By volume: revision, and entry.
    keys: Vec<(u64, Option<Entry>)>,
    revision: u64,
    /// Until when nodes' keys are there.
    lives: Vec<Nanoseconds>,
    renews_at: Vec<Nanoseconds>,
    is_cut: Vec<bool>,
    /// By node: how much longer answers to its renewals take.
    late: Vec<Nanoseconds>,
    is_down: bool,
    /// What a lease lasts.
    lease: Nanoseconds,
    mail: Vec<(Nanoseconds, u64, Mail)>,
    count: u64,
    random: Random,
}

impl Arbiter {
    /// Its clock counts so many nanoseconds in a microsecond.
    pub(crate) fn new(nodes: usize, volumes: usize, rate: u64, random: Random) -> Self {
        Self {
            keys: vec![(0, None); volumes],
            revision: 0,
            lives: vec![0; nodes],
            renews_at: vec![0; nodes],
            is_cut: vec![false; nodes],
            late: vec![0; nodes],
            is_down: false,
            lease: LEASE * 1000 / rate,
            mail: Vec::new(),
            count: 0,
            random,
        }
    }

    pub(crate) fn cut(&mut self, node: usize, is_cut: bool) {
        self.is_cut[node] = is_cut;
    }

    /// Answers to a node's renewals take so much longer from now on.
    pub(crate) fn set_late(&mut self, node: usize, late: Nanoseconds) {
        self.late[node] = late;
    }

    /// It has lost its data: it knows neither volumes nor leases.
    pub(crate) fn forget(&mut self) {
        self.keys.fill((0, None));
        self.lives.fill(0);
    }

    pub(crate) fn set_down(&mut self, is_down: bool) {
        let is_back = self.is_down && !is_down;
        self.is_down = is_down;
        // Whichever member leads from now on gives all leases that have not ended their whole time.
        if is_back && self.random.chance(1, 2) {
            let now = clock::now();
            for lives in self.lives.iter_mut().filter(|lives| now < **lives) {
                *lives = now + self.lease;
            }
        }
    }

    /// Whether it knows that the destination of a volume may take over from this source, of this generation.
    pub(crate) fn knows(&self, volume: usize, source: (ReplicaId, Generation)) -> bool {
        let (_, entry) = self.keys[volume];
        entry.is_some_and(|entry| !entry.is_alone && (entry.source, entry.generation) == source)
    }

    /// When something is next to be done.
    pub(crate) fn next_time(&self) -> Option<Nanoseconds> {
        self.mail.iter().map(|&(at, ..)| at).min()
    }

    fn post(&mut self, at: Nanoseconds, mail: Mail) {
        self.count += 1;
        self.mail.push((at, self.count, mail));
    }

    fn delay(&mut self) -> Nanoseconds {
        match self.random.below(20u32) {
            0 => self.random.below(3 * SECOND),
            _ => self.random.range(1..=20u64) * MILLISECOND / 4,
        }
    }

    fn is_lost(&self, node: usize) -> bool {
        self.is_down || self.is_cut[node]
    }

    /// A node renews its lease, if it is time.
    pub(crate) fn renew(&mut self, from: Run) {
        let now = clock::now();
        if now < self.renews_at[from.node] {
            return;
        }
        self.renews_at[from.node] = now + LEASE / 4;
        if !self.is_lost(from.node) {
            let at = now + self.delay();
            self.post(at, Mail::Renewal { from, sent: now });
        }
    }

    /// A node asks.
    pub(crate) fn ask(&mut self, from: Run, of: Asked, question: PairQuestion) {
        let sent = clock::now();
        if self.is_lost(from.node) {
            return self.say_nothing(from, question, sent);
        }
        let at = sent + self.delay();
        let mail = Mail::Question {
            from,
            of,
            question,
            sent,
        };
        self.post(at, mail);
    }

    fn say_nothing(&mut self, to: Run, question: PairQuestion, sent: Nanoseconds) {
        let told = Told::Answer(question, Answer::Unreachable);
        let at = (sent + PATIENCE).max(clock::now());
        self.post(at, Mail::ToNode(to, told));
    }

    /// A node does not hear it before.
    pub(crate) fn put_off(&mut self, until: Nanoseconds, to: Run, told: Told) {
        self.post(until, Mail::ToNode(to, told));
    }

    /// What comes to a node next, by now.
    pub(crate) fn next(&mut self) -> Option<(Run, Told)> {
        loop {
            let now = clock::now();
            let due = self.mail.iter().enumerate();
            let due = due.filter(|(_, (at, ..))| *at <= now);
            let (place, _) = due.min_by_key(|(_, (at, count, _))| (*at, *count))?;
            match self.mail.swap_remove(place).2 {
                Mail::ToNode(to, told) => return Some((to, told)),
                Mail::Renewal { from, sent } => {
                    if self.is_lost(from.node) {
                        continue;
                    }
                    self.lives[from.node] = self.lives[from.node].max(now + self.lease);
                    let at = now + self.delay() + self.late[from.node];
                    self.post(at, Mail::ToNode(from, Told::Leased(sent)));
                }
                Mail::Question {
                    from,
                    of,
                    question,
                    sent,
                } => {
                    if self.is_lost(from.node) {
                        self.say_nothing(from, question, sent);
                        continue;
                    }
                    let answer = self.answer(of, question.question);
                    let at = now + self.delay();
                    // It may be executed, and the answer be lost.
                    if at > sent + PATIENCE || self.random.chance(1, 50) {
                        self.say_nothing(from, question, sent);
                        continue;
                    }
                    let told = Told::Answer(question, answer);
                    self.post(at, Mail::ToNode(from, told));
                }
            }
        }
    }

    fn answer(&mut self, of: Asked, question: Question) -> Answer {
        let peer_lives = clock::now() < self.lives[of.peer];
        let (revision, entry) = self.keys[of.volume];
        if let Question::Set {
            revision: expected,
            entry,
            unless_peer_lives,
        } = question
            && expected == revision
            && !(unless_peer_lives && peer_lives)
        {
            self.revision += 1;
            self.keys[of.volume] = (self.revision, Some(entry));
            return Answer::Made(self.revision);
        }
        Answer::Seen(Seen {
            revision,
            entry,
            peer_lives,
        })
    }
}
