//! Hostile input: what the fuzz targets do, with bounded random bytes.
//! `THROUGHLINE_HOSTILE_RUNS` sets the number of runs of each kind.

mod support;

use support::{Random, hostile};

fn runs() -> u64 {
    std::env::var("THROUGHLINE_HOSTILE_RUNS").map_or(400, |n| n.parse().expect("a number"))
}

fn each(mut what: impl FnMut(&[u8])) {
    for seed in 1..=runs() {
        let mut random = Random::new(seed);
        let len = 1 + random.below(1500) as usize;
        let input: Vec<u8> = random.bytes(len);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| what(&input)));
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn any_frames_are_survived() {
    each(hostile::frames);
}

#[test]
fn any_segments_are_survived() {
    each(hostile::segments);
}

/// Good frames with a few bits turned: past every gate, and then wrong.
#[test]
fn damaged_frames_are_survived() {
    use support::script::{ACK, IRS, PSH, SYN, Script, seg};
    for seed in 1..=runs() {
        let mut random = Random::new(seed);
        let mut t = Script::with(random.chance(500, 1000), |_| {});
        let syn = seg(SYN, IRS, 0).mss(1400).sack_ok().ts(1, 0).scale(3);
        t.accept(syn, net::Duration::from_millis(1));
        for i in 0..40 {
            let segment = seg(ACK | PSH, IRS + 1 + i * 50, t.iss + 1)
                .data(&[1; 50])
                .ts(2 + i, 0)
                .sack(5, 6);
            let mut frame = t.frame(&segment);
            for _ in 0..1 + random.below(6) {
                let at = random.below(frame.len() as u64) as usize;
                frame[at] ^= random.word() as u8;
            }
            frame.truncate(frame.len() - random.below(20) as usize);
            let mut fresh = t.host.pool.alloc().unwrap();
            fresh[..frame.len()].copy_from_slice(&frame);
            let mut rx = net::RxFrame::new(fresh.freeze().slice(0..frame.len()));
            // A port that vouches for everything: nothing is stopped by a checksum.
            rx.ip_checksum = net::Verdict::Good;
            rx.l4_checksum = net::Verdict::Good;
            t.host.stack.receive(t.now, rx);
            t.wait_ms(random.below(50));
            t.out();
        }
    }
}
