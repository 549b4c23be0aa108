//! `[pair]`, or `[[pair]]` for each of several: another node that has the same volumes.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::{ArbiterConfig, ArbiterTls, FirstRole, PairConfig, PairVolumeConfig};

use super::ports::{Ports, accept};
use super::reader::{Item, Section};
use super::stores::Stores;
use super::target::{refuse_part, refuse_unknown};
use super::values;

/// Where a node is reached when nothing else is said.
const EXAMPLE: &str = "[\"198.51.100.1:4421\"]";

/// What is run for alerts.
const COMMAND: &str = "[\"/usr/local/sbin/notify\"]";

/// Where etcds are reached.
const ETCD: &str = "[\"http://198.51.100.9:2379\"]";
/// How long a lease lasts: seconds. An etcd gives none that is shorter than 2 s.
const LEASE_S: RangeInclusive<u32> = 3..=30;

/// KiB of payload of a frame.
const FRAME_KIB: RangeInclusive<u32> = 4..=4096;

pub(super) fn read(
    root: &Section<'_>,
    ports: &Ports,
    stores: &Stores,
    has_log: bool,
) -> Vec<(PairConfig, Vec<String>)> {
    let mut known = Known::default();
    let sections = root.one_or_more("pair").into_iter();
    sections
        .filter_map(|section| read_pair(section, ports, stores, has_log, &mut known))
        .collect()
}

/// What pairs are not to have in common, or are to.
#[derive(Default)]
struct Known {
    node: Option<[u8; 16]>,
    peers: Vec<[u8; 16]>,
    stores: Vec<String>,
    volumes: Vec<[u8; 16]>,
}

impl Known {
    /// A node is one, and each of the others has one pair with it.
    fn check_nodes(
        &mut self,
        section: &Section<'_>,
        node: Option<[u8; 16]>,
        peer: Option<[u8; 16]>,
    ) {
        if let (Some(node), Some(item)) = (node, section.get("node"))
            && *self.node.get_or_insert(node) != node
        {
            item.report(
                "this node has another UUID in an earlier [[pair]]",
                "a node is one: write the same `node` in each",
            );
        }
        if let (Some(peer), Some(item)) = (peer, section.get("peer")) {
            if Some(peer) == node {
                item.report(
                    "the other node is this one",
                    "each node has a UUID of its own: write the other one's",
                );
            }
            if self.peers.contains(&peer) {
                item.report(
                    "an earlier [[pair]] is with the same node",
                    "give that one all volumes that the two have in common",
                );
            }
            self.peers.push(peer);
        }
    }

    /// A volume is of one pair, and so is a store.
    fn check_volume(
        &mut self,
        section: &Section<'_>,
        store: Option<&String>,
        id: Option<[u8; 16]>,
    ) {
        if let (Some(store), Some(item)) = (store, section.get("store")) {
            if self.stores.contains(store) {
                item.report(
                    format!("store {store:?} has a volume of a pair already"),
                    "a store has one, which is of one pair",
                );
            }
            self.stores.push(store.clone());
        }
        if let (Some(id), Some(item)) = (id, section.get("uuid")) {
            if self.volumes.contains(&id) {
                item.report(
                    "another volume of a pair has this UUID",
                    "each volume has one of its own, the same on its two nodes",
                );
            }
            self.volumes.push(id);
        }
    }
}

fn read_pair(
    section: Section<'_>,
    ports: &Ports,
    stores: &Stores,
    has_log: bool,
    known: &mut Known,
) -> Option<(PairConfig, Vec<String>)> {
    let node = section
        .require("node", "\"9b1d…\"")
        .and_then(|item| uuid(&item));
    let peer = section
        .require("peer", "\"0c7e…\"")
        .and_then(|item| uuid(&item));
    let listen = section
        .require("listen", EXAMPLE)
        .map(|item| addresses(&item));
    let peer_listen = section
        .require("peer_listen", EXAMPLE)
        .map(|item| addresses(&item));
    let key = section
        .require("key_file", "\"/etc/throughline/pair.key\"")
        .and_then(|item| key(&item));
    if let (Some(listen), Some(item)) = (&listen, section.get("listen")) {
        let own: Vec<_> = ports.addresses().collect();
        for address in listen.iter().filter(|address| !own.contains(&address.ip())) {
            item.report(
                format!("no port has the address {}", address.ip()),
                "write an address of one of the ports, or give a port that address",
            );
        }
    }
    known.check_nodes(&section, node, peer);
    // Who says nothing has what is safe.
    let tls = section.get("tls").map_or(Some(true), |item| tls(&item));
    let alert = section.get("alert").map(|item| command(&item));
    let frame_kib = section.integer("frame_kib", FRAME_KIB, *FRAME_KIB.end());
    let arbiter = section.table("arbiter").and_then(read_arbiter);
    let volumes: Vec<_> = (section.tables("volume").into_iter())
        .filter_map(|volume| read_volume(volume, stores, known))
        .collect();
    if let Some(item) = section.get("node").filter(|_| !has_log) {
        item.report(
            "a pair needs a log",
            "add [log], and write = \"logged\" to the namespaces of its volumes",
        );
    }
    section.finish();
    let pair = PairConfig {
        node: node?,
        listen: listen?,
        peer: peer?,
        peer_listen: peer_listen?,
        key: key?,
        tls: tls?,
        frame_bytes: frame_kib * 1024,
        volumes,
        arbiter,
    };
    Some((pair, alert.unwrap_or_default()))
}

