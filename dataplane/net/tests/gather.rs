//! Output that waits for more, and acknowledgments that wait for data: only for peers that are behind or are about to be answered,
//! and never for long. Time is virtual.

mod support;

use std::collections::VecDeque;

use net::{Duration, Instant};
use support::script::*;
use support::*;

/// Bytes of a response.
const RESPONSE: usize = 24;
/// The longest wait, and a tick of the timers.
const WAIT_MAX: Duration = Duration::from_micros(102);

/// A connection whose peer has acknowledged late, so that it is known to queue.
fn slow_peer(adjust: impl FnOnce(&mut net::StackConfig)) -> Script {
    let mut t = Script::with(false, adjust);
    let syn = seg(SYN, IRS, 0).mss(1460).sack_ok();
    t.accept(syn, Duration::from_millis(1));
    for i in 0..4 {
        t.write(i * RESPONSE as u64, RESPONSE);
        t.one();
        t.wait_ms(3);
        t.sends(seg(
            ACK,
            IRS + 1,
            t.iss + 1 + (i as u32 + 1) * RESPONSE as u32,
        ));
        t.nothing();
    }
    t
}

/// Bytes that [`slow_peer`] has written.
const BEFORE: u64 = 4 * RESPONSE as u64;

/// What became of responses that were written at some times, and acknowledged at others.
struct Played {
    frames: usize,
    responses: usize,
    longest: Duration,
}

/// Writes `responses` responses `gap` apart or less, to a peer that acknowledges all that has come every `acks`.
fn play(t: &mut Script, random: &mut Random, responses: usize, gap: u64, acks: Duration) -> Played {
    let mut played = Played {
        frames: 0,
        responses,
        longest: Duration::ZERO,
    };
    let (mut written, mut sent, mut acked) = (BEFORE, BEFORE, BEFORE);
    // When responses were written that have not left.
    let mut waiting: VecDeque<Instant> = VecDeque::new();
    // Ends of segments that are out.
    let mut out: VecDeque<u64> = VecDeque::new();
    let (mut next_write, mut next_ack) = (t.now, t.now + acks);
    while acked < BEFORE + (responses * RESPONSE) as u64 {
        let due = t.host.stack.next_deadline().unwrap_or(next_ack);
        t.now = due.max(t.now).min(next_ack);
        let all_written = written == BEFORE + (responses * RESPONSE) as u64;
        if !all_written {
            t.now = t.now.min(next_write);
        }
        if t.now >= next_ack {
            next_ack = t.now + acks;
            acked = sent;
            out.clear();
            t.sends(seg(ACK, IRS + 1, t.iss + 1 + acked as u32));
        } else if !all_written && t.now >= next_write {
            next_write = t.now + Duration::from_micros(random.below(gap + 1));
            t.write(written, RESPONSE);
            written += RESPONSE as u64;
            waiting.push_back(t.now);
        }
        let few = out.len() < 4;
        for segment in t.out() {
            let from = u64::from(segment.seq.wrapping_sub(t.iss + 1));
            assert_eq!(from, sent, "in order, once");
            assert_eq!(segment.data, data(from, segment.data.len()));
            sent += segment.data.len() as u64;
            out.push_back(sent);
            played.frames += 1;
        }
        while waiting.len() as u64 * RESPONSE as u64 > written - sent {
            let since = waiting.pop_front().unwrap();
            played.longest = played.longest.max(t.now.since(since));
        }
        assert!(
            !few || waiting.is_empty(),
            "nothing waits for a peer that keeps up"
        );
        if let Some(&since) = waiting.front() {
            let waited = t.now.since(since);
            assert!(waited <= WAIT_MAX, "{waited:?}");
        }
    }
    played
}

/// Whatever comes when: nothing waits for longer than it may, nor at all for a peer that keeps up, and everything arrives in order.
#[test]
fn rfc9293_3_7_4_a_wait_has_an_end_and_is_for_peers_that_are_behind() {
    let mut gathered = 0;
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut t = slow_peer(|config| {
            if seed % 3 == 0 {
                config.offload.tx_l4_checksum = true;
                config.offload.tso_max_bytes = 60_000;
            }
        });
        let acks = Duration::from_micros(20 + random.below(3000));
        let gap = [0, 10, 100, 1000][random.below(4) as usize];
        let played = play(&mut t, &mut random, 200, gap, acks);
        assert!(played.longest <= WAIT_MAX, "seed {seed}");
        assert_eq!(t.count("tcp_retransmitted"), 0, "seed {seed}");
        gathered += t.count("tcp_gathered");
    }
    assert!(gathered > 100, "{gathered} waits");
}

/// Sixteen deep queues have a response every ten microseconds each, their host looks at each every two milliseconds: in one run with
/// gathering and without.
#[test]
fn rfc9293_3_7_4_responses_of_a_deep_queue_share_frames() {
    let frames = |gather_max| {
        let mut t = slow_peer(|config| config.tcp.gather_max = gather_max);
        let acks = Duration::from_millis(2);
        let played = play(&mut t, &mut Random::new(1), 2000, 20, acks);
        assert_eq!(played.responses, 2000);
        assert!(gather_max > Duration::ZERO || played.longest == Duration::ZERO);
        played.frames
    };
    let (alone, gathered) = (frames(Duration::ZERO), frames(Duration::from_micros(100)));
    assert_eq!(alone, 2000, "each has its own");
    assert!(gathered * 4 < alone, "{gathered} of {alone} frames");
}

