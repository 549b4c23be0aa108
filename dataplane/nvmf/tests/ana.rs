//! Asymmetric Namespace Access: what is reported, and what commands come to (base 2.0, 8.1).

mod rig;

use nvmf::{AnaState, BlockSize, ConfigError, Listener, Nsid, Target, TargetConfig};
use rig::disk::Asked;
use rig::host::{
    Answer, Host, Manners, Pdu, in_capsule, log_page, rw, sc, set32, sqe, transport, write_asked,
};
use rig::{NQN, Rig, Sizes, config, endpoints, namespace};

const LOG: u8 = 0x0c;
const AER: u8 = 0x0c;
/// Notice, Asymmetric Namespace Access Change, log 0Ch.
const CHANGED: u64 = 0x000c_0302;
/// Asymmetric Namespace Access Change Notices.
const NOTICES: u32 = 1 << 11;

const INACCESSIBLE: (u16, u16) = (3, 0x02);

/// States in which commands do not get to namespaces, and what they come to.
const WITHHOLDING: [(AnaState, (u16, u16)); 3] = [
    (AnaState::PersistentLoss, (3, 0x01)),
    (AnaState::Inaccessible, INACCESSIBLE),
    (AnaState::Change, (3, 0x03)),
];

fn reporting() -> TargetConfig {
    let mut config = config();
    config.subsystems[0].ana = Some(AnaState::Optimized);
    config
}

fn ready(sizes: Sizes) -> (Rig, Host, Host) {
    let mut rig = Rig::with(reporting(), sizes);
    let admin = Host::admin(&mut rig, Manners::default());
    let io = admin.io(&mut rig, 1, 32);
    (rig, admin, io)
}

fn done<const N: usize>(mut rig: Rig, hosts: [Host; N]) {
    for mut host in hosts {
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}

fn set(rig: &Rig, nsid: u32, state: AnaState) {
    let group = Some(Nsid(nsid));
    let set = rig.target.set_ana_state(NQN, None, group, state);
    assert_eq!(set, Ok(true));
}

fn listener(port: u16) -> Listener {
    Listener {
        address: endpoints().local.ip(),
        port,
    }
}

#[track_caller]
fn ok(answer: Answer) -> Vec<u8> {
    assert_eq!(sc(answer.status), (0, 0));
    answer.data
}

fn number<const N: usize>(data: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes[..N].copy_from_slice(&data[at..at + N]);
    u64::from_le_bytes(bytes)
}

/// Each group: number, namespaces, changes, state.
type Groups = Vec<(u64, Vec<u64>, u64, u8)>;

/// The log: its changes, and its groups.
fn read_log(rig: &mut Rig, admin: &mut Host) -> (u64, Groups) {
    let log = ok(admin.log_page(rig, LOG, 0, 4096));
    let mut at = 16;
    let mut group = |_| {
        let nsids = number::<4>(&log, at + 4) as usize;
        let nsids: Vec<u64> = (0..nsids)
            .map(|n| number::<4>(&log, at + 32 + n * 4))
            .collect();
        let group = number::<4>(&log, at);
        let (changes, state) = (number::<8>(&log, at + 8), log[at + 16]);
        at += 32 + nsids.len() * 4;
        (group, nsids, changes, state)
    };
    let groups = (0..number::<2>(&log, 8)).map(&mut group).collect();
    assert!(log[at..].iter().all(|&byte| byte == 0));
    (number::<8>(&log, 0), groups)
}

/// Runs the timers of a session.
fn advance(rig: &mut Rig, host: &mut Host) {
    host.session.advance(rig.now, &mut rig.shard());
    host.run(rig);
}

fn read(lba: u64) -> [u8; 64] {
    let mut sqe = rw(0x02, 2, lba, 1);
    transport(&mut sqe, 4096);
    sqe
}

#[test]
fn base_8_1_1_nothing_is_said_of_it_where_it_is_not_reported() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, Manners::default());
    let id = ok(admin.identify(&mut rig, 0x01, 0));
    assert_eq!((id[76], number::<4>(&id, 92)), (0b11, 1 << 8), "CMIC, OAES");
    assert!(
        id[342..352].iter().all(|&byte| byte == 0),
        "ANATT to NANAGRPID"
    );
    assert_eq!(number::<4>(&id, 540), 0, "MNAN");
    assert_eq!(number::<4>(&ok(admin.identify(&mut rig, 0x00, 1)), 92), 0);
    assert_eq!(number::<4>(&ok(admin.identify(&mut rig, 0x08, 1)), 4), 0);
    let log = admin.log_page(&mut rig, LOG, 0, 16);
    assert_eq!(sc(log.status), (1, 0x09));
    assert_eq!(ok(admin.log_page(&mut rig, 0x00, 0, 1024))[48], 0);
    let set = rig
        .target
        .set_ana_state(NQN, None, None, AnaState::Optimized);
    assert_eq!(set, Err(ConfigError::NoAna(NQN.into())));
    assert_eq!(rig.target.ana_states(NQN, listener(4420)), None);
    let set = rig
        .target
        .set_ana_state("nqn.other", None, None, AnaState::Optimized);
    assert_eq!(set, Ok(false));
    done(rig, [admin]);
}

