//! The pairs of a node, at one of its shards, and the mailbox by which others hand over what they hear.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use block::VolumeId;

use super::MirroredVolume;
use crate::alert::Alert;
use crate::arbiter::{Answer, Question};
use crate::frame::Command;
use crate::pair::{Action, Pair, RECORD, nature};
use crate::parameters::Refusal;
use crate::record::Changed;
use crate::replica::ReplicaId;

/// What a shard heard.
struct Mail {
    peer: usize,
    command: Command,
    parameters: Vec<u8>,
    payload: Vec<u8>,
    reply: u64,
}

/// Answers, by what was heard.
type Replies = Vec<(u64, Result<(), Refusal>)>;

/// Where a lane that came in is, and what it remembers.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) shard: u16,
    /// Of messages of both, as [`Link::history`](crate::Link::history).
    pub(super) history: u64,
}

/// Between the shards of a node and the one that has the pairs. Off the way of changes: a few messages for each meeting.
pub struct Mailbox {
    heard: Mutex<VecDeque<Mail>>,
    replies: Vec<Mutex<Replies>>,
    /// By shard: there are some.
    has_replies: Vec<AtomicBool>,
    /// Of lanes that came in, by peer and the peer's shard; looked at when connections greet.
    places: Mutex<BTreeMap<(usize, u16), Place>>,
}

impl Mailbox {
    /// Of so many shards.
    pub fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self {
            heard: Mutex::default(),
            replies: (0..shards).map(|_| Mutex::default()).collect(),
            has_replies: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            places: Mutex::default(),
        })
    }

    pub(super) fn place(&self, peer: usize, lane: u16) -> Option<Place> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(&(peer, lane)).copied()
    }

    pub(super) fn set_place(&self, peer: usize, lane: u16, place: Place) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.insert((peer, lane), place);
    }

    pub(super) fn hear(
        &self,
        peer: usize,
        command: Command,
        parameters: Vec<u8>,
        payload: Vec<u8>,
        reply: u64,
    ) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push_back(Mail {
            peer,
            command,
            parameters,
            payload,
            reply,
        });
    }

    fn next(&self) -> Option<Mail> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.pop_front()
    }

    fn answer(&self, reply: u64, result: Result<(), Refusal>) {
        let shard = (reply >> 48) as usize;
        let mut replies = self.replies[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        replies.push((reply, result));
        self.has_replies[shard].store(true, SeqCst);
    }

    pub(super) fn replies(&self, shard: u16) -> Replies {
        let shard = usize::from(shard);
        if !self.has_replies[shard].swap(false, SeqCst) {
            return Vec::new();
        }
        let mut replies = self.replies[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *replies)
    }
}

/// What a pair wants in stable storage; [`Manager::stored`] follows.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which pair.
    pub pair: usize,
    /// The volume that it mirrors.
    pub volume: VolumeId,
    /// As in [`Action::Store`].
    pub content: Vec<u8>,
    /// As in [`Action::Store`].
    pub differing: Changed,
    /// The replica that it is of.
    pub replica: ReplicaId,
    /// The number of the record.
    pub record: u64,
    /// As in [`Action::Store`].
    pub pages: Vec<u64>,
    /// As in [`Action::Store`].
    pub token: u64,
}

/// A message of a pair's: which, its command, parameters, payload, and what the pair knows it by.
type Ask = (usize, Command, Vec<u8>, Vec<u8>, u64);

/// The pairs of a node.
pub struct Manager {
    pairs: Vec<Pair>,
    names: Vec<[u8; 16]>,
    mailbox: Arc<Mailbox>,
    asks: VecDeque<Ask>,
    stores: VecDeque<Asked>,
    alerts: VecDeque<(usize, Alert)>,
    questions: VecDeque<(usize, u64, Question)>,
}

impl Manager {
    /// Of pairs with their volumes' names.
    pub fn new(pairs: Vec<([u8; 16], Pair)>, mailbox: &Arc<Mailbox>) -> Self {
        let (names, pairs) = pairs.into_iter().unzip();
        Self {
            pairs,
            names,
            mailbox: Arc::clone(mailbox),
            asks: VecDeque::new(),
            stores: VecDeque::new(),
            alerts: VecDeque::new(),
            questions: VecDeque::new(),
        }
    }

    /// They.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// One of them.
    pub fn pair(&mut self, pair: usize) -> Option<&mut Pair> {
        self.pairs.get_mut(pair)
    }

    /// What is to be written next.
    pub fn next_store(&mut self) -> Option<Asked> {
        self.stores.pop_front()
    }

