//! A file, whatever was changed since: what is written is what is read.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::{Program, Surroundings, parse};
use super::*;

const SPDK: &str = r#"{"subsystems": [{"subsystem": "bdev", "config": [
    {"method": "bdev_aio_create", "params": {"name": "Aio0", "filename": "/x", "block_size": 4096}}]}]}"#;

fn read(text: &str) -> Program {
    let read = |path: &Path| match path.to_str() {
        Some("spdk.json") => Ok(SPDK.to_owned()),
        _ => Err("No such file".to_owned()),
    };
    let surroundings = Surroundings {
        cores: None,
        read: &read,
    };
    parse(Path::new("t.toml"), text, &surroundings)
        .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

/// Everything that a file configures, warnings aside.
fn said(program: &Program) -> String {
    format!(
        "{:?} {:?} {:?} {}",
        program.engine, program.control_socket, program.metrics, program.malloc_mib
    )
}

/// The file after `change`; it says what it is to say, and nothing else has changed.
fn changed(text: &str, change: impl FnOnce(&mut TargetConfig)) -> String {
    let mut program = read(text);
    let was = program.engine.target.clone();
    change(&mut program.engine.target);
    let new = with_target(text, &was, &program.engine.target).unwrap();
    assert_eq!(said(&read(&new)), said(&program), "{text}\nbecame\n{new}");
    // Once more, nothing is left to write.
    let target = &program.engine.target;
    assert_eq!(with_target(&new, target, target).unwrap(), new);
    new
}

const FILE: &str = r#"# Ours.
cores = [1]            # not 0

[[port]]
device = "eth1"
addresses = ["192.0.2.1/24"]

[[store]]
name = "a"
malloc = { size_mib = 8 }
[[store]]
name = "b"
malloc = { size_mib = 8 }
[[store]]
name = "c"
malloc = { size_mib = 8 }

# The first.
[[subsystem]]
nqn = "nqn.2026-01.com.example:one"   # its name
hosts = [ "nqn.2026-01.com.example:h0" ]
namespaces = [
    "a",   # small
    # large
    { store = "b", write = "back" },
]

[[subsystem]]  # the second
nqn = "nqn.2026-01.com.example:two"
namespaces = ["c"]

[control]
metrics = "127.0.0.1:9464"
"#;

fn namespace(nsid: u32, store: &str) -> NamespaceConfig {
    NamespaceConfig {
        nsid,
        store: store.into(),
        uuid: None,
        nguid: None,
        write: WritePolicy::Through,
        block_size: None,
        backup_of: None,
    }
}

#[test]
fn what_was_not_changed_stays_as_it_was_written() {
    assert_eq!(changed(FILE, |_| ()), FILE);
    let example = include_str!("../../../docs/throughline.toml");
    let with_spdk = changed(example, |_| ());
    assert_eq!(with_spdk, example);
}

#[test]
fn comments_and_order_stay_around_what_was_changed() {
    let new = changed(FILE, |target| {
        let first = &mut target.subsystems[0];
        first.namespaces.remove(0);
        first
            .hosts
            .as_mut()
            .unwrap()
            .push("nqn.2026-01.com.example:h1".into());
        target
            .listeners
            .push((IpAddr::from([192, 0, 2, 1]), 4421).into());
    });
    assert_eq!(
        new,
        r#"# Ours.
cores = [1]            # not 0

[[port]]
device = "eth1"
addresses = ["192.0.2.1/24"]

[[store]]
name = "a"
malloc = { size_mib = 8 }
[[store]]
name = "b"
malloc = { size_mib = 8 }
[[store]]
name = "c"
malloc = { size_mib = 8 }

# The first.
[[subsystem]]
nqn = "nqn.2026-01.com.example:one"   # its name
hosts = ["nqn.2026-01.com.example:h0", "nqn.2026-01.com.example:h1"]
namespaces = [
    # large
    { store = "b", write = "back", nsid = 2 },
]

[[subsystem]]  # the second
nqn = "nqn.2026-01.com.example:two"
namespaces = ["c"]

[control]
metrics = "127.0.0.1:9464"

[target]
listen = ["192.0.2.1:4420", "192.0.2.1:4421"]
"#
    );
}

#[test]
fn an_elements_comment_stays_with_it() {
    let arrays = [
        // An array, what is removed of it, and what it then is with one more.
        ("[\"a\", \"b\"]", "", "[\"a\", \"b\", \"c\"]"),
        (
            "[\n  \"a\",\n  \"b\"\n]",
            "",
            "[\n  \"a\",\n  \"b\",\n  \"c\",\n]",
        ),
        (
            "[ # all\n  \"a\", # small\n  # large\n  \"b\"  # last\n]",
            "a",
            "[ # all\n  # large\n  { store = \"b\", nsid = 2 },  # last\n  \"c\",\n]",
        ),
        (
            "[\"a\", \"b\" # last\n]",
            "",
            "[\"a\", \"b\", # last\n    \"c\",\n]",
        ),
    ];
    let (rest, _) = FILE.split_once("# The first.").unwrap();
    for (from, removed, to) in arrays {
        let section = "[[subsystem]]\nnqn = \"nqn.2026-01.com.example:one\"\nnamespaces = ";
        let new = changed(&format!("{rest}{section}{from}\n"), |target| {
            let namespaces = &mut target.subsystems[0].namespaces;
            namespaces.retain(|ns| ns.store != removed);
            namespaces.push(namespace(3, "c"));
        });
        let array = new.split_once("namespaces = ").unwrap().1;
        assert_eq!(array, format!("{to}\n"), "{from}");
    }
}

#[test]
fn a_subsystem_that_goes_leaves_the_others_their_serial_numbers() {
    let new = changed(FILE, |target| drop(target.subsystems.remove(0)));
    assert!(!new.contains("The first."), "{new}");
    assert!(new.contains("[[subsystem]]  # the second\n"), "{new}");
    assert!(new.contains("serial = \"TL00000002\"\n"), "{new}");
    let none = changed(FILE, |target| target.subsystems.clear());
    assert!(none.contains("subsystem = []\n"), "{none}");
    let again = changed(&none, |target| {
        target.subsystems.push(SubsystemConfig {
            nqn: "nqn.2026-01.com.example:three".into(),
            serial: "TL00000001".into(),
            model: "Throughline".into(),
            hosts: None,
            ana: None,
            controller_ids: CNTLIDS,
            peer_listeners: Vec::new(),
            namespaces: vec![namespace(1, "c"), namespace(2, "a")],
        });
    });
    let section =
        "\n[[subsystem]]\nnqn = \"nqn.2026-01.com.example:three\"\nnamespaces = [\"c\", \"a\"]\n";
    assert!(again.contains(section), "{again}");
}

#[test]
fn other_ways_to_write_the_same_are_understood() {
    let (rest, _) = FILE.split_once("# The first.").unwrap();
    let inline = format!(
        "subsystem = [{{ nqn = \"nqn.2026-01.com.example:one\", namespaces = [\"a\"] }}]\n\
        target.listen = [\"0.0.0.0\"]\n{rest}"
    );
    let tables = format!(
        "{rest}[[subsystem]]\nnqn = \"nqn.2026-01.com.example:one\"\n\
        [[subsystem.namespaces]]\nstore = \"a\"\nnsid = 5\n[subsystem.namespaces.x]\n"
    )
    .replace("[subsystem.namespaces.x]\n", "");
    for text in [inline, tables] {
        changed(&text, |target| {
            target.listeners.clear();
            target.subsystems[0].namespaces.push(namespace(9, "b"));
            target.subsystems[0].hosts = Some(Vec::new());
        });
    }
}

/// One key of the file's, or its absence.
fn line(key: &'static str, value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    option::of(value)
        .prop_map(move |value| value.map_or(String::new(), |value| format!("{key} = {value}\n")))
}

fn number(range: std::ops::Range<u32>) -> impl Strategy<Value = String> {
    range.prop_map(|number| number.to_string())
}

fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(values).prop_map(str::to_owned)
}

