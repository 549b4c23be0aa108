//! Two programs that are a mirrored pair, each in a namespace of its own, and a host that reaches both.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::{NQN, WIRE};
use crate::{
    Config, MIB, Namespace, Outcome, Process, Program, Result, Section, Test, Tool, ensure, expect,
    throughline, veth, wait,
};

/// The addresses of the nodes' ports.
pub const NODES: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
/// The host's address.
pub const HOST: &str = "192.0.2.9";
/// What the store of the volume is called.
pub const STORE: &str = "disk0";
/// What both nodes are joined to, in the host's namespace: everything that goes to a node is sent by its interface.
pub const PORTS: [&str; 2] = ["port1", "port2"];

const IDS: [&str; 2] = [
    "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d",
    "0c7e3f0a-51c2-4d0e-8a55-6a5b1c9a7e11",
];
const VOLUME: &str = "5d2a1c44-90b1-4f6e-9d0c-0f3a8f0b7c2e";

/// Networks of links between the nodes alone, where there are two: node 1 is `.1`, node 2 `.2`.
const LINKS: [&str; 2] = ["203.0.113", "198.51.100"];

/// Where the kernels of the three are for each other: the host's has an etcd.
const KERNELS: [&str; 3] = ["198.51.100.1", "198.51.100.2", "198.51.100.9"];

/// What volume and log of a node are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Files, which outlive the program; blocks of 4096 bytes.
    Files,
    /// Memory of the program; blocks of 512 bytes.
    Memory,
}

