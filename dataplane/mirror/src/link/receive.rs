//! Messages of the peer, from their first bytes to what it is answered.

use std::collections::VecDeque;
use std::time::Duration;

use checksum::Crc32c;
use mutant::mutant;

use super::send::frame;
use super::{Broken, Incoming, Received, WINDOW};
use crate::counters::LaneCounters;
use crate::frame::{Command, HEADER, Header};
use crate::greeting::Session;
use crate::parameters::{ErrorReply, Refusal};

/// Acknowledgements in one frame.
const TOGETHER: usize = 64;

/// What was taken of a connection's bytes.
pub(super) enum Frame {
    /// Nothing that is of use yet, or ever.
    Part,
    /// Something of a message.
    Message(Received),
    /// An answer.
    Answer(Header, Vec<u8>),
}

/// A message that is there, intact.
struct Pending {
    message: u64,
    /// Of its last frame.
    sequence: u64,
    answer: Option<Result<(), Refusal>>,
    /// When its error was sent, until the peer says that it has arrived.
    reminds: Option<Duration>,
}

/// A message of which frames are there, and more follow.
#[derive(Clone, Copy)]
struct Open {
    message: u64,
    command: Command,
    /// Bytes of payload that are there.
    at: usize,
    total: u32,
}

/// Which part of a frame comes next.
enum Next {
    Header,
    Parameters(Header),
    Payload {
        header: Header,
        done: usize,
        is_wanted: bool,
    },
    End {
        header: Header,
        is_wanted: bool,
    },
}

pub(super) struct Receiving {
    /// The sequence of the next frame that is wanted.
    expected: u64,
    last_message: u64,
    open: Option<Open>,
    /// The last [`WINDOW`] messages: the peer may ask for the answer of any of them again.
    pending: VecDeque<Pending>,
    to_answer: VecDeque<u64>,
    /// Errors that arrived, to be acknowledged.
    arrived: VecDeque<u64>,
    /// A message of which a frame came damaged, and that frame's sequence.
    damaged: Option<(u64, u64)>,
    /// Frames from the expected one on were asked for again: what comes before that is not wanted.
    is_behind: bool,
    next: Next,
    header: [u8; HEADER],
    filled: usize,
    parameters: Vec<u8>,
    crc: Crc32c,
    /// Something came that the peer has sent in this session, and nobody else.
    was_heard: bool,
}

impl Receiving {
    pub(super) fn new() -> Self {
        Self {
            expected: 1,
            last_message: 0,
            open: None,
            pending: VecDeque::new(),
            to_answer: VecDeque::new(),
            arrived: VecDeque::new(),
            damaged: None,
            is_behind: false,
            next: Next::Header,
            header: [0; HEADER],
            filled: 0,
            parameters: Vec::new(),
            crc: Crc32c::default(),
            was_heard: false,
        }
    }

    /// Whether the peer was heard since it was last asked.
    pub(super) fn was_heard(&mut self) -> bool {
        std::mem::take(&mut self.was_heard)
    }

    /// A session begins.
    pub(super) fn begin(&mut self) {
        (self.next, self.filled) = (Next::Header, 0);
        (self.damaged, self.is_behind) = (None, false);
        self.arrived.clear();
        self.crc.end();
    }

