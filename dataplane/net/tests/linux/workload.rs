//! What the two ends of a link do with each other, whoever they are.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::place::Way;

/// Bytes of a request and of its response.
pub const REQUEST: usize = 128;
pub const RESPONSE: usize = 1024;
/// Nothing may take longer.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// So many bytes on each connection from end 1 to end 0.
    BulkIn(u64),
    /// So many bytes on each connection from end 0 to end 1.
    BulkOut(u64),
    /// Requests and responses for a time, one after the other on each connection.
    Requests(Duration),
}

impl Workload {
    pub fn name(self) -> &'static str {
        match self {
            Workload::BulkIn(_) => "bulk, Linux sends",
            Workload::BulkOut(_) => "bulk, we send",
            Workload::Requests(_) => "request/response",
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Workload::Requests(_) => "/s",
            _ => "Mbit/s",
        }
    }
}

/// What one end of one connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Sends so many bytes.
    Source(u64),
    /// Reads so many bytes.
    Sink(u64),
    /// Asks for so long.
    Client(Duration),
    /// Answers.
    Server,
}

/// A workload between two ends.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub workload: Workload,
    /// At once.
    pub connections: usize,
    /// Who opens the connections.
    pub dialer: usize,
    pub ipv6: bool,
    pub way: Way,
    pub port: u16,
}

impl Job {
    pub fn part(&self, end: usize) -> Part {
        match (self.workload, end) {
            (Workload::BulkIn(bytes), 0) | (Workload::BulkOut(bytes), 1) => Part::Sink(bytes),
            (Workload::BulkIn(bytes), _) | (Workload::BulkOut(bytes), _) => Part::Source(bytes),
            (Workload::Requests(time), end) if end == self.dialer => Part::Client(time),
            (Workload::Requests(_), _) => Part::Server,
        }
    }

    /// Where the end that does not dial listens.
    pub fn listener(&self) -> SocketAddr {
        let address = self.way.address(1 - self.dialer, self.ipv6);
        SocketAddr::new(address, self.port)
    }

    pub fn describe(&self) -> String {
        let version = if self.ipv6 { "IPv6" } else { "IPv4" };
        format!(
            "{}, {version}, end {} dials",
            self.workload.name(),
            self.dialer
        )
    }
}

/// The stream that an end sends.
pub fn stream(end: usize) -> u64 {
    end as u64 + 1
}

/// What an end achieved.
#[derive(Clone, Debug)]
pub struct Done {
    pub started: Instant,
    pub ends: Vec<End>,
}

/// The end of one connection.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Bytes that the sink read, requests that were answered in time.
    pub amount: u64,
    pub at: Instant,
}

impl Job {
    /// What the two ends achieved together, in the workload's unit: the sum of
    /// what each connection did per second.
    pub fn rate(&self, ends: &[Done; 2]) -> f64 {
        let started = ends[self.dialer].started;
        match self.workload {
            Workload::Requests(time) => {
                let answered: u64 = ends[self.dialer].ends.iter().map(|end| end.amount).sum();
                answered as f64 / time.as_secs_f64()
            }
            bulk => {
                let sink = usize::from(matches!(bulk, Workload::BulkOut(_)));
                let rate = |end: &End| end.amount as f64 / (end.at - started).as_secs_f64();
                ends[sink].ends.iter().map(rate).sum::<f64>() * 8.0 / 1e6
            }
        }
    }
}

/// What happens while a source of ours has sent half of its bytes and holds the other back.
#[derive(Clone, Default)]
pub struct Halfway {
    /// Opened by the source.
    pub reached: Gate,
    /// Opened when the rest may go.
    pub passed: Gate,
}

/// Opens when the end that listens does.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().expect("nobody panics with it") = true;
        self.0.1.notify_all();
    }

    pub fn is_open(&self) -> bool {
        *self.0.0.lock().expect("nobody panics with it")
    }

    pub fn pass(&self) {
        let opened = self.0.0.lock().expect("nobody panics with it");
        let wait = self.0.1.wait_timeout_while(opened, PATIENCE, |open| !*open);
        drop(wait);
    }
}
