//! An NVMe/TCP host: blocking, over the kernel's TCP, written from the
//! specifications and independent of the target's code.
//!
//! Source: NVMe/TCP Transport Specification 1.0, section 3.6; NVMe base 2.0.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// PDU types (NVMe/TCP 3.6.1).
pub const IC_REQ: u8 = 0x00;
pub const IC_RESP: u8 = 0x01;
pub const C2H_TERM: u8 = 0x03;
pub const CAPSULE_CMD: u8 = 0x04;
pub const CAPSULE_RESP: u8 = 0x05;
pub const H2C_DATA: u8 = 0x06;
pub const C2H_DATA: u8 = 0x07;
pub const R2T: u8 = 0x09;

/// I/O opcodes (NVM command set, figure 12).
pub const FLUSH: u8 = 0x00;
pub const WRITE: u8 = 0x01;
pub const READ: u8 = 0x02;
pub const WRITE_ZEROES: u8 = 0x08;

/// The status field of a completion, without its phase tag; 0 is success.
pub type Status = u16;

/// A PDU as it came: type, flags, header (without digest), data.
#[derive(Debug)]
pub struct Pdu {
    pub kind: u8,
    pub flags: u8,
    pub header: Vec<u8>,
    pub data: Vec<u8>,
}

/// What a connection is opened with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub header_digest: bool,
    pub data_digest: bool,
    /// Entries of an I/O queue; 32 if that is 0.
    pub entries: u16,
}

/// One queue of a controller.
pub struct Queue {
    stream: TcpStream,
    options: Options,
    max_h2c: usize,
    cid: u16,
    pub cntlid: u16,
}

