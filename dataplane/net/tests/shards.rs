//! Several shards on one port: steering, and what they tell each other. And a
//! tap on all of it.

mod support;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use net::rss::{QueueIndex, SYMMETRIC_KEY, Steering};
use net::{Notice, PcapTap, Sink};
use support::script::*;
use support::*;

fn steering(queue: QueueIndex) -> Steering {
    Steering {
        key: SYMMETRIC_KEY,
        table: (0..128).map(|i| QueueIndex(i % 4)).collect(),
        queue,
    }
}

#[test]
fn k03_connections_that_we_open_are_steered_to_their_shard() {
    for queue in (0..4).map(QueueIndex) {
        let mut t = Script::with(false, |config| config.steering = Some(steering(queue)));
        for _ in 0..8 {
            t.host.stack.connect(t.now, t.peer, None).unwrap();
        }
        let syns = t.out();
        assert_eq!(syns.len(), 8);
        for syn in syns {
            let local = SocketAddr::new(t.ours.ip(), syn.from_port);
            assert_eq!(steering(queue).queue_of(t.peer, local), queue);
        }
    }
}

#[test]
fn what_one_shard_hears_of_neighbours_the_others_learn() {
    let mut asked = Script::new();
    let mut other = Script::with(false, |config| config.owns_addresses = false);
    other.hidden = true;
    other
        .host
        .stack
        .connect(other.now, other.peer, None)
        .unwrap();
    other.out();
    assert_eq!(other.others.len(), 1, "it asks");
    // The answer is steered to the first shard, which had not asked.
    let answer = other.neighbor_answer(&other.others[0]).unwrap();
    asked.host.receive(asked.now, &answer);
    let notice: Notice = asked.host.stack.poll_notice().expect("news");
    assert!(asked.host.stack.poll_notice().is_none());
    other.host.stack.notice(other.now, notice);
    assert_eq!(other.one().flags, SYN);
    assert!(
        other.host.stack.poll_notice().is_none(),
        "and nobody is told again"
    );
}

/// The first shard knows the neighbour, and is not surprised by an answer; the one that has asked is told all the same.
#[test]
fn r09_a_shard_that_asks_learns_what_another_one_knows() {
    let mut knows = Script::new();
    let mut other = Script::with(false, |config| config.owns_addresses = false);
    other.hidden = true;
    (other.host.stack)
        .connect(other.now, other.peer, None)
        .unwrap();
    other.out();
    let answer = other.neighbor_answer(&other.others[0]).unwrap();
    for _ in 0..2 {
        knows.host.receive(knows.now, &answer);
        let notice: Notice = knows.host.stack.poll_notice().expect("news");
        assert!(knows.host.stack.poll_notice().is_none());
        other.host.stack.notice(other.now, notice);
    }
    assert_eq!(other.one().flags, SYN);
}

#[test]
fn a_complaint_about_another_shards_segment_reaches_it() {
    let mut first = Script::new();
    let mut second = Script::new();
    second.open();
    second.write(0, 1460);
    let sent = second.one();
    let complaint = too_big(&second.frame_of_ours(&sent), 1300).unwrap();
    first.host.receive(first.now, &complaint);
    let notice = first
        .host
        .stack
        .poll_notice()
        .expect("not ours: somebody else's");
    second.host.stack.notice(second.now, notice);
    assert_eq!(second.out()[0].data.len(), 1260);
}

#[test]
fn a_notice_crosses_threads_in_words() {
    fn plain<T: Copy + Send + 'static>() {}
    plain::<Notice>();
}

/// RFC 4862, 5.4: one shard asks whether an address is free, another hears that it is not.
#[test]
fn rfc4862_5_4_no_shard_uses_an_address_that_another_heard_to_be_taken() {
    let shard = |owns: bool| {
        let (mut config, _) = configs(true);
        config.duplicate_address_detection = true;
        config.owns_addresses = owns;
        Host::new(config, 64)
    };
    let (mut owner, mut other) = (shard(true), shard(false));
    let ours = owner.stack.config().addresses[0].address();
    let mut now = net::Instant::from_millis(5);
    let asked = owner.turn(now);
    let solicits = |frame: &Vec<u8>| frame[20] == 58 && frame.len() > 54 && frame[54] == 135;
    let question = asked.iter().find(|frame| solicits(frame)).unwrap();
    assert!(other.turn(now).is_empty(), "one asks for all");
    // The one who has it answers: to all nodes, and to the other queue.
    let mut answer = question.clone();
    answer[6..12].copy_from_slice(&MAC_B.0);
    let std::net::IpAddr::V6(address) = ours else {
        panic!("IPv6")
    };
    let mut icmp = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    icmp.extend(address.octets());
    icmp.extend([2, 1]);
    icmp.extend(MAC_B.0);
    let all_nodes = "ff02::1".parse().unwrap();
    let ip = packet(ours, all_nodes, 58, icmp, 2, 0, 255);
    let frame = ethernet(MAC_B.0, [0x33, 0x33, 0, 0, 0, 1], 0x86dd, &ip);
    other.receive(now, &frame);
    let notice = other.stack.poll_notice().expect("news");
    owner.stack.notice(now, notice);
    now += net::Duration::from_secs(2);
    for shard in [&mut owner, &mut other] {
        shard.turn(now);
        assert!(!shard.stack.is_address_usable(ours));
    }
}

#[derive(Clone, Default)]
struct Capture(Rc<RefCell<Vec<u8>>>);

impl Sink for Capture {
    fn write(&mut self, bytes: &[u8]) {
        self.0.borrow_mut().extend_from_slice(bytes);
    }
}

#[test]
fn the_tap_sees_both_ways() {
    let mut t = Script::new();
    let capture = Capture::default();
    let tap = PcapTap::new(capture.clone(), 65_535, 0);
    t.host.stack.set_tap(Some(Box::new(tap)));
    t.open();
    t.write(0, 100);
    let sent = t.one();
    t.host.stack.set_tap(None);
    t.sends(seg(ACK, IRS + 1, t.iss + 101));
    // SYN, SYN-ACK, ACK, data: each as it was on the wire.
    let bytes = capture.0.borrow();
    let mut at = 24;
    let mut frames = Vec::new();
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        frames.push(&bytes[at + 16..at + 16 + len]);
        at += 16 + len;
    }
    assert_eq!(frames.len(), 4);
    assert_eq!(frames[3][54..], sent.data[..]);
    for frame in frames {
        check_sums(frame);
    }
}
