//! A link to the other node of a pair, over one session after another (rows R5, R6, R11).
//!
//! A *message* asks for something and has one answer. It is one frame, or several if its payload is long.
//! Frames are in sequence over all sessions: what comes twice is executed once, what comes damaged is asked for
//! again with all that followed, and what a session has left unanswered is sent again over the next one.

mod receive;
mod send;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use events::tracepoint::Name;
use mutant::mutant;

use crate::counters::LaneCounters;
use crate::frame::{BadHeader, Command, PAYLOAD_MAX};
use crate::greeting::{Node, Session};
use crate::parameters::Refusal;

use receive::Receiving;
use send::Sending;

/// Messages without an answer, each way, at most.
pub const WINDOW: usize = 256;

/// What a message carries: the owner's, which keeps its bytes as they are until the answer.
pub trait Payload {
    /// Bytes.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// CRC32C of bytes `range`.
    fn checksum(&self, range: std::ops::Range<usize>) -> u32;
}

/// How patient a link is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A message that has no answer for so long is sent again, over another session.
    pub answer: Duration,
    /// How often that is done.
    pub tries: u32,
    /// Something is said at least that often.
    pub alive: Duration,
    /// A peer that says nothing for so long has no session any more.
    pub silence: Duration,
    /// Without a session for so long, what its end was waited for included, the link is given up.
    pub absence: Duration,
}

impl Patience {
    /// How long after a connection ended the next one is opened.
    pub(crate) fn again(&self) -> Duration {
        self.answer / 15
    }

    /// How long one that does not answer is waited for until another way is tried beside it.
    pub(crate) fn next_way(&self) -> Duration {
        self.answer / 6
    }
}

impl Default for Patience {
    /// Severed within 5 s: hosts are patient for 30 s.
    fn default() -> Self {
        Self {
            answer: Duration::from_millis(1500),
            tries: 2,
            alive: Duration::from_millis(500),
            silence: Duration::from_millis(1500),
            absence: Duration::from_secs(4),
        }
    }
}

/// Names a message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// Names a message of the peer's until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incoming {
    /// Of what both remembered when it came.
    pub(crate) history: u64,
    pub(crate) message: u64,
}

/// Why a session is of no use any more: its connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// What came is no frame of the session.
    Header(BadHeader),
    /// The peer does what it must not.
    Protocol(&'static str),
    /// It has not answered a message in time.
    NoAnswer(MessageId),
    /// It has said nothing for too long.
    Silent,
    /// The connection ended.
    Closed,
    /// Another session has taken its place.
    Replaced,
}

impl Broken {
    /// What tracers know it by.
    pub(crate) fn name(self) -> Name {
        Name::new(match self {
            Self::Header(_) => "header\0",
            Self::Protocol(_) => "protocol\0",
            Self::NoAnswer(_) => "no_answer\0",
            Self::Silent => "silent\0",
            Self::Closed => "closed\0",
            Self::Replaced => "replaced\0",
        })
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(bad) => bad.fmt(f),
            Self::Protocol(what) => f.write_str(what),
            Self::NoAnswer(message) => write!(f, "message {} has no answer", message.0),
            Self::Silent => f.write_str("the peer says nothing"),
            Self::Closed => f.write_str("the connection ended"),
            Self::Replaced => f.write_str("a newer connection has taken its place"),
        }
    }
}

/// A session's greeting began before the last one ended, or is of others than these two: it is of no use, and its
/// connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale;

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a session that began before the last one, or of another link")
    }
}

impl std::error::Error for Stale {}

/// What the owner is to know.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<P> {
    /// There is a session.
    Up {
        /// One of both has forgotten what came before, as its run, or the pair, is another one: what either asked
        /// for before is [lost](Event::Lost), and incoming messages of before have nobody to answer to.
        anew: bool,
    },
    /// There is none any more.
    Down(Broken),
    /// A message of ours was answered.
    Answered {
        /// Which.
        message: MessageId,
        /// Executed, or why not.
        result: Result<(), Refusal>,
        /// Its payload.
        payload: P,
    },
    /// The peer has forgotten the message, or was to: it was executed, or not.
    Lost {
        /// Which.
        message: MessageId,
        /// Its payload.
        payload: P,
    },
    /// Too many tries, or no session for too long (row R6): the pair is to be severed, and the operator told. Once,
    /// until there is a session again.
    GaveUp,
}

