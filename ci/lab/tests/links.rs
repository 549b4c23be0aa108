//! NVMe/TCP over bad links, every byte verified. Links are impaired by the
//! kernel's netem; where there is none, by a wire of ours that does what netem
//! would.

use lab::config::{HOST, NQN, WIRE};
use lab::{Config, Lab, Load, Outcome, Program, Result, Stats, Test, expect, veth};

/// Rate and room of every link; what is wrong with it comes after.
const GOOD: &str = "rate 1gbit limit 3000";

/// A second of a workload for each size of command over such a link: what is done
/// to what the target sends, and to what the host sends. The counters after it;
/// the target's TCP has counted something under `counter`.
fn over(
    test: &Test,
    pattern: &'static str,
    sizes: &[u64],
    counter: &str,
    how: [&str; 2],
) -> Result<Stats> {
    let mut lab = Lab::new(test)?;
    lab.impair(how)?;
    let program = lab.start(&Config::one_disk())?;
    for &bytes in sizes {
        lab.host
            .bdevperf(&program.at(NQN), &Load::new(pattern, bytes))?
            .succeeds()?;
    }
    let stats = program.stats()?;
    program.stop()?;
    for path in ["io", "copied_bytes", "pages_by_segments", "counters.tcp"] {
        test.note(format!("{path}: {}", stats.show(path)));
    }
    let met = stats.sum(&format!("counters.tcp.{counter}"));
    expect::at_least(&format!("what the target met of it, {counter}"), met, 1)?;
    Ok(stats)
}

fn copied_at_most(stats: &Stats, most: u64) -> Outcome {
    let what = format!("bytes copied {}", stats.show("copied_bytes"));
    expect::at_most(&what, stats.sum("copied_bytes"), most)
}

const ALL_SIZES: &[u64] = &[4096, 20480, 65536];

/// Row Z14: nothing is copied while one of a hundred segments that carry the data
/// is lost. (But for what is said at `verified`, now and then: a tail probe of ours
/// that was not needed makes the next segment of Linux's shorter, too.)
fn z14_writes_at_1_percent_loss(test: &Test) -> Outcome {
    let sizes = if test.long() {
        ALL_SIZES
    } else {
        &[4096, 65536]
    };
    let loss = format!("{GOOD} loss 1%");
    let stats = over(test, "verify", sizes, "tcp_out_of_order", [GOOD, &loss])?;
    copied_at_most(&stats, stats.sum("io.written_bytes") / 10000)
}

fn z14_reads_at_1_percent_loss(test: &Test) -> Outcome {
    let sizes = if test.long() {
        ALL_SIZES
    } else {
        &[4096, 65536]
    };
    let loss = format!("{GOOD} loss 1%");
    let stats = over(test, "randread", sizes, "tcp_retransmitted", [&loss, GOOD])?;
    copied_at_most(&stats, 0)
}

/// Both ways impaired. While it waits for something of ours, Linux has SACK blocks
/// to send and its segments are twelve bytes shorter; a segment lost before that
/// comes again in two, and a page of five segments is pulled up (row Z8). That is
/// rare.
fn verified(test: &Test, sizes: &[u64], counter: &str, link: &str) -> Outcome {
    let stats = over(test, "verify", sizes, counter, [link, link])?;
    let (copied, written) = (stats.sum("copied_bytes"), stats.sum("io.written_bytes"));
    test.figure(format!("{copied} bytes copied of {written} written"));
    copied_at_most(&stats, written / 500 + (16 << 10))
}

fn impaired(test: &Test, counter: &str, how: &str) -> Outcome {
    let sizes = if test.long() { ALL_SIZES } else { &[20480] };
    verified(test, sizes, counter, &format!("{GOOD} {how}"))
}

fn nvme_loss_1_percent(test: &Test) -> Outcome {
    impaired(test, "tcp_out_of_order", "loss 1%")
}

fn nvme_loss_5_percent(test: &Test) -> Outcome {
    impaired(test, "tcp_out_of_order", "loss 5%")
}

fn nvme_reorder_25_percent(test: &Test) -> Outcome {
    impaired(test, "tcp_out_of_order", "delay 1ms reorder 25%")
}

fn nvme_duplicate_5_percent(test: &Test) -> Outcome {
    impaired(test, "tcp_out_of_window", "duplicate 5%")
}

fn nvme_corrupt_1_percent(test: &Test) -> Outcome {
    impaired(test, "tcp_checksum_bad", "corrupt 1%")
}

/// A hundred commands make a connection: at a tenth of a second each, once is
/// enough.
fn nvme_delay_50_ms(test: &Test) -> Outcome {
    verified(
        test,
        &[20480],
        "tcp_segments_received",
        "rate 1gbit limit 9000 delay 50ms",
    )
}

/// The program's interface goes while a host is at work, and another of its name comes:
/// that is said wherever somebody may look, the other is taken, and connections live on.
fn k06_an_interface_that_goes_and_comes_back_is_taken_again(test: &Test) -> Outcome {
    for cores in [&[1][..], &[0, 1]] {
        let lab = Lab::new(test)?;
        let program = lab.start(&Config::one_disk().cores(cores))?;
        let load = Load::new("verify", 4096).seconds(5);
        let mut client = lab.host.bdevperf(&program.at(NQN), &load)?.start()?;
        program.busy(&mut client, NQN, 2)?;
        let accepted = "counters.tcp.tcp_accepted";
        let before = program.stats()?.sum(accepted);
        serves(&program, "200 OK", 1)?;

        lab.target.run(&format!("ip link del {WIRE}"))?;
        program.logs(&format!("unready: port0: {WIRE} is gone"), 1)?;
        serves(&program, "503 Service Unavailable", 0)?;
        let stats = program.ask("stats")?.succeeds()?.stdout;
        expect::contains("statistics", &stats, ", unready, up ")?;
        let refused = program.check_again()?.fails()?.output();
        expect::contains("check", &refused, "throughline runs there, and is unready:")?;

        let (target, host) = (&lab.target, &lab.host.namespace);
        veth((target, WIRE), (host, WIRE))?;
        host.run(&format!("ip address add {HOST}/24 dev {WIRE}"))?;
        program.logs("port0 works again", 1)?;
        // Its addresses are claimed anew.
        program.logs("INFO  ready: NVMe/TCP on", 2)?;
        serves(&program, "200 OK", 1)?;
        client.succeeds()?;
        let after = program.stats()?.sum(accepted);
        expect::equal("connections made, before and after", after, before)?;
        lab.host.there_and_back(&program.at(NQN), 16384, 1 << 20)?;
        program.stop()?;
    }
    Ok(())
}

/// What is answered to who asks whether the program serves, and its metrics say the same.
fn serves(program: &Program<'_>, status: &str, gauge: u8) -> Outcome {
    let answer = program.readiness()?;
    expect::contains("readiness", &answer, &format!("HTTP/1.1 {status}\r\n"))?;
    let metrics = program.scrape()?;
    for name in [
        "throughline_ready",
        "throughline_port_ready{port=\"port0\"}",
    ] {
        expect::contains("metrics", &metrics, &format!("\n{name} {gauge}\n"))?;
    }
    Ok(())
}

lab::tests![
    k06_an_interface_that_goes_and_comes_back_is_taken_again,
    z14_writes_at_1_percent_loss,
    z14_reads_at_1_percent_loss,
    nvme_loss_1_percent,
    nvme_loss_5_percent,
    nvme_reorder_25_percent,
    nvme_duplicate_5_percent,
    nvme_corrupt_1_percent,
    nvme_delay_50_ms,
];
