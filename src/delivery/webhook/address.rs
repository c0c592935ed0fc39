//! Which addresses may be told what happens.
//!
//! Whoever names a URL has the service send requests from where it stands, behind the firewall. So nothing is sent to addresses that
//! are not of the public internet, unless the operator allows them; and it is the address that is looked at, after the name was
//! resolved and right where the connection is made, for a name may say another one each time that it is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What is not of the public internet (<https://www.iana.org/assignments/iana-ipv4-special-registry>): among them this machine
/// (127/8), its neighbours (169.254/16, where clouds tell their secrets), private networks, carriers' and multicast.
const SPECIAL: [Ipv4Net; 15] = [
    net(0, 0, 0, 0, 8),
    net(10, 0, 0, 0, 8),
    net(100, 64, 0, 0, 10),
    net(127, 0, 0, 0, 8),
    net(169, 254, 0, 0, 16),
    net(172, 16, 0, 0, 12),
    net(192, 0, 0, 0, 24),
    net(192, 0, 2, 0, 24),
    net(192, 88, 99, 0, 24),
    net(192, 168, 0, 0, 16),
    net(198, 18, 0, 0, 15),
    net(198, 51, 100, 0, 24),
    net(203, 0, 113, 0, 24),
    net(224, 0, 0, 0, 4),
    net(240, 0, 0, 0, 4),
];

/// All that is given out for the public internet (<https://www.iana.org/assignments/ipv6-address-space>).
const UNICAST: Ipv6Net = net6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// What of it is not (<https://www.iana.org/assignments/iana-ipv6-special-registry>): tunnels, and what stands in examples.
const SPECIAL6: [Ipv6Net; 4] = [
    net6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    net6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    net6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    net6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];

/// Addresses of IPv4 behind a translator (RFC 6052).
const TRANSLATED: Ipv6Net = net6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

const fn net(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn net6(s: [u16; 8], bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), bits)
}

/// Whether an address is one of the public internet.
#[must_use]
pub(super) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !SPECIAL.iter().any(|special| special.contains(&address)),
        IpAddr::V6(address) if TRANSLATED.contains(&address) => {
            let [.., a, b, c, d] = address.octets();
            is_public(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(address) => UNICAST.contains(&address) && !SPECIAL6.iter().any(|special| special.contains(&address)),
    }
}

/// Which addresses may be told.
#[derive(Clone, Debug)]
pub(super) struct Allowed {
    /// Those of the public internet.
    pub(super) public: bool,
    /// Those of these networks.
    pub(super) networks: Vec<IpNet>,
}

impl Allowed {
    /// Whether an address is among them.
    #[must_use]
    pub(super) fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        (self.public && is_public(address)) || self.networks.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_the_firewall_is_not_public() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "100.63.255.255",
            "100.128.0.0",
            "126.0.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.255.255",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2606:4700:4700::1111",
            "2a00:1450::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn networks_are_allowed_by_name_and_the_public_internet_besides_or_not() {
        let networks = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let both = Allowed { public: true, networks: networks.clone() };
        let these = Allowed { public: false, networks };
        for (address, by_both, by_these) in [
            ("10.1.2.3", true, true),
            ("::ffff:10.1.2.3", true, true),
            ("fd00::1", true, true),
            ("1.1.1.1", true, false),
            ("127.0.0.1", false, false),
            ("192.168.0.1", false, false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!((both.has(address), these.has(address)), (by_both, by_these), "{address}");
        }
    }
}
