//! Logs on two stores: what a start takes of each, and what it refuses (rows S6, S7).

mod common;

use std::rc::Rc;

use common::disk::{Disk, Power, Supply};
use common::model::Journal;
use common::now;
use common::recover::{Targets, superblock};
use common::used::{Devices, HALF, LOG, used};
use nvlog::recovery::{self, Agreed, Begun, Found, Refusal, Replayed};
use nvlog::{AREAS, Layout, LogId, Members, REGION_SUPERBLOCK, RegionSuperblock, SUPERBLOCK, UNIT};
use testkit::Random;

/// Two stores, and the drives of the first.
struct Pair {
    first: Devices,
    second: Disk,
}

type Refused = (usize, Refusal<Power>);

impl Pair {
    fn blank() -> Self {
        let first = Devices::new(Layout::needs(3, HALF, 0), 512);
        let second = Disk::new(&first.supply, first.disk.len() + 8192, 4096);
        Self { first, second }
    }

    /// A log of two regions that both stores have, and what is in it.
    fn used(seed: u64) -> (Self, Vec<Journal>) {
        let (first, journals) = used(2, 80, seed);
        let len = first.disk.len();
        let second = Disk::new(&first.supply, len, 512);
        let bytes = first.disk.bytes(0..len as usize);
        second.damage(0, |all| all.copy_from_slice(&bytes));
        let pair = Self { first, second };
        let opened = pair.first.open().expect("a log").expect("one");
        let mut other = opened.superblock.clone();
        other.member = 1;
        for copy in 0..AREAS {
            let at = Layout::area(len, copy);
            pair.second.put(at, &other.encode()).expect("power");
        }
        for (number, region) in opened.regions.iter().enumerate() {
            for store in 0..2 {
                pair.say(store, number, region, Members::BOTH, false, 1);
            }
        }
        (pair, journals)
    }

    fn store(&self, store: usize) -> &Disk {
        match store {
            0 => &self.first.disk,
            _ => &self.second,
        }
    }

    /// A store says this of a region, `newer` versions later.
    fn say(
        &self,
        store: usize,
        number: usize,
        region: &RegionSuperblock,
        members: Members,
        is_closed: bool,
        newer: u64,
    ) {
        let region = RegionSuperblock {
            generation: region.generation + newer,
            members,
            is_closed,
            ..*region
        };
        for copy in 0..AREAS {
            let disk = self.store(store);
            let at = Layout::region_superblock(disk.len(), number, copy);
            let mut unit = [0; UNIT as usize];
            unit[..REGION_SUPERBLOCK].copy_from_slice(&region.encode(LOG, number));
            disk.put(at, &unit).expect("power");
        }
        self.store(store).sync().expect("power");
    }

    /// Every region of a store.
    fn say_all(&self, store: usize, members: Members, is_closed: bool, newer: u64) {
        let opened = now(recovery::open(self.store(store), self.store(store).len()));
        let regions = opened.expect("a log").expect("one").regions;
        for (number, region) in regions.iter().enumerate() {
            self.say(store, number, region, members, is_closed, newer);
        }
    }

    fn seen(&self, store: usize) -> Found {
        let disk = self.store(store);
        Found::Seen(now(recovery::look(disk, disk.len())).expect("power"))
    }

    /// What both say.
    fn agree(&self) -> Result<Agreed, Refused> {
        recovery::agree(&[self.seen(0), self.seen(1)])
    }

    /// What both have.
    fn replay(&self, agreed: &Agreed) -> Result<Replayed, Refusal<Power>> {
        let opened = agreed.opened.as_ref().expect("a log");
        let targets = Targets::new(&self.first.drives);
        now(recovery::replay(&self.stores(), opened, &targets, |_| true))
    }

    fn stores(&self) -> [Option<(&Disk, u64)>; 2] {
        [0, 1].map(|i| Some((self.store(i), self.store(i).len())))
    }

    fn begin(&self, agreed: &Agreed) -> Result<Begun, Power> {
        self.begin_regions(agreed, 2, [true; 2])
    }

