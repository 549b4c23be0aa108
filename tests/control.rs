//! The control socket of a program that runs: what SPDK's users ask it, and its
//! configuration, saved. Needs root and hugepages, as the program does.
#![allow(missing_docs)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::OFFER;

struct Program {
    child: Child,
    directory: tempfile::TempDir,
}

impl Program {
    fn start() -> Self {
        let directory = tempfile::TempDir::new().unwrap();
        let socket = directory.path().join("control.sock");
        let control = format!("[control]\nsocket = \"{}\"\n", socket.display());
        let file = directory.path().join("throughline.toml");
        std::fs::write(
            &file,
            format!("# One shard.\ncores = [0]\n{OFFER}{control}"),
        )
        .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_throughline"))
            .args(["run", "--config"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .expect("the program starts");
        let mut program = Self { child, directory };
        program.wait();
        program
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Until every shard polls.
    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self
            .call("throughline_get_stats", json!({}))
            .status
            .success()
        {
            let ended = self.child.try_wait().unwrap();
            let log = std::fs::read_to_string(self.path("log")).unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{ended:?}\n{log}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn throughline(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_throughline"))
            .args(arguments)
            .arg("--socket")
            .arg(self.path("control.sock"))
            .output()
            .expect("the program starts")
    }

    fn call(&self, method: &str, params: Value) -> Output {
        self.throughline(&["rpc", method, &params.to_string()])
    }

    fn result(&self, method: &str, params: Value) -> Value {
        let output = self.call(method, params);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn what_runs_is_shown_and_saved() {
    let program = Program::start();
    let names = program.result("rpc_get_methods", json!({}));
    assert!(
        names
            .as_array()
            .unwrap()
            .contains(&"nvmf_subsystem_add_ns".into())
    );
    let subsystems = program.result("nvmf_get_subsystems", json!({}));
    let subsystem = &subsystems[1];
    assert_eq!(subsystem["nqn"], "nqn.2026-01.com.example:ram0");
    assert_eq!(subsystem["listen_addresses"][0]["traddr"], "192.0.2.1");
    assert_eq!(subsystem["namespaces"][0]["bdev_name"], "ram0");
    let stores = program.result("bdev_get_bdevs", json!({ "name": "ram0" }));
    assert_eq!(stores[0]["claimed"], true);

    let refused = program.call("nvmf_delete_subsystem", json!({ "nqn": "disk9" }));
    assert_eq!(refused.status.code(), Some(1));
    let told = text(&refused.stderr);
    assert!(
        told.contains("there is no subsystem disk9") && told.contains("-32602"),
        "{told}"
    );
    let refused = program.throughline(&["rpc", "nvmf_get_subsystems", "[1]"]);
    assert!(text(&refused.stderr).contains("an object"), "{refused:?}");

    let file = program.path("throughline.toml");
    let shown = program.throughline(&["config", "show"]);
    assert_eq!(text(&shown.stdout), read(&file));
    let saved = program.throughline(&["config", "save"]);
    assert_eq!(
        text(&saved.stdout),
        format!("{}: as it is already\n", file.display())
    );
    let copy = program.path("copy.toml");
    let name = copy.display().to_string();
    let saved = program.throughline(&["config", "save", "--file", &name]);
    assert_eq!(text(&saved.stdout), format!("{name}: saved\n"));
    assert_eq!(read(&copy), read(&file));

    // Somebody edits the file: it is not lost.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, "# edited\n").unwrap();
    let refused = program.throughline(&["config", "save"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("--force"), "{refused:?}");
    assert_eq!(read(&file), "# edited\n");
    assert!(
        program
            .throughline(&["config", "save", "--force"])
            .status
            .success()
    );
    assert_eq!(read(&file), read(&copy));
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Frames of a capture's file, all of them whole.
fn frames(file: &Path) -> usize {
    let bytes = std::fs::read(file).unwrap();
    let mut at = 24;
    let mut count = 0;
    while at < bytes.len() {
        let captured: [u8; 4] = bytes[at + 8..at + 12].try_into().unwrap();
        at += 16 + u32::from_le_bytes(captured) as usize;
        count += 1;
    }
    assert_eq!(at, bytes.len(), "the last frame is cut");
    count
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(status.expect("kill").success());
}

/// A file system of 1 MiB.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Self {
        let directory = tempfile::TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "none"])
            .arg(directory.path())
            .status();
        assert!(mounted.expect("mount").success());
        Self(directory)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// `net_null` receives without end.
#[test]
fn k06_a_capture_tells_what_it_has() {
    let program = Program::start();
    let small = Small::mount();
    let file = small.0.path().join("x.pcap");
    let name = file.display().to_string();
    let capture = ["capture", "--port", "port0", "--seconds", "600", "--file"];
    let ended = program.throughline(&[&capture[..], &[&name]].concat());
    assert_eq!(ended.status.code(), Some(1));
    let told = text(&ended.stderr);
    let kept = frames(&file);
    assert!(kept > 1000, "{kept} frames in 1 MiB");
    for part in [
        &format!("Cannot write more to {name}: No space left on device"),
        &format!("It has {kept} frames of port0"),
    ] {
        assert!(told.contains(part), "{told}");
        assert!(read(&program.path("log")).contains(part), "the log");
    }

    let file = program.path("y.pcap");
    let name = file.display().to_string();
    let interrupted = Command::new(env!("CARGO_BIN_EXE_throughline"))
        .args(capture)
        .args([&name, "--snap", "14", "--socket"])
        .arg(program.path("control.sock"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    testkit::eventually("frames in the file", Duration::from_secs(60), || {
        file.metadata().is_ok_and(|file| file.len() > 24)
    });
    signal(interrupted.id(), "INT");
    let ended = interrupted.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let told = text(&ended.stdout);
    let kept = frames(&file);
    assert!(
        told.starts_with(&format!("{name}: {kept} frames of port0, ")),
        "{kept} frames: {told}"
    );
}

#[test]
fn k06_a_hangup_ends_nothing() {
    let mut program = Program::start();
    signal(program.child.id(), "HUP");
    testkit::eventually("a line in the log", Duration::from_secs(60), || {
        read(&program.path("log")).contains("SIGHUP: going on")
    });
    program.result("throughline_get_stats", json!({}));
    signal(program.child.id(), "TERM");
    assert!(program.child.wait().unwrap().success());
    assert!(!program.path("control.sock").exists());
}
