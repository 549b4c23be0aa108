//! What hostile bytes must not bring about: for tests with random bytes, and for fuzzing with chosen ones.

use mirror::frame::{HEADER, MESSAGE_MAX};
use mirror::{
    Action, Claim, Command, Content, Copying, Differing, Event, GRANULE, Generation, Greeting,
    Header, Incoming, Intent, Meeting, Mirrored, Pair, PairConfig, Ready, Received, ReplicaId,
    Resize, Role, Side, Standing, WINDOW, Wholeness,
};

use super::*;

/// Numbers from the input, small ones more often.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..240 => (small % 12).into(),
            240..250 => (u64::from(self.byte()) << 8) | u64::from(self.byte()),
            _ => u64::MAX >> (self.byte() % 64),
        }
    }
}

/// Any bytes as a header.
pub fn header(input: &[u8]) {
    let mut bytes = [0; HEADER];
    let n = input.len().min(HEADER);
    bytes[..n].copy_from_slice(&input[..n]);
    bytes[..4].copy_from_slice(b"TLMP");
    bytes[4] = mirror::VERSION;
    bytes[52..].fill(0);
    let crc = testkit::crc32c(&bytes);
    bytes[60..].copy_from_slice(&crc.to_le_bytes());
    if let Ok(header) = Header::decode(&bytes, None) {
        assert_eq!(header.encode(None), bytes);
        assert!(header.message_payload as usize <= MESSAGE_MAX);
    }
}

