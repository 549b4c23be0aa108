//! Packet scripts: opening, closing, and segments that do not belong.

mod support;

use net::{CloseReason, Duration, Event};
use support::script::*;

#[test]
fn rfc9293_3_10_7_1_without_a_connection_an_ack_is_reset_at_its_number() {
    let mut t = Script::new();
    let reset = t.asks(seg(ACK, 5, 777).ports(5000, 9));
    assert_eq!((reset.flags, reset.seq), (RST, 777));
}

#[test]
fn rfc9293_3_10_7_1_without_a_connection_a_syn_is_reset_from_zero() {
    let mut t = Script::new();
    let reset = t.asks(seg(SYN, 500, 0).ports(5000, 9));
    assert_eq!((reset.flags, reset.seq, reset.ack), (RST | ACK, 0, 501));
    t.sends(seg(RST, 5, 0).ports(5000, 9));
    t.nothing();
}

#[test]
fn rfc9293_3_10_7_2_a_listener_ignores_resets_and_resets_acks() {
    let mut t = Script::new();
    t.sends(seg(RST, 5, 0));
    t.nothing();
    let reset = t.asks(seg(ACK, 5, 42));
    assert_eq!((reset.flags, reset.seq), (RST, 42));
}

#[test]
fn rfc9293_3_5_a_passive_open() {
    let mut t = Script::new();
    let answer = t.asks(seg(SYN, IRS, 0).mss(1400).sack_ok().scale(5).ts(9, 0));
    assert_eq!((answer.flags, answer.ack), (SYN | ACK, IRS + 1));
    assert_eq!((answer.mss, answer.sack_ok), (Some(1460), true));
    assert_eq!(answer.ts.unwrap().1, 9);
    assert!(answer.scale.is_some());
    assert!(
        t.events.is_empty(),
        "nothing is accepted before the handshake is over"
    );
    let ack = seg(ACK, IRS + 1, answer.seq + 1).ts(10, answer.ts.unwrap().0);
    t.sends(ack);
    t.nothing();
    assert!(matches!(t.events[..], [Event::Accepted { remote, .. }] if remote == t.peer));
}

#[test]
fn rfc9293_3_5_the_last_ack_of_the_handshake_may_carry_data() {
    let mut t = Script::new();
    let answer = t.asks(seg(SYN, IRS, 0).mss(1460));
    t.sends(seg(ACK | PSH, IRS + 1, answer.seq + 1).data(b"first"));
    assert_eq!(t.one().ack, IRS + 6);
    assert_eq!(t.read_all(), b"first");
}

#[test]
fn rfc9293_3_10_7_4_a_syn_received_again_is_answered_again() {
    let mut t = Script::new();
    let first = t.asks(seg(SYN, IRS, 0).mss(1460));
    t.wait_ms(500);
    let second = t.asks(seg(SYN, IRS, 0).mss(1460));
    assert_eq!((second.flags, second.seq), (SYN | ACK, first.seq));
    assert_eq!(t.host.stack.connection_count(), 1);
}

#[test]
fn rfc9293_3_10_7_4_a_wrong_ack_in_syn_received_is_reset() {
    let mut t = Script::new();
    let answer = t.asks(seg(SYN, IRS, 0).mss(1460));
    let reset = t.asks(seg(ACK, IRS + 1, answer.seq + 100));
    assert_eq!((reset.flags, reset.seq), (RST, answer.seq + 100));
}

#[test]
fn rfc9293_3_10_7_4_a_reset_in_syn_received_goes_unnoticed() {
    let mut t = Script::new();
    t.asks(seg(SYN, IRS, 0).mss(1460));
    t.sends(seg(RST, IRS + 1, 0));
    t.nothing();
    assert_eq!(t.host.stack.connection_count(), 0);
    assert!(t.events.is_empty());
}

