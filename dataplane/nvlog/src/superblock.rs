//! Superblocks: of the store, and of each region. Four copies of each, one in each management area.
//!
//! A new version is written to copies 0 and 2, which are flushed, then to copies 1 and 3, which are
//! flushed: then it counts. Whenever the power goes, two copies agree on the version before, or
//! on the new one. [`newest`] takes the newest version that two agree on.

use crate::bytes::{array, put, u16_at, u32_at, u64_at};
use crate::layout::{AREAS, Layout, REGION_SUPERBLOCK, REGIONS_MAX, SUPERBLOCK, VOLUMES_MAX};
use crate::{LogId, NUMBERS_END, VERSION, VERSION_SPANS, VERSION_TABLES};

const MAGIC: [u8; 8] = *b"TL-NVLOG";
const REGION_MAGIC: [u8; 8] = *b"TL-REGIO";
const CHECKSUM: usize = 12;
const VOLUMES: usize = 128;
const VOLUME: usize = 64;
const NAME: usize = 32;

const _: () = assert!(VOLUMES + VOLUMES_MAX * VOLUME == SUPERBLOCK);

/// The copies of a superblock that are written first, then those written when these are flushed.
pub const WAVES: [[usize; 2]; 2] = [[0, 2], [1, 3]];

/// Which of a log's stores: it is on one, or on two that are written in parallel, store 0 and store 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members(u8);

impl Members {
    /// Both.
    pub const BOTH: Self = Self(3);

    /// Store `member` alone.
    pub const fn only(member: u8) -> Self {
        Self(1 << member)
    }

    /// Whether store `member` is one of them.
    pub const fn has(self, member: u8) -> bool {
        self.0 >> member & 1 != 0
    }

    /// All but store `member`; `None` if that is nobody.
    pub fn without(self, member: u8) -> Option<Self> {
        let rest = self.0 & !Self::only(member).0;
        (rest != 0).then_some(Self(rest))
    }
}

/// A volume that has records in the log, as it was known to the run that wrote them. Its place in
/// the list is what records call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What its store is called: at most 32 bytes of UTF-8.
    pub name: String,
    /// What tells its drive from others; zeros where nothing does.
    pub identity: [u8; 16],
    /// Bytes.
    pub len: u64,
    /// Bytes of its blocks.
    pub block: u32,
    /// The volume that it is a part of, if that lies on several drives.
    pub part_of: Option<PartOf>,
}

/// Where a drive stands among those of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartOf {
    /// The volume's place in the list.
    pub span: u16,
    /// How many drives of it are before this one.
    pub place: u16,
}

/// The superblock of a log store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Which log it is of; stores that are written in parallel have the same.
    pub log: LogId,
    /// Counts versions.
    pub generation: u64,
    /// Where things lie.
    pub layout: Layout,
    /// Which map of owners placed pages in regions.
    pub placement: u32,
    /// Which of the log's stores this one is: 0 or 1.
    pub member: u8,
    /// Volumes that records may be of.
    pub volumes: Vec<Volume>,
}

/// The superblock of a region: where its chain of groups begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionSuperblock {
    /// Counts versions.
    pub generation: u64,
    /// The half that its chain begins in.
    pub oldest: u8,
    /// What groups in each half are marked with: all else in it was there before.
    pub epochs: [u64; 2],
    /// Sequence number of the first group of the chain.
    pub sequence: u64,
    /// Checksum of the header before it.
    pub previous: u32,
    /// The stores that have all of the region; the other one is out, and may have less.
    pub members: Members,
    /// The program has stopped as it should: nothing is in the region, and nothing was logged since.
    pub is_closed: bool,
}

/// Why bytes are no superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// All zeros: nothing was ever written.
    Blank,
    /// Something else than a log.
    Foreign,
    /// A region's of another log: it says nothing of this one.
    OtherLog,
    /// It is torn, or rotted.
    Checksum,
    /// It is of this version, and of none that we know.
    Version(u32),
    /// Its checksum is right and its fields are not.
    Fields,
}

/// Whether bytes begin as they should, and which of the `known` versions they are of.
pub(crate) fn look(bytes: &[u8], magic: [u8; 8], known: &[u32]) -> Result<u32, Bad> {
    if bytes.iter().all(|&byte| byte == 0) {
        return Err(Bad::Blank);
    }
    if bytes[..8] != magic {
        return Err(Bad::Foreign);
    }
    if u32_at(bytes, CHECKSUM) != checksum::crc32c_stored_at(bytes, CHECKSUM) {
        return Err(Bad::Checksum);
    }
    let version = u32_at(bytes, 8);
    match known.contains(&version) {
        true => Ok(version),
        false => Err(Bad::Version(version)),
    }
}

