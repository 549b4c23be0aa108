use engine::{ArbiterEntry, ArbiterQuestion, Generation, ReplicaId};
use serde_json::json;

use super::gateway::{decode, encode, transaction};

fn entry() -> ArbiterEntry {
    ArbiterEntry {
        source: ReplicaId([0x5d; 16]),
        generation: Generation {
            number: 3,
            tag: 0xab,
        },
        is_alone: true,
    }
}

/// `{"version":1,"source":"5d…","generation":{"number":3,"tag":"00000000000000ab"},"alone":true}`
const ENTRY: &str = "eyJ2ZXJzaW9uIjoxLCJzb3VyY2UiOiI1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZCIsImdlbmVyYXRpb24iOnsibnVtYmVyIjozLCJ0YWciOiIwMDAwMDAwMDAwMDAwMGFiIn0sImFsb25lIjp0cnVlfQ==";

#[test]
fn s08_what_a_key_has_is_as_it_is_documented_and_nothing_else_is_taken() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    assert_eq!(encode(&entry()), ENTRY);
    assert_eq!(decode(ENTRY), Some(entry()));
    let text = String::from_utf8(STANDARD.decode(ENTRY).unwrap()).unwrap();
    for (part, other) in [
        ("\"version\":1", "\"version\":2"),
        ("\"alone\":true", "\"alone\":1"),
        ("\"number\":3", "\"number\":-3"),
        ("{\"version\"", "{\"more\":0,\"version\""),
        ("5d5d", "5g5d"),
    ] {
        let changed = text.replacen(part, other, 1);
        assert_ne!(changed, text);
        assert_eq!(decode(&STANDARD.encode(changed)), None, "{other}");
    }
    assert_eq!(decode("no base64!"), None);
}

#[test]
fn s08_a_change_compares_the_revision_and_whether_the_other_node_is_alive() {
    let set = |unless_peer_lives| {
        let question = ArbiterQuestion::Set {
            revision: 7,
            entry: entry(),
            unless_peer_lives,
        };
        transaction("v", "p", &question)
    };
    // "dg==" is v, "cA==" is p.
    let revision =
        json!({ "key": "dg==", "target": "MOD", "result": "EQUAL", "mod_revision": "7" });
    let is_gone = json!({ "key": "cA==", "target": "VERSION", "result": "EQUAL", "version": "0" });
    let look =
        json!([{ "requestRange": { "key": "dg==" } }, { "requestRange": { "key": "cA==" } }]);
    let made = set(true);
    assert_eq!(made["compare"], json!([revision, is_gone]));
    assert_eq!(
        made["success"],
        json!([{ "requestPut": { "key": "dg==", "value": ENTRY } }])
    );
    assert_eq!(made["failure"], look);
    assert_eq!(set(false)["compare"], json!([revision]));
    assert_eq!(
        transaction("v", "p", &ArbiterQuestion::Look),
        json!({ "compare": [], "success": look })
    );
}
