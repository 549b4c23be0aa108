//! What is changed while the program runs.

use super::*;

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
