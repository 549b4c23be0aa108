//! What the program runs on, as a value.

use std::fmt::{self, Display};

use toml::{Table, Value};

/// The subsystem with blocks of 512 bytes.
pub const NQN: &str = "nqn.2026-01.com.example:lab";
/// The one with blocks of 4096 bytes.
pub const NQN_4K: &str = "nqn.2026-01.com.example:lab-4k";
/// One that is for somebody else.
pub const NQN_CLOSED: &str = "nqn.2026-01.com.example:lab-closed";

/// The address of the program's port, in a network of 24 bits.
pub const TARGET: &str = "192.0.2.1";
/// The address of the host's end of the wire.
pub const HOST: &str = "192.0.2.2";
/// The interface at both ends of the wire.
pub const WIRE: &str = "wire0";

/// A section of the file: a port, a store, a subsystem, a namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section(Table);

impl Section {
    /// One with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// A port on an interface of the kernel.
    pub fn port(device: &str, addresses: &[&str]) -> Self {
        let port = Self::new().key("device", device);
        port.key("addresses", addresses.to_vec())
    }

    /// A RAM disk.
    pub fn malloc(name: &str, mib: u32, block_size: u32) -> Self {
        let malloc = Self::new()
            .key("size_mib", mib)
            .key("block_size", block_size);
        Self::new().key("name", name).key("malloc", malloc)
    }

    /// A subsystem with one namespace, which is a store.
    pub fn subsystem(nqn: &str, serial: &str, namespace: impl Into<Value>) -> Self {
        let subsystem = Self::new().key("nqn", nqn).key("serial", serial);
        subsystem.key("namespaces", vec![namespace.into()])
    }

    /// Sets a key.
    #[must_use]
    pub fn key(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// What a key is set to.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }
}

impl From<Section> for Value {
    fn from(section: Section) -> Self {
        Self::Table(section.0)
    }
}

/// A configuration of the program. Where the control socket is, and what else
/// belongs to a run, [`Program`](crate::Program) adds.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// One shard each.
    pub cores: Vec<u32>,
    /// The ports, the first called `port0`.
    pub ports: Vec<Section>,
    /// The block devices.
    pub stores: Vec<Section>,
    /// What hosts connect to.
    pub subsystems: Vec<Section>,
    /// Other sections, such as `memory` and `target`.
    pub sections: Table,
}

impl Config {
    /// One core, one port on the wire, and nothing to store on.
    pub fn empty() -> Self {
        Self {
            cores: vec![1],
            ports: vec![Section::port(WIRE, &["192.0.2.1/24"])],
            stores: Vec::new(),
            subsystems: Vec::new(),
            sections: Table::new(),
        }
    }

    /// One subsystem, [`NQN`], on a RAM disk `disk0` of 256 MiB.
    pub fn one_disk() -> Self {
        let config = Self::empty().store(Section::malloc("disk0", 256, 512));
        config.subsystem(Section::subsystem(NQN, "LAB0001", "disk0"))
    }

    /// Three subsystems, of blocks of 512 bytes, of 4096 bytes, and one that
    /// is closed to us: [`NQN`], [`NQN_4K`], [`NQN_CLOSED`].
    pub fn three_disks() -> Self {
        let closed = Section::subsystem(NQN_CLOSED, "LAB0003", "disk2");
        Self::one_disk()
            .store(Section::malloc("disk1", 64, 4096))
            .store(Section::malloc("disk2", 8, 512))
            .subsystem(Section::subsystem(NQN_4K, "LAB0002", "disk1"))
            .subsystem(closed.key("hosts", vec!["nqn.2026-01.com.example:somebody-else"]))
    }

    /// The first address of the first port, without the length of its prefix.
    pub(crate) fn address(&self) -> String {
        let addresses = self.ports.first().and_then(|port| port.get("addresses"));
        let first = addresses.and_then(|list| list.get(0)?.as_str());
        let address = first.and_then(|address| address.split('/').next());
        address.unwrap_or(TARGET).to_owned()
    }

    /// On these cores.
    #[must_use]
    pub fn cores(mut self, cores: &[u32]) -> Self {
        self.cores = cores.to_vec();
        self
    }

    /// With one more port.
    #[must_use]
    pub fn port(mut self, port: Section) -> Self {
        self.ports.push(port);
        self
    }

    /// Sets a key of the first port.
    #[must_use]
    pub fn port_key(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.ports[0] = self.ports[0].clone().key(key, value);
        self
    }

    /// With one more store.
    #[must_use]
    pub fn store(mut self, store: Section) -> Self {
        self.stores.push(store);
        self
    }

    /// With one more subsystem.
    #[must_use]
    pub fn subsystem(mut self, subsystem: Section) -> Self {
        self.subsystems.push(subsystem);
        self
    }

    /// With a section of another kind, in the place of one of that name.
    #[must_use]
    pub fn section(mut self, name: &str, section: Section) -> Self {
        self.sections.insert(name.into(), section.into());
        self
    }

    /// [`NQN`] on the first store, writes of which complete when the page cache
    /// has them.
    #[must_use]
    pub fn write_back(mut self) -> Self {
        let namespace = Section::new().key("store", "disk0").key("write", "back");
        self.subsystems[0] = Section::subsystem(NQN, "LAB0001", namespace);
        self
    }
}

impl Display for Config {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut file = Table::new();
        file.insert("cores".into(), self.cores.clone().into());
        for (name, list) in [
            ("port", &self.ports),
            ("store", &self.stores),
            ("subsystem", &self.subsystems),
        ] {
            file.insert(name.into(), list.clone().into());
        }
        file.extend(self.sections.clone());
        write!(out, "{file}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_in_the_file() {
        let config = Config::three_disks().cores(&[0, 1]).write_back();
        let config = config
            .port_key("mtu", 9000)
            .section("memory", Section::new().key("pages", 64));
        let file: Table = config.to_string().parse().expect("TOML");
        assert_eq!(file["cores"], Value::from(vec![0, 1]));
        assert_eq!(file["port"][0]["device"].as_str(), Some("wire0"));
        assert_eq!(file["port"][0]["mtu"].as_integer(), Some(9000));
        assert_eq!(
            file["store"][1]["malloc"]["block_size"].as_integer(),
            Some(4096)
        );
        assert_eq!(
            file["subsystem"][0]["namespaces"][0]["write"].as_str(),
            Some("back")
        );
        assert_eq!(
            file["subsystem"][2]["hosts"].as_array().map(Vec::len),
            Some(1)
        );
        assert_eq!(file["memory"]["pages"].as_integer(), Some(64));
        assert_eq!(config.address(), TARGET);
    }
}
