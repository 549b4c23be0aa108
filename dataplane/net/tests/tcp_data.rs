//! Packet scripts: data, acknowledgments, windows.

mod support;

use net::{CloseReason, Duration, Event, SendError, StackConfig};
use support::script::*;
use support::*;

#[test]
fn k03_z10_received_bytes_stay_where_the_port_put_them() {
    let mut t = Script::new();
    let id = t.open();
    let frame = t.frame(&seg(ACK | PSH, IRS + 1, t.iss + 1).data(b"payload"));
    let mut fresh = t.host.pool.alloc().unwrap();
    fresh[..frame.len()].copy_from_slice(&frame);
    let address = fresh.address();
    let slice = fresh.freeze().slice(0..frame.len());
    t.host.stack.receive(t.now, net::RxFrame::new(slice));
    let got = t.host.stack.recv(id).unwrap();
    assert_eq!(got.bytes(), b"payload");
    assert_eq!(
        got.address().as_ptr() as usize,
        address.as_ptr() as usize + 54
    );
}

#[test]
fn z06_segments_in_any_order_give_the_stream() {
    let mut t = Script::new();
    t.open();
    let part = |i: u32| {
        let at = u64::from(i) * 100;
        seg(ACK | PSH, IRS + 1 + i * 100, 0).data(&data(at, 100))
    };
    for i in [1, 2, 0, 5, 3, 4] {
        let mut segment = part(i);
        segment.ack = t.iss + 1;
        t.sends(segment);
        t.out();
    }
    assert_eq!(t.read_all(), data(0, 600));
    assert_eq!(t.host.pool.held(), 0);
}

/// A port that notes the addresses of the payload it is given.
#[derive(Default)]
struct Addresses(Vec<usize>);

impl net::Transmit for Addresses {
    fn transmit(&mut self, frame: net::TxFrame<'_>) -> Result<(), net::PortFull> {
        for piece in frame.payload.pieces() {
            self.0.push(piece.bytes().as_ptr() as usize);
        }
        Ok(())
    }
}

#[test]
fn z10_retransmission_reads_the_same_pages() {
    let mut t = Script::new();
    let id = t.open();
    let chunk = t.host.chunk(7, 0, 1000).unwrap();
    let page = chunk.bytes().as_ptr() as usize;
    t.host.stack.send(id, chunk).unwrap();
    let mut port = Addresses::default();
    t.host.stack.transmit(t.now, &mut port);
    t.wait_ms(1500);
    t.host.stack.advance(t.now);
    t.host.stack.transmit(t.now, &mut port);
    assert!(port.0.len() >= 2, "sent and sent again");
    assert!(port.0.iter().all(|&address| address == page));
    assert_eq!(t.host.pages.held(), 1, "held until it is acknowledged");
    t.sends(seg(ACK, IRS + 1, t.iss + 1001));
    assert_eq!(t.host.pages.held(), 0);
}

#[test]
fn a_segment_carries_several_chunks() {
    let mut t = Script::new();
    let id = t.open();
    for (at, len) in [(0, 40), (40, 900), (940, 24), (964, 1000)] {
        let chunk = t.host.chunk(7, at, len).unwrap();
        t.host.stack.send(id, chunk).unwrap();
    }
    let out = t.out();
    assert_eq!(lens(&out), [MSS, 504]);
    assert_eq!(out[0].data, data(0, MSS));
    assert!(!out[0].has(PSH) && out[1].has(PSH));
}

#[test]
fn rfc6928_2_the_initial_window_is_ten_segments() {
    let mut t = Script::new();
    t.open();
    t.write(0, 20 * MSS);
    assert_eq!(lens(&t.out()), vec![MSS; 10]);
    // RFC 5681, 3.1: slow start: every segment acknowledged brings two.
    t.wait_ms(10);
    t.sends(seg(ACK, IRS + 1, t.iss + 1 + 2 * MSS as u32));
    assert_eq!(t.out().len(), 4);
}