/// A program by its absolute path, and what it is called with.
fn command(item: &Item<'_>) -> Vec<String> {
    let strings: Vec<_> = (item.elements(COMMAND).iter())
        .filter_map(|element| Some((element.clone(), element.string("/usr/local/sbin/notify")?)))
        .collect();
    if item.is_empty_array() {
        item.report(
            "there is no command to be run for alerts",
            format!("write `alert = {COMMAND}`, or leave it out for none"),
        );
    }
    if let Some((first, path)) = strings.first()
        && !path.starts_with('/')
    {
        first.report(
            format!("{path:?} is no absolute path of a program"),
            "write where it is: which directories are searched is not said anywhere",
        );
    }
    for (element, _) in strings.iter().filter(|(_, text)| text.contains('\0')) {
        element.report("a command has no zeros in it", "leave them out");
    }
    strings
        .into_iter()
        .map(|(_, text)| text.to_owned())
        .collect()
}

/// `[pair.arbiter]`
fn read_arbiter(section: Section<'_>) -> Option<ArbiterConfig> {
    let etcd = section.require("etcd", ETCD).map(|item| {
        let elements = item.elements(ETCD);
        elements.iter().filter_map(endpoint).collect::<Vec<_>>()
    });
    let lease = section.integer("lease_s", LEASE_S, 4u32);
    let tls = read_tls(&section);
    let wants_tls = etcd.as_ref().is_some_and(|etcd| {
        let is_secure = |endpoint: &String| endpoint.starts_with("https:");
        etcd.iter().any(is_secure)
    });
    if let (Some(item), Some(etcd)) = (section.get("etcd"), &etcd) {
        if wants_tls && etcd.iter().any(|endpoint| endpoint.starts_with("http:")) {
            item.report(
                "some of the etcds are asked by TLS, and some are not",
                "write https: for all of them",
            );
        }
        match (wants_tls, section.get("ca_file")) {
            (true, None) => item.report(
                "nothing says whose certificates the etcds have",
                "add `ca_file = \"/etc/throughline/etcd-ca.pem\"`: only what that names is trusted",
            ),
            (false, Some(item)) => {
                item.report("the etcds are not asked by TLS", "write https: for them")
            }
            _ => {}
        }
    }
    section.finish();
    Some(ArbiterConfig {
        etcd: etcd?,
        tls,
        lease: Duration::from_secs(lease.into()),
    })
}

/// `ca_file`, `cert_file` and `key_file`.
fn read_tls(section: &Section<'_>) -> Option<ArbiterTls> {
    let file = |key: &'static str| {
        let item = section.get(key)?;
        let path = item.string("/etc/throughline/etcd.pem")?;
        Some((item, PathBuf::from(path)))
    };
    let (ca, certificate, key) = (file("ca_file"), file("cert_file"), file("key_file"));
    if let (Some((item, _)), None) | (None, Some((item, _))) = (&certificate, &key) {
        item.report(
            "this node's certificate and its key go together",
            "write both `cert_file` and `key_file`, or none if the etcds want none",
        );
    }
    let client = match (certificate, &key) {
        (Some((_, certificate)), Some((item, key))) => {
            if let Ok(metadata) = std::fs::metadata(key) {
                is_private(item, key, metadata.mode(), "this node's key");
            }
            Some((certificate, key.clone()))
        }
        _ => None,
    };
    let (item, ca_file) = ca?;
    let tls = ArbiterTls { ca_file, client };
    if let Err(why) = crate::arbiter::tls(&tls) {
        item.report(why, "certificates and keys are read from files in PEM");
    }
    Some(tls)
}

