//! Received records: from slices of ciphertext to slices of plaintext.
#![allow(unsafe_code)]

use std::collections::VecDeque;

use arrayvec::ArrayVec;
use mutant::mutant;
use pages::{CopyReason, Fresh, PAGE_SIZE, Slice};

use super::inner::{self, IDLE_RECORDS_MAX, Meaning, Messages};
use super::{
    CIPHERTEXT_LEN_MAX, ContentType, HEADER_LEN, Limits, Memory, PLAINTEXT_LEN_MAX, TAG_LEN,
    TrafficKey,
};
use crate::aead::{Direction, Gcm};
use crate::alert::{Alert, Failure};
use crate::handshake::{Established, Side};

/// Slices of a record that is not whole. Of more of them, smaller than any network makes them, tiny ones are gathered into pages.
const SLICES_MAX: usize = 64;
/// Slices that are as long are not gathered: few of them are a record.
const TINY: usize = 1024;
/// Parts of a record at most: those, longer ones, and pages before and between them.
const PARTS_MAX: usize = SLICES_MAX + 2 * (CIPHERTEXT_LEN_MAX / TINY + 2);
/// Most bytes of a hint to a [`Place`].
const HINT_LEN_MAX: usize = 128;

/// Opens what a peer sends.
///
/// Slices of the stream go in ([`Opener::push`]), those of plaintext come out ([`Opener::next`]), in the same order. A record is opened once it is whole,
/// and where it lies: the plaintext is in the clusters that the ciphertext came in. Nothing of it comes out before its tag is verified.
pub struct Opener {
    key: TrafficKey,
    side: Side,
    /// Ciphertext, from the header of the next record on.
    waiting: VecDeque<Part>,
    waiting_bytes: usize,
    /// Plaintext of the last record that was opened.
    plain: VecDeque<Slice>,
    messages: Messages,
    /// Records without application data, since there was one with.
    idle: u32,
    end: Option<End>,
    /// Where the next record is to go, as far as its [`Place`] had room.
    rooms: Vec<Room>,
    /// Whether the [`Place`] knows of the next record.
    is_begun: bool,
}

/// A part of the stream.
struct Part {
    slice: Slice,
    /// When it came nobody else had a handle to its cluster.
    is_sole: bool,
    /// It is a page that tiny slices were copied into.
    is_gathered: bool,
}

/// What there is no way back from.
#[derive(Clone, Copy)]
enum End {
    Closed,
    Failed(Failure),
}

/// What comes next out of an [`Opener`].
#[derive(Debug)]
pub enum Next {
    /// Plaintext: of a record that is authentic.
    Plain(Slice),
    /// Nothing until more is received.
    Wants,
    /// Nothing until there are free pages: to be asked again then.
    NoPage,
    /// The peer has new keys from here on and wants us to take new ones, too: [`Sealer::update_key`](super::Sealer::update_key), without a
    /// request. To be asked again for more.
    KeyUpdate,
    /// The peer has sent its close_notify: nothing more comes, and what was received behind it is dropped.
    Closed,
}

/// Where the plaintext of a record goes that is not opened where it is: for devices that want addresses of their own.
pub trait Place {
    /// A record of so many bytes of plaintext at most is about to be opened. `hint` is how it begins, 128 bytes at most, *not yet authentic*: to find out
    /// by where payload begins, and for nothing else.
    fn begin(&mut self, hint: &[u8], len: usize) {
        let _ = (hint, len);
    }

    /// Room for the next bytes of the record, of which there are `left`; `None` if there is none now.
    fn room(&mut self, left: usize) -> Option<Room>;
}

/// Room in a fresh buffer.
pub struct Room {
    /// The buffer.
    pub buffer: Fresh,
    /// Where plaintext is to begin in it.
    pub from: usize,
    /// Where it is to end at most.
    pub to: usize,
}

/// No place but where it is.
enum InPlace {}

impl Place for InPlace {
    fn room(&mut self, _: usize) -> Option<Room> {
        match *self {}
    }
}

/// Fresh pages, for what is not opened where it is because somebody else has it.
struct Aside {
    fresh: ArrayVec<Fresh, PARTS_MAX>,
    /// The one that is being filled, and how far it is.
    page: Option<(Fresh, usize)>,
}

impl Aside {
    /// So many pages, if there are.
    fn new(count: usize, memory: Memory<'_>) -> Option<Self> {
        let mut fresh = ArrayVec::new();
        fresh.extend((0..count).map_while(|_| memory.pages.alloc()));
        (fresh.len() == count).then_some(Self { fresh, page: None })
    }

