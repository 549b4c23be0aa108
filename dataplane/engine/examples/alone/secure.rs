//! The hosts' end of TLS: a handshake by OpenSSL, and records, one for each capsule, as Linux's initiator has them. And what
//! the cipher alone takes, over bytes that lie as the engine finds them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::Alone;
use handshake::OpenSsl;
use pages::{Arena, Chunk, ClusterPool, CopyLedger, HeapRegion, PAGE_SIZE};
use tls::testing::Cipher;
use tls::{
    ConfiguredPsk, Derivation, Handshakes, Hash, IdentityVersion, Memory, Next, Opener,
    PLAINTEXT_LEN_MAX, Progress, Sealer, TAG_LEN, TlsPsk,
};

use crate::load::IO;
use crate::options::Operation;
use crate::tcp::{Hosts, MSS};

/// Bytes of a record beside its plaintext: header, content type, tag.
pub const OVERHEAD: usize = 5 + 1 + TAG_LEN;
/// Pages of the hosts: some for each direction of a connection, used and given back within a call.
const PAGES: usize = 256;
/// How long the target has for its part of a handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// The key of host and target.
pub fn psk(hash: Hash) -> Arc<ConfiguredPsk> {
    Arc::new(ConfiguredPsk::new(&vec![7; hash.len()], None).expect("as long as the hash"))
}

/// What the hosts' connections share.
pub struct Secure {
    library: OpenSsl,
    key: TlsPsk,
    pages: ClusterPool,
    ledger: CopyLedger,
}

/// One encrypted connection.
pub struct Channel {
    opener: Opener,
    sealer: Sealer,
    /// Bytes of plaintext that were received.
    pub received: u64,
}

impl Secure {
    /// For hosts of this name, and one subsystem.
    pub fn new(hash: Hash, host: &str, subsystem: &str) -> Self {
        let arena = Arena::new(HeapRegion::new(PAGES + 64));
        Self {
            library: OpenSsl::new().expect("OpenSSL has TLS 1.3"),
            key: (psk(hash))
                .derive(host, subsystem, IdentityVersion::One, Derivation::Rfc8446)
                .expect("names that are short enough"),
            pages: ClusterPool::carve(&arena, PAGES, PAGE_SIZE).expect("room"),
            ledger: CopyLedger::new(),
        }
    }

    fn memory(&self) -> Memory<'_> {
        Memory {
            pages: &self.pages,
            ledger: &self.ledger,
        }
    }

    fn chunks(&self, bytes: &[u8]) -> Vec<Chunk> {
        let chunk = |bytes: &[u8]| {
            let mut page = self.pages.alloc().expect("pages come back within a call");
            page[..bytes.len()].copy_from_slice(bytes);
            Chunk::Slice(page.freeze().slice(0..bytes.len()))
        };
        bytes.chunks(PAGE_SIZE).map(chunk).collect()
    }

    /// The handshake of a connection that is open.
    pub fn channel(&mut self, alone: &mut Alone, hosts: &mut Hosts, connection: usize) -> Channel {
        let mut handshaker = self.library.connect(&self.key);
        let mut step = handshaker.advance(&[]);
        let deadline = Instant::now() + PATIENCE;
        loop {
            hosts.send(alone, connection, &step.send);
            match step.progress {
                Progress::Wants => {}
                Progress::Done(established) => {
                    assert!(
                        established.unread.is_empty(),
                        "the first word is the host's"
                    );
                    return Channel {
                        opener: Opener::new(&established),
                        sealer: Sealer::new(&established),
                        received: 0,
                    };
                }
                Progress::Failed(failure) => panic!("{failure}"),
            }
            let mut received = Vec::new();
            while received.is_empty() {
                assert!(Instant::now() < deadline, "the target says nothing");
                alone.poll();
                hosts.collect(alone, |arrived| {
                    assert_eq!(arrived.connection, connection, "nobody else was asked");
                    for piece in std::iter::once(&arrived.head).chain(arrived.rest) {
                        received.extend_from_slice(piece);
                    }
                });
            }
            step = handshaker.advance(&received);
        }
    }

    /// Appends the record of these bytes.
    pub fn seal(&self, channel: &mut Channel, bytes: &[u8], out: &mut Vec<u8>) {
        for chunk in self.chunks(bytes) {
            let pushed = channel.sealer.push(chunk, 0, self.memory());
            assert!(pushed.is_ok(), "what was sealed is taken");
        }
        channel.sealer.flush();
        while let Some(chunk) = channel.sealer.next(self.memory()) {
            out.extend_from_slice(chunk.bytes());
        }
    }

    /// Shows what is in records, and how many bytes came before.
    pub fn open(&self, channel: &mut Channel, bytes: &[u8], mut see: impl FnMut(&[u8], u64)) {
        for chunk in self.chunks(bytes) {
            let Chunk::Slice(slice) = chunk else {
                continue;
            };
            let pushed = channel.opener.push(slice, self.memory());
            assert!(pushed.is_ok(), "what was opened is taken");
            while let Next::Plain(plain) = (channel.opener)
                .next(self.memory())
                .expect("what this key sealed")
            {
                see(plain.bytes(), channel.received);
                channel.received += plain.len() as u64;
            }
        }
    }
}

