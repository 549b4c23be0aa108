//! Volumes that lie on several drives (row R8): a request is divided at their borders, and each drive keeps its own
//! queue, patience and faults.

mod lab;

use std::time::Duration;

use block::{DeviceState, Fault, Flags, Io, Op, WritePolicy};
use lab::{Bench, HOST, Lab, NAMESPACE};
use testkit::Random;

/// A drive of 1024 blocks of 4096 bytes, and so many more.
fn drive(more_blocks: i64) -> Bench {
    Bench {
        depth: 16,
        more_blocks,
        ..Bench::default()
    }
}

fn zero(lab: &mut Lab, id: u64, first: u64, blocks: u64, flags: Flags) {
    let io = Io::write_zeroes(first * 4096, blocks * 4096, flags);
    lab.start(NAMESPACE, HOST, id, io);
}

#[test]
fn r08_a_request_over_a_border_goes_to_both_drives_and_ends_once() {
    // 1027 blocks, of which 1024 are given.
    let mut lab = Lab::spanned(WritePolicy::Through, vec![drive(3), drive(0)]);
    zero(&mut lab, 1, 1020, 10, Flags::NONE);
    assert_eq!(lab.told(0), [(Op::WriteZeroes, 1020, 4)]);
    assert_eq!(lab.serve(0), []);
    assert_eq!(lab.told(1), [(Op::WriteZeroes, 0, 6)]);
    // Something of it is done: it is no longer given back.
    assert!(!lab.abort(HOST, 1));
    assert_eq!(lab.serve(1), [(HOST, 1, Ok(()))]);
    lab.read_from(NAMESPACE, HOST, 2, 1022, 4);
    assert_eq!(lab.finish(), [(HOST, 2, Ok(()))]);
    assert_eq!(lab.told(0), [(Op::Read, 1022, 2)]);
    assert_eq!(lab.told(1), [(Op::Read, 0, 2)]);
}

#[test]
fn r08_a_fault_of_one_drive_is_that_of_the_request() {
    for faulty in [0, 1] {
        let mut lab = Lab::spanned(WritePolicy::Through, vec![drive(0), drive(0)]);
        lab.benches[faulty].borrow_mut().fault = Some(Fault::WriteError);
        zero(&mut lab, 1, 1020, 10, Flags::NONE);
        assert_eq!(lab.finish(), [(HOST, 1, Err(Fault::WriteError))]);
        // On the other one all goes well.
        zero(&mut lab, 2, 1024 * (1 - faulty as u64), 1, Flags::NONE);
        assert_eq!(lab.finish(), [(HOST, 2, Ok(()))]);
    }
}

#[test]
fn r08_each_drive_makes_its_part_stable() {
    let caching = |more| Bench {
        caches: true,
        ..drive(more)
    };
    let mut lab = Lab::spanned(WritePolicy::Through, vec![caching(0), drive(0), caching(0)]);
    zero(&mut lab, 1, 1023, 1026, Flags::fua(true));
    assert_eq!(lab.finish(), [(HOST, 1, Ok(()))]);
    let flush = (Op::Flush, 0, 0);
    assert_eq!(lab.told(0), [(Op::WriteZeroes, 1023, 1), flush]);
    assert_eq!(lab.told(1), [(Op::WriteZeroes, 0, 1024)]);
    assert_eq!(lab.told(2), [(Op::WriteZeroes, 0, 1), flush]);
    lab.start(NAMESPACE, HOST, 2, Io::flush());
    assert_eq!(lab.finish(), [(HOST, 2, Ok(()))]);
    assert_eq!(
        [0, 1, 2].map(|drive| lab.told(drive)),
        [vec![flush], vec![], vec![flush]]
    );
}

