//! How fast records are opened and sealed where they lie, beside OpenSSL's AES-GCM over the very same pieces, in one run.
//!
//!   cargo run --release -p handshake --example records
//!
//! Pieces of 1,448 bytes, as Ethernet cuts a stream; records of 16 KiB. The best of some rounds, by turns; ratios are what counts.

use std::time::{Duration, Instant};

use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use pages::{Arena, Chunk, ClusterPool, CopyLedger, HeapRegion, PAGE_SIZE, Slice};
use tls::{
    Established, HEADER_LEN, Memory, Next, Opener, PLAINTEXT_LEN_MAX, Sealer, Secret, Side, Suite,
    TAG_LEN,
};

const PIECE: usize = 1448;
const RECORDS: usize = 64;
const ROUNDS: usize = 60;
const BYTES: f64 = (RECORDS * PLAINTEXT_LEN_MAX) as f64;

fn main() {
    println!("suite                   what   ours GB/s   OpenSSL EVP GB/s   ratio");
    for (suite, cipher, key_len) in [
        (Suite::Aes128GcmSha256, Cipher::aes_128_gcm(), 16),
        (Suite::Aes256GcmSha384, Cipher::aes_256_gcm(), 32),
    ] {
        let best = |measure: &mut dyn FnMut() -> Duration| {
            (0..ROUNDS).map(|_| measure()).min().expect("some rounds")
        };
        let mut bench = Bench::new(suite);
        let mut evp = Evp::new(cipher, &vec![7; key_len]);
        for (what, ours, theirs) in [
            ("seal", best(&mut || bench.seal()), best(&mut || evp.seal())),
            ("open", best(&mut || bench.open()), best(&mut || evp.open())),
        ] {
            let speed = |time: Duration| BYTES / time.as_secs_f64() / 1e9;
            println!(
                "{:<24}{what}   {:9.2}   {:16.2}   {:5.2}",
                suite.name(),
                speed(ours),
                speed(theirs),
                speed(ours) / speed(theirs)
            );
        }
    }
}

struct Bench {
    suite: Suite,
    clusters: ClusterPool,
    pages: ClusterPool,
    ledger: CopyLedger,
}

fn established(suite: Suite) -> Established {
    let secret = || Secret::new(&vec![7; suite.hash().len()]).expect("as long as the hash");
    Established {
        side: Side::Server,
        identity: Vec::new(),
        suite,
        read_secret: secret(),
        write_secret: secret(),
        read_sequence: 0,
        write_sequence: 0,
        unread: Vec::new(),
        record_size_limit: None,
    }
}

impl Bench {
    fn new(suite: Suite) -> Self {
        let arena = Arena::new(HeapRegion::new(4096));
        Self {
            suite,
            clusters: ClusterPool::carve(&arena, 1024, 2048).expect("room"),
            pages: ClusterPool::carve(&arena, 64, PAGE_SIZE).expect("room"),
            ledger: CopyLedger::new(),
        }
    }

    fn memory(&self) -> Memory<'_> {
        Memory {
            pages: &self.pages,
            ledger: &self.ledger,
        }
    }

    /// Bytes in clusters, a piece in each.
    fn pieces(&self, bytes: &[u8]) -> Vec<Slice> {
        let piece = |piece: &[u8]| {
            let mut fresh = self.clusters.alloc().expect("a cluster");
            fresh[66..66 + piece.len()].copy_from_slice(piece);
            let end = 66 + piece.len();
            fresh.freeze_filled(end).slice(66..end)
        };
        bytes.chunks(PIECE).map(piece).collect()
    }

    /// Seals the pieces of a record, over and over; how long that takes, and what comes out.
    fn sealed(&self, take: &mut dyn FnMut(&Chunk)) -> Duration {
        let mut sealer = Sealer::new(&established(self.suite));
        let plain = vec![1; PLAINTEXT_LEN_MAX];
        let mut time = Duration::ZERO;
        for _ in 0..RECORDS {
            let pieces = self.pieces(&plain);
            let began = Instant::now();
            for piece in pieces {
                sealer
                    .push(piece.into(), 0, self.memory())
                    .expect("drained");
            }
            time += began.elapsed();
            while let Some(chunk) = sealer.next(self.memory()) {
                take(&chunk);
            }
        }
        time
    }

    fn seal(&mut self) -> Duration {
        self.sealed(&mut |_| {})
    }

    fn open(&mut self) -> Duration {
        let mut stream = Vec::with_capacity(RECORDS * (PLAINTEXT_LEN_MAX + 22));
        self.sealed(&mut |chunk| stream.extend_from_slice(chunk.bytes()));
        let pieces = self.pieces(&stream);
        let mut opener = Opener::new(&established(self.suite));
        let (mut opened, began) = (0, Instant::now());
        for piece in pieces {
            opener.push(piece, self.memory()).expect("drained");
            while let Ok(Next::Plain(plain)) = opener.next(self.memory()) {
                opened += plain.len();
            }
        }
        let time = began.elapsed();
        assert_eq!(opened, RECORDS * PLAINTEXT_LEN_MAX);
        time
    }
}

/// OpenSSL's streaming interface, in place as well.
struct Evp {
    seal: CipherCtx,
    open: CipherCtx,
    record: Vec<u8>,
    tag: [u8; TAG_LEN],
}

impl Evp {
    fn new(cipher: &CipherRef, key: &[u8]) -> Self {
        let context = || CipherCtx::new().expect("memory");
        let (mut seal, mut open) = (context(), context());
        (seal.encrypt_init(Some(cipher), Some(key), None)).expect("a key");
        (open.decrypt_init(Some(cipher), Some(key), None)).expect("a key");
        Self {
            seal,
            open,
            record: vec![1; PLAINTEXT_LEN_MAX],
            tag: [0; TAG_LEN],
        }
    }

    fn seal_one(&mut self) {
        (self.seal.encrypt_init(None, None, Some(&[0; 12]))).expect("a nonce");
        (self.seal.cipher_update(&[23; HEADER_LEN], None)).expect("additional data");
        for piece in self.record.chunks_mut(PIECE) {
            let len = piece.len();
            (self.seal.cipher_update_inplace(piece, len)).expect("a piece");
        }
        self.seal.cipher_final(&mut []).expect("the end");
        self.seal.tag(&mut self.tag).expect("a tag");
    }

    fn seal(&mut self) -> Duration {
        let began = Instant::now();
        (0..RECORDS).for_each(|_| self.seal_one());
        began.elapsed()
    }

    fn open(&mut self) -> Duration {
        let mut time = Duration::ZERO;
        for _ in 0..RECORDS {
            self.seal_one();
            let began = Instant::now();
            (self.open.decrypt_init(None, None, Some(&[0; 12]))).expect("a nonce");
            (self.open.cipher_update(&[23; HEADER_LEN], None)).expect("additional data");
            for piece in self.record.chunks_mut(PIECE) {
                let len = piece.len();
                (self.open.cipher_update_inplace(piece, len)).expect("a piece");
            }
            self.open.set_tag(&self.tag).expect("a tag");
            self.open.cipher_final(&mut []).expect("the right tag");
            time += began.elapsed();
        }
        time
    }
}