/// What came of the peer's messages.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing for the owner.
    Nothing,
    /// A message begins, or begins again because its first frame came damaged.
    Begins {
        /// Which.
        message: Incoming,
        /// What it asks for.
        command: Command,
        /// How.
        parameters: Vec<u8>,
        /// Bytes of payload that follow.
        payload: usize,
    },
    /// The bytes taken are payload.
    Payload {
        /// Of which message.
        message: Incoming,
        /// Where they are in it; may be lower than before, where they came damaged.
        at: usize,
    },
    /// The message is there, intact. It is to be executed and [answered](Link::answer).
    Complete(Incoming),
}

/// Bytes to be sent, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Outgoing<'a, P> {
    /// The header, and parameters.
    pub head: Vec<u8>,
    /// The payload behind it.
    pub payload: Option<(&'a P, std::ops::Range<usize>)>,
}

/// A session as the link uses it.
struct Current {
    session: Session,
    heard: Duration,
    said: Duration,
}

/// The link of one node to another.
pub struct Link<P> {
    me: Node,
    peer: [u8; 16],
    patience: Patience,
    /// Names what both remember of messages; 0: nothing.
    history: u64,
    current: Option<Current>,
    /// Since when there is no session.
    absent: Duration,
    has_given_up: bool,
    gives_up_idle: bool,
    sending: Sending<P>,
    receiving: Receiving,
    events: VecDeque<Event<P>>,
    counters: LaneCounters,
}

impl<P: Payload> Link<P> {
    /// From `me` to the node `peer`; frames have payload of at most `frame` bytes (row R3: the standard frame size).
    pub fn new(me: Node, peer: [u8; 16], frame: usize, patience: Patience, now: Duration) -> Self {
        Self {
            me,
            peer,
            patience,
            history: 0,
            current: None,
            absent: now,
            has_given_up: false,
            gives_up_idle: true,
            sending: Sending::new(frame.clamp(1, PAYLOAD_MAX)),
            receiving: Receiving::new(),
            events: VecDeque::new(),
            counters: LaneCounters::default(),
        }
    }

    /// Without a session it is given up only if a message has waited for one for so long: another link tells whether the peer is there.
    pub fn keep_while_idle(&mut self) {
        self.gives_up_idle = false;
    }

    /// What it has done.
    pub fn counters(&self) -> &LaneCounters {
        &self.counters
    }

    /// Frames of messages from now on have payload of at most `frame` bytes.
    pub fn set_frame_size(&mut self, frame: usize) {
        self.sending.set_frame_size(frame.clamp(1, PAYLOAD_MAX));
    }

    /// Names what it remembers of messages, for the next [`Greeting`](crate::Greeting).
    pub fn history(&self) -> u64 {
        self.history
    }

    /// Whether there is a session.
    pub fn is_up(&self) -> bool {
        self.current.is_some()
    }

    /// When the peer was last heard, if there is a session: what a source without a lease counts by.
    pub fn heard(&self) -> Option<Duration> {
        self.current.as_ref().map(|current| current.heard)
    }

    /// Takes a session; one that there was is [broken](Broken::Replaced), and what it had not answered goes over this one.
    ///
    /// # Errors
    /// [`Stale`]; the link is as before.
    pub fn attach(&mut self, session: Session, now: Duration) -> Result<(), Stale> {
        let (mine, theirs) = (&session.mine, &session.theirs);
        let is_ours =
            mine.node == self.me && theirs.node.id == self.peer && mine.history == self.history;
        if !is_ours {
            return Err(Stale);
        }
        self.break_off(Broken::Replaced, now);
        let anew = mine.history == 0 || mine.history != theirs.history;
        if anew && !mutant!("mirror-history-ignored") {
            for (message, payload) in self.sending.forget() {
                self.events.push_back(Event::Lost { message, payload });
            }
            self.receiving = Receiving::new();
            self.history = session.history;
        }
        self.sending.begin(theirs.window as usize, now);
        self.receiving.begin();
        self.current = Some(Current {
            session,
            heard: now,
            said: now,
        });
        self.has_given_up = false;
        self.counters.sessions += 1;
        self.events.push_back(Event::Up { anew });
        Ok(())
    }

    /// The connection of the session ended.
    pub fn closed(&mut self, now: Duration) {
        self.break_off(Broken::Closed, now);
    }

    fn break_off(&mut self, why: Broken, now: Duration) {
        if let Some(current) = self.current.take() {
            self.absent = match why {
                Broken::Silent => current.heard,
                Broken::NoAnswer(_) => now.saturating_sub(self.patience.answer),
                _ => now,
            };
            self.counters.sessions_ended += 1;
            self.events.push_back(Event::Down(why));
        }
    }

