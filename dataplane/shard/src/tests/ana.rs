//! How hosts reach namespaces, changed while a shard runs (base 2.0, 8.1).

use nvmf::AnaState;

use super::*;
use crate::snapshot::AnaSnapshot;

#[test]
fn k06_how_hosts_reach_namespaces_changes_while_a_shard_runs() {
    const REPORTING: &str = "nqn.2026-01.com.example:reporting";
    let (a, b) = (Frames::default(), Frames::default());
    let blocks = Rc::new(Cell::new(1000));
    let (mut shard, target, offer) = shard(0, 1, (a, b), &blocks);
    let handle = Handle::new();
    handle.expect_shards(1, 1, vec!["port0".into()], offer, &target);
    handle.set_ready(true);
    let (own, other) = (address("192.0.2.1:4420"), address("192.0.2.1:4421"));
    let namespace = NamespaceConfig {
        nsid: 3,
        store: "disk0".into(),
        uuid: None,
        nguid: None,
        write: WritePolicy::Through,
        block_size: None,
        backup_of: None,
    };
    let subsystem = SubsystemConfig {
        nqn: REPORTING.into(),
        serial: "2".into(),
        model: "test".into(),
        hosts: None,
        ana: Some(AnaState::Inaccessible),
        controller_ids: CNTLIDS,
        peer_listeners: Vec::new(),
        namespaces: vec![namespace],
    };
    change(&handle, &mut shard, Change::AddSubsystem(subsystem)).unwrap();
    for address in [own, other] {
        change(&handle, &mut shard, Change::AddListener(address.into())).unwrap();
    }
    let states = || handle.ana_states();
    let shown = |listener, state| AnaSnapshot {
        subsystem: REPORTING.into(),
        nsid: 3,
        listener,
        state,
    };
    let inaccessible = AnaState::Inaccessible;
    assert_eq!(
        states(),
        [shown(own, inaccessible), shown(other, inaccessible)]
    );
    let set = |nqn: &str, listener, group, state| Change::SetAnaState {
        nqn: nqn.into(),
        listener,
        group,
        state,
    };
    let mut make = |made| change(&handle, &mut shard, made);
    let optimized = AnaState::Optimized;
    make(set(REPORTING, Some(own), Some(3), optimized)).unwrap();
    assert_eq!(
        states(),
        [shown(own, optimized), shown(other, inaccessible)]
    );
    make(set(REPORTING, None, None, AnaState::Change)).unwrap();
    let changing = [own, other].map(|listener| shown(listener, AnaState::Change));
    assert_eq!(states(), changing);
    // What cannot be changes nothing.
    let nowhere = address("192.0.2.1:4422");
    let refused = [
        (
            set("nqn.other", None, None, optimized),
            ChangeError::NoSubsystem("nqn.other".into()),
        ),
        (
            set(NQN, None, None, optimized),
            ChangeError::NoAna(NQN.into()),
        ),
        (
            set(REPORTING, Some(nowhere), None, optimized),
            ChangeError::NoListener(nowhere),
        ),
        (
            set(REPORTING, None, Some(4), optimized),
            ChangeError::NoNamespace(REPORTING.into(), 4),
        ),
    ];
    for (made, error) in refused {
        assert_eq!(make(made), Err(error));
    }
    assert_eq!(states(), changing);
    make(set(REPORTING, None, Some(3), AnaState::PersistentLoss)).unwrap();
    let left = make(set(REPORTING, Some(own), None, optimized));
    assert!(matches!(left, Err(ChangeError::Refused(_))), "{left:?}");
}
