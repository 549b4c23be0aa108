//! What both the fuzz targets and the bounded random test do with bytes.
//!
//! The properties: no panic; memory bounded (the headroom is never touched);
//! nothing stays behind once everything is aborted.
#![allow(dead_code)]

use std::net::IpAddr;

use net::{Duration, Event};

use super::script::*;
use super::{MAC_A, MAC_B};

/// Cuts the input into frames and feeds them, with time passing in between.
pub fn frames(input: &[u8]) {
    let Some((&how, mut rest)) = input.split_first() else {
        return;
    };
    let mut t = Script::with(how & 1 != 0, |config| {
        config.vlan = (how & 2 != 0).then_some(7);
        config.duplicate_address_detection = how & 4 != 0;
    });
    t.host.vouches = how & 32 != 0;
    while let Some((&len, tail)) = rest.split_first() {
        let len = usize::from(len) * if how & 8 != 0 { 16 } else { 1 };
        let (frame, tail) = tail.split_at(len.min(tail.len()));
        rest = tail;
        let mut frame = frame.to_vec();
        if how & 16 != 0 && frame.len() >= 14 {
            // Past the first gate: to us, from a station.
            frame[..6].copy_from_slice(&MAC_A.0);
            frame[6..12].copy_from_slice(&MAC_B.0);
        }
        if how & 64 != 0 && frame.len() >= 60 {
            lead_on(&mut frame, &t);
        }
        if !frame.is_empty() {
            t.host.receive(t.now, &frame);
        }
        turn(&mut t);
    }
    end(&mut t);
}

/// Past the second gate: an IP header that is right, so that what is fuzzed is
/// ARP, ICMP, neighbour discovery, extension headers, or TCP.
fn lead_on(frame: &mut [u8], t: &Script) {
    let len = frame.len();
    let protocols = [1, 6, 17, 58, 0, 43, 44, 60];
    let protocol = protocols[usize::from(frame[12]) % protocols.len()];
    let (peer, ours) = (t.peer.ip(), t.ours.ip());
    match (peer, ours) {
        _ if frame[13] & 7 == 0 => {
            frame[12..21].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0]);
            frame[21] &= 3;
        }
        (IpAddr::V4(peer), IpAddr::V4(ours)) => {
            frame[12..15].copy_from_slice(&[8, 0, 0x45]);
            frame[16..18].copy_from_slice(&(len as u16 - 14).to_be_bytes());
            frame[20..22].fill(0);
            frame[23] = protocol;
            frame[26..30].copy_from_slice(&peer.octets());
            frame[30..34].copy_from_slice(&ours.octets());
        }
        (IpAddr::V6(peer), IpAddr::V6(ours)) => {
            frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
            frame[18..20].copy_from_slice(&(len as u16 - 54).to_be_bytes());
            frame[20..22].copy_from_slice(&[protocol, 255]);
            frame[22..38].copy_from_slice(&peer.octets());
            frame[38..54].copy_from_slice(&ours.octets());
        }
        _ => {}
    }
}

/// Reads segments out of the input: each has a control byte that says which of
/// its fields are near what the connection expects.
pub fn segments(input: &[u8]) {
    let Some((&how, rest)) = input.split_first() else {
        return;
    };
    let mut t = Script::with(how & 1 != 0, |config| {
        config.tcp.ecn = how & 2 != 0;
        config.receive_headroom = 64;
        config.window_max_bytes = if how & 4 != 0 { 4096 } else { 1 << 20 };
    });
    let mut syn = seg(SYN, IRS, 0).mss(if how & 8 != 0 { 100 } else { 1400 });
    syn.sack_ok = how & 16 == 0;
    syn.ts = (how & 32 == 0).then_some((100, 0));
    syn.scale = (how & 64 != 0).then_some(how & 15);
    let timestamps = syn.ts.is_some();
    t.accept(syn, Duration::from_millis(1));
    let (mut sent, mut clock) = (0u64, 100u32);
    for chunk in rest.chunks_exact(12) {
        let c: &[u8; 12] = chunk.try_into().unwrap_or(&[0; 12]);
        let wide = |a: u8, b: u8| u32::from(u16::from_be_bytes([a, b]));
        let mut segment = seg(c[1] | ACK, IRS + 1, t.iss + 1);
        segment.seq = match c[0] & 3 {
            0 | 1 => IRS.wrapping_add(1 + wide(c[2], c[3])),
            2 => IRS.wrapping_sub(wide(c[2], c[3])),
            _ => wide(c[2], c[3]) << 16 | wide(c[3], c[2]),
        };
        segment.ack = match c[0] & 12 {
            0 | 4 => t.iss.wrapping_add(1 + wide(c[4], c[5])),
            8 => t.iss.wrapping_sub(wide(c[4], c[5])),
            _ => wide(c[4], c[5]) << 16 | wide(c[5], c[4]),
        };
        segment.window = wide(c[6], c[7]) as u16;
        segment.data = vec![c[8]; usize::from(c[8]) * usize::from(c[0] >> 4 & 3)];
        segment.ecn = c[9] & 3;
        if timestamps && c[9] & 0x80 == 0 {
            clock = clock.wrapping_add(u32::from(c[9] >> 4));
            segment.ts = Some((clock, t.host.stack.stats().rx_frames as u32));
        }
        for i in 0..c[10] & 3 {
            let from = t.iss.wrapping_add(1 + wide(c[10 - usize::from(i)], c[11]));
            segment
                .sacks
                .push((from, from.wrapping_add(wide(c[11], c[5]))));
        }
        if c[1] & SYN == 0 || c[0] & 64 != 0 {
            t.sends(segment);
        }
        if let Some(id) = t.id {
            let room = t.host.stack.send_room(id);
            if c[11] & 1 != 0
                && room.chunks > 0
                && let Some(chunk) = t.host.chunk(7, sent, 1 + usize::from(c[5]) * 16)
            {
                sent += chunk.len() as u64;
                let _ = t.host.stack.send(id, chunk);
            }
            match c[11] >> 4 {
                1 => t.host.stack.close(id),
                2 if c[0] & 128 != 0 => t.host.stack.abort(id),
                3 if c[0] & 128 != 0 => t.host.stack.release(id),
                4..8 => {}
                _ => while t.host.stack.recv(id).is_some() {},
            }
        }
        t.wait(Duration::from_micros(
            u64::from(c[9]) * u64::from(c[2]) * 40,
        ));
        turn(&mut t);
    }
    end(&mut t);
}

fn turn(t: &mut Script) {
    t.out();
    for event in std::mem::take(&mut t.events) {
        if let Event::Closed { connection, .. } = event {
            t.host.stack.release(connection);
            t.id = None;
        }
    }
    let headroom = t.host.stack.config().receive_headroom;
    let waiting = t.host.pool.held();
    assert!(
        waiting + headroom <= t.host.pool.len() + 8,
        "the headroom is left alone"
    );
}

/// Everything is given up, and comes back.
fn end(t: &mut Script) {
    if let Some(id) = t.id.take() {
        t.host.stack.abort(id);
        t.host.stack.release(id);
    }
    turn(t);
    for _ in 0..20 {
        t.wait(Duration::from_secs(40));
        turn(t);
    }
    assert_eq!(
        t.host.stack.connection_count(),
        0,
        "no connection stays behind"
    );
    assert_eq!(t.host.stack.clusters_promised(), 0);
    assert_eq!((t.host.pool.held(), t.host.pages.held()), (0, 0));
}
