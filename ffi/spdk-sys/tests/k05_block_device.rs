//! Rows K5 and K7: a malloc block device from a JSON configuration, written with lists of odd pieces of the arena, read
//! back with others, compared; bad lists are refused; everything is taken down in order.
#![allow(missing_docs, unsafe_code)]

#[path = "../../dpdk-sys/tests/common/mod.rs"]
mod common;
#[path = "spdk/mod.rs"]
mod spdk;

use common::{Arena, c, eal, ok, pattern};
use spdk::{Io, PATIENCE, Spdk};
use spdk_sys as s;
use std::ptr;

const CONFIG: &str = r#"{ "subsystems": [ { "subsystem": "bdev", "config": [
    { "method": "bdev_malloc_create", "params": { "name": "M0", "num_blocks": 16384, "block_size": 512 } },
    { "method": "bdev_null_create", "params": { "name": "N0", "num_blocks": 16384, "block_size": 4096 } }
] } ] }"#;

#[test]
fn k05_block_device() {
    eal("0", &[]);
    let arena = Arena::new(8);
    let spdk = Spdk::start(&arena, CONFIG);
    names(&spdk);
    let device = Device::open("M0");
    info(&device);
    odd_pieces_both_ways(&spdk, &arena, &device);
    bad_lists_are_refused(&arena, &device);
    zeroes_and_flush(&spdk, &arena, &device);
    many_at_once(&spdk, &arena, &device);
    rpc_server(&spdk);
    device.close();
    spdk.stop();
}

struct Device {
    bdev: *mut s::tl_bdev,
    channel: *mut s::tl_channel,
}

impl Device {
    fn open(name: &str) -> Self {
        let mut bdev = ptr::null_mut();
        // SAFETY: on the app thread; no event function.
        let channel = unsafe {
            ok(s::tl_bdev_open(
                c(name).as_ptr(),
                true,
                None,
                ptr::null_mut(),
                &mut bdev,
            ));
            s::tl_bdev_channel_get(bdev)
        };
        assert!(!channel.is_null());
        Self { bdev, channel }
    }

    fn close(self) {
        // SAFETY: nothing is in flight.
        unsafe {
            s::tl_bdev_channel_put(self.channel);
            s::tl_bdev_close(self.bdev);
        }
    }

    fn write(&self, io: &mut Io, iov: &[s::tl_iovec], block: u64, blocks: u64) -> i32 {
        // SAFETY: io, iov and the arena outlive the I/O: every caller waits for it.
        unsafe {
            s::tl_bdev_writev(
                self.bdev,
                self.channel,
                io.raw(),
                iov.as_ptr(),
                iov.len() as u32,
                block,
                blocks,
            )
        }
    }

    fn read(&self, io: &mut Io, iov: &[s::tl_iovec], block: u64, blocks: u64) -> i32 {
        // SAFETY: as above.
        unsafe {
            s::tl_bdev_readv(
                self.bdev,
                self.channel,
                io.raw(),
                iov.as_ptr(),
                iov.len() as u32,
                block,
                blocks,
            )
        }
    }
}

fn names(spdk: &Spdk) {
    let mut names = Vec::new();
    let mut name = [0; 128];
    loop {
        let prev = name;
        // SAFETY: both are NUL-terminated buffers of that size.
        let rc = unsafe { s::tl_bdev_next(prev.as_ptr(), name.as_mut_ptr(), 128) };
        if rc == -libc::ENOENT {
            break;
        }
        ok(rc);
        names.push(spdk::text(&name));
    }
    names.sort();
    assert_eq!(names, ["M0", "N0"]);
    let mut none = ptr::null_mut();
    // SAFETY: on the app thread.
    let rc =
        unsafe { s::tl_bdev_open(c("absent").as_ptr(), true, None, ptr::null_mut(), &mut none) };
    assert_eq!(rc, -libc::ENODEV);
    assert!(
        !spdk.log().is_empty(),
        "SPDK's complaint came through the hook"
    );
}

