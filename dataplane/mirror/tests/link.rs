//! What a link does, step by step.

mod common;

use std::time::Duration;

use common::*;
use mirror::{Broken, Command, Event, LaneCounters, Received, Refusal, WINDOW};

fn complete(received: &[Received]) -> Vec<mirror::Incoming> {
    let complete = received.iter().filter_map(|received| match received {
        Received::Complete(message) => Some(*message),
        _ => None,
    });
    complete.collect()
}

#[test]
fn r05_a_message_is_executed_and_acknowledged_by_its_id() {
    let [mut a, mut b] = pair();
    let payload = Bytes((0..2500u32).map(|i| i as u8).collect());
    let message = a.send(WRITE, vec![1, 2, 3], payload.clone(), T0).unwrap();
    let frames = said(&mut a, T0);
    // Of 1,000, 1,000 and 500 bytes.
    assert_eq!(
        frames.iter().map(Vec::len).collect::<Vec<_>>(),
        [1067, 1064, 564]
    );
    let (mut bytes, mut whole) = (frames.concat(), None);
    let mut placed = vec![0; 2500];
    while !bytes.is_empty() || whole.is_none() {
        let (taken, received) = b.receive(&bytes, T0);
        let part: Vec<u8> = bytes.drain(..taken).collect();
        match received {
            Received::Begins {
                command,
                parameters,
                payload,
                ..
            } => assert_eq!((command, parameters, payload), (WRITE, vec![1, 2, 3], 2500)),
            Received::Payload { at, .. } => placed[at..at + part.len()].copy_from_slice(&part),
            Received::Complete(message) => whole = Some(message),
            Received::Nothing => {}
        }
    }
    assert_eq!(placed, payload.0);
    assert_eq!(
        said(&mut b, T0),
        [[0u8; 0]; 0],
        "nothing is said before it is executed"
    );
    b.answer(whole.unwrap(), Ok(()));
    let answer = said(&mut b, T0).concat();
    assert_eq!(heard(&mut a, &answer, T0), []);
    let result = Ok(());
    assert_eq!(
        events(&mut a),
        [Event::Answered {
            message,
            result,
            payload
        }]
    );
    assert_eq!(a.unanswered(), 0);
    let expected = LaneCounters {
        sessions: 1,
        frames_sent: 3,
        bytes_sent: 1067 + 1064 + 564,
        frames_received: 1,
        bytes_received: answer.len() as u64,
        messages_sent: 1,
        ..LaneCounters::default()
    };
    assert_eq!(a.counters(), &expected);
    let expected = LaneCounters {
        sessions: 1,
        frames_sent: 1,
        bytes_sent: answer.len() as u64,
        frames_received: 3,
        bytes_received: 1067 + 1064 + 564,
        messages_received: 1,
        ..LaneCounters::default()
    };
    assert_eq!(b.counters(), &expected);
}

#[test]
fn r05_an_error_says_why_and_is_acknowledged() {
    let mut links = pair();
    let [a, b] = &mut links;
    let message = a.send(WRITE, Vec::new(), Bytes(Vec::new()), T0).unwrap();
    let received = heard(b, &said(a, T0).concat(), T0);
    let refusal = Refusal {
        nature: 42,
        text: "the volumes' sizes differ".into(),
    };
    b.answer(complete(&received)[0], Err(refusal.clone()));
    let error = said(b, T0).concat();
    heard(a, &error, T0);
    let [
        Event::Answered {
            message: of,
            result,
            ..
        },
    ] = &events(a)[..]
    else {
        panic!("one answer");
    };
    assert_eq!((*of, result), (message, &Err(refusal)));
    // The error's acknowledgement is lost with the session: the error is said again, and acknowledged again.
    said(a, T0);
    let mut now = T0 + Duration::from_millis(1499);
    connect(&mut links, 3, now);
    let [a, b] = &mut links;
    b.advance(now);
    assert!(said(b, now).is_empty());
    now += Duration::from_millis(1);
    b.advance(now);
    heard(a, &said(b, now).concat(), now);
    let acknowledged = said(a, now);
    assert_eq!(acknowledged[0][5], Command::ACKNOWLEDGE_ERROR.0);
    heard(b, &acknowledged.concat(), now);
    now += Duration::from_millis(1499);
    heard(b, &said(a, now).concat(), now);
    now += Duration::from_millis(1);
    b.advance(now);
    let rest = said(b, now);
    assert!(
        rest.iter().all(|frame| frame[5] == Command::ALIVE.0),
        "{rest:?}"
    );
    assert!(
        b.is_up()
            && events(a)
                .iter()
                .all(|event| !matches!(event, Event::Answered { .. }))
    );
}

