//! Networks that are more than a wire: IPv6, a VLAN, gateways and narrow paths
//! behind them, several shards on one port.

use lab::config::{HOST, NQN, TARGET, WIRE};
use lab::{
    Config, Host, Lab, Load, Namespace, Outcome, Program, Result, Section, Stats, Test,
    TransportId, ensure, expect, veth,
};

const TARGET_IPV6: &str = "2001:db8::1";

/// A second of verified commands of each of two sizes, and the counters after it.
fn served(host: &Host, program: &Program<'_>, disk: &TransportId) -> Result<Stats> {
    for bytes in [4096, 65536] {
        host.bdevperf(disk, &Load::new("verify", bytes))?
            .succeeds()?;
    }
    program.stats()
}

/// A window that is narrow for a moment cuts a segment, and a page of five is pulled
/// up (row Z8). That is rare.
fn hardly_copied(stats: &Stats) -> Outcome {
    let most = stats.sum("io.written_bytes") / 1000;
    let what = format!("bytes copied {}", stats.show("copied_bytes"));
    expect::at_most(&what, stats.sum("copied_bytes"), most)
}

fn with_both_addresses() -> Config {
    Config::one_disk().port_key("addresses", vec!["192.0.2.1/24", "2001:db8::1/64"])
}

/// RFC 4861, 4862: neighbour discovery both ways, and the second of silence before
/// an address is used.
fn ipv6(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let host = &lab.host.namespace;
    host.run(&format!("sysctl -qw net.ipv6.conf.{WIRE}.disable_ipv6=0"))?;
    host.run(&format!("ip address add 2001:db8::2/64 dev {WIRE} nodad"))?;
    let program = lab.start(&with_both_addresses())?;
    host.run(&format!("ping -6 -q -c 1 -w 20 {TARGET_IPV6}"))?;
    let stats = served(&lab.host, &program, &program.at(NQN).over(TARGET_IPV6))?;
    hardly_copied(&stats)?;
    program.stop()
}

/// IEEE 802.1Q: only frames with the tag are for us.
fn vlan(test: &Test) -> Outcome {
    let mut lab = Lab::new(test)?;
    let tagged = Config::one_disk().port_key("vlan", 100);
    join_vlan(test, &mut lab)?;
    let program = lab.start(&tagged)?;
    let stats = served(&lab.host, &program, &program.at(NQN))?;
    hardly_copied(&stats)?;
    let of_others = stats.sum("counters.tcp.rx_vlan_mismatch");
    expect::equal("frames of another VLAN", of_others, 0)?;
    program.stop()?;

    let lab = Lab::new(test)?;
    let program = lab.start(&tagged)?;
    let untagged = format!("ping -q -c 2 -i 0.2 -w 1 {TARGET}");
    let answered = lab.host.namespace.tries(&untagged)?;
    ensure!(!answered, "a frame without the tag was answered");
    let seen = program.stats()?.sum("counters.tcp.rx_vlan_mismatch");
    expect::at_least("frames without the tag", seen, 1)?;
    program.stop()
}

/// The host joins VLAN 100. Where the kernel has no VLAN interfaces, it is at an
/// access port of a switch, which a wire of ours stands in for.
fn join_vlan(test: &Test, lab: &mut Lab) -> Outcome {
    let host = &lab.host.namespace;
    if !host.tries(&format!(
        "ip link add link {WIRE} name vlan100 type vlan id 100"
    ))? {
        test.figure(
            "this kernel has no VLAN interfaces: a wire of ours is the access port of a switch",
        );
        return lab.carry(["-", "access 100"]);
    }
    host.run(&format!("ip address flush dev {WIRE}"))?;
    host.run("ip link set vlan100 up")?;
    host.run(&format!("ip address add {HOST}/24 dev vlan100"))
}

/// A router between the program and the host:
/// target - 192.0.2.0/24 - router - 198.51.100.0/24 - host, and the same in IPv6.
struct Routed {
    target: Namespace,
    host: Host,
    _router: Namespace,
}