    /// A log of so many regions, on those stores that are there.
    fn begin_regions(
        &self,
        agreed: &Agreed,
        regions: u32,
        there: [bool; 2],
    ) -> Result<Begun, Power> {
        let new = superblock(LOG, self.first.layout(regions));
        let [first, second] = self.stores();
        let stores = [first.filter(|_| there[0]), second.filter(|_| there[1])];
        now(recovery::begin(&stores, agreed, new))
    }

    /// The power fails after so many operations, and comes back; whether a log had begun.
    fn begin_for(&self, agreed: &Agreed, operations: u64, seed: u64) -> bool {
        self.first.supply.lasts(Some(operations));
        let begun = self.begin(agreed).is_ok();
        self.first.supply.lasts(None);
        let random = &mut Random::new(seed);
        self.first.disk.power_on(random);
        self.second.power_on(random);
        begun
    }
}

fn flip(disk: &Disk, at: u64) {
    disk.damage(at as usize, |bytes| bytes[0] ^= 0x10);
}

fn refused(agreed: Result<Agreed, Refused>) -> Refused {
    match agreed {
        Err(refused) => refused,
        Ok(agreed) => panic!("not refused: {agreed:?}"),
    }
}

#[test]
fn s07_a_log_begins_on_two_stores_whenever_the_power_goes() {
    // Both blank; a log on one, and a blank store; a store that was out, and one that went on.
    for kind in 0..3 {
        for operations in 0.. {
            let mut ended = 0;
            for seed in 0..4 {
                let pair = match kind {
                    0 => Pair::blank(),
                    1 => {
                        let pair = Pair::blank();
                        let new = superblock(LOG, pair.first.layout(3));
                        let view = [pair.seen(0)];
                        let alone = recovery::agree::<Power>(&view).expect("blank");
                        let stores = [Some((&pair.first.disk, pair.first.disk.len()))];
                        now(recovery::begin(&stores, &alone, new)).expect("power");
                        pair
                    }
                    _ => {
                        let (pair, _) = Pair::used(seed);
                        pair.say_all(1, Members::only(1), false, 3);
                        pair
                    }
                };
                let agreed = pair.agree().expect("a log, or none");
                let begun = pair.begin_for(&agreed, operations, seed);
                let again = pair.agree();
                let again = again.unwrap_or_else(|why| panic!("{kind}, {operations}: {why:?}"));
                if again.opened.is_some() {
                    pair.replay(&again).expect("nothing is lost");
                }
                let begun_again = pair.begin(&again).expect("power");
                assert_eq!(
                    begun_again.members.map(|member| member.is_some()),
                    [true; 2]
                );
                let both = Members::BOTH;
                assert!(
                    begun_again
                        .regions
                        .iter()
                        .all(|region| region.members == both)
                );
                let last = pair.agree().expect("a log");
                assert_eq!(pair.replay(&last).expect("empty").groups, 0);
                ended += u32::from(begun);
            }
            if ended == 4 {
                break;
            }
        }
    }
}

