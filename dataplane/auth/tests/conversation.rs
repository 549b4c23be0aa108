//! Both sides against each other, against vectors of another implementation, and against anything at all.

use std::collections::VecDeque;
use std::sync::Arc;

use auth::{
    Body, Controller, Explanation, Group, Hash, Host, HostKeys, HostStep, Key, Message, Names,
    Offer, Policy, Step, Verdict,
};
use proptest::prelude::*;

/// Bytes that nobody can guess, the same in every run.
fn random(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    move |bytes| {
        for byte in bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = (state >> 32) as u8;
        }
    }
}

fn names() -> Names {
    Names {
        host: "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-000000000016".into(),
        subsystem: "nqn.2026-01.com.example:flash0".into(),
    }
}

fn key(seed: u64, transform: Option<Hash>) -> Key {
    let len = transform.map_or(32, Hash::len);
    Key::generate(len, transform, &mut random(seed)).unwrap()
}

fn keys(controller: bool) -> Arc<HostKeys> {
    Arc::new(HostKeys {
        host: key(1, Some(Hash::Sha256)),
        controller: controller.then(|| key(2, Some(Hash::Sha512))),
    })
}

fn policy(hash: Hash, group: Group) -> Arc<Policy> {
    Arc::new(Policy {
        hashes: vec![hash],
        groups: vec![group],
    })
}

fn controller(keys: &Arc<HostKeys>) -> Controller {
    let null = Policy {
        groups: vec![Group::Null],
        ..Policy::default()
    };
    Controller::new(names(), Arc::clone(keys), Arc::new(null))
}

fn host(keys: &Arc<HostKeys>, groups: &[Group]) -> Host {
    Host::new(names(), Arc::clone(keys), &Hash::ALL, groups, 77)
}

/// How a conversation ends: for the controller, and for the host.
fn converse(mut controller: Controller, mut host: Host) -> (Option<Verdict>, HostStep) {
    let (mut ours, mut theirs) = (random(3), random(4));
    let mut message = host.negotiate();
    let mut verdict = None;
    loop {
        assert_eq!(verdict, None, "nothing is sent behind a verdict");
        let step = controller.take(&message, &mut ours);
        verdict = step.verdict;
        let Some(answer) = step.message else {
            return (verdict, HostStep::Done);
        };
        match host.take(&answer, &mut theirs) {
            HostStep::Send(next) => message = next,
            HostStep::SendLast(last) => {
                assert_eq!(verdict, None);
                let step = controller.take(&last, &mut ours);
                assert_eq!(step.message, None);
                return (step.verdict, HostStep::Done);
            }
            HostStep::Refuse(last) => {
                if verdict.is_none() {
                    verdict = controller.take(&last, &mut ours).verdict;
                }
                return (verdict, HostStep::Refuse(last));
            }
            end => return (verdict, end),
        }
    }
}

fn is_failure(step: &Step, explanation: Explanation) -> bool {
    let message = step.message.as_deref().map(Message::read);
    let body = message.map(|message| message.unwrap().body);
    step.verdict == Some(Verdict::Failed) && body == Some(Body::Failure1(explanation as u8))
}

#[test]
fn both_sides_agree_with_every_hash_and_group() {
    for group in Group::ALL {
        for hash in Hash::ALL {
            for bidirectional in [false, true] {
                let keys = keys(bidirectional);
                let controller = Controller::new(names(), Arc::clone(&keys), policy(hash, group));
                let end = converse(controller, host(&keys, &Group::ALL));
                assert_eq!(
                    end,
                    (Some(Verdict::Authenticated), HostStep::Done),
                    "{hash:?} {group:?} {bidirectional}"
                );
            }
        }
    }
}

#[test]
fn a_wrong_key_of_either_side_fails() {
    let right = keys(true);
    let wrong_host = Arc::new(HostKeys {
        host: key(9, Some(Hash::Sha256)),
        controller: right.controller.clone(),
    });
    let end = converse(controller(&right), host(&wrong_host, &[Group::Null]));
    let failed = Explanation::Failed as u8;
    assert_eq!(end, (Some(Verdict::Failed), HostStep::Refused(failed)));
    // The same bytes, transformed otherwise, are another key.
    let text = right.host.text();
    let other = Key::read(&text.replace("DHHC-1:01", "DHHC-1:00")).unwrap();
    let otherwise = Arc::new(HostKeys {
        host: other,
        controller: None,
    });
    let end = converse(controller(&right), host(&otherwise, &[Group::Null]));
    assert_eq!(end.0, Some(Verdict::Failed));
    let wrong_controller = Arc::new(HostKeys {
        host: right.host.clone(),
        controller: Some(key(9, None)),
    });
    let (verdict, step) = converse(controller(&wrong_controller), host(&right, &[Group::Null]));
    assert_eq!(verdict, Some(Verdict::Failed), "Failure2");
    assert!(matches!(step, HostStep::Refuse(_)));
    // A controller without a key cannot prove who it is.
    let end = converse(controller(&keys(false)), host(&right, &[Group::Null]));
    assert_eq!(end, (Some(Verdict::Failed), HostStep::Refused(failed)));
}

