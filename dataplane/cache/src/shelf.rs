//! Shelves: whole pages in which small pieces of several cached pages stand
//! side by side, so that each does not pin a cluster of its own (row Z12).

use pages::{Cluster, CopyReason, LogicalPage, PAGE_SIZE, PageStructure, PullUp, Segment, Slice};

use crate::entry::Sectors;

/// How many shelves are looked at when one is needed: enough to find those that
/// fell empty faster than new ones fill.
const LOOKED_AT: usize = 4;

/// How the physical page of a shelf is tagged.
const SHELF: u8 = 1;

/// The shelves of a cache.
pub(crate) struct Shelves {
    pages: Vec<Cluster>,
    most: usize,
    /// The one being filled.
    current: usize,
    /// The last one looked at.
    hand: usize,
}

impl Shelves {
    /// None yet, and never more than `most`.
    pub fn new(most: usize) -> Self {
        Self {
            pages: Vec::with_capacity(most),
            most,
            current: 0,
            hand: 0,
        }
    }

    /// Whether the physical page is a shelf.
    pub fn has(page: &PageStructure) -> bool {
        page.tag() == SHELF
    }

    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether the current shelf has room for `len` bytes.
    pub fn has_room(&self, len: usize) -> bool {
        let current = self.pages.get(self.current);
        current.is_some_and(|page| page.room() >= len)
    }

    /// Whether another can be put up.
    pub fn may_grow(&self) -> bool {
        self.pages.len() < self.most
    }

    /// Drops the empty ones of the next few shelves. True if there were any.
    pub fn tidy(&mut self) -> bool {
        let before = self.pages.len();
        for _ in 0..LOOKED_AT.min(self.pages.len()) {
            self.hand = (self.hand + 1) % self.pages.len();
            if self.pages[self.hand].handles() > 1 {
                continue;
            }
            let page = self.pages.swap_remove(self.hand);
            page.structure_at(0).set_tag(0);
            if self.pages.is_empty() {
                return true;
            }
            if self.current == self.pages.len() {
                // The last one took the place of the one that went.
                self.current = self.hand;
            } else if self.current == self.hand {
                self.current = self.pages.len() - 1;
            }
            self.hand %= self.pages.len();
        }
        self.pages.len() < before
    }

    /// Puts up a new shelf; false if there is no page for it.
    pub fn grow(&mut self, memory: &PullUp<'_>) -> bool {
        let fresh = self.may_grow().then(|| memory.pages.alloc()).flatten();
        fresh.is_some_and(|fresh| {
            let page = fresh.freeze_filled(0);
            page.structure_at(0).set_tag(SHELF);
            self.current = self.pages.len();
            self.pages.push(page);
            true
        })
    }

    /// Copies the `valid` sectors of `page` to the current shelf, which has room
    /// for their span, and makes the page refer to them there.
    pub fn place(&mut self, page: &mut LogicalPage, valid: Sectors, memory: &PullUp<'_>) {
        let (Some(shelf), Some(span)) = (self.pages.get(self.current), valid.span()) else {
            return;
        };
        let start = shelf.filled();
        let mut end = span.start;
        for run in valid.runs() {
            shelf.append(&[0; PAGE_SIZE][..run.start - end]);
            end = run.end;
            for segment in page.parts(run) {
                shelf.append(segment.bytes().unwrap_or_default());
            }
        }
        memory.ledger.copied(CopyReason::Compaction, valid.bytes());
        let slice = Slice::new(shelf.clone(), start..start + span.len());
        page.replace_with(span.start, Segment::data(slice));
    }
}

impl Drop for Shelves {
    fn drop(&mut self) {
        for page in &self.pages {
            page.structure_at(0).set_tag(0);
        }
    }
}
