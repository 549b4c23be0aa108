//! What the target offers, checked before it starts.
//!
//! Source: NVM Express Base Specification 2.0, 4.5 (NQN), 5.17.2.1 (Identify
//! Controller), 3.1.3.2 (Discovery); NVMe/TCP Transport Specification 1.0, 3.6.2.2.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::ana::AnaState;
use crate::listener::ListenerConfig;
use crate::units::{BlockSize, Nsid};
use block::{LastSmart, NamespaceIndex};

/// The well-known name of the discovery subsystem (base 4.5).
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// Longest NQN in bytes, without its terminating NUL (base 4.5).
pub const NQN_LEN_MAX: usize = 223;

/// Smallest in-capsule data size that an Admin Queue takes, in bytes
/// (NVMe/TCP 3.3.1: 8,192 bytes whatever IOCCSZ says).
pub const ADMIN_IN_CAPSULE_BYTES: u32 = 8192;

/// Most entries an Admin Queue may have (base 3.1.3.8); MQES is about I/O queues.
pub(crate) const ADMIN_QUEUE_DEPTH: u16 = 4096;

/// Everything a [`Target`](crate::Target) needs to know.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// The NVM subsystems.
    pub subsystems: Vec<SubsystemConfig>,
    /// Where they can be reached: what the discovery log advertises.
    pub listeners: Vec<ListenerConfig>,
    /// Largest data transfer of one command, in bytes: a power of two from
    /// 8,192 (reported as MDTS, of which 0 would mean no limit).
    pub max_io_bytes: u32,
    /// Largest data in an I/O command capsule, in bytes: a multiple of 16
    /// (reported in IOCCSZ).
    pub in_capsule_bytes: u32,
    /// Largest data of one H2CData PDU, in bytes, and so of one R2T: a multiple
    /// of 4, at least 4,096 (MAXH2CDATA).
    pub max_h2c_bytes: u32,
    /// Entries of a submission queue, 2 to 4,096 (MQES, MAXCMD).
    pub queue_depth: u16,
    /// Controllers that may exist at a time, over all subsystems.
    pub max_controllers: u16,
    /// Whether a host that requests header digests gets them.
    pub header_digest: bool,
    /// Whether a host that requests data digests gets them.
    pub data_digest: bool,
    /// Whether the last C2HData PDU may carry the SUCCESS flag in place of a
    /// response capsule, as it does by default. Done only on queues with SQ flow
    /// control disabled, as the flag carries no SQ Head Pointer (NVMe/TCP 3.6.2.9).
    pub success_flag: bool,
    /// Time for ICReq and Connect to arrive on a new connection, in milliseconds.
    pub handshake_ms: u32,
    /// Time for a host to prove on a queue who it is, in milliseconds: an exponentiation may take a small host seconds.
    pub authentication_ms: u32,
    /// How hosts with keys prove who they are.
    pub authentication: auth::Policy,
    /// How long a host may take to send what an R2T requests, to finish a PDU, or to read
    /// anything of what was sent, before its connection is closed, in milliseconds.
    pub data_ms: u32,
}

impl Default for TargetConfig {
    fn default() -> Self {
        Self {
            subsystems: Vec::new(),
            listeners: Vec::new(),
            max_io_bytes: 128 * 1024,
            in_capsule_bytes: 4096,
            max_h2c_bytes: 128 * 1024,
            queue_depth: 128,
            max_controllers: 1024,
            header_digest: true,
            data_digest: true,
            success_flag: true,
            handshake_ms: 10_000,
            authentication_ms: 30_000,
            authentication: auth::Policy::default(),
            data_ms: 30_000,
        }
    }
}

/// One NVM subsystem.
#[derive(Clone, Debug)]
pub struct SubsystemConfig {
    /// NVMe Qualified Name.
    pub nqn: String,
    /// Serial Number, at most 20 printable ASCII characters.
    pub serial: String,
    /// Model Number, at most 40 printable ASCII characters.
    pub model: String,
    /// The namespaces.
    pub namespaces: Vec<NamespaceConfig>,
    /// Who may connect.
    pub hosts: Hosts,
    /// I/O queues a controller may have, 1 to 1,024.
    pub max_queues: u16,
    /// The state that its ANA groups begin in; `None`: it does not report asymmetric access.
    pub ana: Option<AnaState>,
    /// Numbers that its controllers get, of [`SubsystemConfig::CNTLIDS`]. Nodes that show one subsystem give disjoint
    /// ones: they are unique in it (base 3.1.1).
    pub cntlids: RangeInclusive<u16>,
    /// Where other nodes show it: the discovery log names these addresses too.
    pub peers: Vec<ListenerConfig>,
}

