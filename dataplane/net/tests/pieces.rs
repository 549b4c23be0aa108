//! Frames of no more pieces than a port takes: many small chunks in a large
//! segment, or one cut by the port (TSO).

mod support;

use net::{Duration, Offload, Piece, PortFull, Transmit, TxFrame};
use pages::{Chunk, Inline};
use support::script::*;

/// What a frame was made of.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    bytes: Vec<u8>,
    pieces: usize,
    /// As a driver counts: protocol bytes join those before them.
    buffers: usize,
    mss: Option<u16>,
}

/// A port that looks at what it is given.
#[derive(Default)]
struct Looking(Vec<Made>);

impl Transmit for Looking {
    fn transmit(&mut self, frame: TxFrame<'_>) -> Result<(), PortFull> {
        let (mut buffers, mut by_value) = (1, true);
        let mut bytes = Vec::new();
        for piece in frame.payload.pieces() {
            let inline = matches!(piece, Piece::Inline(_));
            buffers += usize::from(!inline || !by_value);
            by_value = inline;
            bytes.extend_from_slice(piece.bytes());
        }
        self.0.push(Made {
            bytes,
            pieces: frame.payload.pieces().count(),
            buffers,
            mss: frame.offload.tso_mss,
        });
        Ok(())
    }
}

/// A connection over a port of that MTU which takes so many buffers, and cuts segments or not.
fn open(mtu: usize, buffers_max: usize, tso: bool) -> Script {
    let mut t = Script::with(false, |config| {
        config.mtu = mtu;
        config.cluster_payload = 2048;
        config.offload = Offload {
            tx_ip_checksum: tso && buffers_max != 8,
            tx_l4_checksum: tso,
            tso_max_bytes: if tso { 32 << 10 } else { 0 },
            buffers_max,
            ..Offload::default()
        };
        config.send_chunks_per_connection = 1024;
    });
    let syn = seg(SYN, IRS, 0).mss(mtu as u16 - 40).sack_ok();
    t.accept(syn, Duration::from_millis(1));
    t
}

/// Queues `count` answers: a header by value and `data` bytes by reference each.
fn answers(t: &mut Script, count: usize, data: usize) -> Vec<u8> {
    let (id, mut stream) = (t.id.unwrap(), Vec::new());
    for i in 0..count {
        let header = [i as u8; 24];
        stream.extend(header);
        let header = Chunk::Inline(Inline::new(&header).unwrap());
        t.host.stack.send(id, header).unwrap();
        if data > 0 {
            let chunk = t.host.chunk(3, i as u64, data).unwrap();
            if let Chunk::Slice(slice) = &chunk {
                stream.extend_from_slice(slice.bytes());
            }
            t.host.stack.send(id, chunk).unwrap();
        }
    }
    stream
}

/// What leaves until all is sent; everything is acknowledged as it leaves.
fn sent(t: &mut Script, stream: &[u8]) -> Vec<Made> {
    let mut port = Looking::default();
    let mut seen = 0;
    while seen < stream.len() {
        let before = port.0.len();
        t.host.stack.transmit(t.now, &mut port);
        assert!(port.0.len() > before, "it goes on");
        seen = port.0.iter().map(|made| made.bytes.len()).sum();
        t.wait_ms(1);
        t.sends(seg(ACK, IRS + 1, t.iss + 1 + seen as u32));
    }
    let bytes: Vec<u8> = port.0.iter().flat_map(|made| made.bytes.clone()).collect();
    assert!(bytes == stream, "the stream, in order");
    port.0
}

#[test]
fn many_answers_in_a_jumbo_frame_are_no_more_pieces_than_a_port_takes() {
    let mut t = open(9000, 0, false);
    let stream = answers(&mut t, 400, 0);
    let made = sent(&mut t, &stream);
    assert!(made.iter().all(|made| made.pieces <= TxFrame::PIECES_MAX));
    assert!(made.len() >= 400 / TxFrame::PIECES_MAX);
    // They are bytes by value, which share the headers' buffer.
    assert!(made.iter().all(|made| made.buffers == 1));
}

#[test]
fn a_frame_for_a_port_that_cuts_segments_has_no_more_buffers_than_it_takes() {
    for buffers in [4, 8, 16] {
        let mut t = open(1500, buffers, true);
        let stream = answers(&mut t, 30, 512);
        let made = sent(&mut t, &stream);
        assert!(made.iter().all(|made| made.buffers <= buffers), "{made:?}");
        // What is cut is cut into full segments, but for the last of all.
        let cut = made.iter().filter(|made| made.mss.is_some());
        let whole = |made: &&Made| made.bytes.len().is_multiple_of(1460);
        assert!(cut.clone().rev().skip(1).all(|made| whole(&made)));
        assert_eq!(cut.count() > 0, buffers >= 8, "enough for two segments");
    }
}

#[test]
fn what_was_lost_is_sent_again_in_as_few_pieces() {
    let mut t = open(9000, 6, false);
    let stream = answers(&mut t, 60, 100);
    let mut port = Looking::default();
    t.host.stack.transmit(t.now, &mut port);
    let first = port.0.remove(0);
    for _ in 0..6 {
        t.wait(Duration::from_millis(400));
        t.host.stack.advance(t.now);
        t.host.stack.transmit(t.now, &mut port);
    }
    assert!(port.0.iter().all(|made| made.buffers <= 6));
    assert!(port.0.iter().any(|made| made.bytes == first.bytes));
    assert!(stream.starts_with(&first.bytes));
}
