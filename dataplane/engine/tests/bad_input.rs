//! What a host does wrong ends its own command or connection, and nothing else.
#![allow(missing_docs)]

mod support;

use std::net::Shutdown;

use engine::Handle;
use support::{
    controller, eventually, host, host_with_digests, network, pattern, snapshot, target,
    with_engine,
};
use testkit::blocking::Queue;
use testkit::pdu::kind;
use testkit::{Command, Fault, Payload, Pdu};

const LBA_OUT_OF_RANGE: u16 = 0x4080;
const INVALID_OPCODE: u16 = 0x4001;
const COMMAND_SEQUENCE_ERROR: u16 = 0x400c;
const TRANSIENT_TRANSPORT_ERROR: u16 = 0x0022;

#[test]
fn z12_bad_input_disturbs_nobody_else() {
    network();
    with_engine(&support::config(512), |handle| {
        let (_admin, mut healthy) = controller();
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

/// The connection ends with a C2HTermReq (NVMe/TCP 3.6.2.5) and no answer to anything else.
fn expect_termination(queue: &mut Queue) {
    let pdu = queue.receive().expect("a C2HTermReq");
    assert!(matches!(pdu, Pdu::Term { .. }), "{pdu:?}");
    assert!(queue.is_closed());
}

fn out_of_range() {
    let (_admin, mut io) = controller();
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
    let (_admin, mut io) = controller();
    let command = Command::new(0x7e, 1);
    assert_eq!(io.status_of(command).unwrap(), INVALID_OPCODE);
    assert_eq!(io.flush().unwrap(), 0, "the queue goes on");
}

fn before_connect() {
    let mut queue = Queue::initialize(target(), host()).unwrap();
    assert_eq!(queue.flush().unwrap(), COMMAND_SEQUENCE_ERROR);
}

fn unknown_pdu() {
    let (_admin, mut io) = controller();
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
    let (_admin, mut io) = controller();
    send_header(&mut io, &[kind::CAPSULE_CMD, 0, 72, 0, 40, 0, 0, 0]);
    expect_termination(&mut io);
}

fn oversize_pdu() {
    let (_admin, mut io) = controller();
    send_header(&mut io, &[kind::CAPSULE_CMD, 0, 72, 72, 0, 0, 0, 0x40]);
    expect_termination(&mut io);
}

fn bad_header_digest() {
    let host = host_with_digests(true, false);
    let (_admin, mut io) = Queue::controller(target(), host).unwrap();
    io.host.misbehave(Fault::HeaderDigest);
    io.host.command(Command::flush(1));
    expect_termination(&mut io);
}

/// Not fatal: the command fails, its data is dropped, the queue goes on.
fn bad_data_digest() {
    let host = host_with_digests(false, true);
    let (_admin, mut io) = Queue::controller(target(), host).unwrap();
    let good = pattern(7, 4096);
    assert_eq!(io.write(0, 512, &good, true).unwrap(), 0);
    io.host.misbehave(Fault::DataDigest);
    let status = io.write(0, 512, &pattern(8, 4096), true).unwrap();
    assert_eq!(status & 0x3fff, TRANSIENT_TRANSPORT_ERROR);
    assert!(
        io.read(0, 512, 4096).unwrap().1 == good,
        "the block is as it was"
    );
}

/// A write of 64 KiB that is asked for: what the R2T has in CCCID and TTAG.
fn asked_for(io: &mut Queue) -> (u16, u16) {
    let payload = Payload::Withheld(65536);
    io.host.command(Command::write(1, 0, 128, payload));
    match io.receive().unwrap() {
        Pdu::R2t { cid, ttag, .. } => (cid, ttag),
        other => panic!("{other:?} for an R2T"),
    }
}

fn wrong_offset() {
    let (_admin, mut io) = controller();
    let (cid, ttag) = asked_for(&mut io);
    let data = io.h2c_data(cid, ttag, 4096, &pattern(1, 4096), false);
    io.send(&data).unwrap();
    expect_termination(&mut io);
}

fn vanish() {
    let (admin, mut io) = controller();
    let (cid, ttag) = asked_for(&mut io);
    let whole = io.h2c_data(cid, ttag, 0, &pattern(1, 65536), true);
    io.send(&whole[..30_000]).unwrap();
    io.shutdown(Shutdown::Both);
    drop(admin);
}
