//! The log's store: is it large enough, and what does a group cost there?

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use engine::{LogConfig, StoreConfig, StoreDevice};
use nvlog::{Layout, Unfit};
use serde_json::Value;

use super::{Report, identify};
use crate::config::{Program, transport_pci};
use crate::host::Host;
use crate::text;

const TOPIC: &str = "log";

/// What is known of the store before the program has it.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its bytes, and those of a block.
    pub(super) size: Option<(u64, u32)>,
    /// It has a volatile write cache.
    caches: Option<bool>,
    /// What it has is gone with the program, or with the power.
    is_volatile: bool,
    /// It takes no list of fragments.
    is_particular: bool,
}

/// Are the log's stores fit for it?
pub(super) fn store(host: &Host, program: &Program, report: &mut Report) {
    let engine = &program.engine;
    let Some(log) = &engine.log else { return };
    let find = |name: &str| engine.stores.iter().find(|store| store.name == name);
    let stores: Vec<_> = (log.stores.iter())
        .filter_map(|log| find(&log.name))
        .map(|store| (store, known(host, program, store)))
        .collect();
    for (store, known) in &stores {
        one(program, log, store, known, report);
    }
    match &stores[..] {
        [(first, _), (second, _)] if are_on_one_drive(program, first, second) => report.hint(
            TOPIC,
            format!(
                "stores {} and {} are on one drive: what takes it takes both",
                first.name, second.name
            ),
            "name a store on another drive as `mirror`",
        ),
        [(first, one), (second, other)] => {
            let sizes = one.size.zip(other.size);
            let (len, block) = sizes.map_or((None, None), |((len, block), (other_len, other))| {
                (Some(len.min(other_len)), Some(block.max(other)))
            });
            let used = len.zip(block).map_or(String::new(), |(len, block)| {
                let len = text::bytes(len);
                format!("; of each {len} are used, in blocks of {block} bytes")
            });
            report.ok(
                TOPIC,
                format!(
                    "two log stores, {} and {}: either may fail{used}",
                    first.name, second.name
                ),
            );
        }
        _ => report.hint(
            TOPIC,
            "one log store: if it fails, writes to logged namespaces are refused until a restart",
            "name a second one as `mirror` in [log], on another drive",
        ),
    }
}

/// Whether two stores are namespaces of one controller, or files and partitions of one disk, as far as is known.
fn are_on_one_drive(program: &Program, first: &StoreConfig, second: &StoreConfig) -> bool {
    let file = |store: &StoreConfig| match &store.device {
        StoreDevice::Bdev(bdev) => {
            let file = program.bdev_files.iter().find(|(name, _)| name == bdev);
            let metadata = file.and_then(|(_, file)| std::fs::metadata(file).ok())?;
            match metadata.file_type().is_block_device() {
                true => Some(metadata.rdev()),
                false => Some(metadata.dev()),
            }
        }
        StoreDevice::Nvme { .. } => None,
    };
    let id = |store: &StoreConfig| match &store.device {
        StoreDevice::Nvme { transport_id, .. } => Some(transport_id.clone()),
        StoreDevice::Bdev(_) => None,
    };
    let same_file = file(first).zip(file(second)).is_some_and(|(a, b)| a == b);
    let same_controller = id(first).zip(id(second)).is_some_and(|(a, b)| a == b);
    same_file || same_controller
}

/// Is one store fit?
fn one(
    program: &Program,
    log: &LogConfig,
    store: &StoreConfig,
    known: &Known,
    report: &mut Report,
) {
    let engine = &program.engine;
    match known.size {
        Some((bytes, block)) => size(program, log, store, (bytes, block), report),
        None => {
            let regions = engine.cores.len() as u32;
            let least = Layout::needs(regions, log.half_len.unwrap_or(nvlog::HALF_MIN), 0);
            report.ok(
                TOPIC,
                format!(
                    "on store {}, whose size is known when the program has it: {} bytes are needed, in blocks of 512 or 4096",
                    store.name,
                    text::grouped(least)
                ),
            );
        }
    }
    if known.is_volatile {
        report.hint(
            TOPIC,
            format!(
                "store {} is a RAM disk: what was acknowledged is lost with the program",
                store.name
            ),
            "for anything but tests name a store whose data survive a loss of power",
        );
    }
    match known.caches {
        Some(true) => report.hint(
            TOPIC,
            format!(
                "store {} has a volatile write cache: each group of writes costs a flush",
                store.name
            ),
            "use a drive with power-loss protection (`nvme id-ctrl`: vwc 0), or persistent memory",
        ),
        Some(false) => report.ok(
            TOPIC,
            format!(
                "store {} has no volatile write cache: a group costs one write",
                store.name
            ),
        ),
        None => {}
    }
    if known.is_particular {
        report.hint(
            TOPIC,
            format!(
                "store {} takes PRPs only: the payload of a group is copied together (one copy, counted)",
                store.name
            ),
            "use a drive that takes SGLs (`nvme id-ctrl`: sgls other than 0)",
        );
    }
}

