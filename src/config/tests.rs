//! Whole files: what they give, what they are told, and that nothing panics.

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

fn parsed(text: &str) -> Result<Program, Problems> {
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
fn told(from: &str, to: &str) -> String {
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
        [(IpAddr::from([192, 0, 2, 1]), 4420)]
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
   | ^^^^^^ known here: bdev, malloc, name, nvme, timeout_s
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

/// What is written instead of what, and the first line and the help it earns.
#[test]
fn k06_mistakes_about_paths_have_their_sentences() {
    let cases: &[(&str, &str, &str, &str)] = &[
        (
            "nqn = ",
            "controller_ids = \"9-8\"\nnqn = ",
            "9:18: `9-8` is no range of controller IDs",
            "write two numbers from 1 to 65519",
        ),
        (
            "nqn = ",
            "peer_listen = [\"192.0.2.1\"]\nnqn = ",
            "9:16: hosts are told of 192.0.2.1 port 4420 already",
            "leave it out",
        ),
        (
            "nqn = ",
            "peer_listen = [\"0.0.0.0\"]\nnqn = ",
            "9:16: 0.0.0.0 is no address of another node",
            "write an address that hosts reach it at",
        ),
        (
            "nqn = ",
            "ana = \"change\"\nnqn = ",
            "9:7: namespaces cannot begin \"change\"",
            "write \"optimized\", \"non_optimized\" or \"inaccessible\"",
        ),
        (
            "[[subsystem]]",
            "[target]\nmax_io_kib = 32\n[[subsystem]]\nana = \"optimized\"",
            "11:7: hosts read the states of all namespaces in one command",
            "write `max_io_kib = 64` or more",
        ),
    ];
    each_is_told(cases);
}

#[test]
fn k06_every_mistake_has_its_sentence() {
    let cases: &[(&str, &str, &str, &str)] = &[
        (
            "[[subsystem]]",
            "[control]\nmetrics = \"[::ffff:192.0.2.1]:9464\"\n[[subsystem]]",
            "9:11: ::ffff:192.0.2.1 is the address of a port",
            "write `metrics = \"127.0.0.1:9464\"`",
        ),
        (
            "[1]",
            "[]",
            "1:9: at least one core must poll",
            "write `cores = [1]`",
        ),
        (
            "[1]",
            "[1, 9]",
            "1:13: core 9 does not exist or is offline",
            "this machine has cores 0 to 3",
        ),
        (
            "[1]",
            "[1, 1]",
            "1:13: core 1 is listed twice",
            "leave one out",
        ),
        (
            "[1]",
            "1",
            "1:9: `cores` in the file must be an array, not an integer",
            "write `cores = [1, 2]`",
        ),
        (
            "[1]",
            "[\"1\"]",
            "1:10: an element of `cores` in the file must be a whole number, not a string",
            "write 1",
        ),
        (
            "cores = [1]\n",
            "",
            "1:1: `cores` is missing in the file",
            "add `cores = [1]`",
        ),
        (
            "[1]",
            "[1]\ncopy = 1",
            "2:8: `copy` in the file must be `true` or `false`, not an integer",
            "write `copy = false`",
        ),
        (
            "\"eth1\"",
            "\"eth:1\"",
            "3:10: that is not a device of DPDK's, nor the name of an interface",
            "such as \"eth1\"",
        ),
        (
            "192.0.2.1/24",
            "192.0.2.1",
            "4:14: the prefix length is missing",
            "write \"192.0.2.1/24\"",
        ),
        (
            "192.0.2.1/24",
            "192.0.2.1/40",
            "4:14: `40` is not a prefix length",
            "write a number from 0 to 32",
        ),
        (
            "192.0.2.1/24",
            "192.0.2.255/24",
            "4:14: 192.0.2.255 is the network or broadcast address of 192.0.2.0/24",
            "write the address of the port itself",
        ),
        (
            "[\"192.0.2.1/24\"]",
            "[]",
            "4:13: a port needs an address",
            "write `addresses = ",
        ),
        (
            "[[store]]",
            "mtu = 90\n[[store]]",
            "5:7: `mtu` in [[port]] is out of range",
            "write a number from 576 to 9216",
        ),
        (
            "192.0.2.1/24\"]",
            "2001:db8::1/64\"]\nmtu = 1000",
            "5:7: IPv6 needs an MTU of 1280 or more",
            "write `mtu = 1500`",
        ),
        (
            "[[store]]",
            "routes = [{ to = \"0.0.0.0/0\", via = \"192.0.3.1\" }]\n[[store]]",
            "5:37: 192.0.3.1 is in no network of this port",
            "write a router that",
        ),
        (
            "[[store]]",
            "routes = [{ to = \"0.0.0.0/0\", via = \"192.0.2.1\" }]\n[[store]]",
            "5:37: 192.0.2.1 is this port itself",
            "next router's",
        ),
        (
            "[[store]]",
            "vlan = 4095\n[[store]]",
            "5:8: `vlan` in [[port]] is out of range",
            "from 1 to 4094",
        ),
        (
            "[[store]]",
            "[[port]]\ndevice = \"eth1\"\naddresses = [\"192.0.2.1/24\"]\n[[store]]",
            "6:10: port `port0` already has eth1",
            "a device of its own",
        ),
        (
            "[[store]]",
            "[memory]\ncluster_size = 3000\n[[store]]",
            "6:16: 3000 is not a power of two",
            "write 2048",
        ),
        (
            "[[store]]",
            "[memory]\nnative_mib = 100\n[[store]]",
            "6:14: 100 MiB cannot hold the malloc stores' 64 MiB",
            "write `native_mib = 576`",
        ),
        (
            "[[store]]",
            "[[memory]]\n[[store]]",
            "5:1: `memory` must be a table",
            "write `[memory]` on a line of its own",
        ),
        (
            "[[port]]",
            "[port]",
            "2:1: `port` must be a list of tables",
            "write `[[port]]` on a line of its own",
        ),
        (
            "malloc = { size_mib = 64 }",
            "",
            "5:1: the store does not say which device it is",
            "write `malloc = { size_mib = 256 }`",
        ),
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", block_size = 4000 }]",
            "10:47: a block has 512 or 4096 bytes",
            "write `block_size = 512`",
        ),
        (
            "malloc",
            "bdev = \"a\"\nmalloc",
            "8:10: the store is several devices at once",
            "write `malloc = ",
        ),
        (
            "size_mib = 64",
            "size_mib = 64, block_size = 1000",
            "7:40: a block has 512 or 4096 bytes",
            "write `block_size = 512`",
        ),
        (
            "size_mib = 64",
            "size = 64",
            "7:10: `size_mib` is missing in malloc",
            "add `size_mib = 256`",
        ),
        (
            "malloc = { size_mib = 64 }",
            "bdev = \"Nvme0n1\"",
            "7:8: nothing creates the bdev `Nvme0n1`",
            "add `[spdk]`",
        ),
        (
            "malloc = { size_mib = 64 }",
            "bdev = \"a\"\n[spdk]\nconfig = \"no.json\"",
            "9:10: cannot read no.json: No such file",
            "relative to this file",
        ),
        (
            "malloc = { size_mib = 64 }",
            "bdev = \"a\"\n[spdk]\nconfig = \"broken.json\"",
            "9:10: broken.json: expected value at line 2 column 18",
            "it must be JSON",
        ),
        (
            "malloc = { size_mib = 64 }",
            "bdev = \"a\"\n[spdk]\nconfig = \"list.json\"",
            "9:10: list.json has no list of `subsystems`",
            "save_config",
        ),
        (
            "malloc = { size_mib = 64 }",
            "nvme = { transport_id = \"trtype:PCIe\" }",
            "7:25: `traddr` must be the drive's PCI address",
            "write \"trtype:PCIe",
        ),
        (
            "\"nqn.2026-01.com.example:disk0\"",
            "\"disk0\"",
            "9:7: `disk0` is not an NVMe qualified name",
            "nqn.2026-01.com.example:disk0",
        ),
        (
            "nqn = ",
            "serial = \"123456789012345678901\"\nnqn = ",
            "9:10: `123456789012345678901` does not fit its field",
            "write 1 to 20 printable",
        ),
        (
            "nqn = ",
            "hosts = []\nnqn = ",
            "9:9: an empty list lets no host in",
            "leave `hosts` out",
        ),
        (
            "[\"disk0\"]",
            "[]",
            "10:14: a subsystem needs a namespace",
            "write `namespaces = ",
        ),
        (
            "[\"disk0\"]",
            "[\"disk0\", \"disk0\"]",
            "10:24: store `disk0` is namespace 1 of nqn.2026-01.com.example:disk0 already",
            "a store of its own",
        ),
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", nsid = 0 }]",
            "10:41: `nsid` in a namespace is out of range",
            "write a number from 1",
        ),
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", uuid = \"1\" }]",
            "10:41: `1` is not a UUID",
            "uuidgen",
        ),
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", write = \"fast\" }]",
            "10:42: a write cannot complete by \"fast\"",
            "write \"through\"",
        ),
        (
            "[[subsystem]]",
            "[target]\nmax_io_kib = 100\n[[subsystem]]",
            "9:14: it must be a power of two",
            "write `max_io_kib = 128`",
        ),
        (
            "[[subsystem]]",
            "[target]\nin_capsule_kib = 256\n[[subsystem]]",
            "9:18: 256 KiB in a capsule is more than one command may carry",
            "which is 128",
        ),
        (
            "[[subsystem]]",
            "[target]\nlisten = [\"192.0.2.9:4420\"]\n[[subsystem]]",
            "9:11: no port has the address 192.0.2.9",
            "addresses: 192.0.2.1",
        ),
        (
            "[[subsystem]]",
            "[target]\nlisten = [\"eth1\"]\n[[subsystem]]",
            "9:11: `eth1` is not an address with a port",
            "write \"192.0.2.1:4420\"",
        ),
        (
            "[[subsystem]]",
            "[control]\nsocket = \"run/x\"\n[[subsystem]]",
            "9:10: the socket's path must be absolute",
            "/run/throughline.sock",
        ),
    ];
    each_is_told(cases);
}

