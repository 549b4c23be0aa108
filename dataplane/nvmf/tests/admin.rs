//! Admin commands: identify, features, log pages, events, discovery.

mod rig;

use block::LastSmart;
use nvmf::BlockSize;
use rig::host::{Answer, Host, Manners, connect_data, log_page, sc, set32, sqe, transport};
use rig::{DISCOVERY_NQN, HOST_NQN, NQN, Rig, Sizes, config, namespace};

const AER: u8 = 0x0c;

fn u16_at(data: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(data[at..at + 2].try_into().unwrap())
}

fn u32_at(data: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(data[at..at + 4].try_into().unwrap())
}

fn u64_at(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(data[at..at + 8].try_into().unwrap())
}

fn with_admin(test: impl FnOnce(&mut Rig, &mut Host)) {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, Manners::default());
    test(&mut rig, &mut admin);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[track_caller]
fn ok(answer: Answer) -> Vec<u8> {
    assert_eq!(sc(answer.status), (0, 0));
    answer.data
}

/// What the Linux and SPDK initiators insist on.
#[test]
fn base_5_17_2_1_identify_controller() {
    with_admin(|rig, admin| {
        let id = ok(admin.identify(rig, 0x01, 0));
        assert_eq!(id.len(), 4096);
        assert_eq!(&id[4..24], b"TL0001              ");
        assert_eq!(&id[24..35], b"Throughline");
        assert_eq!(1 << (12 + id[77]), 128 * 1024, "MDTS");
        assert_eq!(u16_at(&id, 78), admin.cntlid, "CNTLID");
        assert_eq!(u32_at(&id, 80), 0x0002_0000, "VER");
        assert_eq!(u32_at(&id, 96), 0b100_0001, "CTRATT: HIDS, TBKAS");
        assert_eq!(id[111], 1, "CNTRLTYPE");
        assert_eq!(u16_at(&id, 320), 10, "KAS");
        assert_eq!((id[512], id[513]), (0x66, 0x44), "SQES, CQES");
        assert_eq!(u16_at(&id, 514), 64, "MAXCMD");
        assert_eq!(u32_at(&id, 516), 32, "NN");
        assert_eq!(u16_at(&id, 520), 0b1_1100, "ONCS");
        assert_eq!(id[525] & 1, 1, "VWC");
        assert_eq!(u32_at(&id, 536) & 0b11, 0b01, "SGLS");
        assert_eq!(
            u32_at(&id, 536) >> 20 & 0b11,
            0b11,
            "SGLS: offsets, transport"
        );
        let name = [NQN.as_bytes(), &[0]].concat();
        assert_eq!(&id[768..768 + name.len()], name, "SUBNQN");
        assert_eq!(u32_at(&id, 1792), 4 + 4096 / 16, "IOCCSZ");
        assert_eq!(u32_at(&id, 1796), 1, "IORCSZ");
        assert_eq!(u16_at(&id, 1800), 0, "ICDOFF");
        assert_eq!(id[1803], 1, "MSDBD");
        assert_eq!(u16_at(&id, 1804), 1, "OFCS");
    });
}

#[test]
fn identify_namespaces_and_their_lists() {
    with_admin(|rig, admin| {
        for (nsid, shift, bytes) in [(1, 9, 1u64 << 20), (2, 12, 2 << 20)] {
            let id = ok(admin.identify(rig, 0x00, nsid));
            for at in [0, 8, 16] {
                assert_eq!(u64_at(&id, at), bytes >> shift);
            }
            assert_eq!((id[25], id[26], id[30], id[33]), (0, 0, 1, 0b1001));
            assert_eq!(id[130], shift, "LBADS");
            assert_eq!(&id[104..120], [0xa0 | nsid as u8; 16]);
        }
        let list = ok(admin.identify(rig, 0x02, 0));
        assert_eq!(
            (u32_at(&list, 0), u32_at(&list, 4), u32_at(&list, 8)),
            (1, 2, 0)
        );
        let list = ok(admin.identify(rig, 0x02, 1));
        assert_eq!((u32_at(&list, 0), u32_at(&list, 4)), (2, 0));
        let list = ok(admin.identify(rig, 0x07, 0));
        assert_eq!((u32_at(&list, 0), u32_at(&list, 4)), (1, 2));
        // NGUID, UUID, CSI; there is no EUI-64.
        let ids = ok(admin.identify(rig, 0x03, 2));
        assert_eq!((ids[0], ids[1], &ids[4..20]), (2, 16, &[0xa2; 16][..]));
        assert_eq!((ids[20], ids[21], &ids[24..40]), (3, 16, &[2; 16][..]));
        assert_eq!((ids[40], ids[41], ids[44]), (4, 1, 0));
        assert!(ids[45..].iter().all(|&b| b == 0));
        // Independent of the command set: shared, ready.
        let id = ok(admin.identify(rig, 0x08, 1));
        assert_eq!((id[1], id[14]), (1, 1));
        // The NVM command set has no more to say of controller and namespace.
        for (cns, nsid) in [(0x05, 1), (0x06, 0)] {
            assert!(ok(admin.identify(rig, cns, nsid)).iter().all(|&b| b == 0));
        }
        assert_eq!(u64_at(&ok(admin.identify(rig, 0x1c, 0)), 0), 1);
    });
}