fn info(device: &Device) {
    let mut info = s::tl_bdev_info::default();
    // SAFETY: the device is open.
    ok(unsafe { s::tl_bdev_info(device.bdev, &mut info) });
    assert_eq!(
        (info.num_blocks, info.block_size, info.md_size),
        (16384, 512, 0)
    );
    assert_eq!(spdk::text(&info.name), "M0");
    assert_eq!(info.buf_align, 1, "any alignment");
    let all = s::TL_BDEV_READ
        | s::TL_BDEV_WRITE
        | s::TL_BDEV_FLUSH
        | s::TL_BDEV_UNMAP
        | s::TL_BDEV_WRITE_ZEROES;
    assert_eq!(info.io_types & all, all);
}

/// Cuts `len` bytes of the arena into pieces of these sizes over and over, with gaps between them.
fn pieces(
    arena: &Arena,
    mut at: usize,
    len: usize,
    sizes: &[usize],
    gap: usize,
) -> Vec<s::tl_iovec> {
    let mut list = Vec::new();
    let mut left = len;
    for &size in sizes.iter().cycle() {
        let size = size.min(left);
        list.push(s::tl_iovec {
            base: arena.at(at).cast(),
            len: size as u64,
        });
        at += size + gap;
        left -= size;
        if left == 0 {
            break;
        }
    }
    list
}

fn fill(arena: &Arena, list: &[s::tl_iovec], bytes: &[u8]) {
    let mut rest = bytes;
    for piece in list {
        let (now, later) = rest.split_at(piece.len as usize);
        arena
            .bytes(piece.base as usize - arena.base as usize, now.len())
            .copy_from_slice(now);
        rest = later;
    }
}

fn collect(arena: &Arena, list: &[s::tl_iovec]) -> Vec<u8> {
    let piece = |p: &s::tl_iovec| {
        arena
            .bytes(p.base as usize - arena.base as usize, p.len as usize)
            .to_vec()
    };
    list.iter().flat_map(piece).collect()
}

fn odd_pieces_both_ways(spdk: &Spdk, arena: &Arena, device: &Device) {
    for (blocks, out_sizes, in_sizes) in [
        (8, &[1448, 1448, 1200][..], &[4096][..]),
        (8, &[4096], &[1365, 1, 2730]),
        (256, &[1448], &[1460, 13]),
        (1, &[1, 3, 5, 7], &[511, 1]),
    ] {
        let bytes = pattern(blocks * 512, blocks as u32);
        let from = pieces(arena, 4096, bytes.len(), out_sizes, 2);
        let into = pieces(arena, 4 << 20, bytes.len(), in_sizes, 34);
        fill(arena, &from, &bytes);
        let mut io = Io::new();
        ok(device.write(&mut io, &from, 100, blocks as u64));
        assert_eq!(spdk.wait(&mut io), (0, 0, 0));
        ok(device.read(&mut io, &into, 100, blocks as u64));
        assert_eq!(spdk.wait(&mut io), (0, 0, 0));
        assert_eq!(collect(arena, &into), bytes);
    }
}

fn bad_lists_are_refused(arena: &Arena, device: &Device) {
    let mut io = Io::new();
    let whole = pieces(arena, 0, 4096, &[4096], 0);
    let long = pieces(arena, 0, 4097, &[4096], 0);
    let short = pieces(arena, 0, 4095, &[1448], 0);
    let huge = [
        s::tl_iovec {
            base: arena.at(0).cast(),
            len: u64::MAX,
        },
        whole[0],
    ];
    let mut empty_piece = pieces(arena, 0, 4096, &[4096], 0);
    empty_piece.push(s::tl_iovec {
        base: arena.at(0).cast(),
        len: 0,
    });
    for bad in [&long[..], &short, &huge, &empty_piece, &[]] {
        assert_eq!(device.write(&mut io, bad, 0, 8), -libc::EINVAL);
        assert_eq!(device.read(&mut io, bad, 0, 8), -libc::EINVAL);
    }
    for (block, blocks) in [(16384, 8), (16377, 8), (u64::MAX, 8), (0, 0), (8, u64::MAX)] {
        assert_eq!(device.write(&mut io, &whole, block, blocks), -libc::ERANGE);
    }
}