/// Buffers used in turn: more than the caches next to a core hold.
const BUFFERS: usize = 8192;
/// A capsule's header, as it comes and as it goes.
const COMMAND: usize = 72;
const RESPONSE: usize = 24;

/// TSC ticks of the cipher for one command, and nothing else: all that host and target send is opened or sealed in the
/// records and pieces in which it lies, answers in records as long as they may be. The median of many batches, `depth` at
/// a time.
pub fn cipher(hash: Hash, operation: Operation, depth: usize, cold: bool, tsc_hz: u64) -> f64 {
    let mut cipher = Cipher::new(hash.suite());
    let (asked, answered) = match operation {
        Operation::Write => (COMMAND + IO, RESPONSE),
        Operation::Read => (COMMAND, RESPONSE + IO + RESPONSE),
    };
    let mut memory = vec![1u8; BUFFERS * (asked + answered)];
    let records = answers(depth, answered);
    let mut batches = Vec::new();
    for batch in memory.chunks_exact_mut(depth * (asked + answered)) {
        batch.fill(3);
        if cold {
            // What comes off the wire: what is read lies where the device left it.
            crate::tcp::flush(&batch[..depth * asked]);
        }
        let begin = Instant::now();
        let (commands, mut answers) = batch.split_at_mut(depth * asked);
        for record in commands.chunks_exact_mut(asked) {
            // Behind a header of five bytes; content type and tag are behind the data.
            let cuts = [MSS - 5, 2 * MSS - 5].map(|cut| cut.min(asked));
            cipher.open(record, &cuts);
        }
        for (len, cuts) in &records {
            let (record, rest) = answers.split_at_mut(*len);
            cipher.seal(record, cuts);
            answers = rest;
        }
        let ticks = begin.elapsed().as_secs_f64() * tsc_hz as f64;
        batches.push(ticks / depth as f64);
    }
    batches.sort_by(f64::total_cmp);
    batches[batches.len() / 2]
}

/// The records of `depth` answers, behind one another: how long each is, and where its pieces end. What stands around data
/// is one piece.
fn answers(depth: usize, answered: usize) -> Vec<(usize, Vec<usize>)> {
    let end = depth * answered;
    let data = (0..depth * usize::from(answered > IO))
        .flat_map(|i| [RESPONSE, RESPONSE + IO].map(|at| i * answered + at));
    let cuts: Vec<usize> = data.collect();
    (0..end)
        .step_by(PLAINTEXT_LEN_MAX)
        .map(|from| {
            let to = end.min(from + PLAINTEXT_LEN_MAX);
            let inside = cuts.iter().filter(|cut| (from..to).contains(*cut));
            (to - from, inside.map(|cut| cut - from).collect())
        })
        .collect()
}
