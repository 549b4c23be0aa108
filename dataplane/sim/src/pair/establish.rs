//! Volumes of which nobody has data yet: an operator says which node's drive has what they begin with, on both nodes at once if that comes
//! to his mind, and says it again until it is so (row R3).

use super::World;
use crate::oracle::Violation;
use crate::trace::event;

/// Of a volume of which neither node has data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unestablished {
    /// Said on both nodes.
    at_once: bool,
    /// By node: in which of its runs it was said, if that has no outcome yet.
    open: [Option<usize>; 2],
    /// It was done at a node.
    is_done: bool,
}

impl Unestablished {
    pub(super) fn new(at_once: bool) -> Self {
        Self {
            at_once,
            open: [None; 2],
            is_done: false,
        }
    }
}

impl World {
    /// Says what is to be said, and hears what came of it.
    pub(super) fn establish(&mut self) -> Result<(), Violation> {
        for volume in 0..self.unestablished.len() {
            let Some(mut known) = self.unestablished[volume] else {
                continue;
            };
            let nodes = self.shape.nodes[volume];
            for (open, at) in known.open.iter_mut().zip(nodes) {
                // What was said to another run is forgotten.
                let appliance = &mut self.appliances[at];
                open.take_if(|run| !appliance.is_running() || *run != appliance.runs());
                // Of this, and of nothing else that the operator has said.
                let outcome = open.and_then(|_| appliance.outcome(volume));
                open.take_if(|_| outcome.is_some());
                if let Some(is_done) = outcome {
                    event!(
                        self.trace,
                        "established",
                        [at, volume, is_done],
                        "appliance {at}: {is_done}"
                    );
                    if is_done && known.is_done {
                        return Err(Violation(format!(
                            "what both nodes' drives have is to be volume {volume}"
                        )));
                    }
                    known.is_done |= is_done;
                    known.at_once &= is_done;
                }
            }
            // The operator may not hear that it is. What one knew when it went off was perhaps not stable.
            let is_whole = nodes.map(|at| {
                let appliance = &mut self.appliances[at];
                let is_up = appliance.is_running() && !appliance.is_replaying();
                is_up && appliance.is_whole(volume)
            });
            if is_whole.contains(&true) && known.open == [None; 2] {
                self.unestablished[volume] = None;
                continue;
            }
            for (open, (nth, at)) in known.open.iter_mut().zip(nodes.into_iter().enumerate()) {
                let appliance = &mut self.appliances[at];
                if open.is_none() && (nth == 0 || known.at_once) && appliance.establish(volume) {
                    *open = Some(appliance.runs());
                }
            }
            self.unestablished[volume] = Some(known);
        }
        Ok(())
    }
}
