//! A source whose log fails hands over by itself: the other node, which has the same, serves hosts soon.

use super::World;
use crate::clock::{self, Nanoseconds, SECOND};
use crate::disk::{Failing, Trouble};
use crate::host::Host;
use crate::oracle::Violation;
use crate::trace::event;

/// How long it may take until the other node serves: a store that is silent is given up after five seconds at most, and three times in
/// a row an arbiter's answer is late.
const HANDED_OVER: Nanoseconds = 20 * SECOND;

impl World {
    /// Both nodes are in sync, and nothing else is wrong.
    pub(super) fn fail_log(&mut self, source: usize) -> Result<(), Violation> {
        event!(self.trace, "log fails", [source], "appliance {source}");
        let failing = Failing {
            one_in: 1,
            ..Failing::draw(&mut self.random)
        };
        for log in self.appliances[source].logs() {
            log.borrow_mut().set_trouble(Trouble {
                failing: Some(Failing {
                    ops: [false, true, true, true, true],
                    ..failing
                }),
                ..Trouble::default()
            });
        }
        let volumes = 0..self.serving.len();
        let served: Vec<_> = volumes
            .filter(|&volume| self.serving[volume].by == Some(source))
            .collect();
        let commands = self.random.range(10..=40u32);
        self.hosts.iter_mut().for_each(|host| host.work(commands));
        // Whether anything was written meanwhile, chance decides.
        let deadline = clock::now() + HANDED_OVER;
        self.run_until("handing over", deadline, |world| {
            let has_failed = world.appliances[source].has_failed_logs();
            let is_handed = |&volume: &usize| {
                let by = world.serving[volume].by;
                by.is_some_and(|by| by != source)
            };
            let is_over = world.hosts.iter().all(Host::is_done);
            is_over && (!has_failed || served.iter().all(is_handed))
        })?;
        self.verify()?;
        for log in self.appliances[source].logs() {
            log.borrow_mut().set_trouble(Trouble::default());
        }
        let power = self.random.chance(1, 2);
        self.kill(source, power)
    }
}
