//! Sections of pairs, as files have them.

use std::fs::{Permissions, set_permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use engine::AnaState;
use tempfile::NamedTempFile;

use super::super::tests::MINIMAL;
use super::super::{Problems, Program, Surroundings, parse};
use super::*;

/// A node of a pair, whose volume is the one of the smallest configuration, with `arbiter` behind it.
pub(in crate::config) fn parsed(arbiter: &str) -> Result<Program, Problems> {
    parsed_with("", arbiter)
}

/// The same, with `keys` of the pair.
fn parsed_with(keys: &str, arbiter: &str) -> Result<Program, Problems> {
    let mut key = NamedTempFile::new().unwrap();
    key.write_all("5a".repeat(32).as_bytes()).unwrap();
    set_permissions(key.path(), Permissions::from_mode(0o600)).unwrap();
    parse_text(&text(&key.path().display().to_string(), keys, arbiter))
}

fn parse_text(text: &str) -> Result<Program, Problems> {
    let surroundings = Surroundings {
        cores: None,
        read: &|_| unreachable!("there is no other file"),
    };
    parse(Path::new("t.toml"), text, &surroundings)
}

fn text(key: &str, keys: &str, arbiter: &str) -> String {
    MINIMAL.replacen(
        "store = \"disk0\"",
        "store = \"disk0\", write = \"logged\"",
        1,
    ) + &format!(
        r#"
            [[store]]
            name = "log0"
            malloc = {{ size_mib = 64 }}
            [log]
            store = "log0"
            [pair]
            node = "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"
            peer = "0c7e3f0a-51c2-4d0e-8a55-6a5b1c9a7e11"
            listen = ["192.0.2.1:4421"]
            peer_listen = ["192.0.2.2:4421"]
            key_file = "{key}"
            {keys}
            [[pair.volume]]
            store = "disk0"
            uuid = "5d2a1c44-90b1-4f6e-9d0c-0f3a8f0b7c2e"
            first_role = "source"
            {arbiter}"#
    )
}

fn told(arbiter: &str) -> String {
    parsed(arbiter).map(drop).unwrap_err().to_string()
}

#[test]
fn s08_an_arbiter_is_read_and_what_is_none_is_refused() {
    let of = |arbiter| parsed(arbiter).unwrap().engine.pairs[0].arbiter.clone();
    assert_eq!(of(""), None);
    let all = "[pair.arbiter]\netcd = [\"http://198.51.100.9:2379\", \"http://etcd2:2379\"]\n";
    let mut expected = ArbiterConfig {
        etcd: vec![
            "http://198.51.100.9:2379".into(),
            "http://etcd2:2379".into(),
        ],
        tls: None,
        lease: Duration::from_secs(4),
    };
    assert_eq!(of(all), Some(expected.clone()));
    expected.lease = Duration::from_secs(30);
    assert_eq!(of(&format!("{all}lease_s = 30")), Some(expected));
    for (etcd, lease) in [
        ("ftp://198.51.100.9:2379", 4),
        ("198.51.100.9:2379", 4),
        ("http://198.51.100.9", 4),
        ("http://:2379", 4),
        ("http://a/b:2379", 4),
        ("http://a:0", 4),
        ("http://198.51.100.9:2379", 2),
        ("http://198.51.100.9:2379", 31),
    ] {
        let told = told(&format!(
            "[pair.arbiter]\netcd = [\"{etcd}\"]\nlease_s = {lease}"
        ));
        let is_named = told.contains("is no address of an etcd") || told.contains("lease_s");
        assert!(is_named, "{etcd}, {lease}: {told}");
    }
    assert!(told("[pair.arbiter]\nlease_s = 4").contains("etcd"));
}

#[test]
fn s08_an_etcd_is_asked_by_tls_as_files_say() {
    let pem = |what: &str, mode: u32| {
        let mut file = NamedTempFile::new().unwrap();
        write!(file, "-----BEGIN {what}-----\nAAAA\n-----END {what}-----\n").unwrap();
        set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
        file
    };
    let (ca, key) = (pem("CERTIFICATE", 0o644), pem("PRIVATE KEY", 0o600));
    let open = pem("PRIVATE KEY", 0o640);
    let of = |endpoint: &str, keys: &[(&str, &NamedTempFile)]| {
        let keys = keys.iter();
        let keys = keys.map(|(key, file)| format!("{key} = \"{}\"\n", file.path().display()));
        format!(
            "[pair.arbiter]\netcd = [{endpoint}]\n{}",
            keys.collect::<String>()
        )
    };
    let secure = "\"https://198.51.100.9:2379\"";
    let all = of(
        secure,
        &[("ca_file", &ca), ("cert_file", &ca), ("key_file", &key)],
    );
    let tls = parsed(&all)
        .unwrap()
        .engine
        .pairs
        .remove(0)
        .arbiter
        .unwrap()
        .tls
        .unwrap();
    assert_eq!(tls.ca_file, ca.path());
    assert_eq!(tls.client, Some((ca.path().into(), key.path().into())));
    for (text, part) in [
        (of(secure, &[]), "whose certificates"),
        (
            of(secure, &[("ca_file", &key)]),
            "has no certificate in PEM",
        ),
        (
            of(secure, &[("ca_file", &ca), ("cert_file", &ca)]),
            "go together",
        ),
        (
            of(secure, &[("ca_file", &ca), ("key_file", &key)]),
            "go together",
        ),
        (
            of(
                secure,
                &[("ca_file", &ca), ("cert_file", &ca), ("key_file", &open)],
            ),
            "others can read",
        ),
        (
            of(
                secure,
                &[("ca_file", &ca), ("cert_file", &ca), ("key_file", &ca)],
            ),
            "has no private key in PEM",
        ),
        (
            of("\"http://a:1\"", &[("ca_file", &ca)]),
            "not asked by TLS",
        ),
        (
            of(&format!("{secure}, \"http://a:1\""), &[("ca_file", &ca)]),
            "some of the etcds",
        ),
    ] {
        assert!(told(&text).contains(part), "{part}: {}", told(&text));
    }
}

#[test]
fn r06_a_command_for_alerts_is_read_and_what_is_none_is_refused() {
    let read = |key: &str| parsed_with(key, "");
    assert_eq!(read("").unwrap().alerts, [[""; 0]]);
    let alerts = read("alert = [\"/bin/notify\", \"a b\", \"\"]")
        .unwrap()
        .alerts;
    assert_eq!(alerts, [["/bin/notify", "a b", ""]]);
    for (key, part) in [
        ("alert = []", "no command to be run"),
        ("alert = [\"notify\"]", "no absolute path"),
        ("alert = [\"\"]", "no absolute path"),
        ("alert = \"/bin/notify\"", "must be an array"),
        ("alert = [\"/bin/notify\", 1]", "must be a string"),
        ("alert = [\"/bin/notify\", \"\\u0000\"]", "no zeros"),
    ] {
        let told = read(key).map(drop).unwrap_err().to_string();
        assert!(told.contains(part), "{key}: {told}");
    }
}

/// A second pair, behind the first one.
fn second(node: &str, peer: &str, volume: &str) -> String {
    format!(
        r#"
        [[pair]]
        node = "{node}"
        peer = "{peer}"
        listen = ["192.0.2.1:4421"]
        peer_listen = ["192.0.2.3:4421", "192.0.2.4:4421"]
        key_file = "KEY"
        [[pair.volume]]
        store = "disk1"
        uuid = "{volume}"
        first_role = "destination"
        "#
    )
}

/// With `[pair]` as `[[pair]]`, and more behind it.
fn parsed_with_more(more: &str) -> Result<Program, Problems> {
    let mut key = NamedTempFile::new().unwrap();
    key.write_all("5a".repeat(32).as_bytes()).unwrap();
    set_permissions(key.path(), Permissions::from_mode(0o600)).unwrap();
    let key = key.path().display().to_string();
    let text = text(&key, "", "").replacen("[pair]", "[[pair]]", 1) + &more.replace("KEY", &key);
    parse_text(&text.replacen(
        "[log]",
        "[[store]]\nname = \"disk1\"\nmalloc = { size_mib = 64 }\n[log]",
        1,
    ))
}

#[test]
fn r09_several_pairs_are_read_each_with_its_own_peer_and_volumes() {
    const NODE: &str = "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d";
    const PEER: &str = "3f0a6b1e-6c52-4a53-9c6e-1f6f1b8f1a33";
    const VOLUME: &str = "6e8f1c44-90b1-4f6e-9d0c-0f3a8f0b7c2e";
    let program = parsed_with_more(&second(NODE, PEER, VOLUME)).unwrap();
    let pairs = &program.engine.pairs;
    assert_eq!(pairs.len(), 2);
    assert_eq!(pairs[0].node, pairs[1].node);
    assert_ne!(pairs[0].peer, pairs[1].peer);
    assert_eq!(pairs[1].peer_listen.len(), 2);
    let stores = pairs.iter().map(|pair| pair.volumes[0].store.as_str());
    assert!(stores.eq(["disk0", "disk1"]));
    let first_peer = "0c7e3f0a-51c2-4d0e-8a55-6a5b1c9a7e11";
    let first_volume = "5d2a1c44-90b1-4f6e-9d0c-0f3a8f0b7c2e";
    for (more, part) in [
        (second(PEER, NODE, VOLUME), "another UUID in an earlier"),
        (second(NODE, NODE, VOLUME), "is this one"),
        (second(NODE, first_peer, VOLUME), "with the same node"),
        (second(NODE, PEER, first_volume), "another volume of a pair"),
        (
            second(NODE, PEER, VOLUME).replace("disk1", "disk0"),
            "has a volume of a pair already",
        ),
    ] {
        let told = parsed_with_more(&more).map(drop).unwrap_err().to_string();
        assert!(told.contains(part), "{part}: {told}");
    }
    let told = parsed_with_more("").map(|program| program.engine.pairs.len());
    assert_eq!(told.ok(), Some(1), "a list of one");
}

#[test]
fn r03_a_first_role_may_be_left_out() {
    const NODE: &str = "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d";
    const PEER: &str = "3f0a6b1e-6c52-4a53-9c6e-1f6f1b8f1a33";
    const VOLUME: &str = "6e8f1c44-90b1-4f6e-9d0c-0f3a8f0b7c2e";
    let with = |role: &str| {
        let pair = second(NODE, PEER, VOLUME);
        parsed_with_more(&pair.replace("first_role = \"destination\"", role))
    };
    let program = with("").unwrap();
    let volume = &program.engine.pairs[1].volumes[0];
    assert_eq!(volume.first_role, FirstRole::Destination);
    let told = with("first_role = \"both\"")
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("no role") && told.contains("establish"),
        "{told}"
    );
}