/// Does what is configured fit?
fn size(
    program: &Program,
    log: &LogConfig,
    store: &StoreConfig,
    (bytes, block): (u64, u32),
    report: &mut Report,
) {
    let engine = &program.engine;
    let regions = engine.cores.len() as u32;
    let store = &store.name;
    match Layout::new(bytes, block, regions, log.half_len, 0) {
        Ok(layout) => {
            let longest = u64::from(engine.target.max_io_bytes) + nvlog::UNIT;
            if layout.half_len < longest + nvlog::HEADER_MAX as u64 {
                report.no(
                    TOPIC,
                    format!(
                        "halves of {} on store {store} are too short for a request of {}",
                        text::bytes(layout.half_len),
                        text::bytes(engine.target.max_io_bytes.into())
                    ),
                    "use a larger store, fewer cores, or lower `max_io_kib` in [target]",
                );
                return;
            }
            report.ok(
                TOPIC,
                format!(
                    "on store {store}, blocks of {block} bytes: {regions} × two halves of {}; {}",
                    text::bytes(layout.half_len),
                    memory(program)
                ),
            );
        }
        Err(unfit @ Unfit::TooSmall { .. }) => {
            let room = Layout::new(bytes, block, regions, None, 0).ok();
            let remedy = match room.map(|layout| layout.half_len >> 20) {
                Some(mib @ 1..) => format!("write `half_mib = {mib}`, or name a larger store"),
                _ => "name a larger store, or give `cores` fewer".to_owned(),
            };
            report.no(TOPIC, format!("store {store}: {unfit}"), remedy);
        }
        Err(unfit) => report.no(
            TOPIC,
            format!("store {store}: {unfit}"),
            "name another store",
        ),
    }
}

/// How much memory it takes that the log's halves are as long as they are.
fn memory(program: &Program) -> String {
    // Of the cache's pages, a quarter may wait for their drives (docs/limits.md).
    let memory = &program.engine.memory;
    let dirty = (u64::from(memory.clusters) + u64::from(memory.pages)) / 16 * 4096;
    format!(
        "of that {} a core at most wait for their drives in memory, which is in [memory] already",
        text::bytes(dirty)
    )
}

/// What is known of a store.
pub(super) fn known(host: &Host, program: &Program, store: &StoreConfig) -> Known {
    let known = (program.known_stores.iter()).find(|known| known.name == store.name);
    if let Some(known) = known {
        return Known {
            size: Some((known.blocks * u64::from(known.block_size), known.block_size)),
            caches: Some(false),
            is_volatile: true,
            is_particular: false,
        };
    }
    match &store.device {
        StoreDevice::Bdev(bdev) => {
            let file = program.bdev_files.iter().find(|(name, _)| name == bdev);
            file.map_or_else(Known::default, |(_, file)| {
                of_file(host, file, block_size(program, bdev))
            })
        }
        StoreDevice::Nvme { transport_id, nsid } => {
            let address = transport_pci(transport_id);
            let device = address.and_then(|address| host.pci(&address));
            let controller = device.and_then(|device| device.controller);
            controller.map_or_else(Known::default, |name| of_drive(host, &name, *nsid))
        }
    }
}

/// A drive that the kernel still has.
fn of_drive(host: &Host, controller: &str, nsid: u32) -> Known {
    let mut known = of_disk(host, &format!("{controller}n{nsid}"));
    if let Ok(told) = identify::controller(controller) {
        known.caches = Some(told.write_cache);
        known.is_particular = told.sgl == identify::Sgl::None;
    }
    known
}

/// A disk of the kernel's, by its name.
fn of_disk(host: &Host, disk: &str) -> Known {
    let at = format!("sys/class/block/{disk}");
    let block = host.number(&format!("{at}/queue/logical_block_size"));
    let sectors = host.number(&format!("{at}/size"));
    let cache = host.read(&format!("{at}/queue/write_cache"));
    Known {
        size: sectors
            .zip(block.and_then(|block| block.try_into().ok()))
            .map(|(sectors, block)| (sectors << 9, block)),
        caches: cache.map(|kind| kind == "write back"),
        ..Known::default()
    }
}

/// A file or block device that a bdev is made of.
fn of_file(host: &Host, file: &Path, block: Option<u32>) -> Known {
    let Ok(metadata) = std::fs::metadata(file) else {
        return Known::default();
    };
    if metadata.file_type().is_block_device() {
        let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
        let link = host.path(&format!("sys/dev/block/{major}:{minor}"));
        let name = std::fs::canonicalize(link).ok();
        let name = name.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let mut known = name.map_or_else(Known::default, |name| of_disk(host, &name));
        if let (Some((_, theirs)), Some(block)) = (&mut known.size, block) {
            *theirs = block;
        }
        return known;
    }
    let bytes = File::open(file).and_then(|mut file| file.seek(SeekFrom::End(0)));
    Known {
        size: bytes.ok().zip(block),
        // What the file lies on may lose it.
        caches: Some(true),
        ..Known::default()
    }
}

