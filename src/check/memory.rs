//! Hugepages: what a configuration needs, and what there is.

use super::Report;
use crate::config::Program;
use crate::host::Host;
use crate::text;

/// The drop-in that this program, `ci/setup` and operators all use.
const HUGEPAGES_CONF: &str = include_str!("../../hugepages.conf");
pub(super) const HUGEPAGE_MIB: u64 = 2;
const PAGE: u64 = 4096;

/// MiB of hugepages one shard takes.
pub(super) fn of_shard(program: &Program) -> u64 {
    let memory = &program.engine.memory;
    let clusters = u64::from(memory.clusters) * u64::from(memory.cluster_size);
    // One page of zeros beside them, and each shard's arena ends on a hugepage.
    let bytes = clusters.next_multiple_of(PAGE) + (u64::from(memory.pages) + 1) * PAGE;
    bytes.div_ceil(HUGEPAGE_MIB << 20) * HUGEPAGE_MIB
}

/// MiB of hugepages a configuration takes, a line per consumer.
pub(super) fn needs(program: &Program) -> Vec<(String, u64)> {
    let engine = &program.engine;
    let memory = &engine.memory;
    let shard = of_shard(program);
    let shards = engine.cores.len() as u64;
    let malloc = u64::from(program.malloc_mib);
    let native = u64::from(engine.native_memory_mib);
    let mut needs = vec![
        (
            format!(
                "{shards} × ({} clusters of {} + {} pages)",
                text::grouped(memory.clusters.into()),
                text::bytes(memory.cluster_size.into()),
                text::grouped(memory.pages.into())
            ),
            shard * shards,
        ),
        (
            "DPDK and SPDK".into(),
            native.saturating_sub(malloc).next_multiple_of(HUGEPAGE_MIB),
        ),
    ];
    if malloc > 0 {
        needs.push((
            "malloc stores".into(),
            malloc.next_multiple_of(HUGEPAGE_MIB),
        ));
    }
    needs
}

/// Are there hugepages enough for this configuration?
pub(super) fn enough(host: &Host, program: &Program, report: &mut Report) {
    const TOPIC: &str = "hugepages";
    let needs = needs(program);
    let sum: u64 = needs.iter().map(|(_, mib)| mib).sum();
    let parts: Vec<String> = needs
        .iter()
        .map(|(what, mib)| format!("{mib} MiB {what}"))
        .collect();
    let what = format!("{sum} MiB needed: {}", parts.join(", "));
    let Some(hugepages) = host.hugepages() else {
        report.no(
            TOPIC,
            "the kernel has no 2 MiB hugepages",
            "use a kernel with CONFIG_HUGETLBFS",
        );
        return;
    };
    let (total, free) = (
        hugepages.total * HUGEPAGE_MIB,
        hugepages.free * HUGEPAGE_MIB,
    );
    if free >= sum {
        report.ok(TOPIC, format!("{what}; {free} MiB free of {total}"));
        return;
    }
    let what = format!("{what}; only {free} MiB free of {total}");
    let wanted = (total - free.min(total) + sum).div_ceil(HUGEPAGE_MIB);
    let conf = if wanted <= reserved_by_default() {
        "sysctl -p hugepages.conf".to_owned()
    } else {
        format!("write vm.nr_hugepages = {wanted} in hugepages.conf, then sysctl -p hugepages.conf")
    };
    let missing = sum - free;
    let remedy = match host.available_mib() {
        Some(available) if available < missing => format!(
            "lower [memory] in the configuration: {missing} MiB are missing and the machine has only \
            {available} MiB of memory left"
        ),
        _ => format!("{conf}; or lower [memory] in the configuration"),
    };
    report.no(TOPIC, what, remedy);
}

/// Are hugepages reserved as `hugepages.conf` says?
pub(super) fn reserved(host: &Host, report: &mut Report) {
    const TOPIC: &str = "hugepages";
    let wanted = reserved_by_default();
    match host.hugepages() {
        None => {
            report.no(
                TOPIC,
                "the kernel has no 2 MiB hugepages",
                "use a kernel with CONFIG_HUGETLBFS",
            );
        }
        Some(pages) if pages.total == 0 => {
            let remedy =
                "sysctl -p hugepages.conf; copy it to /etc/sysctl.d/ to keep them over a restart";
            report.no(TOPIC, "none are reserved", remedy);
        }
        Some(pages) => {
            let (total, free) = (pages.total * HUGEPAGE_MIB, pages.free * HUGEPAGE_MIB);
            let what = format!("{total} MiB reserved, {free} MiB free");
            if pages.total < wanted {
                let what = format!("{what}; hugepages.conf has {} MiB", wanted * HUGEPAGE_MIB);
                report.hint(
                    TOPIC,
                    what,
                    "sysctl -p hugepages.conf; --config tells what one needs",
                );
            } else {
                report.ok(TOPIC, what);
            }
        }
    }
}

/// Pages that `hugepages.conf` reserves.
pub(super) fn reserved_by_default() -> u64 {
    let value = |line: &str| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "vm.nr_hugepages")
            .then(|| value.trim().parse().ok())
            .flatten()
    };
    HUGEPAGES_CONF.lines().find_map(value).unwrap_or(0)
}
