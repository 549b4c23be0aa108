//! Writing a changed target into the file it was read from.
//!
//! Only what was changed is touched: keys, comments and the order of everything
//! else stay as the operator wrote them.

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use engine::{
    AnaState, CNTLIDS, HostConfig, HostKeyConfig, KeyConfig, ListenerConfig, NamespaceConfig,
    PairConfig, SubsystemConfig, TargetConfig, Tls, WritePolicy,
};
use toml_edit::{
    Array, ArrayOfTables, DocumentMut, InlineTable, Item, RawString, Table, TableLike, Value,
};

use super::target::{MODEL, default_serial};
use super::values::{self, nguid_text, uuid_text};

/// The file `text`, which says `was`, made to say `now`.
pub(super) fn with_target(
    text: &str,
    was: &TargetConfig,
    now: &TargetConfig,
) -> Result<String, String> {
    let document = text.parse::<DocumentMut>();
    let mut document = document.map_err(|error| format!("the file is not TOML: {error}"))?;
    if was.listeners != now.listeners {
        let target = document.entry("target").or_insert_with(|| {
            let mut table = Table::new();
            table.decor_mut().set_prefix("\n");
            Item::Table(table)
        });
        let target = target.as_table_like_mut().ok_or("`target` is no table")?;
        let listeners = now.listeners.iter().map(listener);
        put(target, "listen", Value::Array(listeners.collect()));
    }
    write_keys(&mut document, was, now);
    write_subsystems(&mut document, was, now);
    Ok(document.to_string())
}

/// The file `text`, which says how long frames of pairs are `was`, made to say `now`.
pub(super) fn with_frames(
    text: &str,
    was: &[PairConfig],
    now: &[PairConfig],
) -> Result<String, String> {
    let bytes =
        |pairs: &[PairConfig]| -> Vec<u32> { pairs.iter().map(|pair| pair.frame_bytes).collect() };
    let (was, now) = (bytes(was), bytes(now));
    if was == now {
        return Ok(text.to_owned());
    }
    let document = text.parse::<DocumentMut>();
    let mut document = document.map_err(|error| format!("the file is not TOML: {error}"))?;
    for (at, (_, bytes)) in (was.iter().zip(&now).enumerate()).filter(|(_, (was, now))| was != now)
    {
        let pair = match document.get_mut("pair") {
            Some(Item::ArrayOfTables(pairs)) => {
                pairs.get_mut(at).map(|pair| pair as &mut dyn TableLike)
            }
            pair => pair.and_then(Item::as_table_like_mut),
        };
        let pair = pair.ok_or("`pair` is no table")?;
        put(pair, "frame_kib", i64::from(bytes / 1024).into());
    }
    Ok(document.to_string())
}

/// Names and files of keys, never what is in them.
fn write_keys(document: &mut DocumentMut, was: &TargetConfig, now: &TargetConfig) {
    let is_same = |a: &KeyConfig, b: &KeyConfig| (&a.name, &a.path) == (&b.name, &b.path);
    let is_kept = was.keys.len() == now.keys.len();
    if is_kept && was.keys.iter().zip(&now.keys).all(|(a, b)| is_same(a, b)) {
        return;
    }
    let old = document.remove("key").map(Item::into_array_of_tables);
    let old = old.and_then(Result::ok).unwrap_or_default();
    let mut tables = ArrayOfTables::new();
    for key in &now.keys {
        let found = was.keys.iter().position(|other| is_same(other, key));
        let kept = found.and_then(|at| old.get(at)).cloned();
        tables.push(kept.unwrap_or_else(|| {
            let mut table = Table::new();
            table.decor_mut().set_prefix("\n");
            table.insert("name", toml_edit::value(key.name.as_str()));
            table.insert("file", toml_edit::value(key.path.display().to_string()));
            table
        }));
    }
    if !tables.is_empty() {
        document.insert("key", Item::ArrayOfTables(tables));
    }
}

