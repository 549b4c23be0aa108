//! The link of a mirrored pair: two nodes whose connections are cut, whose bytes are changed, and whose runs end
//! (rows R5, R6, R11). Each message is executed at most once, in order, as it was sent; it is answered as it was executed,
//! or nobody knows; and when nothing goes wrong any more, nothing waits.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use mirror::{
    Command, Event, Greeting, Incoming, Link, MessageId, Node, PairKey, Patience, Payload,
    Received, Refusal, Session, Side,
};
use testkit::Random;

use crate::clock;
use crate::oracle::Violation;
use crate::trace::{Trace, event};
use crate::world::Summary;

/// What messages of the simulation ask for.
const WORK: Command = Command(16);
const IDS: [[u8; 16]; 2] = [[0xa1; 16], [0xb2; 16]];
/// Steps in which things go wrong, and at most so many in which they do not.
const STEPS: [u64; 2] = [3000, 50_000];

#[derive(Debug)]
struct Bytes(Vec<u8>);

impl Payload for Bytes {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn checksum(&self, range: Range<usize>) -> u32 {
        checksum::crc32c(&self.0[range])
    }
}

/// A run of a node, and a message of it.
type Name = (u64, u64);

/// A message, as the one that sent it and the one that executes it know it.
struct Sent {
    parameters: Vec<u8>,
    payload: Vec<u8>,
    executed: Option<Result<(), Refusal>>,
}

/// A message that comes in: its parameters, and what there is of its payload.
type Begun = (Incoming, Vec<u8>, Vec<Option<u8>>);

struct End {
    link: Link<Bytes>,
    run: u64,
    /// What it sent in all of its runs.
    sent: BTreeMap<Name, Sent>,
    /// Messages that have neither an answer nor are lost.
    waits: BTreeMap<MessageId, Name>,
    begun: Option<Begun>,
    /// Executed, and not answered.
    to_answer: Vec<(Incoming, Result<(), Refusal>)>,
    /// Bytes on their way to it.
    wire: VecDeque<u8>,
    /// Frames to it that somebody has seen, and kept.
    seen: Vec<Vec<u8>>,
    /// The last message of the other one that it executed.
    last: Name,
}

struct World {
    random: Random,
    trace: Trace,
    ends: [End; 2],
    /// Connections so far.
    connections: u32,
    is_connected: bool,
    steps: u64,
    executed: u64,
    compared: u64,
    restarts: u64,
}

/// Runs the seed.
///
/// # Errors
/// Messages that are not at their end. What else must not be is a panic.
pub(crate) fn run(seed: u64, trace: &Trace) -> Result<Summary, Violation> {
    clock::set(0);
    let mut world = World::new(Random::new(seed), trace);
    for _ in 0..STEPS[0] {
        world.step(false);
    }
    for _ in 0..STEPS[1] {
        if world.waits() == 0 {
            return Ok(world.summary());
        }
        world.step(true);
    }
    let waits = world.waits();
    Err(Violation(format!("{waits} messages wait for their end")))
}

fn now() -> Duration {
    Duration::from_nanos(clock::now())
}

fn key() -> PairKey {
    PairKey::new([7; 32])
}

fn node(side: usize) -> Node {
    Node {
        id: IDS[side],
        shard: 0,
    }
}

fn link(side: usize, frame: usize) -> Link<Bytes> {
    Link::new(node(side), IDS[1 - side], frame, Patience::default(), now())
}

impl World {
    fn new(random: Random, trace: &Trace) -> Self {
        let mut random = random;
        let frame = *random.pick(&[40, 100, 1000, 1 << 20]);
        let ends = [0, 1].map(|side| End {
            link: link(side, frame),
            run: 1,
            sent: BTreeMap::new(),
            waits: BTreeMap::new(),
            begun: None,
            to_answer: Vec::new(),
            wire: VecDeque::new(),
            seen: Vec::new(),
            last: (0, 0),
        });
        Self {
            random,
            trace: trace.clone(),
            ends,
            connections: 0,
            is_connected: false,
            steps: 0,
            executed: 0,
            compared: 0,
            restarts: 0,
        }
    }

    fn summary(&self) -> Summary {
        Summary {
            digest: self.trace.digest(),
            steps: self.steps,
            nanoseconds: clock::now(),
            requests: self.executed,
            sectors: self.compared / 512,
            crashes: self.restarts,
        }
    }

    /// Messages that are not at their end.
    fn waits(&self) -> usize {
        self.ends.iter().map(|end| end.waits.len()).sum()
    }

