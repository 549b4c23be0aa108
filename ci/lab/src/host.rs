//! The other side: SPDK's initiator tools on the kernel's TCP.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::context::same_bytes;
use crate::{Namespace, Outcome, Result, Test, Tool, machine};

/// TCP port of NVMe/TCP.
const PORT: u16 = 4420;

/// Where a subsystem is, and who connects to it.
#[derive(Clone, Debug)]
pub struct TransportId {
    address: String,
    port: u16,
    /// None: of discovery.
    nqn: Option<String>,
    /// What files are copied to and from.
    nsid: u32,
    /// None: one that the tool makes up.
    host: Option<String>,
}

impl TransportId {
    /// A subsystem at an address.
    pub fn new(nqn: &str, address: &str) -> Self {
        Self {
            nqn: Some(nqn.into()),
            ..Self::discovery(address)
        }
    }

    /// The discovery service at an address.
    pub fn discovery(address: &str) -> Self {
        Self {
            address: address.into(),
            port: PORT,
            nqn: None,
            nsid: 1,
            host: None,
        }
    }

    /// The same by another address.
    #[must_use]
    pub fn over(mut self, address: &str) -> Self {
        self.address = address.into();
        self
    }

    /// The same at another TCP port.
    #[must_use]
    pub fn at_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The same, and files are copied to and from this namespace instead of the first.
    #[must_use]
    pub fn namespace(mut self, nsid: u32) -> Self {
        self.nsid = nsid;
        self
    }

    /// The same, as the host of this NQN; for tools that work on block devices.
    #[must_use]
    pub fn as_host(mut self, nqn: &str) -> Self {
        self.host = Some(nqn.into());
        self
    }

    /// What the namespace is called once the controller is attached.
    fn bdev(&self) -> String {
        format!("Nn{}", self.nsid)
    }

    fn family(&self) -> &'static str {
        match self.address.parse() {
            Ok(IpAddr::V6(_)) => "IPv6",
            _ => "IPv4",
        }
    }

    /// As SPDK's tools want it.
    fn text(&self) -> String {
        let (family, address, port) = (self.family(), &self.address, self.port);
        let nqn = (self.nqn.as_ref()).map_or(String::new(), |nqn| format!(" subnqn:{nqn}"));
        format!("trtype:TCP adrfam:{family} traddr:{address} trsvcid:{port}{nqn}")
    }
}

/// What a client does.
#[derive(Clone, Debug)]
pub struct Load {
    pattern: &'static str,
    bytes: u64,
    depth: u32,
    seconds: u64,
    more: Vec<String>,
}

impl Load {
    /// `verify`, `randrw`, `randread`, …, in commands of so many bytes: 16 at once,
    /// for a second.
    pub fn new(pattern: &'static str, bytes: u64) -> Self {
        Self {
            pattern,
            bytes,
            depth: 16,
            seconds: 1,
            more: Vec::new(),
        }
    }

    /// Commands at once.
    #[must_use]
    pub fn depth(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }

    /// How long.
    #[must_use]
    pub fn seconds(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    /// Queue pairs of each namespace; perf only.
    #[must_use]
    pub fn connections(self, connections: u32) -> Self {
        self.flag("-P").flag(&connections.to_string())
    }

    /// More words for the tool.
    #[must_use]
    pub fn flag(mut self, word: &str) -> Self {
        self.more.push(word.into());
        self
    }

    fn arguments(&self) -> Vec<String> {
        let (depth, bytes, seconds) = (self.depth, self.bytes, self.seconds);
        let words = format!("-w {} -t {seconds} -q {depth} -o {bytes}", self.pattern);
        let mut words: Vec<String> = words.split(' ').map(String::from).collect();
        if self.pattern.ends_with("rw") {
            words.extend(["-M".into(), "50".into()]);
        }
        words.extend(self.more.iter().cloned());
        words
    }

    /// What it may take: a tool starts in a second, and in many on a busy machine.
    fn limit(&self) -> u64 {
        self.seconds + 120
    }
}

/// One of SPDK's applications then keeps its sockets in /run/dpdk, where they are its own. Else they are in /tmp,
/// where two that start at the same time take each other's.
const RUN_TIME_FILES: [&str; 2] = ["-i", "0"];

/// A machine with an initiator: a namespace, and core 0.
#[derive(Debug)]
pub struct Host {
    test: Test,
    /// Where it is.
    pub namespace: Namespace,
}

impl Host {
    /// A host in a namespace.
    pub fn new(test: &Test, namespace: Namespace) -> Self {
        Self {
            test: test.clone(),
            namespace,
        }
    }

