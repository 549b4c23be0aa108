//! The host against PDUs that are written by hand, as the specification draws them.
#![allow(missing_docs)]

use std::time::Duration;

use testkit::command::property;
use testkit::{Association, Command, Config, Fault, Format, Host, Payload, Pdu, Violation, crc32c};

const NQN: &str = "nqn.2026-01.io.throughline:kit";

/// ICResp with digests (bits 0 and 1) and MAXH2CDATA.
fn ic_resp(digests: u8, h2c_max: u32) -> Vec<u8> {
    let mut pdu = vec![0; 128];
    pdu[..8].copy_from_slice(&[1, 0, 128, 0, 128, 0, 0, 0]);
    pdu[11] = digests;
    pdu[12..16].copy_from_slice(&h2c_max.to_le_bytes());
    pdu
}

/// CapsuleResp, without a digest.
fn resp(cid: u16, status: u16, result: u64, sq_head: u16) -> Vec<u8> {
    let mut pdu = vec![5, 0, 24, 0, 24, 0, 0, 0];
    pdu.extend(result.to_le_bytes());
    pdu.extend(sq_head.to_le_bytes());
    pdu.extend([0; 2]);
    pdu.extend(cid.to_le_bytes());
    pdu.extend((status << 1).to_le_bytes());
    pdu
}

/// C2HData, without digests.
fn data(flags: u8, cid: u16, offset: u32, data: &[u8]) -> Vec<u8> {
    let mut pdu = vec![7, flags, 24, 24];
    pdu.extend((24 + data.len() as u32).to_le_bytes());
    pdu.extend(cid.to_le_bytes());
    pdu.extend([0; 2]);
    pdu.extend(offset.to_le_bytes());
    pdu.extend((data.len() as u32).to_le_bytes());
    pdu.extend([0; 4]);
    pdu.extend(data);
    pdu
}

fn r2t(cid: u16, ttag: u16, offset: u32, len: u32) -> Vec<u8> {
    let mut pdu = vec![9, 0, 24, 0, 24, 0, 0, 0];
    pdu.extend(cid.to_le_bytes());
    pdu.extend(ttag.to_le_bytes());
    pdu.extend(offset.to_le_bytes());
    pdu.extend(len.to_le_bytes());
    pdu.extend([0; 4]);
    pdu
}

fn sent(host: &mut Host) -> Vec<u8> {
    let mut bytes = Vec::new();
    host.transmit(&mut bytes, usize::MAX);
    bytes
}

/// A host whose connection is initialized, with so many entries, and nothing to send.
fn initialized(config: Config) -> Host {
    let mut host = Host::new(config);
    host.initialize();
    sent(&mut host);
    let format = host.config().format;
    let digests = u8::from(format.header_digest) | u8::from(format.data_digest) << 1;
    host.receive(&ic_resp(digests, 8192)).unwrap();
    host
}

fn host() -> Host {
    initialized(Config::new(NQN))
}

#[test]
fn a_connection_begins_with_icreq_and_connect() {
    let mut host = Host::new(Config {
        format: Format {
            header_digest: true,
            data_digest: true,
            hpda: 3,
            cpda: 0,
        },
        max_r2t: 5,
        keep_alive: Duration::from_secs(2),
        ..Config::new(NQN)
    });
    host.initialize();
    let cid = host.connect(0, 0xffff);
    let request = sent(&mut host);
    assert_eq!(request.len(), 128, "Connect waits for ICResp");
    assert_eq!(
        request[..16],
        [0, 0, 128, 0, 128, 0, 0, 0, 0, 0, 3, 3, 5, 0, 0, 0]
    );
    // The controller has no data digests.
    host.receive(&ic_resp(1, 4096)).unwrap();
    let capsule = sent(&mut host);
    assert_eq!(capsule.len(), 72 + 4 + 1024);
    assert_eq!(capsule[..8], [4, 1, 72, 76, 0x4c, 4, 0, 0]);
    assert_eq!(capsule[72..76], crc32c(&capsule[..72]).to_le_bytes());
    let sqe = &capsule[8..72];
    assert_eq!((sqe[0], sqe[1], sqe[4]), (0x7f, 0x40, 1));
    assert_eq!(sqe[2..4], cid.to_le_bytes());
    assert_eq!(
        sqe[32..40],
        [0, 4, 0, 0, 0, 0, 0, 1],
        "1,024 bytes in the capsule"
    );
    assert_eq!(sqe[40..52], [0, 0, 0, 0, 31, 0, 0, 0, 0xd0, 7, 0, 0]);
    assert_eq!(capsule[76 + 16..76 + 18], [0xff, 0xff]);
    assert!(capsule[76 + 256..].starts_with(NQN.as_bytes()));
    let mut answer = resp(cid, 0, 7, 1);
    (answer[1], answer[4]) = (1, 28);
    answer.extend(crc32c(&answer).to_le_bytes());
    host.receive(&answer).unwrap();
    assert_eq!((host.qid(), host.cntlid()), (Some(0), Some(7)));
    assert_eq!(host.next_completion().map(|done| done.cid), Some(cid));
}

