//! What a program that drives devices owes the commands that it runs, and std does not do.
#![allow(unsafe_code)]

use std::process::Child;

/// Files that are open now are closed when another program is run: drivers of DPDK and SPDK do not ask for that, and a
/// command would hold a device when this program is gone.
pub(super) fn keep_descriptors() {
    // SAFETY: it marks descriptors, and closes none (close_range(2)). One that is opened meanwhile, and not marked, is as before.
    unsafe {
        libc::close_range(
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_int,
        )
    };
}

/// Kills a command that leads a group of its own, and has not been waited for, with all that it has started there.
pub(super) fn kill_group(leader: &Child) {
    // SAFETY: it touches no memory. The number is the group's until the leader is waited for.
    unsafe { libc::kill(-(leader.id() as libc::pid_t), libc::SIGKILL) };
}

/// The thread, and whatever it starts, runs on none of `cores` from now on, if there are others.
pub(super) fn leave_cores(cores: &[u32]) {
    // SAFETY: all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let len = size_of::<libc::cpu_set_t>();
    // SAFETY: the kernel writes at most `len` bytes to the set, which has as many. A core beyond it is not touched, as those
    // macros of CPU_SET(3) look at its number.
    unsafe {
        if libc::sched_getaffinity(0, len, &raw mut set) != 0 {
            return;
        }
        for &core in cores {
            if (core as usize) < libc::CPU_SETSIZE as usize {
                libc::CPU_CLR(core as usize, &mut set);
            }
        }
        if libc::CPU_COUNT(&set) > 0 {
            libc::sched_setaffinity(0, len, &raw const set);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsRawFd;
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn r06_a_command_has_no_file_of_the_program() {
        let file = File::open("/dev/null").unwrap();
        // SAFETY: it makes a descriptor, which stays open: as a driver does, for whatever is run.
        let open = unsafe { libc::dup(file.as_raw_fd()) };
        let is_its = || {
            let test = format!("test -e /proc/self/fd/{open}");
            let status = Command::new("/bin/sh").args(["-c", &test]).status();
            status.unwrap().success()
        };
        assert!(is_its());
        keep_descriptors();
        assert!(!is_its());
    }

    /// The cores that a thread may run on, as proc(5) lists them.
    fn cores(status: &str) -> Vec<u32> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let ranges = line.unwrap().trim().split(',').flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse::<u32>().unwrap()..=last.parse().unwrap()
        });
        ranges.collect()
    }

    #[test]
    fn r06_a_command_runs_on_no_core_that_polls() {
        let own = || cores(&fs::read_to_string("/proc/thread-self/status").unwrap());
        let before = own();
        let of_command = |polling: &[u32]| {
            thread::scope(|scope| {
                let run = || {
                    leave_cores(polling);
                    let output = Command::new("/bin/cat").arg("/proc/self/status").output();
                    cores(&String::from_utf8(output.unwrap().stdout).unwrap())
                };
                scope.spawn(run).join().unwrap()
            })
        };
        // Of the last one, if there is no other, nothing is left.
        let expected = if before.len() > 1 {
            &before[1..]
        } else {
            &before
        };
        assert_eq!(of_command(&before[..1]), expected);
        assert_eq!(
            of_command(&[before.clone(), vec![1 << 20]].concat()),
            before
        );
        assert_eq!(own(), before);
    }
}
