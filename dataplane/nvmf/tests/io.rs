//! I/O through the whole protocol: what is written is read back, nothing is
//! copied, nothing is kept.

mod rig;

use block::Fault;
use nvmf::BlockSize;
use rig::disk::Asked;
use rig::host::{Answer, Host, Manners, Pdu, rw, sc, set32, sqe};
use rig::wire::Cut;
use rig::{Random, Rig, config, namespace};

const FLUSH: u8 = 0x00;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const WRITE_ZEROES: u8 = 0x08;
const DATASET_MANAGEMENT: u8 = 0x09;

/// A host with one I/O queue.
fn connected(manners: Manners) -> (Rig, Host, Host) {
    let mut rig = Rig::new();
    let admin = Host::admin(&mut rig, manners);
    let io = admin.io(&mut rig, 1, 64);
    (rig, admin, io)
}

fn closed(mut rig: Rig, hosts: [&mut Host; 2]) {
    for host in hosts {
        host.close(&mut rig);
    }
    rig.assert_all_returned();
    assert!(rig.target.controllers().is_empty());
}

/// Writes and reads at several sizes in both namespaces.
fn exercise(rig: &mut Rig, io: &mut Host, random: &mut Random) {
    for (nsid, shift) in [(1, 9), (2, 12)] {
        for blocks in [1u32, 8, 16, 32] {
            let len = blocks << shift;
            let lba = random.below(64) as u64;
            let data = random.bytes(len as usize);
            assert_eq!(io.write(rig, nsid, lba, blocks, &data).status, 0);
            let answer = io.read(rig, nsid, lba, blocks, len);
            assert_eq!(answer.status, 0);
            assert!(answer.data == data, "namespace {nsid}, {len} bytes");
        }
    }
}

#[test]
fn what_is_written_is_read_back_with_any_digests_and_alignment() {
    for digests in 0..4 {
        for hpda in [0, 1, 31] {
            let manners = Manners {
                header_digest: digests & 1 == 1,
                data_digest: digests & 2 == 2,
                hpda,
                h2c_bytes: 10_000,
                ..Manners::default()
            };
            let (mut rig, mut admin, mut io) = connected(manners);
            let mut random = Random::new(u64::from(hpda));
            exercise(&mut rig, &mut io, &mut random);
            io.cut = Cut::Random(random.clone(), 700);
            exercise(&mut rig, &mut io, &mut random);
            closed(rig, [&mut io, &mut admin]);
        }
    }
}

/// One in-capsule write and one by R2T, the stream cut at every byte.
#[test]
fn a_stream_may_be_cut_anywhere() {
    for digests in [false, true] {
        let manners = Manners {
            header_digest: digests,
            data_digest: digests,
            in_capsule: 512,
            ..Manners::default()
        };
        let (mut rig, mut admin, mut io) = connected(manners);
        let mut random = Random::new(1);
        let small = random.bytes(512);
        let large = random.bytes(1024);
        for at in 1..=72 + 4 + 512 + 4 {
            io.cut = Cut::At(at);
            assert_eq!(io.write(&mut rig, 1, 0, 1, &small).status, 0);
        }
        for at in 1..=24 + 4 + 1024 + 4 {
            // The capsule whole, and the cut in the H2CData that answers the R2T.
            let mut sqe = rw(WRITE, 1, 8, 2);
            rig::host::transport(&mut sqe, 1024);
            io.cut = Cut::Every(1448);
            let cid = io.submit(&mut rig, sqe, &[]);
            let Some(Pdu::R2t { ttag, .. }) = io.pdus.pop_front() else {
                panic!("no R2T");
            };
            io.cut = Cut::At(at);
            let data = io.h2c_data(cid, ttag, 0, &large, true);
            io.send(&mut rig, &data);
            assert_eq!(io.answer(cid).status, 0);
        }
        let mut both = small.clone();
        both.resize(8 * 512, 0);
        both.extend(&large);
        assert!(io.read(&mut rig, 1, 0, 10, 5120).data == both);
        closed(rig, [&mut io, &mut admin]);
    }
}

