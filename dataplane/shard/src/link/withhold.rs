//! What hosts are not to reach any more.

use events::StageClock;
use net::Instant;
use nvmf::Timestamp;

use super::Link;
use crate::common::Common;
use crate::door::Door;
use crate::machine::{Machine, Port};

impl<P: Port> Link<P> {
    /// Runs the timers of every session.
    pub(crate) fn advance_all<M: Machine<Port = P>>(
        &mut self,
        common: &mut Common<M>,
        stages: &mut StageClock<M::Ticks>,
        now: Instant,
    ) {
        self.advance(
            self.connections.len(),
            common,
            stages,
            Timestamp(now.as_millis()),
        );
    }

    /// Whether volumes have requests for what sessions' peers are not to reach any more.
    pub(crate) fn has_withheld<M: Machine>(&self, common: &mut Common<M>) -> bool {
        let (buffers, doors) = common.for_doors();
        let mut sessions = self.connections.iter().flatten();
        sessions.any(|connection| connection.session.has_withheld(buffers, doors))
    }
}
