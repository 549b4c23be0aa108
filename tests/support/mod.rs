//! What tests that run the program share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A port that needs nothing of the machine, a store, and a subsystem: all of a configuration
/// but its cores, which come first, and what comes behind.
pub const OFFER: &str = r#"[[port]]
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

/// What starts EAL has the machine's hugepages and cores to itself.
#[allow(dead_code)] // in files of one such test
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
