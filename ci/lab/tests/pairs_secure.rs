//! The link of a mirrored pair in TLS, and in the clear: what is on the wire, and who gets no link.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lab::config::NQN;
use lab::pair::{NODES, PORTS, Pair, is_in_sync, report, reports};
use lab::{Outcome, Program, Result, Test, ensure, expect, wait};
use serde_json::json;
use testkit::Config as HostConfig;
use testkit::blocking::Queue;

const BLOCK: usize = 4096;
/// What a host writes, over and over.
const TEXT: &[u8] = b"nobody on the way is to read this. ";

/// Runs both nodes in sync, has a host write to the source, and returns what was on the link meanwhile.
fn on_the_link(test: &Test, pair: &Pair, name: &str, link: &str) -> Result<Vec<u8>> {
    let file = test.dir().join(name);
    let tool = pair.host.tool("tcpdump").args(["-i", PORTS[0]]);
    let mut capture = tool
        .args(["-Z", "root", "-U", "-s", "0", "-w"])
        .arg(&file)
        .args(["tcp", "port", "4421"])
        .start()?;
    wait::until("the capture has begun", || {
        Ok(match capture.output().contains("listening on") {
            true => Ok(()),
            false => Err(capture.output()),
        })
    })?;
    let both = [pair.start(0)?, pair.start(1)?];
    is_in_sync(&both[0], "source")?;
    is_in_sync(&both[1], "destination")?;
    for program in &both {
        let is_so = |report: &serde_json::Value| report["link"] == link;
        reports(program, "what the link is encrypted by", is_so)?;
    }
    let data: Vec<u8> = TEXT.iter().copied().cycle().take(16 * BLOCK).collect();
    pair.host.within(|| {
        let target: SocketAddr = format!("{}:4420", NODES[0]).parse().expect("an address");
        let (_admin, mut io) = Queue::controller(target, HostConfig::new(NQN))?;
        let status = io.write(0, BLOCK, &data, false)?;
        let (read, found) = io.read(0, BLOCK, data.len())?;
        match (status, read) == (0, 0) && found == data {
            true => Ok(()),
            false => Err(std::io::Error::other(format!("{status:#x}, {read:#x}"))),
        }
    })?;
    sealed(&both[0], link.starts_with("TLS"), data.len())?;
    for program in both {
        program.kill();
    }
    capture.signal("INT")?;
    capture.ends()?;
    Ok(fs::read(&file)?)
}

/// What was forwarded was sealed, and into fresh pages, or nothing was.
fn sealed(source: &Program<'_>, is_encrypted: bool, len: usize) -> Outcome {
    let stats = source.stats()?;
    let sealed = stats.sum("counters.tls.sealed_bytes");
    match is_encrypted {
        true => expect::at_least("bytes sealed", sealed, len as u64),
        false => expect::equal("bytes sealed", sealed, 0),
    }
}

fn has(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|part| part == text)
}

/// Without a word in the configuration the link is encrypted, and nothing of what is forwarded is on the wire as it is; with `off` it is.
fn k06_the_link_of_a_pair_is_in_tls(test: &Test) -> Outcome {
    test.needs("tcpdump")?;
    let mut pair = Pair::new(test)?;
    let secret = on_the_link(test, &pair, "tls.pcap", "TLS_AES_128_GCM_SHA256")?;
    expect::at_least("bytes on the link", secret.len(), 16 * BLOCK)?;
    ensure!(!has(&secret, TEXT), "what is forwarded is in the clear");
    ensure!(!has(&secret, b"TLMP\x01"), "frames are in the clear");
    pair.tls = [Some("off"); 2];
    let clear = on_the_link(test, &pair, "clear.pcap", "in the clear")?;
    ensure!(has(&clear, TEXT), "what is forwarded was not captured");
    Ok(())
}

/// Two nodes log that, and have no link.
fn have_no_link(both: [Program<'_>; 2], texts: [&str; 2]) -> Outcome {
    for (program, text) in both.iter().zip(texts) {
        program.logs(text, 2)?;
        expect::equal("the link", &report(program)?["link"], &json!(null))?;
    }
    for program in both {
        program.kill();
    }
    Ok(())
}

fn write_key(path: &Path, digits: &str) -> Outcome {
    fs::write(path, digits.repeat(32))?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o600),
    )?)
}

/// A node whose link is in the clear, and one that has another key, get no link with one whose link is in TLS: both say what to do.
fn k06_nodes_that_are_not_set_alike_have_no_link(test: &Test) -> Outcome {
    const SAME: &str = "write the same `tls` in [pair] of both nodes";
    const KEYS: &str = "compare the key files of both nodes";
    let mut pair = Pair::new(test)?;
    for odd in 0..2 {
        pair.tls = [None; 2];
        pair.tls[odd] = Some("off");
        have_no_link([pair.start(0)?, pair.start(1)?], [SAME; 2])?;
    }
    for tls in [None, Some("off")] {
        pair.tls = [tls; 2];
        let key = test.dir().join("pair.key");
        write_key(&key, "5a")?;
        let first = pair.start(0)?;
        write_key(&key, "a5")?;
        let second = pair.start(1)?;
        // In the clear the one that opens a connection proves itself first: each does.
        have_no_link([first, second], [KEYS; 2])?;
    }
    Ok(())
}

lab::tests![
    k06_nodes_that_are_not_set_alike_have_no_link,
    k06_the_link_of_a_pair_is_in_tls,
];
