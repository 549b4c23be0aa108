//! Machines of files, and locks in directories that go with the test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::config::{self, Program, Surroundings};

fn holder() -> Holder {
    Holder::this(
        Path::new("/nonexistent/a.toml"),
        Path::new("/nonexistent/a.sock"),
    )
}

fn take(directory: &TempDir, wanted: &[Wanted]) -> Result<Claims, Refusal> {
    Claims::take(&Host::here(), directory.path(), wanted, &holder())
}

/// A port, a drive or more stores, and SPDK's configuration.
fn program(ports: &[&str], stores: &str, spdk: &str) -> Program {
    let ports: String = (ports.iter().enumerate())
        .map(|(i, device)| {
            format!(
                "[[port]]\ndevice = \"{device}\"\naddresses = [\"192.0.2.{}/24\"]\n",
                i + 1
            )
        })
        .collect();
    let text =
        format!("cores = [1]\nsubsystem = []\n{ports}{stores}\n[spdk]\nconfig = \"spdk.json\"\n");
    let read = |_: &Path| Ok(spdk.to_owned());
    let surroundings = Surroundings {
        cores: None,
        read: &read,
    };
    match config::parse(Path::new("t.toml"), &text, &surroundings) {
        Ok(program) => program,
        Err(problems) => panic!("{problems}"),
    }
}

fn aio(files: &[(&str, &Path)]) -> String {
    let call = |(name, file): &(&str, &Path)| {
        let file = file.display();
        format!(
            r#"{{"method":"bdev_aio_create","params":{{"name":"{name}","filename":"{file}","block_size":512}}}}"#
        )
    };
    let calls: Vec<String> = files.iter().map(call).collect();
    format!(
        r#"{{"subsystems":[{{"subsystem":"bdev","config":[{}]}}]}}"#,
        calls.join(",")
    )
}

const RAM: &str = "[[store]]\nname = \"ram0\"\nmalloc = { size_mib = 8 }\n";

fn keys(host: &Host, program: &Program) -> Vec<String> {
    let wanted = wanted(host, program).unwrap();
    wanted.into_iter().map(|wanted| wanted.key).collect()
}

#[test]
fn k06_the_second_is_told_who_has_it() {
    let directory = TempDir::new().unwrap();
    let wanted = wanted(&Host::here(), &program(&["eth77"], RAM, &aio(&[]))).unwrap();
    let first = take(&directory, &wanted).unwrap();
    let pid = std::process::id();
    for refused in [
        take(&directory, &wanted).unwrap_err(),
        wanted[0]
            .probe(&Host::here(), directory.path())
            .unwrap_err(),
    ] {
        let told = format!(
            "port port0: eth77 is in use by throughline, process {pid} (/nonexistent/a.toml): \
             stop it (throughline stop --socket /nonexistent/a.sock), or name another device"
        );
        assert_eq!(refused.to_string(), told);
    }
    drop(first);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    wanted[0].probe(&Host::here(), directory.path()).unwrap();
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        0,
        "a probe leaves nothing"
    );
    take(&directory, &wanted).unwrap();
}

#[test]
fn k06_what_a_killed_process_left_holds_nothing() {
    let directory = TempDir::new().unwrap();
    let wanted = wanted(&Host::here(), &program(&["eth77"], RAM, &aio(&[]))).unwrap();
    let file = directory.path().join(&wanted[0].key);
    fs::write(
        &file,
        "pid 1\nconfig /etc/init.toml\nsocket /run/init.sock\n",
    )
    .unwrap();
    let held = take(&directory, &wanted).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.starts_with(&format!("pid {}\n", std::process::id())),
        "{text}"
    );
    drop(held);
}