#[test]
fn rfc9293_3_7_1_a_peer_that_says_nothing_gets_536_bytes() {
    let mut t = Script::new();
    t.accept(seg(SYN, IRS, 0), Duration::from_millis(1));
    t.write(0, 1000);
    assert_eq!(lens(&t.out()), [536, 464]);
}

#[test]
fn rfc9293_3_8_6_the_peers_window_is_kept() {
    let mut t = Script::new();
    t.open();
    t.sends(seg(ACK, IRS + 1, t.iss + 1).window(3000));
    t.write(0, 5 * MSS);
    assert_eq!(lens(&t.out()), [MSS, MSS], "no silly 80 bytes after them");
    t.wait_ms(10);
    t.sends(seg(ACK, IRS + 1, t.iss + 1 + 2 * MSS as u32).window(1000));
    t.nothing();
    // RFC 9293, 3.8.6.2.1: after a while what fits is sent all the same.
    let out = t.until_due(Duration::from_secs(2));
    assert_eq!(lens(&out), [1000]);
}

#[test]
fn rfc7323_2_2_windows_are_scaled() {
    let mut t = Script::new();
    let syn = seg(SYN, IRS, 0).mss(1460).sack_ok().scale(3);
    t.accept(syn, Duration::from_millis(1));
    t.sends(seg(ACK, IRS + 1, t.iss + 1).window(1000));
    t.write(0, 7 * MSS);
    // Eight thousand bytes: five segments and what is too small to send.
    assert_eq!(lens(&t.out()), vec![MSS; 5]);
    t.sends(seg(ACK | PSH, IRS + 1, t.iss + 1).data(b"x").window(1000));
    let ack = t.out().pop().unwrap();
    let shift = StackConfig::new(MAC_A, "192.0.2.1/24".parse().unwrap(), [0; 32]).window_max_bytes;
    let shift = (0..15).find(|s| shift >> s <= 0xffff).unwrap();
    assert!(usize::from(ack.window) << shift > 10_000);
}

#[test]
fn rfc9293_3_8_6_3_every_second_segment_is_acknowledged_others_soon() {
    let mut t = Script::new();
    t.open();
    let mut seq = IRS + 1;
    let mut send = |t: &mut Script| {
        t.sends(seg(ACK, seq, t.iss + 1).data(&[0; 1000]));
        seq += 1000;
        t.out().len()
    };
    // The peer's slow start is not held up: the first ones are answered at once.
    for _ in 0..16 {
        assert_eq!(send(&mut t), 1);
        t.read_all();
    }
    let answers: Vec<usize> = (0..8).map(|_| send(&mut t)).collect();
    assert_eq!(answers, [0, 1, 0, 1, 0, 1, 0, 1]);
    assert_eq!(send(&mut t), 0);
    let start = t.now;
    assert_eq!(t.until_due(Duration::from_secs(1)).len(), 1);
    assert!(t.now.since(start) <= Duration::from_millis(41));
    assert_eq!(t.count("tcp_acks_delayed"), 1);
}

#[test]
fn rfc9293_3_8_6_1_a_closed_window_is_probed_without_end() {
    let mut t = Script::new();
    t.open();
    t.sends(seg(ACK, IRS + 1, t.iss + 1).window(0));
    t.write(0, 3000);
    t.nothing();
    let mut last = t.now;
    let mut gaps = Vec::new();
    for _ in 0..30 {
        let probe = t.until_due(Duration::from_secs(100)).remove(0);
        assert_eq!((probe.seq, probe.data.len()), (t.iss + 1, 1));
        assert_eq!(probe.data, data(0, 1));
        gaps.push(t.now.since(last).as_millis());
        last = t.now;
        t.sends(seg(ACK, IRS + 1, t.iss + 1).window(0));
        t.nothing();
    }
    assert!(gaps.is_sorted() && gaps[29] >= 59_000, "{gaps:?}");
    // The window opens: everything goes, from the first byte on.
    t.sends(seg(ACK, IRS + 1, t.iss + 1).window(5000));
    assert_eq!(lens(&t.out()), [MSS, MSS, 80]);
}