fn write_subsystems(document: &mut DocumentMut, was: &TargetConfig, now: &TargetConfig) {
    let said = |target: &TargetConfig| format!("{:?}", target.subsystems);
    if said(was) == said(now) {
        return;
    }
    if now.subsystems.is_empty() {
        // Without the key, a file lacks its subsystems; with an empty list it has none.
        document.remove("subsystem");
        document.insert("subsystem", Item::Value(Value::Array(Array::new())));
        return;
    }
    let old = document.remove("subsystem").map(Item::into_array_of_tables);
    let old = old.and_then(Result::ok).unwrap_or_default();
    let mut tables = ArrayOfTables::new();
    // Subsystems keep their order and new ones come after them.
    let mut next = 0;
    for (index, subsystem) in now.subsystems.iter().enumerate() {
        let found = was
            .subsystems
            .iter()
            .skip(next)
            .position(|s| s.nqn == subsystem.nqn);
        let kept = found.and_then(|found| old.get(next + found));
        let before = found.map(|found| &was.subsystems[next + found]);
        let mut table = kept
            .cloned()
            .unwrap_or_else(|| new_subsystem(&subsystem.nqn));
        next += found.map_or(0, |found| found + 1);
        write_subsystem(
            &mut table,
            index,
            before.filter(|_| kept.is_some()),
            subsystem,
        );
        tables.push(table);
    }
    document.insert("subsystem", Item::ArrayOfTables(tables));
}

fn new_subsystem(nqn: &str) -> Table {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    table.insert("nqn", toml_edit::value(nqn));
    table
}

/// Makes the section of a subsystem, which says `was` if it is not new, say `now`.
fn write_subsystem(
    table: &mut Table,
    index: usize,
    was: Option<&SubsystemConfig>,
    now: &SubsystemConfig,
) {
    put_text(table, "serial", &now.serial, &default_serial(index));
    put_text(table, "model", &now.model, MODEL);
    let said = table.get("ana").and_then(Item::as_str);
    // That of mirrored namespaces goes without saying.
    let is_new = was.is_none_or(|was| was.ana != now.ana);
    if is_new && said != now.ana.map(AnaState::name) {
        match now.ana {
            Some(state) => put(table, "ana", state.name().into()),
            None => drop(table.remove("ana")),
        }
    }
    let range = |ids: &RangeInclusive<u16>| format!("{}-{}", ids.start(), ids.end());
    let said = table.get("controller_ids").and_then(Item::as_str);
    let said = said.and_then(|said| values::controller_ids(said).ok());
    if said.unwrap_or(CNTLIDS) != now.controller_ids {
        put(table, "controller_ids", range(&now.controller_ids).into());
    }
    if was.map_or(&[][..], |was| &was.peer_listeners) != now.peer_listeners {
        let peers = now.peer_listeners.iter().map(listener);
        put(table, "peer_listen", Value::Array(peers.collect()));
    }
    match &now.hosts {
        hosts if was.is_some_and(|was| was.hosts == *hosts) => {}
        None => drop(table.remove("hosts")),
        Some(hosts) => {
            let mut array = take_array(table, "hosts");
            let element = |value: &Value, host: &HostConfig| host_of(value) == Some(&host.nqn);
            let new = |_: usize, host: &HostConfig| {
                let mut value = Value::from(host.nqn.as_str());
                write_host(&mut value, host);
                value
            };
            let keep = |_: usize, value: &mut Value, host: &HostConfig| write_host(value, host);
            write_elements(&mut array, hosts, element, new, keep);
            put(table, "hosts", Value::Array(array));
        }
    }
    let said = |subsystem: &SubsystemConfig| format!("{:?}", subsystem.namespaces);
    if was.is_some_and(|was| said(was) == said(now)) {
        return;
    }
    let mut array = take_array(table, "namespaces");
    let element = |value: &Value, ns: &NamespaceConfig| store_of(value) == Some(&ns.store);
    let implied = |at: usize| {
        let before = now.namespaces[..at].iter();
        before.map(|ns| ns.nsid).max().unwrap_or(0) + 1
    };
    let new = |at: usize, ns: &NamespaceConfig| new_namespace(ns, implied(at));
    let keep = |at: usize, value: &mut Value, ns: &NamespaceConfig| {
        write_namespace(value, ns, implied(at));
    };
    write_elements(&mut array, &now.namespaces, element, new, keep);
    put(table, "namespaces", Value::Array(array));
}

/// An address alone, or a table where it has TLS.
fn listener(listener: &ListenerConfig) -> Value {
    let address = Value::from(listener.address().to_string());
    if listener.tls == Tls::Off {
        return address;
    }
    let mut table = InlineTable::new();
    table.insert("address", address);
    table.insert("tls", listener.tls.name().into());
    Value::InlineTable(table)
}

