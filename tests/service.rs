//! What a service manager hears: readiness, the end, and a sign of life only
//! while every shard polls. Needs root and hugepages, as the program does.
#![allow(missing_docs, unsafe_code)]

mod support;

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{OFFER, alone};

const PROGRAM: &str = env!("CARGO_BIN_EXE_throughline");
const PERIOD_MS: u64 = 800;

/// Two shards, so that one can stand still while the other polls.
const CORES: &str = "cores = [0, 1]\n";

struct Service {
    child: Child,
    socket: UnixDatagram,
    _directory: tempfile::TempDir,
}

impl Service {
    fn start() -> Self {
        let period = (PERIOD_MS * 1000).to_string();
        Self::start_as(Command::new(PROGRAM), &format!("{CORES}{OFFER}"), &period)
    }

    /// With a configuration, by a command that becomes the program.
    fn start_as(mut command: Command, config: &str, watchdog_usec: &str) -> Self {
        let directory = tempfile::TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        let control = format!("[control]\nsocket = \"{}\"\n", path("s").display());
        std::fs::write(path("t.toml"), format!("{config}{control}")).unwrap();
        let socket = UnixDatagram::bind(path("notify")).unwrap();
        let child = (command.arg("run").arg("--config").arg(path("t.toml")))
            .env("NOTIFY_SOCKET", path("notify"))
            .env("WATCHDOG_USEC", watchdog_usec)
            .env_remove("WATCHDOG_PID")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            socket,
            _directory: directory,
        }
    }

    /// Runs a command in the program's network namespace.
    fn run(&self, line: &str) {
        let net = format!("--net=/proc/{}/ns/net", self.child.id());
        let ended = Command::new("nsenter")
            .arg(net)
            .args(line.split(' '))
            .output();
        let ended = ended.unwrap();
        assert!(ended.status.success(), "{line}: {ended:?}");
    }

    /// Ends by SIGTERM, and says so.
    fn ends(&mut self) {
        // SAFETY: a signal to our own child.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        assert!(self.hears("STOPPING=1", 30));
        assert!(self.child.wait().unwrap().success());
    }

    /// The next message.
    fn next(&self, seconds: u64) -> String {
        let patience = Duration::from_secs(seconds);
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).expect("nothing is said");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    /// Whether a message that begins so comes in time.
    fn hears(&self, what: &str, seconds: u64) -> bool {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut bytes = [0; 4096];
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            (self
                .socket
                .set_read_timeout(Some(left.max(Duration::from_millis(1)))))
            .unwrap();
            match self.socket.recv(&mut bytes) {
                Ok(n) if bytes[..n].starts_with(what.as_bytes()) => return true,
                _ => {}
            }
        }
        false
    }

    /// Takes what was said until now.
    fn forget(&self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 4096]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }

    /// The thread of a shard other than the first, which is the main thread.
    fn worker(&self) -> i32 {
        let tasks = format!("/proc/{}/task", self.child.id());
        let tasks = std::fs::read_dir(tasks).unwrap().flatten();
        let is_worker = |entry: &std::fs::DirEntry| {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            // `lcore-slave-1`, `lcore-worker-1`, or since DPDK 23.11 `dpdk-worker1`.
            name.starts_with("lcore-") || name.starts_with("dpdk-worker")
        };
        let mut workers = tasks.filter(is_worker).map(|entry| entry.file_name());
        let name = workers.next().expect("a worker thread");
        name.to_str().unwrap().parse().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One thread of another process, stopped as a debugger stops it.
struct Stopped(i32);

impl Stopped {
    fn new(thread: i32) -> Self {
        // SAFETY: these requests touch no memory of ours.
        unsafe {
            assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, thread, 0, 0), 0);
            assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, thread, 0, 0), 0);
            assert_eq!(
                libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL),
                thread
            );
        }
        Self(thread)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, 0, 0) };
    }
}

/// A service that nobody reaches is not ready, and does not fail to start either.
#[test]
fn k06_ready_is_said_when_it_serves_and_not_before() {
    let _alone = alone();
    let wire = "ip link add wire0 type veth peer name wire1";
    let mut command = Command::new("unshare");
    let script = format!("{wire} && ip link set wire1 up && exec {PROGRAM} \"$@\"");
    command.args(["-n", "sh", "-c", &script, "sh"]);
    let config = format!("cores = [0]\n{OFFER}").replace("net_null0", "wire0");
    let mut service = Service::start_as(command, &config, "0");
    let first = service.next(60);
    assert_eq!(
        first,
        "STATUS=unready: port0: wire0 is down: ip link set wire0 up"
    );
    assert!(service.hears("EXTEND_TIMEOUT_USEC=", 60));
    service.run("ip link set wire0 up");
    assert!(service.hears("READY=1\nSTATUS=ready: NVMe/TCP on 192.0.2.1:4420", 60));
    // What it is like later changes the status alone.
    service.run("ip link set wire1 down");
    assert!(service.hears("STATUS=unready: port0: wire0 has no link", 60));
    service.run("ip link del wire0");
    assert!(service.hears("STATUS=unready: port0: wire0 is gone", 60));
    service.run(wire);
    service.run("ip link set wire1 up");
    service.run("ip link set wire0 up");
    assert!(service.hears("STATUS=ready: NVMe/TCP on 192.0.2.1:4420", 60));
    service.ends();
}

#[test]
fn k06_the_watchdog_is_fed_only_while_every_shard_polls() {
    let _alone = alone();
    let mut service = Service::start();
    assert!(service.hears("READY=1\nSTATUS=ready: NVMe/TCP on 192.0.2.1:4420", 60));
    for _ in 0..3 {
        assert!(
            service.hears("WATCHDOG=1", 30),
            "shards poll, and nothing says so"
        );
    }
    let stopped = Stopped::new(service.worker());
    // What was said before, what was on its way, and a look that began before; then no more.
    service.forget();
    let mut more = 0;
    while service.hears("WATCHDOG=1", 3) {
        more += 1;
        assert!(more <= 2, "a shard stands still, and nothing says so");
    }
    drop(stopped);
    assert!(
        service.hears("WATCHDOG=1", 30),
        "the shard polls again, and nothing says so"
    );
    service.ends();
}
