//! What anyone asks of a volume, and what a device is: the one vocabulary of
//! storage, for doors above it (NVMe/TCP now) and devices below.
//!
//! * An [`Io`] is an operation on a range of bytes, with the memory that it
//!   moves. A [`Request`] is one that a door asks of a volume, a
//!   [`Completion`] its end. What went wrong is a [`Fault`]; each protocol
//!   makes its own status from it.
//! * A [`Device`] takes [`Command`]s over scatter-gather lists, whose memory an
//!   [`OpTable`] keeps in place until the device is done. [`Geometry`] says
//!   what it takes.
//! * A [`Span`] says where a volume lies that is on several devices.
//! * [`LastSmart`] is what the drive behind a device last said of its health.
//! * [`Buffers`] are the pools that requests draw on.
//!
//! Units: offsets and lengths of an [`Io`] are bytes of the volume; those of a
//! [`Command`] are the device's blocks.

mod buffers;
mod counters;
mod device;
mod fault;
mod fence;
mod io;
mod op_table;
mod policy;
mod share;
mod smart;
mod span;

pub use buffers::Buffers;
pub use counters::{IoCounters, IoKind, NamespaceCounters};
pub use device::{Command, Device, DeviceState, Geometry, NotStarted};
pub use fault::Fault;
pub use fence::{FenceId, Fences};
pub use io::{Completion, Flags, Io, NamespaceIndex, Op, Request, RequestId, VolumeId};
pub use op_table::{Completed, OpEnds, OpEntry, OpIndex, OpTable};
pub use policy::WritePolicy;
pub use share::may_take;
pub use smart::{LastSmart, Smart};
pub use span::{SPAN_UNIT, Span, SpanError, SpanPart};
