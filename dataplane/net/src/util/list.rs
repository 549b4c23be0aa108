//! Doubly linked lists over indices; the links lie in one array sized at start.

use pages::prefetch;

/// No index.
pub(crate) const NONE: u32 = u32::MAX;
const UNLINKED: u32 = u32::MAX - 1;

#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

/// The links of every index; an index is in at most one list of a `Links`.
pub(crate) struct Links(Box<[Link]>);

/// The ends of one list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
}

impl Default for List {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl List {
    pub(crate) const EMPTY: List = List {
        head: NONE,
        tail: NONE,
    };

    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    pub(crate) fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }
}

impl Links {
    pub(crate) fn new(count: usize) -> Self {
        let unlinked = Link {
            prev: UNLINKED,
            next: UNLINKED,
        };
        Self(vec![unlinked; count].into_boxed_slice())
    }

    #[inline]
    pub(crate) fn is_linked(&self, index: u32) -> bool {
        self.0[index as usize].next != UNLINKED
    }

    /// Asks for the memory that the links of `index` are in.
    #[inline]
    pub(crate) fn prefetch(&self, index: u32) {
        prefetch(&self.0[index as usize]);
    }

    pub(crate) fn push_back(&mut self, list: &mut List, index: u32) {
        debug_assert!(!self.is_linked(index));
        self.0[index as usize] = Link {
            prev: list.tail,
            next: NONE,
        };
        match list.tail {
            NONE => list.head = index,
            tail => self.0[tail as usize].next = index,
        }
        list.tail = index;
    }

    pub(crate) fn push_front(&mut self, list: &mut List, index: u32) {
        debug_assert!(!self.is_linked(index));
        self.0[index as usize] = Link {
            prev: NONE,
            next: list.head,
        };
        match list.head {
            NONE => list.tail = index,
            head => self.0[head as usize].prev = index,
        }
        list.head = index;
    }

    /// Takes `index` out of `list`, which it must be in.
    pub(crate) fn remove(&mut self, list: &mut List, index: u32) {
        let Link { prev, next } = self.0[index as usize];
        debug_assert!(next != UNLINKED);
        match prev {
            NONE => list.head = next,
            prev => self.0[prev as usize].next = next,
        }
        match next {
            NONE => list.tail = prev,
            next => self.0[next as usize].prev = prev,
        }
        self.0[index as usize] = Link {
            prev: UNLINKED,
            next: UNLINKED,
        };
    }

    pub(crate) fn pop_front(&mut self, list: &mut List) -> Option<u32> {
        let index = list.front()?;
        self.remove(list, index);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_forgets_what_is_removed() {
        let mut links = Links::new(5);
        let mut list = List::EMPTY;
        for i in [3, 1, 4] {
            links.push_back(&mut list, i);
        }
        links.push_front(&mut list, 0);
        links.remove(&mut list, 1);
        assert!(!links.is_linked(1) && links.is_linked(4));
        let mut drained = Vec::new();
        while let Some(i) = links.pop_front(&mut list) {
            drained.push(i);
        }
        assert_eq!(drained, [0, 3, 4]);
        assert!(list.is_empty());
    }
}