#[test]
fn rfc9293_3_8_3_a_syn_ack_is_repeated_and_given_up() {
    let mut t = Script::new();
    t.asks(seg(SYN, IRS, 0).mss(1460));
    let mut at = Vec::new();
    let start = t.now;
    loop {
        let out = t.until_due(Duration::from_secs(200));
        if out.is_empty() {
            break;
        }
        assert_eq!(out[0].flags, SYN | ACK);
        at.push(t.now.since(start).as_secs());
    }
    assert_eq!(at, [1, 3, 7, 15, 31], "RFC 6298: doubling from one second");
    assert_eq!(t.host.stack.connection_count(), 0);
    assert_eq!(t.count("tcp_half_open_expired"), 1);
}

fn connect(t: &mut Script) -> Seg {
    let id = t.host.stack.connect(t.now, t.peer, Some(t.ours)).unwrap();
    t.id = Some(id);
    t.one()
}

#[test]
fn rfc9293_3_5_an_active_open() {
    let mut t = Script::new();
    let syn = connect(&mut t);
    assert_eq!((syn.flags, syn.to_port), (SYN, 5000));
    assert_eq!((syn.mss, syn.sack_ok), (Some(1460), true));
    assert!(syn.scale.is_some() && syn.ts.is_some());
    let answer = seg(SYN | ACK, IRS, syn.seq + 1)
        .mss(1460)
        .ts(5, syn.ts.unwrap().0);
    let ack = t.asks(answer);
    assert_eq!((ack.flags, ack.seq, ack.ack), (ACK, syn.seq + 1, IRS + 1));
    assert!(matches!(t.events[..], [Event::Connected(_)]));
}

#[test]
fn rfc9293_3_10_7_3_a_wrong_ack_in_syn_sent_is_reset() {
    let mut t = Script::new();
    let syn = connect(&mut t);
    let reset = t.asks(seg(SYN | ACK, IRS, syn.seq + 9));
    assert_eq!((reset.flags, reset.seq), (RST, syn.seq + 9));
    assert!(t.events.is_empty(), "still trying");
}

#[test]
fn rfc9293_3_10_7_3_a_reset_in_syn_sent_refuses() {
    let mut t = Script::new();
    let syn = connect(&mut t);
    t.sends(seg(RST, 0, 0));
    t.nothing();
    assert!(
        t.events.is_empty(),
        "a reset without an ACK could be anybody's"
    );
    t.sends(seg(RST | ACK, 0, syn.seq + 1));
    t.nothing();
    let refused = |event: &Event| {
        matches!(
            event,
            Event::Closed {
                reason: CloseReason::Refused,
                ..
            }
        )
    };
    assert!(refused(&t.events[0]));
}

#[test]
fn rfc9293_3_5_figure_8_a_simultaneous_open() {
    let mut t = Script::new();
    let syn = connect(&mut t);
    let answer = t.asks(seg(SYN, IRS, 0).mss(1460));
    assert_eq!(
        (answer.flags, answer.seq, answer.ack),
        (SYN | ACK, syn.seq, IRS + 1)
    );
    t.sends(seg(SYN | ACK, IRS, syn.seq + 1).mss(1460));
    t.out();
    assert!(matches!(t.events[..], [Event::Connected(_)]));
    t.iss = syn.seq;
    t.write(0, 10);
    assert_eq!(t.one().data.len(), 10);
}

#[test]
fn rfc9293_3_6_figure_12_the_peer_closes_first() {
    let mut t = Script::new();
    let id = t.open();
    let ack = t.asks(seg(FIN | ACK, IRS + 1, t.iss + 1));
    assert_eq!((ack.flags, ack.ack), (ACK, IRS + 2));
    assert!(matches!(t.events.last(), Some(Event::PeerClosed(_))));
    t.write(0, 5);
    assert_eq!(
        t.one().data.len(),
        5,
        "half-closed: data still flows our way"
    );
    t.host.stack.close(id);
    let fin = t.one();
    assert_eq!((fin.flags, fin.seq), (FIN | ACK, t.iss + 6));
    t.sends(seg(ACK, IRS + 2, t.iss + 7));
    t.nothing();
    let closed = Event::Closed {
        connection: id,
        reason: CloseReason::Finished,
    };
    assert_eq!(t.events.last(), Some(&closed));
    t.host.stack.release(id);
    assert_eq!(t.host.stack.connection_count(), 0);
}

