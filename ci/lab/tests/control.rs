//! The program as its operator meets it: the control socket, metrics, captures,
//! `check`, and how it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use lab::config::{HOST, NQN, TARGET, WIRE};
use lab::{
    Config, Failure, Lab, Load, MIB, Outcome, Result, Test, Tool, check, ensure, expect, frames,
    wait,
};
use serde_json::Value;

fn k06_control_socket_as_spdk_users_know_it(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    let batch = r#"[{"jsonrpc":"2.0","id":"a","method":"throughline_get_version"},{"jsonrpc":"2.0","method":"x"}]"#;
    let answer = program.control(batch)?;
    expect::equal(
        "the name",
        &answer[0]["result"]["name"],
        &Value::from("throughline"),
    )?;
    let mode = fs::metadata(program.socket())?.permissions().mode() & 0o777;
    expect::equal(
        "who may open the socket",
        format!("{mode:o}"),
        "600".to_owned(),
    )?;
    test.needs("python3")?;
    let methods = program.rpc_py()?.arg("rpc_get_methods").succeeds()?.stdout;
    expect::contains(
        "what rpc.py was told",
        &methods,
        "\"throughline_get_stats\"",
    )?;
    serde_json::from_str::<Vec<String>>(&methods)?;
    program.ends_well()
}

fn k06_second_program_is_refused(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    let second = program.same_again()?.within(60).fails()?;
    let reason = "another program answers on the control socket";
    expect::contains("what the second one said", &second.output(), reason)?;
    lab.host.identify(&program.at(NQN))?.succeeds()?;
    program.ends_well()
}

fn k06_stop_under_load(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    let load = Load::new("randrw", 16384).depth(32).seconds(120);
    let mut client = lab.host.perf(&program.at(NQN), &load)?.start()?;
    program.busy(&mut client, NQN, 2)?;
    program.stop()
}

/// Killed in the middle of writes, three times: it comes up on what it left behind,
/// and takes the same hugepages again.
fn k06_killed_and_started_again(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let mut program = lab.start(&Config::three_disks())?;
    let free = hugepages_free()?;
    for _ in 0..3 {
        let load = Load::new("randwrite", 131_072).depth(32).seconds(120);
        let mut client = lab.host.perf(&program.at(NQN), &load)?.start()?;
        program.busy(&mut client, NQN, 2)?;
        program = program.kill_and_start_again()?;
        client.kill();
        wait::until("the client's hugepages are back", || {
            let now = hugepages_free()?;
            Ok(if now >= free {
                Ok(())
            } else {
                Err(format!("{now} of {free} are free"))
            })
        })?;
        lab.host
            .there_and_back(&program.at(NQN), 131_072, 4 * MIB)?;
    }
    program.ends_well()
}

fn hugepages_free() -> Result<u64> {
    let told = fs::read_to_string("/proc/meminfo")?;
    let line = told
        .lines()
        .find_map(|line| line.strip_prefix("HugePages_Free:"));
    let free = line.and_then(|number| number.trim().parse().ok());
    free.ok_or_else(|| Failure::new(format!("no hugepages in {told}")))
}

fn k06_check_tells_when_it_is_ready(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let config = Config::three_disks();
    check(test, &lab.target, &config)?.succeeds()?;
    lab.target.run(&format!("ip link set {WIRE} down"))?;
    let told = check(test, &lab.target, &config)?
        .arg("--json")
        .fails()?
        .stdout;
    let report: Value = serde_json::from_str(&told)?;
    expect::equal(
        "ready with the link down",
        &report["ready"],
        &Value::from(false),
    )?;
    let findings = report["findings"].as_array().map_or(&[][..], Vec::as_slice);
    let remedy = format!("ip link set {WIRE} up");
    let says_how = |finding: &Value| {
        let told = finding["remedy"].as_str().unwrap_or("");
        finding["level"] == "no" && told.contains(&remedy)
    };
    ensure!(
        findings.iter().any(says_how),
        "no finding has the remedy `{remedy}`: {told}"
    );
    Ok(())
}