#[test]
fn s07_a_log_begins_on_one_of_two_new_stores_whenever_the_other_one_fails() {
    for fails in 0..2 {
        for operations in 0..34 {
            // The power of the one that is left goes, too, or not.
            for stops in (operations % 3..54).step_by(3) {
                let random = &mut Random::new(stops);
                let (mut pair, supply) = (Pair::blank(), Rc::new(Supply::default()));
                pair.second = Disk::new(&supply, pair.second.len(), 4096);
                let mut supplies = [&pair.first.supply, &supply];
                supplies.rotate_left(fails);
                let agreed = pair.agree().expect("blank");
                supplies[0].lasts(Some(operations));
                supplies[1].lasts((stops < 51).then_some(stops));
                let begun = pair.begin(&agreed);
                if let (Ok(begun), true) = (&begun, operations < 30) {
                    assert_eq!(begun.members[fails], None);
                }
                supplies.iter().for_each(|supply| supply.lasts(None));
                pair.first.disk.power_on(random);
                pair.second.power_on(random);
                if begun.is_ok_and(|begun| begun.members[fails].is_none()) {
                    // The one that is left may have records: the one that failed is not taken alone.
                    let mut found = [pair.seen(0), pair.seen(1)];
                    found[1 - fails] = Found::Absent;
                    let alone = recovery::agree::<Power>(&found);
                    assert!(alone.is_err(), "{operations}, {stops}");
                    let alone = recovery::agree::<Power>(&[pair.seen(fails)]);
                    assert!(alone.is_err() || alone.is_ok_and(|alone| alone.opened.is_none()));
                }
                let again = pair.agree();
                let again = again.unwrap_or_else(|why| panic!("{operations}, {stops}: {why:?}"));
                let begun = pair.begin(&again).expect("power");
                assert!(begun.members.iter().all(Option::is_some), "{begun:?}");
                let last = pair.agree().expect("a log");
                assert_eq!(pair.replay(&last).expect("empty").groups, 0);
            }
        }
    }
}

#[test]
fn s07_what_one_store_lacks_is_read_from_the_other() {
    let (pair, _) = Pair::used(3);
    let whole = pair.replay(&pair.agree().expect("a log")).expect("all");
    assert!(whole.groups > 8 && whole.mended == [0; 2], "{whole:?}");
    let layout = pair.first.layout(2);
    for seed in 0..40 {
        let (pair, _) = Pair::used(3);
        let random = &mut Random::new(seed);
        // Each half is damaged on one store.
        for half in 0..4 {
            let store = if seed == 0 { 0 } else { random.below(2) };
            for unit in 0..HALF / UNIT {
                let at = layout.half(0, half) + unit * UNIT + random.below(UNIT);
                if random.chance(1, 2) {
                    flip(pair.store(store), at);
                }
            }
        }
        let replayed = pair.replay(&pair.agree().expect("a log")).expect("all");
        assert_eq!(
            (replayed.groups, replayed.records, replayed.bytes),
            (whole.groups, whole.records, whole.bytes)
        );
        assert!(replayed.mended[1] == 0 && (seed > 0 || replayed.mended[0] > 0));
    }
    // On both.
    let (pair, _) = Pair::used(3);
    for store in 0..2 {
        for half in 0..4 {
            flip(pair.store(store), layout.half(0, half));
        }
    }
    let replayed = pair.replay(&pair.agree().expect("a log"));
    assert!(matches!(replayed, Err(Refusal::Lost(_))), "{replayed:?}");
}

#[test]
fn s07_superblocks_of_one_store_may_be_lost() {
    for store in 0..2 {
        let (pair, _) = Pair::used(5);
        let whole = pair.replay(&pair.agree().expect("a log")).expect("all");
        let (pair, _) = Pair::used(5);
        let disk = pair.store(store);
        // All copies but one of the store's; and of a region's.
        for copy in 0..AREAS - 1 {
            flip(disk, Layout::area(disk.len(), copy) + 40);
            flip(disk, Layout::region_superblock(disk.len(), 1, copy) + 40);
        }
        assert!(now(recovery::open(disk, disk.len())).is_err());
        let replayed = pair.replay(&pair.agree().expect("a log")).expect("all");
        assert_eq!(replayed.groups, whole.groups);
    }
}

