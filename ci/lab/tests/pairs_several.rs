//! One node that has pairs with two others: the source of a volume of one, and the destination of a volume of the other.

use lab::config::{NQN, NQN_4K, WIRE};
use lab::pair::{on_files, write_key};
use lab::writer::Writer;
use lab::{Config, Namespace, Outcome, Program, Result, Section, Test, Tool, expect, veth, wait};
use serde_json::{Value, json};

/// The node in the middle, and those that it has pairs with.
const NODES: [(&str, &str); 3] = [
    ("192.0.2.1", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"),
    ("192.0.2.2", "0c7e3f0a-51c2-4d0e-8a55-6a5b1c9a7e11"),
    ("192.0.2.3", "3f0a6b1e-6c52-4a53-9c6e-1f6f1b8f1a33"),
];
const HOST: &str = "192.0.2.9";

/// Which node the one in the middle has this volume with, and whether that is its first source.
struct Volume {
    store: &'static str,
    nqn: &'static str,
    uuid: &'static str,
    with: usize,
    begins_there: bool,
}

const VOLUMES: [Volume; 2] = [
    Volume {
        store: "disk1",
        nqn: NQN,
        uuid: "5d2a1c44-90b1-4f6e-9d0c-0f3a8f0b7c2e",
        with: 1,
        begins_there: false,
    },
    Volume {
        store: "disk2",
        nqn: NQN_4K,
        uuid: "c9a4f0d2-7b55-4f0b-8a6e-5d1c3b2a1f02",
        with: 2,
        begins_there: true,
    },
];

/// Four namespaces, and a bridge in the host's.
struct Three {
    test: Test,
    nodes: [Namespace; 3],
    host: Namespace,
}

impl Three {
    fn new(test: &Test) -> Result<Self> {
        let host = Namespace::new(test, "host")?;
        host.run("ip link add bridge0 type bridge")?;
        let nodes = ["middle", "one", "two"].map(|role| Namespace::new(test, role));
        let [middle, one, two] = nodes;
        let nodes = [middle?, one?, two?];
        for (at, node) in nodes.iter().enumerate() {
            let port = format!("port{at}");
            veth((node, WIRE), (&host, &port))?;
            host.run(&format!("ip link set {port} master bridge0 up"))?;
        }
        host.run("ip link set bridge0 up")?;
        host.run(&format!("ip address add {HOST}/24 dev bridge0"))?;
        for volume in &VOLUMES {
            write_key(&test.dir().join(format!("{}.key", volume.store)))?;
        }
        let test = test.clone();
        Ok(Self { test, nodes, host })
    }

    /// A pair of `node`, of this volume.
    fn pair(&self, node: usize, volume: &Volume) -> Section {
        let peer = if node == 0 { volume.with } else { 0 };
        let is_source = (node == 0) != volume.begins_there;
        let key = self.test.dir().join(format!("{}.key", volume.store));
        let listen = |node: usize| vec![format!("{}:4421", NODES[node].0)];
        let own = Section::new()
            .key("store", volume.store)
            .key("uuid", volume.uuid)
            .key(
                "first_role",
                ["destination", "source"][usize::from(is_source)],
            );
        Section::new()
            .key("node", NODES[node].1)
            .key("peer", NODES[peer].1)
            .key("listen", listen(node))
            .key("peer_listen", listen(peer))
            .key("key_file", key.display().to_string())
            .key("volume", vec![toml::Value::from(own)])
    }

    fn start(&self, node: usize) -> Result<Program<'_>> {
        let own = || (VOLUMES.iter()).filter(|volume| node == 0 || volume.with == node);
        let log = Section::new()
            .key("store", "log0")
            .key("consistency_point_s", 1);
        let address = format!("{}/24", NODES[node].0);
        let mut config = Config::empty()
            .port_key("addresses", vec![address])
            // Each polls a core; there may be no third one.
            .cores(&[[1, 0, 0][node]])
            .section("log", log);
        for volume in own() {
            let namespace = Section::new()
                .key("store", volume.store)
                .key("write", "logged")
                .key("uuid", volume.uuid);
            config = config.subsystem(Section::subsystem(volume.nqn, "LAB0001", namespace));
        }
        let pairs: Vec<toml::Value> = own().map(|it| self.pair(node, it).into()).collect();
        config.sections.insert("pair".into(), pairs.into());
        let dir = self.test.dir();
        let file = |name: &str| dir.join(format!("{name}-{node}"));
        let mut stores = vec![("log0", file("log"), 48)];
        stores.extend(own().map(|volume| (volume.store, file(volume.store), 32)));
        let config = on_files(config, &file("spdk.json"), &stores)?;
        Program::start(&self.test, &self.nodes[node], &config)
    }

    fn verify(&self, program: &Program<'_>, store: &str) -> Outcome {
        let verify = Tool::new(&self.test, lab::throughline()?).args(["pair", "verify", store]);
        let verified = verify.arg("--socket").arg(program.socket()).succeeds()?;
        expect::contains("the comparison", &verified.output(), "none differs")
    }
}

