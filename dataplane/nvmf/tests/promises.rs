//! What Identify says is there, is there; and nothing else is.
//!
//! A row is a bit of a data structure, with a probe that finds out by commands whether what it stands
//! for is served. Bit and probe must say the same. What no row is about must be clear.

mod rig;

use rig::host::{Answer, Host, Manners, connect_data, log_page, rw, sc, set32, sqe};
use rig::{DISCOVERY_NQN, HOST_NQN, NQN, Rig, namespace};

use nvmf::BlockSize;

/// Finds out whether something is served, by commands to a controller that was just enabled.
type Probe = fn(&mut Rig, &mut Host) -> bool;

/// Bit `bit` of the field at byte `at`.
struct Row {
    at: usize,
    bit: usize,
    what: &'static str,
    probe: Probe,
}

const fn row(at: usize, bit: usize, what: &'static str, probe: Probe) -> Row {
    Row {
        at,
        bit,
        what,
        probe,
    }
}

/// A field that is a number: a test of its own says what it is worth, or it only names something.
type Numbers = &'static [std::ops::Range<usize>];

/// Identify Controller of an I/O controller (base 2.0, 5.17.2.1, Figure 275).
const CONTROLLER: &[Row] = &[
    row(76, 0, "CMIC: several ports", several_ports),
    row(76, 1, "CMIC: several controllers", several_controllers),
    row(76, 3, "CMIC: asymmetric access", |r, h| has_log(r, h, 0x0c)),
    row(92, 8, "OAES: namespace attributes", namespace_notice),
    row(92, 9, "OAES: firmware activation", |r, h| {
        has_admin(r, h, 0x10)
    }),
    row(92, 11, "OAES: asymmetric access", |r, h| {
        has_log(r, h, 0x0c)
    }),
    row(92, 12, "OAES: predictable latency", |r, h| {
        has_log(r, h, 0x0b)
    }),
    row(92, 13, "OAES: LBA status", |r, h| has_admin(r, h, 0x86)),
    row(92, 14, "OAES: endurance groups", |r, h| has_log(r, h, 0x0f)),
    row(92, 31, "OAES: discovery log", |r, h| has_log(r, h, 0x70)),
    row(
        96,
        0,
        "CTRATT: 128-bit Host Identifier",
        long_host_identifier,
    ),
    row(96, 1, "CTRATT: non-operational power", |r, h| {
        has_feature(r, h, 0x11)
    }),
    row(96, 2, "CTRATT: NVM sets", |r, h| has_identify(r, h, 0x04)),
    row(96, 3, "CTRATT: read recovery levels", |r, h| {
        has_feature(r, h, 0x12)
    }),
    row(96, 4, "CTRATT: endurance groups", |r, h| {
        has_identify(r, h, 0x19)
    }),
    row(96, 5, "CTRATT: predictable latency", |r, h| {
        has_feature(r, h, 0x13)
    }),
    row(96, 6, "CTRATT: traffic keeps alive", traffic_keeps_alive),
    row(96, 7, "CTRATT: namespace granularity", |r, h| {
        has_identify(r, h, 0x16)
    }),
    row(96, 9, "CTRATT: UUID list", |r, h| has_identify(r, h, 0x17)),
    row(96, 10, "CTRATT: domains", |r, h| has_identify(r, h, 0x18)),
    row(96, 11, "CTRATT: fixed capacity", |r, h| {
        has_admin(r, h, 0x20)
    }),
    row(256, 0, "OACS: security", |r, h| has_admin(r, h, 0x81)),
    row(256, 1, "OACS: format", |r, h| has_admin(r, h, 0x80)),
    row(256, 2, "OACS: firmware", |r, h| has_admin(r, h, 0x11)),
    row(256, 3, "OACS: namespace management", |r, h| {
        has_admin(r, h, 0x0d)
    }),
    row(256, 4, "OACS: self-test", |r, h| has_admin(r, h, 0x14)),
    row(256, 5, "OACS: directives", |r, h| has_admin(r, h, 0x19)),
    row(256, 6, "OACS: NVMe-MI", |r, h| has_admin(r, h, 0x1d)),
    row(256, 7, "OACS: virtualization", |r, h| has_admin(r, h, 0x1c)),
    row(256, 8, "OACS: doorbell buffers", |r, h| {
        has_admin(r, h, 0x7c)
    }),
    row(256, 9, "OACS: LBA status", |r, h| has_admin(r, h, 0x86)),
    row(256, 10, "OACS: lockdown", |r, h| has_admin(r, h, 0x24)),
    row(260, 0, "FRMW: slot 1 is read-only", |r, h| {
        !has_admin(r, h, 0x10)
    }),
    row(260, 1, "FRMW: one slot", one_firmware_slot),
    row(260, 4, "FRMW: activation without reset", |r, h| {
        has_admin(r, h, 0x10)
    }),
    row(261, 0, "LPA: SMART of a namespace", smart_of_a_namespace),
    row(261, 1, "LPA: effects of commands", effects_of_commands),
    row(261, 2, "LPA: logs in parts", logs_in_parts),
    row(261, 3, "LPA: telemetry", |r, h| has_log(r, h, 0x07)),
    row(261, 4, "LPA: persistent events", |r, h| has_log(r, h, 0x0d)),
    row(261, 5, "LPA: logs 00h, 12h, 13h, scopes", logs_and_scopes),
    row(261, 6, "LPA: telemetry area 4", |r, h| has_log(r, h, 0x08)),
    row(520, 0, "ONCS: Compare", |r, h| has_nvm(r, h, 0x05)),
    row(520, 1, "ONCS: Write Uncorrectable", |r, h| {
        has_nvm(r, h, 0x04)
    }),
    row(520, 2, "ONCS: Dataset Management", |r, h| {
        has_nvm(r, h, 0x09)
    }),
    row(520, 3, "ONCS: Write Zeroes", |r, h| has_nvm(r, h, 0x08)),
    row(520, 4, "ONCS: Save and Select", save_and_select),
    row(520, 5, "ONCS: reservations", |r, h| has_nvm(r, h, 0x0e)),
    row(520, 6, "ONCS: timestamp", |r, h| has_feature(r, h, 0x0e)),
    row(520, 7, "ONCS: Verify", |r, h| has_nvm(r, h, 0x0c)),
    row(520, 8, "ONCS: Copy", |r, h| has_nvm(r, h, 0x19)),
    row(522, 0, "FUSES: Compare and Write", fused),
    row(525, 0, "VWC: a volatile write cache", |r, h| {
        has_feature(r, h, 0x06)
    }),
    // 10b of bits 2:1: Flush of all namespaces is refused; 11b: it is not.
    row(525, 1, "VWC: Flush of all namespaces", flush_of_all),
    row(525, 2, "VWC: what Flush of all does is said", |_, _| true),
    row(531, 0, "NWPC: write protection", |r, h| {
        has_feature(r, h, 0x84)
    }),
    row(536, 0, "SGLS: SGLs", sgls),
    row(536, 2, "SGLS: keyed", |r, h| takes_sgl(r, h, 0x40)),
    row(536, 16, "SGLS: bit buckets", |r, h| takes_sgl(r, h, 0x10)),
    row(536, 18, "SGLS: longer than the data", longer_sgl),
    row(536, 20, "SGLS: offsets", |r, h| takes_sgl(r, h, 0x01)),
    row(536, 21, "SGLS: transport", |r, h| takes_sgl(r, h, 0x5a)),
    row(1804, 0, "OFCS: Disconnect", disconnect),
];

