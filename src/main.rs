//! Throughline: Ethernet frames to NVMe scatter-gather lists, and back, without
//! the CPU copying a byte.
//!
//! This is the program around the engine: its configuration file (`config`), its
//! control socket (`control`) and its methods (`rpc`), what it says of itself (`stats`), whether it
//! serves (`readiness`), what it tells of pairs (`alert`), whether a
//! machine is ready for it (`check`) and gives it its devices (`binding`), what one process
//! alone may have (`claims`), and the commands (`commands`).

mod alert;
mod arbiter;
mod binding;
mod check;
mod claims;
mod commands;
mod config;
mod control;
mod host;
mod logging;
mod logstore;
mod metrics;
mod readiness;
mod report;
mod rpc;
mod stats;
mod text;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

/// A storage dataplane: Ethernet frames to NVMe scatter-gather lists, and back,
/// without the CPU copying a byte.
#[derive(Parser)]
#[command(name = "throughline", version, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
A first configuration, ten lines (docs/throughline.toml has every key):

  cores = [1]
  [[port]]
  device = \"eth1\"
  addresses = [\"192.0.2.1/24\"]
  [[store]]
  name = \"disk0\"
  malloc = { size_mib = 256 }
  [[subsystem]]
  nqn = \"nqn.2026-01.com.example:disk0\"
  namespaces = [\"disk0\"]

Then `throughline check --config FILE` until it says Ready, and `throughline run --config FILE`.
THROUGHLINE_LOG=debug makes it say more, THROUGHLINE_LOG=warn less.";

#[derive(Subcommand)]
enum Command {
    /// Serve, until SIGTERM or SIGINT (a second one forces the end)
    Run {
        /// The configuration file
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
        /// Assemble pages by memcpy instead of by reference, to see what zero-copy is worth
        #[arg(long)]
        copy: bool,
        /// Give up what a store of the log has, be it damaged, or of stores that are gone, or another's: NAME is the
        /// store's, and of two stores each may be named
        #[arg(long, value_name = "NAME")]
        discard_log: Vec<String>,
    },
    /// Look at a log that no program uses: what it has, and what a start would do with it; nothing is written
    Log {
        #[command(subcommand)]
        action: LogAction,
    },
    /// Tell whether this machine is ready, and what to do where it is not
    Check {
        /// The configuration file to check against; without one, the machine in general
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Hand PCI devices to user space: NICs and drives leave the kernel, unless this system uses them
    Bind {
        #[command(flatten)]
        devices: commands::Devices,
        /// The kernel driver that hands them over; vfio-pci for devices behind an IOMMU, else uio_pci_generic
        #[arg(long, value_name = "DRIVER")]
        driver: Option<binding::Driver>,
    },
    /// Give PCI devices back to the kernel's own drivers
    Unbind {
        #[command(flatten)]
        devices: commands::Devices,
    },
    /// Show the counters of a running program
    Stats {
        #[command(flatten)]
        socket: SocketOptions,
        /// Print JSON, with every counter
        #[arg(long)]
        json: bool,
    },
    /// Watch a running program: shards, stages, namespaces and connections, every second
    Top {
        #[command(flatten)]
        socket: SocketOptions,
        /// Seconds between one look and the next
        #[arg(long, short, value_name = "SECONDS", default_value_t = 1.0)]
        delay: f64,
        /// Print one sample and end
        #[arg(long)]
        once: bool,
        /// Print one sample as JSON and end
        #[arg(long)]
        json: bool,
        /// What connections are sorted by
        #[arg(long, value_enum, default_value_t = top::Sort::Iops)]
        sort: top::Sort,
    },
    /// Capture the frames of a port of a running program, both ways, for tcpdump
    Capture {
        #[command(flatten)]
        socket: SocketOptions,
        #[command(flatten)]
        frames: commands::Frames,
    },
    /// Bring what the log of a running program has to its drives, and wait until they have it
    ConsistencyPoint {
        #[command(flatten)]
        socket: SocketOptions,
        /// How long to wait, an hour at most; the program goes on with it after that
        #[arg(long, value_name = "N", default_value_t = rpc::POINT_SECONDS)]
        seconds: u64,
    },
    /// Mirrored pairs of a running program: how they stand, and which node is the source
    Pair {
        #[command(subcommand)]
        action: PairAction,
    },
    /// The configuration that a running program has, with what was changed since its start
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Keys that hosts and the controller prove that they have (DH-HMAC-CHAP, TLS)
    Key {
        #[command(subcommand)]
        action: KeyAction,
    },
    /// Call a method of a running program's control socket, and print its result as JSON
    Rpc {
        #[command(flatten)]
        socket: SocketOptions,
        /// The method; rpc_get_methods lists those there are
        #[arg(value_name = "METHOD")]
        method: String,
        /// Its parameters, an object in JSON; none when left out
        #[arg(value_name = "JSON")]
        params: Option<String>,
    },
    /// Stop a running program, as SIGTERM does
    Stop {
        #[command(flatten)]
        socket: SocketOptions,
    },
    /// Make a report of a recorded run: what ci/demo ends with
    Report {
        /// The directory of the run: run.json and a directory for each phase
        directory: PathBuf,
    },
    /// Print a page of the manual, for man(1)
    #[command(hide = true)]
    Manual {
        /// Its section
        #[arg(value_name = "SECTION")]
        page: commands::Page,
    },
}

#[derive(Subcommand)]
enum ConfigAction {
    /// Write it into its file; keys and comments that are still so stay as they are
    Save {
        #[command(flatten)]
        socket: SocketOptions,
        /// The file to write; the one the program was started with when left out
        #[arg(long, short, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Replace the file even if others changed it since the program read it
        #[arg(long)]
        force: bool,
    },
    /// Print it
    Show {
        #[command(flatten)]
        socket: SocketOptions,
    },
}

#[derive(Subcommand)]
enum KeyAction {
    /// Make a fresh one, as `nvme gen-dhchap-key` and `nvme gen-tls-key` do
    Gen {
        /// One of TLS (a PSK), not of DH-HMAC-CHAP
        #[arg(long)]
        tls: bool,
        /// What it is transformed by before it is used; with --tls sha256 or sha384, which says the cipher suite too
        #[arg(long, value_enum, default_value_t = commands::Transform::Sha256)]
        hmac: commands::Transform,
        /// Bytes, where it is not transformed: 32, 48 or 64
        #[arg(long, value_name = "BYTES")]
        length: Option<usize>,
        /// The file to write, which must not be there; the key is printed when left out
        #[arg(long, short, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum PairAction {
    /// Print for each volume which node is the source, whether both have the same, and what is left to be copied
    Report {
        #[command(flatten)]
        socket: SocketOptions,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make this node the source of a volume: only when the other node does not serve it, and does not come back by itself
    Promote {
        #[command(flatten)]
        socket: SocketOptions,
        /// The volume, by the name of its store
        #[arg(value_name = "STORE")]
        store: String,
        /// Whatever etcd says of the other node: data that this one lacks are lost
        #[arg(long)]
        force: bool,
    },
    /// Make the other node the source of a volume, which has the same: hosts go on there
    Demote {
        #[command(flatten)]
        socket: SocketOptions,
        /// The volume, by the name of its store
        #[arg(value_name = "STORE")]
        store: String,
    },
    /// Say that what this node's store has is the volume, of which neither node has data yet: the other one is copied to
    Establish {
        #[command(flatten)]
        socket: SocketOptions,
        /// The volume, by the name of its store
        #[arg(value_name = "STORE")]
        store: String,
    },
    /// Give up the other node on purpose, on the node that is the source: it goes on alone, and the nodes stay apart, restarts
    /// included, until `reestablish` ends that
    Sever {
        #[command(flatten)]
        socket: SocketOptions,
        /// The volume, by the name of its store
        #[arg(value_name = "STORE")]
        store: String,
    },
    /// End what `sever` began, on the same node: what was changed meanwhile is copied to the other one
    Reestablish {
        #[command(flatten)]
        socket: SocketOptions,
        /// The volume, by the name of its store
        #[arg(value_name = "STORE")]
        store: String,
    },
    /// Give up what this node has of a volume, and have all of it copied from the other one, which is the source: after split
    /// brain, on the node whose data are lost
    Discard {
        #[command(flatten)]
        socket: SocketOptions,
        /// The volume, by the name of its store
        #[arg(value_name = "STORE")]
        store: String,
        /// The same once more
        #[arg(long, value_name = "STORE")]
        volume_name: String,
        /// Whatever the other node is, and whether it is there: data that it lacks are lost
        #[arg(long)]
        force: bool,
    },
    /// Give a volume another size, on the node that is its source, and on the other one: as many bytes as this node's device has, or so many
    Resize {
        #[command(flatten)]
        socket: SocketOptions,
        /// The volume, by the name of its store
        #[arg(value_name = "STORE")]
        store: String,
        /// Bytes, in whole blocks
        #[arg(long, value_name = "BYTES")]
        bytes: Option<u64>,
        /// The store once more, if the volume is to be smaller: what is behind is lost
        #[arg(long, value_name = "STORE")]
        volume_name: Option<String>,
        /// Do not wait until it is so: `throughline pair report` says how far it is
        #[arg(long)]
        no_wait: bool,
    },
    /// Say how many KiB of payload frames to and from the other node have at most: 4 to 4096, and not more than that one takes.
    /// Counts at once
    SetFrameSize {
        #[command(flatten)]
        socket: SocketOptions,
        /// A volume that both nodes have, by the name of its store
        #[arg(value_name = "STORE")]
        store: String,
        /// KiB of payload
        #[arg(value_name = "KIB")]
        kib: u32,
    },
    /// Have both nodes tell each other what their tables say of a volume now, and print it side by side; exit status 0 if all
    /// is as it is to be
    UpdateTables {
        #[command(flatten)]
        socket: SocketOptions,
        /// The volume, by the name of its store
        #[arg(value_name = "STORE")]
        store: String,
    },
    /// Compare both nodes' data of a volume while hosts go on, on the node that is the source; exit status 0 if all of it is the same
    Verify {
        #[command(flatten)]
        socket: SocketOptions,
        /// The volume, by the name of its store
        #[arg(value_name = "STORE")]
        store: String,
        /// Copy what differs to the other node
        #[arg(long)]
        mend: bool,
        /// Do not wait for the end: `throughline pair report` says how far it is
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Subcommand)]
enum LogAction {
    /// Print what it has
    Show {
        /// The file or block device that it lies in; with --config the name of its store, or none for that in [log]
        #[arg(value_name = "STORE", required_unless_present = "config")]
        store: Option<String>,
        /// The configuration file that says where the store is, and which stores there are
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Where the running program is.
#[derive(Args)]
struct SocketOptions {
    /// Its control socket
    #[arg(long, short, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// Its configuration file, which says where its control socket is
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run {
            config,
            copy,
            discard_log,
        } => commands::run(&config, copy, &discard_log),
        Command::Log { action } => match action {
            LogAction::Show {
                store,
                config,
                json,
            } => commands::show_log(store.as_deref(), config.as_deref(), json),
        },
        Command::Check { config, json } => commands::check(config.as_deref(), json),
        Command::Bind { devices, driver } => commands::bind(&devices, driver),
        Command::Unbind { devices } => commands::unbind(&devices),
        Command::Stats { socket, json } => socket
            .path()
            .and_then(|socket| commands::stats(&socket, json)),
        Command::Top {
            socket,
            delay,
            once,
            json,
            sort,
        } => socket.path().and_then(|socket| {
            let delay = std::time::Duration::from_secs_f64(delay.clamp(0.1, 3600.0));
            commands::top(&socket, delay, once, json, sort)
        }),
        Command::Capture { socket, frames } => socket
            .path()
            .and_then(|socket| commands::capture(&socket, &frames)),
        Command::ConsistencyPoint { socket, seconds } => socket
            .path()
            .and_then(|socket| commands::consistency_point(&socket, seconds)),
        Command::Pair { action } => pair(action),
        Command::Config { action } => match action {
            ConfigAction::Save {
                socket,
                file,
                force,
            } => socket
                .path()
                .and_then(|socket| commands::save_config(&socket, file.as_deref(), force)),
            ConfigAction::Show { socket } => socket
                .path()
                .and_then(|socket| commands::show_config(&socket)),
        },
        Command::Key { action } => match action {
            KeyAction::Gen {
                tls,
                hmac,
                length,
                file,
            } => commands::generate_key(tls, hmac, length, file.as_deref()),
        },
        Command::Rpc {
            socket,
            method,
            params,
        } => socket
            .path()
            .and_then(|socket| commands::rpc(&socket, &method, params.as_deref())),
        Command::Stop { socket } => socket.path().and_then(|socket| commands::stop(&socket)),
        Command::Report { directory } => commands::report(&directory),
        Command::Manual { page } => commands::manual(page, Arguments::command()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("throughline: {error:#}");
        ExitCode::FAILURE
    })
}

/// `throughline pair …`
fn pair(action: PairAction) -> anyhow::Result<ExitCode> {
    match action {
        PairAction::Report { socket, json } => socket
            .path()
            .and_then(|socket| commands::pair_report(&socket, json)),
        PairAction::Promote {
            socket,
            store,
            force,
        } => socket
            .path()
            .and_then(|socket| commands::pair_promote(&socket, &store, force)),
        PairAction::Demote { socket, store } => socket.path().and_then(|socket| {
            let done = "the other node is about to be the source";
            commands::pair_order(&socket, "demote", &store, done)
        }),
        PairAction::Establish { socket, store } => socket.path().and_then(|socket| {
            let done = "established: this node is the source, and the other one is copied to";
            commands::pair_order(&socket, "establish", &store, done)
        }),
        PairAction::Sever { socket, store } => socket.path().and_then(|socket| {
            let done = "severed: this node goes on alone until `throughline pair reestablish`";
            commands::pair_order(&socket, "sever", &store, done)
        }),
        PairAction::Reestablish { socket, store } => socket.path().and_then(|socket| {
            let done = "what was changed is copied when the other node is there";
            commands::pair_order(&socket, "reestablish", &store, done)
        }),
        PairAction::Discard {
            socket,
            store,
            volume_name,
            force,
        } => socket
            .path()
            .and_then(|socket| commands::pair_discard(&socket, &store, &volume_name, force)),
        PairAction::Resize {
            socket,
            store,
            bytes,
            volume_name,
            no_wait,
        } => socket.path().and_then(|socket| {
            commands::pair_resize(&socket, &store, bytes, volume_name.as_deref(), !no_wait)
        }),
        PairAction::SetFrameSize { socket, store, kib } => socket
            .path()
            .and_then(|socket| commands::pair_set_frame_size(&socket, &store, kib)),
        PairAction::UpdateTables { socket, store } => socket
            .path()
            .and_then(|socket| commands::pair_update_tables(&socket, &store)),
        PairAction::Verify {
            socket,
            store,
            mend,
            no_wait,
        } => socket
            .path()
            .and_then(|socket| commands::pair_verify(&socket, &store, mend, !no_wait)),
    }
}

impl SocketOptions {
    fn path(self) -> anyhow::Result<PathBuf> {
        match (self.socket, self.config) {
            (Some(socket), _) => Ok(socket),
            (None, Some(config)) => Ok(config::load(&config, None)?.control_socket),
            (None, None) => Ok(config::DEFAULT_SOCKET.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