    /// Looks at the time; to be called every few milliseconds.
    pub fn advance(&mut self, now: Duration) {
        let patience = self.patience;
        match &self.current {
            Some(current) if now >= current.heard + patience.silence => {
                self.break_off(Broken::Silent, now);
            }
            Some(_) => {
                if let Some((message, tries)) = self.sending.late(now, patience.answer) {
                    if tries > patience.tries {
                        self.give_up();
                    }
                    self.break_off(Broken::NoAnswer(message), now);
                } else {
                    self.receiving.remind(now, patience.answer);
                }
            }
            None => {
                let since = match self.gives_up_idle {
                    true => Some(self.absent),
                    false => (self.sending.waits_since()).map(|since| since.max(self.absent)),
                };
                if since.is_some_and(|since| now >= since + patience.absence) {
                    self.give_up();
                }
            }
        }
    }

    fn give_up(&mut self) {
        if !std::mem::replace(&mut self.has_given_up, true) {
            self.events.push_back(Event::GaveUp);
        }
    }

    /// What happened since it was last asked.
    pub fn next_event(&mut self) -> Option<Event<P>> {
        self.events.pop_front()
    }

    /// Whether one more message can be [sent](Link::send).
    pub fn has_room(&self) -> bool {
        self.sending.has_room()
    }

    /// Messages of ours without an answer.
    pub fn unanswered(&self) -> usize {
        self.sending.len()
    }

    /// Asks the peer for something, now or when there is a session.
    ///
    /// # Errors
    /// The payload comes back if there is no [room](Link::has_room), or it or the parameters are too long, or
    /// `command` asks for nothing.
    pub fn send(
        &mut self,
        command: Command,
        parameters: Vec<u8>,
        payload: P,
        now: Duration,
    ) -> Result<MessageId, P> {
        self.sending.push(command, parameters, payload, now)
    }

    /// The pair was severed: gives back what has no answer, in order, which the peer may have executed or not. The session,
    /// if there is one, is [broken](Broken::Closed), and the next one is the first of its kind.
    pub fn sever(&mut self, now: Duration) -> Vec<(MessageId, P)> {
        self.break_off(Broken::Closed, now);
        // The peer sees by it that this is so.
        self.history = 0;
        // What waits from now on waits as long again.
        self.has_given_up &= self.gives_up_idle;
        self.sending.forget()
    }

    /// Answers a message that is [complete](Received::Complete). An answer to one of a run that is over goes nowhere.
    pub fn answer(&mut self, message: Incoming, result: Result<(), Refusal>) {
        if message.history == self.history {
            self.receiving.answer(message.message, result);
        }
    }

    /// Bytes to be sent next, if any.
    pub fn transmit(&mut self, now: Duration) -> Option<Outgoing<'_, P>> {
        let current = self.current.as_mut()?;
        let is_quiet = now >= current.said + self.patience.alive;
        let session = &mut current.session;
        let counters = &mut self.counters;
        if let Some(head) = self.receiving.transmit(session, now) {
            current.said = now;
            counters.sent(head.len());
            return Some(Outgoing {
                head,
                payload: None,
            });
        }
        if let Some(outgoing) = self.sending.transmit(session, now, counters) {
            current.said = now;
            let payload = outgoing.payload.as_ref();
            let payload = payload.map_or(0, |(_, range)| range.len());
            counters.sent(outgoing.head.len() + payload);
            return Some(outgoing);
        }
        is_quiet.then(|| {
            current.said = now;
            let head = send::frame(session, Command::ALIVE, 0, &[]);
            counters.sent(head.len());
            Outgoing {
                head,
                payload: None,
            }
        })
    }

    /// Takes bytes of the session's connection: how many, and what they were. To be called until it takes none and gives
    /// nothing. Those that follow a session that broke are of nobody.
    pub fn receive(&mut self, bytes: &[u8], now: Duration) -> (usize, Received) {
        let Some(current) = &mut self.current else {
            return (bytes.len(), Received::Nothing);
        };
        let counters = &mut self.counters;
        let session = &mut current.session;
        let (taken, frame) = match (self.receiving).take(bytes, session, self.history, counters) {
            Ok(taken) => taken,
            Err(broken) => {
                self.break_off(broken, now);
                return (bytes.len(), Received::Nothing);
            }
        };
        self.counters.bytes_received += taken as u64;
        if self.receiving.was_heard() {
            current.heard = now;
        }
        let received = match frame {
            receive::Frame::Part => Received::Nothing,
            receive::Frame::Message(received) => received,
            receive::Frame::Answer(header, parameters) => {
                let answered = self
                    .sending
                    .answered(&header, &parameters, &mut self.events, now);
                if let Err(broken) = answered {
                    self.break_off(broken, now);
                    return (bytes.len(), Received::Nothing);
                }
                if header.command == Command::ERROR {
                    self.receiving.error_arrived(header.message);
                }
                Received::Nothing
            }
        };
        (taken, received)
    }
}
