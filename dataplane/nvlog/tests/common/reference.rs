//! A reader of logs that shares nothing with the crate's but the documentation.

use nvlog::RecordOp;
use testkit::crc32c;

const MIB: usize = 1 << 20;
const AREA: usize = MIB / 2;
const NUMBERS_END: u64 = 1 << 56;

/// What a replay does to a volume: first byte, and bytes or how many zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Write(u32, u64, Vec<u8>),
    Zeroes(u32, u64, u64),
    Deallocation(u32, u64, u64),
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let field = bytes[at..at + len].iter().rev();
    field.fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

fn is_whole(bytes: &[u8], at: usize) -> bool {
    let mut zeroed = bytes.to_vec();
    zeroed[at..at + 4].fill(0);
    u64::from(crc32c(&zeroed)) == number(bytes, at, 4)
}

/// The management areas of a store.
fn areas(image: &[u8]) -> [&[u8]; 4] {
    let len = image.len() / 4096 * 4096;
    [0, AREA, len - MIB, len - AREA].map(|at| &image[at..at + AREA])
}

/// Where a region's chain begins: generation, oldest half, epochs, sequence, checksum before; and the stores that have all of it, and whether it is closed.
type Start = (u64, usize, [u64; 2], u64, u64, [u8; 2]);

/// A log as its superblocks say it is.
#[derive(PartialEq)]
pub struct Log {
    id: Vec<u8>,
    block: usize,
    half_len: usize,
    tables_len: usize,
    starts: Vec<Start>,
}

/// The bytes of a superblock that mean something, if it is one, of a store of `len` bytes.
pub fn superblock(bytes: &[u8], len: usize) -> Option<Vec<u8>> {
    let bytes = &bytes[..16384];
    let version = number(bytes, 8, 4);
    let is_one = bytes[..8] == *b"TL-NVLOG" && matches!(version, 2..=4) && is_whole(bytes, 12);
    let tables_len = if version > 2 { number(bytes, 80, 8) } else { 0 };
    let is_area = (508 * 4096..1 << 60).contains(&tables_len) && tables_len.is_multiple_of(4096);
    let volumes = number(bytes, 68, 4) as usize;
    let (regions, half_len) = (number(bytes, 52, 4), number(bytes, 56, 8));
    if !is_one
        || !is_area && (version == 3 || tables_len > 0)
        || volumes > 254
        || number(bytes, 32, 8) >= NUMBERS_END
    {
        return None;
    }
    let halves = (2 * regions).checked_mul(half_len);
    let fits =
        halves.is_some_and(|halves| halves.saturating_add(tables_len) <= (len - 4 * AREA) as u64);
    let is_sound = (1..=64).contains(&regions)
        && half_len >= 64 << 10
        && half_len.is_multiple_of(4096)
        && matches!(number(bytes, 48, 4), 512 | 4096)
        && number(bytes, 40, 8) == len as u64
        && bytes[72] <= 1;
    let mut meaning = bytes[16..73].to_vec();
    meaning.extend(tables_len.to_le_bytes());
    for i in 0..volumes {
        let volume = &bytes[128 + 64 * i..][..64];
        let name = volume[32..].split(|&byte| byte == 0).next()?;
        std::str::from_utf8(name).ok()?;
        meaning.extend(&volume[..if version == 4 { 32 } else { 28 }]);
        meaning.extend(name);
        meaning.push(0);
    }
    let parts = || {
        (0..volumes).map(|i| {
            (
                i,
                number(bytes, 156 + 64 * i, 2),
                number(bytes, 158 + 64 * i, 2),
            )
        })
    };
    let mut are_parts = version != 4 || parts().any(|(_, span, _)| span > 0);
    for (_, span, place) in parts().filter(|_| version == 4) {
        let of_span: Vec<_> = parts().filter(|&(_, other, _)| other == span).collect();
        let is_device = |(i, its, _): (usize, u64, u64)| i as u64 + 1 == span && its == 0;
        are_parts &= match span {
            0 => place == 0,
            _ => {
                parts().any(is_device)
                    && place < of_span.len() as u64
                    && of_span
                        .iter()
                        .filter(|&&(_, _, other)| other == place)
                        .count()
                        == 1
            }
        };
    }
    (fits && is_sound && are_parts).then_some(meaning)
}

