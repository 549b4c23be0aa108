//! What a host asks for, and what comes of it.

use testkit::command::nvm;
use testkit::{Command, Completion, Payload};

use super::aborts::ABORT_REQUESTED;
use super::session::Given;
use super::{Context, Goal, Host};
use crate::clock::{self, Nanoseconds, SECOND};
use crate::oracle::{Extent, Kind, OpId, SECTOR, Violation};
use crate::plan::VolumePlan;
use crate::trace::event;

/// Command Interrupted (base 2.0, 3.3.3.2.1): code type 0, code 21h.
const COMMAND_INTERRUPTED: u16 = 0x21;

/// Commands wait for 10 s for what others hold before they are to be tried again, by a clock of milliseconds.
const LONG: Nanoseconds = 9 * SECOND;

/// Invalid Namespace or Format, Namespace Not Ready (base 2.0, 3.3.3.2.1): code type 0, codes 0Bh and 82h.
const INVALID_NAMESPACE: u16 = 0x0b;
const NAMESPACE_NOT_READY: u16 = 0x82;

/// A namespace as hosts know it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    volume: usize,
    /// Bytes of a block.
    block: u64,
    blocks: u64,
    windows: Vec<(u64, u64)>,
}

impl Target {
    pub(super) fn new((volume, plan): (usize, &VolumePlan)) -> Self {
        let block = u64::from(plan.block);
        Self {
            volume,
            block,
            blocks: plan.disk.geometry.len() / block,
            windows: plan.windows.clone(),
        }
    }

    fn nsid(&self) -> u32 {
        self.volume as u32 + 1
    }

    fn extent(&self, first: u64, blocks: u64) -> Extent {
        let sectors = self.block / SECTOR as u64;
        Extent {
            volume: self.volume,
            first: first * sectors,
            sectors: blocks * sectors,
        }
    }
}

impl Host {
    /// Gives commands, as many as there is room and reason for.
    pub(super) fn give(&mut self, cx: &mut Context<'_>) {
        loop {
            let Some(session) = &mut self.session else {
                return;
            };
            let queues = session.queues_with_room();
            if queues.is_empty() {
                return;
            }
            let queue = *self.random.pick(&queues);
            match &mut self.goal {
                Goal::Work(0) | Goal::ShutDown => return,
                Goal::Work(_) if clock::now() < self.next_command => return,
                Goal::Work(commands) => {
                    *commands -= 1;
                    self.next_command = clock::now() + self.random.below(self.plan.pause + 1);
                    self.give_any(queue, cx);
                    self.give_abort();
                }
                Goal::Verify(extents) => {
                    let Some(extent) = extents.pop_front() else {
                        return;
                    };
                    self.give_verifying(queue, extent, cx);
                }
            }
        }
    }

    /// An Abort of something, by chance.
    fn give_abort(&mut self) {
        let one_in = self.plan.abort_one_in;
        if one_in > 0
            && self.random.one_in(one_in)
            && let Some(session) = &mut self.session
            && let Some((queue, cid)) = session.abort(&mut self.random)
        {
            event!(
                self.trace,
                "abort",
                [self.index, queue, cid],
                "host {} queue {queue} CID {cid}",
                self.index
            );
        }
    }

    /// A command by chance.
    fn give_any(&mut self, queue: usize, cx: &mut Context<'_>) {
        let any = self.random.below(self.targets.len());
        let volume = self.plan.only.unwrap_or(any);
        let weights = self.plan.weights;
        let mut at = self.random.below(weights.iter().sum::<u64>());
        let kind = weights.iter().position(|&weight| {
            let here = at < weight;
            at = at.saturating_sub(weight);
            here
        });
        match kind {
            Some(0) => self.give_read(queue, volume, cx),
            Some(1) => self.give_write(queue, volume, cx),
            Some(2) => self.give_zeroes(queue, volume, cx),
            Some(3) => self.give_deallocate(queue, volume, cx),
            _ => {
                let extent = self.targets[volume].extent(0, 0);
                let op = self.begin(Kind::Flush, extent, false, cx);
                let command = Command::flush(self.targets[volume].nsid());
                self.submit(queue, command, vec![op], cx);
            }
        }
    }

