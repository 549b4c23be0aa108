//! Chains of local elements.

use pages::PageRun;

/// A local buffer of any size: one link of a chain. Laid out like `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Address of the first byte.
    pub address: u64,
    /// Length in bytes.
    pub len: u64,
}

impl Element {
    /// `len` bytes at `address`.
    pub const fn new(address: u64, len: u64) -> Self {
        Self { address, len }
    }

    /// Address behind the last byte.
    pub const fn end(&self) -> u64 {
        self.address + self.len
    }
}

/// The local side of a request: elements in order, found again by cursor, so
/// that formatting can stop and go on later (row C3).
pub trait Chain {
    /// Where an element stands in the chain. The default is the first.
    type Cursor: Copy + Default + PartialEq + std::fmt::Debug;

    /// The element at `cursor`; `None` behind the last.
    fn element(&self, cursor: Self::Cursor) -> Option<Element>;

    /// The place behind `cursor`.
    fn next(&self, cursor: Self::Cursor) -> Self::Cursor;
}

impl<C: Chain + ?Sized> Chain for &C {
    type Cursor = C::Cursor;
    fn element(&self, cursor: Self::Cursor) -> Option<Element> {
        (**self).element(cursor)
    }
    fn next(&self, cursor: Self::Cursor) -> Self::Cursor {
        (**self).next(cursor)
    }
}

impl Chain for [Element] {
    type Cursor = usize;
    fn element(&self, cursor: usize) -> Option<Element> {
        self.get(cursor).copied()
    }
    fn next(&self, cursor: usize) -> usize {
        cursor + 1
    }
}

/// Where a segment stands in a [`PageRun`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageCursor {
    page: u32,
    segment: u32,
}

impl PageCursor {
    /// At the beginning of a page of the run.
    pub(crate) fn of_page(page: u32) -> Self {
        Self { page, segment: 0 }
    }
}

/// The segments of a run, one element each; contiguous ones become one in the
/// descriptor. A NULL segment has address 0, which a [`Divider`] refuses.
///
/// [`Divider`]: crate::Divider
impl Chain for PageRun {
    type Cursor = PageCursor;

    fn element(&self, cursor: PageCursor) -> Option<Element> {
        let page = self.pages().get(cursor.page as usize)?;
        let segment = page.segments().get(cursor.segment as usize)?;
        let address = segment.address().map_or(0, |a| a.as_ptr() as u64);
        Some(Element::new(address, segment.len() as u64))
    }

    fn next(&self, cursor: PageCursor) -> PageCursor {
        let segments = self
            .pages()
            .get(cursor.page as usize)
            .map_or(0, |page| page.segments().len());
        if cursor.segment as usize + 1 < segments {
            return PageCursor {
                segment: cursor.segment + 1,
                ..cursor
            };
        }
        PageCursor {
            page: cursor.page + 1,
            segment: 0,
        }
    }
}