#[test]
fn base_8_1_1_a_controller_says_that_it_is_reported() {
    let (mut rig, mut admin, io) = ready(Sizes::default());
    let id = ok(admin.identify(&mut rig, 0x01, 0));
    assert_eq!(id[76], 0b1011, "CMIC: several ports, controllers, ANA");
    assert_eq!(number::<4>(&id, 92), 1 << 8 | 1 << 11, "OAES");
    assert_eq!(id[342], 10, "ANATT");
    assert_eq!(id[343], 0b101_1111, "ANACAP");
    assert_eq!((number::<4>(&id, 344), number::<4>(&id, 348)), (1024, 1024));
    // MNAN is not 0, and NN at least that.
    assert_eq!((number::<4>(&id, 516), number::<4>(&id, 540)), (1024, 1024));
    for nsid in [1, 2] {
        let id = ok(admin.identify(&mut rig, 0x00, nsid));
        assert_eq!((number::<4>(&id, 92), id[30]), (nsid.into(), 1));
        let id = ok(admin.identify(&mut rig, 0x08, nsid));
        assert_eq!(number::<4>(&id, 4), u64::from(nsid));
    }
    assert_eq!(ok(admin.log_page(&mut rig, 0x00, 0, 1024))[48], 1, "LSUPP");
    done(rig, [admin, io]);
}

/// Linux reads the log of as many groups as there may be in one command, and does not connect where
/// that is more than MDTS.
#[test]
fn base_8_1_1_one_command_reads_the_log_of_all_groups() {
    let mut config = reporting();
    config.max_io_bytes = 64 << 10;
    config.in_capsule_bytes = 4096;
    assert!(Target::new(config.clone()).is_ok());
    config.max_io_bytes = 32 << 10;
    let small = Target::new(config.clone());
    assert!(matches!(
        small,
        Err(ConfigError::Range {
            field: "max_io_bytes",
            ..
        })
    ));
    let subsystem = config.subsystems.remove(0);
    let target = Target::new(config).unwrap();
    assert!(target.add_subsystem(subsystem).is_err());
}