    /// Blocks of a namespace, no more than `bytes`: in a place that others like too.
    fn choose(&mut self, volume: usize, bytes: u64) -> (u64, u64) {
        let target = &self.targets[volume];
        let random = &mut self.random;
        let most = (bytes / target.block).clamp(1, target.blocks);
        let blocks = match random.below(10u32) {
            _ if self.plan.is_greedy => most,
            0..=3 => 1,
            4..=6 => random.range(1..=most.min(8)),
            _ => random.range(1..=most),
        };
        let room = target.blocks - blocks;
        let first = if random.one_in(16) {
            random.range(0..=room)
        } else {
            let (start, len) = *random.pick(&target.windows);
            (start + random.below(len)) / target.block
        };
        (first.min(room), blocks)
    }

    fn bytes_max(&self) -> u64 {
        let most = self
            .session
            .as_ref()
            .map_or(0, |session| session.limits().0);
        (most as u64).min(self.plan.bytes_max.into())
    }

    fn give_read(&mut self, queue: usize, volume: usize, cx: &mut Context<'_>) {
        let (first, blocks) = self.choose(volume, self.bytes_max());
        let fua = self.random.one_in(8);
        let command = self.read(volume, first, blocks, fua);
        let extent = self.targets[volume].extent(first, blocks);
        let op = self.begin(Kind::Read, extent, fua, cx);
        self.submit(queue, command, vec![op], cx);
    }

    fn read(&self, volume: usize, first: u64, blocks: u64, fua: bool) -> Command {
        let target = &self.targets[volume];
        let bytes = (blocks * target.block) as usize;
        let command = Command::read(target.nsid(), first, blocks as u32, bytes);
        if fua { command.fua() } else { command }
    }

    fn give_write(&mut self, queue: usize, volume: usize, cx: &mut Context<'_>) {
        let (first, blocks) = self.choose(volume, self.bytes_max());
        let fua = self.random.one_in(8);
        let extent = self.targets[volume].extent(first, blocks);
        let op = self.begin(Kind::Write, extent, fua, cx);
        let data = cx.oracle.data(op);
        let nsid = self.targets[volume].nsid();
        let payload = self.payload(data);
        let command = Command::write(nsid, first, blocks as u32, payload);
        let command = if fua { command.fua() } else { command };
        let wrong = self.plan.wrong_digest_one_in;
        let spoil = wrong > 0 && self.random.one_in(wrong);
        self.submit_spoiled(queue, command, vec![op], spoil, cx);
    }

    /// In the capsule if there is room, or by R2T.
    fn payload(&mut self, data: Vec<u8>) -> Payload {
        let room = self
            .session
            .as_ref()
            .map_or(0, |session| session.limits().1);
        match data.len() <= room && !self.random.one_in(4) {
            true => Payload::Capsule(data),
            false => Payload::Asked(data),
        }
    }

    fn give_zeroes(&mut self, queue: usize, volume: usize, cx: &mut Context<'_>) {
        let (first, blocks) = self.choose(volume, 4 * self.bytes_max());
        let fua = self.random.one_in(8);
        let target = &self.targets[volume];
        let mut command = Command::write_zeroes(target.nsid(), first, blocks as u32);
        if fua {
            command = command.fua();
        }
        if self.random.one_in(4) {
            command = command.deac();
        }
        let extent = target.extent(first, blocks);
        let op = self.begin(Kind::WriteZeroes, extent, fua, cx);
        self.submit(queue, command, vec![op], cx);
    }