    /// Opens the next bytes into the page under way, and as many more as it takes.
    fn open(&mut self, mut from: &[u8], gcm: &mut Gcm, plain: &mut VecDeque<Slice>) {
        while !from.is_empty() {
            let next = || (self.fresh.pop().expect("they were counted"), 0);
            let (mut page, at) = self.page.take().unwrap_or_else(next);
            let (now, later) = from.split_at(from.len().min(PAGE_SIZE - at));
            gcm.apply_to(now, &mut page[at..at + now.len()]);
            self.page = Some((page, at + now.len()));
            from = later;
            if at + now.len() == PAGE_SIZE {
                self.end(plain);
            }
        }
    }

    /// Ends the page under way.
    fn end(&mut self, plain: &mut VecDeque<Slice>) {
        if let Some((page, len)) = self.page.take() {
            plain.push_back(page.freeze_filled(len).slice(0..len));
        }
    }
}

impl Opener {
    /// Opens records from the end of a handshake on. [`Established::unread`] is the caller's to push first.
    pub fn new(established: &Established) -> Self {
        Self {
            key: TrafficKey::new(
                established.suite,
                &established.read_secret,
                established.read_sequence,
                Direction::Open,
            ),
            side: established.side,
            waiting: VecDeque::with_capacity(PARTS_MAX),
            waiting_bytes: 0,
            plain: VecDeque::with_capacity(PARTS_MAX),
            messages: Messages::default(),
            idle: 0,
            end: None,
            rooms: Vec::new(),
            is_begun: false,
        }
    }

