//! `[target]` and `[[subsystem]]`: what hosts connect to.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use engine::{
    ANA_IO_BYTES_MIN, AnaState, CNTLIDS, ListenerConfig, LogConfig, NamespaceConfig, PairConfig,
    SubsystemConfig, TargetConfig, Tls, WritePolicy,
};

use super::hosts;
use super::keys::Keys;
use super::ports::{Ports, accept};
use super::reader::{Item, Section, Sink, nearest};
use super::stores::{Stores, read_block_size};
use super::values;

const NVME_TCP: u16 = 4420;

/// The serial number of the `index`th subsystem when its section does not say one.
pub(crate) fn default_serial(index: usize) -> String {
    format!("TL{:08}", index + 1)
}

/// The model number when a subsystem's section does not say one.
pub(super) const MODEL: &str = "Throughline";

pub(super) fn read(
    root: &Section<'_>,
    ports: &Ports,
    stores: &Stores,
    log: Option<&LogConfig>,
    pairs: &[PairConfig],
    keys: Keys,
    warnings: &Sink,
) -> TargetConfig {
    let section = root.table("target");
    let (max_io_bytes, in_capsule_bytes) =
        section.as_ref().map_or((128 << 10, 8 << 10), read_sizes);
    let queue_depth = section
        .as_ref()
        .map_or(128, |s| s.integer("queue_depth", 2..=4096, 128));
    let listen = section.as_ref().and_then(|section| section.get("listen"));
    let listeners = match listen {
        Some(item) => read_listeners(&item, ports, warnings),
        None => ports
            .addresses()
            .map(|address| (address, NVME_TCP).into())
            .collect(),
    };
    let authentication = section.as_ref().map(hosts::read_policy);
    let tls_limits = section.as_ref().map(hosts::read_limits);
    let tls_key_update = (section.as_ref()).is_some_and(|s| s.boolean("tls_key_update", false));
    if let Some(section) = section {
        section.finish();
    }
    let known = Known {
        stores,
        log,
        pairs,
        keys: &keys,
        max_io_bytes,
        listeners: &listeners,
    };
    let subsystems = read_subsystems(root, known, warnings);
    let hosts = subsystems.iter().filter_map(|s| s.hosts.as_ref()).flatten();
    let used: Vec<&str> = hosts.flat_map(hosts::key_names).collect();
    keys.warn_of_unused(&used, root, warnings);
    hosts::warn_of_tls(&listeners, &subsystems, root, warnings);
    TargetConfig {
        listeners,
        max_io_bytes,
        in_capsule_bytes,
        queue_depth,
        tls_limits: tls_limits.unwrap_or_default(),
        tls_key_update,
        authentication: authentication.unwrap_or_default(),
        keys: keys.into_configs(),
        subsystems,
    }
}

fn read_sizes(section: &Section<'_>) -> (u32, u32) {
    let mut max_io_kib: u32 = 128;
    if let Some(item) = section.get("max_io_kib")
        && let Some(given) = item.integer(8..=1024, 128)
    {
        max_io_kib = given;
        // MDTS is a power of two, in units of the smallest page (NVMe base 2.0, 5.17.2.1).
        if !max_io_kib.is_power_of_two() {
            let near = max_io_kib.next_power_of_two().min(1024);
            item.report(
                "it must be a power of two",
                format!("write `max_io_kib = {near}`"),
            );
        }
    }
    let default = max_io_kib.min(8);
    let mut in_capsule_kib = default;
    if let Some(item) = section.get("in_capsule_kib")
        && let Some(given) = item.integer(0..=1024, default)
    {
        in_capsule_kib = given;
        if in_capsule_kib > max_io_kib {
            item.report(
                format!("{in_capsule_kib} KiB in a capsule is more than one command may carry"),
                format!("write at most `max_io_kib`, which is {max_io_kib}"),
            );
        }
    }
    (max_io_kib << 10, in_capsule_kib << 10)
}

