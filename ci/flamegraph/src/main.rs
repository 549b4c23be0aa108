//! Reads what `perf script` prints and writes a flame graph: `flamegraph TITLE SUBTITLE <script >graph.svg`.
//! Folded stacks, for those who count them, go to the file that a third argument names.

use std::io::{self, BufReader, BufWriter};

use anyhow::Context;
use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options as Folding};
use inferno::flamegraph::{self, Options};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [title, subtitle, rest @ ..] = &arguments[..] else {
        anyhow::bail!(
            "usage: flamegraph TITLE SUBTITLE [FOLDED-FILE] <perf-script-output >graph.svg"
        );
    };
    // Kernel frames are told apart (`_[k]`); what the compiler inlined is told from what it called (`_[i]`).
    let mut folding = Folding::default();
    folding.annotate_kernel = true;
    let mut folded = Vec::new();
    Folder::from(folding)
        .collapse(BufReader::new(io::stdin().lock()), &mut folded)
        .context("cannot read perf's output")?;
    anyhow::ensure!(!folded.is_empty(), "perf recorded no stacks");
    if let Some(file) = rest.first() {
        std::fs::write(file, &folded).with_context(|| format!("cannot write {file}"))?;
    }
    let mut options = Options::default();
    options.title.clone_from(title);
    options.subtitle = Some(subtitle.clone());
    options.count_name = "samples".into();
    options.image_width = Some(1600);
    options.min_width = 0.05;
    options.colors = flamegraph::color::Palette::Multi(flamegraph::color::MultiPalette::Rust);
    flamegraph::from_reader(
        &mut options,
        &folded[..],
        BufWriter::new(io::stdout().lock()),
    )
    .context("cannot draw the graph")
}
