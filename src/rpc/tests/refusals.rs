//! What is refused, by us and by the engine.

use super::*;

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
            json!({ "nqn": B, "host": HOST, "psk": "none" }),
            "there is no key `none`",
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
