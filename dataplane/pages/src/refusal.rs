//! Why pages are not written, and not read.

use std::fmt;

use crate::segment::Segment;

/// Why a page was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The bytes are not inside the page, or not inside the part the view covers.
    Outside,
    /// A NULL segment has no bytes to write (row Z5).
    Null,
    /// NULL segments keep more than four apart, so that no copying could bring
    /// them back to four. Fill the gaps first, or write in another order.
    TooFragmented,
    /// A pull-up needs a fresh page, and the pool has none.
    OutOfPages,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Outside => "outside the page",
            Refusal::Null => "a NULL segment has no bytes",
            Refusal::TooFragmented => "too many gaps in one page",
            Refusal::OutOfPages => "no free page for a pull-up",
        })
    }
}

/// A refused write; the page is as it was, and the segment comes back.
#[derive(Debug)]
pub struct WriteError {
    /// The rule it broke.
    pub reason: Refusal,
    /// What was to be written.
    pub segment: Segment,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl std::error::Error for WriteError {}

/// A read touched a NULL segment (row Z5), or bytes outside the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NullRead {
    /// Offset in the page of the first byte that cannot be read.
    pub at: usize,
}

impl fmt::Display for NullRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of the page was never written", self.at)
    }
}

impl std::error::Error for NullRead {}
