//! Any bytes as the first of a connection: no hello panics it, none proves a key, and what is read does not depend on the cut.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tls::{ClientHello, ConfiguredPsk, Hash, Identity, PskTable};

static KEYS: LazyLock<PskTable> = LazyLock::new(|| {
    let mut keys = PskTable::new();
    let psk = ConfiguredPsk::new(&[7; 32], Some(Hash::Sha256)).expect("32 bytes");
    keys.add(&psk, "host", "disk").expect("short names");
    keys
});

fuzz_target!(|data: &[u8]| {
    if let Ok(Some(hello)) = ClientHello::read(data) {
        assert!(hello.choose(&KEYS).is_err());
        for identity in hello.identities() {
            if let Some(read) = Identity::read(identity) {
                assert_eq!(read.to_string().as_bytes(), identity);
            }
        }
        let whole = (0..data.len()).find_map(|len| ClientHello::read(&data[..len]).transpose());
        let is_early = whole.is_none_or(|hello| hello.is_ok());
        assert!(
            is_early,
            "what is a hello does not begin with something else"
        );
    }
});
