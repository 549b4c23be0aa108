//! What is offered changes while the program runs, and a host that verifies what it
//! reads and writes works on through all of it.

use std::fs;
use std::path::Path;

use lab::config::{NQN, TARGET};
use lab::{
    Config, Host, Lab, Load, MIB, Outcome, Process, Program, Result, Section, Test, TransportId,
    ensure, expect, same_bytes, wait,
};
use serde_json::{Value, json};

/// A subsystem that comes and goes.
const NEW: &str = "nqn.2026-01.com.example:lab-new";
/// The host that works all the time.
const WORKER: &str = "nqn.2026-01.com.example:worker";
/// A host that is let in.
const KNOWN: &str = "nqn.2026-01.com.example:known-host";
/// One that is not.
const UNKNOWN: &str = "nqn.2026-01.com.example:unknown-host";
/// Where the target listens for a while.
const PORT: u16 = 4421;

/// `disk0` is the one namespace; `disk1` is nobody's yet.
fn two_stores() -> Config {
    Config::one_disk().store(Section::malloc("disk1", 64, 512))
}

/// Two shards with a page cache each.
fn two_cached_shards() -> Config {
    two_stores().cores(&[0, 1]).write_back()
}

/// The host at work on the first namespace for the whole of a test.
struct Worker(Process);

impl Worker {
    fn start(host: &Host, program: &Program) -> Result<Self> {
        // Ended by us when the test is through.
        let load = Load::new("verify", 4096).depth(8).seconds(600);
        let mut client = host
            .bdevperf(&program.at(NQN).as_host(WORKER), &load)?
            .start()?;
        program.busy(&mut client, NQN, 2)?;
        Ok(Self(client))
    }

    /// It still gets answers: of what is asked from now on.
    #[track_caller]
    fn goes_on(&mut self, program: &Program) -> Outcome {
        program.busy(&mut self.0, NQN, 2)
    }

    /// It comes to its end without a command that failed or a byte that differed.
    #[track_caller]
    fn ends_without_an_error(mut self, program: &Program) -> Outcome {
        self.goes_on(program)?;
        self.0.signal("INT")?;
        let said = self.0.succeeds()?.output();
        for wrong in ["ERROR", "error", "failed", "mismatch"] {
            ensure!(!said.contains(wrong), "the worker met an error: {said}");
        }
        Ok(())
    }
}

/// A subsystem as `nvmf_get_subsystems` shows it.
#[track_caller]
fn subsystem(program: &Program, nqn: &str) -> Result<Value> {
    let mut shown = program.rpc("nvmf_get_subsystems", &json!({ "nqn": nqn }))?;
    Ok(shown[0].take())
}

/// The namespaces that a host finds when it connects.
#[track_caller]
fn namespaces(host: &Host, id: &TransportId) -> Result<Vec<u32>> {
    let said = host.identify(id)?.succeeds()?.stdout;
    let ids = (said.lines()).filter_map(|line| line.strip_prefix("Namespace ID:"));
    Ok(ids.filter_map(|id| id.trim().parse().ok()).collect())
}

fn add(nqn: &str, write: &str) -> Value {
    json!({ "nqn": nqn, "namespace": { "bdev_name": "disk1", "write": write } })
}

fn is_true(what: &str, result: &Value) -> Outcome {
    expect::equal(what, result, &json!(true))
}