/// An element of `listen` or `peer_listen`: an address and a port, alone or with what else there is to say.
fn read_listener(element: &Item<'_>, example: &str) -> Option<((IpAddr, u16), Tls)> {
    if !element.is_table() {
        let text = element.string(example)?;
        return Some((accept(element, values::listener(text))?, Tls::Off));
    }
    let table = element.table("a listener")?;
    let address = table.require("address", &format!("\"{example}\""));
    let tls = (table.get("tls")).map_or(Some(Tls::Off), |item| {
        let text = item.string("required")?;
        let tls = Tls::of_name(text);
        if tls.is_none() {
            let message = format!("\"{text}\" says nothing of TLS");
            item.report(message, "write \"off\", \"allowed\" or \"required\"");
        }
        tls
    });
    table.finish();
    let address = address?;
    let text = address.string(example)?;
    Some((accept(&address, values::listener(text))?, tls?))
}

fn read_listeners(item: &Item<'_>, ports: &Ports, warnings: &Sink) -> Vec<ListenerConfig> {
    const EXAMPLE: &str = "[\"192.0.2.1:4420\"]";
    let own: Vec<IpAddr> = ports.addresses().collect();
    let mut listeners: Vec<ListenerConfig> = Vec::new();
    if item.is_empty_array() {
        warnings.report(
            item.span.clone(),
            "the target must listen somewhere for hosts to reach it",
            format!("write `listen = {EXAMPLE}`"),
        );
    }
    for element in item.elements(EXAMPLE) {
        let Some(((address, port), tls)) = read_listener(&element, "192.0.2.1:4420") else {
            continue;
        };
        let wanted: Vec<IpAddr> = if address.is_unspecified() {
            own.iter()
                .copied()
                .filter(|own| own.is_ipv4() == address.is_ipv4())
                .collect()
        } else {
            own.iter().copied().filter(|own| *own == address).collect()
        };
        if wanted.is_empty() && !own.is_empty() {
            let list = own
                .iter()
                .map(IpAddr::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            element.report(
                format!("no port has the address {address}"),
                format!("write one of the ports' addresses: {list}"),
            );
        }
        for address in wanted {
            let listener = ListenerConfig {
                tls,
                ..(address, port).into()
            };
            let is_same = |known: &ListenerConfig| known.listener == listener.listener;
            if listeners.iter().any(is_same) {
                element.report(
                    format!("{address} port {port} is listed twice"),
                    "leave one out",
                );
            }
            listeners.push(listener);
        }
    }
    listeners
}

/// Who has what already, over all subsystems.
#[derive(Default)]
struct Taken {
    nqns: HashSet<String>,
    stores: HashMap<String, (String, u32)>,
    backups: HashMap<String, (String, u32)>,
    uuids: HashMap<[u8; 16], (String, u32)>,
    nguids: HashMap<[u8; 16], (String, u32)>,
}

fn read_subsystems(root: &Section<'_>, known: Known<'_>, warnings: &Sink) -> Vec<SubsystemConfig> {
    let Known { stores, log, .. } = known;
    let sections = root.tables("subsystem");
    if sections.is_empty() && root.get("subsystem").is_none() {
        root.report(
            0..0,
            "there is no subsystem for hosts to connect to",
            "add `[[subsystem]]` with `nqn = \"nqn.2026-01.com.example:disk0\"` and \
                `namespaces = [\"disk0\"]`",
        );
    }
    let mut taken = Taken::default();
    let subsystem = |(index, section)| read_subsystem(index, section, known, &mut taken, warnings);
    let subsystems: Vec<SubsystemConfig> =
        sections.into_iter().enumerate().map(subsystem).collect();
    let is_logged = |ns: &NamespaceConfig| ns.write == WritePolicy::Logged;
    let mut all = subsystems
        .iter()
        .flat_map(|subsystem| &subsystem.namespaces);
    if log.is_some() && !all.any(is_logged) {
        let span = root.get("log").map_or(0..0, |item| item.span.clone());
        warnings.report(
            span,
            "no namespace is logged",
            "write `write = \"logged\"` for those that are to be, or leave [log] out",
        );
    }
    for (store, span) in stores.places() {
        let is_log = log.is_some_and(|log| log.is_on(store)) || stores.span_on(store).is_some();
        if !taken.stores.contains_key(store) && !is_log {
            let help = "name it in a subsystem's `namespaces`, or leave it out";
            warnings.report(span, format!("store `{store}` is no namespace's"), help);
        }
    }
    subsystems
}

impl Known<'_> {
    /// This node, if it has a pair with a volume on this store.
    fn node_of(&self, store: &str) -> Option<[u8; 16]> {
        let has_it = |pair: &&PairConfig| pair.volumes.iter().any(|volume| volume.store == store);
        self.pairs.iter().find(has_it).map(|pair| pair.node)
    }
}

