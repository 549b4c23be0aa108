//! Logged volumes: the program is killed, again and again, and what it acknowledged is there.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use lab::config::{NQN, TARGET};
use lab::writer::{BLOCK, BLOCKS, Writer};
use lab::{Config, Lab, MIB, Outcome, Program, Result, Section, Test, expect, wait};
use testkit::Random;

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

/// Kills the program under load so many times.
fn kills(test: &Test, cores: &[u32], kills: u32) -> Outcome {
    let lab = Lab::new(test)?;
    let config = logged(test, cores, 1)?;
    let mut program = lab.start(&config)?;
    let mut writers: Vec<_> = (0..WRITERS as u32)
        .map(|number| Writer::new(number, TARGET))
        .collect();
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
                let queues = lab.host.namespace.within(|| writer.connect())?;
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
    let mut writer = Writer::new(0, TARGET);
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
    let mut writer = Writer::new(0, TARGET);
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