    /// With these limits of a key, instead of RFC 8446's.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.key.limits = limits;
        self
    }

    /// Takes the next slice of the stream.
    ///
    /// # Errors
    /// It comes back while [`Opener::next`] has something to give, or if there are not the pages to gather slices in that are too many and too
    /// small.
    pub fn push(&mut self, slice: Slice, memory: Memory<'_>) -> Result<(), Slice> {
        if !self.plain.is_empty() || self.has_record() {
            return Err(slice);
        }
        if self.end.is_some() || slice.is_empty() {
            return Ok(());
        }
        if self.waiting.len() >= SLICES_MAX && slice.len() < TINY {
            return self.gather(slice, memory);
        }
        self.waiting_bytes += slice.len();
        let is_sole = slice.cluster().is_sole(0);
        self.waiting.push_back(Part {
            slice,
            is_sole,
            is_gathered: false,
        });
        Ok(())
    }

    /// What comes next, opened where it lies. A part of which somebody else has a handle is opened into a fresh page (ledger: `open`).
    ///
    /// # Errors
    /// The connection is to end, and nothing comes any more.
    pub fn next(&mut self, memory: Memory<'_>) -> Result<Next, Failure> {
        self.next_in(memory, None::<&mut InPlace>)
    }

    /// What comes next, opened into `place` (ledger: `open`).
    ///
    /// # Errors
    /// As [`Opener::next`].
    pub fn next_placed(
        &mut self,
        memory: Memory<'_>,
        place: &mut impl Place,
    ) -> Result<Next, Failure> {
        self.next_in(memory, Some(place))
    }

    /// Whether the peer has sent so much under its key that it should take a new one (RFC 8446, 5.5); if it is
    /// [asked](super::Sealer::update_key) and does not, [`Opener::next`] ends the connection some records later.
    pub fn is_near_limit(&self) -> bool {
        self.key.is_near_limit()
    }

    fn next_in<P: Place>(
        &mut self,
        memory: Memory<'_>,
        mut place: Option<&mut P>,
    ) -> Result<Next, Failure> {
        loop {
            if let Some(slice) = self.plain.pop_front() {
                return Ok(Next::Plain(slice));
            }
            match self.end {
                Some(End::Failed(failure)) => return Err(failure),
                Some(End::Closed) => return Ok(Next::Closed),
                None => {}
            }
            if !self.has_record() {
                return Ok(Next::Wants);
            }
            let opened = match &mut place {
                None => self.open_in_place(memory),
                Some(place) => self.open_placed(memory, *place),
            };
            match opened.and_then(|kind| kind.map(|kind| self.read(kind)).transpose()) {
                Ok(None) => return Ok(Next::NoPage),
                Ok(Some(Meaning::KeyUpdate { is_requested: true })) => return Ok(Next::KeyUpdate),
                Ok(Some(Meaning::Nothing | Meaning::KeyUpdate { .. })) => {}
                Ok(Some(Meaning::Closed)) => self.end(End::Closed),
                Err(failure) => self.end(End::Failed(failure)),
            }
        }
    }

    /// Nothing of what is held comes out any more.
    fn end(&mut self, end: End) {
        self.end = Some(end);
        self.plain.clear();
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.rooms.clear();
    }

    /// The header of the next record, if it is there.
    fn header(&self) -> Option<[u8; HEADER_LEN]> {
        let front = self.waiting.front()?.slice.bytes();
        if let Some(header) = front.first_chunk() {
            return Some(*header);
        }
        let mut header = [0; HEADER_LEN];
        (self.waiting_bytes >= HEADER_LEN).then(|| self.copy_out(0, &mut header))?;
        Some(header)
    }

    /// Bytes behind a header.
    fn body_len(header: [u8; HEADER_LEN]) -> usize {
        u16::from_be_bytes([header[3], header[4]]).into()
    }

    /// Whether a record is there, whole; or the header of one that cannot be.
    fn has_record(&self) -> bool {
        self.header().is_some_and(|header| {
            let len = Self::body_len(header);
            self.waiting_bytes - HEADER_LEN >= len || Self::check(header).is_err()
        })
    }

    /// What can be said of a record by its header (RFC 8446, 5.1, 5.2): the version says nothing.
    fn check(header: [u8; HEADER_LEN]) -> Result<(), Failure> {
        if header[0] != ContentType::ApplicationData as u8 {
            return Err(Failure::Ours(Alert::UnexpectedMessage));
        }
        match Self::body_len(header) {
            len if len > CIPHERTEXT_LEN_MAX => Err(Failure::Ours(Alert::RecordOverflow)),
            len if len < TAG_LEN => Err(Failure::Ours(Alert::BadRecordMac)),
            _ => Ok(()),
        }
    }

    /// Copies waiting bytes from `at` on.
    fn copy_out(&self, mut at: usize, mut to: &mut [u8]) {
        for part in &self.waiting {
            let bytes = part.slice.bytes();
            let Some(bytes) = bytes.get(at..).filter(|bytes| !bytes.is_empty()) else {
                at -= bytes.len();
                continue;
            };
            let n = bytes.len().min(to.len());
            let (now, later) = to.split_at_mut(n);
            now.copy_from_slice(&bytes[..n]);
            (to, at) = (later, 0);
            if to.is_empty() {
                return;
            }
        }
    }

    /// Takes waiting bytes off, as much of `most` as lies in one part.
    fn take_part(&mut self, most: usize) -> Option<Part> {
        let front = self.waiting.front_mut()?;
        let n = front.slice.len().min(most);
        self.waiting_bytes -= n;
        if n == front.slice.len() {
            return self.waiting.pop_front();
        }
        Some(Part {
            slice: front.slice.split_to(n),
            is_sole: front.is_sole,
            is_gathered: front.is_gathered,
        })
    }

    /// Takes waiting bytes off by value: headers and tags.
    fn take_bytes<const N: usize>(&mut self) -> [u8; N] {
        if let Some(front) = self.waiting.front_mut()
            && front.slice.len() > N
            && let Some(&bytes) = front.slice.bytes().first_chunk()
        {
            front.slice.advance(N);
            self.waiting_bytes -= N;
            return bytes;
        }
        let mut bytes = [0; N];
        self.copy_out(0, &mut bytes);
        let mut left = N;
        while left > 0 {
            let Some(part) = self.take_part(left) else {
                break;
            };
            left -= part.slice.len();
        }
        bytes
    }

    /// Copies a tiny slice behind the last one, if that is a page begun for such, and into a fresh page else: so that they do not hold
    /// more clusters than a record is worth.
    fn gather(&mut self, slice: Slice, memory: Memory<'_>) -> Result<(), Slice> {
        let mut from = slice.bytes();
        let last = (self.waiting.back_mut()).filter(|part| part.is_gathered && part.is_at_end());
        let room = last.as_ref().map_or(0, |part| part.slice.cluster().room());
        let fresh = match from.len() > room {
            false => None,
            true => match memory.pages.alloc() {
                None => return Err(slice),
                page => page,
            },
        };
        memory.ledger.copied(CopyReason::PullUp, from.len());
        self.waiting_bytes += from.len();
        if let Some(part) = last {
            let cluster = part.slice.cluster().clone();
            let (now, later) = from.split_at(from.len().min(room));
            let end = cluster.append(now) + now.len();
            part.slice = cluster.slice(part.slice.offset()..end);
            from = later;
        }
        if let Some(mut page) = fresh {
            page[..from.len()].copy_from_slice(from);
            self.waiting.push_back(Part {
                slice: page.freeze_filled(from.len()).slice(0..from.len()),
                is_sole: true,
                is_gathered: true,
            });
        }
        Ok(())
    }
}

