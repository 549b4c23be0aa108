//! What a run took, part by part, and the line that says so.

use engine::{Alone, CopyReason, ShardSnapshot, Stage, WritePolicy};

use crate::DEVICES;
use crate::crc::Pass;
use crate::devices::{Written, written};
use crate::load::{IO, Load};
use crate::options::{Operation, Options};

/// Ticks of one part of the run.
#[derive(Clone, Copy)]
struct Part {
    stages: [u64; Stage::ALL.len()],
    poll: u64,
    driver: u64,
    commands: u64,
}

impl Part {
    fn total(&self) -> u64 {
        self.poll + self.driver
    }
}

/// From here to the end of the run.
pub struct Report {
    before: ShardSnapshot,
    devices: [Written; 3],
    frames: (u64, u64),
    commands: u64,
    parts: Vec<Part>,
}

impl Report {
    pub fn begin(alone: &Alone, load: &Load) -> Self {
        Self {
            before: alone.snapshot(),
            devices: DEVICES.map(written),
            frames: load.frames(),
            commands: 0,
            parts: Vec::new(),
        }
    }

    /// One part more.
    pub fn part(&mut self, alone: &mut Alone, load: &mut Load, options: &Options) {
        let (mut stages, poll) = (alone.ticks_by_stage(), alone.poll_ticks());
        let (driver, first) = (alone.driver_ticks(), load.answered);
        load.run(alone, options.part, options.depth, options.instructions);
        for (begin, end) in stages.iter_mut().zip(alone.ticks_by_stage()) {
            *begin = end - *begin;
        }
        let part = Part {
            stages,
            poll: alone.poll_ticks() - poll,
            driver: alone.driver_ticks() - driver,
            commands: load.answered - first,
        };
        self.commands += part.commands;
        self.parts.push(part);
    }

    /// The engine did what the hosts saw, and copied only if it was asked to.
    pub fn verify(&self, alone: &Alone, options: &Options) {
        let (before, after) = (&self.before, alone.snapshot());
        let (reads, writes) = (
            after.io.reads - before.io.reads,
            after.io.writes - before.io.writes,
        );
        let (done, other) = match options.operation {
            Operation::Read => (reads, writes),
            Operation::Write => (writes, reads),
        };
        let commands = self.commands;
        // What was under way at the start and at the end differs by at most the depth.
        assert!(
            done.abs_diff(commands) <= options.depth as u64 && other == 0,
            "{commands} commands were answered, {reads} reads and {writes} writes done"
        );
        assert_eq!(after.io.errors, 0, "errors");
        let dropped = counter(&after, "tcp_budget_dropped");
        assert_eq!(dropped, 0, "frames beyond what windows promised");
        let copied = copied(&after) - copied(before);
        let copies = options.copy && options.operation == Operation::Write;
        // What pages are overwritten of may pin memory that is worth a copy, where memory is short.
        let compacts = options.write != WritePolicy::Through;
        assert!(
            (copied > 0) == copies || compacts,
            "{copied} bytes were copied"
        );
    }

    pub fn print(&self, alone: &Alone, load: &Load, options: &Options, pass: &Pass, cipher: f64) {
        let after = alone.snapshot();
        let commands = self.commands;
        let per = |now: u64, before: u64| (now - before) as f64 / commands as f64;
        let cycles = self.median(Part::total);
        let operation = match options.operation {
            Operation::Read => "read",
            Operation::Write => "write",
        };
        println!(
            "{{\"operation\":\"{operation}\",\"connections\":{},\"depth\":{},\"gib\":{},\"digest\":{},\"tls\":{},\
             \"copy\":{},\"cold\":{},\"offloads\":{},\"commands\":{commands},\
             {},{},\"cycles_mean\":{:.0},\"cycles_total\":{cycles:.0},\"cycles_p10\":{:.0},\"cycles_p90\":{:.0},\
             \"crc_cycles\":{:.0},\"crc_cycles_in_pieces\":{:.0},\"cipher_cycles\":{cipher:.0},\
             \"iops_per_core\":{:.0},\"tsc_hz\":{},\"frames_in\":{:.2},\"frames_out\":{:.2},\
             \"polls\":{:.3},\"copied_bytes_per_byte\":{:.3},\
             \"opened_elsewhere_per_byte\":{:.3},\"sealed_elsewhere_per_byte\":{:.3}}}",
            options.connections,
            options.depth,
            options.gib,
            options.digest,
            options.key_bits(),
            options.copy,
            options.cold,
            options.offloads,
            self.stages(),
            self.writes(&after, options),
            self.parts.iter().map(Part::total).sum::<u64>() as f64 / commands as f64,
            self.quantile(0.1, Part::total),
            self.quantile(0.9, Part::total),
            pass.whole,
            pass.pieces,
            alone.tsc_hz() as f64 / cycles,
            alone.tsc_hz(),
            per(load.frames().0, self.frames.0),
            per(load.frames().1, self.frames.1),
            per(after.polls, self.before.polls),
            per(copied(&after), copied(&self.before)) / IO as f64,
            per(
                passed(&after, CopyReason::Open),
                passed(&self.before, CopyReason::Open)
            ) / IO as f64,
            per(
                passed(&after, CopyReason::Seal),
                passed(&self.before, CopyReason::Seal)
            ) / IO as f64,
        );
    }

