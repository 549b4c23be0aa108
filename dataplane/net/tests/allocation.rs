//! Nothing is allocated after the start: not per frame, not per I/O, not per
//! connection, not under loss (row K4).

mod support;

use net::{Duration, Event, Instant, PortFull, RxFrame, Stack, Transmit, TxFrame, Verdict};
use pages::{Arena, ClusterPool, HeapRegion, Slice};
use support::configs;
use testkit::allocations::{Counting, here};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A wire that moves frames straight into the other side's clusters, and loses
/// every so many.
struct Cable<'a> {
    pool: &'a ClusterPool,
    arrived: &'a mut Vec<Slice>,
    count: &'a mut u64,
    lose_every: u64,
}

impl Transmit for Cable<'_> {
    fn transmit(&mut self, frame: TxFrame<'_>) -> Result<(), PortFull> {
        if self.arrived.len() == self.arrived.capacity() {
            return Err(PortFull);
        }
        *self.count += 1;
        if self.count.is_multiple_of(self.lose_every) {
            return Ok(());
        }
        let mut fresh = self.pool.alloc().ok_or(PortFull)?;
        let mut len = frame.headers.len();
        fresh[..len].copy_from_slice(frame.headers);
        for piece in frame.payload.pieces() {
            fresh[len..len + piece.len()].copy_from_slice(piece.bytes());
            len += piece.len();
        }
        self.arrived.push(fresh.freeze().slice(0..len));
        Ok(())
    }
}

struct Side {
    stack: Stack,
    pool: ClusterPool,
    arrived: Vec<Slice>,
    count: u64,
}

fn side(config: net::StackConfig) -> Side {
    let arena = Arena::new(HeapRegion::new(256));
    Side {
        stack: Stack::new(config).unwrap(),
        pool: ClusterPool::carve(&arena, 512, 2048).unwrap(),
        arrived: Vec::with_capacity(64),
        count: 0,
    }
}

fn exchange(from: &mut Side, to: &mut Side, now: Instant, lose_every: u64) {
    from.stack.advance(now);
    let mut cable = Cable {
        pool: &to.pool,
        arrived: &mut to.arrived,
        count: &mut from.count,
        lose_every,
    };
    from.stack.transmit(now, &mut cable);
    to.stack.set_budget(to.pool.unheld(), to.pool.len());
    while let Some(head) = to.arrived.pop() {
        let mut frame = RxFrame::new(head);
        frame.ip_checksum = Verdict::Good;
        to.stack.receive(now, frame);
    }
}

#[test]
fn k04_nothing_is_allocated_after_the_start() {
    let (a, b) = configs(false);
    let to = std::net::SocketAddr::new(b.addresses[0].address(), 4420);
    let (mut a, mut b) = (side(a), side(b));
    let source = Arena::new(HeapRegion::new(4));
    let source = ClusterPool::carve(&source, 1, 4096).unwrap();
    let page = source.alloc().unwrap().freeze().slice(0..4096);
    b.stack.listen(to, 8).unwrap();
    let before = here();
    let (mut now, mut received, mut closed) = (Instant::from_millis(1), 0u64, 0);
    let mut open = Some(a.stack.connect(now, to, None).unwrap());
    for turn in 0..60_000u64 {
        now += Duration::from_micros(50);
        // Every so often a time of loss: recovery allocates nothing either.
        let lose_every = if turn % 1000 < 300 { 9 } else { u64::MAX };
        if let Some(id) = open {
            while a.stack.send_room(id).chunks > 0 {
                if a.stack.send(id, page.clone().into()).is_err() {
                    break;
                }
            }
            if turn % 4000 == 3999 {
                a.stack.close(id);
                open = None;
            }
        }
        exchange(&mut a, &mut b, now, lose_every);
        while let Some(event) = b.stack.poll_event() {
            match event {
                Event::Readable(id) => {
                    while let Some(slice) = b.stack.recv(id) {
                        received += slice.len() as u64;
                    }
                }
                Event::PeerClosed(id) => b.stack.close(id),
                Event::Closed { connection, .. } => b.stack.release(connection),
                _ => {}
            }
        }
        exchange(&mut b, &mut a, now, lose_every);
        while let Some(event) = a.stack.poll_event() {
            if let Event::Closed { connection, .. } = event {
                a.stack.release(connection);
                closed += 1;
                open = Some(a.stack.connect(now, to, None).unwrap());
            }
        }
    }
    let allocated = here() - before;
    let stats = a.stack.stats();
    assert!(
        received > 10 << 20 && closed >= 2,
        "{received} bytes, {closed} closed"
    );
    assert!(stats.tcp_retransmitted > 100, "{}", stats.tcp_retransmitted);
    assert_eq!(allocated, 0);
}