/// Three namespaces, and a bridge in the host's.
#[derive(Debug)]
pub struct Pair {
    test: Test,
    /// The arbiter's leases, if there is one.
    lease_s: Option<u32>,
    /// Etcd is asked by TLS, and wants certificates.
    has_tls: bool,
    /// The nodes have two links of their own, and none by the network of hosts.
    has_links: bool,
    /// What volumes and logs are on.
    pub medium: Medium,
    /// Where their files are.
    pub files: PathBuf,
    /// `first_role` of each node; none, and the pair is to be established.
    pub first_roles: Option<[&'static str; 2]>,
    /// `tls` of each node's link; none: nothing is said.
    pub tls: [Option<&'static str>; 2],
    /// MiB of the volume.
    pub volume_mib: u32,
    /// MiB of the files that a node's volume lies on, if that is several.
    pub parts_mib: [Vec<u32>; 2],
    /// MiB of the log.
    pub log_mib: u32,
    /// Where the programs run.
    pub nodes: [Namespace; 2],
    /// Where hosts are, and etcd.
    pub host: Namespace,
}

impl Pair {
    /// On files, without an arbiter.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    #[track_caller]
    pub fn new(test: &Test) -> Result<Self> {
        let host = Namespace::new(test, "host")?;
        let nodes = [Namespace::new(test, "one")?, Namespace::new(test, "two")?];
        host.run("ip link add bridge0 type bridge")?;
        for (node, port) in nodes.iter().zip(PORTS) {
            veth((node, WIRE), (&host, port))?;
            host.run(&format!("ip link set {port} master bridge0 up"))?;
        }
        host.run("ip link set bridge0 up")?;
        host.run(&format!("ip address add {HOST}/24 dev bridge0"))?;
        write_key(&test.dir().join("pair.key"))?;
        Ok(Self {
            test: test.clone(),
            lease_s: None,
            has_tls: false,
            has_links: false,
            medium: Medium::Files,
            files: test.dir().into(),
            first_roles: Some(["source", "destination"]),
            tls: [None; 2],
            volume_mib: 64,
            parts_mib: [Vec::new(), Vec::new()],
            log_mib: 48,
            nodes,
            host,
        })
    }

    /// The same, with two links between the nodes, each in a network of its own.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    #[track_caller]
    pub fn with_links(test: &Test) -> Result<Self> {
        let mut pair = Self::new(test)?;
        pair.has_links = true;
        for link in 0..LINKS.len() {
            let bridge = format!("link{link}");
            pair.host
                .run(&format!("ip link add {bridge} type bridge"))?;
            pair.host.run(&format!("ip link set {bridge} up"))?;
            for (at, node) in pair.nodes.iter().enumerate() {
                veth((node, &bridge), (&pair.host, &format!("link{link}to{at}")))?;
            }
            pair.cut(link, false)?;
        }
        Ok(pair)
    }

    /// Cuts a link, silently: nobody's interface is down by it. Or mends it.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn cut(&self, link: usize, is_cut: bool) -> Outcome {
        for at in 0..self.nodes.len() {
            let to = match is_cut {
                true => "nomaster".to_owned(),
                false => format!("master link{link}"),
            };
            self.host
                .run(&format!("ip link set link{link}to{at} {to}"))?;
        }
        Ok(())
    }

    /// The same, with an etcd that kernels reach, and leases of so many seconds.
    ///
    /// # Errors
    ///
    /// The kernel refuses, or there is no etcd.
    #[track_caller]
    pub fn with_etcd(test: &Test, lease_s: u32) -> Result<(Self, Process)> {
        Self::new(test)?.join_etcd(lease_s)
    }

    /// The same, with two links between the nodes.
    ///
    /// # Errors
    ///
    /// The kernel refuses, or there is no etcd.
    #[track_caller]
    pub fn with_links_and_etcd(test: &Test, lease_s: u32) -> Result<(Self, Process)> {
        Self::with_links(test)?.join_etcd(lease_s)
    }

    /// The same, by TLS: both sides have certificates, and want one of the other.
    ///
    /// # Errors
    ///
    /// The kernel refuses, or there is no etcd or no openssl.
    #[track_caller]
    pub fn with_etcd_by_tls(test: &Test, lease_s: u32) -> Result<(Self, Process)> {
        let mut pair = Self::new(test)?;
        pair.has_tls = true;
        pair.make_certificates()?;
        pair.join_etcd(lease_s)
    }

    #[track_caller]
    fn join_etcd(self, lease_s: u32) -> Result<(Self, Process)> {
        let mut pair = self;
        pair.lease_s = Some(lease_s);
        let host = &pair.host;
        host.run("ip link add bridge1 type bridge")?;
        host.run("ip link set bridge1 up")?;
        host.run(&format!("ip address add {}/24 dev bridge1", KERNELS[2]))?;
        for (node, (port, address)) in pair
            .nodes
            .iter()
            .zip(["kernel1", "kernel2"].iter().zip(KERNELS))
        {
            veth((node, "kernel0"), (host, port))?;
            host.run(&format!("ip link set {port} master bridge1 up"))?;
            node.run(&format!("ip address add {address}/24 dev kernel0"))?;
            node.run("ip link set kernel0 up")?;
        }
        let etcd = pair.start_etcd()?;
        Ok((pair, etcd))
    }

    /// Of one who signs, and of what all three show.
    fn make_certificates(&self) -> Result<()> {
        let openssl = |arguments: &str| {
            let tool = self.host.tool("openssl").args(arguments.split(' '));
            tool.succeeds().map(drop)
        };
        let file = |name: &str| self.pem(name);
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout";
        let (ca, ca_key) = (file("ca"), file("ca-key"));
        openssl(&format!(
            "req -x509 {key} {ca_key} -out {ca} -subj /CN=lab -days 2"
        ))?;
        // Its gateway is a client of an etcd itself.
        let usage = self.test.dir().join("usage");
        let names = format!("subjectAltName = IP:{}", KERNELS[2]);
        fs::write(
            &usage,
            format!("{names}\nextendedKeyUsage = serverAuth, clientAuth\n"),
        )?;
        let (request, usage) = (file("request"), usage.display());
        openssl(&format!(
            "req {key} {} -out {request} -subj /CN=etcd",
            file("key")
        ))?;
        openssl(&format!(
            "x509 -req -in {request} -CA {ca} -CAkey {ca_key} -CAcreateserial -out {} -days 2 -extfile {usage}",
            file("certificate")
        ))
    }

    fn pem(&self, name: &str) -> String {
        let path = self.test.dir().join(format!("{name}.pem"));
        path.display().to_string()
    }

    fn etcd_url(&self) -> String {
        let scheme = if self.has_tls { "https" } else { "http" };
        format!("{scheme}://{}:2379", KERNELS[2])
    }

    /// An etcd, with what it had before.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn start_etcd(&self) -> Result<Process> {
        let clients = self.etcd_url();
        let peers = format!("http://{}:2380", KERNELS[2]);
        let mut tool = self.host.tool("etcd").within(600);
        if self.has_tls {
            let (ca, certificate, key) = (self.pem("ca"), self.pem("certificate"), self.pem("key"));
            tool = tool.args(["--client-cert-auth", "--trusted-ca-file", &ca]);
            tool = tool.args(["--cert-file", &certificate, "--key-file", &key]);
        }
        tool.arg("--data-dir")
            .arg(self.test.dir().join("etcd"))
            .args(["--unsafe-no-fsync", "--logger", "zap"])
            .args([
                "--listen-client-urls",
                &clients,
                "--advertise-client-urls",
                &clients,
            ])
            .args([
                "--listen-peer-urls",
                &peers,
                "--initial-advertise-peer-urls",
                &peers,
            ])
            .args(["--initial-cluster", &format!("default={peers}")])
            .start()
    }

