//! Sent records: from chunks of plaintext to chunks of ciphertext.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ops::Range;

use arrayvec::ArrayVec;
use mutant::mutant;
use pages::{Chunk, Cluster, CopyReason, Fresh, Inline, PAGE_SIZE, Slice};

use super::{ContentType, HEADER_LEN, Limits, Memory, PLAINTEXT_LEN_MAX, TAG_LEN, TrafficKey};
use crate::aead::{Direction, Gcm};
use crate::alert::Alert;
use crate::handshake::Established;

/// Parts of a record; one with more is ended early.
const PARTS_MAX: usize = 32;
/// Of them, for a page of payload that is to be whole: segments of a logical page, and cuts of fresh ones that they go into.
const PAGE_PARTS: usize = 6;
/// Pages that a record fills, if nothing of it is sealed where it lies.
const RECORD_PAGES_MAX: usize = PLAINTEXT_LEN_MAX.div_ceil(PAGE_SIZE) + 1;
/// Chunks of a record: its parts, and one more where its header is, and one where its end is, if they do not fit in beside those.
const CHUNKS_MAX: usize = PARTS_MAX + 2;
/// Bytes of it that go by value, at most.
const RUN_LEN_MAX: usize = HEADER_LEN + PARTS_MAX * Inline::CAPACITY + 1 + TAG_LEN;
/// Chunks that wait to be taken before no more is sealed.
const WAITING_MAX: usize = 2 * CHUNKS_MAX;

/// Seals what we send.
///
/// Chunks of plaintext go in ([`Sealer::push`]) until a record is full, or [ended](Sealer::flush); those of ciphertext come out
/// ([`Sealer::next`]) and are for TCP to keep until they are acknowledged: what it sends again is the very same bytes.
pub struct Sealer {
    key: TrafficKey,
    /// Plaintext of a record at most: the peer's limit, or RFC 8446's.
    payload_max: usize,
    /// The record that is begun.
    parts: ArrayVec<Part, PARTS_MAX>,
    parts_bytes: usize,
    /// Where that of it goes that others have, in order; all but the last are full, and that as far as `fresh_len`.
    fresh: ArrayVec<Fresh, RECORD_PAGES_MAX>,
    fresh_len: usize,
    /// What of a chunk is not in the record yet.
    rest: Option<(Chunk, bool)>,
    /// How much of a page of payload there is, if pages are to be whole.
    page_at: Option<usize>,
    /// The record that is begun is to be ended.
    is_flushed: bool,
    /// A close_notify is to be sent behind it.
    is_closing: bool,
    /// An alert was sent: nothing more is.
    is_ended: bool,
    /// A KeyUpdate is among the ciphertext that was not taken yet.
    has_update: bool,
    /// The peer takes new keys: they are taken unasked.
    takes_updates: bool,
    /// Ciphertext.
    ready: VecDeque<Chunk>,
}

/// A part of a record that is begun: plaintext still.
enum Part {
    Inline(Inline),
    /// To be sealed where it is.
    InPlace(Slice),
    /// To be sealed into the fresh page of this number, from here on.
    Aside(Slice, usize, usize),
}

impl Sealer {
    /// Seals records from the end of a handshake on.
    pub fn new(established: &Established) -> Self {
        // RFC 8449, 4: it counts the content type, too.
        let limit = established.record_size_limit.map(usize::from);
        let limit = limit.map_or(PLAINTEXT_LEN_MAX, |limit| limit.max(2) - 1);
        Self {
            key: TrafficKey::new(
                established.suite,
                &established.write_secret,
                established.write_sequence,
                Direction::Seal,
            ),
            payload_max: limit.min(PLAINTEXT_LEN_MAX),
            parts: ArrayVec::new(),
            parts_bytes: 0,
            fresh: ArrayVec::new(),
            fresh_len: 0,
            rest: None,
            page_at: None,
            is_flushed: false,
            is_closing: false,
            is_ended: false,
            has_update: false,
            takes_updates: true,
            ready: VecDeque::with_capacity(WAITING_MAX + CHUNKS_MAX),
        }
    }