#[test]
fn the_targets_order_decides() {
    let keys = keys(false);
    let policy = Policy {
        hashes: vec![Hash::Sha384, Hash::Sha512],
        groups: vec![Group::Ffdhe2048, Group::Null],
    };
    let mut controller = Controller::new(names(), Arc::clone(&keys), Arc::new(policy));
    let step = controller.take(&host(&keys, &Group::ALL).negotiate(), &mut random(3));
    let message = step.message.unwrap();
    let Body::Challenge {
        hash,
        group,
        sequence,
        challenge,
        public,
    } = Message::read(&message).unwrap().body
    else {
        panic!("a challenge");
    };
    assert_eq!((hash, group), (2, 1));
    assert_ne!(sequence, 0);
    assert_eq!((challenge.len(), public.len()), (48, 256));
    // Long groups are for hosts that offer nothing else.
    let default = Policy::default();
    assert_eq!(default.groups.last(), Some(&Group::Null));
    assert_eq!(default.groups.len(), Group::ALL.len());
}

/// A Negotiate of one descriptor.
fn negotiate(secure_channel: u8, hashes: &[u8], groups: &[u8]) -> Vec<u8> {
    let offer = Some(Offer { hashes, groups });
    let body = Body::Negotiate {
        secure_channel,
        offer,
    };
    Message { t_id: 5, body }.write()
}

#[test]
fn what_cannot_be_negotiated_has_its_reason() {
    let keys = keys(false);
    let without = Body::Negotiate {
        secure_channel: 0,
        offer: None,
    };
    let mut another = negotiate(0, &[1], &[0]);
    another[8] = 2;
    let mut long_list = negotiate(0, &[1], &[0]);
    long_list[10] = 31;
    let mut short = negotiate(0, &[1], &[0]);
    short.pop();
    for (message, explanation) in [
        (negotiate(1, &[1], &[0]), Explanation::SecureChannelMismatch),
        (negotiate(2, &[1], &[0]), Explanation::SecureChannelMismatch),
        (negotiate(0, &[], &[0]), Explanation::HashNotUsable),
        (negotiate(0, &[4, 0], &[0]), Explanation::HashNotUsable),
        (negotiate(0, &[1], &[]), Explanation::GroupNotUsable),
        (negotiate(0, &[1], &[1, 6]), Explanation::GroupNotUsable),
        (another, Explanation::ProtocolNotUsable),
        (long_list, Explanation::IncorrectPayload),
        (short, Explanation::IncorrectPayload),
        (
            Message {
                t_id: 5,
                body: without,
            }
            .write(),
            Explanation::IncorrectPayload,
        ),
        (vec![], Explanation::IncorrectPayload),
        (vec![9, 9, 0, 0, 5, 0], Explanation::IncorrectMessage),
        (
            Message {
                t_id: 5,
                body: Body::Success2,
            }
            .write(),
            Explanation::IncorrectMessage,
        ),
    ] {
        let mut controller = controller(&keys);
        let step = controller.take(&message, &mut random(3));
        assert!(is_failure(&step, explanation), "{explanation:?}: {step:?}");
        if message.len() > 5 {
            let answer = step.message.unwrap();
            assert_eq!(Message::read(&answer).unwrap().t_id, message[4].into());
        }
        // It is over, whatever comes.
        let step = controller.take(&negotiate(0, &[1], &[0]), &mut random(3));
        assert!(is_failure(&step, Explanation::IncorrectMessage));
    }
}

/// A controller that was asked, and the right reply to it.
fn challenged(keys: &Arc<HostKeys>, group: Group) -> (Controller, Vec<u8>) {
    let policy = policy(Hash::Sha256, group);
    let mut controller = Controller::new(names(), Arc::clone(keys), policy);
    let mut host = host(keys, &[group]);
    let step = controller.take(&host.negotiate(), &mut random(3));
    let HostStep::Send(reply) = host.take(&step.message.unwrap(), &mut random(4)) else {
        panic!("a reply");
    };
    (controller, reply)
}

