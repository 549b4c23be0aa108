//! OpenSSL's own records and handshakes against ours: the peer of each test is an `SSL` of OpenSSL's, whole.
#![allow(unsafe_code)]

mod refusals;

use std::ffi::c_int;
use std::io::{Read, Write};

use foreign_types_shared::ForeignTypeRef;
use openssl::ssl::{ShutdownState, SslStream};
use openssl_sys as ffi;
use pages::{Arena, Chunk, ClusterPool, CopyLedger, HeapRegion, Inline, PAGE_SIZE, Slice};
use tls::{
    Alert, ConfiguredPsk, Derivation, Failure, Hash, IdentityVersion, Memory, Next, Opener, Sealer,
};

use super::*;

unsafe extern "C" {
    fn SSL_key_update(ssl: *mut ffi::SSL, kind: c_int) -> c_int;
}

const HOST: &str = "nqn.2026-01.com.example:host0";
const DISK: &str = "nqn.2026-01.com.example:disk0";

fn psk(fill: u8, hash: Hash) -> ConfiguredPsk {
    ConfiguredPsk::new(&vec![fill; hash.len()], Some(hash)).unwrap()
}

fn key(hash: Hash) -> TlsPsk {
    (psk(7, hash).derive(HOST, DISK, IdentityVersion::One, Derivation::Rfc8446)).unwrap()
}

fn table(hash: Hash) -> Arc<PskTable> {
    let mut table = PskTable::new();
    table.add(&psk(7, hash), HOST, DISK).unwrap();
    Arc::new(table)
}

/// Memory of our side.
struct Lab {
    clusters: ClusterPool,
    pages: ClusterPool,
    ledger: CopyLedger,
}

impl Lab {
    fn new() -> Self {
        let arena = Arena::new(HeapRegion::new(4096));
        Self {
            clusters: ClusterPool::carve(&arena, 2048, 2048).unwrap(),
            pages: ClusterPool::carve(&arena, 64, PAGE_SIZE).unwrap(),
            ledger: CopyLedger::new(),
        }
    }

    fn memory(&self) -> Memory<'_> {
        Memory {
            pages: &self.pages,
            ledger: &self.ledger,
        }
    }

    fn slice(&self, bytes: &[u8]) -> Slice {
        let mut fresh = self.clusters.alloc().expect("a cluster");
        fresh[..bytes.len()].copy_from_slice(bytes);
        fresh.freeze_filled(bytes.len()).slice(0..bytes.len())
    }
}

/// OpenSSL's side, through a pipe.
enum Peer {
    Under(MidHandshakeSslStream<Pipe>),
    Up(SslStream<Pipe>),
}

impl Peer {
    fn new(side: Side, contexts: &Contexts, key: &TlsPsk) -> Self {
        let (ssl, _) = contexts.ssl(side, key).unwrap();
        Self::of(match side {
            Side::Client => ssl.connect(Pipe::default()),
            Side::Server => ssl.accept(Pipe::default()),
        })
    }

    fn of(result: Result<SslStream<Pipe>, HandshakeError<Pipe>>) -> Self {
        match result {
            Ok(stream) => Peer::Up(stream),
            Err(HandshakeError::WouldBlock(stream) | HandshakeError::Failure(stream)) => {
                Peer::Under(stream)
            }
            Err(HandshakeError::SetupFailure(error)) => panic!("{error}"),
        }
    }

    fn advance(self, received: &[u8]) -> Self {
        match self {
            Peer::Up(mut stream) => {
                stream.get_mut().received(received);
                Peer::Up(stream)
            }
            Peer::Under(mut stream) => {
                stream.get_mut().received(received);
                Self::of(stream.handshake())
            }
        }
    }

    fn sent(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Peer::Under(stream) => &mut stream.get_mut().sent,
            Peer::Up(stream) => &mut stream.get_mut().sent,
        })
    }

    fn stream(&mut self) -> &mut SslStream<Pipe> {
        match self {
            Peer::Up(stream) => stream,
            Peer::Under(_) => panic!("it is not done"),
        }
    }

    fn read_all(&mut self) -> Vec<u8> {
        let (mut all, mut some) = (Vec::new(), [0; 20_000]);
        while let Ok(n @ 1..) = self.stream().read(&mut some) {
            all.extend_from_slice(&some[..n]);
        }
        all
    }

    fn update_key(&mut self, request: bool) {
        // SAFETY: the SSL is alive.
        let is_done = unsafe { SSL_key_update(self.stream().ssl().as_ptr(), request.into()) };
        assert_eq!(is_done, 1);
    }
}

