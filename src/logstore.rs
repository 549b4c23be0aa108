//! A log that no program uses: what it has, and what a start would do with it. Reads, and never writes.

mod show;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use engine::StoreDevice;
use nvlog::recovery::{self, Buffer, Opened, Refusal, Store, Survey};
use serde::Serialize;

use crate::config::{Program, transport_pci};

/// What was found.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Shown {
    /// Where it lies.
    file: PathBuf,
    /// Bytes of that.
    bytes: u64,
    /// The log, if there is one that can be opened.
    log: Option<Log>,
    /// Why a start would not take it.
    pub(crate) refusal: Option<String>,
}

/// A log, as its superblocks and groups say.
#[derive(Debug, PartialEq, Serialize)]
struct Log {
    id: String,
    generation: u64,
    block_size: u32,
    half_bytes: u64,
    placement: u32,
    volumes: Vec<Volume>,
    regions: Vec<Region>,
    /// What a replay would do.
    replay: Replay,
}

#[derive(Debug, PartialEq, Serialize)]
struct Volume {
    name: String,
    /// The volume that it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    part_of: Option<String>,
    identity: String,
    bytes: u64,
    block_size: u32,
    records: u64,
    /// Those of them that write zeros, and those that deallocate.
    zeroes: u64,
    deallocations: u64,
    record_bytes: u64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Region {
    generation: u64,
    oldest_half: u8,
    epochs: [u64; 2],
    /// Bytes of groups in each half.
    used: [u64; 2],
    /// Numbers of the first group, and of the one after the last.
    first_group: u64,
    end_group: u64,
    acknowledged: u64,
    groups: u64,
    records: u64,
    record_bytes: u64,
    torn_bytes: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Replay {
    groups: u64,
    records: u64,
    bytes: u64,
    torn_bytes: u64,
    read_bytes: u64,
}

/// A file or block device, for reading.
struct LogFile(File);

struct Bytes(Vec<u8>);

impl Buffer for Bytes {
    fn slices(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.0[range])
    }
}

impl Store for LogFile {
    type Buffer = Bytes;
    type Error = io::Error;

    async fn read(&self, at: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; len];
        self.0.read_exact_at(&mut bytes, at)?;
        Ok(Bytes(bytes))
    }

