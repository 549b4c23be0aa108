//! What happened in a run, as one number, and as lines for whoever wants to read it.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use log::{LevelFilter, Log, Metadata, Record};

use crate::clock;

/// A digest of every event so far; prints them if it is to. Clones share both.
#[derive(Clone, Default)]
pub struct Trace(Rc<Inner>);

#[derive(Default)]
struct Inner {
    digest: Cell<u64>,
    prints: bool,
}

impl Trace {
    /// Nothing has happened yet.
    pub fn new(prints: bool) -> Self {
        if prints && log::set_logger(&Lines).is_ok() {
            log::set_max_level(LevelFilter::Info);
        }
        Self(Rc::new(Inner {
            prints,
            ..Inner::default()
        }))
    }

    /// Something happened: what, and the numbers that belong to it.
    pub(crate) fn event(&self, what: &str, words: &[u64], text: fmt::Arguments<'_>) {
        self.fold(clock::now());
        what.bytes().for_each(|byte| self.fold(byte.into()));
        words.iter().for_each(|&word| self.fold(word));
        if self.0.prints {
            let now = clock::now();
            println!("{:>12.6} {what} {text}", now as f64 / 1e9);
        }
    }

    pub(crate) fn prints(&self) -> bool {
        self.0.prints
    }

    /// Of everything that happened; equal for equal seeds.
    pub fn digest(&self) -> u64 {
        self.0.digest.get()
    }

    fn fold(&self, word: u64) {
        let sum = (self.0.digest.get() ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0.digest.set(sum.rotate_left(29) ^ sum >> 32);
    }
}

/// What appliances write into their logs, among the events.
struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let now = clock::now() as f64 / 1e9;
        println!("{now:>12.6} log {} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

/// `event!(trace, "what", [numbers], "text", arguments)`.
macro_rules! event {
    ($trace:expr, $what:expr, [$($word:expr),*], $($text:tt)*) => {
        $trace.event($what, &[$($word as u64),*], format_args!($($text)*))
    };
}
pub(crate) use event;
