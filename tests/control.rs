//! The control socket of a program that runs: what SPDK's users ask it, and its
//! configuration, saved. Needs root and hugepages, as the program does.
#![allow(missing_docs)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const CONFIG: &str = r#"# One shard.
cores = [0]
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
malloc = { size_mib = 8 }
[[subsystem]]
nqn = "nqn.2026-01.com.example:ram0"
namespaces = ["ram0"]
"#;

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
        std::fs::write(&file, format!("{CONFIG}{control}")).unwrap();
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