/// SN to FR; MDTS, CNTLID, VER; CNTRLTYPE; CRDT1; ACL, AERL; KAS; CQT; SQES to NN; SUBNQN; IOCCSZ, IORCSZ; MSDBD.
const CONTROLLER_NUMBERS: Numbers = &[
    4..72,
    77..84,
    111..112,
    128..130,
    258..260,
    320..322,
    386..388,
    512..520,
    768..1024,
    1792..1800,
    1803..1804,
];

/// Identify Controller of a discovery controller.
const DISCOVERY: &[Row] = &[
    row(92, 31, "OAES: discovery log", discovery_notice),
    row(261, 1, "LPA: effects of commands", |r, h| {
        has_log(r, h, 0x05)
    }),
    row(261, 2, "LPA: logs in parts", |r, h| {
        let whole = data(h.log_page(r, 0x70, 0, 2048));
        data(h.log_page(r, 0x70, 1024, 1024)) == whole[1024..]
    }),
    row(261, 5, "LPA: logs 00h, 12h, 13h", |r, h| {
        has_log(r, h, 0x00)
    }),
    row(536, 0, "SGLS: SGLs", |_, _| true),
    row(536, 20, "SGLS: offsets", |_, _| true),
    row(536, 21, "SGLS: transport", |_, _| true),
];