impl SubsystemConfig {
    /// Numbers that controllers may have (base 3.1.1: FFF0h and up are reserved).
    pub const CNTLIDS: RangeInclusive<u16> = 1..=0xffef;
}

/// Who may use a subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Every host.
    Any,
    /// These.
    Listed(Vec<Host>),
}

/// A host that may use a subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its NQN.
    pub nqn: String,
    /// What it has to prove that it has; without keys its name is enough.
    pub keys: Option<Arc<auth::HostKeys>>,
    /// What its connections are encrypted by; without one they are in the clear.
    pub psk: Option<Arc<tls::ConfiguredPsk>>,
}

impl From<&str> for Host {
    /// One whose name is enough.
    fn from(nqn: &str) -> Self {
        Self {
            nqn: nqn.into(),
            keys: None,
            psk: None,
        }
    }
}

/// One namespace: a volume under a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceConfig {
    /// Its number, from 1; at most [`NamespaceConfig::NSID_MAX`].
    pub nsid: Nsid,
    /// Its place in the list of all namespaces, for requests.
    pub index: NamespaceIndex,
    /// Size of a logical block.
    pub block_size: BlockSize,
    /// Number of logical blocks (NSZE).
    pub blocks: u64,
    /// UUID, big-endian as printed; all zeros is none.
    pub uuid: [u8; 16],
    /// NGUID, big-endian; all zeros is none.
    pub nguid: [u8; 16],
    /// EUI-64, big-endian; all zeros is none.
    pub eui64: [u8; 8],
    /// Whether writes may sit in a cache that power loss empties.
    pub volatile_write_cache: bool,
    /// Whether deallocated blocks read back as zeros (DLFEAT).
    pub deallocated_reads_zero: bool,
    /// Read-only, and there while [`Target::show_backups`](crate::Target::show_backups) says so; not at first.
    pub is_backup: bool,
    /// What its drive says of its health, for the SMART log.
    pub smart: LastSmart,
}

