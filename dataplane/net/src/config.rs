//! What a stack is told at its start. Every table, queue and timer is sized from it.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::{Cidr, MacAddress};
use crate::rss::Steering;

/// Configuration of one shard's stack on one port.
///
/// [`StackConfig::new`] gives values that suit an appliance; every field can be
/// changed before [`Stack::new`](crate::Stack::new) validates the whole.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// The port's Ethernet address.
    pub mac: MacAddress,
    /// Largest IP packet the link carries, in bytes: 1500, or 9000 for jumbo frames.
    pub mtu: usize,
    /// Send and accept frames of this VLAN only (1 to 4094); `None`: untagged frames only.
    pub vlan: Option<u16>,
    /// The interface's addresses with their networks. IPv6 link-local addresses
    /// are not made up: list one if neighbours need it.
    pub addresses: Vec<Cidr>,
    /// Networks behind gateways; the longest prefix wins. A default gateway is a route to `0.0.0.0/0` or `::/0`.
    pub routes: Vec<Route>,
    /// What the port computes itself.
    pub offload: Offload,
    /// Key of the shard's hashes: connection table, initial sequence numbers
    /// (RFC 6528), SYN cookies, ports (RFC 6056). From the system's random source.
    pub secret: [u8; 32],
    /// Connections at once, those being opened included.
    pub connections_max: usize,
    /// Of these, connections that a peer began to open and has not completed; beyond it, and
    /// when three quarters of all are taken, SYNs are answered with cookies (RFC 4987). An
    /// eighth of `connections_max` suits, a thousand at most.
    pub half_open_max: usize,
    /// Connections remembered in TIME-WAIT, or in FIN-WAIT-2 once the application has given
    /// them back; the oldest gives way to the newest.
    pub time_wait_max: usize,
    /// Listeners at once.
    pub listeners_max: usize,
    /// Neighbours (ARP, ND) remembered.
    pub neighbors_max: usize,
    /// Chunks that one connection can have queued, sent but not acknowledged ones included.
    pub send_chunks_per_connection: usize,
    /// Chunks that all connections together can have queued.
    pub send_chunks_total: usize,
    /// Segments that all connections together can have in flight.
    pub segments_in_flight_total: usize,
    /// Clusters of the shard's receive pool: received slices that can wait at
    /// once. [`Stack::set_budget`](crate::Stack::set_budget) says how many are free.
    pub receive_clusters: usize,
    /// Payload bytes that one cluster takes at most (its size less headroom and headers).
    pub cluster_payload: usize,
    /// Clusters never promised to peers: those the port keeps armed for
    /// frames that carry no data, and for the application.
    pub receive_headroom: usize,
    /// Largest receive window of one connection, in bytes (at most 1 GiB).
    pub window_max_bytes: usize,
    /// Timing and behaviour of TCP.
    pub tcp: TcpConfig,
    /// Which flows the port steers to this shard; `None` if it gets all of them.
    pub steering: Option<Steering>,
    /// This shard announces the addresses. Exactly one shard of a port does; every
    /// shard answers what is steered to it, and tells the others by
    /// [notices](crate::Stack::poll_notice).
    pub owns_addresses: bool,
    /// The shard that owns them makes sure that nobody else uses the addresses before any
    /// shard does (RFC 5227, 2.1; RFC 4862, 5.4); that takes 300 ms for IPv4, and a second
    /// for IPv6. One that is taken is not used, and tried again every minute.
    pub duplicate_address_detection: bool,
}

/// A network that is reached through a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The network.
    pub to: Cidr,
    /// The router, a neighbour on the link.
    pub via: IpAddr,
}

/// What the port's hardware does for the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Verifies IPv4 header checksums and reports a verdict.
    pub rx_ip_checksum: bool,
    /// Verifies TCP checksums and reports a verdict.
    pub rx_l4_checksum: bool,
    /// Fills in IPv4 header checksums.
    pub tx_ip_checksum: bool,
    /// Completes TCP checksums.
    pub tx_l4_checksum: bool,
    /// Largest TCP payload in bytes that the port cuts into segments itself; 0: it does not.
    /// Needs `tx_l4_checksum`. The IPv4 header of each segment is the port's, whoever
    /// does those of other packets (virtio has segmentation, but no IPv4 checksums).
    pub tso_max_bytes: usize,
    /// Buffers that the port takes for one frame, that of the headers included; 0: any number.
    /// Protocol bytes go with what is before them, until payload by reference comes between.
    pub buffers_max: usize,
}

impl Offload {
    /// Buffers of one frame at most.
    pub(crate) fn buffers(&self) -> usize {
        match self.buffers_max {
            0 => usize::MAX,
            most => most,
        }
    }
}

