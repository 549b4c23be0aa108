//! Acknowledgments: what they take off the queue, and what they say about the path.

use std::time::Duration;

use crate::tcp::connection::Connection;
use crate::tcp::flight::{Flight, Record, mark};
use crate::tcp::header::{Segment, flag, plain_word};
use crate::tcp::loss::Sample;
use crate::tcp::seq::Seq;
use crate::tcp::shared::{NEVER, Shared};
use crate::tcp::state::{Input, State};
use crate::tcp::variables::{Alarm, flag as has};

/// Segments in flight that the blocks of one ACK are compared with: more than 5 MB of full ones.
/// A peer that takes tiny segments, and reports holes at their end, makes us look no further.
const LOOKS_MAX: u32 = 4096;

impl Connection {
    /// Processes an acceptable acknowledgment (RFC 9293, 3.10.7.4, fifth).
    pub(crate) fn on_ack(&mut self, cx: &mut Shared, segment: &Segment) {
        let mut sample = Sample {
            echoed: segment.has(flag::ECE) && self.has(has::ECN),
            echo: match segment.timestamp {
                Some((_, echo)) if self.has(has::TIMESTAMPS) => Some(echo),
                _ => None,
            },
            ..Sample::default()
        };
        let advances = segment.ack > self.snd.una;
        if !advances && segment.sack_count == 0 && self.snd.flight.is_empty() {
            // Nothing is out: data one way, or a window update.
            self.update_send_window(cx, segment);
            return;
        }
        let pipe = self.snd.pipe();
        if segment.sack_count > 0 && self.has(has::SACK) {
            self.take_sacks(cx, segment, &mut sample);
        }
        if advances {
            self.advance(cx, segment.ack, &mut sample);
        } else {
            let window = u32::from(segment.window) << self.snd.shift;
            sample.repeated = segment.ack == self.snd.una
                && segment.seq_len() == 0
                && window == self.snd.wnd
                && !self.snd.flight.is_empty();
            cx.counters.tcp_duplicate_acks += u64::from(sample.repeated);
        }
        self.update_send_window(cx, segment);
        if let (Some(oldest), Some(newest)) = (sample.oldest, sample.newest) {
            let (params, now) = (&cx.params, cx.now);
            self.rtt
                .sample(now.nanos_since(oldest), params.rto_min, params.rto_max);
            self.rtt.sample_least(now.nanos_since(newest));
        }
        self.recover(cx, segment, &sample, pipe);
        if sample.advanced {
            self.offer_room(cx);
            self.acknowledge_fin(cx);
        }
        // RFC 6298, (5.3); RFC 8985, 7.2: what acknowledges nothing new leaves timers
        // alone, or a peer that sends without end would put them off without end.
        let news = sample.advanced || sample.sacked || sample.duplicate.is_some();
        if news || self.timers.alarm_at == NEVER || self.recovery.look_again != NEVER {
            self.set_alarm(cx);
        }
        if self.snd.unsent > 0 || self.snd.flight.lost > 0 || self.fin_is_due() {
            cx.wake(self.index);
        }
    }

    /// Moves SND.UNA to `ack`: segments leave the flight, chunks the queue.
    fn advance(&mut self, cx: &mut Shared, ack: Seq, sample: &mut Sample) {
        if self.has(has::PROBING) {
            self.clear(has::PROBING);
            if ack > self.snd.nxt {
                // The peer had room for the probe's byte after all.
                self.snd.queue.sent(&cx.chunks, 1);
                self.snd.unsent -= 1;
                self.snd.nxt += 1;
            }
        }
        let mut bytes = ack.since(self.snd.una);
        if let Some((first, last, len)) = self.snd.flight.pop_plain(&mut cx.records, ack) {
            sample.delivered += len;
            // Of a run sent in this order these two tell everything.
            self.note_arrival(cx, &first, sample);
            self.note_arrival(cx, &last, sample);
        }
        while let Some(index) = self.snd.flight.first() {
            let record = cx.records[index];
            if record.end() > ack {
                if record.seq < ack {
                    let part = ack.since(record.seq);
                    if !record.is(mark::SACKED) {
                        sample.delivered += part;
                    }
                    sample.resent |= record.is(mark::EVER_RESENT);
                    self.snd
                        .flight
                        .trim(&mut cx.records, &cx.chunks, part as u16);
                }
                break;
            }
            self.snd.flight.pop(&mut cx.records);
            if record.is(mark::FIN) {
                bytes -= 1;
            }
            if !record.is(mark::SACKED) {
                sample.delivered += u32::from(record.len);
                self.note_arrival(cx, &record, sample);
            }
        }
        self.snd.queue.ack(&mut cx.chunks, bytes);
        self.snd.una = ack;
        self.snd.retries = 0;
        self.rtt.reset_backoff();
        sample.advanced = true;
    }

    /// A segment is newly known to have arrived: round-trip samples and RACK's clock.
    #[inline]
    pub(crate) fn note_arrival(&mut self, cx: &Shared, record: &Record, sample: &mut Sample) {
        if record.is(mark::EVER_RESENT) {
            sample.resent = true;
        } else {
            sample.oldest = Some(sample.oldest.map_or(record.sent, |at| at.min(record.sent)));
            sample.newest = Some(sample.newest.map_or(record.sent, |at| at.max(record.sent)));
        }
        self.rack_arrival(cx, record, sample.echo);
    }