#[test]
fn icreq_and_connect_may_be_cut_anywhere() {
    let mut rig = Rig::new();
    for at in 1..=128 + 72 + 1024 {
        let mut host = Host::new(&rig, Manners::default());
        let data = rig::host::connect_data(0xffff, rig::NQN, rig::HOST_NQN);
        let mut sqe = host.connect_sqe(0, 31);
        rig::host::in_capsule(&mut sqe, 1024);
        let mut bytes = host.ic_req();
        let (cid, capsule) = host.capsule(sqe, &data);
        bytes.extend(capsule);
        host.cut = Cut::At(at);
        host.send(&mut rig, &bytes);
        assert_eq!(host.answer(cid).status, 0, "cut at {at}");
        host.close(&mut rig);
        rig.assert_all_returned();
    }
}

/// Rows Z9 and Z14: the segments given to the device lie in the very clusters
/// that were received into, and the ledger says that nothing was copied.
#[test]
fn z14_writes_reach_the_device_in_the_clusters_they_came_in() {
    for (len, in_capsule) in [(4096, 4096), (4096, 0), (131_072, 0)] {
        for data_digest in [false, true] {
            let manners = Manners {
                in_capsule,
                data_digest,
                ..Manners::default()
            };
            let (mut rig, mut admin, mut io) = connected(manners);
            let data = Random::new(2).bytes(len);
            let (nsid, blocks) = (2, len as u32 / 4096);
            assert_eq!(io.write(&mut rig, nsid, 3, blocks, &data).status, 0);
            rig.assert_no_copy();
            assert_eq!(rig.ledger.bytes_stored(), len as u64);
            let mut total = 0;
            for &(address, n) in &rig.disks.last_write {
                assert!(
                    rig.frames.index_of(address).is_some(),
                    "a segment outside the receive buffers"
                );
                total += n;
            }
            assert_eq!(total, len);
            closed(rig, [&mut io, &mut admin]);
        }
    }
}

/// Row Z10: what is sent lies in the pages that the device filled.
#[test]
fn z10_reads_are_sent_from_the_pages_the_device_filled() {
    let (mut rig, mut admin, mut io) = connected(Manners::default());
    for len in [4096u32, 131_072] {
        io.sent.slices.clear();
        let answer = io.read(&mut rig, 2, 5, len / 4096, len);
        assert_eq!((answer.status, answer.data.len()), (0, len as usize));
        let sent: usize = io.sent.slices.iter().map(|&(_, n)| n).sum();
        assert_eq!(sent, len as usize);
        for &(address, _) in &io.sent.slices {
            assert!(rig.pages.index_of(address).is_some());
        }
    }
    rig.assert_no_copy();
    closed(rig, [&mut io, &mut admin]);
}

#[test]
fn nvme_tcp_3_6_2_10_large_writes_take_several_r2ts() {
    let mut config = config();
    config.max_h2c_bytes = 16 * 1024;
    let mut rig = Rig::with(config, rig::Sizes::default());
    let manners = Manners {
        h2c_bytes: 4000,
        ..Manners::default()
    };
    let mut admin = Host::admin(&mut rig, manners);
    let mut io = admin.io(&mut rig, 1, 64);
    let data = Random::new(3).bytes(100 * 1024);
    assert_eq!(io.write(&mut rig, 2, 0, 25, &data).status, 0);
    assert_eq!(rig.counters.r2ts, 7);
    assert!(io.read(&mut rig, 2, 0, 25, 25 * 4096).data == data);
    closed(rig, [&mut io, &mut admin]);
}

