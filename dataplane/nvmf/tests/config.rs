//! A configuration is checked before it is served.

mod rig;

use nvmf::{BlockSize, ConfigError, Hosts, Nsid, Target, TargetConfig};
use rig::{NQN, config, namespace};

/// What is wrong with the configuration after `spoil`.
fn error(spoil: impl FnOnce(&mut TargetConfig)) -> ConfigError {
    let mut config = config();
    spoil(&mut config);
    let error = Target::new(config).expect_err("a bad configuration");
    assert!(!error.to_string().is_empty());
    error
}

fn field(error: ConfigError) -> &'static str {
    match error {
        ConfigError::Range { field, .. } | ConfigError::Text { field, .. } => field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_default_configuration_and_the_lab_s_are_valid() {
    assert!(TargetConfig::default().validate().is_ok());
    assert!(config().validate().is_ok());
}

#[test]
fn numbers_have_ranges() {
    for bytes in [0, 4096, 12_288, 1 << 25] {
        assert_eq!(field(error(|c| c.max_io_bytes = bytes)), "max_io_bytes");
    }
    for bytes in [8, 4100, 1 << 20] {
        assert_eq!(
            field(error(|c| c.in_capsule_bytes = bytes)),
            "in_capsule_bytes"
        );
    }
    for bytes in [0, 4092, 4098] {
        assert_eq!(field(error(|c| c.max_h2c_bytes = bytes)), "max_h2c_bytes");
    }
    for depth in [0, 1, 4097] {
        assert_eq!(field(error(|c| c.queue_depth = depth)), "queue_depth");
    }
    for n in [0, 0xfff0] {
        assert_eq!(field(error(|c| c.max_controllers = n)), "max_controllers");
    }
    assert_eq!(field(error(|c| c.handshake_ms = 0)), "handshake_ms");
    assert_eq!(field(error(|c| c.data_ms = 0)), "data_ms");
    assert_eq!(
        field(error(|c| c.subsystems[0].max_queues = 0)),
        "max_queues"
    );
    assert_eq!(field(error(|c| c.subsystems[0].serial.clear())), "serial");
    let long = "x".repeat(41);
    assert_eq!(field(error(|c| c.subsystems[0].model = long)), "model");
}

#[test]
fn subsystem_and_host_names_are_valid_and_unique_nqns() {
    for nqn in [
        "",
        "iqn.2026",
        "nqn.\u{e9}",
        &format!("nqn.{}", "x".repeat(220)),
    ] {
        let bad = |c: &mut TargetConfig| c.subsystems[0].nqn = nqn.into();
        assert_eq!(error(bad), ConfigError::Nqn(nqn.into()));
    }
    let same = error(|c| c.subsystems[1].nqn = NQN.into());
    assert_eq!(same, ConfigError::NqnTaken(NQN.into()));
    let reserved = error(|c| c.subsystems[1].nqn = nvmf::DISCOVERY_NQN.into());
    assert_eq!(reserved, ConfigError::NqnTaken(nvmf::DISCOVERY_NQN.into()));
    let host = error(|c| c.subsystems[1].hosts = Hosts::Listed(vec!["me".into()]));
    assert_eq!(host, ConfigError::Nqn("me".into()));
}

#[test]
fn namespaces_need_unique_numbers_blocks_and_an_identifier() {
    let nqn = || NQN.to_string();
    for nsid in [0, 1025] {
        let e = error(|c| c.subsystems[0].namespaces[0].nsid = Nsid(nsid));
        let (nqn, nsid) = (nqn(), Nsid(nsid));
        assert_eq!(e, ConfigError::Nsid { nqn, nsid });
    }
    let e = error(|c| c.subsystems[0].namespaces[1].nsid = Nsid(1));
    let nsid = Nsid(1);
    assert_eq!(e, ConfigError::NsidTaken { nqn: nqn(), nsid });
    for blocks in [0, 1 << 55] {
        let e = error(|c| c.subsystems[0].namespaces[0].blocks = blocks);
        assert_eq!(e, ConfigError::Blocks { nqn: nqn(), nsid });
    }
    let anonymous = |c: &mut TargetConfig| {
        c.subsystems[0].namespaces[0].uuid = [0; 16];
        c.subsystems[0].namespaces[0].nguid = [0; 16];
    };
    assert_eq!(
        error(anonymous),
        ConfigError::NoIdentifier { nqn: nqn(), nsid }
    );
}

/// Gives two namespaces something in common.
type Share = fn(&mut [nvmf::NamespaceConfig]);

/// Each identifier is globally unique (base 2.0, 5.17.2.3).
#[test]
fn two_namespaces_share_no_identifier() {
    let share: [(_, Share); 3] = [
        ("uuid", |ns| ns[1].uuid = ns[0].uuid),
        ("nguid", |ns| ns[1].nguid = ns[0].nguid),
        ("eui64", |ns| ns.iter_mut().for_each(|ns| ns.eui64 = [7; 8])),
    ];
    for (field, share) in share {
        let e = error(|c| share(&mut c.subsystems[0].namespaces));
        let (nqn, first, second) = (NQN.to_string(), Nsid(1), Nsid(2));
        let taken = ConfigError::IdentifierTaken {
            nqn,
            first,
            second,
            field,
        };
        assert_eq!(e, taken);
        assert!(e.to_string().contains(field), "{e}");
    }
}

#[test]
fn an_invalid_change_of_namespaces_changes_nothing() {
    let target = Target::new(config()).unwrap();
    let twice = vec![namespace(1, BlockSize::B512, 4096); 2];
    assert!(target.set_namespaces(NQN, twice).is_err());
    let one = vec![namespace(1, BlockSize::B512, 4096)];
    assert_eq!(target.set_namespaces("nqn.other", one.clone()), Ok(false));
    assert_eq!(target.set_namespaces(NQN, one), Ok(true));
}
