//! The host over the kernel's TCP, one command at a time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::command::{CC_ENABLED, Command, Payload, property};
use crate::host::{Completion, Config, Host, Status};
use crate::pdu::Pdu;

/// How long the target has for an answer, unless [`Queue::set_patience`] says otherwise.
///
/// It ends tests that hang: no machine is so busy that another reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a property.
const LOOK: Duration = Duration::from_millis(5);

/// One queue of a controller.
///
/// What the target does against the specification panics: it is a bug that was found.
pub struct Queue {
    stream: TcpStream,
    /// The host. Whatever is given to it is sent by the next call that waits.
    pub host: Host,
}

impl Queue {
    /// Connects TCP and exchanges ICReq and ICResp (NVMe/TCP 3.6.2.2).
    pub fn initialize(target: SocketAddr, config: Config) -> io::Result<Self> {
        Self::initialize_within(PATIENCE, target, config)
    }

    fn initialize_within(
        patience: Duration,
        target: SocketAddr,
        config: Config,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&target, patience)?;
        stream.set_nodelay(true)?;
        let mut queue = Self {
            stream,
            host: Host::new(config),
        };
        queue.set_patience(patience);
        queue.host.initialize();
        queue.until(|host| host.initialized())?;
        let agreed = queue.host.format();
        assert_eq!(agreed, queue.host.config().format, "as it was asked for");
        Ok(queue)
    }

    /// A queue after Connect; `cntlid` is FFFFh for an Admin Queue.
    pub fn connect(target: SocketAddr, config: Config, qid: u16, cntlid: u16) -> io::Result<Self> {
        Self::connect_within(PATIENCE, target, config, qid, cntlid)
    }

    fn connect_within(
        patience: Duration,
        target: SocketAddr,
        config: Config,
        qid: u16,
        cntlid: u16,
    ) -> io::Result<Self> {
        let mut queue = Self::initialize_within(patience, target, config)?;
        let cid = queue.host.connect(qid, cntlid);
        let done = queue.wait(cid)?;
        match done.status {
            0 => Ok(queue),
            status => Err(io::Error::other(format!("Connect: status {status:#x}"))),
        }
    }

    /// An enabled controller's Admin Queue, and its I/O queue 1.
    pub fn controller(target: SocketAddr, config: Config) -> io::Result<(Self, Self)> {
        Self::controller_within(PATIENCE, target, config)
    }

    /// As [`Queue::controller`], of a target that has so long for each answer, from the first on.
    pub fn controller_within(
        patience: Duration,
        target: SocketAddr,
        config: Config,
    ) -> io::Result<(Self, Self)> {
        let entries = 32;
        let mut admin = Self::connect_within(
            patience,
            target,
            Config {
                entries,
                ..config.clone()
            },
            0,
            0xffff,
        )?;
        assert_eq!(admin.property_set(property::CC, CC_ENABLED)?, 0, "CC.EN");
        // It may wait until nothing is under way of what the host did before (base 2.0, 3.1.3.6).
        let begun = Instant::now();
        while admin.property_get(property::CSTS)?.1 & 1 == 0 {
            if begun.elapsed() > patience {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "CSTS.RDY stays 0"));
            }
            thread::sleep(LOOK);
        }
        let io = Self::connect_within(patience, target, config, 1, admin.cntlid())?;
        Ok((admin, io))
    }

    /// The controller's ID.
    #[track_caller]
    pub fn cntlid(&self) -> u16 {
        self.host.cntlid().expect("a queue that is connected")
    }

    /// Sends a command and waits for its end.
    pub fn command(&mut self, command: Command) -> io::Result<Completion> {
        let cid = self.host.command(command);
        self.wait(cid)
    }

    /// As [`Queue::command`], for those of which only the status is of interest.
    pub fn status_of(&mut self, command: Command) -> io::Result<Status> {
        Ok(self.command(command)?.status)
    }

    /// Sets a property of 4 bytes.
    pub fn property_set(&mut self, offset: u32, value: u32) -> io::Result<Status> {
        self.status_of(Command::property_set(offset, value))
    }

    /// Gets a property of 4 bytes.
    pub fn property_get(&mut self, offset: u32) -> io::Result<(Status, u64)> {
        let done = self.command(Command::property_get(offset, false))?;
        Ok((done.status, done.result))
    }

    /// Identify, 4,096 bytes.
    pub fn identify(&mut self, cns: u8, nsid: u32) -> io::Result<(Status, Vec<u8>)> {
        let done = self.command(Command::identify(cns, nsid))?;
        Ok((done.status, done.data))
    }

    /// Writes whole blocks of namespace 1; `in_capsule`, or after an R2T.
    pub fn write(
        &mut self,
        lba: u64,
        block_size: usize,
        data: &[u8],
        in_capsule: bool,
    ) -> io::Result<Status> {
        self.status_of(write(lba, block_size, data, in_capsule))
    }

    /// As [`Queue::write`], with Force Unit Access.
    pub fn write_fua(
        &mut self,
        lba: u64,
        block_size: usize,
        data: &[u8],
        in_capsule: bool,
    ) -> io::Result<Status> {
        self.status_of(write(lba, block_size, data, in_capsule).fua())
    }

    /// Reads whole blocks of namespace 1, `len` bytes.
    pub fn read(
        &mut self,
        lba: u64,
        block_size: usize,
        len: usize,
    ) -> io::Result<(Status, Vec<u8>)> {
        let blocks = (len / block_size) as u32;
        let done = self.command(Command::read(1, lba, blocks, len))?;
        Ok((done.status, done.data))
    }

    /// Flushes namespace 1.
    pub fn flush(&mut self) -> io::Result<Status> {
        self.status_of(Command::flush(1))
    }

    /// Writes zeros to blocks of namespace 1.
    pub fn write_zeroes(&mut self, lba: u64, blocks: usize) -> io::Result<Status> {
        self.status_of(Command::write_zeroes(1, lba, blocks as u32))
    }

    /// Sends what the host has to send.
    pub fn flush_out(&mut self) -> io::Result<()> {
        while !self.host.outgoing().is_empty() {
            let n = self.stream.write(self.host.outgoing())?;
            self.host.consume(n);
        }
        Ok(())
    }

    /// Sends bytes as they are, malformed ones too.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.flush_out()?;
        self.stream.write_all(bytes)
    }

    /// The bytes of an H2CData.
    pub fn h2c_data(&self, cid: u16, ttag: u16, offset: u32, data: &[u8], last: bool) -> Vec<u8> {
        let mut pdu = Vec::new();
        let format = self.host.format();
        format.h2c_data(&mut pdu, cid, ttag, offset, data, last);
        pdu
    }

    /// The next PDU, whatever it is: nothing is served from here on but what the caller serves.
    pub fn receive(&mut self) -> io::Result<Pdu> {
        self.host.conduct.manual = true;
        let pdu = self.until(Host::next_pdu);
        self.host.conduct.manual = false;
        pdu
    }

    /// Waits for the end of a command that the host was given.
    pub fn wait(&mut self, cid: u16) -> io::Result<Completion> {
        let done = self.until(|host| {
            let term = host
                .pdus()
                .iter()
                .position(|pdu| matches!(pdu, Pdu::Term { .. }));
            match term.and_then(|at| host.pdus().remove(at)) {
                Some(term) => Some(Err(io::Error::other(format!("{term:?}")))),
                None => host.next_completion().map(Ok),
            }
        })??;
        assert_eq!(done.cid, cid, "the command's own completion");
        Ok(done)
    }

    /// Sends and receives until `take` gives something.
    pub fn until<T>(&mut self, mut take: impl FnMut(&mut Host) -> Option<T>) -> io::Result<T> {
        let mut bytes = [0; 1 << 16];
        loop {
            if let Some(result) = take(&mut self.host) {
                return Ok(result);
            }
            self.flush_out()?;
            let n = self.stream.read(&mut bytes)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Err(violation) = self.host.receive(&bytes[..n]) {
                panic!("{violation}");
            }
        }
    }

    /// How long to wait for what the target says, and for its room for what is sent.
    pub fn set_patience(&self, patience: Duration) {
        let set = self.stream.set_read_timeout(Some(patience));
        set.expect("a time that is not zero");
        let set = self.stream.set_write_timeout(Some(patience));
        set.expect("a time that is not zero");
    }

    /// Ends the TCP connection, whatever is under way.
    pub fn shutdown(&self, how: Shutdown) {
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

/// A write of whole blocks of namespace 1.
fn write(lba: u64, block_size: usize, data: &[u8], in_capsule: bool) -> Command {
    let blocks = (data.len() / block_size) as u32;
    let payload = match in_capsule {
        true => Payload::Capsule(data.to_vec()),
        false => Payload::Asked(data.to_vec()),
    };
    Command::write(1, lba, blocks, payload)
}
