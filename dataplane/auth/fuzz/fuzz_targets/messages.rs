//! Any messages, one behind the other, at a controller: none may panic it, and none gets in.
#![no_main]

use std::sync::Arc;

use auth::{Body, Controller, Group, Hash, HostKeys, Key, Message, Names, Policy, Verdict};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let key = Key::new(&[7; 32], Some(Hash::Sha256)).expect("32 bytes");
    let keys = Arc::new(HostKeys {
        host: key.clone(),
        controller: Some(key),
    });
    let policy = Arc::new(Policy {
        hashes: Hash::ALL.to_vec(),
        groups: vec![Group::Null, Group::Ffdhe2048],
    });
    let names = Names {
        host: "nqn.2026-01.com.example:host".into(),
        subsystem: "nqn.2026-01.com.example:disk".into(),
    };
    let mut controller = Controller::new(names, keys, policy);
    let mut rest = data;
    let mut count = 0u8;
    let mut random = |bytes: &mut [u8]| {
        count = count.wrapping_add(1);
        bytes.fill(count);
    };
    while let Some((&len, behind)) = rest.split_first() {
        let (message, behind) = behind.split_at(behind.len().min(4 * usize::from(len)));
        rest = behind;
        // An offer of other protocols alone is written as one of none, which is no offer.
        let no_offer =
            |message: &Message<'_>| matches!(message.body, Body::Negotiate { offer: None, .. });
        if let Ok(message) = Message::read(message)
            && !no_offer(&message)
        {
            assert_eq!(Message::read(&message.write()), Ok(message));
        }
        let step = controller.take(message, &mut random);
        assert_ne!(step.verdict, Some(Verdict::Authenticated));
    }
});
