//! A region as its shard writes it: the order of acknowledgement, the two halves, and the room in them (rows S1, S6).

use nvlog::{Header, Layout, LogId, Members, Record, RecordOp, Region, RegionSuperblock};
use testkit::Random;

const LOG: LogId = LogId([7; 16]);
const HALF: u64 = 64 << 10;

fn layout(block: u32) -> Layout {
    Layout::new(Layout::needs(2, HALF, 0), block, 2, Some(HALF), 0).expect("room")
}

fn region(block: u32) -> Region {
    let superblock = RegionSuperblock {
        generation: 4,
        oldest: 1,
        epochs: [12, 11],
        sequence: 100,
        previous: 99,
        members: Members::only(0),
        is_closed: false,
    };
    Region::new(LOG, &layout(block), 1, &superblock)
}

fn write(len: u64) -> Record {
    Record {
        transfer: 0,
        object: 0,
        volume: 0,
        op: RecordOp::Write,
        offset: 0,
        len,
    }
}

fn add(region: &mut Region, len: u64) -> u64 {
    let record = write(len);
    region.add(&record, &vec![0; record.checksums()])
}

fn seal(region: &mut Region, block: u32) -> Header {
    let (group, bytes) = region.seal();
    let header = Header::decode(bytes, block).expect("a header");
    assert_eq!(header.sequence, group.sequence);
    header
}

#[test]
fn s01_groups_are_acknowledged_in_the_order_of_the_log() {
    let mut random = Random::new(1);
    for _ in 0..200 {
        let mut region = region(512);
        let mut flying: Vec<u64> = (0..random.range(1..30))
            .map(|_| region.seal().0.sequence)
            .collect();
        let last = *flying.last().expect("one");
        assert_eq!((flying[0], region.in_flight()), (100, flying.len()));
        let mut rest = flying.clone();
        random.shuffle(&mut flying);
        for sequence in flying {
            rest.retain(|&other| other != sequence);
            let acknowledged = region.stable(sequence);
            assert_eq!(acknowledged, rest.first().map_or(last, |first| first - 1));
            assert_eq!(
                (region.acknowledged(), region.in_flight() == 0),
                (acknowledged, rest.is_empty())
            );
            // What is stable is so but once.
            assert_eq!(region.stable(sequence), acknowledged);
        }
    }
}

#[test]
fn s01_a_chain_goes_from_group_to_group_and_from_half_to_half() {
    let layout = layout(4096);
    let mut region = region(4096);
    let mut before = (99, 99, layout.half(1, 1));
    for i in 0..12 {
        if i == 6 {
            region.switch();
            before.2 = layout.half(1, 0);
        }
        add(&mut region, 512 * (i + 1));
        let header = seal(&mut region, 4096);
        assert_eq!(
            (header.sequence, header.previous, header.address),
            (before.0 + 1, before.1, before.2)
        );
        let (half, epoch) = if i < 6 { (1, 11) } else { (0, 12) };
        assert_eq!((header.region, header.half, header.epoch), (1, half, epoch));
        // What is acknowledged is said by the next.
        assert_eq!(header.acknowledged, 99 + i / 2);
        if i % 2 == 1 {
            region.stable(100 + i / 2);
        }
        before = (
            header.sequence,
            header.checksum,
            header.address + header.total(4096),
        );
    }
}

