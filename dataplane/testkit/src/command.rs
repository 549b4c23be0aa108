//! Commands as a host builds them: submission queue entries, and their data.
//!
//! Source: NVM Express Base Specification 2.0, sections 3.3.3 (entries), 5 (Admin), 6
//! (Fabrics), 4.1.2 (SGL descriptors); NVM Command Set Specification 1.0, section 3.

/// A submission queue entry.
pub type Sqe = [u8; 64];

/// Opcodes of the NVM Command Set (figure 12 of it).
pub mod nvm {
    #![allow(missing_docs)]
    pub const FLUSH: u8 = 0x00;
    pub const WRITE: u8 = 0x01;
    pub const READ: u8 = 0x02;
    pub const COMPARE: u8 = 0x05;
    pub const WRITE_ZEROES: u8 = 0x08;
    pub const DATASET_MANAGEMENT: u8 = 0x09;
}

/// Opcodes of the Admin Command Set (base, figure 138).
pub mod admin {
    #![allow(missing_docs)]
    pub const GET_LOG_PAGE: u8 = 0x02;
    pub const IDENTIFY: u8 = 0x06;
    pub const ABORT: u8 = 0x08;
    pub const SET_FEATURES: u8 = 0x09;
    pub const GET_FEATURES: u8 = 0x0a;
    pub const ASYNC_EVENT_REQUEST: u8 = 0x0c;
    pub const KEEP_ALIVE: u8 = 0x18;
}

/// The opcode of Fabrics commands, and their types (base, section 6).
pub mod fabrics {
    #![allow(missing_docs)]
    pub const OPCODE: u8 = 0x7f;
    pub const PROPERTY_SET: u8 = 0x00;
    pub const CONNECT: u8 = 0x01;
    pub const PROPERTY_GET: u8 = 0x04;
    pub const AUTHENTICATION_SEND: u8 = 0x05;
    pub const AUTHENTICATION_RECEIVE: u8 = 0x06;
    pub const DISCONNECT: u8 = 0x08;
}

/// SECP E9h and SPSP 0101h of authentication commands: NVMe's own protocols (base, sections 6.1 and 6.2).
const SECURITY_PROTOCOL: u32 = 0xe9_01_01_00;

/// Properties, by their offsets (base, section 3.1.3).
pub mod property {
    #![allow(missing_docs)]
    pub const CAP: u32 = 0x00;
    pub const VS: u32 = 0x08;
    pub const CC: u32 = 0x14;
    pub const CSTS: u32 = 0x1c;
}

/// CC of a controller in use: I/O queue entries of 64 and 16 bytes, enabled.
pub const CC_ENABLED: u32 = 0x0046_0001;
/// CC.SHN: a normal shutdown.
pub const CC_SHN_NORMAL: u32 = 1 << 14;

/// SGL descriptor 1: Data Block, its address an offset in the capsule.
const SGL_IN_CAPSULE: u8 = 0x01;
/// SGL descriptor 1: Transport SGL Data Block.
const SGL_TRANSPORT: u8 = 0x5a;

/// Data of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// There is none.
    None,
    /// So many bytes come from the controller.
    In(usize),
    /// Sent in the command's capsule.
    Capsule(Vec<u8>),
    /// Sent when the controller asks for it, by R2T.
    Asked(Vec<u8>),
    /// So many bytes that the controller will ask for. The host does not send them by itself:
    /// each R2T is left to [`Host::next_pdu`](crate::Host::next_pdu).
    Withheld(usize),
}

/// A command: its entry, without a CID, and its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The entry. The host puts in the CID; everything else is sent as it is here.
    pub sqe: Sqe,
    /// The data, which [`Command::with`] has described in the entry's SGL.
    pub payload: Payload,
}

impl Command {
    /// An entry with nothing in it but an opcode and a namespace, and no data.
    pub fn new(opcode: u8, nsid: u32) -> Self {
        let mut sqe = [0; 64];
        sqe[0] = opcode;
        // PSDT 01b: an SGL (NVMe/TCP transports have no PRPs).
        sqe[1] = 0x40;
        sqe[4..8].copy_from_slice(&nsid.to_le_bytes());
        sqe[39] = SGL_TRANSPORT;
        Self {
            sqe,
            payload: Payload::None,
        }
    }