/// NPWG and its kin, by which partitions and filesystems align: 4 KiB in blocks, zero's based.
#[test]
fn nvm_4_1_5_1_small_blocks_have_optimal_write_sizes_of_a_page() {
    with_admin(|rig, admin| {
        // OPTPERF, and NPWG, NPWA, NPDG, NPDA, NOWS, all of which it makes valid.
        for (nsid, optperf, fields) in [(1, 1 << 4, [7; 5]), (2, 0, [0; 5])] {
            let id = ok(admin.identify(rig, 0x00, nsid));
            assert_eq!(id[24], optperf, "NSFEAT of {nsid}");
            let said = [64, 66, 68, 70, 72].map(|at| u16_at(&id, at));
            assert_eq!(said, fields, "namespace {nsid}");
            let write = (usize::from(said[4]) + 1) << id[130];
            assert_eq!(write, 4096, "NOWS of {nsid} in bytes");
        }
    });
}

#[test]
fn identify_refuses_unknown_structures_and_namespaces() {
    with_admin(|rig, admin| {
        // Inactive but valid: zeros.
        for cns in [0x00, 0x08] {
            assert!(ok(admin.identify(rig, cns, 3)).iter().all(|&b| b == 0));
            for nsid in [0, 33, 0xffff_ffff] {
                let answer = admin.identify(rig, cns, nsid);
                assert_eq!(sc(answer.status), (0, 0x0b), "NSID {nsid:x}");
                assert!(answer.data.is_empty());
            }
        }
        assert_eq!(sc(admin.identify(rig, 0x03, 3).status), (0, 0x0b));
        assert_eq!(sc(admin.identify(rig, 0x02, 0xffff_ffff).status), (0, 0x0b));
        for cns in [0x04, 0x10, 0x11, 0x12, 0x15, 0x20, 0xff] {
            assert_eq!(
                sc(admin.identify(rig, cns, 1).status),
                (0, 0x02),
                "CNS {cns:x}"
            );
        }
        // Another command set.
        let mut other = sqe(0x06, 1);
        other[40] = 0x06;
        set32(&mut other, 44, 2 << 24);
        assert_eq!(sc(admin.reading(rig, other, 4096).status), (0, 0x02));
    });
}

#[test]
fn control_data_needs_a_transport_sgl_that_is_long_enough() {
    with_admin(|rig, admin| {
        let mut identify = sqe(0x06, 0);
        identify[40] = 1;
        assert_eq!(sc(admin.reading(rig, identify, 4092).status), (0, 0x0f));
        rig::host::in_capsule(&mut identify, 4096);
        assert_eq!(sc(admin.without_data(rig, identify).status), (0, 0x11));
        identify[39] = 0x02;
        assert_eq!(sc(admin.without_data(rig, identify).status), (0, 0x11));
        // Longer is fine: no more than needed is sent.
        transport(&mut identify, 8192);
        assert_eq!(ok(admin.without_data(rig, identify)).len(), 4096);
    });
}