#[test]
fn rfc9293_3_8_6_1_the_byte_of_a_probe_may_be_taken() {
    let mut t = Script::new();
    t.open();
    t.sends(seg(ACK, IRS + 1, t.iss + 1).window(0));
    t.write(0, 100);
    t.nothing();
    assert_eq!(t.until_due(Duration::from_secs(5))[0].data.len(), 1);
    t.sends(seg(ACK, IRS + 1, t.iss + 2).window(5000));
    let rest = t.one();
    assert_eq!((rest.seq, rest.data), (t.iss + 2, data(1, 99)));
}

#[test]
fn rfc9293_3_8_3_a_silent_peer_is_given_up_after_r2() {
    let mut t = Script::with(false, |config| config.tcp.retries_max = 5);
    t.open();
    t.write(0, 100);
    t.one();
    let mut sent = 0;
    while t.host.stack.connection_count() > 0
        && !matches!(t.events.last(), Some(Event::Closed { .. }))
    {
        sent += t.until_due(Duration::from_secs(100)).len();
    }
    assert!(matches!(
        t.events.last(),
        Some(Event::Closed {
            reason: CloseReason::TimedOut,
            ..
        })
    ));
    assert_eq!(sent, 6, "a tail loss probe and five retransmissions");
    assert_eq!(t.host.pages.held(), 0);
}

/// Acknowledging what has not arrived yet, or in tiny parts, gains a peer nothing.
#[test]
fn rfc3465_2_1_windows_grow_by_bytes_not_by_acks() {
    let mut t = Script::new();
    t.open();
    flight(&mut t, 0, 10);
    t.wait_ms(10);
    for i in 1..=MSS as u32 {
        t.sends(seg(ACK, IRS + 1, t.iss + 1 + i));
    }
    t.write(10 * MSS as u64, 20 * MSS);
    assert!(t.out().len() <= 2, "a segment's worth of ACKs is a segment");
}

#[test]
fn rfc7323_5_3_old_timestamps_are_old_segments() {
    let mut t = Script::new();
    let syn = seg(SYN, IRS, 0).mss(1460).ts(1000, 0);
    t.accept(syn, Duration::from_millis(1));
    t.sends(seg(ACK | PSH, IRS + 1, t.iss + 1).data(b"new").ts(1010, 0));
    assert_eq!(t.one().ts.unwrap().1, 1010, "RFC 7323, 4.3: echoed");
    let ack = t.asks(seg(ACK | PSH, IRS + 4, t.iss + 1).data(b"old").ts(900, 0));
    assert_eq!(ack.ack, IRS + 4);
    assert_eq!(t.read_all(), b"new");
    assert_eq!(t.count("tcp_paws_refused"), 1);
    // RFC 7323, 3.2: without a timestamp it is not of this connection.
    t.sends(seg(ACK | PSH, IRS + 4, t.iss + 1).data(b"bare"));
    t.nothing();
    assert!(t.read_all().is_empty());
    // A reset needs none.
    t.sends(seg(RST, IRS + 4, 0));
    t.nothing();
    assert!(matches!(t.events.last(), Some(Event::Closed { .. })));
}

#[test]
fn rfc7323_4_3_the_timestamp_echoed_is_that_of_the_left_edge() {
    let mut t = Script::new();
    t.accept(
        seg(SYN, IRS, 0).mss(1460).ts(1000, 0),
        Duration::from_millis(1),
    );
    let ack = t.asks(
        seg(ACK | PSH, IRS + 101, t.iss + 1)
            .data(&[0; 100])
            .ts(1020, 0),
    );
    assert_eq!(ack.ts.unwrap().1, 1000, "out of order: not yet");
    let ack = t.asks(
        seg(ACK | PSH, IRS + 1, t.iss + 1)
            .data(&[0; 100])
            .ts(1021, 0),
    );
    assert_eq!((ack.ack, ack.ts.unwrap().1), (IRS + 201, 1021));
}

