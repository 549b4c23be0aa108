//! Stores that lie on several others (row R8): what a file says of them, and what it is told.

use engine::SpanConfig;

use super::*;

/// [`MINIMAL`] with its store on two others.
const SPREAD: &str = r#"cores = [1]
[[port]]
device = "eth1"
addresses = ["192.0.2.1/24"]
[[store]]
name = "disk0"
span = ["flash1", "flash0"]
[[store]]
name = "flash0"
malloc = { size_mib = 64 }
[[store]]
name = "flash1"
malloc = { size_mib = 32 }
[[subsystem]]
nqn = "nqn.2026-01.com.example:disk0"
namespaces = ["disk0"]
"#;

#[test]
fn r08_a_store_lies_on_others_in_the_order_in_which_they_are_named() {
    let program = parsed(SPREAD).unwrap();
    assert!(program.warnings.is_none());
    let engine = &program.engine;
    let span = SpanConfig {
        name: "disk0".into(),
        stores: vec!["flash1".into(), "flash0".into()],
    };
    assert_eq!(engine.spans, [span]);
    let names: Vec<_> = engine.store_names().collect();
    assert_eq!(names, ["flash0", "flash1", "disk0"]);
    assert_eq!(
        engine
            .check_target(&program.known_stores)
            .map_err(|e| e.to_string()),
        Ok(())
    );
    // One alone is one that may grow.
    assert!(parsed(&SPREAD.replace("\"flash1\", \"flash0\"", "\"flash1\"")).is_ok());
}

#[test]
fn r08_mistakes_about_spans_have_their_sentences() {
    let told = |from: &str, to: &str| {
        assert!(SPREAD.contains(from), "{from}");
        let problems = parsed(&SPREAD.replacen(from, to, 1)).map(drop).unwrap_err();
        problems.to_string()
    };
    let second = "[[store]]\nname = \"more\"\nspan = [\"flash0\"]\n[[subsystem]]";
    let log = "[log]\nstore = \"disk0\"\n[[subsystem]]";
    let cases = [
        (
            "[\"flash1\", \"flash0\"]",
            "[]",
            "the store lies on no other",
        ),
        ("\"flash1\", ", "\"flash9\", ", "there is no store `flash9`"),
        (
            "\"flash1\", ",
            "\"flash0\", ",
            "store `flash0` is named twice",
        ),
        (
            "\"flash1\", ",
            "\"disk0\", ",
            "store `disk0` lies on others itself",
        ),
        (
            "[[subsystem]]",
            second,
            "store `flash0` is a part of `disk0` already",
        ),
        (
            "[\"disk0\"]",
            "[\"disk0\", \"flash1\"]",
            "store `flash1` is a part of `disk0`, and nothing by itself",
        ),
        (
            "size_mib = 32",
            "size_mib = 32, block_size = 4096",
            "blocks of 512 bytes on `flash0`, and of 4096 on `flash1`",
        ),
        (
            "[[subsystem]]",
            log,
            "store `disk0` lies on several others, and the log on one or two",
        ),
        (
            "span = ",
            "malloc = { size_mib = 1 }\nspan = ",
            "the store is several devices at once",
        ),
        ("span = ", "timeout_s = 3\nspan = ", "timeout_s"),
    ];
    for (from, to, sentence) in cases {
        let told = told(from, to);
        assert!(told.contains(sentence), "{sentence}:\n{told}");
    }
}
