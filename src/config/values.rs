//! The small languages inside strings: addresses, names, identifiers.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use engine::CNTLIDS;

/// Why a string was refused, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) help: String,
}

fn wrong<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong {
        message: message.into(),
        help: help.into(),
    })
}

/// `192.0.2.1/24`: an address a port can have.
pub(super) fn interface_address(text: &str) -> Result<(IpAddr, u8), Wrong> {
    let (address, length) = prefix(text, "192.0.2.1/24")?;
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return wrong(
            format!("{address} cannot be the address of a port"),
            "write an address of your network that no other machine has",
        );
    }
    let (first, last) = edges(address, length);
    let special = match address {
        IpAddr::V4(_) => length < 31 && (address == first || address == last),
        IpAddr::V6(_) => false,
    };
    if special {
        return wrong(
            format!("{address} is the network or broadcast address of {first}/{length}"),
            "write the address of the port itself, with the length of its network",
        );
    }
    Ok((address, length))
}

/// `198.51.100.0/24`: where a route leads.
pub(super) fn destination(text: &str) -> Result<(IpAddr, u8), Wrong> {
    let (address, length) = prefix(text, "0.0.0.0/0")?;
    let (first, _) = edges(address, length);
    if address != first {
        return wrong(
            format!("{address} has bits set beyond its {length}-bit prefix"),
            format!("write \"{first}/{length}\""),
        );
    }
    Ok((address, length))
}

fn prefix(text: &str, example: &str) -> Result<(IpAddr, u8), Wrong> {
    let help = format!("write address/prefix length, such as \"{example}\"");
    let Some((address, length)) = text.split_once('/') else {
        return match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(a)) => wrong("the prefix length is missing", format!("write \"{a}/24\"")),
            Ok(IpAddr::V6(a)) => wrong("the prefix length is missing", format!("write \"{a}/64\"")),
            Err(_) => wrong(format!("`{}` is not an IP address", brief(text)), help),
        };
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return wrong(format!("`{}` is not an IP address", brief(address)), help);
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    match length.parse::<u8>() {
        Ok(length) if length <= most => Ok((address, length)),
        _ => wrong(
            format!("`{}` is not a prefix length", brief(length)),
            format!("write a number from 0 to {most} after the slash"),
        ),
    }
}

/// `192.0.2.1:4420`, `[2001:db8::1]:4420`, or an address alone for port 4420.
pub(super) fn listener(text: &str) -> Result<(IpAddr, u16), Wrong> {
    const NVME_TCP: u16 = 4420;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address, NVME_TCP));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok((address.ip(), address.port())),
        Ok(_) => wrong(
            "port 0 cannot be listened on",
            "write a port from 1 to 65535; NVMe/TCP is 4420",
        ),
        Err(_) => wrong(
            format!("`{}` is not an address with a port", brief(text)),
            "write \"192.0.2.1:4420\", or \"[2001:db8::1]:4420\" for IPv6",
        ),
    }
}

/// Whether two addresses share the prefix of `length` bits.
pub(super) fn same_network(a: IpAddr, b: IpAddr, length: u8) -> bool {
    a.is_ipv4() == b.is_ipv4() && edges(a, length).0 == edges(b, length).0
}

/// The first and the last address of a network.
fn edges(address: IpAddr, length: u8) -> (IpAddr, IpAddr) {
    match address {
        IpAddr::V4(a) => {
            let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            let bits = a.to_bits();
            (
                IpAddr::V4((bits & !host).into()),
                IpAddr::V4((bits | host).into()),
            )
        }
        IpAddr::V6(a) => {
            let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
            let bits = a.to_bits();
            (
                IpAddr::V6((bits & !host).into()),
                IpAddr::V6((bits | host).into()),
            )
        }
    }
}

/// `1-32767`: the numbers that controllers get.
pub(super) fn controller_ids(text: &str) -> Result<RangeInclusive<u16>, Wrong> {
    let ids = text.split_once('-').and_then(|(first, last)| {
        let number = |text: &str| text.trim().parse::<u16>().ok();
        let (first, last) = (number(first)?, number(last)?);
        let known = CNTLIDS.contains(&first) && CNTLIDS.contains(&last);
        (known && first <= last).then_some(first..=last)
    });
    ids.ok_or_else(|| Wrong {
        message: format!("`{}` is no range of controller IDs", brief(text)),
        help: format!(
            "write two numbers from {} to {}, such as \"1-32767\" here and \"32768-{}\" on the other node",
            CNTLIDS.start(),
            CNTLIDS.end(),
            CNTLIDS.end()
        ),
    })
}

