//! Volumes that lie on several devices, one behind the other (row R8).

use std::fmt;
use std::ops::Range;

use crate::{Geometry, VolumeId};

/// What each device of a span but the last gives a multiple of: no page, and no granule of what a mirrored
/// volume's record has, lies on two.
pub const SPAN_UNIT: u64 = 64 << 10;

/// Where a volume lies that is on several devices.
#[derive(Clone, Debug)]
pub struct Span {
    members: Box<[Member]>,
    geometry: Geometry,
}

/// A device of a span.
#[derive(Clone, Copy, Debug)]
struct Member {
    volume: VolumeId,
    /// Byte of the span that it begins with.
    start: u64,
}

/// A range of a span that lies on one of its devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanPart {
    /// The device.
    pub volume: VolumeId,
    /// The same in bytes of the span.
    pub range: Range<u64>,
    /// Byte of the device where it begins.
    pub offset: u64,
    /// Bytes of what was asked for lie on devices behind it.
    pub is_followed: bool,
}

/// Why devices make no span; devices by their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanError {
    /// There is not one.
    Empty,
    /// Its blocks are other ones than those of the first.
    Blocks(usize),
    /// It has less than [`SPAN_UNIT`].
    Short(usize),
}

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpanError::Empty => f.write_str("it is on no store"),
            SpanError::Blocks(_) => f.write_str("its stores have blocks of different sizes"),
            SpanError::Short(_) => write!(f, "a store of it has less than {SPAN_UNIT} bytes"),
        }
    }
}

impl std::error::Error for SpanError {}

impl Span {
    /// Of these devices, in this order. Each but the last gives as much of itself as is a multiple of [`SPAN_UNIT`].
    ///
    /// # Errors
    /// They make none.
    pub fn new(devices: &[(VolumeId, Geometry)]) -> Result<Self, SpanError> {
        let (_, mut geometry) = *devices.first().ok_or(SpanError::Empty)?;
        let (mut members, mut start) = (Vec::with_capacity(devices.len()), 0);
        for (place, (volume, device)) in devices.iter().enumerate() {
            if device.block_size != geometry.block_size {
                return Err(SpanError::Blocks(place));
            }
            if device.len() < SPAN_UNIT {
                return Err(SpanError::Short(place));
            }
            members.push(Member {
                volume: *volume,
                start,
            });
            geometry = geometry.safest(device);
            start += Self::given(device.len(), place + 1 == devices.len());
        }
        geometry.blocks = start / u64::from(geometry.block_size);
        Ok(Self {
            members: members.into(),
            geometry,
        })
    }

    /// Bytes that a device of `len` gives to its span: the last of them all.
    pub fn given(len: u64, is_last: bool) -> u64 {
        match is_last {
            true => len,
            false => len / SPAN_UNIT * SPAN_UNIT,
        }
    }

    /// What it is, and what all of its devices take.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Its devices, in order.
    pub fn volumes(&self) -> impl ExactSizeIterator<Item = VolumeId> {
        self.members.iter().map(|member| member.volume)
    }

    /// The last of them, with which it grows.
    pub fn last(&self) -> VolumeId {
        self.members[self.members.len() - 1].volume
    }

    /// How many blocks it has when the last of its devices has so many.
    pub fn blocks_with(&self, last: u64) -> u64 {
        let start = self.members[self.members.len() - 1].start;
        start / u64::from(self.geometry.block_size) + last
    }

    /// The last of its devices has so many blocks now.
    pub fn resize(&mut self, last: u64) {
        self.geometry.blocks = self.blocks_with(last);
    }

    /// The first part of a range that is not empty; its rest begins where that ends.
    pub fn part(&self, range: Range<u64>) -> SpanPart {
        let behind = (self.members).partition_point(|member| member.start <= range.start);
        let member = self.members[behind - 1];
        let end = match self.members.get(behind) {
            Some(next) => next.start.min(range.end),
            None => range.end,
        };
        SpanPart {
            volume: member.volume,
            offset: range.start - member.start,
            is_followed: end < range.end,
            range: range.start..end,
        }
    }

    /// The devices that a range lies on.
    pub fn devices_of(&self, range: Range<u64>) -> impl Iterator<Item = VolumeId> {
        let is_in = move |place: &usize| {
            let end = self
                .members
                .get(place + 1)
                .map_or(u64::MAX, |next| next.start);
            self.members[*place].start < range.end && range.start < end
        };
        let places = (0..self.members.len()).filter(is_in);
        places.map(|place| self.members[place].volume)
    }
}

