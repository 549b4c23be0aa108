//! Files written to a namespace and read back, and what was copied on the way.

use lab::config::{NQN, NQN_4K};
use lab::{Config, Lab, Load, MIB, Outcome, Program, Test, ensure, expect};

const FILE: u64 = 64 * MIB;

/// Does something that copies `most` bytes at most, unless either side had to send
/// segments again: Linux's are shorter then while it has SACK blocks to send, and a
/// page of five is pulled up (row Z8). A machine that is too busy for the two makes
/// them do so; one run of three without is enough.
fn copies_at_most(program: &Program<'_>, most: u64, step: impl Fn() -> Outcome) -> Outcome {
    let mut attempts = 3;
    loop {
        attempts -= 1;
        let before = program.stats()?;
        step()?;
        let after = program.stats()?;
        let since = |counter| after.since(&before, &format!("counters.tcp.{counter}"));
        let (copied, again) = (after.since(&before, "copied_bytes"), SENT_AGAIN.map(since));
        if copied <= most || attempts == 0 || again == [0; 4] {
            let what = format!("bytes copied, with {SENT_AGAIN:?} of {again:?}");
            return expect::at_most(&what, copied, most);
        }
    }
}

/// What TCP counts when one side or the other has sent segments again.
const SENT_AGAIN: [&str; 4] = [
    "tcp_retransmitted",
    "tcp_dsacks_received",
    "tcp_out_of_order",
    "tcp_out_of_window",
];

/// A file of 64 MiB by commands of so many bytes, with not a byte of it copied.
fn file_without_a_copy(test: &Test, command_bytes: u64) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    copies_at_most(&program, 0, || {
        let before = program.stats()?;
        lab.host
            .there_and_back(&program.at(NQN), command_bytes, FILE)?;
        let after = program.stats()?;
        expect::equal(
            "bytes written",
            after.since(&before, "io.written_bytes"),
            FILE,
        )?;
        expect::at_least("bytes read", after.since(&before, "io.read_bytes"), FILE)
    })?;
    program.ends_well()
}

fn z14_file_in_capsules_without_a_copy(test: &Test) -> Outcome {
    file_without_a_copy(test, 4096)
}

fn z14_file_by_r2t_without_a_copy(test: &Test) -> Outcome {
    file_without_a_copy(test, 131_072)
}

fn z09_file_in_commands_above_the_largest(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    lab.host.there_and_back(&program.at(NQN), MIB, 16 * MIB)?;
    program.ends_well()
}

/// 3584 bytes: every command begins and ends inside a logical page.
fn z11_file_in_partial_pages(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    lab.host.there_and_back(&program.at(NQN), 3584, 7 * MIB)?;
    program.ends_well()
}

fn k05_file_on_4096_byte_blocks(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    for command_bytes in [4096, 131_072] {
        lab.host
            .there_and_back(&program.at(NQN_4K), command_bytes, 16 * MIB)?;
    }
    program.ends_well()
}

/// A queue pair of the port for each of two cores: the connections of one
/// controller are spread over both.
fn k05_two_shards_serve_one_controller(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks().cores(&[0, 1]))?;
    lab.host
        .there_and_back(&program.at(NQN), 131_072, 16 * MIB)?;
    let load = Load::new("randrw", 4096).depth(4).seconds(2).connections(8);
    lab.host.perf(&program.at(NQN), &load)?.succeeds()?;
    expect::equal("shards", program.stats()?.shards().len(), 2)?;
    program.stop()
}

/// The same with a page cache in each shard: every page has one owner, and
/// requests cross to it.
fn z11_write_back_on_two_shards(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks().cores(&[0, 1]).write_back())?;
    let disk = program.at(NQN);
    lab.host.there_and_back(&disk, 131_072, FILE)?;
    let verify = Load::new("verify", 20480).depth(32).seconds(3);
    lab.host.bdevperf(&disk, &verify)?.succeeds()?;
    let load = Load::new("randrw", 4096).depth(4).seconds(2).connections(8);
    lab.host.perf(&disk, &load)?.succeeds()?;
    let stats = program.stats()?;
    for counter in ["counters.cache.parts_asked", "counters.cache.parts_served"] {
        let each = stats.each(counter);
        ensure!(
            each.iter().all(|n| *n > 0),
            "{counter}: nothing crossed: {each:?}"
        );
    }
    program.stop()
}

/// Segments of 536 and 1220 bytes: pages keep to four segments, and what that
/// takes is copied and counted.
fn z08_pages_of_small_segments(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    // The last is what DPDK supposes an interface has, which by then it has not.
    for mtu in [588, 1272, 1500] {
        let program = lab.start(&Config::three_disks().port_key("mtu", mtu))?;
        lab.host
            .there_and_back(&program.at(NQN), 131_072, 16 * MIB)?;
        let stats = program.stats()?;
        let pulled_up = stats.sum("copied_bytes.pull_up");
        test.figure(format!(
            "MTU {mtu}: pages by segments {}, {pulled_up} of {} bytes pulled up",
            stats.show("pages_by_segments"),
            stats.sum("io.written_bytes")
        ));
        if mtu < 1500 {
            // More segments than a page may have.
            expect::at_least("bytes pulled up", pulled_up, 1)?;
        }
        program.stop()?;
    }
    Ok(())
}

/// Jumbo frames, each over five clusters.
fn z01_jumbo_frames(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    lab.mtu(9000)?;
    let program = lab.start(&Config::three_disks().port_key("mtu", 9000))?;
    let disk = program.at(NQN);
    // Where a sender stops in the middle of a segment, as it may when its buffer is
    // full, a page has a piece too many.
    copies_at_most(&program, 4096, || {
        lab.host.there_and_back(&disk, 131_072, FILE)?;
        lab.host.there_and_back(&disk, 3584, 7 * MIB)?;
        let verify = Load::new("verify", 20480).depth(32).seconds(2);
        lab.host.bdevperf(&disk, &verify)?.succeeds().map(drop)
    })?;
    let stats = program.stats()?;
    let segments = stats.show("pages_by_segments");
    test.figure(format!("pages by segments {segments}"));
    let pulled_up = stats.sum("copied_bytes.pull_up");
    let copied = stats.sum("copied_bytes");
    expect::equal("bytes copied otherwise", copied - pulled_up, 0)?;
    program.stop()
}

/// The ablation: with --copy every stored byte is copied once, and counted.
fn z14_copying_is_counted(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = Program::start_with(test, &lab.target, &Config::three_disks(), &["--copy"])?;
    lab.host
        .there_and_back(&program.at(NQN), 131_072, 16 * MIB)?;
    let copied = program.stats()?.sum("copied_bytes.ablation");
    program.stop()?;
    expect::at_least("bytes copied", copied, 16 * MIB)
}

lab::tests![
    z14_file_in_capsules_without_a_copy,
    z14_file_by_r2t_without_a_copy,
    z09_file_in_commands_above_the_largest,
    z11_file_in_partial_pages,
    k05_file_on_4096_byte_blocks,
    k05_two_shards_serve_one_controller,
    z11_write_back_on_two_shards,
    z08_pages_of_small_segments,
    z01_jumbo_frames,
    z14_copying_is_counted,
];
