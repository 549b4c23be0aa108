//! `throughline key gen`: secrets in the form that nvme-cli has for them, of DH-HMAC-CHAP and of TLS.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use engine::{ConfiguredPsk, Hash, Key, PskHash};
use zeroize::Zeroizing;

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
    is_psk: bool,
    transform: Transform,
    length: Option<usize>,
    file: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let mut source = File::open("/dev/urandom").context("/dev/urandom")?;
    let mut failure = None;
    let mut random = |bytes: &mut [u8]| failure = source.read_exact(bytes).err();
    let text = match is_psk {
        true => psk(transform, length, &mut random),
        false => dhchap_key(transform, length, &mut random),
    }?;
    ensure!(failure.is_none(), "/dev/urandom gave no randomness");
    let Some(path) = file else {
        super::print(&Zeroizing::new(format!("{}\n", *text)))?;
        return Ok(ExitCode::SUCCESS);
    };
    // Never over another: some host may have that one.
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    written.with_context(|| format!("{} was not written", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// A secret of DH-HMAC-CHAP.
fn dhchap_key(
    transform: Transform,
    length: Option<usize>,
    random: &mut dyn FnMut(&mut [u8]),
) -> anyhow::Result<Zeroizing<String>> {
    let hash = transform.hash();
    let len = length.unwrap_or(hash.map_or(32, Hash::len));
    let key = Key::generate(len, hash, random);
    let key = key.context("a key has 32, 48 or 64 bytes: leave --length out")?;
    Ok(key.text())
}

/// A PSK of TLS.
fn psk(
    transform: Transform,
    length: Option<usize>,
    random: &mut dyn FnMut(&mut [u8]),
) -> anyhow::Result<Zeroizing<String>> {
    let hash = match transform {
        Transform::Sha256 => PskHash::Sha256,
        Transform::Sha384 => PskHash::Sha384,
        Transform::None | Transform::Sha512 => {
            bail!("a key of TLS is one of SHA-256 or SHA-384: write --hmac sha256 or sha384")
        }
    };
    ensure!(
        length.is_none_or(|length| length == hash.len()),
        "a key of TLS is as long as its hash: leave --length out"
    );
    Ok(ConfiguredPsk::generate(hash, random).text())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use engine::Secret;

    use super::*;

    #[test]
    fn a_key_is_written_once_and_for_its_owner_alone() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("host0.key");
        generate_key(false, Transform::Sha384, None, Some(&path)).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let load = |path: &Path| crate::config::keys::load(path).unwrap();
        let Secret::Dhchap(key) = load(&path) else {
            panic!("it is one of DH-HMAC-CHAP");
        };
        assert!(key.text().starts_with("DHHC-1:02:"));
        assert!(generate_key(false, Transform::None, None, Some(&path)).is_err());
        assert_eq!(load(&path), Secret::Dhchap(key));
        let other = directory.path().join("other.key");
        assert!(generate_key(false, Transform::Sha256, Some(48), Some(&other)).is_err());
        assert!(generate_key(false, Transform::None, Some(31), Some(&other)).is_err());
        generate_key(false, Transform::None, Some(64), Some(&other)).unwrap();
        let psk = directory.path().join("psk.key");
        assert!(generate_key(true, Transform::Sha512, None, Some(&psk)).is_err());
        assert!(generate_key(true, Transform::Sha384, Some(32), Some(&psk)).is_err());
        generate_key(true, Transform::Sha384, None, Some(&psk)).unwrap();
        let Secret::Psk(psk) = load(&psk) else {
            panic!("it is a PSK");
        };
        assert!(psk.text().starts_with("NVMeTLSkey-1:02:"));
    }
}