/// Which congestion control new connections use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CongestionAlgorithm {
    /// CUBIC (RFC 9438).
    #[default]
    Cubic,
    /// NewReno (RFC 5681, RFC 6582).
    NewReno,
}

/// Timing and behaviour of TCP.
#[derive(Clone, Copy, Debug)]
pub struct TcpConfig {
    /// Congestion control.
    pub congestion: CongestionAlgorithm,
    /// Initial congestion window in segments (RFC 6928: 10).
    pub initial_window_segments: u32,
    /// Offer and accept ECN (RFC 3168). Accepted when a peer offers it in any case.
    pub ecn: bool,
    /// Spread segments over the round trip when it is long enough to matter.
    pub pacing: bool,
    /// Lower bound of the retransmission timeout.
    ///
    /// RFC 6298 (2.4) says one second; every deployed stack uses less, because
    /// delayed ACKs are bounded by 200 ms in practice.
    pub rto_min: Duration,
    /// Upper bound of the retransmission timeout (RFC 6298, 2.5: at least 60 s).
    pub rto_max: Duration,
    /// Longest delay of an ACK (RFC 9293, 3.8.6.3: below 500 ms).
    pub ack_delay: Duration,
    /// Longest wait of output that fills no segment, while the peer is behind, for more; and of an ACK for an answer that is to come
    /// ([`Stack::set_answers`](crate::Stack::set_answers)). Zero: neither waits.
    pub gather_max: Duration,
    /// Retransmissions of one segment before the peer is given up (RFC 9293, 3.8.3: R2).
    pub retries_max: u8,
    /// Retransmissions of a SYN or SYN-ACK before the attempt is given up.
    pub syn_retries_max: u8,
    /// Idle time before keep-alive probes; `None`: no probes.
    pub keepalive_idle: Option<Duration>,
    /// Time between keep-alive probes.
    pub keepalive_interval: Duration,
    /// Unanswered keep-alive probes before the peer is given up.
    pub keepalive_probes: u8,
    /// Length of TIME-WAIT: twice the maximum segment lifetime.
    pub time_wait: Duration,
    /// How long to wait for the peer's FIN after ours was acknowledged, counted from the last data received.
    pub fin_wait_2: Duration,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            congestion: CongestionAlgorithm::Cubic,
            initial_window_segments: 10,
            ecn: false,
            pacing: true,
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(60),
            ack_delay: Duration::from_millis(40),
            gather_max: Duration::from_micros(100),
            retries_max: 12,
            syn_retries_max: 5,
            keepalive_idle: Some(Duration::from_secs(7200)),
            keepalive_interval: Duration::from_secs(75),
            keepalive_probes: 9,
            time_wait: Duration::from_secs(60),
            fin_wait_2: Duration::from_secs(60),
        }
    }
}

impl StackConfig {
    /// An interface with one address and nothing computed by the port.
    pub fn new(mac: MacAddress, address: Cidr, secret: [u8; 32]) -> Self {
        Self {
            mac,
            mtu: 1500,
            vlan: None,
            addresses: vec![address],
            routes: Vec::new(),
            offload: Offload::default(),
            secret,
            connections_max: 1024,
            half_open_max: 128,
            time_wait_max: 1024,
            listeners_max: 16,
            neighbors_max: 256,
            send_chunks_per_connection: 4096,
            send_chunks_total: 65536,
            segments_in_flight_total: 65536,
            receive_clusters: 16384,
            cluster_payload: 1460,
            receive_headroom: 1024,
            window_max_bytes: 4 << 20,
            tcp: TcpConfig::default(),
            steering: None,
            owns_addresses: true,
            duplicate_address_detection: true,
        }
    }