#[test]
fn base_5_16_1_13_the_log_has_a_group_for_each_namespace_and_counts_changes() {
    let mut rig = Rig::with(reporting(), Sizes::default());
    let mut admin = Host::admin(&mut rig, Manners::default());
    let two = |first: (u64, u8), second: (u64, u8)| {
        vec![
            (1, vec![1], first.0, first.1),
            (2, vec![2], second.0, second.1),
        ]
    };
    assert_eq!(read_log(&mut rig, &mut admin), (0, two((0, 1), (0, 1))));
    set(&rig, 2, AnaState::Inaccessible);
    assert_eq!(read_log(&mut rig, &mut admin), (1, two((0, 1), (1, 3))));
    set(&rig, 2, AnaState::Inaccessible);
    assert_eq!(read_log(&mut rig, &mut admin).0, 1, "nothing has changed");
    set(&rig, 1, AnaState::Change);
    set(&rig, 2, AnaState::NonOptimized);
    assert_eq!(read_log(&mut rig, &mut admin), (3, two((2, 0xf), (3, 2))));
    // Return Groups Only; and parts, one of which begins inside a descriptor.
    let mut groups_only = log_page(LOG, 0, 80);
    let dword10 = number::<4>(&groups_only, 40) as u32;
    set32(&mut groups_only, 40, dword10 | 1 << 8);
    let log = ok(admin.without_data(&mut rig, groups_only));
    assert_eq!((number::<8>(&log, 0), number::<2>(&log, 8)), (3, 2));
    for (at, group, state) in [(16, 1, 0xf), (48, 2, 2)] {
        assert_eq!((number::<4>(&log, at), log[at + 16]), (group, state));
        assert_eq!(number::<4>(&log, at + 4), 0, "no namespaces are named");
    }
    let whole = ok(admin.log_page(&mut rig, LOG, 0, 88));
    let part = ok(admin.log_page(&mut rig, LOG, 36, 52));
    assert_eq!(part, whole[36..]);
    // nvme-cli reads as much as the most groups take, 4096 bytes at a time.
    let most = 16 + 36 * 1024;
    let behind = ok(admin.log_page(&mut rig, LOG, 4096, 4096));
    assert!(behind.iter().all(|&byte| byte == 0));
    assert_eq!(sc(admin.log_page(&mut rig, LOG, most, 4).status), (0, 0));
    assert_eq!(
        sc(admin.log_page(&mut rig, LOG, most + 4, 4).status),
        (0, 0x02)
    );
    // A reset begins to count anew, and changes nothing.
    admin.set_property(&mut rig, 0x14, 0);
    admin.set_property(&mut rig, 0x14, 0x0046_0001);
    assert_eq!(read_log(&mut rig, &mut admin), (0, two((0, 0xf), (0, 2))));
    // Namespaces come, in the state that was said of them or of all, and go.
    set(&rig, 7, AnaState::Inaccessible);
    let namespaces = [2, 7, 9].map(|nsid| namespace(nsid, BlockSize::B4096, 1 << 20));
    let namespaces = rig.target.set_namespaces(NQN, namespaces.to_vec());
    assert_eq!(namespaces, Ok(true));
    let expected = vec![(2, vec![2], 0, 2), (7, vec![7], 1, 3), (9, vec![9], 1, 1)];
    assert_eq!(read_log(&mut rig, &mut admin), (1, expected));
    done(rig, [admin]);
}

#[test]
fn base_8_1_3_states_differ_by_listener() {
    let (mut rig, mut here, io) = ready(Sizes::default());
    rig.port = 4421;
    let mut there = Host::admin(&mut rig, Manners::default());
    let mut there_io = there.io(&mut rig, 1, 32);
    rig.port = 4420;
    let state = |rig: &Rig, port| {
        let states = rig.target.ana_states(NQN, listener(port)).unwrap();
        [states[0].1, states[1].1]
    };
    use AnaState::{Inaccessible, Optimized};
    let set = rig
        .target
        .set_ana_state(NQN, Some(listener(4421)), None, Inaccessible);
    assert_eq!(set, Ok(true));
    assert_eq!(
        [state(&rig, 4420), state(&rig, 4421)],
        [[Optimized; 2], [Inaccessible; 2]]
    );
    assert_eq!(
        read_log(&mut rig, &mut here).0,
        0,
        "nothing changed by this one"
    );
    let (changes, groups) = read_log(&mut rig, &mut there);
    assert_eq!((changes, groups[0].3, groups[1].3), (1, 3, 3));
    assert_eq!(
        sc(there_io.read(&mut rig, 2, 0, 1, 4096).status),
        INACCESSIBLE
    );
    // An I/O queue is its controller's, by whichever listener its connection came in.
    let mut other = there.io(&mut rig, 2, 32);
    assert_eq!(sc(other.read(&mut rig, 2, 0, 1, 4096).status), INACCESSIBLE);
    let set = rig
        .target
        .set_ana_state(NQN, Some(listener(4421)), Some(Nsid(2)), Optimized);
    assert_eq!(set, Ok(true));
    assert_eq!(there_io.read(&mut rig, 2, 0, 1, 4096).status, 0);
    done(rig, [here, there, io, there_io, other]);
}

