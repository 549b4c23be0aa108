//! Timers of sessions: each slot has its turn.

use events::StageClock;
use nvmf::Timestamp;
use pages::prefetch;

use super::Link;
use crate::common::Common;
use crate::door::Door;
use crate::machine::{Machine, Port};

/// Slots looked at per millisecond for session timers, at least: 10,000 connections in 160 ms.
const SWEEP: usize = 64;

/// Slots of `all` to look at for session timers, `elapsed_ms` after the last time: each slot's turn comes twice in
/// the time that its session may stay unlooked at.
pub(super) fn sweep(all: usize, elapsed_ms: u64) -> usize {
    let due = (all as u64).saturating_mul(elapsed_ms);
    let due = due.div_ceil(u64::from(nvmf::TICK_MS) / 2);
    all.min(SWEEP.max(usize::try_from(due).unwrap_or(all)))
}

impl<P: Port> Link<P> {
    /// Session timers of the next `slots`.
    pub(super) fn advance<M: Machine>(
        &mut self,
        slots: usize,
        common: &mut Common<M>,
        stages: &mut StageClock<M::Ticks>,
        now: Timestamp,
    ) {
        for _ in 0..slots {
            let slot = self.sweep;
            self.sweep = (slot + 1) % self.connections.len();
            if let Some(ahead) = &self.connections[(slot + 3) % self.connections.len()] {
                prefetch(&**ahead);
            }
            let Some(connection) = self.connections[slot].as_deref_mut() else {
                continue;
            };
            let id = connection.id;
            let unacknowledged = self.stack.unacknowledged(id);
            connection.session.set_unacknowledged(now, unacknowledged);
            let (buffers, doors) = common.for_doors();
            if !connection.gone {
                if self.stack.is_held_up(id) {
                    connection.session.hold_up(now);
                }
                connection.session.advance(now, buffers, doors);
                self.abort(id, common);
                self.after(id, common, stages);
            } else {
                if unacknowledged > 0 && connection.session.is_forsaken(now, buffers, doors) {
                    // TCP would probe a closed window for ever (RFC 9293, 3.8.6.1; RFC 6429).
                    self.stack.abort(id);
                }
                self.reap(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NVMe base 2.1, 9.6: that a connection's controller has ended is noticed within a tick, however many
    /// connections there are and however long the shard's turns are.
    #[test]
    fn k04_each_sessions_turn_comes_within_a_tick() {
        let tick = u64::from(nvmf::TICK_MS);
        for all in [1, 63, 64, 1024, 10_000, 65_536, 1 << 20] {
            for turn_ms in [1, 3, 100, tick / 2] {
                let turns = tick / turn_ms;
                assert!(
                    sweep(all, turn_ms) * turns as usize >= all,
                    "{all} slots, turns of {turn_ms} ms"
                );
            }
        }
        assert_eq!(sweep(10_000, 1), SWEEP);
        assert_eq!(sweep(65_536, u64::MAX), 65_536);
    }
}