    /// With these limits of a key, instead of RFC 8446's.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.key.limits = limits;
        self
    }

    /// No record ends within a page of payload: slices behind bytes by value are pages, one behind the other, and a page that does not fit in
    /// whole begins the next record. For a peer that opens records where they lie, and whose pages have few segments.
    #[must_use]
    pub fn with_whole_pages(mut self) -> Self {
        self.page_at = Some(0);
        self
    }

    /// No new key is taken unasked before there is no other way, for a peer that may not follow: whoever has the sealer ends the connection when it
    /// [is near](Self::is_near_limit) the limit. A peer that takes one itself can.
    #[must_use]
    pub fn without_updates(mut self) -> Self {
        self.takes_updates = false;
        self
    }

    /// Whether new keys are taken unasked.
    pub fn takes_updates(&self) -> bool {
        self.takes_updates
    }

    /// Takes the next bytes of plaintext. A slice is sealed where it lies if nobody else has a handle to its cluster, but for `own` of them:
    /// those by which the caller holds the page itself and *will not read it again*, as a read that is done once it is sent. Else it is
    /// sealed into a fresh page (ledger: `seal`). Behind an alert everything is dropped.
    ///
    /// # Errors
    /// It comes back as long as what was pushed before is not all sealed: take what [`Sealer::next`] gives, and push it again.
    pub fn push(&mut self, chunk: Chunk, own: u32, memory: Memory<'_>) -> Result<(), Chunk> {
        if self.is_ended || self.is_closing || chunk.is_empty() {
            return Ok(());
        }
        self.work(memory);
        if self.rest.is_some() {
            return Err(chunk);
        }
        let is_sole = match &chunk {
            Chunk::Inline(_) => true,
            Chunk::Slice(slice) => slice.cluster().is_sole(own) || mutant!("tls-sealed-shared"),
        };
        self.rest = Some((chunk, is_sole));
        self.work(memory);
        Ok(())
    }

    /// Ends the record that is begun: there is no more to send for now.
    pub fn flush(&mut self) {
        self.is_flushed = true;
    }

    /// The next bytes of ciphertext. `None` while [`Sealer::is_empty`] is false: what is begun waits for its end, or for free pages.
    pub fn next(&mut self, memory: Memory<'_>) -> Option<Chunk> {
        if self.ready.is_empty() {
            self.work(memory);
        }
        let chunk = self.ready.pop_front();
        self.has_update &= !self.ready.is_empty();
        chunk
    }

    /// Whether it holds nothing: no record that is begun, and no ciphertext.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
            && self.parts.is_empty()
            && self.rest.is_none()
            && (self.is_ended || !self.is_closing)
    }

    /// Sends a KeyUpdate, and takes a new key for what is behind it (RFC 8446, 4.6.3). With `request` the peer is asked to do the same. While one is on its
    /// way another one says nothing new, unless it asks.
    pub fn update_key(&mut self, request: bool) {
        if self.is_ended || self.has_update && !request {
            return;
        }
        // KeyUpdate, of one byte.
        self.seal_message(ContentType::Handshake, &[24, 0, 0, 1, request.into()]);
        self.key.update();
        self.has_update = true;
        self.takes_updates = true;
    }

    /// Whether so much was sealed under the key that a new one should be taken (RFC 8446, 5.5): 15 of 16 parts of that. At the limit the sealer takes
    /// one by itself; who does not know that the peer follows closes before.
    pub fn is_near_limit(&self) -> bool {
        self.key.blocks >= self.key.limits.update_at / 16 * 15
    }

    /// Sends an alert, the last that is sealed. [`Alert::CloseNotify`] is the farewell, and comes behind what was pushed before; any other one comes at
    /// once, and what is not sealed is dropped.
    pub fn alert(&mut self, alert: Alert) {
        if alert == Alert::CloseNotify {
            self.is_closing = true;
            return;
        }
        if !self.is_ended {
            self.parts.clear();
            self.fresh.clear();
            (self.parts_bytes, self.rest) = (0, None);
            self.end(alert);
        }
    }

    fn end(&mut self, alert: Alert) {
        // 6: close_notify and user_canceled are warnings, whatever that is worth.
        let is_fatal = !matches!(alert, Alert::CloseNotify | Alert::UserCanceled);
        self.seal_message(ContentType::Alert, &[1 + u8::from(is_fatal), alert as u8]);
        self.is_ended = true;
    }

    /// Seals what can be, until as much waits to be taken as may.
    fn work(&mut self, memory: Memory<'_>) {
        while self.ready.len() < WAITING_MAX && !self.is_ended {
            if let Some((chunk, is_sole)) = self.rest.take() {
                if self.is_without_room(&chunk) {
                    self.rest = Some((chunk, is_sole));
                    self.seal(memory);
                    continue;
                }
                if !self.add(chunk, is_sole, memory) {
                    break;
                }
                if self.parts_bytes == self.payload_max || self.parts.is_full() {
                    self.seal(memory);
                }
            } else if (self.is_flushed || self.is_closing) && !self.parts.is_empty() {
                self.seal(memory);
            } else {
                self.is_flushed = false;
                if self.is_closing {
                    self.end(Alert::CloseNotify);
                }
                break;
            }
        }
    }

    /// Whether a page begins that is to be whole, and is not in what is left of the record.
    fn is_without_room(&self, chunk: &Chunk) -> bool {
        let is_page = self.page_at == Some(0) && matches!(chunk, Chunk::Slice(_));
        let room = self.payload_max - self.parts_bytes;
        let is_short = room < PAGE_SIZE || self.parts.remaining_capacity() < PAGE_PARTS;
        is_page && is_short && !self.parts.is_empty()
    }

    /// Adds as much of a chunk as fits to the record that is begun, and keeps the rest. False if there is no page for it.
    fn add(&mut self, chunk: Chunk, is_sole: bool, memory: Memory<'_>) -> bool {
        let mut most = self.payload_max - self.parts_bytes;
        let mut slice = match chunk {
            Chunk::Inline(inline) => {
                let (now, later) = inline.bytes().split_at(inline.bytes().len().min(most));
                self.parts_bytes += now.len();
                let part = Inline::new(now).expect("a part of one");
                self.parts.push(Part::Inline(part));
                self.page_at = self.page_at.map(|_| 0);
                if let Some(later) = Inline::new(later).filter(|_| !later.is_empty()) {
                    self.rest = Some((Chunk::Inline(later), true));
                }
                return true;
            }
            Chunk::Slice(slice) => slice,
        };
        if let Some(at) = self.page_at {
            most = most.min(PAGE_SIZE - at);
        }
        if !is_sole {
            if self.fresh.is_empty() || self.fresh_len == PAGE_SIZE {
                let Some(page) = memory.pages.alloc() else {
                    self.rest = Some((Chunk::Slice(slice), is_sole));
                    return false;
                };
                self.fresh.push(page);
                self.fresh_len = 0;
            }
            most = most.min(PAGE_SIZE - self.fresh_len);
        }
        let now = match slice.len() <= most {
            true => slice,
            false => {
                let now = slice.split_to(most);
                self.rest = Some((Chunk::Slice(slice), is_sole));
                now
            }
        };
        self.parts_bytes += now.len();
        self.page_at = self.page_at.map(|at| (at + now.len()) % PAGE_SIZE);
        self.parts.push(match is_sole {
            true => Part::InPlace(now),
            false => {
                let at = self.fresh_len;
                self.fresh_len += now.len();
                Part::Aside(now, self.fresh.len() - 1, at)
            }
        });
        true
    }

    /// Seals the record that is begun.
    fn seal(&mut self, memory: Memory<'_>) {
        let key = &self.key;
        if key.is_near_limit() && (self.takes_updates || key.blocks >= key.limits.end_at) {
            self.update_key(false);
        }
        let header = self.begin(self.parts_bytes);
        self.parts_bytes = 0;
        let mut sealed = Sealed::new(header);
        let mut aside = 0;
        for part in self.parts.drain(..) {
            match part {
                Part::Inline(inline) => sealed.add(inline.bytes()),
                Part::InPlace(mut slice) => {
                    sealed.end_run(&mut self.key.gcm);
                    // SAFETY: when the slice came nobody else had a handle to its cluster, but who has promised not to read it again. Those that were
                    // made of it since are parts of it without these bytes. Nobody has a reference to these: the only slice of them is this one.
                    self.key.gcm.apply(unsafe { slice.bytes_mut() });
                    sealed.pieces.push(Piece::Chunk(Chunk::Slice(slice)));
                }
                Part::Aside(slice, page, at) => {
                    sealed.end_run(&mut self.key.gcm);
                    let range = at..at + slice.len();
                    (self.key.gcm).apply_to(slice.bytes(), &mut self.fresh[page][range.clone()]);
                    aside += slice.len();
                    sealed.pieces.push(Piece::Aside(page, range));
                }
            }
        }
        sealed.end(ContentType::ApplicationData, &mut self.key.gcm);
        if aside > 0 {
            memory.ledger.copied(CopyReason::Seal, aside);
        }
        self.put(sealed);
    }

    /// Puts what was sealed behind the ciphertext, and freezes the pages that of it went into.
    fn put(&mut self, sealed: Sealed) {
        let (count, last_len) = (self.fresh.len(), self.fresh_len);
        let frozen: ArrayVec<Cluster, RECORD_PAGES_MAX> = (self.fresh.drain(..).enumerate())
            .map(|(i, page)| page.freeze_filled(if i + 1 == count { last_len } else { PAGE_SIZE }))
            .collect();
        for piece in sealed.pieces {
            let (page, range) = match piece {
                Piece::Chunk(chunk) => {
                    self.ready.push_back(chunk);
                    continue;
                }
                Piece::Aside(page, range) => (&frozen[page], range),
            };
            match self.ready.back_mut() {
                // What continues in the same page is one chunk.
                Some(Chunk::Slice(before))
                    if before.cluster().is_same(page)
                        && before.offset() + before.len() == range.start =>
                {
                    let start = before.offset();
                    *before = page.clone().slice(start..range.end);
                }
                _ => (self.ready).push_back(Chunk::Slice(page.clone().slice(range))),
            }
        }
    }

    /// A record that is no application data.
    fn seal_message(&mut self, kind: ContentType, content: &[u8]) {
        let mut sealed = Sealed::new(self.begin(content.len()));
        sealed.add(content);
        sealed.end(kind, &mut self.key.gcm);
        for piece in sealed.pieces {
            if let Piece::Chunk(chunk) = piece {
                self.ready.push_back(chunk);
            }
        }
    }

    /// Begins a record of so much content: its header (RFC 8446, 5.2).
    fn begin(&mut self, content_len: usize) -> [u8; HEADER_LEN] {
        let [high, low] = ((content_len + 1 + TAG_LEN) as u16).to_be_bytes();
        let header = [ContentType::ApplicationData as u8, 3, 3, high, low];
        self.key.begin(&header, content_len + 1);
        header
    }
}

