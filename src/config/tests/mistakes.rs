//! What is wrong with a file, one thing at a time, and what it is told.

use super::*;

/// What is written instead of what, and the first line and the help it earns.
#[test]
fn k06_mistakes_about_paths_have_their_sentences() {
    let cases: &[(&str, &str, &str, &str)] = &[
        (
            "nqn = ",
            "controller_ids = \"9-8\"\nnqn = ",
            "9:18: `9-8` is no range of controller IDs",
            "write two numbers from 1 to 65519",
        ),
        (
            "nqn = ",
            "peer_listen = [\"192.0.2.1\"]\nnqn = ",
            "9:16: hosts are told of 192.0.2.1 port 4420 already",
            "leave it out",
        ),
        (
            "nqn = ",
            "peer_listen = [\"0.0.0.0\"]\nnqn = ",
            "9:16: 0.0.0.0 is no address of another node",
            "write an address that hosts reach it at",
        ),
        (
            "nqn = ",
            "ana = \"change\"\nnqn = ",
            "9:7: namespaces cannot begin \"change\"",
            "write \"optimized\", \"non_optimized\" or \"inaccessible\"",
        ),
        (
            "[[subsystem]]",
            "[target]\nmax_io_kib = 32\n[[subsystem]]\nana = \"optimized\"",
            "11:7: hosts read the states of all namespaces in one command",
            "write `max_io_kib = 64` or more",
        ),
    ];
    each_is_told(cases);
}