#[test]
fn s07_one_of_two_stores_that_were_in_step_is_not_taken_alone() {
    for there in 0..2 {
        let (pair, _) = Pair::used(7);
        let with = |other: Found| {
            let mut found = [pair.seen(there), other];
            if there == 1 {
                found.swap(0, 1);
            }
            recovery::agree::<Power>(&found)
        };
        let is_closed = false;
        let alone = Refusal::OneOfTwo { is_closed };
        assert_eq!(refused(with(Found::Absent)), (there, alone.clone()));
        assert_eq!(
            refused(recovery::agree(&[pair.seen(there)])),
            (0, alone.clone())
        );
        // A blank store in the other one's place is no more.
        let blank = Pair::blank();
        assert_eq!(refused(with(blank.seen(0))), (there, alone));
        // Somebody says that what the other one has is not wanted.
        let agreed = with(Found::GivenUp(None)).expect("it is taken");
        assert!(agreed.opened.is_some());
        // It had stopped in order: it may be configured alone, and one that is not there is still waited for.
        for store in 0..2 {
            pair.say_all(store, Members::BOTH, true, 1);
        }
        let is_closed = true;
        let alone = Refusal::OneOfTwo { is_closed };
        assert_eq!(refused(with(Found::Absent)), (there, alone));
        assert!(recovery::agree::<Power>(&[pair.seen(there)]).is_ok());
    }
}

#[test]
fn s07_a_store_that_was_out_is_not_read_and_joins_again() {
    for out in 0..2 {
        let (pair, _) = Pair::used(9);
        let left = 1 - out;
        pair.say_all(left, Members::only(left as u8), false, 1);
        // What the one that was out has is of no use: neither its groups nor its superblocks.
        pair.store(out)
            .damage(4096 * 300, |bytes| Random::new(1).fill(&mut bytes[..4096]));
        let agreed = pair.agree().expect("a log");
        let replayed = pair.replay(&agreed).expect("all of it");
        assert!(replayed.groups > 8 && replayed.mended == [0; 2]);
        // The other one alone is enough; it alone is not.
        let mut found = [pair.seen(0), pair.seen(1)];
        found[out] = Found::Absent;
        assert!(recovery::agree::<Power>(&found).is_ok());
        let mut found = [pair.seen(0), pair.seen(1)];
        found[left] = Found::Absent;
        assert!(matches!(
            refused(recovery::agree(&found)),
            (_, Refusal::OneOfTwo { .. })
        ));
        let begun = pair.begin(&agreed).expect("power");
        assert_eq!(begun.members, [Some(0), Some(1)]);
        let agreed = pair.agree().expect("a log");
        assert_eq!(pair.replay(&agreed).expect("empty").groups, 0);
    }
}

#[test]
fn s07_stores_that_do_not_belong_together_are_refused() {
    // Each went on alone.
    let (pair, _) = Pair::used(11);
    pair.say_all(0, Members::only(0), false, 1);
    pair.say_all(1, Members::only(1), false, 7);
    assert!(matches!(refused(pair.agree()), (_, Refusal::Diverged)));
    // What one has was given up when the other one was let go on.
    pair.say_all(0, Members::only(0), false, 1 << 40);
    assert!(pair.agree().is_ok());
    // A copy of the first.
    let (pair, _) = Pair::used(11);
    let bytes = pair.first.disk.bytes(0..pair.second.len() as usize);
    pair.second.damage(0, |all| all.copy_from_slice(&bytes));
    assert!(matches!(refused(pair.agree()), (_, Refusal::Twice)));
    // Another log, and something else.
    let (pair, _) = Pair::used(11);
    let other = Pair::blank();
    let new = superblock(LogId([7; 16]), other.first.layout(2));
    let agreed = recovery::agree::<Power>(&[other.seen(0)]).expect("blank");
    let stores = [Some((&other.first.disk, other.first.disk.len()))];
    now(recovery::begin(&stores, &agreed, new)).expect("power");
    let found = [pair.seen(0), other.seen(0)];
    assert!(matches!(
        refused(recovery::agree(&found)),
        (_, Refusal::OtherLog)
    ));
    let foreign = Pair::blank();
    foreign
        .second
        .damage(SUPERBLOCK, |bytes| bytes[..8].copy_from_slice(b"EFI PART"));
    let found = [pair.seen(0), foreign.seen(1)];
    assert_eq!(refused(recovery::agree(&found)), (1, Refusal::Foreign));
    // No log anywhere, and a store that may have one.
    let found = [Found::Absent, foreign.seen(0)];
    assert_eq!(refused(recovery::agree(&found)), (0, Refusal::Missing));
}

