//! Pairs of a node: what is to be known of them after a restart, and by the control side.

use std::collections::VecDeque;
use std::time::Duration;

use block::Device;
use mirror::{Asked, Manager, Pair};
use net::Instant;
use volume::{RecordPages, TableRefusal, TableToken, TableWrite, Volumes};

use crate::door::MirrorDoor;
use crate::handle::Handle;
use crate::pair_desk::{OrderNumber, PairOrder, PairQuestion, PairReport};

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
    /// Pairs know how much room there is for tables.
    knows_room: bool,
    /// What operators wait for: the pair, and the order.
    ordered: Vec<(usize, OrderNumber)>,
    /// Which ones served hosts, and which ones were readable as backups, when that was done last.
    shown: Vec<[bool; 2]>,
}

impl Pairs {
    /// What pairs want in stable storage goes to the tables of the log.
    pub(crate) fn store_tables<D: Device>(
        &mut self,
        lanes: &mut MirrorDoor,
        volumes: &mut Volumes<D>,
    ) {
        let Some(manager) = lanes.manager() else {
            return;
        };
        let mut has_room_otherwise = !std::mem::replace(&mut self.knows_room, true);
        while let Some((token, result)) = volumes.next_table_end() {
            has_room_otherwise = true;
            let place = self.under_way.iter().position(|known| known.0 == token);
            if let Some(place) = place {
                let (_, pair, token) = self.under_way.swap_remove(place);
                manager.stored(pair, token, result.is_ok());
            }
        }
        while let Some(asked) = manager.next_store() {
            self.waiting.push_back(asked);
        }
        if has_room_otherwise {
            for volume in lanes.volumes() {
                if let Some(pages) = volumes.table_room(volume.volume) {
                    volume.shared.set_pages(pages);
                }
            }
        }
        let Some(manager) = lanes.manager() else {
            return;
        };
        while let Some(asked) = self.waiting.pop_front() {
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
                Ok(token) => self.under_way.push((token, asked.pair, asked.token)),
                Err(TableRefusal::Busy) => return self.waiting.push_front(asked),
                Err(refusal) => {
                    log::error!("what a pair has to know cannot be stored: {refusal}");
                    manager.stored(asked.pair, asked.token, false);
                }
            }
        }
    }

    /// Tells the control side how pairs stand, now and then and when that has become otherwise, and does what it has asked for; whether it was told.
    pub(crate) fn tell(&mut self, lanes: &mut MirrorDoor, handle: &Handle, now: Instant) -> bool {
        let Some(manager) = lanes.manager() else {
            return false;
        };
        while let Some((pair, alert)) = manager.next_alert() {
            log::warn!("pair {}: {}", handle.pairs().name(pair), alert.text);
            handle.alerts().tell(pair, alert);
        }
        // Who is told that something is done finds it in the report.
        let mut done = Vec::new();
        if let Some(news) = handle.pairs().news() {
            for (number, pair, order) in news.orders {
                match carry_out(manager, pair, order) {
                    Ok(Progress::Done) => done.push((number, Ok(None))),
                    Ok(Progress::Begun) => self.ordered.push((pair, number)),
                    Err(why) => handle.pairs().done(number, Err(why)),
                }
            }
            for (pair, token, answer) in news.answers {
                manager.arbitrated(pair, token, answer);
            }
            for (peer, until) in news.leased {
                let left = until.saturating_duration_since(std::time::Instant::now());
                let now = Duration::from_nanos(now.0);
                lanes.leased(peer, now + left, now);
            }
        }
        self.ordered.retain(|&(pair, number)| {
            let manager = lanes.manager();
            let outcome = manager.and_then(|manager| manager.pair(pair)?.next_outcome());
            let is_open = outcome.is_none();
            if let Some(outcome) = outcome {
                let manager = lanes.manager();
                let tables = manager.and_then(|manager| manager.pair(pair)?.take_tables());
                let outcome = outcome.map(|()| tables);
                done.push((number, outcome.map_err(|why| why.to_string())));
            }
            is_open
        });
        while let Some((pair, token, question)) = lanes.next_question() {
            handle.pairs().ask(PairQuestion {
                pair,
                peer: lanes.volumes()[pair].peer,
                token,
                question,
            });
        }
        let peers = lanes.volumes().iter().map(|volume| volume.peer);
        let links: Vec<_> = peers.map(|peer| lanes.security(peer)).collect();
        let Some(manager) = lanes.manager() else {
            return false;
        };
        let time = Duration::from_nanos(now.0);
        let serving = |pair: &Pair| pair.shared().serves(time);
        let shown = |pair: &Pair| [serving(pair), pair.shared().backup().is_some()];
        let has_moved = (manager.pairs().iter().map(shown)).ne(self.shown.iter().copied());
        if !has_moved && done.is_empty() && now < self.tell_at {
            return false;
        }
        self.tell_at = now + TELL;
        self.shown.clear();
        (self.shown).extend(manager.pairs().iter().map(shown));
        let reports = manager
            .pairs()
            .iter()
            .zip(links)
            .map(|(pair, link)| PairReport {
                name: String::new(),
                peer: [0; 16],
                role: pair.content().role,
                serves: serving(pair),
                is_in_sync: pair.is_in_sync(),
                takeover: pair.may_be_taken_over(),
                generation: pair.content().standing.generation,
                bytes: pair.len(),
                resizes_to: pair.resizes_to(),
                growing: pair.shared().growing(),
                granules: pair.shared().changed(),
                verification: pair.shared().verification().report(),
                step: pair.state(),
                since: pair.in_state(),
                severed: pair.content().severed,
                is_backup: pair.shared().backup().is_some(),
                link,
                state: pair.describe(),
            });
        handle.pairs().tell(reports.collect());
        for (number, outcome) in done {
            handle.pairs().done(number, outcome);
        }
        true
    }
}

/// How far what an operator says is.
enum Progress {
    Done,
    /// The pair tells its end.
    Begun,
}

/// What an operator says of a pair.
fn carry_out(manager: &mut Manager, pair: usize, order: PairOrder) -> Result<Progress, String> {
    let Some(pair) = manager.pair(pair) else {
        return Err("there is no such volume".into());
    };
    let result = match order {
        PairOrder::Promote { is_forced } => pair.promote(is_forced).map(|()| Progress::Done),
        PairOrder::Demote => pair.demote().map(|()| Progress::Done),
        PairOrder::Verify { mends } => pair.verify(mends).map(|()| Progress::Done),
        PairOrder::Sever { now } => pair.sever(now).map(|()| Progress::Begun),
        PairOrder::Establish => pair.establish().map(|()| Progress::Begun),
        PairOrder::Discard { is_forced } => pair.discard(is_forced).map(|()| Progress::Begun),
        PairOrder::UpdateTables => pair.update_tables().map(|()| Progress::Begun),
        PairOrder::SetFrameSize { bytes } => pair.set_frame_size(bytes).map(|()| Progress::Done),
        PairOrder::Resize { bytes, is_named } => {
            pair.resize(bytes, is_named).map(|()| Progress::Begun)
        }
        PairOrder::Reestablish => pair.reestablish().map(|()| Progress::Begun),
    };
    result.map_err(|why| why.to_string())
}