    /// Any command, as one of SPDK's tools is run.
    pub fn tool(&self, program: impl AsRef<std::ffi::OsStr>) -> Tool {
        let tool = Tool::new(&self.test, program).through(["taskset", "-c", "0"]);
        self.namespace.alone(tool)
    }

    fn spdk(&self, name: &str) -> Result<Tool> {
        Ok(self
            .tool(machine::spdk_tool(name)?)
            .called(name.replace("spdk_", ""))
            .args(RUN_TIME_FILES))
    }

    /// Connects, and prints what Identify and the log pages say.
    ///
    /// # Errors
    ///
    /// The tool is not here.
    pub fn identify(&self, id: &TransportId) -> Result<Tool> {
        Ok(self
            .spdk("spdk_nvme_identify")?
            .args(["-d", "128", "-r", &id.text()]))
    }

    /// SPDK's load generator on the driver itself.
    ///
    /// # Errors
    ///
    /// The tool is not here.
    pub fn perf(&self, id: &TransportId, load: &Load) -> Result<Tool> {
        let tool = self
            .spdk("spdk_nvme_perf")?
            .args(["-s", "256", "-c", "0x1", "-r", &id.text()]);
        Ok(tool.args(load.arguments()).within(load.limit()))
    }

    /// SPDK's load generator on block devices. Its pattern `verify` compares all
    /// it wrote.
    ///
    /// # Errors
    ///
    /// The tool is not here.
    pub fn bdevperf(&self, id: &TransportId, load: &Load) -> Result<Tool> {
        let tool = self.bdev_tool("bdevperf", "256", id)?;
        Ok(tool.args(load.arguments()).within(load.limit()))
    }

    /// Copies between files and the namespace.
    ///
    /// # Errors
    ///
    /// The tool is not here.
    fn dd(&self, id: &TransportId, command_bytes: u64) -> Result<Tool> {
        let tool = self.bdev_tool("spdk_dd", "128", id)?;
        Ok(tool.arg(format!("--bs={command_bytes}")).arg("--qd=32"))
    }

    /// Writes a file to the beginning of the namespace, by commands of so many bytes.
    ///
    /// # Errors
    ///
    /// The tool is not here.
    pub fn write_file(&self, id: &TransportId, file: &Path, command_bytes: u64) -> Result<Tool> {
        let tool = self
            .dd(id, command_bytes)?
            .arg(format!("--ob={}", id.bdev()));
        Ok(tool.arg(format!("--if={}", file.display())))
    }

    /// Reads so many bytes of the beginning of the namespace into a file.
    ///
    /// # Errors
    ///
    /// The tool is not here.
    pub fn read_file(
        &self,
        id: &TransportId,
        file: &Path,
        command_bytes: u64,
        bytes: u64,
    ) -> Result<Tool> {
        let tool = self
            .dd(id, command_bytes)?
            .arg(format!("--ib={}", id.bdev()));
        let tool = tool.arg(format!("--of={}", file.display()));
        Ok(tool.arg(format!("--count={}", bytes / command_bytes)))
    }

