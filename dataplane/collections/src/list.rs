//! Lists through the elements of a fixed table: nothing is allocated, and an
//! element leaves its list in constant time.

/// No element.
pub const NONE: u32 = u32::MAX;

/// An element's neighbours in one list. Both are [`NONE`] if it is alone or in no list.
#[derive(Clone, Copy, Debug)]
pub struct Links {
    prev: u32,
    next: u32,
}

impl Links {
    /// Of an element in no list.
    pub const UNLINKED: Links = Links {
        prev: NONE,
        next: NONE,
    };
}

/// An element that can be in one list of each of a few kinds.
pub trait Node {
    /// The element's links in lists of `kind`.
    fn links(&mut self, kind: usize) -> &mut Links;
    /// As [`Node::links`], to be read.
    fn linked(&self, kind: usize) -> Links;
}

/// A list of elements of a table, by number.
#[derive(Debug)]
pub struct List {
    kind: usize,
    head: u32,
    tail: u32,
    len: usize,
}

impl List {
    /// An empty list of one kind: an element is in at most one list of a kind.
    pub const fn new(kind: usize) -> Self {
        Self {
            kind,
            head: NONE,
            tail: NONE,
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
    pub fn first(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// The last element.
    pub fn last(&self) -> Option<u32> {
        (self.tail != NONE).then_some(self.tail)
    }

    /// The element before `id`.
    pub fn before<N: Node>(&self, table: &[N], id: u32) -> Option<u32> {
        let prev = table[id as usize].linked(self.kind).prev;
        (prev != NONE).then_some(prev)
    }

    /// The element behind `id`.
    pub fn behind<N: Node>(&self, table: &[N], id: u32) -> Option<u32> {
        let next = table[id as usize].linked(self.kind).next;
        (next != NONE).then_some(next)
    }

    /// Puts `id`, which is in no list of the kind, in front of the others.
    pub fn push_front<N: Node>(&mut self, table: &mut [N], id: u32) {
        let next = self.head;
        *table[id as usize].links(self.kind) = Links { prev: NONE, next };
        match next {
            NONE => self.tail = id,
            _ => table[next as usize].links(self.kind).prev = id,
        }
        self.head = id;
        self.len += 1;
    }

    /// Puts `id`, which is in no list of the kind, behind the others.
    pub fn push_back<N: Node>(&mut self, table: &mut [N], id: u32) {
        match self.tail {
            NONE => self.push_front(table, id),
            tail => self.insert_behind(table, tail, id),
        }
    }

    /// Puts `id`, which is in no list of the kind, behind `place`, which is in this one.
    pub fn insert_behind<N: Node>(&mut self, table: &mut [N], place: u32, id: u32) {
        let next = std::mem::replace(&mut table[place as usize].links(self.kind).next, id);
        *table[id as usize].links(self.kind) = Links { prev: place, next };
        match next {
            NONE => self.tail = id,
            _ => table[next as usize].links(self.kind).prev = id,
        }
        self.len += 1;
    }

    /// Takes `id`, which is in the list, out of it.
    pub fn remove<N: Node>(&mut self, table: &mut [N], id: u32) {
        let links = table[id as usize].links(self.kind);
        let Links { prev, next } = std::mem::replace(links, Links::UNLINKED);
        match prev {
            NONE => self.head = next,
            _ => table[prev as usize].links(self.kind).next = next,
        }
        match next {
            NONE => self.tail = prev,
            _ => table[next as usize].links(self.kind).prev = prev,
        }
        self.len -= 1;
    }

    /// Takes the first element out of the list.
    pub fn pop_front<N: Node>(&mut self, table: &mut [N]) -> Option<u32> {
        let id = self.first()?;
        self.remove(table, id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Element([Links; 2]);

    impl Node for Element {
        fn links(&mut self, kind: usize) -> &mut Links {
            &mut self.0[kind]
        }
        fn linked(&self, kind: usize) -> Links {
            self.0[kind]
        }
    }

    fn ids(list: &List, table: &[Element]) -> Vec<u32> {
        let mut ids: Vec<u32> = list.first().into_iter().collect();
        while let Some(next) = ids.last().and_then(|&last| list.behind(table, last)) {
            ids.push(next);
        }
        let mut back: Vec<u32> = list.last().into_iter().collect();
        while let Some(next) = back.last().and_then(|&last| list.before(table, last)) {
            back.push(next);
        }
        back.reverse();
        assert_eq!((&ids, ids.len()), (&back, list.len()));
        ids
    }

    #[test]
    fn elements_keep_their_order_in_two_lists_at_once() {
        let mut table: Vec<_> = (0..6).map(|_| Element([Links::UNLINKED; 2])).collect();
        let (mut one, mut other) = (List::new(0), List::new(1));
        assert_eq!((one.pop_front(&mut table), one.is_empty()), (None, true));
        for id in [3, 1, 4] {
            one.push_back(&mut table, id);
            other.push_front(&mut table, id);
        }
        one.push_front(&mut table, 0);
        one.insert_behind(&mut table, 3, 5);
        one.insert_behind(&mut table, 4, 2);
        assert_eq!(ids(&one, &table), [0, 3, 5, 1, 4, 2]);
        assert_eq!(ids(&other, &table), [4, 1, 3]);
        for id in [0, 2, 1] {
            one.remove(&mut table, id);
        }
        assert_eq!(ids(&one, &table), [3, 5, 4]);
        assert_eq!(ids(&other, &table), [4, 1, 3], "the other is as it was");
        assert_eq!(one.pop_front(&mut table), Some(3));
        assert_eq!(one.pop_front(&mut table), Some(5));
        assert_eq!(one.pop_front(&mut table), Some(4));
        assert!(one.is_empty() && one.first().is_none() && one.last().is_none());
    }
}