#[test]
fn base_8_1_3_commands_do_not_get_to_a_namespace_that_is_withheld() {
    for (state, status) in WITHHOLDING {
        let (mut rig, mut admin, mut io) = ready(Sizes::default());
        set(&rig, 1, AnaState::NonOptimized);
        assert_eq!(io.read(&mut rig, 1, 0, 1, 512).status, 0);
        set(&rig, 2, state);
        rig.disks.asked.clear();
        let mut dataset = sqe(0x09, 2);
        set32(&mut dataset, 44, 4);
        let answers = [
            io.read(&mut rig, 2, 0, 1, 4096),
            io.write(&mut rig, 2, 0, 1, &[1; 4096]),
            io.write(&mut rig, 2, 0, 8, &[1; 32768]),
            io.without_data(&mut rig, rw(0x08, 2, 0, 1)),
            io.without_data(&mut rig, sqe(0x00, 2)),
            io.with_data(&mut rig, dataset, &[0; 16]),
            // It is the namespace that is in the way, whatever else is wrong.
            io.read(&mut rig, 2, 1 << 40, 1, 4096),
        ];
        for answer in answers {
            assert_eq!(sc(answer.status), status, "{state}");
            // DNR would say that no controller can do it (base 3.3.3.2.1).
            assert_eq!(answer.status >> 14, 0);
        }
        assert_eq!(rig.counters.r2ts, 0, "no data is asked for");
        assert!(rig.disks.asked.is_empty());
        // The other namespace is served, and what is no namespace stays none.
        assert_eq!(io.write(&mut rig, 1, 0, 1, &[1; 512]).status, 0);
        assert_eq!(sc(io.read(&mut rig, 3, 0, 1, 4096).status), (0, 0x0b));
        // Identify tells what it is, but for what is in use while another controller's word counts.
        let id = ok(admin.identify(&mut rig, 0x00, 2));
        let nuse = if state == AnaState::Change { 512 } else { 0 };
        let sizes = [0, 8, 16].map(|at| number::<8>(&id, at));
        assert_eq!(sizes, [512, 512, nuse], "NSZE, NCAP, NUSE");
        assert_eq!(number::<4>(&ok(admin.identify(&mut rig, 0x02, 0)), 4), 2);
        done(rig, [admin, io]);
    }
}

#[test]
fn base_8_1_3_what_waits_is_aborted_and_what_a_volume_has_ends_as_it_ends() {
    // Credit for one write at a time.
    let sizes = Sizes {
        write_bytes: 8192,
        ..Sizes::default()
    };
    let (mut rig, admin, mut io) = ready(sizes);
    rig.disks.hold = true;
    let at_volume = io.submit(&mut rig, read(5), &[]);
    let fetched = io.submit(&mut rig, write_asked(0, 2), &[]);
    let waits = io.submit(&mut rig, write_asked(8, 2), &[]);
    let (arriving, capsule) = {
        let mut write = rw(0x01, 2, 0, 1);
        in_capsule(&mut write, 4096);
        io.capsule(write, &[5; 4096])
    };
    let (head, tail) = capsule.split_at(1000);
    io.send(&mut rig, head);
    assert!(!io.session.has_withheld(&rig.shard()));
    set(&rig, 2, AnaState::Inaccessible);
    assert!(io.session.has_withheld(&rig.shard()));
    advance(&mut rig, &mut io);
    assert_eq!(sc(io.answer(waits).status), INACCESSIBLE);
    assert!(!io.answers.contains_key(&arriving) && !io.answers.contains_key(&fetched));
    // What is on its way is taken and dropped.
    io.send(&mut rig, tail);
    assert_eq!(sc(io.answer(arriving).status), INACCESSIBLE);
    let Some(Pdu::R2t { cid, ttag, .. }) = io.pdus.pop_front() else {
        panic!("an R2T");
    };
    let data = io.h2c_data(cid, ttag, 0, &[7; 8192], true);
    io.send(&mut rig, &data);
    assert_eq!(sc(io.answer(fetched).status), INACCESSIBLE);
    assert!(io.session.has_withheld(&rig.shard()), "the read");
    assert_eq!(io.session.outstanding(), 1);
    rig.disks.hold = false;
    rig.release(&mut io.session);
    io.run(&mut rig);
    assert_eq!(io.answer(at_volume).status, 0);
    assert!(!io.session.has_withheld(&rig.shard()));
    assert!(
        rig.disks
            .asked
            .iter()
            .all(|asked| matches!(asked, Asked::Read { .. }))
    );
    done(rig, [admin, io]);
}

