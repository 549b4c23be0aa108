//! The methods against an engine that makes every change, or none.

mod changes;
mod refusals;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::{Config, Handle};
use serde_json::{Value, json};

use super::change::{self, Change, ChangeError};
use super::target::{Description, NamespaceDescription, StoreDescription, Target};
use super::*;
use crate::config::{self, load_source, nguid_text, uuid_text};
use crate::readiness;

const FILE: &str = r#"cores = [0]
[[port]]
device = "eth1"
addresses = ["192.0.2.1/24", "2001:db8::1/64"]
[[store]]
name = "disk0"
malloc = { size_mib = 64 }
[[store]]
name = "disk1"
malloc = { size_mib = 64, block_size = 4096 }
[[store]]
name = "flash0"
nvme = { transport_id = "trtype:PCIe traddr:0000:04:00.0", nsid = 3 }
[target]
listen = ["192.0.2.1:4420"]
[[subsystem]]
nqn = "nqn.2026-01.com.example:a"
namespaces = ["disk0"]
"#;

const A: &str = "nqn.2026-01.com.example:a";
const B: &str = "nqn.2026-01.com.example:b";
const HOST: &str = "nqn.2026-01.com.example:host0";

/// An engine that remembers what it was asked for.
struct Fake {
    config: Mutex<Config>,
    /// What it answers in place of making a change.
    broken: Mutex<Option<ChangeError>>,
    /// How hosts reach namespaces.
    ana: Mutex<Vec<engine::AnaSnapshot>>,
}

impl Target for Arc<Fake> {
    fn change(&self, change: Change, timeout: Duration) -> Result<(), ChangeError> {
        assert!(timeout > Duration::ZERO);
        let broken = self.broken.lock().unwrap().clone();
        if broken.is_none() || broken == Some(ChangeError::Unanswered) {
            change::apply(&change, &mut self.config.lock().unwrap())?;
        }
        broken.map_or(Ok(()), Err)
    }

    fn describe(&self) -> Description {
        Description {
            stores: vec![StoreDescription {
                name: "disk1".into(),
                block_size: 4096,
                blocks: 16384,
            }],
            namespaces: vec![NamespaceDescription {
                nqn: A.into(),
                nsid: 1,
                uuid: [7; 16],
                nguid: [0xab; 16],
            }],
            ana: self.ana.lock().unwrap().clone(),
        }
    }
}

/// The program itself, before its engine runs.
fn program_of(program: &config::Program) -> Program {
    let handle = Handle::new();
    let readiness = readiness::Source::new(handle.clone(), program);
    Program::new(handle, readiness, Instant::now())
}

struct Bench {
    rpc: Rpc,
    fake: Arc<Fake>,
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("t.toml");
        std::fs::write(&path, FILE).unwrap();
        let (program, source) = load_source(&path, None).unwrap();
        let fake = Arc::new(Fake {
            config: Mutex::new(program.engine.clone()),
            broken: Mutex::default(),
            ana: Mutex::default(),
        });
        let itself = program_of(&program);
        let running = Running::new(Box::new(Arc::clone(&fake)), program.engine, source);
        Self {
            rpc: Rpc::new(itself, running),
            fake,
            directory,
        }
    }

    fn call(&self, method: &str, params: Value) -> Result<Value, ErrorObject> {
        let Value::Object(params) = params else {
            unreachable!("parameters are an object");
        };
        let answer = self.rpc.call(method, params, &|| false);
        // What the methods answer from is what the engine has, whatever happened.
        let mut engine = self.fake.config.lock().unwrap().target.clone();
        let own = self.rpc.running.config().target;
        // Keys that no host has are no business of the engine's.
        engine.keys.clone_from(&own.keys);
        assert_eq!(format!("{own:?}"), format!("{engine:?}"));
        answer
    }

    /// Calls it, and it is true.
    fn done(&self, method: &str, params: Value) {
        assert_eq!(self.call(method, params), Ok(Value::Bool(true)), "{method}");
    }

    /// The code and message that a call is refused with.
    fn refused(&self, method: &str, params: Value) -> (i64, String) {
        let before = format!("{:?}", self.fake.config.lock().unwrap());
        let error = self.call(method, params).unwrap_err();
        let after = format!("{:?}", self.fake.config.lock().unwrap());
        assert_eq!(before, after, "{method} was refused and did something");
        (error.code, error.message)
    }

    fn subsystem(&self, nqn: &str) -> Value {
        let all = self.call("nvmf_get_subsystems", json!({ "nqn": nqn }));
        all.unwrap()[0].clone()
    }
}