/// The same requests by three ways: metrics, statistics, and top while they run.
fn k08_metrics_and_top_see_what_runs(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    let load = Load::new("randrw", 4096).depth(8).seconds(10);
    let mut client = lab.host.perf(&program.at(NQN), &load)?.start()?;
    program.busy(&mut client, NQN, 2)?;
    let top = program.ask("top")?.arg("--json").succeeds()?.stdout;
    let top: Value = serde_json::from_str(&top)?;
    client.succeeds()?;

    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let at_work = |connection: &&Value| {
        let each = &connection["per_second"];
        number(&connection["qid"]) > 0.0
            && number(&each["reads"]) > 0.0
            && number(&each["writes"]) > 0.0
            && number(&connection["latency_mean_ns"]) > 0.0
            && number(&connection["received_bytes_per_second"]) > 4096.0
            && connection["subsystem"] == NQN
            && (connection["peer"].as_str())
                .is_some_and(|peer| peer.starts_with(&format!("{HOST}:")))
    };
    let connections = top["connections"].as_array().map_or(&[][..], Vec::as_slice);
    ensure!(
        connections.iter().any(|one| at_work(&one)),
        "top shows no connection at work: {top}"
    );
    for path in [
        "/namespaces/0/p99_ns",
        "/shards/0/busy",
        "/cycles_per_io/submit",
    ] {
        let seen = top.pointer(path).map_or(0.0, number);
        ensure!(
            seen > 0.0,
            "top shows a program at rest: {path} is {seen}: {top}"
        );
    }

    let stats = program.stats()?;
    let counted: u64 = ["io.reads", "io.writes", "io.others"]
        .iter()
        .map(|kind| stats.sum(kind))
        .sum();
    let metrics = program.scrape()?;
    expect::contains(
        "the head of metrics",
        metrics.lines().next().unwrap_or(""),
        "HTTP/1.1 200 ",
    )?;
    let samples = metrics
        .lines()
        .filter(|line| line.starts_with("throughline_requests_total{"));
    let told: f64 = (samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())).sum();
    expect::at_least("requests", counted, 101)?;
    expect::equal(
        "requests by metrics and by statistics",
        told,
        counted as f64,
    )?;
    program.ends_well()
}

/// What tracers read is in the program as it is shipped, not only in the one the
/// tests are built with.
fn k08_tracepoints_are_in_the_release(test: &Test) -> Outcome {
    test.needs("readelf")?;
    let notes = Tool::new(test, "readelf")
        .arg("-n")
        .arg(lab::throughline()?)
        .succeeds()?
        .stdout;
    let mut names = Vec::new();
    let mut lines = notes.lines();
    while let Some(line) = lines.next() {
        if line.contains("Provider: throughline") {
            names.extend(lines.next().and_then(|name| name.split_whitespace().nth(1)));
        }
    }
    names.sort_unstable();
    names.dedup();
    expect::equal(&format!("tracepoints {names:?}"), names.len(), 21)
}

/// Both ways, every frame that was told of, cut as it was asked for; a client that
/// dies ends its capture.
fn k06_capture_opens_in_tcpdump(test: &Test) -> Outcome {
    test.needs("tcpdump")?;
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    let load = Load::new("randrw", 4096).depth(8).seconds(300);
    let mut client = lab.host.perf(&program.at(NQN), &load)?.start()?;
    program.busy(&mut client, NQN, 2)?;
    let file = test.dir().join("capture.pcap");
    let capture = |more: &[&str]| -> Result<Tool> {
        Ok(program
            .ask("capture")?
            .args(["--port", "port0", "--file"])
            .arg(&file)
            .args(more))
    };
    let said = capture(&["--frames", "2000", "--snap", "128", "--seconds", "100"])?
        .succeeds()?
        .stdout;
    let fits =
        said.contains(": 2000 frames of port0, ") && said.trim_end().ends_with("; 0 dropped");
    ensure!(
        fits,
        "expected 2000 frames and none dropped, it said: {said}"
    );
    // The load does not mind.
    program.busy(&mut client, NQN, 2)?;
    let failed = program.stats()?.sum("io.errors");
    expect::equal("commands that failed", failed, 0)?;
    client.kill();
    expect::equal("frames", frames(test, &file, "")?.len(), 2000)?;
    for (way, filter) in [
        ("frames sent", format!("src {TARGET} and tcp src port 4420")),
        (
            "frames received",
            format!("dst {TARGET} and tcp dst port 4420"),
        ),
        (
            "frames of the length they had on the wire",
            "greater 1000".into(),
        ),
    ] {
        expect::at_least(way, frames(test, &file, &filter)?.len(), 101)?;
    }
    // 24 bytes of head, and 16 before each frame's 128 at most.
    expect::at_most(
        "bytes of the file",
        fs::metadata(&file)?.len(),
        24 + 2000 * (16 + 128),
    )?;

    let none = program
        .ask("capture")?
        .args(["--port", "port9", "--file"])
        .arg(test.dir().join("none.pcap"));
    expect::contains(
        "of a port that is not there",
        &none.fails()?.output(),
        "there is no port `port9`; there are `port0`",
    )?;
    program.ends_well()
}