    /// A command by its entry: with `capsule` in its capsule, or else with the data that the
    /// SGL's length and the opcode's direction speak of, which the host withholds if it is to
    /// send them. The entry is sent as it is, right or wrong.
    pub fn of(sqe: Sqe, capsule: &[u8]) -> Self {
        let len = u32::from_le_bytes([sqe[32], sqe[33], sqe[34], sqe[35]]) as usize;
        // Bits 1:0 of the opcode are the direction; of a Fabrics command, those of its type.
        let direction = match sqe[0] {
            fabrics::OPCODE => sqe[4] & 0b11,
            opcode => opcode & 0b11,
        };
        let payload = match (direction, len) {
            _ if !capsule.is_empty() => Payload::Capsule(capsule.to_vec()),
            (_, 0) => Payload::None,
            (0b01, _) => Payload::Withheld(len),
            (0b10, _) => Payload::In(len),
            _ => Payload::None,
        };
        Self { sqe, payload }
    }

    /// A Fabrics command. Its type takes the place of the namespace.
    pub fn fabrics(kind: u8) -> Self {
        Self::new(fabrics::OPCODE, kind.into())
    }

    /// Gives it data: its SGL describes them.
    pub fn with(mut self, payload: Payload) -> Self {
        let (len, kind) = match &payload {
            Payload::None => (0, SGL_TRANSPORT),
            Payload::In(len) | Payload::Withheld(len) => (*len, SGL_TRANSPORT),
            Payload::Asked(data) => (data.len(), SGL_TRANSPORT),
            Payload::Capsule(data) => (data.len(), SGL_IN_CAPSULE),
        };
        self.sqe[39] = kind;
        self.payload = payload;
        self.dword(8, len as u32)
    }