    /// What a node runs on: a volume and a log.
    ///
    /// # Errors
    ///
    /// Its files cannot be made.
    pub fn config(&self, node: usize) -> Result<Config> {
        let dir = self.test.dir();
        let namespace = Section::new()
            .key("store", STORE)
            .key("write", "logged")
            .key("uuid", VOLUME);
        let mut volume = Section::new().key("store", STORE).key("uuid", VOLUME);
        if let Some(roles) = self.first_roles {
            volume = volume.key("first_role", roles[node]);
        }
        let listen = |node: usize| match self.has_links {
            false => vec![format!("{}:4421", NODES[node])],
            true => {
                let address = |net| format!("{net}.{}:4421", node + 1);
                LINKS.map(address).to_vec()
            }
        };
        let mut pair = Section::new()
            .key("node", IDS[node])
            .key("peer", IDS[1 - node])
            .key("listen", listen(node))
            .key("peer_listen", listen(1 - node))
            .key("key_file", dir.join("pair.key").display().to_string())
            .key("alert", self.alert_command(node))
            .key("volume", vec![toml::Value::from(volume)]);
        if let Some(tls) = self.tls[node] {
            pair = pair.key("tls", tls);
        }
        if let Some(lease_s) = self.lease_s {
            let etcd = vec![self.etcd_url()];
            let mut arbiter = Section::new().key("etcd", etcd).key("lease_s", lease_s);
            if self.has_tls {
                arbiter = arbiter
                    .key("ca_file", self.pem("ca"))
                    .key("cert_file", self.pem("certificate"))
                    .key("key_file", self.pem("key"));
            }
            pair = pair.key("arbiter", toml::Value::from(arbiter));
        }
        let log = Section::new()
            .key("store", "log0")
            .key("consistency_point_s", 1);
        let config = Config::empty()
            .port_key("addresses", vec![format!("{}/24", NODES[node])])
            .cores(&[[1, 0][node]])
            .subsystem(Section::subsystem(NQN, "LAB0001", namespace))
            .section("log", log)
            .section("pair", pair);
        let links = LINKS.iter().enumerate().filter(|_| self.has_links);
        let config = links.fold(config, |config, (link, net)| {
            let address = format!("{net}.{}/24", node + 1);
            config.port(Section::port(&format!("link{link}"), &[&address]))
        });
        match self.medium {
            Medium::Memory => Ok(config
                .store(Section::malloc(STORE, self.volume_mib, 512))
                .store(Section::malloc("log0", self.log_mib, 512))),
            Medium::Files => self.with_files(config, node),
        }
    }

    fn with_files(&self, config: Config, node: usize) -> Result<Config> {
        let file = |name: &str| self.files.join(format!("{name}{node}"));
        let parts = &self.parts_mib[node];
        let names: Vec<_> = (0..parts.len()).map(|i| format!("part{i}")).collect();
        let mut stores = vec![("log0", file("log"), self.log_mib)];
        match parts.is_empty() {
            true => stores.push((STORE, file("disk"), self.volume_mib)),
            false => stores.extend(
                (names.iter().zip(parts)).map(|(name, &mib)| (name.as_str(), file(name), mib)),
            ),
        }
        let spdk = self.test.dir().join(format!("spdk{node}.json"));
        let config = on_files(config, &spdk, &stores)?;
        Ok(match parts.is_empty() {
            true => config,
            false => config.store(Section::new().key("name", STORE).key("span", names)),
        })
    }

    fn alerts_file(&self, node: usize) -> PathBuf {
        self.test.dir().join(format!("alerts{node}"))
    }

    /// What a node runs for alerts: it keeps what it is told.
    fn alert_command(&self, node: usize) -> Vec<String> {
        let file = self.alerts_file(node).display().to_string();
        let [shell, option, script] = ["/bin/sh", "-c", "cat >>\"$0\""].map(str::to_owned);
        vec![shell, option, script, file]
    }