/// Fills the flight of a peer that is behind; how many bytes are written.
fn behind(t: &mut Script) -> u64 {
    for i in 0..4 {
        t.write(BEFORE + i * RESPONSE as u64, RESPONSE);
        t.one();
    }
    2 * BEFORE
}

/// A full segment, a FIN and what is lost wait for nothing; nor does the end of what was gathered when the peer has caught up.
#[test]
fn rfc9293_3_7_4_what_is_urgent_does_not_wait() {
    let mut t = slow_peer(|_| {});
    let at = behind(&mut t);
    t.write(at, RESPONSE);
    t.nothing();
    t.write(at + RESPONSE as u64, MSS);
    assert_eq!(lens(&t.out()), [MSS], "a full one goes, its rest waits");
    t.sends(seg(ACK, IRS + 1, t.iss + 1 + at as u32 + MSS as u32));
    assert_eq!(lens(&t.out()), [RESPONSE], "the peer has caught up");

    let mut t = slow_peer(|_| {});
    let at = behind(&mut t);
    t.write(at, RESPONSE);
    t.nothing();
    t.host.stack.close(t.id.unwrap());
    let out = t.out();
    assert_eq!(lens(&out), [RESPONSE, 0]);
    assert!(out[1].has(FIN));

    // What overtook the first is reported: it is sent again, and the rest with it.
    let mut t = slow_peer(|_| {});
    let at = behind(&mut t);
    t.write(at, RESPONSE);
    t.nothing();
    let una = t.iss + 1 + BEFORE as u32;
    t.wait_ms(3);
    let n = RESPONSE as u32;
    t.sends(seg(ACK, IRS + 1, una).sack(una + n, una + 4 * n));
    t.wait_ms(3);
    let out = t.out();
    assert!(out.iter().any(|s| s.seq == una), "{out:?}");
    assert!(
        out.iter().any(|s| s.seq == t.iss + 1 + at as u32),
        "{out:?}"
    );
}

/// A window that closes meanwhile is probed as ever, and what waits leaves when it opens.
#[test]
fn rfc9293_3_8_6_1_a_window_that_closes_on_what_waits_is_probed() {
    let mut t = slow_peer(|_| {});
    let at = behind(&mut t);
    t.write(at, RESPONSE);
    t.nothing();
    let next = t.iss + 1 + at as u32;
    t.sends(seg(ACK, IRS + 1, next).window(0));
    t.nothing();
    let probe = t.until_due(Duration::from_secs(5)).remove(0);
    assert_eq!((probe.seq, probe.data.len()), (next, 1));
    t.sends(seg(ACK, IRS + 1, next));
    assert_eq!(lens(&t.out()), [RESPONSE]);
}

/// The acknowledgment of a command goes with the answer, if that comes soon; what tells of a hole does not wait.
#[test]
fn rfc9293_3_8_6_3_an_acknowledgment_goes_with_the_answer() {
    let mut t = slow_peer(|_| {});
    let id = t.id.unwrap();
    let mut seq = IRS + 1;
    let mut command = |t: &mut Script, segments: u32| {
        for _ in 0..segments {
            t.sends(seg(ACK, seq, t.iss + 1 + BEFORE as u32).data(&[1; MSS]));
            seq += MSS as u32;
        }
        t.read_all();
        seq
    };
    // Out of slow start (RFC 5681, 4.2 leaves more to the receiver then).
    for _ in 0..20 {
        command(&mut t, 2);
        assert_eq!(
            t.one().data.len(),
            0,
            "nobody has said that an answer comes"
        );
    }
    t.host.stack.set_answers(id, true);
    let upto = command(&mut t, 3);
    t.nothing();
    t.wait(Duration::from_micros(50));
    t.nothing();
    t.write(BEFORE, RESPONSE);
    let answer = t.one();
    assert_eq!((answer.data.len(), answer.ack), (RESPONSE, upto));
    t.sends(seg(ACK, upto, t.iss + 1 + BEFORE as u32 + RESPONSE as u32));
    t.nothing();
    // No answer comes.
    let upto = command(&mut t, 3);
    t.nothing();
    let start = t.now;
    let bare = t.until_due(Duration::from_secs(1)).remove(0);
    assert_eq!((bare.data.len(), bare.ack), (0, upto));
    assert!(t.now.since(start) <= WAIT_MAX);
    // More than a command: a stream of data waits for acknowledgments.
    let upto = command(&mut t, 10);
    assert_eq!(t.one().ack, upto);
    // A hole.
    t.sends(seg(ACK, upto + 10, t.iss + 1 + BEFORE as u32).data(&[1; 10]));
    assert_eq!(t.one().ack, upto);
}
