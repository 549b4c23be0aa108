//! A connection that keeps several commands under way.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use testkit::blocking::Queue;
use testkit::{Cid, Command, Completion, Config, Host, Payload};

/// What goes in a command's capsule; what is longer is asked for.
const CAPSULE: usize = 8192;
/// What a node that runs takes for a connection, at most.
const MOMENT: Duration = Duration::from_millis(300);

/// What a lane is to do.
pub trait Work<T> {
    /// The next command, and what it stands for.
    fn next(&mut self) -> Option<(T, Command)>;

    /// One has ended, so long after it was given.
    fn ended(&mut self, what: T, done: Completion, took: Duration) -> io::Result<()>;
}

/// An I/O queue with commands, each of which stands for a `T`.
pub struct Lane<T> {
    target: SocketAddr,
    /// The controller lasts as long as this.
    _admin: Queue,
    queue: Queue,
    depth: usize,
    under_way: BTreeMap<Cid, (T, Instant)>,
}

impl<T> Lane<T> {
    /// To a subsystem of a node.
    pub fn connect(address: &str, nqn: &str, depth: usize) -> io::Result<Self> {
        let target = format!("{address}:4420").parse().expect("an address");
        // A program that was killed refuses nothing.
        takes_connections(target)?;
        let entries = depth as u16 + 1;
        let config = Config {
            entries,
            ..Config::new(nqn)
        };
        let (admin, queue) = Queue::controller(target, config)?;
        Ok(Self {
            target,
            _admin: admin,
            queue,
            depth,
            under_way: BTreeMap::new(),
        })
    }

    /// [`Lane::run`] fails when nothing comes for so long. It may be called again then.
    pub fn set_patience(&self, patience: Duration) {
        self.queue.set_patience(patience);
    }

    /// Whether the node is there.
    pub fn is_there(&self) -> bool {
        takes_connections(self.target).is_ok()
    }

    /// Sends what there is to do, so many commands at a time, until that gives nothing and all have ended.
    pub fn run(&mut self, work: &mut impl Work<T>) -> io::Result<()> {
        loop {
            while self.under_way.len() < self.depth
                && let Some((what, command)) = work.next()
            {
                let cid = self.queue.host.command(command);
                self.under_way.insert(cid, (what, Instant::now()));
            }
            if self.under_way.is_empty() {
                return Ok(());
            }
            let done = self.queue.until(Host::next_completion)?;
            let sent = self.under_way.remove(&done.cid);
            let (what, sent) = sent.expect("a command that was sent");
            work.ended(what, done, sent.elapsed())?;
        }
    }

    /// The commands of which nobody knows what became.
    pub fn into_lost(self) -> impl Iterator<Item = T> {
        self.under_way.into_values().map(|(what, _)| what)
    }
}

fn takes_connections(target: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&target, MOMENT).map(drop)
}

/// A write to the first namespace.
pub fn write(lba: u64, blocks: usize, data: Vec<u8>) -> Command {
    let payload = match data.len() <= CAPSULE {
        true => Payload::Capsule(data),
        false => Payload::Asked(data),
    };
    Command::write(1, lba, blocks as u32, payload)
}

/// An error of a command that has ended.
pub fn expect_success(done: &Completion) -> io::Result<()> {
    match done.status {
        0 => Ok(()),
        status => Err(io::Error::other(format!(
            "a command has status {status:#x}"
        ))),
    }
}
