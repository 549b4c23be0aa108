//! The Submission Queue, of which there are only numbers over fabrics (base 3.3).

/// Entries, head, and commands under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct SubmissionQueue {
    /// Entries (SQSIZE + 1): commands that may be outstanding.
    entries: u16,
    /// SQ Head Pointer.
    head: u16,
    /// Whether responses carry the head.
    flow_control: bool,
    /// Commands that were taken and have no response yet.
    outstanding: u16,
}

/// Entries assumed before Connect says how many.
const ENTRIES_BEFORE_CONNECT: u16 = 32;

impl SubmissionQueue {
    /// That of a connection which is no queue yet.
    pub fn new() -> Self {
        Self {
            entries: ENTRIES_BEFORE_CONNECT,
            head: 0,
            flow_control: true,
            outstanding: 0,
        }
    }

    /// Connect was accepted.
    pub fn connect(&mut self, entries: u16, flow_control: bool) {
        self.entries = entries;
        self.flow_control = flow_control;
    }

    /// Commands the host may have outstanding.
    pub fn entries(&self) -> u16 {
        self.entries
    }

    /// Whether the host has as many commands outstanding as there are entries.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.outstanding >= self.entries
    }

    /// A command was taken.
    #[inline]
    pub fn take(&mut self) {
        self.outstanding += 1;
    }

    /// `commands` of those taken are over.
    #[inline]
    pub fn end(&mut self, commands: u16) {
        self.outstanding -= commands;
    }

    /// SQHD of the next response; `None` with flow control disabled (base 6.3).
    #[inline]
    pub fn head(&self) -> Option<u16> {
        self.flow_control.then(|| self.next_head())
    }

    /// A response was sent.
    #[inline]
    pub fn advance(&mut self) {
        self.head = self.next_head();
    }

    /// The head after one more command.
    #[inline]
    fn next_head(&self) -> u16 {
        if self.head + 1 >= self.entries {
            0
        } else {
            self.head + 1
        }
    }
}
