//! An interface of the kernel.

use std::ffi::CString;
use std::io;
use std::mem;

use crate::socket::{Socket, check};

/// How an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceState {
    /// Frames come and go.
    Up,
    /// There is no link.
    NoLink,
    /// An administrator switched it off.
    Off,
    /// It is no more, or in another network namespace. One that has its name now is another one.
    Gone,
}

/// An interface, by name, in the network namespace of the thread that looked for it.
#[derive(Clone, Debug)]
pub struct Interface {
    name: CString,
    index: i32,
}

impl Interface {
    /// Finds it.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is none of this name.
    pub fn find(name: &str) -> io::Result<Self> {
        let name = CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
        // SAFETY: a string that ends with NUL, read during the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            name,
            index: index as i32,
        })
    }

    pub(crate) fn index(&self) -> i32 {
        self.index
    }

    /// Its Ethernet address.
    ///
    /// # Errors
    ///
    /// `EPFNOSUPPORT` if the interface is not one of Ethernet, such as a tunnel; as for `ioctl`.
    pub fn mac(&self) -> io::Result<[u8; 6]> {
        let request = self.ask(libc::SIOCGIFHWADDR)?;
        // SAFETY: the call filled the member.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        if !matches!(
            address.sa_family,
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK
        ) {
            return Err(io::Error::from_raw_os_error(libc::EPFNOSUPPORT));
        }
        Ok(std::array::from_fn(|i| address.sa_data[i] as u8))
    }

    /// How it is now, whatever it is called by now.
    pub fn state(&self) -> InterfaceState {
        let mut name = [0; libc::IF_NAMESIZE];
        // SAFETY: as large as a name may be, with its NUL; written during the call.
        let known = unsafe { libc::if_indextoname(self.index as u32, name.as_mut_ptr()) };
        if known.is_null() {
            return InterfaceState::Gone;
        }
        // SAFETY: plain data; zero is a good value of every field.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        request.ifr_name = name;
        if self.ioctl(libc::SIOCGIFFLAGS, &mut request).is_err() {
            return InterfaceState::Gone;
        }
        // SAFETY: the call filled the member.
        let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
        match (flags & libc::IFF_UP, flags & libc::IFF_RUNNING) {
            (0, _) => InterfaceState::Off,
            (_, 0) => InterfaceState::NoLink,
            _ => InterfaceState::Up,
        }
    }

    /// Bytes of the largest packet that goes in one frame.
    ///
    /// # Errors
    ///
    /// As for `ioctl`.
    pub fn mtu(&self) -> io::Result<u32> {
        let request = self.ask(libc::SIOCGIFMTU)?;
        // SAFETY: the call filled the member.
        Ok(unsafe { request.ifr_ifru.ifru_mtu } as u32)
    }

    /// Changes the MTU; needs `CAP_NET_ADMIN`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the device cannot have it; as for `ioctl`.
    pub fn set_mtu(&self, mtu: u32) -> io::Result<()> {
        let mut request = self.request();
        request.ifr_ifru.ifru_mtu = mtu as libc::c_int;
        self.ioctl(libc::SIOCSIFMTU, &mut request)
    }

    /// Whether its driver, or NIC, cuts large TCP frames into segments (TSO over IPv4); else the kernel does it before.
    /// False where the driver cannot be asked.
    pub fn cuts_segments(&self) -> bool {
        /// `struct ethtool_value` of <linux/ethtool.h>.
        #[repr(C)]
        struct Value {
            command: u32,
            data: u32,
        }
        const SIOCETHTOOL: libc::Ioctl = 0x8946;
        const ETHTOOL_GTSO: u32 = 0x1e;
        let mut value = Value {
            command: ETHTOOL_GTSO,
            data: 0,
        };
        let mut request = self.request();
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        self.ioctl(SIOCETHTOOL, &mut request).is_ok() && value.data != 0
    }

    fn ask(&self, what: libc::Ioctl) -> io::Result<libc::ifreq> {
        let mut request = self.request();
        self.ioctl(what, &mut request)?;
        Ok(request)
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: plain data; zero is a good value of every field.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        for (to, &from) in request
            .ifr_name
            .iter_mut()
            .zip(self.name.as_bytes_with_nul())
        {
            *to = from as libc::c_char;
        }
        request
    }

    fn ioctl(&self, what: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
        let socket = Socket::new()?;
        // SAFETY: requests about an interface read and write an `ifreq`.
        check(unsafe { libc::ioctl(socket.fd(), what, request) }).map(drop)
    }
}
