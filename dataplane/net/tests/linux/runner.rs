//! Runs the tests one after the other, and reports as `cargo test`'s own
//! harness does: that one cannot decide at run time that a test has not run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::place::{self, Means, Namespace};

/// What the command line said.
pub struct Options {
    /// Repeat, and hold the medians against Linux's.
    pub ratios: bool,
    /// Report counters of the stack and the wires, too.
    pub verbose: bool,
    pub means: Means,
}

/// A test's name, and what it does: its report, or why it failed.
pub type Test = (
    &'static str,
    Box<dyn Fn(&Options) -> Result<String, String>>,
);

/// Runs the tests that the command line asks for; ends the process.
pub fn main(tests: Vec<Test>) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let filters: Vec<&String> = (arguments.iter())
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let wanted = |name: &str| {
        let exact = flag("--exact");
        let fits = |filter: &&String| {
            if exact {
                name == filter.as_str()
            } else {
                name.contains(filter.as_str())
            }
        };
        filters.is_empty() || filters.iter().any(fits)
    };
    let tests: Vec<Test> = tests.into_iter().filter(|(name, _)| wanted(name)).collect();
    if flag("--list") {
        for (name, _) in tests {
            println!("{name}: test");
        }
        return;
    }
    println!("\nrunning {} tests", tests.len());
    let start = Instant::now();
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    let mut means = None;
    match Namespace::new() {
        Ok(_) => means = Some(place::means()),
        Err(error) => {
            ignored = tests.len();
            for (name, _) in &tests {
                println!("test {name} ... ignored, needs root and network namespaces: {error}");
            }
        }
    }
    if let Some(means) = means {
        if means == Means::Wire {
            println!("  this kernel has no netem: a wire of ours stands in for it, for both");
        }
        let options = Options {
            ratios: flag("--ratios"),
            verbose: flag("--verbose"),
            means,
        };
        for (name, test) in &tests {
            let result = catch_unwind(AssertUnwindSafe(|| test(&options)));
            match result.unwrap_or_else(|_| Err("it panicked".into())) {
                Ok(report) => {
                    passed += 1;
                    println!("test {name} ... ok\n{}", report.trim_end());
                }
                Err(error) => {
                    failed += 1;
                    println!("test {name} ... FAILED\n{}", error.trim_end());
                }
            }
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; \
         0 measured; 0 filtered out; finished in {:.2}s\n",
        start.elapsed().as_secs_f64()
    );
    if failed > 0 {
        std::process::exit(101);
    }
}
