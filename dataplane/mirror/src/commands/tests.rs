use super::*;

fn changes() -> Changes {
    Changes {
        volume: 0x0102,
        ticket: 0x1122_3344_5566_7788,
        transfer: 5,
        stable: 4,
        changes: vec![
            Change {
                op: ChangeOp::Write,
                offset: 8192,
                len: 4096,
            },
            Change {
                op: ChangeOp::WriteZeroes,
                offset: 1 << 40,
                len: 1 << 30,
            },
        ],
    }
}

/// Byte by byte, as the table says.
#[test]
fn r03_changes_lie_as_is_documented() {
    let bytes = changes().encode();
    let expected: &[u8] = &[
        0x02, 0x01, 2, 0, 0, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22,
        0x11, // volume, count, ticket
        5, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, // transfer, stable
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0,
        0, // a write
        2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, // zeros
    ];
    assert_eq!(bytes, expected);
    assert_eq!(Changes::decode(&bytes, 4096), Ok(changes()));
}

#[test]
fn r03_changes_that_cannot_be_are_refused() {
    let bad = |payload: usize, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = changes().encode();
        change(&mut bytes);
        assert!(Changes::decode(&bytes, payload).is_err(), "{bytes:02x?}");
    };
    bad(4095, &|_| {});
    bad(4096, &|bytes| _ = bytes.pop());
    bad(4096, &|bytes| bytes.truncate(31));
    bad(4096, &|bytes| bytes[2] = 0);
    bad(4096, &|bytes| bytes[2] = 33);
    bad(4096, &|bytes| bytes[4] = 1);
    bad(4096, &|bytes| bytes[32] = 3);
    bad(4096, &|bytes| bytes[33] = 1);
    bad(0, &|bytes| bytes[48..56].fill(0));
    bad(4096, &|bytes| bytes[40..48].fill(0xff));
}

fn meeting() -> Meeting {
    let generation = |number: u64| Generation {
        number,
        tag: number << 8,
    };
    Meeting {
        volume: [7; 16],
        number: 2,
        role: Role::Source,
        is_sized: true,
        len: 1 << 30,
        block: 4096,
        frame: 65536,
        claim: Claim {
            replica: ReplicaId([1; 16]),
            wholeness: Wholeness::Copying {
                from: ReplicaId([2; 16]),
            },
            generation: generation(3),
            record: Some(RecordClaim {
                peer: ReplicaId([4; 16]),
                common: [generation(5), generation(6)],
                copies: true,
                changed: 8,
            }),
        },
        differing: 9,
        meeting: 10,
        answers: 11,
        severed: 12,
        has_failed: false,
    }
}

