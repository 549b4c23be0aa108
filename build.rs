//! The build script of both -sys crates (`build = "../../build.rs"`): finds the native libraries with pkg-config,
//! compiles the crate's C shim against them, generates Rust bindings from the shim's header alone, and links. For the
//! program itself it only says how to link.
//!
//! Where the libraries come from, first match wins:
//! 1. `THROUGHLINE_NATIVE=<prefix>`: an SPDK with its DPDK installed there;
//! 2. `PKG_CONFIG_PATH`, when it leads to SPDK's and DPDK's pkg-config files;
//! 3. the default libraries that `ci/setup` built (`$THROUGHLINE_CACHE/current`, `/var/cache/throughline/current`);
//! 4. the system's own pkg-config directories.
//!
//! Two generations are supported: SPDK 20.07 with DPDK 20.05 (the default), and SPDK 24.01 or later with DPDK 22.11 or
//! later. The difference is in the libraries' own version headers, and no Rust code depends on it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// SPDK's libraries, dependents first. A generation links those of them it has.
const SPDK_LIBRARIES: &[&str] = &[
    // Block device modules, and what they are made of.
    "bdev_malloc",
    "bdev_null",
    "bdev_nvme",
    "bdev_aio",
    "bdev_uring",
    "bdev_rbd",
    "bdev_passthru",
    "bdev_lvol",
    "bdev_raid",
    "bdev_error",
    "bdev_gpt",
    "bdev_split",
    "bdev_delay",
    "bdev_zone_block",
    "blob_bdev",
    "blob",
    "lvol",
    // Subsystems, and the framework that brings them up from a JSON configuration.
    "event_bdev",
    "event_accel",
    "event_vmd",
    "event_sock",
    "event_iobuf",
    "event_keyring",
    "event",
    "init",
    "app_rpc",
    "bdev_rpc",
    "log_rpc",
    "env_dpdk_rpc",
    // Libraries.
    "keyring_file",
    "keyring",
    "accel_ioat",
    "ioat",
    "nvme",
    "vmd",
    "sock_posix",
    "sock",
    "accel",
    "bdev",
    "notify",
    "trace",
    "thread",
    "rpc",
    "jsonrpc",
    "json",
    "conf",
    "dma",
    "util",
    "log",
    "env_dpdk",
];

fn main() {
    if let Err(text) = build() {
        // One readable paragraph instead of a panic's backtrace.
        eprintln!("\n{text}\n");
        exit(1);
    }
}

fn build() -> Result<(), String> {
    if env::var("CARGO_PKG_NAME").as_deref() == Ok("throughline") {
        // Code is loaded as far from its start as it lies in the file: `perf` takes a
        // tracepoint's address for its place there, and breaks an instruction where it is not.
        println!("cargo:rustc-link-arg-bins=-Wl,-z,separate-code");
        println!("cargo:rerun-if-changed=build.rs");
        return Ok(());
    }
    for variable in [
        "THROUGHLINE_NATIVE",
        "THROUGHLINE_CACHE",
        "PKG_CONFIG_PATH",
        "CC",
    ] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let own = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!(
        "cargo:rerun-if-changed={}",
        own.join("../../build.rs").display()
    );
    for entry in fs::read_dir(&own)
        .map_err(|e| format!("{}: {e}", own.display()))?
        .flatten()
    {
        if entry
            .path()
            .extension()
            .is_some_and(|x| x == "c" || x == "h")
        {
            println!("cargo:rerun-if-changed={}", entry.path().display());
        }
    }

    let native = Native::find()?;
    match env::var("CARGO_PKG_NAME").as_deref() {
        Ok("dpdk-sys") => {
            let flags = native.flags(&["libdpdk"])?;
            compile_shim(&own, "tl_dpdk", &flags)?;
            link_dpdk(&native, &flags);
        }
        Ok("spdk-sys") => {
            let flags = native.flags(&["spdk_env_dpdk", "spdk_bdev", "spdk_nvme"])?;
            let version = spdk_version(&flags)?;
            if version != (20, 7) && version < (24, 1) {
                return Err(format!(
                    "SPDK {}.{:02} found; Throughline needs 24.01 or later (or the 20.07 that ci/setup builds). \
                     Set THROUGHLINE_NATIVE to the prefix of a supported one.",
                    version.0, version.1
                ));
            }
            println!("cargo:version={}.{:02}", version.0, version.1);
            compile_shim(&own, "tl_spdk", &flags)?;
            link_spdk(&native, &flags);
        }
        other => {
            return Err(format!(
                "build.rs serves throughline, dpdk-sys and spdk-sys, not {other:?}"
            ));
        }
    }
    Ok(())
}

