//! `[[key]]`: secrets that hosts and the controller prove that they have, in files that nobody else reads.

mod dump;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use engine::{
    ConfiguredPsk, HostKeyConfig, HostKeys, KEY_TEXT_LEN_MAX, Key, KeyConfig, PskConfig, Secret,
};
use zeroize::Zeroizing;

use super::ports::accept;
use super::reader::{Item, Section, Sink, nearest};
use super::values::Wrong;

/// What a name of a key looks like.
const NAME: &str = "host0";
/// Where keys may lie.
const FILE: &str = "/etc/throughline/host0.key";

/// The keys of a file; hosts name them.
pub(super) struct Keys(Vec<KeyConfig>);

pub(super) fn read(root: &Section<'_>) -> Keys {
    let mut keys: Vec<KeyConfig> = Vec::new();
    for section in root.tables("key") {
        let name = section.require("name", &format!("\"{NAME}\""));
        let name = name.and_then(|item| {
            let text = item.string(NAME)?;
            if keys.iter().any(|key| key.name == text) {
                item.report("two keys have this name", "rename one");
            }
            accept(&item, key_name(text))
        });
        let file = section.require("file", &format!("\"{FILE}\""));
        let secret = file.and_then(|item| {
            let path = PathBuf::from(item.string(FILE)?);
            let secret = accept(&item, load(&path))?;
            Some((path, secret))
        });
        section.finish();
        if let (Some(name), Some((path, secret))) = (name, secret) {
            keys.push(KeyConfig { name, path, secret });
        }
    }
    Keys(keys)
}

impl Keys {
    /// All of them.
    pub(super) fn into_configs(self) -> Vec<KeyConfig> {
        self.0
    }

    /// The keys that a host's table names: of DH-HMAC-CHAP.
    pub(super) fn of_host(&self, table: &Section<'_>) -> Option<HostKeyConfig> {
        let key = |key: &'static str| accept_key(self.named(table, key)?, dhchap);
        let (host, controller) = (key("dhchap_key"), key("dhchap_ctrlr_key"));
        if let (None, Some(item)) = (table.get("dhchap_key"), table.get("dhchap_ctrlr_key")) {
            item.report(
                "the controller proves who it is to hosts that do so themselves",
                format!("write `dhchap_key = \"{NAME}\"` too"),
            );
        }
        Some(host_keys(host?, controller))
    }

    /// The PSK that a host's table names.
    pub(super) fn psk_of_host(&self, table: &Section<'_>) -> Option<PskConfig> {
        accept_key(self.named(table, "psk")?, psk)
    }

    /// The key that a host's table names so.
    fn named<'t>(&self, table: &Section<'t>, key: &'static str) -> Option<(Item<'t>, &KeyConfig)> {
        let item = table.get(key)?;
        let name = item.string(NAME)?;
        match find(&self.0, name) {
            Some(key) => Some((item, key)),
            None => {
                self.refuse_unknown(&item, name);
                None
            }
        }
    }

    fn refuse_unknown(&self, item: &Item<'_>, name: &str) {
        let known: Vec<_> = self.0.iter().map(|key| key.name.as_str()).collect();
        let help = match nearest(name, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add `[[key]]` with `name = \"{name}\"`"),
        };
        item.report(format!("there is no key `{name}`"), help);
    }

    /// Says which keys nobody uses.
    pub(super) fn warn_of_unused(&self, used: &[&str], root: &Section<'_>, warnings: &Sink) {
        for key in &self.0 {
            if !used.contains(&key.name.as_str()) {
                let span = root.get("key").map_or(0..0, |item| item.span.clone());
                let help = match key.secret {
                    Secret::Dhchap(_) => "name it as a host's `dhchap_key`, or leave it out",
                    Secret::Psk(_) => "name it as a host's `psk`, or leave it out",
                };
                warnings.report(span, format!("no host has the key `{}`", key.name), help);
            }
        }
    }
}

