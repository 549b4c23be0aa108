//! `[[store]]`: block devices by name.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use engine::{SpanConfig, StoreConfig, StoreDevice};

use super::ports::accept;
use super::reader::{Item, Section, nearest};
use super::values;

/// A RAM disk to create, as `bdev_malloc_create` takes it.
pub(super) struct Malloc {
    pub(super) name: String,
    pub(super) size_mib: u32,
    pub(super) block_size: u32,
}

impl Malloc {
    pub(super) fn blocks(&self) -> u64 {
        (u64::from(self.size_mib) << 20) / u64::from(self.block_size.max(1))
    }
}

/// A store that lies on several others.
struct Span {
    config: SpanConfig,
    place: Range<usize>,
    /// Where each of those is named.
    named: Vec<Range<usize>>,
}

/// The stores, and what creating them takes.
pub(super) struct Stores {
    list: Vec<(StoreConfig, Range<usize>)>,
    spans: Vec<Span>,
    pub(super) mallocs: Vec<Malloc>,
    /// Bdevs that something else must create, and where they are named.
    pub(super) bdevs: Vec<(String, Range<usize>)>,
}

impl Stores {
    pub(super) fn names(&self) -> Vec<&str> {
        let stores = self.list.iter().map(|(store, _)| store.name.as_str());
        let spans = self.spans.iter().map(|span| span.config.name.as_str());
        stores.chain(spans).collect()
    }

    /// The name of the store that lies on this one and others.
    pub(super) fn span_on(&self, store: &str) -> Option<&str> {
        let mut spans = self.spans.iter().map(|span| &span.config);
        let span = spans.find(|span| span.stores.iter().any(|name| name == store))?;
        Some(&span.name)
    }

    pub(super) fn is_span(&self, store: &str) -> bool {
        self.spans.iter().any(|span| span.config.name == store)
    }

    /// Each store's name and its place in the file.
    pub(super) fn places(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        let stores = self.list.iter();
        let stores = stores.map(|(store, place)| (store.name.as_str(), place.clone()));
        let spans = self.spans.iter();
        stores.chain(spans.map(|span| (span.config.name.as_str(), span.place.clone())))
    }

    pub(super) fn malloc_mib(&self) -> u32 {
        self.mallocs
            .iter()
            .fold(0, |sum, malloc| sum.saturating_add(malloc.size_mib))
    }

    /// RAM disks are what they are asked to be.
    pub(super) fn known(&self) -> Vec<engine::KnownStore> {
        let known = |malloc: &Malloc| engine::KnownStore {
            name: malloc.name.clone(),
            block_size: malloc.block_size,
            blocks: malloc.blocks(),
        };
        self.mallocs.iter().map(known).collect()
    }

    pub(super) fn pci_addresses(&self) -> impl Iterator<Item = String> {
        self.list
            .iter()
            .filter_map(|(store, _)| match &store.device {
                StoreDevice::Nvme { transport_id, .. } => values::transport_pci(transport_id),
                StoreDevice::Bdev(_) => None,
            })
    }

    pub(super) fn configs(&self) -> Vec<StoreConfig> {
        self.list.iter().map(|(store, _)| store.clone()).collect()
    }

    pub(super) fn spans(&self) -> Vec<SpanConfig> {
        self.spans.iter().map(|span| span.config.clone()).collect()
    }

