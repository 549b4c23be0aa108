//! The divider: from a chain of elements to descriptors, as few as possible.

use std::fmt;

use crate::chain::{Chain, Element, PageCursor};
use crate::limits::Limits;

/// How far a request has been formatted (row C3): the current element, the
/// offset in it, and what remains. A copy of it is a place to come back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestState<C> {
    element: C,
    offset: u64,
    remote: u64,
    len: u64,
    formatted: u64,
}

impl<C: Default> RequestState<C> {
    /// Nothing formatted yet of `len` bytes against remote address `remote`.
    ///
    /// # Panics
    /// If the range ends beyond the 64-bit address space.
    pub fn new(remote: u64, len: u64) -> Self {
        assert!(remote.checked_add(len).is_some(), "beyond 64-bit addresses");
        Self {
            element: C::default(),
            offset: 0,
            remote,
            len,
            formatted: 0,
        }
    }
}

impl RequestState<PageCursor> {
    /// Nothing formatted yet of `len` bytes against remote address `remote`, which are those of a run from its
    /// page number `page` on.
    ///
    /// # Panics
    /// If the range ends beyond the 64-bit address space.
    pub fn from_page(page: u32, remote: u64, len: u64) -> Self {
        Self {
            element: PageCursor::of_page(page),
            ..Self::new(remote, len)
        }
    }
}

impl<C> RequestState<C> {
    /// Length of the whole request in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the request has no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that descriptors were made for.
    pub fn formatted(&self) -> u64 {
        self.formatted
    }

    /// Bytes still to be formatted.
    pub fn remaining(&self) -> u64 {
        self.len - self.formatted
    }

    /// Remote address where the whole request starts.
    pub fn remote(&self) -> u64 {
        self.remote
    }

    /// Passes over the next `n` bytes of the remote range without a descriptor:
    /// the chain has no elements for them, because they are zeros, or given up.
    ///
    /// # Panics
    /// If fewer remain.
    pub fn skip(&mut self, n: u64) {
        assert!(n <= self.remaining(), "skipped past the end of a request");
        self.formatted += n;
    }

    /// Whether descriptors were made for all bytes.
    pub fn is_formatted(&self) -> bool {
        self.remaining() == 0
    }
}

/// One transfer: a remote range and how many elements were written for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Remote address, or byte address on the device.
    pub remote: u64,
    /// Length in bytes: the sum of its elements'.
    pub len: u64,
    /// How many elements, from the front of the caller's array.
    pub elements: usize,
}

/// Why no descriptor can be made. `at` counts bytes from the start of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The request does not start and end at block borders.
    PartialBlock,
    /// The chain has fewer bytes than the request.
    ChainTooShort,
    /// A NULL element: its bytes do not exist.
    Null {
        /// Where.
        at: u64,
    },
    /// An element's address or length is not a multiple of the alignment.
    Misaligned {
        /// Where the descriptor would have started.
        at: u64,
    },
    /// The block at `at` has more elements than a descriptor may.
    TooManySegments {
        /// Where the block starts.
        at: u64,
    },
    /// In the block at `at`, elements meet elsewhere than at a memory page border.
    InnerEdge {
        /// Where the block starts.
        at: u64,
    },
    /// The block at `at` crosses a border that no descriptor may cross, or is
    /// longer than a transfer.
    BlockTooLong {
        /// Where the block starts.
        at: u64,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::PartialBlock => write!(f, "not whole blocks"),
            Refused::ChainTooShort => write!(f, "fewer bytes than the request"),
            Refused::Null { at } => write!(f, "byte {at} does not exist"),
            Refused::Misaligned { at } => write!(f, "misaligned element at byte {at}"),
            Refused::TooManySegments { at } => write!(f, "too many segments at byte {at}"),
            Refused::InnerEdge { at } => write!(f, "edge inside a memory page at byte {at}"),
            Refused::BlockTooLong { at } => write!(f, "block at byte {at} fits no transfer"),
        }
    }
}

impl std::error::Error for Refused {}

/// Formats requests for one target.
#[derive(Clone, Copy, Debug)]
pub struct Divider {
    limits: Limits,
    /// The block less one, if nothing else is asked of elements than that they add up.
    plain: Option<u64>,
}

/// A place where a descriptor may end.
struct Cut<C> {
    state: RequestState<C>,
    elements: usize,
    last: Element,
}

impl Divider {
    /// For a target with `limits`; `None` if no descriptor could keep them
    /// ([`Limits::is_usable`]).
    pub fn new(limits: Limits) -> Option<Self> {
        let undemanding = limits.max_element == u64::MAX
            && limits.alignment == 1
            && limits.inner_edge == 1
            && limits.boundary == 0;
        let plain = (undemanding && limits.block.is_power_of_two()).then(|| limits.block - 1);
        limits.is_usable().then_some(Self { limits, plain })
    }

