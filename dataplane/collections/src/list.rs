//! Lists through the elements of a fixed table: nothing is allocated, and an
//! element leaves its list in constant time.

use crate::index::Elements;
use crate::{IndexTable, TableIndex};

/// An element's neighbours in one list. Both are none if it is alone or in no list.
#[derive(Clone, Copy, Debug)]
pub struct Links<I> {
    prev: I,
    next: I,
}

impl<I: TableIndex> Links<I> {
    /// Of an element in no list.
    pub const UNLINKED: Self = Links {
        prev: I::NONE,
        next: I::NONE,
    };
}

/// An element that can be in one list of each of a few kinds.
pub trait Node {
    /// Of the table that its elements are in.
    type Index: TableIndex;
    /// The element's links in lists of `kind`.
    fn links(&mut self, kind: usize) -> &mut Links<Self::Index>;
    /// As [`Node::links`], to be read.
    fn linked(&self, kind: usize) -> Links<Self::Index>;
}

/// A list of elements of a table.
#[derive(Debug)]
pub struct List<I> {
    kind: usize,
    head: I,
    tail: I,
    len: usize,
}

impl<I: TableIndex> List<I> {
    /// An empty list of one kind: an element is in at most one list of a kind.
    pub const fn new(kind: usize) -> Self {
        Self {
            kind,
            head: I::NONE,
            tail: I::NONE,
            len: 0,
        }
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first element.
    pub fn first(&self) -> Option<I> {
        self.head.some()
    }

    /// The last element.
    pub fn last(&self) -> Option<I> {
        self.tail.some()
    }

    /// The element before `id`.
    pub fn before<N: Node<Index = I>>(&self, table: &IndexTable<I, N>, id: I) -> Option<I> {
        table[id].linked(self.kind).prev.some()
    }

    /// The element behind `id`.
    pub fn behind<N: Node<Index = I>>(&self, table: &IndexTable<I, N>, id: I) -> Option<I> {
        table[id].linked(self.kind).next.some()
    }

    /// Puts `id`, which is in no list of the kind, in front of the others.
    pub fn push_front<N: Node<Index = I>>(&mut self, table: &mut IndexTable<I, N>, id: I) {
        self.put_front(&mut table.elements(), id);
    }

    fn put_front<N: Node<Index = I>>(&mut self, table: &mut Elements<'_, I, N>, id: I) {
        let next = self.head;
        *table[id].links(self.kind) = Links {
            prev: I::NONE,
            next,
        };
        match next.some() {
            None => self.tail = id,
            Some(next) => table[next].links(self.kind).prev = id,
        }
        self.head = id;
        self.len += 1;
    }

    /// Puts `id`, which is in no list of the kind, behind the others.
    pub fn push_back<N: Node<Index = I>>(&mut self, table: &mut IndexTable<I, N>, id: I) {
        let table = &mut table.elements();
        match self.tail.some() {
            None => self.put_front(table, id),
            Some(tail) => self.put_behind(table, tail, id),
        }
    }

    /// Puts `id`, which is in no list of the kind, behind `place`, which is in this one.
    pub fn insert_behind<N: Node<Index = I>>(
        &mut self,
        table: &mut IndexTable<I, N>,
        place: I,
        id: I,
    ) {
        self.put_behind(&mut table.elements(), place, id);
    }

    fn put_behind<N: Node<Index = I>>(&mut self, table: &mut Elements<'_, I, N>, place: I, id: I) {
        let next = std::mem::replace(&mut table[place].links(self.kind).next, id);
        *table[id].links(self.kind) = Links { prev: place, next };
        match next.some() {
            None => self.tail = id,
            Some(next) => table[next].links(self.kind).prev = id,
        }
        self.len += 1;
    }

    /// Takes `id`, which is in the list, out of it.
    pub fn remove<N: Node<Index = I>>(&mut self, table: &mut IndexTable<I, N>, id: I) {
        let table = &mut table.elements();
        let links = table[id].links(self.kind);
        let Links { prev, next } = std::mem::replace(links, Links::UNLINKED);
        match prev.some() {
            None => self.head = next,
            Some(prev) => table[prev].links(self.kind).next = next,
        }
        match next.some() {
            None => self.tail = prev,
            Some(next) => table[next].links(self.kind).prev = prev,
        }
        self.len -= 1;
    }

    /// Takes the first element out of the list.
    pub fn pop_front<N: Node<Index = I>>(&mut self, table: &mut IndexTable<I, N>) -> Option<I> {
        let id = self.first()?;
        self.remove(table, id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::table_index! {
        struct ElementIndex(u32);
    }

    struct Element([Links<ElementIndex>; 2]);

    type Elements = IndexTable<ElementIndex, Element>;

    impl Node for Element {
        type Index = ElementIndex;
        fn links(&mut self, kind: usize) -> &mut Links<ElementIndex> {
            &mut self.0[kind]
        }
        fn linked(&self, kind: usize) -> Links<ElementIndex> {
            self.0[kind]
        }
    }

    fn id(place: usize) -> ElementIndex {
        ElementIndex::new(place)
    }

    fn ids(list: &List<ElementIndex>, table: &Elements) -> Vec<usize> {
        let mut ids: Vec<ElementIndex> = list.first().into_iter().collect();
        while let Some(next) = ids.last().and_then(|&last| list.behind(table, last)) {
            ids.push(next);
        }
        let mut back: Vec<ElementIndex> = list.last().into_iter().collect();
        while let Some(next) = back.last().and_then(|&last| list.before(table, last)) {
            back.push(next);
        }
        back.reverse();
        assert_eq!((&ids, ids.len()), (&back, list.len()));
        ids.into_iter().map(ElementIndex::place).collect()
    }

    #[test]
    fn elements_keep_their_order_in_two_lists_at_once() {
        let mut table: Elements = IndexTable::new(6, |_| Element([Links::UNLINKED; 2]));
        let (mut one, mut other) = (List::new(0), List::new(1));
        assert_eq!((one.pop_front(&mut table), one.is_empty()), (None, true));
        for id in [3, 1, 4].map(id) {
            one.push_back(&mut table, id);
            other.push_front(&mut table, id);
        }
        one.push_front(&mut table, id(0));
        one.insert_behind(&mut table, id(3), id(5));
        one.insert_behind(&mut table, id(4), id(2));
        assert_eq!(ids(&one, &table), [0, 3, 5, 1, 4, 2]);
        assert_eq!(ids(&other, &table), [4, 1, 3]);
        for id in [0, 2, 1].map(id) {
            one.remove(&mut table, id);
        }
        assert_eq!(ids(&one, &table), [3, 5, 4]);
        assert_eq!(ids(&other, &table), [4, 1, 3], "the other is as it was");
        assert_eq!(one.pop_front(&mut table), Some(id(3)));
        assert_eq!(one.pop_front(&mut table), Some(id(5)));
        assert_eq!(one.pop_front(&mut table), Some(id(4)));
        assert!(one.is_empty() && one.first().is_none() && one.last().is_none());
    }
}
