//! What volumes still hold of a host when its controller is reset, shut down, or lost.

mod rig;

use block::NamespaceIndex;
use rig::Rig;
use rig::host::{Host, Manners, rw};
use testkit::command::{CC_ENABLED, CC_SHN_NORMAL, property};

/// CSTS.RDY.
const READY: u64 = 1;

/// A host whose write of block 8 of namespace 1 is held by its device.
fn with_held_write(rig: &mut Rig) -> (Host, Host) {
    let mut admin = Host::admin(rig, Manners::default());
    let mut io = admin.io(rig, 1, 32);
    assert_eq!(admin.get_property(rig, property::CSTS, false).result, READY);
    rig.disks.hold = true;
    let mut write = rw(0x01, 1, 8, 1);
    rig::host::in_capsule(&mut write, 512);
    io.submit(rig, write, &[7; 512]);
    assert_eq!(rig.disks.held.len(), 1);
    assert_eq!(rig.target.fences().raised(), 0);
    rig.disks.hold = false;
    (admin, io)
}

fn ready(admin: &mut Host, rig: &mut Rig) -> u64 {
    admin.get_property(rig, property::CSTS, false).result & READY
}

/// Whether block 8 is fenced, and it alone.
fn is_fenced(rig: &Rig) -> bool {
    let namespace = rig.target.config().subsystems[0].namespaces[0].index;
    let fences = rig.target.fences();
    let covers = |block: u64| fences.covers(block * 512, 512, |of: NamespaceIndex| of == namespace);
    assert!(!covers(7) && !covers(9));
    covers(8)
}

#[test]
fn base_3_7_2_a_reset_controller_is_ready_until_its_devices_are_done() {
    let mut rig = Rig::new();
    let (mut admin, mut io) = with_held_write(&mut rig);
    admin.set_property(&mut rig, property::CC, 0);
    assert_eq!(ready(&mut admin, &mut rig), READY);
    io.session.advance(rig.now, &mut rig.shard());
    assert!(is_fenced(&rig));
    io.close(&mut rig);
    assert_eq!(ready(&mut admin, &mut rig), READY);
    // A host that does not wait does not get on by that.
    admin.set_property(&mut rig, property::CC, CC_ENABLED);
    assert_eq!(ready(&mut admin, &mut rig), 0);
    assert_eq!(admin.identify(&mut rig, 1, 0).status >> 8 & 7, 0);
    assert_ne!(admin.identify(&mut rig, 1, 0).status, 0);
    rig.release(&mut io.session);
    assert!(!is_fenced(&rig));
    assert_eq!(ready(&mut admin, &mut rig), READY);
    assert_eq!(admin.identify(&mut rig, 1, 0).status, 0);
    let mut again = admin.io(&mut rig, 1, 32);
    assert_eq!(again.write(&mut rig, 1, 8, 1, &[9; 512]).status, 0);
    again.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn base_3_7_2_what_a_device_never_ends_holds_a_reset_up_for_four_seconds() {
    let mut rig = Rig::new();
    let (mut admin, mut io) = with_held_write(&mut rig);
    admin.set_property(&mut rig, property::CC, 0);
    io.session.advance(rig.now, &mut rig.shard());
    rig.now = rig.now.plus_ms(3999);
    assert_eq!(ready(&mut admin, &mut rig), READY);
    rig.now = rig.now.plus_ms(1);
    assert_eq!(ready(&mut admin, &mut rig), 0);
    // From then on the fence alone keeps the order.
    assert!(is_fenced(&rig));
    admin.set_property(&mut rig, property::CC, CC_ENABLED);
    rig.now = rig.now.plus_ms(4000);
    assert_eq!(ready(&mut admin, &mut rig), READY);
    assert!(is_fenced(&rig));
    io.close(&mut rig);
    rig.release(&mut io.session);
    assert!(!is_fenced(&rig));
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn base_3_6_2_a_shutdown_is_complete_when_devices_are_done() {
    let mut rig = Rig::new();
    let (mut admin, mut io) = with_held_write(&mut rig);
    admin.set_property(&mut rig, property::CC, CC_ENABLED | CC_SHN_NORMAL);
    io.session.advance(rig.now, &mut rig.shard());
    io.close(&mut rig);
    assert_eq!(
        admin.get_property(&mut rig, property::CSTS, false).result,
        0b0101
    );
    rig.release(&mut io.session);
    assert_eq!(
        admin.get_property(&mut rig, property::CSTS, false).result,
        0b1001
    );
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn base_3_7_2_a_host_that_comes_again_waits_for_what_it_left() {
    let mut rig = Rig::new();
    let (mut admin, mut io) = with_held_write(&mut rig);
    admin.close(&mut rig);
    // Another shard has not seen yet that the association is over: it is listed.
    let cntlid = rig.target.controllers()[0].cntlid;
    let mut again = Host::admin(&mut rig, Manners::default());
    assert_eq!(rig.target.controllers().len(), 2);
    assert_eq!(ready(&mut again, &mut rig), 0);
    rig.now = rig.now.plus_ms(60_000);
    assert_eq!(ready(&mut again, &mut rig), 0);
    io.session.advance(rig.now, &mut rig.shard());
    io.close(&mut rig);
    assert!(is_fenced(&rig));
    assert!(rig.target.controllers().iter().all(|c| c.cntlid != cntlid));
    rig.release(&mut io.session);
    assert_eq!(ready(&mut again, &mut rig), READY);
    again.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn base_3_7_2_other_hosts_do_not_wait() {
    let mut rig = Rig::new();
    let (mut admin, mut io) = with_held_write(&mut rig);
    admin.close(&mut rig);
    io.close(&mut rig);
    let mut other = Host::new(&rig, Manners::default());
    other.initialize(&mut rig);
    let data = rig::host::connect_data(0xffff, rig::NQN, "nqn.2026-01.com.example:other");
    assert_eq!(other.connect_with(&mut rig, 0, 31, &data).status, 0);
    other.set_property(&mut rig, property::CC, CC_ENABLED);
    assert_eq!(ready(&mut other, &mut rig), READY);
    rig.release(&mut io.session);
    other.close(&mut rig);
    rig.assert_all_returned();
}