#[test]
fn rfc3168_6_1_marks_are_echoed_until_the_peer_reacts() {
    let mut t = Script::new();
    let mut syn = seg(SYN | ECE | CWR, IRS, 0).mss(1460).sack_ok();
    syn.window = 0xffff;
    let answer = t.asks(syn);
    assert_eq!(answer.flags, SYN | ACK | ECE);
    t.iss = answer.seq;
    t.sends(seg(ACK, IRS + 1, t.iss + 1));
    t.nothing();
    let ack = t.asks(seg(ACK | PSH, IRS + 1, t.iss + 1).data(b"a").ecn(3));
    assert!(ack.has(ECE));
    let ack = t.asks(seg(ACK | PSH, IRS + 2, t.iss + 1).data(b"b"));
    assert!(ack.has(ECE), "until CWR");
    let ack = t.asks(seg(ACK | PSH | CWR, IRS + 3, t.iss + 1).data(b"c"));
    assert!(!ack.has(ECE));
    // Our data can be marked; ACKs cannot (6.1.4). Told of a mark, we reduce and say so.
    assert_eq!(ack.ecn, 0);
    t.write(0, 10 * MSS);
    let out = t.out();
    assert!(out.iter().all(|s| s.ecn == 2));
    t.wait_ms(10);
    t.write((10 * MSS) as u64, 10 * MSS);
    t.sends(seg(ACK | ECE, IRS + 4, t.iss + 1 + 5 * MSS as u32));
    t.sends(seg(ACK | ECE, IRS + 4, t.iss + 1 + 10 * MSS as u32));
    let out = t.out();
    assert!(out[0].has(CWR) && !out[1].has(CWR));
    assert_eq!(t.count("tcp_ecn_reductions"), 1, "once per window");
}

#[test]
fn rfc1191_6_a_narrower_path_gets_smaller_segments() {
    let mut t = Script::new();
    t.open();
    let out = flight(&mut t, 0, 3);
    let sent = t.frame_of_ours(&out[0]);
    let complaint = too_big(&sent, 1300).unwrap();
    t.host.receive(t.now, &complaint);
    let again = t.out();
    assert_eq!(lens(&again)[..2], [1260, 200]);
    assert_eq!(again[0].data, data(0, 1260));
    assert_eq!(t.count("pmtu_lowered"), 1);
    // The others of the flight were as large: nothing new, and no stranger's either.
    for segment in &out[1..] {
        let sent = t.frame_of_ours(segment);
        t.host.receive(t.now, &too_big(&sent, 1300).unwrap());
    }
    t.nothing();
    assert_eq!(
        (t.count("pmtu_known"), t.count("icmp_errors_ignored")),
        (2, 0)
    );
    // One about something that is not out is nobody's (RFC 5927, 4.1).
    let mut forged = out[0].clone();
    forged.seq = forged.seq.wrapping_add(1_000_000);
    let forged = t.frame_of_ours(&forged);
    t.host.receive(t.now, &too_big(&forged, 600).unwrap());
    assert_eq!(t.count("icmp_errors_ignored"), 1);
    assert_eq!(t.count("pmtu_lowered"), 1);
}

#[test]
fn z12_one_byte_segments_cannot_pin_the_pool() {
    let mut t = Script::with(false, |config| config.receive_headroom = 100);
    t.open();
    // Nobody reads. Every byte comes in a cluster of its own, in and out of order.
    let mut seq = IRS + 1;
    for i in 0..3000u32 {
        let skip = if i % 3 == 0 { 2 } else { 1 };
        seq = seq.wrapping_add(skip);
        t.sends(seg(ACK, seq, t.iss + 1).data(b"x"));
        t.out();
        assert!(t.host.pool.unheld() >= 100, "the headroom is left alone");
    }
    assert!(t.count("tcp_budget_dropped") > 1000);
    let id = t.id.unwrap();
    t.host.stack.abort(id);
    t.out();
    assert_eq!(t.host.pool.held(), 0);
}

