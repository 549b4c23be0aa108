//! Our stack as an end of a link: a port of one packet socket, clusters on the
//! heap, and a poll loop that sleeps when there is nothing to do.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant as Clock;

use net::{
    ConnectionId, Counters, Duration, Event, Instant, PcapTap, PortFull, RxFrame, Sink, Stack,
    StackConfig, Transmit, TxFrame,
};
use pages::{Arena, Chunk, ClusterPool, HeapRegion};
use testkit::pattern;

use super::place::{INTERFACE, Way};
use super::sys;
use super::workload::{Done, End, Gate, Halfway, Job, PATIENCE, Part, REQUEST, RESPONSE, stream};

/// Clusters to receive into, and how large they are.
const CLUSTERS: usize = 8192;
const CLUSTER: usize = 2048;
/// Pages that applications send from.
const PAGES: usize = 4608;
const PAGE: usize = 4096;
/// Frames received in one turn.
const BURST: usize = 64;

/// A network interface, as the stack sees one.
struct Port {
    socket: File,
    /// Frames that came when no cluster was free.
    missed: u64,
}

impl Port {
    /// Hands what has arrived to the stack; how much it was.
    fn receive(&mut self, now: Instant, pool: &ClusterPool, stack: &mut Stack) -> usize {
        for count in 0..BURST {
            let Some(mut fresh) = pool.alloc() else {
                let mut nowhere = [0; 64];
                match self.socket.read(&mut nowhere) {
                    Ok(_) => self.missed += 1,
                    Err(_) => return count,
                }
                continue;
            };
            let Ok(len) = self.socket.read(&mut fresh) else {
                return count;
            };
            let head = fresh.freeze_filled(len).slice(0..len);
            stack.set_budget(pool.unheld() + 1, pool.len());
            stack.receive(now, RxFrame::new(head));
        }
        BURST
    }
}

impl Transmit for Port {
    fn transmit(&mut self, frame: TxFrame<'_>) -> Result<(), PortFull> {
        let mut parts = [IoSlice::new(&[]); 64];
        parts[0] = IoSlice::new(frame.headers);
        let mut count = 1;
        for piece in frame.payload.pieces() {
            parts[count] = IoSlice::new(piece.bytes());
            count += 1;
        }
        match self.socket.write_vectored(&parts[..count]) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(PortFull),
            // The queueing discipline dropped it, as a switch would: nobody is told.
            Err(_) => Ok(()),
        }
    }
}

/// A stack, its port and its memory.
pub struct Host {
    stack: Stack,
    port: Port,
    pool: ClusterPool,
    pages: ClusterPool,
    start: Clock,
    /// Where sources stop and wait.
    halfway: Option<Halfway>,
}

impl Host {
    /// To be made, and used, on a thread that is in the namespace of end 0.
    pub fn new(tune: impl FnOnce(&mut StackConfig)) -> Result<Self, String> {
        let socket = sys::packet_socket(INTERFACE).map_err(|error| error.to_string())?;
        sys::be_prompt();
        let mac = "02:00:00:00:00:0a".parse().map_err(|_| "address")?;
        let cidr =
            |ipv6: bool, bits: u8| format!("{}/{bits}", Way::Direct.address(0, ipv6)).parse();
        let mut config = StackConfig::new(mac, cidr(false, 24).map_err(|_| "address")?, [7; 32]);
        config
            .addresses
            .push(cidr(true, 64).map_err(|_| "address")?);
        config.receive_clusters = CLUSTERS;
        config.receive_headroom = 512;
        config.cluster_payload = 1460;
        config.connections_max = 256;
        config.duplicate_address_detection = false;
        tune(&mut config);
        let arena = Arena::new(HeapRegion::new(CLUSTERS * CLUSTER / 4096 + PAGES));
        let pool = |count, size| ClusterPool::carve(&arena, count, size).ok_or("memory");
        let mut stack = Stack::new(config).map_err(|error| error.to_string())?;
        if let Some(directory) = std::env::var_os("THROUGHLINE_LINUX_CAPTURE") {
            stack.set_tap(Some(Box::new(PcapTap::new(
                Capture::new(directory)?,
                128,
                0,
            ))));
        }
        Ok(Self {
            pool: pool(CLUSTERS, CLUSTER)?,
            pages: pool(PAGES, PAGE)?,
            stack,
            port: Port { socket, missed: 0 },
            start: Clock::now(),
            halfway: None,
        })
    }

    pub fn counters(&self) -> Counters {
        self.stack.stats().clone()
    }

    fn now(&self) -> Instant {
        Instant(self.start.elapsed().as_nanos() as u64)
    }

