//! Collections of a size fixed at the start: nothing is allocated afterwards.
//!
//! * An [`IndexTable`] has its elements by indexes of their own: a [`table_index!`] for each table.
//! * A [`Slab`] has room for values, each with a number while it is there.
//! * A [`List`] goes through the elements of a table, which have its [`Links`].
#![forbid(unsafe_code)]

mod index;
mod list;
mod slab;

pub use index::{IndexTable, TableIndex};
pub use list::{Links, List, Node};
pub use slab::Slab;
