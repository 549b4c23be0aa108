//! What Linux says first: ClientHellos of tlshd, as they came.

use tls::{ClientHello, ConfiguredPsk, Derivation, HEADER_LEN, Hash, Identity, NoKey, PskTable};

const DISK: &str = "nqn.2026-01.com.example:flash0";

/// A hello by its name.
fn hello(name: &str) -> Vec<u8> {
    let lines = include_str!("linux.txt").lines();
    let hex = lines.filter_map(|line| line.split_once(' '));
    let (_, hex) = hex.into_iter().find(|(first, _)| *first == name).unwrap();
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// The keys of a host whose configured PSK is 00 01 02 and so on.
fn keys(host: &str, hash: Hash) -> PskTable {
    let bytes: Vec<u8> = (0..hash.len() as u8).collect();
    let psk = ConfiguredPsk::new(&bytes, Some(hash)).unwrap();
    let mut keys = PskTable::new();
    keys.add(&psk, host, DISK).unwrap();
    keys
}

#[test]
fn k07_a_hello_of_tlshd_proves_a_key_of_sha256() {
    let bytes = hello("sha256");
    let hello = ClientHello::read(&bytes).unwrap().unwrap();
    let identities: Vec<_> = hello.identities().filter_map(Identity::read).collect();
    let [identity] = &identities[..] else {
        panic!("{identities:?}");
    };
    assert_eq!(identity.host, "nqn.2026-01.com.example:host11");
    assert_eq!(identity.subsystem, DISK);
    let keys = keys(&identity.host, Hash::Sha256);
    let key = hello.choose(&keys).unwrap();
    assert_eq!(
        (
            Identity::read(key.identity().as_bytes()).as_ref(),
            key.derivation()
        ),
        (Some(identity), Some(Derivation::Libnvme))
    );
    // It is bound to each bit before it, and is nothing before it is whole.
    for at in (HEADER_LEN..bytes.len()).step_by(7) {
        let mut other = bytes.clone();
        other[at] ^= 1;
        let read = ClientHello::read(&other);
        let chosen = read.ok().flatten().map(|hello| hello.choose(&keys).is_ok());
        assert_ne!(chosen, Some(true), "byte {at}");
        assert!(ClientHello::read(&bytes[..at]).unwrap().is_none());
    }
}

/// GnuTLS before 3.8.11 makes every binder with SHA-256; nobody can take such a key, and that it is wrong would be the wrong answer.
#[test]
fn k07_a_hello_of_tlshd_with_a_key_of_sha384_is_told_apart() {
    let hello = ClientHello::read(&hello("sha384")).unwrap().unwrap();
    let first = hello.identities().find_map(Identity::read).unwrap();
    assert_eq!(first.hash, Hash::Sha384);
    let chosen = |host: &str, hash| hello.choose(&keys(host, hash)).map(|_| ());
    assert_eq!(chosen(&first.host, Hash::Sha384), Err(NoKey::HashOfBinder));
    assert_eq!(
        chosen("nqn.2026-01.com.example:host0", Hash::Sha384),
        Err(NoKey::UnknownIdentity)
    );
}