/// What subsystems are made of.
#[derive(Clone, Copy)]
struct Known<'a> {
    stores: &'a Stores,
    log: Option<&'a LogConfig>,
    pairs: &'a [PairConfig],
    keys: &'a Keys,
    max_io_bytes: u32,
    /// Where the target listens.
    listeners: &'a [ListenerConfig],
}

fn read_subsystem(
    index: usize,
    section: Section<'_>,
    known: Known<'_>,
    taken: &mut Taken,
    warnings: &Sink,
) -> SubsystemConfig {
    const NQN: &str = "nqn.2026-01.com.example:disk0";
    let mut subsystem = SubsystemConfig {
        nqn: String::new(),
        serial: default_serial(index),
        model: MODEL.into(),
        hosts: None,
        ana: None,
        controller_ids: CNTLIDS,
        peer_listeners: Vec::new(),
        namespaces: Vec::new(),
    };
    if let Some(item) = section.require("nqn", &format!("\"{NQN}\""))
        && let Some(text) = item.string(NQN)
    {
        subsystem.nqn = text.to_owned();
        accept(&item, values::nqn(text));
        if !taken.nqns.insert(subsystem.nqn.clone()) {
            item.report("two subsystems have this name", "rename one");
        }
    }
    let identify = |key, most, example: &str, into: &mut String| {
        if let Some(item) = section.get(key)
            && let Some(text) = item.string(example)
        {
            accept(&item, values::identify_string(text, most));
            *into = text.to_owned();
        }
    };
    identify("serial", 20, "TL00000001", &mut subsystem.serial);
    identify("model", 40, "Throughline", &mut subsystem.model);
    if let Some(item) = section.get("hosts") {
        subsystem.hosts = Some(hosts::read(&item, known.keys, warnings));
    }
    if let Some(item) = section.get("ana") {
        subsystem.ana = read_ana(&item, known.max_io_bytes);
    }
    let nqn = section.get("nqn");
    if let Some(item) = section.get("controller_ids")
        && let Some(text) = item.string("1-32767")
        && let Some(ids) = accept(&item, values::controller_ids(text))
    {
        subsystem.controller_ids = ids;
    }
    if let Some(item) = section.get("peer_listen") {
        subsystem.peer_listeners = read_peers(&item, known.listeners);
    }
    read_namespaces(&section, &mut subsystem, known, taken, warnings);
    // Hosts learn by it which node of the pair serves.
    let is_backup = |ns: &NamespaceConfig| ns.backup_of.is_some();
    let is_mirrored = |ns: &NamespaceConfig| !is_backup(ns) && known.node_of(&ns.store).is_some();
    let has_mirrored = subsystem.namespaces.iter().any(is_mirrored);
    let has_backup = subsystem.namespaces.iter().any(is_backup);
    if has_backup
        && (has_mirrored || !subsystem.peer_listeners.is_empty())
        && let Some(item) = &nqn
    {
        item.report(
            "other nodes show this subsystem, and none has what a backup here has",
            "put the namespaces with `backup = true` into a subsystem of this node's own",
        );
    }
    if has_mirrored && subsystem.ana.is_none() {
        subsystem.ana = Some(AnaState::Optimized);
        if let Some(item) = nqn {
            refuse_short_ana(&item, known.max_io_bytes);
        }
    }
    section.finish();
    subsystem
}

