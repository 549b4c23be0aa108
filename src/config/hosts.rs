//! `hosts` of a subsystem: who may connect, and what with.

use engine::{Group, Hash, HostConfig, ListenerConfig, Policy, SubsystemConfig, Tls, TlsLimits};

use super::keys::Keys;
use super::ports::accept;
use super::reader::{Item, Section, Sink};
use super::values;

/// What a host's name looks like.
const HOST: &str = "nqn.2026-01.com.example:host0";

/// The hosts that a list names.
pub(super) fn read(item: &Item<'_>, keys: &Keys, warnings: &Sink) -> Vec<HostConfig> {
    if item.is_empty_array() {
        warnings.report(
            item.span.clone(),
            "an empty list lets no host in",
            "leave `hosts` out to let any host in",
        );
    }
    let elements = item.elements(&format!("[\"{HOST}\"]"));
    let mut hosts: Vec<HostConfig> = Vec::new();
    for element in elements {
        let Some(host) = read_host(&element, keys) else {
            continue;
        };
        let is_other = |other: &HostConfig| {
            other.nqn == host.nqn && (&other.keys, &other.psk) != (&host.keys, &host.psk)
        };
        if hosts.iter().any(is_other) {
            let message = format!("{} is listed twice, with other keys", host.nqn);
            element.report(message, "leave one out");
        }
        hosts.push(host);
    }
    // A list of hosts of which some prove nothing is a mistake more often than not.
    let proves = |host: &&HostConfig| host.keys.is_some() || host.psk.is_some();
    if hosts.iter().any(|host| proves(&host)) {
        for host in hosts.iter().filter(|host| !proves(host)) {
            warnings.report(
                item.span.clone(),
                format!("{} needs no key, and others of this list do", host.nqn),
                "whoever gives that name is let in: give it a `dhchap_key` or a `psk`",
            );
        }
    }
    hosts
}

/// A host's NQN alone, or a table.
fn read_host(element: &Item<'_>, keys: &Keys) -> Option<HostConfig> {
    if !element.is_table() {
        let text = element.string(HOST)?;
        accept(element, values::nqn(text))?;
        return Some(HostConfig::from(text));
    }
    let table = element.table("a host")?;
    let nqn = table.require("nqn", &format!("\"{HOST}\""));
    let (keys, psk) = (keys.of_host(&table), keys.psk_of_host(&table));
    table.finish();
    let nqn = nqn?;
    let text = nqn.string(HOST)?;
    accept(&nqn, values::nqn(text))?;
    Some(HostConfig {
        nqn: text.to_owned(),
        keys,
        psk,
    })
}

/// The names of its keys.
pub(crate) fn key_names(host: &HostConfig) -> impl Iterator<Item = &str> {
    let keys = host.keys.iter();
    let dhchap = keys.flat_map(|keys| [Some(&keys.dhchap_key), keys.dhchap_ctrlr_key.as_ref()]);
    let psk = host.psk.iter().map(|psk| Some(&psk.name));
    dhchap.chain(psk).flatten().map(String::as_str)
}

/// Says where TLS leaves nobody a way in.
pub(super) fn warn_of_tls(
    listeners: &[ListenerConfig],
    subsystems: &[SubsystemConfig],
    root: &Section<'_>,
    warnings: &Sink,
) {
    let lists = subsystems.iter().filter_map(|s| s.hosts.as_ref());
    let hosts = || lists.clone().flatten();
    let span = |key| {
        root.get(key)
            .map_or(0..0, |item: Item<'_>| item.span.clone())
    };
    let has = |tls: Tls| listeners.iter().find(|listener| listener.tls == tls);
    let psk = hosts().find(|host| host.psk.is_some());
    let clear = hosts().find(|host| host.psk.is_none());
    let lets_any = subsystems.iter().any(|subsystem| subsystem.hosts.is_none());
    if let (Some(listener), None) = (has(Tls::Required), psk) {
        warnings.report(
            span("target"),
            format!(
                "{} requires TLS, and no host has a PSK: nobody gets in there",
                listener.address()
            ),
            "give hosts a `psk`, which `throughline key gen --tls` makes, or leave `tls` out",
        );
    }
    if listeners.is_empty() {
        return;
    }
    if let (Some(host), None, None) = (psk, has(Tls::Allowed), has(Tls::Required)) {
        warnings.report(
            span("subsystem"),
            format!(
                "{} has a PSK, and no listener has TLS: it gets in nowhere",
                host.nqn
            ),
            "write `{ address = \"192.0.2.1:4420\", tls = \"required\" }` in `listen` of [target]",
        );
    }
    if has(Tls::Allowed).is_none() && has(Tls::Off).is_none() {
        let who = clear.map(|host| host.nqn.as_str());
        if let Some(who) = who.or(lets_any.then_some("a subsystem that lets any host in")) {
            warnings.report(
                span("subsystem"),
                format!("every listener requires TLS: {who} is reached by nobody without a PSK"),
                "list its hosts with a `psk` each, or write `tls = \"allowed\"`",
            );
        }
    }
}

/// `dhchap_digests` and `dhchap_dhgroups`, the best first.
pub(super) fn read_policy(section: &Section<'_>) -> Policy {
    let mut policy = Policy::default();
    let hashes = Hash::ALL.map(Hash::name);
    let groups = Group::ALL.map(Group::name);
    if let Some(item) = section.get("dhchap_digests") {
        policy.hashes = list(&item, &hashes, Hash::of_name);
    }
    if let Some(item) = section.get("dhchap_dhgroups") {
        policy.groups = list(&item, &groups, Group::of_name);
    }
    policy
}

/// `tls_key_mib`.
pub(super) fn read_limits(section: &Section<'_>) -> TlsLimits {
    let most = TlsLimits::BYTES_MAX >> 20;
    TlsLimits::of_bytes(section.integer("tls_key_mib", 1..=most, most) << 20)
}

fn list<T: PartialEq>(item: &Item<'_>, known: &[&str], of: fn(&str) -> Option<T>) -> Vec<T> {
    let mut list = Vec::new();
    let example = format!("[\"{}\"]", known[0]);
    if item.is_empty_array() {
        item.report(
            "with an empty list no host with a key gets in",
            format!("write `{example}`, or leave it out for all"),
        );
    }
    for element in item.elements(&example) {
        let Some(text) = element.string(known[0]) else {
            continue;
        };
        match of(text) {
            None => element.report(
                format!("\"{text}\" is not known"),
                format!("write some of {}", known.join(", ")),
            ),
            Some(one) if list.contains(&one) => {
                element.report(format!("{text} is listed twice"), "leave one out");
            }
            Some(one) => list.push(one),
        }
    }
    list
}