#[test]
fn s06_a_half_is_reused_only_when_its_superblock_is_stable() {
    let mut region = region(512);
    add(&mut region, 512);
    let first = seal(&mut region, 512);
    // A group in the making belongs to the half that it was made for.
    add(&mut region, 512);
    assert!(!region.can_switch());
    let second = seal(&mut region, 512);
    assert!(region.can_switch());
    assert_eq!((region.switch(), region.active()), (1, 0));
    add(&mut region, 512);
    let third = seal(&mut region, 512);
    assert!(!region.can_switch() && !region.is_settled(1) && !region.is_settled(0));
    region.stable(third.sequence);
    region.stable(second.sequence);
    assert!(!region.is_settled(1), "the first group is not stable");
    region.stable(first.sequence);
    assert!(region.is_settled(1) && region.is_settled(0));
    assert!(
        !region.can_switch(),
        "nothing says yet that the half is free"
    );
    let superblock = region.without_the_other();
    assert_eq!(
        superblock,
        RegionSuperblock {
            generation: 5,
            oldest: 0,
            epochs: [12, 13],
            sequence: third.sequence,
            previous: second.checksum,
            members: Members::only(0),
            is_closed: false,
        }
    );
    assert!(!region.can_switch(), "its superblock is not stable");
    // Groups go on in the other half meanwhile.
    assert_eq!(seal(&mut region, 512).half, 0);
    region.freed();
    assert!(region.can_switch());
    assert_eq!(region.switch(), 0);
    let again = seal(&mut region, 512);
    assert_eq!(
        (again.half, again.epoch, again.address),
        (1, 13, first.address)
    );
    assert!(region.stable(third.sequence + 1) == third.sequence + 1 && !region.is_settled(1));
    region.stable(again.sequence);
    assert_eq!(region.without_the_other().epochs, [14, 13]);
}

#[test]
fn a_half_is_filled_to_its_last_block_and_no_further() {
    for block in [512u32, 4096] {
        let layout = layout(block);
        let mut region = region(block);
        let mut end = layout.half(1, 1);
        let last = end + HALF;
        loop {
            let room = (last - end).saturating_sub(block.into());
            let longest = room.min(12 << 10);
            assert!(!region.has_room(&write(longest.max(1) + room.max(1))));
            if longest == 0 {
                assert!(!region.has_room(&write(1)));
                break;
            }
            assert!(region.has_room(&write(longest)), "{longest} of {room}");
            add(&mut region, longest);
            // One more would need a block more.
            assert_eq!(region.has_room(&write(1)), room > longest);
            let header = seal(&mut region, block);
            assert_eq!(header.address, end);
            end += header.total(block);
            assert_eq!(region.fill(), (end - layout.half(1, 1), HALF));
        }
        assert!(last - end <= block.into());
    }
}

#[test]
fn a_header_is_filled_to_its_end_and_no_further() {
    let mut region = region(512);
    let zeroes = Record {
        op: RecordOp::WriteZeroes,
        ..write(1)
    };
    let mut count = 0;
    while region.has_room(&zeroes) {
        assert_eq!(region.add(&zeroes, &[]), 100 << 8 | count);
        count += 1;
    }
    assert_eq!((u64::from(region.count()), count), (83, 83));
    let header = seal(&mut region, 512);
    assert_eq!((header.header_len, header.count), (4096, 83));
    assert_eq!(region.count(), 0);
    // The next one has none of its bytes.
    let next = region.seal().1.to_vec();
    assert!(next[80..].iter().all(|&byte| byte == 0));
    assert_eq!(next.len(), 512);
}

#[test]
#[should_panic = "no room"]
fn a_record_without_room_is_none() {
    let mut region = region(512);
    add(&mut region, HALF);
}

#[test]
#[should_panic = "in use"]
fn s06_a_half_in_use_is_not_switched_to() {
    let mut region = region(512);
    region.switch();
    region.switch();
}

#[test]
fn s07_an_acknowledgement_that_no_header_says_is_said_once() {
    let mut region = region(512);
    assert!(!region.is_untold());
    add(&mut region, 512);
    region.seal();
    add(&mut region, 512);
    region.seal();
    assert!(!region.is_untold(), "nothing is acknowledged");
    region.stable(100);
    assert!(!region.is_untold(), "more is under way");
    region.stable(101);
    assert!(region.is_untold());
    let header = seal(&mut region, 512);
    assert_eq!((header.count, header.acknowledged), (0, 101));
    assert!(!region.is_untold());
    // Of a group without records nobody needs to know.
    region.stable(102);
    assert!(!region.is_untold());
    add(&mut region, 512);
    assert_eq!(seal(&mut region, 512).acknowledged, 102);
    region.stable(103);
    assert!(region.is_untold());
}
