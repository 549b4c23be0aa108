//! The methods against an engine that makes every change, or none.

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
        let engine = format!("{:?}", self.fake.config.lock().unwrap().target);
        assert_eq!(format!("{:?}", self.rpc.running.config().target), engine);
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

/// The calls of SPDK's rpc.py, newest and older, with everything that it sends by itself.
#[test]
fn a_subsystem_comes_grows_and_goes_as_rpc_py_asks_for_it() {
    let bench = Bench::new();
    bench.done(
        "nvmf_create_subsystem",
        json!({
            "nqn": B, "serial_number": "SPDK00000000000001", "model_number": "SPDK bdev Controller",
            "max_namespaces": 0, "min_cntlid": 1, "max_cntlid": 65519,
        }),
    );
    let added = bench.call(
        "nvmf_subsystem_add_ns",
        json!({ "nqn": B, "namespace": { "bdev_name": "disk1" } }),
    );
    assert_eq!(added, Ok(json!(1)));
    let uuid = "6f1b0c1e-3b5e-4c57-9f1a-0d5f0a7b2c11";
    let nguid = "6F1B0C1E3B5E4C577E1A0D5F0A7B2C11";
    let namespace = json!({
        "bdev_name": "flash0", "nsid": 9, "nguid": nguid, "uuid": uuid, "write": "back", "block_size": 512,
    });
    let added = bench.call(
        "nvmf_subsystem_add_ns",
        json!({ "nqn": B, "namespace": namespace, "tgt_name": "nvmf_tgt" }),
    );
    assert_eq!(added, Ok(json!(9)));
    bench.done("nvmf_subsystem_add_host", json!({ "nqn": B, "host": HOST }));
    let address =
        json!({ "trtype": "tcp", "adrfam": "ipv6", "traddr": "2001:db8::1", "trsvcid": "4421" });
    let listen = json!({ "nqn": B, "listen_address": address });
    bench.done("nvmf_subsystem_add_listener", listen.clone());
    // Another subsystem asks for the same, and has it.
    bench.done(
        "nvmf_subsystem_add_listener",
        json!({ "nqn": A, "listen_address": address }),
    );
    let shown = bench.subsystem(B);
    assert_eq!(shown["serial_number"], "SPDK00000000000001");
    assert_eq!(shown["allow_any_host"], false);
    assert_eq!(shown["hosts"], json!([{ "nqn": HOST }]));
    assert_eq!(shown["listen_addresses"][1]["traddr"], "2001:db8::1");
    assert_eq!(
        shown["namespaces"][1],
        json!({
            "nsid": 9, "bdev_name": "flash0", "name": "flash0", "nguid": nguid, "uuid": uuid,
            "write": "back", "block_size": 512,
        })
    );
    bench.done("nvmf_subsystem_remove_ns", json!({ "nqn": B, "nsid": 1 }));
    bench.done(
        "nvmf_subsystem_remove_host",
        json!({ "nqn": B, "host": HOST }),
    );
    let whole = json!({ "nqn": params::DISCOVERY, "listen_address": address });
    bench.done("nvmf_subsystem_remove_listener", whole);
    bench.done("nvmf_delete_subsystem", json!({ "nqn": B }));
    assert_eq!(
        bench.refused("nvmf_get_subsystems", json!({ "nqn": B })).0,
        -19
    );
    let config = bench.fake.config.lock().unwrap();
    assert_eq!(
        (
            config.target.subsystems.len(),
            config.target.listeners.len()
        ),
        (1, 1)
    );
}