#[test]
fn r06_what_a_session_left_unanswered_goes_over_the_next_one() {
    let mut links = pair();
    let [a, b] = &mut links;
    let first = a.send(WRITE, vec![1], Bytes(vec![1; 10]), T0).unwrap();
    let second = a.send(WRITE, vec![2], Bytes(vec![2; 10]), T0).unwrap();
    let frames = said(a, T0);
    let received = heard(b, &frames[0], T0);
    // It is answered, and the answer is lost; the second one is lost itself.
    b.answer(complete(&received)[0], Ok(()));
    said(b, T0);
    a.closed(T0);
    b.closed(T0);
    for link in [&mut *a, &mut *b] {
        assert_eq!(events(link), [Event::Down(Broken::Closed)]);
    }
    connect(&mut links, 3, T0);
    let [a, b] = &mut links;
    assert_eq!(events(a), [Event::Up { anew: false }]);
    let received = heard(b, &said(a, T0).concat(), T0);
    // The first one is not executed again.
    assert_eq!(complete(&received).len(), 1, "{received:?}");
    b.answer(complete(&received)[0], Ok(()));
    heard(a, &said(b, T0).concat(), T0);
    let ends = events(a).into_iter().map(|event| match event {
        Event::Answered {
            message,
            result: Ok(()),
            ..
        } => message,
        other => panic!("{other:?}"),
    });
    assert_eq!(ends.collect::<Vec<_>>(), [first, second]);
    let counters = links[0].counters();
    assert_eq!((counters.messages_sent, counters.messages_resent), (2, 2));
    assert_eq!((counters.sessions, counters.sessions_ended), (2, 1));
}

#[test]
fn r06_a_peer_that_does_not_answer_is_tried_again_and_given_up() {
    let mut links = pair();
    links[0]
        .send(WRITE, Vec::new(), Bytes(Vec::new()), T0)
        .unwrap();
    let mut now = T0;
    let mut all = Vec::new();
    for nonce in 0..3 {
        for _ in 0..20 {
            now += Duration::from_millis(100);
            let [a, b] = &mut links;
            heard(b, &said(a, now).concat(), now);
            heard(a, &said(b, now).concat(), now);
            a.advance(now);
            b.advance(now);
            all.extend(events(a));
            if !a.is_up() {
                break;
            }
        }
        connect(&mut links, 10 * nonce + 20, now);
    }
    all.extend(events(&mut links[0]));
    let down = Event::Down(Broken::NoAnswer(mirror::MessageId(1)));
    let up = || Event::Up { anew: false };
    let again = || Event::Down(Broken::NoAnswer(mirror::MessageId(1)));
    assert_eq!(
        all,
        [down, up(), again(), up(), Event::GaveUp, again(), up()]
    );
    // Within five seconds.
    assert!(now <= T0 + Duration::from_secs(5), "{now:?}");
}

#[test]
fn r06_a_lane_that_nobody_needs_is_given_up_only_when_something_has_waited() {
    let mut links = pair();
    let a = &mut links[0];
    a.keep_while_idle();
    let down = T0 + Duration::from_millis(1500);
    a.advance(down);
    assert_eq!(events(a), [Event::Down(Broken::Silent)]);
    let mut waits = T0 + Duration::from_secs(60);
    a.advance(waits);
    assert_eq!(events(a), [], "nothing waits");
    for _ in 0..2 {
        let message = a.send(WRITE, Vec::new(), Bytes(vec![5]), waits).unwrap();
        a.advance(waits + Duration::from_millis(3999));
        assert_eq!(events(a), []);
        a.advance(waits + Duration::from_secs(4));
        assert_eq!(events(a), [Event::GaveUp]);
        waits += Duration::from_secs(4);
        assert_eq!(a.sever(waits), [(message, Bytes(vec![5]))]);
        a.advance(waits + Duration::from_secs(60));
        assert_eq!(events(a), [], "nothing waits any more");
        waits += Duration::from_secs(60);
    }
}

#[test]
fn r06_a_peer_that_is_away_is_given_up_and_what_it_did_not_answer_comes_back() {
    let mut links = pair();
    let [a, b] = &mut links;
    let message = a.send(WRITE, Vec::new(), Bytes(vec![5]), T0).unwrap();
    let received = heard(b, &said(a, T0).concat(), T0);
    let silent = T0 + Duration::from_millis(1500);
    a.advance(silent);
    assert_eq!(events(a), [Event::Down(Broken::Silent)]);
    // Counted from when it was last heard: within five seconds.
    a.advance(T0 + Duration::from_millis(3999));
    assert_eq!(events(a), []);
    a.advance(T0 + Duration::from_secs(4));
    assert_eq!(events(a), [Event::GaveUp]);
    a.advance(silent + Duration::from_secs(5));
    assert_eq!(events(a), [], "once");
    assert_eq!(a.sever(silent), [(message, Bytes(vec![5]))]);
    // At the next contact both know that the other one has forgotten.
    b.closed(silent);
    events(b);
    connect(&mut links, 5, silent);
    for link in &mut links {
        assert_eq!(events(link), [Event::Up { anew: true }]);
    }
    let [a, b] = &mut links;
    b.answer(complete(&received)[0], Ok(()));
    assert!(said(b, silent).is_empty(), "it is of nobody");
    a.send(WRITE, Vec::new(), Bytes(Vec::new()), silent)
        .unwrap();
    assert_eq!(
        complete(&heard(b, &said(a, silent).concat(), silent)).len(),
        1
    );
}

