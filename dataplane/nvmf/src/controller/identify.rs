//! Identify data structures (base 5.17.2, NVM 4.1.5).

use super::aborts;
use super::events::{self, Notice};
use super::features::KEEP_ALIVE_GRANULARITY;
use super::properties::VERSION;
use super::ticks::COMMAND_QUIESCE_MS;
use super::window::Window;
use crate::ana;
use crate::config::{DISCOVERY_NQN, NamespaceConfig, TargetConfig};
use crate::namespaces::{Group, Namespaces};
use crate::status::Status;
use crate::subsystem::Subsystem;
use crate::units::{BlockSize, Cntlid, Nsid};

/// Length of every Identify data structure in bytes.
pub(super) const LEN: u32 = 4096;

/// Controller or Namespace Structure (base 5.17.1, Figure 273).
mod cns {
    pub(super) const NAMESPACE: u8 = 0x00;
    pub(super) const CONTROLLER: u8 = 0x01;
    pub(super) const ACTIVE_NAMESPACES: u8 = 0x02;
    pub(super) const NAMESPACE_DESCRIPTORS: u8 = 0x03;
    pub(super) const NAMESPACE_OF_COMMAND_SET: u8 = 0x05;
    pub(super) const CONTROLLER_OF_COMMAND_SET: u8 = 0x06;
    pub(super) const ACTIVE_NAMESPACES_OF_COMMAND_SET: u8 = 0x07;
    pub(super) const NAMESPACE_INDEPENDENT: u8 = 0x08;
    pub(super) const COMMAND_SETS: u8 = 0x1c;
}

/// CSI of the NVM command set.
const CSI_NVM: u8 = 0;

/// What Identify data structures are made from.
pub(super) struct Identify<'a> {
    pub config: &'a TargetConfig,
    pub cntlid: Cntlid,
    /// The subsystem and its namespaces; `None` for a discovery controller.
    pub subsystem: Option<(&'a Subsystem, &'a Namespaces)>,
}

/// A structure that can be built: checked before resources are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Structure {
    Controller,
    Namespace,
    ActiveNamespaces,
    Descriptors,
    Independent,
    CommandSets,
    /// All zeros: of an inactive namespace, or with nothing to say.
    Zeros,
}

