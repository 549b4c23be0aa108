//! Whole pages: a view's bytes copied together, each at its own offset.

use crate::ledger::CopyReason;
use crate::logical::LogicalPage;
use crate::merge::Slots;
use crate::pull_up::PullUp;
use crate::run::{OutOfPages, PageRun};
use crate::segment::{Segment, Slice};

impl LogicalPage {
    /// Whether every run of bytes that are not NULL is one segment, at its own
    /// offset in a physical page: what a device that takes PRPs only needs, and
    /// the least memory a page can pin.
    pub fn is_whole(&self) -> bool {
        let mut behind_data = false;
        self.placed().all(|(at, segment)| {
            let first = !std::mem::replace(&mut behind_data, !segment.is_null());
            segment.is_null() || first && segment.offset_in_page() == at
        })
    }

    /// Copies all bytes that are not NULL, zeros too, into a fresh page, each
    /// to its own offset, and drops the references to the clusters they were in. NULL stays
    /// NULL. Returns how many bytes were copied, which are counted as `reason`:
    /// none if the page [is whole](LogicalPage::is_whole).
    ///
    /// # Errors
    /// [`OutOfPages`] if the pool has none; the page is unchanged.
    pub fn make_whole(
        &mut self,
        reason: CopyReason,
        pull_up: &PullUp<'_>,
    ) -> Result<usize, OutOfPages> {
        if self.is_whole() {
            return Ok(0);
        }
        let mut fresh = pull_up.pages.alloc().ok_or(OutOfPages)?;
        let mut end = 0;
        let mut copied = 0;
        for (at, segment) in self.placed() {
            let Some(bytes) = segment.bytes() else {
                continue;
            };
            // What an earlier user left in a gap is not ours to keep.
            fresh[end..at].fill(0);
            end = at + bytes.len();
            fresh[at..end].copy_from_slice(bytes);
            copied += bytes.len();
        }
        pull_up.ledger.copied(reason, copied);
        let page = fresh.freeze_filled(end);
        let mut slots = Slots::default();
        for (at, segment) in self.placed() {
            slots.push(match segment.is_null() {
                true => segment.clone(),
                false => Segment::data(Slice::new(page.clone(), at..at + segment.len())),
            });
        }
        self.replace(slots);
        Ok(copied)
    }
}

impl PageRun {
    /// Makes every page [whole](LogicalPage::make_whole): for devices that take
    /// PRPs only, and for the ablation that copies. Returns the bytes copied.
    ///
    /// # Errors
    /// [`OutOfPages`] if the pool has too few. Pages made whole until then stay so.
    pub fn make_whole(
        &mut self,
        reason: CopyReason,
        pull_up: &PullUp<'_>,
    ) -> Result<usize, OutOfPages> {
        self.pages_mut()
            .iter_mut()
            .map(|page| page.make_whole(reason, pull_up))
            .sum()
    }
}
