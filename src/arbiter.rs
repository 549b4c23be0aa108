//! The arbiter of pairs: an etcd that both nodes reach, by its JSON gateway (row S8).
//!
//! | key | value |
//! | --- | --- |
//! | `/throughline/pair/nodes/UUID/PEER` | `{}`, with a lease that the node renews for that peer: the node is alive |
//! | `/throughline/pair/volumes/UUID` | which replica serves, of which generation, and whether the other one may lack something: `{"version":1,"source":"32 hexadecimal digits","generation":{"number":3,"tag":"16 hexadecimal digits"},"alone":false}` |
//!
//! Every change of a volume's key compares its revision in the same transaction.

mod gateway;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use engine::{ArbiterAnswer, ArbiterConfig, Handle, PairConfig, lease_counted};
use uuid::Uuid;

pub(crate) use gateway::tls;
use gateway::{Gateway, Unreachable};

/// How long threads wait for something to do.
const TURN: Duration = Duration::from_millis(50);

/// The threads that renew this node's lease, and ask what pairs want to know.
pub(crate) struct Arbiter {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What keys there are.
#[derive(Clone)]
struct Keys {
    node: String,
    peer: String,
    /// Of the pair's volumes, in their order.
    volumes: Vec<String>,
}

impl Keys {
    fn of(pair: &PairConfig) -> Self {
        let [node, peer] = [pair.node, pair.peer].map(Uuid::from_bytes);
        let volume = |id| format!("/throughline/pair/volumes/{}", Uuid::from_bytes(id));
        Self {
            node: format!("/throughline/pair/nodes/{node}/{peer}"),
            peer: format!("/throughline/pair/nodes/{peer}/{node}"),
            volumes: (pair.volumes.iter()).map(|of| volume(of.id)).collect(),
        }
    }
}

impl Arbiter {
    /// Two threads for each pair that has one: leases and etcds are the pairs' own.
    pub(crate) fn start(handle: &Handle, pairs: &[PairConfig]) -> anyhow::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let mut before = 0;
        for (peer, pair) in pairs.iter().enumerate() {
            let first = before;
            before += pair.volumes.len();
            let Some(config) = &pair.arbiter else {
                continue;
            };
            let keys = Keys::of(pair);
            let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
                let thread = thread::Builder::new().name(name.into()).spawn(run);
                thread.context("cannot start a thread")
            };
            let gateway = || Gateway::new(config).map_err(anyhow::Error::msg);
            let renewing = Renewing::new(peer, gateway()?, config, &keys.node);
            let (theirs, over) = (handle.clone(), Arc::clone(&is_over));
            threads.push(spawn(
                "lease",
                Box::new(move || renewing.run(&theirs, &over)),
            )?);
            let asking = Asking {
                peer,
                first,
                gateway: gateway()?,
                keys,
            };
            let (theirs, over) = (handle.clone(), Arc::clone(&is_over));
            threads.push(spawn(
                "arbiter",
                Box::new(move || asking.run(&theirs, &over)),
            )?);
        }
        Ok(Self { is_over, threads })
    }

    /// The engine has ended: the other node may take over at once.
    pub(crate) fn end(self) {
        self.is_over.store(true, Ordering::Release);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Asks what the volumes of a pair want to know.
struct Asking {
    /// The pair.
    peer: usize,
    /// How many volumes the pairs before it have.
    first: usize,
    gateway: Gateway,
    keys: Keys,
}

impl Asking {
    fn run(self, handle: &Handle, is_over: &AtomicBool) {
        let mut said = Said::default();
        while !is_over.load(Ordering::Acquire) {
            let Some(question) = handle.next_pair_question(self.peer, TURN) else {
                continue;
            };
            let place = question.pair.checked_sub(self.first);
            let volume = place.and_then(|place| self.keys.volumes.get(place));
            let answer = volume.map_or(Ok(ArbiterAnswer::Unreachable), |volume| {
                let peer = &self.keys.peer;
                self.gateway.ask(volume, peer, &question.question)
            });
            said.note(answer.as_ref().err(), "asked");
            handle.pair_question_answered(&question, answer.unwrap_or(ArbiterAnswer::Unreachable));
        }
    }
}

/// Keeps the node's key there.
struct Renewing {
    /// The pair.
    peer: usize,
    gateway: Gateway,
    key: String,
    lease: Duration,
    /// The lease that the key has.
    id: Option<String>,
}

impl Renewing {
    fn new(peer: usize, gateway: Gateway, config: &ArbiterConfig, key: &str) -> Self {
        Self {
            peer,
            gateway,
            key: key.to_owned(),
            lease: config.lease,
            id: None,
        }
    }

    fn run(mut self, handle: &Handle, is_over: &AtomicBool) {
        let mut said = Said::default();
        let mut next = Instant::now();
        while !is_over.load(Ordering::Acquire) {
            if Instant::now() < next {
                thread::sleep(TURN);
                continue;
            }
            let sent = Instant::now();
            next = sent + self.lease / 4;
            let result = self.renew();
            if let Ok(lease) = result {
                handle.leased(self.peer, sent + lease_counted(lease));
            }
            said.note(result.as_ref().err(), "told that this node is alive");
        }
        if let Some(id) = self.id.take() {
            let _ = self.gateway.revoke(&id);
        }
    }

    /// For how long the key is there.
    fn renew(&mut self) -> Result<Duration, Unreachable> {
        if let Some(id) = &self.id {
            if let Some(left) = self.gateway.keep_alive(id)? {
                return Ok(left.min(self.lease));
            }
            self.id = None;
        }
        let (id, lease) = self.gateway.grant(self.lease)?;
        self.gateway.put(&self.key, "{}", &id)?;
        self.id = Some(id);
        Ok(lease.min(self.lease))
    }
}

/// What was said of whether it answers: once, until that changes.
#[derive(Default)]
struct Said(bool);

impl Said {
    fn note(&mut self, error: Option<&Unreachable>, what: &str) {
        match error {
            Some(error) if !self.0 => log::warn!("etcd cannot be {what}: {error}"),
            None if self.0 => log::info!("etcd can be {what} again"),
            _ => {}
        }
        self.0 = error.is_some();
    }
}