    /// Refuses what cannot be of stores that lie on others.
    fn check_spans(&self, root: &Section<'_>) {
        let mut earlier: Vec<(&str, &str)> = Vec::new();
        for span in &self.spans {
            let whole = span.config.name.as_str();
            for (name, at) in span.config.stores.iter().zip(&span.named) {
                let report = |message: String, help: &str| root.report(at.clone(), message, help);
                if self.is_span(name) {
                    let message = format!("store `{name}` lies on others itself");
                    report(message, "name the stores that are devices, in their order");
                } else if !self.list.iter().any(|(store, _)| store.name == *name) {
                    let known: Vec<_> = self.list.iter().map(|(s, _)| s.name.as_str()).collect();
                    let help = match nearest(name, &known) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("add `[[store]]` with `name = \"{name}\"`"),
                    };
                    report(format!("there is no store `{name}`"), &help);
                }
                let before = earlier.iter().find(|(before, _)| before == name);
                match before {
                    Some((_, other)) if *other == whole => {
                        report(format!("store `{name}` is named twice"), "leave one out");
                    }
                    Some((_, other)) => {
                        let message = format!("store `{name}` is a part of `{other}` already");
                        report(message, "leave it out of one: a device has one owner");
                    }
                    None => earlier.push((name, whole)),
                }
            }
            self.check_blocks(root, span);
        }
    }

    /// RAM disks are known to have the blocks that they are asked to have.
    fn check_blocks(&self, root: &Section<'_>, span: &Span) {
        let size = |name: &String| self.mallocs.iter().find(|malloc| malloc.name == *name);
        let named = span.config.stores.iter().zip(&span.named);
        let mut sizes = named.filter_map(|(name, at)| Some((name, size(name)?.block_size, at)));
        let Some((first, block, _)) = sizes.next() else {
            return;
        };
        for (name, other, at) in sizes.filter(|&(_, other, _)| other != block) {
            root.report(
                at.clone(),
                format!("blocks of {other} bytes on `{name}`, and of {block} on `{first}`"),
                "stores that one lies on have the same `block_size`",
            );
        }
    }
}

const EXAMPLES: &str = "write `malloc = { size_mib = 256 }`, `bdev = \"Nvme0n1\"`, \
    `nvme = { transport_id = \"trtype:PCIe traddr:0000:01:00.0\" }`, or `span = [\"disk0\", \"disk1\"]`";

pub(super) fn read(root: &Section<'_>) -> Stores {
    let sections = root.tables("store");
    if sections.is_empty() && root.get("store").is_none() {
        root.report(
            0..0,
            "there is no store",
            "add `[[store]]` with `name = \"disk0\"` and `malloc = { size_mib = 256 }`",
        );
    }
    let mut stores = Stores {
        list: Vec::new(),
        spans: Vec::new(),
        mallocs: Vec::new(),
        bdevs: Vec::new(),
    };
    let mut names = HashSet::new();
    for section in sections {
        read_store(section, &mut stores, &mut names);
    }
    stores.check_spans(root);
    for (index, (store, span)) in stores.list.iter().enumerate() {
        let earlier = stores.list[..index]
            .iter()
            .find(|(other, _)| same_device(other, store));
        if let Some((other, _)) = earlier {
            root.report(
                span.clone(),
                format!(
                    "store `{}` is the same device as `{}`",
                    store.name, other.name
                ),
                "leave one out: a device has one owner",
            );
        }
    }
    stores
}

fn same_device(a: &StoreConfig, b: &StoreConfig) -> bool {
    match (&a.device, &b.device) {
        (
            StoreDevice::Nvme {
                transport_id: a,
                nsid: x,
            },
            StoreDevice::Nvme {
                transport_id: b,
                nsid: y,
            },
        ) => {
            let pci = values::transport_pci(a);
            x == y && (a == b || pci.is_some() && pci == values::transport_pci(b))
        }
        (a, b) => a == b,
    }
}

