//! The manual pages, as roff for man(1): throughline(8) from the command line
//! itself, throughline.toml(5) from the annotated example. `ci/deb/build` packs
//! them; `throughline manual 8 | man -l -` shows one.

use std::fmt::Write;
use std::process::ExitCode;

use clap::{Arg, Command};

use super::print;

/// A page of the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Page {
    /// throughline(8)
    #[value(name = "8")]
    Commands,
    /// throughline.toml(5)
    #[value(name = "5")]
    Configuration,
}

const EXAMPLE: &str = include_str!("../../docs/throughline.toml");

/// `throughline manual`
pub(crate) fn manual(page: Page, command: Command) -> anyhow::Result<ExitCode> {
    print(&text(page, command))?;
    Ok(ExitCode::SUCCESS)
}

fn text(page: Page, command: Command) -> String {
    match page {
        Page::Commands => commands(command),
        Page::Configuration => configuration(),
    }
}

const DESCRIPTION: &str = "\
Throughline serves NVMe drives and SPDK block devices to NVMe/TCP hosts. It drives network cards and drives itself, \
from user space, and moves data between them by reference: received frames stay where the card wrote them until the drive \
has read them. Every payload byte that the CPU copies after all is counted, by reason.

It needs root, 2 MiB hugepages, and devices bound to a driver of user space. `throughline check` tells what is missing.";

/// What is not on the command line.
const REST: &str = r#".SH SIGNALS
SIGTERM and SIGINT end the program: connections are reset, drives finish what they have, caches are written back. A second signal
ends it at once.
SIGHUP ends nothing.
.SH ENVIRONMENT
.TP
THROUGHLINE_LOG
How much is logged: error, warn, info (the default), debug or trace, or a filter such as info,engine=debug.
.TP
NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID
Set by systemd. The program says when it is ready and when it stops, and gives a sign of life only while every shard polls.
.SH FILES
.TP
/etc/throughline/throughline.toml
The configuration that throughline.service runs; see throughline.toml(5).
.TP
/usr/lib/sysctl.d/throughline.conf
The hugepages to reserve. A file of the same name in /etc/sysctl.d takes its place.
.TP
/run/throughline.sock
The control socket: JSON\-RPC 2.0, with SPDK's methods for subsystems, namespaces, hosts and listeners.
.TP
/run/throughline/
Locks on what only one process may have, each with the process that holds it. What a killed one leaves means nothing.
.SH EXIT STATUS
0 when all is well, 1 when something failed or the machine is not ready, 2 for a command line that makes no sense.
.SH SEE ALSO
throughline.toml(5), systemd.service(5), sysctl.d(5), nvme(1)
"#;

fn commands(command: Command) -> String {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut out = head(
        "THROUGHLINE",
        8,
        "throughline",
        "storage dataplane: Ethernet frames to NVMe scatter-gather lists",
    );
    out += ".SH SYNOPSIS\n";
    let subs = leaves(&command, "");
    for (index, (name, sub)) in subs.iter().enumerate() {
        let _ = writeln!(
            out,
            "{}.B throughline {}",
            if index > 0 { ".br\n" } else { "" },
            escape(name)
        );
        let usage = (*sub).clone().render_usage().to_string();
        let rest = usage
            .split_once(sub.get_name())
            .map_or("", |(_, rest)| rest)
            .trim();
        if !rest.is_empty() {
            let _ = writeln!(out, "{}", escape(rest));
        }
    }
    let _ = writeln!(out, ".SH DESCRIPTION\n{}", paragraphs(DESCRIPTION));
    out += ".SH COMMANDS\n";
    for (name, sub) in subs {
        let _ = writeln!(out, ".SS {}\n{}.", escape(&name), escape(&about(sub)));
        for argument in sub
            .get_arguments()
            .filter(|a| !a.is_hide_set() && a.get_id() != "help")
        {
            let _ = writeln!(
                out,
                ".TP\n.B {}\n{}.",
                escape(&form(argument)),
                escape(&help(argument))
            );
        }
    }
    out + REST
}

