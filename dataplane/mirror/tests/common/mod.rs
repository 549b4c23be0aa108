//! Two nodes, and the connections between them.
#![allow(dead_code, missing_docs)]

pub mod inputs;

use std::ops::Range;
use std::time::Duration;

use mirror::{
    Command, Event, Greeting, Link, Node, PairKey, Patience, Payload, Received, Session, Side,
};

pub const WRITE: Command = Command(16);
pub const IDS: [[u8; 16]; 2] = [[0xa1; 16], [0xb2; 16]];
pub const T0: Duration = Duration::from_secs(1);

pub fn key() -> PairKey {
    PairKey::new([7; 32])
}

pub fn node(side: usize) -> Node {
    Node {
        id: IDS[side],
        shard: 0,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Payload for Bytes {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn checksum(&self, range: Range<usize>) -> u32 {
        checksum::crc32c(&self.0[range])
    }
}

pub type TestLink = Link<Bytes>;

pub fn link(side: usize, frame: usize) -> TestLink {
    Link::new(node(side), IDS[1 - side], frame, Patience::default(), T0)
}

/// The greetings of a connection that node `opener` has opened.
pub fn greet(links: [&TestLink; 2], opener: usize, nonce: u8) -> [Greeting; 2] {
    [0, 1].map(|side| {
        let role = if side == opener {
            Side::Opener
        } else {
            Side::Acceptor
        };
        let me = node(side);
        let number = 100 + side as u32;
        let nonce = [nonce + side as u8; 32];
        Greeting::new(
            role,
            me,
            IDS[1 - side],
            links[side].history(),
            number,
            nonce,
            &key(),
        )
    })
}

/// Lets two greetings talk to each other.
pub fn sessions(mut greetings: [Greeting; 2]) -> [Session; 2] {
    let mut sessions = [None, None];
    for turn in 0..8 {
        let said = greetings[turn % 2].transmit();
        let (taken, session) = greetings[1 - turn % 2]
            .receive(&said)
            .expect("a good greeting");
        assert_eq!(taken, said.len());
        if session.is_some() {
            sessions[1 - turn % 2] = session;
        }
    }
    sessions.map(|session| session.expect("both are there"))
}

/// Both links with a session.
pub fn connect(links: &mut [TestLink; 2], nonce: u8, now: Duration) {
    let [a, b] = &*links;
    let sessions = sessions(greet([a, b], 0, nonce));
    for (link, session) in links.iter_mut().zip(sessions) {
        link.attach(session, now).expect("a session of now");
    }
}

pub fn pair() -> [TestLink; 2] {
    let mut links = [link(0, 1000), link(1, 1000)];
    connect(&mut links, 1, T0);
    for link in &mut links {
        assert_eq!(link.next_event(), Some(Event::Up { anew: true }));
    }
    links
}

/// All that a link has to say, frame by frame.
pub fn said(link: &mut TestLink, now: Duration) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some(outgoing) = link.transmit(now) {
        let mut frame = outgoing.head;
        if let Some((payload, range)) = outgoing.payload {
            frame.extend_from_slice(&payload.0[range]);
        }
        frames.push(frame);
    }
    frames
}

/// What a link makes of bytes.
pub fn heard(link: &mut TestLink, mut bytes: &[u8], now: Duration) -> Vec<Received> {
    let mut all = Vec::new();
    loop {
        let (taken, received) = link.receive(bytes, now);
        bytes = &bytes[taken..];
        if taken == 0 && received == Received::Nothing {
            assert!(bytes.is_empty());
            return all;
        }
        if received != Received::Nothing {
            all.push(received);
        }
    }
}

pub fn events(link: &mut TestLink) -> Vec<Event<Bytes>> {
    std::iter::from_fn(|| link.next_event()).collect()
}