/// What a node says of a volume.
fn report(program: &Program<'_>, store: &str) -> Result<Value> {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "throughline_pair_report" });
    let answer = program.control(&request.to_string())?;
    let volumes = answer["result"].as_array().cloned().unwrap_or_default();
    let own = volumes.into_iter().find(|volume| volume["store"] == store);
    Ok(own.unwrap_or_default())
}

fn is_in_sync(program: &Program<'_>, store: &str, role: &str) -> Outcome {
    wait::until(&format!("{store} is in sync, with the {role} here"), || {
        let report = report(program, store)?;
        Ok(match report["in_sync"] == true && report["role"] == role {
            true => Ok(()),
            false => Err(report.to_string()),
        })
    })
}

/// It refuses as long as it hears the other one.
fn promote(program: &Program<'_>, store: &str) -> Outcome {
    wait::until(&format!("{store} is promoted"), || {
        let promoted = program.rpc("throughline_pair_promote", &json!({ "store": store }));
        Ok(promoted.map(drop).map_err(|failure| failure.to_string()))
    })?;
    wait::until(&format!("{store} is served"), || {
        let report = report(program, store)?;
        Ok(match report["serves_hosts"] == true {
            true => Ok(()),
            false => Err(report.to_string()),
        })
    })
}

/// What becomes of one of two other nodes is nothing to the pair with the other; either may have what is needed of the third.
fn r09_a_node_has_pairs_with_two_others(test: &Test) -> Outcome {
    let three = Three::new(test)?;
    let [first, second] = &VOLUMES;
    let host = &three.host;
    let mut writers = [
        Writer::new(0, NODES[0].0).of(first.nqn),
        Writer::new(1, NODES[2].0).of(second.nqn),
    ];
    let (middle, one, two) = (three.start(0)?, three.start(1)?, three.start(2)?);
    is_in_sync(&middle, first.store, "source")?;
    is_in_sync(&middle, second.store, "destination")?;
    let generation = report(&middle, first.store)?["generation"].clone();
    for (writer, version) in writers.iter_mut().zip(1..) {
        host.within(|| writer.write_all(version))?;
    }
    // The source of the second volume is gone, and the one in the middle has it; the first one goes on as it was.
    two.kill();
    promote(&middle, second.store)?;
    writers[1].goes_to(NODES[0].0);
    for writer in &mut writers {
        host.within(|| writer.verify())?;
        host.within(|| writer.write_all(3))?;
    }
    let now = report(&middle, first.store)?;
    expect::equal(
        "the first volume's generation",
        &now["generation"],
        &generation,
    )?;
    expect::equal("whether both have it", &now["in_sync"], &json!(true))?;
    // The destination of the first one is gone; the other node returns meanwhile, and is copied to.
    one.kill();
    host.within(|| writers[0].write_all(4))?;
    let two = three.start(2)?;
    is_in_sync(&middle, second.store, "source")?;
    is_in_sync(&two, second.store, "destination")?;
    let one = three.start(1)?;
    is_in_sync(&middle, first.store, "source")?;
    is_in_sync(&one, first.store, "destination")?;
    for volume in &VOLUMES {
        three.verify(&middle, volume.store)?;
    }
    // The one in the middle is gone, and each of the others has what it had of it.
    host.within(|| writers[1].write_all(5))?;
    middle.kill();
    for (program, volume) in [(&one, first), (&two, second)] {
        promote(program, volume.store)?;
    }
    for (writer, volume) in writers.iter_mut().zip(&VOLUMES) {
        writer.goes_to(NODES[volume.with].0);
        host.within(|| writer.verify())?;
        host.within(|| writer.write_all(6))?;
    }
    // It returns, and both are copied to it.
    let middle = three.start(0)?;
    for (program, volume) in [(&one, first), (&two, second)] {
        is_in_sync(&middle, volume.store, "destination")?;
        is_in_sync(program, volume.store, "source")?;
        three.verify(program, volume.store)?;
    }
    for program in [middle, one, two] {
        program.kill();
    }
    Ok(())
}

lab::tests![r09_a_node_has_pairs_with_two_others];
