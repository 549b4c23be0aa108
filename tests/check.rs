//! What `throughline check` says of a configuration, and what `throughline run` does
//! with it. Needs root and hugepages, as the program does.
#![allow(missing_docs)]

mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{OFFER, alone};

/// A configuration on a port that needs nothing of the machine.
fn config(directory: &Path) -> String {
    let socket = directory.join("s");
    format!(
        "cores = [0]\n{OFFER}[control]\nsocket = \"{}\"\n",
        socket.display()
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
    let _alone = alone();
    let directory = tempfile::TempDir::new().unwrap();
    let good = config(directory.path());
    let socket = format!("\"{}\"", directory.path().join("s").display());
    let occupied = directory.path().join("a file");
    std::fs::write(&occupied, "precious").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    // A port that was free a moment ago: nobody listens there.
    let closed = (TcpListener::bind("127.0.0.1:0").unwrap().local_addr())
        .unwrap()
        .port();
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
            "size_mib = 8 }",
            "size_mib = 8, block_size = 4096 }\n\
             [[store]]\nname = \"ram1\"\nmalloc = { size_mib = 8, block_size = 4096 }\n\
             [[subsystem]]\nnqn = \"nqn.2026-01.com.example:ram1\"\n\
             namespaces = [{ store = \"ram1\", block_size = 512 }]"
                .into(),
            "blocks of 512 bytes on a device of 4096",
        ),
        (
            "malloc = { size_mib = 8 }",
            format!(
                "nvme = {{ transport_id = \"trtype:TCP adrfam:IPv4 traddr:127.0.0.1 trsvcid:{closed} subnqn:nqn.2026-01.com.example:a\" }}"
            ),
            "store ram0",
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
            "192.0.2.1 is the address of a port",
        ),
        (
            &socket,
            metrics("[2001:db8::77]:9464"),
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

/// One drive, one port, one process: the second is told who has it, whatever it calls it.
#[test]
fn k06_what_another_one_has_is_refused_by_name() {
    let _alone = alone();
    let directory = tempfile::TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("image"), vec![0; 8 << 20]).unwrap();
    std::os::unix::fs::symlink(at("image"), at("link")).unwrap();
    let files = |name: &str, image: &str, device: &str| {
        std::fs::create_dir(at(name)).unwrap();
        let image = at(image).display().to_string();
        let saved = format!(
            r#"{{"subsystems":[{{"subsystem":"bdev","config":[{{"method":"bdev_aio_create","params":{{"name":"Malloc0","filename":"{image}","block_size":512}}}}]}}]}}"#
        );
        let (file, log) = saved_by_spdk(&at(name), &saved);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("net_null0", device)).unwrap();
        (file, log)
    };
    let tap = format!("net_tap0,iface=tl{}", std::process::id());
    let (first, log) = files("first", "image", &tap);
    let (same_image, _) = files("image-again", "link", "net_null0");
    std::fs::write(at("other"), vec![0; 8 << 20]).unwrap();
    let (same_interface, _) = files("tap-again", "other", &tap);

    let mut running = start(&first, &log);
    let who = format!(
        "in use by throughline, process {} ({})",
        running.id(),
        first.display()
    );
    let refused = |file: &Path, owner: &str| {
        for subcommand in ["check", "run"] {
            let ended = output(subcommand, file);
            let told = text(&ended.stdout) + &text(&ended.stderr);
            assert_eq!(ended.status.code(), Some(1), "{subcommand}: {told}");
            let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                told.contains(owner) && told.contains(&who),
                "{subcommand}: {told}"
            );
        }
    };
    refused(&same_image, "bdev Malloc0: ");
    refused(&same_interface, "port port0: ");

    // Killed, it has nothing any more, whatever it left.
    running.kill().unwrap();
    running.wait().unwrap();
    let mut running = start(&same_image, &log);
    assert!(output("stop", &same_image).status.success());
    assert!(running.wait().unwrap().success());
}

/// A block device that this system uses, or that another process has to itself.
#[test]
fn k06_a_block_device_in_use_is_refused() {
    let _alone = alone();
    let directory = tempfile::TempDir::new().unwrap();
    let image = directory.path().join("image");
    std::fs::write(&image, vec![0; 8 << 20]).unwrap();
    let losetup = |arguments: &[&std::ffi::OsStr]| {
        let ended = Command::new("losetup").args(arguments).output().unwrap();
        assert!(ended.status.success(), "{}", text(&ended.stderr));
        text(&ended.stdout).trim().to_owned()
    };
    let device = losetup(&["--find".as_ref(), "--show".as_ref(), image.as_os_str()]);
    let of = |filename: &str| {
        let saved = format!(
            r#"{{"subsystems":[{{"subsystem":"bdev","config":[{{"method":"bdev_aio_create","params":{{"name":"Malloc0","filename":"{filename}","block_size":512}}}}]}}]}}"#
        );
        saved_by_spdk(directory.path(), &saved)
    };
    let checked = |why: &str, name: &str| {
        let (file, _) = of(name);
        for subcommand in ["check", "run"] {
            let ended = output(subcommand, &file);
            let told = text(&ended.stdout) + &text(&ended.stderr);
            assert_eq!(ended.status.code(), Some(1), "{subcommand}: {told}");
            assert!(told.contains(why), "{subcommand}, {why}: {told}");
        }
    };
    let mut options = std::fs::OpenOptions::new();
    let exclusive = std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_EXCL);
    let held = exclusive.read(true).open(&device).unwrap();
    checked("is held open: its data would be lost", &device);
    drop(held);
    checked(
        "is a loop device of this file: losetup -d",
        &image.display().to_string(),
    );
    let (file, log) = of(&device);
    let mut running = start(&file, &log);
    // Nobody else has it to himself meanwhile.
    let refused = exclusive.open(&device).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EBUSY));
    assert!(output("stop", &file).status.success());
    assert!(running.wait().unwrap().success());
    losetup(&["--detach".as_ref(), device.as_ref()]);
}

