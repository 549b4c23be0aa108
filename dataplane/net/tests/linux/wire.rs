//! A wire that treats frames as netem does, for kernels that have no netem: it
//! joins two TAP devices and understands what `tc qdisc add ... netem` is told.
//!
//! Each direction is one queue as in `net/sched/sch_netem.c`: loss first, then
//! duplication, corruption, the limit, and then the time at which the frame
//! leaves: behind the one before it if there is a rate, or at once, past all
//! others, if it is one of those that are reordered.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::Random;

use super::sys;

/// Bytes of the largest frame.
const FRAME_MAX: usize = 9216;

/// What netem is told. Chances are in millionths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Netem {
    pub delay_ns: u64,
    pub jitter_ns: u64,
    pub loss: u64,
    pub duplicate: u64,
    pub corrupt: u64,
    pub reorder: u64,
    /// Bits per second; 0: as fast as can be.
    pub rate: u64,
    /// Frames that wait at most, those under way included.
    pub limit: usize,
    /// Frames longer than this vanish; netem has no such thing.
    pub swallow: usize,
    /// The end is at an access port of a switch: what it sends gets this VLAN's tag,
    /// and what it is sent must have it (IEEE 802.1Q). 0: it is not.
    pub access: u16,
}

impl Netem {
    /// Understands a part of netem's language: `delay TIME [JITTER]`, `loss P%`,
    /// `duplicate P%`, `corrupt P%`, `reorder P%`, `rate BITS`, `limit FRAMES`; and
    /// `swallow BYTES`, `access VLAN`, which are ours, and `-`, which is nothing.
    pub fn parse(words: &str) -> Result<Self, String> {
        let mut netem = Self {
            limit: 1000,
            swallow: usize::MAX,
            ..Self::default()
        };
        let mut words = words.split_whitespace().peekable();
        while let Some(word) = words.next() {
            if word == "-" {
                continue;
            }
            let value = words.next().ok_or(format!("netem {word}: of what?"))?;
            let wrong = || format!("netem {word} {value}: not understood");
            match word {
                "delay" => {
                    netem.delay_ns = time(value).ok_or_else(wrong)?;
                    if let Some(jitter) = words.peek().and_then(|word| time(word)) {
                        netem.jitter_ns = jitter;
                        words.next();
                    }
                }
                "loss" => netem.loss = chance(value).ok_or_else(wrong)?,
                "duplicate" => netem.duplicate = chance(value).ok_or_else(wrong)?,
                "corrupt" => netem.corrupt = chance(value).ok_or_else(wrong)?,
                "reorder" => netem.reorder = chance(value).ok_or_else(wrong)?,
                "rate" => netem.rate = rate(value).ok_or_else(wrong)?,
                "limit" => netem.limit = value.parse().map_err(|_| wrong())?,
                "access" => netem.access = value.parse().map_err(|_| wrong())?,
                "swallow" => netem.swallow = value.parse().map_err(|_| wrong())?,
                _ => return Err(format!("netem {word}: this wire cannot do that")),
            }
        }
        Ok(netem)
    }
}