    /// A node's command was told of an event for the `times`th time, in this role: of which generation.
    ///
    /// # Errors
    ///
    /// It was not, or of something else.
    pub fn is_told(&self, node: usize, event: &str, times: usize, role: &str) -> Result<String> {
        let alert = wait::until(&format!("node {node} tells of {event}"), || {
            let told = fs::read_to_string(self.alerts_file(node)).unwrap_or_default();
            let told: Vec<Value> = told
                .lines()
                .map_while(|l| serde_json::from_str(l).ok())
                .collect();
            let mut found = told.iter().filter(|alert| alert["event"] == event);
            Ok(found.nth(times - 1).cloned().ok_or(format!("{told:?}")))
        })?;
        for (key, expected) in [
            ("node", IDS[node]),
            ("store", STORE),
            ("volume", VOLUME),
            ("role", role),
        ] {
            expect::equal(&format!("{key} of {event}"), &alert[key], &json!(expected))?;
        }
        Ok(alert["generation"].as_str().unwrap_or_default().to_owned())
    }

    /// What a node's command was told so far.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn told(&self, node: usize) -> Result<String> {
        Ok(fs::read_to_string(self.alerts_file(node))?)
    }

    /// Starts a node.
    ///
    /// # Errors
    ///
    /// It does not come up.
    #[track_caller]
    pub fn start(&self, node: usize) -> Result<Program<'_>> {
        Program::start(&self.test, &self.nodes[node], &self.config(node)?)
    }
}

/// What both nodes of a pair prove themselves by, in a file of this name.
///
/// # Errors
///
/// It cannot be written.
pub fn write_key(path: &Path) -> Outcome {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true);
    let mut file = options.mode(0o600).open(path)?;
    Ok(file.write_all("5a".repeat(32).as_bytes())?)
}

/// With stores on files, which outlive the program, in blocks of 4096 bytes: their names, files and MiB. `spdk` is where SPDK's
/// configuration is written to.
///
/// # Errors
///
/// A file cannot be made.
pub fn on_files(config: Config, spdk: &Path, stores: &[(&str, PathBuf, u32)]) -> Result<Config> {
    let mut bdevs = Vec::new();
    let mut config = config;
    for (store, file, mib) in stores {
        if !file.exists() {
            File::create(file)?.set_len(u64::from(*mib) * MIB)?;
        }
        let bdev = format!("file-{store}");
        bdevs.push(json!({ "method": "bdev_aio_create", "params": {
            "name": bdev, "filename": file.display().to_string(), "block_size": 4096 } }));
        config = config.store(Section::new().key("name", *store).key("bdev", bdev));
    }
    let json = json!({ "subsystems": [{ "subsystem": "bdev", "config": bdevs }] });
    fs::write(spdk, json.to_string())?;
    let spdk = Section::new().key("config", spdk.display().to_string());
    Ok(config.section("spdk", spdk))
}

/// `throughline pair` with such words, of a node.
///
/// # Errors
/// There is no program.
pub fn command(test: &Test, program: &Program<'_>, words: &[&str]) -> Result<Tool> {
    let tool = Tool::new(test, throughline()?).arg("pair").args(words);
    Ok(tool.arg("--socket").arg(program.socket()))
}

/// What a node says of the volume.
///
/// # Errors
///
/// It says nothing.
#[track_caller]
pub fn report(program: &Program<'_>) -> Result<Value> {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "throughline_pair_report" });
    let answer = program.control(&request.to_string())?;
    ensure!(answer["result"][0].is_object(), "no report: {answer}");
    Ok(answer["result"][0].clone())
}

/// Waits until a node says so of the volume.
///
/// # Errors
///
/// It does not.
#[track_caller]
pub fn reports(program: &Program<'_>, what: &str, is_so: impl Fn(&Value) -> bool) -> Outcome {
    wait::until(what, || {
        let report = report(program)?;
        Ok(match is_so(&report) {
            true => Ok(()),
            false => Err(report.to_string()),
        })
    })
}

/// Waits until a node of that role says that both have the same.
///
/// # Errors
///
/// It does not.
#[track_caller]
pub fn is_in_sync(program: &Program<'_>, role: &str) -> Outcome {
    let is_so = |report: &Value| report["in_sync"] == true && report["role"] == role;
    reports(program, "both have the same", is_so)
}

/// Waits until hosts are served.
///
/// # Errors
///
/// They are not.
#[track_caller]
pub fn serves(program: &Program<'_>) -> Outcome {
    reports(program, "it serves", |report| {
        report["serves_hosts"] == true
    })
}

/// Waits until both have the same, and the etcd knows.
///
/// # Errors
///
/// They have not, or it does not.
#[track_caller]
pub fn may_be_taken_over(source: &Program<'_>) -> Outcome {
    reports(source, "the other one may take over", |report| {
        report["takeover"] == true && report["in_sync"] == true
    })
}
