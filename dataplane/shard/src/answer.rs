//! Answers to questions for counters: between polls, and a little at a time
//! where there is much to tell, so that I/O waits for none of it.

use events::Counter;
use mirror::LaneCounters;
use volume::{JobCounters, LogCounters};

use crate::handle::{Detail, Handle};
use crate::link::Link;
use crate::listing::Listing;
use crate::machine::{Machine, Memory, PortCounters};
use crate::notices::NoticeCounters;
use crate::poll::Shard;
use crate::secure::TlsCounters;
use crate::snapshot::{ConnectionSnapshot, Layer, PoolSnapshot, ShardSnapshot};

/// Slots of connections looked at, at most, between one bunch of polls and the next.
const SLOTS: usize = 64;

impl<M: Machine> Shard<M> {
    /// Looks for a question, and answers it, or goes on with its answer.
    pub(crate) fn answer(&mut self, handle: &Handle) {
        let question = handle.question();
        if question != self.answered {
            self.answered = question;
            self.listing = None;
            match Handle::detail(question) {
                Detail::Counters => handle.answer(question, self.index, self.snapshot(Vec::new())),
                Detail::Connections => {
                    self.listing = Some(Listing {
                        question,
                        connections: Vec::with_capacity(self.connections() as usize),
                        ..Listing::default()
                    });
                }
            }
        }
        let Some(listing) = &mut self.listing else {
            return;
        };
        if let Some(link) = self.links.get(listing.link) {
            let slots = listing.slot..listing.slot + SLOTS;
            listing.slot = slots.end;
            if !link.list(slots, &mut listing.connections) {
                (listing.link, listing.slot) = (listing.link + 1, 0);
            }
        } else if let Some(Listing {
            question,
            connections,
            ..
        }) = self.listing.take()
        {
            handle.answer(question, self.index, self.snapshot(connections));
        }
    }

    fn connections(&self) -> u64 {
        self.links.iter().map(Link::connections).sum()
    }

    /// The shard's counters, with the connections that the caller has listed.
    pub fn snapshot(&self, connection_list: Vec<ConnectionSnapshot>) -> ShardSnapshot {
        let memory = self.common.memory.buffers();
        let volumes = &self.common.volumes;
        let pool = |name, size: usize, free: usize| PoolSnapshot {
            name,
            size: size as u64,
            free: free as u64,
        };
        let mut counters = Vec::new();
        for link in &self.links {
            counters.extend(link.counters());
        }
        let mut layer = |name, list: Vec<Counter>| {
            counters.push(Layer {
                name,
                port: None,
                counters: list,
            });
        };
        layer("nvmf", self.common.doors.nvme.counters.iter().collect());
        layer("tls", self.common.doors.tls.counters.iter().collect());
        layer("store", volumes.job_counters().iter().collect());
        layer("notices", self.notices.counters.iter().collect());
        if let Some(cache) = volumes.cache_counters() {
            layer("cache", cache);
        }
        if let Some(log) = volumes.log_counters() {
            layer("log", log.iter().collect());
        }
        let lanes = &self.common.doors.mirror;
        if !lanes.is_empty() {
            let mut lanes = lanes.counters();
            lanes.changes_waiting = volumes.forwards_waiting() as u64;
            layer("mirror", lanes.iter().collect());
        }
        ShardSnapshot {
            core: self.core,
            polls: self.polls,
            polls_busy: self.polls_busy,
            cycles_total: self.clock.ticks(),
            cycles_by_stage: self.stages.by_stage(),
            io: volumes.io(),
            namespaces: volumes
                .namespaces()
                .map(|(_, counters)| counters.clone())
                .collect(),
            namespace_indexes: volumes.namespaces().map(|(index, _)| index).collect(),
            pages_by_segments: volumes.pages_by_segments(),
            copied_bytes: pages::CopyReason::ALL
                .iter()
                .map(|&reason| (reason.name(), memory.ledger.bytes_copied(reason)))
                .collect(),
            pools: vec![
                pool("clusters", memory.clusters.len(), memory.clusters.unheld()),
                pool("pages", memory.pages.len(), memory.pages.unheld()),
                pool("runs", memory.runs_len, memory.runs.available()),
                pool("operations", volumes.operations().0, volumes.operations().1),
            ],
            connections: self.connections(),
            connection_list,
            counters,
        }
    }
}

impl Layer {
    /// Every layer a shard may have, with all of its counters, at zero.
    pub fn every() -> Vec<Layer> {
        let layer = |name, port, counters| Layer {
            name,
            port,
            counters,
        };
        vec![
            layer("tcp", Some(0), net::Counters::default().iter().collect()),
            layer("port", Some(0), PortCounters::default().iter().collect()),
            layer("nvmf", None, nvmf::Counters::default().iter().collect()),
            layer("tls", None, TlsCounters::default().iter().collect()),
            layer("store", None, JobCounters::default().iter().collect()),
            layer("notices", None, NoticeCounters::default().iter().collect()),
            layer("cache", None, volume::cache_counters_at_zero()),
            layer("log", None, LogCounters::default().iter().collect()),
            layer("mirror", None, LaneCounters::default().iter().collect()),
        ]
    }
}
