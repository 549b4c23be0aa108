//! Messages of ours, from the first try to the answer.

use std::collections::VecDeque;
use std::time::Duration;

use mutant::mutant;

use super::{Broken, Event, MessageId, Outgoing, Payload, WINDOW};
use crate::bytes::u64_at;
use crate::counters::LaneCounters;
use crate::frame::{Command, Header, MESSAGE_MAX, PARAMETERS_MAX};
use crate::greeting::Session;
use crate::parameters::ErrorReply;

/// A message that has no answer.
struct Request<P> {
    message: u64,
    command: Command,
    parameters: Vec<u8>,
    payload: P,
    /// Bytes of payload of a frame, the last one aside.
    frame: usize,
    /// Of its first frame.
    sequence: u64,
    frames: u64,
    /// When its last frame was sent over this session.
    sent: Option<Duration>,
    was_sent: bool,
    /// Times that it was late.
    tries: u32,
}

pub(super) struct Sending<P> {
    requests: VecDeque<Request<P>>,
    next_message: u64,
    next_sequence: u64,
    /// The frame that is sent next.
    cursor: u64,
    frame: usize,
    /// Messages that the peer takes without an answer.
    window: usize,
    /// When the last answer came, or there was last nothing to wait for.
    progress: Duration,
}

impl<P: Payload> Sending<P> {
    pub(super) fn new(frame: usize) -> Self {
        Self {
            requests: VecDeque::new(),
            next_message: 1,
            next_sequence: 1,
            cursor: 1,
            frame,
            window: WINDOW,
            progress: Duration::ZERO,
        }
    }

    pub(super) fn set_frame_size(&mut self, frame: usize) {
        self.frame = frame;
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Since when something waits for an answer without getting any, if something does.
    pub(super) fn waits_since(&self) -> Option<Duration> {
        (!self.requests.is_empty()).then_some(self.progress)
    }

    pub(super) fn has_room(&self) -> bool {
        self.requests.len() < self.window
    }

    pub(super) fn push(
        &mut self,
        command: Command,
        parameters: Vec<u8>,
        payload: P,
        now: Duration,
    ) -> Result<MessageId, P> {
        let is_good = command.is_request()
            && self.has_room()
            && parameters.len() <= PARAMETERS_MAX
            && payload.len() <= MESSAGE_MAX;
        if !is_good {
            return Err(payload);
        }
        if self.requests.is_empty() {
            self.progress = now;
        }
        let (message, sequence) = (self.next_message, self.next_sequence);
        let frames = payload.len().div_ceil(self.frame).max(1) as u64;
        if !(mutant!("mirror-message-reused") && message.is_multiple_of(32)) {
            self.next_message += 1;
        }
        self.next_sequence += frames;
        self.requests.push_back(Request {
            message,
            command,
            parameters,
            payload,
            frame: self.frame,
            sequence,
            frames,
            sent: None,
            was_sent: false,
            tries: 0,
        });
        Ok(MessageId(message))
    }

    /// Another run of the peer knows of nothing: what has no answer, and sequences from 1 on.
    pub(super) fn forget(&mut self) -> Vec<(MessageId, P)> {
        let lost = self.requests.drain(..);
        let lost = lost
            .map(|request| (MessageId(request.message), request.payload))
            .collect();
        (self.next_sequence, self.cursor) = (1, 1);
        lost
    }

    /// A session begins: all that has no answer is sent again.
    pub(super) fn begin(&mut self, window: usize, now: Duration) {
        (self.window, self.progress) = (window.min(WINDOW), now);
        for request in &mut self.requests {
            request.sent = None;
        }
        self.cursor = (self.requests.front()).map_or(self.next_sequence, |first| first.sequence);
    }

    /// A message that has waited for its answer, or the oldest one if none came at all, for so long; and how often that
    /// was so.
    pub(super) fn late(&mut self, now: Duration, answer: Duration) -> Option<(MessageId, u32)> {
        let is_late = |request: &Request<P>| request.sent.is_some_and(|sent| now >= sent + answer);
        let found = self.requests.iter().position(is_late);
        let none_came = now >= self.progress + answer;
        let request = self.requests.get_mut(found.or(none_came.then_some(0))?)?;
        request.tries += 1;
        Some((MessageId(request.message), request.tries))
    }

    /// The next frame of a message.
    pub(super) fn transmit(
        &mut self,
        session: &mut Session,
        now: Duration,
        counters: &mut LaneCounters,
    ) -> Option<Outgoing<'_, P>> {
        // What was answered needs none of its frames.
        let cursor = self.cursor;
        let is_done = |request: &Request<P>| request.sequence + request.frames <= cursor;
        let at = self.requests.partition_point(is_done);
        let request = self.requests.get_mut(at)?;
        let cursor = cursor.max(request.sequence);
        let number = cursor - request.sequence;
        self.cursor = cursor + 1;
        let (all, first) = (request.payload.len(), number as usize * request.frame);
        let range = first..(first + request.frame).min(all);
        let more = number + 1 < request.frames;
        if !more {
            match request.was_sent {
                true => counters.messages_resent += 1,
                false => counters.messages_sent += 1,
            }
            request.sent = Some(now);
            request.was_sent = true;
        }
        let parameters = if number == 0 {
            &request.parameters[..]
        } else {
            &[]
        };
        let header = Header {
            command: request.command,
            more,
            target: session.theirs.number,
            initiator: session.mine.number,
            message: request.message,
            sequence: cursor,
            parameters: parameters.len() as u32,
            payload: range.len() as u32,
            message_payload: all as u32,
            parameters_crc: checksum::crc32c(parameters),
            payload_crc: request.payload.checksum(range.clone()),
        };
        let mut head = header.encode(Some(&mut session.sends)).to_vec();
        head.extend_from_slice(parameters);
        let payload = (!range.is_empty()).then_some((&request.payload, range));
        Some(Outgoing { head, payload })
    }

