//! Logged volumes: the program is killed, again and again, and what it acknowledged is there.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::config::{NQN, TARGET};
use lab::{Config, Lab, MIB, Outcome, Program, Result, Section, Test, expect, wait};
use testkit::blocking::{PATIENCE, Queue};
use testkit::pattern::{Found, Stamp, identify};
use testkit::{Command, Config as HostConfig, Payload, Random, Status};

/// Bytes of a block of the volume.
const BLOCK: usize = 4096;
/// Blocks that one writer writes, over and over.
const BLOCKS: u64 = 512;
/// Hosts that write at the same time.
const WRITERS: usize = 6;

/// A file of zeros.
fn blank(test: &Test, name: &str, bytes: u64) -> Result<PathBuf> {
    let path = test.dir().join(name);
    File::create(&path)?.set_len(bytes)?;
    Ok(path)
}

/// A volume on a file, and a log on another one, with so long between two consistency points. Files outlive the program.
fn logged(test: &Test, cores: &[u32], consistency_point_s: u32) -> Result<Config> {
    let section = Section::new()
        .key("store", "log0")
        .key("consistency_point_s", consistency_point_s);
    blank(test, "disk", 64 * MIB)?;
    blank(test, "log0", 24 * MIB)?;
    logged_on(test, cores, section, 1)
}

/// The same on files that there are, with so many for the log.
fn logged_on(test: &Test, cores: &[u32], log: Section, logs: usize) -> Result<Config> {
    let bdev = |name: &str, file: &Path, block: usize| {
        format!(
            r#"{{"method":"bdev_aio_create","params":{{"name":"{name}","filename":"{}","block_size":{block}}}}}"#,
            file.display()
        )
    };
    let file = |name: &str| test.dir().join(name);
    let mut bdevs = vec![bdev("Disk0", &file("disk"), BLOCK)];
    bdevs.extend((0..logs).map(|i| {
        let file = file(&format!("log{i}"));
        bdev(&format!("Log{i}"), &file, if i == 0 { 512 } else { 4096 })
    }));
    let json = format!(
        r#"{{"subsystems":[{{"subsystem":"bdev","config":[{}]}}]}}"#,
        bdevs.join(",")
    );
    let file = test.dir().join("spdk.json");
    std::fs::write(&file, json)?;
    let store = |name: &str, bdev: &str| Section::new().key("name", name).key("bdev", bdev);
    let namespace = Section::new().key("store", "disk0").key("write", "logged");
    let mut config = Config::empty().cores(cores).store(store("disk0", "Disk0"));
    for i in 0..logs {
        config = config.store(store(&format!("log{i}"), &format!("Log{i}")));
    }
    Ok(config
        .subsystem(Section::subsystem(NQN, "LAB0001", namespace))
        .section("log", log)
        .section(
            "spdk",
            Section::new().key("config", file.display().to_string()),
        ))
}

/// A host that writes its own blocks, and what it knows of them.
struct Writer {
    number: u32,
    random: Random,
    /// Of each block the last version that was acknowledged, and the last that was sent.
    blocks: Vec<(u32, u32)>,
}

impl Writer {
    fn new(number: u32) -> Self {
        Self {
            number,
            random: Random::new(u64::from(number) + 1),
            blocks: vec![(0, 0); BLOCKS as usize],
        }
    }

    fn first(&self) -> u64 {
        u64::from(self.number) * BLOCKS
    }

    fn connect() -> io::Result<(Queue, Queue)> {
        let target: SocketAddr = format!("{TARGET}:4420").parse().expect("an address");
        Queue::controller(target, HostConfig::new(NQN))
    }