#[test]
fn k06_how_hosts_reach_namespaces_is_set_as_rpc_py_asks_for_it() {
    const SET: &str = "nvmf_subsystem_listener_set_ana_state";
    let bench = Bench::new();
    bench.done(
        "nvmf_create_subsystem",
        json!({ "nqn": B, "ana_reporting": true, "min_cntlid": 32768 }),
    );
    let added = bench.call(
        "nvmf_subsystem_add_ns",
        json!({ "nqn": B, "namespace": { "bdev_name": "disk1" } }),
    );
    assert_eq!(added, Ok(json!(1)));
    let address =
        json!({ "trtype": "TCP", "adrfam": "IPv4", "traddr": "192.0.2.1", "trsvcid": "4420" });
    let params = |nqn: &str, state: &str, group: u32, port: &str| {
        let mut address = address.clone();
        address["trsvcid"] = port.into();
        json!({ "nqn": nqn, "listen_address": address, "ana_state": state, "anagrpid": group })
    };
    bench.done(SET, params(B, "inaccessible", 1, "4420"));
    bench.done(SET, params(B, "non_optimized", 0, "4420"));
    // Beyond SPDK.
    bench.done(SET, json!({ "nqn": B, "ana_state": "change" }));
    for (params, part) in [
        (
            params(B, "gone", 1, "4420"),
            "`ana_state` is one of optimized, non_optimized, inaccessible",
        ),
        (
            params(B, "optimized", 2, "4420"),
            "has no namespace 2: there is 1",
        ),
        (
            params(B, "optimized", 1, "4421"),
            "does not listen at 192.0.2.1:4421",
        ),
        (
            params(A, "optimized", 1, "4420"),
            "write `ana = \"optimized\"`",
        ),
        (
            params("nqn.other", "optimized", 1, "4420"),
            "there is no subsystem nqn.other",
        ),
        (json!({ "nqn": B }), "`ana_state` is missing"),
    ] {
        let (code, told) = bench.refused(SET, params);
        assert_eq!(code, ErrorObject::INVALID_PARAMS, "{told}");
        assert!(told.contains(part), "{told}");
    }
    let other = json!({ "nqn": B, "listen_address": address, "ana_state": "inaccessible" });
    let (_, told) = bench.refused("nvmf_subsystem_add_listener", other);
    assert!(told.contains(SET), "{told}");
    // What is shown is what the engine says.
    *bench.fake.ana.lock().unwrap() = vec![engine::AnaSnapshot {
        subsystem: B.into(),
        nsid: 1,
        listener: "192.0.2.1:4420".parse().unwrap(),
        state: engine::AnaState::Inaccessible,
    }];
    let shown = bench.subsystem(B);
    assert_eq!(shown["ana_reporting"], json!(true));
    let ids = [&shown["min_cntlid"], &shown["max_cntlid"]];
    assert_eq!(ids, [&json!(32768), &json!(65519)]);
    let namespace = &shown["namespaces"][0];
    assert_eq!(namespace["anagrpid"], json!(1));
    let states = json!([{ "listen_address": address, "ana_state": "inaccessible" }]);
    assert_eq!(namespace["ana_states"], states);
    let (_, text, _) = bench.rpc.running.file().unwrap();
    for saved in [
        "ana = \"optimized\"\n",
        "controller_ids = \"32768-65519\"\n",
    ] {
        assert!(text.contains(saved), "{saved}: {text}");
    }
}

#[test]
fn a_namespaces_uuid_stays_with_its_store() {
    let bench = Bench::new();
    let add = |store: &str| {
        let params = json!({ "nqn": A, "namespace": { "bdev_name": store, "nsid": 2 } });
        bench.call("nvmf_subsystem_add_ns", params).unwrap();
        let uuid = bench.subsystem(A)["namespaces"][1]["uuid"].clone();
        bench.done("nvmf_subsystem_remove_ns", json!({ "nqn": A, "nsid": 2 }));
        uuid
    };
    let (disk1, flash0, again) = (add("disk1"), add("flash0"), add("disk1"));
    assert_ne!(disk1, flash0, "a host would take one store for the other");
    assert_eq!(disk1, again);
}

#[test]
fn numbers_and_serials_that_are_free_are_taken() {
    let bench = Bench::new();
    for (nqn, serial) in [
        (B, "TL00000002"),
        ("nqn.2026-01.com.example:c", "TL00000003"),
    ] {
        bench.done("nvmf_create_subsystem", json!({ "nqn": nqn }));
        assert_eq!(bench.subsystem(nqn)["serial_number"], serial);
    }
    let add = |store: &str, nsid: u32| {
        let params = json!({ "nqn": A, "namespace": { "bdev_name": store, "nsid": nsid } });
        bench.call("nvmf_subsystem_add_ns", params)
    };
    assert_eq!(add("disk1", 3), Ok(json!(3)));
    assert_eq!(add("flash0", 0), Ok(json!(2)));
}

