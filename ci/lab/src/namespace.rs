//! Network namespaces, and what joins them.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{self, Command};
use std::thread;

use crate::failure::OrFail;
use crate::machine::PREFIX;
use crate::{Outcome, Result, Test, Tool, sys};

/// Mounts what is a tool's own, and becomes it.
const ALONE: &str = "mkdir -p /dev/hugepages /run/dpdk
    mount -t hugetlbfs -o pagesize=2M none /dev/hugepages || exit
    for files in /run/dpdk /dev/shm; do mount -t tmpfs none $files || exit; done
    exec \"$@\"";
/// Data blocks (of 4 KiB to 128 KiB) go as they are when no offload is in the
/// way: every frame carries at most the wire's MTU.
const OFFLOADS: &str = "tx off rx off sg off tso off gso off gro off";

/// A network namespace that goes with this value. Nothing in it speaks by itself.
#[derive(Debug)]
pub struct Namespace {
    test: Test,
    name: String,
}

impl Namespace {
    /// A new one; `role` is for the reader of failures.
    ///
    /// # Errors
    ///
    /// The kernel does not give one.
    #[track_caller]
    pub fn new(test: &Test, role: &str) -> Result<Self> {
        thread_local!(static MADE: Cell<u32> = const { Cell::new(0) });
        let number = MADE.replace(MADE.get() + 1);
        let name = format!("{PREFIX}{}-{number}-{role}", process::id());
        let namespace = Self {
            test: test.clone(),
            name,
        };
        let made = Tool::new(test, "ip").args(["netns", "add", &namespace.name]);
        made.succeeds()?;
        // A kernel without IPv6 has not got the first two.
        namespace.tries(
            "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
        )?;
        namespace.run("ip link set lo up")?;
        Ok(namespace)
    }

    /// A tool that runs in it.
    pub fn tool(&self, program: impl AsRef<std::ffi::OsStr>) -> Tool {
        self.inside(Tool::new(&self.test, program))
    }

    /// The same tool, in this namespace.
    pub(crate) fn inside(&self, tool: Tool) -> Tool {
        tool.through(["ip", "netns", "exec", &self.name])
    }

    /// The same tool, in this namespace, with hugepages, run-time files and shared memory of its own, which vanish
    /// with it.
    pub fn alone(&self, tool: Tool) -> Tool {
        self.inside(tool.through(["sh", "-c", ALONE, "sh"]))
    }

    fn line(&self, line: &str) -> Tool {
        let mut words = line.split_whitespace();
        let tool = self.tool(words.next().unwrap_or_default());
        tool.args(words).called(line.replace(['/', ' '], "_"))
    }

    /// Runs a command in it: words with nothing to quote.
    ///
    /// # Errors
    ///
    /// It fails.
    #[track_caller]
    pub fn run(&self, line: &str) -> Outcome {
        let ended = self.line(line).succeeds();
        ended
            .map(drop)
            .map_err(|failure| failure.during(&self.name))
    }

    /// Runs a command in it that may fail; whether it succeeded.
    ///
    /// # Errors
    ///
    /// It cannot be run.
    #[track_caller]
    pub fn tries(&self, line: &str) -> Result<bool> {
        Ok(self.line(line).run()?.status.success())
    }

    /// A file that a process opens to enter it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Leaves checksums and segmentation to nobody.
    ///
    /// # Errors
    ///
    /// The interface is not there. Offloads that it cannot change stay.
    #[track_caller]
    pub fn no_offloads(&self, interface: &str) -> Outcome {
        self.tries(&format!("ethtool -K {interface} {OFFLOADS}"))?;
        self.run(&format!("ip link show dev {interface}"))
    }

    /// The port gets copies of the frames, and the kernel keeps its own and looks
    /// for a route: work that no NIC makes. Where nftables are, it drops its copy.
    ///
    /// # Errors
    ///
    /// A command cannot be run.
    pub fn kernel_ignores(&self, interface: &str) -> Outcome {
        self.kernel_minds(interface)?;
        let rules = format!(
            "add table netdev {interface}\n\
             add chain netdev {interface} port {{ type filter hook ingress device {interface} priority 0; policy drop; }}"
        );
        let ended = self.tool("nft").arg(rules).run()?;
        if !ended.status.success() {
            let why = ended.last_words();
            (self.test).note(format!(
                "no nftables: the kernel looks for routes, too: {why}"
            ));
        }
        Ok(())
    }

    /// Ends what [`Self::kernel_ignores`] began.
    ///
    /// # Errors
    ///
    /// A command cannot be run.
    pub fn kernel_minds(&self, interface: &str) -> Outcome {
        self.tries(&format!("nft delete table netdev {interface}"))
            .map(drop)
    }

    /// What a thread enters it by.
    ///
    /// # Errors
    ///
    /// It is gone.
    #[track_caller]
    pub fn door(&self) -> Result<Door> {
        Ok(Door(File::open(self.path())?))
    }

    /// Does something on a thread that is in it.
    ///
    /// # Errors
    ///
    /// It fails, or there is no entering it.
    #[track_caller]
    pub fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> Result<T> {
        let door = self.door()?;
        let done = thread::scope(|scope| {
            let thread = scope.spawn(move || {
                door.enter()?;
                work()
            });
            thread.join()
        });
        let done = done.or_fail(|_| format!("a thread in {} panicked", self.name))?;
        done.or_fail(|error| format!("in {}: {error}", self.name))
    }
}

/// The way into a namespace, for a thread that stays there.
#[derive(Debug)]
pub struct Door(File);

impl Door {
    /// The calling thread is in it from now on.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn enter(&self) -> io::Result<()> {
        sys::enter_net(&self.0)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}

/// An interface of a namespace.
pub type End<'n> = (&'n Namespace, &'n str);

/// Joins two namespaces by a pair of interfaces that are up, without offloads.
///
/// # Errors
///
/// The kernel refuses.
#[track_caller]
pub fn veth(a: End<'_>, b: End<'_>) -> Outcome {
    let [(here, name), (there, peer)] = [a, b];
    here.run(&format!(
        "ip link add {name} mtu 1500 type veth peer name {peer} mtu 1500 netns {}",
        there.name
    ))?;
    for (namespace, interface) in [a, b] {
        namespace.no_offloads(interface)?;
        namespace.run(&format!("ip link set {interface} up"))?;
    }
    Ok(())
}

/// Has both ends of a wire carry packets of so many bytes.
///
/// # Errors
///
/// The kernel refuses.
#[track_caller]
pub fn mtu(ends: [End<'_>; 2], bytes: u32) -> Outcome {
    for (namespace, interface) in ends {
        namespace.run(&format!("ip link set {interface} mtu {bytes}"))?;
    }
    Ok(())
}

/// Whether the kernel has netem.
pub(crate) fn has_netem(namespace: &Namespace) -> Result<bool> {
    namespace.tries("tc qdisc replace dev lo root netem loss 1%")
}
