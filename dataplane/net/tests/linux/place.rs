//! Network namespaces, and impaired links between two of them.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::sys;
use super::wire::{self, Netem, Tally};

/// The interface in both namespaces of a link.
pub const INTERFACE: &str = "wire0";

/// A network namespace that lives as long as this value.
#[derive(Clone)]
pub struct Namespace(Arc<File>);

impl Namespace {
    /// An empty one; neither IPv6 nor anything else speaks in it by itself.
    pub fn new() -> io::Result<Self> {
        let made = thread::spawn(|| -> io::Result<File> {
            sys::unshare_net()?;
            set("net/ipv6/conf/all/disable_ipv6", "1")?;
            set("net/ipv6/conf/default/disable_ipv6", "1")?;
            // Nobody else is on these links: nothing is gained by asking for a second.
            set("net/ipv6/conf/all/accept_dad", "0")?;
            set("net/ipv6/conf/default/accept_dad", "0")?;
            // Neither contestant learns from what its predecessor met.
            set("net/ipv4/tcp_no_metrics_save", "1")?;
            File::open("/proc/thread-self/ns/net")
        });
        let file = made.join().map_err(|_| io::Error::other("panicked"))??;
        Ok(Self(Arc::new(file)))
    }

    /// Puts the calling thread into it.
    pub fn enter(&self) {
        sys::enter_net(&self.0).expect("a thread enters a namespace");
    }

    /// Runs `work` on a thread in it.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self.spawn(work).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Starts a thread in it.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = self.clone();
        thread::spawn(move || {
            namespace.enter();
            work()
        })
    }

    /// Runs commands in it, one a line; those that begin with `-` may fail.
    pub fn commands(&self, lines: String) -> Result<(), String> {
        self.run(move || lines.lines().try_for_each(command))
    }

    /// A path that other processes find it under while this one lives.
    pub fn path(&self) -> String {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

fn set(name: &str, value: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/sys/{name}"), value)
        .map_err(|error| io::Error::other(format!("/proc/sys/{name} = {value}: {error}")))
}

fn command(line: &str) -> Result<(), String> {
    let (optional, line) = match line.trim().strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, line.trim()),
    };
    let mut words = line.split_whitespace();
    let Some(program) = words.next() else {
        return Ok(());
    };
    let output = Command::new(program)
        .args(words)
        .output()
        .map_err(|error| format!("{line}: {error}"))?;
    if output.status.success() || optional {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{line}: {}", said.trim()))
}

/// How the two ends are connected. Ours, or whoever stands in for us, is end 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By one link.
    Direct,
    /// By a router between two networks.
    Routed,
}

impl Way {
    /// The address of an end.
    pub fn address(self, end: usize, ipv6: bool) -> IpAddr {
        let last = end as u8 + 1;
        match (ipv6, self.net(end)) {
            (false, 0) => Ipv4Addr::new(192, 0, 2, last).into(),
            (false, _) => Ipv4Addr::new(198, 51, 100, last).into(),
            (true, net) => Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, last.into()).into(),
        }
    }

    /// Which network an end is in.
    fn net(self, end: usize) -> u16 {
        match self {
            Way::Direct => 0,
            Way::Routed => end as u16,
        }
    }

    /// The router's address in the network of an end.
    pub fn gateway(self, end: usize, ipv6: bool) -> IpAddr {
        match (ipv6, self.net(end)) {
            (false, 0) => Ipv4Addr::new(192, 0, 2, 254).into(),
            (false, _) => Ipv4Addr::new(198, 51, 100, 254).into(),
            (true, net) => Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, 254).into(),
        }
    }

    /// What the kernel is told to be an end.
    pub fn addresses(self, end: usize) -> String {
        let mut lines = addresses(INTERFACE, self.address(end, false), self.address(end, true));
        if self == Way::Routed {
            for ipv6 in [false, true] {
                let gateway = self.gateway(end, ipv6);
                lines += &format!("ip route add default via {gateway}\n");
            }
        }
        lines
    }
}

/// What the kernel is told to have addresses on an interface.
pub fn addresses(interface: &str, v4: IpAddr, v6: IpAddr) -> String {
    format!(
        "sysctl -qw net.ipv6.conf.{interface}.disable_ipv6=0
         ip address add {v4}/24 dev {interface}
         ip address add {v6}/64 dev {interface} nodad
        "
    )
}

/// Who impairs a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// The kernel's own queueing discipline, on both ends of a veth pair.
    Netem,
    /// [`wire::carry`], between two TAP devices.
    Wire,
}

/// Whether this kernel has netem.
pub fn means() -> Means {
    let tried = Namespace::new().map_err(|error| error.to_string());
    let tried = tried.and_then(|namespace| {
        namespace.commands("tc qdisc add dev lo root netem loss 1%".to_string())
    });
    match tried {
        Ok(()) => Means::Netem,
        Err(_) => Means::Wire,
    }
}

/// A link between two new namespaces, impaired the same way in both directions.
pub struct Link {
    pub ends: [Namespace; 2],
    stop: Arc<AtomicBool>,
    carrier: Option<JoinHandle<[Tally; 2]>>,
}

impl Link {
    pub fn new(means: Means, netem: &str, seed: u64) -> Result<Self, String> {
        let fail = |error: io::Error| error.to_string();
        let ends = [
            Namespace::new().map_err(fail)?,
            Namespace::new().map_err(fail)?,
        ];
        let stop = Arc::new(AtomicBool::new(false));
        let carrier = match means {
            Means::Netem => {
                let peer = ends[1].path();
                ends[0].commands(format!(
                    "ip link add {INTERFACE} type veth peer name {INTERFACE} netns {peer}"
                ))?;
                None
            }
            Means::Wire => {
                let how = Netem::parse(netem)?;
                let open = |end: &Namespace| end.run(|| sys::tap(INTERFACE));
                let mut taps = [open(&ends[0]).map_err(fail)?, open(&ends[1]).map_err(fail)?];
                let stop = Arc::clone(&stop);
                Some(thread::spawn(move || {
                    wire::carry(&mut taps, [how.clone(), how], seed, &stop)
                }))
            }
        };
        let link = Self {
            ends,
            stop,
            carrier,
        };
        for end in &link.ends {
            // Every frame is one that a wire could carry, with its checksum in it.
            end.commands(format!(
                "ip link set {INTERFACE} mtu 1500 txqueuelen 20000
                 -ethtool -K {INTERFACE} tx off rx off sg off tso off gso off gro off
                 ip link set {INTERFACE} up"
            ))?;
            if means == Means::Netem {
                end.commands(format!("tc qdisc add dev {INTERFACE} root netem {netem}"))?;
            }
        }
        Ok(link)
    }

    /// Ends it; what the wire did, if it was one of ours.
    pub fn end(mut self) -> Option<[Tally; 2]> {
        self.stop.store(true, Ordering::Relaxed);
        self.carrier.take()?.join().ok()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