/// The bytes of a table's entry that mean something, if it is one of `slot` in the log `id`.
pub fn entry(bytes: &[u8], id: &[u8], slot: usize) -> Option<Vec<u8>> {
    let bytes = &bytes[..4096];
    let is_one = bytes[..8] == *b"TL-TABLE" && number(bytes, 8, 4) == 3 && is_whole(bytes, 12);
    let is_ours = bytes[16..32] == *id && number(bytes, 40, 4) == slot as u64;
    let (sequence, content) = (number(bytes, 32, 8), number(bytes, 44, 4) as usize);
    let [first, pages] = [96, 104].map(|at| number(bytes, at, 8));
    let end = u128::from(first) + u128::from(pages);
    let is_record =
        (first, pages) == (0, 0) || first >= 508 && pages > 0 && end * 4096 <= u128::from(u64::MAX);
    if !is_one || !is_ours || !is_record || content > 3840 || sequence == 0 {
        return None;
    }
    let name = bytes[64..96].split(|&byte| byte == 0).next()?;
    std::str::from_utf8(name).ok()?;
    let zeros = [64 + name.len()..96, 112..256, 256 + content..4096];
    let are_zeros = zeros
        .into_iter()
        .all(|range| bytes[range].iter().all(|&byte| byte == 0));
    (are_zeros && sequence < NUMBERS_END).then(|| bytes[32..256 + content].to_vec())
}

pub fn region(bytes: &[u8], id: &[u8], region: usize) -> Option<Start> {
    let bytes = &bytes[..512];
    let is_one = bytes[..8] == *b"TL-REGIO" && number(bytes, 8, 4) == 2 && is_whole(bytes, 12);
    let is_ours = bytes[16..32] == *id && number(bytes, 32, 4) == region as u64;
    let [generation, first, second, sequence] = [40, 48, 56, 64].map(|at| number(bytes, at, 8));
    let oldest = number(bytes, 36, 4);
    let is_sound = match oldest {
        0 => first < second,
        1 => second < first,
        _ => false,
    };
    let numbers = [generation, first, second, sequence];
    let is_sound = is_sound && (1..=3).contains(&bytes[76]) && bytes[77] <= 1;
    let is_sound = is_sound && sequence > 0 && numbers.iter().all(|&one| one < NUMBERS_END);
    (is_one && is_ours && is_sound).then_some((
        generation,
        oldest as usize,
        [first, second],
        sequence,
        number(bytes, 72, 4),
        [bytes[76], bytes[77]],
    ))
}

/// The newest that two have.
fn agreed<T: Clone + PartialEq>(
    copies: &[Option<T>; 4],
    generation: impl Fn(&T) -> u64,
) -> Option<T> {
    let mut all: Vec<&T> = copies.iter().flatten().collect();
    all.sort_by_key(|one| generation(one));
    let twice = |one: &&&T| all.iter().filter(|other| other == one).count() > 1;
    all.iter().rev().find(twice).map(|&one| one.clone())
}

/// The log in a store of that size, if there is one that can be opened.
pub fn open(image: &[u8]) -> Option<Log> {
    if image.len() < 4 * AREA {
        return None;
    }
    let areas = areas(image);
    let len = image.len() / 4096 * 4096;
    let copies = areas.map(|area| superblock(area, len));
    let meaning = agreed(&copies, |meaning| number(meaning, 16, 8))?;
    let id = meaning[..16].to_vec();
    let regions = number(&meaning, 36, 4) as usize;
    let starts = (0..regions).map(|which| {
        let copies = areas.map(|area| region(&area[16384 + 4096 * which..], &id, which));
        agreed(&copies, |start| start.0)
    });
    Some(Log {
        block: number(&meaning, 32, 4) as usize,
        half_len: number(&meaning, 40, 8) as usize,
        tables_len: number(&meaning, 57, 8) as usize,
        starts: starts.collect::<Option<_>>()?,
        id,
    })
}

/// A group whose header can be read.
struct Group {
    sequence: u64,
    acknowledged: u64,
    previous: u64,
    checksum: u64,
    total: usize,
    /// What it does; `None` if its payload is not what it was.
    done: Option<Vec<Done>>,
}

impl Log {
    fn half(&self, region: usize, half: usize) -> std::ops::Range<usize> {
        let start = MIB + self.tables_len + (2 * region + half) * self.half_len;
        start..start + self.half_len
    }

