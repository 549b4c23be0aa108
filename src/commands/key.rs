//! `throughline key gen`: secrets in the form that nvme-cli has for them.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use engine::{Hash, Key};

/// By what a key is transformed before it is used.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Transform {
    /// By nothing
    None,
    Sha256,
    Sha384,
    Sha512,
}

impl Transform {
    fn hash(self) -> Option<Hash> {
        match self {
            Transform::None => None,
            Transform::Sha256 => Some(Hash::Sha256),
            Transform::Sha384 => Some(Hash::Sha384),
            Transform::Sha512 => Some(Hash::Sha512),
        }
    }
}

/// `throughline key gen`
pub(crate) fn generate_key(
    transform: Transform,
    length: Option<usize>,
    file: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let hash = transform.hash();
    let len = length.unwrap_or(hash.map_or(32, Hash::len));
    let mut source = File::open("/dev/urandom").context("/dev/urandom")?;
    let mut failure = None;
    let mut random = |bytes: &mut [u8]| failure = source.read_exact(bytes).err();
    let key = Key::generate(len, hash, &mut random);
    let key = key.context("a key has 32, 48 or 64 bytes: leave --length out")?;
    ensure!(failure.is_none(), "/dev/urandom gave no randomness");
    let Some(path) = file else {
        super::print(&format!("{}\n", *key.text()))?;
        return Ok(ExitCode::SUCCESS);
    };
    // Never over another: some host may have that one.
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(key.text().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    written.with_context(|| format!("{} was not written", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_key_is_written_once_and_for_its_owner_alone() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("host0.key");
        generate_key(Transform::Sha384, None, Some(&path)).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let key = crate::config::keys::load(&path).unwrap();
        assert!(key.text().starts_with("DHHC-1:02:"));
        assert!(generate_key(Transform::None, None, Some(&path)).is_err());
        assert_eq!(crate::config::keys::load(&path).unwrap(), key);
        let other = directory.path().join("other.key");
        assert!(generate_key(Transform::Sha256, Some(48), Some(&other)).is_err());
        assert!(generate_key(Transform::None, Some(31), Some(&other)).is_err());
        generate_key(Transform::None, Some(64), Some(&other)).unwrap();
    }
}