impl NamespaceConfig {
    /// Highest namespace number (reported as NN).
    pub const NSID_MAX: u32 = 1024;
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// An NQN is empty, too long, not `nqn.…`, or has characters outside printable ASCII.
    Nqn(String),
    /// Two subsystems have one NQN, or a subsystem has the discovery NQN.
    NqnTaken(String),
    /// A serial or model number is empty, too long, or not printable ASCII.
    Text {
        /// The subsystem's NQN.
        nqn: String,
        /// `serial` or `model`.
        field: &'static str,
    },
    /// A namespace number is 0 or above [`NamespaceConfig::NSID_MAX`].
    Nsid {
        /// The subsystem's NQN.
        nqn: String,
        /// The number.
        nsid: Nsid,
    },
    /// Two namespaces of a subsystem have one number.
    NsidTaken {
        /// The subsystem's NQN.
        nqn: String,
        /// The number.
        nsid: Nsid,
    },
    /// A namespace has no blocks, or more bytes than 2^63.
    Blocks {
        /// The subsystem's NQN.
        nqn: String,
        /// The namespace.
        nsid: Nsid,
    },
    /// A namespace has neither UUID nor NGUID nor EUI-64.
    NoIdentifier {
        /// The subsystem's NQN.
        nqn: String,
        /// The namespace.
        nsid: Nsid,
    },
    /// Two namespaces of a subsystem have one UUID, NGUID or EUI-64: hosts take them for one.
    IdentifierTaken {
        /// The subsystem's NQN.
        nqn: String,
        /// The one that has it already.
        first: Nsid,
        /// The other.
        second: Nsid,
        /// `uuid`, `nguid` or `eui64`.
        field: &'static str,
    },
    /// A subsystem does not report asymmetric access.
    NoAna(String),
    /// An ANA group is lost for good, and nothing can be done about it.
    AnaLost {
        /// The subsystem's NQN.
        nqn: String,
        /// Number of the group, and of its namespace.
        nsid: Nsid,
    },
    /// A number is outside what it may be.
    Range {
        /// The field of [`TargetConfig`] or [`SubsystemConfig`].
        field: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Nqn(nqn) => write!(
                f,
                "{nqn:?} is no NQN: it starts with \"nqn.\" and has at most {NQN_LEN_MAX} printable ASCII characters"
            ),
            ConfigError::NqnTaken(nqn) => write!(f, "the NQN {nqn} is taken"),
            ConfigError::Text { nqn, field } => {
                let most = if *field == "serial" { 20 } else { 40 };
                write!(
                    f,
                    "{nqn}: {field} has 1 to {most} printable ASCII characters"
                )
            }
            ConfigError::Nsid { nqn, nsid } => write!(
                f,
                "{nqn}: namespace {nsid} is not one of 1 to {}",
                NamespaceConfig::NSID_MAX
            ),
            ConfigError::NsidTaken { nqn, nsid } => {
                write!(f, "{nqn}: two namespaces have the number {nsid}")
            }
            ConfigError::Blocks { nqn, nsid } => write!(
                f,
                "{nqn}: namespace {nsid} has no blocks, or more than 2^63 bytes"
            ),
            ConfigError::NoIdentifier { nqn, nsid } => {
                write!(
                    f,
                    "{nqn}: namespace {nsid} needs a uuid, an nguid or an eui64"
                )
            }
            ConfigError::IdentifierTaken {
                nqn,
                first,
                second,
                field,
            } => write!(
                f,
                "{nqn}: namespaces {first} and {second} have the same {field}: hosts would take them for one; give each its own"
            ),
            ConfigError::NoAna(nqn) => {
                write!(f, "{nqn} does not report asymmetric namespace access")
            }
            ConfigError::AnaLost { nqn, nsid } => write!(
                f,
                "{nqn}: ANA group {nsid} is in the state persistent_loss, which is for good"
            ),
            ConfigError::Range { field, allowed } => write!(f, "{field} must be {allowed}"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl TargetConfig {
    /// Checks everything that can be wrong.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let range = |ok, field, allowed| {
            if ok {
                Ok(())
            } else {
                Err(ConfigError::Range { field, allowed })
            }
        };
        range(
            self.max_io_bytes.is_power_of_two() && (8192..=1 << 24).contains(&self.max_io_bytes),
            "max_io_bytes",
            "a power of two from 8192 to 16777216",
        )?;
        range(
            self.in_capsule_bytes.is_multiple_of(16) && self.in_capsule_bytes <= self.max_io_bytes,
            "in_capsule_bytes",
            "a multiple of 16, at most max_io_bytes",
        )?;
        range(
            self.max_h2c_bytes.is_multiple_of(4) && self.max_h2c_bytes >= 4096,
            "max_h2c_bytes",
            "a multiple of 4, at least 4096",
        )?;
        range(
            (2..=4096).contains(&self.queue_depth),
            "queue_depth",
            "2 to 4096",
        )?;
        range(
            (1..=0xffef).contains(&self.max_controllers),
            "max_controllers",
            "1 to 65519",
        )?;
        range(self.handshake_ms > 0, "handshake_ms", "at least 1")?;
        range(
            self.authentication_ms > 0,
            "authentication_ms",
            "at least 1",
        )?;
        range(self.data_ms > 0, "data_ms", "at least 1")?;
        for (i, subsystem) in self.subsystems.iter().enumerate() {
            subsystem.validate()?;
            let taken = self.subsystems[..i].iter().any(|s| s.nqn == subsystem.nqn);
            if taken || subsystem.nqn == DISCOVERY_NQN {
                return Err(ConfigError::NqnTaken(subsystem.nqn.clone()));
            }
            self.validate_ana(subsystem)?;
        }
        Ok(())
    }

    /// Checks that hosts can read the log of all ANA groups in one command, as they do (Linux's fails
    /// to connect otherwise).
    pub(crate) fn validate_ana(&self, subsystem: &SubsystemConfig) -> Result<(), ConfigError> {
        if subsystem.ana.is_some() && self.max_io_bytes < Self::ANA_IO_BYTES_MIN {
            return Err(ConfigError::Range {
                field: "max_io_bytes",
                allowed: "at least 65536 where a subsystem reports asymmetric namespace access",
            });
        }
        Ok(())
    }

    /// Smallest [`TargetConfig::max_io_bytes`] of a target that reports asymmetric access, in bytes: a
    /// header of 16 bytes, and 36 for each of 1,024 groups, in a power of two.
    pub const ANA_IO_BYTES_MIN: u32 = (16 + 36 * NamespaceConfig::NSID_MAX).next_power_of_two();
}

impl SubsystemConfig {
    /// Checks everything that can be wrong.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        check_nqn(&self.nqn)?;
        self.hosts.validate()?;
        for (text, most, field) in [(&self.serial, 20, "serial"), (&self.model, 40, "model")] {
            if text.is_empty() || text.len() > most || !is_printable(text) {
                let nqn = self.nqn.clone();
                return Err(ConfigError::Text { nqn, field });
            }
        }
        if !(1..=1024).contains(&self.max_queues) {
            return Err(ConfigError::Range {
                field: "max_queues",
                allowed: "1 to 1024",
            });
        }
        let ids = |id| Self::CNTLIDS.contains(id);
        if self.cntlids.is_empty() || !ids(self.cntlids.start()) || !ids(self.cntlids.end()) {
            return Err(ConfigError::Range {
                field: "cntlids",
                allowed: "one to some of 1 to 65519",
            });
        }
        validate_namespaces(&self.nqn, &self.namespaces)
    }
}

