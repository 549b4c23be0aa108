//! A handshake for simulated hosts and targets: deterministic, without a library, and worth nothing outside a simulation.

use std::sync::Arc;

use crate::handshake::{Handshaker, Handshakes};
use crate::psk::{PskTable, TlsPsk};

/// Handshakes of a few fixed messages. The records behind them are those of everybody.
#[derive(Debug)]
pub struct Exchange {
    seed: u64,
}

impl Exchange {
    /// Its nonces follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }
}

impl Handshakes for Exchange {
    fn accept(&mut self, keys: Arc<PskTable>) -> Box<dyn Handshaker> {
        let _ = (keys, self.seed);
        unreachable!("the next commit has it")
    }

    fn connect(&mut self, key: &TlsPsk) -> Box<dyn Handshaker> {
        let _ = key;
        unreachable!("the next commit has it")
    }
}