/// Lets both talk until ours has an end. What the peer sends is cut into pieces of so many bytes.
fn shake(ours: &mut dyn Handshaker, mut peer: Peer, cut: usize) -> (Progress, Peer) {
    let mut to_us = peer.sent();
    for _ in 0..20_000 {
        let n = cut.min(to_us.len());
        let bytes: Vec<u8> = to_us.drain(..n).collect();
        let Step { send, progress } = ours.advance(&bytes);
        peer = peer.advance(&send);
        to_us.extend(peer.sent());
        match progress {
            Progress::Wants => {}
            Progress::Done(mut established) => {
                established.unread.extend(to_us);
                return (Progress::Done(established), peer);
            }
            failed => return (failed, peer),
        }
    }
    panic!("no end");
}

fn done(progress: Progress) -> Established {
    match progress {
        Progress::Done(established) => *established,
        other => panic!("{other:?}"),
    }
}

fn ours(side: Side, hash: Hash) -> Box<dyn Handshaker> {
    let mut handshakes = OpenSsl::new().unwrap();
    match side {
        Side::Client => handshakes.connect(&key(hash)),
        Side::Server => handshakes.accept(table(hash)),
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}

/// Our records, and OpenSSL's behind the pipe.
struct Pair {
    lab: Lab,
    peer: Peer,
    opener: Opener,
    sealer: Sealer,
    end: Option<Result<(), Failure>>,
    updates: usize,
}

impl Pair {
    fn new(side: Side, hash: Hash, cut: usize) -> Self {
        let peer = Peer::new(other(side), &Contexts::new().unwrap(), &key(hash));
        let (progress, peer) = shake(ours(side, hash).as_mut(), peer, cut);
        let established = done(progress);
        assert_eq!(
            established.identity,
            key(hash).identity().to_string().into_bytes()
        );
        assert_eq!((established.suite, established.side), (hash.suite(), side));
        assert_eq!(established.record_size_limit, Some(16_385));
        let mut pair = Self {
            lab: Lab::new(),
            peer,
            opener: Opener::new(&established),
            sealer: Sealer::new(&established),
            end: None,
            updates: 0,
        };
        assert_eq!(pair.open(&established.unread), b"");
        pair
    }

    /// What is in records of the peer's.
    fn open(&mut self, stream: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let Self { lab, opener, .. } = self;
        for bytes in stream.chunks(1448) {
            opener
                .push(lab.slice(bytes), lab.memory())
                .expect("it is drained");
            loop {
                match opener.next(lab.memory()) {
                    Ok(Next::Plain(slice)) => plain.extend_from_slice(slice.bytes()),
                    Ok(Next::KeyUpdate) => {
                        self.updates += 1;
                        self.sealer.update_key(false);
                    }
                    Ok(Next::Wants) => break,
                    Ok(Next::Closed) => {
                        self.end = Some(Ok(()));
                        break;
                    }
                    Err(failure) => {
                        self.end = Some(Err(failure));
                        break;
                    }
                    Ok(Next::NoPage) => panic!("out of pages"),
                }
            }
        }
        plain
    }

    /// Takes what the peer has sent.
    fn receive(&mut self) -> Vec<u8> {
        let sent = self.peer.sent();
        self.open(&sent)
    }

    /// Gives the peer what is sealed; what it reads.
    fn deliver(&mut self) -> Vec<u8> {
        while let Some(chunk) = self.sealer.next(self.lab.memory()) {
            self.peer.stream().get_mut().received(chunk.bytes());
        }
        self.peer.read_all()
    }

    fn send(&mut self, bytes: &[u8]) -> Vec<u8> {
        for bytes in bytes.chunks(47) {
            let chunk = Chunk::Inline(Inline::new(bytes).unwrap());
            while self
                .sealer
                .push(chunk.clone(), 0, self.lab.memory())
                .is_err()
            {
                while let Some(chunk) = self.sealer.next(self.lab.memory()) {
                    self.peer.stream().get_mut().received(chunk.bytes());
                }
            }
        }
        self.sealer.flush();
        self.deliver()
    }

    fn both_ways(&mut self, len: usize) {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 3 + i / 256) as u8).collect();
        assert_eq!(self.send(&bytes), bytes);
        self.peer.stream().write_all(&bytes).unwrap();
        assert_eq!(self.receive(), bytes);
        assert_eq!(self.end, None);
    }
}

fn each(mut test: impl FnMut(Side, Hash)) {
    for side in [Side::Server, Side::Client] {
        for hash in Hash::ALL {
            test(side, hash);
        }
    }
}

#[test]
fn openssl_reads_what_we_seal_and_we_what_it_seals() {
    each(|side, hash| {
        for cut in [1, 7, 100, 100_000] {
            let mut pair = Pair::new(side, hash, cut);
            for len in [0, 1, 1000, 40_000] {
                pair.both_ways(len);
            }
        }
    });
}

#[test]
fn keys_are_updated_by_either_side() {
    each(|side, hash| {
        let mut pair = Pair::new(side, hash, 1000);
        for request in [false, true, true] {
            pair.peer.update_key(request);
            pair.both_ways(100);
            pair.sealer.update_key(request);
            pair.both_ways(100);
        }
        // Twice asked by the peer, and what it sent because we asked, twice, was no question.
        assert_eq!(pair.updates, 2);
    });
}

