//! Collections of a size fixed at the start: nothing is allocated afterwards.
//!
//! * A [`Slab`] has room for values, each with a number while it is there.
//! * A [`List`] goes through the elements of a table, which have its [`Links`].
#![forbid(unsafe_code)]

mod list;
mod slab;

pub use list::{Links, List, NONE, Node};
pub use slab::Slab;
