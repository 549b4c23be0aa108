//! `throughline config`: the running configuration, shown or written into a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde::Deserialize;
use serde_json::json;

use super::{ANSWER, print};
use crate::config::digest;
use crate::control::Client;

/// What the running program answers.
#[derive(Deserialize)]
struct Running {
    /// The file it was started with.
    file: PathBuf,
    /// That file, with what was changed.
    toml: String,
    /// Digests of files that this one replaces without a loss.
    known: Vec<String>,
}

fn ask(socket: &Path) -> anyhow::Result<Running> {
    let answer = Client::connect(socket)?.call("throughline_get_config", json!({}), ANSWER)?;
    serde_json::from_value(answer)
        .context("the running program is of another version: its answer is not understood")
}

/// `throughline config show`
pub(crate) fn show_config(socket: &Path) -> anyhow::Result<ExitCode> {
    print(&ask(socket)?.toml)?;
    Ok(ExitCode::SUCCESS)
}

/// `throughline config save`
pub(crate) fn save_config(
    socket: &Path,
    file: Option<&Path>,
    force: bool,
) -> anyhow::Result<ExitCode> {
    let running = ask(socket)?;
    let file = file.unwrap_or(&running.file);
    let what = match save(file, &running, force)? {
        true => "saved",
        false => "as it is already",
    };
    print(&format!("{}: {what}\n", file.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the file; whether it was another before.
fn save(file: &Path, running: &Running, force: bool) -> anyhow::Result<bool> {
    let cannot = || format!("cannot write {}", file.display());
    match fs::read(file) {
        Ok(bytes) if bytes == running.toml.as_bytes() => return Ok(false),
        Ok(bytes) => {
            let known =
                str::from_utf8(&bytes).is_ok_and(|text| running.known.contains(&digest(text)));
            anyhow::ensure!(
                known || force,
                "{} is not what the program read or saved: look at it (`throughline config show` prints \
                what is running), then --force replaces it, or --file names another",
                file.display()
            );
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(cannot),
    }
    replace(file, running.toml.as_bytes()).with_context(cannot)?;
    Ok(true)
}

/// Replaces a file at once: whoever reads it, and whatever fails, finds the old one
/// whole or the new one. Its owner and permissions stay; a link stays a link.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = match fs::canonicalize(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => file.to_owned(),
        result => result?,
    };
    let name = file.file_name().ok_or(ErrorKind::InvalidInput)?;
    let directory = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    let temporary = Temporary(directory.join(hidden));
    let mut new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary.0)?;
    let mode = match fs::metadata(&file) {
        Ok(old) => {
            let ours = new.metadata()?;
            if (ours.uid(), ours.gid()) != (old.uid(), old.gid()) {
                std::os::unix::fs::fchown(&new, Some(old.uid()), Some(old.gid()))?;
            }
            old.mode() & 0o7777
        }
        Err(error) if error.kind() == ErrorKind::NotFound => 0o644,
        Err(error) => return Err(error),
    };
    new.set_permissions(fs::Permissions::from_mode(mode))?;
    new.write_all(bytes)?;
    new.sync_all()?;
    fs::rename(&temporary.0, &file)?;
    // The name is on disk when its directory is.
    File::open(directory)?.sync_all()
}

/// A file that is gone when this is, unless it was renamed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                log::warn!("cannot remove {}: {error}", self.0.display());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn running(read: &str, now: &str) -> Running {
        Running {
            file: "/etc/throughline/throughline.toml".into(),
            toml: now.into(),
            known: vec![digest(read), digest(now)],
        }
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_permissions_and_behind_its_link() {
        let directory = tempfile::TempDir::new().unwrap();
        let (file, link) = (
            directory.path().join("a.toml"),
            directory.path().join("link"),
        );
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("a.toml", &link).unwrap();
        let inode = fs::metadata(&file).unwrap().ino();
        assert!(save(&link, &running("old", "new"), false).unwrap());
        assert!(!save(&link, &running("old", "new"), false).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o640);
        assert_ne!(metadata.ino(), inode, "the old file was written over");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_others_wrote_is_replaced_only_by_force() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("a.toml");
        assert!(save(&file, &running("old", "new"), false).unwrap());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o644);
        fs::write(&file, "edited").unwrap();
        let told = save(&file, &running("old", "new"), false).unwrap_err();
        assert!(told.to_string().contains("--force"), "{told}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "edited");
        assert!(save(&file, &running("old", "new"), true).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }

    #[test]
    fn a_file_that_cannot_be_written_stays_and_nothing_else_does() {
        let directory = tempfile::TempDir::new().unwrap();
        let missing = directory.path().join("none/a.toml");
        let told = save(&missing, &running("old", "new"), false).unwrap_err();
        assert!(told.to_string().starts_with("cannot write "), "{told}");
        assert!(save(directory.path(), &running("old", "new"), true).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