/// The host that an element of `hosts` names.
fn host_of(value: &Value) -> Option<&str> {
    match value {
        Value::InlineTable(table) => table.get("nqn").and_then(Value::as_str),
        value => value.as_str(),
    }
}

/// An element's table: one that says `name` as its `key` where the name stood alone; none where that is to stay so, as it says all.
fn table_of<'v>(
    value: &'v mut Value,
    says_all: bool,
    key: &str,
    name: &str,
) -> Option<&'v mut InlineTable> {
    if !value.is_inline_table() {
        if says_all {
            return None;
        }
        let mut table = InlineTable::new();
        table.insert(key, Value::from(name));
        let decor = value.decor().clone();
        *value = Value::InlineTable(table);
        *value.decor_mut() = decor;
    }
    value.as_inline_table_mut()
}

/// Makes an element of `hosts` say `host`.
fn write_host(value: &mut Value, host: &HostConfig) {
    let of = |keys: &HostKeyConfig| (keys.dhchap_key.clone(), keys.dhchap_ctrlr_key.clone());
    let (key, controller) = host.keys.as_ref().map(of).unzip();
    let psk = host.psk.as_ref().map(|psk| psk.name.clone());
    let says_all = key.is_none() && psk.is_none();
    let Some(table) = table_of(value, says_all, "nqn", &host.nqn) else {
        return;
    };
    let before = table.to_string();
    let names = [
        ("dhchap_key", key),
        ("dhchap_ctrlr_key", controller.flatten()),
        ("psk", psk),
    ];
    for (place, name) in names {
        let said = table.get(place).and_then(Value::as_str);
        if said != name.as_deref() {
            match name {
                Some(name) => put(table, place, name.into()),
                None => drop(table.remove(place)),
            }
        }
    }
    if table.to_string() != before {
        table.fmt();
    }
}

/// Makes an array say `now`: elements that `is` finds stay, in their order and with
/// their comments, after `keep` has looked at them; others are made by `new`.
fn write_elements<T>(
    array: &mut Array,
    now: &[T],
    is: impl Fn(&Value, &T) -> bool,
    new: impl Fn(usize, &T) -> Value,
    keep: impl Fn(usize, &mut Value, &T),
) {
    let (old, gaps) = (array.iter().cloned().collect::<Vec<_>>(), gaps(array));
    let indent = match gaps[..old.len()].last().map(|gap| &gap.before) {
        Some(before) if !before.is_empty() => {
            format!("\n{}", before.rsplit('\n').next().unwrap_or_default())
        }
        _ => String::new(),
    };
    array.clear();
    let mut next = 0;
    let mut after = gaps[0].after.as_str();
    for (at, element) in now.iter().enumerate() {
        let found = old.iter().skip(next).position(|value| is(value, element));
        let mut before = indent.as_str();
        let mut value = match found {
            Some(found) => {
                next += found + 1;
                before = &gaps[next - 1].before;
                let mut value = old[next - 1].clone();
                keep(at, &mut value, element);
                value
            }
            None => new(at, element),
        };
        // A comment ends with its line.
        let before = match (before, after) {
            ("", "") if at == 0 => "",
            ("", "") => " ",
            ("", _) => "\n    ",
            (before, _) => before,
        };
        value.decor_mut().set_prefix(format!("{after}{before}"));
        value.decor_mut().set_suffix("");
        array.push_formatted(value);
        after = found.map_or("", |_| gaps[next].after.as_str());
    }
    let before = match (gaps[old.len()].before.as_str(), after) {
        ("", "") => "",
        ("", _) => "\n",
        (before, _) => before,
    };
    array.set_trailing(format!("{after}{before}"));
    array.set_trailing_comma(!array.is_empty() && before.contains('\n'));
}

/// What stands between the elements of an array, commas aside.
struct Gap {
    /// On the line of the element before, or the bracket: a comment, or nothing.
    after: String,
    /// On the lines from there to the next element or the bracket, the first line's
    /// end included; nothing on one line.
    before: String,
}

