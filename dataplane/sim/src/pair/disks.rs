//! Drives of appliances, and their logs', that are slow, hang, are full or fail for a while.

use testkit::Random;

use super::draw::Event;
use crate::clock::{MILLISECOND, Nanoseconds, SECOND};
use crate::disk::{Failing, Trouble};
use crate::plan::Plan;

/// In one run of three some drive of either node is in trouble, and a node whose log has failed starts again after it.
pub(super) fn draw_disks(
    events: &mut Vec<(Nanoseconds, Event)>,
    plan: &Plan,
    appliances: usize,
    random: &mut Random,
) {
    if random.one_in(4) {
        draw_loss_of_a_log(events, plan, appliances, random);
    }
    if random.chance(2, 3) {
        return;
    }
    for _ in 0..random.range(1..=2u32) {
        let appliance = random.below(appliances);
        let disk = random.below(plan.volumes.len() + 1);
        let at = random.below(plan.active);
        let trouble = draw_trouble(random);
        let most = match trouble.hangs {
            true => 20 * SECOND,
            false => *random.pick(&[300 * MILLISECOND, 3 * SECOND]),
        };
        let until = at + random.range(MILLISECOND..=most);
        let over = Trouble::default();
        let event = |trouble| Event::Disk {
            appliance,
            disk,
            trouble,
        };
        events.push((at, event(trouble)));
        events.push((until, event(over)));
        if disk == plan.volumes.len() {
            let power = random.chance(1, 2);
            let again = until + random.below(SECOND);
            events.push((again, Event::Kill { appliance, power }));
            events.push((again + random.below(SECOND), Event::Start { appliance }));
        }
    }
}

fn draw_loss_of_a_log(
    events: &mut Vec<(Nanoseconds, Event)>,
    plan: &Plan,
    appliances: usize,
    random: &mut Random,
) {
    let appliance = random.below(appliances);
    let at = random.below(plan.active);
    let power = random.chance(1, 2);
    events.push((at, Event::Kill { appliance, power }));
    let at = at + MILLISECOND;
    events.push((at, Event::LoseLog { appliance }));
    let at = at + random.below(8 * SECOND);
    events.push((at, Event::Start { appliance }));
}

fn draw_trouble(random: &mut Random) -> Trouble {
    let kind = random.below(5u32);
    let failing = Failing::draw(random);
    Trouble {
        slow: if kind == 0 { random.range(2..=200) } else { 0 },
        is_full: kind == 1,
        hangs: kind == 2,
        failing: (kind > 2).then_some(failing),
        ..Trouble::default()
    }
}
