//! What a target offers, as an operator says it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use block::WritePolicy;
use nvmf::{AnaState, ListenerConfig};

/// Numbers that controllers may have (base 2.0, 3.1.1).
pub const CNTLIDS: RangeInclusive<u16> = nvmf::SubsystemConfig::CNTLIDS;

/// Largest transfer of one command, at least, where a subsystem reports asymmetric namespace access, in bytes.
pub const ANA_IO_BYTES_MIN: u32 = nvmf::TargetConfig::ANA_IO_BYTES_MIN;

/// A subsystem: what a host connects to.
#[derive(Clone, Debug)]
pub struct SubsystemConfig {
    /// NVMe qualified name.
    pub nqn: String,
    /// Serial number, at most 20 ASCII characters.
    pub serial: String,
    /// Model number, at most 40 ASCII characters.
    pub model: String,
    /// Hosts that may connect; `None` lets any.
    pub hosts: Option<Vec<HostConfig>>,
    /// The state that its ANA groups begin in; `None`: it does not report asymmetric namespace access.
    pub ana: Option<AnaState>,
    /// Numbers that its controllers get, of [`CNTLIDS`]; nodes that show one subsystem give disjoint ones.
    pub controller_ids: RangeInclusive<u16>,
    /// Where other nodes show it.
    pub peer_listeners: Vec<ListenerConfig>,
    /// Namespaces.
    pub namespaces: Vec<NamespaceConfig>,
}

/// A host that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Its NQN.
    pub nqn: String,
    /// What it has to prove that it has; without keys its name is enough.
    pub keys: Option<HostKeyConfig>,
    /// What its connections are encrypted by; without one they are in the clear.
    pub psk: Option<PskConfig>,
}

/// The PSK of a host, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PskConfig {
    /// Name of the key.
    pub name: String,
    /// It itself.
    pub psk: Arc<tls::ConfiguredPsk>,
}

/// The keys of a host, and what they are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKeyConfig {
    /// Name of the key that the host has.
    pub dhchap_key: String,
    /// Name of the key that the controller has, for hosts that ask for a proof.
    pub dhchap_ctrlr_key: Option<String>,
    /// They themselves.
    pub keys: Arc<auth::HostKeys>,
}

impl From<&str> for HostConfig {
    /// One whose name is enough.
    fn from(nqn: &str) -> Self {
        Self {
            nqn: nqn.into(),
            keys: None,
            psk: None,
        }
    }
}

/// A namespace backed by a store.
#[derive(Clone, Debug)]
pub struct NamespaceConfig {
    /// Namespace id, from 1.
    pub nsid: u32,
    /// Name of a store.
    pub store: String,
    /// UUID; derived from the subsystem and nsid when not given.
    pub uuid: Option<[u8; 16]>,
    /// NGUID; derived from the UUID when not given.
    pub nguid: Option<[u8; 16]>,
    /// Whether writes are cached (row Z12) or go through.
    pub write: WritePolicy,
    /// Bytes of a block as hosts see it; the device's when not given. Smaller
    /// ones than the device's are completed in the page cache (row Z11).
    pub block_size: Option<u32>,
    /// For backups, of a volume of a pair that this node, of that UUID, is out of date with: read, and not written. Its own UUID is
    /// derived from the node's, too, as what another node shows under the same number is something else.
    pub backup_of: Option<[u8; 16]>,
}

impl NamespaceConfig {
    /// Its UUID as a namespace of the subsystem `nqn`, given or derived.
    pub fn uuid_in(&self, nqn: &str) -> [u8; 16] {
        self.uuid.unwrap_or_else(|| {
            let mut name = format!("{nqn}/{}", self.nsid);
            if let Some(node) = self.backup_of {
                name += &format!("/{}", uuid::Uuid::from_bytes(node));
            }
            uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name.as_bytes()).into_bytes()
        })
    }

    /// Its NGUID as a namespace of the subsystem `nqn`, given or derived.
    pub fn nguid_in(&self, nqn: &str) -> [u8; 16] {
        self.nguid
            .unwrap_or_else(|| nvmf::nguid_of(self.uuid_in(nqn)))
    }
}