#[test]
fn base_8_1_3_reads_that_wait_for_memory_are_aborted() {
    let sizes = Sizes {
        runs: 4,
        runs_reserved: 2,
        ..Sizes::default()
    };
    let (mut rig, admin, mut io) = ready(sizes);
    rig.disks.hold = true;
    let reads: Vec<u16> = (0..5).map(|n| io.submit(&mut rig, read(n), &[])).collect();
    assert_eq!(io.session.outstanding(), 2);
    // A queue that ends keeps what volumes have; so it is with those that were withheld.
    set(&rig, 2, AnaState::Change);
    advance(&mut rig, &mut io);
    for &cid in &reads[2..] {
        assert_eq!(sc(io.answer(cid).status), (3, 0x03));
    }
    io.close(&mut rig);
    assert!(io.session.has_withheld(&rig.shard()));
    rig.disks.hold = false;
    rig.release(&mut io.session);
    assert!(!io.session.has_withheld(&rig.shard()));
    done(rig, [admin, io]);
}

#[test]
fn base_8_1_3_6_a_host_is_told_of_each_state_but_change() {
    let (mut rig, mut admin, io) = ready(Sizes::default());
    assert_eq!(admin.set_features(&mut rig, 0x0b, NOTICES).status, 0);
    let mut parked = admin.submit(&mut rig, sqe(AER, 0), &[]);
    let mut told = |rig: &mut Rig, admin: &mut Host| {
        advance(rig, admin);
        let answer = admin.answers.remove(&parked);
        if answer.is_some() {
            parked = admin.submit(rig, sqe(AER, 0), &[]);
        }
        answer.map(|answer| answer.result)
    };
    set(&rig, 2, AnaState::Inaccessible);
    assert_eq!(told(&mut rig, &mut admin), Some(CHANGED));
    // Masked until the log is read without RAE.
    set(&rig, 2, AnaState::Optimized);
    assert_eq!(told(&mut rig, &mut admin), None);
    let mut retain = log_page(LOG, 0, 16);
    let dword10 = number::<4>(&retain, 40) as u32;
    set32(&mut retain, 40, dword10 | 1 << 15);
    ok(admin.without_data(&mut rig, retain));
    set(&rig, 2, AnaState::NonOptimized);
    assert_eq!(told(&mut rig, &mut admin), None);
    read_log(&mut rig, &mut admin);
    assert_eq!(told(&mut rig, &mut admin), None, "the log has told it all");
    // A transition is told of when it ends, also if it ends where it began, whether
    // its beginning was seen or not.
    for is_seen in [true, false] {
        set(&rig, 2, AnaState::Change);
        if is_seen {
            assert_eq!(told(&mut rig, &mut admin), None);
        }
        set(&rig, 2, AnaState::NonOptimized);
        assert_eq!(told(&mut rig, &mut admin), Some(CHANGED));
        read_log(&mut rig, &mut admin);
    }
    // Not of a namespace that comes, nor of what changes by other listeners, nor unless enabled.
    set(&rig, 7, AnaState::Inaccessible);
    let namespaces = [1, 2, 7].map(|nsid| namespace(nsid, BlockSize::B4096, 1 << 20));
    rig.target.set_namespaces(NQN, namespaces.to_vec()).unwrap();
    assert_eq!(told(&mut rig, &mut admin), None);
    let other = Some(listener(4421));
    let set_there = rig.target.set_ana_state(NQN, other, None, AnaState::Change);
    assert_eq!(set_there, Ok(true));
    assert_eq!(told(&mut rig, &mut admin), None);
    admin.set_features(&mut rig, 0x0b, 1 << 8);
    set(&rig, 1, AnaState::Inaccessible);
    assert_eq!(
        told(&mut rig, &mut admin),
        Some(0x0004_0002),
        "namespace 7 came"
    );
    assert_eq!(told(&mut rig, &mut admin), None);
    admin.set_features(&mut rig, 0x0b, 1 << 8 | NOTICES);
    assert_eq!(told(&mut rig, &mut admin), Some(CHANGED));
    done(rig, [admin, io]);
}

