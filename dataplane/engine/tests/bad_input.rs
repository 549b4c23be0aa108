//! What a host does wrong ends its own command or connection, and nothing else.
#![allow(missing_docs)]

mod support;

use std::net::Shutdown;

use engine::Handle;
use support::host::{
    C2H_TERM, CAPSULE_CMD, CAPSULE_RESP, H2C_DATA, Options, Queue, R2T, WRITE, pattern,
};
use support::{NQN, eventually, network, snapshot, target, with_engine};

const LBA_OUT_OF_RANGE: u16 = 0x4080;
const INVALID_OPCODE: u16 = 0x4001;
const COMMAND_SEQUENCE_ERROR: u16 = 0x400c;
const TRANSIENT_TRANSPORT_ERROR: u16 = 0x0022;

#[test]
fn z12_bad_input_disturbs_nobody_else() {
    network();
    with_engine(&support::config(512), |handle| {
        let (_admin, mut healthy) = Queue::controller(target(), Options::default(), NQN).unwrap();
        let before = pools(handle);
        let cases: [(&str, fn()); 10] = [
            ("a range beyond the namespace", out_of_range),
            ("an opcode nobody knows", unknown_opcode),
            ("a command before Connect", before_connect),
            ("a PDU of an unknown type", unknown_pdu),
            ("a PDU shorter than its header", truncated_pdu),
            ("a PDU longer than any", oversize_pdu),
            ("a header digest that is wrong", bad_header_digest),
            ("a data digest that is wrong", bad_data_digest),
            ("data for another offset than asked for", wrong_offset),
            ("a host that vanishes in the middle of a write", vanish),
        ];
        for (i, (name, case)) in cases.into_iter().enumerate() {
            case();
            let data = pattern(i as u64, 8192);
            assert_eq!(
                healthy.write(64, 512, &data, false).unwrap(),
                0,
                "after {name}"
            );
            assert!(
                healthy.read(64, 512, 8192).unwrap().1 == data,
                "after {name}"
            );
            eventually(&format!("nothing is left behind by {name}"), || {
                snapshot(handle).shards[0].connections == 2 && pools(handle) == before
            });
        }
    });
}

fn pools(handle: &Handle) -> Vec<(&'static str, u64)> {
    snapshot(handle).shards[0]
        .pools
        .iter()
        .map(|pool| (pool.name, pool.free))
        .collect()
}

fn controller(options: Options) -> (Queue, Queue) {
    Queue::controller(target(), options, NQN).unwrap()
}

/// The connection ends with a C2HTermReq (NVMe/TCP 3.6.2.5) and no answer to anything else.
fn expect_termination(queue: &mut Queue) {
    let pdu = queue.receive().expect("a C2HTermReq");
    assert_eq!(pdu.kind, C2H_TERM, "{pdu:?}");
    assert!(queue.is_closed());
}

fn out_of_range() {
    let (_admin, mut io) = controller(Options::default());
    let blocks = support::NAMESPACE_BYTES / 512;
    assert_eq!(
        io.write(blocks - 7, 512, &pattern(1, 4096), true).unwrap(),
        LBA_OUT_OF_RANGE
    );
    assert_eq!(
        io.write(blocks - 7, 512, &pattern(1, 4096), false).unwrap(),
        LBA_OUT_OF_RANGE
    );
    assert_eq!(
        io.read(u64::MAX - 3, 512, 4096).unwrap().0,
        LBA_OUT_OF_RANGE
    );
    assert_eq!(
        io.write(blocks - 8, 512, &pattern(1, 4096), true).unwrap(),
        0
    );
}

fn unknown_opcode() {
    let (_admin, mut io) = controller(Options::default());
    let mut command = [0; 64];
    (command[0], command[4]) = (0x7e, 1);
    assert_eq!(
        io.command(command, None, false, 0).unwrap().0,
        INVALID_OPCODE
    );
    assert_eq!(io.flush().unwrap(), 0, "the queue goes on");
}

fn before_connect() {
    let mut queue = Queue::initialize(target(), Options::default()).unwrap();
    assert_eq!(queue.flush().unwrap(), COMMAND_SEQUENCE_ERROR);
}