fn read_store(section: Section<'_>, stores: &mut Stores, names: &mut HashSet<String>) {
    let mut name = String::new();
    if let Some(item) = section.require("name", "\"disk0\"")
        && let Some(text) = item.string("disk0")
    {
        name = text.to_owned();
        accept(&item, values::name(&name));
        if !names.insert(name.clone()) {
            item.report(format!("two stores are called `{name}`"), "rename one");
        }
    }
    let ways = [
        section.get("bdev"),
        section.get("malloc"),
        section.get("nvme"),
        section.get("span"),
    ];
    let given = ways.iter().flatten().count();
    if given != 1 {
        let message = match given {
            0 => "the store does not say which device it is",
            _ => "the store is several devices at once",
        };
        let span = ways
            .iter()
            .flatten()
            .nth(1)
            .map_or(section.span.clone(), |i| i.span.clone());
        section.report(span, message, EXAMPLES);
    }
    let [bdev, malloc, nvme, span] = ways;
    if given == 1
        && let Some(item) = span
    {
        let span = read_span(&item, name, section.span.clone());
        stores.spans.push(span);
        return section.finish();
    }
    let device = if let Some(item) = bdev {
        let bdev = read_bdev(&item);
        if given == 1 {
            stores
                .bdevs
                .extend(bdev.clone().map(|bdev| (bdev, item.span.clone())));
        }
        bdev.map(StoreDevice::Bdev)
    } else if let Some(item) = malloc {
        stores.mallocs.extend(read_malloc(&item, &name));
        Some(StoreDevice::Bdev(name.clone()))
    } else {
        nvme.as_ref().and_then(read_nvme)
    };
    let timeout = section.integer("timeout_s", 0..=3600, StoreConfig::TIMEOUT.as_secs() as u32);
    let timeout = (timeout > 0).then(|| Duration::from_secs(timeout.into()));
    let span = section.span.clone();
    section.finish();
    // A broken device still lends its name to namespaces, for no second message.
    let device = device.unwrap_or(StoreDevice::Bdev(format!("\0{}", stores.list.len())));
    stores.list.push((
        StoreConfig {
            name,
            device,
            timeout,
        },
        span,
    ));
}

fn read_span(item: &Item<'_>, name: String, place: Range<usize>) -> Span {
    const EXAMPLE: &str = "[\"disk0\", \"disk1\"]";
    if item.is_empty_array() {
        item.report(
            "the store lies on no other",
            format!("write `span = {EXAMPLE}`, in the order of their data, or leave the store out"),
        );
    }
    let (mut stores, mut named) = (Vec::new(), Vec::new());
    for element in item.elements(EXAMPLE) {
        if let Some(text) = element.string("disk0") {
            stores.push(text.to_owned());
            named.push(element.span.clone());
        }
    }
    Span {
        config: SpanConfig { name, stores },
        place,
        named,
    }
}

fn read_bdev(item: &Item<'_>) -> Option<String> {
    let text = item.string("Nvme0n1")?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        item.report(
            "that is not a bdev's name",
            "write the name SPDK's configuration gives it",
        );
        return None;
    }
    Some(text.to_owned())
}

fn read_malloc(item: &Item<'_>, name: &str) -> Option<Malloc> {
    let table = item.table("malloc")?;
    let mut malloc = Malloc {
        name: name.to_owned(),
        size_mib: 0,
        block_size: 512,
    };
    if let Some(size) = table.require("size_mib", "256")
        && let Some(size) = size.integer(1..=1 << 20, 256)
    {
        malloc.size_mib = size;
    }
    if let Some(size) = (table.get("block_size")).and_then(|item| read_block_size(&item)) {
        malloc.block_size = size;
    }
    table.finish();
    Some(malloc)
}

/// Bytes of a block.
pub(super) fn read_block_size(item: &Item<'_>) -> Option<u32> {
    let size = item.integer(0..=u32::MAX, 512)?;
    if ![512, 4096].contains(&size) {
        item.report("a block has 512 or 4096 bytes", "write `block_size = 512`");
    }
    Some(size)
}

fn read_nvme(item: &Item<'_>) -> Option<StoreDevice> {
    let table = item.table("nvme")?;
    let transport = table.require("transport_id", "\"trtype:PCIe traddr:0000:01:00.0\"");
    let nsid = table.integer("nsid", 1..=u32::MAX - 1, 1);
    table.finish();
    let transport = transport?;
    let text = transport.string("trtype:PCIe traddr:0000:01:00.0")?;
    accept(&transport, values::transport_id(text))?;
    Some(StoreDevice::Nvme {
        transport_id: text.to_owned(),
        nsid,
    })
}