    /// The target's limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Formats the next descriptor of the request whose local side is `chain`
    /// and advances `state` behind it; `None` once all is formatted.
    ///
    /// The descriptor is the longest that the limits and the length of `out`
    /// allow; taking the longest each time makes their number the least
    /// possible, because every part of a descriptor that keeps the limits
    /// keeps them too (row C2). Its elements are the first in `out`.
    ///
    /// # Errors
    /// [`Refused`]: the state stays before the bytes that fit no descriptor,
    /// which the caller copies together, or fails.
    #[inline(always)] // Once for most commands, and short then.
    pub fn format<C: Chain + ?Sized>(
        &self,
        state: &mut RequestState<C::Cursor>,
        chain: &C,
        out: &mut [Element],
    ) -> Result<Option<Descriptor>, Refused> {
        let slots = out.len().min(self.limits.max_segments as usize);
        let out = &mut out[..slots];
        if let Some(descriptor) = self.all_at_once(state, chain, out) {
            return Ok(Some(descriptor));
        }
        self.advance(state, chain, slots, |i, element| out[i] = element)
    }

    /// The usual case: an undemanding target takes all that remains as one
    /// descriptor. `None`, and `state` as it was, if it is not so simple.
    #[inline]
    fn all_at_once<C: Chain + ?Sized>(
        &self,
        state: &mut RequestState<C::Cursor>,
        chain: &C,
        out: &mut [Element],
    ) -> Option<Descriptor> {
        let len = state.remaining();
        if len == 0
            || len > self.limits.max_transfer
            || (state.remote | state.len) & self.plain? != 0
        {
            return None;
        }
        let (mut cursor, mut offset) = (state.element, state.offset);
        let (mut elements, mut taken, mut end) = (0, 0, 0);
        loop {
            let Element {
                address,
                len: whole,
            } = chain.element(cursor)?;
            let n = (whole - offset).min(len - taken);
            if n > 0 {
                if address == 0 {
                    return None;
                }
                let address = address + offset;
                if elements > 0 && address == end {
                    out[elements - 1].len += n;
                } else {
                    *out.get_mut(elements)? = Element::new(address, n);
                    elements += 1;
                }
                end = address + n;
                taken += n;
                offset += n;
                if taken == len {
                    break;
                }
            }
            cursor = chain.next(cursor);
            offset = 0;
        }
        let remote = state.remote + state.formatted;
        *state = RequestState {
            element: cursor,
            offset,
            formatted: state.len,
            ..*state
        };
        Some(Descriptor {
            remote,
            len,
            elements,
        })
    }

