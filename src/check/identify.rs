//! Asking a drive that the kernel still has whether it takes scatter-gather
//! lists, and whether it has a volatile cache: an Identify command through the kernel's admin passthrough.
#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;

/// What a controller takes instead of PRPs (SGLS of Identify Controller).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sgl {
    /// PRPs only.
    None,
    /// Lists of any alignment.
    Any,
    /// Lists whose elements are dword-aligned.
    Dword,
}

/// What a controller says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Controller {
    pub(super) sgl: Sgl,
    /// It has a volatile write cache.
    pub(super) write_cache: bool,
}

/// `struct nvme_admin_cmd` of <linux/nvme_ioctl.h>.
#[repr(C)]
#[derive(Default)]
struct AdminCommand {
    opcode: u8,
    flags: u8,
    reserved: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    addr: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

const IDENTIFY: u8 = 0x06;
const IDENTIFY_CONTROLLER: u32 = 1;
const IDENTIFY_LEN: usize = 4096;
/// `_IOWR('N', 0x41, struct nvme_admin_cmd)`.
const NVME_IOCTL_ADMIN_CMD: u64 =
    (3 << 30) | ((size_of::<AdminCommand>() as u64) << 16) | (0x4e << 8) | 0x41;
const _: () = assert!(size_of::<AdminCommand>() == 72 && NVME_IOCTL_ADMIN_CMD == 0xc048_4e41);

/// Asks a kernel controller (`nvme0`).
pub(super) fn controller(controller: &str) -> io::Result<Controller> {
    let device = OpenOptions::new()
        .read(true)
        .open(format!("/dev/{controller}"))?;
    let mut data = [0u8; IDENTIFY_LEN];
    let mut command = AdminCommand {
        opcode: IDENTIFY,
        addr: data.as_mut_ptr() as u64,
        data_len: IDENTIFY_LEN as u32,
        cdw10: IDENTIFY_CONTROLLER,
        timeout_ms: 1000,
        ..AdminCommand::default()
    };
    // SAFETY: the command has the kernel's layout, and its address and length describe
    // `data`, which only the kernel writes to and only during the call.
    let status = unsafe { libc::ioctl(device.as_raw_fd(), NVME_IOCTL_ADMIN_CMD, &mut command) };
    match status {
        0 => Ok(parse(&data)),
        1.. => Err(io::Error::other(format!("NVMe status {status:#x}"))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// NVMe base specification 2.0, figure 275: SGLS is bytes 539:536, its kind bits 1:0; VWC is byte 525, and its
/// bit 0 says that there is a volatile write cache.
fn parse(data: &[u8; IDENTIFY_LEN]) -> Controller {
    Controller {
        sgl: match data[536] & 3 {
            1 => Sgl::Any,
            2 => Sgl::Dword,
            _ => Sgl::None,
        },
        write_cache: data[525] & 1 != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k06_sgls_and_vwc_are_where_the_specification_has_them() {
        let mut data = [0; IDENTIFY_LEN];
        assert_eq!(parse(&data).sgl, Sgl::None);
        data[536] = 0x21;
        assert_eq!(parse(&data).sgl, Sgl::Any);
        data[536] = 2;
        assert_eq!(parse(&data).sgl, Sgl::Dword);
        assert!(!parse(&data).write_cache);
        data[525] = 7;
        assert!(parse(&data).write_cache);
        assert!(controller("null").is_err() && controller("no such controller").is_err());
    }
}