/// A record that is being sealed.
struct Sealed {
    pieces: ArrayVec<Piece, CHUNKS_MAX>,
    /// What goes by value and is not among the pieces yet. The cipher takes it at once: many small pieces take it longer than their bytes do.
    run: ArrayVec<u8, RUN_LEN_MAX>,
    /// How much at the beginning of `run` is not to be sealed.
    clear: usize,
}

/// A piece of it.
enum Piece {
    Chunk(Chunk),
    /// In the fresh page of this number.
    Aside(usize, Range<usize>),
}

impl Sealed {
    fn new(header: [u8; HEADER_LEN]) -> Self {
        let mut run = ArrayVec::new();
        run.extend(header);
        Self {
            pieces: ArrayVec::new(),
            run,
            clear: HEADER_LEN,
        }
    }

    /// Adds plaintext that goes by value.
    fn add(&mut self, bytes: &[u8]) {
        (self.run.try_extend_from_slice(bytes)).expect("room for all parts by value");
    }

    /// Ends what goes by value for now.
    fn end_run(&mut self, gcm: &mut Gcm) {
        gcm.apply(&mut self.run[self.clear..]);
        self.cut();
    }

    /// Ends the record: its content type, without padding, and its tag (RFC 8446, 5.2).
    fn end(&mut self, kind: ContentType, gcm: &mut Gcm) {
        self.add(&[kind as u8]);
        gcm.apply(&mut self.run[self.clear..]);
        self.add(&gcm.tag());
        self.cut();
    }

    /// Cuts the run into as few chunks as it takes, about as long as each other.
    fn cut(&mut self) {
        let count = self.run.len().div_ceil(Inline::CAPACITY).max(1);
        let each = self.run.len().div_ceil(count).max(1);
        for bytes in self.run.chunks(each) {
            let inline = Inline::new(bytes).expect("no more than it holds");
            self.pieces.push(Piece::Chunk(Chunk::Inline(inline)));
        }
        self.run.clear();
        self.clear = 0;
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer")
            .field("suite", &self.key.suite)
            .field("sequence", &self.key.sequence)
            .field("begun", &self.parts_bytes)
            .finish_non_exhaustive()
    }
}