/// What two namespaces cannot share, and what is none.
#[test]
fn k06_identifiers_that_cannot_be_have_their_sentences() {
    each_is_told(&[
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", nguid = \"6f1b0c1e\" }]",
            "10:42: `6f1b0c1e` is not an NGUID",
            "write 32 hexadecimal digits",
        ),
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", nguid = \"00000000000000000000000000000000\" }]",
            "10:42: an NGUID of zeros names nothing",
            "leave `nguid` out",
        ),
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", nguid = \"00000000000000000000000000000001\" }, \
              { store = \"disk1\", nguid = \"00000000000000000000000000000001\" }]",
            "10:80: namespace 1 of nqn.2026-01.com.example:disk0 has the same nguid",
            "write another `nguid`",
        ),
        (
            // What is derived of a UUID counts too.
            "[\"disk0\"]",
            "[{ store = \"disk0\", uuid = \"6f1b0c1e-3b5e-4c57-9f1a-0d5f0a7b2c11\" }]\n\
              [[subsystem]]\nnqn = \"nqn.2026-01.com.example:b\"\n\
              namespaces = [{ store = \"disk1\", nguid = \"6f1b0c1e3b5e4c577e1a0d5f0a7b2c11\" }]",
            "13:15: namespace 1 of nqn.2026-01.com.example:disk0 has the same nguid",
            "or leave it out",
        ),
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", uuid = \"6f1b0c1e-3b5e-4c57-9f1a-0d5f0a7b2c11\" }]\n\
              [[subsystem]]\nnqn = \"nqn.2026-01.com.example:b\"\n\
              namespaces = [{ store = \"disk1\", uuid = \"6F1B0C1E-3b5e-4c57-9f1a-0d5f0a7b2c11\" }]",
            "13:15: namespace 1 of nqn.2026-01.com.example:disk0 has the same uuid",
            "write another `uuid`",
        ),
    ]);
}

/// What is replaced in the minimal file, by what; the place and the first words of what is told; its help.
fn each_is_told(cases: &[(&str, &str, &str, &str)]) {
    let mut wrong = String::new();
    for &(from, to, first, help) in cases {
        let told = told(from, to);
        let first_line = format!("t.toml:{first}");
        // A subsystem without its namespace leaves a store without a use, which is told as well.
        let mut told_so = told
            .split("\n\n")
            .filter(|one| one.starts_with(&first_line));
        if !told_so.any(|one| one.contains(help)) {
            wrong += &format!("{to}\n  wanted {first}\n  told {told}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
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