/// The key of that name.
pub(crate) fn find<'k>(keys: &'k [KeyConfig], name: &str) -> Option<&'k KeyConfig> {
    keys.iter().find(|key| key.name == name)
}

/// A key of DH-HMAC-CHAP, and what it is called.
type Dhchap = (String, Key);

/// What a host proves that it has, and what the controller does.
pub(crate) fn host_keys(host: Dhchap, controller: Option<Dhchap>) -> HostKeyConfig {
    let (dhchap_key, host) = host;
    let (dhchap_ctrlr_key, controller) = controller.unzip();
    HostKeyConfig {
        dhchap_key,
        dhchap_ctrlr_key,
        keys: Arc::new(HostKeys { host, controller }),
    }
}

/// A key that is to be one of DH-HMAC-CHAP.
pub(crate) fn dhchap(key: &KeyConfig) -> Result<Dhchap, Wrong> {
    match &key.secret {
        Secret::Dhchap(secret) => Ok((key.name.clone(), secret.clone())),
        Secret::Psk(_) => Err(wrong(
            format!("the key `{}` is one of TLS (NVMeTLSkey-1)", key.name),
            "name one of DH-HMAC-CHAP (DHHC-1), or name it as `psk`",
        )),
    }
}

/// A key that is to be a PSK.
pub(crate) fn psk(key: &KeyConfig) -> Result<PskConfig, Wrong> {
    match &key.secret {
        Secret::Psk(psk) => Ok(PskConfig {
            name: key.name.clone(),
            psk: Arc::clone(psk),
        }),
        Secret::Dhchap(_) => Err(wrong(
            format!("the key `{}` is one of DH-HMAC-CHAP (DHHC-1)", key.name),
            "name one of TLS (NVMeTLSkey-1), which `throughline key gen --tls` makes, or name it as `dhchap_key`",
        )),
    }
}

/// The key as what it is to be, or the problem reported.
fn accept_key<T>(
    (item, key): (Item<'_>, &KeyConfig),
    of: fn(&KeyConfig) -> Result<T, Wrong>,
) -> Option<T> {
    accept(&item, of(key))
}

/// A name that a key may have.
pub(crate) fn key_name(text: &str) -> Result<String, Wrong> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    match (1..=64).contains(&text.len()) && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err(wrong(
            "a key's name has 1 to 64 letters, digits, or characters of `-_.:`",
            format!("write `name = \"{NAME}\"`"),
        )),
    }
}

