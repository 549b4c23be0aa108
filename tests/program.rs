//! The program from outside, as far as it goes without hugepages: what it
//! prints, and how it ends. The lab has the rest.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn throughline(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_throughline"))
        .args(arguments)
        .env_remove("THROUGHLINE_LOG")
        .env_remove("JOURNAL_STREAM")
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file that goes with the test.
struct File(tempfile::TempDir);

impl File {
    fn new(text: &str) -> Self {
        let file = Self(tempfile::TempDir::new().expect("a directory"));
        std::fs::write(file.path(), text).expect("a file");
        file
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("throughline.toml")
    }

    fn name(&self) -> String {
        self.path().display().to_string()
    }
}

#[test]
fn k06_it_says_what_it_is_and_what_it_can() {
    let version = throughline(&["--version"]);
    assert!(version.status.success());
    assert_eq!(
        text(&version.stdout),
        concat!("throughline ", env!("CARGO_PKG_VERSION"), "\n")
    );
    let help = throughline(&["--help"]);
    assert!(help.status.success());
    for command in ["run", "check", "stats", "top", "stop"] {
        assert!(
            text(&help.stdout).contains(&format!("\n  {command} ")),
            "{command}"
        );
    }
    let wrong = throughline(&["chekc"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        text(&wrong.stderr).contains("check"),
        "{}",
        text(&wrong.stderr)
    );
}

#[test]
fn k06_the_helps_example_is_a_good_configuration() {
    let help = text(&throughline(&["--help"]).stdout);
    let example: String = help
        .lines()
        .skip_while(|line| !line.starts_with("  cores"))
        .take_while(|line| !line.is_empty())
        .map(|line| line.trim_start().to_owned() + "\n")
        .collect();
    let file = File::new(&example.replace("cores = [1]", "cores = [0]"));
    let checked = throughline(&["check", "--json", "--config", &file.name()]);
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    let topics: Vec<&str> = report["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|f| f["topic"].as_str())
        .collect();
    assert!(!topics.contains(&"config"), "{report:#}");
    assert!(topics.contains(&"hugepages"), "{report:#}");
}

#[test]
fn k06_a_mistake_is_told_with_its_line() {
    let file = File::new("cores = [0]\n[[prot]]\n");
    for command in [&["check"][..], &["run"], &["stats"], &["stop"]] {
        let name = file.name();
        let told = throughline(&[command, &["--config", &name]].concat());
        assert_eq!(told.status.code(), Some(1), "{command:?}");
        let said = text(&told.stdout) + &text(&told.stderr);
        assert!(
            said.contains(&format!("{name}:2:3: unknown key `prot`")),
            "{command:?}: {said}"
        );
        assert!(said.contains("did you mean `port`?"), "{command:?}: {said}");
    }
}

#[test]
fn k06_a_machine_that_lacks_a_device_is_not_ready() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/throughline.toml");
    let example = std::fs::read_to_string(example).expect("the example");
    let example = example
        .replace("cores = [1]", "cores = [0]")
        .replace("0000:01:00.0", "ffff:01:00.0")
        .replace("bdev = \"Aio0\"", "malloc = { size_mib = 8 }")
        .replace("bdev = \"Pmem0\"", "malloc = { size_mib = 64 }")
        .replace("config = \"spdk.json\"", "");
    let file = File::new(&example);
    let checked = throughline(&["check", "--config", &file.name()]);
    let said = text(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(
        said.contains("there is no PCI device ffff:01:00.0"),
        "{said}"
    );
    assert!(said.contains("→ `lspci -D`"), "{said}");
    assert!(said.contains("Not ready"), "{said}");
}

#[test]
fn k06_nobody_home_is_told_so() {
    for command in ["stats", "top", "stop"] {
        let told = throughline(&[command, "--socket", "/nonexistent/throughline.sock"]);
        assert_eq!(told.status.code(), Some(1));
        assert!(
            text(&told.stderr).contains("is `throughline run` running?"),
            "{}",
            text(&told.stderr)
        );
    }
    let told = throughline(&["run", "--config", "/nonexistent.toml"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(
        text(&told.stderr).contains("cannot read the configuration"),
        "{}",
        text(&told.stderr)
    );
}
