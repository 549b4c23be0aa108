//! The crates and their arrows: `Cargo.toml` files against the table in
//! docs/architecture.md.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::tree::{Tree, run};

const TABLE: &str = "docs/architecture.md";
const HEAD: &str = "| folder | crate | what it is | knows of |";
/// Crates that reach for DPDK, SPDK or the kernel's packet sockets.
const NATIVE: [&str; 3] = ["packet", "dpdk-sys", "spdk-sys"];
/// The one crate of `dataplane/` that may know them.
const DRIVES_NATIVE: &str = "engine";
/// What the top level holds (row K1), beside dotfiles.
const TOP: [&str; 16] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "build.rs",
    "hugepages.conf",
    "ci",
    "clippy.toml",
    "dataplane",
    "docs",
    "ffi",
    "src",
    "tests",
];

/// A member of the workspace, by its name elsewhere.
#[derive(Default)]
struct Member {
    folder: String,
    /// Crates of ours that it is built with.
    knows: BTreeSet<String>,
    /// Crates of ours that its tests are built with.
    tests_know: BTreeSet<String>,
    /// Whether bindgen makes its bindings.
    is_bound: bool,
}

type Members = BTreeMap<String, Member>;

pub fn check(tree: &Tree) -> Result<Vec<String>> {
    let members = members(tree)?;
    let mut broken = against_table(&members, &table(tree.text(TABLE)?)?);
    broken.extend(native(&members));
    broken.extend(own_bindings(&members));
    broken.extend(top_level(tree));
    Ok(broken)
}

fn members(tree: &Tree) -> Result<Members> {
    let arguments = [
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ];
    let metadata: Value = serde_json::from_str(&run("cargo", &arguments)?)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let root = tree.root.to_string_lossy();
    let mut members = Members::new();
    for package in packages {
        let manifest = package["manifest_path"].as_str().context("no manifest")?;
        let folder = manifest.trim_end_matches("/Cargo.toml");
        let folder = folder.strip_prefix(&*root).unwrap_or(folder);
        let mut member = Member {
            folder: folder.trim_start_matches('/').to_owned(),
            ..Member::default()
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let name = dependency["name"].as_str().context("no name")?;
            member.is_bound |= name == "bindgen" && dependency["kind"] == "build";
            if dependency["path"].is_null() {
                continue;
            }
            let list = match dependency["kind"].as_str() {
                Some("dev") => &mut member.tests_know,
                _ => &mut member.knows,
            };
            list.insert(name.to_owned());
        }
        let name = package["name"].as_str().context("no name")?;
        members.insert(name.to_owned(), member);
    }
    Ok(members)
}

/// A row of the table: crate, folder, crates it knows of.
type Row = (String, String, BTreeSet<String>);

fn table(document: &str) -> Result<Vec<Row>> {
    let rows = document.lines().skip_while(|line| *line != HEAD);
    let rows: Vec<Row> = rows
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cell = |n| quoted(line.split('|').nth(n).unwrap_or_default());
            let first = |n| cell(n).into_iter().next().unwrap_or_default();
            (first(2), first(1), cell(4).into_iter().collect())
        })
        .collect();
    if rows.is_empty() {
        bail!("{TABLE} has no table \"{HEAD}\"");
    }
    Ok(rows)
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn against_table(members: &Members, table: &[Row]) -> Vec<String> {
    let mut broken = Vec::new();
    let place = |name: &str| table.iter().position(|row| row.0 == name);
    for (name, member) in members {
        let Some(at) = place(name) else {
            broken.push(format!("{TABLE}: no row for the crate {name}"));
            continue;
        };
        let (_, folder, knows) = &table[at];
        let shown = match member.folder.as_str() {
            "" => "src",
            folder => folder,
        };
        if folder != shown {
            broken.push(format!("{TABLE}: {name} is in {shown}, not in {folder}"));
        }
        if *knows != member.knows {
            broken.push(format!(
                "{TABLE}: {name} knows of {:?} by its Cargo.toml, of {knows:?} by the table",
                member.knows
            ));
        }
        for uses in &member.knows {
            if place(uses).is_some_and(|other| other >= at) {
                broken.push(format!("{name} uses {uses}, which comes after it"));
            }
        }
    }
    for (name, ..) in table {
        if !members.contains_key(name) {
            broken.push(format!("{TABLE}: there is no crate {name}"));
        }
    }
    broken
}

/// All that is reached from `from` by arrows.
fn reached<'a>(members: &'a Members, from: impl Iterator<Item = &'a String>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = from.map(String::as_str).collect();
    while let Some(name) = open.pop() {
        if seen.insert(name) {
            let knows = members.get(name).map(|member| member.knows.iter());
            open.extend(knows.into_iter().flatten().map(String::as_str));
        }
    }
    seen
}

