//! Hosts that do not read: what they asked for pins pages, but no more than their share,
//! and not for ever (row Z12).

mod rig;

use nvmf::CloseReason;
use rig::host::{Host, Manners, rw, sqe, transport};
use rig::{Rig, Sizes, config};

/// Pages of the shard, and of one read.
const PAGES: usize = 128;
const READ: usize = 8;

/// A shard that is short of nothing but pages.
fn shard() -> Rig {
    Rig::with(
        config(),
        Sizes {
            pages: PAGES,
            runs: 256,
            ..Sizes::default()
        },
    )
}

fn read() -> [u8; 64] {
    let mut sqe = rw(0x02, 2, 0, READ as u32);
    transport(&mut sqe, (READ * 4096) as u32);
    sqe
}

/// I/O queue `qid` of a host that has asked for `reads` reads, and does not read what comes.
fn deaf(rig: &mut Rig, admin: &Host, qid: u16, reads: usize) -> (Host, Vec<u16>) {
    let mut host = admin.io(rig, qid, 64);
    host.sent.deaf = true;
    let cids = (0..reads).map(|_| host.submit(rig, read(), &[])).collect();
    (host, cids)
}

/// Lets `ms` milliseconds pass; the reason to close the connection, if there is one then.
fn later(rig: &mut Rig, host: &mut Host, ms: u64) -> Option<CloseReason> {
    rig.now = rig.now.plus_ms(ms);
    let unacknowledged = host.sent.unacknowledged();
    host.session.set_unacknowledged(rig.now, unacknowledged);
    host.session.advance(rig.now, &mut rig.shard());
    host.session.closing()
}