/// The place pkg-config files are read from.
struct Native {
    /// Put in front of pkg-config's own path; empty for the system's.
    pkg_config_path: String,
}

/// Compiler and linker flags of some pkg-config modules, taken apart.
struct Flags {
    includes: Vec<PathBuf>,
    lib_dirs: Vec<PathBuf>,
    libs: Vec<String>,
}

impl Native {
    fn find() -> Result<Self, String> {
        if let Ok(prefix) = env::var("THROUGHLINE_NATIVE") {
            let native = Self::at_prefix(Path::new(&prefix));
            return match native.has_both() {
                Ok(()) => Ok(native),
                Err(text) => Err(format!(
                    "THROUGHLINE_NATIVE={prefix} does not lead to SPDK and DPDK: it needs pkg-config files \
                     (lib/pkgconfig/spdk_*.pc, and libdpdk.pc there or on the system).\n{text}"
                )),
            };
        }
        let cache =
            env::var("THROUGHLINE_CACHE").unwrap_or_else(|_| "/var/cache/throughline".to_owned());
        let current = Path::new(&cache).join("current");
        println!(
            "cargo:rerun-if-changed={}",
            current.join(".complete").display()
        );
        let own = env::var("PKG_CONFIG_PATH").unwrap_or_default();
        let candidates = [
            (!own.is_empty()).then_some(Self {
                pkg_config_path: own,
            }),
            current
                .join(".complete")
                .exists()
                .then(|| Self::at_prefix(&current)),
            Some(Self {
                pkg_config_path: String::new(),
            }),
        ];
        let mut last = String::new();
        for native in candidates.into_iter().flatten() {
            match native.has_both() {
                Ok(()) => return Ok(native),
                Err(text) => last = text,
            }
        }
        Err(format!(
            "The native libraries (SPDK and DPDK) were not found. Run ./ci/setup to build the default ones, or set \
             THROUGHLINE_NATIVE to the prefix of your own SPDK 24.01+ with DPDK 22.11+.\n\
             (The crates under dataplane/ other than engine need none: plain `cargo test` works without.)\n{last}"
        ))
    }

    fn at_prefix(prefix: &Path) -> Self {
        // Resolved, so that a change of a `current` link changes the flags, and cargo notices.
        let prefix = fs::canonicalize(prefix).unwrap_or_else(|_| prefix.to_owned());
        let triple = format!(
            "lib/{}-linux-gnu/pkgconfig",
            env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default()
        );
        let mut path: Vec<String> = ["lib/pkgconfig", "lib64/pkgconfig", &triple]
            .iter()
            .map(|sub| prefix.join(sub).display().to_string())
            .collect();
        path.extend(env::var("PKG_CONFIG_PATH").ok().filter(|p| !p.is_empty()));
        Self {
            pkg_config_path: path.join(":"),
        }
    }

    fn has_both(&self) -> Result<(), String> {
        self.pkg_config(&["--cflags", "spdk_env_dpdk"])
            .and(self.pkg_config(&["--cflags", "libdpdk"]))
            .map(drop)
    }

