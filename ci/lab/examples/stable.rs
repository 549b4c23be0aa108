//! Hosts that want each write stable before the next: 4 KiB at random places, one at a time on each of so many
//! connections, with `flush` a flush behind each. For targets that promise the same: `ci/bench --stable`.
//!
//! ```text
//! stable ADDRESS:PORT NQN CONNECTIONS SECONDS MIB [flush]
//! ```
//!
//! Prints one line of JSON: writes a second, and how long they took, their flush included.
#![allow(missing_docs)]

use std::io;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use testkit::blocking::Queue;
use testkit::{Config, Random};

const IO: usize = 4096;
const BLOCK: usize = 512;

/// What one connection does.
struct Load {
    target: SocketAddr,
    nqn: String,
    number: u64,
    pages: u64,
    time: Duration,
    is_flushed: bool,
}

impl Load {
    /// Nanoseconds of each write.
    fn run(&self, all: &Barrier) -> io::Result<Vec<u64>> {
        let connected = Queue::controller(self.target, Config::new(&self.nqn));
        all.wait();
        let (_admin, mut queue) = connected?;
        let mut random = Random::new(self.number);
        let data = random.bytes(IO);
        let (begun, mut took) = (Instant::now(), Vec::new());
        while begun.elapsed() < self.time {
            let lba = random.below(self.pages) * (IO / BLOCK) as u64;
            let sent = Instant::now();
            let mut status = queue.write(lba, BLOCK, &data, true)?;
            if self.is_flushed && status == 0 {
                status = queue.flush()?;
            }
            if status != 0 {
                return Err(io::Error::other(format!("status {status:#x}")));
            }
            took.push(sent.elapsed().as_nanos() as u64);
        }
        Ok(took)
    }
}

fn main() -> io::Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let (Some(target), Some(nqn), Some(connections), Some(seconds), Some(mib)) = (
        words.first().and_then(|word| word.parse().ok()),
        words.get(1),
        number(2),
        number(3),
        number(4),
    ) else {
        return Err(io::Error::other(
            "stable ADDRESS:PORT NQN CONNECTIONS SECONDS MIB [flush]",
        ));
    };
    let all = Barrier::new(connections as usize);
    let load = |number| Load {
        target,
        nqn: nqn.clone(),
        number,
        pages: (mib << 20) / IO as u64,
        time: Duration::from_secs(seconds),
        is_flushed: words.get(5).is_some_and(|word| word == "flush"),
    };
    let mut took = thread::scope(|scope| {
        let started: Vec<_> = (0..connections)
            .map(|number| {
                let (load, all) = (load(number), &all);
                scope.spawn(move || load.run(all))
            })
            .collect();
        let mut took = Vec::new();
        for connection in started {
            took.extend(connection.join().expect("a connection panicked")?);
        }
        Ok::<_, io::Error>(took)
    })?;
    took.sort_unstable();
    let at = |share: f64| {
        let place = (took.len().saturating_sub(1) as f64 * share).round() as usize;
        took.get(place).map_or(0.0, |&ns| ns as f64 / 1e3)
    };
    println!(
        "{{\"iops\":{:.1},\"p50_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1},\"max_us\":{:.1}}}",
        took.len() as f64 / seconds as f64,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
    );
    Ok(())
}
