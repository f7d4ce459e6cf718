//! Where webhooks may go: which addresses are public, which URLs are acceptable. Pure; names are resolved elsewhere,
//! once, and connections go to the addresses that were judged here.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

const MAX_URL_BYTES: usize = 2048;

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(head: [u16; 3], bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(head[0], head[1], head[2], 0, 0, 0, 0, 0), bits)
}

/// Not for the public: the IANA special-purpose registry (RFC 6890 and its updates), and what clouds put elsewhere.
const SPECIAL_V4: [Ipv4Net; 17] = [
    v4(0, 0, 0, 0, 8),        // this network (RFC 791)
    v4(10, 0, 0, 0, 8),       // private (RFC 1918)
    v4(100, 64, 0, 0, 10),    // behind carriers (RFC 6598); some clouds' metadata
    v4(127, 0, 0, 0, 8),      // loopback (RFC 1122)
    v4(168, 63, 129, 16, 32), // a cloud's host agent, on a public address
    v4(169, 254, 0, 0, 16),   // link-local (RFC 3927); most clouds' metadata
    v4(172, 16, 0, 0, 12),    // private (RFC 1918)
    v4(192, 0, 0, 0, 24),     // protocol assignments (RFC 6890); a cloud's metadata
    v4(192, 0, 2, 0, 24),     // documentation (RFC 5737)
    v4(192, 31, 196, 0, 24),  // AS112 (RFC 7535)
    v4(192, 52, 193, 0, 24),  // AMT (RFC 7450)
    v4(192, 88, 99, 0, 24),   // 6to4 relays (RFC 7526)
    v4(192, 168, 0, 0, 16),   // private (RFC 1918)
    v4(198, 18, 0, 0, 15),    // benchmarks (RFC 2544)
    v4(198, 51, 100, 0, 24),  // documentation (RFC 5737)
    v4(203, 0, 113, 0, 24),   // documentation (RFC 5737)
    v4(224, 0, 0, 0, 3),      // multicast, reserved, broadcast (RFC 5771, 1112)
];

/// The only part of IPv6 that is given out as global unicast (RFC 4291).
const UNICAST_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

const SPECIAL_V6: [Ipv6Net; 5] = [
    v6([0x2001, 0, 0], 23),         // protocol assignments, Teredo, ORCHID, benchmarks (RFC 2928)
    v6([0x2001, 0xdb8, 0], 32),     // documentation (RFC 3849)
    v6([0x2002, 0, 0], 16),         // 6to4 (RFC 3056): holds any IPv4 address
    v6([0x2620, 0x4f, 0x8000], 48), // AS112 (RFC 7534)
    v6([0x3fff, 0, 0], 20),         // documentation (RFC 9637)
];

/// NAT64 (RFC 6052): holds an IPv4 address that a translator reaches for us.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0], 96);

/// The address belongs to the public internet. Forms of IPv6 that stand for an IPv4 address are judged by that one.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !SPECIAL_V4.iter().any(|net| net.contains(&v4)),
        IpAddr::V6(v6) => match inner_v4(v6) {
            Some(v4) => is_public(IpAddr::V4(v4)),
            None => UNICAST_V6.contains(&v6) && !SPECIAL_V6.iter().any(|net| net.contains(&v6)),
        },
    }
}

/// The IPv4 address that a mapped (RFC 4291) or NAT64 address leads to.
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address.octets();
    let is_nat64 = NAT64.contains(&address);
    address.to_ipv4_mapped().or_else(|| is_nat64.then(|| Ipv4Addr::new(a, b, c, d)))
}

/// Where webhooks may go beside public addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Networks that are allowed although they are not public.
    pub allow: Vec<IpNet>,
    /// Ports that are allowed; empty = any.
    pub ports: Vec<u16>,
    /// Refuses `http`.
    pub https_only: bool,
}

impl Default for AddressPolicy {
    fn default() -> Self {
        AddressPolicy { allow: Vec::new(), ports: vec![80, 443, 8080, 8443], https_only: false }
    }
}

/// Why a URL or address is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It cannot be read, or is too long.
    #[error("invalid URL")]
    NoUrl,
    /// Another scheme than http and https, or http where https is asked for.
    #[error("the scheme {scheme} is not allowed")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// It carries a user name or password.
    #[error("a URL with a user name or password is not allowed")]
    Credentials,
    /// Another port.
    #[error("the port {port} is not allowed")]
    Port {
        /// The port.
        port: u16,
    },
    /// The host is, or one of its addresses is, not public and not allowed.
    #[error("the host has an address that is not allowed")]
    Address {
        /// The address; for the log, not for the tenant.
        address: IpAddr,
    },
    /// The name has no address.
    #[error("the host has no address")]
    NoAddress,
}