/// The sections before the target, with every key that they have; stores s0 to s7.
fn head() -> impl Strategy<Value = String> {
    let port = (
        line("name", one_of(&["\"storage0\""])),
        line("mtu", number(1500..9216)),
        line("vlan", number(1..4095)),
        line(
            "routes",
            one_of(&["[{ to = \"0.0.0.0/0\", via = \"192.0.2.254\" }]", "[]"]),
        ),
    );
    let memory = (
        line("clusters", number(256..65536)),
        line("cluster_size", one_of(&["2048", "4096", "16384"])),
        line("pages", number(1024..65536)),
        line("requests", number(16..4096)),
        line("connections", number(1..4096)),
        line("native_mib", number(640..2048)),
    );
    let control = (
        line("socket", one_of(&["\"/run/a.sock\""])),
        line("metrics", one_of(&["\"127.0.0.1:9464\"", "\"[::1]:9464\""])),
    );
    let rest = (
        one_of(&["[0]", "[1, 2]"]),
        line("copy", one_of(&["true", "false"])),
        line("pci_allow", one_of(&["[\"0000:05:00.0\"]"])),
    );
    (port, memory, control, rest).prop_map(|(port, memory, control, rest)| {
        let stores: String = (0..8)
            .map(|i| {
                let device = match i {
                    0 => "bdev = \"Aio0\"".into(),
                    1 => "nvme = { transport_id = \"trtype:PCIe traddr:0000:04:00.0\", nsid = 2 }".into(),
                    i => format!("malloc = {{ size_mib = {i}, block_size = {} }}", 512 << (i % 2 * 3)),
                };
                format!("[[store]]\nname = \"s{i}\"\n{device}\n")
            })
            .collect();
        format!(
            "cores = {}\n{}[[port]]\ndevice = \"eth1\"\naddresses = [\"192.0.2.1/24\", \"2001:db8::1/64\"]\n\
            {}{}{}{}[memory]\n{}{}{}{}{}{}{stores}[spdk]\nconfig = \"spdk.json\"\n{}[control]\n{}{}",
            rest.0, rest.1, port.0, port.1, port.2, port.3, memory.0, memory.1, memory.2, memory.3,
            memory.4, memory.5, rest.2, control.0, control.1,
        )
    })
}