    /// The peer has answered.
    pub(super) fn answered(
        &mut self,
        header: &Header,
        parameters: &[u8],
        events: &mut VecDeque<Event<P>>,
        now: Duration,
    ) -> Result<(), Broken> {
        self.progress = now;
        match header.command {
            Command::ACKNOWLEDGE => {
                if !parameters.len().is_multiple_of(8) {
                    return Err(Broken::Protocol(
                        "an acknowledgement is not of whole messages",
                    ));
                }
                self.end(header.message, Ok(()), events)?;
                for at in (0..parameters.len()).step_by(8) {
                    self.end(u64_at(parameters, at), Ok(()), events)?;
                }
                Ok(())
            }
            Command::ERROR => match ErrorReply::decode(parameters) {
                Some(ErrorReply::Damaged { from }) => self.go_back(from),
                Some(ErrorReply::Refused(refusal)) => {
                    self.end(header.message, Err(refusal), events)
                }
                None => Err(Broken::Protocol("an error says what is not known")),
            },
            _ => Ok(()),
        }
    }

    /// A message has its answer; one that had it before is heard of once more.
    fn end(
        &mut self,
        message: u64,
        result: Result<(), crate::Refusal>,
        events: &mut VecDeque<Event<P>>,
    ) -> Result<(), Broken> {
        if message >= self.next_message {
            return Err(Broken::Protocol(
                "a message was answered that was never sent",
            ));
        }
        let Ok(at) = self
            .requests
            .binary_search_by_key(&message, |request| request.message)
        else {
            return Ok(());
        };
        let request = &self.requests[at];
        // Over an earlier session it may have been sent whole.
        if !request.was_sent {
            return Err(Broken::Protocol(
                "a message was answered before it was sent",
            ));
        }
        if let Some(request) = self.requests.remove(at) {
            let (message, payload) = (MessageId(message), request.payload);
            events.push_back(Event::Answered {
                message,
                result,
                payload,
            });
            // It needs no more of its frames.
            let end = request.sequence + request.frames;
            if (request.sequence..end).contains(&self.cursor) {
                self.cursor = end;
            }
        }
        Ok(())
    }

    /// The peer lacks all frames from `from` on.
    fn go_back(&mut self, from: u64) -> Result<(), Broken> {
        if from >= self.cursor {
            return Err(Broken::Protocol("a frame came damaged that was never sent"));
        }
        let begun = |request: &Request<P>| request.sequence <= from;
        let behind = self.requests.partition_point(begun);
        let holds = |request: &Request<P>| from < request.sequence + request.frames;
        match behind.checked_sub(1) {
            Some(at) if holds(&self.requests[at]) => {}
            _ => return Err(Broken::Protocol("a frame came damaged that was answered")),
        }
        for request in self.requests.iter_mut().skip(behind - 1) {
            request.sent = None;
        }
        self.cursor = from;
        Ok(())
    }
}

/// A frame that is no message's.
pub(super) fn frame(
    session: &mut Session,
    command: Command,
    message: u64,
    parameters: &[u8],
) -> Vec<u8> {
    let ends = [session.mine.number, session.theirs.number];
    let header = Header::of_answer(command, ends, message, parameters);
    let mut head = header.encode(Some(&mut session.sends)).to_vec();
    head.extend_from_slice(parameters);
    head
}
