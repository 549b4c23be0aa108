//! Hosts that write stamped blocks, and know which of them were acknowledged.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::blocking::{PATIENCE, Queue};
use testkit::pattern::{Found, Stamp, identify};
use testkit::{Command, Completion, Config as HostConfig, Payload, Random, Status};

use crate::config::NQN;

/// Bytes of a block of the volume.
pub const BLOCK: usize = 4096;
/// Blocks that one writer writes, over and over.
pub const BLOCKS: u64 = 512;

/// How often a writer looks whether the program was killed.
const LOOK: Duration = Duration::from_millis(250);
/// How long a node has for each answer while a writer connects that may go to another one.
const CONNECT: Duration = Duration::from_secs(1);
/// Between two nodes that do not serve.
const PAUSE: Duration = Duration::from_millis(20);

/// What writers have to know that use whichever node serves.
#[derive(Debug, Default)]
pub struct Course {
    /// How often each node was killed: counted before it is, and when it is gone.
    pub kills: [AtomicU64; 2],
    /// Writes that were acknowledged.
    pub acknowledged: AtomicU64,
    /// They are to end.
    pub is_over: AtomicBool,
}

/// A host that writes its own blocks, and what it knows of them.
#[derive(Debug)]
pub struct Writer {
    number: u32,
    nqn: &'static str,
    address: String,
    random: Random,
    /// Of each block the last version that was acknowledged, and the last that was sent.
    blocks: Vec<(u32, u32)>,
}

impl Writer {
    /// Of blocks that no other writer has, at the target with that address.
    pub fn new(number: u32, address: &str) -> Self {
        Self {
            number,
            nqn: NQN,
            address: address.into(),
            random: Random::new(u64::from(number) + 1),
            blocks: vec![(0, 0); BLOCKS as usize],
        }
    }

    /// The same, of which every block has this version.
    #[must_use]
    pub fn having(self, version: u32) -> Self {
        let blocks = vec![(version, version); BLOCKS as usize];
        Self { blocks, ..self }
    }

    /// The same, of another subsystem's namespace 1.
    #[must_use]
    pub fn of(self, nqn: &'static str) -> Self {
        Self { nqn, ..self }
    }

    /// The volume is at another address from now on.
    pub fn goes_to(&mut self, address: &str) {
        self.address = address.into();
    }

    fn first(&self) -> u64 {
        u64::from(self.number) * BLOCKS
    }

    /// An admin and an I/O queue of the target.
    ///
    /// # Errors
    /// The target does not answer.
    pub fn connect(&self) -> io::Result<(Queue, Queue)> {
        self.connect_within(PATIENCE)
    }

    fn connect_within(&self, patience: Duration) -> io::Result<(Queue, Queue)> {
        let target: SocketAddr = format!("{}:4420", self.address)
            .parse()
            .expect("an address");
        Queue::controller_within(patience, target, HostConfig::new(self.nqn))
    }

    /// Writes until the target is gone; how many writes were acknowledged is counted.
    ///
    /// # Errors
    /// A write fails before the target is killed.
    pub fn write(
        &mut self,
        (_admin, mut queue): (Queue, Queue),
        acknowledged: &AtomicU64,
        is_killed: &AtomicBool,
    ) -> io::Result<()> {
        // Nobody resets the connections of a program that was killed: writers look themselves, so often.
        queue.set_patience(LOOK);
        loop {
            match self.write_some(&mut queue, &|| is_killed.load(Ordering::Acquire)) {
                Ok(0) => {}
                Ok(status) => {
                    return Err(io::Error::other(format!("a write has status {status:#x}")));
                }
                Err(_) if is_killed.load(Ordering::Acquire) => return Ok(()),
                Err(error) => return Err(error),
            }
            acknowledged.fetch_add(1, Ordering::Release);
        }
    }

    /// Writes and reads until it is over, at whichever node serves, as a host with several paths does.
    ///
    /// # Errors
    /// A command fails otherwise than for its path, a node that lives does not answer, or what was acknowledged is not read.
    pub fn roam(&mut self, nodes: &[&str; 2], course: &Course) -> io::Result<()> {
        let mut node = self.random.below(nodes.len());
        while !course.is_over.load(Ordering::Acquire) {
            self.goes_to(nodes[node]);
            let kills = course.kills[node].load(Ordering::Acquire);
            let is_gone = || course.kills[node].load(Ordering::Acquire) != kills;
            match self.connect_within(CONNECT) {
                Ok(queues) => self
                    .use_path(queues, course, &is_gone)
                    .map_err(|error| io::Error::other(format!("at {}: {error}", nodes[node])))?,
                Err(_) => thread::sleep(PAUSE),
            }
            node = 1 - node;
        }
        Ok(())
    }

