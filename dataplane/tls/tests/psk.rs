//! Configured PSKs in their text, and what is derived from them.

use proptest::prelude::*;
use tls::{
    ConfiguredPsk, Derivation, Hash, Identity, IdentityVersion, NameTooLong, PSK_TEXT_LEN_MAX,
    PskError, PskTable,
};

const HOST: &str = "nqn.2026-01.com.example:host0";
const DISK: &str = "nqn.2026-01.com.example:disk0";

/// Bytes 00 to 1f; computed by zlib and base64 of Python.
const KNOWN: &str = "NVMeTLSkey-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";

fn hash(number: u8) -> Option<Hash> {
    Hash::ALL.into_iter().find(|hash| *hash as u8 == number)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn keys_are_derived_as_libnvme_does() {
    let mut count = 0;
    let lines = include_str!("psk.txt").lines();
    for line in lines.filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        let [derivation, by, len, secret, identity] = words[..] else {
            panic!("{line}");
        };
        let derivation = (Derivation::ALL.into_iter())
            .find(|known| format!("{known:?}") == derivation)
            .unwrap();
        let bytes: Vec<u8> = (0..len.parse().unwrap()).collect();
        let psk = ConfiguredPsk::new(&bytes, hash(by.parse().unwrap())).unwrap();
        let version = match identity.starts_with("NVMe1") {
            true => IdentityVersion::One,
            false => IdentityVersion::Zero,
        };
        let key = psk.derive(HOST, DISK, version, derivation).unwrap();
        assert_eq!(key.identity().to_string(), identity);
        assert_eq!(hex(key.secret().bytes()), secret, "{line}");
        let read = Identity::read(identity.as_bytes()).expect("it is one");
        assert_eq!(read.to_string(), key.identity());
        assert!(!format!("{key:?} {psk:?}").contains(&secret[..8]));
        count += 1;
    }
    assert_eq!(count, 16);
}

#[test]
fn a_table_has_each_identity_with_the_keys_it_may_mean() {
    let retained = ConfiguredPsk::new(&[1; 32], None).unwrap();
    let configured = ConfiguredPsk::new(&[2; 48], Some(Hash::Sha384)).unwrap();
    let mut table = PskTable::new();
    assert!(table.is_empty());
    table.add(&retained, HOST, DISK).unwrap();
    table.add(&configured, HOST, DISK).unwrap();
    let find = |psk: &ConfiguredPsk, version, derivation| {
        let key = psk.derive(HOST, DISK, version, derivation).unwrap();
        let found = table.find(key.identity().to_string().as_bytes());
        assert!(
            found
                .iter()
                .any(|found| found.secret().bytes() == key.secret().bytes())
        );
        found.len()
    };
    for derivation in Derivation::ALL {
        // Names alone do not tell.
        assert_eq!(find(&retained, IdentityVersion::Zero, derivation), 2);
        assert_eq!(find(&configured, IdentityVersion::Zero, derivation), 2);
        // The digest is of the retained PSK: that may be the configured one.
        assert_eq!(find(&retained, IdentityVersion::One, derivation), 2);
        assert_eq!(find(&configured, IdentityVersion::One, derivation), 1);
    }
    assert!(table.find(b"NVMe0R01 other disk").is_empty());
}

#[test]
fn names_that_are_too_long_for_an_identity_are_told() {
    let psk = ConfiguredPsk::new(&[1; 32], Some(Hash::Sha256)).unwrap();
    let long = "n".repeat(223);
    let derive = |version, derivation| psk.derive(&long, &long, version, derivation).err();
    let rfc = Derivation::Rfc8446;
    assert_eq!(derive(IdentityVersion::Zero, rfc), Some(NameTooLong));
    assert_eq!(derive(IdentityVersion::One, rfc), None);
    assert!(NameTooLong.to_string().contains("255"));
    let mut table = PskTable::new();
    table.add(&psk, &long, &long).unwrap();
    assert!(!table.is_empty());
}

#[test]
fn a_known_text_is_read_and_written() {
    let secret: Vec<u8> = (0..32).collect();
    for (text, by) in [
        (KNOWN.to_owned(), Some(Hash::Sha256)),
        (KNOWN.replace(":01:", ":00:"), None),
    ] {
        let psk = ConfiguredPsk::read(&format!("{text}\n")).unwrap();
        assert_eq!(psk, ConfiguredPsk::new(&secret, by).unwrap());
        assert_eq!(*psk.text(), text);
        assert_eq!(psk.hash(), Hash::Sha256);
        assert_eq!(format!("{psk:?}"), "ConfiguredPsk");
    }
}

#[test]
fn each_fault_has_its_reason() {
    for (text, error) in [
        (String::new(), PskError::Form),
        ("DHHC-1:01:abc:".into(), PskError::Form),
        (KNOWN.trim_end_matches(':').into(), PskError::Form),
        (KNOWN.replace(":01:", ":03:"), PskError::Hash),
        (KNOWN.replace(":01:", ":1:"), PskError::Hash),
        (KNOWN.replace("AAEC", "AA!C"), PskError::Base64),
        (KNOWN.replace("AAEC", ""), PskError::Length),
        ("NVMeTLSkey-1:01::".into(), PskError::Length),
        ("NVMeTLSkey-1:01:AAA=:".into(), PskError::Length),
        (
            format!("NVMeTLSkey-1:01:{}:", "A".repeat(200)),
            PskError::Length,
        ),
        (KNOWN.replace("AAEC", "AAED"), PskError::Checksum),
        (
            KNOWN.replace(":01:", ":02:"),
            PskError::LengthOfHash(Hash::Sha384),
        ),
    ] {
        assert_eq!(ConfiguredPsk::read(&text), Err(error), "{text}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn a_fresh_key_is_as_long_as_its_hash() {
    for hash in Hash::ALL {
        let psk = ConfiguredPsk::generate(hash, &mut |bytes| bytes.fill(7));
        assert_eq!(ConfiguredPsk::read(&psk.text()), Ok(psk.clone()));
        assert_eq!(
            (psk.hash(), psk.text().len() <= PSK_TEXT_LEN_MAX),
            (hash, true)
        );
    }
}

#[test]
fn what_is_no_identity_is_not_read() {
    for text in [
        "",
        "NVMe0R01",
        "NVMe0R01 host",
        "NVMe0R01 host disk digest",
        "NVMe1R01 host disk",
        "NVMe1R01 host disk digest more",
        "NVMe0R03 host disk",
        "NVMe0G01 host disk",
        "NVMe2R01 host disk digest",
        "NVMe0R01  disk",
    ] {
        assert_eq!(Identity::read(text.as_bytes()), None, "{text}");
    }
    assert_eq!(Identity::read(b"NVMe0R01 host \xff"), None);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(NVMeTLSkey-1:0[0-3]:)?[A-Za-z0-9+/=:]{0,90}") {
        if let Ok(psk) = ConfiguredPsk::read(&text) {
            let written = psk.text();
            prop_assert_eq!(written.as_str(), text.trim());
        }
    }

    #[test]
    fn one_wrong_character_is_found(at in 16usize..63, to in "[A-Za-z0-9+/]") {
        let mut text = KNOWN.to_owned();
        text.replace_range(at..=at, &to);
        prop_assert!(text == KNOWN || ConfiguredPsk::read(&text).is_err());
    }

    #[test]
    fn any_identity_is_read_as_it_is_written(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let text = [&b"NVMe0R01 "[..], &bytes].concat();
        if let Some(identity) = Identity::read(&text) {
            prop_assert_eq!(identity.to_string().into_bytes(), text);
        }
    }
}
