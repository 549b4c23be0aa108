//! How often timers are looked at, and what hosts have to reckon with for that.

/// How long a session's timers may stay unlooked at, in milliseconds: a shard calls
/// [`Session::advance`](crate::Session::advance) for each of its sessions at least as often.
pub const TICK_MS: u16 = 500;

/// Command Quiesce Time (base 2.1, 5.1.13.2.1; 9.6), in milliseconds: once the Keep Alive Timer of a
/// controller has run out, and after that time, nothing that its host began before is done on top of
/// what anybody was told later is done. It is a tick each until the end is noticed
///
/// * that traffic had put off: the timer starts again when it is looked at, not when it ran out;
/// * by the shard of the Admin Queue, which ends the controller;
/// * by the shards of its I/O queues, which take nothing more of them, and fence what devices have.
///
/// Devices have no part in it: behind its fence a write may be done as late as its device likes, and
/// what is written there later waits for it.
pub(super) const COMMAND_QUIESCE_MS: u16 = 3 * TICK_MS;