#[test]
fn every_method_is_listed_once_and_found() {
    let bench = Bench::new();
    let names = bench.rpc.methods();
    assert!(names.is_sorted_by(|a, b| a != b), "{names:?}");
    for name in names {
        // All of them refuse a parameter that nobody has.
        let (code, told) = bench.refused(name, json!({ "no_such_parameter": 1 }));
        assert_eq!(code, ErrorObject::INVALID_PARAMS, "{name}: {told}");
        assert!(told.contains("`no_such_parameter`"), "{name}: {told}");
    }
    let (code, _) = bench.refused("nvmf_create_transport", json!({}));
    assert_eq!(code, ErrorObject::METHOD_NOT_FOUND);
}

#[test]
fn the_manual_has_every_method() {
    let manual = include_str!("../../docs/control.md");
    let told: Vec<&str> = (manual.lines())
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let mut names = Bench::new().rpc.methods();
    names.push("rpc_get_methods");
    for name in &names {
        assert!(told.contains(name), "docs/control.md has no {name}");
    }
    for name in told {
        assert!(
            names.contains(&name),
            "docs/control.md has {name}, which is no method"
        );
    }
}

#[test]
fn subsystems_are_shown_in_spdks_shape() {
    let bench = Bench::new();
    let listen =
        json!([{ "trtype": "TCP", "adrfam": "IPv4", "traddr": "192.0.2.1", "trsvcid": "4420" }]);
    let all = bench.call("nvmf_get_subsystems", json!({})).unwrap();
    assert_eq!(
        all,
        json!([
            {
                "nqn": "nqn.2014-08.org.nvmexpress.discovery",
                "subtype": "Discovery",
                "listen_addresses": listen,
                "allow_any_host": true,
                "hosts": [],
            },
            {
                "nqn": A,
                "subtype": "NVMe",
                "listen_addresses": listen,
                "allow_any_host": true,
                "hosts": [],
                "serial_number": "TL00000001",
                "model_number": "Throughline",
                "max_namespaces": 1024,
                "min_cntlid": 1,
                "max_cntlid": 65519,
                "namespaces": [{
                    "nsid": 1,
                    "bdev_name": "disk0",
                    "name": "disk0",
                    "nguid": "ABABABABABABABABABABABABABABABAB",
                    "uuid": "07070707-0707-0707-0707-070707070707",
                    "write": "through",
                }],
            },
        ])
    );
    let (code, told) = bench.refused("nvmf_get_subsystems", json!({ "nqn": B }));
    assert_eq!((code, told.contains(B)), (-19, true), "{told}");
}

#[test]
fn hosts_get_keys_and_lose_them_and_nobody_is_shown_any() {
    const KEY: &str = "DHHC-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";
    let bench = Bench::new();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, KEY.as_bytes()).unwrap();
    let path = file.path().display().to_string();
    for name in ["a", "b"] {
        bench.done(
            "keyring_file_add_key",
            json!({ "name": name, "path": path }),
        );
    }
    let (_, told) = bench.refused("keyring_file_add_key", json!({ "name": "a", "path": path }));
    assert!(told.contains("there is a key `a` already"), "{told}");
    let (_, told) = bench.refused(
        "keyring_file_add_key",
        json!({ "name": "c", "path": "/none" }),
    );
    assert!(told.contains("throughline key gen --file /none"), "{told}");
    let keys = bench.call("keyring_get_keys", json!({})).unwrap();
    assert_eq!(
        keys[0],
        json!({ "name": "a", "module": "keyring_file", "path": path })
    );
    bench.done(
        "nvmf_subsystem_allow_any_host",
        json!({ "nqn": A, "allow_any_host": false }),
    );
    let add = |key: Value| json!({ "nqn": A, "host": B, "dhchap_key": key });
    let (_, told) = bench.refused("nvmf_subsystem_add_host", add(json!("z")));
    assert!(told.contains("there is no key `z`"), "{told}");
    bench.done("nvmf_subsystem_add_host", add(json!("a")));
    bench.done("nvmf_subsystem_add_host", add(json!("a")));
    let (_, told) = bench.refused("nvmf_subsystem_add_host", add(json!("b")));
    assert!(told.contains("nvmf_subsystem_set_keys"), "{told}");
    let set = json!({ "nqn": A, "host": B, "dhchap_key": "a", "dhchap_ctrlr_key": "b" });
    bench.done("nvmf_subsystem_set_keys", set);
    let host = json!({ "nqn": B, "dhchap_key": "a", "dhchap_ctrlr_key": "b" });
    assert_eq!(bench.subsystem(A)["hosts"], json!([host]));
    let (_, told) = bench.refused("keyring_file_remove_key", json!({ "name": "b" }));
    assert!(told.contains(B) && told.contains(A), "{told}");
    // The file names it, and has nothing of it; what is written is what is read.
    let config = bench.call("throughline_get_config", json!({})).unwrap();
    let toml = config["toml"].as_str().unwrap();
    assert!(
        toml.contains(&path) && toml.contains("dhchap_ctrlr_key = \"b\""),
        "{toml}"
    );
    assert!(!toml.contains("AAEC"), "{toml}");
    assert!(!format!("{:?}", bench.rpc.running.config()).contains("AAEC"));
    let alone = json!({ "nqn": A, "host": B, "dhchap_ctrlr_key": "b" });
    let (_, told) = bench.refused("nvmf_subsystem_set_keys", alone);
    assert!(told.contains("give `dhchap_key` too"), "{told}");
    // A list of those that may connect leaves them their keys.
    let list =
        json!({ "nqn": A, "allow_any_host": false, "hosts": [B, "nqn.2026-01.com.example:h"] });
    bench.done("nvmf_subsystem_allow_any_host", list);
    assert_eq!(bench.subsystem(A)["hosts"][0], host);
    bench.done("nvmf_subsystem_set_keys", json!({ "nqn": A, "host": B }));
    assert_eq!(bench.subsystem(A)["hosts"][0], json!({ "nqn": B }));
    for name in ["a", "b"] {
        bench.done("keyring_file_remove_key", json!({ "name": name }));
    }
    assert_eq!(
        bench.call("keyring_get_keys", json!({})).unwrap(),
        json!([])
    );
    let config = bench.call("throughline_get_config", json!({})).unwrap();
    assert!(!config["toml"].as_str().unwrap().contains("[[key]]"));
}