#[test]
fn r03_a_claim_is_read_as_it_was_written() {
    let bytes = meeting().encode();
    assert_eq!(Meeting::decode(&bytes), Ok(meeting()));
    let fields: [(usize, &[u8]); 9] = [
        (0, &[7; 16]),
        (16, &[2, 0, 1, 2, 1, 1, 0, 1]),
        (24, &[0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 1, 0]),
        (40, &[1; 16]),
        (56, &[2; 16]),
        (72, &[3, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0]),
        (88, &[4; 16]),
        (
            136,
            &[
                8, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 11,
            ],
        ),
        (168, &[12, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (at, field) in fields {
        assert_eq!(&bytes[at..at + field.len()], field, "at {at}");
    }
    // One way to write each: no byte can be another one and mean the same.
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0xff;
        assert_ne!(Meeting::decode(&changed), Ok(meeting()), "byte {at}");
    }
    for (bytes, is_good) in [
        (4095, false),
        (4096, true),
        (1 << 22, true),
        ((1 << 22) + 1, false),
    ] {
        let meeting = Meeting {
            frame: bytes,
            ..meeting()
        };
        assert_eq!(
            Meeting::decode(&meeting.encode()).is_ok(),
            is_good,
            "{bytes}"
        );
    }
    let destination = Meeting {
        role: Role::Destination,
        ..meeting()
    };
    assert!(Meeting::decode(&destination.encode()).is_err());
}

#[test]
fn r03_other_parameters_are_read_as_they_were_written() {
    let differing = Differing {
        volume: 1,
        page: 2,
        meeting: 3,
    };
    assert_eq!(Differing::decode(&differing.encode()), Ok(differing));
    let ready = Ready {
        volume: 1,
        meeting: 2,
        ticket: 3,
    };
    assert_eq!(Ready::decode(&ready.encode()), Ok(ready));
    let copying = Copying {
        volume: 1,
        stays_whole: true,
        ticket: 2,
        generation: Generation { number: 3, tag: 4 },
    };
    assert_eq!(Copying::decode(&copying.encode()), Ok(copying));
    let discard = Intent {
        volume: 1,
        meeting: 2,
    };
    assert_eq!(
        discard.encode(),
        [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(Intent::decode(&discard.encode()), Ok(discard));
    assert!(Intent::decode(&[1; 16]).is_err() && Intent::decode(&[0; 15]).is_err());
    assert!(Differing::decode(&[0; 17]).is_err() && Differing::decode(&[1; 16]).is_err());
    assert!(Ready::decode(&[0; 24]).is_err(), "no ticket");
    assert!(Copying::decode(&[9; 40]).is_err());
}

/// Anything is parameters, or is refused; what is, is written as it came.
#[test]
fn r11_any_parameters_are_some_or_refused() {
    let mut random = testkit::Random::new(3);
    let seeds = [
        changes().encode(),
        meeting().encode(),
        vec![0; 16],
        vec![1; 24],
        vec![0; 40],
        comparison().encode(),
    ];
    for _ in 0..20_000 {
        let mut bytes = random.pick(&seeds).clone();
        for _ in 0..random.below(4u32) {
            let at = random.below(bytes.len());
            bytes[at] = random.word() as u8;
        }
        if random.one_in(4) {
            bytes.truncate(random.below(bytes.len() + 1));
        }
        let payload = *random.pick(&[0, 4096, 8192]);
        if let Ok(changes) = Changes::decode(&bytes, payload) {
            assert_eq!(changes.encode(), bytes);
        }
        if let Ok(meeting) = Meeting::decode(&bytes) {
            assert_eq!(meeting.encode(), bytes);
        }
        if let Ok(differing) = Differing::decode(&bytes) {
            assert_eq!(differing.encode(), bytes);
        }
        if let Ok(discard) = Intent::decode(&bytes) {
            assert_eq!(discard.encode(), bytes);
        }
        if let Ok(ready) = Ready::decode(&bytes) {
            assert_eq!(ready.encode(), bytes);
        }
        if let Ok(copying) = Copying::decode(&bytes) {
            assert_eq!(copying.encode(), bytes);
        }
        if let Ok(comparison) = Comparison::decode(&bytes) {
            assert_eq!(comparison.encode(), bytes);
        }
    }
}

fn comparison() -> Comparison {
    Comparison {
        volume: 3,
        ticket: 9,
        offset: 8192,
        len: 8704,
        sums: vec![1, 2, 0xffff_ffff],
    }
}

#[test]
fn r03_comparisons_are_read_as_they_were_written() {
    let comparison = comparison();
    assert_eq!(
        Comparison::decode(&comparison.encode()),
        Ok(comparison.clone())
    );
    let wrong = [
        Comparison {
            offset: 512,
            ..comparison.clone()
        },
        Comparison {
            len: 0,
            sums: Vec::new(),
            ..comparison.clone()
        },
        Comparison {
            len: 65537,
            sums: vec![0; 17],
            ..comparison.clone()
        },
        Comparison {
            offset: u64::MAX - 4095,
            ..comparison.clone()
        },
        Comparison {
            sums: vec![1, 2],
            ..comparison.clone()
        },
    ];
    for wrong in wrong {
        assert!(Comparison::decode(&wrong.encode()).is_err(), "{wrong:?}");
    }
    let bytes = comparison.encode();
    assert!(Comparison::decode(&bytes[..bytes.len() - 1]).is_err());
    assert!(Comparison::decode(&bytes[..20]).is_err());
}
