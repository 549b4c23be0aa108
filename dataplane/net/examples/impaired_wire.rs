//! A wire between two network namespaces that treats frames as netem would, for
//! labs on kernels that have no netem.
//!
//! ```text
//! impaired_wire NAMESPACE NAMESPACE INTERFACE NETEM... [// NETEM...]
//! impaired_wire /run/netns/a /run/netns/b wire0 delay 1ms loss 1%
//! ```
//!
//! Puts a TAP device called INTERFACE into each namespace, says "ready", and
//! carries frames between the two until it is killed: those of the first
//! namespace as the first words say, those of the second as the words after `//`
//! do, or both alike.

// What the tests of this crate against Linux are made of.
#[allow(dead_code)]
#[path = "../tests/linux/sys.rs"]
mod sys;
#[allow(dead_code)]
#[path = "../tests/linux/wire.rs"]
mod wire;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

fn main() {
    if let Err(error) = run() {
        eprintln!("impaired_wire: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [first, second, interface, netem @ ..] = &arguments[..] else {
        return Err("NAMESPACE NAMESPACE INTERFACE NETEM... [// NETEM...]".into());
    };
    let (there, back) = match netem.iter().position(|word| word == "//") {
        Some(at) => (&netem[..at], &netem[at + 1..]),
        None => (netem, netem),
    };
    let parse = |words: &[String]| wire::Netem::parse(&words.join(" "));
    let how = [parse(there)?, parse(back)?];
    let mut ends = [tap(first, interface)?, tap(second, interface)?];
    println!("ready");
    wire::carry(&mut ends, how, 1, &Arc::new(AtomicBool::new(false)));
    Ok(())
}

fn tap(namespace: &str, interface: &str) -> Result<File, String> {
    let fail = |error: std::io::Error| format!("{namespace}: {error}");
    let namespace = File::open(namespace).map_err(fail)?;
    let interface = interface.to_string();
    let made = thread::spawn(move || {
        sys::enter_net(&namespace)?;
        sys::tap(&interface)
    });
    made.join().map_err(|_| "it panicked")?.map_err(fail)
}