    /// Writes until the target is gone; how many writes were acknowledged is counted.
    fn write(
        &mut self,
        (_admin, mut queue): (Queue, Queue),
        acknowledged: &AtomicU64,
        is_killed: &AtomicBool,
    ) -> io::Result<()> {
        // Nobody resets the connections of a program that was killed: writers look themselves, so often.
        queue.set_patience(Duration::from_millis(250));
        loop {
            let count = *self.random.pick(&[1u64, 1, 1, 2, 4, 16]);
            let at = self.random.below(BLOCKS - count + 1);
            let range = at as usize..(at + count) as usize;
            let mut data = vec![0; count as usize * BLOCK];
            for (i, bytes) in range.clone().zip(data.chunks_mut(BLOCK)) {
                let (_, sent) = &mut self.blocks[i];
                *sent += 1;
                let stamp = Stamp {
                    volume: self.number,
                    block: i as u64,
                    version: *sent,
                };
                stamp.fill(bytes);
            }
            let payload = match count <= 2 && self.random.chance(1, 2) {
                true => Payload::Capsule(data),
                false => Payload::Asked(data),
            };
            let command = Command::write(1, self.first() + at, count as u32, payload);
            match ended(&mut queue, command, is_killed) {
                Ok(0) => {}
                Ok(status) => {
                    return Err(io::Error::other(format!("a write has status {status:#x}")));
                }
                Err(_) if is_killed.load(Ordering::Acquire) => return Ok(()),
                Err(error) => return Err(error),
            }
            for block in &mut self.blocks[range] {
                block.0 = block.1;
            }
            acknowledged.fetch_add(1, Ordering::Release);
        }
    }

    /// Reads everything: each block is the last acknowledged write, or one that was sent after it.
    /// Writes this version of every block, one after the other.
    fn write_all(&mut self, version: u32) -> io::Result<()> {
        let (_admin, mut queue) = Self::connect()?;
        for block in 0..BLOCKS {
            let mut data = vec![0; BLOCK];
            let stamp = Stamp {
                volume: self.number,
                block,
                version,
            };
            stamp.fill(&mut data);
            let status = queue.write(self.first() + block, BLOCK, &data, false)?;
            assert_eq!(status, 0, "a write of block {block}");
            self.blocks[block as usize] = (version, version);
        }
        Ok(())
    }

