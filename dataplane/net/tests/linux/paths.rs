//! Paths that are narrower than the links at their ends.

use std::thread;
use std::time::Duration;

use net::{Route, StackConfig};

use super::lab::Lab;
use super::place::{INTERFACE, Link, Means, Namespace, Way, addresses};
use super::runner::Options;
use super::workload::{Halfway, Workload};

/// A test's name and what it does.
type Test = (&'static str, fn(&Options) -> Result<String, String>);

pub const TESTS: &[Test] = &[
    ("path_mtu_behind_a_router", |_| behind_a_router(1280, None)),
    ("path_mtu_changes_midway", |_| {
        behind_a_router(1500, Some(1300))
    }),
    ("path_mtu_black_hole", |_| black_hole()),
];

const MIB: u64 = 1 << 20;

/// Two ends and a router between them, whose routes to both carry `mtu` bytes.
struct Routed {
    ends: [Namespace; 2],
    router: Namespace,
}

impl Routed {
    fn new(mtu: usize) -> Result<Self, String> {
        let new = || Namespace::new().map_err(|error| error.to_string());
        let routed = Self {
            ends: [new()?, new()?],
            router: new()?,
        };
        routed.router.commands(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1".to_string(),
        )?;
        for (end, namespace) in routed.ends.iter().enumerate() {
            let (port, peer) = (format!("port{end}"), namespace.path());
            let [v4, v6] = [false, true].map(|ipv6| Way::Routed.gateway(end, ipv6));
            let addresses = addresses(&port, v4, v6);
            routed.router.commands(format!(
                "ip link add {port} type veth peer name {INTERFACE} netns {peer}
                 -ethtool -K {port} tx off rx off sg off tso off gso off gro off
                 ip link set {port} up
                 {addresses}"
            ))?;
            namespace.commands(format!(
                "-ethtool -K {INTERFACE} tx off rx off sg off tso off gso off gro off
                 ip link set {INTERFACE} up"
            ))?;
        }
        routed.narrow(mtu)?;
        Ok(routed)
    }

    /// From now on the routes to both ends carry `mtu` bytes.
    fn narrow(&self, mtu: usize) -> Result<(), String> {
        let mut lines = String::new();
        for end in 0..2 {
            for ipv6 in [false, true] {
                let to = Way::Routed.address(end, ipv6);
                lines += &format!("ip route replace {to} dev port{end} mtu lock {mtu}\n");
            }
        }
        self.router.commands(lines)
    }
}

/// RFC 1191 and RFC 8201, both ways: routers say what their next link carries.
fn behind_a_router(mtu: usize, later: Option<usize>) -> Result<String, String> {
    let net = Routed::new(mtu)?;
    let mut lab = Lab::ours(&net.ends, Way::Routed, |config: &mut StackConfig| {
        for (ipv6, all) in [(false, "0.0.0.0/0"), (true, "::/0")] {
            config.routes.push(Route {
                to: all.parse().expect("a network"),
                via: Way::Routed.gateway(0, ipv6),
            });
        }
    })?;
    let mut report = String::new();
    // Long enough for a change on the way: with half of it queued, more than a window is out.
    let size = if later.is_some() { 32 * MIB } else { 4 * MIB };
    let workloads = [Workload::BulkOut(size), Workload::BulkIn(size)];
    let mut results = Vec::new();
    for workload in workloads {
        // IPv4 with us dialing, IPv6 with the kernel dialing.
        for round in [0, 1] {
            let rate = thread::scope(|scope| {
                let Some(mtu) = later else {
                    return lab.run(workload, 1, round);
                };
                let (net, halfway) = (&net, Halfway::default());
                let gates = halfway.clone();
                let narrowed = scope.spawn(move || {
                    match workload {
                        Workload::BulkOut(_) => gates.reached.pass(),
                        _ => thread::sleep(Duration::from_millis(20)),
                    }
                    let result = net.narrow(mtu);
                    gates.passed.open();
                    result
                });
                let rate = lab.run_with(workload, 1, round, Some(halfway));
                match narrowed.join() {
                    Ok(Err(error)) => Err(error),
                    _ => rate,
                }
            });
            results.push(rate.map(|rate| {
                report += &format!("    {} {rate:.1} {}\n", workload.name(), workload.unit());
            }));
            if later.is_some() {
                net.narrow(mtu)?;
            }
        }
    }
    let counters = lab.end()?;
    let counts = format!("{report}    {}", super::lab::describe(&counters));
    results
        .into_iter()
        .collect::<Result<(), _>>()
        .map_err(|error| format!("{counts}\n{error}"))?;
    // Once for each version of IP.
    if counters.pmtu_lowered < 2 {
        return Err(format!("{counts}\nwe did not hear of the narrow path"));
    }
    Ok(counts + "\n")
}

/// RFC 2923, 2.1: a path that swallows large packets without a word.
fn black_hole() -> Result<String, String> {
    let link = Link::new(Means::Wire, "rate 200mbit delay 1ms swallow 1340", 5)?;
    let mut lab = Lab::ours(&link.ends, Way::Direct, |_| {})?;
    // The kernel looks out for them only when told to; and sooner than by default.
    let told = "sysctl -qw net.ipv4.tcp_mtu_probing=1 net.ipv4.tcp_retries1=1";
    link.ends[1].commands(told.to_string())?;
    let mut report = String::new();
    for workload in [Workload::BulkOut(MIB), Workload::BulkIn(MIB / 4)] {
        for round in [0, 1] {
            let rate = lab.run(workload, 1, round)?;
            report += &format!("    {} {rate:.1} {}\n", workload.name(), workload.unit());
        }
    }
    let counters = lab.end()?;
    if counters.pmtu_black_holes == 0 {
        return Err(format!(
            "{report}no black hole was found: {}",
            super::lab::describe(&counters)
        ));
    }
    Ok(report)
}
