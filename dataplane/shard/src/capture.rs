//! A capture for operators: the first bytes of every frame of a port, both
//! ways, as its shards see them.
//!
//! This copies, while somebody looks for a fault. What it copies is on its way
//! to a file and not to a drive or a host, so it is not in the ledger of copied
//! bytes; the capture tells itself how many bytes it took.
//!
//! Each shard has a ring of words of its own (`sync::slots`), laid out
//! before the capture starts. It puts a frame's bytes there and publishes the
//! whole; whoever writes the file takes it out. A shard that finds no room
//! counts the frame as dropped and goes on: it waits for nobody.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use net::{pcap_header, pcap_record};
use sync::slots::{Reader, slots};

use crate::capture_desk::{Copier, Offer, Start};
use crate::handle::Handle;

/// Words of a shard's ring: 16 MiB, many times what is written between two looks.
const RING_WORDS: usize = 2 << 20;
/// How often the rings are looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How much the clocks by which shards and this thread count may differ.
const CLOCKS: Duration = Duration::from_millis(1);
/// Bytes that wait for that at most; then frames are written as they are.
const PENDING_MAX: usize = 64 << 20;
/// How long shards have to give up their rings at the end.
const RELEASE: Duration = Duration::from_secs(2);

/// A frame on its way to the file.
struct Frame {
    at_ns: u64,
    len: usize,
    bytes: Vec<u8>,
}

/// Why there is no capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Shards do not poll yet.
    #[error("the program is not ready yet")]
    NotReady,
    /// Nothing is called so.
    #[error("there is no port `{port}`; there are `{ports}`")]
    NoSuchPort {
        /// What was asked for.
        port: String,
        /// What there is.
        ports: String,
    },
    /// One at a time.
    #[error("another capture runs")]
    Busy,
}

impl Handle {
    /// Starts to copy the first `snap` bytes of every frame of a port, received or
    /// sent, for [`Capture::write`].
    ///
    /// # Errors
    /// There is no such port, or a capture runs already.
    pub fn capture(&self, port: &str, snap: usize) -> Result<Capture, CaptureError> {
        if !self.is_ready() {
            return Err(CaptureError::NotReady);
        }
        let (ports, shards) = self.ports_and_shards();
        Capture::start(self, port, &ports, shards, snap)
    }
}

/// A capture that runs, until it is dropped.
pub struct Capture {
    handle: Handle,
    rings: Vec<Reader<u64>>,
    start: Start,
    snap: usize,
    pending: Vec<Frame>,
    /// A moment, and which round each shard was in: when all are in a later one, what they took before is in their rings. Until then a
    /// frame of a shard whose core stands still may come before those of the others.
    moment: Option<(u64, Vec<u64>)>,
    /// What was taken before is in the rings.
    settled: u64,
    /// A frame as the file has it.
    record: Vec<u8>,
    taken: Captured,
}

/// What a capture took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// Frames in the file.
    pub frames: u64,
    /// Bytes of frames in the file: what was copied for it.
    pub bytes: u64,
    /// Frames that are missing because the file was written too slowly.
    pub dropped: u64,
}

/// When a capture ends by itself.
#[derive(Clone, Copy, Debug)]
pub struct CaptureLimits {
    /// After so long.
    pub time: Duration,
    /// With so many frames in the file.
    pub frames: u64,
}

impl Capture {
    /// Has every shard copy the first `snap` bytes of the frames of its `port`.
    fn start(
        handle: &Handle,
        port: &str,
        ports: &[String],
        shards: usize,
        snap: usize,
    ) -> Result<Self, CaptureError> {
        let port = (ports.iter().position(|name| name == port)).ok_or_else(|| {
            let (port, ports) = (port.to_owned(), ports.join("`, `"));
            CaptureError::NoSuchPort { port, ports }
        })?;
        if !handle.captures().begin() {
            return Err(CaptureError::Busy);
        }
        let (capture, copiers) = Self::new(handle, shards, snap, RING_WORDS);
        handle.captures().put(Offer { port, copiers });
        Ok(capture)
    }

    fn new(
        handle: &Handle,
        shards: usize,
        snap: usize,
        ring_words: usize,
    ) -> (Self, Vec<Option<Box<Copier>>>) {
        let (writers, rings): (Vec<_>, _) = (0..shards).map(|_| slots(ring_words)).unzip();
        let start = Start::now();
        let copier = |ring| {
            Some(Box::new(Copier {
                ring,
                start,
                epoch_ns: 0,
                scratch: Vec::with_capacity(snap),
                snap,
            }))
        };
        let copiers = writers.into_iter().map(copier).collect();
        let capture = Self {
            handle: handle.clone(),
            rings,
            start,
            snap,
            pending: Vec::new(),
            moment: None,
            settled: 0,
            record: Vec::new(),
            taken: Captured::default(),
        };
        (capture, copiers)
    }