impl Geometry {
    /// What this one takes and another one, too.
    fn safest(self, other: &Self) -> Self {
        Self {
            block_size: self.block_size,
            blocks: self.blocks,
            metadata: self.metadata.max(other.metadata),
            alignment: self.alignment.max(other.alignment),
            prp: self.prp || other.prp,
            max_elements: self.max_elements.min(other.max_elements),
            max_bytes: self.max_bytes.min(other.max_bytes),
            write_cache: self.write_cache || other.write_cache,
            write_zeroes: self.write_zeroes && other.write_zeroes,
            unmap: self.unmap && other.unmap,
            deallocated_zeros: self.deallocated_zeros && other.deallocated_zeros,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Geometry = Geometry {
        block_size: 512,
        blocks: 1000,
        metadata: 0,
        alignment: 1,
        prp: false,
        max_elements: 250,
        max_bytes: 1 << 20,
        write_cache: false,
        write_zeroes: true,
        unmap: true,
        deallocated_zeros: true,
    };

    fn of(blocks: &[u64]) -> Result<Span, SpanError> {
        let device =
            |(i, &blocks): (usize, &u64)| (VolumeId(i as u16), Geometry { blocks, ..PLAIN });
        let devices: Vec<_> = blocks.iter().enumerate().map(device).collect();
        Span::new(&devices)
    }

    #[test]
    fn r08_a_span_takes_what_all_of_its_devices_take() {
        let fussy = Geometry {
            alignment: 4,
            prp: true,
            max_elements: 16,
            max_bytes: 4096,
            write_cache: true,
            write_zeroes: false,
            unmap: false,
            deallocated_zeros: false,
            ..PLAIN
        };
        for devices in [[PLAIN, fussy], [fussy, PLAIN]] {
            let span = Span::new(&[(VolumeId(3), devices[0]), (VolumeId(1), devices[1])]).unwrap();
            let geometry = span.geometry();
            assert_eq!(geometry.blocks, 896 + 1000);
            assert_eq!((geometry.alignment, geometry.prp), (4, true));
            assert_eq!((geometry.max_elements, geometry.max_bytes), (16, 4096));
            assert!(geometry.write_cache && !geometry.write_zeroes);
            assert!(!geometry.unmap && !geometry.deallocated_zeros);
            assert_eq!(span.last(), VolumeId(1));
        }
    }

    #[test]
    fn r08_devices_that_make_no_span_are_named() {
        let large = Geometry {
            block_size: 4096,
            ..PLAIN
        };
        let blocks = Span::new(&[(VolumeId(0), PLAIN), (VolumeId(1), large)]);
        assert_eq!(blocks.unwrap_err(), SpanError::Blocks(1));
        assert_eq!(of(&[1000, 127, 1000]).unwrap_err(), SpanError::Short(1));
        assert_eq!(of(&[]).unwrap_err(), SpanError::Empty);
    }

    #[test]
    fn r08_a_span_grows_with_its_last_device() {
        let mut span = of(&[1000, 300]).unwrap();
        assert_eq!(span.geometry().blocks, 896 + 300);
        assert_eq!(span.blocks_with(500), 896 + 500);
        span.resize(500);
        let part = span.part(896 * 512..1396 * 512);
        assert_eq!((part.volume, part.offset), (VolumeId(1), 0));
        assert_eq!(part.range.end, span.geometry().len());
    }

    /// However a span and a range are: its parts follow each other, lie in what devices give, and each byte is
    /// where a model that counts bytes one by one has it.
    #[test]
    fn r08_parts_of_any_range_are_those_of_a_flat_model() {
        let mut random = testkit::Random::new(8);
        for _ in 0..2000 {
            let blocks: Vec<u64> = (0..random.range(1..=4u32))
                .map(|_| random.range(128..=700u64))
                .collect();
            let span = of(&blocks).unwrap();
            let last = blocks.len() - 1;
            let given = |place: usize| match place == last {
                true => blocks[place] * 512,
                false => blocks[place] * 512 / SPAN_UNIT * SPAN_UNIT,
            };
            // By sector: the device, and the byte there.
            let of_device = |place: usize| {
                (0..given(place) / 512).map(move |at| (VolumeId(place as u16), at * 512))
            };
            let flat: Vec<_> = (0..blocks.len()).flat_map(of_device).collect();
            assert_eq!(span.geometry().blocks, flat.len() as u64);
            let first = random.below(flat.len() as u64);
            let range = first * 512..random.range(first + 1..=flat.len() as u64) * 512;
            let (mut at, mut seen, mut devices) = (range.start, Vec::new(), Vec::new());
            loop {
                let part = span.part(at..range.end);
                assert_eq!(part.range.start, at);
                devices.push(part.volume);
                let sectors = (part.range.end - at) / 512;
                seen.extend((0..sectors).map(|n| (part.volume, part.offset + n * 512)));
                at = part.range.end;
                if !part.is_followed {
                    break;
                }
            }
            assert_eq!(at, range.end);
            assert_eq!(seen, flat[first as usize..(range.end / 512) as usize]);
            assert_eq!(span.devices_of(range).collect::<Vec<_>>(), devices);
        }
    }
}
