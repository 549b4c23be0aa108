//! Namespaces that are read as backups: there for a while, and never written to (row R7).

mod rig;

use nvmf::{BlockSize, TargetConfig};
use rig::host::{Answer, Host, Manners, rw, sc, set32, sqe};
use rig::{NQN, Rig, Sizes, config, namespace};

const AER: u8 = 0x0c;
/// Notice, Namespace Attribute Changed, log 04h.
const CHANGED: Option<u64> = Some(0x0004_0002);
const WRITE_PROTECTED: (u16, u16) = (0, 0x20);
const INVALID_NAMESPACE: (u16, u16) = (0, 0x0b);

/// Namespace 2 is a backup.
fn backup() -> TargetConfig {
    let mut config = config();
    config.subsystems[0].namespaces[1].is_backup = true;
    config
}

fn show(rig: &Rig, is_readable: bool) {
    let own = namespace(2, BlockSize::B4096, 1).index;
    (rig.target).show_backups(|index| index == own && is_readable);
}

#[track_caller]
fn ok(answer: Answer) -> Vec<u8> {
    assert_eq!(sc(answer.status), (0, 0));
    answer.data
}

/// The namespaces that there are.
fn active(rig: &mut Rig, admin: &mut Host) -> Vec<u8> {
    let list = ok(admin.identify(rig, 0x02, 0));
    let nsids = list.chunks(4).map(|nsid| nsid[0]);
    nsids.take_while(|&nsid| nsid != 0).collect()
}

/// What an event's request came to, once the timers have run.
fn told(rig: &mut Rig, admin: &mut Host, cid: u16) -> Option<u64> {
    admin.session.advance(rig.now, &mut rig.shard());
    admin.run(rig);
    let answer = admin.answers.get(&cid)?;
    Some(answer.result)
}

#[test]
fn r07_a_backup_is_a_namespace_while_it_may_be_read() {
    let mut rig = Rig::with(backup(), Sizes::default());
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut io = admin.io(&mut rig, 1, 32);
    admin.set_features(&mut rig, 0x0b, 1 << 8);
    // It is none at first, and whoever offers namespaces knows of it.
    assert_eq!(active(&mut rig, &mut admin), [1]);
    assert_eq!(rig.target.namespaces(NQN).map(|all| all.len()), Some(2));
    let read = |rig: &mut Rig, io: &mut Host| sc(io.read(rig, 2, 0, 1, 4096).status);
    assert_eq!(read(&mut rig, &mut io), INVALID_NAMESPACE);
    let parked = admin.submit(&mut rig, sqe(AER, 0), &[]);
    assert_eq!(told(&mut rig, &mut admin, parked), None);
    show(&rig, true);
    assert_eq!(told(&mut rig, &mut admin, parked), CHANGED);
    ok(admin.log_page(&mut rig, 0x04, 0, 4096));
    assert_eq!(active(&mut rig, &mut admin), [1, 2]);
    assert_eq!(read(&mut rig, &mut io), (0, 0));
    // Nothing is news to hosts that is not.
    let parked = admin.submit(&mut rig, sqe(AER, 0), &[]);
    show(&rig, true);
    assert_eq!(told(&mut rig, &mut admin, parked), None);
    // What is offered beside it changes nothing of that.
    let mut namespaces = rig.target.namespaces(NQN).unwrap();
    namespaces.push(namespace(3, BlockSize::B4096, 1 << 20));
    assert_eq!(rig.target.set_namespaces(NQN, namespaces), Ok(true));
    assert_eq!(active(&mut rig, &mut admin), [1, 2, 3]);
    show(&rig, false);
    assert_eq!(told(&mut rig, &mut admin, parked), CHANGED);
    assert_eq!(active(&mut rig, &mut admin), [1, 3]);
    assert_eq!(read(&mut rig, &mut io), INVALID_NAMESPACE);
    let identify = ok(admin.identify(&mut rig, 0x00, 2));
    assert!(identify.iter().all(|&byte| byte == 0), "it is inactive");
    for mut host in [admin, io] {
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}

/// NVM 1.0, 4.1.5.1 (NSATTR); base 2.0, figure 94 (Namespace is Write Protected).
#[test]
fn r07_nobody_writes_to_a_backup() {
    let mut rig = Rig::with(backup(), Sizes::default());
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut io = admin.io(&mut rig, 1, 32);
    show(&rig, true);
    for (nsid, expected) in [(1, 0), (2, 1)] {
        assert_eq!(ok(admin.identify(&mut rig, 0x00, nsid))[99], expected);
        assert_eq!(ok(admin.identify(&mut rig, 0x08, nsid))[8], expected);
    }
    rig.disks.asked.clear();
    let mut dataset = sqe(0x09, 2);
    set32(&mut dataset, 44, 4);
    let answers = [
        io.write(&mut rig, 2, 0, 1, &[1; 4096]),
        io.write(&mut rig, 2, 0, 8, &[1; 32768]),
        io.without_data(&mut rig, rw(0x08, 2, 0, 1)),
        io.with_data(&mut rig, dataset, &[0; 16]),
    ];
    for answer in answers {
        assert_eq!(sc(answer.status), WRITE_PROTECTED);
        assert_eq!(answer.status >> 14, 1, "DNR");
    }
    assert_eq!(rig.counters.r2ts, 0, "no data is asked for");
    assert!(rig.disks.asked.is_empty());
    assert_eq!(io.without_data(&mut rig, sqe(0x00, 2)).status, 0);
    assert_eq!(io.write(&mut rig, 1, 0, 1, &[1; 512]).status, 0);
    for mut host in [admin, io] {
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}