    /// Writes the file, once, until a limit is reached, `gone` is true or the engine is asked to stop.
    /// The header and then each frame go to `file` in one piece, so that it can tell them apart.
    ///
    /// # Errors
    /// The file cannot be written. It has been given everything before that.
    pub fn write(
        &mut self,
        mut file: impl Write,
        limits: CaptureLimits,
        gone: impl Fn() -> bool,
    ) -> io::Result<Captured> {
        file.write_all(&pcap_header(self.snap))?;
        while self.taken.frames < limits.frames
            && self.start.at.elapsed() < limits.time
            && !self.handle.is_stopping()
            && !gone()
        {
            self.settle();
            let mut settled = self.settled;
            self.collect();
            let pending = self.pending.iter().map(|frame| frame.bytes.len());
            if pending.sum::<usize>() > PENDING_MAX {
                settled = u64::MAX;
            }
            self.put(&mut file, settled, limits.frames)?;
            file.flush()?;
            thread::sleep(LOOK);
        }
        self.release();
        self.collect();
        self.put(&mut file, u64::MAX, limits.frames)?;
        file.flush()?;
        self.taken.dropped = self.rings.iter().map(Reader::missed).sum();
        Ok(self.taken)
    }

    /// Asks shards to copy no more, and waits until they do not.
    fn release(&self) {
        self.handle.captures().put(Offer::default());
        let deadline = Instant::now() + RELEASE;
        while !self.rings.iter().all(Reader::is_closed) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Looks how far shards are; the rings are to be looked at afterwards.
    fn settle(&mut self) {
        let rounds = self.handle.rounds();
        if let Some((at, before)) = &self.moment {
            if !rounds.iter().zip(before).all(|(now, then)| now > then) {
                return;
            }
            self.settled = at.saturating_sub(CLOCKS.as_nanos() as u64);
        }
        self.moment = Some((self.start.unix_ns(), rounds));
    }

    /// Takes everything out of the rings.
    fn collect(&mut self) {
        for ring in &mut self.rings {
            // What is there now: a shard may write as fast as it is read.
            let mut left = ring.look();
            while left > 0 {
                let mut next = || {
                    left -= 1;
                    ring.take().expect("a frame is published whole")
                };
                let (at_ns, lengths) = (next(), next());
                let captured = (lengths >> 32) as usize;
                let mut bytes = Vec::with_capacity(captured.next_multiple_of(8));
                while bytes.len() < captured {
                    bytes.extend_from_slice(&next().to_le_bytes());
                }
                bytes.truncate(captured);
                self.pending.push(Frame {
                    at_ns,
                    len: lengths as u32 as usize,
                    bytes,
                });
                ring.release();
            }
        }
        // What a shard took in one poll has one time, and stays in its order.
        self.pending.sort_by_key(|frame| frame.at_ns);
    }

    /// Writes frames in the order of their time, those before `settled`, until there are `most`.
    fn put(&mut self, file: &mut impl Write, settled: u64, most: u64) -> io::Result<()> {
        let ready = self.pending.partition_point(|frame| frame.at_ns < settled);
        let room = (most - self.taken.frames).min(ready as u64) as usize;
        for frame in self.pending.drain(..ready).take(room) {
            let captured = frame.bytes.len();
            self.record.clear();
            (self.record).extend_from_slice(&pcap_record(frame.at_ns, captured, frame.len));
            self.record.extend_from_slice(&frame.bytes);
            file.write_all(&self.record)?;
            self.taken.frames += 1;
            self.taken.bytes += captured as u64;
        }
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.handle.captures().put(Offer::default());
        self.handle.captures().end();
    }
}

#[cfg(test)]
mod tests {
    use net::{Direction, Tap};

    use super::*;

    const LIMITS: CaptureLimits = CaptureLimits {
        time: Duration::ZERO,
        frames: u64::MAX,
    };

    /// A capture of so many shards, and their ends; their time begins with 1970.
    fn capture(shards: usize, snap: usize, words: usize) -> (Capture, Vec<Copier>) {
        let (capture, copiers) = Capture::new(&Handle::new(), shards, snap, words);
        (capture, copiers.into_iter().flatten().map(|c| *c).collect())
    }

