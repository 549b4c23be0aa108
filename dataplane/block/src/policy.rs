//! When a write completes.

/// When a write to a volume completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum WritePolicy {
    /// When the device has it.
    #[default]
    Through,
    /// When the page cache has it; Flush and FUA are honoured (row Z12).
    Back,
    /// When the log has it in stable storage; the device gets it at a consistency point (row S1).
    Logged,
}
