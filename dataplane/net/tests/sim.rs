//! Deterministic simulation: two stacks over a link that loses, reorders,
//! duplicates, corrupts and delays, and changes its MTU. The byte streams are
//! checked exactly, every cluster comes back, and progress is bounded.
//!
//! `THROUGHLINE_SIM_RUNS` sets the number of runs, `THROUGHLINE_SIM_SEED` the
//! first seed: a failure names the seed that repeats it.

mod support;

use net::{CloseReason, CongestionAlgorithm, Duration, Instant};
use support::*;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Everything one run is made of.
struct World {
    now: Instant,
    random: Random,
    hosts: [Host; 2],
    apps: [App; 2],
    /// From host 0 to 1, and back.
    links: [OneWay; 2],
    mtu_change: Option<(Instant, usize)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let ipv6 = random.chance(300, 1000);
        let (mut a, mut b) = configs(ipv6);
        for config in [&mut a, &mut b] {
            config.tcp.ecn = random.chance(300, 1000);
            config.tcp.pacing = random.chance(700, 1000);
            config.tcp.gather_max = Duration::from_micros([0, 100, 5000][random.below(3) as usize]);
            if random.chance(300, 1000) {
                config.tcp.congestion = CongestionAlgorithm::NewReno;
            }
            if random.chance(300, 1000) {
                config.offload.tx_ip_checksum = random.chance(700, 1000);
                config.offload.tx_l4_checksum = true;
                if random.chance(500, 1000) {
                    config.offload.tso_max_bytes = 20_000;
                }
            }
            config.offload.buffers_max = [0, 0, 3, 9][random.below(4) as usize];
            if random.chance(200, 1000) {
                config.mtu = 9000;
                config.cluster_payload = 2048;
            }
            config.window_max_bytes = [8 << 10, 64 << 10, 1 << 20][random.below(3) as usize];
            config.receive_headroom = 16 + random.below(64) as usize;
        }
        let delay_us = [0, 20, 500, 10_000, 50_000][random.below(5) as usize];
        let harsh = random.chance(500, 1000);
        let mut how = || Impairment {
            loss: if harsh { random.below(120) } else { 0 },
            duplicate: if harsh { random.below(50) } else { 0 },
            corrupt: if harsh { random.below(30) } else { 0 },
            reorder: if harsh { random.below(300) } else { 0 },
            delay_us,
            jitter_us: 1 + random.below(delay_us + 200),
            rate: [0, 100, 1000][random.below(3) as usize],
            queue: 10 + random.below(100) as usize,
            mtu: 0,
        };
        let links = [OneWay::new(how()), OneWay::new(how())];
        let limit = if delay_us > 1000 { 60_000 } else { 200_000 };
        let sizes = [random.below(limit), random.below(limit)];
        let mut apps = [
            App::new(1, sizes[0], 2, sizes[1]),
            App::new(2, sizes[1], 1, sizes[0]),
        ];
        for app in &mut apps {
            app.hold_max = random.below(3) as usize * 20;
            app.chunk_max = [40, 512, 4096][random.below(3) as usize];
        }
        let change = Instant::from_millis(random.below(40));
        let mtu_change = random
            .chance(250, 1000)
            .then(|| (change, 1280 + random.below(200) as usize));
        let mut hosts = [Host::new(a, 512), Host::new(b, 512)];
        if links.iter().all(|link| link.how.corrupt == 0) && random.chance(600, 1000) {
            // Ports that verify checksums: the short way in.
            hosts.iter_mut().for_each(|host| host.vouches = true);
        }
        Self {
            now: Instant::ZERO,
            hosts,
            random,
            apps,
            links,
            mtu_change,
        }
    }

    fn start(&mut self) {
        let address = self.hosts[1].stack.config().addresses[0].address();
        let to = std::net::SocketAddr::new(address, 4420);
        self.hosts[1].stack.listen(to, 8).unwrap();
        let id = self.hosts[0].stack.connect(self.now, to, None).unwrap();
        self.apps[0].id = Some(id);
    }

    fn turn(&mut self, side: usize) {
        let now = self.now;
        let host = &mut self.hosts[side];
        let app = &mut self.apps[side];
        host.stack.set_budget(host.pool.unheld(), host.pool.len());
        host.stack.advance(now);
        while let Some(event) = host.stack.poll_event() {
            app.on_event(host, event);
        }
        if self.random.chance(300, 1000) {
            app.held.clear();
        }
        app.drain(host);
        app.fill(host, &mut self.random);
        host.stack.set_budget(host.pool.unheld(), host.pool.len());
        host.wire.room = self
            .random
            .chance(100, 1000)
            .then(|| self.random.below(4) as usize);
        host.stack.transmit(now, &mut host.wire);
        for frame in std::mem::take(&mut host.wire.frames) {
            if let Some(answer) = self.links[side].send(&mut self.random, now, frame) {
                self.hosts[side].receive(now, &answer);
            }
        }
        let host = &self.hosts[side];
        let promised = host.stack.clusters_promised();
        let headroom = host.stack.config().receive_headroom;
        assert!(
            promised == 0 || promised + headroom <= host.pool.len(),
            "more promised than there is"
        );
    }

    fn step(&mut self) {
        let mut next = self.now + Duration::from_millis(5);
        for side in 0..2 {
            let stack = &self.hosts[side].stack;
            for at in [self.links[side].next(), stack.next_deadline()]
                .into_iter()
                .flatten()
            {
                next = next.min(at);
            }
            if stack.wants_transmit() {
                next = next.min(self.now + Duration::from_micros(10));
            }
        }
        self.now = next.max(self.now + Duration::from_micros(1));
        if let Some((at, mtu)) = self.mtu_change
            && at <= self.now
        {
            self.mtu_change = None;
            self.links[0].how.mtu = mtu;
            self.links[1].how.mtu = mtu;
        }
        for side in 0..2 {
            let mut burst = 0;
            while burst < 32
                && let Some(frame) = self.links[1 - side].arrive(self.now)
            {
                self.hosts[side].receive(self.now, &frame);
                burst += 1;
            }
            self.turn(side);
        }
    }

    fn is_over(&self) -> bool {
        self.apps.iter().all(|app| app.closed.is_some())
    }

    fn run(mut self) -> Outcome {
        self.start();
        let mut steps = 0;
        let limit = Instant::from_millis(1000 * 1000);
        while !self.is_over() {
            self.step();
            steps += 1;
            assert!(
                self.now < limit && steps < 2_000_000,
                "no end: {:?} after {steps} steps, {}",
                self.now,
                self.describe()
            );
        }
        self.check();
        Outcome {
            retransmitted: self
                .hosts
                .iter()
                .map(|h| h.stack.stats().tcp_retransmitted)
                .sum(),
            spurious: self
                .hosts
                .iter()
                .map(|h| h.stack.stats().tcp_spurious_recoveries)
                .sum(),
            lowered: self
                .hosts
                .iter()
                .map(|h| h.stack.stats().pmtu_lowered)
                .sum(),
            out_of_order: self
                .hosts
                .iter()
                .map(|h| h.stack.stats().tcp_out_of_order)
                .sum(),
            time_ms: self.now.as_millis(),
        }
    }

    fn check(&mut self) {
        for side in 0..2 {
            let app = &self.apps[side];
            assert_eq!(app.read, app.expected, "every byte arrived");
            assert_eq!(app.closed, Some(CloseReason::Finished));
            let host = &self.hosts[side];
            assert_eq!(host.stack.connection_count(), 0);
            assert_eq!(host.stack.clusters_promised(), 0);
            assert_eq!(host.pages.held(), 0, "every page sent from is back");
            assert_eq!(host.pool.held(), 0, "every cluster received into is back");
        }
    }

    fn describe(&self) -> String {
        let sides: Vec<String> = (0..2)
            .map(|i| {
                let (app, stack) = (&self.apps[i], &self.hosts[i].stack);
                let counts: Vec<_> = (stack.stats().iter())
                    .filter(|c| c.value > 0)
                    .map(|c| (c.name, c.value))
                    .collect();
                format!(
                    "side {i}: sent {}/{} read {}/{} eof {} closed {:?} deadline {:?} promised {} held {} {counts:?}",
                    app.sent, app.total, app.read, app.expected, app.eof, app.closed,
                    stack.next_deadline(), stack.clusters_promised(), self.hosts[i].pool.held()
                )
            })
            .collect();
        sides.join("\n")
    }
}

