//! Segment merge (row Z7): a new <offset, length> over existing segments.

use crate::logical::{LogicalPage, MAX_SEGMENTS};
use crate::segment::Segment;

/// Most segments a merge can leave: four, one of them cut into three (FIG. 7D).
pub(crate) const MAX_PARTS: usize = MAX_SEGMENTS + 2;

/// The segments of a page after a merge, before pull-up: side by side, and no
/// two that could be one.
pub(crate) struct Parts {
    list: [Segment; MAX_PARTS],
    count: usize,
}

impl Parts {
    /// No segment.
    pub fn new() -> Self {
        Self {
            list: [Segment::VACANT; MAX_PARTS],
            count: 0,
        }
    }

    /// The segments of `page` with `segment` laid over them at `offset`.
    ///
    /// Of each existing segment, what lies before and behind the new one stays:
    /// nothing (covered), its head, its tail, or both (FIGS. 7A–7D).
    pub fn overlay(page: &LogicalPage, offset: usize, segment: &Segment) -> Self {
        let end = offset + segment.len();
        let mut parts = Self::new();
        let mut placed = false;
        for (at, old) in page.placed() {
            let old_end = at + old.len();
            if at < offset {
                parts.push(old.part(0..offset.min(old_end) - at));
            }
            if !placed && offset < old_end {
                parts.push(segment.clone());
                placed = true;
            }
            if old_end > end {
                parts.push(old.part(end.max(at) - at..old.len()));
            }
        }
        parts
    }

    /// The segments.
    pub fn segments(&self) -> &[Segment] {
        &self.list[..self.count]
    }

    /// Adds a segment behind the others, as part of the last one if it continues it.
    pub fn push(&mut self, segment: Segment) {
        let rest = match self.list[..self.count].last_mut() {
            Some(last) => last.join(segment),
            None => Err(segment),
        };
        if let Err(segment) = rest {
            self.list[self.count] = segment;
            self.count += 1;
        }
    }

    /// The segments as the slots of a page.
    ///
    /// # Panics
    /// If there are more than four.
    pub fn into_slots(self) -> ([Segment; MAX_SEGMENTS], usize) {
        assert!(self.count <= MAX_SEGMENTS, "pull-up comes first");
        let [a, b, c, d, ..] = self.list;
        ([a, b, c, d], self.count)
    }
}
