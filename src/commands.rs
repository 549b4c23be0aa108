//! The commands, each as a function that gives the exit code.

mod bind;
mod capture;
mod config;
mod key;
mod manual;
mod notify;
mod run;
mod service;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

pub(crate) use self::bind::{Devices, bind, unbind};
pub(crate) use self::capture::{Frames, capture};
pub(crate) use self::config::{save_config, show_config};
pub(crate) use self::key::{Transform, generate_key};
pub(crate) use self::manual::{Page, manual};
pub(crate) use self::run::run;
use crate::check;
use crate::control::Client;
use crate::host::Host;
use crate::stats::Stats;
use crate::text::Table;
use crate::{logstore, report, top};

/// Longer than the program itself waits for its shards.
const ANSWER: Duration = Duration::from_secs(10);

/// Longer than the program waits until a pair has done what it is told.
const PAIR: Duration = Duration::from_secs(15);

/// `throughline check`
pub(crate) fn check(config: Option<&Path>, json: bool) -> anyhow::Result<ExitCode> {
    let host = Host::here();
    let report = match config {
        None => check::machine(&host),
        Some(path) => match crate::config::load(path, host.cores().as_deref()) {
            Ok(program) => check::trial(&program, check::program(&host, &program)),
            Err(error) => check::unreadable(&error),
        },
    };
    if json {
        print(&pretty(&report)?)?;
    } else {
        print(&report.to_string())?;
    }
    Ok(if report.ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// `throughline stats`
pub(crate) fn stats(socket: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let answer = Client::connect(socket)?.call("throughline_get_stats", json!({}), ANSWER)?;
    if json {
        print(&pretty(&answer)?)?;
    } else {
        let stats: Stats = serde_json::from_value(answer).context(
            "the running program is of another version: its counters are not understood",
        )?;
        print(&stats.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `throughline top`
pub(crate) fn top(
    socket: &Path,
    delay: Duration,
    once: bool,
    json: bool,
    sort: top::Sort,
) -> anyhow::Result<ExitCode> {
    if once || json {
        print(&top::once(socket, delay, json, sort)?)?;
    } else {
        top::live(socket, delay, sort)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `throughline log show`
pub(crate) fn show_log(
    store: Option<&str>,
    config: Option<&Path>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let shown = match (config, store) {
        (Some(config), store) => {
            let program = crate::config::load(config, None)?;
            let names: Vec<&str> = program.engine.store_names().collect();
            logstore::look(&logstore::file_of(&program, store)?, Some(&names))?
        }
        (None, Some(file)) => logstore::look(Path::new(file), None)?,
        (None, None) => anyhow::bail!("name a file or block device, or give --config FILE"),
    };
    match json {
        true => print(&pretty(&shown)?)?,
        false => print(&shown.to_string())?,
    }
    Ok(match shown.refusal {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    })
}

/// `throughline pair report`
pub(crate) fn pair_report(socket: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let answer = Client::connect(socket)?.call("throughline_pair_report", json!({}), ANSWER)?;
    if json {
        print(&pretty(&answer)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let volumes = answer.as_array().cloned().unwrap_or_default();
    if volumes.is_empty() {
        print("there is no pair: [pair] in the configuration makes one\n")?;
    }
    for volume in volumes {
        let text = |key: &str| volume[key].as_str().unwrap_or_default().to_owned();
        let peer: String = text("peer").chars().take(8).collect();
        let link = volume["link"].as_str().unwrap_or("down");
        print(&format!(
            "{} with {peer}: {}; link: {link}\n",
            text("store"),
            text("state")
        ))?;
        if let Some(since) = volume["severed_by_operator"].as_str() {
            print(&format!(
                "{} with {peer}: severed at {since}\n",
                text("store")
            ))?;
        }
        if let Some(verify) = volume["verify"]["text"].as_str() {
            print(&format!("{} with {peer}: {verify}\n", text("store")))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `throughline pair promote`
pub(crate) fn pair_promote(socket: &Path, store: &str, force: bool) -> anyhow::Result<ExitCode> {
    let params = json!({ "store": store, "force": force });
    Client::connect(socket)?.call("throughline_pair_promote", params, ANSWER)?;
    print(&format!("this node is the source of {store}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// `throughline pair VERB STORE`: by method `throughline_pair_VERB`; `done` is printed then.
pub(crate) fn pair_order(
    socket: &Path,
    verb: &str,
    store: &str,
    done: &str,
) -> anyhow::Result<ExitCode> {
    let params = json!({ "store": store });
    let method = format!("throughline_pair_{verb}");
    Client::connect(socket)?.call(&method, params, PAIR)?;
    print(&format!("{store}: {done}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// `throughline pair discard`
pub(crate) fn pair_discard(
    socket: &Path,
    store: &str,
    volume_name: &str,
    force: bool,
) -> anyhow::Result<ExitCode> {
    let params = json!({ "store": store, "volume_name": volume_name, "force": force });
    Client::connect(socket)?.call("throughline_pair_discard", params, PAIR)?;
    print(&format!(
        "{store}: what this node had is given up, and it is copied to: `throughline pair report` says how far that is\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// `throughline pair resize`
pub(crate) fn pair_resize(
    socket: &Path,
    store: &str,
    bytes: Option<u64>,
    volume_name: Option<&str>,
    waits: bool,
) -> anyhow::Result<ExitCode> {
    let mut params = json!({ "store": store });
    if let Some(bytes) = bytes {
        params["bytes"] = bytes.into();
    }
    if let Some(name) = volume_name {
        params["volume_name"] = name.into();
    }
    let before = pair_of(socket, store)?["bytes"].clone();
    Client::connect(socket)?.call("throughline_pair_resize", params, PAIR)?;
    if !waits {
        print("begun: `throughline pair report` says how far it is\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let volume = loop {
        let volume = pair_of(socket, store)?;
        if volume["resizes_to"].is_null() {
            break volume;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    print(&format!("{store}: {} bytes\n", volume["bytes"]))?;
    Ok(match volume["bytes"] == before {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// What the report says of the volume on a store.
fn pair_of(socket: &Path, store: &str) -> anyhow::Result<Value> {
    let answer = Client::connect(socket)?.call("throughline_pair_report", json!({}), ANSWER)?;
    let volumes = answer.as_array().cloned().unwrap_or_default();
    let volume = volumes.into_iter().find(|volume| volume["store"] == store);
    volume.with_context(|| format!("no pair has a volume on store {store:?}"))
}

/// `throughline pair set-frame-size`
pub(crate) fn pair_set_frame_size(
    socket: &Path,
    store: &str,
    kib: u32,
) -> anyhow::Result<ExitCode> {
    let params = json!({ "store": store, "kib": kib });
    Client::connect(socket)?.call("throughline_pair_set_frame_size", params, PAIR)?;
    print(&format!(
        "frames to and from the other node have {kib} KiB of payload at most; `throughline config save` keeps it\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// `throughline pair update-tables`
pub(crate) fn pair_update_tables(socket: &Path, store: &str) -> anyhow::Result<ExitCode> {
    let params = json!({ "store": store });
    let answer = Client::connect(socket)?.call("throughline_pair_update_tables", params, PAIR)?;
    let lines = answer.as_array().cloned().unwrap_or_default();
    let mut table = Table::new([store, "here", "there", ""]).left(&[1, 2, 3]);
    for line in &lines {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let differs = if line["is_right"] == true { "" } else { "look" };
        table.row(vec![
            text("what"),
            text("here"),
            text("there"),
            differs.into(),
        ]);
    }
    print(&table.to_string())?;
    Ok(match lines.iter().all(|line| line["is_right"] == true) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// `throughline pair verify`
pub(crate) fn pair_verify(
    socket: &Path,
    store: &str,
    mend: bool,
    waits: bool,
) -> anyhow::Result<ExitCode> {
    let call = |method, params| Client::connect(socket)?.call(method, params, ANSWER);
    let params = json!({ "store": store, "mend": mend });
    call("throughline_pair_verify", params)?;
    if !waits {
        print("begun: `throughline pair report` says how far it is\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let verify = loop {
        std::thread::sleep(Duration::from_millis(200));
        let verify = pair_of(socket, store)?["verify"].clone();
        if verify["has_ended"] == true {
            break verify;
        }
    };
    print(&format!(
        "{store}: {}\n",
        verify["text"].as_str().unwrap_or_default()
    ))?;
    for range in verify["differing"].as_array().into_iter().flatten() {
        print(&format!(
            "  {} bytes at {}\n",
            range["bytes"], range["offset"]
        ))?;
    }
    let is_good = verify["compared"] == verify["granules"] && verify["differing_blocks"] == 0;
    Ok(match is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// `throughline consistency-point`
pub(crate) fn consistency_point(socket: &Path, seconds: u64) -> anyhow::Result<ExitCode> {
    let timeout = Duration::from_secs(seconds).saturating_add(ANSWER);
    let params = json!({ "seconds": seconds });
    let answer = Client::connect(socket)?.call("throughline_consistency_point", params, timeout)?;
    let count = |key| answer.get(key).and_then(Value::as_u64).unwrap_or_default();
    print(&format!(
        "What was acknowledged is on its drives: {} shard(s), {} bytes of the log are free again\n",
        count("shards"),
        count("log_bytes")
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// `throughline stop`
pub(crate) fn stop(socket: &Path) -> anyhow::Result<ExitCode> {
    let answer = Client::connect(socket)?.call("throughline_stop", json!({}), ANSWER)?;
    anyhow::ensure!(answer == Value::Bool(true), "the program answered {answer}");
    Ok(ExitCode::SUCCESS)
}

/// `throughline rpc`
pub(crate) fn rpc(socket: &Path, method: &str, params: Option<&str>) -> anyhow::Result<ExitCode> {
    let params: Value = match params {
        Some(text) => serde_json::from_str(text).context("the parameters are not JSON")?,
        None => json!({}),
    };
    anyhow::ensure!(
        params.is_object(),
        "the parameters are an object, such as '{{\"nqn\": \"nqn.2026-01.com.example:disk0\"}}'"
    );
    let answer = Client::connect(socket)?.call(method, params, ANSWER)?;
    print(&pretty(&answer)?)?;
    Ok(ExitCode::SUCCESS)
}

/// `throughline report`
pub(crate) fn report(directory: &Path) -> anyhow::Result<ExitCode> {
    let report = report::read(directory)?;
    let file = directory.join("report.json");
    std::fs::write(&file, pretty(&report)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    print(&report.to_string())?;
    Ok(if report.good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn pretty(value: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Writes to standard output; a reader that went away (`| head`) is no error.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
