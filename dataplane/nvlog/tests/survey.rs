//! What a look at a log says is what a replay does (rows S6, S7).

mod common;

use common::now;
use common::used::used;
use nvlog::recovery::{self, Refusal, Replayed, Survey};

fn survey(devices: &common::used::Devices) -> Survey {
    let opened = devices.open().expect("a log").expect("one");
    let before = devices.disk.writes();
    let survey = now(recovery::survey(&devices.disk, &opened)).expect("it can be read");
    assert_eq!(devices.disk.writes(), before, "a look writes");
    survey
}

#[test]
fn s07_a_look_at_a_log_says_what_a_replay_does() {
    let mut records = 0;
    for seed in 0..20 {
        let (devices, journals) = used(2, 200, seed);
        let survey = survey(&devices);
        // Of payload that is longer than a part a replay reads as much as a look.
        assert_eq!(Ok(survey.total()), devices.replay(|_| true));
        assert_eq!(survey.losses(), []);
        for (region, journal) in survey.regions.iter().zip(&journals) {
            assert_eq!(region.groups.start, journal.from);
            assert!(region.acknowledged <= journal.acknowledged);
            assert!(region.groups.end > journal.acknowledged);
            assert_eq!(region.groups.end - region.groups.start, region.done.groups);
            assert_eq!(region.used == [0, 0], region.done.groups == 0);
        }
        let of_volumes = survey.volumes.iter();
        let (sum, bytes) = of_volumes.fold((0, 0), |(records, bytes), volume| {
            (records + volume.records, bytes + volume.bytes)
        });
        let total = survey.total();
        assert_eq!((sum, bytes), (total.records, total.bytes));
        records += sum;
    }
    assert!(records > 0, "no run left anything");
}

#[test]
fn s07_a_look_at_a_damaged_log_says_what_it_lost_and_what_it_has() {
    let mut lost = 0;
    for seed in 0..20 {
        let (devices, journals) = used(1, 200, seed);
        let whole = survey(&devices).total();
        let told = journals[0].told(&devices.disk);
        let mut acknowledged = (journals[0].groups.iter())
            .filter(|group| group.sequence >= journals[0].from && group.sequence < told);
        let Some(group) = acknowledged.next_back() else {
            continue;
        };
        devices
            .disk
            .damage(group.address as usize, |bytes| bytes[0] ^= 1);
        let survey = survey(&devices);
        assert_eq!(
            devices.replay(|_| true),
            Err(Refusal::Lost(survey.losses()))
        );
        assert_eq!(survey.losses()[0].groups.start, group.sequence);
        assert_eq!(survey.regions[0].groups.end, group.sequence);
        assert_ne!(survey.total(), Replayed::default());
        assert!(survey.total().records < whole.records + 1);
        lost += 1;
    }
    assert!(lost > 5, "{lost} logs could be damaged");
}