/// The commands that do something, each with its whole name: `stats`, `config save`.
fn leaves<'c>(command: &'c Command, within: &str) -> Vec<(String, &'c Command)> {
    let shown = |sub: &&Command| !sub.is_hide_set() && sub.get_name() != "help";
    let leaf = |sub: &'c Command| {
        let name = format!("{within} {}", sub.get_name()).trim().to_owned();
        if sub.has_subcommands() {
            leaves(sub, &name)
        } else {
            vec![(name, sub)]
        }
    };
    command
        .get_subcommands()
        .filter(shown)
        .flat_map(leaf)
        .collect()
}

fn configuration() -> String {
    let mut out = head(
        "THROUGHLINE.TOML",
        5,
        "throughline.toml",
        "configuration of throughline(8)",
    );
    out += ".SH DESCRIPTION\nOne file in TOML. `throughline check \\-\\-config FILE` tells whether it is good, and this machine ready \
        for it; every mistake is told with its line and what to write instead.\n\
        .PP\nThis one has every key, with what it means. Keys shown as comments have the value given there when left out.\n\
        .SH EVERY KEY\n.nf\n";
    for line in EXAMPLE.lines() {
        let _ = writeln!(out, "{}", escape(line));
    }
    out + ".fi\n.SH SEE ALSO\nthroughline(8), sysctl.d(5)\n"
}

fn head(title: &str, section: u8, name: &str, what: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        ".TH {title} {section} \"\" \"Throughline {version}\" \"Throughline\"\n.SH NAME\n{} \\- {}\n",
        escape(name),
        escape(what)
    )
}

fn about(command: &Command) -> String {
    command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn help(argument: &Arg) -> String {
    argument
        .get_help()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// `-c, --config FILE`, or the name of what stands without an option.
fn form(argument: &Arg) -> String {
    let mut forms = Vec::new();
    forms.extend(argument.get_short().map(|short| format!("-{short}")));
    forms.extend(argument.get_long().map(|long| format!("--{long}")));
    let takes = argument.get_action().takes_values();
    let values = argument.get_value_names().unwrap_or_default();
    let values: Vec<&str> = values
        .iter()
        .map(|name| name.as_str())
        .filter(|_| takes)
        .collect();
    [forms.join(", "), values.join(" ")]
        .join(" ")
        .trim()
        .to_owned()
}

fn paragraphs(text: &str) -> String {
    let paragraphs: Vec<String> = text.split("\n\n").map(escape).collect();
    paragraphs.join("\n.PP\n")
}

/// Text that roff takes literally: its escape character, its hyphens, what
/// begins a line, and characters beyond ASCII.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for (index, c) in text.char_indices() {
        match c {
            '\\' => escaped += "\\e",
            '-' => escaped += "\\-",
            '.' | '\'' if index == 0 => {
                escaped += "\\&";
                escaped.push(c);
            }
            // Terminals that only know ASCII have no ellipsis.
            '…' => escaped += "...",
            c if c.is_ascii() => escaped.push(c),
            c => {
                let _ = write!(escaped, "\\[u{:04X}]", u32::from(c));
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k06_the_manual_has_every_command_and_option() {
        let command = Command::new("throughline").subcommand(
            Command::new("serve").about("Serve it").arg(
                Arg::new("config")
                    .long("config")
                    .short('c')
                    .value_name("FILE")
                    .help("The file"),
            ),
        );
        let config = Command::new("config").subcommand(Command::new("save").about("Save it"));
        let page = text(Page::Commands, command.subcommand(config));
        assert!(page.contains(".SS config save\nSave it.\n"), "{page}");
        assert!(page.contains(".B throughline serve\n[OPTIONS]\n"), "{page}");
        assert!(
            page.contains(".SS serve\nServe it.\n.TP\n.B \\-c, \\-\\-config FILE\nThe file.\n"),
            "{page}"
        );
    }

    #[test]
    fn k06_the_manual_has_every_key_as_it_is_written() {
        let page = text(Page::Configuration, Command::new("throughline"));
        let body = page
            .split_once(".nf\n")
            .unwrap()
            .1
            .split_once(".fi\n")
            .unwrap()
            .0;
        let plain = body
            .replace("\\-", "-")
            .replace("\\e", "\\")
            .replace("\\&", "");
        assert_eq!(plain, EXAMPLE.replace('…', "..."));
    }
}
