//! Row K5: an `spdk_nvme` queue pair takes scatter-gather lists of odd pieces to an NVMe/TCP target (SPDK's own, over the
//! kernel's TCP), reads them back, and refuses what the controller could not take.
#![allow(missing_docs, unsafe_code)]

#[path = "../../dpdk-sys/tests/common/mod.rs"]
mod common;
#[path = "spdk/mod.rs"]
mod spdk;

use common::{Arena, c, eal, ok, pattern};
use spdk::{Io, PATIENCE, Spdk};
use spdk_sys as s;
use std::ptr;

mod target {
    //! SPDK's target as a child process; ended when dropped.
    use std::net::{TcpListener, TcpStream};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    pub const NQN: &str = "nqn.2016-06.io.spdk:throughline-test";

    pub struct Target {
        child: Child,
        pub port: u16,
        dir: std::path::PathBuf,
    }

    /// Where `ci/setup` put the tools, or the operator's own.
    fn tool() -> std::path::PathBuf {
        let setup = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ci/setup");
        let output = Command::new(setup)
            .arg("--print-prefix")
            .output()
            .expect("ci/setup runs");
        let prefix = String::from_utf8(output.stdout).expect("a path");
        std::path::Path::new(prefix.trim()).join("bin/nvmf_tgt")
    }

    impl Target {
        /// None when the native libraries came without SPDK's target.
        pub fn start() -> Option<Self> {
            let tool = tool();
            if !tool.exists() {
                println!("skipped: no {}", tool.display());
                return None;
            }
            let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = free.local_addr().expect("address").port();
            drop(free);
            let dir =
                std::env::temp_dir().join(format!("throughline-target-{}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("a directory");
            let config = format!(
                r#"{{"subsystems":[
                {{"subsystem":"bdev","config":[{{"method":"bdev_malloc_create",
                    "params":{{"name":"M0","num_blocks":32768,"block_size":512}}}}]}},
                {{"subsystem":"nvmf","config":[
                    {{"method":"nvmf_create_transport","params":{{"trtype":"TCP"}}}},
                    {{"method":"nvmf_create_subsystem","params":{{"nqn":"{NQN}","allow_any_host":true,"serial_number":"TL1"}}}},
                    {{"method":"nvmf_subsystem_add_ns","params":{{"nqn":"{NQN}","namespace":{{"bdev_name":"M0"}}}}}},
                    {{"method":"nvmf_subsystem_add_listener","params":{{"nqn":"{NQN}","listen_address":
                        {{"trtype":"TCP","adrfam":"IPv4","traddr":"127.0.0.1","trsvcid":"{port}"}}}}}}]}}]}}"#
            );
            std::fs::write(dir.join("config.json"), config).expect("written");
            let log = std::fs::File::create(dir.join("log")).expect("a log");
            let child = Command::new(tool)
                .args(["-m", "0x2", "-s", "256", "--no-pci", "--huge-unlink", "-r"])
                .arg(dir.join("rpc.sock"))
                .arg("--json")
                .arg(dir.join("config.json"))
                .stdout(Stdio::from(log.try_clone().expect("log")))
                .stderr(Stdio::from(log))
                .spawn()
                .expect("starts");
            let mut target = Self { child, port, dir };
            let until = Instant::now() + Duration::from_secs(60);
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                let ended = target.child.try_wait().expect("a child");
                let log = || std::fs::read_to_string(target.dir.join("log")).unwrap_or_default();
                assert!(
                    ended.is_none() && Instant::now() < until,
                    "the target did not start: {}",
                    log()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
            Some(target)
        }
    }

    impl Drop for Target {
        fn drop(&mut self) {
            self.child.kill().ok();
            self.child.wait().ok();
            std::fs::remove_dir_all(&self.dir).ok();
        }
    }
}

struct Path {
    ctrlr: *mut s::tl_nvme_ctrlr,
    ns: *mut s::tl_nvme_ns,
    qpair: *mut s::tl_nvme_qpair,
}

#[test]
fn k05_nvme_queue_pair() {
    let Some(target) = target::Target::start() else {
        return;
    };
    eal("0", &[]);
    let arena = Arena::new(8);
    let spdk = Spdk::start(&arena, "");
    let path = Path::connect(target.port);
    let segments = path.info();
    path.odd_pieces_both_ways(&arena, segments);
    path.refused(&arena, segments);
    path.other_commands(&arena);
    path.target_goes_away(&arena, target);
    path.close();
    spdk.stop();
}