    /// Marks what SACK blocks report (RFC 2018, section 5).
    fn take_sacks(&mut self, cx: &mut Shared, segment: &Segment, sample: &mut Sample) {
        let una = self.snd.una.max(segment.ack);
        let mut looks = LOOKS_MAX;
        for (i, &(from, to)) in segment.sacks().iter().enumerate() {
            if i == 0 {
                // RFC 2883, section 4: below the cumulative ACK, or inside the second block.
                let inside = segment
                    .sacks()
                    .get(1)
                    .is_some_and(|&(f, t)| f <= from && to <= t);
                if from < to && (to <= segment.ack || inside) {
                    cx.counters.tcp_dsacks_received += 1;
                    sample.duplicate = Some((from, to));
                    continue;
                }
            }
            if from >= to || from < una || to > self.snd.nxt {
                cx.counters.tcp_sacks_ignored += 1;
                continue;
            }
            if self.recovery.knows_block(from, to) {
                continue;
            }
            if !self.take_block(cx, (from, to), &mut looks, sample) {
                cx.counters.tcp_sacks_ignored += 1;
                break;
            }
        }
        self.recovery.remember_blocks(segment.sacks());
    }

    /// Marks what one block reports. False if that took more looks than there are.
    fn take_block(
        &mut self,
        cx: &mut Shared,
        (from, to): (Seq, Seq),
        looks: &mut u32,
        sample: &mut Sample,
    ) -> bool {
        let mut at = self.snd.flight.first();
        while let Some(index) = at {
            if *looks == 0 {
                return false;
            }
            *looks -= 1;
            let record = cx.records[index];
            if record.seq >= to {
                break;
            }
            if record.end() > from && !record.is(mark::SACKED) {
                let starts_before = record.seq < from;
                if starts_before || record.end() > to {
                    // Part of what the port cut into segments arrived. Less than a
                    // segment is not told apart: a peer could make us cut for ever.
                    let cut = if starts_before {
                        from.since(record.seq).next_multiple_of(self.snd.mss)
                    } else {
                        to.since(record.seq) / self.snd.mss * self.snd.mss
                    };
                    if cut == 0 || cut >= u32::from(record.len) {
                        at = Flight::next(&cx.records, index);
                        continue;
                    }
                    let flight = &mut self.snd.flight;
                    if !flight.split(&mut cx.records, &cx.chunks, index, cut as u16) {
                        cx.counters.tcp_flight_exhausted += 1;
                        break;
                    }
                    if starts_before {
                        at = Flight::next(&cx.records, index);
                        continue;
                    }
                }
                let record = cx.records[index];
                self.snd.flight.sack(&mut cx.records, index);
                sample.sacked = true;
                sample.delivered += u32::from(record.len);
                self.note_arrival(cx, &record, sample);
            }
            at = Flight::next(&cx.records, index);
        }
        true
    }

    /// RFC 9293, 3.10.7.4: a window is taken from the newest segment only.
    #[inline]
    fn update_send_window(&mut self, cx: &mut Shared, segment: &Segment) {
        let snd = &mut self.snd;
        if snd.wl1 < segment.seq || snd.wl1 == segment.seq && snd.wl2 <= segment.ack {
            let window = u32::from(segment.window) << snd.shift;
            let opened = window > snd.wnd;
            snd.wnd = window;
            snd.word = match segment.timestamp {
                Some(_) => plain_word(segment.window),
                None => 0,
            };
            snd.wnd_max = snd.wnd_max.max(window);
            snd.wl1 = segment.seq;
            snd.wl2 = segment.ack;
            if opened && snd.unsent > 0 {
                if self.has(has::PROBING) && segment.ack == self.snd.una {
                    // The probe's byte was not taken: it is sent again with what follows.
                    self.clear(has::PROBING);
                }
                self.snd.retries = 0;
                if self.timers.alarm == Alarm::Persist {
                    self.timers.clear_alarm();
                    self.rtt.reset_backoff();
                    self.set_alarm(cx);
                }
                cx.wake(self.index);
            } else if window == 0 && self.timers.alarm == Alarm::Persist && !self.has(has::ORPHAN) {
                // Closed, but answering: probe on without end (RFC 9293, 3.8.6.1: MUST-36).
                self.snd.retries = 0;
            }
        }
    }

    /// What our FIN's acknowledgment does to the state.
    fn acknowledge_fin(&mut self, cx: &mut Shared) {
        if !self.has(has::FIN_SENT) || self.snd.una != self.snd.nxt {
            return;
        }
        match self.state {
            State::FinWait1 => {
                self.step(Input::AckOfFin);
                self.timers.idle_at = cx.now + Duration::from_nanos(cx.params.fin_wait_2);
            }
            State::Closing => {
                self.step(Input::AckOfFin);
            }
            State::LastAck => self.finish(cx, crate::event::CloseReason::Finished),
            _ => {}
        }
    }

    /// Our FIN can be sent: everything before it was.
    #[inline]
    pub(crate) fn fin_is_due(&self) -> bool {
        self.flags & (has::FIN_QUEUED | has::FIN_SENT) == has::FIN_QUEUED
            && self.snd.unsent == 0
            && self.state.transmits()
    }
}
