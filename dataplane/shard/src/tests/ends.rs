//! Row K5: what devices have ended is answered in one turn.

use super::*;

/// Found at 32 commands on each of 16 connections: SPDK ended eight of 512 a turn, each of another connection. A bdev on top of another
/// one has work of its own first.
#[test]
fn k05_what_has_ended_is_taken_in_one_turn_however_few_a_poll_ends() {
    let blocks = Rc::new(Cell::new(1000));
    let wire = (Frames::default(), Frames::default());
    let (mut shard, ..) = shard(0, 1, wire, &blocks);
    let namespace = NamespaceIndex(0);
    (shard.common.volumes).add_namespace(namespace, VolumeId(0), WritePolicy::Through);
    ENDS_A_POLL.set(3);
    let mut stages = StageClock::new(Clock);
    for id in 0..10 {
        let buffers = shard.common.memory.buffers();
        let mut run = buffers.runs.take().unwrap();
        run.begin(0, PAGE_SIZE).unwrap();
        let (id, io) = (RequestId(id), Io::read(run, Flags::default()));
        let origin = Origin { link: 0, slot: 0 };
        let request = Request { id, namespace, io };
        (shard.common.volumes).start(origin, request, buffers, &mut stages);
    }
    OTHER_WORK.set(4);
    assert!(shard.poll_machine());
    let Common {
        memory, volumes, ..
    } = &mut shard.common;
    let ended = std::iter::from_fn(|| volumes.next_completion(memory.buffers(), &stages));
    let runs: Vec<_> = ended.map(|ended| ended.completion.run.unwrap()).collect();
    assert_eq!(runs.len(), 10);
    runs.into_iter()
        .for_each(|run| memory.buffers().runs.put(run));
    assert!(!shard.poll_machine(), "nothing is left");
}

#[test]
fn k04_what_is_always_busy_and_ends_nothing_does_not_keep_a_turn() {
    let blocks = Rc::new(Cell::new(1000));
    let wire = (Frames::default(), Frames::default());
    let (mut shard, ..) = shard(0, 1, wire, &blocks);
    let begun = 1_000_000;
    OTHER_WORK.set(begun);
    assert!(shard.poll_machine());
    let polls = begun - OTHER_WORK.get();
    assert!((1..=20).contains(&polls), "{polls} polls");
}
