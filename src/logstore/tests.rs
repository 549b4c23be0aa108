//! Logs that the crate made, in files.

use std::fs::OpenOptions;

use nvlog::recovery::Found;
use nvlog::{Crcs, Layout, LogId, Record, RecordOp, RegionSuperblock, Superblock};
use tempfile::TempDir;

use super::*;
use crate::config::tests::minimal_with;

const LEN: u64 = 4 << 20;
const PAYLOAD: &[u8] = &[7; 4096];

/// The same file, for writing.
struct Writer(LogFile);

impl Store for Writer {
    type Buffer = Bytes;
    type Error = io::Error;

    async fn read(&self, at: u64, len: usize) -> io::Result<Bytes> {
        self.0.read(at, len).await
    }

    async fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.0.write_all_at(bytes, at)
    }

    async fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

struct Made {
    _directory: TempDir,
    path: PathBuf,
    file: Writer,
    layout: Layout,
}

impl Made {
    /// A log of a region and two stores, and its region's superblock.
    fn new() -> (Self, RegionSuperblock) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("log");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        file.set_len(LEN).unwrap();
        let layout = Layout::new(LEN, 512, 1, None, 0).unwrap();
        let volume = |name: &str| nvlog::Volume {
            name: name.into(),
            identity: [0xab; 16],
            len: 1 << 30,
            block: 4096,
            part_of: None,
        };
        let superblock = Superblock {
            log: LogId(*b"0123456789abcdef"),
            generation: 0,
            layout,
            placement: 1,
            member: 0,
            volumes: vec![volume("disk0"), volume("disk1")],
        };
        let file = Writer(LogFile(file));
        let view = recovery::at_once(recovery::look(&file, LEN)).unwrap();
        let agreed = recovery::agree::<io::Error>(&[Found::Seen(view)]).unwrap();
        let stores = [Some((&file, LEN))];
        let begun = recovery::at_once(recovery::begin(&stores, &agreed, superblock));
        let regions = begun.unwrap().regions;
        let made = Self {
            _directory: directory,
            path,
            file,
            layout,
        };
        (made, regions[0])
    }

    /// Groups of one record each, all but the last of which the next one says were acknowledged; where the
    /// first lies.
    fn log(&self, start: RegionSuperblock, volumes: &[u32]) -> u64 {
        self.log_with(start, volumes, &[])
    }

    /// The same, with records of these kinds in each group.
    fn log_with(&self, start: RegionSuperblock, volumes: &[u32], described: &[RecordOp]) -> u64 {
        let log = LogId(*b"0123456789abcdef");
        let mut region = nvlog::Region::new(log, &self.layout, 0, &start);
        let mut first = None;
        for &volume in volumes {
            let record = Record {
                transfer: 0,
                object: 0,
                volume,
                op: RecordOp::Write,
                offset: 0,
                len: PAYLOAD.len() as u64,
            };
            let (mut crcs, mut all) = (Crcs::new(0), Vec::new());
            crcs.take(PAYLOAD, |crc| all.push(crc));
            all.extend(crcs.end());
            region.add(&record, &all);
            for op in described {
                let (op, len) = (*op, 1 << 20);
                region.add(&Record { op, len, ..record }, &[]);
            }
            let (group, header) = region.seal();
            self.file.0.0.write_all_at(header, group.address).unwrap();
            let payload = group.address + group.header_len as u64;
            self.file.0.0.write_all_at(PAYLOAD, payload).unwrap();
            first.get_or_insert(group.address);
            region.stable(group.sequence);
        }
        first.unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    /// What is shown, without a byte of the file changed.
    fn shown(&self, stores: Option<&[&str]>) -> Shown {
        let before = self.bytes();
        let shown = look(&self.path, stores).unwrap();
        assert!(before == self.bytes(), "a look wrote something");
        shown
    }
}

