//! What a node of a pair has that is out of date, read by hosts for a backup.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lab::config::NQN;
use lab::pair::{self, NODES, Pair, STORE, is_in_sync, reports, serves};
use lab::writer::{BLOCK, Writer};
use lab::{Outcome, Program, Result, Section, Test, ensure, expect, wait};
use serde_json::json;
use testkit::blocking::Queue;
use testkit::{Command, Config as HostConfig, Status};

/// Where each node shows what it has, when that is out of date.
const BACKUPS: [&str; 2] = [
    "nqn.2026-01.com.example:lab-backup-1",
    "nqn.2026-01.com.example:lab-backup-2",
];

/// With Do Not Retry: Invalid Namespace or Format; Namespace is Write Protected.
const INVALID_NAMESPACE: Status = 0x400b;
const WRITE_PROTECTED: Status = 0x4020;
/// Namespace Not Ready.
const NOT_READY: Status = 0x82;

/// A node that shows a backup, too.
fn start<'n>(test: &Test, pair: &'n Pair, node: usize) -> Result<Program<'n>> {
    let backup = Section::new().key("store", STORE).key("backup", true);
    let subsystem = Section::subsystem(BACKUPS[node], "LAB0002", backup);
    let config = pair.config(node)?.subsystem(subsystem);
    Program::start(test, &pair.nodes[node], &config)
}

/// A pair whose first copy takes a moment on a busy machine, too.
fn small(test: &Test) -> Result<Pair> {
    let mut pair = Pair::new(test)?;
    pair.volume_mib = 16;
    Ok(pair)
}

fn pair_command(test: &Test, program: &Program<'_>, words: &[&str]) -> Outcome {
    pair::command(test, program, words)?.succeeds()?;
    Ok(())
}

fn is_backup(program: &Program<'_>, is_readable: bool) -> Outcome {
    reports(program, "it says whether it is a backup", |report| {
        let state = report["state"].as_str().unwrap_or_default();
        report["readable_as_backup"] == is_readable
            && state.contains("readable as a backup") == is_readable
    })
}

/// A host of a subsystem at a node.
fn connect(node: usize, nqn: &str) -> io::Result<(Queue, Queue)> {
    let target = format!("{}:4420", NODES[node]);
    let target = target.parse().expect("an address");
    Queue::controller(target, HostConfig::new(nqn))
}

/// The identifiers of namespace 1 (NGUID, and all descriptors), and whether it is write protected.
fn identify(node: usize, nqn: &str) -> io::Result<(Vec<u8>, Vec<u8>, u8)> {
    let (mut admin, _io) = connect(node, nqn)?;
    let (_, namespace) = admin.identify(0x00, 1)?;
    let (_, descriptors) = admin.identify(0x03, 1)?;
    Ok((namespace[104..120].to_vec(), descriptors, namespace[99]))
}

/// How a read of the backup of a node ends.
fn read(node: usize) -> io::Result<Status> {
    let (_admin, mut queue) = connect(node, BACKUPS[node])?;
    Ok(queue.read(0, BLOCK, BLOCK)?.0)
}

/// Hosts see no backup of a node, and no read of one is answered.
fn has_none(pair: &Pair, node: usize) -> Outcome {
    let (active, status) = pair.host.within(|| {
        let (mut admin, _io) = connect(node, BACKUPS[node])?;
        Ok((admin.identify(0x02, 0)?.1[0], read(node)?))
    })?;
    expect::equal("the first namespace", active, 0)?;
    expect::equal("how a read ends", status, INVALID_NAMESPACE)
}

