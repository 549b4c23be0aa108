//! When a write completes.

/// When a write to a volume completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WritePolicy {
    /// When the device has it.
    #[default]
    Through,
    /// When the page cache has it; Flush and FUA are honoured (row Z12).
    Back,
}
