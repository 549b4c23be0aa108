//! The arbiter of pairs: an etcd that both nodes reach, by its JSON gateway (row S8).
//!
//! | key | value |
//! | --- | --- |
//! | `/throughline/pair/nodes/UUID` | `{}`, with a lease that the node renews: the node is alive |
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
    volumes: Vec<String>,
}

impl Keys {
    fn of(pair: &PairConfig) -> Self {
        let key = |kind, id: [u8; 16]| format!("/throughline/pair/{kind}/{}", Uuid::from_bytes(id));
        Self {
            node: key("nodes", pair.node),
            peer: key("nodes", pair.peer),
            volumes: (pair.volumes.iter())
                .map(|volume| key("volumes", volume.id))
                .collect(),
        }
    }
}

impl Arbiter {
    /// None, if the configuration names none.
    pub(crate) fn start(handle: &Handle, pair: Option<&PairConfig>) -> anyhow::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        if let Some((pair, config)) = pair.and_then(|pair| Some((pair, pair.arbiter.as_ref()?))) {
            let keys = Keys::of(pair);
            let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
                let thread = thread::Builder::new().name(name.into()).spawn(run);
                thread.context("cannot start a thread")
            };
            let gateway = || Gateway::new(config).map_err(anyhow::Error::msg);
            let renewing = Renewing::new(gateway()?, config, &keys.node);
            let (theirs, over) = (handle.clone(), Arc::clone(&is_over));
            threads.push(spawn(
                "lease",
                Box::new(move || renewing.run(&theirs, &over)),
            )?);
            let gateway = gateway()?;
            let (theirs, over) = (handle.clone(), Arc::clone(&is_over));
            threads.push(spawn(
                "arbiter",
                Box::new(move || ask(&gateway, &keys, &theirs, &over)),
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

/// Asks what pairs want to know.
fn ask(gateway: &Gateway, keys: &Keys, handle: &Handle, is_over: &AtomicBool) {
    let mut said = Said::default();
    while !is_over.load(Ordering::Acquire) {
        let Some(question) = handle.next_pair_question(TURN) else {
            continue;
        };
        let volume = keys.volumes.get(question.pair);
        let answer = volume.map_or(Ok(ArbiterAnswer::Unreachable), |volume| {
            gateway.ask(volume, &keys.peer, &question.question)
        });
        said.note(answer.as_ref().err(), "asked");
        handle.pair_question_answered(&question, answer.unwrap_or(ArbiterAnswer::Unreachable));
    }
}

/// Keeps the node's key there.
struct Renewing {
    gateway: Gateway,
    key: String,
    lease: Duration,
    /// The lease that the key has.
    id: Option<String>,
}

impl Renewing {
    fn new(gateway: Gateway, config: &ArbiterConfig, key: &str) -> Self {
        Self {
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
                handle.leased(sent + lease_counted(lease));
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
