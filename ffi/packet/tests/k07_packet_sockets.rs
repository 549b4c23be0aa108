//! Row K7: frames over the kernel's interfaces, on a veth in a network namespace of its own. Needs root.
#![allow(missing_docs)]

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::process::Command;
use std::time::{Duration, Instant};

use packet::{Interface, InterfaceState, Offload, Receiver, Sender, Shape};

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const TCP: usize = 20;
const HEADERS: usize = ETHERNET + IPV4 + TCP;
const OFF: &str = "tx off rx off sg off tso off gso off gro off";

/// A frame as it arrived.
struct Arrived {
    bytes: Vec<u8>,
    vlan: Option<u16>,
    verified: bool,
    /// Whether all of it came.
    whole: bool,
}

fn run(command: &str) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error} (run ci/setup)"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
}

/// `from` and `to`, the ends of a veth that does only what `offloads` says.
fn veth(offloads: &str) -> (Interface, Interface) {
    // SAFETY: takes no pointers; moves the calling thread alone.
    #[allow(unsafe_code)]
    let code = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(code, 0, "a network namespace needs root");
    run("ip link add from type veth peer name to");
    for end in ["from", "to"] {
        run(&format!("sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1"));
        run(&format!("ethtool -K {end} {offloads}"));
        run(&format!("ip link set {end} up"));
    }
    (
        Interface::find("from").unwrap(),
        Interface::find("to").unwrap(),
    )
}

fn receiver(interface: &Interface, frames: usize) -> Receiver {
    Receiver::open(interface, Shape::new(1 << 20, frames, 1500), 1)
        .unwrap()
        .remove(0)
}

/// Adds what has come to `arrived`.
fn take(receiver: &mut Receiver, arrived: &mut Vec<Arrived>) {
    while let Some(frame) = receiver.receive() {
        let mut bytes = vec![0; frame.len()];
        let (vlan, verified) = (frame.vlan(), frame.is_verified());
        // Two places, of which the first is small.
        let (head, tail) = bytes.split_at_mut(5);
        let whole = frame.copy_to(&mut [IoSliceMut::new(head), IoSliceMut::new(tail)]);
        arrived.push(Arrived {
            bytes,
            vlan,
            verified,
            whole,
        });
    }
}

/// What comes, until there were `n` frames.
fn receive(receiver: &mut Receiver, n: usize) -> Vec<Arrived> {
    let mut arrived = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while arrived.len() < n && Instant::now() < deadline {
        take(receiver, &mut arrived);
    }
    arrived
}

/// What comes, until nothing did for two seconds.
fn receive_all(receiver: &mut Receiver) -> Vec<Arrived> {
    let mut arrived = Vec::new();
    let mut last = (Instant::now(), 0);
    while last.0.elapsed() < Duration::from_secs(2) {
        take(receiver, &mut arrived);
        if arrived.len() > last.1 {
            last = (Instant::now(), arrived.len());
        }
    }
    arrived
}

fn ethernet(kind: u16, len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    bytes.extend(kind.to_be_bytes());
    bytes.extend((0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)));
    bytes
}