#[test]
fn many_commands_at_once_complete_in_any_order() {
    let (mut rig, mut admin, mut io) = connected(Manners::default());
    for seed in 0..20 {
        let mut random = Random::new(seed);
        rig.disks.hold = true;
        let mut writes = Vec::new();
        for slot in 0..32u64 {
            let blocks = 1 + random.below(4) as u32;
            let data = random.bytes(blocks as usize * 4096);
            let lba = slot * 4;
            let sqe = rw(WRITE, 2, lba, blocks);
            let cid = if data.len() <= 4096 && random.one_in(2) {
                let mut sqe = sqe;
                rig::host::in_capsule(&mut sqe, data.len() as u32);
                io.submit(&mut rig, sqe, &data)
            } else {
                io.submit_asked(&mut rig, sqe, &data)
            };
            writes.push((cid, lba, blocks, data));
        }
        assert_eq!(io.session.outstanding(), 32);
        // The device answers in an order of its own.
        let mut held = std::mem::take(&mut rig.disks.held);
        while !held.is_empty() {
            let (_, request) = held.swap_remove(random.below(held.len()));
            let completion = rig.execute(request);
            io.session.complete(completion, &mut rig.shard());
        }
        rig.disks.hold = false;
        io.run(&mut rig);
        let mut reads = Vec::new();
        for (cid, lba, blocks, data) in writes {
            assert_eq!(io.answer(cid).status, 0);
            let mut sqe = rw(READ, 2, lba, blocks);
            rig::host::transport(&mut sqe, blocks * 4096);
            let cid = io.submit(&mut rig, sqe, &[]);
            reads.push((cid, data));
        }
        for (cid, data) in reads {
            assert!(io.answer(cid).data == data);
        }
    }
    rig.assert_no_copy();
    closed(rig, [&mut io, &mut admin]);
}

#[test]
fn a_full_wire_is_resumed_where_it_stopped() {
    for digests in [false, true] {
        for hpda in [0, 31] {
            let manners = Manners {
                header_digest: digests,
                data_digest: digests,
                hpda,
                ..Manners::default()
            };
            let (mut rig, mut admin, mut io) = connected(manners);
            let data = Random::new(4).bytes(65536);
            assert_eq!(io.write(&mut rig, 2, 0, 16, &data).status, 0);
            let mut sqe = rw(READ, 2, 0, 16);
            rig::host::transport(&mut sqe, 65536);
            io.sent.room = 0;
            let cid = io.submit(&mut rig, sqe, &[]);
            while !io.answers.contains_key(&cid) {
                io.sent.room = 1;
                io.run(&mut rig);
            }
            assert!(io.answer(cid).data == data);
            io.sent.room = usize::MAX;
            closed(rig, [&mut io, &mut admin]);
        }
    }
}

#[test]
fn base_6_3_responses_carry_the_submission_queue_head() {
    let (mut rig, mut admin, mut io) = connected(Manners::default());
    // Connect was entry 0 of 64.
    for n in 0..130u16 {
        let answer = io.read(&mut rig, 1, 0, 1, 512);
        assert_eq!(answer.sq_head, (n + 2) % 64);
    }
    closed(rig, [&mut io, &mut admin]);
}

#[test]
fn the_success_flag_is_used_only_without_flow_control() {
    let mut without = None;
    for (default, no_flow_control) in [(true, false), (true, true), (false, true)] {
        let mut config = config();
        config.success_flag &= default;
        let mut rig = Rig::with(config, rig::Sizes::default());
        let manners = Manners {
            no_flow_control,
            ..Manners::default()
        };
        let mut admin = Host::admin(&mut rig, manners);
        let mut io = admin.io(&mut rig, 1, 64);
        let mut sqe = rw(READ, 1, 0, 8);
        rig::host::transport(&mut sqe, 4096);
        let cid = io.submit(&mut rig, sqe, &[]);
        let answer = io.answers.remove(&cid).unwrap();
        assert_eq!((answer.status, answer.data.len()), (0, 4096));
        // With flow control a response capsule came and told SQHD.
        let expected = if no_flow_control { 0xffff } else { 2 };
        assert_eq!(answer.sq_head, expected);
        // One each for ICReq, Connect and the data; the response is a PDU more.
        let pdus = rig.counters.pdus_out;
        let others = *without.get_or_insert(pdus - 1);
        let by_flag = default && no_flow_control;
        assert_eq!(pdus - others, u64::from(!by_flag));
        closed(rig, [&mut io, &mut admin]);
    }
}