#[test]
fn z12_the_window_narrows_with_the_clusters_and_opens_again() {
    let mut t = Script::with(false, |config| {
        config.receive_headroom = 64;
        config.window_max_bytes = 60_000;
    });
    t.open();
    let mut seq = IRS + 1;
    let mut windows = Vec::new();
    let id = t.id.unwrap();
    let mut kept = Vec::new();
    for _ in 0..2000 {
        t.sends(seg(ACK | PSH, seq, t.iss + 1).data(&[7; 1000]));
        let last = t.out();
        // The application keeps everything, as a cache would.
        while let Some(slice) = t.host.stack.recv(id) {
            seq += slice.len() as u32;
            kept.push(slice);
        }
        windows.extend(last.iter().map(|s| s.window));
        if windows.last() == Some(&0) {
            break;
        }
        t.wait_ms(1);
    }
    assert_eq!(windows.last(), Some(&0), "it closes before memory runs out");
    assert!(t.host.pool.unheld() >= 64);
    assert!(windows.iter().max().unwrap() > &20_000);
    kept.clear();
    let update = t.out();
    assert!(
        update[0].window > 10_000,
        "and is announced open again: {update:?}"
    );
}

#[test]
fn z08_a_window_ends_where_a_full_segment_ends() {
    let mut t = Script::new();
    let syn = seg(SYN, IRS, 0).mss(1460).sack_ok().scale(3);
    let id = t.accept(syn, Duration::from_millis(1));
    let shift = (0..15)
        .find(|s| t.host.stack.config().window_max_bytes >> s <= 0xffff)
        .unwrap();
    let mut seq = IRS + 1;
    let mut windows = 0;
    for i in 0..400 {
        t.sends(seg(ACK | PSH, seq, t.iss + 1).data(&[7; MSS]));
        seq += MSS as u32;
        while t.host.stack.recv(id).is_some() {}
        for answer in t.out() {
            let edge = answer.ack + (u32::from(answer.window) << shift);
            // The SYN's own window, which has no scale, may end anywhere.
            if i > 100 {
                assert_eq!((edge - (IRS + 1)) as usize % MSS, 0, "{answer:?}");
                windows += 1;
            }
        }
    }
    assert!(windows > 100);
}

#[test]
fn z12_promises_to_many_never_exceed_the_pool() {
    let mut t = Script::with(false, |config| config.receive_headroom = 50);
    for port in 5000..5060 {
        let answer = t.asks(seg(SYN, IRS, 0).mss(1460).ports(port, 4420));
        let iss = answer.seq;
        t.sends(seg(ACK, IRS + 1, iss + 1).ports(port, 4420));
        t.out();
        t.sends(
            seg(ACK | PSH, IRS + 1, iss + 1)
                .data(&[1; 1460])
                .ports(port, 4420),
        );
        t.out();
        let stack = &t.host.stack;
        assert!(stack.clusters_promised() + 50 <= t.host.pool.unheld());
    }
    assert_eq!(t.host.stack.connection_count(), 60);
}

#[test]
fn the_send_queue_is_bounded_and_says_when_there_is_room() {
    let mut t = Script::with(false, |config| config.send_chunks_per_connection = 8);
    let id = t.open();
    let mut position = 0;
    let refused = loop {
        let chunk = t.host.chunk(7, position, 40).unwrap();
        match t.host.stack.send(id, chunk) {
            Ok(()) => position += 40,
            Err(error) => break error,
        }
    };
    assert_eq!(position, 8 * 40);
    assert!(matches!(refused, SendError::Full(_)));
    assert_eq!(refused.into_chunk().bytes(), data(8 * 40, 40));
    t.one();
    t.events.clear();
    t.sends(seg(ACK, IRS + 1, t.iss + 1 + 8 * 40));
    t.out();
    assert_eq!(t.events, [Event::Writable(id)]);
    assert_eq!(t.host.stack.send_room(id).chunks, 8);
}

#[test]
fn a_full_port_loses_nothing() {
    let mut t = Script::new();
    t.open();
    t.write(0, 5 * MSS);
    t.host.wire.room = Some(2);
    assert_eq!(lens(&t.out()), [MSS, MSS]);
    assert!(t.host.stack.wants_transmit());
    t.host.wire.room = None;
    let out = t.out();
    assert_eq!(lens(&out), [MSS; 3]);
    assert_eq!(out[0].data, data(2 * MSS as u64, MSS));
    assert_eq!(t.count("tcp_retransmitted"), 0);
}