#[test]
fn features_have_defaults_and_limits() {
    with_admin(|rig, admin| {
        // Number of Queues: 8 at most, zero's based.
        assert_eq!(admin.get_features(rig, 0x07, 0).result, 7 << 16 | 7);
        assert_eq!(
            admin.set_features(rig, 0x07, 63 << 16 | 3).result,
            3 << 16 | 3
        );
        assert_eq!(admin.get_features(rig, 0x07, 0).result, 3 << 16 | 3);
        assert_eq!(admin.get_features(rig, 0x07, 1).result, 7 << 16 | 7);
        assert_eq!(sc(admin.set_features(rig, 0x07, 0xffff).status), (0, 0x02));
        // Keep Alive Timer: in whole seconds.
        assert_eq!(admin.set_features(rig, 0x0f, 12_345).status, 0);
        assert_eq!(admin.get_features(rig, 0x0f, 0).result, 13_000);
        // Volatile Write Cache, Asynchronous Event Configuration.
        assert_eq!(admin.get_features(rig, 0x06, 0).result, 1);
        assert_eq!(admin.set_features(rig, 0x06, 0).status, 0);
        assert_eq!(admin.get_features(rig, 0x06, 0).result, 0);
        assert_eq!(admin.get_features(rig, 0x06, 1).result, 1);
        assert_eq!(admin.set_features(rig, 0x0b, 0x100).status, 0);
        assert_eq!(admin.get_features(rig, 0x0b, 0).result, 0x100);
        for fid in [0x01, 0x02, 0x04, 0x05, 0x0a] {
            assert_eq!(admin.get_features(rig, fid, 0).status, 0, "{fid:x}");
            assert_eq!(admin.set_features(rig, fid, 0).status, 0, "{fid:x}");
            assert_eq!(admin.get_features(rig, fid, 3).result, 1 << 2, "{fid:x}");
        }
        // No such feature, power state or select; DULBE; saving.
        assert_eq!(sc(admin.get_features(rig, 0x03, 0).status), (0, 0x02));
        assert_eq!(sc(admin.set_features(rig, 0x03, 0).status), (0, 0x02));
        assert_eq!(sc(admin.set_features(rig, 0x02, 1).status), (0, 0x02));
        assert_eq!(sc(admin.set_features(rig, 0x05, 1 << 16).status), (0, 0x02));
        assert_eq!(sc(admin.get_features(rig, 0x07, 4).status), (0, 0x02));
        let mut save = sqe(0x09, 0);
        set32(&mut save, 40, 1 << 31 | 0x0b);
        assert_eq!(sc(admin.without_data(rig, save).status), (1, 0x0d));
        let mut of_namespace = sqe(0x09, 1);
        of_namespace[40] = 0x0b;
        assert_eq!(sc(admin.without_data(rig, of_namespace).status), (1, 0x0f));
        // Host Identifier: as Connect gave it, and not to be changed.
        let mut host_id = sqe(0x0a, 0);
        host_id[40] = 0x81;
        host_id[44] = 1;
        assert_eq!(ok(admin.reading(rig, host_id, 16)), [7; 16]);
        assert_eq!(sc(admin.set_features(rig, 0x81, 1).status), (0, 0x0c));
        // Once there are I/O queues their number is fixed.
        let mut io = admin.io(rig, 1, 32);
        assert_eq!(sc(admin.set_features(rig, 0x07, 0).status), (0, 0x0c));
        io.close(rig);
    });
}

#[test]
fn a_reset_restores_defaults() {
    with_admin(|rig, admin| {
        admin.set_features(rig, 0x07, 0);
        admin.set_features(rig, 0x06, 0);
        admin.set_features(rig, 0x0b, 0x100);
        admin.set_features(rig, 0x0f, 3000);
        admin.set_property(rig, 0x14, 0);
        admin.set_property(rig, 0x14, 0x0046_0001);
        assert_eq!(admin.get_features(rig, 0x07, 0).result, 7 << 16 | 7);
        assert_eq!(admin.get_features(rig, 0x06, 0).result, 1);
        assert_eq!(admin.get_features(rig, 0x0b, 0).result, 0);
        assert_eq!(admin.get_features(rig, 0x0f, 0).result, 3000);
    });
}

#[test]
fn host_behavior_support_is_set_and_read() {
    with_admin(|rig, admin| {
        let mut get = sqe(0x0a, 0);
        get[40] = 0x16;
        assert_eq!(ok(admin.reading(rig, get, 512))[0], 0);
        let mut set = sqe(0x09, 0);
        set[40] = 0x16;
        let mut data = vec![0; 512];
        data[0] = 1;
        assert_eq!(admin.with_data(rig, set, &data).status, 0);
        assert_eq!(ok(admin.reading(rig, get, 512))[0], 1);
        data[0] = 0;
        assert_eq!(admin.asked_for(rig, set, &data).status, 0);
        assert_eq!(ok(admin.reading(rig, get, 512))[0], 0);
        assert_eq!(
            sc(admin.with_data(rig, set, &data[..256]).status),
            (0, 0x0f)
        );
    });
}

