//! A packet socket, and its options.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::Interface;

/// Every protocol, in network order (`ETH_P_ALL`).
pub(crate) const EVERYTHING: u16 = (libc::ETH_P_ALL as u16).to_be();

pub(crate) struct Socket(OwnedFd);

/// What a call that answers -1 on failure said.
pub(crate) fn check(code: libc::c_int) -> io::Result<libc::c_int> {
    if code < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(code)
    }
}

impl Socket {
    /// Not bound, and bound to no protocol: it receives nothing.
    pub(crate) fn new() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: makes a descriptor, which nobody else owns.
        unsafe {
            let fd = check(libc::socket(libc::AF_PACKET, kind, 0))?;
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// From now on the socket receives what the interface does, of this protocol (network order; 0: nothing).
    pub(crate) fn bind(&self, interface: &Interface, protocol: u16) -> io::Result<()> {
        // SAFETY: plain data; zero is a good value of every field.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = interface.index();
        // SAFETY: the address is read during the call.
        let code = unsafe {
            libc::bind(
                self.fd(),
                (&raw const address).cast(),
                mem::size_of_val(&address) as u32,
            )
        };
        check(code).map(drop)
    }

    /// Sets an option whose value is a `T`, of C's layout.
    pub(crate) fn set<T: Copy>(
        &self,
        level: libc::c_int,
        option: libc::c_int,
        value: T,
    ) -> io::Result<()> {
        let len = mem::size_of::<T>() as u32;
        // SAFETY: the value is read during the call.
        let code =
            unsafe { libc::setsockopt(self.fd(), level, option, (&raw const value).cast(), len) };
        check(code).map(drop)
    }

    /// Sets the size of a buffer: beyond the system's limit with `CAP_NET_ADMIN`, else up to it.
    pub(crate) fn force(
        &self,
        forced: libc::c_int,
        asked: libc::c_int,
        bytes: i32,
    ) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, forced, bytes)
            .or_else(|_| self.set(libc::SOL_SOCKET, asked, bytes))
    }

    /// Reads an option of integers, `T` of which zero is a good value.
    pub(crate) fn get<T: Copy + Default>(&self, option: libc::c_int) -> io::Result<T> {
        let (mut value, mut len) = (T::default(), mem::size_of::<T>() as u32);
        // SAFETY: the kernel writes at most `len` bytes of integers, of which every pattern is good.
        let code = unsafe {
            libc::getsockopt(
                self.fd(),
                libc::SOL_PACKET,
                option,
                (&raw mut value).cast(),
                &mut len,
            )
        };
        check(code).map(|_| value)
    }
}
