//! Pairs of a node: what the log has for the other one, what that has answered, and what is to be known after a restart.

use std::collections::VecDeque;
use std::time::Duration;

use mirror::{Asked, Manager, MirroredVolume, Pair, Role};
use net::Instant;
use nvmf::{AnaState, Timestamp};
use volume::{RecordPages, TableRefusal, TableToken, TableWrite};

use crate::door::{MirrorDoor, Session};
use crate::handle::Handle;
use crate::machine::Machine;
use crate::pair_desk::{PairOrder, PairQuestion, PairReport};
use crate::poll::Shard;

/// How often it is told how pairs stand.
const TELL: Duration = Duration::from_millis(100);

/// What a shard's pairs have in work.
#[derive(Default)]
pub(crate) struct Pairs {
    /// Tables that could not be begun to be written.
    waiting: VecDeque<Asked>,
    /// Those that are being written, and what the pair knows it by.
    under_way: Vec<(TableToken, usize, u64)>,
    tell_at: Instant,
    /// Which ones served hosts when that was done last.
    serving: Vec<bool>,
}

impl<M: Machine> Shard<M> {
    /// Its links to other nodes from now on.
    pub fn set_lanes(&mut self, lanes: MirrorDoor) {
        self.common.doors.mirror = lanes;
    }

    /// Its links to other nodes.
    pub fn lanes(&mut self) -> &mut MirrorDoor {
        &mut self.common.doors.mirror
    }

    /// A logged volume is mirrored from now on; the log takes changes already.
    pub fn mirror_volume(&mut self, volume: &MirroredVolume) {
        (self.common.volumes).mirror(volume.volume, &volume.shared, volume.namespace);
    }

    /// What the log has for other nodes goes to their links, and what they have answered to the log.
    pub(crate) fn mirror(&mut self, now: Instant) {
        let common = &mut self.common;
        let (lanes, volumes) = (&mut common.doors.mirror, &mut common.volumes);
        lanes.advance(Duration::from_nanos(now.0));
        while let Some(transfers) = lanes.next_confirmed() {
            volumes.confirmed(transfers);
        }
        if let Some((forwards, stable)) = volumes.forwards() {
            lanes.forward(forwards, stable);
        }
        self.store_tables();
        let common = &mut self.common;
        while let Some((peer, remote, connection)) = common.doors.mirror.next_connection() {
            let session = Session::Mirror(connection);
            if let Err(error) = self.links[0].connect(now, remote, session) {
                log::debug!("mirror: no connection to {remote}: {error}");
                common.doors.mirror.not_opened(peer);
            }
        }
        for link in &mut self.links {
            link.mirror(common, &mut self.stages, Timestamp(now.as_millis()));
        }
    }

    /// What pairs want in stable storage goes to the tables of the log.
    fn store_tables(&mut self) {
        let (lanes, volumes) = (&mut self.common.doors.mirror, &mut self.common.volumes);
        let Some(manager) = lanes.manager() else {
            return;
        };
        while let Some((token, result)) = volumes.next_table_end() {
            let place = self
                .pairs
                .under_way
                .iter()
                .position(|known| known.0 == token);
            if let Some(place) = place {
                let (_, pair, token) = self.pairs.under_way.swap_remove(place);
                manager.stored(pair, token, result.is_ok());
            }
        }
        while let Some(asked) = manager.next_store() {
            self.pairs.waiting.push_back(asked);
        }
        while let Some(asked) = self.pairs.waiting.pop_front() {
            let first = asked.pages.first().copied().unwrap_or(0);
            let end = asked.pages.last().map_or(0, |last| last + 1);
            let write = TableWrite {
                volume: asked.volume,
                content: Some(&asked.content),
                record: Some(RecordPages {
                    changed: &asked.differing,
                    replica: asked.replica,
                    number: asked.record,
                    pages: first..end,
                }),
            };
            match volumes.write_table(&write) {
                Ok(token) => self.pairs.under_way.push((token, asked.pair, asked.token)),
                Err(TableRefusal::Busy) => return self.pairs.waiting.push_front(asked),
                Err(refusal) => {
                    log::error!("what a pair has to know cannot be stored: {refusal}");
                    manager.stored(asked.pair, asked.token, false);
                }
            }
        }
    }

    /// Tells the control side how pairs stand, and does what it has asked for.
    pub(crate) fn tell_of_pairs(&mut self, handle: &Handle, now: Instant) {
        let Some(manager) = self.common.doors.mirror.manager() else {
            return;
        };
        while let Some((pair, text)) = manager.next_alert() {
            log::warn!("pair {}: {text}", handle.pairs().name(pair));
        }
        if let Some(news) = handle.pairs().news() {
            for (pair, order) in news.orders {
                handle.pairs().done(carry_out(manager, pair, order));
            }
            for (pair, token, answer) in news.answers {
                manager.arbitrated(pair, token, answer);
            }
            if let Some(until) = news.leased {
                let left = until.saturating_duration_since(std::time::Instant::now());
                manager.leased(Duration::from_nanos(now.0) + left);
            }
        }
        while let Some((pair, token, question)) = manager.next_question() {
            handle.pairs().ask(PairQuestion {
                pair,
                token,
                question,
            });
        }
        let time = Duration::from_nanos(now.0);
        let serving = |pair: &Pair| pair.shared().serves(time);
        let has_moved =
            (manager.pairs().iter().map(serving)).ne(self.pairs.serving.iter().copied());
        if !has_moved && now < self.pairs.tell_at {
            return;
        }
        self.pairs.tell_at = now + TELL;
        self.pairs.serving.clear();
        (self.pairs.serving).extend(manager.pairs().iter().map(serving));
        let reports = manager.pairs().iter().map(|pair| PairReport {
            name: String::new(),
            is_source: pair.content().role == Role::Source,
            serves: serving(pair),
            is_in_sync: pair.is_in_sync(),
            generation: pair.content().standing.generation.to_string(),
            granules: pair.shared().changed(),
            state: pair.describe(),
        });
        handle.pairs().tell(reports.collect());
        self.tell_hosts(time);
    }

    /// Tells hosts by which node they reach mirrored namespaces, those that were added since included.
    fn tell_hosts(&mut self, now: Duration) {
        let (volumes, doors) = (&self.common.volumes, &self.common.doors);
        doors.nvme.target.set_ana_states(|namespace| {
            let gate = volumes.gate(namespace)?;
            Some(match gate.serves(now) {
                true => AnaState::Optimized,
                false => AnaState::Inaccessible,
            })
        });
    }
}

/// What an operator says of a pair.
fn carry_out(manager: &mut Manager, pair: usize, order: PairOrder) -> Result<(), String> {
    let Some(pair) = manager.pair(pair) else {
        return Err("there is no such volume".into());
    };
    let result = match order {
        PairOrder::Promote { is_forced } => pair.promote(is_forced),
        PairOrder::Demote => pair.demote(),
    };
    result.map_err(|why| why.to_string())
}