/// Identify Namespace, of a namespace whose device says that deallocated blocks are zeros (NVM 1.0,
/// 4.1.5.1, Figure 97).
const NAMESPACE: &[Row] = &[
    row(24, 2, "NSFEAT: DULBE", |r, h| {
        h.set_features(r, 0x05, 1 << 16).status == 0
    }),
    row(24, 4, "NSFEAT: optimal sizes", |r, h| {
        let id = data(h.identify(r, 0x00, 1));
        [64, 66, 68, 70, 72].iter().all(|&at| id[at] > 0)
    }),
    row(30, 0, "NMIC: shared", shared),
    row(31, 0, "RESCAP", |r, h| has_nvm(r, h, 0x0d)),
    row(33, 0, "DLFEAT: zeros", deallocated_zeros),
    row(33, 3, "DLFEAT: Write Zeroes deallocates", zeroes_with_deac),
    row(99, 0, "NSATTR: write protection", |r, h| {
        has_feature(r, h, 0x84)
    }),
];

/// NSZE, NCAP, NUSE; NPWG to NOWS; NGUID, EUI64; LBAF0.
const NAMESPACE_NUMBERS: Numbers = &[0..24, 64..74, 104..128, 128..132];

#[track_caller]
fn data(answer: Answer) -> Vec<u8> {
    assert_eq!(sc(answer.status), (0, 0));
    answer.data
}

