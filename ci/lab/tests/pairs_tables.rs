//! What an operator asks both nodes of a pair for, by the command line and by JSON-RPC: which one's data are the volume, their tables side
//! by side, and the size of frames.

use lab::pair::{self, NODES, Pair, is_in_sync, reports};
use lab::writer::Writer;
use lab::{Outcome, Program, Result, Test, ensure, expect, wait};
use serde_json::{Value, json};

/// `throughline pair …`, of a program.
/// What a node answers to a method of a pair: its result, or its error.
fn ask(program: &Program<'_>, method: &str, params: &Value) -> Result<Value> {
    let method = format!("throughline_pair_{method}");
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let answer = program.control(&request.to_string())?;
    Ok(match answer.get("error") {
        Some(error) => error.clone(),
        None => answer["result"].clone(),
    })
}

/// The tables of both nodes, as one of them has them by JSON-RPC.
fn tables(program: &Program<'_>) -> Result<Vec<Value>> {
    let tables = ask(program, "update_tables", &json!({ "store": "disk0" }))?;
    ensure!(tables.is_array(), "no tables: {tables}");
    Ok(tables.as_array().cloned().unwrap_or_default())
}

/// A line of them.
fn line(tables: &[Value], what: &str) -> Result<Value> {
    let found = tables.iter().find(|line| line["what"] == what);
    ensure!(found.is_some(), "no line of {what}: {tables:?}");
    Ok(found.cloned().unwrap_or_default())
}

/// Both nodes' tables are compared from either, and what is not as it is to be is marked.
fn r03_tables_of_both_nodes_are_told_side_by_side(test: &Test) -> Outcome {
    let pair = Pair::new(test)?;
    let mut writer = Writer::new(0, NODES[0]);
    let (source, destination) = (pair.start(0)?, pair.start(1)?);
    is_in_sync(&source, "source")?;
    is_in_sync(&destination, "destination")?;
    for (program, [here, there]) in [
        (&source, ["source", "destination"]),
        (&destination, ["destination", "source"]),
    ] {
        let told = pair::command(test, program, &["update-tables", "disk0"])?;
        let told = told.succeeds()?.stdout;
        expect::contains("what is compared", &told, "67108864")?;
        ensure!(!told.contains("look"), "all is right, and it says {told}");
        let tables = tables(program)?;
        let role = line(&tables, "role")?;
        expect::equal("the role here", &role["here"], &json!(here))?;
        expect::equal("the role there", &role["there"], &json!(there))?;
        let is_right = tables.iter().all(|line| line["is_right"] == true);
        ensure!(is_right, "not all is right: {tables:?}");
    }
    // An operator severs the pair, and the source is changed alone.
    pair::command(test, &source, &["sever", "disk0"])?.succeeds()?;
    reports(
        &destination,
        "it knows that the pair is severed",
        |report| report["step"] == "severed",
    )?;
    pair.host.within(|| writer.write_all(1))?;
    let told = pair::command(test, &destination, &["update-tables", "disk0"])?;
    let told = told.fails()?.stdout;
    for what in [
        "generation",
        "granules changed alone",
        "severed by an operator",
    ] {
        let marked = (told.lines()).any(|line| line.contains(what) && line.ends_with("look"));
        ensure!(marked, "{what} is not marked: {told}");
    }
    pair::command(test, &source, &["reestablish", "disk0"])?.succeeds()?;
    is_in_sync(&source, "source")?;
    // Without the other one there is nothing to compare.
    destination.kill();
    wait::until("the other node is not heard", || {
        let told = ask(&source, "update_tables", &json!({ "store": "disk0" }))?;
        let message = told["message"].as_str().unwrap_or_default();
        Ok(match message.contains("is not heard") {
            true => Ok(()),
            false => Err(told.to_string()),
        })
    })?;
    let told = pair::command(test, &source, &["update-tables", "disk0"])?;
    expect::contains("why not", &told.fails()?.output(), "is not heard")?;
    source.kill();
    Ok(())
}

