//! Commands that cannot be done, and clients that vanish (issue 2): the right
//! status, and everything given back.

mod rig;

use rig::Rig;
use rig::host::{Host, Manners, Pdu, in_capsule, rw, sc, set32, sqe, transport};

fn plain() -> Manners {
    Manners::default()
}

fn digests() -> Manners {
    Manners {
        header_digest: true,
        data_digest: true,
        ..Manners::default()
    }
}

#[test]
fn invalid_io_commands_complete_with_their_status() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, plain());
    let mut io = admin.io(&mut rig, 1, 32);
    let block = [1; 512];
    let mut case = |name: &str, expected: (u16, u16), sqe: [u8; 64], data: &[u8]| {
        let cid = io.submit(&mut rig, sqe, data);
        let answer = io.answer(cid);
        assert_eq!(sc(answer.status), expected, "{name}");
        assert_eq!(answer.status >> 14, 1, "{name}: DNR");
        assert!(answer.data.is_empty(), "{name}");
        assert!(rig.disks.asked.is_empty(), "{name}");
    };
    let read = |lba, blocks: u32| {
        let mut sqe = rw(0x02, 1, lba, blocks);
        transport(&mut sqe, blocks * 512);
        sqe
    };
    let write = |lba, blocks: u32| {
        let mut sqe = rw(0x01, 1, lba, blocks);
        in_capsule(&mut sqe, blocks * 512);
        sqe
    };
    for opcode in [0x04, 0x05, 0x0c, 0x0d, 0x80, 0xff] {
        case("opcode", (0, 0x01), sqe(opcode, 1), &[]);
    }
    for lba in [2048, 2047 + 1, u64::MAX, u64::MAX - 1, 1 << 63] {
        case("read out of range", (0, 0x80), read(lba, 2), &[]);
        case("write out of range", (0, 0x80), write(lba, 1), &block);
        case("zeroes out of range", (0, 0x80), rw(0x08, 1, lba, 9), &[]);
    }
    case("read over the end", (0, 0x80), read(2047, 2), &[]);
    for nsid in [0, 3, 9999, 0xffff_ffff] {
        for opcode in [0x00, 0x01, 0x02, 0x08, 0x09] {
            case("namespace", (0, 0x0b), rw(opcode, nsid, 0, 1), &[]);
        }
    }
    case("beyond MDTS", (0, 0x02), read(0, 257), &[]);
    let mut directive = write(0, 1);
    set32(&mut directive, 48, 1 << 20);
    case("directive", (0, 0x02), directive, &block);
    for fuse in [0x41, 0x42] {
        let mut fused = write(0, 1);
        fused[1] = fuse;
        case("fused", (0, 0x02), fused, &block);
    }
    for psdt in [0x00, 0x80, 0xc0] {
        let mut prp = write(0, 1);
        prp[1] = psdt;
        case("PSDT", (0, 0x02), prp, &block);
    }
    // SGL descriptors: types, lengths, offsets.
    for descriptor in [0x00, 0x10, 0x20, 0x30, 0x40, 0x4f, 0x50, 0x5f, 0x51] {
        let mut keyed = write(0, 1);
        keyed[39] = descriptor;
        case("descriptor type", (0, 0x11), keyed, &block);
    }
    case("read in capsule", (0, 0x11), write_as_read(), &[]);
    let mut short = read(0, 2);
    transport(&mut short, 512);
    case("read, short SGL", (0, 0x0f), short, &[]);
    transport(&mut short, 2048);
    case("read, long SGL", (0, 0x0f), short, &[]);
    case("write, short data", (0, 0x0f), write(0, 2), &block);
    case("write, no data", (0, 0x0f), write(0, 1), &[]);
    let mut by_r2t = rw(0x01, 1, 0, 2);
    transport(&mut by_r2t, 512);
    case("write by R2T, short SGL", (0, 0x0f), by_r2t, &[]);
    transport(&mut by_r2t, 1024);
    case("data with a transport SGL", (0, 0x02), by_r2t, &[1; 1024]);
    case("beyond IOCCSZ", (0, 0x0f), write(0, 16), &[1; 8192]);
    let mut offset = write(0, 1);
    set32(&mut offset, 24, 512);
    case("in-capsule offset", (0, 0x16), offset, &block);
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

/// A read whose data pointer is in the capsule.
fn write_as_read() -> [u8; 64] {
    let mut sqe = rw(0x02, 1, 0, 1);
    in_capsule(&mut sqe, 512);
    sqe
}

/// Issue 2: a client that vanishes mid-write, at every byte.
#[test]
fn a_connection_lost_at_any_byte_of_a_write_leaks_nothing() {
    let mut rig = Rig::new();
    for at in 0..=72 + 4 + 4096 + 4 {
        let mut admin = Host::admin(&mut rig, digests());
        let mut io = admin.io(&mut rig, 1, 32);
        rig.disks.hold = true;
        let mut write = rw(0x01, 1, 0, 8);
        in_capsule(&mut write, 4096);
        let (_, capsule) = io.capsule(write, &[1; 4096]);
        io.send(&mut rig, &capsule[..at]);
        io.close(&mut rig);
        // What the device has stays until it is done.
        let whole = at == capsule.len();
        assert_eq!(io.session.outstanding(), usize::from(whole));
        assert_eq!(rig.commands.in_use(), usize::from(whole));
        rig.release(&mut io.session);
        assert_eq!(io.session.outstanding(), 0);
        admin.close(&mut rig);
        rig.assert_all_returned();
    }
}

#[test]
fn a_connection_lost_with_all_kinds_of_commands_under_way_leaks_nothing() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, digests());
    let mut io = admin.io(&mut rig, 1, 64);
    rig.disks.hold = true;
    let large = |opcode| {
        let mut sqe = rw(opcode, 2, 0, 8);
        transport(&mut sqe, 32768);
        sqe
    };
    // At the device: reads, a flush, a Dataset Management of two ranges.
    for _ in 0..4 {
        io.submit(&mut rig, large(0x02), &[]);
    }
    io.submit(&mut rig, sqe(0x00, 1), &[]);
    let mut dataset = sqe(0x09, 1);
    set32(&mut dataset, 40, 1);
    set32(&mut dataset, 44, 4);
    in_capsule(&mut dataset, 32);
    let mut ranges = [0; 32];
    ranges[4] = 1;
    ranges[20] = 1;
    io.submit(&mut rig, dataset, &ranges);
    assert_eq!(io.session.outstanding(), 7);
    // Asked for, half sent, and waiting to be sent.
    for _ in 0..4 {
        io.submit(&mut rig, large(0x01), &[]);
    }
    let Some(Pdu::R2t { cid, ttag, .. }) = io.pdus.pop_front() else {
        panic!("no R2T");
    };
    let data = io.h2c_data(cid, ttag, 0, &[1; 20_000], false);
    io.send(&mut rig, &data[..15_000]);
    io.sent.room = 2;
    rig.disks.hold = false;
    io.submit(&mut rig, large(0x02), &[]);
    io.submit(&mut rig, large(0x02), &[]);
    assert!(rig.frames.held() > 0 && rig.pages.held() > 0);
    io.close(&mut rig);
    assert_eq!(rig.frames.held(), 1, "the ranges of Dataset Management");
    assert_eq!(io.session.outstanding(), 7);
    rig.release(&mut io.session);
    assert_eq!(io.session.outstanding(), 0);
    admin.close(&mut rig);
    rig.assert_all_returned();
}