/// Compares a structure with what is there.
fn compare(structure: &[u8], rows: &[Row], numbers: Numbers, enable: fn(&mut Rig) -> Host) {
    let mut unproven = structure.to_vec();
    numbers
        .iter()
        .for_each(|range| unproven[range.clone()].fill(0));
    let mut wrong = String::new();
    for Row {
        at,
        bit,
        what,
        probe,
    } in rows
    {
        let mut rig = Rig::new();
        let mut host = enable(&mut rig);
        let is_served = probe(&mut rig, &mut host);
        host.close(&mut rig);
        let (byte, mask) = (at + bit / 8, 1 << (bit % 8));
        let is_claimed = structure[byte] & mask != 0;
        if is_claimed != is_served {
            wrong += &format!("{what}: says {is_claimed}, is {is_served}\n");
        }
        unproven[byte] &= !mask;
    }
    for (at, byte) in unproven.iter().enumerate().filter(|(_, byte)| **byte != 0) {
        wrong += &format!("byte {at}: nothing shows {byte:#010b}\n");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn enable(rig: &mut Rig) -> Host {
    Host::admin(rig, Manners::default())
}

fn enable_discovery(rig: &mut Rig) -> Host {
    let mut host = Host::new(rig, Manners::default());
    host.initialize(rig);
    let connect = connect_data(0xffff, DISCOVERY_NQN, HOST_NQN);
    assert_eq!(host.connect_with(rig, 0, 31, &connect).status, 0);
    host.set_property(rig, 0x14, 0x0046_0001);
    host
}

#[test]
fn base_5_17_2_1_each_bit_of_identify_controller_is_what_is_there() {
    let mut rig = Rig::new();
    let mut host = enable(&mut rig);
    let id = data(host.identify(&mut rig, 0x01, 0));
    host.close(&mut rig);
    compare(&id, CONTROLLER, CONTROLLER_NUMBERS, enable);
}

#[test]
fn base_3_1_2_3_each_bit_of_a_discovery_controller_is_what_is_there() {
    let mut rig = Rig::new();
    let mut host = enable_discovery(&mut rig);
    let id = data(host.identify(&mut rig, 0x01, 0));
    // It aborts nothing (ACL), as it takes no Abort.
    assert_eq!(id[258], 0);
    assert!(!has_admin(&mut rig, &mut host, 0x08));
    host.close(&mut rig);
    compare(&id, DISCOVERY, CONTROLLER_NUMBERS, enable_discovery);
}

#[test]
fn nvm_4_1_5_1_each_bit_of_identify_namespace_is_what_is_there() {
    let mut rig = Rig::new();
    let mut host = enable(&mut rig);
    let id = data(host.identify(&mut rig, 0x00, 1));
    // What is independent of the command set says the same: NMIC, and that it is ready.
    let independent = data(host.identify(&mut rig, 0x08, 1));
    assert_eq!((independent[1], independent[14]), (id[30], 1));
    host.close(&mut rig);
    compare(&id, NAMESPACE, NAMESPACE_NUMBERS, enable);
}

/// Each log, feature and command that is listed is served, and no other.
#[test]
fn base_5_16_1_what_logs_list_is_what_is_there() {
    let mut rig = Rig::new();
    let mut host = enable(&mut rig);
    let logs = data(host.log_page(&mut rig, 0x00, 0, 1024));
    let features = data(host.log_page(&mut rig, 0x12, 0, 1024));
    let effects = data(host.log_page(&mut rig, 0x05, 0, 4096));
    let listed = |list: &[u8], n: u8| list[usize::from(n) * 4] & 1 == 1;
    for n in 0..=255 {
        assert_eq!(
            listed(&logs, n),
            has_log(&mut rig, &mut host, n),
            "log {n:x}"
        );
        assert_eq!(
            listed(&features, n),
            has_feature(&mut rig, &mut host, n),
            "feature {n:x}"
        );
        // Asynchronous event requests are parked, and Fabrics commands are no Admin commands.
        if n != 0x0c && n != 0x7f {
            let is_there = has_admin(&mut rig, &mut host, n);
            assert_eq!(listed(&effects, n), is_there, "Admin command {n:x}");
        }
        if n != 0x7f {
            let is_there = has_nvm(&mut rig, &mut host, n);
            assert_eq!(listed(&effects[1024..], n), is_there, "I/O command {n:x}");
        }
    }
    host.close(&mut rig);
}

/// ACL, AERL and MQES are as many as there is room for: one more is refused, one less is not. MDTS,
/// IOCCSZ and NN have tests of their own.
#[test]
fn base_5_17_2_1_limits_are_what_there_is_room_for() {
    let mut rig = Rig::new();
    let mut host = enable(&mut rig);
    let id = data(host.identify(&mut rig, 0x01, 0));
    for _ in 0..=id[259] {
        let cid = host.submit(&mut rig, sqe(0x0c, 0), &[]);
        assert!(!host.answers.contains_key(&cid), "AERL");
    }
    assert_eq!(
        sc(host.without_data(&mut rig, sqe(0x0c, 0)).status),
        (1, 0x05)
    );
    host.close(&mut rig);
}

/// CQT: once the Keep Alive Timer has run out, and after that time, what devices still have of the host is
/// fenced. Shards look as late as they may: for traffic that puts the timer off, for its end, and,
/// that of the I/O queue, for the end of the controller.
#[test]
fn base_2_1_9_6_what_a_lost_host_left_is_fenced_within_cqt() {
    const KATO: u64 = 5000;
    let tick = u64::from(nvmf::TICK_MS);
    let mut rig = Rig::new();
    let manners = Manners {
        keep_alive_ms: KATO as u32,
        ..Manners::default()
    };
    let mut admin = Host::admin(&mut rig, manners);
    let mut io = admin.io(&mut rig, 1, 32);
    let id = data(admin.identify(&mut rig, 0x01, 0));
    let cqt = u64::from(u16::from_le_bytes([id[386], id[387]]));
    assert_ne!(cqt, 0, "not reported");
    data(admin.without_data(&mut rig, sqe(0x18, 0)));
    let last = rig.now;
    rig.disks.hold = true;
    let mut write = rw(0x01, 1, 8, 1);
    rig::host::in_capsule(&mut write, 512);
    io.submit(&mut rig, write, &[7; 512]);
    rig.disks.hold = false;
    assert_eq!(rig.disks.held.len(), 1);

    let look = |host: &mut Host, rig: &mut Rig, at: u64| {
        rig.now = last.plus_ms(at);
        let next = host.session.advance(rig.now, &mut rig.shard());
        assert_eq!(next, rig.now.plus_ms(tick));
    };
    // The write was traffic: the timer starts again, a tick late.
    let again = KATO + tick - 1;
    look(&mut admin, &mut rig, KATO - 1);
    look(&mut admin, &mut rig, again);
    look(&mut admin, &mut rig, again + KATO - 1);
    let ends = again + KATO + tick - 1;
    look(&mut io, &mut rig, ends - 1);
    look(&mut admin, &mut rig, ends);
    assert!(admin.session.closing().is_some() && rig.target.fences().raised() == 0);
    let noticed = ends + tick - 1;
    look(&mut io, &mut rig, noticed);
    assert_eq!(rig.target.fences().raised(), 1);
    // Two intervals are what a host has to reckon with, where traffic counts (base 3.9.2).
    assert!(noticed <= 2 * KATO + cqt, "{noticed} > 2 x {KATO} + {cqt}");
    assert!(noticed + tick > 2 * KATO + cqt, "{cqt} ms are too many");

    rig.release(&mut io.session);
    admin.close(&mut rig);
    io.close(&mut rig);
    let mut discovery = enable_discovery(&mut rig);
    let id = data(discovery.identify(&mut rig, 0x01, 0));
    assert_eq!(id[386..388], [0, 0], "it has no I/O queues");
    discovery.close(&mut rig);
    rig.assert_all_returned();
}

fn has_admin(rig: &mut Rig, host: &mut Host, opcode: u8) -> bool {
    let answer = host.without_data(rig, sqe(opcode, 0));
    sc(answer.status) != (0, 0x01)
}

fn has_log(rig: &mut Rig, host: &mut Host, lid: u8) -> bool {
    sc(host.log_page(rig, lid, 0, 4).status) != (1, 0x09)
}

/// A feature that is not there is an invalid field; one that is there has a default.
fn has_feature(rig: &mut Rig, host: &mut Host, fid: u8) -> bool {
    host.get_features(rig, fid, 1).status == 0
}

fn has_identify(rig: &mut Rig, host: &mut Host, cns: u8) -> bool {
    host.identify(rig, cns, 0).status == 0
}

fn has_nvm(rig: &mut Rig, host: &mut Host, opcode: u8) -> bool {
    let mut io = host.io(rig, 1, 32);
    let answer = io.without_data(rig, rw(opcode, 1, 0, 1));
    io.close(rig);
    sc(answer.status) != (0, 0x01)
}

fn several_ports(rig: &mut Rig, _: &mut Host) -> bool {
    let mut discovery = enable_discovery(rig);
    let log = data(discovery.log_page(rig, 0x70, 0, 3072));
    discovery.close(rig);
    let nqn = |entry: usize| &log[1024 * entry + 256..][..NQN.len()];
    let port = |entry: usize| log[1024 * entry + 4];
    nqn(1) == NQN.as_bytes() && nqn(2) == NQN.as_bytes() && port(1) != port(2)
}

fn several_controllers(rig: &mut Rig, host: &mut Host) -> bool {
    let mut other = enable(rig);
    let is_another = other.cntlid != host.cntlid;
    other.close(rig);
    is_another
}

fn namespace_notice(rig: &mut Rig, host: &mut Host) -> bool {
    host.set_features(rig, 0x0b, 1 << 8);
    let cid = host.submit(rig, sqe(0x0c, 0), &[]);
    let other = vec![namespace(1, BlockSize::B512, 1 << 21)];
    rig.target.set_namespaces(NQN, other).unwrap();
    told(rig, host, cid) == Some(0x0004_0002)
}

fn discovery_notice(rig: &mut Rig, host: &mut Host) -> bool {
    host.set_features(rig, 0x0b, 1 << 31);
    let cid = host.submit(rig, sqe(0x0c, 0), &[]);
    rig.target.set_listeners(Vec::new());
    told(rig, host, cid) == Some(0x0070_f002)
}

fn told(rig: &mut Rig, host: &mut Host, cid: u16) -> Option<u64> {
    host.session.advance(rig.now, &mut rig.shard());
    host.run(rig);
    host.answers.remove(&cid).map(|answer| answer.result)
}

fn long_host_identifier(rig: &mut Rig, host: &mut Host) -> bool {
    let mut get = sqe(0x0a, 0);
    get[40] = 0x81;
    get[44] = 1;
    host.reading(rig, get, 16).data == [7; 16]
}

/// Base 3.9.2.
fn traffic_keeps_alive(rig: &mut Rig, host: &mut Host) -> bool {
    host.set_features(rig, 0x0f, 5000);
    for _ in 0..3 {
        rig.now = rig.now.plus_ms(4000);
        host.get_features(rig, 0x07, 0);
        rig.now = rig.now.plus_ms(1000);
        host.session.advance(rig.now, &mut rig.shard());
    }
    host.session.closing().is_none()
}

fn one_firmware_slot(rig: &mut Rig, host: &mut Host) -> bool {
    let log = data(host.log_page(rig, 0x03, 0, 512));
    log[0] == 1 && log[8] != 0 && log[16..].iter().all(|&byte| byte == 0)
}

fn smart_of_a_namespace(rig: &mut Rig, host: &mut Host) -> bool {
    let mut of_namespace = log_page(0x02, 0, 512);
    set32(&mut of_namespace, 4, 1);
    host.reading(rig, of_namespace, 512).status == 0
}

fn effects_of_commands(rig: &mut Rig, host: &mut Host) -> bool {
    let log = data(host.log_page(rig, 0x05, 0, 4096));
    // Identify; Write changes blocks, Read does not.
    log[6 * 4] & 1 == 1 && log[1024 + 4] & 0b11 == 0b11 && log[1024 + 8] & 0b11 == 0b01
}

fn logs_in_parts(rig: &mut Rig, host: &mut Host) -> bool {
    let whole = data(host.log_page(rig, 0x05, 0, 4096));
    data(host.log_page(rig, 0x05, 24, 1008)) == whole[24..1032]
}

/// Logs 00h, 12h and 13h, and the scope of each command and feature: one that is there has one.
fn logs_and_scopes(rig: &mut Rig, host: &mut Host) -> bool {
    let there = [0x00, 0x12, 0x13]
        .iter()
        .all(|&lid| has_log(rig, host, lid));
    let effects = data(host.log_page(rig, 0x05, 0, 2048));
    let features = data(host.log_page(rig, 0x12, 0, 1024));
    let scope = |entry: &[u8]| u32::from_le_bytes(entry.try_into().unwrap()) >> 20;
    let scoped = |list: &[u8], expected: u32| {
        let mut entries = list.chunks(4).filter(|entry| entry[0] & 1 == 1);
        entries.all(|entry| scope(entry) == expected)
    };
    // Of the controller (1), and of a namespace (0).
    there
        && scoped(&effects[..1024], 1 << 1)
        && scoped(&effects[1024..], 1 << 0)
        && scoped(&features, 1 << 1)
}

/// Select says what may be done with a feature; Save is known, where nothing is saveable.
fn save_and_select(rig: &mut Rig, host: &mut Host) -> bool {
    let mut save = sqe(0x09, 0);
    set32(&mut save, 40, 1 << 31 | 0x0b);
    let saved = host.without_data(rig, save);
    host.get_features(rig, 0x0b, 3).result == 1 << 2 && sc(saved.status) == (1, 0x0d)
}

fn fused(rig: &mut Rig, host: &mut Host) -> bool {
    let mut io = host.io(rig, 1, 32);
    let mut first = rw(0x02, 1, 0, 1);
    first[1] |= 0b01;
    let answer = io.reading(rig, first, 512);
    io.close(rig);
    answer.status == 0
}

fn flush_of_all(rig: &mut Rig, host: &mut Host) -> bool {
    let mut io = host.io(rig, 1, 32);
    let answer = io.without_data(rig, sqe(0x00, 0xffff_ffff));
    io.close(rig);
    answer.status == 0
}

fn sgls(rig: &mut Rig, host: &mut Host) -> bool {
    takes_sgl(rig, host, 0x01) || takes_sgl(rig, host, 0x5a)
}

/// Whether Identify (to the host) or Set Features (in the capsule) takes a descriptor of this type.
fn takes_sgl(rig: &mut Rig, host: &mut Host, kind: u8) -> bool {
    if kind == 0x01 {
        let mut set = sqe(0x09, 0);
        set[40] = 0x16;
        return host.with_data(rig, set, &[0; 512]).status == 0;
    }
    let mut identify = sqe(0x06, 0);
    identify[40] = 1;
    set32(&mut identify, 32, 4096);
    identify[39] = kind;
    host.without_data(rig, identify).status == 0
}

/// Of reads and writes; control data may be asked for by a longer one whatever this says.
fn longer_sgl(rig: &mut Rig, host: &mut Host) -> bool {
    let mut io = host.io(rig, 1, 32);
    let answer = io.reading(rig, rw(0x02, 1, 0, 1), 1024);
    io.close(rig);
    answer.status == 0
}

fn disconnect(rig: &mut Rig, host: &mut Host) -> bool {
    let mut io = host.io(rig, 1, 32);
    let answer = io.disconnect(rig);
    io.close(rig);
    answer.status == 0
}

/// Two controllers read what one of them wrote.
fn shared(rig: &mut Rig, host: &mut Host) -> bool {
    let other = enable(rig);
    let mut writes = host.io(rig, 1, 32);
    let mut reads = other.io(rig, 1, 32);
    assert_eq!(writes.write(rig, 1, 0, 1, &[0x5a; 512]).status, 0);
    let read = reads.read(rig, 1, 0, 1, 512);
    for mut gone in [writes, reads, other] {
        gone.close(rig);
    }
    read.data == [0x5a; 512]
}

fn deallocated_zeros(rig: &mut Rig, host: &mut Host) -> bool {
    let mut io = host.io(rig, 1, 32);
    assert_eq!(io.write(rig, 1, 0, 1, &[0x5a; 512]).status, 0);
    let mut deallocate = sqe(0x09, 1);
    deallocate[44] = 1 << 2;
    let mut range = [0; 16];
    range[4] = 1;
    assert_eq!(io.with_data(rig, deallocate, &range).status, 0);
    let read = io.read(rig, 1, 0, 1, 512);
    io.close(rig);
    read.data == [0; 512]
}

fn zeroes_with_deac(rig: &mut Rig, host: &mut Host) -> bool {
    let mut io = host.io(rig, 1, 32);
    assert_eq!(io.write(rig, 1, 0, 1, &[0x5a; 512]).status, 0);
    let mut zeroes = rw(0x08, 1, 0, 1);
    zeroes[51] |= 1 << 1;
    let answer = io.without_data(rig, zeroes);
    let read = io.read(rig, 1, 0, 1, 512);
    io.close(rig);
    answer.status == 0 && read.data == [0; 512]
}
