//! The control socket: JSON-RPC 2.0 over a Unix stream socket, spoken as
//! SPDK's users expect (its `rpc.py -s SOCKET METHOD` works). What the methods do
//! is `rpc`'s.
//!
//! It lives on threads of its own that are pinned nowhere. The dataplane never
//! waits for it; a client that is slow or gone holds up nobody but itself.

mod client;
pub(crate) mod clients;
mod framing;
mod jsonrpc;
mod peer;
mod places;
mod server;
mod socket;
#[cfg(test)]
mod tests;

pub(crate) use self::client::Client;
pub(crate) use self::jsonrpc::{ErrorObject, Gone, Service};
pub(crate) use self::server::serve;
pub(crate) use self::socket::Listening;
