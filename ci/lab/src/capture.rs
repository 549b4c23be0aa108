//! Captures of frames, as tcpdump reads them.

use std::path::Path;

use crate::{Result, Test, Tool};

/// The frames of a file that fit a filter of tcpdump's (all of them when it is
/// empty), a line each that begins with the time in seconds.
///
/// # Errors
///
/// tcpdump is not here, or cannot read the file.
#[track_caller]
pub fn frames(test: &Test, file: &Path, filter: &str) -> Result<Vec<String>> {
    test.needs("tcpdump")?;
    let tool = Tool::new(test, "tcpdump").args(["-Z", "root", "-n", "-tt", "-r"]);
    let read = tool.arg(file).args(filter.split_whitespace()).succeeds()?;
    Ok(read.stdout.lines().map(String::from).collect())
}