/// `[target]`, or a part of it, or nothing.
fn target() -> impl Strategy<Value = String> {
    let keys = (
        line(
            "listen",
            one_of(&[
                "[\"192.0.2.1:4420\"]",
                "[\n  \"[2001:db8::1]:4421\", # v6\n]",
                "[\"0.0.0.0\"]",
            ]),
        ),
        line("max_io_kib", one_of(&["64", "256"])),
        line("in_capsule_kib", number(0..64)),
        line("queue_depth", number(2..4096)),
    );
    option::of(keys).prop_map(|keys| match keys {
        Some((a, b, c, d)) => format!("[target]\n{a}{b}{c}{d}"),
        None => String::new(),
    })
}

const WRITE: [WritePolicy; 3] = [WritePolicy::Through, WritePolicy::Back, WritePolicy::Logged];

/// What a file can say.
const ANA: &[Option<AnaState>] = &[
    None,
    Some(AnaState::Optimized),
    Some(AnaState::NonOptimized),
    Some(AnaState::Inaccessible),
];

prop_compose! {
    fn any_namespace()(
        nsid in 1u32..40, store in 0u8..8, uuid in option::of(1u128..), nguid in option::of(1u128..),
        write in 0usize..2, block_size in option::of(prop::sample::select(vec![512u32, 4096])),
    ) -> NamespaceConfig {
        let (uuid, nguid) = (uuid.map(u128::to_be_bytes), nguid.map(u128::to_be_bytes));
        NamespaceConfig { nsid, store: format!("s{store}"), uuid, nguid, write: WRITE[write], block_size, backup_of: None }
    }
}

prop_compose! {
    fn any_subsystem()(
        name in "[a-f]", serial in "[A-Z0-9]{1,20}", model in option::of("[ -~]{0,38}x"),
        hosts in option::of(vec("[a-e]", 0..4)), ana in prop::sample::select(ANA),
        ids in (1u16..100, 100u16..=0xffef), peers in vec(4420u16..4424, 0..3), namespaces in vec(any_namespace(), 0..5),
    ) -> SubsystemConfig {
        let nqn = |name: String| format!("nqn.2026-01.com.example:{name}");
        let mut hosts = hosts.map(|hosts| hosts.into_iter().map(|host| HostConfig::from(&*nqn(host))).collect::<Vec<_>>());
        if let Some(hosts) = &mut hosts {
            hosts.dedup();
        }
        SubsystemConfig {
            nqn: nqn(name), serial, model: model.unwrap_or(MODEL.into()), hosts, ana, namespaces,
            controller_ids: ids.0..=ids.1,
            peer_listeners: peers.into_iter().collect::<BTreeSet<_>>().into_iter()
                .map(|port| listener(IpAddr::from([192, 0, 2, 9]), port)).collect(),
        }
    }
}