#[test]
fn k06_every_mistake_has_its_sentence() {
    let cases: &[(&str, &str, &str, &str)] = &[
        (
            "[[subsystem]]",
            "[control]\nmetrics = \"[::ffff:192.0.2.1]:9464\"\n[[subsystem]]",
            "9:11: ::ffff:192.0.2.1 is the address of a port",
            "write `metrics = \"127.0.0.1:9464\"`",
        ),
        (
            "[1]",
            "[]",
            "1:9: at least one core must poll",
            "write `cores = [1]`",
        ),
        (
            "[1]",
            "[1, 9]",
            "1:13: core 9 does not exist or is offline",
            "this machine has cores 0 to 3",
        ),
        (
            "[1]",
            "[1, 1]",
            "1:13: core 1 is listed twice",
            "leave one out",
        ),
        (
            "[1]",
            "1",
            "1:9: `cores` in the file must be an array, not an integer",
            "write `cores = [1, 2]`",
        ),
        (
            "[1]",
            "[\"1\"]",
            "1:10: an element of `cores` in the file must be a whole number, not a string",
            "write 1",
        ),
        (
            "cores = [1]\n",
            "",
            "1:1: `cores` is missing in the file",
            "add `cores = [1]`",
        ),
        (
            "[1]",
            "[1]\ncopy = 1",
            "2:8: `copy` in the file must be `true` or `false`, not an integer",
            "write `copy = false`",
        ),
        (
            "\"eth1\"",
            "\"eth:1\"",
            "3:10: that is not a device of DPDK's, nor the name of an interface",
            "such as \"eth1\"",
        ),
        (
            "192.0.2.1/24",
            "192.0.2.1",
            "4:14: the prefix length is missing",
            "write \"192.0.2.1/24\"",
        ),
        (
            "192.0.2.1/24",
            "192.0.2.1/40",
            "4:14: `40` is not a prefix length",
            "write a number from 0 to 32",
        ),
        (
            "192.0.2.1/24",
            "192.0.2.255/24",
            "4:14: 192.0.2.255 is the network or broadcast address of 192.0.2.0/24",
            "write the address of the port itself",
        ),
        (
            "[\"192.0.2.1/24\"]",
            "[]",
            "4:13: a port needs an address",
            "write `addresses = ",
        ),
        (
            "[[store]]",
            "mtu = 90\n[[store]]",
            "5:7: `mtu` in [[port]] is out of range",
            "write a number from 576 to 9216",
        ),
        (
            "192.0.2.1/24\"]",
            "2001:db8::1/64\"]\nmtu = 1000",
            "5:7: IPv6 needs an MTU of 1280 or more",
            "write `mtu = 1500`",
        ),
        (
            "[[store]]",
            "routes = [{ to = \"0.0.0.0/0\", via = \"192.0.3.1\" }]\n[[store]]",
            "5:37: 192.0.3.1 is in no network of this port",
            "write a router that",
        ),
        (
            "[[store]]",
            "routes = [{ to = \"0.0.0.0/0\", via = \"192.0.2.1\" }]\n[[store]]",
            "5:37: 192.0.2.1 is this port itself",
            "next router's",
        ),
        (
            "[[store]]",
            "vlan = 4095\n[[store]]",
            "5:8: `vlan` in [[port]] is out of range",
            "from 1 to 4094",
        ),
        (
            "[[store]]",
            "[[port]]\ndevice = \"eth1\"\naddresses = [\"192.0.2.1/24\"]\n[[store]]",
            "6:10: port `port0` already has eth1",
            "a device of its own",
        ),
        (
            "[[store]]",
            "[memory]\ncluster_size = 3000\n[[store]]",
            "6:16: 3000 is not a power of two",
            "write 2048",
        ),
        (
            "[[store]]",
            "[memory]\nnative_mib = 100\n[[store]]",
            "6:14: 100 MiB cannot hold the malloc stores' 64 MiB",
            "write `native_mib = 576`",
        ),
        (
            "[[store]]",
            "[[memory]]\n[[store]]",
            "5:1: `memory` must be a table",
            "write `[memory]` on a line of its own",
        ),
        (
            "[[port]]",
            "[port]",
            "2:1: `port` must be a list of tables",
            "write `[[port]]` on a line of its own",
        ),
        (
            "malloc = { size_mib = 64 }",
            "",
            "5:1: the store does not say which device it is",
            "write `malloc = { size_mib = 256 }`",
        ),
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", block_size = 4000 }]",
            "10:47: a block has 512 or 4096 bytes",
            "write `block_size = 512`",
        ),
        (
            "malloc",
            "bdev = \"a\"\nmalloc",
            "8:10: the store is several devices at once",
            "write `malloc = ",
        ),
        (
            "size_mib = 64",
            "size_mib = 64, block_size = 1000",
            "7:40: a block has 512 or 4096 bytes",
            "write `block_size = 512`",
        ),
        (
            "size_mib = 64",
            "size = 64",
            "7:10: `size_mib` is missing in malloc",
            "add `size_mib = 256`",
        ),
        (
            "malloc = { size_mib = 64 }",
            "bdev = \"Nvme0n1\"",
            "7:8: nothing creates the bdev `Nvme0n1`",
            "add `[spdk]`",
        ),
        (
            "malloc = { size_mib = 64 }",
            "bdev = \"a\"\n[spdk]\nconfig = \"no.json\"",
            "9:10: cannot read no.json: No such file",
            "relative to this file",
        ),
        (
            "malloc = { size_mib = 64 }",
            "bdev = \"a\"\n[spdk]\nconfig = \"broken.json\"",
            "9:10: broken.json: expected value at line 2 column 18",
            "it must be JSON",
        ),
        (
            "malloc = { size_mib = 64 }",
            "bdev = \"a\"\n[spdk]\nconfig = \"list.json\"",
            "9:10: list.json has no list of `subsystems`",
            "save_config",
        ),
        (
            "malloc = { size_mib = 64 }",
            "nvme = { transport_id = \"trtype:PCIe\" }",
            "7:25: `traddr` must be the drive's PCI address",
            "write \"trtype:PCIe",
        ),
        (
            "\"nqn.2026-01.com.example:disk0\"",
            "\"disk0\"",
            "9:7: `disk0` is not an NVMe qualified name",
            "nqn.2026-01.com.example:disk0",
        ),
        (
            "nqn = ",
            "serial = \"123456789012345678901\"\nnqn = ",
            "9:10: `123456789012345678901` does not fit its field",
            "write 1 to 20 printable",
        ),
        (
            "nqn = ",
            "hosts = []\nnqn = ",
            "9:9: an empty list lets no host in",
            "leave `hosts` out",
        ),
        (
            "[\"disk0\"]",
            "[]",
            "10:14: a subsystem needs a namespace",
            "write `namespaces = ",
        ),
        (
            "[\"disk0\"]",
            "[\"disk0\", \"disk0\"]",
            "10:24: store `disk0` is namespace 1 of nqn.2026-01.com.example:disk0 already",
            "a store of its own",
        ),
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", nsid = 0 }]",
            "10:41: `nsid` in a namespace is out of range",
            "write a number from 1",
        ),
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", uuid = \"1\" }]",
            "10:41: `1` is not a UUID",
            "uuidgen",
        ),
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", write = \"fast\" }]",
            "10:42: a write cannot complete by \"fast\"",
            "write \"through\"",
        ),
        (
            "[[subsystem]]",
            "[target]\nmax_io_kib = 100\n[[subsystem]]",
            "9:14: it must be a power of two",
            "write `max_io_kib = 128`",
        ),
        (
            "[[subsystem]]",
            "[target]\nin_capsule_kib = 256\n[[subsystem]]",
            "9:18: 256 KiB in a capsule is more than one command may carry",
            "which is 128",
        ),
        (
            "[[subsystem]]",
            "[target]\nlisten = [\"192.0.2.9:4420\"]\n[[subsystem]]",
            "9:11: no port has the address 192.0.2.9",
            "addresses: 192.0.2.1",
        ),
        (
            "[[subsystem]]",
            "[target]\nlisten = [\"eth1\"]\n[[subsystem]]",
            "9:11: `eth1` is not an address with a port",
            "write \"192.0.2.1:4420\"",
        ),
        (
            "[[subsystem]]",
            "[control]\nsocket = \"run/x\"\n[[subsystem]]",
            "9:10: the socket's path must be absolute",
            "/run/throughline.sock",
        ),
    ];
    each_is_told(cases);
}

