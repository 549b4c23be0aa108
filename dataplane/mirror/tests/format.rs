//! What is on the wire: the examples of `docs/mirror-protocol.md`, greetings that are refused, and headers that are.

mod common;

use common::*;
use mirror::frame::{BadHeader, HEADER};
use mirror::{BadGreeting, Command, Greeting, Header, PairKey, Received, Side};

const DOCUMENT: &str = include_str!("../../../docs/mirror-protocol.md");

fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(16).map(|line| {
        let bytes: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_documented(what: &str, bytes: &[u8]) {
    let example = format!("```\n{}\n```", hex(bytes));
    assert!(
        DOCUMENT.contains(&example),
        "{what} in docs/mirror-protocol.md should be:\n{example}"
    );
}

fn greeting(side: Side, key: &PairKey) -> Greeting {
    let (me, peer, number, nonce) = match side {
        Side::Opener => (0, 1, 100, [1; 32]),
        Side::Acceptor => (1, 0, 101, [2; 32]),
    };
    Greeting::new(side, node(me), IDS[peer], 0, number, nonce, key)
}

#[test]
fn k06_the_key_of_tls_is_as_documented_and_each_direction_has_its_own() {
    let ids = [[0xa1; 16], [0xb2; 16]];
    let psk = key().link_psk(&ids[0], &ids[1]);
    is_documented("the key of TLS", &psk.secret);
    assert!(DOCUMENT.contains(&format!("`{}`", psk.identity)));
    assert_eq!(psk.identity.len(), 71);
    let back = key().link_psk(&ids[1], &ids[0]);
    assert_ne!(psk, back);
    assert_ne!(psk.secret, back.secret);
    assert_ne!(
        PairKey::new([8; 32]).link_psk(&ids[0], &ids[1]).secret,
        psk.secret
    );
    assert!(!format!("{psk:?}").contains("secret"));
}

#[test]
fn k06_an_opener_in_the_clear_is_told_that_the_link_is_in_tls() {
    let mut opener = greeting(Side::Opener, &key());
    assert!(opener.receive(&[21, 3]).is_ok(), "it may be anything");
    let told = opener.receive(&[3, 0, 2, 2, 40]).unwrap_err();
    assert_eq!(told, BadGreeting::WantsTls);
    assert!(told.to_string().contains("write the same `tls`"));
    let mut acceptor = greeting(Side::Acceptor, &key());
    let bytes = [21, 3, 3, 0, 2, 2, 40];
    assert!(
        acceptor.receive(&bytes).is_ok(),
        "it is no frame, and not the opener's to tell"
    );
}

#[test]
fn r02_the_examples_are_true() {
    let mut opener = greeting(Side::Opener, &key());
    let mut acceptor = greeting(Side::Acceptor, &key());
    let hello = opener.transmit();
    is_documented("the hello", &hello);
    acceptor.receive(&hello).unwrap();
    opener.receive(&acceptor.transmit()).unwrap();
    let proof = opener.transmit();
    is_documented("the proof", &proof);
    let (_, theirs) = acceptor.receive(&proof).unwrap();
    let (_, ours) = opener.receive(&acceptor.transmit()).unwrap();
    let mut links = [link(0, 1000), link(1, 1000)];
    for (link, session) in links.iter_mut().zip([ours, theirs]) {
        link.attach(session.unwrap(), T0).unwrap();
    }
    let [a, b] = &mut links;
    a.send(WRITE, vec![1, 2, 3], Bytes(b"hello".to_vec()), T0)
        .unwrap();
    let message = said(a, T0).concat();
    is_documented("the message", &message);
    for received in heard(b, &message, T0) {
        if let Received::Complete(message) = received {
            b.answer(message, Ok(()));
        }
    }
    is_documented("the answer", &said(b, T0).concat());
}

/// Nothing comes of a stranger, and it learns nothing.
#[test]
fn r11_who_lacks_the_key_has_no_session() {
    let mut opener = greeting(Side::Opener, &PairKey::new([8; 32]));
    let mut acceptor = greeting(Side::Acceptor, &key());
    acceptor.receive(&opener.transmit()).unwrap();
    opener.receive(&acceptor.transmit()).unwrap();
    assert_eq!(
        acceptor.receive(&opener.transmit()).unwrap_err(),
        BadGreeting::Key
    );
    assert_eq!(
        acceptor.transmit(),
        [],
        "it proves nothing to one that has not"
    );
    // Nor one that sends back what it is sent.
    let mut opener = greeting(Side::Opener, &key());
    let hello = opener.transmit();
    assert_eq!(
        opener.receive(&hello).unwrap_err(),
        BadGreeting::Node(IDS[0])
    );
    // Nor one that has seen a greeting.
    let mut opener = greeting(Side::Opener, &key());
    let mut first = greeting(Side::Acceptor, &key());
    let hello = opener.transmit();
    first.receive(&hello).unwrap();
    opener.receive(&first.transmit()).unwrap();
    let proof = opener.transmit();
    let mut second = Greeting::new(Side::Acceptor, node(1), IDS[0], 0, 101, [3; 32], &key());
    second.receive(&hello).unwrap();
    assert_eq!(second.receive(&proof).unwrap_err(), BadGreeting::Key);
}

#[test]
fn r04_a_node_that_is_not_the_peer_is_refused() {
    let mut acceptor = Greeting::new(Side::Acceptor, node(1), [0xcc; 16], 0, 101, [2; 32], &key());
    let hello = greeting(Side::Opener, &key()).transmit();
    assert_eq!(
        acceptor.receive(&hello).unwrap_err(),
        BadGreeting::Node(IDS[0])
    );
    let mut of_another = node(0);
    of_another.shard = 1;
    let mut opener = Greeting::new(Side::Opener, of_another, IDS[1], 0, 100, [1; 32], &key());
    let refused = greeting(Side::Acceptor, &key())
        .receive(&opener.transmit())
        .unwrap_err();
    assert!(matches!(refused, BadGreeting::Field(_)), "{refused}");
}

/// A greeting in any pieces, with what follows it.
#[test]
fn r02_a_greeting_takes_no_more_than_its_own() {
    for piece in [1, 7, 63, 64, 65, 200, 1000] {
        let mut opener = greeting(Side::Opener, &key());
        let mut acceptor = greeting(Side::Acceptor, &key());
        for chunk in opener.transmit().chunks(piece) {
            assert_eq!(acceptor.receive(chunk).unwrap().0, chunk.len());
        }
        let hello = acceptor.transmit();
        opener.receive(&hello).unwrap();
        let mut bytes = opener.transmit();
        let len = bytes.len();
        bytes.extend([0xee; 50]);
        let (mut taken, mut session) = (0, None);
        while session.is_none() {
            let end = (taken + piece).min(bytes.len());
            let (n, got) = acceptor.receive(&bytes[taken..end]).unwrap();
            taken += n;
            session = got;
        }
        assert_eq!(taken, len);
        assert_eq!(acceptor.receive(&bytes[taken..]).unwrap().0, 0);
    }
}

fn header() -> Header {
    Header {
        command: WRITE,
        more: false,
        target: 101,
        initiator: 100,
        message: 1,
        sequence: 1,
        parameters: 3,
        payload: 5,
        message_payload: 5,
        parameters_crc: 7,
        payload_crc: 8,
    }
}

#[test]
fn r02_a_header_comes_through_and_what_cannot_be_is_refused() {
    assert_eq!(Header::decode(&header().encode(None), None), Ok(header()));
    let decoded = |change: fn(&mut Header)| {
        let mut header = header();
        change(&mut header);
        Header::decode(&header.encode(None), None)
    };
    let good: [fn(&mut Header); 4] = [
        |header| (header.more, header.message_payload) = (true, 6),
        |header| header.parameters = 4096,
        |header| (header.payload, header.message_payload) = (4 << 20, 4 << 20),
        |header| header.message_payload = 64 << 20,
    ];
    for (i, change) in good.into_iter().enumerate() {
        assert!(decoded(change).is_ok(), "case {i}");
    }
    let bad: [fn(&mut Header); 10] = [
        |header| header.initiator = 0,
        |header| header.message = 0,
        |header| header.sequence = 0,
        |header| header.parameters = 4097,
        |header| header.payload = 6,
        |header| (header.payload, header.message_payload) = ((4 << 20) + 1, 5 << 20),
        |header| header.message_payload = (64 << 20) + 1,
        |header| header.command = Command(7),
        |header| header.command = Command(0),
        |header| (header.command, header.sequence) = (Command::ALIVE, 0),
    ];
    for (i, change) in bad.into_iter().enumerate() {
        assert!(decoded(change).is_err(), "case {i}");
    }
    let good = header().encode(None);
    let changed = |at: usize, byte: u8, reseals: bool| {
        let mut bytes = good;
        bytes[at] = byte;
        if reseals {
            bytes[60..].fill(0);
            let crc = testkit::crc32c(&bytes);
            bytes[60..].copy_from_slice(&crc.to_le_bytes());
        }
        Header::decode(&bytes, None)
    };
    assert_eq!(changed(0, b'X', true), Err(BadHeader::Magic));
    assert_eq!(changed(4, 2, true), Err(BadHeader::Version(2)));
    assert_eq!(
        changed(6, 2, true),
        Err(BadHeader::Field("a flag is not known"))
    );
    assert_eq!(
        changed(7, 1, true),
        Err(BadHeader::Field("a flag is not known"))
    );
    assert_eq!(changed(52, 1, true), Err(BadHeader::Key));
    for (at, &byte) in good.iter().enumerate().take(HEADER).skip(8) {
        assert_eq!(
            changed(at, !byte, false),
            Err(BadHeader::Checksum),
            "byte {at}"
        );
    }
}