/// A port that segments, and notes what it was asked to.
#[derive(Default)]
struct Segmenter(Vec<(usize, net::TxOffload)>);

impl net::Transmit for Segmenter {
    fn transmit(&mut self, frame: net::TxFrame<'_>) -> Result<(), net::PortFull> {
        self.0.push((frame.payload.len(), frame.offload));
        Ok(())
    }
}

#[test]
fn large_segments_are_left_to_a_port_that_cuts_them() {
    let mut t = Script::with(false, |config| {
        config.offload.tx_ip_checksum = true;
        config.offload.tx_l4_checksum = true;
        config.offload.tso_max_bytes = 64_000;
    });
    t.open();
    t.write(0, 10 * MSS);
    let mut port = Segmenter::default();
    t.host.stack.transmit(t.now, &mut port);
    let (len, offload) = port.0[0];
    assert_eq!((port.0.len(), len), (1, 10 * MSS));
    assert_eq!(offload.tso_mss, Some(MSS as u16));
    assert_eq!(
        (offload.l2_len, offload.l3_len, offload.l4_len),
        (14, 20, 20)
    );
    assert!(offload.ip_checksum && offload.l4_checksum && !offload.ipv6);
    // One of the ten is lost: only it is sent again.
    t.wait_ms(10);
    let (una, from, to) = (at_end(&t, 0), at_end(&t, 1), at_end(&t, 10));
    t.sends(seg(ACK, IRS + 1, una).sack(from, to));
    assert_eq!(lens(&t.out()), [MSS]);
}

#[test]
fn pacing_spreads_a_window_over_the_round_trip() {
    let mut t = Script::with(false, |config| config.tcp.pacing = true);
    let syn = seg(SYN, IRS, 0).mss(1460).sack_ok();
    t.accept(syn, Duration::from_millis(100));
    t.write(0, 10 * MSS);
    let mut sent = t.out().len();
    assert!(sent < 5, "{sent} at once");
    let start = t.now;
    while sent < 10 {
        sent += t.until_due(Duration::from_millis(100)).len();
    }
    let took = t.now.since(start).as_millis();
    assert!(
        (30..=60).contains(&took),
        "half a round trip in slow start, not {took} ms"
    );
}

#[test]
fn rfc5681_4_1_after_a_pause_the_path_is_sounded_out_again() {
    let mut t = Script::new();
    t.open();
    flight(&mut t, 0, 10);
    t.wait_ms(10);
    t.sends(seg(ACK, IRS + 1, at_end(&t, 10)));
    t.nothing();
    t.wait_ms(30_000);
    t.write(10 * MSS as u64, 25 * MSS);
    assert_eq!(t.out().len(), 10, "not twenty");
}

#[test]
fn checksums_that_are_wrong_are_counted() {
    let mut t = Script::new();
    t.open();
    let mut frame = t.frame(&seg(ACK | PSH, IRS + 1, t.iss + 1).data(b"bits"));
    *frame.last_mut().unwrap() ^= 1;
    t.host.receive(t.now, &frame);
    t.nothing();
    assert_eq!(t.count("tcp_checksum_bad"), 1);
}

#[test]
fn it_all_works_over_ipv6() {
    let mut t = Script::with(true, |_| {});
    let syn = seg(SYN, IRS, 0).mss(1440).sack_ok().scale(7).ts(1, 0);
    t.accept(syn, Duration::from_millis(5));
    t.sends(seg(ACK | PSH, IRS + 1, t.iss + 1).data(b"six").ts(2, 0));
    assert_eq!(t.one().ack, IRS + 4);
    assert_eq!(t.read_all(), b"six");
    t.write(0, 3000);
    let out = t.out();
    assert_eq!(lens(&out), [1428, 1428, 144]);
    assert_eq!(
        out.iter().flat_map(|s| s.data.clone()).collect::<Vec<_>>(),
        data(0, 3000)
    );
}