impl Path {
    fn connect(port: u16) -> Self {
        let (mut ctrlr, mut qpair) = (ptr::null_mut(), ptr::null_mut());
        let trid = format!(
            "trtype:TCP adrfam:IPv4 traddr:127.0.0.1 trsvcid:{port} subnqn:{}",
            target::NQN
        );
        let hostnqn = c("nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555");
        let opts = s::tl_nvme_opts {
            hostnqn: hostnqn.as_ptr(),
            io_queues: 1,
            ..Default::default()
        };
        // SAFETY: the strings live through the calls.
        let ns = unsafe {
            assert_eq!(
                s::tl_nvme_connect(c("nonsense").as_ptr(), &opts, &mut ctrlr),
                -libc::EINVAL
            );
            ok(s::tl_nvme_connect(c(&trid).as_ptr(), &opts, &mut ctrlr));
            assert_eq!(
                (s::tl_nvme_ns_next(ctrlr, 0), s::tl_nvme_ns_next(ctrlr, 1)),
                (1, 0)
            );
            assert!(s::tl_nvme_ns_get(ctrlr, 7).is_null());
            ok(s::tl_nvme_qpair_alloc(ctrlr, &opts, &mut qpair));
            s::tl_nvme_ns_get(ctrlr, 1)
        };
        assert!(!ns.is_null());
        Self { ctrlr, ns, qpair }
    }

    fn info(&self) -> usize {
        let (mut info, mut ns) = (s::tl_nvme_info::default(), s::tl_nvme_ns_info::default());
        // SAFETY: connected.
        unsafe {
            ok(s::tl_nvme_info(self.ctrlr, &mut info));
            ok(s::tl_nvme_ns_info(self.ns, &mut ns));
        }
        assert_eq!(
            (spdk::text(&info.serial), spdk::text(&info.transport)),
            ("TL1".into(), "TCP".into())
        );
        assert_eq!(spdk::text(&info.subnqn), target::NQN);
        assert_eq!((info.sgl, info.sgl_dword), (1, 0));
        assert!(
            info.max_segments >= 4,
            "a page of four segments fits: {}",
            info.max_segments
        );
        assert!(info.max_xfer >= 128 << 10);
        assert_eq!(
            (ns.sectors, ns.sector_size, ns.md_size, ns.id),
            (32768, 512, 0, 1)
        );
        info.max_segments as usize
    }

    fn wait(&self, io: &mut Io) -> (i32, i32, i32) {
        testkit::spin("the end of an I/O", PATIENCE, || {
            let result = io.result();
            if result.is_none() {
                // SAFETY: the queue pair is this thread's.
                unsafe { s::tl_nvme_qpair_poll(self.qpair, 0) };
            }
            result
        })
    }

    fn write(&self, io: &mut Io, iov: &[s::tl_iovec], lba: u64, n: u32) -> i32 {
        // SAFETY: everything outlives the I/O: every caller waits for it.
        unsafe {
            s::tl_nvme_writev(
                self.ns,
                self.qpair,
                io.raw(),
                iov.as_ptr(),
                iov.len() as u32,
                lba,
                n,
            )
        }
    }

    fn read(&self, io: &mut Io, iov: &[s::tl_iovec], lba: u64, n: u32) -> i32 {
        // SAFETY: as above.
        unsafe {
            s::tl_nvme_readv(
                self.ns,
                self.qpair,
                io.raw(),
                iov.as_ptr(),
                iov.len() as u32,
                lba,
                n,
            )
        }
    }

    fn odd_pieces_both_ways(&self, arena: &Arena, segments: usize) {
        // A page in three TCP segments, a page in four, and the longest list there is.
        let longest: Vec<usize> = (0..segments - 1).map(|n| 501 + n).collect();
        let filled = longest.iter().sum::<usize>();
        let mut longest = longest;
        longest.push(filled.next_multiple_of(512) - filled + 512);
        for (round, sizes) in [&[1448, 1448, 1200][..], &[1000, 1400, 1400, 296], &longest]
            .into_iter()
            .enumerate()
        {
            let len: usize = sizes.iter().sum();
            let bytes = pattern(len, round as u32 + 1);
            let (mut list, mut at, mut done) = (Vec::new(), 4096 + 2, 0);
            for &size in sizes {
                arena
                    .bytes(at, size)
                    .copy_from_slice(&bytes[done..done + size]);
                list.push(s::tl_iovec {
                    base: arena.at(at).cast(),
                    len: size as u64,
                });
                at += size + 66;
                done += size;
            }
            let mut io = Io::new();
            let n = (len / 512) as u32;
            ok(self.write(&mut io, &list, 64, n));
            assert_eq!(self.wait(&mut io), (0, 0, 0));
            // Back into one piece, and back into the same pieces.
            let whole = [s::tl_iovec {
                base: arena.at(2 << 20).cast(),
                len: len as u64,
            }];
            ok(self.read(&mut io, &whole, 64, n));
            assert_eq!(self.wait(&mut io), (0, 0, 0));
            assert_eq!(arena.bytes(2 << 20, len), bytes);
            for piece in &list {
                arena
                    .bytes(
                        piece.base as usize - arena.base as usize,
                        piece.len as usize,
                    )
                    .fill(0);
            }
            ok(self.read(&mut io, &list, 64, n));
            assert_eq!(self.wait(&mut io), (0, 0, 0));
            let mut got = Vec::new();
            for piece in &list {
                got.extend_from_slice(arena.bytes(
                    piece.base as usize - arena.base as usize,
                    piece.len as usize,
                ));
            }
            assert_eq!(got, bytes);
        }
    }