impl AddressPolicy {
    /// Judges a URL as far as that goes without resolving its host.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn check_url(&self, text: &str) -> Result<Url, AddressError> {
        if text.len() > MAX_URL_BYTES {
            return Err(AddressError::NoUrl);
        }
        let url = Url::parse(text).map_err(|_| AddressError::NoUrl)?;
        let is_allowed = url.scheme() == "https" || (url.scheme() == "http" && !self.https_only);
        if !is_allowed {
            return Err(AddressError::Scheme { scheme: url.scheme().to_owned() });
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::Credentials);
        }
        let port = url.port_or_known_default().ok_or(AddressError::NoUrl)?;
        if port == 0 || !(self.ports.is_empty() || self.ports.contains(&port)) {
            return Err(AddressError::Port { port });
        }
        match url.host() {
            None => Err(AddressError::NoUrl),
            Some(Host::Ipv4(address)) => self.check_address(IpAddr::V4(address)).map(|()| url),
            Some(Host::Ipv6(address)) => self.check_address(IpAddr::V6(address)).map(|()| url),
            Some(Host::Domain(_)) => Ok(url),
        }
    }

    /// Judges one address.
    ///
    /// # Errors
    /// [`AddressError::Address`].
    pub fn check_address(&self, address: IpAddr) -> Result<(), AddressError> {
        let canonical = match address {
            IpAddr::V6(v6) => inner_v4(v6).map_or(address, IpAddr::V4),
            IpAddr::V4(_) => address,
        };
        let is_allowed = is_public(address) || self.allow.iter().any(|net| net.contains(&canonical));
        if is_allowed { Ok(()) } else { Err(AddressError::Address { address }) }
    }

    /// Judges all addresses of a name: one that is not allowed spoils them all, since the name server
    /// decides which of them is used.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn check_all(&self, addresses: &[IpAddr]) -> Result<(), AddressError> {
        if addresses.is_empty() {
            return Err(AddressError::NoAddress);
        }
        addresses.iter().try_for_each(|address| self.check_address(*address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_matrix_of_addresses() {
        for (text, expected) in [
            ("1.1.1.1", true),
            ("8.8.8.8", true),
            ("93.184.216.34", true),
            ("11.0.0.0", true),
            ("100.63.255.255", true),
            ("100.128.0.0", true),
            ("172.15.255.255", true),
            ("172.32.0.0", true),
            ("198.17.255.255", true),
            ("198.20.0.0", true),
            ("223.255.255.255", true),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("10.0.0.1", false),
            ("10.255.255.255", false),
            ("100.64.0.1", false),
            ("100.100.100.200", false), // metadata
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("168.63.129.16", false), // metadata
            ("169.254.0.1", false),
            ("169.254.169.254", false), // metadata
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.8", false),
            ("192.0.0.192", false), // metadata
            ("192.0.2.1", false),
            ("192.88.99.1", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("198.19.255.255", false),
            ("198.51.100.7", false),
            ("203.0.113.7", false),
            ("224.0.0.1", false),
            ("239.255.255.255", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700:4700::1111", true),
            ("2a00:1450:4001::1", true),
            ("2001:4860:4860::8888", true),
            ("::", false),
            ("::1", false),
            ("::8.8.8.8", false), // compatible, deprecated
            ("::ffff:127.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("::ffff:8.8.8.8", true),
            ("::ffff:0:127.0.0.1", false), // translated (RFC 2765)
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b::808:808", true),
            ("64:ff9b:1::808:808", false), // local use (RFC 8215)
            ("100::1", false),             // discard
            ("2001::1", false),            // Teredo
            ("2001:2::1", false),
            ("2001:10::1", false),
            ("2001:20::1", false),
            ("2001:db8::1", false),
            ("2002:7f00:1::", false), // 6to4 of loopback
            ("2002:808:808::", false),
            ("3fff::1", false),
            ("4000::1", false),
            ("5f00::1", false),
            ("fc00::1", false),
            ("fd00:ec2::254", false), // metadata
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn the_matrix_of_urls() {
        let policy = AddressPolicy::default();
        for url in
            ["https://example.com/hook?x=1", "http://example.com:8080/", "https://[2606:4700::1]/", "https://1.1.1.1/"]
        {
            assert!(policy.check_url(url).is_ok(), "{url}");
        }
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://0/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://１２７.0.0.1/",
        ] {
            assert!(matches!(policy.check_url(url), Err(AddressError::Address { .. })), "{url}");
        }
        for url in ["file:///etc/passwd", "gopher://example.com/", "ftp://example.com/", "unix:/run/x", "data:,x"] {
            assert!(matches!(policy.check_url(url), Err(AddressError::Scheme { .. })), "{url}");
        }
        for url in ["", "example.com", "https://", "//example.com", &format!("https://e.com/{}", "a".repeat(2048))] {
            assert!(matches!(policy.check_url(url), Err(AddressError::NoUrl)), "{url}");
        }
        assert_eq!(policy.check_url("https://user@example.com/"), Err(AddressError::Credentials));
        assert_eq!(policy.check_url("https://:pass@example.com/"), Err(AddressError::Credentials));
        assert_eq!(policy.check_url("https://example.com:22/"), Err(AddressError::Port { port: 22 }));
        assert_eq!(policy.check_url("https://example.com:0/"), Err(AddressError::Port { port: 0 }));
        let strict = AddressPolicy { https_only: true, ..AddressPolicy::default() };
        assert!(strict.check_url("http://example.com/").is_err() && strict.check_url("https://example.com/").is_ok());
    }

    #[test]
    fn one_bad_address_spoils_the_name_and_networks_can_be_allowed() {
        let ips = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
        let policy = AddressPolicy::default();
        assert!(policy.check_all(&ips(&["1.1.1.1", "2606:4700::1"])).is_ok());
        assert!(policy.check_all(&ips(&["1.1.1.1", "10.0.0.1"])).is_err());
        assert_eq!(policy.check_all(&[]), Err(AddressError::NoAddress));
        let inside = AddressPolicy { allow: vec!["10.1.0.0/16".parse().unwrap()], ..policy };
        assert!(inside.check_all(&ips(&["10.1.2.3", "::ffff:10.1.2.3"])).is_ok());
        assert!(inside.check_all(&ips(&["10.2.0.1"])).is_err());
    }

    proptest! {
        #[test]
        fn an_ipv4_address_is_judged_alike_in_all_its_forms(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from(bits);
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let expected = is_public(IpAddr::V4(v4));
            prop_assert_eq!(is_public(IpAddr::V6(v4.to_ipv6_mapped())), expected);
            prop_assert_eq!(is_public(IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low))), expected);
            prop_assert!(!is_public(IpAddr::V6(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1))));
            prop_assert_eq!(expected && v4.is_private(), false);
        }
    }
}
