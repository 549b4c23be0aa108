use super::*;
use crate::HeapRegion;

fn pool(count: usize, size: usize) -> ClusterPool {
    let arena = Arena::new(HeapRegion::new(count * size.div_ceil(PAGE_SIZE)));
    ClusterPool::carve(&arena, count, size).unwrap()
}

#[test]
fn z01_two_clusters_of_2_kb_share_a_physical_page() {
    let pool = pool(4, 2048);
    let all: Vec<Cluster> = (0..4).map(|_| pool.alloc().unwrap().freeze()).collect();
    assert_eq!(
        all.iter().map(|c| c.page_at(0).0).collect::<Vec<_>>(),
        [0, 0, 1, 1]
    );
}

#[test]
fn z01_a_cluster_larger_than_a_page_spans_several_pages() {
    let pool = pool(2, 16384);
    let cluster = pool.adopt(1);
    assert_eq!(cluster.page_at(0).0, 4);
    assert_eq!(cluster.page_at(16383).0, 7);
}

#[test]
fn a_cluster_returns_with_its_last_handle() {
    let pool = pool(1, 2048);
    let first = pool.alloc().unwrap().freeze();
    let second = first.clone();
    assert!(pool.alloc().is_none());
    drop(first);
    assert_eq!((pool.held(), pool.unheld()), (1, 0));
    drop(second);
    assert_eq!((pool.held(), pool.unheld()), (0, 1));
    assert!(pool.alloc().is_some());
}

#[test]
fn posted_clusters_are_adopted_when_the_port_received() {
    let pool = pool(4, 2048);
    let mut posted = [0; 8];
    assert_eq!(pool.post(&mut posted), 4);
    assert!(pool.alloc().is_none());
    drop(pool.adopt(2));
    assert_eq!(pool.post(&mut posted), 1);
    assert_eq!(posted[0], 2);
}

#[test]
#[should_panic(expected = "still held")]
fn a_held_cluster_cannot_be_received_into() {
    let pool = pool(1, 2048);
    let _held = pool.alloc().unwrap();
    pool.adopt(0);
}

#[test]
fn handles_outlive_their_pool() {
    let pool = pool(2, 4096);
    let mut fresh = pool.alloc().unwrap();
    fresh[..5].copy_from_slice(b"still");
    let cluster = fresh.freeze();
    drop(pool);
    assert_eq!(&cluster.bytes()[..5], b"still");
}

#[test]
fn a_token_carries_the_handle() {
    let pool = pool(1, 2048);
    let token = pool.alloc().unwrap().freeze().into_token();
    assert_eq!(pool.held(), 1);
    // SAFETY: the token was made two lines up and is used once.
    drop(unsafe { Cluster::from_token(token) });
    assert_eq!(pool.held(), 0);
}

#[test]
fn sizes_that_do_not_tile_pages_are_refused() {
    let arena = Arena::new(HeapRegion::new(4));
    assert!(ClusterPool::carve(&arena, 1, 1536).is_none());
    assert!(ClusterPool::carve(&arena, 5, 4096).is_none());
    assert!(ClusterPool::carve(&arena, 4, 4096).is_some());
}
