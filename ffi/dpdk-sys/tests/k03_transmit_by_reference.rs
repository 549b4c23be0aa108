//! Row K3, the way out: a frame built from page slices carries those very addresses through net_ring, and every token
//! comes back exactly once, whoever frees the frame. net_pcap shows the bytes.
#![allow(missing_docs, unsafe_code)]

mod common;
use common::*;
use dpdk_sys as d;
use std::ptr;

const DIRECT: u32 = 512;
const REFS: u32 = 1024;

struct Lab {
    arena: Arena,
    pool: *mut d::tl_cluster_pool,
    ctx: *mut d::tl_tx_ctx,
}

#[test]
fn k03_transmit_by_reference() {
    let out = std::env::temp_dir().join(format!("throughline-k03-{}.pcap", std::process::id()));
    let vdev = format!("--vdev=net_pcap0,rx_iface_in=lo,tx_pcap={}", out.display());
    eal("0,1", &["--vdev=net_ring0", &vdev]);
    let arena = Arena::new(8);
    let pool = arena.pool("rx", 1024, d::TL_CLUSTER_INSIDE);
    let mut ctx = ptr::null_mut();
    // SAFETY: the out-parameter is this frame's.
    ok(unsafe { d::tl_tx_ctx_create(c("tx").as_ptr(), DIRECT, REFS, 32, -1, &mut ctx) });
    let lab = Lab { arena, pool, ctx };

    addresses_survive(&lab);
    freed_unsent(&lab);
    dry_pools_take_nothing(&lab);
    bad_pieces_are_refused(&lab);
    // Last of these, since it leaves buffers in the other lcore's cache.
    freed_on_another_lcore(&lab);
    bytes_on_the_wire(&lab, &out);

    // SAFETY: the ports are closed and the context is quiet.
    unsafe {
        ok(d::tl_tx_ctx_destroy(lab.ctx));
        d::tl_cluster_pool_destroy(lab.pool);
        assert_eq!(d::tl_eal_cleanup(), 0);
    }
    std::fs::remove_file(&out).expect("clean up");
}

impl Lab {
    fn reference(&self, offset: usize, len: u32, token: u64) -> d::tl_tx_piece {
        d::tl_tx_piece {
            addr: self.arena.at(offset).cast(),
            token,
            len,
            kind: d::TL_TX_REF,
        }
    }

    fn build(&self, header: &[u8], pieces: &[d::tl_tx_piece]) -> Result<*mut d::tl_mbuf, i32> {
        let mut frame = ptr::null_mut();
        // SAFETY: the arena stays; inline bytes are copied before the call returns.
        let rc = unsafe {
            d::tl_tx_build(
                self.ctx,
                header.as_ptr().cast(),
                header.len() as u32,
                pieces.as_ptr(),
                pieces.len() as u32,
                ptr::null(),
                &mut frame,
            )
        };
        if rc == 0 { Ok(frame) } else { Err(rc) }
    }

    fn drain(&self) -> Vec<u64> {
        let mut tokens = vec![0; 2 * REFS as usize];
        // SAFETY: room for that many.
        let n = unsafe { d::tl_tx_drain_done(self.ctx, tokens.as_mut_ptr(), tokens.len() as u32) };
        tokens.truncate(n as usize);
        tokens.sort_unstable();
        tokens
    }

    fn assert_quiet(&self) {
        // SAFETY: the context is alive.
        unsafe {
            assert_eq!(d::tl_tx_outstanding(self.ctx), 0);
            assert_eq!(d::tl_tx_direct_available(self.ctx), DIRECT);
            assert_eq!(d::tl_tx_ref_available(self.ctx), REFS);
        }
    }

    fn send(&self, port: u16, frame: *mut d::tl_mbuf) {
        let mut frames = [frame];
        // SAFETY: the frame was built and not handed out before.
        let taken = unsafe { d::tl_tx_burst(port, 0, frames.as_mut_ptr(), 1) };
        assert_eq!(taken, 1);
    }
}