/// Where other nodes show a subsystem.
fn read_peers(item: &Item<'_>, own: &[ListenerConfig]) -> Vec<ListenerConfig> {
    let mut peers: Vec<ListenerConfig> = Vec::new();
    for element in item.elements("[\"192.0.2.2:4420\"]") {
        let Some((peer, tls)) = read_listener(&element, "192.0.2.2:4420") else {
            continue;
        };
        let listener = ListenerConfig { tls, ..peer.into() };
        let mut known = own.iter().chain(&peers);
        if peer.0.is_unspecified() {
            element.report(
                format!("{} is no address of another node", peer.0),
                "write an address that hosts reach it at",
            );
        } else if known.any(|known| known.listener == listener.listener) {
            element.report(
                format!("hosts are told of {} port {} already", peer.0, peer.1),
                "leave it out",
            );
        }
        peers.push(listener);
    }
    peers
}

/// The state that ANA groups begin in.
fn read_ana(item: &Item<'_>, max_io_bytes: u32) -> Option<AnaState> {
    let text = item.string("optimized")?;
    // The others are those of roles that move, or are lost.
    let begins = |state: &AnaState| {
        use AnaState::{Inaccessible, NonOptimized, Optimized};
        matches!(state, Optimized | NonOptimized | Inaccessible)
    };
    let state = AnaState::of_name(text).filter(begins);
    if state.is_none() {
        item.report(
            format!("namespaces cannot begin \"{text}\""),
            "write \"optimized\", \"non_optimized\" or \"inaccessible\", or leave it out for no asymmetric access",
        );
    } else {
        refuse_short_ana(item, max_io_bytes);
    }
    state
}

/// Commands carry what hosts read the states of all namespaces in.
fn refuse_short_ana(item: &Item<'_>, max_io_bytes: u32) {
    if max_io_bytes < ANA_IO_BYTES_MIN {
        item.report(
            "hosts read the states of all namespaces in one command, which may carry too little",
            format!(
                "write `max_io_kib = {}` or more in [target]",
                ANA_IO_BYTES_MIN >> 10
            ),
        );
    }
}

fn read_namespaces(
    section: &Section<'_>,
    subsystem: &mut SubsystemConfig,
    known: Known<'_>,
    taken: &mut Taken,
    warnings: &Sink,
) {
    const EXAMPLE: &str = "[\"disk0\"]";
    const MOST: usize = 1024;
    let Some(item) = section.require("namespaces", EXAMPLE) else {
        return;
    };
    if item.is_empty_array() {
        warnings.report(
            item.span.clone(),
            "a subsystem needs a namespace",
            format!("write `namespaces = {EXAMPLE}`"),
        );
    }
    let elements = item.elements(EXAMPLE);
    if elements.len() > MOST {
        item.report(
            format!("more than {MOST} namespaces"),
            "spread them over several subsystems",
        );
        return;
    }
    for element in elements {
        let nsid = subsystem
            .namespaces
            .iter()
            .map(|ns| ns.nsid)
            .max()
            .unwrap_or(0)
            + 1;
        let Some((namespace, named)) = read_namespace(&element, nsid, known) else {
            continue;
        };
        refuse_unknown(&named, &namespace.store, known.stores);
        refuse_part(&named, &namespace.store, known.stores);
        if known.log.is_some_and(|log| log.is_on(&namespace.store)) {
            named.report(
                "the log is on this store",
                "name another store here, or in [log]",
            );
        }
        if subsystem
            .namespaces
            .iter()
            .any(|other| other.nsid == namespace.nsid)
        {
            let message = format!("two namespaces have the id {}", namespace.nsid);
            element.report(message, "write another `nsid`, or leave it out");
        }
        let owner = (subsystem.nqn.clone(), namespace.nsid);
        // A volume of a pair is one namespace, and one more that it is read by as a backup.
        let stores = match namespace.backup_of {
            None => &mut taken.stores,
            Some(_) => &mut taken.backups,
        };
        if let Some((nqn, nsid)) = stores.insert(namespace.store.clone(), owner) {
            named.report(
                format!(
                    "store `{}` is namespace {nsid} of {nqn} already",
                    namespace.store
                ),
                "give every namespace a store of its own",
            );
        }
        refuse_known(&element, &subsystem.nqn, &namespace, taken);
        subsystem.namespaces.push(namespace);
    }
}

