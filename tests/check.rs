//! What `throughline check` says of a configuration, and what `throughline run` does
//! with it. Needs root and hugepages, as the program does.
#![allow(missing_docs)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A configuration on a port that needs nothing of the machine.
fn config(directory: &Path) -> String {
    format!(
        r#"cores = [0]
[[port]]
device = "net_null0"
addresses = ["192.0.2.1/24"]
[memory]
clusters = 4096
pages = 1024
requests = 32
connections = 8
native_mib = 128
[[store]]
name = "ram0"
malloc = {{ size_mib = 8 }}
[[subsystem]]
nqn = "nqn.2026-01.com.example:ram0"
namespaces = ["ram0"]
[control]
socket = "{}"
"#,
        directory.join("s").display()
    )
}

fn throughline(subcommand: &str, file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_throughline"));
    command.arg(subcommand).arg("--config").arg(file);
    command
}

fn output(subcommand: &str, file: &Path) -> Output {
    throughline(subcommand, file)
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Each of these was "Ready." once, and ended `run` at its start.
#[test]
fn k06_what_ends_run_at_its_start_is_no_for_check() {
    let directory = tempfile::TempDir::new().unwrap();
    let good = config(directory.path());
    let socket = format!("\"{}\"", directory.path().join("s").display());
    let occupied = directory.path().join("a file");
    std::fs::write(&occupied, "precious").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let metrics = |at: &str| format!("{socket}\nmetrics = \"{at}\"");
    let cases = [
        (
            "\"net_null0\"",
            "\"lo\"".into(),
            "lo has no Ethernet address",
        ),
        (
            "[memory]",
            "[target]\nmax_io_kib = 4\n[memory]".into(),
            "write a number from 8 to 1024",
        ),
        (
            &socket,
            format!("\"{}\"", occupied.display()),
            "exists and is not a socket",
        ),
        (
            &socket,
            format!("\"{}\"", directory.path().display()),
            "exists and is not a socket",
        ),
        (
            &socket,
            metrics(&taken.to_string()),
            "cannot listen for scrapes",
        ),
        (
            &socket,
            metrics("192.0.2.1:9464"),
            "no address of this system's",
        ),
    ];
    for (from, to, why) in cases {
        let file = directory.path().join("t.toml");
        std::fs::write(&file, good.replacen(from, &to, 1)).unwrap();
        for subcommand in ["check", "run"] {
            let ended = output(subcommand, &file);
            let told = text(&ended.stdout) + &text(&ended.stderr);
            assert_eq!(ended.status.code(), Some(1), "{subcommand}: {told}");
            assert!(told.contains(why), "{subcommand}, {why}: {told}");
        }
    }
    assert_eq!(std::fs::read_to_string(&occupied).unwrap(), "precious");
}

/// The smallest number of clusters that may be written is one that works.
#[test]
fn k06_what_is_ready_runs() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("t.toml");
    let least = config(directory.path()).replace("clusters = 4096", "clusters = 256");
    std::fs::write(&file, least).unwrap();
    let checked = output("check", &file);
    let told = text(&checked.stdout);
    assert!(checked.status.success(), "{told}");
    assert!(told.ends_with("\nReady.\n"), "{told}");

    let log = directory.path().join("log");
    let mut running = throughline("run", &file)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .expect("the program starts");
    let deadline = Instant::now() + Duration::from_secs(120);
    let said = || std::fs::read_to_string(&log).unwrap();
    while !said().contains(" ready: ") {
        let ended = running.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < deadline, "{}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
    // While it runs nothing else can be made of its file.
    let second = output("check", &file);
    assert!(!second.status.success(), "{}", text(&second.stdout));
    assert!(output("stop", &file).status.success());
    assert!(running.wait().unwrap().success(), "{}", said());
}