#[test]
fn who_may_connect_is_changed_without_a_moment_in_which_nobody_may() {
    let bench = Bench::new();
    let (code, told) = bench.refused("nvmf_subsystem_add_host", json!({ "nqn": A, "host": HOST }));
    assert_eq!(code, ErrorObject::INVALID_PARAMS);
    assert!(told.contains("nvmf_subsystem_allow_any_host"), "{told}");
    let some = json!({ "nqn": A, "allow_any_host": false, "hosts": [HOST, HOST] });
    bench.done("nvmf_subsystem_allow_any_host", some);
    assert_eq!(bench.subsystem(A)["hosts"], json!([{ "nqn": HOST }]));
    // Asked for again, without the list: it stays.
    bench.done(
        "nvmf_subsystem_allow_any_host",
        json!({ "nqn": A, "allow_any_host": false }),
    );
    bench.done("nvmf_subsystem_add_host", json!({ "nqn": A, "host": HOST }));
    assert_eq!(bench.subsystem(A)["hosts"], json!([{ "nqn": HOST }]));
    bench.done(
        "nvmf_subsystem_allow_any_host",
        json!({ "nqn": A, "allow_any_host": true }),
    );
    assert_eq!(bench.subsystem(A)["allow_any_host"], true);
    let both = json!({ "nqn": A, "allow_any_host": true, "hosts": [HOST] });
    assert!(
        bench
            .refused("nvmf_subsystem_allow_any_host", both)
            .1
            .contains("leave it out")
    );
}