    /// It was, or could not be.
    pub fn stored(&mut self, pair: usize, token: u64, is_good: bool) {
        self.pairs[pair].stored(token, is_good);
    }

    /// What an operator is to know next, and of which pair.
    pub fn next_alert(&mut self) -> Option<(usize, Alert)> {
        self.alerts.pop_front()
    }

    /// What the arbiter is to be asked next: for which pair, and what that knows the question by.
    pub fn next_question(&mut self) -> Option<(usize, u64, Question)> {
        self.questions.pop_front()
    }

    /// It has answered.
    pub fn arbitrated(&mut self, pair: usize, token: u64, answer: Answer) {
        if let Some(pair) = self.pairs.get_mut(pair) {
            pair.arbitrated(token, answer);
        }
    }

    pub(super) fn leased(
        &mut self,
        volumes: &[MirroredVolume],
        peer: usize,
        until: Duration,
        now: Duration,
    ) {
        Self::of_peer(&mut self.pairs, volumes, peer).for_each(|pair| pair.leased(until, now));
    }

    pub(super) fn next_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    fn of_peer<'a>(
        pairs: &'a mut [Pair],
        volumes: &'a [MirroredVolume],
        peer: usize,
    ) -> impl Iterator<Item = &'a mut Pair> {
        let of_peer = volumes.iter().map(move |volume| volume.peer == peer);
        pairs
            .iter_mut()
            .zip(of_peer)
            .filter_map(|(pair, is_it)| is_it.then_some(pair))
    }

    pub(super) fn up(&mut self, volumes: &[MirroredVolume], peer: usize, anew: bool) {
        Self::of_peer(&mut self.pairs, volumes, peer).for_each(|pair| pair.up(anew));
    }

    pub(super) fn down(&mut self, volumes: &[MirroredVolume], peer: usize) {
        Self::of_peer(&mut self.pairs, volumes, peer).for_each(Pair::down);
    }

    pub(super) fn stop(&mut self) {
        self.pairs.iter_mut().for_each(Pair::stop);
    }

    pub(super) fn gave_up(&mut self, volumes: &[MirroredVolume], peer: usize) {
        Self::of_peer(&mut self.pairs, volumes, peer).for_each(Pair::gave_up);
    }

    pub(super) fn answered(&mut self, pair: usize, token: u64, result: Result<(), Refusal>) {
        self.pairs[pair].answered(token, result);
    }

    pub(super) fn lost(&mut self, pair: usize, token: u64) {
        self.pairs[pair].lost(token);
    }

    /// Lets pairs go on.
    pub(super) fn advance(&mut self, volumes: &[MirroredVolume], now: Duration) {
        while let Some(mail) = self.mailbox.next() {
            let place = match (mail.command, mail.parameters.get(..16)) {
                (Command::CLAIM | Command::TABLES, Some(name)) => {
                    self.names.iter().position(|known| known == name)
                }
                _ => mail
                    .parameters
                    .get(..2)
                    .map(|number| crate::bytes::u16_at(number, 0).into()),
            };
            let place = place.filter(|&place| {
                volumes
                    .get(place)
                    .is_some_and(|volume| volume.peer == mail.peer)
            });
            match place {
                Some(place) => {
                    self.pairs[place].heard(mail.command, mail.parameters, mail.payload, mail.reply)
                }
                None => {
                    let text =
                        "the volume is none of this node's that the other one mirrors".into();
                    let nature = nature::VOLUME;
                    self.mailbox
                        .answer(mail.reply, Err(Refusal { nature, text }));
                }
            }
        }
        for (at, pair) in self.pairs.iter_mut().enumerate() {
            pair.advance(now);
            while let Some(action) = pair.next_action() {
                match action {
                    Action::Ask {
                        command,
                        parameters,
                        payload,
                        token,
                    } => {
                        self.asks
                            .push_back((at, command, parameters, payload, token));
                    }
                    Action::Answer { reply, result } => self.mailbox.answer(reply, result),
                    Action::Store {
                        content,
                        differing,
                        pages,
                        token,
                    } => self.stores.push_back(Asked {
                        pair: at,
                        volume: volumes[at].volume,
                        content,
                        differing,
                        replica: pair.content().standing.replica,
                        record: RECORD,
                        pages,
                        token,
                    }),
                    Action::Arbitrate { question, token } => {
                        self.questions.push_back((at, token, question));
                    }
                    Action::Alert(alert) => self.alerts.push_back((at, alert)),
                }
            }
        }
    }
}