#[derive(Default)]
struct Outcome {
    retransmitted: u64,
    spurious: u64,
    lowered: u64,
    out_of_order: u64,
    time_ms: u64,
}

#[test]
fn streams_arrive_whole_over_any_link() {
    let runs = number("THROUGHLINE_SIM_RUNS", 150);
    let first = number("THROUGHLINE_SIM_SEED", 1);
    let mut sum = Outcome::default();
    for seed in first..first + runs {
        let result = std::panic::catch_unwind(|| World::new(seed).run());
        let Ok(one) = result else {
            panic!(
                "seed {seed} failed: THROUGHLINE_SIM_SEED={seed} THROUGHLINE_SIM_RUNS=1 repeats it"
            );
        };
        sum.retransmitted += one.retransmitted;
        sum.spurious += one.spurious;
        sum.lowered += one.lowered;
        sum.out_of_order += one.out_of_order;
        sum.time_ms += one.time_ms;
    }
    println!(
        "{runs} runs from seed {first}: {} retransmissions, {} undone, {} out of order, {} MTUs lowered, {} simulated seconds",
        sum.retransmitted,
        sum.spurious,
        sum.out_of_order,
        sum.lowered,
        sum.time_ms / 1000
    );
    if runs >= 100 {
        assert!(sum.retransmitted > 0 && sum.lowered > 0 && sum.out_of_order > 0);
    }
}
