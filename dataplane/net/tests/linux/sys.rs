//! What the standard library has no words for: network namespaces, TAP
//! devices, packet sockets and waiting for several descriptors at once.
//! The only file of these tests with `unsafe` in it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::time::Duration;

fn check(code: libc::c_int) -> io::Result<libc::c_int> {
    if code < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(code)
    }
}

/// Gives the calling thread a network namespace of its own.
pub fn unshare_net() -> io::Result<()> {
    // SAFETY: takes no pointers; only the calling thread's namespace changes.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}

/// Puts the calling thread into a network namespace.
pub fn enter_net(namespace: &File) -> io::Result<()> {
    // SAFETY: takes no pointers; the descriptor is open.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// The calling thread runs as soon as it has something to do, as a core of its
/// own would: its timers go off when they are due, and it goes before others.
/// What cannot be had is gone without.
pub fn be_prompt() {
    let slack: libc::c_ulong = 1;
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the first takes no pointers; the second reads the parameter, which lives across the call.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, slack);
        libc::sched_setscheduler(0, libc::SCHED_RR, &raw const priority);
    }
}

fn interface_name(name: &str) -> [libc::c_char; libc::IFNAMSIZ] {
    let mut out = [0; libc::IFNAMSIZ];
    assert!(name.len() < out.len(), "interface name {name}");
    for (to, from) in out.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    out
}

/// A TAP device in the calling thread's namespace: frames written to the file
/// are received by the kernel, frames the kernel sends are read from it.
pub fn tap(name: &str) -> io::Result<File> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name = interface_name(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives across the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) })?;
    set_nonblocking(&file)?;
    Ok(file)
}

fn set_nonblocking(file: &File) -> io::Result<()> {
    let fd = file.as_raw_fd();
    // SAFETY: takes no pointers; the descriptor is open.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// A packet socket on an interface of the calling thread's namespace. A read
/// gives a received frame, a write sends one.
pub fn packet_socket(interface: &str) -> io::Result<File> {
    let all = (libc::ETH_P_ALL as u16).to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointers. Protocol 0: nothing is received before it is bound.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the descriptor was just made and is nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    for (level, option, value) in [
        (libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1),
        (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER_BYTES),
        (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, BUFFER_BYTES),
    ] {
        set_option(fd, level, option, value)?;
    }
    let name = interface_name(interface);
    // SAFETY: the name ends with a zero byte.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeros is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = all;
    address.sll_ifindex = index as libc::c_int;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: points to a sockaddr_ll of `len` bytes that lives across the call.
    check(unsafe { libc::bind(fd, (&raw const address).cast(), len) })?;
    Ok(file)
}

/// `linux/if_packet.h`; the crate `libc` has it not.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
/// Frames in a netem queue count against the socket they were sent through.
const BUFFER_BYTES: libc::c_int = 64 << 20;

fn set_option(
    fd: RawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is `len` bytes that live across the call.
    check(unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), len) }).map(drop)
}

/// Has the kernel's TCP use this congestion control on a socket.
pub fn set_congestion(socket: &impl AsRawFd, name: &str) -> io::Result<()> {
    let (fd, len) = (socket.as_raw_fd(), name.len() as libc::socklen_t);
    // SAFETY: the name is `len` bytes that live across the call.
    check(unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            len,
        )
    })
    .map(drop)
}

/// Connects a socket that uses this congestion control from its first segment on.
pub fn dial(to: SocketAddr, congestion: &str, at_most: Duration) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the descriptor was just made and is nobody else's.
    let socket = unsafe { TcpStream::from_raw_fd(fd) };
    set_congestion(&socket, congestion)?;
    socket.set_write_timeout(Some(at_most))?;
    match to {
        SocketAddr::V4(to) => {
            // SAFETY: all zeros is a valid sockaddr_in.
            let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            address.sin_family = libc::AF_INET as libc::sa_family_t;
            address.sin_port = to.port().to_be();
            address.sin_addr.s_addr = u32::from(*to.ip()).to_be();
            let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            // SAFETY: points to a sockaddr_in of `len` bytes that lives across the call.
            check(unsafe { libc::connect(fd, (&raw const address).cast(), len) })?;
        }
        SocketAddr::V6(to) => {
            // SAFETY: all zeros is a valid sockaddr_in6.
            let mut address: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            address.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            address.sin6_port = to.port().to_be();
            address.sin6_addr.s6_addr = to.ip().octets();
            let len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            // SAFETY: points to a sockaddr_in6 of `len` bytes that lives across the call.
            check(unsafe { libc::connect(fd, (&raw const address).cast(), len) })?;
        }
    }
    Ok(socket)
}

/// Frames that a packet socket lost for want of room, since it was last asked.
pub fn packet_drops(socket: &File) -> u32 {
    let mut stats = libc::tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes of `stats`, which live across the call.
    let code = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut len,
        )
    };
    if code < 0 { 0 } else { stats.tp_drops }
}

/// Waits until one of the descriptors can be read, or the time is over. Whether one can.
pub fn wait_readable(fds: &[RawFd], at_most: Duration) -> io::Result<bool> {
    let mut list: Vec<libc::pollfd> = fds
        .iter()
        .map(|&fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let timeout = libc::timespec {
        tv_sec: at_most.as_secs() as libc::time_t,
        tv_nsec: at_most.subsec_nanos().into(),
    };
    // SAFETY: both point to values that live across the call; no signal mask is given.
    let code = unsafe {
        libc::ppoll(
            list.as_mut_ptr(),
            list.len() as libc::nfds_t,
            &raw const timeout,
            std::ptr::null(),
        )
    };
    match check(code) {
        Ok(ready) => Ok(ready > 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}
