//! DPDK's and SPDK's environments: one of each per process, started in this
//! order and taken down in the reverse.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use crate::config::Config;
use crate::error::Error;
use crate::spdk::{Done, SpdkThread};

/// The process's environments. [`Environment::stop`] releases both.
pub(crate) struct Environment {
    /// EAL keeps pointers into these.
    _args: Vec<CString>,
    app: SpdkThread,
}

impl Environment {
    /// Starts EAL with our own arguments, SPDK on top of it, and SPDK's
    /// subsystems with the configured JSON. The calling thread becomes the main
    /// lcore and SPDK's app thread.
    pub(crate) fn start(config: &Config) -> Result<Self, Error> {
        let args = eal_arguments(config)?;
        let mut argv: Vec<*mut c_char> = args.iter().map(|arg| arg.as_ptr().cast_mut()).collect();
        // SAFETY: `argv` holds `len` strings that live as long as the environment.
        let code = unsafe { dpdk_sys::tl_eal_init(argv.len() as i32, argv.as_mut_ptr()) };
        if code < 0 {
            let args: Vec<_> = args
                .iter()
                .skip(1)
                .map(|arg| arg.to_string_lossy())
                .collect();
            return Err(Error::Eal {
                code,
                args: args.join(" "),
            });
        }
        // SAFETY: EAL is up; each is called once, in this order.
        let code = unsafe { spdk_sys::tl_spdk_env_init() };
        check(code, "starting its environment")?;
        forward_log();
        // SAFETY: as above.
        let code = unsafe { spdk_sys::tl_spdk_threads_init() };
        check(code, "starting its threads")?;
        let app = SpdkThread::create("app", crate::lcore::main())?;
        let environment = Self { _args: args, app };
        match environment.start_subsystems(config.spdk_json.as_deref()) {
            Ok(()) => Ok(environment),
            Err(error) => {
                environment.stop();
                Err(error)
            }
        }
    }

    /// The app thread, for the main shard to poll now and then.
    pub(crate) fn app(&self) -> &SpdkThread {
        &self.app
    }

    fn start_subsystems(&self, json: Option<&str>) -> Result<(), Error> {
        self.app.enter();
        let done = Done::default();
        let (text, len) = json.map_or((ptr::null(), 0), |json| (json.as_ptr().cast(), json.len()));
        // SAFETY: SPDK copies the text; `done` lives until it was called, below.
        unsafe { spdk_sys::tl_spdk_start(text, len as u64, Some(Done::call), done.arg()) };
        let code = done.wait(&self.app);
        // SAFETY: a string that lives forever; SPDK is done with its configuration.
        let step = unsafe { CStr::from_ptr(spdk_sys::tl_spdk_step()) };
        if code < 0 && !step.is_empty() {
            return Err(Error::SpdkConfig(step.to_string_lossy().into_owned()));
        }
        check(code, "starting its block devices")
    }

    /// Takes both environments down. Ports, descriptors and registered memory are gone by now.
    pub(crate) fn stop(self) {
        self.app.enter();
        let done = Done::default();
        // SAFETY: every descriptor is closed; `done` lives until it was called.
        unsafe { spdk_sys::tl_spdk_stop(Some(Done::call), done.arg()) };
        done.wait(&self.app);
        drop(self.app);
        // SAFETY: no SPDK thread, port or registered memory is left.
        unsafe {
            spdk_sys::tl_spdk_threads_fini();
            spdk_sys::tl_spdk_env_fini();
            dpdk_sys::tl_eal_cleanup();
        }
    }
}

/// Whether the SPDK that this program is linked with has a method of its JSON configuration.
pub fn spdk_has_method(name: &str) -> bool {
    // SAFETY: the name is read during the call; methods register themselves before `main`.
    CString::new(name).is_ok_and(|name| unsafe { spdk_sys::tl_spdk_has_method(name.as_ptr()) })
}

/// Whether that SPDK is the older of the two generations (20.07).
pub fn spdk_is_legacy() -> bool {
    // SAFETY: a constant.
    unsafe { spdk_sys::tl_spdk_is_legacy() }
}