fn zeroes_and_flush(spdk: &Spdk, arena: &Arena, device: &Device) {
    let mut io = Io::new();
    let list = pieces(arena, 0, 4096, &[4096], 0);
    let (bdev, channel) = (device.bdev, device.channel);
    // SAFETY: waited for before io goes.
    unsafe {
        ok(s::tl_bdev_write_zeroes(bdev, channel, io.raw(), 100, 4));
        assert_eq!(spdk.wait(&mut io), (0, 0, 0));
        ok(s::tl_bdev_flush(bdev, channel, io.raw(), 0, 16384));
        assert_eq!(spdk.wait(&mut io), (0, 0, 0));
        ok(s::tl_bdev_unmap(bdev, channel, io.raw(), 8192, 8));
        assert_eq!(spdk.wait(&mut io), (0, 0, 0));
        assert_eq!(
            s::tl_bdev_unmap(bdev, channel, io.raw(), 16384, 8),
            -libc::ERANGE
        );
        ok(s::tl_bdev_reset(bdev, channel, io.raw()));
        assert_eq!(spdk.wait(&mut io), (0, 0, 0));
    }
    arena.bytes(0, 4096).fill(0xff);
    ok(device.read(&mut io, &list, 100, 8));
    assert_eq!(spdk.wait(&mut io), (0, 0, 0));
    let got = collect(arena, &list);
    assert!(got[..2048].iter().all(|&byte| byte == 0) && got[2048..].iter().any(|&byte| byte != 0));
}

fn many_at_once(spdk: &Spdk, arena: &Arena, device: &Device) {
    const N: usize = 256;
    let mut ios: Vec<Io> = (0..N).map(|_| Io::new()).collect();
    let bytes: Vec<_> = (0..N).map(|n| pattern(4096, 7 + n as u32)).collect();
    let lists: Vec<_> = (0..N)
        .map(|n| pieces(arena, n * 8192, 4096, &[1448, 1448, 1200], 100))
        .collect();
    for n in 0..N {
        fill(arena, &lists[n], &bytes[n]);
        ok(device.write(&mut ios[n], &lists[n], 8 * n as u64, 8));
    }
    for io in &mut ios {
        assert_eq!(spdk.wait(io), (0, 0, 0));
    }
    for n in (0..N).rev() {
        fill(arena, &lists[n], &[0; 4096]);
        ok(device.read(&mut ios[n], &lists[n], 8 * n as u64, 8));
    }
    for io in &mut ios {
        assert_eq!(spdk.wait(io), (0, 0, 0));
    }
    for n in 0..N {
        assert_eq!(collect(arena, &lists[n]), bytes[n], "block group {n}");
    }
}

/// SPDK's own JSON-RPC answers on its socket while our loop polls.
fn rpc_server(spdk: &Spdk) {
    use std::io::{Read, Write};
    let path = std::env::temp_dir().join(format!("throughline-rpc-{}.sock", std::process::id()));
    let name = path.to_str().expect("a plain path").to_owned();
    // SAFETY: on the app thread, once.
    ok(unsafe { s::tl_spdk_rpc_listen(c(&name).as_ptr()) });
    let client = std::thread::spawn(move || {
        let mut socket = std::os::unix::net::UnixStream::connect(name).expect("connects");
        socket
            .write_all(
                br#"{"jsonrpc":"2.0","id":1,"method":"bdev_get_bdevs","params":{"name":"M0"}}"#,
            )
            .expect("sent");
        let mut answer = String::new();
        let mut part = [0; 4096];
        while !answer.contains("\"result\"") || open_brackets(&answer) != 0 {
            let n = socket.read(&mut part).expect("answer");
            assert_ne!(n, 0, "closed early");
            answer.push_str(std::str::from_utf8(&part[..n]).expect("text"));
        }
        answer
    });
    testkit::spin("an answer of SPDK's JSON-RPC server", PATIENCE, || {
        // SAFETY: on the app thread.
        unsafe { s::tl_spdk_rpc_poll() };
        spdk.poll();
        client.is_finished().then_some(())
    });
    assert!(client.join().expect("client").contains("\"num_blocks\""));
    // SAFETY: listening.
    unsafe { s::tl_spdk_rpc_close() };
    std::fs::remove_file(path).ok();
}

/// Open brackets in a JSON text without brackets in its strings.
fn open_brackets(json: &str) -> i32 {
    json.chars().fold(0, |depth, c| {
        depth + i32::from("{[".contains(c)) - i32::from("}]".contains(c))
    })
}