/// Leaves out what a target cannot have twice.
fn sound(subsystems: Vec<SubsystemConfig>) -> Vec<SubsystemConfig> {
    let (mut nqns, mut stores) = (Vec::new(), Vec::new());
    let mut sound = Vec::new();
    for mut subsystem in subsystems {
        if nqns.contains(&subsystem.nqn) {
            continue;
        }
        nqns.push(subsystem.nqn.clone());
        let mut nsids = Vec::new();
        subsystem.namespaces.retain(|ns| {
            let new = !nsids.contains(&ns.nsid) && !stores.contains(&ns.store);
            if new {
                nsids.push(ns.nsid);
                stores.push(ns.store.clone());
            }
            new
        });
        sound.push(subsystem);
    }
    sound
}

/// One with TLS or without, by its port.
fn listener(address: IpAddr, port: u16) -> ListenerConfig {
    let (_, tls) = Tls::ALL[usize::from(port) % Tls::ALL.len()];
    ListenerConfig {
        tls,
        ..(address, port).into()
    }
}

fn listeners() -> impl Strategy<Value = Vec<ListenerConfig>> {
    let v6 = "2001:db8::1".parse::<IpAddr>().unwrap();
    let address = prop::sample::select(vec![IpAddr::from([192, 0, 2, 1]), v6]);
    vec((address, 4420u16..4424), 0..4).prop_map(|mut listeners| {
        listeners.sort_unstable();
        listeners.dedup();
        let listeners = listeners.into_iter();
        listeners
            .map(|(address, port)| listener(address, port))
            .collect()
    })
}

proptest! {
    /// Any target into any file, and then any other: each time the file says that
    /// target, and of everything else what it said before.
    #[test]
    fn a_configuration_that_is_written_and_read_is_the_same(
        head in head(), target in target(),
        first in vec(any_subsystem(), 0..4), second in vec(any_subsystem(), 0..4),
        kept in vec(any::<bool>(), 8), listen in option::of(listeners()),
    ) {
        let text = format!("subsystem = []\n{head}{target}");
        let text = changed(&text, |target| target.subsystems = sound(first));
        changed(&text, |target| {
            // Some stay, some go, some come; of those that stay, namespaces and hosts do the same.
            let mut kept = kept.into_iter().cycle();
            let mut keep = || kept.next().unwrap_or_default();
            target.subsystems.retain(|_| keep());
            for subsystem in &mut target.subsystems {
                subsystem.namespaces.retain(|_| keep());
                if let Some(hosts) = &mut subsystem.hosts {
                    hosts.retain(|_| keep());
                }
                if keep() {
                    subsystem.hosts = None;
                }
            }
            let all = target.subsystems.drain(..).chain(second).collect();
            target.subsystems = sound(all);
            if let Some(listen) = listen {
                target.listeners = listen;
            }
        });
    }
}

#[test]
fn r03_the_size_of_frames_is_written_where_it_stands_or_new() {
    let pair = |kib: u32| PairConfig {
        node: [1; 16],
        listen: Vec::new(),
        peer: [2; 16],
        peer_listen: Vec::new(),
        key: [3; 32],
        tls: true,
        frame_bytes: kib * 1024,
        volumes: Vec::new(),
        arbiter: None,
    };
    let sizes = |kib: &[u32]| -> Vec<PairConfig> { kib.iter().map(|&kib| pair(kib)).collect() };
    let (was, now) = (sizes(&[4096]), sizes(&[64]));
    let text = "# Ours.\n[pair]\nnode = \"n\" # this one\n";
    let new = with_frames(text, &was, &now).unwrap();
    assert_eq!(new, format!("{text}frame_kib = 64\n"));
    let back = with_frames(&new, &now, &was).unwrap();
    assert_eq!(back, format!("{text}frame_kib = 4096\n"));
    assert_eq!(with_frames(text, &[], &[]).unwrap(), text);
    assert_eq!(with_frames(text, &was, &was).unwrap(), text);
    let both = "[[pair]]\nnode = \"n\"\n[[pair]]\nnode = \"n\"\n";
    let new = with_frames(both, &sizes(&[4096, 4096]), &sizes(&[4096, 8])).unwrap();
    assert_eq!(new, format!("{both}frame_kib = 8\n"));
}
