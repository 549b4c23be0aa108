//! A host's end of an encrypted connection: its handshake, and its records.

use net::{ConnectionId, Stack};
use pages::{Chunk, ClusterPool, CopyLedger, Inline, PAGE_SIZE, Slice};
use testkit::Random;
use tls::testing::Exchange;
use tls::{Alert, Handshaker, Handshakes, Memory, Next, Opener, Progress, Sealer, TlsPsk};

/// What has become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Became {
    /// Nothing new.
    Same,
    /// It is encrypted.
    Open,
    /// It is over.
    Over,
}

/// One connection.
pub(super) struct Channel {
    state: State,
    /// What the handshake says.
    out: Vec<u8>,
    /// Sealed, and TCP had no room for it.
    held: Option<Chunk>,
    /// What the handshake left behind, or the opener did not take.
    rest: Option<Slice>,
    update_one_in: u64,
    random: Random,
    /// A bit of what is sealed next is flipped.
    pub(super) is_spoiling: bool,
    /// Of the handshake it says the first part, and no more.
    pub(super) is_half: bool,
}

enum State {
    Handshake(Box<dyn Handshaker>),
    Open(Box<(Opener, Sealer)>),
    Over,
}

impl Channel {
    pub(super) fn new(key: &TlsPsk, update_one_in: u64, mut random: Random) -> Self {
        Self {
            state: State::Handshake(Exchange::new(random.word()).connect(key)),
            out: Vec::new(),
            held: None,
            rest: None,
            update_one_in,
            random,
            is_spoiling: false,
            is_half: false,
        }
    }

    /// TCP is there: the first word is ours.
    pub(super) fn begin(&mut self) {
        if let State::Handshake(handshaker) = &mut self.state {
            self.out = handshaker.advance(&[]).send;
            if self.is_half {
                self.out.truncate(self.out.len() / 2);
            }
        }
    }

    /// Goes on with the handshake.
    pub(super) fn pump(
        &mut self,
        id: ConnectionId,
        stack: &mut Stack,
        pages: &ClusterPool,
    ) -> Became {
        self.say(id, stack);
        let State::Handshake(handshaker) = &mut self.state else {
            return Became::Same;
        };
        if self.is_half {
            return Became::Same;
        }
        while let Some(slice) = stack.recv(id) {
            let step = handshaker.advance(slice.bytes());
            self.out.extend_from_slice(&step.send);
            match step.progress {
                Progress::Wants => {}
                Progress::Done(established) => {
                    let unread = &established.unread;
                    if let Some(mut page) = pages.alloc().filter(|_| !unread.is_empty()) {
                        page[..unread.len()].copy_from_slice(unread);
                        self.rest = Some(page.freeze().slice(0..unread.len()));
                    }
                    let both = (Opener::new(&established), Sealer::new(&established));
                    self.state = State::Open(Box::new(both));
                    self.say(id, stack);
                    return Became::Open;
                }
                Progress::Failed(_) => {
                    self.state = State::Over;
                    self.say(id, stack);
                    return Became::Over;
                }
            }
        }
        self.say(id, stack);
        Became::Same
    }

    /// Sends what the handshake has to say.
    fn say(&mut self, id: ConnectionId, stack: &mut Stack) {
        while !self.out.is_empty() && stack.send_room(id).chunks > 0 {
            let len = self.out.len().min(Inline::CAPACITY);
            let inline = Inline::new(&self.out[..len]).expect("no more than it holds");
            if stack.send(id, Chunk::Inline(inline)).is_err() {
                return;
            }
            self.out.drain(..len);
        }
    }

    /// The next plaintext.
    pub(super) fn recv(
        &mut self,
        id: ConnectionId,
        stack: &mut Stack,
        memory: Memory<'_>,
    ) -> Result<Option<Slice>, Became> {
        let State::Open(both) = &mut self.state else {
            return Ok(None);
        };
        let (opener, sealer) = &mut **both;
        loop {
            match opener.next(memory) {
                Ok(Next::Plain(slice)) => return Ok(Some(slice)),
                Ok(Next::NoPage) => return Ok(None),
                Ok(Next::KeyUpdate) => sealer.update_key(false),
                Ok(Next::Wants) => {
                    let Some(slice) = self.rest.take().or_else(|| stack.recv(id)) else {
                        return Ok(None);
                    };
                    if let Err(slice) = opener.push(slice, memory) {
                        self.rest = Some(slice);
                        return Ok(None);
                    }
                }
                Ok(Next::Closed) | Err(_) => {
                    self.state = State::Over;
                    return Err(Became::Over);
                }
            }
        }
    }

    /// Seals and sends of `bytes` as much as there is room for; how much.
    pub(super) fn send(
        &mut self,
        id: ConnectionId,
        bytes: &[u8],
        stack: &mut Stack,
        memory: Memory<'_>,
    ) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && self.drain(id, stack, memory) {
            let rest = &bytes[taken..];
            let n = rest.len().min(PAGE_SIZE);
            let Some(chunk) = chunk(&rest[..n], memory.pages) else {
                break;
            };
            let State::Open(both) = &mut self.state else {
                break;
            };
            if both.1.push(chunk, 0, memory).is_err() {
                break;
            }
            taken += n;
        }
        if let State::Open(both) = &mut self.state {
            if taken > 0 && self.update_one_in > 0 && self.random.one_in(self.update_one_in) {
                both.1.update_key(self.random.chance(1, 2));
            }
            both.1.flush();
        }
        self.drain(id, stack, memory);
        taken
    }

    /// Sends what is sealed; whether TCP takes more.
    fn drain(&mut self, id: ConnectionId, stack: &mut Stack, memory: Memory<'_>) -> bool {
        let State::Open(both) = &mut self.state else {
            return false;
        };
        while let Some(mut next) = self.held.take().or_else(|| both.1.next(memory)) {
            if std::mem::take(&mut self.is_spoiling) {
                let mut bytes = next.bytes().to_vec();
                let at = self.random.below(bytes.len());
                bytes[at] ^= 1 << self.random.below(8u32);
                next = chunk(&bytes, memory.pages).unwrap_or(next);
            }
            if let Err(error) = stack.send(id, next) {
                self.held = Some(error.into_chunk());
                return false;
            }
        }
        true
    }

    /// Says that nothing more comes.
    pub(super) fn farewell(&mut self, id: ConnectionId, stack: &mut Stack, memory: Memory<'_>) {
        if let State::Open(both) = &mut self.state {
            both.1.alert(Alert::CloseNotify);
        }
        self.drain(id, stack, memory);
    }
}

/// Bytes as a chunk; none if there is no page.
pub(super) fn chunk(bytes: &[u8], pages: &ClusterPool) -> Option<Chunk> {
    if let Some(inline) = Inline::new(bytes) {
        return Some(Chunk::Inline(inline));
    }
    let mut page = pages.alloc()?;
    page[..bytes.len()].copy_from_slice(bytes);
    Some(Chunk::Slice(page.freeze().slice(0..bytes.len())))
}

/// What opening and sealing take.
pub(super) fn memory<'a>(pages: &'a ClusterPool, ledger: &'a CopyLedger) -> Memory<'a> {
    Memory { pages, ledger }
}
