//! Whole files: what they give, what they are told, and that nothing panics.

mod mistakes;
mod spans;

use std::net::IpAddr;
use std::path::Path;

use engine::{StoreDevice, WritePolicy};
use proptest::prelude::*;

use super::*;

pub(super) const MINIMAL: &str = r#"cores = [1]
[[port]]
device = "eth1"
addresses = ["192.0.2.1/24"]
[[store]]
name = "disk0"
malloc = { size_mib = 64 }
[[subsystem]]
nqn = "nqn.2026-01.com.example:disk0"
namespaces = ["disk0"]
"#;

/// What [`MINIMAL`] gives with `top` in place of its cores, and `more` behind it; `spdk` is the file that
/// `config` in `[spdk]` names.
pub(crate) fn minimal_with(top: &str, more: &str, spdk: &str) -> Program {
    let text = MINIMAL.replacen("cores = [1]", top, 1) + more;
    let surroundings = Surroundings {
        cores: None,
        read: &|_| Ok(spdk.to_owned()),
    };
    parse(Path::new("t.toml"), &text, &surroundings).unwrap_or_else(|problems| panic!("{problems}"))
}

const SPDK: &str = r#"{"subsystems": [{"subsystem": "bdev", "config": [
    {"method": "bdev_aio_create", "params": {"name": "Aio0", "filename": "/x", "block_size": 4096}},
    {"method": "bdev_nvme_attach_controller", "params": {"name": "N", "trtype": "PCIe", "traddr": "0000:09:00.0"}}]}]}"#;

pub(super) fn parsed(text: &str) -> Result<Program, Problems> {
    let read = |path: &Path| match path.to_str() {
        Some("spdk.json") => Ok(SPDK.to_owned()),
        Some("broken.json") => Ok("{\n  \"subsystems\": [}".to_owned()),
        Some("list.json") => Ok("[]".to_owned()),
        _ => Err("No such file or directory (os error 2)".to_owned()),
    };
    let surroundings = Surroundings {
        cores: Some(&[0, 1, 2, 3]),
        read: &read,
    };
    parse(Path::new("t.toml"), text, &surroundings)
}

