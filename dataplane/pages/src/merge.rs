//! Segment merge (row Z7): a new <offset, length> over existing segments.

use crate::cluster::Cluster;
use crate::segment::{MAX_SEGMENTS, Segment};

/// Most pieces a merge can leave: four, one of them cut into three (row Z7, FIG. 7D).
pub(crate) const MAX_PIECES: usize = MAX_SEGMENTS + 2;

/// A part of one of the segments that are merged.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    /// Which segment: a slot of the page, or [`NEW`].
    pub source: u8,
    /// The first byte in it.
    pub from: u16,
    /// Length in bytes; more than the segment has, if the next one's bytes
    /// follow in memory and belong to the piece as well.
    pub len: u16,
}

/// The number of the new segment as a source, behind the slots of the page.
const NEW: u8 = MAX_SEGMENTS as u8;

/// The segments that are merged.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub slots: &'a [Segment],
    pub new: &'a Segment,
}

impl<'a> Sources<'a> {
    pub fn of(&self, piece: &Piece) -> &'a Segment {
        self.slots.get(piece.source as usize).unwrap_or(self.new)
    }
}

/// What a page consists of after a merge: pieces side by side, and no two that
/// could be one.
pub(crate) struct Layout {
    pieces: [Piece; MAX_PIECES],
    count: usize,
}

impl Layout {
    /// `new` laid at `offset` over slots that begin at `start`.
    ///
    /// Of each existing segment, what lies before and behind the new one stays:
    /// nothing (covered), its head, its tail, or both (row Z7, FIGS. 7A–7D).
    pub fn overlay(sources: Sources<'_>, start: usize, offset: usize) -> Self {
        let end = offset + sources.new.len();
        let mut layout = Self {
            pieces: [Piece {
                source: NEW,
                from: 0,
                len: 0,
            }; MAX_PIECES],
            count: 0,
        };
        let mut at = start;
        let mut placed = false;
        for (source, old) in (0..).zip(sources.slots) {
            let old_end = at + old.len();
            if at < offset {
                layout.push(sources, source, 0, offset.min(old_end) - at);
            }
            if !placed && offset < old_end {
                layout.push(sources, NEW, 0, sources.new.len());
                placed = true;
            }
            if old_end > end {
                let from = end.max(at) - at;
                layout.push(sources, source, from, old.len() - from);
            }
            at = old_end;
        }
        layout
    }

    /// The pieces.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces[..self.count]
    }

    /// Adds a piece, as part of the last one if it continues it.
    fn push(&mut self, sources: Sources<'_>, source: u8, from: usize, len: usize) {
        let piece = Piece {
            source,
            from: from as u16,
            len: len as u16,
        };
        if let Some(last) = self.count.checked_sub(1).map(|i| &mut self.pieces[i]) {
            let ends = (last.from + last.len) as usize;
            if sources
                .of(last)
                .continues_at(ends, sources.of(&piece), from)
            {
                last.len += piece.len;
                return;
            }
        }
        self.pieces[self.count] = piece;
        self.count += 1;
    }
}

/// A piece with the segment it is of.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    segment: &'a Segment,
    from: usize,
    pub len: usize,
}

impl<'a> Part<'a> {
    pub fn new(sources: Sources<'a>, piece: &Piece) -> Self {
        Self {
            segment: sources.of(piece),
            from: piece.from as usize,
            len: piece.len as usize,
        }
    }

    pub fn cluster(&self) -> Option<&'a Cluster> {
        self.segment.cluster()
    }

    /// The bytes; `None` if they are NULL.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        self.segment.bytes_from(self.from, self.len)
    }

    /// By how many bytes it can grow where it is.
    pub fn growth(&self) -> usize {
        self.segment.growth(self.from + self.len)
    }

    /// As a segment, `more` bytes longer than it is: they were appended.
    pub fn to_segment(self, more: usize) -> Segment {
        let mut segment = self.segment.clone();
        segment.crop(self.from, self.len + more);
        segment
    }
}

/// Up to four segments side by side, to be the slots of a page.
#[derive(Default)]
pub(crate) struct Slots {
    pub list: [Segment; MAX_SEGMENTS],
    pub count: usize,
}

impl Slots {
    /// Adds a segment behind the others, as part of the last one if it continues it.
    ///
    /// # Panics
    /// If there are four.
    pub fn push(&mut self, segment: Segment) {
        let rest = match self.count.checked_sub(1) {
            Some(last) => self.list[last].join(segment),
            None => Err(segment),
        };
        if let Err(segment) = rest {
            self.list[self.count] = segment;
            self.count += 1;
        }
    }
}