#[test]
fn log_pages_are_read_in_any_parts() {
    with_admin(|rig, admin| {
        let lens = [(0x00, 1024), (0x01, 64), (0x02, 512), (0x03, 512)];
        for (lid, len) in [&lens[..], &[(0x04, 4096), (0x05, 4096), (0x12, 1024)]].concat() {
            let whole = ok(admin.log_page(rig, lid, 0, len));
            assert_eq!(whole.len(), len as usize);
            for (offset, part) in [(4, 16), (len - 4, 4), (len - 8, 64)] {
                let bytes = ok(admin.log_page(rig, lid, offset.into(), part));
                let mut expected = whole[offset as usize..].to_vec();
                expected.resize(expected.len().max(part as usize), 0);
                assert_eq!(bytes, expected[..part as usize], "log {lid:x}");
            }
            let beyond = admin.log_page(rig, lid, u64::from(len) + 4, 4);
            assert_eq!(sc(beyond.status), (0, 0x02));
        }
        let supported = ok(admin.log_page(rig, 0x00, 0, 1024));
        assert_eq!((supported[0], supported[0x70 * 4]), (1, 0));
        let effects = ok(admin.log_page(rig, 0x05, 0, 4096));
        assert_eq!((effects[0x06 * 4], effects[0x7e * 4]), (1, 0));
        assert_eq!((effects[1024 + 4], effects[1024 + 2 * 4]), (0b11, 0b01));
        let firmware = ok(admin.log_page(rig, 0x03, 0, 512));
        assert_eq!(
            (firmware[0], &firmware[8..13]),
            (1, env!("CARGO_PKG_VERSION").as_bytes())
        );
        // No such log; an offset between dwords; one of a namespace; too long.
        assert_eq!(sc(admin.log_page(rig, 0x70, 0, 1024).status), (1, 0x09));
        assert_eq!(sc(admin.log_page(rig, 0xc0, 0, 512).status), (1, 0x09));
        assert_eq!(sc(admin.log_page(rig, 0x02, 2, 512).status), (0, 0x02));
        let mut of_namespace = log_page(0x02, 0, 512);
        set32(&mut of_namespace, 4, 1);
        assert_eq!(sc(admin.reading(rig, of_namespace, 512).status), (0, 0x02));
        assert_eq!(
            sc(admin.log_page(rig, 0x02, 0, 256 * 1024).status),
            (0, 0x02)
        );
        // More than a page at once.
        assert_eq!(ok(admin.log_page(rig, 0x05, 0, 64 * 1024)).len(), 64 * 1024);
    });
}

#[test]
fn the_smart_log_counts_i_o_of_all_queues() {
    with_admin(|rig, admin| {
        let mut other = rig.beside(Sizes::default());
        let mut here = admin.io(rig, 1, 32);
        let mut there = admin.io(&mut other, 2, 32);
        let data = vec![0; 128 * 1024];
        for _ in 0..5 {
            here.write(rig, 2, 0, 32, &data);
            there.read(&mut other, 2, 0, 32, 128 * 1024);
        }
        here.session.advance(rig.now, &mut rig.shard());
        there.close(&mut other);
        let smart = ok(admin.log_page(rig, 0x02, 0, 512));
        // 1,280 units of 512 bytes each way, in thousands rounded up.
        assert_eq!((u64_at(&smart, 32), u64_at(&smart, 48)), (2, 2));
        assert_eq!((u64_at(&smart, 64), u64_at(&smart, 80)), (5, 5));
        // Composite Temperature: 20 °C, where 0 K would be -273 °C; no warning, all spare.
        assert_eq!((smart[0], u16_at(&smart, 1), smart[3]), (0, 293, 100));
        here.close(rig);
        other.assert_all_returned();
    });
}

/// SMART is about the controller: of the drives of its namespaces it says the worst, as of now.
#[test]
fn k05_the_smart_log_says_what_is_worst_of_the_drives() {
    with_admin(|rig, admin| {
        let mut namespaces = rig.target.namespaces(NQN).unwrap();
        let drives = [LastSmart::of_drive(), LastSmart::of_drive()];
        for (namespace, drive) in namespaces.iter_mut().zip(&drives) {
            namespace.smart = drive.clone();
        }
        rig.target.set_namespaces(NQN, namespaces).unwrap();
        let mut head = |rig: &mut Rig| ok(admin.log_page(rig, 0x02, 0, 512))[..6].to_vec();
        // 293 K while no drive has answered.
        assert_eq!(head(rig), [0, 0x25, 0x01, 100, 10, 0]);
        drives[0].set(Some([0b0_0001, 0x43, 0x01, 9, 10, 3]));
        assert_eq!(head(rig), [0b0_0001, 0x43, 0x01, 9, 10, 3]);
        // A warmer one, with a warning of its own and more wear; what only drives have is theirs.
        drives[1].set(Some([0b10_1000, 0x60, 0x01, 90, 5, 120]));
        assert_eq!(head(rig), [0b0_1001, 0x60, 0x01, 9, 10, 120]);
        // It goes; the other one's sensor does too.
        drives[1].set(None);
        drives[0].set(Some([0, 0, 0, 80, 10, 3]));
        assert_eq!(head(rig), [0, 0x25, 0x01, 80, 10, 3]);
    });
}