pub(crate) fn begin(bytes: &mut [u8], magic: [u8; 8], version: u32, log: LogId) {
    bytes.fill(0);
    put(bytes, 0, &magic);
    put(bytes, 8, &version.to_le_bytes());
    put(bytes, 16, &log.0);
}

pub(crate) fn seal(bytes: &mut [u8]) {
    let crc = checksum::crc32c_stored_at(bytes, CHECKSUM);
    put(bytes, CHECKSUM, &crc.to_le_bytes());
}

impl Superblock {
    /// As it is on disk.
    ///
    /// # Panics
    /// If there are more than [`VOLUMES_MAX`] volumes, or a name is longer than 32 bytes.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.volumes.len() <= VOLUMES_MAX, "too many volumes");
        let mut bytes = vec![0; SUPERBLOCK];
        // A program that knows no tables would take their place for halves, and one that knows no spans forgets what
        // they lie on.
        let version = match self.layout.tables_len {
            _ if self.volumes.iter().any(|volume| volume.part_of.is_some()) => VERSION_SPANS,
            0 => VERSION,
            _ => VERSION_TABLES,
        };
        begin(&mut bytes, MAGIC, version, self.log);
        put(&mut bytes, 32, &self.generation.to_le_bytes());
        put(&mut bytes, 40, &self.layout.len.to_le_bytes());
        put(&mut bytes, 48, &self.layout.block.to_le_bytes());
        put(&mut bytes, 52, &self.layout.regions.to_le_bytes());
        put(&mut bytes, 56, &self.layout.half_len.to_le_bytes());
        put(&mut bytes, 64, &self.placement.to_le_bytes());
        put(&mut bytes, 68, &(self.volumes.len() as u32).to_le_bytes());
        bytes[72] = self.member;
        put(&mut bytes, 80, &self.layout.tables_len.to_le_bytes());
        for (volume, at) in self.volumes.iter().zip((VOLUMES..).step_by(VOLUME)) {
            assert!(volume.name.len() <= NAME, "the name of a store is too long");
            put(&mut bytes, at, &volume.identity);
            put(&mut bytes, at + 16, &volume.len.to_le_bytes());
            put(&mut bytes, at + 24, &volume.block.to_le_bytes());
            if let Some(part) = volume.part_of {
                put(&mut bytes, at + 28, &(part.span + 1).to_le_bytes());
                put(&mut bytes, at + 30, &part.place.to_le_bytes());
            }
            put(&mut bytes, at + 32, volume.name.as_bytes());
        }
        seal(&mut bytes);
        bytes
    }

    /// From what is on disk.
    ///
    /// # Errors
    /// It is [`Bad`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let version = look(bytes, MAGIC, &[VERSION, VERSION_TABLES, VERSION_SPANS])?;
        let (len, block) = (u64_at(bytes, 40), u32_at(bytes, 48));
        let (regions, half_len) = (u32_at(bytes, 52), u64_at(bytes, 56));
        let tables_len = match version {
            VERSION_TABLES if u64_at(bytes, 80) == 0 => return Err(Bad::Fields),
            VERSION_TABLES | VERSION_SPANS => u64_at(bytes, 80),
            _ => 0,
        };
        let layout = Layout::new(len, block, regions, Some(half_len), tables_len)
            .map_err(|_| Bad::Fields)?;
        let count = u32_at(bytes, 68) as usize;
        let generation = u64_at(bytes, 32);
        let is_exact = layout.len == len && layout.half_len == half_len;
        let member = bytes[72];
        if !is_exact || count > VOLUMES_MAX || generation >= NUMBERS_END || member > 1 {
            return Err(Bad::Fields);
        }
        let volume = |at: usize| {
            let name = &bytes[at + 32..at + VOLUME];
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(NAME);
            let name = std::str::from_utf8(&name[..end]).map_err(|_| Bad::Fields)?;
            Ok(Volume {
                name: name.into(),
                identity: array(bytes, at),
                len: u64_at(bytes, at + 16),
                block: u32_at(bytes, at + 24),
                part_of: match (u16_at(bytes, at + 28), u16_at(bytes, at + 30)) {
                    _ if version != VERSION_SPANS => None,
                    (0, 0) => None,
                    (0, _) => return Err(Bad::Fields),
                    (number, place) => Some(PartOf {
                        span: number - 1,
                        place,
                    }),
                },
            })
        };
        let places = (VOLUMES..).step_by(VOLUME).take(count);
        let volumes: Vec<Volume> = places.map(volume).collect::<Result<_, _>>()?;
        if !are_spans(&volumes, version) {
            return Err(Bad::Fields);
        }
        Ok(Self {
            log: LogId(array(bytes, 16)),
            generation,
            layout,
            placement: u32_at(bytes, 64),
            member,
            volumes,
        })
    }
}