fn close_first(t: &mut Script) {
    let id = t.open();
    t.host.stack.close(id);
    let fin = t.one();
    assert_eq!((fin.flags, fin.seq), (FIN | ACK, t.iss + 1));
    t.sends(seg(ACK, IRS + 1, t.iss + 2));
    t.nothing();
    let ack = t.asks(seg(FIN | ACK, IRS + 1, t.iss + 2));
    assert_eq!((ack.flags, ack.seq, ack.ack), (ACK, t.iss + 2, IRS + 2));
    t.nothing();
    assert!(matches!(
        t.events.last(),
        Some(Event::Closed {
            reason: CloseReason::Finished,
            ..
        })
    ));
    t.host.stack.release(id);
}

#[test]
fn rfc9293_3_6_1_time_wait_acknowledges_the_fin_again() {
    let mut t = Script::new();
    close_first(&mut t);
    t.wait_ms(1000);
    let again = t.asks(seg(FIN | ACK, IRS + 1, t.iss + 2));
    assert_eq!((again.flags, again.ack), (ACK, IRS + 2));
    // The wait began anew: 59.5 s later it is still there, a second later it is not.
    t.wait_ms(59_500);
    assert_eq!(t.asks(seg(FIN | ACK, IRS + 1, t.iss + 2)).flags, ACK);
    t.wait_ms(60_500);
    t.out();
    assert_eq!(t.asks(seg(FIN | ACK, IRS + 1, t.iss + 2)).flags, RST);
}

#[test]
fn rfc1337_3_a_reset_does_not_end_time_wait() {
    let mut t = Script::new();
    close_first(&mut t);
    t.sends(seg(RST, IRS + 2, 0));
    t.nothing();
    assert_eq!(t.asks(seg(FIN | ACK, IRS + 1, t.iss + 2)).flags, ACK);
}

#[test]
fn rfc6191_2_a_newer_syn_takes_the_place_of_time_wait() {
    let mut t = Script::new();
    close_first(&mut t);
    // An old one does not.
    assert_eq!(
        t.asks(seg(SYN, IRS.wrapping_sub(5000), 0).mss(1460)).flags,
        ACK
    );
    let old = t.iss;
    let answer = t.asks(seg(SYN, IRS + 50_000, 0).mss(1460));
    assert_eq!(answer.flags, SYN | ACK);
    assert!(
        answer.seq.wrapping_sub(old) as i32 > 0,
        "the new numbers are above the old"
    );
    assert_eq!(t.count("tcp_time_wait_reused"), 1);
}

#[test]
fn rfc9293_3_6_figure_13_a_simultaneous_close() {
    let mut t = Script::new();
    let id = t.open();
    t.host.stack.close(id);
    assert_eq!(t.one().flags, FIN | ACK);
    let ack = t.asks(seg(FIN | ACK, IRS + 1, t.iss + 1));
    assert_eq!((ack.flags, ack.ack), (ACK, IRS + 2));
    t.sends(seg(ACK, IRS + 2, t.iss + 2));
    t.nothing();
    assert!(matches!(
        t.events.last(),
        Some(Event::Closed {
            reason: CloseReason::Finished,
            ..
        })
    ));
}

#[test]
fn rfc9293_3_10_7_4_a_fin_waits_for_what_is_before_it() {
    let mut t = Script::new();
    t.open();
    let ack = t.asks(seg(FIN | ACK, IRS + 6, t.iss + 1));
    assert_eq!(ack.ack, IRS + 1, "the FIN is beyond a hole");
    let ack = t.asks(seg(FIN | ACK, IRS + 1, t.iss + 1).data(b"hello"));
    assert_eq!(ack.ack, IRS + 7);
    assert_eq!(t.read_all(), b"hello");
}

#[test]
fn rfc9293_3_10_5_abort_sends_a_reset() {
    let mut t = Script::new();
    let id = t.open();
    t.write(0, 100);
    t.out();
    t.host.stack.abort(id);
    let reset = t.one();
    assert_eq!((reset.flags & RST, reset.seq), (RST, t.iss + 101));
    assert!(t.out().is_empty());
    assert!(matches!(
        t.events.last(),
        Some(Event::Closed {
            reason: CloseReason::Aborted,
            ..
        })
    ));
    assert_eq!(t.host.pages.held(), 0);
}

