//! What a shard's volumes lie on.

use block::{Device, Span, VolumeId};

/// A shard's ways to devices, each of which is a volume, and behind them the volumes that lie on several.
pub struct Devices<D> {
    pub(crate) devices: Vec<D>,
    pub(crate) spans: Vec<Span>,
}

impl<D: Device> Devices<D> {
    /// `spans` are of volumes that are among `devices`, by their places.
    ///
    /// # Panics
    /// If they are not.
    pub fn new(devices: Vec<D>, spans: Vec<Span>) -> Self {
        let is_device = |volume: VolumeId| volume.index() < devices.len();
        assert!(
            spans.iter().flat_map(Span::volumes).all(is_device),
            "a span of what is no device"
        );
        Self { devices, spans }
    }
}

impl<D: Device> From<Vec<D>> for Devices<D> {
    fn from(devices: Vec<D>) -> Self {
        Self::new(devices, Vec::new())
    }
}