#[test]
fn data_is_put_together_from_whatever_pieces() {
    let mut host = host();
    let cid = host.command(Command::read(1, 0, 3, 1536));
    let mut bytes = data(0, cid, 0, &[1; 500]);
    bytes.extend(data(4, cid, 500, &[2; 1036]));
    bytes.extend(resp(cid, 0, 0, 1));
    for byte in bytes {
        assert_eq!(host.next_completion(), None);
        host.receive(&[byte]).unwrap();
    }
    let done = host.next_completion().unwrap();
    assert_eq!((done.status, done.sq_head), (0, Some(1)));
    assert_eq!(done.data, [[1; 500].as_slice(), &[2; 1036]].concat());
    assert_eq!(host.outstanding(), 0);
}

#[test]
fn the_success_flag_is_a_response() {
    let config = Config {
        no_flow_control: true,
        ..Config::new(NQN)
    };
    let mut host = initialized(config);
    let cid = host.connect(1, 3);
    host.receive(&resp(cid, 0, 3, 0xffff)).unwrap();
    host.next_completion();
    let cid = host.command(Command::read(1, 0, 1, 512));
    host.receive(&data(0x0c, cid, 0, &[9; 512])).unwrap();
    let done = host.next_completion().unwrap();
    assert_eq!((done.cid, done.status, done.sq_head), (cid, 0, None));
}

#[test]
fn an_r2t_is_answered_in_pieces_of_what_the_controller_takes() {
    let mut host = host();
    let bytes: Vec<u8> = (0..20480u32).map(|i| (i / 100) as u8).collect();
    let cid = host.command(Command::write(2, 5, 5, Payload::Asked(bytes.clone())));
    let capsule = sent(&mut host);
    assert_eq!(capsule.len(), 72);
    let sqe = &capsule[8..];
    assert_eq!(
        sqe[32..40],
        [0, 0x50, 0, 0, 0, 0, 0, 0x5a],
        "a transport SGL"
    );
    assert_eq!((sqe[40], sqe[48]), (5, 4), "SLBA and NLB");
    host.receive(&r2t(cid, 0x33, 0, 12288)).unwrap();
    host.receive(&r2t(cid, 0x44, 12288, 8192)).unwrap();
    let mut out = sent(&mut host);
    for (ttag, offset, len, last) in [
        (0x33, 0, 8192, false),
        (0x33, 8192, 4096, true),
        (0x44, 12288, 8192, true),
    ] {
        assert_eq!(out[..4], [6, u8::from(last) << 2, 24, 24]);
        assert_eq!(out[8..12], [cid as u8, 0, ttag, 0]);
        assert_eq!(out[12..16], (offset as u32).to_le_bytes());
        assert_eq!(out[16..20], (len as u32).to_le_bytes());
        assert!(out[24..24 + len] == bytes[offset..offset + len]);
        out.drain(..24 + len);
    }
    assert!(out.is_empty());
    host.receive(&resp(cid, 0, 0, 1)).unwrap();
    let done = host.next_completion().unwrap();
    assert_eq!(done.command.payload, Payload::Asked(bytes));
}

#[test]
fn data_that_are_withheld_are_the_caller_s_to_send() {
    let mut host = host();
    let cid = host.command(Command::write(1, 0, 8, Payload::Withheld(4096)));
    sent(&mut host);
    host.receive(&r2t(cid, 1, 0, 4096)).unwrap();
    assert!(sent(&mut host).is_empty());
    let expected = Pdu::R2t {
        cid,
        ttag: 1,
        offset: 0,
        len: 4096,
    };
    assert_eq!(host.next_pdu(), Some(expected));
    host.send_data(cid, 1, 0, &[3; 4096]);
    assert_eq!(sent(&mut host).len(), 24 + 4096);
}