/// Refuses identifiers that another namespace has, in whatever subsystem: hosts would take the two
/// for one.
fn refuse_known(element: &Item<'_>, nqn: &str, namespace: &NamespaceConfig, taken: &mut Taken) {
    let owner = (nqn.to_owned(), namespace.nsid);
    let uuid = (taken.uuids).insert(namespace.uuid_in(nqn), owner.clone());
    let nguid = (taken.nguids).insert(namespace.nguid_in(nqn), owner);
    let shared = match (uuid, nguid) {
        (Some(other), _) => Some(("uuid", other)),
        (None, Some(other)) => Some(("nguid", other)),
        (None, None) => None,
    };
    // Two of one subsystem and number are told so already.
    if let Some((key, (other, nsid))) = shared
        && (other.as_str(), nsid) != (nqn, namespace.nsid)
    {
        element.report(
            format!("namespace {nsid} of {other} has the same {key}"),
            format!("write another `{key}`, or leave it out to have one derived"),
        );
    }
}

pub(super) fn refuse_unknown(item: &Item<'_>, store: &str, stores: &Stores) {
    let mut known = stores.names();
    if known.contains(&store) {
        return;
    }
    known.sort_unstable();
    let help = match nearest(store, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("add `[[store]]` with `name = \"{store}\"`"),
        None => format!("stores are: {}", known.join(", ")),
    };
    item.report(format!("there is no store `{store}`"), help);
}

/// Refuses a store that another one lies on.
pub(super) fn refuse_part(item: &Item<'_>, store: &str, stores: &Stores) {
    if let Some(span) = stores.span_on(store) {
        item.report(
            format!("store `{store}` is a part of `{span}`, and nothing by itself"),
            format!("write `{span}`, or take it out of that store's `span`"),
        );
    }
}