/// Sends SPDK's log to the program's.
fn forward_log() {
    // SAFETY: the hook is a function that lives forever; no SPDK thread runs yet.
    unsafe {
        spdk_sys::tl_spdk_log_level(2);
        spdk_sys::tl_spdk_log_hook(Some(on_log));
    }
}

/// Runs on whatever thread logs.
unsafe extern "C" fn on_log(level: i32, _file: *const c_char, _line: i32, text: *const c_char) {
    let level = match level {
        ..=0 => log::Level::Error,
        1 => log::Level::Warn,
        // SPDK's notices are an operator's details.
        _ => log::Level::Debug,
    };
    // SAFETY: a string that is valid during the call.
    let text = unsafe { CStr::from_ptr(text) };
    log::log!(target: "spdk", level, "{}", text.to_string_lossy());
}

fn check(code: i32, what: &'static str) -> Result<(), Error> {
    if code < 0 {
        Err(Error::Spdk { what, code })
    } else {
        Ok(())
    }
}

fn eal_arguments(config: &Config) -> Result<Vec<CString>, Error> {
    let cores: Vec<String> = config.cores.iter().map(u32::to_string).collect();
    if cores.is_empty() {
        return Err(Error::Cores("at least one core must poll".into()));
    }
    let mut args = vec![
        "throughline".into(),
        "-l".into(),
        cores.join(","),
        // No hugetlbfs mount, no files left behind, no second process.
        "--in-memory".into(),
        // Its socket would be in /tmp, where two programs that start at the same time take each other's, and anyone asks.
        "--no-telemetry".into(),
        "-m".into(),
        config.native_memory_mib.to_string(),
        "--base-virtaddr=0x200000000000".into(),
        // Memory goes back in the blocks it came in, which SPDK's maps rely on.
        "--match-allocations".into(),
        // Errors only: what EAL finds unusual about --in-memory is as intended.
        "--log-level=4".into(),
    ];
    if config.pci_allow.is_empty() {
        args.push("--no-pci".into());
    }
    if config.pci_allow.is_empty() || iommu_is_narrow() {
        args.push("--iova-mode=pa".into());
    }
    // Otherwise EAL chooses: virtual addresses when all devices are behind an IOMMU
    // (vfio-pci), physical ones when any is not (uio_pci_generic).
    let devices = config.ports.iter().map(|port| &port.device);
    let virtual_devices = devices.filter(|device| is_dpdk(device) && !is_pci(device));
    args.extend(virtual_devices.map(|device| format!("--vdev={device}")));
    args.into_iter()
        .map(|arg| {
            CString::new(arg).map_err(|_| Error::Eal {
                code: -libc::EINVAL,
                args: "a NUL byte".into(),
            })
        })
        .collect()
}

/// Whether an IOMMU of this machine takes fewer address bits than a process has (47):
/// its devices must be given physical addresses, which fit.
fn iommu_is_narrow() -> bool {
    let units = std::fs::read_dir("/sys/class/iommu").into_iter().flatten();
    units.flatten().any(|unit| {
        let cap = std::fs::read_to_string(unit.path().join("intel-iommu/cap")).ok();
        let cap = cap.and_then(|cap| u64::from_str_radix(cap.trim(), 16).ok());
        // MGAW, bits 21:16: the width less one (VT-d specification, Capability Register).
        cap.is_some_and(|cap| (cap >> 16 & 0x3f) + 1 < 47)
    })
}

/// Whether a port's device is one of DPDK's, not an interface of the kernel: a PCI
/// address, or a virtual device, whose name begins with that of its driver (`net_…`).
pub(crate) fn is_dpdk(device: &str) -> bool {
    is_pci(device) || device.starts_with("net_")
}

/// Whether an EAL device string is a PCI address (`0000:01:00.0` or `01:00.0`).
pub(crate) fn is_pci(device: &str) -> bool {
    device.starts_with(|c: char| c.is_ascii_hexdigit()) && device.contains(':')
}