/// A namespace comes, is written and read, and goes; it comes again with what it held.
fn a_namespace_comes_and_goes(lab: &Lab, program: &Program, write: &str, file: &Path) -> Outcome {
    let (host, first) = (&lab.host, program.at(NQN));
    let second = first.clone().namespace(2);
    expect::equal("namespaces at first", namespaces(host, &first)?, vec![1])?;
    let nsid = program.rpc("nvmf_subsystem_add_ns", &add(NQN, write))?;
    expect::equal("the number of a new namespace", nsid, json!(2))?;
    expect::equal(
        "namespaces with one more",
        namespaces(host, &first)?,
        vec![1, 2],
    )?;
    host.write_file(&second, file, 131_072)?.succeeds()?;
    comes_back(host, &second, file)?;

    let taken = program
        .rpc_tool("nvmf_subsystem_add_ns", &add(NQN, write))?
        .fails()?;
    let why = "store `disk1` is namespace 2 of";
    expect::contains("of a store that is taken", &taken.output(), why)?;

    let which = json!({ "nqn": NQN, "nsid": 2 });
    is_true("removed", &program.rpc("nvmf_subsystem_remove_ns", &which)?)?;
    expect::equal(
        "namespaces with one less",
        namespaces(host, &first)?,
        vec![1],
    )?;
    host.write_file(&second, file, 131_072)?.fails()?;

    // By another way to the store, and back: no cache may hold what was there before.
    let others = file.with_extension("others");
    let bytes = fs::read(file)?;
    fs::write(&others, bytes.iter().map(|byte| !byte).collect::<Vec<u8>>())?;
    program.rpc("nvmf_subsystem_add_ns", &add(NQN, "through"))?;
    comes_back(host, &second, file)?;
    host.write_file(&second, &others, 131_072)?.succeeds()?;
    program.rpc("nvmf_subsystem_remove_ns", &which)?;
    program.rpc("nvmf_subsystem_add_ns", &add(NQN, write))?;
    comes_back(host, &second, &others)?;
    host.write_file(&second, file, 131_072)?.succeeds()?;
    program.rpc("nvmf_subsystem_remove_ns", &which)?;
    Ok(())
}

/// A namespace begins with the bytes of a file.
#[track_caller]
fn comes_back(host: &Host, id: &TransportId, file: &Path) -> Outcome {
    let back = file.with_extension("back");
    let bytes = fs::metadata(file)?.len();
    host.read_file(id, &back, 131_072, bytes)?.succeeds()?;
    same_bytes(&back, file)?;
    Ok(fs::remove_file(back)?)
}

/// A subsystem comes with a store that another had, and ends under a host's load. What
/// the host before wrote is on the store, whatever cached it.
fn a_subsystem_comes_and_goes(lab: &Lab, program: &Program, write: &str, file: &Path) -> Outcome {
    let (host, id) = (&lab.host, program.at(NEW));
    host.identify(&id)?.fails()?;
    let new = json!({ "nqn": NEW, "serial_number": "LAB0009", "allow_any_host": true });
    is_true("created", &program.rpc("nvmf_create_subsystem", &new)?)?;
    program.rpc("nvmf_subsystem_add_ns", &add(NEW, write))?;
    let said = host.identify(&id)?.succeeds()?.stdout;
    expect::contains("what a new subsystem says", &said, "LAB0009")?;
    let discovered = host.identify(&program.discovery())?.succeeds()?;
    expect::contains("the discovery log", &discovered.stdout, NEW)?;
    comes_back(host, &id, file)?;

    let before = program.stats()?.sum("connections");
    let load = Load::new("randrw", 16384).depth(8).seconds(600);
    let mut guest = host.perf(&id, &load)?.start()?;
    program.busy(&mut guest, NEW, before + 2)?;
    is_true(
        "deleted",
        &program.rpc("nvmf_delete_subsystem", &json!({ "nqn": NEW }))?,
    )?;
    connections(
        program,
        before,
        "the host of a subsystem that is gone is disconnected",
    )?;
    guest.kill();
    host.identify(&id)?.fails()?;
    let shown = program.rpc("nvmf_get_subsystems", &json!({}))?;
    ensure!(
        !shown.to_string().contains(NEW),
        "it is still shown: {shown}"
    );
    Ok(())
}

/// Waits until there are so many connections and no more.
#[track_caller]
fn connections(program: &Program, wanted: u64, what: &str) -> Outcome {
    wait::until(what, || {
        let now = program.stats()?.sum("connections");
        Ok(if now == wanted {
            Ok(())
        } else {
            Err(format!("{now} connections of {wanted}"))
        })
    })
}

