//! What commands take, as their host sees it.

use std::time::{Duration, Instant};

/// Time since the beginning, without that in which this thread was given no core, by the kernel or by the machine
/// below it: what else there is to do is not to be measured. The thread never sleeps, so what it lacks is what its
/// CPU time is behind.
struct Clock {
    begun: Instant,
    cpu_begun: Duration,
    last: Duration,
    lost: Duration,
}

impl Clock {
    /// What takes longer between two looks is looked into.
    const GAP: Duration = Duration::from_micros(100);

    fn new() -> Self {
        Self {
            begun: Instant::now(),
            cpu_begun: cpu_time(),
            last: Duration::ZERO,
            lost: Duration::ZERO,
        }
    }

    fn now(&mut self) -> Duration {
        let now = self.begun.elapsed();
        if now - self.last > Self::GAP {
            let ran = cpu_time() - self.cpu_begun;
            self.lost = self.lost.max(now.saturating_sub(ran));
        }
        self.last = now;
        now - self.lost
    }
}

/// How long this thread has run.
#[allow(unsafe_code)]
fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: room for what is written.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(code, 0, "every Linux has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The commands under way, by their identifiers, and what those took that ended.
pub struct Latencies {
    clock: Clock,
    issued: Box<[Duration]>,
    free: Vec<u16>,
    /// Of a response whose identifier came in two pieces.
    low: u8,
    /// Nanoseconds that commands took which have ended.
    pub ended: Vec<u32>,
}

impl Latencies {
    /// Of at most `entries` commands at a time.
    pub fn new(entries: u16) -> Self {
        Self {
            clock: Clock::new(),
            issued: vec![Duration::ZERO; usize::from(entries)].into(),
            free: (0..entries).collect(),
            low: 0,
            ended: Vec::with_capacity(1 << 17),
        }
    }

    /// The identifier of a command that is sent now.
    pub fn issue(&mut self) -> u16 {
        let cid = self.free.pop().expect("depth is at most a queue's entries");
        self.issued[usize::from(cid)] = self.clock.now();
        cid
    }

    /// Takes responses of `whole` bytes from a piece of their stream that lies `at` bytes behind the
    /// beginning of one. The identifier is the seventh word of each (NVMe/TCP 3.6.2.11, NVMe base 3.3.3.2).
    pub fn take(&mut self, piece: &[u8], at: u64, whole: u64) {
        const CID: u64 = 8 + 12;
        let now = self.clock.now();
        for (place, &byte) in (at..).zip(piece) {
            match place % whole {
                CID => self.low = byte,
                place if place == CID + 1 => {
                    let cid = u16::from_le_bytes([self.low, byte]);
                    let took = now - self.issued[usize::from(cid)];
                    self.ended.push(took.as_nanos() as u32);
                    self.free.push(cid);
                }
                _ => {}
            }
        }
    }

    /// How long the machine had other work so far.
    pub fn lost(&self) -> Duration {
        self.clock.lost
    }
}
