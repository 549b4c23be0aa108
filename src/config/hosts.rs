//! `hosts` of a subsystem: who may connect, and what with.

use engine::{Group, Hash, HostConfig, Policy};

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
        let is_other = |other: &HostConfig| other.nqn == host.nqn && other.keys != host.keys;
        if hosts.iter().any(is_other) {
            let message = format!("{} is listed twice, with other keys", host.nqn);
            element.report(message, "leave one out");
        }
        hosts.push(host);
    }
    // A list of hosts of which some prove nothing is a mistake more often than not.
    if hosts.iter().any(|host| host.keys.is_some()) {
        for host in hosts.iter().filter(|host| host.keys.is_none()) {
            warnings.report(
                item.span.clone(),
                format!("{} needs no key, and others of this list do", host.nqn),
                "whoever gives that name is let in: give it a `dhchap_key`",
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
    let keys = keys.of_host(&table);
    table.finish();
    let nqn = nqn?;
    let text = nqn.string(HOST)?;
    accept(&nqn, values::nqn(text))?;
    Some(HostConfig {
        nqn: text.to_owned(),
        keys,
    })
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