#[test]
fn r03_the_size_of_frames_is_read_and_what_is_none_is_refused() {
    let bytes = |key: &str| parsed_with(key, "").unwrap().engine.pairs[0].frame_bytes;
    assert_eq!(bytes(""), 4 << 20);
    assert_eq!(bytes("frame_kib = 4"), 4096);
    assert_eq!(bytes("frame_kib = 4096"), 4 << 20);
    for key in ["frame_kib = 3", "frame_kib = 4097"] {
        let told = parsed_with(key, "").map(drop).unwrap_err().to_string();
        assert!(told.contains("frame_kib"), "{told}");
    }
}

#[test]
fn k06_a_link_is_in_tls_unless_it_is_said_to_be_in_the_clear() {
    let tls = |key: &str| parsed_with(key, "").map(|program| program.engine.pairs[0].tls);
    assert_eq!(tls("").ok(), Some(true));
    assert_eq!(tls("tls = \"required\"").ok(), Some(true));
    assert_eq!(tls("tls = \"off\"").ok(), Some(false));
    for key in ["tls = \"allowed\"", "tls = \"\""] {
        let told = tls(key).unwrap_err().to_string();
        assert!(told.contains("the same on both nodes"), "{told}");
    }
    assert!(
        tls("tls = true")
            .unwrap_err()
            .to_string()
            .contains("must be a string")
    );
}

#[test]
fn k06_a_mirrored_subsystem_reports_asymmetric_access() {
    let program = parsed("").unwrap();
    let subsystems = &program.engine.target.subsystems;
    assert_eq!(subsystems[0].ana, Some(AnaState::Optimized));
}