/// A subsystem that any host may use is closed to all but the one at work, and opened.
fn a_subsystem_is_closed_to_others(
    test: &Test,
    lab: &Lab,
    program: &Program,
    worker: &mut Worker,
) -> Outcome {
    let id = program.at(NQN).as_host(UNKNOWN);
    let copy = || {
        lab.host
            .read_file(&id, &test.dir().join("copy"), 4096, 4096)
    };
    let some = json!({ "nqn": NQN, "allow_any_host": false, "hosts": [WORKER] });
    is_true(
        "closed",
        &program.rpc("nvmf_subsystem_allow_any_host", &some)?,
    )?;
    copy()?.fails()?;
    worker.goes_on(program)?;
    let any = json!({ "nqn": NQN, "allow_any_host": true });
    is_true("open", &program.rpc("nvmf_subsystem_allow_any_host", &any)?)?;
    copy()?.succeeds().map(drop)
}

/// A new subsystem is nobody's, then one host's, then everybody's, then one host's again:
/// the others' connections end. It stays, with its namespace and its host.
fn hosts_are_let_in_and_out(test: &Test, lab: &Lab, program: &Program) -> Outcome {
    let (host, id) = (&lab.host, program.at(NEW));
    let [known, unknown] = [KNOWN, UNKNOWN].map(|nqn| id.clone().as_host(nqn));
    let new = json!({ "nqn": NEW, "serial_number": "LAB0009" });
    program.rpc("nvmf_create_subsystem", &new)?;
    program.rpc("nvmf_subsystem_add_ns", &add(NEW, "through"))?;
    let copies = |id: &TransportId| host.read_file(id, &test.dir().join("copy"), 4096, 4096);
    copies(&known)?.fails()?;
    let one = json!({ "nqn": NEW, "host": KNOWN });
    is_true("let in", &program.rpc("nvmf_subsystem_add_host", &one)?)?;
    copies(&known)?.succeeds()?;
    copies(&unknown)?.fails()?;
    let any = json!({ "nqn": NEW, "allow_any_host": true });
    is_true("open", &program.rpc("nvmf_subsystem_allow_any_host", &any)?)?;

    let before = program.stats()?.sum("connections");
    let load = Load::new("randread", 4096).seconds(600);
    let mut guest = host.bdevperf(&unknown, &load)?.start()?;
    program.busy(&mut guest, NEW, before + 2)?;
    let some = json!({ "nqn": NEW, "allow_any_host": false, "hosts": [KNOWN] });
    is_true(
        "closed",
        &program.rpc("nvmf_subsystem_allow_any_host", &some)?,
    )?;
    connections(
        program,
        before,
        "a host that may not connect any more is disconnected",
    )?;
    guest.kill();
    copies(&unknown)?.fails()?;
    copies(&known)?.succeeds()?;
    program.rpc("nvmf_subsystem_remove_host", &one)?;
    copies(&known)?.fails()?;
    program.rpc("nvmf_subsystem_add_host", &one)?;
    let shown = subsystem(program, NEW)?;
    expect::equal("its hosts", &shown["hosts"], &json!([{ "nqn": KNOWN }]))
}

/// The target listens at one more port, which is saved with all the rest, and then no more:
/// who is connected there stays.
fn a_listener_comes_and_goes(lab: &Lab, program: &Program) -> Outcome {
    let (host, id) = (&lab.host, program.at(NQN).at_port(PORT));
    host.identify(&id)?.fails()?;
    let address =
        json!({ "trtype": "TCP", "adrfam": "IPv4", "traddr": TARGET, "trsvcid": PORT.to_string() });
    let listener = |nqn| json!({ "nqn": nqn, "listen_address": address });
    is_true(
        "listens",
        &program.rpc("nvmf_subsystem_add_listener", &listener(NQN))?,
    )?;
    let before = program.stats()?.sum("connections");
    let load = Load::new("randread", 4096).seconds(600);
    // Of the subsystem that only this host may use: its requests are its own.
    let there = program.at(NEW).at_port(PORT).as_host(KNOWN);
    let mut guest = host.bdevperf(&there, &load)?.start()?;
    program.busy(&mut guest, NEW, before + 2)?;
    is_saved(program)?;

    let refused = program
        .rpc_tool("nvmf_subsystem_remove_listener", &listener(NQN))?
        .fails()?;
    let why = "is every subsystem's";
    expect::contains("of a listener that others use too", &refused.output(), why)?;
    let all = listener("nqn.2014-08.org.nvmexpress.discovery");
    is_true(
        "closed",
        &program.rpc("nvmf_subsystem_remove_listener", &all)?,
    )?;
    host.identify(&id)?.fails()?;
    host.identify(&program.at(NQN))?.succeeds()?;
    program.busy(&mut guest, NEW, before + 2)?;
    guest.signal("INT")?;
    guest.succeeds()?;
    connections(program, before, "the guest is gone")
}