#[test]
fn rfc9293_3_10_7_4_data_for_nobody_is_reset() {
    let mut t = Script::new();
    let id = t.open();
    t.host.stack.release(id);
    assert_eq!(t.one().flags, FIN | ACK);
    t.sends(seg(ACK | PSH, IRS + 1, t.iss + 2).data(b"who reads this?"));
    assert!(t.out().iter().any(|s| s.has(RST)));
    t.nothing();
    assert_eq!(t.host.stack.connection_count(), 0);
    assert_eq!(t.host.pool.held(), 0);
}

#[test]
fn rfc2525_2_17_release_with_unread_bytes_is_a_reset() {
    let mut t = Script::new();
    let id = t.open();
    t.sends(seg(ACK | PSH, IRS + 1, t.iss + 1).data(b"unread"));
    t.out();
    t.host.stack.release(id);
    assert!(t.one().has(RST));
    t.nothing();
    assert_eq!(
        (t.host.pool.held(), t.host.stack.connection_count()),
        (0, 0)
    );
}

#[test]
fn rfc9293_3_6_1_a_peer_that_never_closes_is_not_waited_for_forever() {
    let mut t = Script::new();
    let id = t.open();
    t.host.stack.close(id);
    t.one();
    t.sends(seg(ACK, IRS + 1, t.iss + 2));
    t.nothing();
    t.until_due(Duration::from_secs(70));
    assert!(matches!(
        t.events.last(),
        Some(Event::Closed {
            reason: CloseReason::TimedOut,
            ..
        })
    ));
}

#[test]
fn rfc5961_3_2_only_the_exact_number_resets() {
    let mut t = Script::new();
    t.open();
    let challenge = t.asks(seg(RST, IRS + 2, 0));
    assert_eq!((challenge.flags, challenge.ack), (ACK, IRS + 1));
    t.sends(seg(RST, IRS + 1 + 0x10_0000, 0));
    t.nothing();
    t.sends(seg(RST, IRS + 1, 0));
    t.nothing();
    assert!(matches!(
        t.events.last(),
        Some(Event::Closed {
            reason: CloseReason::Reset,
            ..
        })
    ));
}

#[test]
fn rfc5961_4_2_a_syn_is_challenged_wherever_it_points() {
    let mut t = Script::new();
    t.open();
    for seq in [IRS, IRS + 1, IRS + 500, IRS.wrapping_sub(100_000)] {
        let challenge = t.asks(seg(SYN, seq, 0));
        assert_eq!((challenge.flags, challenge.ack), (ACK, IRS + 1));
    }
    assert_eq!(t.count("tcp_challenge_acks"), 4);
    assert_eq!(t.host.stack.connection_count(), 1);
}

#[test]
fn rfc5961_5_2_an_ack_of_what_was_never_sent_is_challenged() {
    let mut t = Script::new();
    t.open();
    let challenge = t.asks(seg(ACK | PSH, IRS + 1, t.iss + 5000).data(b"injected"));
    assert_eq!((challenge.flags, challenge.ack), (ACK, IRS + 1));
    let challenge = t.asks(seg(ACK | PSH, IRS + 1, t.iss.wrapping_sub(200_000)).data(b"injected"));
    assert_eq!(challenge.ack, IRS + 1);
    assert!(t.read_all().is_empty());
}

#[test]
fn rfc5961_7_challenges_are_limited() {
    let mut t = Script::new();
    t.open();
    let mut answers = 0;
    for _ in 0..100 {
        t.sends(seg(RST, IRS + 2, 0));
        answers += t.out().len();
    }
    assert_eq!(answers, 10);
    assert_eq!(t.count("tcp_challenge_acks_limited"), 90);
    t.wait_ms(5100);
    assert_eq!(t.asks(seg(RST, IRS + 2, 0)).flags, ACK);
}

