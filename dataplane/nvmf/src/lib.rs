//! NVMe over fabrics: the target, sans I/O; its transport is TCP.
//!
//! Slices of received clusters and time go in; requests on volumes, and chunks
//! to send, come out. Payload is never copied: a write's [`pages::Slice`]s are
//! placed in the request's page run, a read's run is sent from where the device
//! put it. After a connection is set up nothing is allocated (a test counts).
//!
//! * A [`Target`] has subsystems and the registry of their controllers. All shards
//!   share it; no command of an I/O queue takes a lock of it.
//! * A [`Session`] is one TCP connection, which carries one queue of a controller.
//! * A [`block::Request`] is one operation on a volume, a [`block::Completion`] its end.
//! * [`Resources`] are the pools that a shard lends to its sessions for a call.
//!
//! # The way of a command
//!
//! 1. *The stream* (`tcp/receive`): [`Session::receive`] reads PDU headers where they lie and
//!    gathers only those that slices have cut. A capsule's entry goes to the queue.
//! 2. *The plan* (`queue/plan`): the command takes a slot, is checked by what it is
//!    (`command`, `controller`), and needs nothing, data from the host, or room for data to
//!    the host. Without a slot, or a run for data that is in the capsule, the stream is blocked
//!    until there is one; after ten seconds the command ends with Command Interrupted.
//! 3. *The flow* (`queue/flow`): runs and credit for data to fetch, in the order the commands came.
//!    The queue has its transport fetch the data: over TCP by R2T (`tcp/r2t`). Data for a host that
//!    has yet to acknowledge (`tcp/debt`) more than is left of the pages waits until it has.
//! 4. *Requests* (`queue/requests`): [`Session::next_request`] hands out what is complete,
//!    [`Session::complete`] takes their ends.
//! 5. *The response* (`tcp/transmit`): [`Session::transmit`] sends data by reference to its pages,
//!    then the response capsule, or the SUCCESS flag in its place.
//!
//! `queue` does not know which transport carries it: what it needs of one is a trait of three
//! functions (`queue/transport`).
//!
//! # What is obeyed
//!
//! NVM Express Base Specification 2.0:
//!
//! | clause | what | where |
//! | --- | --- | --- |
//! | 3.1.1, 6.3 | dynamic controllers, one for each Connect to an Admin Queue; CNTLID below FFF0h, of the numbers that a subsystem is to give | `target` |
//! | 3.1.2.3 | discovery controllers: Identify Controller, discovery log (addresses of other nodes that show a subsystem, too), Keep Alive, features 0Bh and 0Fh; 120 s of life without a Keep Alive Timeout | `controller/discovery`, `admin` |
//! | 3.1.3 | properties CAP, VS, CC, CSTS; any other is an invalid field | `controller/properties` |
//! | 3.3.3 | submission and completion queue entries; no more commands outstanding than entries; SQHD, or none where the host disables flow control | `command`, `queue` |
//! | 3.3.3.2.1 | statuses: Do Not Retry where a retry cannot help; a retry delay (CRDT1, 100 ms) for hosts that enable ACRE | `status`, `queue` |
//! | 3.5 | CC.EN makes the controller ready at once; Admin commands before that are out of sequence | `controller/properties`, `admin` |
//! | 3.6.2 | shutdown: complete when every volatile write cache is flushed, never if a flush failed, and what devices had has ended | `queue/requests`, `controller/properties` |
//! | 3.1.3.6, 3.7.2 | reset by CC.EN: I/O queues close, features have their defaults, parked requests are void; CSTS.RDY waits for what devices still have, 4 s at most, then fences keep the order | `controller`, `controller/admin`, `block::Fences` |
//! | 3.9, 3.9.2 | Keep Alive Timer in units of a second, restarted by traffic on any queue of an I/O controller; when it expires the association ends | `controller/admin` |
//! | 3.9, 2.1: 9.6 | after a lost connection, Command Quiesce Time (CQT): 1.5 s from the end of the Keep Alive Timer until everything of the host is ended, or behind fences | `controller/admin`, `identify`, `block::Fences` |
//! | 4.1.2 | one SGL descriptor: Data Block at offset 0 of the capsule, or Transport Data Block; its length has to fit the data | `command/sgl`, `queue/plan` |
//! | 4.5 | NQNs: form, length, the discovery NQN | `config`, `command/fabrics` |
//! | 5.1 | Abort by queue and CID, four at a time (ACL): what waits for a slot, memory, data or its turn at a device ends with Command Abort Requested; what a device has goes on, and dword 0 says so | `queue/abort`, `controller/aborts` |
//! | 5.2 | four parked Asynchronous Event Requests; Namespace Attribute Changed, Asymmetric Namespace Access Change, and Discovery Log Page Change of a discovery controller, each masked until its log is read | `controller/events` |
//! | 5.15, 5.27 | features 01h, 02h, 04h to 07h, 0Ah, 0Bh, 0Fh, 16h (ACRE), 81h; current, default, saved and capabilities | `controller/features` |
//! | 5.16 | logs 00h to 05h, 0Ch, 12h, 13h, and 70h of discovery, in parts from any dword on; SMART (02h) is the worst of what the drives of the namespaces say | `controller/log`, `discovery` |
//! | 5.17 | Identify CNS 00h to 03h, 05h to 08h, 1Ch | `controller/identify` |
//! | 5.18 | Keep Alive | `controller/admin` |
//! | 6.3 | Connect: every field checked, the invalid one named in the response; an I/O queue belongs to an enabled controller of the same host | `queue/connect`, `target` |
//! | 6.1, 6.2, 8.13 | Authentication Send and Receive: DH-HMAC-CHAP, as [`auth`] has it; AUTHREQ (ATR) in the response to Connect where the host has a key; until it has proved that, nothing else (Authentication Required), and no queue of its controller; again whenever the host wants | `queue/authentication`, `auth_desk` |
//! | 6.4 | Disconnect of an I/O queue | `queue/plan`, `flow` |
//! | 6.5, 6.6 | Property Get and Set | `controller/properties` |
//! | 7.1 | Flush of a namespace | `queue/requests` |
//! | 8.1.1, 8.1.2 | asymmetric namespace access, where a subsystem is to report it: CMIC, OAES, ANATT (10 s), ANACAP, MNAN; each namespace is an ANA group of its own, by its number | `ana`, `controller/identify` |
//! | 8.1.3 | the five states, by listener; commands for namespaces in Inaccessible, Persistent Loss and Change are aborted with the status of the state, also those that wait for data, memory or their turn; what volumes have ends as it ends; nothing leaves Persistent Loss | `namespaces`, `queue/plan`, `queue/access` |
//! | 5.16.1.13, 8.1.3.6 | the Asymmetric Namespace Access log with its change counts, and RGO; notices of every state but Change | `controller/access`, `controller/admin` |
//! | 8.1.4 | in those states NUSE is 0, features of the NVM command set are not available, and Set Features of all namespaces is aborted | `controller/identify`, `controller/admin` |
//!
//! NVM Command Set Specification 1.0:
//!
//! | clause | what | where |
//! | --- | --- | --- |
//! | 3.2.3 | Dataset Management: up to 256 ranges deallocated, all of them checked first | `queue/flow`, `requests` |
//! | 3.2.4, 3.2.6 | Read and Write up to MDTS, inside the namespace; FUA, which every write has while the host disables the write cache | `queue/plan` |
//! | 3.2.8 | Write Zeroes of up to 65,536 blocks, with DEAC | `queue/plan` |
//! | 4.1.5.1 | Identify Namespace: blocks of 512 or 4,096 bytes, DLFEAT, optimal sizes of 4 KiB for small blocks; a backup is write protected (NSATTR), and what would change it is refused so | `controller/identify`, `queue/plan` |
//!
//! NVM Express TCP Transport Specification 1.0:
//!
//! | clause | what | where |
//! | --- | --- | --- |
//! | 3.6.1 | TLS, below this crate: the host and the subsystem of Connect are those of the PSK's identity, all queues of a controller are encrypted or none is, a host with a PSK is refused without; TREQ and SECTYPE of discovery | `secure`, `target`, `controller/discovery` |
//! | 3.3.1 | in-capsule data: 8,192 bytes on Admin Queues, as many as IOCCSZ says on others | `tcp/receive`, `queue/plan` |
//! | 3.3.2 | header digests and data digests, each if host and configuration want it; a wrong header digest ends the connection, a wrong data digest the command | `tcp/receive`, `tcp/pdu` |
//! | 3.5.2 | fatal errors: C2HTermReq with FES, FEI and the header; nothing follows it | `tcp/pdu`, `tcp/transmit` |
//! | 3.6.1 | the common header: type, flags, HLEN, PDO and PLEN agree with each other | `tcp/pdu` |
//! | 3.6.2.2, 3.6.2.3 | ICReq before anything else, and once; PFV 0; HPDA is kept, CPDA is 0 | `tcp/receive`, `tcp/pdu` |
//! | 3.6.2.8, 3.6.2.10 | R2T of at most MAXH2CDATA bytes, one of a command at a time; H2CData in order, inside its R2T | `tcp/r2t` |
//! | 3.6.2.9 | C2HData: one for a command; the SUCCESS flag if configured and the queue has no flow control | `tcp/transmit` |
//!
//! # What is deliberately not done
//!
//! | what | why |
//! | --- | --- |
//! | TLS keys out of an authentication (AUTHREQ with ASCR, SC_C) | hosts that are to be encrypted have a PSK |
//! | authentication to discovery controllers | they tell a host what it may use, and lend nothing |
//! | static controllers (CNTLID FFFEh), administrative controllers | hosts connect to dynamic ones; management has its own interface |
//! | several R2Ts of a command (MAXR2T) | one already requests as much as a PDU may carry; more would pin credit that other commands wait for |
//! | Abort of what a device has | a device does not give back the memory of a command under way; hosts that lose patience reset the controller |
//! | fused operations, Compare, Verify, Copy, Write Uncorrectable, reservations | optional, not reported in ONCS; reservations need state that outlives a restart |
//! | NVM sets, endurance groups, streams and other directives | one kind of medium |
//! | ANA groups of several namespaces | each namespace may move alone |
//! | metadata and protection information | devices with metadata are refused; digests protect the way |
//! | namespace management, Format NVM, Sanitize, firmware, self-test | the configuration of the target decides, not a host |
//! | Flush of all namespaces (NSID FFFFFFFFh) | reported so in VWC; a host flushes each |
//! | entries in the Error Information log, events for errors and SMART | every error is the status of the command that it belongs to; what drives say of themselves is in the SMART log, for whoever reads it |
//! | a Temperature Threshold of the host's | it is kept, as the feature is mandatory; the warning in the SMART log is that of the drives, by their own thresholds |
//! | discovery registrations, referrals | one appliance knows itself, and what it is told of others |
//! | saved features, timestamps, power states beyond 0 | a controller lives as long as its association |
//! | access frequency, limited retry and the other hints of I/O commands | legal to ignore |
//! | SGL segments and several descriptors (MSDBD 1), keyed descriptors | hosts over TCP describe their memory to themselves; keys are RDMA's |
//! | NVM subsystem reset | CAP.NSSRS is 0: one host would end the associations of all |
#![forbid(unsafe_code)]

mod ana;
mod auth_desk;
mod bytes;
pub mod command;
mod config;
mod controller;
mod counters;
mod listener;
mod namespaces;
mod nguid;
mod queue;
mod resources;
mod secure;
mod status;
mod subsystem;
mod target;
pub mod tcp;
mod units;
mod work;

pub use ana::AnaState;
pub use auth_desk::{AuthDesk, Errand};
pub use config::{
    ADMIN_IN_CAPSULE_BYTES, ConfigError, DISCOVERY_NQN, Host, Hosts, NQN_LEN_MAX, NamespaceConfig,
    SubsystemConfig, TargetConfig,
};
pub use controller::TICK_MS;
pub use counters::Counters;
pub use listener::{Listener, ListenerConfig, Tls};
pub use nguid::nguid_of;
pub use queue::pool::CommandPool;
pub use resources::Resources;
pub use secure::PskNames;
pub use status::Status;
pub use target::{ControllerInfo, Target};
pub use tcp::{CloseReason, Departure, Endpoints, HandshakeFault, Progress, Session, Wire, pdu};
pub use units::{BlockRange, BlockSize, Cid, Cntlid, Lba, Nsid, Qid, Timestamp, Ttag};