#[test]
fn k06_nothing_is_claimed_if_not_all_is() {
    let (directory, files) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let image = files.path().join("image");
    fs::write(&image, [0; 4096]).unwrap();
    let both = program(&["eth77"], RAM, &aio(&[("A", &image)]));
    let port = program(&["eth77"], RAM, &aio(&[]));
    let file = program(&["eth78"], RAM, &aio(&[("B", &image)]));
    let host = Host::here();
    let _file = take(&directory, &wanted(&host, &file).unwrap()).unwrap();
    let refused = take(&directory, &wanted(&host, &both).unwrap()).unwrap_err();
    let told = format!("bdev A: {} is in use by throughline", image.display());
    assert!(refused.to_string().starts_with(&told), "{refused}");
    take(&directory, &wanted(&host, &port).unwrap()).unwrap();
}

/// Two spellings of one thing are one thing.
#[test]
fn k06_a_thing_has_one_name_however_it_is_spelled() {
    let files = TempDir::new().unwrap();
    let at = |name: &str| files.path().join(name);
    fs::write(at("image"), [0; 4096]).unwrap();
    fs::hard_link(at("image"), at("hard")).unwrap();
    symlink(at("hard"), at("soft")).unwrap();
    let host = Host::here();
    let of_file = |name: &str| keys(&host, &program(&["eth77"], RAM, &aio(&[("A", &at(name))])));
    assert_eq!(of_file("image")[1..], of_file("soft")[1..]);
    assert!(of_file("image")[1].starts_with("file-"));
    let twice = program(
        &["eth77"],
        RAM,
        &aio(&[("A", &at("image")), ("B", &at("soft"))]),
    );
    let refused = wanted(&host, &twice).unwrap_err().to_string();
    assert!(
        refused.starts_with("bdev B: ") && refused.contains("of bdev A"),
        "{refused}"
    );

    let drive = |address: &str, nsid: u32| {
        let stores = format!(
            "[[store]]\nname = \"a\"\nnvme = {{ transport_id = \"trtype:PCIe traddr:{address}\", nsid = {nsid} }}\n"
        );
        keys(&host, &program(&["eth77"], &stores, &aio(&[])))
    };
    assert_eq!(drive("04:00.0", 1), drive("0000:04:00.0", 2));
    let shelf = |id: &str| {
        let stores = format!("[[store]]\nname = \"a\"\nnvme = {{ transport_id = \"{id}\" }}\n");
        keys(&host, &program(&["eth77"], &stores, &aio(&[])))
    };
    let one =
        "trtype:TCP adrfam:IPv4 traddr:198.51.100.9 trsvcid:4420 subnqn:nqn.2026-01.com.example:a";
    let same =
        "traddr=198.51.100.9 adrfam:IPv4 trtype:TCP trsvcid:4420 subnqn:nqn.2026-01.com.example:a";
    assert_eq!(shelf(one), shelf(same));
    assert_ne!(shelf(one), shelf(&one.replace("4420", "4421")));
}

#[test]
fn k06_an_interface_and_its_nic_are_one_thing() {
    let root = TempDir::new().unwrap();
    let at = root.path().join("sys/bus/pci/devices/0000:01:00.0");
    fs::create_dir_all(at.join("net/eth7")).unwrap();
    fs::write(at.join("class"), "0x020000\n").unwrap();
    let host = Host::at(root.path());
    let interface = keys(&host, &program(&["eth7"], RAM, &aio(&[])));
    let nic = keys(&host, &program(&["01:00.0"], RAM, &aio(&[])));
    assert_eq!((interface.len(), nic.as_slice()), (2, &interface[1..]));
    let refused = wanted(&host, &program(&["eth7", "01:00.0"], RAM, &aio(&[]))).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("eth7 (0000:01:00.0) of port port0"),
        "{refused}"
    );
    // The interface that a device of DPDK's takes.
    let taken = keys(
        &host,
        &program(&["net_af_packet0,iface=eth7"], RAM, &aio(&[])),
    );
    assert_eq!(taken, interface);
    // A NIC of two interfaces is not one's alone.
    fs::create_dir_all(at.join("net/eth8")).unwrap();
    assert_eq!(keys(&host, &program(&["eth7"], RAM, &aio(&[]))).len(), 1);
}