#[test]
fn s07_a_store_that_fails_when_the_log_begins_is_out() {
    let (pair, _) = Pair::used(13);
    let agreed = pair.agree().expect("a log");
    let stores = [Some((pair.store(0), pair.store(0).len())), None];
    let new = superblock(LOG, pair.first.layout(2));
    let begun = now(recovery::begin(&stores, &agreed, new)).expect("power");
    assert_eq!(begun.members, [Some(0), None]);
    assert!(
        begun
            .regions
            .iter()
            .all(|region| region.members == Members::only(0))
    );
    // It is known to be alone, and the other one joins.
    let mut found = [pair.seen(0), Found::Absent];
    assert!(recovery::agree::<Power>(&found).is_ok());
    found[1] = pair.seen(1);
    assert!(recovery::agree::<Power>(&found).is_ok());
}

#[test]
fn s07_what_a_region_said_is_over_once_there_are_fewer() {
    for alone in 0..2 {
        // One store has all of region 1. Then there is none, until the other store is alone with all of both.
        let (pair, _) = Pair::used(15);
        let opened = now(recovery::open(pair.store(alone), pair.store(alone).len()));
        let region = opened.expect("a log").expect("one").regions[1];
        pair.say(alone, 1, &region, Members::only(alone as u8), false, 1);
        let agreed = pair.agree().expect("a log");
        pair.begin_regions(&agreed, 1, [true; 2]).expect("power");
        let left = 1 - alone;
        pair.say_all(left, Members::only(left as u8), false, 1);
        let mut found = [pair.seen(0), pair.seen(1)];
        found[alone] = Found::Absent;
        let agreed = recovery::agree::<Power>(&found).expect("it has all");
        let there = [left == 0, left == 1];
        pair.begin_regions(&agreed, 2, there).expect("power");
        let agreed = pair.agree().expect("a store that was out joins");
        assert_eq!(pair.replay(&agreed).expect("empty").groups, 0);
        let begun = pair.begin(&agreed).expect("power");
        assert_eq!(begun.members, [Some(0), Some(1)]);
    }
}

#[test]
fn s07_what_another_log_says_of_a_region_is_nothing() {
    // A log that never began has left superblocks of three regions: none of them is of this one.
    let pair = Pair::blank();
    let blank = recovery::agree::<Power>(&[pair.seen(0)]).expect("blank");
    let stores = [Some((pair.store(0), pair.store(0).len()))];
    let never = superblock(LogId([7; 16]), pair.first.layout(3));
    now(recovery::begin(&stores, &blank, never)).expect("power");
    for copy in 0..AREAS {
        let zeros = [0; SUPERBLOCK];
        let at = Layout::area(pair.store(0).len(), copy);
        pair.store(0).put(at, &zeros).expect("power");
    }
    pair.store(0).sync().expect("power");
    let agreed = pair.agree().expect("blank");
    pair.begin(&agreed).expect("power");
    // The other store is alone when there are three again.
    pair.say_all(1, Members::only(1), false, 1);
    let found = [Found::Absent, pair.seen(1)];
    let agreed = recovery::agree::<Power>(&found).expect("it has all");
    pair.begin_regions(&agreed, 3, [false, true])
        .expect("power");
    let agreed = pair.agree().expect("a store that was out joins");
    assert_eq!(
        pair.begin(&agreed).expect("power").members,
        [Some(0), Some(1)]
    );
    // One that cannot be read may have said anything.
    pair.say_all(1, Members::only(1), false, 1);
    let agreed = recovery::agree::<Power>(&[Found::Absent, pair.seen(1)]).expect("all");
    pair.begin_regions(&agreed, 3, [false, true])
        .expect("power");
    for copy in 0..AREAS {
        flip(
            pair.store(0),
            Layout::region_superblock(pair.store(0).len(), 2, copy) + 40,
        );
    }
    let region = Some(2);
    assert_eq!(refused(pair.agree()), (0, Refusal::Superblocks { region }));
}
