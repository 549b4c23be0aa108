//! Ethernet, ARP and neighbour discovery, IPv4 and IPv6, ICMP, and a TCP that
//! keeps the clusters.
//!
//! Frames and time go in, frames and events come out: the stack does no I/O,
//! reads no clock, takes no lock, and allocates nothing after [`Stack::new`]
//! (a test counts). One [`Stack`] serves one port of one shard. What crosses
//! its border: [`RxFrame`] in, [`TxFrame`] out through [`Transmit`], [`Instant`]
//! with every call, [`Event`] back.
//!
//! # The way of a frame in
//!
//! 1. The port receives into clusters of the shard's pool and hands them over as
//!    [`Slice`](pages::Slice)s: one for a standard frame, several for a jumbo one,
//!    with its verdicts on the checksums ([`Stack::receive`]).
//! 2. *The short way* (`stack/fast`): segments come in trains. If twelve bytes of
//!    addresses and ports are those of the last segment's connection, the headers have
//!    the same shape, and nothing in them needs a second look (header prediction), the
//!    acknowledgment is taken, the payload is appended, and that is all.
//! 3. *The long way* (`stack/receive`): Ethernet and VLAN, IP (`link/ip`: fragments are
//!    refused, extension headers walked), then ARP, ICMP, neighbour discovery
//!    (`stack/link`, `stack/icmp`), or TCP: checksum, header (`tcp/header`), and one
//!    look into the flow table for a connection, a TIME-WAIT, or else a listener.
//! 4. SEGMENT ARRIVES in the order of RFC 9293 (`tcp/input`, `tcp/ack`, `tcp/text`). Bytes in
//!    order join the connection's queue, bytes out of order wait in theirs (`tcp/slices`);
//!    in both the nodes hold the very slices that came in. No byte of payload is read, let
//!    alone copied, unless the port leaves the checksum to us.
//! 5. [`Event::Readable`] tells the application, which takes slices with [`Stack::recv`].
//!    When it drops the last of a cluster's, the port can receive into it again.
//!
//! # The way of a frame out
//!
//! 1. [`Stack::send`] queues a [`Chunk`](pages::Chunk): a slice of a page by reference, or a few
//!    protocol bytes by value. It stays in its place until its last byte is acknowledged
//!    (`tcp/chunks`), so retransmissions read the same pages.
//! 2. [`Stack::transmit`] gives every ready connection its turns (`tcp/output`): what is lost
//!    first, then new data as far as congestion window, peer's window and pacing allow, then
//!    probes, then a bare ACK if nothing else carried it. Idle connections are in no
//!    list and cost nothing.
//! 3. A segment takes as many chunks as it needs; the port gets headers to copy and payload
//!    [`Piece`]s to reference, with what is left for the hardware to do ([`TxOffload`]): checksums,
//!    and with TSO the cutting of up to 64 KiB into segments.
//! 4. Each segment in flight has a record (`tcp/flight`) with the time it was sent at: RACK decides
//!    by these what is lost.
//!
//! # Memory
//!
//! Everything is sized by [`StackConfig`]: slots for connections (under 1 KiB each), and four pools
//! that all connections share (chunks, records of segments in flight, nodes of received
//! slices, TIME-WAITs), so that 10,000 idle connections need no queue at all.
//!
//! Receive windows are accounted in clusters (`tcp/budget`, row Z12). Each connection has a grant of
//! clusters that backs the window it was told; a segment is paid for with the clusters it
//! pins, however few bytes it brings. A peer that sends one-byte segments therefore sees
//! its window stand still and then its segments dropped, while others go on.
//! When memory is short windows narrow;
//! when clusters come back ([`Stack::set_budget`]) they open again.
//!
//! # What is obeyed
//!
//! | standard | what | where |
//! | --- | --- | --- |
//! | RFC 9293 | the whole state machine, active, passive and simultaneous open and close; MSS; windows, silly window avoidance both ways, zero-window probes, delayed ACK, keep-alive, user timeout by R2 | `tcp/state`, `input`, `text`, `output`, `timers`, `window` |
//! | RFC 7323 | window scale, timestamps, PAWS | `tcp/input`, `header` |
//! | RFC 2018, 2883 | SACK and D-SACK, sent and received | `tcp/slices`, `ack` |
//! | RFC 6298 | retransmission timeout (with a lower bound of 200 ms, as configured) | `tcp/rtt` |
//! | RFC 8985 | RACK-TLP loss detection, adaptive reordering window | `tcp/recovery` |
//! | RFC 6937 | proportional rate reduction | `tcp/recovery` |
//! | RFC 5681, 6582 | Reno and NewReno, also what peers without SACK get | `tcp/congestion`, `recovery` |
//! | RFC 9438 | CUBIC, behind a seam | `tcp/congestion` |
//! | RFC 3522, 3708 | spurious recoveries found by timestamps or D-SACK, and undone | `tcp/recovery` |
//! | RFC 6928, 3465 | initial window of ten segments, growth by bytes | `tcp/connection`, `congestion` |
//! | RFC 3168 | ECN, for peers that ask for it; offered if configured | `tcp/input`, `recovery`, `output` |
//! | RFC 5961 | exact resets, challenge ACKs, limited by connection | `tcp/input` |
//! | RFC 4987 | bounded backlog, SYN cookies with all options | `stack/open`, `tcp/handshake` |
//! | RFC 6528, 6056 | initial sequence numbers and ports that cannot be guessed | `tcp/handshake`, `stack/open` |
//! | RFC 1337, 6191 | resets do not end TIME-WAIT, newer SYNs do | `tcp/timewait` |
//! | RFC 2525, 2.17 | unread or late bytes reset | `stack/lifecycle`, `tcp/text` |
//! | RFC 1191, 8201, 5927 | path MTU from routers, validated; aged out | `link/pmtu`, `stack/icmp` |
//! | RFC 8899, 4.3 | black holes suspected and avoided | `tcp/timers` |
//! | RFC 826, 5227 | ARP; probes, announcement, defence | `link/arp`, `link/claim`, `stack/address` |
//! | RFC 4861, 4862 | neighbour discovery and unreachability detection (for ARP too), duplicate address detection | `link/neighbor`, `link/icmp6`, `link/claim`, `stack/address` |
//! | RFC 3810 | listener reports for solicited-node groups | `link/icmp6` |
//! | RFC 792, 4443 | echo by reference, unreachables, limited rates | `link/icmp`, `stack/icmp` |
//! | RFC 791, 8200, 6946, 5095 | IPv4, IPv6, extension headers | `link/ip` |
//! | RFC 1071, 1624 | checksums | `link/checksum` |
//!
//! # What is deliberately not done
//!
//! | what | why |
//! | --- | --- |
//! | IP reassembly | storage peers never fragment (MSS, path MTU); reassembly ties up clusters for whoever sends first fragments (RFC 8900) |
//! | urgent data (RFC 6093) | no storage protocol uses it; the bytes stay in the stream, the pointer is ignored |
//! | TCP Fast Open, MPTCP, TCP-AO, MD5 | connections live for hours; a round trip at their start does not matter |
//! | data in a SYN | legal and unheard of; it is not acknowledged, so the peer sends it again |
//! | Nagle's algorithm | its wait has no bound but the peer's; what fills no segment waits 100 µs at most, for peers that are behind (`tcp/gather`) |
//! | probing for larger MTUs (RFC 4821) | a narrower path is forgotten after ten minutes by new connections; old ones keep what works |
//! | seconds of probes before an IPv4 address is used (RFC 5227, 1.1) | three in 300 ms find whoever has it on a storage network, and hosts wait |
//! | router advertisements, redirects, SLAAC, DHCP | addresses and routes are configured; an appliance does not take them from strangers |
//! | UDP, IGMP, routing between interfaces | nothing here speaks them |
//! | shrinking a window that was told | RFC 9293 advises against it; its backing in clusters is what is taken back |
//! | F-RTO (RFC 5682) | Eifel and D-SACK undo the same, and storage peers have timestamps |
#![forbid(unsafe_code)]

mod address;
mod config;
mod counters;
mod event;
mod frame;
mod link;
mod pcap;
pub mod rss;
mod stack;
mod tcp;
mod time;
mod util;

pub use address::{AddressError, Cidr, MacAddress};
pub use config::{ConfigError, CongestionAlgorithm, Offload, Route, StackConfig, TcpConfig};
pub use counters::Counters;
pub use event::{
    CloseReason, ConnectError, ConnectionId, Event, ListenError, ListenerId, SendError, SendRoom,
};
pub use frame::{Payload, Piece, Pieces, PortFull, RxFrame, Transmit, TxFrame, TxOffload, Verdict};
pub use link::claim::AddressState;
pub use pcap::{Direction, PcapTap, Sink, Tap, pcap_bytes, pcap_header, pcap_record};
pub use stack::{ConnectionInfo, Notice, Reach, Stack};
pub use std::time::Duration;
pub use time::Instant;