#[test]
fn rfc4987_3_6_beyond_the_backlog_cookies_are_given_and_taken() {
    let mut t = Script::new();
    for port in 6000..6100 {
        t.sends(seg(SYN, 1, 0).mss(1460).ports(port, 4420));
        t.out();
    }
    assert_eq!(t.host.stack.connection_count(), 8, "the listener's backlog");
    assert_eq!(t.count("tcp_cookies_sent"), 92);
    let syn = seg(SYN, IRS, 0).mss(1460).sack_ok().scale(7).ts(50, 0);
    let id = t.accept(syn, Duration::from_millis(20));
    assert_eq!(t.count("tcp_cookies_accepted"), 1);
    assert_eq!(t.host.stack.connection_count(), 9);
    // What the SYN asked for holds: timestamps, SACK, and the window's scale.
    t.write(0, 3000);
    let out = t.out();
    assert!(out[0].ts.is_some());
    assert_eq!(out.iter().map(|s| s.data.len()).sum::<usize>(), 3000);
    let hole = t.asks(
        seg(ACK | PSH, IRS + 101, t.iss + 3001)
            .ts(51, 0)
            .data(b"beyond"),
    );
    assert_eq!(hole.sacks, [(IRS + 101, IRS + 107)]);
    assert!(t.host.stack.endpoints(id).is_some());
    // A guess is not a cookie.
    let reset = t.asks(seg(ACK, 5, 0x1234_5678).ports(7000, 4420));
    assert_eq!(reset.flags, RST);
}

#[test]
fn rfc9293_3_8_4_a_silent_peer_is_probed_and_given_up() {
    let mut t = Script::with(false, |config| {
        config.tcp.keepalive_idle = Some(Duration::from_secs(60));
        config.tcp.keepalive_interval = Duration::from_secs(5);
        config.tcp.keepalive_probes = 3;
    });
    t.open();
    let start = t.now;
    let probe = t.until_due(Duration::from_secs(120)).remove(0);
    assert_eq!(t.now.since(start).as_secs(), 60);
    assert_eq!((probe.flags, probe.seq), (ACK, t.iss));
    // An answer puts it off.
    t.sends(seg(ACK, IRS + 1, t.iss + 1));
    t.nothing();
    let start = t.now;
    t.until_due(Duration::from_secs(120));
    assert_eq!(t.now.since(start).as_secs(), 60);
    for _ in 0..2 {
        t.until_due(Duration::from_secs(6));
    }
    let last = t.until_due(Duration::from_secs(6)).remove(0);
    assert!(last.has(RST));
    assert!(matches!(
        t.events.last(),
        Some(Event::Closed {
            reason: CloseReason::TimedOut,
            ..
        })
    ));
}

/// The short way in must not take a stale segment for the slot's next tenant.
#[test]
fn a_slot_used_again_does_not_inherit_its_last_train() {
    let mut t = Script::with(false, |config| config.connections_max = 16);
    t.host.vouches = true;
    let id = t.open();
    t.sends(seg(ACK | PSH, IRS + 1, t.iss + 1).data(b"old"));
    t.out();
    t.read_all();
    t.host.stack.abort(id);
    t.out();
    t.host.stack.release(id);
    let answer = t.asks(seg(SYN, 5000, 0).mss(1460).ports(7777, 4420));
    t.sends(seg(ACK, 5001, answer.seq + 1).ports(7777, 4420));
    t.out();
    let new = t.id.unwrap();
    assert_eq!(new.slot(), id.slot());
    let reset = t.asks(seg(ACK | PSH, 5001, answer.seq + 1).data(b"stale"));
    assert_eq!(reset.flags, RST);
    assert!(t.read_all().is_empty());
}

#[test]
fn rfc9293_3_4_1_sequence_numbers_wrap() {
    let mut t = Script::new();
    let answer = t.asks(seg(SYN, u32::MAX - 2, 0).mss(1460));
    assert_eq!(answer.ack, u32::MAX - 1);
    let seq = u32::MAX - 1;
    t.sends(seg(ACK | PSH, seq, answer.seq + 1).data(b"wrap"));
    assert_eq!(t.one().ack, 2);
    t.sends(seg(ACK | PSH, 2, answer.seq + 1).data(b"ped"));
    t.wait_ms(50);
    t.out();
    assert_eq!(t.read_all(), b"wrapped");
}