    /// Takes part in a job as end 0, and sees to it that nothing is left of it.
    pub fn take_part(
        &mut self,
        job: Job,
        gate: &Gate,
        halfway: Option<Halfway>,
    ) -> Result<Done, String> {
        self.halfway = halfway;
        let before = self.counters();
        let result = self.work(job, gate).and_then(|done| {
            self.settle()?;
            Ok(done)
        });
        result.map_err(|error| {
            let missed = self.port.missed;
            let dropped = sys::packet_drops(&self.port.socket);
            let counts = difference(&before, self.stack.stats());
            format!("ours: {error}; port missed {missed}, dropped {dropped}; {counts}")
        })
    }

    fn work(&mut self, job: Job, gate: &Gate) -> Result<Done, String> {
        let count = job.connections;
        let mut apps: Vec<App> = Vec::new();
        let mut listener = None;
        if job.dialer == 0 {
            gate.pass();
        } else {
            let id = self.stack.listen(job.listener(), 64);
            listener = Some(id.map_err(|error| error.to_string())?);
            gate.open();
        }
        let started = Clock::now();
        if job.dialer == 0 {
            for _ in 0..count {
                let now = self.now();
                let id = self.stack.connect(now, job.listener(), None);
                apps.push(App::new(
                    id.map_err(|error| error.to_string())?,
                    job.part(0),
                ));
            }
        }
        while apps.len() < count || apps.iter().any(|app| !app.closed) {
            if started.elapsed() > PATIENCE {
                return Err(format!("no end: {apps:?}"));
            }
            let received = self.receive();
            while let Some(event) = self.stack.poll_event() {
                if let Event::Accepted { connection, .. } = event {
                    apps.push(App::new(connection, job.part(0)));
                }
                let id = subject(&event);
                if let Some(app) = apps.iter_mut().find(|app| app.id == id) {
                    app.on_event(self, event)?;
                }
            }
            for app in &mut apps {
                app.go_on(self);
            }
            self.transmit(received)?;
        }
        if let Some(listener) = listener {
            self.stack.unlisten(listener);
        }
        let mut ends = Vec::new();
        for app in apps {
            let at = app.ended.ok_or("nothing was done")?;
            ends.push(End {
                amount: app.amount,
                at,
            });
        }
        Ok(Done { started, ends })
    }

    /// The first half of a turn of the poll loop: what came; how much it was.
    fn receive(&mut self) -> usize {
        let now = self.now();
        let received = self.port.receive(now, &self.pool, &mut self.stack);
        self.stack.set_budget(self.pool.unheld(), self.pool.len());
        self.stack.advance(now);
        received
    }

    /// The second half: what goes. Sleeps until there is more to do if nothing came and nothing went.
    fn transmit(&mut self, received: usize) -> Result<(), String> {
        let now = self.now();
        let sent = self.stack.transmit(now, &mut self.port);
        if received > 0 || sent > 0 {
            return Ok(());
        }
        let at_most = Duration::from_millis(20);
        let idle = match self.stack.next_deadline() {
            _ if self.stack.wants_transmit() => Duration::from_micros(100),
            Some(at) => at.since(self.now()).min(at_most),
            None => at_most,
        };
        sys::wait_readable(&[self.port.socket.as_raw_fd()], idle)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// Every connection comes to its end, and every cluster and page comes back.
    fn settle(&mut self) -> Result<(), String> {
        let deadline = Clock::now() + PATIENCE;
        while self.stack.connection_count() > 0 {
            if Clock::now() > deadline {
                return Err("a connection does not end".into());
            }
            let received = self.receive();
            while self.stack.poll_event().is_some() {}
            self.transmit(received)?;
        }
        let left = (
            self.pool.held(),
            self.pages.held(),
            self.stack.clusters_promised(),
        );
        if left != (0, 0, 0) {
            return Err(format!(
                "clusters held, pages held, clusters promised: {left:?}"
            ));
        }
        Ok(())
    }

    /// The next bytes of a stream, in a page.
    fn page(&self, at: u64, len: usize) -> Option<Chunk> {
        let mut fresh = self.pages.alloc()?;
        let len = len.min(PAGE);
        pattern::stream::fill(stream(0), at, &mut fresh[..len]);
        Some(fresh.freeze_filled(len).slice(0..len).into())
    }
}

/// A file that frames go to, for those who want to look at them.
struct Capture(BufWriter<File>);

impl Capture {
    fn new(directory: std::ffi::OsString) -> Result<Self, String> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(directory).join(format!("{number:02}.pcap"));
        let file = File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(BufWriter::new(file)))
    }
}

impl Sink for Capture {
    fn write(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }
}

/// The connection that an event is about.
fn subject(event: &Event) -> ConnectionId {
    match *event {
        Event::Accepted { connection, .. } | Event::Closed { connection, .. } => connection,
        Event::Connected(id)
        | Event::Readable(id)
        | Event::Writable(id)
        | Event::PeerClosed(id) => id,
    }
}

