//! Hosts that connect, work, go, and are killed; and those that may not.

use std::thread;
use std::time::Duration;

use lab::config::{NQN, NQN_4K, NQN_CLOSED, TARGET, WIRE};
use lab::{Config, Host, Lab, Load, MIB, Namespace, Outcome, Program, Test, expect, veth, wait};

/// How long a link is gone: many round trips, and less than any host waits.
const OUTAGE: Duration = Duration::from_millis(300);

fn k05_identify_and_discovery(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    let said = lab.host.identify(&program.at(NQN))?.succeeds()?.stdout;
    let field = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name));
        line.unwrap_or("")
            .trim_start_matches(name)
            .trim()
            .to_owned()
    };
    expect::contains("the serial number", &field("Serial Number:"), "LAB0001")?;
    expect::contains("the model number", &field("Model Number:"), "Throughline")?;
    let discovered = lab.host.identify(&program.discovery())?.succeeds()?;
    expect::contains("the discovery log", &discovered.stdout, NQN)?;
    program.ends_well()
}

fn k07_ping(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    for size in ["56", "1472"] {
        let ping = lab
            .host
            .tool("ping")
            .args(["-q", "-c", "5", "-i", "0.05", "-W", "10"]);
        ping.args(["-M", "do", "-s", size, TARGET]).succeeds()?;
    }
    program.ends_well()
}

fn z06_verify_at_many_sizes(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    for bytes in [512, 4096, 20480, 65536] {
        let load = Load::new("verify", bytes).depth(32).seconds(2);
        lab.host.bdevperf(&program.at(NQN), &load)?.succeeds()?;
    }
    program.ends_well()
}

fn z06_header_and_data_digests(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    for flags in [&["-H"][..], &["-I"], &["-H", "-I"]] {
        for (bytes, depth) in [(4096, 16), (131_072, 8)] {
            let load = Load::new("randrw", bytes).depth(depth);
            let load = flags.iter().fold(load, |load, flag| load.flag(flag));
            lab.host.perf(&program.at(NQN), &load)?.succeeds()?;
        }
    }
    program.ends_well()
}

fn k05_two_clients_at_once(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    let load = |bytes| Load::new("verify", bytes).seconds(4);
    let one = lab.host.bdevperf(&program.at(NQN), &load(4096))?.start()?;
    let two = lab
        .host
        .bdevperf(&program.at(NQN_4K), &load(16384))?
        .start()?;
    one.succeeds()?;
    two.succeeds()?;
    program.ends_well()
}

/// Two programs with a core, a namespace and a wire to the host each: what becomes
/// of one is nothing to the other.
fn k05_two_programs_beside_each_other(test: &Test) -> Outcome {
    let [one, two, host] = ["one", "two", "host"].map(|role| Namespace::new(test, role));
    let (one, two, host) = (one?, two?, Host::new(test, host?));
    veth((&one, WIRE), (&host.namespace, "wire0"))?;
    veth((&two, WIRE), (&host.namespace, "wire1"))?;
    host.namespace
        .run("ip address add 192.0.2.2/24 dev wire0")?;
    host.namespace
        .run("ip address add 198.51.100.2/24 dev wire1")?;
    let config = Config::one_disk();
    let first = Program::start(test, &one, &config.clone().cores(&[0]))?;
    let config = config.port_key("addresses", vec!["198.51.100.1/24"]);
    let second = Program::start(test, &two, &config)?;
    let load = Load::new("verify", 16384).seconds(6);
    let mut client = host.bdevperf(&second.at(NQN), &load)?.start()?;
    second.busy(&mut client, NQN, 2)?;
    host.there_and_back(&first.at(NQN), 131_072, 4 * MIB)?;
    first.kill();
    client.succeeds()?;
    host.there_and_back(&second.at(NQN), 131_072, 4 * MIB)?;
    second.ends_well()
}