/// `http://ADDRESS:PORT`, `https:` if it is asked by TLS, or a name in place of the address.
fn endpoint(item: &Item<'_>) -> Option<String> {
    let text = item.string("http://198.51.100.9:2379")?;
    let authority = text
        .strip_prefix("http://")
        .or(text.strip_prefix("https://"));
    let port = authority
        .and_then(|authority| authority.rsplit_once(':'))
        .filter(|(host, _)| !host.is_empty() && !host.contains('/'))
        .and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) {
        item.report(
            format!("{text:?} is no address of an etcd"),
            "write https://ADDRESS:PORT of its clients' port, or http: if it is in a network of the appliances' own",
        );
        return None;
    }
    Some(text.to_owned())
}

fn read_volume(
    section: Section<'_>,
    stores: &Stores,
    known: &mut Known,
) -> Option<PairVolumeConfig> {
    let store = section.require("store", "\"data\"").and_then(|item| {
        let store = item.string("data")?;
        refuse_unknown(&item, store, stores);
        refuse_part(&item, store, stores);
        Some(store.to_owned())
    });
    let id = section
        .require("uuid", "\"5d2a…\"")
        .and_then(|item| uuid(&item));
    known.check_volume(&section, store.as_ref(), id);
    // Without a word, `throughline pair establish` says later which node is the source.
    let first = match section.get("first_role") {
        Some(item) => first_role(&item),
        None => Some(FirstRole::Destination),
    };
    section.finish();
    Some(PairVolumeConfig {
        store: store?,
        id: id?,
        first_role: first?,
    })
}

fn first_role(item: &Item<'_>) -> Option<FirstRole> {
    match item.string("source")? {
        "source" => Some(FirstRole::Source),
        "destination" => Some(FirstRole::Destination),
        other => {
            item.report(
                format!("{other:?} is no role"),
                "write \"source\" on the node whose data are the volume's, \"destination\" on the other one, or leave it out on both: `throughline pair establish` says it then",
            );
            None
        }
    }
}

/// Whether connections with the other node are in TLS: there is nothing in between, as both are the appliances' own.
fn tls(item: &Item<'_>) -> Option<bool> {
    match item.string("required")? {
        "required" => Some(true),
        "off" => Some(false),
        other => {
            item.report(
                format!("{other:?} says nothing of the link's TLS"),
                "write \"required\", or \"off\" for a link that nobody else can reach; the same on both nodes",
            );
            None
        }
    }
}

fn uuid(item: &Item<'_>) -> Option<[u8; 16]> {
    let text = item.string("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d")?;
    accept(item, values::uuid(text))
}

fn addresses(item: &Item<'_>) -> Vec<SocketAddr> {
    let elements = item.elements(EXAMPLE);
    let address = |element: &Item<'_>| {
        let (address, port) = accept(
            element,
            values::listener(element.string("198.51.100.1:4421")?),
        )?;
        Some(SocketAddr::new(address, port))
    };
    elements.iter().filter_map(address).collect()
}

/// Whether its owner alone may read a file with `what` in it.
fn is_private(item: &Item<'_>, path: &Path, mode: u32, what: &str) -> bool {
    let is_private = mode & 0o077 == 0;
    if !is_private {
        let path = path.display();
        item.report(
            format!("others can read {path}, which has {what}"),
            format!("`chmod 600 {path}`"),
        );
    }
    is_private
}

/// 64 hexadecimal digits, in a file that its owner alone reads.
fn key(item: &Item<'_>) -> Option<[u8; 32]> {
    let path = item.string("/etc/throughline/pair.key")?;
    let make = format!(
        "`(umask 077; openssl rand -hex 32 > {path})` makes one; the other node needs the same"
    );
    let metadata = std::fs::metadata(path);
    let text = metadata.and_then(|metadata| Ok((metadata.mode(), std::fs::read_to_string(path)?)));
    let (mode, text) = text
        .map_err(|error| item.report(format!("{path}: {error}"), make.clone()))
        .ok()?;
    if !is_private(item, Path::new(path), mode, "the pair's key") {
        return None;
    }
    let text = text.trim();
    let byte = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    let key = bytes
        .filter(|_| text.len() == 64)
        .and_then(|bytes| bytes.try_into().ok());
    if key.is_none() {
        item.report(format!("{path} has no key of 64 hexadecimal digits"), make);
    }
    key
}

#[cfg(test)]
pub(super) mod tests;