#[test]
fn a_reply_that_is_wrong_anywhere_has_its_reason() {
    let keys = keys(true);
    fn change<const N: usize>(at: usize, to: [u8; N]) -> impl Fn(&mut Vec<u8>) {
        move |reply| reply[at..at + N].copy_from_slice(&to)
    }
    type Change = Box<dyn Fn(&mut Vec<u8>)>;
    let cases: [(Change, Explanation); 8] = [
        // T_ID.
        (Box::new(change(4, [1, 1])), Explanation::IncorrectPayload),
        // HL.
        (Box::new(change(6, [48])), Explanation::IncorrectPayload),
        // DHVLEN.
        (Box::new(change(10, [4])), Explanation::IncorrectPayload),
        // S2: the controller is asked for a proof, with a sequence number that says that it is not.
        (Box::new(change(12, [0; 4])), Explanation::IncorrectPayload),
        (Box::new(change(16, [0; 32])), Explanation::Failed),
        (Box::new(change(1, [4])), Explanation::IncorrectPayload),
        (Box::new(change(1, [0x77])), Explanation::IncorrectMessage),
        (
            Box::new(|reply| reply.push(0)),
            Explanation::IncorrectPayload,
        ),
    ];
    for (change, explanation) in cases {
        let (mut controller, mut reply) = challenged(&keys, Group::Null);
        change(&mut reply);
        let step = controller.take(&reply, &mut random(5));
        assert!(is_failure(&step, explanation), "{explanation:?}: {step:?}");
    }
    // Public values that are none.
    for public in [0u8, 1] {
        let (mut controller, mut reply) = challenged(&keys, Group::Ffdhe2048);
        let at = reply.len() - 256;
        reply[at..].fill(0);
        *reply.last_mut().unwrap() = public;
        let step = controller.take(&reply, &mut random(5));
        assert!(is_failure(&step, Explanation::IncorrectPayload));
    }
}

#[test]
fn what_was_said_once_is_worth_nothing_again() {
    let keys = keys(false);
    let (mut controller, reply) = challenged(&keys, Group::Null);
    let step = controller.take(&reply, &mut random(5));
    assert_eq!(step.verdict, Some(Verdict::Authenticated));
    // Another transaction has another challenge.
    let mut again = Controller::new(
        names(),
        Arc::clone(&keys),
        policy(Hash::Sha256, Group::Null),
    );
    again.take(&host(&keys, &[Group::Null]).negotiate(), &mut random(6));
    let step = again.take(&reply, &mut random(6));
    assert!(is_failure(&step, Explanation::Failed));
}

#[test]
fn a_challenge_that_comes_back_is_not_answered() {
    let keys = keys(true);
    let mut controller = controller(&keys);
    let mut host = host(&keys, &[Group::Null]);
    let step = controller.take(&host.negotiate(), &mut random(3));
    let challenge = step.message.unwrap();
    let Body::Challenge { challenge: c1, .. } = Message::read(&challenge).unwrap().body else {
        panic!("a challenge");
    };
    let HostStep::Send(mut reply) = host.take(&challenge, &mut random(4)) else {
        panic!("a reply");
    };
    let at = reply.len() - c1.len();
    reply[at..].copy_from_slice(c1);
    let step = controller.take(&reply, &mut random(5));
    assert!(is_failure(&step, Explanation::Failed));
}

#[test]
fn a_host_that_gives_up_ends_it_without_a_word() {
    let keys = keys(true);
    let (mut controller, _) = challenged(&keys, Group::Null);
    let body = Body::Failure2(1);
    let step = controller.take(&Message { t_id: 77, body }.write(), &mut random(5));
    assert_eq!((step.message, step.verdict), (None, Some(Verdict::Failed)));
}

/// A line of `vectors.txt`.
struct Vector {
    numbers: Vec<u32>,
    bytes: Vec<Vec<u8>>,
}

fn vectors() -> Vec<Vector> {
    let lines = include_str!("vectors.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    let vector = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        let byte = |field: &str, at| u8::from_str_radix(&field[at..at + 2], 16).unwrap();
        let bytes = fields[7..].iter().map(|field| match *field {
            "-" => Vec::new(),
            field => (0..field.len())
                .step_by(2)
                .map(|at| byte(field, at))
                .collect(),
        });
        Vector {
            numbers: fields[..7].iter().map(|n| n.parse().unwrap()).collect(),
            bytes: bytes.collect(),
        }
    };
    lines.map(vector).collect()
}