/// The minimal file with one thing replaced, and everything it is told.
pub(super) fn told(from: &str, to: &str) -> String {
    assert!(MINIMAL.contains(from), "{from}");
    match parsed(&MINIMAL.replacen(from, to, 1)) {
        Ok(program) => match program.warnings {
            Some(warnings) => warnings.to_string(),
            None => "fine".into(),
        },
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn k06_ten_lines_are_enough() {
    assert_eq!(MINIMAL.lines().count(), 10);
    let program = parsed(MINIMAL).unwrap();
    let engine = &program.engine;
    assert!(program.warnings.is_none());
    assert_eq!(engine.cores, [1]);
    assert_eq!(engine.ports[0].name, "port0");
    assert_eq!(engine.ports[0].mtu, 1500);
    assert_eq!(
        engine.target.listeners,
        [(IpAddr::from([192, 0, 2, 1]), 4420).into()]
    );
    assert_eq!(engine.stores[0].device, StoreDevice::Bdev("disk0".into()));
    assert_eq!(engine.target.subsystems[0].serial, "TL00000001");
    assert_eq!(engine.native_memory_mib, 512 + 64);
    assert_eq!(
        engine.spdk_json.as_deref(),
        Some(
            r#"{"subsystems":[{"subsystem":"bdev","config":[{"method":"bdev_malloc_create","params":{"name":"disk0","num_blocks":131072,"block_size":512}}]}]}"#
        )
    );
}

#[test]
fn k06_the_annotated_example_is_good_as_it_is() {
    let program = parsed(include_str!("../../docs/throughline.toml")).unwrap();
    let engine = &program.engine;
    assert!(program.warnings.is_none());
    assert_eq!(
        engine.pci_allow,
        ["0000:01:00.0", "0000:04:00.0", "0000:09:00.0"]
    );
    let json = engine.spdk_json.as_deref().unwrap();
    let (malloc, aio) = (
        json.find("bdev_malloc_create"),
        json.find("bdev_aio_create"),
    );
    assert!(malloc.is_some() && malloc < aio, "{json}");
    let namespaces = &engine.target.subsystems[0].namespaces;
    assert_eq!(
        namespaces.iter().map(|ns| ns.nsid).collect::<Vec<_>>(),
        [1, 7]
    );
    assert_eq!(namespaces[1].write, WritePolicy::Logged);
    assert_eq!(namespaces[1].block_size, None);
    assert_eq!(engine.target.listeners.len(), 2);
    assert_eq!(engine.ports[0].routes.len(), 1);
}

#[test]
fn k06_the_examples_comments_hold_the_defaults() {
    // Every `# key = value` line of the example, uncommented, changes nothing.
    let example = include_str!("../../docs/throughline.toml");
    let uncomment = |line: &str| match line.strip_prefix("# ") {
        Some(rest)
            if rest.split_once(" = ").is_some_and(|(key, _)| {
                !key.contains(' ')
                    && ![
                        "vlan",
                        "hosts",
                        "dhchap_digests",
                        "dhchap_dhgroups",
                        "ana",
                        "peer_listen",
                        "pci_allow",
                        "listen",
                        "native_mib",
                        "half_mib",
                        "mirror",
                    ]
                    .contains(&key)
            }) =>
        {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    let full: String = example.lines().map(|line| uncomment(line) + "\n").collect();
    let count = full.lines().filter(|line| !line.starts_with('#')).count()
        - example
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count();
    assert!(count >= 13, "only {count} defaults are shown");
    assert_eq!(
        format!("{:?}", parsed(&full).unwrap()),
        format!("{:?}", parsed(example).unwrap())
    );
}

#[test]
fn k06_an_unknown_key_names_the_nearest() {
    assert_eq!(
        told("addresses", "adresses"),
        "\
t.toml:2:1: `addresses` is missing in [[port]]
   |
 2 | [[port]]
   | ^^^^^^^^ add `addresses = [\"192.0.2.1/24\"]`

t.toml:4:1: unknown key `adresses` in [[port]]
   |
 4 | adresses = [\"192.0.2.1/24\"]
   | ^^^^^^^^ did you mean `addresses`?
"
    );
    assert_eq!(
        told("name = ", "colour = 1\nname = "),
        "\
t.toml:6:1: unknown key `colour` in [[store]]
   |
 6 | colour = 1
   | ^^^^^^ known here: bdev, malloc, name, nvme, span, timeout_s
"
    );
    assert!(told("cores = [1]", "cores = [1]\ntargte = {}").contains("did you mean `target`?"));
}

#[test]
fn k06_an_unknown_store_is_shown_on_its_line() {
    assert_eq!(
        told("[\"disk0\"]", "[\"disk1\"]"),
        "\
t.toml:10:15: there is no store `disk1`
    |
 10 | namespaces = [\"disk1\"]
    |               ^^^^^^^ did you mean `disk0`?
"
    );
}

#[test]
fn k06_broken_syntax_is_shown_where_it_breaks() {
    assert_eq!(
        told("\"disk0\"\nmalloc", "disk0\nmalloc"),
        "\
t.toml:6:8: string values must be quoted
   |
 6 | name = disk0
   |        ^^^^^ write \"disk0\"
"
    );
}

/// What hosts do without can be added while the program runs, and saved.
#[test]
fn what_may_be_empty_is_a_warning() {
    for (from, to) in [
        ("[\"disk0\"]", "[]"),
        ("nqn = ", "hosts = []\nnqn = "),
        ("[[subsystem]]", "[target]\nlisten = []\n[[subsystem]]"),
    ] {
        assert!(parsed(&MINIMAL.replacen(from, to, 1)).is_ok(), "{to}");
        assert_ne!(told(from, to), "fine", "{to}");
    }
    let (rest, _) = MINIMAL.split_once("[[subsystem]]").unwrap();
    let none = parsed(&format!("subsystem = []\n{rest}")).unwrap();
    assert!(none.engine.target.subsystems.is_empty());
}

#[test]
fn k06_an_empty_file_is_told_everything_it_lacks() {
    let told = parsed("").unwrap_err().to_string();
    for lack in ["`cores` is missing", "no port", "no store", "no subsystem"] {
        assert!(told.contains(lack), "{told}");
    }
}

#[test]
fn k06_a_store_nobody_uses_is_a_warning() {
    let text = format!("{MINIMAL}[[store]]\nname = \"spare\"\nmalloc = {{ size_mib = 1 }}\n");
    let warnings = parsed(&text).unwrap().warnings.unwrap().to_string();
    assert!(
        warnings.starts_with("t.toml:11:1: store `spare` is no namespace's"),
        "{warnings}"
    );
}

#[test]
fn k06_a_device_is_not_read_as_a_file() {
    let error = load(Path::new("/dev/zero"), None).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot read the configuration /dev/zero: it is not a regular file"
    );
    assert!(load(Path::new("/nonexistent.toml"), None).is_err());
}

/// A file is parsed and, if refused, shown; neither may panic.
fn survives(text: &str) {
    if let Err(problems) = parsed(text) {
        assert!(!problems.is_empty());
        assert!(problems.to_string().starts_with("t.toml:"));
    }
}

/// TOML values that are rarely what a key wants.
fn odd_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        Just("999999999999999999999999999999999999999999".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        "[ -~é]{0,24}".prop_map(|s| format!("'{}'", s.replace('\'', ""))),
        Just("1979-05-27T07:32:00Z".to_owned()),
        Just("nan".to_owned()),
        Just("[]".to_owned()),
        Just("[[], {}, '', 1]".to_owned()),
        Just("{ a = 1, store = 'disk0', to = '::/0', via = '::1' }".to_owned()),
        Just("['192.0.2.1/24', '::1/128', 'disk0', 'net_x']".to_owned()),
    ]
}

proptest! {
    #[test]
    fn k06_no_text_panics(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn k06_no_edit_of_a_good_file_panics(
        at in any::<prop::sample::Index>(), len in 0usize..12, insert in "[ -~\n\té]{0,6}",
    ) {
        let example: Vec<char> = include_str!("../../docs/throughline.toml").chars().collect();
        let at = at.index(example.len());
        let end = (at + len).min(example.len());
        let text: String =
            example[..at].iter().copied().chain(insert.chars()).chain(example[end..].iter().copied()).collect();
        survives(&text);
    }

    #[test]
    fn k06_no_value_of_any_key_panics(line in any::<prop::sample::Index>(), value in odd_value()) {
        let example = include_str!("../../docs/throughline.toml");
        let mut lines: Vec<String> = example
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|l| l.contains(" = ") && !l.starts_with(' ')).unwrap_or(line))
            .map(str::to_owned)
            .collect();
        let keyed: Vec<usize> = (0..lines.len())
            .filter(|&i| !lines[i].starts_with('#') && lines[i].contains(" = "))
            .collect();
        let line = keyed[line.index(keyed.len())];
        let key = lines[line].split(" = ").next().unwrap_or_default().to_owned();
        lines[line] = format!("{key} = {value}");
        survives(&lines.join("\n"));
    }
}

/// What may be written is what the engine takes: the ends of each range.
#[test]
fn k06_the_ends_of_ranges_are_good_for_the_engine() {
    for sections in [
        "[target]\nmax_io_kib = 8\nin_capsule_kib = 0\nqueue_depth = 2",
        "[target]\nmax_io_kib = 1024\nin_capsule_kib = 1024\nqueue_depth = 4096",
        "[memory]\nclusters = 256\npages = 256\nrequests = 16\nconnections = 1",
        "[memory]\nclusters = 4194304\npages = 4194304\nrequests = 65535\nconnections = 65536",
    ] {
        let text = MINIMAL.replacen("[[store]]", &format!("{sections}\n[[store]]"), 1);
        for mtu in ["576", "9216"] {
            let port = format!("device = \"net_null0\"\nmtu = {mtu}");
            let text = text.replacen("device = \"eth1\"", &port, 1);
            let program = match parsed(&text) {
                Ok(program) => program,
                Err(problems) => panic!("{sections}: {problems}"),
            };
            let (engine, known) = (program.engine, program.known_stores);
            engine.check_target(&known).unwrap();
            engine.check_port(&engine.ports[0]).unwrap();
        }
    }
}