    fn show(copier: &mut Copier, at: u64, parts: &[&'static [u8]]) {
        let mut rest = parts[1..].iter().copied();
        copier.frame(net::Instant(at), Direction::Sent, parts[0], &mut rest);
    }

    /// Time, length and bytes of every record.
    fn records(file: &[u8]) -> Vec<(u64, u32, Vec<u8>)> {
        assert_eq!(file[..4], [0x4d, 0x3c, 0xb2, 0xa1]);
        let mut rest = &file[24..];
        let mut records = Vec::new();
        while !rest.is_empty() {
            let word = |i: usize| u32::from_le_bytes(rest[4 * i..][..4].try_into().unwrap());
            let at = u64::from(word(0)) * 1_000_000_000 + u64::from(word(1));
            let end = 16 + word(2) as usize;
            records.push((at, word(3), rest[16..end].to_vec()));
            rest = &rest[end..];
        }
        records
    }

    #[test]
    fn k06_a_capture_has_the_frames_of_all_shards_by_time() {
        let (mut capture, mut shards) = capture(2, 10, 1024);
        show(&mut shards[1], 3_000_000_001, &[&[1; 9], &[2; 9]]);
        show(&mut shards[0], 5, &[&[3; 4]]);
        show(&mut shards[0], 4_000_000_000, &[&[4; 10]]);
        show(&mut shards[1], 4_000_000_000, &[&[5; 8]]);
        drop(shards);
        let mut file = Vec::new();
        let taken = capture.write(&mut file, LIMITS, || false).unwrap();
        let records = records(&file);
        assert_eq!(records[0], (5, 4, vec![3; 4]));
        let cut = [&[1; 9][..], &[2]].concat();
        assert_eq!(records[1], (3_000_000_001, 18, cut));
        assert_eq!(records[2], (4_000_000_000, 10, vec![4; 10]));
        assert_eq!(records[3], (4_000_000_000, 8, vec![5; 8]));
        assert_eq!(records.len(), 4);
        let (frames, bytes, dropped) = (4, 32, 0);
        let expected = Captured {
            frames,
            bytes,
            dropped,
        };
        assert_eq!(taken, expected);
    }

    #[test]
    fn k06_a_shard_never_waits_for_the_file() {
        // Room for two frames of four words, and not a word more.
        let (mut capture, mut shards) = capture(1, 16, 8);
        for at in 0..5 {
            show(&mut shards[0], at, &[&[7; 99]]);
        }
        capture.collect();
        show(&mut shards[0], 5, &[&[8; 1]]);
        show(&mut shards[0], 6, &[&[9; 99]]);
        // Seven words are in use: the next one has no room again.
        show(&mut shards[0], 7, &[&[9; 99]]);
        assert_eq!(shards[0].scratch.capacity(), 16);
        drop(shards);
        let mut file = Vec::new();
        let taken = capture.write(&mut file, LIMITS, || false).unwrap();
        let times: Vec<u64> = records(&file).iter().map(|record| record.0).collect();
        assert_eq!(times, [0, 1, 5, 6]);
        assert_eq!((taken.frames, taken.dropped), (4, 4));
    }

    #[test]
    fn k06_a_capture_ends_with_the_frames_it_was_asked_for() {
        let (mut capture, mut shards) = capture(1, 64, 1024);
        (0..9).for_each(|at| show(&mut shards[0], at, &[&[1; 60]]));
        drop(shards);
        let mut file = Vec::new();
        let limits = CaptureLimits {
            time: Duration::from_secs(60),
            frames: 5,
        };
        let taken = capture.write(&mut file, limits, || false).unwrap();
        assert_eq!((records(&file).len(), taken.frames), (5, 5));
    }

    #[test]
    fn k06_a_capture_ends_with_its_client_or_the_engine() {
        let forever = CaptureLimits {
            time: Duration::from_secs(60),
            frames: u64::MAX,
        };
        let (mut abandoned, _) = capture(1, 64, 1024);
        let taken = abandoned.write(Vec::new(), forever, || true).unwrap();
        assert_eq!(taken.frames, 0);
        let (mut stopped, _) = capture(1, 64, 1024);
        stopped.handle.stop();
        let taken = stopped.write(Vec::new(), forever, || false).unwrap();
        assert_eq!(taken.frames, 0);
    }

    #[test]
    fn k06_one_capture_at_a_time_of_a_port_there_is() {
        let handle = Handle::new();
        let ports = ["left".to_owned(), "right".to_owned()];
        let start = |port| Capture::start(&handle, port, &ports, 2, 64);
        let missing = start("port0").err().unwrap().to_string();
        assert_eq!(
            missing,
            "there is no port `port0`; there are `left`, `right`"
        );
        let begun = handle.captures().change();
        let first = start("right").ok().unwrap();
        assert!(matches!(start("left"), Err(CaptureError::Busy)));
        assert_ne!(handle.captures().change(), begun);
        assert_eq!(handle.captures().take(1).unwrap().0, 1);
        assert!(handle.captures().take(1).is_none());
        drop(first);
        assert!(handle.captures().take(0).is_none());
        assert!(!handle.is_capturing());
        assert!(start("left").is_ok());
    }
}