    /// Cycles by stage.
    fn stages(&self) -> String {
        let mut stages = String::new();
        for (i, stage) in Stage::ALL.iter().enumerate() {
            let ticks = self.median(|part| part.stages[i]);
            stages += &format!("\"{}\":{ticks:.0},", stage.name());
        }
        let between = self.median(|part| part.poll.saturating_sub(part.stages.iter().sum::<u64>()));
        let driver = self.median(|part| part.driver);
        format!("\"cycles\":{{{stages}\"between\":{between:.0},\"driver\":{driver:.0}}}")
    }

    /// What became of writes: how the policy is, and what devices got.
    fn writes(&self, after: &ShardSnapshot, options: &Options) -> String {
        let since = |name| counter(after, name) - counter(&self.before, name);
        let over = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
        let (payload, groups) = (since("payload_bytes"), since("groups"));
        let [data, log, second] = [0, 1, 2].map(|i| {
            let (now, before) = (written(DEVICES[i]), self.devices[i]);
            let operations = now.operations - before.operations;
            (
                over(operations, self.commands),
                over(now.bytes - before.bytes, self.commands * IO as u64),
            )
        });
        format!(
            "\"write\":\"{}\",\"pattern\":\"{}\",\"mib\":{},\"log_block\":{},\"log_stores\":{},\"log_bytes_per_byte\":{:.4},\
             \"records_per_group\":{:.2},\"points\":{},\"cache_pages\":{},\
             \"device_operations_per_write\":{:.4},\"device_bytes_per_byte\":{:.4},\
             \"log_operations_per_write\":{:.4},\"log_device_bytes_per_byte\":{:.4}",
            match options.write {
                WritePolicy::Through => "through",
                WritePolicy::Back => "back",
                WritePolicy::Logged => "logged",
            },
            options.pattern.name(),
            if options.mib == 0 {
                options.gib << 10
            } else {
                options.mib
            },
            options.log_block,
            options.log_stores,
            over(payload + since("overhead_bytes"), payload),
            over(since("records"), groups),
            since("points"),
            counter(after, "pages"),
            data.0,
            data.1,
            log.0 + second.0,
            log.1 + second.1,
        )
    }

    /// Per command, the median over all parts of what `of` says of one.
    fn median(&self, of: impl Fn(&Part) -> u64) -> f64 {
        self.quantile(0.5, of)
    }

    fn quantile(&self, at: f64, of: impl Fn(&Part) -> u64) -> f64 {
        let per_command = |part: &Part| of(part) as f64 / part.commands as f64;
        let mut values: Vec<f64> = self.parts.iter().map(per_command).collect();
        values.sort_by(f64::total_cmp);
        values[((values.len() - 1) as f64 * at).round() as usize]
    }
}

/// All counters of a name together.
pub fn counter(snapshot: &ShardSnapshot, name: &str) -> u64 {
    let counters = snapshot.counters.iter().flat_map(|layer| &layer.counters);
    counters.filter(|c| c.name == name).map(|c| c.value).sum()
}

/// Payload bytes that were copied: headers of the log are not payload, and what is opened or sealed to another place is
/// read and written anyway.
fn copied(snapshot: &ShardSnapshot) -> u64 {
    let other = [CopyReason::LogHeader, CopyReason::Open, CopyReason::Seal].map(CopyReason::name);
    let payload = snapshot.copied_bytes.iter();
    let payload = payload.filter(|(reason, _)| !other.contains(reason));
    payload.map(|(_, bytes)| bytes).sum()
}

/// Bytes in this line of the ledger.
fn passed(snapshot: &ShardSnapshot, of: CopyReason) -> u64 {
    let lines = snapshot.copied_bytes.iter();
    let lines = lines.filter(|(reason, _)| *reason == of.name());
    lines.map(|(_, bytes)| bytes).sum()
}
