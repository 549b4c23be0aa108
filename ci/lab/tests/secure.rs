//! Hosts over TLS: OpenSSL's client between them and the program.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use lab::config::{NQN, TARGET};
use lab::{Config, Lab, Outcome, Section, Test, Tunnel, ensure, expect};
use serde_json::json;
use testkit::Config as HostConfig;
use testkit::blocking::Queue;
use tls::{ConfiguredPsk, Derivation, Hash, IdentityVersion};

const BLOCK: usize = 512;
/// TCP ports: one for those with TLS and without, one for those with it alone.
const ALLOWED: u16 = 4420;
const REQUIRED: u16 = 4421;

/// A key, in a file that root alone may read.
fn key(test: &Test, name: &str, fill: u8) -> io::Result<(ConfiguredPsk, PathBuf)> {
    let key = ConfiguredPsk::new(&[fill; 32], Some(Hash::Sha256)).expect("32 bytes");
    let path = test.dir().join(name);
    fs::write(&path, key.text().as_bytes())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok((key, path))
}

fn at(port: u16) -> SocketAddr {
    format!("{TARGET}:{port}").parse().expect("an address")
}

fn host() -> HostConfig {
    HostConfig::new(NQN)
}

/// A way to the program that proves that key as that host.
fn tunnel(key: &ConfiguredPsk, version: IdentityVersion, port: u16) -> io::Result<Tunnel> {
    let psk = key.derive(&host().host, NQN, version, Derivation::Rfc8446);
    Tunnel::new(at(port), &psk.expect("names that are short"))
}

/// The program, whose one host has that key, by those two ports.
fn config(path: &std::path::Path) -> Config {
    let listener = |port: u16, tls: &str| {
        let address = format!("{TARGET}:{port}");
        Section::new().key("address", address).key("tls", tls)
    };
    let listen = vec![listener(ALLOWED, "allowed"), listener(REQUIRED, "required")];
    let listen: Vec<toml::Value> = listen.into_iter().map(Into::into).collect();
    let key = Section::new()
        .key("name", "host0")
        .key("file", path.display().to_string());
    let with_key = Section::new().key("nqn", host().host).key("psk", "host0");
    let hosts: Vec<toml::Value> = vec![with_key.into()];
    let mut config = Config::one_disk();
    config.subsystems[0] = config.subsystems[0].clone().key("hosts", hosts);
    let keys: Vec<toml::Value> = vec![key.into()];
    config.sections.insert("key".into(), keys.into());
    config.section("target", Section::new().key("listen", listen))
}

/// Writes, reads back, and compares; short commands and such as fill many records.
fn works((_admin, mut io): (Queue, Queue)) -> io::Result<()> {
    for (lba, len) in [(0, BLOCK), (8, 4096), (64, 128 << 10), (333, 13 * BLOCK)] {
        let data: Vec<u8> = (0..len).map(|at| (at / 7 + at % 251) as u8).collect();
        for in_capsule in [len <= 4096, false] {
            let status = io.write(lba, BLOCK, &data, in_capsule)?;
            let (read, found) = io.read(lba, BLOCK, len)?;
            if (status, read) != (0, 0) || found != data {
                return Err(io::Error::other(format!(
                    "{len} bytes at block {lba}: {status:#x}, {read:#x}"
                )));
            }
        }
    }
    Ok(())
}

/// A host connects, writes, reads back and compares by both versions of an identity; another key, and no TLS where it
/// has a key, does not get in; then the key is another one, and the one before it is none.
fn k06_a_host_over_tls(test: &Test) -> Outcome {
    test.needs("openssl")?;
    let lab = Lab::new(test)?;
    let (first, path) = key(test, "host0.key", 0x17)?;
    let (second, other) = key(test, "host1.key", 0x71)?;
    let program = lab.start(&config(&path))?;
    let network = &lab.host.namespace;
    network.run("ip link set lo up")?;
    network.within(|| {
        for version in IdentityVersion::ALL {
            for port in [ALLOWED, REQUIRED] {
                let tunnel = tunnel(&first, version, port)?;
                works(Queue::controller(tunnel.address, host())?)?;
            }
        }
        Ok(())
    })?;
    // The CPU copied nothing that it would not have without TLS, but what a record's header makes odd.
    let stats = program.stats()?;
    expect::at_least("handshakes", stats.sum("counters.tls.handshakes"), 8)?;
    expect::at_least(
        "bytes opened",
        stats.sum("counters.tls.opened_bytes"),
        128 << 10,
    )?;
    expect::at_least(
        "bytes sealed",
        stats.sum("counters.tls.sealed_bytes"),
        128 << 10,
    )?;
    let refused = |key: &ConfiguredPsk, port| {
        network.within(|| {
            let tunnel = tunnel(key, IdentityVersion::Zero, port)?;
            Ok(Queue::controller(tunnel.address, host()).is_err())
        })
    };
    ensure!(refused(&second, ALLOWED)?, "another key gets in");
    program.logs("does not have the PSK that it offers", 1)?;
    let in_the_clear = |port| network.within(|| Ok(Queue::controller(at(port), host()).is_err()));
    ensure!(
        in_the_clear(ALLOWED)?,
        "a host with a PSK gets in without TLS"
    );
    ensure!(
        in_the_clear(REQUIRED)?,
        "a host gets in without TLS where it is required"
    );
    program.logs("spoke in the clear where TLS is required", 1)?;
    // The key is replaced while the host is there.
    let (tunnel_before, queues) = network.within(|| {
        let tunnel = tunnel(&first, IdentityVersion::One, REQUIRED)?;
        let queues = Queue::controller(tunnel.address, host())?;
        Ok((tunnel, queues))
    })?;
    let key = json!({ "name": "host1", "path": other.display().to_string() });
    program.rpc("keyring_file_add_key", &key)?;
    let set = json!({ "nqn": NQN, "host": host().host, "psk": "host1" });
    program.rpc("nvmf_subsystem_set_keys", &set)?;
    works(queues)?;
    drop(tunnel_before);
    ensure!(
        refused(&first, REQUIRED)?,
        "the key that was replaced gets in"
    );
    network.within(|| {
        let tunnel = tunnel(&second, IdentityVersion::One, REQUIRED)?;
        works(Queue::controller(tunnel.address, host())?)
    })?;
    program.ends_well()
}

lab::tests![k06_a_host_over_tls];