#[test]
fn base_5_2_events_are_parked_up_to_the_limit() {
    with_admin(|rig, admin| {
        let cids: Vec<u16> = (0..4)
            .map(|_| admin.submit(rig, sqe(AER, 0), &[]))
            .collect();
        assert!(cids.iter().all(|cid| !admin.answers.contains_key(cid)));
        let fifth = admin.without_data(rig, sqe(AER, 0));
        assert_eq!(sc(fifth.status), (1, 0x05));
        // Abort of a parked one, and of something that is not there.
        let mut abort = sqe(0x08, 0);
        set32(&mut abort, 40, u32::from(cids[1]) << 16);
        assert_eq!(admin.without_data(rig, abort).result & 1, 0);
        assert_eq!(sc(admin.answer(cids[1]).status), (0, 0x07));
        assert_eq!(admin.without_data(rig, abort).result & 1, 1);
        admin.submit(rig, sqe(AER, 0), &[]);
    });
}

#[test]
fn base_5_2_a_changed_namespace_is_one_event_until_the_log_is_read() {
    with_admin(|rig, admin| {
        admin.set_features(rig, 0x0b, 0x100);
        let cids: Vec<u16> = (0..3)
            .map(|_| admin.submit(rig, sqe(AER, 0), &[]))
            .collect();
        let told = |admin: &Host| {
            cids.iter()
                .filter(|c| admin.answers.contains_key(c))
                .count()
        };
        let change = |rig: &mut Rig, admin: &mut Host, bytes| {
            let namespaces = vec![
                namespace(1, BlockSize::B512, bytes),
                namespace(7, BlockSize::B512, 4096),
            ];
            assert_eq!(rig.target.set_namespaces(NQN, namespaces), Ok(true));
            admin.session.advance(rig.now, &mut rig.shard());
            admin.run(rig);
        };
        change(rig, admin, 1 << 21);
        assert_eq!(told(admin), 1);
        let event = admin.answers.values().next().unwrap().result;
        assert_eq!(
            event, 0x04_00_02,
            "Notice, Namespace Attribute Changed, log 4"
        );
        // Masked until the log is read without RAE.
        change(rig, admin, 1 << 22);
        assert_eq!(told(admin), 1);
        let mut retain = log_page(0x04, 0, 4096);
        set32(&mut retain, 40, 0x04 | 1 << 15 | 1023 << 16);
        let log = ok(admin.reading(rig, retain, 4096));
        let numbers = [0, 4, 8, 12].map(|at| u32_at(&log, at));
        assert_eq!(numbers, [1, 2, 7, 0]);
        change(rig, admin, 1 << 23);
        assert_eq!(told(admin), 1);
        assert_eq!(u32_at(&ok(admin.log_page(rig, 0x04, 0, 4096)), 0), 1);
        change(rig, admin, 1 << 24);
        assert_eq!(told(admin), 2);
        // Nothing changed: nothing is told.
        admin.log_page(rig, 0x04, 0, 4096);
        change(rig, admin, 1 << 24);
        assert_eq!(told(admin), 2);
        let id = ok(admin.identify(rig, 0x00, 1));
        assert_eq!(u64_at(&id, 0), (1 << 24) / 512);
        admin.answers.clear();
    });
}

#[test]
fn unknown_admin_commands_are_invalid_opcodes() {
    with_admin(|rig, admin| {
        for opcode in [0x00, 0x01, 0x04, 0x05, 0x10, 0x80, 0xff] {
            let answer = admin.without_data(rig, sqe(opcode, 0));
            assert_eq!(sc(answer.status), (0, 0x01), "opcode {opcode:x}");
            assert_eq!(answer.status >> 14, 1, "DNR");
        }
    });
}