    /// Says what is wrong with the configuration, if anything is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !self.mac.is_unicast() {
            return Err(ConfigError::MacNotUnicast);
        }
        if !(576..=65_000).contains(&self.mtu) {
            return Err(ConfigError::OutOfRange("mtu", 576, 65_000));
        }
        let v6 = self.addresses.iter().any(|cidr| cidr.address().is_ipv6());
        if v6 && self.mtu < 1280 {
            // RFC 8200, section 5.
            return Err(ConfigError::OutOfRange("mtu", 1280, 65_000));
        }
        if self.vlan.is_some_and(|id| !(1..=4094).contains(&id)) {
            return Err(ConfigError::OutOfRange("vlan", 1, 4094));
        }
        if self.addresses.is_empty() {
            return Err(ConfigError::NoAddress);
        }
        for cidr in &self.addresses {
            if !is_unicast(cidr.address()) || !cidr.is_host(cidr.address()) {
                return Err(ConfigError::AddressNotUnicast(cidr.address()));
            }
        }
        for route in &self.routes {
            let versions_differ = route.to.address().is_ipv4() != route.via.is_ipv4();
            let on_link = self.addresses.iter().any(|net| net.contains(route.via));
            if versions_differ || !on_link || !is_unicast(route.via) {
                return Err(ConfigError::GatewayNotOnLink(route.via));
            }
        }
        let ranges = [
            ("connections_max", self.connections_max, 1, 1 << 20),
            ("half_open_max", self.half_open_max, 1, self.connections_max),
            ("time_wait_max", self.time_wait_max, 1, 1 << 20),
            ("listeners_max", self.listeners_max, 1, 1024),
            ("neighbors_max", self.neighbors_max, 1, 65_536),
            (
                "send_chunks_per_connection",
                self.send_chunks_per_connection,
                1,
                65_535,
            ),
            ("send_chunks_total", self.send_chunks_total, 1, 1 << 24),
            (
                "segments_in_flight_total",
                self.segments_in_flight_total,
                16,
                1 << 24,
            ),
            ("receive_clusters", self.receive_clusters, 2, 1 << 24),
            ("cluster_payload", self.cluster_payload, 256, 65_536),
            (
                "receive_headroom",
                self.receive_headroom,
                1,
                self.receive_clusters - 1,
            ),
            // One for the headers, one for payload.
            ("buffers_max", self.offload.buffers(), 2, usize::MAX),
            ("window_max_bytes", self.window_max_bytes, 2048, 1 << 30),
            (
                "initial_window_segments",
                self.tcp.initial_window_segments as usize,
                1,
                100,
            ),
            (
                "tso_max_bytes",
                self.offload.tso_max_bytes,
                0,
                65_000 - TSO_HEADERS,
            ),
        ];
        for (name, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                return Err(ConfigError::OutOfRange(name, min, max));
            }
        }
        if self.offload.tso_max_bytes > 0 && !self.offload.tx_l4_checksum {
            return Err(ConfigError::TsoWithoutChecksums);
        }
        let tcp = &self.tcp;
        if tcp.ack_delay >= Duration::from_millis(500) || tcp.ack_delay.is_zero() {
            return Err(ConfigError::OutOfRange("ack_delay (ms)", 1, 499));
        }
        if tcp.rto_min > tcp.rto_max || tcp.rto_min < Duration::from_millis(1) {
            return Err(ConfigError::RtoBounds);
        }
        if self.steering.as_ref().is_some_and(|s| !s.is_valid()) {
            return Err(ConfigError::Steering);
        }
        Ok(())
    }
}

/// Room for the largest headers in an IP packet of 64 KiB.
const TSO_HEADERS: usize = 120;

/// Whether an interface can have `address`, whatever networks there are.
pub(crate) fn is_unicast(address: IpAddr) -> bool {
    match address {
        // "This network" (RFC 1122, 3.2.1.3), loopback, groups, and what is reserved (RFC 1112, 4),
        // the limited broadcast address among it.
        IpAddr::V4(a) => !(a.octets()[0] == 0 || a.is_loopback() || a.octets()[0] >= 224),
        // One of IPv4 in the form for programs is of no packet (RFC 4291, 2.5.5.2).
        IpAddr::V6(a) => {
            !(a.is_unspecified()
                || a.is_multicast()
                || a.is_loopback()
                || a.to_ipv4_mapped().is_some())
        }
    }
}

/// What is wrong with a [`StackConfig`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The Ethernet address is a group's, or zero.
    MacNotUnicast,
    /// No address at all.
    NoAddress,
    /// An interface address that no host can have.
    AddressNotUnicast(IpAddr),
    /// A gateway that is not a neighbour, or of the other IP version than its route.
    GatewayNotOnLink(IpAddr),
    /// A number outside its bounds: name, least, most.
    OutOfRange(&'static str, usize, usize),
    /// Segmentation offload needs the offload of TCP checksums.
    TsoWithoutChecksums,
    /// The bounds of the retransmission timeout contradict each other.
    RtoBounds,
    /// The steering table is empty or does not name this shard's queue.
    Steering,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::MacNotUnicast => f.write_str("the port's Ethernet address is not unicast"),
            ConfigError::NoAddress => f.write_str("an interface needs at least one address"),
            ConfigError::AddressNotUnicast(a) => write!(f, "{a} cannot be an interface's address"),
            ConfigError::GatewayNotOnLink(a) => write!(
                f,
                "gateway {a} is not in any of the interface's networks, or not of its route's IP version"
            ),
            ConfigError::OutOfRange(name, min, max) => {
                write!(f, "{name} must be between {min} and {max}")
            }
            ConfigError::TsoWithoutChecksums => {
                f.write_str("segmentation offload needs tx_l4_checksum")
            }
            ConfigError::RtoBounds => {
                f.write_str("rto_min must be at least 1 ms and no more than rto_max")
            }
            ConfigError::Steering => {
                f.write_str("the steering table names no entry for this shard's queue")
            }
        }
    }
}

impl std::error::Error for ConfigError {}