#[test]
fn flush_and_write_zeroes_reach_the_volume() {
    let (mut rig, mut admin, mut io) = connected(Manners::default());
    assert_eq!(io.without_data(&mut rig, sqe(FLUSH, 1)).status, 0);
    let mut zeroes = rw(WRITE_ZEROES, 2, 7, 100);
    set32(&mut zeroes, 48, 99 | 1 << 25 | 1 << 30);
    assert_eq!(io.without_data(&mut rig, zeroes).status, 0);
    let expected = [
        Asked::Flush { volume: 101 },
        Asked::WriteZeroes {
            volume: 102,
            first: 7,
            blocks: 100,
            fua: true,
            deallocate: true,
        },
    ];
    assert_eq!(rig.disks.asked, expected);
    closed(rig, [&mut io, &mut admin]);
}

/// Ranges of Dataset Management as bytes.
fn ranges(ranges: &[(u64, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &(first, blocks) in ranges {
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(blocks.to_le_bytes());
        bytes.extend(first.to_le_bytes());
    }
    bytes
}

fn dataset(io: &mut Host, rig: &mut Rig, list: &[(u64, u32)], attributes: u32) -> Answer {
    let mut sqe = sqe(DATASET_MANAGEMENT, 1);
    set32(&mut sqe, 40, list.len() as u32 - 1);
    set32(&mut sqe, 44, attributes);
    io.with_data(rig, sqe, &ranges(list))
}

#[test]
fn nvm_3_2_3_dataset_management_deallocates_each_range() {
    let (mut rig, mut admin, mut io) = connected(Manners::default());
    let list = [(0, 8), (100, 0), (64, 1), (2000, 48), (5, 0)];
    assert_eq!(dataset(&mut io, &mut rig, &list, 1 << 2).status, 0);
    let range = |first, blocks| Asked::Deallocate {
        volume: 101,
        first,
        blocks,
    };
    let expected = [range(0, 8), range(64, 1), range(2000, 48)];
    assert_eq!(rig.disks.asked, expected);
    rig.disks.asked.clear();
    // 256 ranges, the most there may be: 4 KiB of them.
    let most: Vec<_> = (0..256).map(|n| (n * 2, 1)).collect();
    assert_eq!(dataset(&mut io, &mut rig, &most, 1 << 2).status, 0);
    assert_eq!(rig.disks.asked.len(), 256);
    rig.disks.asked.clear();
    // Linux sends room for all of them whatever there are; not more, and not less.
    let mut two = sqe(DATASET_MANAGEMENT, 1);
    set32(&mut two, 40, 1);
    set32(&mut two, 44, 1 << 2);
    let mut data = ranges(&[(0, 8), (64, 1), (100, 7)]);
    data.resize(4096, 0xff);
    assert_eq!(io.with_data(&mut rig, two, &data).status, 0);
    assert_eq!(io.asked_for(&mut rig, two, &data).status, 0);
    let once = || [range(0, 8), range(64, 1)];
    assert_eq!(rig.disks.asked, [once(), once()].concat());
    rig.disks.asked.clear();
    for bytes in [16, 31, 4112] {
        let refused = io.asked_for(&mut rig, two, &vec![0; bytes]);
        assert_eq!(sc(refused.status), (0, 0x0f), "{bytes} bytes");
    }
    // Only hints, only empty ranges, and one outside: nothing is deallocated.
    assert_eq!(dataset(&mut io, &mut rig, &[(0, 8)], 1).status, 0);
    assert_eq!(dataset(&mut io, &mut rig, &[(9, 0)], 1 << 2).status, 0);
    let outside = dataset(&mut io, &mut rig, &[(0, 8), (2047, 2)], 1 << 2);
    assert_eq!(sc(outside.status), (0, 0x80));
    assert!(rig.disks.asked.is_empty());
    // One failing request of several fails the command, whichever it is.
    rig.disks.hold = true;
    for failing in 0..3 {
        let mut sqe = sqe(DATASET_MANAGEMENT, 1);
        set32(&mut sqe, 40, 4);
        set32(&mut sqe, 44, 1 << 2);
        rig::host::in_capsule(&mut sqe, 80);
        let cid = io.submit(&mut rig, sqe, &ranges(&list));
        for (n, (_, request)) in std::mem::take(&mut rig.disks.held).into_iter().enumerate() {
            rig.disks.fail = (n == failing).then_some(Fault::Internal);
            let completion = rig.execute(request);
            io.session.complete(completion, &mut rig.shard());
        }
        io.run(&mut rig);
        assert_eq!(sc(io.answer(cid).status), (0, 0x06));
    }
    rig.disks.hold = false;
    rig.disks.fail = Some(Fault::Internal);
    let failed = dataset(&mut io, &mut rig, &list, 1 << 2);
    assert_eq!(sc(failed.status), (0, 0x06));
    rig.disks.fail = None;
    closed(rig, [&mut io, &mut admin]);
}

#[test]
fn a_device_error_is_the_command_s_status_and_gives_everything_back() {
    let (mut rig, mut admin, mut io) = connected(Manners::default());
    let data = vec![1; 8192];
    rig.disks.fail = Some(Fault::WriteError);
    assert_eq!(sc(io.write(&mut rig, 2, 0, 2, &data).status), (2, 0x80));
    rig.disks.fail = Some(Fault::ReadError);
    let answer = io.read(&mut rig, 2, 0, 2, 8192);
    assert_eq!((sc(answer.status), answer.data.len()), ((2, 0x81), 0));
    rig.disks.fail = None;
    assert_eq!(io.read(&mut rig, 2, 0, 2, 8192).status, 0);
    closed(rig, [&mut io, &mut admin]);
}

/// A host is never sent what the device did not write.
#[test]
fn a_read_that_succeeded_without_data_has_failed() {
    let (mut rig, mut admin, mut io) = connected(Manners::default());
    rig.disks.hold = true;
    for keep_run in [true, false] {
        let mut sqe = rw(READ, 2, 0, 2);
        rig::host::transport(&mut sqe, 8192);
        let cid = io.submit(&mut rig, sqe, &[]);
        let (_, request) = rig.disks.held.pop().unwrap();
        let (id, result) = (request.id, Ok(()));
        let run = request.io.run.expect("a read's");
        let run = match keep_run {
            true => Some(run),
            false => {
                rig.runs.put(run);
                None
            }
        };
        let completion = block::Completion { id, result, run };
        io.session.complete(completion, &mut rig.shard());
        io.run(&mut rig);
        let answer = io.answer(cid);
        assert_eq!((sc(answer.status), answer.data.len()), ((0, 0x06), 0));
    }
    closed(rig, [&mut io, &mut admin]);
}

#[test]
fn force_unit_access_is_passed_on_and_implied_without_write_cache() {
    let (mut rig, mut admin, mut io) = connected(Manners::default());
    let fua = |rig: &Rig| match rig.disks.asked.last() {
        Some(Asked::Read { fua, .. } | Asked::Write { fua, .. }) => *fua,
        other => panic!("{other:?}"),
    };
    let block = vec![1; 512];
    io.write(&mut rig, 1, 0, 1, &block);
    assert!(!fua(&rig));
    let mut write = rw(WRITE, 1, 0, 1);
    set32(&mut write, 48, 1 << 30);
    io.with_data(&mut rig, write, &block);
    assert!(fua(&rig));
    // Volatile Write Cache off (base 5.27.1.4): every write is durable.
    assert_eq!(admin.set_features(&mut rig, 0x06, 0).status, 0);
    io.write(&mut rig, 1, 0, 1, &block);
    assert!(fua(&rig));
    io.read(&mut rig, 1, 0, 1, 512);
    assert!(!fua(&rig));
    closed(rig, [&mut io, &mut admin]);
}

#[test]
fn io_commands_see_the_namespaces_as_they_are_now() {
    let (mut rig, mut admin, mut io) = connected(Manners::default());
    let block = vec![1; 512];
    assert_eq!(sc(io.write(&mut rig, 1, 2048, 1, &block).status), (0, 0x80));
    // Namespace 1 grows, 2 goes.
    let grown = vec![namespace(1, BlockSize::B512, 2 << 20)];
    rig.disks.volumes.insert(101, vec![0; 2 << 20]);
    assert_eq!(rig.target.set_namespaces(rig::NQN, grown), Ok(true));
    assert_eq!(io.write(&mut rig, 1, 2048, 1, &block).status, 0);
    let gone = io.read(&mut rig, 2, 0, 1, 4096);
    assert_eq!(sc(gone.status), (0, 0x0b));
    closed(rig, [&mut io, &mut admin]);
}