impl Queue {
    /// Connects TCP and exchanges ICReq and ICResp (3.6.2.2).
    pub fn initialize(target: SocketAddr, options: Options) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&target, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        let mut queue = Self {
            stream,
            options,
            max_h2c: 0,
            cid: 0,
            cntlid: 0xffff,
        };
        let mut request = [0; 128];
        request[0] = IC_REQ;
        request[2] = 128;
        request[4] = 128;
        request[11] = u8::from(options.header_digest) | u8::from(options.data_digest) << 1;
        queue.send(&request)?;
        let mut response = [0; 128];
        queue.stream.read_exact(&mut response)?;
        assert_eq!((response[0], response[2]), (IC_RESP, 128), "an ICResp");
        queue.max_h2c = u32::from_le_bytes(response[12..16].try_into().unwrap()) as usize;
        Ok(queue)
    }

    /// A queue after Fabrics Connect; `cntlid` is 0xffff for an admin queue.
    pub fn connect(
        target: SocketAddr,
        options: Options,
        nqn: &str,
        qid: u16,
        cntlid: u16,
    ) -> io::Result<Self> {
        let mut queue = Self::initialize(target, options)?;
        let mut command = [0; 64];
        command[0] = 0x7f;
        command[4] = 0x01;
        command[42..44].copy_from_slice(&qid.to_le_bytes());
        let entries = match (qid, options.entries) {
            (0, _) | (_, 0) => 32,
            (_, entries) => entries,
        };
        command[44..46].copy_from_slice(&(entries - 1).to_le_bytes());
        // A machine that is busy with other things does not end the test.
        command[48..52].copy_from_slice(&120_000u32.to_le_bytes());
        let mut data = vec![0; 1024];
        data[..16].copy_from_slice(&[0x5a; 16]);
        data[16..18].copy_from_slice(&cntlid.to_le_bytes());
        data[256..256 + nqn.len()].copy_from_slice(nqn.as_bytes());
        let host = b"nqn.2014-08.org.nvmexpress:uuid:5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a";
        data[512..512 + host.len()].copy_from_slice(host);
        let (status, result, _) = queue.command(command, Some(&data), true, 0)?;
        if status != 0 {
            return Err(io::Error::other(format!("Connect: status {status:#x}")));
        }
        queue.cntlid = result as u16;
        Ok(queue)
    }

    /// An enabled controller's admin queue and one I/O queue.
    pub fn controller(target: SocketAddr, options: Options, nqn: &str) -> io::Result<(Self, Self)> {
        let mut admin = Self::connect(target, options, nqn, 0, 0xffff)?;
        // CC: I/O queue entry sizes 64 and 16, enable.
        assert_eq!(admin.property_set(0x14, 0x0046_0001)?, 0, "CC.EN");
        assert_eq!(admin.property_get(0x1c)?.1 & 1, 1, "CSTS.RDY");
        let io = Self::connect(target, options, nqn, 1, admin.cntlid)?;
        Ok((admin, io))
    }

    pub fn property_set(&mut self, offset: u32, value: u64) -> io::Result<Status> {
        let mut command = [0; 64];
        (command[0], command[4]) = (0x7f, 0x00);
        command[44..48].copy_from_slice(&offset.to_le_bytes());
        command[48..56].copy_from_slice(&value.to_le_bytes());
        Ok(self.command(command, None, false, 0)?.0)
    }

    pub fn property_get(&mut self, offset: u32) -> io::Result<(Status, u64)> {
        let mut command = [0; 64];
        (command[0], command[4]) = (0x7f, 0x04);
        command[44..48].copy_from_slice(&offset.to_le_bytes());
        let (status, result, _) = self.command(command, None, false, 0)?;
        Ok((status, result))
    }

    /// Identify with `cns`, 4096 bytes.
    pub fn identify(&mut self, cns: u8, nsid: u32) -> io::Result<(Status, Vec<u8>)> {
        let mut command = [0; 64];
        command[0] = 0x06;
        command[4..8].copy_from_slice(&nsid.to_le_bytes());
        command[40] = cns;
        let (status, _, data) = self.command(command, None, false, 4096)?;
        Ok((status, data))
    }

    /// Writes whole blocks; `in_capsule` or after an R2T.
    pub fn write(
        &mut self,
        lba: u64,
        block_size: usize,
        data: &[u8],
        in_capsule: bool,
    ) -> io::Result<Status> {
        let command = rw(WRITE, lba, data.len() / block_size);
        Ok(self.command(command, Some(data), in_capsule, 0)?.0)
    }

    /// As [`Queue::write`], with Force Unit Access.
    pub fn write_fua(
        &mut self,
        lba: u64,
        block_size: usize,
        data: &[u8],
        in_capsule: bool,
    ) -> io::Result<Status> {
        let mut command = rw(WRITE, lba, data.len() / block_size);
        command[51] |= 0x40;
        Ok(self.command(command, Some(data), in_capsule, 0)?.0)
    }

    pub fn read(
        &mut self,
        lba: u64,
        block_size: usize,
        len: usize,
    ) -> io::Result<(Status, Vec<u8>)> {
        let (status, _, data) = self.command(rw(READ, lba, len / block_size), None, false, len)?;
        Ok((status, data))
    }

    pub fn flush(&mut self) -> io::Result<Status> {
        let mut command = [0; 64];
        command[0] = FLUSH;
        command[4] = 1;
        Ok(self.command(command, None, false, 0)?.0)
    }

    pub fn write_zeroes(&mut self, lba: u64, blocks: usize) -> io::Result<Status> {
        Ok(self
            .command(rw(WRITE_ZEROES, lba, blocks), None, false, 0)?
            .0)
    }

    /// Sends a command and serves it to its end: status, result, data read.
    pub fn command(
        &mut self,
        mut command: [u8; 64],
        data: Option<&[u8]>,
        in_capsule: bool,
        expect: usize,
    ) -> io::Result<(Status, u64, Vec<u8>)> {
        self.cid = self.cid.wrapping_add(1) % 1024;
        let cid = self.cid.to_le_bytes();
        command[1] = 0x40;
        command[2..4].copy_from_slice(&cid);
        let len = data.map_or(expect, <[u8]>::len) as u32;
        command[32..36].copy_from_slice(&len.to_le_bytes());
        // In-capsule data by offset, or a transport data block (base 4.5.1).
        command[39] = if in_capsule { 0x01 } else { 0x5a };
        self.send_pdu(
            CAPSULE_CMD,
            0,
            &command,
            data.filter(|_| in_capsule).unwrap_or(&[]),
        )?;
        let mut read = vec![0; expect];
        loop {
            let pdu = self.receive()?;
            match pdu.kind {
                R2T => {
                    let at =
                        |i: usize| u32::from_le_bytes(pdu.header[i..i + 4].try_into().unwrap());
                    let (offset, len) = (at(12) as usize, at(16) as usize);
                    let ttag = [pdu.header[10], pdu.header[11]];
                    let data = data.expect("an R2T answers a write");
                    self.send_data(cid, ttag, offset, &data[offset..offset + len])?;
                }
                C2H_DATA => {
                    let offset =
                        u32::from_le_bytes(pdu.header[12..16].try_into().unwrap()) as usize;
                    read[offset..offset + pdu.data.len()].copy_from_slice(&pdu.data);
                    if pdu.flags & 0x08 != 0 {
                        return Ok((0, 0, read));
                    }
                }
                CAPSULE_RESP => {
                    let cqe = &pdu.header[8..24];
                    assert_eq!(&cqe[12..14], &cid, "the command's own completion");
                    let status = u16::from_le_bytes([cqe[14], cqe[15]]) >> 1;
                    let result = u64::from_le_bytes(cqe[..8].try_into().unwrap());
                    return Ok((status, result, read));
                }
                other => return Err(io::Error::other(format!("PDU type {other:#x}"))),
            }
        }
    }

    /// Answers an R2T.
    pub fn send_data(
        &mut self,
        cid: [u8; 2],
        ttag: [u8; 2],
        offset: usize,
        data: &[u8],
    ) -> io::Result<()> {
        let most = self.max_h2c.max(4);
        for (i, part) in data.chunks(most).enumerate() {
            let last = (i + 1) * most >= data.len();
            let mut header = [0; 16];
            header[..2].copy_from_slice(&cid);
            header[2..4].copy_from_slice(&ttag);
            header[4..8].copy_from_slice(&((offset + i * most) as u32).to_le_bytes());
            header[8..12].copy_from_slice(&(part.len() as u32).to_le_bytes());
            self.send_pdu(H2C_DATA, if last { 0x04 } else { 0 }, &header, part)?;
        }
        Ok(())
    }

    /// Sends a PDU: common header, `header`, digests as negotiated, `data`.
    pub fn send_pdu(&mut self, kind: u8, flags: u8, header: &[u8], data: &[u8]) -> io::Result<()> {
        let pdu = self.build(kind, flags, header, data);
        self.send(&pdu)
    }

    /// The bytes of a PDU.
    pub fn build(&self, kind: u8, flags: u8, header: &[u8], data: &[u8]) -> Vec<u8> {
        let hlen = 8 + header.len();
        let digest = if self.options.header_digest { 4 } else { 0 };
        let pdo = if data.is_empty() { 0 } else { hlen + digest };
        let tail = if self.options.data_digest && !data.is_empty() {
            4
        } else {
            0
        };
        let plen = hlen + digest + data.len() + tail;
        let flags = flags | u8::from(digest > 0) | u8::from(tail > 0) << 1;
        let mut pdu = vec![kind, flags, hlen as u8, pdo as u8];
        pdu.extend_from_slice(&(plen as u32).to_le_bytes());
        pdu.extend_from_slice(header);
        if digest > 0 {
            pdu.extend_from_slice(&crc32c::crc32c(&pdu).to_le_bytes());
        }
        pdu.extend_from_slice(data);
        if tail > 0 {
            pdu.extend_from_slice(&crc32c::crc32c(data).to_le_bytes());
        }
        pdu
    }

    /// Sends bytes as they are, malformed ones too.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next PDU; its digests are checked.
    pub fn receive(&mut self) -> io::Result<Pdu> {
        let mut common = [0; 8];
        self.stream.read_exact(&mut common)?;
        let [kind, flags, hlen, pdo, ..] = common;
        let plen = u32::from_le_bytes(common[4..8].try_into().unwrap()) as usize;
        let mut rest = vec![0; plen - 8];
        self.stream.read_exact(&mut rest)?;
        let mut whole = common.to_vec();
        whole.extend_from_slice(&rest);
        let header = whole[..hlen.into()].to_vec();
        if flags & 1 != 0 && kind != C2H_TERM {
            let sum = crc32c::crc32c(&header).to_le_bytes();
            assert_eq!(
                &whole[hlen.into()..usize::from(hlen) + 4],
                sum,
                "header digest"
            );
        }
        let tail = if flags & 2 != 0 { 4 } else { 0 };
        let data = match pdo {
            0 => Vec::new(),
            pdo => whole[pdo.into()..plen - tail].to_vec(),
        };
        if tail > 0 && !data.is_empty() {
            assert_eq!(
                &whole[plen - 4..],
                crc32c::crc32c(&data).to_le_bytes(),
                "data digest"
            );
        }
        Ok(Pdu {
            kind,
            flags,
            header,
            data,
        })
    }

    /// How long to wait for what the target says.
    pub fn set_patience(&self, patience: Duration) {
        let set = self.stream.set_read_timeout(Some(patience));
        set.expect("a time that is not zero");
    }

    /// Ends the TCP connection, whatever is under way.
    pub fn shutdown(&self, how: std::net::Shutdown) {
        // Already closed by the target: as good.
        let _ = self.stream.shutdown(how);
    }

    /// Whether the target closed the connection, perhaps after a C2HTermReq.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).is_ok()
            || self.stream.take_error().is_ok_and(|error| error.is_some())
    }
}

fn rw(opcode: u8, lba: u64, blocks: usize) -> [u8; 64] {
    let mut command = [0; 64];
    command[0] = opcode;
    command[4] = 1;
    command[40..48].copy_from_slice(&lba.to_le_bytes());
    command[48..50].copy_from_slice(&((blocks - 1) as u16).to_le_bytes());
    command
}

/// Bytes that tell where they belong: no two places of a volume look alike.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