/// What was changed so far is in the file, which `throughline check` takes.
fn is_saved(program: &Program) -> Outcome {
    let said = program.config_save()?.succeeds()?.stdout;
    expect::contains("what saving says", &said, ": saved")?;
    let file = fs::read_to_string(program.config_file())?;
    for part in [NEW, KNOWN, "LAB0009", "disk1", "192.0.2.1:4421"] {
        expect::contains("the file", &file, part)?;
    }
    let again = program.config_save()?.succeeds()?.stdout;
    expect::contains("what saving again says", &again, ": as it is already")?;
    // Of this machine it minds only that the program runs, which has its port and both addresses.
    let report = program.check_again()?.arg("--json").fails()?.stdout;
    let report: Value = serde_json::from_str(&report)?;
    let findings = report["findings"].as_array().map_or(&[][..], Vec::as_slice);
    let wrong = findings.iter().filter(|finding| finding["level"] == "no");
    let wrong: Vec<&Value> = wrong.map(|finding| &finding["topic"]).collect();
    expect::equal(
        "what is wrong with the file",
        wrong,
        vec![&json!("claims"), &json!("control"), &json!("metrics")],
    )
}

/// Every kind of change under one host's verified load, and a restart on what was saved.
fn changes(test: &Test, config: &Config, write: &str) -> Outcome {
    let lab = Lab::new(test)?;
    let program = lab.start(config)?;
    let mut worker = Worker::start(&lab.host, &program)?;
    let file = test.fresh_file(4 * MIB)?;
    a_namespace_comes_and_goes(&lab, &program, write, &file)?;
    worker.goes_on(&program)?;
    a_subsystem_comes_and_goes(&lab, &program, write, &file)?;
    worker.goes_on(&program)?;
    a_subsystem_is_closed_to_others(test, &lab, &program, &mut worker)?;
    hosts_are_let_in_and_out(test, &lab, &program)?;
    worker.goes_on(&program)?;
    a_listener_comes_and_goes(&lab, &program)?;
    worker.ends_without_an_error(&program)?;
    match write {
        // The page cache keeps what it read and wrote.
        "back" => connections(&program, 0, "every host is gone")?,
        _ => program.settled()?,
    }

    let before = [subsystem(&program, NQN)?, subsystem(&program, NEW)?];
    let program = program.kill_and_start_again()?;
    for (mut was, nqn) in before.into_iter().zip([NQN, NEW]) {
        let mut is = subsystem(&program, nqn)?;
        // Saved before the listener was removed.
        let [_, now] = [&mut was, &mut is].map(|shown| shown["listen_addresses"].take());
        expect::contains("listeners", &now.to_string(), &PORT.to_string())?;
        expect::equal("a subsystem after a restart", is, was)?;
    }
    lab.host
        .identify(&program.at(NQN).at_port(PORT))?
        .succeeds()?;
    let known = program.at(NEW).at_port(PORT).as_host(KNOWN);
    lab.host.there_and_back(&known, 131_072, MIB)?;
    program.stop()
}

fn k06_changes_under_load(test: &Test) -> Outcome {
    changes(test, &two_stores(), "through")
}

/// The same with a page cache in each of two shards: what is dirty of a namespace that
/// goes is written before its store is another's.
fn k06_changes_under_load_in_write_back_on_two_shards(test: &Test) -> Outcome {
    changes(test, &two_cached_shards(), "back")
}

lab::tests![
    k06_changes_under_load,
    k06_changes_under_load_in_write_back_on_two_shards,
];