/// A name logs, statistics and other sections use.
pub(super) fn name(text: &str) -> Result<(), Wrong> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if text.is_empty() || text.len() > 32 || !text.chars().all(good) {
        return wrong(
            format!("`{}` is not a name", brief(text)),
            "write 1 to 32 letters, digits, `-`, `_` or `.`",
        );
    }
    Ok(())
}

/// How a port names its device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PortDevice {
    /// A PCI function, its address in full (`0000:01:00.0`).
    Pci(String),
    /// A virtual device of DPDK's: its name (`net_tap0`).
    Virtual(String),
    /// An interface of the kernel: its name (`eth1`).
    Interface(String),
}

/// `0000:01:00.0`, `eth1` or `net_tap0,iface=tl0`.
pub(crate) fn port_device(text: &str) -> Option<PortDevice> {
    let name = text.split(',').next().unwrap_or_default();
    if let Some(address) = pci_address(name) {
        return Some(PortDevice::Pci(address));
    }
    if let Some(driver) = name.strip_prefix("net_") {
        let plain = text.chars().all(|c| c.is_ascii_graphic());
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let named = !driver.is_empty() && driver.chars().all(word);
        return (plain && named && text.len() < 512).then(|| PortDevice::Virtual(name.to_owned()));
    }
    // What Linux lets a name be (dev_valid_name), and no `:`, which would be an alias or half a PCI address.
    let part = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | ',');
    let interface = !text.is_empty() && text.len() < 16 && text.chars().all(part);
    (interface && text != "." && text != "..").then(|| PortDevice::Interface(text.to_owned()))
}

/// A PCI address with its domain: `01:00.0` becomes `0000:01:00.0`.
pub(crate) fn pci_address(text: &str) -> Option<String> {
    let full = match text.matches(':').count() {
        1 => format!("0000:{text}"),
        2 => text.to_owned(),
        _ => return None,
    };
    let (rest, function) = full.rsplit_once('.')?;
    let mut parts = rest.split(':');
    let (domain, bus, slot) = (parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, low: usize, high: usize| {
        (low..=high).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let good = hex(domain, 4, 8)
        && hex(bus, 2, 2)
        && hex(slot, 2, 2)
        && u8::from_str_radix(slot, 16).is_ok_and(|slot| slot < 32)
        && function.len() == 1
        && function.bytes().all(|b| (b'0'..=b'7').contains(&b));
    good.then(|| full.to_ascii_lowercase())
}

/// The value of a key in an SPDK transport id (`trtype:PCIe traddr:…`); keys and
/// values are separated by `:` or `=`, pairs by white space.
pub(crate) fn transport_field<'t>(transport_id: &'t str, key: &str) -> Option<&'t str> {
    transport_id.split_ascii_whitespace().find_map(|pair| {
        let (name, value) = pair.split_once([':', '='])?;
        name.eq_ignore_ascii_case(key).then_some(value)
    })
}

/// The PCI address in a transport id, if it is a PCIe one.
pub(crate) fn transport_pci(transport_id: &str) -> Option<String> {
    let pcie = transport_field(transport_id, "trtype")?.eq_ignore_ascii_case("pcie");
    if pcie {
        pci_address(transport_field(transport_id, "traddr")?)
    } else {
        None
    }
}

/// An SPDK transport id with everything its transport needs.
pub(super) fn transport_id(text: &str) -> Result<(), Wrong> {
    const PCIE: &str = "write \"trtype:PCIe traddr:0000:01:00.0\"";
    const TCP: &str = "write \"trtype:TCP adrfam:IPv4 traddr:192.0.2.9 trsvcid:4420 subnqn:nqn.…\"";
    if text.len() >= 512 || !text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return wrong("a transport id is one short line of ASCII", PCIE);
    }
    let Some(kind) = transport_field(text, "trtype") else {
        return wrong("the transport id does not say its `trtype`", PCIE);
    };
    match kind.to_ascii_lowercase().as_str() {
        "pcie" => match transport_pci(text) {
            Some(_) => Ok(()),
            None => wrong("`traddr` must be the drive's PCI address", PCIE),
        },
        "tcp" | "rdma" => {
            let needed = ["adrfam", "traddr", "trsvcid", "subnqn"];
            match needed
                .iter()
                .find(|key| transport_field(text, key).is_none_or(str::is_empty))
            {
                Some(missing) => wrong(
                    format!("the transport id does not say its `{missing}`"),
                    TCP,
                ),
                None => Ok(()),
            }
        }
        other => wrong(
            format!("`{}` is not a transport", brief(other)),
            "write trtype:PCIe, trtype:TCP or trtype:RDMA",
        ),
    }
}