#[test]
fn both_say_farewell() {
    each(|side, hash| {
        let mut pair = Pair::new(side, hash, 1000);
        pair.both_ways(10);
        pair.sealer.alert(Alert::CloseNotify);
        assert_eq!(pair.deliver(), b"");
        let state = pair.peer.stream().get_shutdown();
        assert!(state.contains(ShutdownState::RECEIVED));
        pair.peer.stream().shutdown().unwrap();
        assert_eq!(pair.receive(), b"");
        assert_eq!(pair.end, Some(Ok(())));
    });
}

#[test]
fn fatal_alerts_are_understood() {
    each(|side, hash| {
        let mut pair = Pair::new(side, hash, 1000);
        pair.sealer.alert(Alert::BadRecordMac);
        while let Some(chunk) = pair.sealer.next(pair.lab.memory()) {
            pair.peer.stream().get_mut().received(chunk.bytes());
        }
        let error = pair.peer.stream().ssl_read(&mut [0; 9]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("bad record mac"), "{text}");
        // And the other way round: what is no record of ours.
        let mut pair = Pair::new(side, hash, 1000);
        pair.peer.stream().get_mut().received(&[23, 3, 3, 0, 40]);
        pair.peer.stream().get_mut().received(&[1; 40]);
        assert!(pair.peer.stream().ssl_read(&mut [0; 9]).is_err());
        pair.receive();
        assert_eq!(
            pair.end,
            Some(Err(Failure::Theirs(Alert::BadRecordMac as u8)))
        );
    });
}

#[test]
fn what_comes_with_the_last_message_is_not_lost() {
    for hash in Hash::ALL {
        let mut ours = ours(Side::Server, hash);
        let mut peer = Peer::new(Side::Client, &Contexts::new().unwrap(), &key(hash));
        let step = ours.advance(&peer.sent());
        peer = peer.advance(&step.send);
        peer.stream().write_all(b"the first command").unwrap();
        let established = done(ours.advance(&peer.sent()).progress);
        assert!(!established.unread.is_empty());
        let (lab, mut opener) = (Lab::new(), Opener::new(&established));
        opener
            .push(lab.slice(&established.unread), lab.memory())
            .unwrap();
        let Ok(Next::Plain(plain)) = opener.next(lab.memory()) else {
            panic!("a record was left over");
        };
        assert_eq!(plain.bytes(), b"the first command");
    }
}

#[test]
fn each_derivation_and_version_is_told_from_the_others() {
    for hash in Hash::ALL {
        for version in IdentityVersion::ALL {
            for derivation in Derivation::ALL {
                let key = psk(7, hash)
                    .derive(HOST, DISK, version, derivation)
                    .unwrap();
                let peer = Peer::new(Side::Client, &Contexts::new().unwrap(), &key);
                let (progress, _) = shake(ours(Side::Server, hash).as_mut(), peer, 1000);
                let established = done(progress);
                assert_eq!(
                    established.identity,
                    key.identity().to_string().into_bytes()
                );
            }
        }
    }
}

#[test]
fn a_group_is_asked_for_again() {
    for hash in Hash::ALL {
        let contexts = Contexts::with(16_385, |context| context.set_groups_list("P-521")).unwrap();
        let mut server = Handshake::new(&Arc::new(contexts), Stage::Hello(table(hash)));
        let peer = Peer::new(Side::Client, &Contexts::new().unwrap(), &key(hash));
        let (progress, _) = shake(&mut server, peer, 1000);
        done(progress);
        assert!(server.fed_records >= 3, "two hellos and a Finished");
    }
}

#[test]
fn a_limit_of_the_peer_is_told() {
    for (limit, expected) in [(64, Some(64)), (16_385, Some(16_385)), (63, None)] {
        let contexts = Contexts::with(limit, |_| Ok(())).unwrap();
        let peer = Peer::new(Side::Client, &contexts, &key(Hash::Sha256));
        let (progress, mut peer) = shake(ours(Side::Server, Hash::Sha256).as_mut(), peer, 1000);
        let established = match (progress, expected) {
            (Progress::Failed(failure), None) => {
                assert_eq!(failure.alert, Some(Alert::IllegalParameter));
                continue;
            }
            (progress, _) => done(progress),
        };
        assert_eq!(established.record_size_limit, expected);
        let (lab, mut sealer) = (Lab::new(), Sealer::new(&established));
        for _ in 0..4 {
            let chunk = Chunk::Inline(Inline::new(&[5; 40]).unwrap());
            sealer.push(chunk, 0, lab.memory()).unwrap();
        }
        sealer.flush();
        while let Some(chunk) = sealer.next(lab.memory()) {
            assert!(chunk.len() < usize::from(limit));
            peer.stream().get_mut().received(chunk.bytes());
        }
        assert_eq!(peer.read_all(), [5; 160]);
    }
}