    /// As long as the node serves, and it is not over.
    fn use_path(
        &mut self,
        (_admin, mut queue): (Queue, Queue),
        course: &Course,
        is_gone: &dyn Fn() -> bool,
    ) -> io::Result<()> {
        queue.set_patience(LOOK);
        while !course.is_over.load(Ordering::Acquire) {
            let reads = self.random.one_in(8);
            let done = match reads {
                true => self.read_some(&mut queue, is_gone),
                false => self.write_some(&mut queue, is_gone),
            };
            match done {
                Ok(0) if reads => {}
                Ok(0) => drop(course.acknowledged.fetch_add(1, Ordering::Release)),
                // Path Related Status: another node may serve.
                Ok(status) if status >> 8 & 7 == 3 => {
                    thread::sleep(PAUSE);
                    return Ok(());
                }
                Ok(status) => {
                    let what = if reads { "read" } else { "write" };
                    return Err(io::Error::other(format!("a {what} has status {status:#x}")));
                }
                Err(_) if is_gone() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One write of some of its blocks: its status.
    fn write_some(&mut self, queue: &mut Queue, is_gone: &dyn Fn() -> bool) -> io::Result<Status> {
        let count = *self.random.pick(&[1u64, 1, 1, 2, 4, 16]);
        let at = self.random.below(BLOCKS - count + 1);
        let range = at as usize..(at + count) as usize;
        let mut data = vec![0; count as usize * BLOCK];
        for (i, bytes) in range.clone().zip(data.chunks_mut(BLOCK)) {
            let (_, sent) = &mut self.blocks[i];
            *sent += 1;
            let stamp = Stamp {
                volume: self.number,
                block: i as u64,
                version: *sent,
            };
            stamp.fill(bytes);
        }
        let payload = match count <= 2 && self.random.chance(1, 2) {
            true => Payload::Capsule(data),
            false => Payload::Asked(data),
        };
        let command = Command::write(1, self.first() + at, count as u32, payload);
        let status = ended(queue, command, is_gone)?.status;
        if status == 0 {
            for block in &mut self.blocks[range] {
                block.0 = block.1;
            }
        }
        Ok(status)
    }

    /// One read of some of its blocks, which are what they may be: its status.
    fn read_some(&mut self, queue: &mut Queue, is_gone: &dyn Fn() -> bool) -> io::Result<Status> {
        let count = *self.random.pick(&[1u64, 4, 16]);
        let at = self.random.below(BLOCKS - count + 1);
        let bytes = count as usize * BLOCK;
        let command = Command::read(1, self.first() + at, count as u32, bytes);
        let done = ended(queue, command, is_gone)?;
        if done.status == 0 {
            for (i, bytes) in (at..).zip(done.data.chunks(BLOCK)) {
                self.look_at(i, bytes).map_err(io::Error::other)?;
            }
        }
        Ok(done.status)
    }

    /// Writes this version of every block, one after the other.
    ///
    /// # Errors
    /// As of the connection, or a write fails.
    pub fn write_all(&mut self, version: u32) -> io::Result<()> {
        let (_admin, mut queue) = self.connect()?;
        for block in 0..BLOCKS {
            let mut data = vec![0; BLOCK];
            let stamp = Stamp {
                volume: self.number,
                block,
                version,
            };
            stamp.fill(&mut data);
            let status = queue.write(self.first() + block, BLOCK, &data, false)?;
            if status != 0 {
                let why = format!("a write of block {block} has status {status:#x}");
                return Err(io::Error::other(why));
            }
            self.blocks[block as usize] = (version, version);
        }
        Ok(())
    }

    /// Reads everything: each block is the last acknowledged write, or one that was sent after it.
    ///
    /// # Errors
    /// It is not.
    pub fn verify(&mut self) -> io::Result<()> {
        let (_admin, mut queue) = self.connect()?;
        for at in (0..BLOCKS).step_by(16) {
            let (status, data) = queue.read(self.first() + at, BLOCK, 16 * BLOCK)?;
            if status != 0 {
                return Err(io::Error::other(format!("a read has status {status:#x}")));
            }
            for (i, bytes) in (at..).zip(data.chunks(BLOCK)) {
                self.look_at(i, bytes).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    /// Reads some of its blocks after another, which are what they may be, until that is refused: how many reads were answered, and
    /// the status of the one that was not.
    ///
    /// # Errors
    /// They are not, or the target does not answer.
    pub fn read_until_refused(&mut self) -> io::Result<(u64, Status)> {
        let (_admin, mut queue) = self.connect()?;
        for reads in 0.. {
            match self.read_some(&mut queue, &|| false)? {
                0 => {}
                status => return Ok((reads, status)),
            }
        }
        unreachable!("there are fewer")
    }

    fn look_at(&mut self, block: u64, bytes: &[u8]) -> std::result::Result<(), String> {
        let (acknowledged, sent) = self.blocks[block as usize];
        let number = self.number;
        let wrong = |what: String| {
            Err(format!(
                "block {block} of writer {number} has {what}; version {acknowledged} was acknowledged, {sent} was sent last"
            ))
        };
        let version = match identify(&bytes[..testkit::pattern::LINE]) {
            Found::Zeros if bytes.iter().all(|byte| *byte == 0) => 0,
            Found::Line(stamp, _) => {
                let expected = Stamp {
                    volume: number,
                    block,
                    version: stamp.version,
                };
                if let Err(mismatch) = expected.check(bytes) {
                    return wrong(format!("{mismatch:?}"));
                }
                stamp.version
            }
            found => return wrong(format!("{found:?}")),
        };
        if !(acknowledged..=sent).contains(&version) {
            return wrong(format!("version {version}"));
        }
        // What was read stays.
        self.blocks[block as usize].0 = version;
        Ok(())
    }
}

/// Sends a command and waits for its end, with patience as long as the program lives.
fn ended(
    queue: &mut Queue,
    command: Command,
    is_gone: &dyn Fn() -> bool,
) -> io::Result<Completion> {
    let (begun, cid) = (Instant::now(), queue.host.command(command));
    loop {
        match queue.wait(cid) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) && !is_gone()
                    && begun.elapsed() < PATIENCE => {}
            end => return end,
        }
    }
}