impl Routed {
    /// Packets of 1280 bytes at most go on to the host: the router says so
    /// (RFC 1191, RFC 8201).
    fn new(test: &Test) -> Result<Self> {
        let [target, router, host] =
            ["target", "router", "host"].map(|role| Namespace::new(test, role));
        let (target, router, host) = (target?, router?, host?);
        router.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
        veth((&target, WIRE), (&router, "port0"))?;
        veth((&host, WIRE), (&router, "port1"))?;
        for line in [
            "sysctl -qw net.ipv6.conf.port0.disable_ipv6=0 net.ipv6.conf.port1.disable_ipv6=0",
            "ip address add 192.0.2.254/24 dev port0",
            "ip address add 2001:db8::254/64 dev port0 nodad",
            "ip address add 198.51.100.254/24 dev port1",
            "ip address add 2001:db8:1::254/64 dev port1 nodad",
            "ip route replace 198.51.100.2 dev port1 mtu lock 1280",
            "ip route replace 2001:db8:1::2 dev port1 mtu lock 1280",
        ] {
            router.run(line)?;
        }
        for line in [
            "sysctl -qw net.ipv6.conf.wire0.disable_ipv6=0",
            "ip address add 198.51.100.2/24 dev wire0",
            "ip address add 2001:db8:1::2/64 dev wire0 nodad",
            "ip route add default via 198.51.100.254",
            "ip route add default via 2001:db8:1::254",
        ] {
            host.run(line)?;
        }
        Ok(Self {
            target,
            host: Host::new(test, host),
            _router: router,
        })
    }

    /// Two shards that reach the host through the router.
    fn start(&self, test: &Test) -> Result<Program<'_>> {
        let route = |to: &str, via: &str| Section::new().key("to", to).key("via", via);
        let routes = vec![
            route("0.0.0.0/0", "192.0.2.254"),
            route("2001:db8:1::/64", "2001:db8::254"),
        ];
        let config = with_both_addresses()
            .cores(&[0, 1])
            .port_key("routes", routes);
        Program::start(test, &self.target, &config)
    }
}

fn narrow_path(test: &Test, address: &str) -> Outcome {
    let lab = Routed::new(test)?;
    let program = lab.start(test)?;
    let stats = served(&lab.host, &program, &program.at(NQN).over(address))?;
    let lowered = stats.sum("counters.tcp.pmtu_lowered");
    expect::at_least("times a router's word was taken", lowered, 1)?;
    program.stop()
}

fn gateway_and_narrow_path(test: &Test) -> Outcome {
    narrow_path(test, TARGET)
}

fn gateway_and_narrow_path_ipv6(test: &Test) -> Outcome {
    narrow_path(test, TARGET_IPV6)
}

/// The router's complaints come to one queue, the connections are on both: every
/// one hears of the narrow path.
fn complaints_reach_the_other_shard(test: &Test) -> Outcome {
    let lab = Routed::new(test)?;
    let program = lab.start(test)?;
    let load = Load::new("randread", 65536)
        .depth(4)
        .seconds(2)
        .connections(16);
    lab.host.perf(&program.at(NQN), &load)?.succeeds()?;
    let stats = program.stats()?;
    test.note(format!(
        "{} {}",
        stats.show("counters.tcp"),
        stats.show("counters.notices")
    ));
    let sent = stats.each("counters.tcp.tcp_segments_sent");
    // One shard that serves all connections leaves the other next to nothing.
    let tenth = sent.iter().sum::<u64>() / 10;
    let both = sent.iter().all(|n| *n > tenth);
    ensure!(
        both,
        "one shard served all connections: segments sent {sent:?}"
    );
    let heard = stats.each("counters.tcp.pmtu_lowered");
    let both = heard.iter().all(|n| *n > 0);
    ensure!(both, "one shard never heard of the narrow path: {heard:?}");
    expect::at_least(
        "what one shard told the other",
        stats.sum("counters.notices.received"),
        1,
    )?;
    let given_up = stats.sum("counters.tcp.pmtu_black_holes");
    expect::equal("paths given up as black holes", given_up, 0)?;
    program.stop()
}

lab::tests![
    ipv6,
    vlan,
    gateway_and_narrow_path,
    gateway_and_narrow_path_ipv6,
    complaints_reach_the_other_shard,
];
