//! A shard's part in the pairs of its node: what the log has for the other one, and what that has answered.

use std::sync::Arc;
use std::time::Duration;

use block::NamespaceIndex;
use mirror::MirroredVolume;
use net::{ConnectError, Instant};
use nvmf::{AnaState, Timestamp};
use tls::PskTable;

use crate::door::{MirrorDoor, Session};
use crate::handle::Handle;
use crate::link::leading_to;
use crate::machine::Machine;
use crate::poll::Shard;
use crate::secure::link_key;

impl<M: Machine> Shard<M> {
    /// Its links to other nodes from now on.
    pub fn set_lanes(&mut self, lanes: MirrorDoor) {
        let mut psks = PskTable::new();
        (lanes.incoming_psks()).for_each(|psk| psks.add_key(link_key(&psk)));
        self.common.doors.tls.link_psks = Arc::new(psks);
        self.common.doors.mirror = lanes;
    }

    /// Its links to other nodes.
    pub fn lanes(&mut self) -> &mut MirrorDoor {
        &mut self.common.doors.mirror
    }

    /// A logged volume is mirrored from now on; the log takes changes already.
    pub fn mirror_volume(&mut self, volume: &MirroredVolume) {
        (self.common.volumes).mirror(volume.volume, &volume.shared, volume.namespace);
    }

    /// A namespace is read as a backup, and not served otherwise.
    pub fn set_backup(&mut self, namespace: NamespaceIndex) {
        self.common.volumes.set_backup(namespace);
    }

    /// What the log has for other nodes goes to their links, and what they have answered to the log.
    pub(crate) fn mirror(&mut self, now: Instant) {
        let common = &mut self.common;
        let (lanes, volumes) = (&mut common.doors.mirror, &mut common.volumes);
        lanes.advance(Duration::from_nanos(now.0));
        while let Some(transfers) = lanes.next_confirmed() {
            volumes.confirmed(transfers);
        }
        while let Some(compared) = lanes.next_compared() {
            volumes.compared(&compared);
        }
        if let Some(compares) = volumes.compares() {
            lanes.compare(compares);
        }
        if let Some((forwards, stable)) = volumes.forwards() {
            lanes.forward(forwards, stable);
        }
        let (lanes, volumes) = (&mut common.doors.mirror, &mut common.volumes);
        self.pairs.store_tables(lanes, volumes);
        self.open_lanes(now);
        let common = &mut self.common;
        for link in &mut self.links {
            link.mirror(common, &mut self.stages, Timestamp(now.as_millis()));
        }
    }

    /// Opens the connections that lanes want, each by a port that leads where it goes to.
    fn open_lanes(&mut self, now: Instant) {
        let (lanes, links) = (&mut self.common.doors.mirror, &mut self.links);
        while let Some((opening, connection)) =
            lanes.next_connection(|remote| leading_to(links, remote).count())
        {
            let remote = opening.remote;
            let link = leading_to(links, remote).nth(opening.port);
            let result = match link {
                Some(link) => {
                    let key = (opening.tls).then(|| link_key(&lanes.outgoing_psk(opening.peer)));
                    links[link].connect_by(now, remote, Session::Mirror(connection), key)
                }
                None => Err(ConnectError::NoRoute),
            };
            if let Err(error) = result {
                log::debug!("mirror: no connection to {remote}: {error}");
                lanes.not_opened(&opening);
            }
        }
    }

    /// Tells the control side how pairs stand, and hosts by which node they reach mirrored namespaces and which backups they may read, those
    /// that were added since included.
    pub(crate) fn tell_of_pairs(&mut self, handle: &Handle, now: Instant) {
        let (volumes, doors) = (&self.common.volumes, &mut self.common.doors);
        if !self.pairs.tell(&mut doors.mirror, handle, now) {
            return;
        }
        (doors.nvme.target).show_backups(|namespace| volumes.is_readable_backup(namespace));
        doors.nvme.target.set_ana_states(|namespace| {
            let gate = volumes.gate(namespace)?;
            Some(match gate.serves(Duration::from_nanos(now.0)) {
                true => AnaState::Optimized,
                false => AnaState::Inaccessible,
            })
        });
    }
}
