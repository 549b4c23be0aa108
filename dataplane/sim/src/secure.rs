//! Hosts over TLS: their keys, and what is drawn of them.

use std::sync::{Arc, Mutex};

use nvmf::Tls;
use shard::{HostConfig, PskConfig, TlsDoor};
use testkit::Random;
use tls::testing::Exchange;
use tls::{ConfiguredPsk, Derivation, Hash, IdentityVersion, TlsPsk};

use crate::appliance::SUBSYSTEM;
use crate::plan::{HOSTS_MAX, host_nqn};

/// A host that is none of those that use the appliance: it has a key now, and then has none.
pub(crate) const GUEST: usize = HOSTS_MAX;
/// Nobody has its key but the one who tries to get in with it.
pub(crate) const NOBODY: usize = 200;

/// What is drawn of it.
#[derive(Clone, Debug)]
pub(crate) struct TlsPlan {
    /// Everybody has to be encrypted; else hosts with an odd number have no key.
    pub(crate) is_required: bool,
    /// The hash of every key, and so the suite.
    hash: Hash,
    version: IdentityVersion,
    derivation: Derivation,
    /// A host takes a new key for what it sends once in so many times that it says something; 0: never.
    pub(crate) update_one_in: u64,
}

impl TlsPlan {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let version = *random.pick(&IdentityVersion::ALL);
        Self {
            is_required: random.chance(1, 3),
            hash: *random.pick(&Hash::ALL),
            version,
            // An identity of version 0 does not tell by which, and a simulated handshake has no binders that do.
            derivation: match version {
                IdentityVersion::Zero => Derivation::Rfc8446,
                IdentityVersion::One => *random.pick(&Derivation::ALL),
            },
            update_one_in: *random.pick(&[0, 5, 50]),
        }
    }

    /// What the listener has.
    pub(crate) fn listener(&self) -> Tls {
        match self.is_required {
            true => Tls::Required,
            false => Tls::Allowed,
        }
    }

    /// Whether a host has a key.
    pub(crate) fn has_key(&self, host: usize) -> bool {
        self.is_required || host.is_multiple_of(2)
    }

    fn psk(&self, with: usize) -> ConfiguredPsk {
        let bytes = [0x40 ^ with as u8; 48];
        ConfiguredPsk::new(&bytes[..self.hash.len()], Some(self.hash)).expect("as long as its hash")
    }

    /// What a host offers, with the key of `with`.
    pub(crate) fn key(&self, host: usize, with: usize) -> TlsPsk {
        let key = self
            .psk(with)
            .derive(&host_nqn(host), SUBSYSTEM, self.version, self.derivation);
        key.expect("names that are short")
    }

    /// A host as it is let in, with its key.
    pub(crate) fn host(&self, index: usize, host: HostConfig) -> HostConfig {
        let psk = self.has_key(index).then(|| PskConfig {
            name: format!("psk{index}"),
            psk: Arc::new(self.psk(index)),
        });
        HostConfig { psk, ..host }
    }

    /// The guest as it is let in, with a key or without.
    pub(crate) fn guest(&self, has_key: bool) -> nvmf::Host {
        let nqn = host_nqn(GUEST);
        nvmf::Host {
            psk: has_key.then(|| Arc::new(self.psk(GUEST))),
            ..nvmf::Host::from(&*nqn)
        }
    }

    /// What shards have of it.
    pub(crate) fn door(seed: u64) -> TlsDoor {
        TlsDoor {
            handshakes: Some(Arc::new(Mutex::new(Box::new(Exchange::new(seed))))),
            ..TlsDoor::default()
        }
    }
}
