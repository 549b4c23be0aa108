//! A wire of ours between two namespaces: for kernels without netem, and for
//! what netem and a veth cannot do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::failure::OrFail;
use crate::{End, Namespace, Outcome, Result, sys};

// Also what the tests of the crate `net` against Linux use where there is no netem.
#[allow(dead_code)]
#[path = "../../../dataplane/net/tests/linux/wire.rs"]
mod wire;

/// A wire that carries frames between two TAP devices while this value lives,
/// each direction as it was told.
#[derive(Debug)]
pub struct Carried {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<[wire::Tally; 2]>>,
}

impl Carried {
    /// Puts the wire in the place of the interfaces. `how`: what is done to what
    /// each end sends, in netem's words, and `access VLAN` (the end is at an access
    /// port of a switch), `swallow BYTES` (longer frames vanish), `-` (nothing).
    ///
    /// # Errors
    ///
    /// The words are not understood, or the kernel refuses.
    #[track_caller]
    pub fn between(ends: [End<'_>; 2], how: [&str; 2]) -> Result<Self> {
        let [first, second] = how.map(wire::Netem::parse);
        let how = [first.or_fail(|why| why)?, second.or_fail(|why| why)?];
        // One of a veth takes the other with it.
        for (namespace, interface) in ends {
            namespace.tries(&format!("ip link del {interface}"))?;
        }
        let [(a, here), (b, there)] = ends;
        let mut taps = [a.within(|| sys::tap(here))?, b.within(|| sys::tap(there))?];
        for (namespace, interface) in ends {
            up(namespace, interface)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || wire::carry(&mut taps, how, 1, &stopped));
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

#[track_caller]
fn up(namespace: &Namespace, interface: &str) -> Outcome {
    namespace.no_offloads(interface)?;
    namespace.run(&format!(
        "ip link set {interface} mtu 1500 txqueuelen 10000 up"
    ))
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}
