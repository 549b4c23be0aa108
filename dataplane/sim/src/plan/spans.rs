//! Volumes that lie on several drives, each of which has troubles of its own (row R8).

use block::{Geometry, Span, VolumeId};
use testkit::Random;

use super::{Plan, VolumePlan};
use crate::disk::DiskConfig;

/// Bytes of one of several drives: small, for hosts to be at borders often.
const LEAST: u64 = block::SPAN_UNIT;
const MOST: u64 = 1 << 20;

impl Plan {
    /// A plan with a log or without, some volumes of which lie on two drives or three.
    pub(crate) fn draw_spans(random: &mut Random) -> Self {
        let mut plan = match random.chance(2, 3) {
            true => Self::draw_logged(random).with_tables(random),
            false => Self::draw(random),
        };
        for (i, volume) in plan.volumes.iter_mut().enumerate() {
            if i == 0 || random.chance(1, 2) {
                volume.spread(random);
            }
        }
        plan.draw_trouble_of_parts(random);
        plan
    }
}

impl VolumePlan {
    /// It lies on several drives from now on.
    fn spread(&mut self, random: &mut Random) {
        let block = u64::from(self.disk.geometry.block_size);
        let count = random.range(2..=3usize);
        for place in 0..count {
            let mut part = Self::draw(random).disk;
            let is_last = place + 1 == count;
            // As large as a host's block is at the end alone.
            let unit = if is_last { 4096 } else { block };
            let bytes = random.range(LEAST..=MOST) / unit * unit;
            let (own, whole) = (part.geometry, self.disk.geometry);
            let is_alike = random.chance(2, 3);
            part.geometry = Geometry {
                block_size: block as u32,
                blocks: bytes / block,
                unmap: if is_alike { whole.unmap } else { own.unmap },
                deallocated_zeros: match is_alike {
                    true => whole.deallocated_zeros,
                    false => own.deallocated_zeros,
                },
                ..own
            };
            part.deallocated_unit = part.deallocated_unit.max(block);
            self.parts.push(part);
        }
        let span = self.span(&[VolumeId(0); 3]).expect("drives that fit");
        let units = self.parts.iter().map(|part| part.deallocated_unit);
        self.disk = DiskConfig {
            geometry: *span.geometry(),
            deallocated_unit: units.max().expect("some"),
            ..self.disk.clone()
        };
        let len = 4096 * random.range(1..=32u64);
        let window = |middle: u64| (middle.saturating_sub(len / 2) / 4096 * 4096, len);
        self.windows = self.borders().map(window).collect();
        if random.chance(1, 2) {
            let bytes = self.disk.geometry.len();
            self.windows.push(window(random.range(0..=bytes)));
        }
    }

    /// Where it lies, if that is on several drives, which are these.
    pub(crate) fn span(&self, volumes: &[VolumeId]) -> Option<Span> {
        let parts = volumes.iter().copied().zip(&self.parts);
        let devices: Vec<_> = parts
            .map(|(volume, part)| (volume, part.geometry))
            .collect();
        (!devices.is_empty()).then(|| Span::new(&devices).expect("drives that fit"))
    }

    /// Bytes where its drives but the first begin.
    fn borders(&self) -> impl Iterator<Item = u64> {
        let given = |part: &DiskConfig| part.geometry.len() / block::SPAN_UNIT * block::SPAN_UNIT;
        let (mut at, last) = (0, self.parts.len() - 1);
        self.parts[..last].iter().map(move |part| {
            at += given(part);
            at
        })
    }
}
