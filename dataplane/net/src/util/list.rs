//! Doubly linked lists through the elements of a table; the links lie in a table of
//! their own, sized at start.

use collections::{IndexTable, TableIndex};
use pages::prefetch;

/// What follows `index` in a chain through all elements of a table of `count`, in their order.
pub(crate) fn following<I: TableIndex>(index: I, count: usize) -> I {
    let next = index.place() + 1;
    if next < count { I::new(next) } else { I::NONE }
}

#[derive(Clone, Copy)]
struct Link<I> {
    prev: I,
    next: I,
}

impl<I: TableIndex> Link<I> {
    /// Of an element in no list, which is its own neighbour.
    fn unlinked(index: I) -> Self {
        Self {
            prev: index,
            next: index,
        }
    }
}

/// The links of every element; an element is in at most one list of a `Links`.
pub(crate) struct Links<I>(IndexTable<I, Link<I>>);

/// The ends of one list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List<I> {
    head: I,
    tail: I,
}

impl<I: TableIndex> Default for List<I> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<I: TableIndex> List<I> {
    pub(crate) const EMPTY: Self = List {
        head: I::NONE,
        tail: I::NONE,
    };

    pub(crate) fn is_empty(&self) -> bool {
        self.head == I::NONE
    }

    pub(crate) fn front(&self) -> Option<I> {
        self.head.some()
    }
}

impl<I: TableIndex> Links<I> {
    pub(crate) fn new(count: usize) -> Self {
        Self(IndexTable::new(count, Link::unlinked))
    }

    #[inline]
    pub(crate) fn is_linked(&self, index: I) -> bool {
        self.0[index].next != index
    }

    /// Asks for the memory that the links of `index` are in.
    #[inline]
    pub(crate) fn prefetch(&self, index: I) {
        prefetch(&self.0[index]);
    }

    pub(crate) fn push_back(&mut self, list: &mut List<I>, index: I) {
        debug_assert!(!self.is_linked(index));
        self.0[index] = Link {
            prev: list.tail,
            next: I::NONE,
        };
        match list.tail.some() {
            None => list.head = index,
            Some(tail) => self.0[tail].next = index,
        }
        list.tail = index;
    }

    pub(crate) fn push_front(&mut self, list: &mut List<I>, index: I) {
        debug_assert!(!self.is_linked(index));
        self.0[index] = Link {
            prev: I::NONE,
            next: list.head,
        };
        match list.head.some() {
            None => list.tail = index,
            Some(head) => self.0[head].prev = index,
        }
        list.head = index;
    }

    /// Takes `index` out of `list`, which it must be in.
    pub(crate) fn remove(&mut self, list: &mut List<I>, index: I) {
        debug_assert!(self.is_linked(index));
        let Link { prev, next } = self.0[index];
        match prev.some() {
            None => list.head = next,
            Some(prev) => self.0[prev].next = next,
        }
        match next.some() {
            None => list.tail = prev,
            Some(next) => self.0[next].prev = prev,
        }
        self.0[index] = Link::unlinked(index);
    }

    pub(crate) fn pop_front(&mut self, list: &mut List<I>) -> Option<I> {
        let index = list.front()?;
        self.remove(list, index);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ConnectionIndex as Index;

    #[test]
    fn keeps_order_and_forgets_what_is_removed() {
        let mut links = Links::new(5);
        let mut list = List::EMPTY;
        for i in [3, 1, 4].map(Index::new) {
            links.push_back(&mut list, i);
        }
        let [zero, one, four] = [0, 1, 4].map(Index::new);
        links.push_front(&mut list, zero);
        links.remove(&mut list, one);
        assert!(!links.is_linked(one) && links.is_linked(four));
        let mut drained = Vec::new();
        while let Some(i) = links.pop_front(&mut list) {
            drained.push(i.place());
        }
        assert_eq!(drained, [0, 3, 4]);
        assert!(list.is_empty());
    }
}