/// The smallest number of clusters that may be written is one that works.
#[test]
fn k06_what_is_ready_runs() {
    let _alone = alone();
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("t.toml");
    let least = config(directory.path()).replace("clusters = 4096", "clusters = 256");
    std::fs::write(&file, least).unwrap();
    let checked = output("check", &file);
    let told = text(&checked.stdout);
    assert!(checked.status.success(), "{told}");
    assert!(told.ends_with("\nReady.\n"), "{told}");

    let log = directory.path().join("log");
    let mut running = start(&file, &log);
    // While it runs nothing else can be made of its file.
    let second = output("check", &file);
    assert!(!second.status.success(), "{}", text(&second.stdout));
    assert!(output("stop", &file).status.success());
    assert!(
        running.wait().unwrap().success(),
        "{}",
        text(&std::fs::read(&log).unwrap())
    );
}

/// Files of either generation, on whichever this is built with: what makes block devices is
/// taken, and what is left out is named.
#[test]
fn k06_what_save_config_of_spdk_writes_is_taken() {
    let _alone = alone();
    for saved in [
        include_str!("../src/config/spdk/saved/20.07.json"),
        include_str!("../src/config/spdk/saved/current.json"),
    ] {
        let directory = tempfile::TempDir::new().unwrap();
        let (file, log) = saved_by_spdk(directory.path(), saved);
        let checked = output("check", &file);
        let told = text(&checked.stdout);
        assert!(checked.status.success(), "{told}");
        let mut running = start(&file, &log);
        assert!(output("stop", &file).status.success());
        let logged = std::fs::read_to_string(&log).unwrap();
        assert!(running.wait().unwrap().success(), "{logged}");
        for said in [told, logged] {
            assert!(
                said.contains("is left out: ") && said.contains("`nvmf`"),
                "{said}"
            );
        }
    }
}

/// SPDK itself does not say which.
#[test]
fn k06_the_call_that_spdk_refuses_is_named() {
    let _alone = alone();
    let directory = tempfile::TempDir::new().unwrap();
    let call =
        r#"{"method":"bdev_aio_create","params":{"name":"A","filename":"/none","block_size":512}}"#;
    let malloc = r#"{"method":"bdev_malloc_create","params":{"name":"Malloc0","num_blocks":2048,"block_size":512}}"#;
    // Before subsystems are started, and after.
    let options = r#"{"method":"bdev_set_options","params":{"bdev_io_pool_size":"many"}}"#;
    for (call, named) in [
        (call, "`bdev_aio_create of A` failed"),
        (options, "`bdev_set_options` failed"),
    ] {
        let saved = format!(
            r#"{{"subsystems":[{{"subsystem":"bdev","config":[{malloc},{call},{malloc}]}}]}}"#
        );
        let (file, _) = saved_by_spdk(directory.path(), &saved);
        let ended = output("run", &file);
        let told = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{told}");
        assert!(told.contains(named), "{told}");
    }
}

/// A configuration of one store, a bdev of this file.
fn saved_by_spdk(directory: &Path, saved: &str) -> (PathBuf, PathBuf) {
    let text = config(directory)
        .replace("malloc = { size_mib = 8 }", "bdev = \"Malloc0\"")
        .replace("native_mib = 128", "native_mib = 256")
        .replace("[control]", "[spdk]\nconfig = \"spdk.json\"\n[control]");
    let file = directory.join("t.toml");
    std::fs::write(&file, text).unwrap();
    std::fs::write(directory.join("spdk.json"), saved).unwrap();
    (file, directory.join("log"))
}

/// `run`, until it is ready.
fn start(file: &Path, log: &Path) -> Child {
    let mut running = throughline("run", file)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(log).unwrap())
        .spawn()
        .expect("the program starts");
    let deadline = Instant::now() + Duration::from_secs(120);
    let said = || std::fs::read_to_string(log).unwrap();
    while !said().contains(" ready: ") {
        let ended = running.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < deadline, "{}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
    running
}