#[test]
fn r08_a_drive_that_hangs_is_recovered_alone_and_the_volume_says_so() {
    let patient = |timeout| Bench {
        timeout: Some(Duration::from_secs(timeout)),
        ..drive(0)
    };
    let mut lab = Lab::spanned(WritePolicy::Through, vec![patient(5), patient(5)]);
    let states = |lab: &Lab| lab.volumes.device_states().collect::<Vec<_>>();
    use DeviceState::{Failing, Gone, Works};
    assert_eq!(states(&lab), [Works; 3]);
    // The second one has it all the while; the first one ends what it is given.
    zero(&mut lab, 1, 1023, 2, Flags::NONE);
    assert_eq!(lab.serve(0), []);
    for second in 1..=20 {
        lab.now = Duration::from_secs(second);
        zero(&mut lab, 100 + second, 0, 1, Flags::NONE);
        let ends = lab.serve(0);
        assert!(ends.contains(&(HOST, 100 + second, Ok(()))), "{ends:?}");
        let is_given_up = ends.contains(&(HOST, 1, Err(Fault::Gone)));
        assert_eq!(is_given_up, second == 15);
        let expected = match second {
            0..5 => Works,
            5..15 => Failing,
            _ => Gone,
        };
        assert_eq!(
            states(&lab),
            [Works, expected, expected],
            "after {second} s"
        );
    }
    let recoveries = [0, 1].map(|drive| lab.benches[drive].borrow().recoveries);
    assert_eq!(recoveries, [0, 2]);
    zero(&mut lab, 2, 1024, 1, Flags::NONE);
    assert_eq!(lab.finish(), [(HOST, 2, Err(Fault::Gone))]);
    zero(&mut lab, 3, 7, 1, Flags::NONE);
    assert_eq!(lab.finish(), [(HOST, 3, Ok(()))]);
}

#[test]
fn r08_a_volume_grows_with_its_last_drive_alone() {
    let mut lab = Lab::spanned(WritePolicy::Through, vec![drive(0), drive(0)]);
    let volume = block::VolumeId(2);
    let resized = |lab: &Lab| lab.volumes.resized(volume);
    assert_eq!(resized(&lab), None);
    lab.benches[0].borrow_mut().more_blocks = 100;
    assert_eq!(resized(&lab), None);
    lab.benches[1].borrow_mut().more_blocks = 100;
    assert_eq!(resized(&lab), Some((volume, 2148)));
    lab.volumes.resize(volume);
    assert_eq!(resized(&lab), None);
    zero(&mut lab, 1, 2147, 1, Flags::NONE);
    assert_eq!(lab.finish(), [(HOST, 1, Ok(()))]);
    assert_eq!(lab.told(1), [(Op::WriteZeroes, 1123, 1)]);
}

/// Whatever drives and requests there are: every block is told to the drive that has it, once, in order.
#[test]
fn r08_any_requests_on_any_drives_do_what_they_would_on_one() {
    let mut random = Random::new(808);
    for _ in 0..200 {
        let drives: Vec<_> = (0..random.range(2..=4u32))
            .map(|_| Bench {
                prp: random.chance(1, 3),
                depth: random.range(1..=4),
                ..drive(random.range(16..=1100u64) as i64 - 1024)
            })
            .collect();
        let blocks: Vec<u64> = (drives.iter())
            .map(|drive| 1024u64.saturating_add_signed(drive.more_blocks))
            .collect();
        let last = blocks.len() - 1;
        let given = |(place, &blocks): (usize, &u64)| match place == last {
            true => blocks,
            false => blocks / 16 * 16,
        };
        let given: Vec<u64> = blocks.iter().enumerate().map(given).collect();
        let all: u64 = given.iter().sum();
        let mut lab = Lab::spanned(WritePolicy::Through, drives);
        for id in 0..20 {
            let first = random.below(all);
            let reads = random.chance(1, 2);
            let most = if reads { 32 } else { u64::MAX };
            let count = random.range(1..=most.min(all - first));
            match reads {
                true => lab.read_from(NAMESPACE, HOST, id, first, count as usize),
                false => zero(&mut lab, id, first, count, Flags::NONE),
            }
            assert_eq!(lab.finish(), [(HOST, id, Ok(()))]);
            let (mut start, mut told) = (0, Vec::new());
            for (place, given) in given.iter().enumerate() {
                for (_, block, blocks) in lab.told(place) {
                    assert!(block + blocks <= *given);
                    told.extend(start + block..start + block + blocks);
                }
                start += given;
            }
            assert_eq!(told, (first..first + count).collect::<Vec<_>>());
        }
    }
}