    fn verify(&mut self) -> io::Result<()> {
        let (_admin, mut queue) = Self::connect()?;
        for at in (0..BLOCKS).step_by(16) {
            let (status, data) = queue.read(self.first() + at, BLOCK, 16 * BLOCK)?;
            if status != 0 {
                return Err(io::Error::other(format!("a read has status {status:#x}")));
            }
            for (i, bytes) in (at..).zip(data.chunks(BLOCK)) {
                self.look_at(i, bytes).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    fn look_at(&mut self, block: u64, bytes: &[u8]) -> std::result::Result<(), String> {
        let (acknowledged, sent) = self.blocks[block as usize];
        let number = self.number;
        let wrong = |what: String| {
            Err(format!(
                "block {block} of writer {number} has {what}; version {acknowledged} was acknowledged, {sent} was sent last"
            ))
        };
        let version = match identify(&bytes[..testkit::pattern::LINE]) {
            Found::Zeros if bytes.iter().all(|byte| *byte == 0) => 0,
            Found::Line(stamp, _) => {
                let expected = Stamp {
                    volume: number,
                    block,
                    version: stamp.version,
                };
                if let Err(mismatch) = expected.check(bytes) {
                    return wrong(format!("{mismatch:?}"));
                }
                stamp.version
            }
            found => return wrong(format!("{found:?}")),
        };
        if !(acknowledged..=sent).contains(&version) {
            return wrong(format!("version {version}"));
        }
        // What was read stays.
        self.blocks[block as usize].0 = version;
        Ok(())
    }
}

/// Sends a command and waits for its end, with patience as long as the program lives.
fn ended(queue: &mut Queue, command: Command, is_killed: &AtomicBool) -> io::Result<Status> {
    let (begun, cid) = (Instant::now(), queue.host.command(command));
    loop {
        match queue.wait(cid) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) && !is_killed.load(Ordering::Acquire)
                    && begun.elapsed() < PATIENCE => {}
            end => return end.map(|completion| completion.status),
        }
    }
}

/// Kills the program under load so many times.
fn kills(test: &Test, cores: &[u32], kills: u32) -> Outcome {
    let lab = Lab::new(test)?;
    let config = logged(test, cores, 1)?;
    let mut program = lab.start(&config)?;
    let mut writers: Vec<_> = (0..WRITERS as u32).map(Writer::new).collect();
    let mut random = Random::new(7);
    let (mut writes, mut replayed) = (0, 0);
    for kill in 0..kills {
        // Some are killed before a consistency point, others after or in one.
        let most = *random.pick(&[50u64, 200, 800]);
        let wanted = random.range(10..=most);
        let (acknowledged, is_killed) = (AtomicU64::new(0), AtomicBool::new(false));
        program = thread::scope(|scope| -> Result<Program<'_>> {
            let (acknowledged, is_killed) = (&acknowledged, &is_killed);
            let mut writing = Vec::new();
            for writer in &mut writers {
                let queues = lab.host.namespace.within(Writer::connect)?;
                writing.push(scope.spawn(move || writer.write(queues, acknowledged, is_killed)));
            }
            let done = wait::until("writes are acknowledged", || {
                let n = acknowledged.load(Ordering::Acquire);
                let ends = writing.iter().any(|writer| writer.is_finished());
                Ok(match n >= wanted || ends {
                    true => Ok(()),
                    false => Err(format!("{n} of {wanted}")),
                })
            });
            is_killed.store(true, Ordering::Release);
            let program = program.kill_and_start_again()?;
            for writer in writing {
                writer.join().expect("a writer panicked")?;
            }
            done.map(|()| program)
        })?;
        writes += acknowledged.into_inner();
        if !program.log().contains(": 0 records of") {
            replayed += 1;
            wait::until("what was replayed is in the cache", || {
                let pages = program.stats()?.sum("counters.cache.pages");
                Ok(if pages > 0 {
                    Ok(())
                } else {
                    Err("no page".into())
                })
            })?;
        }
        for writer in &mut writers {
            let verified = lab.host.namespace.within(|| writer.verify());
            verified.map_err(|failure| failure.during(format!("looking after kill {kill}")))?;
        }
    }
    test.figure(format!(
        "{kills} kills, {writes} writes acknowledged, none lost"
    ));
    expect::at_least("starts that replayed the log", replayed, 1)?;
    // After a stop in order there is nothing to replay, and all is there.
    program.stop()?;
    let program = lab.start(&config)?;
    expect::contains(
        "the log",
        &program.log(),
        ": 0 records of 0 bytes were replayed",
    )?;
    for writer in &mut writers {
        lab.host.namespace.within(|| writer.verify())?;
    }
    expect::equal(
        "logs that failed",
        program.stats()?.sum("counters.log.failed"),
        0,
    )?;
    program.stop()
}

fn s07_what_was_acknowledged_survives_kills(test: &Test) -> Outcome {
    kills(test, &[1], if test.long() { 100 } else { 3 })
}

fn s07_what_two_shards_acknowledged_survives_kills(test: &Test) -> Outcome {
    kills(test, &[0, 1], if test.long() { 100 } else { 2 })
}

/// A file in commands of so many bytes through the log: only headers are copied.
fn z14_logged_file_without_a_copy(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let namespace = Section::new().key("store", "disk0").key("write", "logged");
    let config = Config::empty()
        .store(Section::malloc("disk0", 64, 512))
        .store(Section::malloc("log0", 64, 512))
        .subsystem(Section::subsystem(NQN, "LAB0001", namespace))
        .section("log", Section::new().key("store", "log0"));
    let program = lab.start(&config)?;
    for command_bytes in [512, 4096, 131_072, MIB] {
        let bytes = if command_bytes == 512 { MIB } else { 16 * MIB };
        let before = program.stats()?;
        lab.host
            .there_and_back(&program.at(NQN), command_bytes, bytes)?;
        let after = program.stats()?;
        let since = |name: &str| after.since(&before, name);
        // Segments that were sent again may be shorter, and make more of them a page (row Z8).
        let copied = since("copied_bytes") - since("copied_bytes.log_header");
        let pulled_up = since("copied_bytes.pull_up");
        expect::equal("payload bytes copied", copied - pulled_up, 0)?;
        let logged = since("counters.log.payload_bytes");
        expect::at_least("bytes in the log", logged, bytes)?;
        test.figure(format!(
            "commands of {command_bytes}: {} log bytes for {bytes}, {} headers",
            logged + since("counters.log.overhead_bytes"),
            since("counters.log.groups")
        ));
    }
    // The cache keeps what was written.
    program.stop()
}