#[test]
fn hosts_get_psks_and_listeners_have_tls() {
    const PSK: &str = "NVMeTLSkey-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";
    let bench = Bench::new();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, PSK.as_bytes()).unwrap();
    let path = file.path().display().to_string();
    for name in ["a", "b"] {
        let key = json!({ "name": name, "path": path });
        bench.done("keyring_file_add_key", key);
    }
    let nobody = json!({ "nqn": A, "allow_any_host": false });
    bench.done("nvmf_subsystem_allow_any_host", nobody);
    let as_chap = json!({ "nqn": A, "host": B, "dhchap_key": "a" });
    let (_, told) = bench.refused("nvmf_subsystem_add_host", as_chap);
    assert!(told.contains("the key `a` is one of TLS"), "{told}");
    let add = json!({ "nqn": A, "host": B, "psk": "a" });
    bench.done("nvmf_subsystem_add_host", add.clone());
    bench.done("nvmf_subsystem_add_host", add);
    let shown = |bench: &Bench| bench.subsystem(A)["hosts"][0].clone();
    assert_eq!(shown(&bench), json!({ "nqn": B, "psk": "a" }));
    // SPDK's clients do not speak of it: it stays. Another one, and none.
    bench.done("nvmf_subsystem_set_keys", json!({ "nqn": A, "host": B }));
    assert_eq!(shown(&bench), json!({ "nqn": B, "psk": "a" }));
    let set = |psk: Value| json!({ "nqn": A, "host": B, "psk": psk });
    bench.done("nvmf_subsystem_set_keys", set(json!("b")));
    assert_eq!(shown(&bench), json!({ "nqn": B, "psk": "b" }));
    let (_, told) = bench.refused("keyring_file_remove_key", json!({ "name": "b" }));
    assert!(told.contains(B), "{told}");
    let listen = |port: &str, more: (&str, Value)| {
        let address =
            json!({ "trtype": "TCP", "adrfam": "IPv4", "traddr": "192.0.2.1", "trsvcid": port });
        let mut listen = json!({ "nqn": A, "listen_address": address });
        listen[more.0] = more.1;
        listen
    };
    const ADD: &str = "nvmf_subsystem_add_listener";
    bench.done(ADD, listen("4421", ("secure_channel", json!(true))));
    bench.done(ADD, listen("4421", ("tls", json!("required"))));
    bench.done(ADD, listen("4422", ("tls", json!("allowed"))));
    let (_, told) = bench.refused(ADD, listen("4421", ("secure_channel", json!(false))));
    assert!(told.contains("remove that listener first"), "{told}");
    let (_, told) = bench.refused(ADD, listen("4423", ("tls", json!("maybe"))));
    assert!(told.contains("`allowed`"), "{told}");
    let mut both = listen("4423", ("tls", json!("allowed")));
    both["secure_channel"] = true.into();
    let (_, told) = bench.refused(ADD, both);
    assert!(told.contains("leave one out"), "{told}");
    let listeners = bench.subsystem(A)["listen_addresses"].clone();
    assert_eq!(listeners[1]["tls"], "required");
    // What is written is what is read, and has nothing of the key.
    let config = bench.call("throughline_get_config", json!({})).unwrap();
    let toml = config["toml"].as_str().unwrap();
    for part in [
        "psk = \"b\"",
        "{ address = \"192.0.2.1:4421\", tls = \"required\" }",
        &path,
    ] {
        assert!(toml.contains(part), "{part}: {toml}");
    }
    assert!(!toml.contains("AAEC"), "{toml}");
    assert!(!format!("{:?}", bench.rpc.running.config()).contains("AAEC"));
    bench.done("nvmf_subsystem_set_keys", set(Value::Null));
    assert_eq!(shown(&bench), json!({ "nqn": B }));
    bench.done("keyring_file_remove_key", json!({ "name": "b" }));
}