#[test]
fn r06_a_peer_that_started_anew_has_forgotten() {
    let mut links = pair();
    let [a, b] = &mut links;
    let message = a.send(WRITE, Vec::new(), Bytes(vec![5]), T0).unwrap();
    heard(b, &said(a, T0).concat(), T0);
    a.closed(T0);
    events(a);
    links[1] = link(1, 1000);
    connect(&mut links, 5, T0);
    let payload = Bytes(vec![5]);
    let [a, b] = &mut links;
    assert_eq!(
        events(a),
        [Event::Lost { message, payload }, Event::Up { anew: true }]
    );
    a.send(WRITE, Vec::new(), Bytes(Vec::new()), T0).unwrap();
    assert_eq!(complete(&heard(b, &said(a, T0).concat(), T0)).len(), 1);
}

#[test]
fn r11_a_damaged_frame_is_asked_for_again_with_all_that_followed() {
    let [mut a, mut b] = pair();
    for i in 0..3 {
        a.send(WRITE, vec![i], Bytes(vec![i; 1500]), T0).unwrap();
    }
    let mut frames = said(&mut a, T0);
    // The payload of the second message's first frame, and parameters later.
    frames[2][70] ^= 1;
    let received = heard(&mut b, &frames.concat(), T0);
    assert_eq!(complete(&received).len(), 1);
    heard(&mut a, &said(&mut b, T0).concat(), T0);
    let mut frames = said(&mut a, T0);
    assert_eq!(
        frames.len(),
        1 + 4,
        "an error's acknowledgement, and what was not intact"
    );
    frames[3][64] ^= 1;
    let received = heard(&mut b, &frames.concat(), T0);
    assert_eq!(complete(&received).len(), 1);
    heard(&mut a, &said(&mut b, T0).concat(), T0);
    let received = heard(&mut b, &said(&mut a, T0).concat(), T0);
    assert_eq!(complete(&received).len(), 1);
    // The two that were not whole, then the one; four frames, then two.
    assert_eq!(a.counters().messages_resent, 3);
    assert_eq!(b.counters().frames_damaged, 6);
}

#[test]
fn r11_frames_of_another_place_or_another_session_are_of_no_session() {
    for case in 0..4 {
        let mut links = pair();
        let [a, _] = &mut links;
        a.send(WRITE, vec![1], Bytes(vec![1; 10]), T0).unwrap();
        a.send(WRITE, vec![2], Bytes(vec![2; 10]), T0).unwrap();
        let frames = said(a, T0);
        let bytes = match case {
            // Twice, in another order, one left out, of the session before.
            0 => [&frames[0][..], &frames[0]].concat(),
            1 => frames[1].clone(),
            2 => {
                a.send(WRITE, vec![3], Bytes(vec![3; 10]), T0).unwrap();
                [&frames[0][..], &said(a, T0)[0]].concat()
            }
            _ => {
                connect(&mut links, 9, T0);
                frames[0].clone()
            }
        };
        let b = &mut links[1];
        events(b);
        assert!(complete(&heard(b, &bytes, T0)).len() <= 1);
        let down = Event::Down(Broken::Header(mirror::frame::BadHeader::Key));
        assert_eq!(events(b), [down], "case {case}");
        assert!(!b.is_up());
    }
}

#[test]
fn r05_no_more_messages_are_sent_than_the_peer_takes() {
    let [mut a, mut b] = pair();
    for _ in 0..WINDOW {
        a.send(WRITE, Vec::new(), Bytes(Vec::new()), T0).unwrap();
    }
    assert!(!a.has_room());
    assert_eq!(
        a.send(WRITE, Vec::new(), Bytes(vec![9]), T0),
        Err(Bytes(vec![9]))
    );
    let received = heard(&mut b, &said(&mut a, T0).concat(), T0);
    assert_eq!(complete(&received).len(), WINDOW);
    // In any order, many to a frame.
    for message in complete(&received).into_iter().rev() {
        b.answer(message, Ok(()));
    }
    let answers = said(&mut b, T0);
    assert_eq!(answers.len(), WINDOW / 64);
    heard(&mut a, &answers.concat(), T0);
    assert_eq!((a.unanswered(), events(&mut a).len()), (0, WINDOW));
}