fn addresses_survive(lab: &Lab) {
    let port = start_port("net_ring0", lab.pool, d::TL_OFFLOAD_TX_MULTI_SEG);
    // A header, three slices of two pages, a few inline bytes behind them.
    let header = pattern(66, 1);
    let tail = [0xd1_u8, 0xe2, 0xf3, 0x04];
    let slices = [(8192_usize, 1365_u32), (8192 + 1367, 1), (12288 + 5, 80)];
    let mut pieces: Vec<_> = slices
        .iter()
        .zip(100..)
        .map(|(&(at, len), token)| lab.reference(at, len, token))
        .collect();
    pieces.push(d::tl_tx_piece {
        addr: tail.as_ptr().cast(),
        token: 9,
        len: 4,
        kind: d::TL_TX_INLINE,
    });
    for (at, len) in slices {
        lab.arena
            .bytes(at, len as usize)
            .copy_from_slice(&pattern(len as usize, at as u32));
    }
    let frame = lab.build(&header, &pieces).expect("pools are full");
    lab.send(port, frame);
    assert!(lab.drain().is_empty(), "the frame is still on its way");

    let frames = receive(port, lab.pool, 8);
    assert_eq!(frames.len(), 1);
    let frame = frames[0];
    assert_eq!((frame.pkt_len, frame.nb_segs), (66 + 1365 + 1 + 80 + 4, 5));
    assert_ne!(
        frame.flags & d::TL_RX_FOREIGN,
        0,
        "net_ring hands over the sender's buffers"
    );
    assert_eq!(frame.cluster, d::TL_CLUSTER_NONE);
    let segs = unchain(lab.pool, &frame);
    for (seg, (at, len)) in segs[1..].iter().zip(slices) {
        assert_eq!(
            (seg.data, seg.len),
            (lab.arena.at(at), len),
            "the very bytes of the page, not a copy"
        );
    }
    // SAFETY: the first and last segments are buffers of the context.
    let (head, last) = unsafe {
        (
            std::slice::from_raw_parts(segs[0].data, segs[0].len as usize),
            std::slice::from_raw_parts(segs[4].data, segs[4].len as usize),
        )
    };
    assert_eq!((head, last), (&header[..], &tail[..]));

    // Tokens come back one by one, as their segments are freed.
    let free = |index: usize| {
        // SAFETY: unchained, freed once.
        unsafe { d::tl_mbuf_free_segs(&segs[index].mbuf, 1) }
    };
    free(2);
    assert_eq!(lab.drain(), [101]);
    for index in [0, 1, 3, 4] {
        free(index);
    }
    assert_eq!(lab.drain(), [100, 102]);
    lab.assert_quiet();

    // Inline pieces join the header's buffer; more than a buffer of them take another.
    let long = pattern(3000, 3);
    let inline = d::tl_tx_piece {
        addr: long.as_ptr().cast(),
        token: 0,
        len: 3000,
        kind: d::TL_TX_INLINE,
    };
    let frame = lab.build(&header, &[inline]).expect("pools are full");
    let mut segs = [d::tl_rx_seg::default(); 4];
    // SAFETY: the frame is ours; it is freed once.
    unsafe {
        assert_eq!(d::tl_mbuf_segments(frame, segs.as_mut_ptr(), 4), 2);
        d::tl_mbuf_free(&frame, 1);
    }
    assert_eq!((segs[0].len, segs[1].len), (2048, 66 + 3000 - 2048));
    lab.assert_quiet();
    // SAFETY: the port is open.
    ok(unsafe { d::tl_port_close(port) });
}

unsafe extern "C" fn free_frames(arg: *mut std::ffi::c_void) -> i32 {
    // SAFETY: the launcher passes a vector of frames, and waits for this lcore before it touches it again.
    unsafe {
        let frames: &Vec<*mut d::tl_mbuf> = &*arg.cast();
        d::tl_mbuf_free(frames.as_ptr(), frames.len() as u32);
        frames.len() as i32
    }
}

fn freed_on_another_lcore(lab: &Lab) {
    let frames: Vec<_> = (0..200)
        .map(|n| {
            lab.build(
                b"header",
                &[
                    lab.reference(4096, 100, n),
                    lab.reference(8192, 7, 1000 + n),
                ],
            )
        })
        .collect::<Result<_, _>>()
        .expect("pools are full");
    // SAFETY: the frames live until the wait is over.
    unsafe {
        let other = d::tl_lcore_next(d::tl_lcore_main());
        ok(d::tl_lcore_launch(
            other,
            Some(free_frames),
            ptr::from_ref(&frames).cast_mut().cast(),
        ));
        assert_eq!(d::tl_lcore_wait(other), 200);
    }
    assert!(
        lab.drain().into_iter().eq((0..200).chain(1000..1200)),
        "none lost, none twice"
    );
    lab.assert_quiet();
}