/// An NVMe qualified name (NVMe base specification 2.0, 4.5).
pub(crate) fn nqn(text: &str) -> Result<(), Wrong> {
    const HELP: &str = "write nqn.<year>-<month>.<your domain reversed>:<name>, \
        such as \"nqn.2026-01.com.example:disk0\"";
    const MOST: usize = 223;
    if text.len() > MOST {
        return wrong(
            format!("an NQN has at most {MOST} bytes, this one {}", text.len()),
            HELP,
        );
    }
    if text == "nqn.2014-08.org.nvmexpress.discovery" {
        return wrong(
            "that name belongs to the discovery service, which is always there",
            HELP,
        );
    }
    if let Some(id) = text.strip_prefix("nqn.2014-08.org.nvmexpress:uuid:") {
        return uuid(id).map(|_| ());
    }
    let dated = |rest: &str| -> Option<bool> {
        let (date, domain) = (rest.get(..7)?, rest.get(7..)?.strip_prefix('.')?);
        let (year, month) = date.split_once('-')?;
        let digits =
            |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_digit());
        let domain = domain.split(':').next().unwrap_or_default();
        let label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let month_good = digits(month, 2) && month.parse().is_ok_and(|m: u8| (1..=12).contains(&m));
        Some(digits(year, 4) && month_good && domain.split('.').all(label))
    };
    let printable = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    match text.strip_prefix("nqn.").and_then(dated) {
        Some(true) if printable => Ok(()),
        _ => wrong(
            format!("`{}` is not an NVMe qualified name", brief(text)),
            HELP,
        ),
    }
}

/// An identify string: printable ASCII, as the NVMe specification has it.
pub(crate) fn identify_string(text: &str, most: usize) -> Result<(), Wrong> {
    let good = text.bytes().all(|b| (0x20..=0x7e).contains(&b));
    if !good || text.trim().is_empty() || text.len() > most {
        return wrong(
            format!("`{}` does not fit its field", brief(text)),
            format!("write 1 to {most} printable ASCII characters"),
        );
    }
    Ok(())
}

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
pub(crate) fn uuid(text: &str) -> Result<[u8; 16], Wrong> {
    let groups: Vec<&str> = text.split('-').collect();
    let shaped = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]);
    let digits = groups.concat();
    if !shaped || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return wrong(
            format!("`{}` is not a UUID", brief(text)),
            "write 32 hexadecimal digits as 8-4-4-4-12; `uuidgen` makes one",
        );
    }
    let value = u128::from_str_radix(&digits, 16).unwrap_or_default();
    if value == 0 {
        return wrong(
            "a UUID of zeros names nothing",
            "leave `uuid` out to have one derived",
        );
    }
    Ok(value.to_be_bytes())
}

/// A UUID as [`uuid()`] reads it.
pub(crate) fn uuid_text(uuid: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(uuid));
    let (a, b, c, d, e) = (
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    );
    format!("{a}-{b}-{c}-{d}-{e}")
}

/// 32 hexadecimal digits.
pub(crate) fn nguid(text: &str) -> Result<[u8; 16], Wrong> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return wrong(
            format!("`{}` is not an NGUID", brief(text)),
            "write 32 hexadecimal digits; leave `nguid` out to have one derived from the UUID",
        );
    }
    let value = u128::from_str_radix(text, 16).unwrap_or_default();
    if value == 0 {
        return wrong(
            "an NGUID of zeros names nothing",
            "leave `nguid` out to have one derived from the UUID",
        );
    }
    Ok(value.to_be_bytes())
}

/// An NGUID as [`nguid()`] reads it.
pub(crate) fn nguid_text(nguid: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(nguid))
}