    /// Takes the next bytes: how many, and what they were.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        session: &mut Session,
        history: u64,
        counters: &mut LaneCounters,
    ) -> Result<(usize, Frame), Broken> {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            match std::mem::replace(&mut self.next, Next::Header) {
                Next::Header => {
                    let n = rest.len().min(HEADER - self.filled);
                    self.header[self.filled..self.filled + n].copy_from_slice(&rest[..n]);
                    (self.filled, taken) = (self.filled + n, taken + n);
                    if self.filled < HEADER {
                        return Ok((taken, Frame::Part));
                    }
                    self.filled = 0;
                    let header = Header::decode(&self.header, Some(&mut session.receives));
                    let header = header.map_err(Broken::Header)?;
                    check(&header, session)?;
                    self.was_heard = true;
                    counters.frames_received += 1;
                    self.parameters.clear();
                    self.next = Next::Parameters(header);
                }
                Next::Parameters(header) => {
                    let n = rest
                        .len()
                        .min(header.parameters as usize - self.parameters.len());
                    self.parameters.extend_from_slice(&rest[..n]);
                    taken += n;
                    if self.parameters.len() < header.parameters as usize {
                        self.next = Next::Parameters(header);
                        return Ok((taken, Frame::Part));
                    }
                    match self.with_parameters(&header, history)? {
                        Frame::Part => {}
                        frame => return Ok((taken, frame)),
                    }
                }
                Next::Payload {
                    header,
                    done,
                    is_wanted,
                } => {
                    let n = rest.len().min(header.payload as usize - done);
                    if n == 0 && done < header.payload as usize || n > 0 && is_wanted && taken > 0 {
                        self.next = Next::Payload {
                            header,
                            done,
                            is_wanted,
                        };
                        return Ok((taken, Frame::Part));
                    }
                    self.crc.take(&rest[..n]);
                    self.was_heard |= n > 0;
                    taken += n;
                    let before = self.open.map_or(0, |open| open.at);
                    self.next = match done + n == header.payload as usize {
                        true => Next::End { header, is_wanted },
                        false => Next::Payload {
                            header,
                            done: done + n,
                            is_wanted,
                        },
                    };
                    if n > 0 && is_wanted {
                        let message = header.message;
                        let payload = Received::Payload {
                            message: Incoming { history, message },
                            at: before + done,
                        };
                        return Ok((taken, Frame::Message(payload)));
                    }
                }
                Next::End { header, is_wanted } => {
                    let is_intact =
                        self.crc.end() == header.payload_crc || mutant!("mirror-damage-unseen");
                    if !is_wanted || !is_intact {
                        let is_damaged = self.unwanted(&header);
                        counters.frames_damaged += u64::from(is_damaged);
                    } else if self.commit(&header) {
                        counters.messages_received += 1;
                        let message = header.message;
                        let complete = Received::Complete(Incoming { history, message });
                        return Ok((taken, Frame::Message(complete)));
                    }
                }
            }
        }
    }

    /// A frame's header and parameters are there.
    fn with_parameters(&mut self, header: &Header, history: u64) -> Result<Frame, Broken> {
        let is_intact = checksum::crc32c(&self.parameters) == header.parameters_crc;
        if !header.command.is_request() {
            return match is_intact {
                true => Ok(self.answered(header)),
                false => Err(Broken::Protocol("an answer came damaged")),
            };
        }
        let is_wanted = self.wants(header)? && is_intact;
        self.next = Next::Payload {
            header: *header,
            done: 0,
            is_wanted,
        };
        if !is_wanted || self.open.is_some() {
            return Ok(Frame::Part);
        }
        let message = header.message;
        Ok(Frame::Message(Received::Begins {
            message: Incoming { history, message },
            command: header.command,
            parameters: self.parameters.clone(),
            payload: header.message_payload as usize,
        }))
    }

    /// Whether a frame is the one that comes next.
    fn wants(&mut self, header: &Header) -> Result<bool, Broken> {
        if header.sequence > self.expected && !self.is_behind {
            return Err(Broken::Protocol("a frame was left out"));
        }
        if header.sequence != self.expected && !mutant!("mirror-executed-twice") {
            return Ok(false);
        }
        let bad = |what| Err(Broken::Protocol(what));
        let at = self.open.map_or(0, |open| open.at);
        let end = at + header.payload as usize;
        let is_whole = end == header.message_payload as usize;
        if end > header.message_payload as usize || is_whole == header.more {
            return bad("frames are not as long as their message");
        }
        match &self.open {
            Some(open)
                if (open.message, open.command, open.total)
                    != (header.message, header.command, header.message_payload) =>
            {
                bad("a message ends in the middle")
            }
            Some(_) if header.parameters > 0 => bad("parameters come in the middle of a message"),
            Some(_) => Ok(true),
            None if header.message <= self.last_message => bad("a message ID was used before"),
            None => {
                let is_full = self.pending.len() >= WINDOW;
                if is_full && (self.pending.front()).is_some_and(|first| first.answer.is_none()) {
                    return bad("more messages come than were to be expected");
                }
                Ok(true)
            }
        }
    }

    /// A frame came that is not the next one, or is not what was sent; whether it has to come again.
    fn unwanted(&mut self, header: &Header) -> bool {
        if header.sequence >= self.expected {
            // What follows it is wanted again, too; that is said once.
            let was_behind = std::mem::replace(&mut self.is_behind, true);
            if !was_behind || header.sequence == self.expected {
                self.damaged = Some((header.message, self.expected));
            }
            return true;
        }
        // The answer was lost with another session.
        let last = (self.pending.iter()).find(|pending| pending.sequence == header.sequence);
        if let Some(pending) = last.filter(|pending| pending.answer.is_some()) {
            self.to_answer.push_back(pending.message);
        }
        false
    }

    /// The frame that comes next is there, intact; whether its message is.
    fn commit(&mut self, header: &Header) -> bool {
        self.expected = header.sequence + 1;
        self.is_behind = false;
        self.last_message = header.message;
        let at = self.open.map_or(0, |open| open.at) + header.payload as usize;
        self.open = header.more.then_some(Open {
            message: header.message,
            command: header.command,
            at,
            total: header.message_payload,
        });
        if header.more {
            return false;
        }
        if self.pending.len() >= WINDOW {
            self.pending.pop_front();
        }
        self.pending.push_back(Pending {
            message: header.message,
            sequence: header.sequence,
            answer: None,
            reminds: None,
        });
        true
    }

    /// A frame that asks for nothing.
    fn answered(&mut self, header: &Header) -> Frame {
        match header.command {
            Command::ACKNOWLEDGE | Command::ERROR => {
                Frame::Answer(*header, self.parameters.clone())
            }
            Command::ACKNOWLEDGE_ERROR => {
                if let Some(pending) = self.pending(header.message) {
                    pending.reminds = None;
                }
                Frame::Part
            }
            _ => Frame::Part,
        }
    }

    fn pending(&mut self, message: u64) -> Option<&mut Pending> {
        let at = self
            .pending
            .binary_search_by_key(&message, |pending| pending.message);
        at.ok().and_then(|at| self.pending.get_mut(at))
    }

    /// What becomes of a message; once.
    pub(super) fn answer(&mut self, message: u64, result: Result<(), Refusal>) {
        let pending = self.pending(message);
        if let Some(pending) = pending.filter(|pending| pending.answer.is_none()) {
            pending.answer = Some(result);
            self.to_answer.push_back(message);
        }
    }

    /// An error of the peer's is to be acknowledged.
    pub(super) fn error_arrived(&mut self, message: u64) {
        self.arrived.push_back(message);
    }

    /// Errors that are not acknowledged are said again.
    pub(super) fn remind(&mut self, now: Duration, after: Duration) {
        for pending in &mut self.pending {
            if pending
                .reminds
                .take_if(|since| now >= *since + after)
                .is_some()
            {
                self.to_answer.push_back(pending.message);
            }
        }
    }

    /// The next frame of answers.
    pub(super) fn transmit(&mut self, session: &mut Session, now: Duration) -> Option<Vec<u8>> {
        if let Some((message, from)) = self.damaged.take() {
            let reply = ErrorReply::Damaged { from }.encode();
            return Some(frame(session, Command::ERROR, message, &reply));
        }
        if let Some(message) = self.arrived.pop_front() {
            return Some(frame(session, Command::ACKNOWLEDGE_ERROR, message, &[]));
        }
        let mut acknowledged = Vec::new();
        while let Some(&message) = self.to_answer.front()
            && acknowledged.len() < TOGETHER
        {
            let pending = self.pending(message);
            match pending.as_ref().and_then(|pending| pending.answer.as_ref()) {
                Some(Ok(())) => acknowledged.push(message),
                Some(Err(_)) if !acknowledged.is_empty() => break,
                Some(Err(refusal)) => {
                    let reply = ErrorReply::Refused(refusal.clone()).encode();
                    if let Some(pending) = pending {
                        pending.reminds = Some(now);
                    }
                    self.to_answer.pop_front();
                    return Some(frame(session, Command::ERROR, message, &reply));
                }
                None => {}
            }
            self.to_answer.pop_front();
        }
        let (first, others) = acknowledged.split_first()?;
        let others: Vec<u8> = others
            .iter()
            .flat_map(|message| message.to_le_bytes())
            .collect();
        Some(frame(session, Command::ACKNOWLEDGE, *first, &others))
    }
}

/// Whether a header is one of the session's.
fn check(header: &Header, session: &Session) -> Result<(), Broken> {
    if header.target != session.mine.number || header.initiator != session.theirs.number {
        return Err(Broken::Protocol("a frame is from, or for, another node"));
    }
    if matches!(header.command, Command::HELLO | Command::PROOF) {
        return Err(Broken::Protocol(
            "a greeting comes in the middle of a session",
        ));
    }
    Ok(())
}
