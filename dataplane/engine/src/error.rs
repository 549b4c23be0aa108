//! Why an engine could not start, and what the operator can do.
#![allow(unsafe_code)]

/// A failure to start, or to stop. Nothing on the I/O path ends the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel gave no hugepages.
    #[error(
        "no hugepages for {mib} MiB of clusters and pages: reserve more \
         (`sysctl -p hugepages.conf`, or raise vm.nr_hugepages there), or lower [memory] in the configuration"
    )]
    Hugepages {
        /// What one shard asked for.
        mib: u64,
    },
    /// The arena is too small for its pools, or the sizes do not tile pages.
    #[error("[memory]: {0}")]
    Memory(String),
    /// At the stop, pages that one shard lent to another did not come back.
    #[error("shard {shard}: pages lent to other shards did not come back; please report this")]
    Lent {
        /// The shard that waited.
        shard: usize,
    },
    /// The system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// DPDK's environment did not start.
    #[error(
        "DPDK did not start: {} (EAL arguments: {args}); is the program root, are hugepages free, \
         and do the cores exist?", strerror(*.code))]
    Eal {
        /// Negative errno.
        code: i32,
        /// What was passed to it.
        args: String,
    },
    /// SPDK's environment or subsystems did not start.
    #[error("SPDK: {what}: {}", strerror(*.code))]
    Spdk {
        /// What was being done.
        what: &'static str,
        /// Negative errno.
        code: i32,
    },
    /// SPDK's JSON configuration stopped at a call.
    #[error(
        "SPDK: `{0}` failed, a call of a malloc store or of the file that `config` in [spdk] names; what SPDK says about it is logged above"
    )]
    SpdkConfig(String),
    /// A network port could not be set up.
    #[error("port {name}: {what}: {}", strerror(*.code))]
    Port {
        /// The port's name in the configuration.
        name: String,
        /// What was being done, and what to look at.
        what: &'static str,
        /// Negative errno.
        code: i32,
    },
    /// A port's configuration cannot work.
    #[error("port {name}: {why}")]
    PortConfig {
        /// The port's name in the configuration.
        name: String,
        /// What is wrong and what to write instead.
        why: String,
    },
    /// The log cannot be used, or replayed.
    #[error("log on store {store}: {why}")]
    Log {
        /// The store's name in the configuration.
        store: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// A device could not be opened.
    #[error("store {name}: {what}: {}", strerror(*.code))]
    Store {
        /// The store's name in the configuration.
        name: String,
        /// What was being done, and what to look at.
        what: &'static str,
        /// Negative errno.
        code: i32,
    },
    /// A device that cannot be used.
    #[error("store {name}: {why}")]
    StoreConfig {
        /// The store's name in the configuration.
        name: String,
        /// What is wrong and what to write instead.
        why: String,
    },
    /// The target's configuration cannot work.
    #[error("target: {0}")]
    Target(String),
    /// No core was given, or one that DPDK does not have.
    #[error("cores: {0}")]
    Cores(String),
}

/// DPDK's sentence for an errno value.
pub(crate) fn strerror(code: i32) -> String {
    // SAFETY: the string belongs to the calling thread and is copied at once.
    unsafe { std::ffi::CStr::from_ptr(dpdk_sys::tl_strerror(code)) }
        .to_string_lossy()
        .into_owned()
}