#[test]
fn commands_wait_for_room_in_the_submission_queue() {
    let config = Config {
        entries: 4,
        ..Config::new(NQN)
    };
    let mut host = initialized(config);
    let cids: Vec<u16> = (0..5).map(|_| host.command(Command::flush(1))).collect();
    assert_eq!((host.room(), host.outstanding()), (0, 5));
    assert_eq!(sent(&mut host).len(), 3 * 72);
    // In whatever order they end.
    host.advance(Duration::from_millis(3));
    host.receive(&resp(cids[2], 0x4080, 0, 1)).unwrap();
    assert_eq!(sent(&mut host).len(), 72);
    let done = host.next_completion().unwrap();
    assert_eq!((done.cid, done.status), (cids[2], 0x4080));
    assert_eq!(
        (done.submitted, done.completed),
        (Duration::ZERO, Duration::from_millis(3))
    );
    assert_eq!(host.in_flight().count(), 3);
    let lost = host.take_outstanding();
    let sent: Vec<(u16, bool)> = lost.iter().map(|one| (one.cid, one.was_sent)).collect();
    let expected = [
        (cids[0], true),
        (cids[1], true),
        (cids[3], true),
        (cids[4], false),
    ];
    assert_eq!(sent, expected);
}

/// What the controller may not do, one by one.
#[test]
fn violations_are_told() {
    let read = |host: &mut Host| host.command(Command::read(1, 0, 1, 512));
    let write =
        |host: &mut Host| host.command(Command::write(1, 0, 1, Payload::Asked(vec![0; 512])));
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Host) -> Vec<u8>);
    let cases: [Case<'_>; 20] = [
        ("type 0x0a", &|_| vec![10, 0, 24, 0, 24, 0, 0, 0]),
        ("type 0x06", &|_| vec![6, 0, 24, 0, 24, 0, 0, 0]),
        ("HLEN 23", &|_| vec![5, 0, 23, 0, 24, 0, 0, 0]),
        ("HDGSTF", &|_| {
            vec![
                5, 1, 24, 0, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                0,
            ]
        }),
        ("PLEN 28 of a response", &|_| {
            [&[5, 0, 24, 0, 28][..], &[0; 23]].concat()
        }),
        ("a second ICResp", &|_| ic_resp(0, 8192)),
        ("a response to CID 9", &|_| resp(9, 0, 0, 0)),
        ("data for CID 9", &|_| data(4, 9, 0, &[0; 512])),
        ("an R2T for CID 9", &|_| r2t(9, 0, 0, 512)),
        ("data at 4 for CID 1, which has 0", &|host| {
            data(4, read(host), 4, &[0; 508])
        }),
        ("513 bytes at 0 for CID 1, which takes 512", &|host| {
            data(4, read(host), 0, &[0; 513])
        }),
        ("data for CID 1 behind the last", &|host| {
            let cid = read(host);
            [data(4, cid, 0, &[0; 256]), data(4, cid, 256, &[0; 256])].concat()
        }),
        ("success of CID 1 in the middle of its data", &|host| {
            let cid = read(host);
            [data(0, cid, 0, &[0; 256]), resp(cid, 0, 0, 1)].concat()
        }),
        ("data for CID 1, which reads nothing", &|host| {
            data(4, write(host), 0, &[0; 512])
        }),
        ("an R2T for CID 1, which sends nothing", &|host| {
            r2t(read(host), 0, 0, 512)
        }),
        ("an R2T of 513 bytes at 0", &|host| {
            r2t(write(host), 0, 0, 513)
        }),
        (
            "an R2T of 256 bytes at 256 for CID 1, which sends 512 and was asked for 0",
            &|host| r2t(write(host), 0, 256, 256),
        ),
        ("success of CID 1 with 0 of 512 bytes", &|host| {
            resp(write(host), 0, 0, 1)
        }),
        ("SUCCESS in a C2HData that is not the last", &|host| {
            data(8, read(host), 0, &[0; 512])
        }),
        ("SUCCESS to command 1 with SQ flow control", &|host| {
            data(12, read(host), 0, &[0; 512])
        }),
    ];
    for (name, bytes) in cases {
        let mut host = host();
        let bytes = bytes(&mut host);
        let Err(Violation(told)) = host.receive(&bytes) else {
            panic!("{name}: nothing is wrong");
        };
        assert!(told.contains(name), "{told}, not {name}");
        assert!(host.receive(&[]).is_err(), "it is not forgotten");
    }
}