/// Any bytes as what a stranger says: nobody but who has the key gets a session.
pub fn greeting(input: &[u8]) {
    for side in [Side::Opener, Side::Acceptor] {
        let mut ours = Greeting::new(side, node(0), IDS[1], 0, 100, [1; 32], &key());
        let mut bytes = input.to_vec();
        if let Some(frame) = bytes.get_mut(..HEADER) {
            // As far as the checksum lets it.
            frame[60..].fill(0);
            let crc = testkit::crc32c(frame);
            frame[60..].copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok((taken, session)) = ours.receive(&bytes) {
            assert!(taken <= bytes.len() && session.is_none());
        }
    }
}

/// A peer that has the key and says what it likes, while messages of ours wait: what we are told of its messages adds up,
/// and each of ours has one end.
pub fn peer(input: &[u8]) {
    let mut source = Source(input);
    let mut links = [link(0, 100), link(1, 100)];
    let [a, b] = &links;
    let [ours, theirs] = sessions(greet([a, b], 0, 1));
    let mut keyed = theirs.keyed();
    let link = &mut links[0];
    link.attach(ours, T0).expect("a session of now");
    let mut sent = Vec::new();
    for len in [0, 50, 250] {
        sent.push(
            link.send(WRITE, Vec::new(), Bytes(vec![9; len]), T0)
                .expect("room"),
        );
    }
    for _ in 0..source.number() % 6 {
        link.transmit(T0);
    }
    let mut begun: Option<(Incoming, Vec<bool>)> = None;
    let (mut complete, mut to_answer) = (Vec::new(), Vec::new());
    while !source.0.is_empty() {
        let command = (source.number() % 200) as u8;
        let command = Command(if command > 6 { 10 + command } else { command });
        let parameters: Vec<u8> = (0..source.number() % 40).map(|_| source.byte()).collect();
        let payload: Vec<u8> = (0..source.number() % 300).map(|i| i as u8).collect();
        let flags = source.byte();
        let header = Header {
            command,
            more: flags & 1 != 0,
            target: if flags & 6 == 6 {
                source.number() as u32
            } else {
                100
            },
            initiator: if flags & 24 == 24 {
                source.number() as u32
            } else {
                101
            },
            message: source.number(),
            sequence: source.number(),
            parameters: parameters.len() as u32,
            payload: payload.len() as u32,
            message_payload: payload.len() as u32 + source.number() as u32 % 300,
            parameters_crc: checksum::crc32c(&parameters) ^ u32::from(flags >= 240),
            payload_crc: checksum::crc32c(&payload) ^ u32::from(flags & 96 == 96),
        };
        let mut bytes = header.encode(Some(&mut keyed)).to_vec();
        bytes.extend([parameters, payload].concat());
        let mut rest = &bytes[..];
        loop {
            let (taken, received) = link.receive(rest, T0);
            rest = &rest[taken..];
            match received {
                Received::Nothing if taken == 0 => break,
                Received::Nothing => {}
                Received::Begins {
                    message, payload, ..
                } => {
                    assert!(payload <= MESSAGE_MAX);
                    begun = Some((message, vec![false; payload]));
                }
                Received::Payload { message, at } => {
                    let (of, places) = begun.as_mut().expect("it has begun");
                    assert_eq!(*of, message);
                    places[at..at + taken].fill(true);
                }
                Received::Complete(message) => {
                    let (of, places) = begun.take().expect("it has begun");
                    assert!(of == message && places.iter().all(|&place| place));
                    assert!(!complete.contains(&message), "it is executed once");
                    complete.push(message);
                    to_answer.push(message);
                }
            }
        }
        assert!(to_answer.len() <= WINDOW);
        if flags & 128 != 0
            && let Some(message) = to_answer.pop()
        {
            link.answer(message, Ok(()));
        }
        while let Some(event) = link.next_event() {
            if let Event::Answered { message, .. } = event {
                let at = sent.iter().position(|&of| of == message);
                sent.remove(at.expect("one that waits for its answer"));
            }
        }
        said(link, T0);
    }
    let left = link.sever(T0).into_iter().map(|(message, _)| message);
    assert!(left.eq(sent), "none is forgotten");
}

/// A claim as the other node of a pair may make it.
fn meeting(number: u64, answers: u64) -> Meeting {
    Meeting {
        volume: [9; 16],
        number: 0,
        role: Role::Destination,
        is_sized: false,
        len: 8 * GRANULE,
        block: 4096,
        frame: 4096,
        claim: Claim {
            replica: ReplicaId([2; 16]),
            wholeness: Wholeness::Blank,
            generation: Generation { number: 0, tag: 0 },
            record: None,
        },
        differing: 0,
        meeting: number,
        answers,
        severed: 0,
        has_failed: false,
    }
}

/// Parameters of a command, as they may be.
fn parameters(command: Command, meeting_of_ours: u64, number: u64) -> Vec<u8> {
    let generation = Generation { number: 1, tag: 7 };
    match command {
        Command::CLAIM | Command::TABLES => meeting(number, meeting_of_ours).encode(),
        Command::DIFFERING => Differing {
            volume: 0,
            page: 0,
            meeting: meeting_of_ours,
        }
        .encode(),
        Command::READY => Ready {
            volume: 0,
            meeting: meeting_of_ours,
            ticket: number.max(1),
        }
        .encode(),
        Command::DISCARD | Command::ESTABLISH => Intent {
            volume: 0,
            meeting: meeting_of_ours,
        }
        .encode(),
        Command::RESIZE => Resize {
            volume: 0,
            is_made: number.is_multiple_of(2),
            ticket: number,
            len: (1 + number % 12) * GRANULE,
        }
        .encode(),
        _ => Copying {
            volume: 0,
            stays_whole: false,
            ticket: number,
            generation,
        }
        .encode(),
    }
}

/// What a peer that has the key asks of a pair, in any order, with bytes changed: each message has one answer at most, and a source
/// that was not told to is no source no more only if what it hears is a source's claim.
pub fn commands(input: &[u8]) {
    let len = 8 * GRANULE;
    let config = PairConfig {
        volume: [9; 16],
        number: 0,
        len,
        block: 4096,
    };
    let content = Content {
        standing: Standing::first(ReplicaId([1; 16]), 7),
        role: Role::Source,
        peer: None,
        severed: None,
    };
    let shared = std::sync::Arc::new(Mirrored::new(len, len, 1));
    let mut numbers = 0;
    let random = move || {
        numbers += 1;
        numbers
    };
    let mut pair = Pair::new(config, content, None, shared, random, Duration::ZERO);
    pair.up(true);
    let mut source = Source(input);
    let (mut ours, mut heard, mut answered) = (0, 0, 0);
    let mut is_source_said = false;
    for turn in 0..input.len() as u64 / 4 {
        let command = Command(16 + source.byte() % 13);
        let mut bytes = parameters(command, ours, source.number());
        for _ in 0..source.byte() % 4 {
            let at = usize::from(source.byte()) % bytes.len();
            bytes[at] = source.byte();
        }
        is_source_said |= Meeting::decode(&bytes).is_ok_and(|it| it.role != Role::Destination);
        pair.heard(command, bytes, Vec::new(), heard);
        heard += 1;
        let (_, word) = pair.shared().mode();
        pair.shared().acts_by(0, word);
        pair.advance(Duration::from_millis(turn));
        while let Some(action) = pair.next_action() {
            match action {
                Action::Ask {
                    command,
                    parameters,
                    token,
                    ..
                } => {
                    if let (Command::CLAIM, Ok(claim)) = (command, Meeting::decode(&parameters)) {
                        ours = claim.meeting;
                    }
                    pair.answered(token, Ok(()));
                }
                Action::Answer { reply, .. } => {
                    assert!(reply < heard, "nobody asked that");
                    answered += 1;
                }
                Action::Store { token, .. } => pair.stored(token, true),
                Action::Arbitrate { .. } => unreachable!("there is no arbiter"),
                Action::Alert(_) => {}
            }
        }
    }
    assert!(answered <= heard);
    let role = pair.content().role;
    assert!(
        role == Role::Source || is_source_said,
        "{}",
        pair.describe()
    );
}