fn unknown_pdu() {
    let (_admin, mut io) = controller(Options::default());
    io.send(&[
        0x5a, 0, 24, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ])
    .unwrap();
    expect_termination(&mut io);
}

/// A capsule's header with this common part.
fn send_header(queue: &mut Queue, common: &[u8; 8]) {
    let mut header = [0; 72];
    header[..8].copy_from_slice(common);
    queue.send(&header).unwrap();
}

fn truncated_pdu() {
    let (_admin, mut io) = controller(Options::default());
    send_header(&mut io, &[CAPSULE_CMD, 0, 72, 0, 40, 0, 0, 0]);
    expect_termination(&mut io);
}

fn oversize_pdu() {
    let (_admin, mut io) = controller(Options::default());
    send_header(&mut io, &[CAPSULE_CMD, 0, 72, 72, 0, 0, 0, 0x40]);
    expect_termination(&mut io);
}

fn bad_header_digest() {
    let (_admin, mut io) = controller(Options {
        header_digest: true,
        ..Options::default()
    });
    let mut pdu = io.build(CAPSULE_CMD, 0, &[0; 64], &[]);
    *pdu.last_mut().unwrap() ^= 1;
    io.send(&pdu).unwrap();
    expect_termination(&mut io);
}

/// Not fatal: the command fails, its data is dropped, the queue goes on.
fn bad_data_digest() {
    let (_admin, mut io) = controller(Options {
        data_digest: true,
        ..Options::default()
    });
    let good = pattern(7, 4096);
    assert_eq!(io.write(0, 512, &good, true).unwrap(), 0);
    let mut command = write_command(9, 0, 4096);
    command[39] = 0x01;
    let mut pdu = io.build(CAPSULE_CMD, 0, &command, &pattern(8, 4096));
    *pdu.last_mut().unwrap() ^= 0x80;
    io.send(&pdu).unwrap();
    let response = io.receive().unwrap();
    assert_eq!(response.kind, CAPSULE_RESP);
    let status = u16::from_le_bytes([response.header[22], response.header[23]]) >> 1;
    assert_eq!(status & 0x3fff, TRANSIENT_TRANSPORT_ERROR);
    assert!(
        io.read(0, 512, 4096).unwrap().1 == good,
        "the block is as it was"
    );
}

fn wrong_offset() {
    let (_admin, mut io) = controller(Options::default());
    io.send_pdu(CAPSULE_CMD, 0, &write_command(3, 0, 65536), &[])
        .unwrap();
    let r2t = io.receive().unwrap();
    assert_eq!(r2t.kind, R2T);
    let mut header = [0; 16];
    header[..4].copy_from_slice(&r2t.header[8..12]);
    header[4..8].copy_from_slice(&4096u32.to_le_bytes());
    header[8..12].copy_from_slice(&4096u32.to_le_bytes());
    io.send_pdu(H2C_DATA, 0, &header, &pattern(1, 4096))
        .unwrap();
    expect_termination(&mut io);
}

fn vanish() {
    let (admin, mut io) = controller(Options::default());
    io.send_pdu(CAPSULE_CMD, 0, &write_command(3, 0, 65536), &[])
        .unwrap();
    let r2t = io.receive().unwrap();
    assert_eq!(r2t.kind, R2T);
    let mut header = [0; 16];
    header[..4].copy_from_slice(&r2t.header[8..12]);
    header[8..12].copy_from_slice(&65536u32.to_le_bytes());
    let whole = io.build(H2C_DATA, 4, &header, &pattern(1, 65536));
    io.send(&whole[..30_000]).unwrap();
    io.shutdown(Shutdown::Both);
    drop(admin);
}

fn write_command(cid: u8, lba: u64, len: u32) -> [u8; 64] {
    let mut command = [0; 64];
    command[..5].copy_from_slice(&[WRITE, 0x40, cid, 0, 1]);
    command[32..36].copy_from_slice(&len.to_le_bytes());
    command[39] = 0x5a;
    command[40..48].copy_from_slice(&lba.to_le_bytes());
    command[48..50].copy_from_slice(&((len / 512 - 1) as u16).to_le_bytes());
    command
}