fn time(text: &str) -> Option<u64> {
    let (number, unit) = match text {
        text if text.ends_with("ms") => (&text[..text.len() - 2], 1_000_000.0),
        text if text.ends_with("us") => (&text[..text.len() - 2], 1_000.0),
        text if text.ends_with('s') => (&text[..text.len() - 1], 1e9),
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    Some((number * unit) as u64)
}

fn chance(text: &str) -> Option<u64> {
    let percent: f64 = text.strip_suffix('%')?.parse().ok()?;
    (0.0..=100.0)
        .contains(&percent)
        .then_some((percent * 10_000.0) as u64)
}

fn rate(text: &str) -> Option<u64> {
    let (number, unit) = match text {
        text if text.ends_with("gbit") => (&text[..text.len() - 4], 1_000_000_000),
        text if text.ends_with("mbit") => (&text[..text.len() - 4], 1_000_000),
        text if text.ends_with("kbit") => (&text[..text.len() - 4], 1_000),
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    Some(number * unit)
}

const MILLION: u64 = 1_000_000;

/// What a direction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub carried: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub corrupted: u64,
    pub reordered: u64,
    /// Beyond the limit.
    pub overflowed: u64,
    pub swallowed: u64,
}

/// One direction: frames in, and out again when they are due. Times in nanoseconds.
pub struct Queue {
    how: Netem,
    random: Random,
    /// By the time to leave, then the order of arrival.
    waiting: BinaryHeap<Reverse<(u64, u64, Vec<u8>)>>,
    arrived: u64,
    /// When the last one leaves of those in order.
    last: u64,
    spare: Vec<Vec<u8>>,
    pub tally: Tally,
}

impl Queue {
    pub fn new(how: Netem, seed: u64) -> Self {
        Self {
            how,
            random: Random::new(seed),
            waiting: BinaryHeap::new(),
            arrived: 0,
            last: 0,
            spare: Vec::new(),
            tally: Tally::default(),
        }
    }

    pub fn put(&mut self, now: u64, frame: &[u8]) {
        if frame.len() > self.how.swallow {
            self.tally.swallowed += 1;
            return;
        }
        let mut copies = 1;
        if self.random.chance(self.how.duplicate, MILLION) {
            self.tally.duplicated += 1;
            copies += 1;
        }
        if self.random.chance(self.how.loss, MILLION) {
            self.tally.lost += 1;
            copies -= 1;
        }
        for _ in 0..copies {
            self.put_one(now, frame);
        }
    }

    fn put_one(&mut self, now: u64, frame: &[u8]) {
        if self.waiting.len() >= self.how.limit {
            self.tally.overflowed += 1;
            return;
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(frame);
        if self.random.chance(self.how.corrupt, MILLION) {
            let at = self.random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << self.random.below(8);
            self.tally.corrupted += 1;
        }
        let leaves = if self.random.chance(self.how.reorder, MILLION) {
            self.tally.reordered += 1;
            now
        } else {
            let mut leaves = now + self.how.delay_ns;
            if self.how.jitter_ns > 0 {
                leaves += self.random.below(2 * self.how.jitter_ns);
                leaves = leaves.saturating_sub(self.how.jitter_ns);
            }
            let bit_ns = bytes.len() as u64 * 8 * 1_000_000_000;
            if let Some(takes) = bit_ns.checked_div(self.how.rate) {
                leaves = leaves.max(self.last) + takes;
                self.last = leaves;
            }
            leaves
        };
        self.arrived += 1;
        self.waiting.push(Reverse((leaves, self.arrived, bytes)));
    }

    /// When the next frame leaves.
    pub fn next(&self) -> Option<u64> {
        self.waiting.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next frame that is due.
    pub fn take(&mut self, now: u64) -> Option<Vec<u8>> {
        if self.next()? > now {
            return None;
        }
        self.tally.carried += 1;
        self.waiting.pop().map(|Reverse((_, _, frame))| frame)
    }

    /// Gives a frame's memory back.
    pub fn recycle(&mut self, frame: Vec<u8>) {
        self.spare.push(frame);
    }
}

/// Offset of a VLAN tag in a frame.
const TAG_AT: usize = 12;

/// Puts the tag of a VLAN into a frame.
fn tag(frame: &[u8], vlan: u16) -> Vec<u8> {
    let [hi, lo] = vlan.to_be_bytes();
    [&frame[..TAG_AT], &[0x81, 0, hi, lo], &frame[TAG_AT..]].concat()
}

/// The frame without its tag, if it is of the VLAN.
fn untag(frame: &[u8], vlan: u16) -> Option<Vec<u8>> {
    let tagged = frame.get(TAG_AT..TAG_AT + 4)?;
    let theirs = u16::from_be_bytes([tagged[2], tagged[3]]) & 0xfff;
    let fits = tagged[..2] == [0x81, 0] && theirs == vlan;
    fits.then(|| [&frame[..TAG_AT], &frame[TAG_AT + 4..]].concat())
}

/// Carries frames between two TAP devices until told to stop: `how` those of
/// each end are treated; what each direction did.
pub fn carry(
    ends: &mut [File; 2],
    how: [Netem; 2],
    seed: u64,
    stop: &Arc<AtomicBool>,
) -> [Tally; 2] {
    let start = Instant::now();
    let access = [how[0].access, how[1].access];
    let [first, second] = how;
    let mut queues = [
        Queue::new(first, seed),
        Queue::new(second, seed ^ 0x5555_5555),
    ];
    let fds = [ends[0].as_raw_fd(), ends[1].as_raw_fd()];
    sys::be_prompt();
    let mut buffer = vec![0; FRAME_MAX];
    while !stop.load(Ordering::Relaxed) {
        for ((end, queue), vlan) in ends.iter_mut().zip(&mut queues).zip(access) {
            // A bounded burst, so that frames the other way leave in time.
            for _ in 0..32 {
                match end.read(&mut buffer) {
                    Ok(len) => {
                        let now = start.elapsed().as_nanos() as u64;
                        match vlan {
                            0 => queue.put(now, &buffer[..len]),
                            vlan => queue.put(now, &tag(&buffer[..len], vlan)),
                        }
                    }
                    Err(_) => break,
                }
            }
        }
        let now = start.elapsed().as_nanos() as u64;
        for (from, queue) in queues.iter_mut().enumerate() {
            while let Some(mut frame) = queue.take(now) {
                if access[1 - from] != 0 {
                    match untag(&frame, access[1 - from]) {
                        Some(bare) => frame = bare,
                        None => continue,
                    }
                }
                if let Err(error) = ends[1 - from].write(&frame)
                    && error.kind() == ErrorKind::WouldBlock
                {
                    queue.tally.overflowed += 1;
                }
                queue.recycle(frame);
            }
        }
        let next = queues.iter().filter_map(Queue::next).min();
        let now = start.elapsed().as_nanos() as u64;
        let idle = next.map_or(20_000_000, |at| at.saturating_sub(now).min(20_000_000));
        let _ = sys::wait_readable(&fds, Duration::from_nanos(idle));
    }
    queues.map(|queue| queue.tally)
}

/// The wire against what it is told, without any devices.
pub fn check_itself() -> Result<String, String> {
    const FRAMES: u64 = 100_000;
    let mut queue = Queue::new(
        Netem::parse("rate 100mbit delay 2ms loss 1% duplicate 2% corrupt 3% limit 200000")?,
        7,
    );
    for i in 0..FRAMES {
        let mut frame = [0; 1250];
        frame[..8].copy_from_slice(&i.to_be_bytes());
        queue.put(i * 1000, &frame);
    }
    let (mut due, mut count) = (0, 0);
    while let Some(at) = queue.next() {
        // 1,250 bytes are 100 microseconds of 100 Mbit/s.
        if at < due + 100_000 || at < 2_000_000 {
            return Err(format!(
                "frame {count} leaves at {at}, the one before it at {due}"
            ));
        }
        due = at;
        count += 1;
        queue.take(at).ok_or("a frame that is due does not leave")?;
    }
    let tally = queue.tally;
    let near = |seen: u64, of_a_hundred: u64| {
        let wanted = FRAMES * of_a_hundred / 100;
        seen.abs_diff(wanted) < wanted / 5
    };
    if !near(tally.lost, 1) || !near(tally.duplicated, 2) || !near(tally.corrupted, 3) {
        return Err(format!("{tally:?}"));
    }
    let mut queue = Queue::new(Netem::parse("delay 1ms reorder 25% limit 2000")?, 8);
    for i in 0..1000u64 {
        queue.put(i, &i.to_be_bytes());
    }
    let jumped = std::iter::from_fn(|| queue.take(1000)).count() as u64;
    if !(150..350).contains(&jumped) || jumped != queue.tally.reordered {
        return Err(format!("{jumped} frames jump the queue: {:?}", queue.tally));
    }
    Ok(format!("  {tally:?}\n"))
}