fn send(sender: &Sender, frames: &[Vec<u8>]) {
    for burst in frames.chunks(packet::BURST) {
        let none = Offload::NONE;
        let parts: Vec<[IoSlice<'_>; 3]> = (burst.iter())
            .map(|frame| {
                let (head, rest) = frame.split_at(9);
                [
                    IoSlice::new(none.as_bytes()),
                    IoSlice::new(head),
                    IoSlice::new(rest),
                ]
            })
            .collect();
        let parts: Vec<&[IoSlice<'_>]> = parts.iter().map(|parts| &parts[..]).collect();
        assert_eq!(sender.send(&parts).unwrap(), burst.len());
    }
}

/// The Internet checksum's sum of `bytes` (RFC 1071), folded.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| low.into()));
    let mut sum = words.fold(start, |sum, word| sum + word);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The pseudo-header's sum of an IPv4 packet with `len` bytes of TCP.
fn pseudo(ip: &[u8], len: usize) -> u16 {
    sum(&ip[12..20], 6 + len as u32)
}

/// A TCP segment with `payload` bytes: all but its checksum.
fn segment(payload: usize, seed: u8, source: u16) -> Vec<u8> {
    let mut frame = ethernet(0x0800, 0, 0);
    let mut ip = vec![
        0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
    ];
    ip[2..4].copy_from_slice(&((IPV4 + TCP + payload) as u16).to_be_bytes());
    let check = !sum(&ip, 0);
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    let mut tcp = vec![0; TCP];
    tcp[..2].copy_from_slice(&source.to_be_bytes());
    tcp[2..4].copy_from_slice(&4420_u16.to_be_bytes());
    tcp[4..8].copy_from_slice(&1000_u32.to_be_bytes());
    (tcp[12], tcp[13]) = (5 << 4, 0x10);
    tcp[16..18].copy_from_slice(&pseudo(&ip, TCP + payload).to_be_bytes());
    frame.extend(ip);
    frame.extend(tcp);
    frame.extend((0..payload).map(|i| (i as u8).wrapping_mul(7).wrapping_add(seed)));
    frame
}

fn send_one(sender: &Sender, offload: Offload, frame: &[u8]) -> std::io::Result<usize> {
    sender.send(&[&[IoSlice::new(offload.as_bytes()), IoSlice::new(frame)]])
}

/// What must hold of each segment that the kernel made: right sums, numbers that go on, full but the last.
fn is_cut_well(arrived: &[Arrived], payload: &[u8], mss: usize) {
    let mut at = 0;
    for frame in arrived {
        assert!(frame.whole);
        let (ip, tcp) = (&frame.bytes[ETHERNET..], &frame.bytes[ETHERNET + IPV4..]);
        assert_eq!(sum(&ip[..IPV4], 0), 0xffff, "the header's checksum");
        assert_eq!(
            sum(tcp, pseudo(ip, tcp.len()).into()),
            0xffff,
            "TCP's checksum"
        );
        let sequence = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
        assert_eq!(sequence as usize, 1000 + at);
        let data = &tcp[TCP..];
        assert!(data.len() == mss || at + data.len() == payload.len());
        assert_eq!(data, &payload[at..at + data.len()]);
        at += data.len();
    }
    assert_eq!(at, payload.len());
}

#[test]
fn k07_frames_arrive_as_they_were_sent() {
    let (from, to) = veth(OFF);
    assert_eq!(to.mtu().unwrap(), 1500);
    are([&from, &to], [InterfaceState::Up; 2]);
    assert!(!to.cuts_segments());
    assert_eq!(to.mac().unwrap()[0] & 1, 0, "an address of one station");
    let (sender, mut receiver) = (Sender::open(&from).unwrap(), receiver(&to, 100));
    send(&Sender::open(&to).unwrap(), &[ethernet(0x88b5, 60, 0)]);
    assert_eq!(receiver.waiting(1), 0, "what goes the other way");
    // Several times around the ring.
    for round in 0..10_u8 {
        let frames: Vec<_> = (0..90)
            .map(|i| ethernet(0x88b5, 46 + i * 16, round))
            .collect();
        send(&sender, &frames);
        assert_eq!(receiver.waiting(16), 16);
        let arrived = receive(&mut receiver, frames.len());
        assert_eq!(arrived.len(), frames.len());
        for (arrived, sent) in arrived.iter().zip(&frames) {
            assert!(arrived.whole && arrived.bytes == *sent && arrived.vlan.is_none());
        }
    }
    assert_eq!(receiver.waiting(1), 0);
    assert_eq!(receiver.take_dropped().unwrap(), 0);
}

#[test]
fn k07_a_tag_is_taken_out_of_its_frame() {
    let (from, to) = veth(OFF);
    let (sender, mut receiver) = (Sender::open(&from).unwrap(), receiver(&to, 16));
    let mut tagged = ethernet(0x8100, 0, 0);
    tagged.extend([0x20, 0x07, 0x88, 0xb5]);
    tagged.extend([9; 60]);
    send(&sender, &[tagged]);
    let arrived = receive(&mut receiver, 1);
    assert_eq!(arrived[0].vlan, Some(0x2007));
    assert_eq!(arrived[0].bytes[12..14], [0x88, 0xb5]);
    assert_eq!(arrived[0].bytes.len(), ETHERNET + 60);
}

#[test]
fn k07_a_full_ring_drops_and_counts_and_goes_on() {
    let (from, to) = veth(OFF);
    let (sender, mut receiver) = (Sender::open(&from).unwrap(), receiver(&to, 64));
    let frames: Vec<_> = (0..1000).map(|i| ethernet(0x88b5, 60, i as u8)).collect();
    send(&sender, &frames);
    let first = receive_all(&mut receiver);
    assert!(first.len() >= 64 && first.len() < 1000);
    assert!(
        first
            .iter()
            .zip(&frames)
            .all(|(arrived, sent)| arrived.bytes == *sent)
    );
    assert_eq!(
        receiver.take_dropped().unwrap() as usize,
        1000 - first.len()
    );
    assert_eq!(receiver.take_dropped().unwrap(), 0, "once");
    send(&sender, &frames[..10]);
    assert_eq!(receive(&mut receiver, 10).len(), 10);
}

#[test]
fn k07_the_kernel_cuts_segments_and_completes_them() {
    let (from, to) = veth(OFF);
    let (sender, mut receiver) = (Sender::open(&from).unwrap(), receiver(&to, 64));
    let tcp = (ETHERNET + IPV4) as u16;
    for payload in [1449, 2896, 10_000, 60_000] {
        let frame = segment(payload, 3, 5000);
        send_one(
            &sender,
            Offload::segment(false, tcp, HEADERS as u16, 1448),
            &frame,
        )
        .unwrap();
        let arrived = receive(&mut receiver, payload.div_ceil(1448));
        assert_eq!(arrived.len(), payload.div_ceil(1448));
        is_cut_well(&arrived, &frame[HEADERS..], 1448);
    }
    let frame = segment(100, 4, 5000);
    send_one(&sender, Offload::checksum(tcp), &frame).unwrap();
    is_cut_well(&receive(&mut receiver, 1), &frame[HEADERS..], 1448);
}

#[test]
fn k07_a_frame_longer_than_the_mtu_is_whole() {
    // As an interface comes: what is to be cut goes to the other end in one piece.
    let (from, to) = veth("tso on gso on gro on");
    assert!(from.cuts_segments());
    let (sender, mut receiver) = (Sender::open(&from).unwrap(), receiver(&to, 64));
    let tcp = (ETHERNET + IPV4) as u16;
    let offload = Offload::segment(false, tcp, HEADERS as u16, 1448);
    let frames: Vec<_> = (0..20)
        .map(|i| segment(1449 + i * 3000, i as u8, 5000))
        .collect();
    for (i, frame) in frames.iter().enumerate() {
        // Short ones between them keep their places.
        send(&sender, &[ethernet(0x88b5, 60, i as u8)]);
        send_one(&sender, offload, frame).unwrap();
    }
    // One that nobody reads does not stand for the next.
    drop(receiver.receive().unwrap());
    drop(receiver.receive().unwrap());
    let arrived = receive(&mut receiver, 2 * frames.len() - 2);
    assert_eq!(arrived.len(), 2 * frames.len() - 2);
    for (i, pair) in arrived.chunks(2).enumerate() {
        assert_eq!(pair[0].bytes, ethernet(0x88b5, 60, i as u8 + 1));
        assert!(
            pair[1].whole && pair[1].verified,
            "the data are right, whatever the sum"
        );
        assert_eq!(pair[1].bytes[HEADERS..], frames[i + 1][HEADERS..]);
    }
}

#[test]
fn k07_a_flow_has_one_receiver_of_several() {
    let (from, to) = veth(OFF);
    let sender = Sender::open(&from).unwrap();
    let mut receivers = Receiver::open(&to, Shape::new(1 << 21, 1000, 1500), 3).unwrap();
    let tcp = (ETHERNET + IPV4) as u16;
    let own = Sender::open(&to).unwrap();
    for flow in 0..50 {
        send_one(&own, Offload::checksum(tcp), &segment(64, 0, 5000 + flow)).unwrap();
    }
    assert!(
        receivers.iter().all(|receiver| receiver.waiting(1) == 0),
        "what goes the other way"
    );
    for round in 0..4 {
        for flow in 0..50 {
            send_one(
                &sender,
                Offload::checksum(tcp),
                &segment(64, round, 5000 + flow),
            )
            .unwrap();
        }
    }
    let port = |arrived: &Arrived| {
        let tcp = &arrived.bytes[ETHERNET + IPV4..];
        u16::from_be_bytes([tcp[0], tcp[1]])
    };
    let mut seen = vec![Vec::new(); 50];
    let mut all = 0;
    for (i, receiver) in receivers.iter_mut().enumerate() {
        let arrived = receive_all(receiver);
        assert!(!arrived.is_empty(), "each has some");
        all += arrived.len();
        arrived
            .iter()
            .for_each(|frame| seen[usize::from(port(frame) - 5000)].push(i));
    }
    assert_eq!(all, 200);
    assert!(
        seen.iter()
            .all(|by| by.len() == 4 && by.iter().all(|&i| i == by[0]))
    );
}

#[test]
fn k07_what_cannot_be_sent_is_refused() {
    assert_eq!(
        Interface::find("no-such-if").unwrap_err().raw_os_error(),
        Some(libc::ENODEV)
    );
    let (from, to) = veth(OFF);
    let sender = Sender::open(&from).unwrap();
    let long = ethernet(0x88b5, 1600, 0);
    let error = send_one(&sender, Offload::NONE, &long).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    let (good, tcp) = (segment(60, 0, 1), (ETHERNET + IPV4) as u16);
    let beyond = Offload::checksum(4000);
    let error = send_one(&sender, beyond, &good).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    // What was sent before the one that is refused counts.
    let none = Offload::NONE;
    let [one, two] =
        [&good, &long].map(|frame| [IoSlice::new(none.as_bytes()), IoSlice::new(frame)]);
    assert_eq!(sender.send(&[&one, &two]).unwrap(), 1);
    // The other end drops what is longer than its own MTU.
    from.set_mtu(1600).unwrap();
    assert_eq!(from.mtu().unwrap(), 1600);
    let error = send_one(&sender, none, &long).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
    to.set_mtu(1600).unwrap();
    assert_eq!(send_one(&sender, none, &long).unwrap(), 1);
    run("ip link set from down");
    let error = send_one(&sender, Offload::checksum(tcp), &good).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkDown);
}

/// Waits until they are so: the kernel tells of links a little later.
fn are(interfaces: [&Interface; 2], states: [InterfaceState; 2]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while interfaces.map(Interface::state) != states {
        assert!(
            Instant::now() < deadline,
            "{:?}",
            interfaces.map(Interface::state)
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What has the name of one that went is another one.
#[test]
fn k06_an_interface_is_told_from_another_of_its_name() {
    use InterfaceState::{Gone, NoLink, Off, Up};
    let (from, to) = veth(OFF);
    are([&from, &to], [Up, Up]);
    run("ip link set to down");
    are([&from, &to], [NoLink, Off]);
    run("ip link set to name elsewhere");
    run("ip link set elsewhere up");
    assert!(Interface::find("to").is_err());
    // The same as before, whatever it is called.
    are([&from, &to], [Up, Up]);
    run("ip link del elsewhere");
    run("ip link add from type veth peer name to");
    run("ip link set from up");
    run("ip link set to up");
    let another = Interface::find("to").unwrap();
    are([&another, &to], [Up, Gone]);
    assert_eq!(from.state(), Gone);
}