    fn group(&self, image: &[u8], region: usize, half: usize, at: usize) -> Option<Group> {
        let room = &image[at..self.half(region, half).end];
        let len = room
            .get(..80)
            .map(|fields| number(fields, 28, 4) as usize)?;
        if !(80..=4096).contains(&len) || !len.is_multiple_of(self.block) {
            return None;
        }
        let header = room.get(..len)?;
        let is_one = header[..4] == *b"TLGR" && number(header, 4, 2) == 2 && is_whole(header, 76);
        let [epoch, sequence, acknowledged, address] =
            [32, 40, 48, 56].map(|at| number(header, at, 8));
        let is_ours = header[8..24] == *self.id
            && number(header, 6, 2) == region as u64
            && usize::from(header[24]) == half
            && epoch == self.starts[region].2[half]
            && address == at as u64;
        let payload_len = number(header, 68, 4) as usize;
        let total = len + payload_len.next_multiple_of(self.block);
        let payload = room.get(len..len + payload_len)?;
        let is_sound = total <= room.len() && acknowledged < sequence && sequence < NUMBERS_END;
        if !is_one || !is_ours || !is_sound {
            return None;
        }
        let (mut at, mut place, mut done) = (80, 0, Some(Vec::new()));
        for i in 0..number(header, 26, 2) {
            let record = header.get(at..at + 48)?;
            let [offset, bytes] = [24, 32].map(|at| number(record, at, 8));
            let end = offset
                .checked_add(bytes)
                .filter(|&end| end <= u64::MAX - 4096)?;
            let is_write = record[20] == RecordOp::Write as u8;
            let pages = if is_write {
                end.div_ceil(4096) - offset / 4096
            } else {
                0
            };
            let is_sound = number(record, 0, 8) == (sequence << 8) + i
                && number(record, 8, 8) == 0
                && (1..=3).contains(&record[20])
                && record[21] == 0
                && number(record, 22, 2) == pages
                && bytes > 0
                && number(record, 40, 4) == place as u64;
            if !is_sound {
                return None;
            }
            at += 48;
            let volume = number(record, 16, 4) as u32;
            if is_write {
                let mine = payload.get(place..)?.get(..bytes as usize)?;
                let mut from = offset;
                let mut is_right = true;
                while from < end {
                    let to = end.min((from / 4096 + 1) * 4096);
                    let page = &mine[(from - offset) as usize..(to - offset) as usize];
                    is_right &= number(header.get(at..at + 4)?, 0, 4) == u64::from(crc32c(page));
                    (from, at) = (to, at + 4);
                }
                place += mine.len();
                done = done.filter(|_| is_right);
                done.iter_mut()
                    .for_each(|done| done.push(Done::Write(volume, offset, mine.to_vec())));
            } else {
                let told = match record[20] == RecordOp::WriteZeroes as u8 {
                    true => Done::Zeroes(volume, offset, bytes),
                    false => Done::Deallocation(volume, offset, bytes),
                };
                done.iter_mut().for_each(|done| done.push(told.clone()));
            }
        }
        (place == payload_len).then_some(Group {
            sequence,
            acknowledged,
            previous: number(header, 64, 4),
            checksum: number(header, 76, 4),
            total,
            done,
        })
    }

    /// What a replay does, and whether something is lost.
    pub fn replay(&self, image: &[u8]) -> (Vec<Done>, bool) {
        let (mut all, mut lost) = (Vec::new(), false);
        for (region, &(_, oldest, _, first, before, _)) in self.starts.iter().enumerate() {
            let (mut next, mut previous) = (first, before);
            let halves = [oldest, 1 - oldest];
            let mut ends = [0; 2];
            for (half, end) in halves.into_iter().zip(&mut ends) {
                let mut at = self.half(region, half).start;
                while let Some(group) = self.group(image, region, half, at)
                    && (group.sequence, group.previous) == (next, previous)
                    && let Some(done) = group.done
                {
                    all.extend(done);
                    (next, previous, at) = (next + 1, group.checksum, at + group.total);
                }
                *end = at;
            }
            for (half, end) in halves.into_iter().zip(ends) {
                for at in (end..self.half(region, half).end).step_by(self.block) {
                    let group = self.group(image, region, half, at);
                    lost |= group.is_some_and(|group| group.acknowledged >= next);
                }
            }
        }
        (all, lost)
    }
}
