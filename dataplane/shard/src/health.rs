//! How ports and devices are, as they were last seen: what readiness is made of.

use std::collections::BTreeMap;

use block::{DeviceState, VolumeId};

use crate::snapshot::NamespaceName;

/// How a port is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortState {
    /// Frames come and go.
    #[default]
    Up,
    /// There is no link: a cable, or the other end.
    NoLink,
    /// An administrator switched its interface off.
    Off,
    /// Its interface is no more.
    Gone,
}

/// How everything is that hosts depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Ports by name.
    pub ports: Vec<(String, PortState)>,
    /// Namespaces that are offered, and how their devices are.
    pub namespaces: Vec<(NamespaceName, DeviceState)>,
    /// Stores that others lie on: the name of that, of the store, and how its device is.
    pub parts: Vec<(String, String, DeviceState)>,
    /// Stores of the log, if there are two: one that is out fails, or is gone.
    pub logs: Vec<(String, DeviceState)>,
}

/// What was seen, and by whom.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    ports: Vec<PortState>,
    /// By device and shard; those that are left out work.
    devices: BTreeMap<(VolumeId, usize), DeviceState>,
}

impl Seen {
    /// Port number `port` is so; whether it was not.
    pub(crate) fn note_port(&mut self, port: usize, state: PortState) -> bool {
        if self.ports.len() <= port {
            self.ports.resize(port + 1, PortState::Up);
        }
        std::mem::replace(&mut self.ports[port], state) != state
    }

    pub(crate) fn port(&self, port: usize) -> PortState {
        self.ports.get(port).copied().unwrap_or_default()
    }

    /// A device is so, as a shard sees it: each has its own way there.
    pub(crate) fn note_device(&mut self, shard: usize, volume: VolumeId, state: DeviceState) {
        match state {
            DeviceState::Works => self.devices.remove(&(volume, shard)),
            state => self.devices.insert((volume, shard), state),
        };
    }

    /// A device as the shard sees it that is worst off.
    pub(crate) fn device(&self, volume: VolumeId) -> DeviceState {
        let of_all = self.devices.range((volume, 0)..=(volume, usize::MAX));
        of_all.map(|(_, state)| *state).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k06_a_device_is_as_the_shard_sees_it_that_is_worst_off() {
        let (mut seen, disk) = (Seen::default(), VolumeId(1));
        assert_eq!(seen.device(disk), DeviceState::Works);
        seen.note_device(0, disk, DeviceState::Failing);
        seen.note_device(3, disk, DeviceState::Gone);
        assert_eq!(seen.device(disk), DeviceState::Gone);
        assert_eq!(seen.device(VolumeId(0)), DeviceState::Works);
        assert_eq!(seen.device(VolumeId(2)), DeviceState::Works);
        seen.note_device(3, disk, DeviceState::Works);
        assert_eq!(seen.device(disk), DeviceState::Failing);
        seen.note_device(0, disk, DeviceState::Works);
        assert_eq!(seen.device(disk), DeviceState::Works);
    }

    #[test]
    fn k06_a_port_is_up_until_somebody_says_otherwise() {
        let mut seen = Seen::default();
        assert_eq!(seen.port(1), PortState::Up);
        assert!(seen.note_port(1, PortState::Gone));
        assert!(!seen.note_port(1, PortState::Gone));
        assert_eq!(
            (seen.port(0), seen.port(1)),
            (PortState::Up, PortState::Gone)
        );
    }
}
