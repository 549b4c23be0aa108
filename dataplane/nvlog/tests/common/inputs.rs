//! Any bytes as superblocks, headers and stores: for fuzzing, and for random ones.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::LazyLock;

use nvlog::recovery::{self, Buffer, Drives, Refusal, Replayed};
use nvlog::{
    AREA, Bad, ENTRY, ENTRY_PAGES, Entry, Header, Layout, LogId, Members, RegionSuperblock,
    SUPERBLOCK, Superblock, Tables, UNIT, VERSION, VERSION_SPANS,
};

use super::disk::{Disk, Pages, Power};
use super::model::{Journal, owner};
use super::now;
use super::recover::{Targets, agreed, recover, superblock as superblock_of};
use super::reference::{self, Done};
use super::used::{Devices, HALF, LOG, used};

/// Puts the checksum right that lies at `at`.
fn reseal(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let crc = testkit::crc32c(bytes);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Bytes as superblocks: the first one says whether their checksum is put right, the others lie over a good one.
pub fn superblock(input: &[u8]) {
    let Some((&how, input)) = input.split_first() else {
        return;
    };
    let len = Layout::needs(3, HALF, 0);
    let layout = Layout::new(len, 512, 2, Some(HALF), 0).expect("room");
    let mut bytes = superblock_of(LOG, layout).encode();
    let mut small = RegionSuperblock {
        generation: 1,
        oldest: 0,
        epochs: [1, 2],
        sequence: 1,
        previous: 0,
        members: Members::BOTH,
        is_closed: false,
    }
    .encode(LOG, 1);
    for patch in input.chunks(8) {
        let (at, new) = patch.split_at(patch.len().min(2));
        let at = at.iter().fold(0, |at, &byte| at << 8 | usize::from(byte));
        for (i, &byte) in new.iter().enumerate() {
            bytes[(at + i) % SUPERBLOCK] = byte;
            small[(at + i) % small.len()] = byte;
        }
    }
    if how & 1 != 0 {
        reseal(&mut bytes, 12);
        reseal(&mut small, 12);
    }
    match Superblock::decode(&bytes) {
        Ok(one) => {
            let len = one.layout.len as usize;
            assert!(reference::superblock(&bytes, len).is_some());
            assert_eq!(Superblock::decode(&one.encode()), Ok(one));
        }
        Err(why) => {
            assert_eq!(reference::superblock(&bytes, len as usize), None, "{why:?}");
            assert!(!matches!(why, Bad::Version(VERSION..=VERSION_SPANS)));
        }
    }
    let one = RegionSuperblock::decode(&small, LOG, 1);
    assert_eq!(
        one.is_ok(),
        reference::region(&small, &LOG.0, 1).is_some(),
        "{one:?}"
    );
    if let Ok(one) = one {
        assert_eq!(
            RegionSuperblock::decode(&one.encode(LOG, 1), LOG, 1),
            Ok(one)
        );
    }
}

/// A log with a tables area.
static WITH_TABLES: LazyLock<(Layout, Vec<u8>)> = LazyLock::new(|| {
    let len = ENTRY_PAGES * UNIT + 4 * UNIT;
    let devices = Devices::new(Layout::needs(1, HALF, len), 512);
    let layout = Layout::new(devices.disk.len(), 512, 1, Some(HALF), len).expect("room");
    recover(devices.both(), LOG, layout).expect("a blank store");
    let bytes = devices.disk.bytes(0..devices.disk.len() as usize);
    (layout, bytes)
});

/// Bytes as a table's entry: the first one says whether its checksum is put right, the others lie over a good one. Then a
/// store has it, beside one that is good or not.
pub fn table(input: &[u8]) {
    let Some((&how, input)) = input.split_first() else {
        return;
    };
    let entry = |sequence| Entry {
        sequence,
        name: "volume0".into(),
        identity: [0; 16],
        record: Some(ENTRY_PAGES..ENTRY_PAGES + 2),
        content: vec![7; 600],
    };
    let mut bytes = entry(2).encode(LOG, 3);
    for patch in input.chunks(8) {
        let (at, new) = patch.split_at(patch.len().min(2));
        let at = at.iter().fold(0, |at, &byte| at << 8 | usize::from(byte));
        for (i, &byte) in new.iter().enumerate() {
            bytes[(at + i) % ENTRY] = byte;
        }
    }
    if how & 1 != 0 {
        reseal(&mut bytes, 12);
    }
    let decoded = Entry::decode(&bytes, LOG, 3);
    let meaning = reference::entry(&bytes, &LOG.0, 3);
    assert_eq!(decoded.is_ok(), meaning.is_some(), "{decoded:?}");
    if let Ok(one) = &decoded {
        assert_eq!(one.encode(LOG, 3), bytes);
    }
    if how & 2 == 0 {
        return;
    }
    let (layout, image) = &*WITH_TABLES;
    let devices = Devices::new(image.len() as u64, 512);
    devices.disk.damage(0, |all| all.copy_from_slice(image));
    let other = match how & 4 {
        0 => vec![0; ENTRY],
        _ => entry(1).encode(LOG, 3),
    };
    for (copy, page) in [bytes, other].into_iter().enumerate() {
        let at = Tables::entry_at(3, copy);
        devices.disk.put(at, &page).expect("power");
    }
    let agreed = agreed(&devices.disk).expect("a log");
    match now(recovery::tables(&devices.stores(), &agreed, LOG)) {
        Ok(found) => {
            let taken = found.entries.iter().map(|(slot, _)| *slot);
            assert!(taken.into_iter().all(|slot| slot == 3));
            recover(devices.both(), LOG, *layout).expect("begun anew");
            let again = now(recovery::tables(&devices.stores(), &agreed, LOG)).expect("tables");
            assert_eq!(again.entries, found.entries);
        }
        Err(Refusal::Version(_) | Refusal::Table { slot: 3 }) => {}
        Err(other) => panic!("{other:?}"),
    }
}

/// Bytes as a header: the first one says how long blocks are, and whether its checksum is put right.
pub fn header(input: &[u8]) {
    let Some((&how, input)) = input.split_first() else {
        return;
    };
    let block = if how & 1 == 0 { 512 } else { 4096 };
    let mut bytes = input.to_vec();
    if how & 2 != 0 {
        bytes.resize(4096, 0);
        bytes[..6].copy_from_slice(b"TLGR\x02\0");
        let len = bytes[29] as usize % 9 * 512;
        bytes[28..32].copy_from_slice(&(len as u32).to_le_bytes());
        if len > 0 {
            reseal(&mut bytes[..len], 76);
        }
    }
    let Some(header) = Header::decode(&bytes, block) else {
        return;
    };
    let len = header.header_len as usize;
    let mut zeroed = bytes[..len].to_vec();
    zeroed[76..80].fill(0);
    assert_eq!(header.checksum, testkit::crc32c(&zeroed));
    assert!(header.acknowledged < header.sequence);
    let (mut count, mut payload) = (0, 0);
    for (record, place, checksums) in header.records(&bytes) {
        assert_eq!(place, payload);
        assert_eq!(checksums.iter().count(), record.checksums());
        payload += record.payload();
        count += 1;
    }
    assert_eq!((count, payload), (header.count, header.payload_len.into()));
    assert!(header.total(block) >= len as u64 + payload);
}

/// Drives of any size: what a replay does to them.
#[derive(Default)]
struct Noted(RefCell<Vec<Done>>);

impl Drives<Disk> for Noted {
    async fn write(
        &self,
        volume: u32,
        offset: u64,
        data: &Pages,
        range: Range<usize>,
    ) -> Result<(), Power> {
        let bytes = data.to_vec(range);
        self.0.borrow_mut().push(Done::Write(volume, offset, bytes));
        Ok(())
    }

    async fn write_zeroes(&self, volume: u32, offset: u64, len: u64) -> Result<(), Power> {
        self.0.borrow_mut().push(Done::Zeroes(volume, offset, len));
        Ok(())
    }

    async fn deallocate(&self, volume: u32, offset: u64, len: u64) -> Result<(), Power> {
        self.0
            .borrow_mut()
            .push(Done::Deallocation(volume, offset, len));
        Ok(())
    }
}

/// Writes of the same volume that follow each other are one: parts of a record.
fn joined(all: Vec<Done>) -> Vec<Done> {
    let mut joined: Vec<Done> = Vec::new();
    for done in all {
        match (joined.last_mut(), done) {
            (Some(Done::Write(volume, offset, bytes)), Done::Write(other, from, more))
                if *volume == other && *offset + bytes.len() as u64 == from =>
            {
                bytes.extend(more);
            }
            (_, done) => joined.push(done),
        }
    }
    joined
}

/// A store's bytes, and what the run that wrote them logged.
struct Image {
    bytes: Vec<u8>,
    journals: Vec<Journal>,
}

fn image_of((devices, journals): (Devices, Vec<Journal>)) -> Image {
    let bytes = devices.disk.bytes(0..devices.disk.len() as usize);
    Image { bytes, journals }
}

/// A blank store, a log without groups, and one with some in both halves of each region.
static IMAGES: LazyLock<[Image; 3]> = LazyLock::new(|| {
    let blank = Devices::new(Layout::needs(3, HALF, 0), 512);
    let is_wide = |journal: &Journal| {
        let left = journal
            .groups
            .iter()
            .filter(|group| group.sequence >= journal.from);
        let halves: Vec<u8> = left.map(|group| group.header[24]).collect();
        halves.contains(&0) && halves.contains(&1)
    };
    let mut logs = (0..).map(|seed| used(2, 60, seed));
    let log = logs.find(|(_, journals)| journals.iter().all(is_wide));
    [(blank, Vec::new()), used(2, 0, 0), log.expect("one")].map(image_of)
});

/// Where something begins in a store of the tests' size, of two regions.
fn place(what: u8) -> u64 {
    let len = Layout::needs(3, HALF, 0);
    let layout = Layout::new(len, 512, 2, Some(HALF), 0).expect("room");
    let (low, high) = (usize::from(what & 3), usize::from(what >> 2 & 1));
    match what >> 5 {
        0 | 1 => Layout::area(len, low),
        2 | 3 => Layout::region_superblock(len, high, low),
        4 => 2 * AREA,
        _ => layout.half(high, low & 1),
    }
}

/// Changes an image as `input` says, seven bytes to a change: what in the store, where in it, how, and new bytes. The
/// checksum of what is changed is put right if it says so, and if `forges`.
fn change(bytes: &mut [u8], input: &[u8], forges: bool) {
    for patch in input.chunks_exact(7) {
        let [what, high, low, how, new @ ..] = patch else {
            continue;
        };
        let start = place(*what) as usize;
        let at = start + usize::from(*high) * 256 + usize::from(*low);
        let n = usize::from(how & 3);
        bytes[at..at + n].copy_from_slice(&new[..n]);
        if !forges || how & 4 == 0 {
            continue;
        }
        // What the change is in: a superblock, or the header of a group at the block before.
        match what >> 5 {
            0 | 1 => reseal(&mut bytes[start..start + SUPERBLOCK], 12),
            2 | 3 => reseal(&mut bytes[start..start + 512], 12),
            _ => {
                let start = at / 512 * 512;
                let len =
                    u32::from_le_bytes(bytes[start + 28..start + 32].try_into().expect("four"));
                if (80..=4096).contains(&len) && start + len as usize <= bytes.len() {
                    reseal(&mut bytes[start..start + len as usize], 76);
                }
            }
        }
    }
}

/// Recovers from an image: as the reference does, without a panic, and without replaying what it would not.
fn recovered(bytes: &[u8]) -> Option<(Devices, Result<Replayed, Refusal<Power>>)> {
    let devices = Devices::new(bytes.len() as u64, 512);
    devices.disk.damage(0, |all| all.copy_from_slice(bytes));
    let log = reference::open(bytes);
    let opened = match now(recovery::open(&devices.disk, bytes.len() as u64)) {
        Ok(Some(opened)) => opened,
        other => {
            assert!(log.is_none(), "{other:?}");
            // What is blank has nothing in its halves, nor before the second pair of areas.
            if matches!(other, Ok(None)) {
                assert!(
                    bytes[AREA as usize..][..SUPERBLOCK]
                        .iter()
                        .all(|&byte| byte == 0)
                );
                assert!(bytes[2 * AREA as usize..][..4] != *b"TLGR");
            }
            return None;
        }
    };
    let (done, lost) = log
        .expect("the reference says that it is none")
        .replay(bytes);
    let drives = Noted::default();
    let replayed = now(recovery::replay(
        &devices.stores(),
        &opened,
        &drives,
        |_| true,
    ));
    assert_eq!(
        matches!(replayed, Err(Refusal::Lost(_))),
        lost,
        "{replayed:?}"
    );
    assert!(lost || replayed.is_ok());
    assert_eq!(devices.disk.writes(), 0);
    assert_eq!(joined(drives.0.take()), joined(done));
    Some((devices, replayed))
}

/// A store that holds anything, also with right checksums.
pub fn recovery(input: &[u8]) {
    let Some((&which, input)) = input.split_first() else {
        return;
    };
    let mut bytes = IMAGES[usize::from(which) % 3].bytes.clone();
    change(&mut bytes, input, true);
    recovered(&bytes);
}

/// A log that is damaged anyhow: what is replayed is what was logged, and a new log is begun.
pub fn damage(input: &[u8]) {
    let image = &IMAGES[2];
    let mut bytes = image.bytes.clone();
    change(&mut bytes, input, false);
    let Some((devices, replayed)) = recovered(&bytes) else {
        return;
    };
    if replayed.is_err() {
        return;
    }
    let targets = Targets::new(&devices.drives);
    let opened = devices.open().expect("it was opened").expect("one");
    now(recovery::replay(
        &devices.stores(),
        &opened,
        &targets,
        |_| true,
    ))
    .expect("it was replayed");
    let calls = targets.calls.take();
    for (number, journal) in image.journals.iter().enumerate() {
        let mine = calls
            .iter()
            .filter(|call| owner(call.volume, call.offset, 2) == number);
        let mine: Vec<_> = mine.copied().collect();
        assert!(journal.replayed_to(&mine).is_some(), "{mine:?}");
    }
    let id = LogId([1; 16]);
    let layout = devices.layout(3);
    let begun = recover(devices.both(), id, layout).expect("replayed once more");
    let opened = devices.open().expect("begun").expect("one");
    assert_eq!(
        (opened.superblock.log, opened.regions),
        (LOG, begun.regions)
    );
    assert_eq!(devices.replay(|_| true).expect("empty").groups, 0);
}