/// A store's name alone, or a table; and the item that names the store.
fn read_namespace<'t>(
    element: &Item<'t>,
    next: u32,
    known: Known<'_>,
) -> Option<(NamespaceConfig, Item<'t>)> {
    const MOST: u32 = 1024;
    if !element.is_table() {
        let text = element.string("disk0")?;
        let store = text.to_owned();
        let write = WritePolicy::default();
        return Some((
            NamespaceConfig {
                nsid: next,
                store,
                uuid: None,
                nguid: None,
                write,
                block_size: None,
                backup_of: None,
            },
            element.clone(),
        ));
    }
    let table = element.table("a namespace")?;
    let store = table.require("store", "\"disk0\"");
    let mut namespace = NamespaceConfig {
        nsid: table.integer("nsid", 1..=MOST, next),
        store: String::new(),
        uuid: None,
        nguid: None,
        write: WritePolicy::default(),
        block_size: table
            .get("block_size")
            .and_then(|item| read_block_size(&item)),
        backup_of: None,
    };
    if let Some(item) = table.get("uuid") {
        let text = item.string("6f1b0c1e-3b5e-4c57-9f1a-0d5f0a7b2c11");
        namespace.uuid = text.and_then(|text| accept(&item, values::uuid(text)));
    }
    if let Some(item) = table.get("nguid") {
        let text = item.string("6f1b0c1e3b5e4c577e1a0d5f0a7b2c11");
        namespace.nguid = text.and_then(|text| accept(&item, values::nguid(text)));
    }
    if let Some(item) = table.get("write")
        && let Some(text) = item.string("through")
    {
        match text {
            "through" => namespace.write = WritePolicy::Through,
            "back" => namespace.write = WritePolicy::Back,
            "logged" if known.log.is_none() => item.report(
                "there is no log",
                "add `[log]` with `store = \"log0\"`, a store for the log alone",
            ),
            "logged" => namespace.write = WritePolicy::Logged,
            _ => item.report(
                format!("a write cannot complete by \"{text}\""),
                "write \"through\" (the device has it), \"back\" (the page cache has it) or \"logged\" (the log has it)",
            ),
        }
    }
    let is_backup = table.boolean("backup", false);
    let backup = table.get("backup").filter(|_| is_backup);
    if let (Some(backup), Some(_)) = (&backup, table.get("write")) {
        backup.report("nobody writes to a backup", "leave `write` out");
    }
    table.finish();
    let store = store?;
    namespace.store = store.string("disk0")?.to_owned();
    if let Some(backup) = backup {
        namespace.write = WritePolicy::Logged;
        namespace.backup_of = known.node_of(&namespace.store);
        if namespace.backup_of.is_none() {
            backup.report(
                format!("store `{}` has no volume of a pair", namespace.store),
                "leave `backup` out, or name the store in a [[pair.volume]]",
            );
        }
    }
    Some((namespace, store))
}

#[cfg(test)]
mod tests {
    use engine::WritePolicy;

    use super::super::pair::tests::parsed;

    /// A subsystem with these lines, beside that of a volume of a pair on `disk0`.
    fn beside(lines: &str) -> Result<engine::TargetConfig, String> {
        let subsystem = format!("[[subsystem]]\nnqn = \"nqn.2026-01.com.example:b\"\n{lines}");
        let program = parsed(&subsystem);
        (program.map(|program| program.engine.target)).map_err(|problems| problems.to_string())
    }

    #[test]
    fn r07_a_backup_is_a_second_namespace_of_a_store_of_a_pair() {
        let target = beside("namespaces = [{ store = \"disk0\", backup = true }]").unwrap();
        let [volume, backup] = &target.subsystems[..] else {
            panic!("{:?}", target.subsystems);
        };
        assert!(volume.ana.is_some() && backup.ana.is_none());
        let (own, other) = (&volume.namespaces[0], &backup.namespaces[0]);
        assert_eq!((own.backup_of, other.write), (None, WritePolicy::Logged));
        assert!(other.backup_of.is_some());
        let alone = engine::NamespaceConfig {
            backup_of: None,
            ..other.clone()
        };
        let nqn = &backup.nqn;
        assert_ne!(alone.uuid_in(nqn), other.uuid_in(nqn), "the node is in it");
        let not = "namespaces = [{ store = \"log0\", backup = false }]";
        assert!(
            beside(not)
                .unwrap_err()
                .contains("the log is on this store")
        );
    }

    #[test]
    fn r07_what_is_no_backup_is_refused() {
        const BACKUP: &str = "{ store = \"disk0\", backup = true }";
        for (lines, why) in [
            (
                "namespaces = [{ store = \"log0\", backup = true }]".to_owned(),
                "has no volume of a pair",
            ),
            (
                format!("namespaces = [{BACKUP}, {BACKUP}]"),
                "is namespace 1 of nqn.2026-01.com.example:b already",
            ),
            (
                "namespaces = [{ store = \"disk0\", backup = true, write = \"logged\" }]".into(),
                "nobody writes to a backup",
            ),
            (
                format!("peer_listen = [\"192.0.2.2:4420\"]\nnamespaces = [{BACKUP}]"),
                "other nodes show this subsystem",
            ),
        ] {
            let told = beside(&lines).unwrap_err();
            assert!(told.contains(why), "{why}: {told}");
        }
    }
}
