//! What the tests of the log share: a store that loses power and lies, drives, a writer, and what has to be true
//! after a recovery.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod disk;
pub mod dumps;
pub mod inputs;
pub mod model;
pub mod recover;
pub mod reference;
pub mod used;
pub mod writer;

pub use nvlog::recovery::at_once as now;