/// Before the first element, between each two, and after the last.
fn gaps(array: &Array) -> Vec<Gap> {
    fn text(raw: Option<&RawString>) -> &str {
        raw.and_then(RawString::as_str).unwrap_or_default()
    }
    let mut texts = vec![String::new()];
    for value in array.iter() {
        if let Some(last) = texts.last_mut() {
            *last += text(value.decor().prefix());
        }
        texts.push(text(value.decor().suffix()).to_owned());
    }
    if let Some(last) = texts.last_mut() {
        *last += text(Some(array.trailing()));
    }
    let gap = |text: String| match text.split_once('\n') {
        Some((after, before)) => Gap {
            after: if after.trim().is_empty() { "" } else { after }.into(),
            before: format!("\n{before}"),
        },
        None => Gap {
            after: String::new(),
            before: String::new(),
        },
    };
    texts.into_iter().map(gap).collect()
}

/// The store that an element of `namespaces` names.
fn store_of(value: &Value) -> Option<&str> {
    match value {
        Value::InlineTable(table) => table.get("store").and_then(Value::as_str),
        value => value.as_str(),
    }
}

fn new_namespace(ns: &NamespaceConfig, implied: u32) -> Value {
    let mut value = Value::from(ns.store.as_str());
    write_namespace(&mut value, ns, implied);
    value
}

/// Makes an element say `ns`, whose number would be `implied` if it said none.
fn write_namespace(value: &mut Value, ns: &NamespaceConfig, implied: u32) {
    let plain = ns.nsid == implied
        && ns.uuid.is_none()
        && ns.nguid.is_none()
        && ns.write == WritePolicy::Through
        && ns.block_size.is_none()
        && ns.backup_of.is_none();
    let Some(table) = table_of(value, plain, "store", &ns.store) else {
        return;
    };
    let before = table.to_string();
    let said = table.get("nsid").and_then(Value::as_integer);
    if said.map_or(i64::from(implied), |said| said) != i64::from(ns.nsid) {
        put(table, "nsid", i64::from(ns.nsid).into());
    }
    let said = table.get("uuid").and_then(Value::as_str);
    if said.and_then(|said| values::uuid(said).ok()) != ns.uuid {
        match ns.uuid {
            Some(uuid) => put(table, "uuid", uuid_text(uuid).into()),
            None => drop(table.remove("uuid")),
        }
    }
    let said = table.get("nguid").and_then(Value::as_str);
    if said.and_then(|said| values::nguid(said).ok()) != ns.nguid {
        match ns.nguid {
            Some(nguid) => put(table, "nguid", nguid_text(nguid).into()),
            None => drop(table.remove("nguid")),
        }
    }
    let write = match ns.write {
        // What a backup has in place of it.
        _ if ns.backup_of.is_some() => "through",
        WritePolicy::Through => "through",
        WritePolicy::Back => "back",
        WritePolicy::Logged => "logged",
    };
    put_text(table, "write", write, "through");
    let said = table.get("block_size").and_then(Value::as_integer);
    if said != ns.block_size.map(i64::from) {
        match ns.block_size {
            Some(size) => put(table, "block_size", i64::from(size).into()),
            None => drop(table.remove("block_size")),
        }
    }
    let said = table.get("backup").and_then(Value::as_bool);
    if said.unwrap_or(false) != ns.backup_of.is_some() {
        put(table, "backup", ns.backup_of.is_some().into());
    }
    if table.to_string() != before {
        table.fmt();
    }
}

/// Takes an array out of a table to be put back; an empty one if there is none.
fn take_array(table: &mut Table, key: &str) -> Array {
    let item = table.get_mut(key).map(std::mem::take);
    let value = item.and_then(|item| item.into_value().ok());
    match value {
        Some(Value::Array(array)) => array,
        _ => Array::new(),
    }
}

/// A string that is not written where it is what it would be without.
fn put_text(table: &mut dyn TableLike, key: &str, now: &str, default: &str) {
    let said = table.get(key).and_then(Item::as_str);
    if said.unwrap_or(default) != now {
        put(table, key, now.into());
    }
}

/// Sets a key; what stands around its value stays.
fn put(table: &mut dyn TableLike, key: &str, mut value: Value) {
    match table.get_mut(key) {
        Some(Item::Value(old)) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        Some(item) => *item = Item::Value(value),
        None => drop(table.insert(key, Item::Value(value))),
    }
}