    /// How many descriptors the rest of the request takes, `slots` elements
    /// each at most (row C4: the counting pass before the first is posted).
    ///
    /// # Errors
    /// As [`Divider::format`] would give on the way.
    pub fn count<C: Chain + ?Sized>(
        &self,
        state: &RequestState<C::Cursor>,
        chain: &C,
        slots: usize,
    ) -> Result<u64, Refused> {
        let slots = slots.min(self.limits.max_segments as usize);
        let mut state = *state;
        let mut count = 0;
        while self.advance(&mut state, chain, slots, |_, _| ())?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    fn advance<C: Chain + ?Sized>(
        &self,
        state: &mut RequestState<C::Cursor>,
        chain: &C,
        slots: usize,
        mut put: impl FnMut(usize, Element),
    ) -> Result<Option<Descriptor>, Refused> {
        let limits = &self.limits;
        if state.is_formatted() {
            return Ok(None);
        }
        if !state.remote.is_multiple_of(limits.block) || !state.len.is_multiple_of(limits.block) {
            return Err(Refused::PartialBlock);
        }
        let start = *state;
        let remote = start.remote + start.formatted;
        let most = self.longest(remote).min(start.remaining());

        let mut at = start;
        let mut last = Element::new(0, 0);
        let mut elements = 0;
        let mut cut: Option<Cut<C::Cursor>> = None;
        let stopped = loop {
            let taken = at.formatted - start.formatted;
            if taken == most {
                break Refused::BlockTooLong {
                    at: start.formatted,
                };
            }
            let Some(element) = chain.element(at.element) else {
                break Refused::ChainTooShort;
            };
            if element.len == at.offset {
                at.element = chain.next(at.element);
                at.offset = 0;
                continue;
            }
            if element.address == 0 {
                break Refused::Null { at: at.formatted };
            }
            let address = element.address + at.offset;
            let mut n = (element.len - at.offset).min(most - taken);
            let grows = elements > 0 && last.end() == address;
            let growth = self.room(&last, elements == slots);
            if grows && growth > 0 {
                n = n.min(growth);
                last.len += n;
            } else {
                if let Err(refused) = self.may_follow(&last, address, elements, start.formatted) {
                    break refused;
                }
                if elements == slots {
                    break Refused::TooManySegments {
                        at: start.formatted,
                    };
                }
                if elements > 0 {
                    put(elements - 1, last);
                }
                let room = self.room(&Element::new(address, 0), elements + 1 == slots);
                if room == 0 {
                    break Refused::InnerEdge {
                        at: start.formatted,
                    };
                }
                n = n.min(room);
                last = Element::new(address, n);
                elements += 1;
            }
            at.offset += n;
            at.formatted += n;
            if let Some(back) = self.cut_within(&at, &last, n) {
                let mut state = at;
                state.offset -= back;
                state.formatted -= back;
                cut = Some(Cut {
                    state,
                    elements,
                    last: Element::new(last.address, last.len - back),
                });
            }
        };
        let cut = cut.ok_or(stopped)?;
        put(cut.elements - 1, cut.last);
        *state = cut.state;
        Ok(Some(Descriptor {
            remote,
            len: state.formatted - start.formatted,
            elements: cut.elements,
        }))
    }

    /// Most bytes a descriptor starting at `remote` may have.
    fn longest(&self, remote: u64) -> u64 {
        let limits = &self.limits;
        match limits.boundary {
            0 => limits.max_transfer,
            border => limits.max_transfer.min(border - remote % border),
        }
    }

    /// How many bytes `element` may still grow. Unless it is the last one
    /// possible, it then ends where another may follow.
    fn room(&self, element: &Element, is_last: bool) -> u64 {
        let limits = &self.limits;
        if limits.max_element == u64::MAX {
            return u64::MAX;
        }
        let edge = match is_last {
            true => limits.alignment,
            false => limits.inner_edge.max(limits.alignment),
        };
        let end = element.address.saturating_add(limits.max_element);
        (end - end % edge).saturating_sub(element.end())
    }

    /// Whether an element at `address` may come behind `last`.
    fn may_follow(
        &self,
        last: &Element,
        address: u64,
        elements: usize,
        at: u64,
    ) -> Result<(), Refused> {
        let limits = &self.limits;
        if !address.is_multiple_of(limits.alignment) {
            return Err(Refused::Misaligned { at });
        }
        if elements == 0 {
            return Ok(());
        }
        if !last.len.is_multiple_of(limits.alignment) {
            return Err(Refused::Misaligned { at });
        }
        let edges = [last.end(), address];
        match edges.iter().all(|e| e.is_multiple_of(limits.inner_edge)) {
            true => Ok(()),
            false => Err(Refused::InnerEdge { at }),
        }
    }

    /// How many of the `n` bytes just taken a descriptor has to give back so
    /// that it may end: none at best. `None` if it may end nowhere in them.
    fn cut_within<C>(&self, at: &RequestState<C>, last: &Element, n: u64) -> Option<u64> {
        let limits = &self.limits;
        let mut back = (at.remote + at.formatted) % limits.block;
        while back < n {
            if (last.len - back).is_multiple_of(limits.alignment) {
                return Some(back);
            }
            back += limits.block;
        }
        None
    }
}

/// How much of a request's transfers has completed (row C4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    transfers: u64,
    transfers_done: u64,
    bytes: u64,
    bytes_done: u64,
}

impl Progress {
    /// Of `transfers` transfers with `bytes` bytes in all, none is done.
    pub fn new(transfers: u64, bytes: u64) -> Self {
        Self {
            transfers,
            transfers_done: 0,
            bytes,
            bytes_done: 0,
        }
    }

    /// One transfer completed; true if it was the last.
    ///
    /// # Panics
    /// If there were no more to complete.
    pub fn complete(&mut self, descriptor: &Descriptor) -> bool {
        assert!(
            self.transfers_done < self.transfers,
            "more completions than transfers"
        );
        self.transfers_done += 1;
        self.bytes_done += descriptor.len;
        self.is_done()
    }

    /// Whether all transfers completed.
    pub fn is_done(&self) -> bool {
        self.transfers_done == self.transfers
    }

    /// Transfers completed, and in all.
    pub fn transfers(&self) -> (u64, u64) {
        (self.transfers_done, self.transfers)
    }

    /// Bytes transferred, and in all.
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes_done, self.bytes)
    }
}
