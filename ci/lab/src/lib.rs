//! End-to-end tests: the program as it is shipped, in network namespaces of the
//! kernel, against tools that others have written.
//!
//! ```text
//! cargo test -p lab                             everything; as root, with ci/setup and a release build
//! cargo test -p lab -- z14 k06_capture          the tests with such names
//! cargo test -p lab --test links -- --long      more sizes, for minutes
//! ```
//!
//! A test is a function in a file under `tests/`, and is in that file's list:
//!
//! ```text
//! fn z06_verify_at_many_sizes(test: &Test) -> Outcome {
//!     let lab = Lab::new(test)?;
//!     let program = lab.start(&Config::one_disk())?;
//!     for bytes in [512, 4096, 20480, 65536] {
//!         let load = Load::new("verify", bytes).depth(32).seconds(2);
//!         lab.host.bdevperf(&program.at(NQN), &load)?.succeeds()?;
//!     }
//!     program.ends_well()
//! }
//!
//! lab::tests![z06_verify_at_many_sizes];
//! ```
//!
//! What is made goes with the values that stand for it: namespaces
//! ([`Namespace`]), wires ([`veth`], [`Carried`]), processes ([`Process`]), and the
//! program ([`Program`]) on a configuration ([`Config`]). Tools ([`Tool`]) are
//! values that are run to a success, to a failure, or in the background. Nothing
//! waits without a bound, and nothing waits for time to pass: it waits for a
//! condition ([`wait::until`]). A failure ([`Failure`]) says what was expected,
//! what came, and on which line; the harness adds the ends of the program's logs.
//! All that a test and its tools wrote is in `target/lab/NAME/`.
//!
//! A test that cannot run here fails with [`Failure::Skipped`] and is reported as
//! ignored, with the reason.

mod capture;
mod carried;
pub mod config;
mod context;
pub mod expect;
mod failure;
pub mod harness;
mod host;
mod lab;
mod machine;
mod namespace;
pub mod pair;
mod process;
mod program;
mod stats;
mod tunnel;
// Also what the tests of the crate `net` against Linux are made of.
#[allow(dead_code)]
#[path = "../../../dataplane/net/tests/linux/sys.rs"]
mod sys;
pub mod wait;
pub mod writer;

pub use self::capture::frames;
pub use self::carried::Carried;
pub use self::config::{Config, Section};
pub use self::context::{MIB, Test, same_bytes};
pub use self::failure::{Failure, Outcome, Result};
pub use self::host::{Host, Load, TransportId};
pub use self::lab::Lab;
pub use self::machine::throughline;
pub use self::namespace::{Door, End, Namespace, mtu, veth};
pub use self::process::{Ended, Process, Tool};
pub use self::program::{Program, check, json_rpc};
pub use self::stats::Stats;
pub use self::tunnel::Tunnel;