    /// Writes fresh bytes by commands of so many, reads them back, and compares.
    ///
    /// # Errors
    ///
    /// They do not come back as they went.
    #[track_caller]
    pub fn there_and_back(&self, id: &TransportId, command_bytes: u64, bytes: u64) -> Outcome {
        let file = self.test.fresh_file(bytes)?;
        let back = self.test.dir().join(self.test.log_name("back"));
        self.write_file(id, &file, command_bytes)?.succeeds()?;
        self.read_file(id, &back, command_bytes, bytes)?
            .succeeds()?;
        same_bytes(&back, &file)?;
        // What came back as it should is of no use to anyone, and large.
        fs::remove_file(file)?;
        Ok(fs::remove_file(back)?)
    }

    fn bdev_tool(&self, name: &str, mib: &str, id: &TransportId) -> Result<Tool> {
        let attach = self.attach(id)?;
        let tool =
            self.spdk(name)?
                .args(["-u", "-s", mib, "-m", "0x1", "-r", "/run/dpdk/rpc.sock"]);
        // A current one locks its cores against others of SPDK's; ours share one.
        let shares = "--disable-cpumask-locks";
        let takes = machine::takes(&machine::spdk_tool(name)?, shares);
        let tool = tool.args(takes.then_some(shares));
        Ok(tool.arg("--json").arg(attach))
    }

    /// SPDK's configuration that attaches a subsystem's namespaces.
    fn attach(&self, id: &TransportId) -> Result<PathBuf> {
        let path = self.test.dir().join(self.test.log_name("attach.json"));
        fs::write(&path, attaching(id).to_string())?;
        Ok(path)
    }
}

fn attaching(id: &TransportId) -> Value {
    let mut params = json!({
        "name": "N",
        "trtype": "TCP",
        "adrfam": id.family(),
        "traddr": id.address,
        "trsvcid": id.port.to_string(),
        "subnqn": id.nqn,
    });
    if let Some(host) = &id.host {
        params["hostnqn"] = host.as_str().into();
    }
    let attach = json!({ "method": "bdev_nvme_attach_controller", "params": params });
    json!({ "subsystems": [{ "subsystem": "bdev", "config": [attach] }] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_its_family() {
        let id = TransportId::new("nqn.x", "192.0.2.1");
        let text = "trtype:TCP adrfam:IPv4 traddr:192.0.2.1 trsvcid:4420 subnqn:nqn.x";
        assert_eq!(id.text(), text);
        let id = TransportId::discovery("192.0.2.1").over("2001:db8::1");
        assert_eq!(
            id.text(),
            "trtype:TCP adrfam:IPv6 traddr:2001:db8::1 trsvcid:4420"
        );
        let params = &attaching(&id)["subsystems"][0]["config"][0]["params"];
        assert_eq!(params["adrfam"], "IPv6");
        assert_eq!(params["trsvcid"], "4420");
        assert_eq!(params.get("hostnqn"), None);
    }

    #[test]
    fn a_host_may_have_a_name_and_another_port() {
        let id = TransportId::new("nqn.x", "192.0.2.1").at_port(4421);
        let id = id.as_host("nqn.y").namespace(3);
        assert!(id.text().contains("trsvcid:4421"), "{}", id.text());
        assert_eq!(id.bdev(), "Nn3");
        let params = &attaching(&id)["subsystems"][0]["config"][0]["params"];
        assert_eq!(
            (&params["hostnqn"], &params["trsvcid"]),
            (&json!("nqn.y"), &json!("4421"))
        );
    }

    #[test]
    fn a_load_is_what_the_tools_are_told() {
        let load = Load::new("randrw", 4096).depth(4).seconds(2).connections(8);
        assert_eq!(
            load.arguments().join(" "),
            "-w randrw -t 2 -q 4 -o 4096 -M 50 -P 8"
        );
        let load = Load::new("verify", 512);
        assert_eq!(load.arguments().join(" "), "-w verify -t 1 -q 16 -o 512");
    }
}