fn discovery(rig: &mut Rig, host_nqn: &str) -> Host {
    let mut host = Host::new(rig, Manners::default());
    host.initialize(rig);
    let data = connect_data(0xffff, DISCOVERY_NQN, host_nqn);
    assert_eq!(host.connect_with(rig, 0, 31, &data).status, 0);
    host.set_property(rig, 0x14, 0x0046_0001);
    host
}

fn text(field: &[u8]) -> &str {
    str::from_utf8(field).unwrap().trim_end_matches(['\0', ' '])
}

#[test]
fn base_5_16_1_23_the_discovery_log_names_every_listener() {
    let mut rig = Rig::new();
    let mut host = discovery(&mut rig, HOST_NQN);
    let id = ok(host.identify(&mut rig, 0x01, 0));
    assert_eq!(id[111], 2, "CNTRLTYPE");
    assert_eq!(text(&id[768..1024]), DISCOVERY_NQN);
    assert_eq!(sc(host.identify(&mut rig, 0x02, 0).status), (0, 0x02));
    // The header first, then all of it, then in pieces.
    let header = ok(host.log_page(&mut rig, 0x70, 0, 16));
    assert_eq!((u64_at(&header, 0), u64_at(&header, 8)), (1, 2));
    let log = ok(host.log_page(&mut rig, 0x70, 0, 3072));
    let mut pieces = Vec::new();
    for offset in (0..3072).step_by(1000) {
        let len = 1000.min(3072 - offset);
        pieces.extend(ok(host.log_page(&mut rig, 0x70, offset.into(), len)));
    }
    assert_eq!(log, pieces);
    let expected = [(1, "10.0.0.1", "4420"), (2, "::1", "4421")];
    for (i, (adrfam, address, port)) in expected.into_iter().enumerate() {
        let entry = &log[1024 * (i + 1)..][..1024];
        assert_eq!(entry[..3], [3, adrfam, 2]);
        assert_eq!(u16_at(entry, 4), i as u16 + 1, "PORTID");
        assert_eq!(u16_at(entry, 6), 0xffff, "CNTLID");
        assert_eq!(u16_at(entry, 8), 4096, "ASQSZ");
        assert_eq!(text(&entry[32..64]), port);
        assert_eq!(text(&entry[256..512]), NQN);
        assert_eq!(text(&entry[512..768]), address);
    }
    // A friend of the closed subsystem sees that, too.
    let mut friend = discovery(&mut rig, "nqn.2026-01.io.throughline:friend");
    let log = ok(friend.log_page(&mut rig, 0x70, 0, 5120));
    assert_eq!(u64_at(&log, 8), 4);
    // Nothing of an I/O controller is here.
    assert_eq!(sc(host.log_page(&mut rig, 0x02, 0, 512).status), (1, 0x09));
    assert_eq!(sc(host.get_features(&mut rig, 0x07, 0).status), (0, 0x02));
    assert_eq!(host.get_features(&mut rig, 0x0b, 0).status, 0);
    host.close(&mut rig);
    friend.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn a_persistent_discovery_controller_lives_by_keep_alive() {
    let mut rig = Rig::new();
    let mut host = discovery(&mut rig, HOST_NQN);
    assert_eq!(host.set_features(&mut rig, 0x0f, 300_000).status, 0);
    for _ in 0..5 {
        rig.now = rig.now.plus_ms(299_000);
        host.session.advance(rig.now, &mut rig.shard());
        assert_eq!(host.session.closing(), None);
        assert_eq!(host.without_data(&mut rig, sqe(0x18, 0)).status, 0);
    }
    host.close(&mut rig);
}

#[test]
fn many_namespaces_fill_lists_and_logs() {
    let mut config = config();
    config.subsystems[0].namespaces = (1..=1024)
        .map(|nsid| namespace(nsid, BlockSize::B512, 512))
        .collect();
    let mut rig = Rig::with(config, Sizes::default());
    let mut admin = Host::admin(&mut rig, Manners::default());
    let list = ok(admin.identify(&mut rig, 0x02, 0));
    assert_eq!((u32_at(&list, 0), u32_at(&list, 4092)), (1, 1024));
    rig.target.set_namespaces(NQN, vec![]).unwrap();
    let log = ok(admin.log_page(&mut rig, 0x04, 0, 4096));
    assert_eq!((u32_at(&log, 0), u32_at(&log, 4092)), (1, 1024));
    let list = ok(admin.identify(&mut rig, 0x02, 0));
    assert_eq!(u32_at(&list, 0), 0);
    admin.close(&mut rig);
}
