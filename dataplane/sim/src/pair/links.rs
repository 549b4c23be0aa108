//! Where nothing but links is cut, and never both of two nodes at once: no pair is severed, no message of a lane is lost, and
//! lanes come up over the other link soon after they have gone down.

use std::time::Duration;

use mirror::{LaneCounters, Patience};

use super::World;
use crate::clock::{self, Nanoseconds};
use crate::oracle::Violation;

/// What lanes may do.
pub(super) struct Links {
    patience: Patience,
    /// By appliance: links given up when both were in sync; while that is looked at.
    given_up: Option<Vec<u64>>,
    /// By appliance: since when a lane is down.
    down_since: Vec<Option<Nanoseconds>>,
}

impl Links {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            given_up: None,
            down_since: Vec::new(),
        }
    }

    /// How long a lane that has gone down may stay so: connections by the link that is there, and by the other one, in turn.
    fn down_max(&self) -> Nanoseconds {
        (self.patience.answer / 2).as_nanos() as Nanoseconds
    }
}

fn given_up(lanes: &[LaneCounters]) -> u64 {
    lanes.iter().map(|lanes| lanes.given_up).sum()
}

impl World {
    pub(super) fn begin_to_watch_links(&mut self) {
        let given_up = self.appliances.iter_mut().map(|it| given_up(&it.lanes()));
        self.links.given_up = Some(given_up.collect());
        self.links.down_since = vec![None; self.appliances.len()];
    }

    pub(super) fn cease_to_watch_links(&mut self) {
        self.links.given_up = None;
    }

    pub(super) fn look_at_links(&mut self) -> Result<(), Violation> {
        let Some(before) = &self.links.given_up else {
            return Ok(());
        };
        let (now, most) = (clock::now(), self.links.down_max());
        for (at, appliance) in self.appliances.iter_mut().enumerate() {
            let lanes = appliance.lanes();
            if given_up(&lanes) != before[at] {
                return Err(Violation(format!("appliance {at} gives a lane up")));
            }
            let alone = (0..self.plan.volumes.len()).find(|&volume| appliance.goes_alone(volume));
            if let Some(volume) = alone {
                return Err(Violation(format!(
                    "appliance {at} severs the pair of volume {volume}, though a link is there"
                )));
            }
            let is_up = lanes.iter().all(|lanes| lanes.lanes_up == lanes.lanes);
            let since = &mut self.links.down_since[at];
            *since = match is_up {
                true => None,
                false => since.or(Some(now)),
            };
            if let Some(since) = since.filter(|since| now > since + most) {
                return Err(Violation(format!(
                    "appliance {at}: a lane is down for {:?}, though a link is there",
                    Duration::from_nanos(now - since)
                )));
            }
        }
        Ok(())
    }
}