/// One client is killed in the middle of large writes; another goes on
/// undisturbed; nothing is lost.
fn z12_client_killed_while_writing(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    let load = Load::new("verify", 4096).depth(8).seconds(8);
    let mut other = lab.host.bdevperf(&program.at(NQN_4K), &load)?.start()?;
    program.busy(&mut other, NQN_4K, 2)?;
    let load = Load::new("randwrite", 131_072).depth(32).seconds(60);
    for _ in 0..3 {
        let before = program.stats()?.sum("connections");
        let mut victim = lab.host.perf(&program.at(NQN), &load)?.start()?;
        program.busy(&mut victim, NQN, before + 2)?;
        victim.kill();
        wait::until("the victim's connections are gone", || {
            let now = program.stats()?.sum("connections");
            Ok(if now <= before {
                Ok(())
            } else {
                Err(format!("{now} of {before}"))
            })
        })?;
    }
    other.succeeds()?;
    program.ends_well()
}

fn z12_connections_come_and_go(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    for round in 0..25 {
        let identified = lab.host.identify(&program.at(NQN))?.succeeds();
        identified.map_err(|failure| failure.during(format!("round {round}")))?;
    }
    let load = Load::new("randrw", 4096).depth(4).connections(8);
    lab.host.perf(&program.at(NQN), &load)?.succeeds()?;
    program.ends_well()
}

fn k05_who_may_not_connect(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    lab.host
        .identify(&program.at("nqn.2026-01.com.example:nobody"))?
        .fails()?;
    lab.host.identify(&program.at(NQN_CLOSED))?.fails()?;
    // A port nobody listens on.
    lab.host
        .tool("bash")
        .args(["-c", &format!("exec 3<>/dev/tcp/{TARGET}/81")])
        .within(20)
        .fails()?;
    lab.host.identify(&program.at(NQN))?.succeeds()?;
    program.ends_well()
}

fn k07_noise_on_the_port(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    for round in 1..=5 {
        let noise = format!(
            "head -c {} /dev/urandom >/dev/tcp/{TARGET}/4420",
            round * 3000
        );
        // Whether it is cut off in the middle of its noise is up to the two.
        lab.host.tool("bash").args(["-c", &noise]).run()?;
    }
    lab.host.identify(&program.at(NQN))?.succeeds()?;
    program.ends_well()
}

fn k08_the_log_says_why_a_host_was_dropped(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    // An ICReq has 128 bytes in its header, not none.
    let zeros = format!("head -c 128 /dev/zero >/dev/tcp/{TARGET}/4420");
    for _ in 0..3 {
        lab.host.tool("bash").args(["-c", &zeros]).run()?;
    }
    program.logs("dropped a connection from", 1)?;
    let log = program.log();
    let line = (log.lines()).find(|line| line.contains("dropped a connection"));
    for part in [
        &format!(" at {TARGET}:4420"),
        "a field that cannot be",
        "`throughline capture`",
    ] {
        expect::contains("the line", line.unwrap_or(""), part)?;
    }
    // Who disconnects is not dropped: no line has a host's name.
    lab.host.identify(&program.at(NQN))?.succeeds()?;
    let log = program.log();
    expect::equal(
        "hosts that were dropped",
        log.contains("dropped host"),
        false,
    )?;
    program.ends_well()
}

fn k07_link_goes_and_comes(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(&Config::three_disks())?;
    let load = Load::new("verify", 8192).seconds(6);
    let mut client = lab.host.bdevperf(&program.at(NQN), &load)?.start()?;
    program.busy(&mut client, NQN, 2)?;
    lab.host
        .namespace
        .run(&format!("ip link set {WIRE} down"))?;
    // Answers to what had arrived by then are not work that gets through.
    let mut before = 0;
    wait::until("work stands still", || {
        let now = program.stats()?.requests_of(NQN);
        let same = now == std::mem::replace(&mut before, now);
        Ok(if same {
            Ok(())
        } else {
            Err(format!("{now} requests"))
        })
    })?;
    thread::sleep(OUTAGE);
    expect::equal(
        "requests without a link",
        program.stats()?.requests_of(NQN),
        before,
    )?;
    lab.host.namespace.run(&format!("ip link set {WIRE} up"))?;
    client.succeeds()?;
    program.ends_well()
}

lab::tests![
    k05_identify_and_discovery,
    k07_ping,
    z06_verify_at_many_sizes,
    z06_header_and_data_digests,
    k05_two_clients_at_once,
    k05_two_programs_beside_each_other,
    z12_client_killed_while_writing,
    z12_connections_come_and_go,
    k05_who_may_not_connect,
    k07_noise_on_the_port,
    k08_the_log_says_why_a_host_was_dropped,
    k07_link_goes_and_comes,
];
