//! Proves, apart from the copy ledger, that payload is not copied: records
//! where the port put frames, what lists the devices were given, and what was
//! handed to the port to send; in tests only.

use std::cell::RefCell;
use std::ops::Range;

use block::{Command, Op, WritePolicy};

use shard::NamespaceConfig;

/// Addresses, as seen on one shard.
#[derive(Default)]
struct Seen {
    /// Frames, where the port received them.
    received: Vec<Range<usize>>,
    /// Elements of lists that devices were to write from.
    written: Vec<Range<usize>>,
    /// Elements of lists that devices were to read into.
    read: Vec<Range<usize>>,
    /// Payload by reference in frames sent.
    sent: Vec<Range<usize>>,
}

thread_local! {
    static SEEN: RefCell<Seen> = RefCell::default();
}

fn range(address: usize, len: usize) -> Range<usize> {
    address..address + len
}

pub(crate) fn received(data: *const u8, len: usize) {
    SEEN.with_borrow_mut(|seen| seen.received.push(range(data as usize, len)));
}

pub(crate) fn listed(command: Command, elements: &[sgl::Element]) {
    SEEN.with_borrow_mut(|seen| {
        let list = match command.op {
            Op::Write => &mut seen.written,
            Op::Read => &mut seen.read,
            _ => return,
        };
        list.extend(
            elements
                .iter()
                .map(|e| range(e.address as usize, e.len as usize)),
        );
    });
}

pub(crate) fn sent(bytes: &[u8]) {
    SEEN.with_borrow_mut(|seen| seen.sent.push(range(bytes.as_ptr() as usize, bytes.len())));
}

#[path = "../tests/support/mod.rs"]
mod support;

use support::pattern;

/// Ranges merged where they touch, in order.
fn union(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

fn each_within(parts: &[Range<usize>], wholes: &[Range<usize>]) -> bool {
    parts.iter().all(|part| {
        let at = wholes.partition_point(|whole| whole.start <= part.start);
        at > 0 && part.end <= wholes[at - 1].end
    })
}

/// The addresses in the lists handed to SPDK lie in the very buffers that the
/// port received into, and the addresses transmitted lie in the pages that the
/// device filled: 4 KiB and 128 KiB, in-capsule and R2T, both directions.
#[test]
fn k03_k05_z10_what_the_devices_see_is_where_the_frames_are() {
    support::network();
    let mut config = support::config(512);
    config.target.subsystems[0].namespaces = vec![NamespaceConfig {
        nsid: 1,
        store: "malloc0".into(),
        uuid: None,
        nguid: None,
        write: WritePolicy::Through,
        block_size: None,
        backup_of: None,
    }];
    support::with_engine(&config, |handle| {
        let (_admin, mut io) = support::controller();
        for (len, in_capsule) in [(4096, true), (4096, false), (131_072, false)] {
            for i in 0..16 {
                let data = pattern(len as u64 + i, len);
                let lba = i * (len as u64 / 512);
                assert_eq!(io.write(lba, 512, &data, in_capsule).unwrap(), 0);
                let (status, back) = io.read(lba, 512, len).unwrap();
                assert_eq!((status, back == data), (0, true), "{len} bytes at {lba}");
            }
        }
        let snapshot = support::snapshot(handle);
        let shard = &snapshot.shards[0];
        assert!(
            shard.copied_bytes.iter().all(|(_, bytes)| *bytes == 0),
            "{:?}",
            shard.copied_bytes
        );
        assert_eq!((shard.io.reads, shard.io.writes), (48, 48));
    });
    let seen = SEEN.take();
    let bytes = |ranges: &[Range<usize>]| ranges.iter().map(Range::len).sum::<usize>();
    assert_eq!(bytes(&seen.written), 16 * (4096 + 4096 + 131_072));
    assert_eq!(bytes(&seen.read), bytes(&seen.written));
    assert!(each_within(&seen.written, &union(seen.received)));
    // Control data (identify, say) is sent by reference too, from pages no device filled.
    let from_device: Vec<_> = {
        let pages = union(seen.read);
        seen.sent
            .into_iter()
            .filter(|part| each_within(std::slice::from_ref(part), &pages))
            .collect()
    };
    assert!(
        bytes(&from_device) >= bytes(&seen.written),
        "read data left from elsewhere"
    );
}