impl Part {
    /// Whether the bytes in use of its cluster end where it does.
    fn is_at_end(&self) -> bool {
        self.slice.offset() + self.slice.len() == self.slice.cluster().filled()
    }
}

impl Opener {
    /// Opens the next record into `plain`, where it lies. Its content type; `None` if there are not the pages for what others have.
    fn open_in_place(&mut self, memory: Memory<'_>) -> Result<Option<ContentType>, Failure> {
        let header = self.header().expect("a record is there");
        Self::check(header)?;
        // With its content type, which is cut off again.
        let inner_len = Self::body_len(header) - TAG_LEN;
        let Some(mut aside) = Aside::new(self.pages_aside(inner_len), memory) else {
            return Ok(None);
        };
        self.begin_record(header);
        let mut left = inner_len;
        while left > 0 {
            let mut part = self.take_part(left).expect("the record is whole");
            left -= part.slice.len();
            if !part.is_sole {
                memory.ledger.copied(CopyReason::Open, part.slice.len());
                aside.open(part.slice.bytes(), &mut self.key.gcm, &mut self.plain);
                continue;
            }
            aside.end(&mut self.plain);
            // SAFETY: when the slice came its cluster had no other handle. Those that were made of it since are parts of it
            // without these bytes. Nobody has a reference to these: whoever was given a part before refers to that part alone, and not
            // while this runs.
            self.key.gcm.apply(unsafe { part.slice.bytes_mut() });
            self.plain.push_back(part.slice);
        }
        aside.end(&mut self.plain);
        self.verify(inner_len.saturating_sub(1))?;
        self.cut_padding().map(Some)
    }

    /// Pages for what others have of the next record's content and content type: each run of it begins one.
    fn pages_aside(&self, inner_len: usize) -> usize {
        let (mut at, end) = (0, HEADER_LEN + inner_len);
        let (mut pages, mut run) = (0, 0usize);
        for part in &self.waiting {
            let from = at.max(HEADER_LEN);
            at += part.slice.len();
            let len = at.min(end).saturating_sub(from);
            match part.is_sole {
                false => run += len,
                true => pages += std::mem::take(&mut run).div_ceil(PAGE_SIZE),
            }
            if at >= end {
                break;
            }
        }
        pages + run.div_ceil(PAGE_SIZE)
    }

    /// Opens the next record into rooms of `place`.
    fn open_placed(
        &mut self,
        memory: Memory<'_>,
        place: &mut impl Place,
    ) -> Result<Option<ContentType>, Failure> {
        let header = self.header().expect("a record is there");
        Self::check(header)?;
        let content_len = (Self::body_len(header) - TAG_LEN).saturating_sub(1);
        if !self.is_begun {
            let mut hint = [0; HINT_LEN_MAX];
            let hint = &mut hint[..content_len.min(HINT_LEN_MAX)];
            self.copy_out(HEADER_LEN, hint);
            self.key.gcm.begin(self.key.sequence, &header);
            self.key.gcm.apply(hint);
            place.begin(hint, content_len);
            self.is_begun = true;
        }
        let mut has: usize = self.rooms.iter().map(|room| room.to - room.from).sum();
        while has < content_len {
            let Some(room) = place.room(content_len - has) else {
                return Ok(None);
            };
            assert!(
                room.from < room.to && room.to <= room.buffer.len(),
                "a room is in its buffer, and has a byte"
            );
            has += room.to - room.from;
            self.rooms.push(room);
        }
        self.is_begun = false;
        self.begin_record(header);
        memory.ledger.copied(CopyReason::Open, content_len);
        let mut rooms = std::mem::take(&mut self.rooms);
        let mut left = content_len;
        for mut room in rooms.drain(..) {
            let len = left.min(room.to - room.from);
            let end = room.from + len;
            let mut at = room.from;
            while at < end {
                let part = self.take_part(end - at).expect("the record is whole");
                let to = &mut room.buffer[at..at + part.slice.len()];
                self.key.gcm.apply_to(part.slice.bytes(), to);
                at += part.slice.len();
            }
            left -= len;
            if len > 0 {
                let cluster = room.buffer.freeze_filled(end);
                self.plain.push_back(cluster.slice(room.from..end));
            }
        }
        self.rooms = rooms;
        self.end_record(content_len, header).map(Some)
    }