#[test]
fn z12_hosts_that_read_nothing_leave_pages_to_one_that_does() {
    let mut rig = shard();
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut deaf: Vec<_> = (1..=3).map(|qid| deaf(&mut rig, &admin, qid, 40)).collect();
    // As long as it reads nothing it gets no more, whatever it asks for.
    for n in 1..=deaf.len() {
        let (host, _) = &deaf[n - 1];
        assert!(host.session.is_waiting() && !host.session.is_blocked());
    }
    let left = rig.pages.unheld();
    assert!(left >= READ, "{left} pages are left of {PAGES}");
    let mut good = admin.io(&mut rig, 4, 32);
    for _ in 0..100 {
        assert_eq!(good.without_data(&mut rig, read()).status, 0);
        assert_eq!(admin.identify(&mut rig, 0x01, 0).status, 0);
    }
    // What it takes at last is all there, and the rest of what it asked for follows.
    for (host, cids) in &mut deaf {
        host.sent.deaf = false;
        while !host.sent.unread.is_empty() {
            host.sent.hear(usize::MAX);
            host.run(&mut rig);
        }
        for &cid in &*cids {
            assert_eq!(host.answer(cid).data.len(), READ * 4096);
        }
        assert!(!host.session.is_waiting());
        host.close(&mut rig);
    }
    good.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn z12_one_read_is_always_allowed() {
    let mut rig = shard();
    let mut admin = Host::admin(&mut rig, Manners::default());
    let pinned: Vec<_> = (0..PAGES - READ + 1)
        .map(|_| rig.pages.alloc().unwrap())
        .collect();
    rig.disks.hold = true;
    let (mut host, cids) = deaf(&mut rig, &admin, 1, 2);
    assert_eq!(host.session.outstanding(), 1);
    drop(pinned);
    rig.disks.hold = false;
    rig.release(&mut host.session);
    host.sent.deaf = false;
    host.run(&mut rig);
    for cid in cids {
        assert_eq!(host.answer(cid).status, 0);
    }
    host.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn z12_a_host_that_reads_nothing_is_closed() {
    let mut rig = shard();
    let mut admin = Host::admin(&mut rig, Manners::default());
    let (mut host, _) = deaf(&mut rig, &admin, 1, 4);
    // As long as it reads a page now and then it is only slow.
    for _ in 0..8 {
        assert_eq!(later(&mut rig, &mut host, 29_999), None);
        host.sent.hear(2);
        assert_eq!(later(&mut rig, &mut host, 0), None);
    }
    // A few bytes now and then are nothing.
    let mut rest = host.sent.unacknowledged();
    for _ in 0..29 {
        rest -= 16;
        rig.now = rig.now.plus_ms(1000);
        host.session.set_unacknowledged(rig.now, rest);
        host.session.advance(rig.now, &mut rig.shard());
        assert_eq!(host.session.closing(), None);
    }
    assert_eq!(
        later(&mut rig, &mut host, 1000),
        Some(CloseReason::SendTimeout)
    );
    assert_eq!(rig.counters.timeouts, 1);
    // The connection is reset: nothing waits for its send queue.
    host.sent.unread.clear();
    host.close(&mut rig);
    // One with nothing to read is not late, nor is one that has read it all.
    let mut idle = admin.io(&mut rig, 2, 32);
    assert_eq!(idle.without_data(&mut rig, read()).status, 0);
    assert_eq!(later(&mut rig, &mut idle, 100_000), None);
    idle.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn z12_while_others_starve_a_host_that_reads_nothing_has_a_second() {
    let mut rig = shard();
    let mut admin = Host::admin(&mut rig, Manners::default());
    let (mut host, _) = deaf(&mut rig, &admin, 1, 4);
    // It waits for nobody but its own host.
    assert_eq!(later(&mut rig, &mut host, 5000), None);
    let since = rig.now;
    rig.commands.note_wait(since, since.plus_ms(999));
    assert_eq!(later(&mut rig, &mut host, 999), None);
    rig.now = since.plus_ms(1000);
    rig.commands.note_wait(since, rig.now);
    assert_eq!(
        later(&mut rig, &mut host, 0),
        Some(CloseReason::WantOfResources)
    );
    host.sent.unread.clear();
    host.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn z12_the_end_of_a_session_does_not_wait_for_its_host() {
    let mut rig = shard();
    let mut admin = Host::admin(&mut rig, Manners::default());
    let (mut host, _) = deaf(&mut rig, &admin, 1, 4);
    host.sent.room = 0;
    // It has asked for its end, and does not look at the answer.
    host.submit(&mut rig, rig::host::command::Command::disconnect().sqe, &[]);
    assert_eq!(host.session.closing(), Some(CloseReason::Disconnected));
    assert_eq!(
        later(&mut rig, &mut host, 29_999),
        Some(CloseReason::Disconnected)
    );
    assert_eq!(
        later(&mut rig, &mut host, 1),
        Some(CloseReason::SendTimeout)
    );
    host.sent.unread.clear();
    host.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

/// What TCP still has when a session is closed is waited for as long, and not
/// as long as it is acknowledged byte by byte.
#[test]
fn z12_what_a_closed_session_has_sent_does_not_wait_for_its_host() {
    let mut rig = shard();
    let mut admin = Host::admin(&mut rig, Manners::default());
    for slow in [false, true] {
        let (mut host, _) = deaf(&mut rig, &admin, 1, 4);
        host.close(&mut rig);
        for ms in (0..30).map(|n| n * 1000) {
            let now = rig.now.plus_ms(ms);
            host.sent.hear(usize::from(slow));
            let unacknowledged = host.sent.unacknowledged();
            host.session.set_unacknowledged(now, unacknowledged);
            assert!(!host.session.is_forsaken(now, &mut rig.shard()), "{ms} ms");
        }
        let unacknowledged = host.sent.unacknowledged();
        assert!(unacknowledged > 0);
        let now = rig.now.plus_ms(30_000);
        host.session.set_unacknowledged(now, unacknowledged);
        assert!(host.session.is_forsaken(now, &mut rig.shard()));
        rig.now = now;
        host.sent.unread.clear();
    }
    // Nothing is left to wait for.
    let mut host = admin.io(&mut rig, 1, 32);
    assert_eq!(host.without_data(&mut rig, read()).status, 0);
    host.close(&mut rig);
    let now = rig.now.plus_ms(100_000);
    assert!(!host.session.is_forsaken(now, &mut rig.shard()));
    assert_eq!(admin.without_data(&mut rig, sqe(0x18, 0)).status, 0);
    admin.close(&mut rig);
    rig.assert_all_returned();
}