    /// Sets command dword `index`.
    pub fn dword(mut self, index: usize, value: u32) -> Self {
        self.sqe[index * 4..][..4].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// Sets command dwords `index` and the next.
    pub fn qword(mut self, index: usize, value: u64) -> Self {
        self.sqe[index * 4..][..8].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// Sets byte `at` of the entry.
    pub fn byte(mut self, at: usize, value: u8) -> Self {
        self.sqe[at] = value;
        self
    }

    /// A command of the NVM Command Set on `blocks` blocks from `lba` on, without data.
    #[track_caller]
    pub fn on_blocks(opcode: u8, nsid: u32, lba: u64, blocks: u32) -> Self {
        assert!((1..=65536).contains(&blocks), "NLB is a number of 16 bits");
        let command = Self::new(opcode, nsid).qword(10, lba);
        command.dword(12, blocks - 1)
    }

    /// Reads `blocks`, `len` bytes.
    pub fn read(nsid: u32, lba: u64, blocks: u32, len: usize) -> Self {
        Self::on_blocks(nvm::READ, nsid, lba, blocks).with(Payload::In(len))
    }

    /// Writes `blocks`.
    pub fn write(nsid: u32, lba: u64, blocks: u32, payload: Payload) -> Self {
        Self::on_blocks(nvm::WRITE, nsid, lba, blocks).with(payload)
    }

    /// Compares `blocks` with data.
    pub fn compare(nsid: u32, lba: u64, blocks: u32, payload: Payload) -> Self {
        Self::on_blocks(nvm::COMPARE, nsid, lba, blocks).with(payload)
    }

    /// Writes zeros to `blocks`.
    pub fn write_zeroes(nsid: u32, lba: u64, blocks: u32) -> Self {
        Self::on_blocks(nvm::WRITE_ZEROES, nsid, lba, blocks)
    }

    /// Flushes a namespace.
    pub fn flush(nsid: u32) -> Self {
        Self::new(nvm::FLUSH, nsid)
    }

    /// Dataset Management, Attribute - Deallocate, of ranges of (first block, blocks).
    pub fn deallocate(nsid: u32, ranges: &[(u64, u32)]) -> Self {
        let mut data = Vec::with_capacity(ranges.len() * 16);
        for (lba, blocks) in ranges {
            data.extend([0; 4]);
            data.extend(blocks.to_le_bytes());
            data.extend(lba.to_le_bytes());
        }
        let command = Self::new(nvm::DATASET_MANAGEMENT, nsid);
        let command = command.dword(10, (ranges.len() as u32).wrapping_sub(1));
        command.dword(11, 1 << 2).with(Payload::Capsule(data))
    }

    /// Force Unit Access (bit 30 of dword 12).
    pub fn fua(mut self) -> Self {
        self.sqe[51] |= 0x40;
        self
    }

    /// DEAC, of Write Zeroes: the blocks may be deallocated (bit 25 of dword 12).
    pub fn deac(mut self) -> Self {
        self.sqe[51] |= 0x02;
        self
    }

    /// Property Get, of 8 bytes if `wide`, else of 4.
    pub fn property_get(offset: u32, wide: bool) -> Self {
        let command = Self::fabrics(fabrics::PROPERTY_GET);
        command.dword(10, wide.into()).dword(11, offset)
    }

    /// Property Set, of 4 bytes.
    pub fn property_set(offset: u32, value: u32) -> Self {
        let command = Self::fabrics(fabrics::PROPERTY_SET);
        command.dword(11, offset).dword(12, value)
    }

    /// Authentication Send: a message of DH-HMAC-CHAP.
    pub fn authentication_send(message: Vec<u8>) -> Self {
        let len = message.len() as u32;
        let command = Self::fabrics(fabrics::AUTHENTICATION_SEND);
        let command = command.dword(10, SECURITY_PROTOCOL).dword(11, len);
        command.with(Payload::Capsule(message))
    }

    /// Authentication Receive, into so many bytes.
    pub fn authentication_receive(len: usize) -> Self {
        let command = Self::fabrics(fabrics::AUTHENTICATION_RECEIVE);
        let command = command.dword(10, SECURITY_PROTOCOL).dword(11, len as u32);
        command.with(Payload::In(len))
    }

    /// Disconnect, of an I/O queue.
    pub fn disconnect() -> Self {
        Self::fabrics(fabrics::DISCONNECT)
    }

    /// Identify: 4,096 bytes.
    pub fn identify(cns: u8, nsid: u32) -> Self {
        let command = Self::new(admin::IDENTIFY, nsid).dword(10, cns.into());
        command.with(Payload::In(4096))
    }

    /// Get Log Page: `len` bytes, a multiple of 4, from `offset` on.
    pub fn log_page(lid: u8, offset: u64, len: u32) -> Self {
        let numd = len / 4 - 1;
        let command = Self::new(admin::GET_LOG_PAGE, u32::MAX);
        let command = command.dword(10, u32::from(lid) | numd << 16);
        let command = command.dword(11, numd >> 16).qword(12, offset);
        command.with(Payload::In(len as usize))
    }

    /// Set Features.
    pub fn set_features(fid: u8, value: u32) -> Self {
        let command = Self::new(admin::SET_FEATURES, 0);
        command.dword(10, fid.into()).dword(11, value)
    }

    /// Get Features: 0 current, 1 default, 2 saved, 3 capabilities.
    pub fn get_features(fid: u8, select: u8) -> Self {
        let select = u32::from(select) << 8;
        Self::new(admin::GET_FEATURES, 0).dword(10, u32::from(fid) | select)
    }

    /// Abort command `cid` of queue `sqid`.
    pub fn abort(sqid: u16, cid: u16) -> Self {
        Self::new(admin::ABORT, 0).dword(10, u32::from(sqid) | u32::from(cid) << 16)
    }

    /// Asynchronous Event Request: it is completed when something happens.
    pub fn async_event_request() -> Self {
        Self::new(admin::ASYNC_EVENT_REQUEST, 0)
    }

    /// Keep Alive.
    pub fn keep_alive() -> Self {
        Self::new(admin::KEEP_ALIVE, 0)
    }

    /// Connect to queue `qid`, with `data` as [`connect_data`] makes them.
    ///
    /// `sq_size` is the number of entries, less one; `keep_alive_ms` 0: no timer.
    pub fn connect(
        qid: u16,
        sq_size: u16,
        no_flow_control: bool,
        keep_alive_ms: u32,
        data: Vec<u8>,
    ) -> Self {
        let command = Self::fabrics(fabrics::CONNECT);
        let command = command.dword(10, u32::from(qid) << 16);
        let attributes = u32::from(no_flow_control) << 2;
        let command = command.dword(11, u32::from(sq_size) | attributes << 16);
        let command = command.dword(12, keep_alive_ms);
        command.with(Payload::Capsule(data))
    }

    /// The opcode.
    pub fn opcode(&self) -> u8 {
        self.sqe[0]
    }

    /// The namespace; of a Fabrics command, its type in the lowest byte.
    pub fn nsid(&self) -> u32 {
        u32::from_le_bytes([self.sqe[4], self.sqe[5], self.sqe[6], self.sqe[7]])
    }
}

/// The data of a Connect command: 1,024 bytes. `cntlid` is FFFFh for an Admin Queue.
pub fn connect_data(host_id: &[u8; 16], cntlid: u16, subsystem: &str, host: &str) -> Vec<u8> {
    let mut data = vec![0; 1024];
    data[..16].copy_from_slice(host_id);
    data[16..18].copy_from_slice(&cntlid.to_le_bytes());
    data[256..256 + subsystem.len()].copy_from_slice(subsystem.as_bytes());
    data[512..512 + host.len()].copy_from_slice(host.as_bytes());
    data
}
