//! Hosts that prove who they are (DH-HMAC-CHAP), and what is heard of it on the wire.

use std::cell::RefCell;
use std::sync::Arc;

use auth::{Group, Hash, HostKeys, HostStep, Key, Names, Policy};
use shard::{HostConfig, HostKeyConfig};
use testkit::{Proof, Prove, Random};

use crate::appliance::SUBSYSTEM;
use crate::plan::{HOSTS_MAX, host_nqn};

/// What is drawn of it.
#[derive(Clone, Debug)]
pub(crate) struct GuardPlan {
    /// The group of every exchange.
    pub(crate) group: Group,
    /// The hash, too.
    pub(crate) hash: Hash,
    /// Hosts want the controller to prove who it is, too.
    pub(crate) is_mutual: bool,
}

impl GuardPlan {
    pub(crate) fn draw(random: &mut Random) -> Self {
        // Exponents take real milliseconds: a group now and then.
        let null = [Group::Null; 7];
        let groups: Vec<_> = null.into_iter().chain([Group::Ffdhe2048]).collect();
        Self {
            group: *random.pick(&groups),
            hash: *random.pick(&Hash::ALL),
            is_mutual: random.chance(1, 2),
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy {
            hashes: vec![self.hash],
            groups: vec![self.group],
        }
    }

    /// Every host, with its keys.
    pub(crate) fn hosts(&self) -> Vec<HostConfig> {
        let host = |index| HostConfig {
            nqn: host_nqn(index),
            psk: None,
            keys: Some(HostKeyConfig {
                dhchap_key: format!("host{index}"),
                dhchap_ctrlr_key: Some("appliance".into()),
                keys: Arc::new(keys(index, true)),
            }),
        };
        (0..HOSTS_MAX).map(host).collect()
    }

    /// A proof of host `index`, with the keys of `with`.
    pub(crate) fn proof(&self, index: usize, with: usize, random: &mut Random) -> Box<dyn Prove> {
        let names = Names {
            host: host_nqn(index),
            subsystem: SUBSYSTEM.into(),
        };
        let keys = Arc::new(keys(with, self.is_mutual));
        let t_id = random.word() as u16;
        Box::new(Prover {
            host: auth::Host::new(names, keys, &Hash::ALL, &Group::ALL, t_id),
            is_heard: index == with,
            random: random.fork(),
        })
    }
}

/// The keys of host `index`.
fn keys(index: usize, is_mutual: bool) -> HostKeys {
    let key = |fill| Key::new(&[fill; 48], Some(Hash::Sha384)).expect("48 bytes");
    HostKeys {
        host: key(index as u8),
        controller: is_mutual.then(|| key(0xc0)),
    }
}

/// Fresh bytes.
pub(crate) fn fill(random: &mut Random) -> impl FnMut(&mut [u8]) {
    |bytes| bytes.fill_with(|| random.word() as u8)
}

thread_local! {
    /// Messages of the hosts, the last ones last.
    static HEARD: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Nothing was heard yet.
pub(crate) fn forget() {
    HEARD.with(|heard| heard.borrow_mut().clear());
}

/// What was heard last: as many messages as there are.
pub(crate) fn heard() -> Vec<Vec<u8>> {
    HEARD.with(|heard| heard.borrow().clone())
}

fn say(message: &[u8]) {
    const KEPT: usize = 6;
    HEARD.with(|heard| {
        let mut heard = heard.borrow_mut();
        heard.push(message.to_vec());
        if heard.len() > KEPT {
            heard.remove(0);
        }
    });
}

/// A host's side of a transaction.
struct Prover {
    host: auth::Host,
    /// Others hear it.
    is_heard: bool,
    random: Random,
}

impl std::fmt::Debug for Prover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prover")
    }
}

impl Prove for Prover {
    fn begin(&mut self) -> Vec<u8> {
        let message = self.host.negotiate();
        if self.is_heard {
            say(&message);
        }
        message
    }

    fn next(&mut self, message: &[u8]) -> Proof {
        let step = self.host.take(message, &mut fill(&mut self.random));
        match step {
            HostStep::Send(message) => {
                if self.is_heard {
                    say(&message);
                }
                Proof::Send(message)
            }
            HostStep::SendLast(message) => Proof::SendLast(message),
            HostStep::Done => Proof::Done,
            HostStep::Refused(why) => Proof::Failed(format!("refused: {why}")),
            HostStep::Refuse(_) => Proof::Failed("the controller is not the right one".into()),
        }
    }
}