/// What two namespaces cannot share, and what is none.
#[test]
fn k06_identifiers_that_cannot_be_have_their_sentences() {
    each_is_told(&[
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", nguid = \"6f1b0c1e\" }]",
            "10:42: `6f1b0c1e` is not an NGUID",
            "write 32 hexadecimal digits",
        ),
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", nguid = \"00000000000000000000000000000000\" }]",
            "10:42: an NGUID of zeros names nothing",
            "leave `nguid` out",
        ),
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", nguid = \"00000000000000000000000000000001\" }, \
              { store = \"disk1\", nguid = \"00000000000000000000000000000001\" }]",
            "10:80: namespace 1 of nqn.2026-01.com.example:disk0 has the same nguid",
            "write another `nguid`",
        ),
        (
            // What is derived of a UUID counts too.
            "[\"disk0\"]",
            "[{ store = \"disk0\", uuid = \"6f1b0c1e-3b5e-4c57-9f1a-0d5f0a7b2c11\" }]\n\
              [[subsystem]]\nnqn = \"nqn.2026-01.com.example:b\"\n\
              namespaces = [{ store = \"disk1\", nguid = \"6f1b0c1e3b5e4c577e1a0d5f0a7b2c11\" }]",
            "13:15: namespace 1 of nqn.2026-01.com.example:disk0 has the same nguid",
            "or leave it out",
        ),
        (
            "[\"disk0\"]",
            "[{ store = \"disk0\", uuid = \"6f1b0c1e-3b5e-4c57-9f1a-0d5f0a7b2c11\" }]\n\
              [[subsystem]]\nnqn = \"nqn.2026-01.com.example:b\"\n\
              namespaces = [{ store = \"disk1\", uuid = \"6F1B0C1E-3b5e-4c57-9f1a-0d5f0a7b2c11\" }]",
            "13:15: namespace 1 of nqn.2026-01.com.example:disk0 has the same uuid",
            "write another `uuid`",
        ),
    ]);
}

/// What is replaced in the minimal file, by what; the place and the first words of what is told; its help.
fn each_is_told(cases: &[(&str, &str, &str, &str)]) {
    let mut wrong = String::new();
    for &(from, to, first, help) in cases {
        let told = told(from, to);
        let first_line = format!("t.toml:{first}");
        // A subsystem without its namespace leaves a store without a use, which is told as well.
        let mut told_so = told
            .split("\n\n")
            .filter(|one| one.starts_with(&first_line));
        if !told_so.any(|one| one.contains(help)) {
            wrong += &format!("{to}\n  wanted {first}\n  told {told}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
