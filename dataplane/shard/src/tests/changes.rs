//! What a shard serves changes while it runs.

use super::*;

#[test]
fn namespaces_and_listeners_come_grow_and_go_while_a_shard_runs() {
    let (a, b) = (Frames::default(), Frames::default());
    let blocks = Rc::new(Cell::new(1000));
    let (mut shard, target, offer) = shard(0, 1, (a, b), &blocks);
    let handle = Handle::new();
    let refused = handle.change(
        Change::AddListener(address("192.0.2.1:1").into()),
        Duration::ZERO,
    );
    assert_eq!(refused, Err(ChangeError::NotServing));
    handle.expect_shards(1, 1, vec!["port0".into()], offer, &target);
    handle.set_ready(true);

    let namespace = NamespaceConfig {
        nsid: 3,
        store: "disk0".into(),
        uuid: Some([7; 16]),
        nguid: None,
        write: WritePolicy::Back,
        block_size: None,
        backup_of: None,
    };
    let add = Change::AddNamespace {
        nqn: NQN.into(),
        namespace: namespace.clone(),
    };
    change(&handle, &mut shard, add.clone()).unwrap();
    let seen = target.namespaces(NQN).unwrap();
    assert_eq!((seen[0].nsid.0, seen[0].blocks, seen.len()), (3, 1000, 1));
    assert_eq!(seen[0].nguid, nvmf::nguid_of([7; 16]));
    assert!(seen[0].volatile_write_cache);
    assert!(
        shard.common.volumes.cache_counters().is_some(),
        "its cache is there"
    );
    let again = change(&handle, &mut shard, add.clone());
    assert_eq!(again, Err(ChangeError::NamespaceExists(NQN.into(), 3)));
    let taken = Change::AddNamespace {
        nqn: NQN.into(),
        namespace: NamespaceConfig {
            nsid: 4,
            ..namespace
        },
    };
    let taken = change(&handle, &mut shard, taken);
    assert_eq!(
        taken,
        Err(ChangeError::StoreTaken("disk0".into(), NQN.into(), 3))
    );

    // Its device grows, and later shrinks.
    for now in [2000, 500] {
        blocks.set(now);
        for _ in 0..10_000 {
            turn(&mut [&mut shard]);
            shard.housekeep(&handle);
            handle.tend();
        }
        assert_eq!(target.namespaces(NQN).unwrap()[0].blocks, now);
        assert_eq!(shard.common.volumes.resized(VolumeId(0)), None);
    }

    let remove = Change::RemoveNamespace {
        nqn: NQN.into(),
        nsid: 3,
    };
    let index = target.namespaces(NQN).unwrap()[0].index;
    change(&handle, &mut shard, remove.clone()).unwrap();
    assert!(target.namespaces(NQN).unwrap().is_empty());
    let gone = change(&handle, &mut shard, remove);
    assert_eq!(gone, Err(ChangeError::NoNamespace(NQN.into(), 3)));
    // The same again is another namespace: its index was never used.
    change(&handle, &mut shard, add).unwrap();
    assert!(target.namespaces(NQN).unwrap()[0].index > index);

    let (own, other) = (address("192.0.2.1:4420"), address("192.0.2.99:4420"));
    change(&handle, &mut shard, Change::AddListener(own.into())).unwrap();
    assert_eq!(target.listeners().len(), 1);
    let refused = change(&handle, &mut shard, Change::AddListener(other.into()));
    assert!(
        matches!(refused, Err(ChangeError::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(target.listeners().len(), 1);
    change(&handle, &mut shard, Change::RemoveListener(own)).unwrap();
    let none = change(&handle, &mut shard, Change::RemoveListener(own));
    assert_eq!(none, Err(ChangeError::NoListener(own)));
}

/// The shard sees it before anybody asks for a block.
#[test]
fn k06_a_device_that_goes_is_seen_by_its_namespaces() {
    let (a, b) = (Frames::default(), Frames::default());
    let blocks = Rc::new(Cell::new(1000));
    let (mut shard, target, offer) = shard(0, 1, (a, b), &blocks);
    let handle = Handle::new();
    assert!(handle.health().ports.is_empty());
    handle.expect_shards(1, 1, vec!["port0".into()], offer, &target);
    handle.set_ready(true);
    let namespace = NamespaceConfig {
        nsid: 3,
        store: "disk0".into(),
        uuid: Some([7; 16]),
        nguid: None,
        write: WritePolicy::Through,
        block_size: None,
        backup_of: None,
    };
    let nqn = NQN.into();
    change(&handle, &mut shard, Change::AddNamespace { nqn, namespace }).unwrap();
    let mut seen = || {
        for _ in 0..10_000 {
            turn(&mut [&mut shard]);
            shard.housekeep(&handle);
        }
        let health = handle.health();
        assert_eq!(health.ports, [("port0".to_owned(), PortState::Up)]);
        let [(name, state)] = health.namespaces.as_slice() else {
            panic!("{health:?}");
        };
        assert_eq!((name.nsid, name.store.as_str()), (3, "disk0"));
        *state
    };
    assert_eq!(seen(), DeviceState::Works);
    blocks.set(0);
    assert_eq!(seen(), DeviceState::Gone);
    blocks.set(1000);
    assert_eq!(seen(), DeviceState::Works);
}

/// What the stack sends then comes from the new one.
#[test]
fn k06_a_port_whose_device_is_another_goes_on_with_its_address() {
    let (a, b) = (Frames::default(), Frames::default());
    let blocks = Rc::new(Cell::new(1000));
    let (mut shard, target, offer) = shard(0, 1, (a, Rc::clone(&b)), &blocks);
    let handle = Handle::new();
    handle.expect_shards(1, 1, vec!["port0".into()], offer, &target);
    turn(&mut [&mut shard]);
    b.borrow_mut().clear();
    let mac = [2, 0, 0, 0, 0, 99];
    shard.links[0].port_mut().replaced = Some(MacAddress(mac));
    shard.housekeep(&handle);
    for _ in 0..100_000 {
        turn(&mut [&mut shard]);
    }
    let frames = b.borrow();
    assert!(!frames.is_empty(), "nobody is told where its address is");
    assert!(frames.iter().all(|frame| frame[6..12] == mac), "{frames:?}");
}
