//! Volumes that lie on several stores: through kills, with stores in another order, and as one node of a pair.

use std::fs::{self, OpenOptions};

use lab::config::{NQN, TARGET};
use lab::pair::{self, NODES, Pair, is_in_sync, on_files, report, serves};
use lab::writer::Writer;
use lab::{Config, Lab, MIB, Outcome, Program, Result, Section, Test, ensure, expect, wait};
use serde_json::json;

/// A logged volume of 2 MiB and more, so that the border lies in what a writer writes.
fn spanned(test: &Test, parts: &[&str]) -> Result<Config> {
    let namespace = Section::new().key("store", "big").key("write", "logged");
    let log = Section::new()
        .key("store", "log0")
        .key("consistency_point_s", 1);
    let config = Config::empty()
        .subsystem(Section::subsystem(NQN, "LAB0001", namespace))
        .section("log", log);
    let file = |name: &str| test.dir().join(name);
    let stores = [
        ("flash0", file("flash0"), 1),
        ("flash1", file("flash1"), 31),
        ("log0", file("log0"), 24),
    ];
    let config = on_files(config, &test.dir().join("spdk.json"), &stores)?;
    let parts: Vec<String> = parts.iter().copied().map(String::from).collect();
    Ok(config.store(Section::new().key("name", "big").key("span", parts)))
}

/// A start ends with such words.
fn is_refused(lab: &Lab, config: &Config, words: &[&str]) -> Outcome {
    let refused = lab.refusal(config)?;
    for words in words {
        expect::contains("why it is refused", &refused, words)?;
    }
    Ok(())
}

fn r08_a_volume_spans_two_stores(test: &Test) -> Outcome {
    let lab = Lab::new(test)?;
    let config = spanned(test, &["flash0", "flash1"])?;
    let mut program = lab.start(&config)?;
    let mut writer = Writer::new(0, TARGET);
    for version in 1..4 {
        lab.host.namespace.within(|| writer.write_all(version))?;
        program = program.kill_and_start_again()?;
        lab.host.namespace.within(|| writer.verify())?;
    }
    let stores = program.rpc("bdev_get_bdevs", &json!({ "name": "big" }))?;
    expect::equal(
        "its blocks",
        &stores[0]["num_blocks"],
        &json!(32 * MIB / 4096),
    )?;
    let stores = &stores[0]["driver_specific"]["span"]["base_bdevs_list"];
    expect::equal("what it lies on", stores, &json!(["flash0", "flash1"]))?;
    let taken = program.rpc_tool(
        "nvmf_subsystem_add_ns",
        &json!({ "nqn": NQN, "namespace": { "bdev_name": "flash1" } }),
    )?;
    expect::contains("why not", &taken.fails()?.output(), "is a part of store")?;
    program.stop()?;
    // Nothing is to be replayed, and what was written lies elsewhere in another order all the same.
    let is_another = ["does not lie where it did", "flash0, flash1, in this order"];
    is_refused(&lab, &spanned(test, &["flash1", "flash0"])?, &is_another)?;
    is_refused(&lab, &spanned(test, &["flash0"])?, &is_another)?;
    fs::rename(test.dir().join("flash1"), test.dir().join("away"))?;
    is_refused(&lab, &config_without_file(test)?, &["flash1"])?;
    fs::rename(test.dir().join("away"), test.dir().join("flash1"))?;
    let program = lab.start(&config)?;
    lab.host.namespace.within(|| writer.verify())?;
    program.stop()?;
    // The last one becomes larger, and the volume with it.
    let last = OpenOptions::new()
        .write(true)
        .open(test.dir().join("flash1"))?;
    last.set_len(40 * MIB)?;
    let program = lab.start(&config)?;
    let stores = program.rpc("bdev_get_bdevs", &json!({ "name": "big" }))?;
    expect::equal(
        "its blocks",
        &stores[0]["num_blocks"],
        &json!(41 * MIB / 4096),
    )?;
    lab.host.namespace.within(|| writer.verify())?;
    program.stop()
}

/// The same configuration, whose second store's file is not there.
fn config_without_file(test: &Test) -> Result<Config> {
    let config = spanned(test, &["flash0", "flash1"])?;
    fs::remove_file(test.dir().join("flash1"))?;
    Ok(config)
}

fn promote(program: &Program<'_>) -> Outcome {
    wait::until("it is promoted", || {
        let params = json!({ "store": pair::STORE });
        let promoted = program.rpc("throughline_pair_promote", &params);
        Ok(promoted.map(drop).map_err(|failure| failure.to_string()))
    })?;
    serves(program)
}

/// One node has the volume on one store, and the other one on three, of which the first border lies in what hosts write.
fn r08_nodes_of_a_pair_are_composed_differently(test: &Test) -> Outcome {
    let mut pair = Pair::new(test)?;
    pair.parts_mib[1] = vec![1, 40, 22];
    let (source, destination) = (pair.start(0)?, pair.start(1)?);
    // 63 MiB are not 64.
    let told = ["67108864", "66060288"];
    for (program, [here, there]) in [(&source, told), (&destination, [told[1], told[0]])] {
        let why = format!("the volume has {here} bytes in blocks of 4096 here, and {there} in");
        program.logs(&why, 1)?;
    }
    destination.stop()?;
    source.stop()?;
    for file in ["part01", "part11", "part21", "log1", "log0", "disk0"] {
        fs::remove_file(test.dir().join(file))?;
    }
    pair.parts_mib[1] = vec![1, 40, 23];
    let mut writer = Writer::new(0, NODES[0]);
    let (source, destination) = (pair.start(0)?, pair.start(1)?);
    is_in_sync(&source, "source")?;
    pair.host.within(|| writer.write_all(1))?;
    // What it lacks is copied to it.
    destination.kill();
    pair.host.within(|| writer.write_all(2))?;
    let destination = pair.start(1)?;
    is_in_sync(&source, "source")?;
    source.kill();
    promote(&destination)?;
    writer.goes_to(NODES[1]);
    pair.host.within(|| writer.verify())?;
    pair.host.within(|| writer.write_all(3))?;
    let (source, destination) = (destination, pair.start(0)?);
    is_in_sync(&source, "source")?;
    let now = report(&source)?;
    expect::equal("its bytes", &now["bytes"], &json!(64 * MIB))?;
    // Smaller than its second part reaches, and as large as all of them again.
    for bytes in [16 * MIB, 64 * MIB] {
        let len = bytes.to_string();
        let words = [
            "resize",
            pair::STORE,
            "--bytes",
            &len,
            "--volume-name",
            pair::STORE,
        ];
        let resized = pair::command(test, &source, &words)?.succeeds()?;
        expect::contains("what it says", &resized.output(), &format!("{len} bytes"))?;
        is_in_sync(&source, "source")?;
        is_in_sync(&destination, "destination")?;
    }
    pair.host.within(|| writer.verify())?;
    destination.stop()?;
    source.stop()?;
    let part = |i: usize| fs::read(test.dir().join(format!("part{i}1")));
    let spread = [part(0)?, part(1)?, part(2)?].concat();
    let whole = fs::read(test.dir().join("disk0"))?;
    ensure!(whole.len() == spread.len(), "{} bytes", spread.len());
    let differs = whole.iter().zip(&spread).position(|(a, b)| a != b);
    expect::equal("where the drives differ", differs, None)
}

lab::tests![
    r08_a_volume_spans_two_stores,
    r08_nodes_of_a_pair_are_composed_differently,
];