fn native(members: &Members) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, member) in members {
        if !member.folder.starts_with("dataplane/") || name == DRIVES_NATIVE {
            continue;
        }
        let direct = member.knows.iter().chain(&member.tests_know);
        for crate_name in reached(members, direct) {
            if NATIVE.contains(&crate_name) {
                broken.push(format!(
                    "{name} reaches {crate_name}: only {DRIVES_NATIVE} may"
                ));
            }
        }
    }
    broken
}

/// Row K2: the bindings are crates of ours under `ffi/`, made by bindgen.
fn own_bindings(members: &Members) -> Vec<String> {
    let bound = |name: &&&str| {
        members
            .get(**name)
            .is_some_and(|member| member.is_bound && member.folder == format!("ffi/{name}"))
    };
    ["dpdk-sys", "spdk-sys"]
        .iter()
        .filter(|name| !bound(name))
        .map(|name| format!("{name} is not a crate of ffi/ with bindings by bindgen (row K2)"))
        .collect()
}

/// Row K1: nothing else lies at the top.
fn top_level(tree: &Tree) -> Vec<String> {
    let top = tree.files.keys().filter_map(|path| path.split('/').next());
    let strange: BTreeSet<&str> = top
        .filter(|name| !name.starts_with('.') && !TOP.contains(name))
        .collect();
    strange
        .into_iter()
        .map(|name| format!("{name} has no place at the top level (row K1)"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(folder: &str, knows: &[&str]) -> Member {
        Member {
            folder: folder.to_owned(),
            knows: knows.iter().map(|&name| name.to_owned()).collect(),
            ..Member::default()
        }
    }

    fn house() -> Members {
        [
            ("dpdk-sys", member("ffi/dpdk-sys", &[])),
            ("pages", member("dataplane/pages", &[])),
            ("net", member("dataplane/net", &["pages"])),
            ("engine", member("dataplane/engine", &["net", "dpdk-sys"])),
        ]
        .map(|(name, member)| (name.to_owned(), member))
        .into()
    }

    const DOCUMENT: &str = "\
| folder | crate | what it is | knows of |
| --- | --- | --- | --- |
| `ffi/dpdk-sys` | `dpdk-sys` | bindings | DPDK |
| `dataplane/pages` | `pages` | memory | nothing of ours |
| `dataplane/net` | `net` | TCP | `pages` |
| `dataplane/engine` | `engine` | the loop | `net`, `dpdk-sys` |

| other | table |
";

    #[test]
    fn a_table_that_agrees_breaks_nothing() {
        let table = table(DOCUMENT).unwrap();
        assert_eq!(table.len(), 4);
        assert_eq!(against_table(&house(), &table), [""; 0]);
        assert_eq!(native(&house()), [""; 0]);
    }

    #[test]
    fn a_table_that_disagrees_is_told_where() {
        let finds = |from: &str, to: &str| {
            let table = table(&DOCUMENT.replace(from, to)).unwrap();
            against_table(&house(), &table).join("\n")
        };
        assert!(finds("TCP | `pages`", "TCP | `dpdk-sys`").contains("net knows of"));
        assert!(finds("| `dataplane/net` | `net`", "| `net` | `net`").contains("in dataplane/net"));
        let gone = finds("| `dataplane/net` | `net` | TCP | `pages` |\n", "");
        assert!(gone.contains("no row for the crate net"));
        let more = finds(
            "| `dataplane/net`",
            "| `x` | `x` | x | x |\n| `dataplane/net`",
        );
        assert!(more.contains("there is no crate x"));
        assert!(super::table("no table").is_err());
    }

    #[test]
    fn arrows_point_to_earlier_rows() {
        let mut house = house();
        let pages = house.get_mut("pages").unwrap();
        pages.knows.insert("net".into());
        let table = table(&DOCUMENT.replace("nothing of ours", "`net`")).unwrap();
        let broken = against_table(&house, &table);
        assert_eq!(broken, ["pages uses net, which comes after it"]);
    }

    #[test]
    fn only_the_engine_reaches_native_crates_tests_included() {
        let mut house = house();
        let net = house.get_mut("net").unwrap();
        net.tests_know.insert("engine".into());
        assert_eq!(native(&house), ["net reaches dpdk-sys: only engine may"]);
    }

    #[test]
    fn k01_the_top_level_holds_what_it_should() {
        let tree = Tree::of(&[("Cargo.toml", ""), (".ci/run", ""), ("docs/rows.md", "")]);
        assert_eq!(top_level(&tree), [""; 0]);
        let tree = Tree::of(&[("notes/a.txt", ""), ("notes/b.txt", "")]);
        assert_eq!(top_level(&tree).len(), 1);
        assert_eq!(top_level(&Tree::load().unwrap()), [""; 0], "this tree");
    }

    #[test]
    fn k02_the_bindings_are_our_own() {
        assert_eq!(own_bindings(&house()).len(), 2, "no bindgen, no spdk-sys");
        let ours = members(&Tree::load().unwrap()).unwrap();
        assert_eq!(own_bindings(&ours), [""; 0], "this tree");
    }
}