/// What happened between two snapshots.
pub fn difference(before: &Counters, after: &Counters) -> String {
    let mut out = String::new();
    for (before, after) in before.iter().zip(after.iter()) {
        if after.value > before.value {
            out += &format!("{} {} ", after.name, after.value - before.value);
        }
    }
    out
}

/// What is done with one connection.
#[derive(Debug)]
struct App {
    id: ConnectionId,
    part: Part,
    open: bool,
    /// There was no room to send.
    full: bool,
    /// Until when a client asks.
    until: Option<Clock>,
    read: u64,
    /// Bytes that may be sent, and those that were.
    to_send: u64,
    sent: u64,
    asked: u64,
    amount: u64,
    ended: Option<Clock>,
    finished: bool,
    closed: bool,
}

impl App {
    fn new(id: ConnectionId, part: Part) -> Self {
        Self {
            id,
            part,
            open: false,
            full: false,
            until: None,
            read: 0,
            to_send: 0,
            sent: 0,
            asked: 0,
            amount: 0,
            ended: None,
            finished: false,
            closed: false,
        }
    }

    fn on_event(&mut self, host: &mut Host, event: Event) -> Result<(), String> {
        match event {
            Event::Accepted { .. } | Event::Connected(_) => self.on_open(),
            Event::Readable(_) => self.read(host)?,
            Event::Writable(_) => self.full = false,
            Event::PeerClosed(_) => {
                self.read(host)?;
                self.on_peer_closed(host)?;
            }
            Event::Closed { reason, connection } => {
                self.closed = true;
                host.stack.release(connection);
                if self.ended.is_none() || reason != net::CloseReason::Finished {
                    return Err(format!("closed too early, {reason:?}: {self:?}"));
                }
            }
        }
        Ok(())
    }

    fn on_open(&mut self) {
        self.open = true;
        match self.part {
            Part::Source(total) => self.to_send = total,
            Part::Client(time) => {
                self.until = Some(Clock::now() + time);
                self.asked = 1;
                self.to_send = REQUEST as u64;
            }
            Part::Sink(_) | Part::Server => {}
        }
    }

    fn read(&mut self, host: &mut Host) -> Result<(), String> {
        while let Some(slice) = host.stack.recv(self.id) {
            pattern::stream::check(stream(1), self.read, slice.bytes())
                .map_err(|wrong| wrong.to_string())?;
            self.read += slice.len() as u64;
        }
        match self.part {
            Part::Sink(total) if self.read >= total => {
                self.amount = self.read;
                self.ended.get_or_insert_with(Clock::now);
            }
            Part::Server => {
                let answered = self.read / REQUEST as u64;
                self.to_send = answered * RESPONSE as u64;
                self.amount = answered;
            }
            Part::Client(_) if self.read == self.asked * RESPONSE as u64 => {
                let now = Clock::now();
                if self.until.is_some_and(|until| now < until) {
                    self.amount += 1;
                    self.asked += 1;
                    self.to_send += REQUEST as u64;
                } else if !self.finished {
                    self.finish(host);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// We send nothing more.
    fn finish(&mut self, host: &mut Host) {
        self.finished = true;
        self.ended.get_or_insert_with(Clock::now);
        host.stack.close(self.id);
    }

    fn on_peer_closed(&mut self, host: &mut Host) -> Result<(), String> {
        match self.part {
            Part::Sink(total) if self.read != total => {
                return Err(format!("{} of {total} bytes came", self.read));
            }
            Part::Source(_) | Part::Client(_) if !self.finished => {
                return Err("the peer closed first".into());
            }
            _ => {}
        }
        if !self.finished {
            self.finish(host);
        }
        Ok(())
    }

    /// Sends what there is to send, as far as there is room.
    fn go_on(&mut self, host: &mut Host) {
        if !self.open || self.closed || self.finished {
            return;
        }
        let may_send = match (&host.halfway, self.part) {
            (Some(halfway), Part::Source(total)) if !halfway.passed.is_open() => {
                if self.sent == total / 2 {
                    halfway.reached.open();
                }
                total / 2
            }
            _ => self.to_send,
        };
        while self.sent < may_send && !self.full {
            let left = (may_send - self.sent) as usize;
            let Some(chunk) = host.page(self.sent, left) else {
                break;
            };
            let len = chunk.len() as u64;
            match host.stack.send(self.id, chunk) {
                Ok(()) => self.sent += len,
                Err(_) => self.full = true,
            }
        }
        if let Part::Source(total) = self.part
            && self.sent == total
        {
            self.finish(host);
        }
    }
}