/// What is the NVM command set's, or for all namespaces at once.
#[test]
fn base_8_1_4_features_of_a_namespace_that_is_withheld_are_not_available() {
    for (state, status) in WITHHOLDING {
        let (mut rig, mut admin, io) = ready(Sizes::default());
        set(&rig, 2, state);
        let mut with = |opcode, fid: u32, nsid| {
            let mut sqe = sqe(opcode, nsid);
            set32(&mut sqe, 40, fid);
            sc(admin.without_data(&mut rig, sqe).status)
        };
        // Get Features: Error Recovery and Write Atomicity of the one, anything of the other.
        assert_eq!([with(0x0a, 0x05, 2), with(0x0a, 0x0a, 2)], [status; 2]);
        assert_eq!([with(0x0a, 0x01, 2), with(0x0a, 0x05, 1)], [(0, 0); 2]);
        assert_eq!(
            [with(0x0a, 0x05, 0), with(0x0a, 0x05, u32::MAX)],
            [(0, 0); 2]
        );
        // Set Features: nothing of all namespaces, whatever is about none.
        assert_eq!(with(0x09, 0x01, u32::MAX), status);
        assert_eq!([with(0x09, 0x01, 0), with(0x09, 0x05, 0)], [(0, 0); 2]);
        let arbitration = match state {
            AnaState::PersistentLoss => status,
            // Feature Not Namespace Specific.
            _ => (1, 0x0f),
        };
        assert_eq!(with(0x09, 0x01, 2), arbitration);
        assert_eq!(
            [with(0x09, 0x05, 2), with(0x09, 0x05, 1)],
            [status, (1, 0x0f)]
        );
        done(rig, [admin, io]);
    }
}

#[test]
fn base_8_1_3_4_what_is_lost_stays_lost() {
    let (mut rig, mut admin, io) = ready(Sizes::default());
    let lost = AnaState::PersistentLoss;
    let there = Some(listener(4421));
    assert_eq!(
        rig.target.set_ana_state(NQN, there, Some(Nsid(2)), lost),
        Ok(true)
    );
    let nqn = NQN.to_owned();
    let refused = Err(ConfigError::AnaLost { nqn, nsid: Nsid(2) });
    for (listener, group) in [(None, None), (there, Some(Nsid(2))), (None, Some(Nsid(2)))] {
        let set = rig
            .target
            .set_ana_state(NQN, listener, group, AnaState::Optimized);
        assert_eq!(set, refused);
    }
    assert_eq!(rig.target.set_ana_state(NQN, None, None, lost), Ok(true));
    assert_eq!(read_log(&mut rig, &mut admin).1[0].3, 4);
    // Once its namespace is gone, the number stands for nothing that was lost.
    rig.target.set_namespaces(NQN, Vec::new()).unwrap();
    let set = rig
        .target
        .set_ana_state(NQN, None, None, AnaState::Optimized);
    assert_eq!(set, Ok(true));
    done(rig, [admin, io]);
}
