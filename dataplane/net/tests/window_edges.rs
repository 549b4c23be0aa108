//! Where receive windows end. A sender that has more than a window to send,
//! and no patience (TCP_NODELAY, as every NVMe/TCP initiator has), cuts a
//! segment in two at the edge; a page of five segments is a copy (row Z8).

mod support;

use std::time::Duration;

use support::script::*;

const SHIFT: u8 = 7;

/// A connection with timestamps whose window has grown; the next sequence number.
fn grown() -> (Script, u32, usize) {
    let mut t = Script::with(false, |config| config.window_max_bytes = 4 << 20);
    let syn = seg(SYN, IRS, 0).mss(1460).sack_ok().scale(SHIFT).ts(1, 0);
    let id = t.accept(syn, Duration::from_millis(1));
    let (mut seq, full) = (IRS + 1, 1448);
    for _ in 0..200 {
        t.sends(seg_of(seq, t.iss, full));
        seq += full as u32;
        while t.host.stack.recv(id).is_some() {}
        t.out();
    }
    (t, seq, full)
}

fn seg_of(seq: u32, iss: u32, len: usize) -> Seg {
    let data = vec![7; len];
    seg(ACK | PSH, seq, iss + 1).ts(2, 0).data(&data)
}

/// The window of each answer, in bytes.
fn windows(t: &mut Script) -> Vec<usize> {
    let id = t.id.unwrap();
    while t.host.stack.recv(id).is_some() {}
    let answers = t.out();
    answers
        .iter()
        .map(|s| usize::from(s.window) << SHIFT)
        .collect()
}

fn assert_whole(windows: &[usize], full: usize) {
    let whole = |window: &usize| *window >= 16 * full && window.is_multiple_of(full);
    assert!(windows.iter().all(whole), "{windows:?}");
}

#[test]
fn z08_a_window_holds_whole_segments_after_each_one() {
    let (mut t, mut seq, full) = grown();
    let mut seen = 0;
    for _ in 0..30 {
        // One in order, one beyond a hole, and then the hole: the first is
        // acknowledged alone.
        for at in [0, 2, 1] {
            t.sends(seg_of(seq + at * full as u32, t.iss, full));
            let windows = windows(&mut t);
            assert_whole(&windows, full);
            seen += windows.len();
        }
        seq += 3 * full as u32;
    }
    assert!(seen > 50);
}

#[test]
fn z08_a_window_holds_whole_segments_after_a_short_one() {
    let (mut t, mut seq, full) = grown();
    for _ in 0..20 {
        // A command capsule: what follows begins a grid of its own.
        for len in [72, full, full, full, full, full, full] {
            t.sends(seg_of(seq, t.iss, len));
            seq += len as u32;
            if len < full {
                t.wait_ms(100);
            }
            assert_whole(&windows(&mut t), full);
        }
    }
}

#[test]
fn rfc9293_3_8_6_2_2_a_reader_that_keeps_up_leaves_no_peer_waiting() {
    // Commands over a path of large segments: a cluster yields little, and all the window is
    // a segment or two. A peer that has more than it holds waits until it is wider.
    for len in 256..=288 {
        let mut t = Script::with(false, |config| {
            config.mtu = 9000;
            config.cluster_payload = 8960;
            config.window_max_bytes = 4 << 20;
        });
        let syn = seg(SYN, IRS, 0).mss(8960).sack_ok().scale(SHIFT).ts(1, 0);
        let id = t.accept(syn, Duration::from_millis(1));
        let (mut seq, mut edge) = (IRS + 1, IRS + 1 + 8948);
        for i in 0..1000 {
            let left = edge - seq;
            assert!(
                left >= 3 * len,
                "3 × {len} bytes wait, and the window stays {left} ({i})"
            );
            for _ in 0..3 {
                t.sends(seg_of(seq, t.iss, len as usize));
                seq += len;
            }
            while t.host.stack.recv(id).is_some() {}
            t.wait_ms(50);
            let told = t.out();
            let edges = told.iter().map(|s| s.ack + (u32::from(s.window) << SHIFT));
            edge = edges.fold(edge, u32::max);
        }
    }
}

#[test]
fn z12_a_window_closes_for_a_reader_that_does_not_read() {
    let (mut t, mut seq, full) = grown();
    let mut last = usize::MAX;
    for i in 0..2000 {
        let len = if i % 3 == 0 { 72 } else { full };
        t.sends(seg_of(seq, t.iss, len));
        seq += len as u32;
        for answer in t.out() {
            last = usize::from(answer.window) << SHIFT;
        }
        if last == 0 {
            break;
        }
    }
    assert!(last < full, "{last}");
    // Whoever cannot send is not to blame for that; once there is room again and it was told so, it is.
    let id = t.id.unwrap();
    assert!(t.host.stack.is_held_up(id));
    while t.host.stack.recv(id).is_some() {}
    t.out();
    assert!(!t.host.stack.is_held_up(id));
}

/// What comes when there are no clusters is dropped: its peer is held up until it has come. A peer that the application wants
/// to hear in any case is heard.
#[test]
fn z12_a_peer_whose_segments_are_dropped_for_want_of_clusters_is_held_up() {
    for is_heeded in [false, true] {
        let (mut t, seq, _) = grown();
        let id = t.id.unwrap();
        if is_heeded {
            t.host.stack.heed(id);
        }
        assert!(!t.host.stack.is_held_up(id));
        // Nothing is left but what is for frames on their way, and who is silent loses what it was promised.
        let headroom = t.host.stack.config().receive_headroom - 8;
        let mut held = Vec::new();
        while t.host.pool.unheld() >= headroom {
            held.push(t.host.pool.alloc().unwrap());
        }
        for _ in 0..50 {
            t.wait_ms(10);
            t.out();
        }
        t.sends(seg_of(seq, t.iss, 72));
        t.out();
        assert_eq!(t.host.stack.recv(id).is_some(), is_heeded);
        assert_eq!(t.host.stack.is_held_up(id), !is_heeded);
        while t.host.stack.recv(id).is_some() {}
        drop(held);
        t.sends(seg_of(seq, t.iss, 72));
        t.out();
        assert!(!t.host.stack.is_held_up(id), "it has come again");
    }
}