#[test]
fn s07_log_show_says_what_a_log_has_and_what_a_start_does() {
    let (made, region) = Made::new();
    made.log(region, &[0, 1, 0]);
    let shown = made.shown(Some(&["disk0", "disk1"]));
    assert_eq!(shown.refusal, None);
    let log = shown.log.as_ref().unwrap();
    let (replay, region) = (&log.replay, &log.regions[0]);
    assert_eq!(
        (replay.records, replay.bytes, replay.torn_bytes),
        (3, 12288, 0)
    );
    assert_eq!(region.acknowledged, region.end_group - 2);
    let of_volumes: Vec<_> = log.volumes.iter().map(|volume| volume.records).collect();
    assert_eq!(of_volumes, [2, 1]);
    let text = shown.to_string();
    for part in [
        "log 30313233343536373839616263646566, generation 1, blocks of 512 bytes, 1 region(s) with halves of 1 MiB",
        "A start replays 3 records of 12,288 bytes, drops 0 bytes",
        "abababababababababababababababab",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    // A store is gone: with the configuration that is known.
    let told = made.shown(Some(&["disk0"])).to_string();
    assert!(
        told.contains("stores that the configuration lacks: disk1"),
        "{told}"
    );
    assert_eq!(made.shown(None).refusal, None);
}

#[test]
fn s07_log_show_tells_a_torn_tail_from_a_loss() {
    let (made, region) = Made::new();
    let first = made.log(region, &[0, 1]);
    let damage = |at: u64| made.file.0.0.write_all_at(&[0xff], at).unwrap();
    // The last group was never acknowledged, as far as anybody knows.
    damage(first + 512 + 4096 + 512);
    let shown = made.shown(None);
    assert_eq!(shown.refusal, None);
    let replay = shown.log.unwrap().replay;
    assert_eq!(replay.records, 1);
    assert!(replay.torn_bytes > 4096, "{replay:?}");
    // The first one was: the last one's header says so.
    damage(first + 512);
    let shown = made.shown(None);
    let why = shown.refusal.clone().unwrap();
    assert!(
        why.contains("which had been acknowledged, cannot be read"),
        "{why}"
    );
    assert!(shown.to_string().contains("A start refuses it: "));
}

#[test]
fn s07_log_show_refuses_in_the_words_of_a_start() {
    let (made, _) = Made::new();
    made.file.0.0.set_len(LEN + 4096).unwrap();
    let told = made.shown(None).to_string();
    assert!(
        told.contains("its log was made for 4194304 bytes"),
        "{told}"
    );
    made.file.0.0.set_len(0).unwrap();
    made.file.0.0.set_len(LEN).unwrap();
    let told = made.shown(None).to_string();
    assert!(told.contains("Blank: a start makes a log here"), "{told}");
    made.file.0.0.write_all_at(b"EFI PART", 512).unwrap();
    let told = made.shown(None).to_string();
    assert!(
        told.contains("it holds something else than a log"),
        "{told}"
    );
    assert!(look(Path::new("/dev/null"), None).is_err());
    assert!(look(&made.path.with_file_name("gone"), None).is_err());
}

#[test]
fn s07_log_show_finds_the_store_or_says_what_to_do() {
    let more = r#"[[store]]
name = "log0"
bdev = "Log0"
[[store]]
name = "flash"
nvme = { transport_id = "trtype:PCIe traddr:0000:04:00.0", nsid = 2 }
[[store]]
name = "far"
nvme = { transport_id = "trtype:TCP adrfam:IPv4 traddr:198.51.100.9 trsvcid:4420 subnqn:nqn.2026-01.com.example:shelf" }
[spdk]
config = "spdk.json"
"#;
    let spdk = r#"{"subsystems": [{"subsystem": "bdev", "config": [{"method": "bdev_aio_create",
        "params": {"name": "Log0", "filename": "/srv/log", "block_size": 512}}]}]}"#;
    let top = "cores = [1]\nlog = { store = \"log0\" }";
    let program = minimal_with(top, more, spdk);
    assert_eq!(file_of(&program, None).unwrap(), Path::new("/srv/log"));
    let told = |store| file_of(&program, Some(store)).unwrap_err().to_string();
    assert!(told("disk0").contains("RAM disk"));
    assert!(told("flash").contains("throughline unbind 0000:04:00.0"));
    assert!(told("flash").contains("/dev/nvme0n2"));
    assert!(told("far").contains("nvme connect"));
    assert!(told("no").contains("disk0, log0, flash, far"));
}

#[test]
fn s07_log_show_tells_deallocations_from_writes_and_zeroes() {
    let (made, region) = Made::new();
    let described = [
        RecordOp::WriteZeroes,
        RecordOp::Deallocate,
        RecordOp::Deallocate,
    ];
    made.log_with(region, &[0], &described);
    let shown = made.shown(None);
    let volume = &shown.log.as_ref().unwrap().volumes[0];
    let counts = (volume.records, volume.zeroes, volume.deallocations);
    assert_eq!(counts, (4, 1, 2));
    assert_eq!(volume.record_bytes, 4096 + (3 << 20));
    let text = shown.to_string();
    assert!(text.contains("write zeroes  deallocate"), "{text}");
}
