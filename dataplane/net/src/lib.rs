//! Ethernet, ARP and neighbour discovery, IPv4 and IPv6, ICMP, and a TCP that
//! keeps the clusters.
//!
//! Frames and time go in, frames and events come out: the stack does no I/O,
//! reads no clock, takes no lock, and allocates nothing after
//! [`Stack::new`]. One [`Stack`] serves one port of one shard.
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
pub use pcap::{Direction, PcapTap, Sink, Tap};
pub use stack::{Notice, Stack};
pub use std::time::Duration;
pub use time::Instant;