/// A capture is one client's, and ends with it.
fn k06_capture_ends_with_its_client(test: &Test) -> Outcome {
    test.needs("tcpdump")?;
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    let [first, second] = ["first.pcap", "second.pcap"].map(|name| test.dir().join(name));
    let capture = |file, seconds| -> Result<Tool> {
        Ok(program
            .ask("capture")?
            .args(["--port", "port0", "--seconds", seconds, "--file"])
            .arg(file))
    };
    let orphan = capture(&first, "600")?.start()?;
    program.logs("capturing port0", 1)?;
    lab.host.identify(&program.at(NQN))?.succeeds()?;
    let refused = capture(&second, "1")?.fails()?;
    expect::contains(
        "of a second capture",
        &refused.output(),
        "another capture runs",
    )?;
    orphan.kill();
    wait::until(
        "another capture begins after the first one's client was killed",
        || {
            let ended = capture(&second, "1")?.run()?;
            Ok(if ended.status.success() {
                Ok(())
            } else {
                Err(ended.last_words())
            })
        },
    )?;
    expect::at_least(
        "frames of the first one",
        frames(test, &first, "")?.len(),
        1,
    )?;
    program.ends_well()
}

/// SIGTERM ends it, with its file whole; the frames of two shards are in it by
/// time.
fn k06_capture_ends_with_the_program(test: &Test) -> Outcome {
    test.needs("tcpdump")?;
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks().cores(&[0, 1]))?;
    let load = Load::new("randrw", 4096)
        .depth(4)
        .connections(8)
        .seconds(120);
    let mut client = lab.host.perf(&program.at(NQN), &load)?.start()?;
    program.busy(&mut client, NQN, 9)?;
    let file = test.dir().join("shards.pcap");
    let capture = program
        .ask("capture")?
        .args(["--port", "port0", "--seconds", "600", "--file"]);
    let capture = capture.arg(&file).start()?;
    program.logs("capturing port0", 1)?;
    // Some of the load is in it.
    let before = program.stats()?.requests_of(NQN);
    wait::until("work goes on", || {
        let done = program.stats()?.requests_of(NQN) - before;
        Ok(if done >= 1000 {
            Ok(())
        } else {
            Err(format!("{done} requests"))
        })
    })?;
    program.stop()?;
    capture.ends()?;
    client.kill();
    expect::at_least("frames", frames(test, &file, "tcp port 4420")?.len(), 101)?;
    let resets = format!("src {TARGET} and tcp[tcpflags] & tcp-rst != 0");
    expect::at_least("resets, at the end", frames(test, &file, &resets)?.len(), 1)?;
    let times: Vec<f64> = (frames(test, &file, "")?.iter())
        .filter_map(|line| line.split(' ').next()?.parse().ok())
        .collect();
    expect::at_least("times", times.len(), 101)?;
    ensure!(times.is_sorted(), "frames are not in the order of time");
    Ok(())
}

lab::tests![
    k06_control_socket_as_spdk_users_know_it,
    k06_second_program_is_refused,
    k06_stop_under_load,
    k06_killed_and_started_again,
    k06_check_tells_when_it_is_ready,
    k08_metrics_and_top_see_what_runs,
    k08_tracepoints_are_in_the_release,
    k06_capture_opens_in_tcpdump,
    k06_capture_ends_with_its_client,
    k06_capture_ends_with_the_program,
];
