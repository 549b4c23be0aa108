//! Rows K3 and K7: frames from net_null and net_pcap are in clusters of the arena, at the place the layout promises, and
//! every cluster comes back.
#![allow(missing_docs, unsafe_code)]

mod common;
use common::*;
use dpdk_sys as d;

const CLUSTERS: u32 = 4096;

#[test]
fn k03_receive_into_clusters() {
    let dir = std::env::temp_dir().join(format!("throughline-k03-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory for captures");
    // A minimal frame, a full one, the largest a cluster takes, and jumbo frames for the second port.
    let small: Vec<Vec<u8>> = [60, 1514, 1918]
        .iter()
        .map(|&len| pattern(len, len as u32))
        .collect();
    let jumbo: Vec<Vec<u8>> = [9014, 2048, 4097]
        .iter()
        .map(|&len| pattern(len, len as u32))
        .collect();
    std::fs::write(dir.join("small.pcap"), pcap(&small)).expect("capture");
    std::fs::write(dir.join("jumbo.pcap"), pcap(&jumbo)).expect("capture");
    let vdev = |n: u32, name: &str| {
        format!(
            "--vdev=net_pcap{n},rx_pcap={0}/{name}.pcap,tx_pcap={0}/{name}-out.pcap",
            dir.display()
        )
    };
    eal(
        "0",
        &[
            "--vdev=net_null0,size=64",
            &vdev(0, "small"),
            &vdev(1, "jumbo"),
        ],
    );
    let arena = Arena::new(16);

    let shifted = arena.pool("shifted", CLUSTERS, d::TL_CLUSTER_SHIFT);
    shapes_that_are_refused(&arena);
    take_and_return(&arena, shifted);
    null_port(&arena, shifted);
    net_pcap_needs_headroom_inside(shifted);
    // SAFETY: no port uses the pool any more.
    unsafe { d::tl_cluster_pool_destroy(shifted) };

    let inside = arena.pool("inside", CLUSTERS, d::TL_CLUSTER_INSIDE);
    frames_land_where_promised(&arena, inside, &small);
    jumbo_frames_span_clusters(&arena, inside, &jumbo);
    // SAFETY: as above; nothing of DPDK is used afterwards.
    unsafe {
        d::tl_cluster_pool_destroy(inside);
        ok(d::tl_extmem_unregister(arena.base.cast(), arena.len));
        assert_eq!(d::tl_eal_cleanup(), 0);
    }
    std::fs::remove_dir_all(&dir).expect("clean up");
}

fn available(pool: *mut d::tl_cluster_pool) -> u32 {
    // SAFETY: the pool is alive.
    unsafe { d::tl_cluster_pool_available(pool) }
}

fn shapes_that_are_refused(arena: &Arena) {
    let mut pool = std::ptr::null_mut();
    let mut create = |offset: u64, count, size, shift| {
        // SAFETY: only addresses; a refused pool touches no memory.
        unsafe {
            let base = arena.at(offset as usize).cast();
            d::tl_cluster_pool_create(
                c("refused").as_ptr(),
                base,
                count,
                size,
                shift,
                0,
                -1,
                &mut pool,
            )
        }
    };
    assert_eq!(
        create(0, 16, 2048, 0),
        -libc::EINVAL,
        "no room for the headroom before the first cluster"
    );
    assert_eq!(create(PAGE, 16, 1024, 0), -libc::EINVAL, "too small");
    assert_eq!(create(PAGE, 16, 3000, 0), -libc::EINVAL, "no power of two");
    assert_eq!(create(PAGE, 16, 2048, 4), -libc::EINVAL, "unknown shift");
    assert_eq!(
        create(PAGE + 512, 16, 2048, 0),
        -libc::EINVAL,
        "clusters are aligned to their size"
    );
    assert_eq!(
        create(PAGE, 1 << 20, 2048, 0),
        -libc::EINVAL,
        "beyond the arena"
    );
    assert_eq!(create(PAGE, 0, 2048, 0), -libc::EINVAL, "empty");
}

fn take_and_return(arena: &Arena, pool: *mut d::tl_cluster_pool) {
    assert_eq!(available(pool), CLUSTERS);
    let mut all = vec![0; CLUSTERS as usize];
    // SAFETY: room for all; each index is returned once.
    unsafe {
        assert_eq!(
            d::tl_cluster_pool_take(pool, all.as_mut_ptr(), CLUSTERS),
            CLUSTERS
        );
        assert_eq!(available(pool), 0);
        let mut one = 0;
        assert_eq!(d::tl_cluster_pool_take(pool, &mut one, 1), 0, "dry");
        d::tl_cluster_pool_return(pool, all.as_ptr(), CLUSTERS);
    }
    assert_eq!(available(pool), CLUSTERS);
    all.sort_unstable();
    assert!(
        all.iter().copied().eq(0..CLUSTERS),
        "each cluster exactly once"
    );

    let iova = |address: *const u8| {
        // SAFETY: looks the address up, does not follow it.
        unsafe { (d::tl_iova(address.cast()), d::tl_virt2iova(address.cast())) }
    };
    for index in [0, 1, 1023, 1024, CLUSTERS - 1] {
        let (table, kernel) = iova(arena.cluster(index));
        assert_eq!(table, kernel, "cluster {index}");
    }
    assert_eq!(
        iova(std::ptr::from_ref(&all).cast()).0,
        d::TL_BAD_IOVA,
        "not in the arena"
    );
}

fn null_port(arena: &Arena, pool: *mut d::tl_cluster_pool) {
    let port = start_port("net_null0", pool, 0);
    for _ in 0..1000 {
        let frames = receive(port, pool, 32);
        assert_eq!(frames.len(), 32);
        let mut indices = Vec::new();
        for frame in &frames {
            assert_eq!(
                (frame.pkt_len, frame.data_len, frame.nb_segs, frame.flags),
                (64, 64, 1, 0)
            );
            assert_eq!(frame.data, arena.cluster(frame.cluster).wrapping_add(2));
            indices.push(frame.cluster);
        }
        // SAFETY: just received, each once.
        unsafe { d::tl_cluster_pool_return(pool, indices.as_ptr(), indices.len() as u32) };
    }
    let mut stats = d::tl_port_stats::default();
    // SAFETY: the port is open.
    unsafe {
        ok(d::tl_port_stats(port, &mut stats));
        ok(d::tl_port_close(port));
    }
    assert_eq!(stats.rx_packets, 32_000);
    assert_eq!(available(pool), CLUSTERS, "nothing lost");
}

fn net_pcap_needs_headroom_inside(pool: *mut d::tl_cluster_pool) {
    let mut port = 0;
    let config = d::tl_port_config {
        rx_queues: 1,
        tx_queues: 1,
        ..Default::default()
    };
    let (mut granted, mut descriptors) = (0, 0);
    // SAFETY: a port that exists, a pool that is alive.
    unsafe {
        let mut info = d::tl_port_info::default();
        ok(d::tl_port_find(c("net_pcap0").as_ptr(), &mut port));
        ok(d::tl_port_info(port, &mut info));
        assert_eq!(u32::from(info.cluster_shift), d::TL_CLUSTER_INSIDE);
        ok(d::tl_port_configure(port, &config, &mut granted));
        let rc = d::tl_rx_queue_setup(port, 0, &mut descriptors, -1, pool);
        assert_eq!(
            rc,
            -libc::EINVAL,
            "it would write long frames over the neighbour"
        );
    }
}

fn frames_land_where_promised(arena: &Arena, pool: *mut d::tl_cluster_pool, sent: &[Vec<u8>]) {
    let port = start_port("net_pcap0", pool, 0);
    let frames = receive(port, pool, 32);
    assert_eq!(frames.len(), sent.len());
    for (frame, bytes) in frames.iter().zip(sent) {
        let cluster = arena.cluster(frame.cluster);
        assert_eq!(
            frame.data,
            cluster.wrapping_add(130),
            "the frame starts behind the headroom"
        );
        assert_eq!(
            frame.data as usize % 4,
            2,
            "so that payload behind 54 or 66 bytes is dword aligned"
        );
        let start = frame.data as usize - arena.base as usize;
        assert_eq!(arena.bytes(start, frame.data_len.into()), bytes);
        assert_eq!(frame.flags & d::TL_RX_FOREIGN, 0);
    }
    let indices: Vec<u32> = frames.iter().map(|frame| frame.cluster).collect();
    // SAFETY: just received, each once.
    unsafe {
        d::tl_cluster_pool_return(pool, indices.as_ptr(), indices.len() as u32);
        ok(d::tl_port_close(port));
    }
    assert_eq!(available(pool), CLUSTERS, "nothing lost");
}

fn jumbo_frames_span_clusters(arena: &Arena, pool: *mut d::tl_cluster_pool, sent: &[Vec<u8>]) {
    let port = start_port("net_pcap1", pool, 0);
    let frames = receive(port, pool, 32);
    assert_eq!(frames.len(), sent.len());
    for (frame, bytes) in frames.iter().zip(sent) {
        assert_eq!(frame.pkt_len as usize, bytes.len());
        assert_eq!(
            usize::from(frame.nb_segs),
            1 + (bytes.len() - 1918).div_ceil(2046)
        );
        if frame.nb_segs > 1 {
            let mut too_few = [d::tl_rx_seg::default(); 1];
            // SAFETY: says how much room there is; nothing changes.
            let rc = unsafe { d::tl_mbuf_unchain(pool, frame.mbuf, too_few.as_mut_ptr(), 1) };
            assert_eq!(rc, -libc::E2BIG);
        }
        let segs = unchain(pool, frame);
        let mut whole = Vec::new();
        for (n, seg) in segs.iter().enumerate() {
            let start = if n == 0 { 130 } else { 2 };
            assert_eq!(seg.data, arena.cluster(seg.cluster).wrapping_add(start));
            whole.extend_from_slice(
                arena.bytes(seg.data as usize - arena.base as usize, seg.len as usize),
            );
        }
        assert_eq!(&whole, bytes);
        // Segments go back one by one, in any order.
        for seg in segs.iter().rev() {
            // SAFETY: unchained, each returned once.
            unsafe { d::tl_cluster_pool_return(pool, &seg.cluster, 1) };
        }
    }
    // SAFETY: the port is open.
    ok(unsafe { d::tl_port_close(port) });
    assert_eq!(available(pool), CLUSTERS, "nothing lost");
}
