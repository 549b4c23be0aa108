//! Which ports lead where.

use std::net::SocketAddr;

use super::Link;
use crate::machine::Port;

/// The links that lead to an address: those in whose network it is, or if there are none those that have a router for it.
pub(crate) fn leading_to<P: Port>(
    links: &[Link<P>],
    remote: SocketAddr,
) -> impl Iterator<Item = usize> {
    let reach = move |link: &Link<P>| link.stack.reach(remote.ip());
    let best = links.iter().filter_map(reach).min();
    let links = links.iter().enumerate();
    links.filter_map(move |(at, link)| (best.is_some() && reach(link) == best).then_some(at))
}