impl Identify<'_> {
    /// The structure that `cns`, `csi` and `nsid` name.
    ///
    /// # Errors
    /// [`Status::INVALID_FIELD`] for a CNS or command set that is not
    /// supported, [`Status::INVALID_NAMESPACE`] for a namespace that is not there.
    pub fn check(&self, cns: u8, csi: u8, nsid: Nsid) -> Result<Structure, Status> {
        let Some((_, namespaces)) = self.subsystem else {
            return match cns {
                cns::CONTROLLER => Ok(Structure::Controller),
                _ => Err(Status::INVALID_FIELD),
            };
        };
        let nvm = csi == CSI_NVM;
        let valid = (1..=highest_nsid(namespaces)).contains(&nsid.0);
        let active = namespaces.get(nsid).is_some();
        match cns {
            cns::CONTROLLER => Ok(Structure::Controller),
            cns::NAMESPACE | cns::NAMESPACE_INDEPENDENT if !valid => Err(Status::INVALID_NAMESPACE),
            cns::NAMESPACE | cns::NAMESPACE_INDEPENDENT if !active => Ok(Structure::Zeros),
            cns::NAMESPACE => Ok(Structure::Namespace),
            cns::NAMESPACE_INDEPENDENT => Ok(Structure::Independent),
            cns::ACTIVE_NAMESPACES | cns::ACTIVE_NAMESPACES_OF_COMMAND_SET
                if cns == cns::ACTIVE_NAMESPACES || nvm =>
            {
                // FFFFFFFEh and FFFFFFFFh have no next one (base 5.17.2.2).
                if nsid.0 >= 0xffff_fffe {
                    return Err(Status::INVALID_NAMESPACE);
                }
                Ok(Structure::ActiveNamespaces)
            }
            cns::NAMESPACE_DESCRIPTORS if active => Ok(Structure::Descriptors),
            cns::NAMESPACE_DESCRIPTORS => Err(Status::INVALID_NAMESPACE),
            cns::NAMESPACE_OF_COMMAND_SET if nvm && valid => Ok(Structure::Zeros),
            cns::NAMESPACE_OF_COMMAND_SET if nvm => Err(Status::INVALID_NAMESPACE),
            // Limits of the NVM command set: all zero is none beyond MDTS.
            cns::CONTROLLER_OF_COMMAND_SET if nvm => Ok(Structure::Zeros),
            cns::COMMAND_SETS => Ok(Structure::CommandSets),
            _ => Err(Status::INVALID_FIELD),
        }
    }

    /// Writes the structure for `nsid` into `out`.
    pub fn fill(&self, structure: Structure, nsid: Nsid, out: &mut [u8]) {
        let mut w = Window::new(0, out);
        let namespace = self.subsystem.and_then(|(_, n)| n.get(nsid));
        let group = self.subsystem.and_then(|(_, n)| n.group(nsid));
        match (structure, namespace) {
            (Structure::Controller, _) => self.controller(&mut w),
            (Structure::ActiveNamespaces, _) => self.active_namespaces(nsid, &mut w),
            (Structure::Namespace, Some(ns)) => namespace_structure(ns, group, &mut w),
            (Structure::Descriptors, Some(ns)) => descriptors(ns, &mut w),
            (Structure::Independent, Some(ns)) => {
                w.put(1, [NMIC_SHARED]);
                // NSATTR: write protected.
                w.put(8, [u8::from(ns.is_backup)]);
                if group.is_some() {
                    // ANAGRPID.
                    w.put(4, nsid.0.to_le_bytes());
                }
                // NSTAT: the namespace is ready.
                w.put(14, [1]);
            }
            // One vector: the NVM command set.
            (Structure::CommandSets, _) => w.put(0, [1]),
            _ => {}
        }
    }

    /// Identify Controller (base 5.17.2.1, Figure 275).
    fn controller(&self, w: &mut Window<'_>) {
        let config = self.config;
        // SN, MN, FR: discovery controllers have names of their own.
        let (serial, model) = match self.subsystem {
            Some((s, _)) => (s.config.serial.as_str(), s.config.model.as_str()),
            None => ("discovery", "Throughline discovery"),
        };
        w.put_text(4, 20, serial, b' ');
        w.put_text(24, 40, model, b' ');
        w.put_text(64, 8, env!("CARGO_PKG_VERSION"), b' ');
        // MDTS: a power of two in units of 4 KiB.
        w.put(77, [config.max_io_bytes.ilog2() as u8 - 12]);
        w.put(78, self.cntlid.0.to_le_bytes());
        w.put(80, VERSION.to_le_bytes());
        // AERL, LPA (bit 2: offsets in Get Log Page).
        w.put(259, [events::LIMIT]);
        w.put(261, [1 << 2]);
        // KAS.
        w.put(320, KEEP_ALIVE_GRANULARITY.to_le_bytes());
        // MAXCMD.
        w.put(514, config.queue_depth.to_le_bytes());
        // SGLS: supported without alignment (1:0 = 01b), offsets in the
        // capsule (20) and Transport SGL Data Blocks (21).
        w.put(536, (1u32 | 1 << 20 | 1 << 21).to_le_bytes());
        // IOCCSZ and IORCSZ in 16-byte units; ICDOFF is 0; MSDBD 1.
        w.put(1792, (4 + config.in_capsule_bytes / 16).to_le_bytes());
        w.put(1796, 1u32.to_le_bytes());
        w.put(1803, [1]);
        match self.subsystem {
            Some((subsystem, namespaces)) => self.io_controller(subsystem, namespaces, w),
            None => {
                // OAES; CNTRLTYPE 2: discovery controller.
                w.put(92, Notice::Discovery.enable().to_le_bytes());
                w.put(111, [2]);
                w.put_text(768, 256, DISCOVERY_NQN, 0);
            }
        }
    }

    /// What only an I/O controller has.
    fn io_controller(&self, subsystem: &Subsystem, namespaces: &Namespaces, w: &mut Window<'_>) {
        // CMIC: several ports and several controllers.
        w.put(76, [0b11]);
        w.put(92, Notice::Namespaces.enable().to_le_bytes());
        // CTRATT: 128-bit Host Identifier (0), Traffic Based Keep Alive (6).
        w.put(96, (1u32 | 1 << 6).to_le_bytes());
        // CNTRLTYPE 1: I/O controller.
        w.put(111, [1]);
        // CRDT1: 100 ms before a retry, for hosts that enable ACRE.
        w.put(128, 1u16.to_le_bytes());
        // ACL: Abort commands at a time, zero's based.
        w.put(258, [aborts::LIMIT]);
        // FRMW: one read-only firmware slot.
        w.put(260, [0b11]);
        // LPA: effects log (1), offsets (2); supported logs, scopes of commands, and the effects of
        // features and of NVMe-MI commands (5).
        w.put(261, [1 << 1 | 1 << 2 | 1 << 5]);
        // CQT, of base 2.1. In 2.0, which VER says, these bytes are reserved: zero "or in accordance with
        // a future extension to this specification", and no host is required to check them (keyword
        // "reserved"). VER stays: 2.1 demands more than this.
        w.put(386, COMMAND_QUIESCE_MS.to_le_bytes());
        // SQES and CQES: 64 and 16 bytes, at least and at most.
        w.put(512, [0x66, 0x44]);
        w.put(516, highest_nsid(namespaces).to_le_bytes());
        // ONCS: Dataset Management (2), Write Zeroes (3), Select in features (4).
        w.put(520, (1u16 << 2 | 1 << 3 | 1 << 4).to_le_bytes());
        // VWC: present if any namespace has one; no Flush of all namespaces (2:1 = 10b).
        w.put(525, [0b100 | u8::from(has_write_cache(namespaces))]);
        w.put_text(768, 256, &subsystem.config.nqn, 0);
        // OFCS bit 0: Disconnect.
        w.put(1804, 1u16.to_le_bytes());
        if namespaces.has_groups() {
            asymmetric_access(w);
        }
    }

    /// Active Namespace ID list (base 5.17.2.2): those above `nsid`.
    fn active_namespaces(&self, nsid: Nsid, w: &mut Window<'_>) {
        let Some((_, namespaces)) = self.subsystem else {
            return;
        };
        let above = namespaces.iter().filter(|ns| ns.nsid > nsid);
        for (i, ns) in above.take(1024).enumerate() {
            w.put(i as u64 * 4, ns.nsid.0.to_le_bytes());
        }
    }
}

