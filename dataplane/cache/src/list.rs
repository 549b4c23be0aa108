//! Lists through the elements of a fixed table: nothing is allocated, and an
//! element leaves its list in constant time.

/// No element.
pub(crate) const NONE: u32 = u32::MAX;

/// An element's neighbours in one list. Both are [`NONE`] if it is alone or in no list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    prev: u32,
    next: u32,
}

impl Links {
    pub const UNLINKED: Links = Links {
        prev: NONE,
        next: NONE,
    };
}

/// An element that can be in one list of each of a few kinds.
pub(crate) trait Node {
    /// The element's links in lists of `kind`.
    fn links(&mut self, kind: usize) -> &mut Links;
    /// As [`Node::links`], to be read.
    fn linked(&self, kind: usize) -> Links;
}

/// A list of elements of a table, by number.
#[derive(Debug)]
pub(crate) struct List {
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

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn first(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

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

    pub fn push_back<N: Node>(&mut self, table: &mut [N], id: u32) {
        match self.tail {
            NONE => self.push_front(table, id),
            tail => self.insert_behind(table, tail, id),
        }
    }

    /// Puts `id` behind `place`, which is in the list.
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

    pub fn pop_front<N: Node>(&mut self, table: &mut [N]) -> Option<u32> {
        let id = self.first()?;
        self.remove(table, id);
        Some(id)
    }
}
