//! A shard's part of a change.

use super::step::{Answer, Step};
use crate::machine::{Machine, Memory};
use crate::poll::Shard;

impl<M: Machine> Shard<M> {
    /// Makes steps of changes, or goes on with one.
    pub(crate) fn make_steps(&mut self) {
        loop {
            let begun = self.steps.pending.take();
            let Some(ends) = &mut self.steps.ends else {
                return;
            };
            let (step, is_new) = match begun {
                Some(step) => (step, false),
                None => match ends.steps.receive() {
                    Some(step) => (step, true),
                    None => return,
                },
            };
            let Some(answer) = self.make(step, is_new) else {
                self.steps.pending = Some(step);
                return;
            };
            if let Some(ends) = &mut self.steps.ends
                && ends.answers.send(answer).is_err()
            {
                unreachable!("a step is sent when the one before it was answered");
            }
        }
    }

    /// Begins a step, or looks whether it is done; `None` if it is not.
    fn make(&mut self, step: Step, is_new: bool) -> Option<Answer> {
        let volumes = &mut self.common.volumes;
        match step {
            Step::AddNamespace {
                index,
                volume,
                policy,
                is_backup,
            } => {
                volumes.add_namespace(index, volume, policy);
                if is_backup {
                    volumes.set_backup(index);
                }
                self.common.doors.nvme.commands.offer(index);
            }
            Step::CloseNamespace(index) => {
                if !volumes.close_namespace(index) {
                    return None;
                }
            }
            Step::FlushVolume(volume) => {
                if is_new {
                    volumes.flush_volume(volume, self.common.memory.buffers());
                }
                if volumes.is_flushing() {
                    return None;
                }
            }
            Step::RemoveNamespace(index) => {
                volumes.remove_namespace(index);
                self.common.doors.nvme.commands.withdraw(index);
            }
            Step::Withhold => {
                if is_new {
                    self.advance_sessions();
                }
                if self.has_withheld() {
                    return None;
                }
            }
            Step::Resize(volume) => volumes.resize(volume),
            Step::Listen(entrance) => {
                if let Err(why) = self.listen(&[entrance]) {
                    log::error!("shard {}: {why}", self.index);
                    return Some(Answer::Refused);
                }
            }
            Step::Unlisten(address) => {
                for link in &mut self.links {
                    link.unlisten(address);
                }
            }
        }
        Some(Answer::Done)
    }

    /// Every session looks what its host is not to reach any more.
    fn advance_sessions(&mut self) {
        let now = self.now();
        for link in &mut self.links {
            link.advance_all(&mut self.common, &mut self.stages, now);
        }
    }

    /// Whether volumes have requests for what hosts are not to reach any more.
    fn has_withheld(&mut self) -> bool {
        let common = &mut self.common;
        self.links.iter().any(|link| link.has_withheld(common))
    }
}
