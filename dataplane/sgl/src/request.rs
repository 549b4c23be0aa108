//! Requests, and several that become one (row C5).

use crate::chain::{Chain, Element};
use crate::divide::RequestState;

/// Which way the bytes go (row C6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the remote range into the elements.
    Read,
    /// From the elements to the remote range.
    Write,
}

/// A chain of elements against one remote range.
#[derive(Clone, Copy, Debug)]
pub struct Request<C> {
    direction: Direction,
    remote: u64,
    len: u64,
    chain: C,
}

impl<C: Chain> Request<C> {
    /// All of `chain` against the range that starts at `remote`; `None` if it
    /// ends beyond the 64-bit address space.
    pub fn new(direction: Direction, remote: u64, chain: C) -> Option<Self> {
        let mut cursor = C::Cursor::default();
        let mut len = 0u64;
        while let Some(element) = chain.element(cursor) {
            len = len.checked_add(element.len)?;
            cursor = chain.next(cursor);
        }
        remote.checked_add(len)?;
        Some(Self {
            direction,
            remote,
            len,
            chain,
        })
    }

    /// Which way the bytes go.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Start of the remote range.
    pub fn remote(&self) -> u64 {
        self.remote
    }

    /// Length of the remote range in bytes, and of all elements together.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The local side.
    pub fn chain(&self) -> &C {
        &self.chain
    }

    /// Nothing of the request formatted yet.
    pub fn state(&self) -> RequestState<C::Cursor> {
        RequestState::new(self.remote, self.len)
    }

    /// Whether `next` goes the same way and starts where this request ends.
    pub fn continues_with(&self, next: &Self) -> bool {
        self.direction == next.direction && self.remote + self.len == next.remote
    }
}

/// Requests whose remote ranges are contiguous, as one chain (row C5).
#[derive(Clone, Copy, Debug)]
pub struct Joined<'a, C> {
    requests: &'a [Request<C>],
}

impl<'a, C: Chain> Joined<'a, C> {
    /// The longest run of requests from the front that become one, and the
    /// requests behind it; `None` if there is no request.
    pub fn first_of(requests: &'a [Request<C>]) -> Option<(Self, &'a [Request<C>])> {
        if requests.is_empty() {
            return None;
        }
        let n = 1 + requests
            .windows(2)
            .take_while(|pair| pair[0].continues_with(&pair[1]))
            .count();
        let (requests, rest) = requests.split_at(n);
        Some((Self { requests }, rest))
    }

    /// The requests that became one.
    pub fn requests(&self) -> &'a [Request<C>] {
        self.requests
    }

    /// Nothing of the joined request formatted yet.
    pub fn state(&self) -> RequestState<(usize, C::Cursor)> {
        let len = self.requests.iter().map(Request::len).sum();
        RequestState::new(self.requests[0].remote, len)
    }
}

impl<C: Chain> Chain for Joined<'_, C> {
    type Cursor = (usize, C::Cursor);

    fn element(&self, (request, cursor): Self::Cursor) -> Option<Element> {
        match self.requests.get(request)?.chain.element(cursor) {
            Some(element) => Some(element),
            // A chain without elements: an empty link, to be passed over.
            None => Some(Element::new(0, 0)),
        }
    }

    fn next(&self, (request, cursor): Self::Cursor) -> Self::Cursor {
        let Some(current) = self.requests.get(request) else {
            return (request, cursor);
        };
        let next = current.chain.next(cursor);
        match current.chain.element(next) {
            Some(_) => (request, next),
            None => (request + 1, C::Cursor::default()),
        }
    }
}
