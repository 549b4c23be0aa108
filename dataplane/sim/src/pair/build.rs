//! The appliances of pairs, before anything has happened.

use std::time::Duration;

use mirror::Patience;
use testkit::Random;

use super::draw::{Shape, draw_rate};
use super::secure::LinkTls;
use crate::appliance::{Appliance, PairNode, PairPlan, PairVolume, address, at_port};
use crate::clock::{Nanoseconds, SECOND, VirtualTime};
use crate::oracle::SECTOR;
use crate::plan::{Plan, VolumePlan};
use crate::trace::Trace;

/// What clocks said at most when a run began.
const HOUR: Nanoseconds = 3600 * SECOND;

/// All of them. `promise`: how long a destination promises not to take over, where there is an arbiter.
pub(super) fn appliances(
    plan: &Plan,
    shape: &Shape,
    patience: Patience,
    promise: Option<Duration>,
    random: &mut Random,
    trace: &Trace,
) -> Vec<Appliance> {
    let volumes = plan
        .volumes
        .iter()
        .zip(&shape.nodes)
        .zip(&shape.unestablished);
    let volume =
        |((volume, &nodes), unestablished): ((&VolumePlan, &[usize; 2]), &Option<_>)| PairVolume {
            nodes,
            is_established: unestablished.is_none(),
            len: volume.disk.geometry.len(),
            device: 0,
            block: volume.disk.geometry.block_size,
        };
    let mut pairs = PairPlan {
        patience,
        promise,
        tls: shape.tls.is_on(),
        volumes: volumes.map(volume).collect(),
    };
    // Drives have more than hosts use, in which there is anything.
    let mut drives = plan.volumes.clone();
    for ((volume, spare), own) in (drives.iter_mut().zip(&shape.spare)).zip(&mut pairs.volumes) {
        let geometry = &mut volume.disk.geometry;
        geometry.blocks += spare / u64::from(geometry.block_size);
        own.device = geometry.len();
    }
    let appliances = (0..shape.appliances).map(|index| {
        let mut own = plan.appliance.clone();
        own.shards = shape.shards[index];
        let mut appliance = Appliance::new(
            index,
            &own,
            &plan.network,
            &drives,
            plan.log.as_ref(),
            random,
            trace,
        );
        let addresses = |other: usize| {
            let address = |port| address(&plan.network, at_port(other, port));
            (0..shape.ports).map(address).collect()
        };
        appliance.pair_with(PairNode::new(index, &pairs, addresses, random));
        if shape.tls == LinkTls::RequiredBut(index) {
            appliance.set_link_tls(false);
        }
        let rate = draw_rate(shape, random);
        appliance.set_clock(VirtualTime::new(random.below(HOUR), rate));
        for (volume, disk) in plan.volumes.iter().zip(appliance.disks()) {
            let first = volume.disk.geometry.len() as usize / SECTOR;
            let sectors = disk.borrow().geometry().len() as usize / SECTOR;
            for sector in first..sectors {
                let bytes = [random.word() as u8; SECTOR];
                disk.borrow_mut().spoil(sector, &bytes);
            }
        }
        appliance
    });
    appliances.collect()
}
