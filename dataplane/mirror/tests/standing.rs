//! What replicas do that meet, case by case; by seed: `ci/sim --scenario replicas`.

use mirror::{Claim, GRANULE, Refused, ReplicaId, Standing, Verdict, Which, Wholeness, meet};

const A: ReplicaId = ReplicaId([1; 16]);
const B: ReplicaId = ReplicaId([2; 16]);
const C: ReplicaId = ReplicaId([3; 16]);
const LEN: u64 = 100 * GRANULE;

/// The verdict, which is the same whoever is first.
fn verdict(first: &Standing, second: &Standing) -> Verdict {
    let turn = |which| match which {
        Which::First => Which::Second,
        Which::Second => Which::First,
    };
    let (first, second): (Claim, Claim) = (first.claim(), second.claim());
    let turned = match meet(&second, &first) {
        Verdict::CopyChanged { source } => Verdict::CopyChanged {
            source: turn(source),
        },
        Verdict::CopyAll { source } => Verdict::CopyAll {
            source: turn(source),
        },
        other => other,
    };
    assert_eq!(meet(&first, &second), turned);
    turned
}

/// Two that have the same.
fn pair() -> [Standing; 2] {
    let a = Standing::first(A, 1);
    let b = Standing::blank(B).copying(A).copied(a.generation);
    assert_eq!(verdict(&a, &b), Verdict::InSync);
    [a, b]
}

/// It goes on without the other one, and is written to.
fn written(standing: &Standing, peer: ReplicaId, tag: u64) -> Standing {
    let mut alone = standing.alone(peer, tag, LEN).expect("it is whole");
    assert!(alone.is_alone(peer));
    let record = alone.record.as_mut().expect("a record");
    record.changed.mark(0..1);
    alone
}

const FROM_FIRST: Verdict = Verdict::CopyChanged {
    source: Which::First,
};

#[test]
fn r07_what_one_has_changed_is_copied_to_the_other() {
    let [a, b] = pair();
    let alone = written(&a, B, 2);
    assert_eq!(verdict(&alone, &b), FROM_FIRST);
    // Again, and the generation stays: the other one is where it was.
    let again = alone.alone(B, 3, LEN).expect("it is whole");
    assert_eq!(again, alone);
    // The copy is cut off; meanwhile the other one is nobody's source.
    let copying = b.copying(A);
    assert_eq!(verdict(&alone, &copying), FROM_FIRST);
    assert!(copying.alone(A, 4, LEN).is_err());
}

#[test]
fn r07_the_last_step_of_a_copy_may_have_been_taken_or_not() {
    let [a, b] = pair();
    let alone = written(&a, B, 2);
    assert_eq!(alone.ends_copy(), None, "something is left to be copied");
    assert_eq!(alone.in_sync(), None);
    let mut copied = alone.copies(&b.copying(A).claim());
    copied.record.as_mut().expect("a record").changed.clear(0);
    let ending = copied.ends_copy().expect("nothing is left");
    let (before, after) = (b.copying(A), b.copying(A).copied(ending.generation));
    assert_eq!(verdict(&ending, &before), FROM_FIRST);
    assert_eq!(verdict(&ending, &after), Verdict::InSync);
    // Whole in what it was before, it was put back from somewhere: what was copied since is in no record.
    assert_eq!(verdict(&ending, &b), Verdict::Refused(Refused::Unrelated));
    assert_eq!(
        verdict(&alone.copies(&b.claim()), &b),
        Verdict::Refused(Refused::Unrelated)
    );
    // The link breaks there: what follows is another generation, relative to either.
    assert!(!ending.is_alone(B));
    let next = written(&ending, B, 3);
    assert!(next.generation.number > ending.generation.number);
    assert_eq!(verdict(&next, &before), FROM_FIRST);
    assert_eq!(verdict(&next, &after), FROM_FIRST);
    // The other one, which took it, may have gone on, too.
    let theirs = written(&after, A, 4);
    assert_eq!(
        verdict(&next, &theirs),
        Verdict::Refused(Refused::SplitBrain)
    );
}

#[test]
fn s08_two_that_went_on_without_each_other_are_left_as_they_are() {
    let [a, b] = pair();
    let (mine, theirs) = (written(&a, B, 2), written(&b, A, 3));
    assert_eq!(
        verdict(&mine, &theirs),
        Verdict::Refused(Refused::SplitBrain)
    );
    // One that only was made the source, and never written to, has nothing to lose.
    let idle = b.alone(A, 3, LEN).expect("it is whole");
    assert_eq!(verdict(&mine, &idle), FROM_FIRST);
    let other = a.alone(B, 2, LEN).expect("it is whole");
    assert!(matches!(
        verdict(&other, &idle),
        Verdict::CopyChanged { .. }
    ));
}

#[test]
fn r07_what_was_never_of_one_volume_is_left_as_it_is() {
    let [a, b] = pair();
    let other = Standing::first(C, 9);
    let unrelated = Verdict::Refused(Refused::Unrelated);
    assert_eq!(verdict(&a, &other), unrelated);
    // A record of another replica is worth nothing, nor one of another generation.
    assert_eq!(verdict(&written(&a, C, 2), &written(&b, C, 3)), unrelated);
    let older = written(&written(&a, B, 2).ends_copy().unwrap_or(a.clone()), B, 3);
    let stranger = Standing::first(B, 77);
    assert_eq!(verdict(&older, &stranger), unrelated);
    assert_eq!(verdict(&a, &a), Verdict::Refused(Refused::SameReplica));
}

#[test]
fn r07_without_a_record_all_is_copied_to_what_is_no_state_of_the_volume() {
    let [a, b] = pair();
    let all = Verdict::CopyAll {
        source: Which::First,
    };
    assert_eq!(verdict(&a, &Standing::blank(C)), all);
    // The source of a copy that was cut off has lost its record.
    let alone = written(&a, B, 2).in_sync().unwrap_or(Standing::first(A, 5));
    assert_eq!(verdict(&alone, &b.copying(A)), all);
    let whole = a.copies_all(&b.claim(), LEN).expect("it is whole");
    assert_eq!(
        whole.record.as_ref().map(|record| record.changed.count()),
        Some(100)
    );
    assert_eq!(verdict(&whole, &b.copying(A)), FROM_FIRST);
    // It came from another one, which may be younger.
    assert_eq!(
        verdict(&a, &b.copying(C)),
        Verdict::Refused(Refused::Unrelated)
    );
    let none = Verdict::Refused(Refused::NoneWhole);
    assert_eq!(verdict(&a.copying(B), &b.copying(A)), none);
    assert_eq!(verdict(&Standing::blank(A), &b.copying(A)), none);
    // Nobody ever said whose data the volume begins with.
    let blank = [A, B].map(Standing::blank);
    let none = Verdict::Refused(Refused::NotEstablished);
    assert_eq!(verdict(&blank[0], &blank[1]), none);
    assert_eq!(Standing::blank(A).wholeness, Wholeness::Blank);
}