#[test]
fn stores_are_shown_in_spdks_shape() {
    let bench = Bench::new();
    let all = bench.call("bdev_get_bdevs", json!({})).unwrap();
    assert_eq!(
        all,
        json!([
            { "name": "disk0", "aliases": [], "product_name": "SPDK bdev", "claimed": true, "driver_specific": {} },
            {
                "name": "disk1", "aliases": [], "product_name": "SPDK bdev",
                "block_size": 4096, "num_blocks": 16384, "claimed": false, "driver_specific": {},
            },
            {
                "name": "flash0", "aliases": [], "product_name": "NVMe disk", "claimed": false,
                "driver_specific": {
                    "nvme": [{ "trid": { "trtype": "PCIe", "traddr": "0000:04:00.0" }, "ns_data": { "id": 3 } }],
                },
            },
        ])
    );
    let one = bench.call("bdev_get_bdevs", json!({ "name": "flash0", "timeout": 10 }));
    assert_eq!(one.unwrap().as_array().map(Vec::len), Some(1));
    assert_eq!(
        bench
            .refused("bdev_get_bdevs", json!({ "name": "disk9" }))
            .0,
        -19
    );
}

#[test]
fn the_file_is_given_with_what_was_changed() {
    let bench = Bench::new();
    let file = bench.directory.path().join("t.toml");
    let get = || bench.call("throughline_get_config", json!({})).unwrap();
    let first = get();
    assert_eq!(first["file"], *file.to_string_lossy());
    assert_eq!(first["toml"], FILE);
    bench.done(
        "nvmf_create_subsystem",
        json!({ "nqn": B, "allow_any_host": true }),
    );
    let namespace = json!({ "nqn": B, "namespace": { "bdev_name": "disk1", "write": "back" } });
    bench.call("nvmf_subsystem_add_ns", namespace).unwrap();
    let second = get();
    assert_eq!(second["known"].as_array().map(Vec::len), Some(2));
    std::fs::write(&file, second["toml"].as_str().unwrap()).unwrap();
    let (program, _) = load_source(Path::new(&file), None).unwrap();
    let engine = bench.fake.config.lock().unwrap();
    assert_eq!(format!("{:?}", program.engine), format!("{engine:?}"));
}

#[test]
fn the_program_stops_when_the_answer_is_on_its_way() {
    let bench = Bench::new();
    let stopping = || bench.rpc.program.handle.is_stopping();
    bench.rpc.replied();
    assert!(!stopping());
    bench.done("throughline_stop", json!({}));
    assert!(!stopping());
    bench.rpc.replied();
    assert!(stopping());
}

#[test]
fn an_engine_that_does_not_run_yet_changes_nothing() {
    let gone = AtomicBool::new(false);
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("t.toml");
    std::fs::write(&path, FILE).unwrap();
    let (program, source) = load_source(&path, None).unwrap();
    let itself = program_of(&program);
    let running = Running::new(Box::new(Handle::new()), program.engine, source);
    let rpc = Rpc::new(itself, running);
    let params = Map::from_iter([("nqn".to_owned(), json!(B))]);
    let answer = rpc.call("nvmf_create_subsystem", params, &|| {
        gone.load(Ordering::Relaxed)
    });
    assert_eq!(answer.unwrap_err().code, ErrorObject::INTERNAL);
    let stats = rpc.call("throughline_get_stats", Map::new(), &|| false);
    assert_eq!(stats.unwrap_err().message, "No counters: not ready yet");
}