fn freed_unsent(lab: &Lab) {
    let frame = lab
        .build(
            b"h",
            &[lab.reference(0, 4096, u64::MAX), lab.reference(4096, 1, 0)],
        )
        .expect("built");
    // SAFETY: ours, freed once.
    unsafe { d::tl_mbuf_free(&frame, 1) };
    assert_eq!(lab.drain(), [0, u64::MAX], "any value is a token");
    lab.assert_quiet();
}

fn dry_pools_take_nothing(lab: &Lab) {
    // References run out first: undrained tokens count, so that the list of tokens cannot overflow.
    let pieces: Vec<_> = (0..32).map(|n| lab.reference(4096, 64, n)).collect();
    let mut frames = Vec::new();
    for _ in 0..REFS / 32 {
        frames.push(lab.build(b"h", &pieces).expect("there are enough"));
    }
    assert_eq!(lab.build(b"h", &pieces[..1]), Err(-libc::ENOBUFS));
    // SAFETY: freed once.
    unsafe { d::tl_mbuf_free(frames.as_ptr(), frames.len() as u32) };
    assert_eq!(
        lab.build(b"h", &pieces[..1]),
        Err(-libc::ENOBUFS),
        "not drained yet"
    );
    assert_eq!(lab.drain().len(), REFS as usize);
    lab.assert_quiet();

    // Header buffers.
    let frames: Vec<_> = (0..DIRECT)
        .map(|_| lab.build(b"h", &[]).expect("there are enough"))
        .collect();
    assert_eq!(lab.build(b"h", &pieces), Err(-libc::ENOBUFS));
    // SAFETY: freed once.
    unsafe { d::tl_mbuf_free(frames.as_ptr(), frames.len() as u32) };
    assert!(lab.drain().is_empty());
    lab.assert_quiet();
}

fn bad_pieces_are_refused(lab: &Lab) {
    let outside = [0_u8; 64];
    let foreign = d::tl_tx_piece {
        addr: outside.as_ptr().cast(),
        token: 1,
        len: 64,
        kind: d::TL_TX_REF,
    };
    let across = lab.reference(PAGE as usize - 10, 20, 1);
    let unknown = d::tl_tx_piece {
        kind: 7,
        ..lab.reference(0, 1, 1)
    };
    for bad in [
        foreign,
        across,
        unknown,
        lab.reference(0, 0, 1),
        lab.reference(0, 65536, 1),
    ] {
        assert_eq!(
            lab.build(b"h", &[lab.reference(0, 1, 5), bad]),
            Err(-libc::EINVAL)
        );
    }
    assert_eq!(
        lab.build(b"", &[lab.reference(0, 1, 1)]),
        Err(-libc::EINVAL),
        "no header"
    );
    assert_eq!(
        lab.build(&[0; 2049], &[]),
        Err(-libc::EINVAL),
        "a header beyond a buffer"
    );
    assert_eq!(
        lab.build(b"h", &[lab.reference(0, 1, 1); 65]),
        Err(-libc::EINVAL),
        "too many pieces"
    );
    assert!(lab.drain().is_empty());
    lab.assert_quiet();
}

fn bytes_on_the_wire(lab: &Lab, file: &std::path::Path) {
    let port = start_port("net_pcap0", lab.pool, d::TL_OFFLOAD_TX_MULTI_SEG);
    let header = pattern(54, 7);
    lab.arena.bytes(0, 1460).copy_from_slice(&pattern(1460, 8));
    let frame = lab
        .build(
            &header,
            &[lab.reference(0, 1000, 1), lab.reference(1000, 460, 2)],
        )
        .expect("built");
    lab.send(port, frame);
    assert_eq!(lab.drain(), [1, 2], "net_pcap is done with a frame at once");
    let mut stats = d::tl_port_stats::default();
    // SAFETY: the port is open.
    unsafe {
        ok(d::tl_port_stats(port, &mut stats));
        ok(d::tl_port_close(port));
    }
    assert_eq!((stats.tx_packets, stats.tx_rejected), (1, 0));
    lab.assert_quiet();
    let sent = pcap_frames(&std::fs::read(file).expect("the capture"));
    assert_eq!(sent, [[header, pattern(1460, 8)].concat()]);
}
