//! Two ends of a connection, and memory for them.
#![allow(dead_code)]

use std::rc::Rc;

use pages::{Arena, Chunk, ClusterPool, CopyLedger, HeapRegion, Inline, PAGE_SIZE, Slice};
use tls::{Established, Failure, Memory, Next, Opener, Sealer, Secret, Side, Suite};

pub struct Lab {
    pub arena: Rc<Arena>,
    /// Receive clusters.
    pub clusters: ClusterPool,
    pub pages: ClusterPool,
    pub ledger: CopyLedger,
}

impl Lab {
    pub fn new() -> Self {
        Self::with_pages(512)
    }

    pub fn with_pages(pages: usize) -> Self {
        let arena = Arena::new(HeapRegion::new(4096 + pages));
        Self {
            clusters: ClusterPool::carve(&arena, 1024, 16384).unwrap(),
            pages: ClusterPool::carve(&arena, pages, PAGE_SIZE).unwrap(),
            ledger: CopyLedger::new(),
            arena,
        }
    }

    pub fn memory(&self) -> Memory<'_> {
        Memory {
            pages: &self.pages,
            ledger: &self.ledger,
        }
    }

    /// Bytes in a cluster of their own, behind what headers would be there.
    pub fn slice(&self, bytes: &[u8]) -> Slice {
        let mut fresh = self.clusters.alloc().expect("a cluster");
        fresh[66..66 + bytes.len()].copy_from_slice(bytes);
        let end = 66 + bytes.len();
        fresh.freeze_filled(end).slice(66..end)
    }

    /// Bytes in a page.
    pub fn page(&self, bytes: &[u8]) -> Slice {
        let mut fresh = self.pages.alloc().expect("a page");
        fresh[..bytes.len()].copy_from_slice(bytes);
        fresh.freeze().slice(0..bytes.len())
    }
}

/// What a handshake would leave to one side; `seed` makes the secrets.
pub fn established(suite: Suite, side: Side, seed: u8) -> Established {
    let secret = |fill: u8| Secret::new(&vec![fill; suite.hash().len()]).unwrap();
    let (client, server) = (secret(seed), secret(seed.wrapping_add(1)));
    let (read_secret, write_secret) = match side {
        Side::Client => (server, client),
        Side::Server => (client, server),
    };
    Established {
        side,
        identity: b"NVMe0R01 host disk".to_vec(),
        suite,
        read_secret,
        write_secret,
        read_sequence: 0,
        write_sequence: 0,
        unread: Vec::new(),
        record_size_limit: None,
    }
}

/// A client's sealer and a server's opener.
pub fn pair(suite: Suite) -> (Sealer, Opener) {
    (
        Sealer::new(&established(suite, Side::Client, 7)),
        Opener::new(&established(suite, Side::Server, 7)),
    )
}

/// All that a sealer has to give.
pub fn drain(sealer: &mut Sealer, lab: &Lab) -> Vec<u8> {
    let mut stream = Vec::new();
    while let Some(chunk) = sealer.next(lab.memory()) {
        stream.extend_from_slice(chunk.bytes());
    }
    stream
}

/// Seals bytes as inline chunks and slices of pages, and ends the record.
pub fn seal(sealer: &mut Sealer, lab: &Lab, bytes: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    let (head, rest) = bytes.split_at(bytes.len().min(24));
    let inline = Chunk::Inline(Inline::new(head).unwrap());
    let slices = rest.chunks(PAGE_SIZE).map(|part| lab.page(part).into());
    for mut chunk in [inline].into_iter().chain(slices) {
        while let Err(back) = sealer.push(chunk, 0, lab.memory()) {
            stream.extend(drain(sealer, lab));
            chunk = back;
        }
    }
    sealer.flush();
    stream.extend(drain(sealer, lab));
    assert!(sealer.is_empty());
    stream
}

/// What comes out of an opener until it wants more: plaintext, and whether anything else is to be said of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    pub plain: Vec<u8>,
    pub key_updates: usize,
    pub end: Option<Result<(), Failure>>,
}

pub fn feed(opener: &mut Opener, lab: &Lab, slices: impl IntoIterator<Item = Slice>) -> Opened {
    let mut opened = Opened {
        plain: Vec::new(),
        key_updates: 0,
        end: None,
    };
    for slice in slices {
        opener.push(slice, lab.memory()).expect("it is drained");
        loop {
            match opener.next(lab.memory()) {
                Ok(Next::Plain(slice)) => opened.plain.extend_from_slice(slice.bytes()),
                Ok(Next::Wants) => break,
                Ok(Next::KeyUpdate) => opened.key_updates += 1,
                Ok(Next::Closed) => {
                    opened.end = Some(Ok(()));
                    break;
                }
                Err(failure) => {
                    opened.end = Some(Err(failure));
                    break;
                }
                Ok(Next::NoPage) => panic!("out of pages"),
            }
        }
    }
    opened
}

/// Cuts a stream behind each of these lengths, over and over.
pub fn cut<'a>(
    lab: &'a Lab,
    stream: &'a [u8],
    lens: &'a [usize],
) -> impl Iterator<Item = Slice> + 'a {
    let mut rest = stream;
    let mut lens = lens.iter().cycle();
    std::iter::from_fn(move || {
        let len = (*lens.next()?).clamp(1, 16000).min(rest.len());
        let (now, later) = rest.split_at(len);
        rest = later;
        (!now.is_empty()).then(|| lab.slice(now))
    })
}

/// Bytes that are not alike.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}