    fn give_deallocate(&mut self, queue: usize, volume: usize, cx: &mut Context<'_>) {
        let count = self.random.range(1..=3u32);
        let ranges: Vec<_> = (0..count)
            .map(|_| self.choose(volume, 2 * self.bytes_max()))
            .map(|(first, blocks)| (first, blocks as u32))
            .collect();
        let mut ops = Vec::new();
        for &(first, blocks) in &ranges {
            let extent = self.targets[volume].extent(first, blocks.into());
            ops.push(self.begin(Kind::Deallocate, extent, false, cx));
        }
        let mut command = Command::deallocate(self.targets[volume].nsid(), &ranges);
        if let Payload::Capsule(data) = std::mem::replace(&mut command.payload, Payload::None) {
            let payload = self.payload(data);
            command = command.with(payload);
        }
        self.submit(queue, command, ops, cx);
    }

    fn give_verifying(&mut self, queue: usize, extent: Extent, cx: &mut Context<'_>) {
        let target = &self.targets[extent.volume];
        let sectors = target.block / SECTOR as u64;
        let first = extent.first / sectors;
        let blocks = (extent.first + extent.sectors).div_ceil(sectors) - first;
        let whole = target.extent(first, blocks);
        let command = self.read(extent.volume, first, blocks, false);
        let op = self.begin(Kind::Read, whole, false, cx);
        let given = Given {
            verifies: Some(extent),
            ..self.given(vec![op], false, cx)
        };
        self.hand_over(queue, command, given);
    }

    fn begin(&mut self, kind: Kind, extent: Extent, fua: bool, cx: &mut Context<'_>) -> OpId {
        cx.oracle
            .begin(format!("host {}", self.index), kind, extent, fua)
    }

    fn submit(&mut self, queue: usize, command: Command, ops: Vec<OpId>, cx: &mut Context<'_>) {
        self.submit_spoiled(queue, command, ops, false, cx);
    }

    fn submit_spoiled(
        &mut self,
        queue: usize,
        command: Command,
        ops: Vec<OpId>,
        spoil: bool,
        cx: &mut Context<'_>,
    ) {
        let can = self
            .session
            .as_mut()
            .is_some_and(|session| session.can_spoil(queue));
        let given = self.given(ops, spoil && can, cx);
        self.hand_over(queue, command, given);
    }

    fn given(&self, ops: Vec<OpId>, is_spoiled: bool, cx: &Context<'_>) -> Given {
        let volume = cx.oracle.volume_of(ops[0]);
        Given {
            ops,
            at: clock::now(),
            is_spoiled,
            faults: cx.devices.faults(volume),
            is_named: false,
            verifies: None,
        }
    }

    fn hand_over(&mut self, queue: usize, command: Command, given: Given) {
        let opcode = command.opcode();
        event!(
            self.trace,
            "give",
            [self.index, queue, given.ops[0].0, opcode],
            "host {} queue {queue} #{}: {}",
            self.index,
            given.ops[0].0,
            name(opcode)
        );
        if let Some(session) = &mut self.session {
            session.give(queue, command, given);
        }
    }