/// What was acknowledged is on its drives after a consistency point that somebody asked for: a
/// process that is killed then has nothing to replay.
fn s04_a_consistency_point_on_demand_leaves_nothing_to_replay(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    // None comes by itself.
    let config = logged(test, &[0, 1], 3600)?;
    let program = lab.start(&config)?;
    let mut writer = Writer::new(0);
    lab.host.namespace.within(|| writer.write_all(1))?;
    expect::equal(
        "consistency points",
        program.stats()?.sum("counters.log.points"),
        0,
    )?;
    let ended = program.ask("consistency-point")?.run()?;
    expect::contains("the command", &ended.stdout, "2 shard(s)")?;
    let program = program.kill_and_start_again()?;
    let nothing = ": 0 records of 0 bytes were replayed";
    expect::contains("the log", &program.log(), nothing)?;
    lab.host.namespace.within(|| writer.verify())?;
    // Without one there is something.
    lab.host.namespace.within(|| writer.write_all(2))?;
    let program = program.kill_and_start_again()?;
    let records = format!(": {BLOCKS} records of");
    expect::contains("the log", &program.log(), &records)?;
    lab.host.namespace.within(|| writer.verify())?;
    program.stop()
}

/// One of two log stores is damaged while the program is off, then left out, then back with what is old: nothing is
/// lost.
fn s07_a_damaged_log_store_is_mended_from_the_other(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    blank(test, "disk", 64 * MIB)?;
    let logs = [
        blank(test, "log0", 48 * MIB)?,
        blank(test, "log1", 50 * MIB)?,
    ];
    let section = || Section::new().key("consistency_point_s", 3600);
    let both = || section().key("store", "log0").key("mirror", "log1");
    let config = logged_on(test, &[0, 1], both(), 2)?;
    let mut program = lab.start(&config)?;
    let mut writer = Writer::new(0);
    let records = format!(": {BLOCKS} records of");
    for (version, log) in (1..).zip(&logs) {
        lab.host.namespace.within(|| writer.write_all(version))?;
        program = program.kill_and_start_after(|| {
            let file = File::options().write(true).open(log)?;
            // The halves of all shards, but not the superblocks at both ends.
            let len = file.metadata()?.len() - 2 * MIB;
            for at in (MIB..MIB + len).step_by(8 * BLOCK) {
                file.write_all_at(&[0xee; BLOCK], at)?;
            }
            Ok(())
        })?;
        expect::contains("the log", &program.log(), &records)?;
        lab.host.namespace.within(|| writer.verify())?;
        expect::equal("stores out", program.stats()?.sum("counters.log.out"), 0)?;
        if version == 1 {
            // The first is read first: what the second lacks nobody needs.
            expect::contains("the log", &program.log(), "log store log0: ")?;
            expect::contains("the log", &program.log(), "read from the other store")?;
        }
    }
    // After a stop in order one is enough.
    program.stop()?;
    let alone = section().key("store", "log1");
    let program = lab.start(&logged_on(test, &[0, 1], alone, 2)?)?;
    lab.host.namespace.within(|| writer.write_all(3))?;
    // What the other one has is older, and it joins again.
    program.kill();
    let program = lab.start(&logged_on(test, &[0, 1], both(), 2)?)?;
    expect::contains("the log", &program.log(), &records)?;
    lab.host.namespace.within(|| writer.verify())?;
    expect::equal("stores out", program.stats()?.sum("counters.log.out"), 0)?;
    program.stop()
}

lab::tests![
    z14_logged_file_without_a_copy,
    s04_a_consistency_point_on_demand_leaves_nothing_to_replay,
    s07_a_damaged_log_store_is_mended_from_the_other,
    s07_what_was_acknowledged_survives_kills,
    s07_what_two_shards_acknowledged_survives_kills,
];
