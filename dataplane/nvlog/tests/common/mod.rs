//! What the tests of the log share: a store that loses power and lies, drives, a writer, and what has to be true
//! after a recovery.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod disk;
pub mod inputs;
pub mod model;
pub mod recover;
pub mod reference;
pub mod used;
pub mod writer;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// The result of a future that never waits.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("nothing here waits"),
    }
}