/// What a controller says that reports asymmetric namespace access (base 8.1.1).
fn asymmetric_access(w: &mut Window<'_>) {
    // CMIC as above, and ANA reporting (3).
    w.put(76, [0b11 | 1 << 3]);
    let notices = Notice::Namespaces.enable() | Notice::Access.enable();
    w.put(92, notices.to_le_bytes());
    w.put(342, [ana::TRANSITION_S]);
    // ANACAP: every state is reported (4:0); a namespace's group does not change while it is attached (6).
    w.put(343, [0b1_1111 | 1 << 6]);
    // ANAGRPMAX, NANAGRPID: the number of a group is that of its namespace.
    w.put(344, NamespaceConfig::NSID_MAX.to_le_bytes());
    w.put(348, NamespaceConfig::NSID_MAX.to_le_bytes());
    // MNAN: with ANA reporting not zero, and at most NN. Hosts size what they read the log of groups into by this and NANAGRPID.
    w.put(540, NamespaceConfig::NSID_MAX.to_le_bytes());
}

/// NMIC bit 0: the namespace may be attached to several controllers.
const NMIC_SHARED: u8 = 1;

/// Identify Namespace of the NVM command set (NVM 4.1.5.1, Figure 97).
fn namespace_structure(ns: &NamespaceConfig, group: Option<Group>, w: &mut Window<'_>) {
    // NSZE, NCAP, and NUSE, which is zero while commands do not get to the namespace (NVM 4.1.5.1; NVMCAP always is).
    for at in [0, 8] {
        w.put(at, ns.blocks.to_le_bytes());
    }
    if !group.is_some_and(|group| group.state.hides_capacity()) {
        w.put(16, ns.blocks.to_le_bytes());
    }
    if group.is_some() {
        // ANAGRPID.
        w.put(92, ns.nsid.0.to_le_bytes());
    }
    // One LBA format (NLBAF and FLBAS 0), no metadata, no protection.
    w.put(30, [NMIC_SHARED]);
    // DLFEAT: what deallocated blocks read as (2:0); DEAC is supported (3).
    w.put(33, [1 << 3 | u8::from(ns.deallocated_reads_zero)]);
    if ns.block_size == BlockSize::B512 {
        // OPTPERF (NSFEAT 4), and 8 blocks as NPWG, NPWA, NPDG, NPDA, NOWS (zero's
        // based): what covers whole 4 KiB pages needs no read-modify-write
        // in the page cache, nor on a device whose block is one (4096 is the largest).
        // With OPTPERF all five count: zeros in one of them would mean one block.
        w.put(24, [1 << 4]);
        for at in [64, 66, 68, 70, 72] {
            w.put(at, 7u16.to_le_bytes());
        }
    }
    // NSATTR: write protected.
    w.put(99, [u8::from(ns.is_backup)]);
    w.put(104, ns.nguid);
    w.put(120, ns.eui64);
    // LBAF0: MS 0, LBADS, RP 0.
    w.put(130, [ns.block_size.shift() as u8]);
}

/// Namespace Identification Descriptor list (base 5.17.2.3).
fn descriptors(ns: &NamespaceConfig, w: &mut Window<'_>) {
    let mut at = 0;
    let mut descriptor = |nidt: u8, id: &[u8], given: bool| {
        if given {
            w.put(at, [nidt, id.len() as u8]);
            w.put(at + 4, id);
            at += 4 + id.len() as u64;
        }
    };
    descriptor(0x01, &ns.eui64, ns.eui64 != [0; 8]);
    descriptor(0x02, &ns.nguid, ns.nguid != [0; 16]);
    descriptor(0x03, &ns.uuid, ns.uuid != [0; 16]);
    descriptor(0x04, &[CSI_NVM], true);
}

/// NN: the highest number a namespace may have. In steps, so that adding
/// namespaces seldom changes it; small, as hosts size tables by it. With ANA reporting it is constant: it is
/// the same on every node, whatever each has just been given.
pub(super) fn highest_nsid(namespaces: &Namespaces) -> u32 {
    if namespaces.has_groups() {
        return NamespaceConfig::NSID_MAX;
    }
    let highest = namespaces.all().map(|ns| ns.nsid.0).max().unwrap_or(1);
    highest.next_multiple_of(32)
}

/// Whether any namespace has a volatile write cache.
pub(super) fn has_write_cache(namespaces: &Namespaces) -> bool {
    namespaces.iter().any(|ns| ns.volatile_write_cache)
}