/// Whether what drives are parts of can be: volumes that are no parts themselves, whose drives follow each other.
fn are_spans(volumes: &[Volume], version: u32) -> bool {
    let parts = || volumes.iter().filter_map(|volume| volume.part_of);
    let is_whole = |part: PartOf| {
        let span = volumes.get(usize::from(part.span));
        let of_span = |other: &PartOf| other.span == part.span;
        let places = parts().filter(of_span).count();
        let same = parts().filter(|other| *other == part).count();
        span.is_some_and(|span| span.part_of.is_none())
            && usize::from(part.place) < places
            && same == 1
    };
    parts().all(is_whole) && (version == VERSION_SPANS) == parts().next().is_some()
}

impl RegionSuperblock {
    /// As it is on disk.
    pub fn encode(&self, log: LogId, region: usize) -> [u8; REGION_SUPERBLOCK] {
        let mut bytes = [0; REGION_SUPERBLOCK];
        begin(&mut bytes, REGION_MAGIC, VERSION, log);
        put(&mut bytes, 32, &(region as u32).to_le_bytes());
        put(&mut bytes, 36, &u32::from(self.oldest).to_le_bytes());
        put(&mut bytes, 40, &self.generation.to_le_bytes());
        put(&mut bytes, 48, &self.epochs[0].to_le_bytes());
        put(&mut bytes, 56, &self.epochs[1].to_le_bytes());
        put(&mut bytes, 64, &self.sequence.to_le_bytes());
        put(&mut bytes, 72, &self.previous.to_le_bytes());
        bytes[76] = self.members.0;
        bytes[77] = self.is_closed.into();
        seal(&mut bytes);
        bytes
    }

    /// From what is on disk.
    ///
    /// # Errors
    /// It is [`Bad`]; of another region, it is [`Bad::Foreign`].
    pub fn decode(bytes: &[u8], log: LogId, region: usize) -> Result<Self, Bad> {
        debug_assert!(region < REGIONS_MAX);
        look(bytes, REGION_MAGIC, &[VERSION])?;
        if u32_at(bytes, 32) as usize != region {
            return Err(Bad::Foreign);
        }
        if array(bytes, 16) != log.0 {
            return Err(Bad::OtherLog);
        }
        let oldest = u32_at(bytes, 36);
        let epochs = [u64_at(bytes, 48), u64_at(bytes, 56)];
        let in_order = oldest < 2 && epochs[oldest as usize] < epochs[1 - oldest as usize];
        let (generation, sequence) = (u64_at(bytes, 40), u64_at(bytes, 64));
        let are_numbers = [generation, epochs[0], epochs[1], sequence]
            .into_iter()
            .all(|number| number < NUMBERS_END);
        let (members, closed) = (bytes[76], bytes[77]);
        let are_flags = (1..=Members::BOTH.0).contains(&members) && closed <= 1;
        if !in_order || !are_numbers || sequence == 0 || !are_flags {
            return Err(Bad::Fields);
        }
        Ok(Self {
            generation,
            oldest: oldest as u8,
            epochs,
            sequence,
            previous: u32_at(bytes, 72),
            members: Members(members),
            is_closed: closed == 1,
        })
    }
}

/// The newest version that at least two of the copies agree on; `generation` tells versions apart.
pub fn newest<T: Clone + PartialEq>(
    copies: &[Result<T, Bad>; AREAS],
    generation: impl Fn(&T) -> u64,
) -> Option<T> {
    let good: Vec<&T> = copies.iter().flatten().collect();
    let agreed = good
        .iter()
        .filter(|one| good.iter().filter(|other| one == other).count() >= 2);
    agreed
        .max_by_key(|one| generation(one))
        .map(|&one| one.clone())
}