    fn begin_record(&mut self, header: [u8; HEADER_LEN]) {
        let _: [u8; HEADER_LEN] = self.take_bytes();
        self.key.begin(&header, Self::body_len(header) - TAG_LEN);
    }

    /// Behind the content of a record: its last byte, its tag; and which type it has.
    fn end_record(
        &mut self,
        content_len: usize,
        header: [u8; HEADER_LEN],
    ) -> Result<ContentType, Failure> {
        let has_type = Self::body_len(header) > TAG_LEN;
        let mut last = [0];
        if has_type {
            last = self.take_bytes();
            self.key.gcm.apply(&mut last);
        }
        self.verify(content_len)?;
        match last[0] {
            0 => self.cut_padding(),
            kind => inner::content_type(kind),
        }
    }

    /// Behind all that was sealed of a record: its tag.
    fn verify(&mut self, content_len: usize) -> Result<(), Failure> {
        let tag = self.take_bytes();
        if !self.key.gcm.verify(&tag) && !mutant!("tls-tag-unverified") {
            return Err(Failure::Ours(Alert::BadRecordMac));
        }
        match content_len > PLAINTEXT_LEN_MAX {
            true => Err(Failure::Ours(Alert::RecordOverflow)),
            false => Ok(()),
        }
    }

    /// Takes zeros and the content type off the end of `plain` (RFC 8446, 5.4).
    fn cut_padding(&mut self) -> Result<ContentType, Failure> {
        while let Some(mut slice) = self.plain.pop_back() {
            if let Some(at) = slice.bytes().iter().rposition(|&byte| byte != 0) {
                let kind = slice.bytes()[at];
                if at > 0 {
                    slice.truncate(at);
                    self.plain.push_back(slice);
                }
                return inner::content_type(kind);
            }
        }
        Err(Failure::Ours(Alert::UnexpectedMessage))
    }

    /// What a record that is authentic means; application data stay in `plain`.
    fn read(&mut self, kind: ContentType) -> Result<Meaning, Failure> {
        if self.messages.is_cut() && kind != ContentType::Handshake {
            return Err(Failure::Ours(Alert::UnexpectedMessage));
        }
        if kind == ContentType::ApplicationData && !self.plain.is_empty() {
            self.idle = 0;
            return self.check_limit();
        }
        self.idle += 1;
        if self.idle > IDLE_RECORDS_MAX {
            return Err(Failure::Ours(Alert::UnexpectedMessage));
        }
        let meaning = match kind {
            ContentType::ApplicationData => Meaning::Nothing,
            ContentType::Alert => self.read_alert()?,
            ContentType::Handshake => self.read_messages()?,
        };
        self.plain.clear();
        if matches!(meaning, Meaning::KeyUpdate { .. }) && !mutant!("tls-key-kept") {
            self.key.update();
        }
        self.check_limit().map(|_| meaning)
    }

    fn check_limit(&self) -> Result<Meaning, Failure> {
        match self.key.blocks > self.key.limits.end_at {
            true => Err(Failure::KeyWornOut),
            false => Ok(Meaning::Nothing),
        }
    }

    fn read_alert(&self) -> Result<Meaning, Failure> {
        let mut bytes: ArrayVec<u8, 3> = ArrayVec::new();
        let content = self.plain.iter().flat_map(|slice| slice.bytes());
        bytes.extend(content.copied().take(3));
        inner::alert(&bytes)
    }

    fn read_messages(&mut self) -> Result<Meaning, Failure> {
        let mut meaning = Meaning::Nothing;
        if self.plain.is_empty() {
            return Err(Failure::Ours(Alert::UnexpectedMessage));
        }
        while let Some(slice) = self.plain.pop_front() {
            let is_end = self.plain.is_empty();
            meaning = self.messages.take(slice.bytes(), is_end, self.side)?;
        }
        Ok(meaning)
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener")
            .field("suite", &self.key.suite)
            .field("sequence", &self.key.sequence)
            .field("waiting", &self.waiting_bytes)
            .finish_non_exhaustive()
    }
}