    fn refused(&self, arena: &Arena, segments: usize) {
        let mut io = Io::new();
        let piece = |len: u64| s::tl_iovec {
            base: arena.at(0).cast(),
            len,
        };
        assert_eq!(self.write(&mut io, &[piece(4095)], 0, 8), -libc::EINVAL);
        assert_eq!(
            self.write(&mut io, &[piece(4096), piece(1)], 0, 8),
            -libc::EINVAL
        );
        assert_eq!(self.write(&mut io, &[piece(4096)], 32761, 8), -libc::ERANGE);
        assert_eq!(self.write(&mut io, &[], 0, 8), -libc::EINVAL);
        let many = vec![piece(512); segments + 1];
        assert_eq!(
            self.write(&mut io, &many, 0, segments as u32 + 1),
            -libc::E2BIG
        );
    }

    fn other_commands(&self, arena: &Arena) {
        let mut io = Io::new();
        // SAFETY: waited for.
        unsafe {
            ok(s::tl_nvme_write_zeroes(
                self.ns,
                self.qpair,
                io.raw(),
                64,
                8,
            ));
            assert_eq!(self.wait(&mut io), (0, 0, 0));
            ok(s::tl_nvme_flush(self.ns, self.qpair, io.raw()));
            assert_eq!(self.wait(&mut io), (0, 0, 0));
            ok(s::tl_nvme_deallocate(self.ns, self.qpair, io.raw(), 128, 8));
            assert_eq!(self.wait(&mut io), (0, 0, 0));
            ok(s::tl_nvme_admin_poll(self.ctrlr));
            assert!(!s::tl_nvme_failed(self.ctrlr));
        }
        self.smart_log();
        arena.bytes(0, 4096).fill(1);
        let whole = [s::tl_iovec {
            base: arena.at(0).cast(),
            len: 4096,
        }];
        ok(self.read(&mut io, &whole, 64, 8));
        assert_eq!(self.wait(&mut io), (0, 0, 0));
        assert!(arena.bytes(0, 4096).iter().all(|&byte| byte == 0));
    }

    /// The log comes while the Admin Queue is polled, once.
    fn smart_log(&self) {
        type Logs = std::cell::RefCell<Vec<[u8; 512]>>;
        extern "C" fn told(arg: *mut std::ffi::c_void, log: *const u8) {
            assert!(!log.is_null());
            // SAFETY: what was given along outlives the wait below; 512 bytes.
            let (logs, log) = unsafe { (&*arg.cast::<Logs>(), *log.cast::<[u8; 512]>()) };
            logs.borrow_mut().push(log);
        }
        let logs = Logs::default();
        // SAFETY: a connected controller, which this thread polls.
        unsafe {
            ok(s::tl_nvme_smart(
                self.ctrlr,
                Some(told),
                (&raw const logs).cast_mut().cast(),
            ));
        }
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while logs.borrow().is_empty() && std::time::Instant::now() < until {
            // SAFETY: as above.
            unsafe { s::tl_nvme_admin_poll(self.ctrlr) };
        }
        let logs = logs.into_inner();
        assert_eq!(logs.len(), 1);
        // Available Spare and its threshold are percentages.
        assert!(logs[0][3] <= 100 && logs[0][4] <= 100);
    }

    /// The I/O in flight ends with an error, not never.
    fn target_goes_away(&self, arena: &Arena, target: target::Target) {
        let mut io = Io::new();
        let whole = [s::tl_iovec {
            base: arena.at(0).cast(),
            len: 4096,
        }];
        drop(target);
        let rc = self.read(&mut io, &whole, 64, 8);
        if rc == 0 {
            let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
            let mut lost = false;
            while io.result().is_none() && std::time::Instant::now() < until {
                // SAFETY: as in wait.
                lost |= unsafe { s::tl_nvme_qpair_poll(self.qpair, 0) } < 0;
            }
            match io.result() {
                Some((_, _, err)) => assert!(err < 0, "{err}"),
                // 20.07 keeps a lost queue pair's requests until it is freed, which close() does.
                None => assert!(lost, "neither an answer nor a loss"),
            }
        }
        std::mem::forget(io);
    }

    fn close(self) {
        // SAFETY: the queue pair first.
        unsafe {
            s::tl_nvme_qpair_free(self.qpair);
            s::tl_nvme_detach(self.ctrlr);
        }
    }
}
