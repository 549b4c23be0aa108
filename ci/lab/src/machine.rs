//! What this machine has: commands, the program, the native libraries' tools.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;

use crate::{Failure, Result};

/// The top of the tree.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.ancestors().nth(2).unwrap_or(here).to_path_buf()
    })
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The program under test: `THROUGHLINE`, or the release build.
///
/// # Errors
///
/// It is not there.
pub fn throughline() -> Result<PathBuf> {
    let named = env::var_os("THROUGHLINE").map(PathBuf::from);
    let path = named.unwrap_or_else(|| target().join("release/throughline"));
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::new(format!(
        "there is no program {}: cargo build --release -p throughline",
        path.display()
    )))
}

/// Whether a command is in the path.
pub(crate) fn has(command: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // Where Debian has those of administrators, which a user's path may lack.
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    (env::split_paths(&path).chain(more)).any(|dir| dir.join(command).is_file())
}

/// One of SPDK's tools, as `ci/setup` built them.
///
/// # Errors
///
/// The reason to skip a test that wants it.
pub(crate) fn spdk_tool(name: &str) -> Result<PathBuf> {
    static PREFIX: OnceLock<Option<PathBuf>> = OnceLock::new();
    let prefix = PREFIX.get_or_init(|| {
        let asked = Command::new(root().join("ci/setup"))
            .arg("--print-prefix")
            .output();
        let said = asked.ok().filter(|output| output.status.success())?.stdout;
        Some(PathBuf::from(String::from_utf8(said).ok()?.trim()))
    });
    let tool = prefix.as_ref().map(|prefix| prefix.join("bin").join(name));
    tool.filter(|tool| tool.is_file())
        .ok_or_else(|| Failure::Skipped(format!("there is no {name} of SPDK here: run ci/setup")))
}

/// Whether one of SPDK's applications takes an option of the command line.
pub(crate) fn takes(tool: &Path, option: &str) -> bool {
    let asked = Command::new(tool).arg("--help").output();
    asked.is_ok_and(|output| {
        [output.stdout, output.stderr]
            .iter()
            .any(|text| String::from_utf8_lossy(text).contains(option))
    })
}

/// Why this machine cannot make networks; nothing when it can. Removes what
/// runs that were killed have left behind.
pub(crate) fn obstacle() -> Option<String> {
    let names = Command::new("ip").args(["netns", "list"]).output().ok()?;
    for name in String::from_utf8_lossy(&names.stdout).split_whitespace() {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
    let trial = format!("{PREFIX}{}-trial", process::id());
    let made = Command::new("ip").args(["netns", "add", &trial]).output();
    let _ = Command::new("ip").args(["netns", "del", &trial]).output();
    match made {
        Err(error) => Some(format!("there is no `ip`: {error}")),
        Ok(made) if made.status.success() => None,
        Ok(made) => Some(format!(
            "it takes root, CAP_NET_ADMIN and CAP_SYS_ADMIN to make a network namespace: {}",
            String::from_utf8_lossy(&made.stderr).trim()
        )),
    }
}

/// What the names of our namespaces begin with; the number of our process follows.
pub(crate) const PREFIX: &str = "tl-lab-";