    fn step(&mut self, is_calm: bool) {
        self.steps += 1;
        clock::set(clock::now() + self.random.below(10) * clock::MILLISECOND);
        let side = self.random.below(2usize);
        match self.random.below(1000) {
            0..100 if !is_calm => self.send(side),
            100..400 => self.move_bytes(side),
            400..500 => self.answer(side),
            500..505 if !is_calm => self.cut(),
            505..520 if !is_calm => self.damage(side),
            520..525 if !is_calm => self.replay(side),
            525 if !is_calm => self.restart(side),
            526 if !is_calm => self.sever(side),
            530..570 => self.connect(),
            _ => self.transmit(side),
        }
        for side in 0..2 {
            self.ends[side].link.advance(now());
            self.events(side);
        }
    }

    fn send(&mut self, side: usize) {
        let (random, side) = (&mut self.random, &mut self.ends[side]);
        if !side.link.has_room() {
            return;
        }
        let name = (side.run, side.sent.len() as u64 + 1);
        let len = *random.pick(&[0, 1, 99, 100, 101, 250, 3000]);
        let mut parameters = [name.0.to_le_bytes(), name.1.to_le_bytes()].concat();
        parameters.extend(random.bytes(len % 60));
        let payload = random.bytes(len);
        let bytes = Bytes(payload.clone());
        let message = (side.link).send(WORK, parameters.clone(), bytes, now());
        side.waits.insert(message.expect("room"), name);
        let executed = None;
        let sent = Sent {
            parameters,
            payload,
            executed,
        };
        side.sent.insert(name, sent);
        event!(
            self.trace,
            "send",
            [name.0, name.1],
            "{name:?}, {len} bytes"
        );
    }

    /// What one says goes on its way.
    fn transmit(&mut self, side: usize) {
        for _ in 0..1 + self.random.below(8) {
            let Some(outgoing) = self.ends[side].link.transmit(now()) else {
                return;
            };
            let mut bytes = outgoing.head;
            if let Some((payload, range)) = outgoing.payload {
                bytes.extend_from_slice(&payload.0[range]);
            }
            if self.is_connected {
                let other = &mut self.ends[1 - side];
                if self.random.one_in(20) {
                    other.seen.push(bytes.clone());
                }
                other.wire.extend(bytes);
            }
        }
    }

    /// Some bytes arrive.
    fn move_bytes(&mut self, to: usize) {
        let n = self.random.below(5000usize).min(self.ends[to].wire.len());
        let bytes: Vec<u8> = self.ends[to].wire.drain(..n).collect();
        let mut rest = &bytes[..];
        loop {
            let (taken, received) = self.ends[to].link.receive(rest, now());
            let (part, behind) = rest.split_at(taken);
            rest = behind;
            let side = &mut self.ends[to];
            match received {
                Received::Nothing if taken == 0 => break,
                Received::Nothing => {}
                Received::Begins {
                    message,
                    command,
                    parameters,
                    payload,
                } => {
                    assert_eq!(command, WORK);
                    side.begun = Some((message, parameters, vec![None; payload]));
                }
                Received::Payload { message, at } => {
                    let begun = side.begun.as_mut().expect("it has begun");
                    assert_eq!(begun.0, message);
                    for (place, byte) in begun.2[at..at + part.len()].iter_mut().zip(part) {
                        *place = Some(*byte);
                    }
                }
                Received::Complete(message) => self.execute(to, message),
            }
        }
        assert!(rest.is_empty());
    }

    fn execute(&mut self, to: usize, message: Incoming) {
        let (begun, parameters, payload) = self.ends[to].begun.take().expect("it has begun");
        assert_eq!(begun, message);
        let payload: Option<Vec<u8>> = payload.into_iter().collect();
        let number = |at: usize| u64::from_le_bytes(parameters[at..at + 8].try_into().unwrap());
        let name = (number(0), number(8));
        let sent = self.ends[1 - to]
            .sent
            .get_mut(&name)
            .expect("a message that was sent");
        assert_eq!(parameters, sent.parameters);
        assert_eq!(payload.as_ref(), Some(&sent.payload), "{name:?}");
        assert_eq!(sent.executed, None, "{name:?} is executed twice");
        let result = match self.random.below(4) {
            0 => Err(Refusal {
                nature: self.random.below(9),
                text: "no".into(),
            }),
            _ => Ok(()),
        };
        sent.executed = Some(result.clone());
        let side = &mut self.ends[to];
        assert!(name > side.last, "{name:?} comes behind {:?}", side.last);
        side.last = name;
        let is_well = result.is_ok();
        event!(
            self.trace,
            "execute",
            [to, name.0, name.1],
            "{name:?} at {to}: {is_well}"
        );
        side.to_answer.push((message, result));
        self.executed += 1;
        self.compared += parameters.len() as u64 + payload.map_or(0, |all| all.len() as u64);
    }