impl Hosts {
    /// Checks that those listed have NQNs.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Hosts::Any => Ok(()),
            Hosts::Listed(hosts) => hosts.iter().try_for_each(|host| check_nqn(&host.nqn)),
        }
    }
}

/// Checks the namespaces of the subsystem `nqn`.
pub(crate) fn validate_namespaces(
    nqn: &str,
    namespaces: &[NamespaceConfig],
) -> Result<(), ConfigError> {
    for (i, ns) in namespaces.iter().enumerate() {
        let (nqn, nsid) = (nqn.to_owned(), ns.nsid);
        if !(1..=NamespaceConfig::NSID_MAX).contains(&nsid.0) {
            return Err(ConfigError::Nsid { nqn, nsid });
        }
        if namespaces[..i].iter().any(|other| other.nsid == nsid) {
            return Err(ConfigError::NsidTaken { nqn, nsid });
        }
        if ns.blocks == 0 || ns.blocks > (1 << 63) >> ns.block_size.shift() {
            return Err(ConfigError::Blocks { nqn, nsid });
        }
        if ns.uuid == [0; 16] && ns.nguid == [0; 16] && ns.eui64 == [0; 8] {
            return Err(ConfigError::NoIdentifier { nqn, nsid });
        }
        for first in &namespaces[..i] {
            if let Some(field) = shared_identifier(first, ns) {
                return Err(ConfigError::IdentifierTaken {
                    nqn,
                    first: first.nsid,
                    second: nsid,
                    field,
                });
            }
        }
    }
    Ok(())
}

/// Which identifier two namespaces share: each is globally unique (base 5.17.2.3).
fn shared_identifier(a: &NamespaceConfig, b: &NamespaceConfig) -> Option<&'static str> {
    if a.uuid == b.uuid && a.uuid != [0; 16] {
        Some("uuid")
    } else if a.nguid == b.nguid && a.nguid != [0; 16] {
        Some("nguid")
    } else if a.eui64 == b.eui64 && a.eui64 != [0; 8] {
        Some("eui64")
    } else {
        None
    }
}

fn check_nqn(nqn: &str) -> Result<(), ConfigError> {
    let well_formed = nqn.starts_with("nqn.") && nqn.len() <= NQN_LEN_MAX && is_printable(nqn);
    if well_formed {
        Ok(())
    } else {
        Err(ConfigError::Nqn(nqn.to_owned()))
    }
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|b| (0x20..0x7f).contains(&b))
}
