//! Shutdown (base 3.6.2): complete once nothing that was written is volatile.

mod rig;

use block::Fault;
use nvmf::{BlockSize, Status};
use rig::disk::Asked;
use rig::host::{Host, Manners, sc};
use rig::{NQN, Rig, Sizes, config, namespace};

const CSTS: u32 = 0x1c;
/// CC.EN and the entry sizes, with SHN 01b: a normal shutdown.
const SHUT_DOWN: u32 = 0x0046_4001;
/// CSTS.RDY with SHST 01b and 10b.
const OCCURRING: u64 = 0b0101;
const COMPLETE: u64 = 0b1001;

/// A rig whose first and third namespaces have a volatile write cache.
fn rig() -> Rig {
    let mut config = config();
    let mut third = namespace(3, BlockSize::B512, 1 << 20);
    third.volatile_write_cache = true;
    config.subsystems[0].namespaces.push(third);
    assert_eq!(config.subsystems[0].nqn, NQN);
    Rig::with(config, Sizes::default())
}

fn csts(rig: &mut Rig, admin: &mut Host) -> u64 {
    admin.get_property(rig, CSTS, false).result
}

#[test]
fn base_3_6_2_a_shutdown_is_complete_when_every_cache_is_flushed() {
    let mut rig = rig();
    let mut admin = Host::admin(&mut rig, Manners::default());
    rig.disks.hold = true;
    let shut_down = admin.start_setting_property(&mut rig, 0x14, SHUT_DOWN);
    assert_eq!(rig.disks.held.len(), 2);
    assert_eq!(csts(&mut rig, &mut admin), OCCURRING);
    assert!(!admin.answers.contains_key(&shut_down));
    rig.disks.hold = false;
    rig.release(&mut admin.session);
    admin.run(&mut rig);
    let flushed = [101, 103].map(|volume| Asked::Flush { volume });
    assert_eq!(rig.disks.asked, flushed);
    assert_eq!(admin.answer(shut_down).status, 0);
    assert_eq!(csts(&mut rig, &mut admin), COMPLETE);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn base_3_6_2_a_shutdown_whose_flush_failed_is_never_complete() {
    let mut rig = rig();
    let mut admin = Host::admin(&mut rig, Manners::default());
    rig.disks.fail = Some(Fault::WriteError);
    let answer = admin.set_property(&mut rig, 0x14, SHUT_DOWN);
    assert_eq!(sc(answer.status), sc(Status::WRITE_FAULT.field()));
    assert_eq!(csts(&mut rig, &mut admin), OCCURRING);
    // A reset is the way out, and the next shutdown is a new one.
    rig.disks.fail = None;
    admin.set_property(&mut rig, 0x14, 0);
    assert_eq!(csts(&mut rig, &mut admin), 0);
    admin.set_property(&mut rig, 0x14, 0x0046_0001);
    assert_eq!(admin.set_property(&mut rig, 0x14, SHUT_DOWN).status, 0);
    assert_eq!(csts(&mut rig, &mut admin), COMPLETE);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn base_3_6_2_a_reset_during_a_shutdown_wins() {
    let mut rig = rig();
    let mut admin = Host::admin(&mut rig, Manners::default());
    rig.disks.hold = true;
    let shut_down = admin.start_setting_property(&mut rig, 0x14, SHUT_DOWN);
    assert_eq!(admin.set_property(&mut rig, 0x14, 0).status, 0);
    rig.release(&mut admin.session);
    admin.run(&mut rig);
    assert_eq!(admin.answer(shut_down).status, 0);
    assert_eq!(csts(&mut rig, &mut admin), 0);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn base_3_6_2_without_a_cache_there_is_nothing_to_wait_for() {
    let mut config = config();
    for namespace in &mut config.subsystems[0].namespaces {
        namespace.volatile_write_cache = false;
    }
    let mut rig = Rig::with(config, Sizes::default());
    let mut admin = Host::admin(&mut rig, Manners::default());
    rig.disks.hold = true;
    assert_eq!(admin.set_property(&mut rig, 0x14, SHUT_DOWN).status, 0);
    assert_eq!(csts(&mut rig, &mut admin), COMPLETE);
    assert!(rig.disks.asked.is_empty());
    admin.close(&mut rig);
    rig.assert_all_returned();
}