/// What an error message quotes of a value.
fn brief(text: &str) -> String {
    let kept: String = text.chars().take(48).collect();
    if kept.len() < text.len() {
        kept + "…"
    } else {
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k06_addresses() {
        assert_eq!(
            interface_address("192.0.2.1/24"),
            Ok(([192, 0, 2, 1].into(), 24))
        );
        assert!(interface_address("2001:db8::1/64").is_ok());
        assert!(interface_address("192.0.2.0/31").is_ok());
        for bad in [
            "",
            "192.0.2.1",
            "192.0.2.1/33",
            "192.0.2.0/24",
            "192.0.2.255/24",
            "x/24",
            "::/64",
        ] {
            assert!(interface_address(bad).is_err(), "{bad}");
        }
        assert_eq!(
            interface_address("192.0.2.1").unwrap_err().help,
            "write \"192.0.2.1/24\""
        );
        assert_eq!(
            destination("198.51.100.7/24").unwrap_err().help,
            "write \"198.51.100.0/24\""
        );
        assert!(destination("0.0.0.0/0").is_ok() && destination("::/0").is_ok());
        assert!(same_network(
            [192, 0, 2, 1].into(),
            [192, 0, 2, 200].into(),
            24
        ));
        assert!(!same_network(
            [192, 0, 2, 1].into(),
            [192, 0, 3, 1].into(),
            24
        ));
    }

    #[test]
    fn k06_listeners() {
        assert_eq!(listener("192.0.2.1"), Ok(([192, 0, 2, 1].into(), 4420)));
        assert_eq!(listener("[2001:db8::1]:8009").map(|l| l.1), Ok(8009));
        assert!(listener("192.0.2.1:0").is_err() && listener("eth0:4420").is_err());
    }

    #[test]
    fn k06_devices() {
        assert_eq!(
            port_device("01:00.0"),
            Some(PortDevice::Pci("0000:01:00.0".into()))
        );
        assert_eq!(
            port_device("0000:3B:00.1"),
            Some(PortDevice::Pci("0000:3b:00.1".into()))
        );
        assert_eq!(
            port_device("net_tap0,iface=tl0"),
            Some(PortDevice::Virtual("net_tap0".into()))
        );
        for interface in ["eth1", "enp1s0f0np0", "bond0.100"] {
            assert_eq!(
                port_device(interface),
                Some(PortDevice::Interface(interface.into()))
            );
        }
        for bad in [
            "",
            "..",
            "eth0,x",
            "a_name_too_long0",
            "01:00.9",
            "01:40.0",
            "net_",
            "net_null0 x",
            "net_a\0b",
            "1:0.0",
        ] {
            assert_eq!(port_device(bad), None, "{bad}");
        }
    }

    #[test]
    fn k06_transport_ids() {
        assert!(transport_id("trtype:PCIe traddr:0000:01:00.0").is_ok());
        assert!(transport_id("trtype=PCIe traddr=01:00.0").is_ok());
        let tcp =
            "trtype:TCP adrfam:IPv4 traddr:192.0.2.9 trsvcid:4420 subnqn:nqn.2026-01.com.example:a";
        assert!(transport_id(tcp).is_ok());
        assert_eq!(
            transport_pci("trtype:PCIe traddr:04:00.0").as_deref(),
            Some("0000:04:00.0")
        );
        assert_eq!(transport_pci(tcp), None);
        let missing = transport_id("trtype:TCP traddr:192.0.2.9").unwrap_err();
        assert_eq!(
            missing.message,
            "the transport id does not say its `adrfam`"
        );
        for bad in [
            "",
            "traddr:01:00.0",
            "trtype:FC traddr:x",
            "trtype:PCIe traddr:x",
            "trtype:PCIe\n",
        ] {
            assert!(transport_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn k06_qualified_names() {
        for good in [
            "nqn.2026-01.com.example:disk0",
            "nqn.2026-01.com.example",
            "nqn.2014-08.org.nvmexpress:uuid:6f1b0c1e-3b5e-4c57-9f1a-0d5f0a7b2c11",
        ] {
            assert_eq!(nqn(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "disk0",
            "nqn.2026-13.com.example:a",
            "nqn.2026-01.com..example",
            "nqn.2026-01",
            "nqn.2026-01.",
            "nqn.2026-01.com.example:a b",
            "nqn.2014-08.org.nvmexpress.discovery",
            "nqn.2014-08.org.nvmexpress:uuid:1",
            "nqn.2026é01.com",
        ] {
            assert!(nqn(bad).is_err(), "{bad}");
        }
        assert!(nqn(&format!("nqn.2026-01.com.example:{}", "x".repeat(200))).is_err());
    }

    #[test]
    fn k06_identifiers() {
        assert_eq!(
            uuid("00000000-0000-0000-0000-000000000001").map(|u| u[15]),
            Ok(1)
        );
        assert!(uuid("00000000-0000-0000-0000-000000000000").is_err());
        let text = "6f1b0c1e-3b5e-4c57-9f1a-0d5f0a7b2c11";
        assert_eq!(uuid(text).map(uuid_text).as_deref(), Ok(text));
        assert!(uuid("+0000000-0000-0000-0000-000000000001").is_err());
        let text = "6f1b0c1e3b5e4c577e1a0d5f0a7b2c11";
        assert_eq!(nguid(text).map(nguid_text).as_deref(), Ok(text));
        assert_eq!(nguid(&text.to_uppercase()), nguid(text));
        for bad in [
            &"0".repeat(32),
            &text[1..],
            &format!("+{}", &text[1..]),
            "é",
        ] {
            assert!(nguid(bad).is_err(), "{bad}");
        }
        assert!(identify_string("TL-1", 20).is_ok() && identify_string("é", 20).is_err());
        assert!(identify_string(&"x".repeat(21), 20).is_err() && identify_string(" ", 20).is_err());
        assert!(name("disk-0.a_b").is_ok() && name("a b").is_err() && name("").is_err());
    }
}