    /// Shuts the controller down, and leaves it when that is done.
    pub(super) fn go_on_shutting_down(&mut self, cx: &mut Context<'_>) -> Result<(), Violation> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        if session.is_ready() && session.is_idle() {
            let extents: Vec<_> = self
                .targets
                .iter()
                .map(|target| target.extent(0, 0))
                .collect();
            let ops = extents
                .into_iter()
                .map(|extent| self.begin(Kind::Flush, extent, false, cx))
                .collect();
            let given = Given {
                faults: cx.devices.all_faults(),
                ..self.given(ops, false, cx)
            };
            if let Some(session) = &mut self.session {
                session.shut_down(given);
            }
            return Ok(());
        }
        if let Some(given) = session.take_shutdown() {
            event!(self.trace, "shut-down", [self.index], "host {}", self.index);
            // A shutdown does not say whether its flushes succeeded.
            let is_promise = cx.devices.all_faults() == given.faults;
            for &op in given.ops.iter().filter(|_| is_promise) {
                cx.oracle.succeed(op, &[])?;
            }
            for &op in given.ops.iter().filter(|_| !is_promise) {
                cx.oracle.fail(op, 0);
            }
            self.leave(true, "it is shut down", cx);
        }
        Ok(())
    }

    /// Takes what ended.
    pub(super) fn complete(&mut self, cx: &mut Context<'_>) -> Result<(), Violation> {
        while let Some(session) = &mut self.session
            && let Some((given, completion)) = session.next_completion()
        {
            self.ended(&given, &completion, cx)?;
        }
        Ok(())
    }

    fn ended(
        &mut self,
        given: &Given,
        completion: &Completion,
        cx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let status = completion.status;
        let took: Nanoseconds = clock::now() - given.at;
        event!(
            self.trace,
            "end",
            [self.index, given.ops[0].0, status, took],
            "host {} #{}: status {status:#06x} after {took} ns",
            self.index,
            given.ops[0].0
        );
        if status == 0 {
            if given.is_spoiled {
                return Err(Violation(format!(
                    "{} succeeded with a wrong data digest",
                    cx.oracle.describe(given.ops[0])
                )));
            }
            for &op in &given.ops {
                let volume = cx.oracle.volume_of(op);
                if cx.oracle.deallocates(op) && cx.devices.may_leave(volume, given.at) {
                    cx.oracle.excuse(op);
                } else {
                    cx.oracle.succeed(op, &completion.data)?;
                }
            }
            return Ok(());
        }
        if given.is_named && status & 0x7ff == ABORT_REQUESTED {
            for &op in &given.ops {
                cx.oracle.abort(op)?;
            }
            return Ok(());
        }
        let op = given.ops[0];
        let volume = cx.oracle.volume_of(op);
        if [INVALID_NAMESPACE, NAMESPACE_NOT_READY].contains(&(status & 0x7ff))
            && cx.devices.was_absent(volume, given.at)
        {
            return self.refused(given, status, cx);
        }
        // It found no slot because of others that its own device had, or waited for long for what those of any device had: it
        // may be tried again.
        let since = match clock::now() >= given.at + LONG {
            true => cx.devices.any_held_until(),
            false => cx.devices.held_until(volume),
        };
        let was_stuck = status & 0x7ff == COMMAND_INTERRUPTED && since >= given.at;
        let is_explained = given.is_spoiled
            || was_stuck
            || cx.devices.is_gone(volume)
            || cx.devices.has_lost_log(volume)
            || cx.devices.faults(volume) > given.faults
            // What a cache could not write is told later.
            || cx.devices.is_cached(volume) && cx.devices.faults(volume) > 0;
        if !is_explained {
            return Err(Violation(format!(
                "{} has status {status:#06x}, and nothing explains it",
                cx.oracle.describe(op)
            )));
        }
        for &op in &given.ops {
            cx.oracle.fail(op, status);
        }
        // A device that failed for a while does so no more when everything is verified.
        if let (Goal::Verify(extents), Some(extent)) = (&mut self.goal, given.verifies)
            && !cx.devices.is_gone(volume)
        {
            extents.push_back(extent);
        }
        Ok(())
    }

    /// The namespace was not there. Nothing was done of what was refused for it as a whole; the other status
    /// is also that of a device that is gone.
    fn refused(
        &mut self,
        given: &Given,
        status: u16,
        cx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        for &op in &given.ops {
            match given.ops.len() == 1 && status & 0x7ff == INVALID_NAMESPACE {
                true => cx.oracle.abort(op)?,
                false => cx.oracle.fail(op, status),
            }
        }
        if let (Goal::Verify(extents), Some(extent)) = (&mut self.goal, given.verifies) {
            extents.push_back(extent);
        }
        Ok(())
    }
}

fn name(opcode: u8) -> &'static str {
    match opcode {
        nvm::READ => "read",
        nvm::WRITE => "write",
        nvm::WRITE_ZEROES => "write zeroes",
        nvm::DATASET_MANAGEMENT => "deallocate",
        nvm::FLUSH => "flush",
        _ => "something else",
    }
}
