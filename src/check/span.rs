//! Stores that lie on several others (row R8): do those make one, and of which size?

use engine::{SPAN_UNIT, Span, SpanConfig};

use super::{Report, log};
use crate::config::Program;
use crate::host::Host;
use crate::text;

/// Do a store's stores fit together, as far as is known before the program has them?
pub(super) fn store(host: &Host, program: &Program, span: &SpanConfig, report: &mut Report) {
    let topic = format!("store {}", span.name);
    let find = |name: &String| {
        program
            .engine
            .stores
            .iter()
            .find(|store| store.name == *name)
    };
    let stores = span.stores.iter().filter_map(find);
    let sizes: Vec<_> = stores
        .map(|store| (&store.name, log::known(host, program, store).size))
        .collect();
    let known = || sizes.iter().filter_map(|&(name, size)| Some((name, size?)));
    let blocks = |(name, (_, block)): (&String, (u64, u32))| (name.clone(), block);
    if let Some((first, block)) = known().next().map(blocks)
        && let Some((other, its)) = known().map(blocks).find(|&(_, its)| its != block)
    {
        report.no(
            &topic,
            format!("blocks of {block} bytes on {first}, and of {its} on {other}"),
            "let it lie on stores with blocks of one size",
        );
        return;
    }
    if let Some((short, _)) = known().find(|&(_, (bytes, _))| bytes < SPAN_UNIT) {
        report.no(
            &topic,
            format!("store {short} has less than {}", text::bytes(SPAN_UNIT)),
            "leave it out",
        );
        return;
    }
    let given = |(place, &(_, size)): (usize, &(_, Option<(u64, u32)>))| {
        let (bytes, _) = size?;
        Some(Span::given(bytes, place + 1 == sizes.len()))
    };
    let len: Option<u64> = sizes.iter().enumerate().map(given).sum();
    let size = len.map_or("as large as they are".into(), text::bytes);
    report.ok(&topic, format!("on {}: {size}", span.stores.join(", ")));
}