    fn answer(&mut self, side: usize) {
        let side = &mut self.ends[side];
        if !side.to_answer.is_empty() {
            let which = self.random.below(side.to_answer.len());
            let (message, result) = side.to_answer.remove(which);
            side.link.answer(message, result);
        }
    }

    fn events(&mut self, of: usize) {
        while let Some(event) = self.ends[of].link.next_event() {
            let [side, other] = match &mut self.ends {
                [a, b] if of == 0 => [a, b],
                [a, b] => [b, a],
            };
            match event {
                Event::Up { anew } => {
                    event!(self.trace, "up", [of, anew], "at {of}, anew: {anew}");
                }
                Event::GaveUp => event!(self.trace, "gave up", [of], "at {of}"),
                Event::Down(why) => {
                    event!(self.trace, "down", [of], "at {of}: {why}");
                    // Its connection is closed: what is on the way does not arrive.
                    self.is_connected = false;
                    side.wire.clear();
                    other.wire.clear();
                    other.link.closed(now());
                }
                Event::Answered {
                    message,
                    result,
                    payload,
                } => {
                    let name = side.waits.remove(&message).expect("it has no answer");
                    assert_eq!(side.sent[&name].executed, Some(result), "{name:?}");
                    assert_eq!(side.sent[&name].payload, payload.0);
                }
                Event::Lost { message, payload } => {
                    let name = side.waits.remove(&message).expect("it has no answer");
                    assert_eq!(side.sent[&name].payload, payload.0);
                    event!(self.trace, "lost", [of, name.1], "{name:?}");
                }
            }
        }
    }

    /// The connection breaks: what is on the way does not arrive.
    fn cut(&mut self) {
        let now = now();
        for side in &mut self.ends {
            side.wire.clear();
            side.link.closed(now);
        }
        self.is_connected = false;
    }

    /// A byte on the way is another one.
    fn damage(&mut self, to: usize) {
        let wire = &mut self.ends[to].wire;
        if !wire.is_empty() {
            let at = self.random.below(wire.len());
            wire[at] ^= 1 << self.random.below(8);
            event!(
                self.trace,
                "damage",
                [to, at],
                "byte {at} on the way to {to}"
            );
        }
    }

    /// Somebody sends a frame once more, in this session or another one.
    fn replay(&mut self, to: usize) {
        let end = &mut self.ends[to];
        if !end.seen.is_empty() && self.is_connected {
            let which = self.random.below(end.seen.len());
            event!(self.trace, "replay", [to, which], "frame {which} to {to}");
            end.wire.extend(&end.seen[which]);
        }
    }

    /// A node's run ends, and another one begins.
    fn restart(&mut self, side: usize) {
        self.cut();
        for of in 0..2 {
            self.events(of);
        }
        self.restarts += 1;
        event!(self.trace, "restart", [side], "of {side}");
        let side_of = &mut self.ends[side];
        side_of.run += 1;
        side_of.link = link(side, 500);
        // What it sent is forgotten; what was executed stays.
        side_of.waits.clear();
        side_of.to_answer.clear();
        side_of.begun = None;
    }

    fn sever(&mut self, side: usize) {
        event!(self.trace, "sever", [side], "at {side}");
        let side = &mut self.ends[side];
        for (message, _) in side.link.sever(now()) {
            side.waits.remove(&message).expect("it has no answer");
        }
    }

    fn connect(&mut self) {
        if self.is_connected {
            return;
        }
        self.connections += 1;
        let opener = self.random.below(2usize);
        let greetings = [0, 1].map(|side| {
            let role = if side == opener {
                Side::Opener
            } else {
                Side::Acceptor
            };
            let history = self.ends[side].link.history();
            let number = 100 + side as u32;
            let mut nonce = [side as u8; 32];
            nonce[..4].copy_from_slice(&self.connections.to_le_bytes());
            Greeting::new(
                role,
                node(side),
                IDS[1 - side],
                history,
                number,
                nonce,
                &key(),
            )
        });
        let sessions = sessions(greetings);
        let is_lost = self.random.one_in(8);
        for (of, (side, session)) in self.ends.iter_mut().zip(sessions).enumerate() {
            // The opener never learns that it was taken.
            if !(is_lost && of == opener) {
                side.link.attach(session, now()).expect("a session of now");
            }
        }
        self.is_connected = true;
    }
}

/// Lets two greetings talk to each other.
fn sessions(mut greetings: [Greeting; 2]) -> [Session; 2] {
    let mut sessions = [None, None];
    for turn in 0..8 {
        let said = greetings[turn % 2].transmit();
        let heard = greetings[1 - turn % 2].receive(&said);
        let (taken, session) = heard.expect("a good greeting");
        assert_eq!(taken, said.len());
        if session.is_some() {
            sessions[1 - turn % 2] = session;
        }
    }
    sessions.map(|session| session.expect("both have the key"))
}