/// A method, its parameters, and what the refusal says.
#[test]
fn what_cannot_be_is_refused_and_says_why() {
    let bench = Bench::new();
    bench.done("nvmf_create_subsystem", json!({ "nqn": B }));
    let address = |traddr: &str, trsvcid: &str| json!({ "trtype": "TCP", "traddr": traddr, "trsvcid": trsvcid });
    let ns = |namespace: Value| json!({ "nqn": A, "namespace": namespace });
    // Those of namespace 1, both derived.
    let first = bench.rpc.running.config().target.subsystems[0].namespaces[0].clone();
    let uuid = uuid_text(first.uuid_in(A));
    let nguid = nguid_text(first.nguid_in(A));
    let cases = [
        ("nvmf_create_subsystem", json!({}), "`nqn` is missing"),
        (
            "nvmf_create_subsystem",
            json!({ "nqn": "disk0" }),
            "write nqn.<year>",
        ),
        (
            "nvmf_create_subsystem",
            json!({ "nqn": params::DISCOVERY }),
            "the discovery service",
        ),
        (
            "nvmf_create_subsystem",
            json!({ "nqn": A }),
            "take another NQN, or delete it first",
        ),
        (
            "nvmf_create_subsystem",
            json!({ "nqn": "nqn.2026-01.com.example:c", "serial_number": "x".repeat(21) }),
            "write 1 to 20 printable",
        ),
        (
            "nvmf_create_subsystem",
            json!({ "nqn": "nqn.2026-01.com.example:c", "min_cntlid": 9, "max_cntlid": 8 }),
            "`min_cntlid` is not above `max_cntlid`",
        ),
        (
            "nvmf_create_subsystem",
            json!({ "nqn": "nqn.2026-01.com.example:c", "max_cntlid": 0 }),
            "`max_cntlid` is a number from 1 to 65519",
        ),
        (
            "nvmf_create_subsystem",
            json!({ "nqn": "nqn.2026-01.com.example:c", "passthrough": true }),
            "`passthrough` is a parameter of SPDK's; Throughline passes no command through",
        ),
        (
            "nvmf_create_subsystem",
            json!({ "nqn": "nqn.2026-01.com.example:c", "max_namespaces": 8 }),
            "takes 1024 namespaces: leave it out",
        ),
        (
            "nvmf_delete_subsystem",
            json!({ "nqn": "nqn.2026-01.com.example:c" }),
            "there is nqn.2026-01.com.example:a, nqn.2026-01.com.example:b",
        ),
        (
            "nvmf_delete_subsystem",
            json!({ "nqn": A, "tgt_name": "other" }),
            "one target",
        ),
        (
            "nvmf_subsystem_add_ns",
            ns(json!({})),
            "`namespace.bdev_name` is missing",
        ),
        (
            "nvmf_subsystem_add_ns",
            ns(json!({ "bdev_name": "disk9" })),
            "there is no store `disk9`: there is disk0, disk1, flash0",
        ),
        (
            "nvmf_subsystem_add_ns",
            ns(json!({ "bdev_name": "disk0" })),
            "store `disk0` is namespace 1 of nqn.2026-01.com.example:a already",
        ),
        (
            "nvmf_subsystem_add_ns",
            ns(json!({ "bdev_name": "disk1", "nsid": 1 })),
            "has a namespace 1 already: take another `nsid`",
        ),
        (
            "nvmf_subsystem_add_ns",
            ns(json!({ "bdev_name": "disk1", "nsid": 1025 })),
            "`namespace.nsid` is a number from 0 to 1024, not 1025",
        ),
        (
            "nvmf_subsystem_add_ns",
            ns(json!({ "bdev_name": "disk1", "uuid": uuid })),
            "namespace 1 of nqn.2026-01.com.example:a has that uuid already: take another `uuid`",
        ),
        (
            "nvmf_subsystem_add_ns",
            // Derived of that UUID.
            ns(json!({ "bdev_name": "disk1", "nguid": nguid })),
            "has that nguid already: take another `nguid`",
        ),
        (
            "nvmf_subsystem_add_ns",
            ns(json!({ "bdev_name": "disk1", "eui64": "0011223344556677" })),
            "known by its UUID",
        ),
        (
            "nvmf_subsystem_add_ns",
            ns(json!({ "bdev_name": "disk1", "nguid": "00112233445566778899AABBCCDDEE" })),
            "write 32 hexadecimal digits",
        ),
        (
            "nvmf_subsystem_add_ns",
            ns(json!({ "bdev_name": "disk1", "write": "fast" })),
            "expected one of `through`, `back`, `logged`",
        ),
        (
            "nvmf_subsystem_add_ns",
            ns(json!({ "bdev_name": "disk1", "block_size": 520 })),
            "is 512 or 4096, not 520",
        ),
        (
            "nvmf_subsystem_add_ns",
            json!({ "nqn": "nqn.2026-01.com.example:c", "namespace": { "bdev_name": "disk1" } }),
            "there is no subsystem nqn.2026-01.com.example:c",
        ),
        (
            "nvmf_subsystem_remove_ns",
            json!({ "nqn": A, "nsid": 2 }),
            "has no namespace 2: there is 1",
        ),
        (
            "nvmf_subsystem_remove_ns",
            json!({ "nqn": B, "nsid": 1 }),
            "there is none",
        ),
        (
            "nvmf_subsystem_add_host",
            json!({ "nqn": B, "host": HOST, "psk": "/etc/key" }),
            "authenticates no hosts",
        ),
        (
            "nvmf_subsystem_remove_host",
            json!({ "nqn": B, "host": HOST }),
            "does not let",
        ),
        (
            "nvmf_subsystem_add_listener",
            json!({ "nqn": A, "listen_address": { "trtype": "RDMA", "traddr": "192.0.2.1", "trsvcid": "4420" } }),
            "has no other transport",
        ),
        (
            "nvmf_subsystem_add_listener",
            json!({ "nqn": A, "listen_address": address("192.0.2.9", "4420") }),
            "no port has the address 192.0.2.9: there is 192.0.2.1, 2001:db8::1",
        ),
        (
            "nvmf_subsystem_add_listener",
            json!({ "nqn": A, "listen_address": address("192.0.2.1", "0") }),
            "a TCP port as a string",
        ),
        (
            "nvmf_subsystem_add_listener",
            json!({ "nqn": A, "listen_address": address("storage1", "4420") }),
            "`listen_address.traddr`",
        ),
        (
            "nvmf_subsystem_remove_listener",
            json!({ "nqn": A, "listen_address": address("192.0.2.1", "4420") }),
            "every subsystem's, other than in SPDK",
        ),
        (
            "nvmf_subsystem_remove_listener",
            json!({ "nqn": A, "listen_address": address("192.0.2.1", "4421") }),
            "does not listen at 192.0.2.1:4421: there is 192.0.2.1:4420",
        ),
    ];
    for (method, params, why) in cases {
        let (code, told) = bench.refused(method, params);
        assert_eq!(code, ErrorObject::INVALID_PARAMS, "{method}: {told}");
        assert!(told.contains(why), "{method}: {told}\nis to say: {why}");
    }
}

#[test]
fn what_the_engine_refuses_is_not_done_and_what_it_owes_is() {
    let bench = Bench::new();
    let create = json!({ "nqn": B });
    *bench.fake.broken.lock().unwrap() = Some(ChangeError::Refused("out of pages".into()));
    let (code, told) = bench.refused("nvmf_create_subsystem", create.clone());
    assert_eq!(
        (code, told.as_str()),
        (ErrorObject::INTERNAL, "Not changed: out of pages")
    );
    *bench.fake.broken.lock().unwrap() = Some(ChangeError::NotServing);
    let (code, told) = bench.refused("nvmf_create_subsystem", create.clone());
    assert_eq!(code, ErrorObject::INTERNAL, "{told}");
    // Shards that are late make the change all the same, so it is in the configuration.
    *bench.fake.broken.lock().unwrap() = Some(ChangeError::Unanswered);
    let error = bench.call("nvmf_create_subsystem", create).unwrap_err();
    assert!(
        error.message.contains("not taken back"),
        "{}",
        error.message
    );
    assert_eq!(bench.subsystem(B)["nqn"], B);
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