#[test]
fn responses_are_those_of_another_implementation() {
    let all = vectors();
    assert_eq!(all.len(), 8);
    for Vector { numbers, bytes } in all {
        let [hash, group, of_host, of_controller, t_id, s1, s2] = numbers[..] else {
            panic!("seven numbers");
        };
        let [
            host_key,
            controller_key,
            c1,
            c2,
            a,
            b,
            public_a,
            public_b,
            r1,
            r2,
        ] = &bytes[..]
        else {
            panic!("ten strings");
        };
        let key = |bytes: &[u8], id: u32| Key::new(bytes, Hash::of_id(id as u8)).unwrap();
        let keys = Arc::new(HostKeys {
            host: key(host_key, of_host),
            controller: Some(key(controller_key, of_controller)),
        });
        let hash = Hash::of_id(hash as u8).unwrap();
        let group = Group::of_id(group as u8).unwrap();
        // What each side draws, in its order. Without a group an exponent is drawn all the same.
        let drawn = |exponent: &[u8], challenge: &[u8], sequence: u32| {
            let exponent = match exponent {
                [] => vec![0; 8],
                exponent => exponent.to_vec(),
            };
            let mut next = VecDeque::from([
                exponent,
                challenge.to_vec(),
                sequence.to_le_bytes().to_vec(),
            ]);
            move |bytes: &mut [u8]| bytes.copy_from_slice(&next.pop_front().unwrap())
        };
        let (mut ours, mut theirs) = (drawn(a, c1, s1), drawn(b, c2, s2));
        let mut controller = Controller::new(names(), Arc::clone(&keys), policy(hash, group));
        let mut host = Host::new(names(), keys, &[hash], &[group], t_id as u16);
        let step = controller.take(&host.negotiate(), &mut ours);
        let challenge = step.message.unwrap();
        assert_eq!(challenge[16 + hash.len()..], public_a[..]);
        let HostStep::Send(reply) = host.take(&challenge, &mut theirs) else {
            panic!("a reply");
        };
        let Body::Reply {
            response, public, ..
        } = Message::read(&reply).unwrap().body
        else {
            panic!("a reply");
        };
        assert_eq!(
            (response, public),
            (&r1[..], &public_b[..]),
            "{hash:?} {group:?}"
        );
        let step = controller.take(&reply, &mut ours);
        let success = step.message.unwrap();
        let Body::Success1 { response, .. } = Message::read(&success).unwrap().body else {
            panic!("a success");
        };
        assert_eq!(response, Some(&r2[..]), "{hash:?} {group:?}");
    }
}

proptest! {
    #[test]
    fn whatever_is_read_is_written_as_it_was(bytes in messages()) {
        if let Ok(message) = Message::read(&bytes) {
            let written = message.write();
            prop_assert_eq!(Message::read(&written), Ok(message));
        }
    }

    /// Whatever comes, in whatever order: nobody without the key is let in.
    #[test]
    fn nobody_gets_in_by_chance(all in prop::collection::vec(messages(), 1..6)) {
        let keys = keys(true);
        let mut controller = controller(&keys);
        for message in all {
            let step = controller.take(&message, &mut random(3));
            prop_assert_ne!(step.verdict, Some(Verdict::Authenticated));
            if step.verdict.is_some() {
                break;
            }
        }
    }

    /// One bit of a reply that is another one, of those that count: the host is not let in.
    #[test]
    fn one_bit_is_enough_to_fail(bit in 0usize..8 * 48) {
        let keys = keys(false);
        let (mut controller, mut reply) = challenged(&keys, Group::Null);
        reply[bit / 8] ^= 1 << (bit % 8);
        // Reserved fields, and S2 where nothing is asked back.
        let ignored = |at| matches!(at, 2 | 3 | 7 | 9 | 12..16);
        let is_asked_back = bit == 8 * 8;
        if !ignored(bit / 8) && (bit / 8 != 8 || is_asked_back) {
            let step = controller.take(&reply, &mut random(5));
            prop_assert_eq!(step.verdict, Some(Verdict::Failed));
        }
    }
}

/// Messages of every type, cut anywhere and with anything in them.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let head = (
        0u8..2,
        prop::sample::select(vec![0u8, 1, 2, 3, 4, 0xf0, 0xf1, 7]),
    );
    let arbitrary =
        (head, prop::collection::vec(any::<u8>(), 0..120)).prop_map(|((a, b), rest)| {
            let mut bytes = vec![a, b];
            bytes.extend(rest);
            bytes
        });
    let shaped = (any::<u16>(), 0usize..3, any::<u32>(), any::<[u8; 32]>()).prop_map(
        |(t_id, kind, sequence, bytes)| {
            let body = match kind {
                0 => Body::Negotiate {
                    secure_channel: 0,
                    offer: Some(Offer {
                        hashes: &[1],
                        groups: &[0],
                    }),
                },
                1 => Body::Reply {
                    sequence,
                    response: &bytes,
                    challenge: (sequence & 1 == 0).then_some(&bytes),
                    public: &[],
                },
                _ => Body::Success2,
            };
            Message { t_id, body }.write()
        },
    );
    prop_oneof![arbitrary, shaped]
}
