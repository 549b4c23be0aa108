//! A stream of right records and of any bytes, in any cut, at an opener: nothing panics it, and what comes out is a prefix of what was sealed.
//!
//! The first byte of each step says what comes: so many bytes of plaintext in a record, a KeyUpdate, an alert, or bytes as they are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pages::{Arena, Chunk, ClusterPool, CopyLedger, HeapRegion, Inline, PAGE_SIZE};
use tls::{Alert, Established, Memory, Next, Opener, Sealer, Secret, Side, Suite};

fn established(side: Side) -> Established {
    let secret = || Secret::new(&[7; 32]).expect("32 bytes");
    Established {
        side,
        identity: Vec::new(),
        suite: Suite::Aes128GcmSha256,
        read_secret: secret(),
        write_secret: secret(),
        read_sequence: 0,
        write_sequence: 0,
        unread: Vec::new(),
        record_size_limit: None,
    }
}

/// What is sent, and what of it is plaintext.
fn streams(mut data: &[u8], memory: Memory<'_>) -> (Vec<u8>, Vec<u8>) {
    let mut sealer = Sealer::new(&established(Side::Client));
    let (mut stream, mut plain) = (Vec::new(), Vec::new());
    while let Some((&step, rest)) = data.split_first() {
        data = rest;
        let len = usize::from(step >> 2).min(data.len());
        match step & 3 {
            0 => {
                for bytes in data[..len].chunks(Inline::CAPACITY) {
                    let chunk = Chunk::Inline(Inline::new(bytes).expect("few bytes"));
                    sealer.push(chunk, 0, memory).expect("it is drained");
                    plain.extend_from_slice(bytes);
                }
                sealer.flush();
                data = &data[len..];
            }
            1 => sealer.update_key(step & 4 != 0),
            2 if step & 4 != 0 => sealer.alert(Alert::CloseNotify),
            _ => {
                stream.extend_from_slice(&data[..len]);
                data = &data[len..];
            }
        }
        while let Some(chunk) = sealer.next(memory) {
            stream.extend_from_slice(chunk.bytes());
        }
    }
    (stream, plain)
}

fuzz_target!(|data: &[u8]| {
    let [cut, data @ ..] = data else { return };
    let arena = Arena::new(HeapRegion::new(256));
    let clusters = ClusterPool::carve(&arena, 400, 2048).expect("room");
    let pages = ClusterPool::carve(&arena, 40, PAGE_SIZE).expect("room");
    let ledger = CopyLedger::new();
    let memory = Memory {
        pages: &pages,
        ledger: &ledger,
    };
    let (stream, plain) = streams(data, memory);
    let mut opener = Opener::new(&established(Side::Server));
    let mut opened = Vec::new();
    'all: for bytes in stream.chunks(usize::from(*cut) * 7 + 1) {
        let mut fresh = clusters.alloc().expect("few are held");
        fresh[..bytes.len()].copy_from_slice(bytes);
        let slice = fresh.freeze_filled(bytes.len()).slice(0..bytes.len());
        opener.push(slice, memory).expect("it is drained");
        loop {
            match opener.next(memory) {
                Ok(Next::Plain(slice)) => opened.extend_from_slice(slice.bytes()),
                Ok(Next::KeyUpdate) => {}
                Ok(Next::Wants) => break,
                Ok(Next::Closed) | Err(_) => break 'all,
                Ok(Next::NoPage) => unreachable!("few pages are held"),
            }
        }
    }
    assert!(plain.starts_with(&opened));
});