/// How long frames are is said while hosts write, counts on both nodes, and is kept if that is asked for.
fn r03_the_size_of_frames_is_said_and_kept(test: &Test) -> Outcome {
    let pair = Pair::new(test)?;
    let mut writer = Writer::new(0, NODES[0]);
    let (source, destination) = (pair.start(0)?, pair.start(1)?);
    is_in_sync(&source, "source")?;
    is_in_sync(&destination, "destination")?;
    let frames = |program: &Program<'_>, expected: [u64; 2]| {
        let frame = line(&tables(program)?, "bytes of a frame")?;
        let told = [&frame["here"], &frame["there"]];
        let expected = expected.map(|bytes| json!(bytes.to_string()));
        let [here, there] = &expected;
        expect::equal("bytes of a frame", &told, &[here, there])
    };
    frames(&source, [4 << 20; 2])?;
    let set = pair::command(test, &source, &["set-frame-size", "disk0", "8"])?;
    expect::contains("what it says", &set.succeeds()?.stdout, "8 KiB of payload")?;
    frames(&source, [8 << 10, 4 << 20])?;
    frames(&destination, [4 << 20, 8 << 10])?;
    // Writes of up to 64 KiB go in many frames, and copies do.
    pair.host.within(|| writer.write_all(1))?;
    let refused = ask(
        &destination,
        "set_frame_size",
        &json!({ "store": "disk0", "kib": 64 }),
    )?;
    expect::contains(
        "why not",
        refused["message"].as_str().unwrap_or_default(),
        "takes frames with 8192 bytes",
    )?;
    let refused = pair::command(test, &source, &["set-frame-size", "disk0", "3"])?;
    expect::contains("why not", &refused.fails()?.output(), "4 to 4096")?;
    let set = ask(
        &destination,
        "set_frame_size",
        &json!({ "store": "disk0", "kib": 4 }),
    )?;
    expect::equal("what is answered", &set, &json!(true))?;
    frames(&source, [8 << 10, 4 << 10])?;
    pair.host.within(|| writer.write_all(2))?;
    // It is what the next run begins with if it is kept.
    for program in [&source, &destination] {
        program.config_save()?.succeeds()?;
    }
    let destination = destination.kill_and_start_again()?;
    is_in_sync(&destination, "destination")?;
    is_in_sync(&source, "source")?;
    frames(&source, [8 << 10, 4 << 10])?;
    frames(&destination, [4 << 10, 8 << 10])?;
    let verify = pair::command(test, &source, &["verify", "disk0"])?;
    expect::contains(
        "the comparison",
        &verify.succeeds()?.output(),
        "none differs",
    )?;
    pair.host.within(|| writer.verify())?;
    source.kill();
    destination.kill();
    Ok(())
}

/// Neither node serves before an operator says whose data are the volume; then it may not be said again.
fn r03_a_pair_is_established_at_the_node_that_an_operator_says(test: &Test) -> Outcome {
    let mut pair = Pair::new(test)?;
    pair.first_roles = None;
    let mut writer = Writer::new(1, NODES[1]);
    let (first, second) = (pair.start(0)?, pair.start(1)?);
    for program in [&first, &second] {
        reports(program, "both wait for an operator", |report| {
            let state = report["state"].as_str().unwrap_or_default();
            report["step"] == "refused" && state.contains("throughline pair establish")
        })?;
    }
    let refused = pair::command(test, &first, &["promote", "disk0"])?;
    expect::contains("why not", &refused.fails()?.output(), "not whole")?;
    let refused = pair::command(test, &second, &["establish", "disk1"])?;
    expect::contains("why not", &refused.fails()?.output(), "disk1")?;
    let established = pair::command(test, &second, &["establish", "disk0"])?;
    expect::contains(
        "what it says",
        &established.succeeds()?.stdout,
        "is the source",
    )?;
    is_in_sync(&second, "source")?;
    is_in_sync(&first, "destination")?;
    pair.is_told(1, "established", 1, "source")?;
    pair.host.within(|| writer.write_all(1))?;
    for program in [&first, &second] {
        let refused = ask(program, "establish", &json!({ "store": "disk0" }))?;
        let why = refused["message"].as_str().unwrap_or_default();
        expect::contains("why not", why, "Not established: ")?;
    }
    let verify = pair::command(test, &second, &["verify", "disk0"])?;
    expect::contains(
        "the comparison",
        &verify.succeeds()?.output(),
        "none differs",
    )?;
    // It is so after both were away.
    let second = second.kill_and_start_again()?;
    let first = first.kill_and_start_again()?;
    is_in_sync(&second, "source")?;
    is_in_sync(&first, "destination")?;
    pair.host.within(|| writer.verify())?;
    second.kill();
    first.kill();
    Ok(())
}

lab::tests![
    r03_a_pair_is_established_at_the_node_that_an_operator_says,
    r03_tables_of_both_nodes_are_told_side_by_side,
    r03_the_size_of_frames_is_said_and_kept,
];