/// Bytes of a block that SPDK's configuration gives a bdev.
fn block_size(program: &Program, bdev: &str) -> Option<u32> {
    let document: Value = serde_json::from_str(program.engine.spdk_json.as_deref()?).ok()?;
    let subsystems = document.get("subsystems")?.as_array()?.iter();
    let calls = subsystems
        .filter_map(|subsystem| subsystem.get("config")?.as_array())
        .flatten();
    let params = calls.filter_map(|call| call.get("params"));
    let of_bdev = |params: &&Value| params.get("name").is_some_and(|name| name == bdev);
    let size = params
        .filter(of_bdev)
        .find_map(|params| params.get("block_size"));
    size?.as_u64()?.try_into().ok().filter(|&size| size > 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::check::Level;
    use crate::config::tests::minimal_with;

    /// What is found of a log on a file of so many bytes, with blocks of so many, and what else [log] says.
    fn found(bytes: u64, block: u32, keys: &str) -> Report {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("log");
        File::create(&file).unwrap().set_len(bytes).unwrap();
        let spdk = format!(
            r#"{{"subsystems": [{{"subsystem": "bdev", "config": [{{"method": "bdev_aio_create",
            "params": {{"name": "Log0", "filename": "{}", "block_size": {block}}}}}]}}]}}"#,
            file.display()
        );
        let spdk_json = directory.path().join("spdk.json");
        fs::write(&spdk_json, &spdk).unwrap();
        of(&directory, r#"bdev = "Log0""#, keys, &spdk)
    }

    fn of(directory: &TempDir, device: &str, keys: &str, spdk: &str) -> Report {
        let top = format!("cores = [1, 2]\nlog = {{ store = \"log0\"{keys} }}");
        let more =
            format!("[[store]]\nname = \"log0\"\n{device}\n[spdk]\nconfig = \"spdk.json\"\n");
        let program = minimal_with(&top, &more, spdk);
        let mut report = Report::default();
        store(&Host::at(directory.path()), &program, &mut report);
        report
    }

    #[track_caller]
    fn told(report: &Report, level: Level, part: &str) -> String {
        let is_it = |finding: &&crate::check::Finding| {
            finding.level == level && finding.what.contains(part)
        };
        let finding = report.findings.iter().find(is_it);
        let finding = finding.unwrap_or_else(|| panic!("{part:?} is not in\n{report}"));
        assert_eq!(finding.remedy.is_empty(), level == Level::Ok);
        finding.remedy.clone()
    }

    #[test]
    fn s06_check_tells_whether_the_log_s_store_is_large_enough() {
        let fits = found(34 << 20, 512, "");
        told(&fits, Level::Ok, "2 × two halves of 8 MiB");
        told(&fits, Level::Hint, "one log store");
        told(&fits, Level::Hint, "each group of writes costs a flush");
        let remedy = told(
            &found(34 << 20, 512, ", half_mib = 16"),
            Level::No,
            "a log store needs 69206016 bytes, and this one has 35651584",
        );
        assert!(remedy.contains("half_mib = 8"), "{remedy}");
        told(&found(1 << 20, 512, ""), Level::No, "a log store needs");
        let short = found((2 << 20) + (512 << 10), 512, "");
        told(&short, Level::No, "too short for a request of 128 KiB");
    }

    #[test]
    fn s06_check_tells_what_is_wrong_with_the_log_s_store() {
        told(
            &found(34 << 20, 1024, ""),
            Level::No,
            "blocks of 512 or 4096 bytes, not of 1024",
        );
        let directory = TempDir::new().unwrap();
        let spdk = r#"{"subsystems": []}"#;
        let ram = of(&directory, "malloc = { size_mib = 64 }", "", spdk);
        told(&ram, Level::Hint, "is a RAM disk");
        told(&ram, Level::Ok, "no volatile write cache");
        // The program has the drive: nobody can be asked.
        let nvme = r#"nvme = { transport_id = "trtype:PCIe traddr:0000:04:00.0" }"#;
        let drive = of(&directory, nvme, ", half_mib = 64", spdk);
        told(&drive, Level::Ok, "270,532,608 bytes are needed");
        // The kernel has it, and says what it is.
        let disk = directory.path().join("sys/class/block/nvme7n1");
        fs::create_dir_all(disk.join("queue")).unwrap();
        fs::write(disk.join("size"), "69632\n").unwrap();
        fs::write(disk.join("queue/logical_block_size"), "4096\n").unwrap();
        fs::write(disk.join("queue/write_cache"), "write back\n").unwrap();
        let known = of_disk(&Host::at(directory.path()), "nvme7n1");
        assert_eq!(known.size, Some((34 << 20, 4096)));
        assert_eq!(known.caches, Some(true));
    }
}