#[test]
fn sq_head_is_what_was_sent() {
    let connected = || {
        let mut host = host();
        let cid = host.connect(1, 3);
        host.receive(&resp(cid, 0, 3, 1)).unwrap();
        host.next_completion();
        let cid = host.command(Command::flush(1));
        (host, cid)
    };
    for sq_head in [1, 2] {
        let (mut host, cid) = connected();
        host.receive(&resp(cid, 0, 0, sq_head)).unwrap();
    }
    for sq_head in [0, 3, 31, 32, 0xffff] {
        let (mut host, cid) = connected();
        let told = host.receive(&resp(cid, 0, 0, sq_head)).unwrap_err();
        assert!(told.0.contains("SQHD"), "{told}");
    }
}

#[test]
fn digests_are_made_and_verified() {
    let config = Config {
        format: Format {
            header_digest: true,
            data_digest: true,
            ..Format::default()
        },
        ..Config::new(NQN)
    };
    let answer = |cid| {
        let mut pdu = vec![7, 7, 24, 28, 0, 0, 0, 0];
        pdu[4..8].copy_from_slice(&(28u32 + 512 + 4).to_le_bytes());
        pdu.extend([cid as u8, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
        pdu.extend(crc32c(&pdu).to_le_bytes());
        pdu.extend([0x77; 512]);
        pdu.extend(crc32c(&[0x77; 512]).to_le_bytes());
        pdu
    };
    let mut host = initialized(config.clone());
    let cid = host.command(Command::read(1, 0, 1, 512));
    sent(&mut host);
    host.receive(&answer(cid)).unwrap();
    for (at, name) in [
        (12, "header digest"),
        (24, "header digest"),
        (100, "data digest"),
        (543, "data digest"),
    ] {
        let mut host = initialized(config.clone());
        let cid = host.command(Command::read(1, 0, 1, 512));
        let mut pdu = answer(cid);
        pdu[at] ^= 0x10;
        let told = host.receive(&pdu).unwrap_err();
        assert!(told.0.contains(name), "{told}");
    }
    let mut host = initialized(config);
    host.command(Command::write(1, 0, 1, Payload::Capsule(vec![5; 512])));
    let good = sent(&mut host);
    assert_eq!(good[..4], [4, 3, 72, 76]);
    assert_eq!(good[72..76], crc32c(&good[..72]).to_le_bytes());
    assert_eq!(good[76 + 512..], crc32c(&[5; 512]).to_le_bytes());
    // The same, with faults: each in the first PDU that can have it.
    host.misbehave(Fault::DataDigest);
    host.misbehave(Fault::HeaderDigest);
    host.command(Command::flush(1));
    let flush = sent(&mut host);
    assert_eq!(flush[72..76], crc32c(&flush[..72]).to_le_bytes());
    host.command(Command::write(1, 0, 1, Payload::Capsule(vec![5; 512])));
    let spoilt = sent(&mut host);
    assert_ne!(spoilt[76 + 512..], crc32c(&[5; 512]).to_le_bytes());
    host.command(Command::flush(1));
    let flush = sent(&mut host);
    assert_ne!(flush[72..76], crc32c(&flush[..72]).to_le_bytes());
}

#[test]
fn data_to_the_controller_is_aligned_as_it_asks() {
    let mut host = Host::new(Config::new(NQN));
    host.initialize();
    sent(&mut host);
    let mut response = ic_resp(0, 8192);
    response[10] = 31;
    host.receive(&response).unwrap();
    host.command(Command::write(1, 0, 1, Payload::Capsule(vec![5; 512])));
    let capsule = sent(&mut host);
    assert_eq!((capsule[3], capsule.len()), (128, 128 + 512));
    assert!(capsule[72..128].iter().all(|&byte| byte == 0));
}

#[test]
fn a_host_may_stall_trickle_or_break_off() {
    let mut host = host();
    host.conduct.trickle = Some(10);
    host.command(Command::flush(1));
    assert_eq!(sent(&mut host).len(), 10);
    host.conduct.stalled = true;
    assert!(sent(&mut host).is_empty());
    host.conduct = Default::default();
    assert_eq!(sent(&mut host).len(), 62);
    host.misbehave(Fault::Flip { at: 0, bits: 0x40 });
    host.command(Command::flush(1));
    assert_eq!(sent(&mut host)[0], 0x44);
    host.misbehave(Fault::Cut(100));
    host.command(Command::write(1, 0, 1, Payload::Capsule(vec![1; 512])));
    host.command(Command::flush(1));
    assert_eq!(sent(&mut host).len(), 100, "and nothing after it");
    host.conduct.deaf = true;
    assert!(!host.is_reading());
}

#[test]
fn keep_alive_is_sent_in_time() {
    let second = Duration::from_secs(1);
    let mut host = initialized(Config {
        keep_alive: second * 10,
        ..Config::new(NQN)
    });
    assert_eq!(host.next_deadline(), None);
    let cid = host.connect(0, 0xffff);
    host.advance(second);
    host.receive(&resp(cid, 0, 1, 1)).unwrap();
    host.next_completion();
    sent(&mut host);
    assert_eq!(host.next_deadline(), None, "not before it is ready");
    host.set_ready();
    assert_eq!(host.next_deadline(), Some(second * 6));
    host.advance(second * 5);
    assert!(sent(&mut host).is_empty());
    host.advance(second * 6);
    let capsule = sent(&mut host);
    assert_eq!(capsule[8], 0x18);
    assert_eq!(host.next_deadline(), None, "one at a time");
    let cid = u16::from_le_bytes([capsule[10], capsule[11]]);
    host.receive(&resp(cid, 0, 0, 2)).unwrap();
    assert_eq!(host.next_completion(), None, "nobody asked for it");
    assert_eq!(host.next_deadline(), Some(second * 11));
    // One that fails is told.
    host.advance(second * 11);
    host.receive(&resp(cid + 1, 0x4009, 0, 3)).unwrap();
    assert_eq!(host.next_completion().map(|done| done.status), Some(0x4009));
}

/// A controller that answers one capsule at a time; `ready` is how often CSTS is asked for.
fn answer(capsule: &[u8], sq_head: u16, asked: &mut Vec<u8>) -> Vec<u8> {
    let sqe = &capsule[8..72];
    let cid = u16::from_le_bytes([sqe[2], sqe[3]]);
    let offset = u32::from(sqe[44]);
    asked.push(sqe[0]);
    match (sqe[0], sqe[4]) {
        (0x7f, 1) => resp(cid, 0, 0x17, sq_head),
        (0x7f, 4) if offset == property::CAP => resp(cid, 0, 0x0020_0001_1e01_03ff, sq_head),
        (0x7f, 4) => {
            // Not ready, nor shut down, when it is asked for the first time.
            let times = asked.iter().filter(|&&opcode| opcode == 0x7f).count();
            let result = if asked.contains(&9) { 0b1001 } else { 1 };
            resp(
                cid,
                0,
                if times.is_multiple_of(2) { result } else { 0 },
                sq_head,
            )
        }
        (6, _) => {
            let mut bytes = vec![0; 4096];
            (bytes[77], bytes[525], bytes[1792], bytes[1793]) = (5, 1, 4, 1);
            [data(4, cid, 0, &bytes), resp(cid, 0, 0, sq_head)].concat()
        }
        // Two queues of each kind.
        (9, _) => resp(cid, 0, 0x0001_0001, sq_head),
        _ => resp(cid, 0, 0, sq_head),
    }
}

#[test]
fn an_association_connects_and_shuts_down() {
    let mut association = Association::new(Config::new(NQN), 4);
    let mut asked = Vec::new();
    let mut heads = [0; 5];
    let mut turn = |association: &mut Association| {
        for (host, head) in association.hosts().iter_mut().zip(&mut heads) {
            let bytes = sent(host);
            let answer = match bytes.first() {
                None => continue,
                Some(0) => ic_resp(0, 8192),
                Some(_) => {
                    *head += 1;
                    answer(&bytes, *head, &mut asked)
                }
            };
            host.receive(&answer).unwrap();
        }
        association.drive(Duration::ZERO).unwrap();
        association.is_ready() || association.is_shut_down()
    };
    testkit::poll_until("queues", 20, || turn(&mut association));
    assert_eq!(association.connections(), 3, "as many as it allows");
    let controller = association.controller();
    assert_eq!((controller.cntlid, controller.queues), (0x17, 2));
    assert_eq!(
        (controller.max_transfer, controller.in_capsule),
        (128 << 10, 4096)
    );
    assert!(controller.has_volatile_write_cache);
    for qid in 0..3 {
        assert_eq!(association.host(qid).qid(), Some(qid as u16));
        assert_eq!(association.host(qid).next_completion(), None);
    }
    association.shut_down();
    testkit::poll_until("shutdown", 20, || turn(&mut association));
    assert!(association.is_shut_down());
}

#[test]
fn an_association_says_what_was_refused() {
    let mut association = Association::new(Config::new(NQN), 1);
    let admin = association.admin();
    sent(admin);
    admin.receive(&ic_resp(0, 8192)).unwrap();
    admin.receive(&resp(1, 0x4184, 0, 0)).unwrap();
    let setback = association.drive(Duration::ZERO).unwrap_err();
    assert_eq!(setback.to_string(), "Connect: status 0x4184");
}