    async fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    async fn flush(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// The file or block device that a configuration's store lies in; that of its log, if none is named.
pub(crate) fn file_of(program: &Program, store: Option<&str>) -> anyhow::Result<PathBuf> {
    let name = match (store, &program.engine.log) {
        (Some(store), _) => store,
        (None, Some(log)) => log.stores[0].name.as_str(),
        (None, None) => bail!("the configuration has no [log]; name a store, or a file"),
    };
    let stores = &program.engine.stores;
    if let Some(span) = program.engine.spans.iter().find(|span| span.name == name) {
        bail!(
            "store {name} lies on {}, and the log on none of those: name the log's store",
            span.stores.join(", ")
        );
    }
    let config = (stores.iter().find(|store| store.name == name)).with_context(|| {
        let names: Vec<_> = stores.iter().map(|store| store.name.as_str()).collect();
        format!(
            "there is no store {name:?} in the configuration, which has {}",
            names.join(", ")
        )
    })?;
    match &config.device {
        StoreDevice::Bdev(bdev) => {
            let is_malloc = program.known_stores.iter().any(|known| known.name == name);
            ensure!(
                !is_malloc,
                "store {name} is a RAM disk: what it had is gone with the program"
            );
            let file = program.bdev_files.iter().find(|(known, _)| known == bdev);
            let (_, file) = file.with_context(|| {
                format!(
                    "store {name} is bdev {bdev}, which is not made of a file or block device by itself; name what it lies on"
                )
            })?;
            Ok(file.clone())
        }
        StoreDevice::Nvme { transport_id, nsid } => match transport_pci(transport_id) {
            Some(address) => bail!(
                "store {name} is a drive that the program drives itself: give it to the kernel with `throughline unbind {address}`, name its block device (namespace {nsid}, such as /dev/nvme0n{nsid}), and bind it again before the program starts"
            ),
            None => bail!(
                "store {name} is on a fabric ({transport_id}): connect to it with `nvme connect`, name the block device that comes (namespace {nsid}), and disconnect before the program starts"
            ),
        },
    }
}

/// Looks at what lies in `path`. `stores`: those that there are, where that is known.
pub(crate) fn look(path: &Path, stores: Option<&[&str]>) -> anyhow::Result<Shown> {
    let reading = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let kind = file.metadata().with_context(reading)?.file_type();
    ensure!(
        kind.is_file() || kind.is_block_device(),
        "{} is neither a file nor a block device",
        path.display()
    );
    let bytes = file.seek(SeekFrom::End(0)).with_context(reading)?;
    let store = LogFile(file);
    let mut shown = Shown {
        file: path.to_owned(),
        bytes,
        log: None,
        refusal: None,
    };
    let opened = match recovery::at_once(recovery::open(&store, bytes)) {
        Ok(Some(opened)) => opened,
        Ok(None) => return Ok(shown),
        Err(Refusal::Failed(error)) => return Err(error).with_context(reading),
        Err(refusal) => {
            shown.refusal = Some(refusal.to_string());
            return Ok(shown);
        }
    };
    let survey = match recovery::at_once(recovery::survey(&store, &opened)) {
        Ok(survey) => survey,
        Err(Refusal::Failed(error)) => return Err(error).with_context(reading),
        Err(refusal) => bail!("{refusal}"),
    };
    shown.refusal = refusal(&opened, &survey, stores);
    shown.log = Some(Log::new(&opened, &survey));
    Ok(shown)
}

/// Why a start would not replay it.
fn refusal(opened: &Opened, survey: &Survey, stores: Option<&[&str]>) -> Option<String> {
    let losses = survey.losses();
    if !losses.is_empty() {
        return Some(Refusal::<io::Error>::Lost(losses).to_string());
    }
    let stores = stores?;
    let volumes = opened.superblock.volumes.iter().zip(&survey.volumes);
    let absent =
        volumes.filter(|(volume, has)| has.records > 0 && !stores.contains(&volume.name.as_str()));
    let names: Vec<&str> = absent.map(|(volume, _)| volume.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "it has records of stores that the configuration lacks: {}",
            names.join(", ")
        )
    })
}

impl Log {
    fn new(opened: &Opened, survey: &Survey) -> Self {
        let superblock = &opened.superblock;
        let volumes = superblock.volumes.iter().zip(&survey.volumes);
        let regions = opened.regions.iter().zip(&survey.regions);
        let total = survey.total();
        Self {
            id: hex(&superblock.log.0),
            generation: superblock.generation,
            block_size: superblock.layout.block,
            half_bytes: superblock.layout.half_len,
            placement: superblock.placement,
            volumes: volumes
                .map(|(volume, has)| Volume {
                    name: volume.name.clone(),
                    part_of: volume.part_of.and_then(|part| {
                        let span = superblock.volumes.get(usize::from(part.span));
                        span.map(|span| span.name.clone())
                    }),
                    identity: hex(&volume.identity),
                    bytes: volume.len,
                    block_size: volume.block,
                    records: has.records,
                    zeroes: has.zeroes,
                    deallocations: has.deallocations,
                    record_bytes: has.bytes,
                })
                .collect(),
            regions: regions
                .map(|(superblock, has)| Region {
                    generation: superblock.generation,
                    oldest_half: superblock.oldest,
                    epochs: superblock.epochs,
                    used: has.used,
                    first_group: has.groups.start,
                    end_group: has.groups.end,
                    acknowledged: has.acknowledged,
                    groups: has.done.groups,
                    records: has.done.records,
                    record_bytes: has.done.bytes,
                    torn_bytes: has.done.torn,
                })
                .collect(),
            replay: Replay {
                groups: total.groups,
                records: total.records,
                bytes: total.bytes,
                torn_bytes: total.torn,
                read_bytes: total.read,
            },
        }
    }
}

fn hex(bytes: &[u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