/// Reads a key out of a file that its owner alone reads: root, or whoever runs the program.
pub(crate) fn load(path: &Path) -> Result<Secret, Wrong> {
    let shown = path.display();
    let make =
        || format!("`throughline key gen --file {shown}` makes one; the host needs the same");
    let unreadable = |error: std::io::Error| wrong(format!("{shown}: {error}"), make());
    if !path.is_absolute() {
        return Err(wrong(
            format!("{shown} is not an absolute path"),
            format!("write `file = \"{FILE}\"`"),
        ));
    }
    let file = File::open(path).map_err(unreadable)?;
    // Of what was opened, whatever has that name by now.
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(wrong(format!("{shown} is not a regular file"), make()));
    }
    // Asked before there is a key: then it is root's.
    static OWN: OnceLock<u32> = OnceLock::new();
    let own = *OWN.get_or_init(|| fs::metadata("/proc/self").map_or(0, |own| own.uid()));
    dump::forbid();
    if ![0, own].contains(&metadata.uid()) {
        return Err(wrong(
            format!("{shown} belongs to another user, who can read and change it"),
            format!("`chown root {shown}`"),
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(wrong(
            format!("others can read {shown}, which has a key"),
            format!("`chmod 600 {shown}`, and take a new key if somebody has"),
        ));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(2 * KEY_TEXT_LEN_MAX));
    let most = 2 * KEY_TEXT_LEN_MAX as u64;
    (file.take(most).read_to_end(&mut text)).map_err(unreadable)?;
    let text = str::from_utf8(&text).unwrap_or_default();
    let no_key = |why: String| wrong(format!("{shown} has no key: {why}"), make());
    if text.trim_start().starts_with("NVMeTLSkey") {
        let psk = ConfiguredPsk::read(text).map_err(|error| no_key(error.to_string()))?;
        return Ok(Secret::Psk(Arc::new(psk)));
    }
    let key = Key::read(text).map_err(|error| no_key(error.to_string()))?;
    Ok(Secret::Dhchap(key))
}

fn wrong(message: impl Into<String>, help: impl Into<String>) -> Wrong {
    Wrong {
        message: message.into(),
        help: help.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::NamedTempFile;

    use super::super::tests::{MINIMAL, parsed, told};
    use super::*;

    /// Bytes 00 to 1f, transformed by SHA-256.
    const KEY: &str = "DHHC-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";

    /// The same bytes, for TLS.
    const PSK: &str = "NVMeTLSkey-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";

    fn file(text: &str, mode: u32) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_key_is_read_from_a_file_that_its_owner_alone_reads() {
        let good = file(&format!("{KEY}\n"), 0o600);
        let Secret::Dhchap(key) = load(good.path()).unwrap() else {
            panic!("it is one of DH-HMAC-CHAP");
        };
        assert_eq!(*key.text(), KEY);
        let good = file(PSK, 0o600);
        let Secret::Psk(psk) = load(good.path()).unwrap() else {
            panic!("it is a PSK");
        };
        assert_eq!(*psk.text(), PSK);
        for (text, mode, why) in [
            (KEY, 0o640, "others can read"),
            (KEY, 0o604, "others can read"),
            (PSK, 0o640, "others can read"),
            (&PSK.replace(":01:", ":03:"), 0o600, "not one of 00, 01, 02"),
            (
                &PSK.replace(":01:", ":02:"),
                0o600,
                "a key of SHA-384 has 48 bytes",
            ),
            (&PSK.replace("AAEC", "AAED"), 0o600, "its checksum is wrong"),
            ("secret", 0o600, "has no key: it is not of the form"),
            ("", 0o600, "has no key"),
        ] {
            let bad = file(text, mode);
            let wrong = load(bad.path()).unwrap_err();
            assert!(wrong.message.contains(why), "{}", wrong.message);
            assert!(
                !wrong.message.contains("secret"),
                "not a word of what it has"
            );
        }
        let wrong = KEY.replace("AAEC", "AAED");
        let bad = file(&wrong, 0o600);
        assert!(load(bad.path()).unwrap_err().message.contains("checksum"));
        for path in ["/no/such/file", "relative.key", "/dev"] {
            assert!(load(Path::new(path)).is_err(), "{path}");
        }
    }

    /// The smallest configuration, whose subsystem has these hosts, with two keys of that file.
    fn with_hosts(hosts: &str, key: &NamedTempFile) -> String {
        let key = key.path().display();
        let subsystem = format!("[[subsystem]]\nhosts = [{hosts}]");
        let keys = format!(
            "\n[[key]]\nname = \"a\"\nfile = \"{key}\"\n[[key]]\nname = \"b\"\nfile = \"{key}\"\n"
        );
        MINIMAL.replace("[[subsystem]]", &subsystem) + &keys
    }

    #[test]
    fn hosts_name_their_keys() {
        let key = file(KEY, 0o600);
        let text = with_hosts(
            "\"nqn.2026-01.x:a\", { nqn = \"nqn.2026-01.x:b\", dhchap_key = \"a\", dhchap_ctrlr_key = \"b\" }",
            &key,
        );
        let program = parsed(&text).unwrap();
        let hosts = program.engine.target.subsystems[0].hosts.clone().unwrap();
        assert_eq!(hosts[0], "nqn.2026-01.x:a".into());
        let keys = hosts[1].keys.clone().unwrap();
        assert_eq!(
            (&*keys.dhchap_key, keys.dhchap_ctrlr_key.as_deref()),
            ("a", Some("b"))
        );
        assert_eq!(*keys.keys.host.text(), KEY);
        let warnings = program.warnings.unwrap().to_string();
        assert!(
            warnings.contains("nqn.2026-01.x:a needs no key"),
            "{warnings}"
        );
        assert!(!format!("{:?}", program.engine).contains("AAEC"));
        let unused = parsed(&with_hosts("\"nqn.2026-01.x:a\"", &key)).unwrap();
        let warnings = unused.warnings.unwrap().to_string();
        assert!(warnings.contains("no host has the key `b`"), "{warnings}");
    }

    #[test]
    fn hosts_name_their_psks_and_listeners_have_tls() {
        let key = file(PSK, 0o600);
        let host = "{ nqn = \"nqn.2026-01.x:b\", psk = \"a\" }";
        let text = with_hosts(host, &key);
        let told = |text: &str| {
            let program = parsed(text).unwrap();
            program
                .warnings
                .map(|all| all.to_string())
                .unwrap_or_default()
        };
        assert!(
            told(&text).contains("has a PSK, and no listener has TLS"),
            "{}",
            told(&text)
        );
        let listen = |listen: &str| format!("{text}\n[target]\nlisten = [{listen}]\n");
        let required = listen("{ address = \"192.0.2.1:4420\", tls = \"required\" }");
        let program = parsed(&required).unwrap();
        let target = &program.engine.target;
        assert_eq!(target.listeners[0].tls, engine::Tls::Required);
        let psk = target.subsystems[0].hosts.as_ref().unwrap()[0]
            .psk
            .clone()
            .unwrap();
        assert_eq!((&*psk.name, &**psk.psk.text()), ("a", PSK));
        assert!(!format!("{:?}", program.engine).contains("AAEC"));
        assert!(!told(&required).contains("TLS"), "{}", told(&required));
        // Nobody has one, and some host has none.
        let none = required.replace(host, "\"nqn.2026-01.x:b\"");
        assert!(
            told(&none).contains("no host has a PSK: nobody gets in there"),
            "{}",
            told(&none)
        );
        let both = required.replace(host, &format!("{host}, \"nqn.2026-01.x:c\""));
        assert!(
            told(&both).contains("nqn.2026-01.x:c is reached by nobody"),
            "{}",
            told(&both)
        );
        for (listeners, why) in [
            (
                "{ address = \"192.0.2.1\", tls = \"maybe\" }",
                "says nothing of TLS",
            ),
            ("{ tls = \"off\" }", "`address` is missing"),
            (
                "{ address = \"192.0.2.1\" }, \"192.0.2.1:4420\"",
                "is listed twice",
            ),
        ] {
            let told = parsed(&listen(listeners)).unwrap_err().to_string();
            assert!(told.contains(why), "{why}: {told}");
        }
    }

    #[test]
    fn what_is_wrong_with_keys_of_hosts_is_said() {
        let key = file(KEY, 0o600);
        for (hosts, why) in [
            (
                "{ nqn = \"nqn.2026-01.x:b\", dhchap_key = \"c\" }",
                "there is no key `c`",
            ),
            (
                "{ nqn = \"nqn.2026-01.x:b\", dhchap_ctrlr_key = \"a\" }",
                "the controller proves who it is",
            ),
            (
                "{ nqn = \"nqn.2026-01.x:b\", psk = \"a\" }",
                "the key `a` is one of DH-HMAC-CHAP",
            ),
            ("{ dhchap_key = \"a\" }", "`nqn` is missing"),
            (
                "\"nqn.2026-01.x:a\", { nqn = \"nqn.2026-01.x:a\", dhchap_key = \"a\" }",
                "twice",
            ),
        ] {
            let text = with_hosts(hosts, &key);
            let told = parsed(&text).unwrap_err().to_string();
            assert!(told.contains(why), "{why}: {told}");
        }
        assert!(told("cores = [1]", "cores = [1]\nkey = [{}]").contains("`name` is missing"));
    }
}