/// A severed node's volume is read while hosts change the other one's, and not any more when the copy begins.
fn r07_a_severed_volume_is_read_until_it_is_copied_to(test: &Test) -> Outcome {
    let pair = small(test)?;
    let mut writer = Writer::new(0, NODES[0]);
    let (source, destination) = (start(test, &pair, 0)?, start(test, &pair, 1)?);
    is_in_sync(&source, "source")?;
    is_in_sync(&destination, "destination")?;
    pair.host.within(|| writer.write_all(1))?;
    (0..2).try_for_each(|node| has_none(&pair, node))?;
    // A host that is there is told when there is one.
    let mut told = pair.host.within(|| {
        let mut queues = connect(1, BACKUPS[1])?;
        let mut features = Command::new(0x09, 0);
        features.sqe[40] = 0x0b;
        features.sqe[44..48].copy_from_slice(&(1u32 << 8).to_le_bytes());
        queues.0.status_of(features)?;
        let event = queues.0.host.command(Command::new(0x0c, 0));
        queues.0.flush_out()?;
        Ok((queues, event))
    })?;
    pair_command(test, &source, &["sever", STORE])?;
    let (queues, event) = &mut told;
    let event = queues.0.wait(*event)?;
    expect::equal("the event", event.result, 0x0004_0002)?;
    is_backup(&destination, true)?;
    is_backup(&source, false)?;
    pair.host.within(|| writer.write_all(2))?;
    let mut reader = Writer::new(0, NODES[1]).of(BACKUPS[1]).having(1);
    pair.host.within(|| reader.verify())?;
    has_none(&pair, 0)?;
    // It is another namespace than the volume's, and nobody writes to it.
    let [volume, backup] =
        [(0, NQN), (1, BACKUPS[1])].map(|(node, nqn)| pair.host.within(|| identify(node, nqn)));
    let (volume, backup) = (volume?, backup?);
    ensure!(
        volume.0 != backup.0 && volume.1 != backup.1,
        "hosts would take one for the other: {volume:?}"
    );
    expect::equal(
        "whether they are write protected",
        [volume.2, backup.2],
        [0, 1],
    )?;
    let status = pair.host.within(|| {
        let (_admin, mut queue) = connect(1, BACKUPS[1])?;
        queue.write(0, BLOCK, &[0; BLOCK], false)
    })?;
    expect::equal("how a write ends", status, WRITE_PROTECTED)?;
    // A restart changes nothing of that.
    destination.kill();
    let destination = start(test, &pair, 1)?;
    is_backup(&destination, true)?;
    pair.host.within(|| reader.verify())?;
    // It is read while the copy begins: what is answered is of before, all of it.
    let is_reestablished = AtomicBool::new(false);
    let door = pair.host.door()?;
    let (reads, last) = thread::scope(|scope| {
        let reading = scope.spawn(|| -> io::Result<(u64, Status)> {
            door.enter()?;
            let mut reader = Writer::new(0, NODES[1]).of(BACKUPS[1]).having(1);
            reader.read_until_refused()
        });
        let reestablished = pair_command(test, &source, &["reestablish", STORE]);
        is_reestablished.store(reestablished.is_ok(), Ordering::Release);
        reading.join().expect("a reader panicked")
    })?;
    ensure!(is_reestablished.into_inner(), "it is not re-established");
    let ends = [INVALID_NAMESPACE, NOT_READY];
    ensure!(ends.contains(&last), "the last read has status {last:#x}");
    test.figure(format!("{reads} reads of the backup until the copy began"));
    is_in_sync(&source, "source")?;
    is_in_sync(&destination, "destination")?;
    is_backup(&destination, false)?;
    has_none(&pair, 1)?;
    // The source is gone, and nobody takes over: what there is may be read, until an operator says that hosts are served here.
    source.kill();
    is_backup(&destination, true)?;
    let mut reader = Writer::new(0, NODES[1]).of(BACKUPS[1]).having(2);
    pair.host.within(|| reader.verify())?;
    pair_command(test, &destination, &["promote", STORE])?;
    serves(&destination)?;
    is_backup(&destination, false)?;
    has_none(&pair, 1)?;
    writer.goes_to(NODES[1]);
    pair.host.within(|| writer.verify())?;
    destination.kill();
    Ok(())
}

/// A backup comes and goes over JSON-RPC, and not where other nodes show a subsystem, nor of a store that no pair has.
fn r07_a_backup_is_added_while_the_program_runs(test: &Test) -> Outcome {
    let pair = small(test)?;
    let mut writer = Writer::new(0, NODES[0]);
    let (source, destination) = (start(test, &pair, 0)?, start(test, &pair, 1)?);
    is_in_sync(&source, "source")?;
    pair.host.within(|| writer.write_all(1))?;
    pair_command(test, &source, &["sever", STORE])?;
    is_backup(&destination, true)?;
    let remove = json!({ "nqn": BACKUPS[1], "nsid": 1 });
    destination.rpc("nvmf_subsystem_remove_ns", &remove)?;
    has_none(&pair, 1)?;
    for (nqn, store, why) in [
        (NQN, STORE, "other nodes show this subsystem"),
        (BACKUPS[1], "log0", "no volume of a pair"),
    ] {
        let namespace = json!({ "bdev_name": store, "backup": true });
        let params = json!({ "nqn": nqn, "namespace": namespace });
        let refused = destination.rpc_tool("nvmf_subsystem_add_ns", &params)?;
        expect::contains("why not", &refused.fails()?.output(), why)?;
    }
    let namespace = json!({ "bdev_name": STORE, "backup": true });
    let params = json!({ "nqn": BACKUPS[1], "namespace": namespace });
    destination.rpc("nvmf_subsystem_add_ns", &params)?;
    wait::until("it is read again", || {
        let status = pair.host.within(|| read(1))?;
        Ok(if status == 0 {
            Ok(())
        } else {
            Err(format!("{status:#x}"))
        })
    })?;
    let mut reader = Writer::new(0, NODES[1]).of(BACKUPS[1]).having(1);
    pair.host.within(|| reader.verify())?;
    // The file says the same.
    destination.config_save()?.succeeds()?;
    destination.check_again()?.run()?;
    let destination = destination.kill_and_start_again()?;
    is_backup(&destination, true)?;
    pair.host.within(|| reader.verify())?;
    source.kill();
    destination.kill();
    Ok(())
}

lab::tests![
    r07_a_severed_volume_is_read_until_it_is_copied_to,
    r07_a_backup_is_added_while_the_program_runs,
];