    fn pkg_config(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command =
            Command::new(env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned()));
        command.args(arguments);
        if !self.pkg_config_path.is_empty() {
            command.env("PKG_CONFIG_PATH", &self.pkg_config_path);
        }
        let output = command
            .output()
            .map_err(|e| format!("pkg-config cannot be run ({e}): run ./ci/setup"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// Private requirements are left aside when they cannot be resolved: SPDK names parts of newer DPDKs there.
    fn flags(&self, modules: &[&str]) -> Result<Flags, String> {
        let mut flags = Flags {
            includes: Vec::new(),
            lib_dirs: Vec::new(),
            libs: Vec::new(),
        };
        for module in modules {
            let cflags = self.pkg_config(&["--cflags", "--keep-system-cflags", module])?;
            let libs = self
                .pkg_config(&["--static", "--libs", "--keep-system-libs", module])
                .or_else(|_| self.pkg_config(&["--libs", "--keep-system-libs", module]))?;
            for word in cflags.split_whitespace() {
                push_new(
                    &mut flags.includes,
                    word.strip_prefix("-I").map(PathBuf::from),
                );
            }
            for word in libs.split_whitespace() {
                push_new(
                    &mut flags.lib_dirs,
                    word.strip_prefix("-L").map(PathBuf::from),
                );
                // "-l:libNAME.a" means what "-lNAME" does, statically; which of the two exists decides below.
                let name = word
                    .strip_prefix("-l:lib")
                    .map(|n| n.trim_end_matches(".a"));
                let name = name.or_else(|| word.strip_prefix("-l").filter(|n| !n.starts_with(':')));
                push_new(&mut flags.libs, name.map(str::to_owned));
                // An SPDK that built its own ISA-L names that archive where it was built.
                if let Some((dir, file)) = word.rsplit_once('/').filter(|_| word.starts_with('/'))
                    && let Some(name) = file.strip_prefix("lib").and_then(|f| f.strip_suffix(".a"))
                {
                    push_new(&mut flags.libs, Some(name.to_owned()));
                    push_new(&mut flags.lib_dirs, Some(PathBuf::from(dir)));
                }
            }
        }
        Ok(flags)
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: Option<T>) {
    if let Some(item) = item.filter(|item| !list.contains(item)) {
        list.push(item);
    }
}

impl Flags {
    fn holds(&self, file: &str) -> bool {
        self.lib_dirs.iter().any(|dir| dir.join(file).exists())
    }

    fn print_search_path(&self) {
        for dir in &self.lib_dirs {
            println!("cargo:rustc-link-search=native={}", dir.display());
            // What is linked is what lies there: a library that is added or built anew is news. The system's own
            // directories change with every update of anything.
            if dir.is_absolute()
                && !["/usr/lib", "/lib"]
                    .iter()
                    .any(|system| dir.starts_with(system))
            {
                println!("cargo:rerun-if-changed={}", dir.display());
            }
        }
    }
}

/// The version in `spdk/version.h`.
fn spdk_version(flags: &Flags) -> Result<(u32, u32), String> {
    let header = flags
        .includes
        .iter()
        .map(|dir| dir.join("spdk/version.h"))
        .find(|path| path.exists());
    let header =
        header.ok_or("SPDK's headers have no spdk/version.h: install SPDK with `make install`.")?;
    println!("cargo:rerun-if-changed={}", header.display());
    let text = fs::read_to_string(&header).map_err(|e| format!("{}: {e}", header.display()))?;
    let field = |name: &str| {
        text.lines()
            .filter_map(|line| {
                line.strip_prefix("#define")?
                    .trim_start()
                    .strip_prefix(name)
            })
            .find_map(|rest| rest.trim().parse().ok())
            .ok_or(format!("{} does not define {name}", header.display()))
    };
    Ok((field("SPDK_VERSION_MAJOR")?, field("SPDK_VERSION_MINOR")?))
}

fn compile_shim(own: &Path, library: &str, flags: &Flags) -> Result<(), String> {
    let mut build = cc::Build::new();
    for entry in fs::read_dir(own).map_err(|e| e.to_string())?.flatten() {
        if entry.path().extension().is_some_and(|x| x == "c") {
            build.file(entry.path());
        }
    }
    for dir in &flags.includes {
        build.flag("-isystem").flag(dir);
    }
    build
        .include(own)
        .std("gnu11")
        .warnings(true)
        .extra_warnings(true)
        .flag("-fno-omit-frame-pointer")
        .opt_level(2);
    build
        .flag("-Werror=implicit-function-declaration")
        .flag("-Wno-deprecated-declarations");
    build
        .define("ALLOW_EXPERIMENTAL_API", None)
        .define("_GNU_SOURCE", None);
    if library == "tl_dpdk" {
        build.flag("-include").flag("rte_config.h");
    }
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        build.flag("-march=corei7");
    }
    build
        .try_compile(&format!("{library}_shim"))
        .map_err(|e| format!("The C shim did not compile: {e}"))?;

    // Only our own header is shown to bindgen: fixed-width integers and opaque pointers.
    let bindings = bindgen::builder()
        .header(own.join("shim.h").display().to_string())
        .clang_arg("-fparse-all-comments")
        .allowlist_item("(tl|TL)_.*")
        .derive_default(true)
        .use_core()
        .generate()
        .map_err(|e| {
            format!("bindgen failed on shim.h: {e}. Is libclang installed? ./ci/setup installs it.")
        })?;
    let out = PathBuf::from(env::var("OUT_DIR").unwrap_or_default()).join("bindings.rs");
    bindings
        .write_to_file(&out)
        .map_err(|e| format!("{}: {e}", out.display()))
}

/// Whole archives: drivers, subsystems and block device modules register themselves in constructors, which nothing
/// refers to. Not bundled into the rlib: the linker sees each archive once, in the final link.
fn link_static(name: &str) {
    println!("cargo:rustc-link-lib=static:+whole-archive,-bundle={name}");
}

fn link_dpdk(native: &Native, flags: &Flags) {
    flags.print_search_path();
    // The first directory with an EAL is this DPDK's; a distribution's may lie in a later one. A DPDK with shared
    // libraries is used that way: its EAL loads its own directory of drivers.
    let is_home = |dir: &&PathBuf| {
        ["a", "so"]
            .iter()
            .any(|x| dir.join(format!("librte_eal.{x}")).exists())
    };
    let home = flags
        .lib_dirs
        .iter()
        .find(is_home)
        .cloned()
        .unwrap_or_default();
    let shared = home.join("librte_eal.so").exists();
    let public = native
        .pkg_config(&["--libs", "libdpdk"])
        .unwrap_or_default();
    // Buses count as drivers there, but SPDK calls the PCI one.
    let wanted = |name: &str| {
        name.starts_with("rte_bus_") || public.split_whitespace().any(|w| w == format!("-l{name}"))
    };
    for name in &flags.libs {
        let ours = name.starts_with("rte_");
        let here = home
            .join(format!("lib{name}.{}", if shared { "so" } else { "a" }))
            .exists();
        match (ours, shared) {
            (true, false) if here => link_static(name),
            (true, true) if here && wanted(name) => println!("cargo:rustc-link-lib=dylib={name}"),
            (false, false) => link_system(flags, name),
            _ => {}
        }
    }
}

/// A library of the system's, if there is one to link. Modules name private libraries of other modules' (libpcap's
/// D-Bus that of systemd), which come without a file to link where only their shared library is installed; the symbols
/// are that library's own affair.
fn link_system(flags: &Flags, name: &str) {
    let found = ["so", "a"].iter().any(|end| {
        let file = format!("lib{name}.{end}");
        let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let asked = Command::new(compiler)
            .arg(format!("-print-file-name={file}"))
            .output();
        // The compiler answers with the bare name if its linker would not find it.
        flags.holds(&file) || asked.is_ok_and(|output| output.stdout.contains(&b'/'))
    });
    if found {
        println!("cargo:rustc-link-lib=dylib={name}");
    } else {
        println!("cargo:warning=lib{name} is named by pkg-config and cannot be linked: left out");
    }
}

fn link_spdk(native: &Native, flags: &Flags) {
    let system = native.flags(&["spdk_syslibs"]).ok();
    flags.print_search_path();
    for name in SPDK_LIBRARIES {
        let name = format!("spdk_{name}");
        if flags.holds(&format!("lib{name}.a")) {
            link_static(&name);
        }
    }
    let Some(system) = system else { return };
    system.print_search_path();
    for name in system
        .libs
        .iter()
        .filter(|name| !name.starts_with("rte_") && !name.starts_with("spdk_"))
    {
        let archive = format!("lib{name}.a");
        if name.starts_with("isal") && (flags.holds(&archive) || system.holds(&archive)) {
            println!("cargo:rustc-link-lib=static:-bundle={name}");
        } else {
            link_system(&system, name);
        }
    }
}
