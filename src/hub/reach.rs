//! How far an address reaches.

use url::Host;

/// How far an address reaches, judged by the address itself; names are not resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// A public address, or a name.
    Public,
    /// Private, link-local, shared or unspecified.
    Private,
    /// This machine.
    Loopback,
}

impl Reach {
    pub(crate) fn of(host: &Host<&str>) -> Self {
        match host {
            Host::Domain(name) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                let local = name == "localhost" || name.ends_with(".localhost");
                if local { Self::Loopback } else { Self::Public }
            }
            Host::Ipv4(ip) => Self::of_v4(*ip),
            Host::Ipv6(ip) => match ip.to_ipv4_mapped() {
                Some(ip) => Self::of_v4(ip),
                None if ip.is_loopback() => Self::Loopback,
                None if ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified() => {
                    Self::Private
                }
                None => Self::Public,
            },
        }
    }

    fn of_v4(ip: std::net::Ipv4Addr) -> Self {
        let [a, b, ..] = ip.octets();
        let shared = a == 100 && (64..128).contains(&b); // carrier-grade NAT
        if ip.is_loopback() {
            Self::Loopback
        } else if ip.is_private() || ip.is_link_local() || ip.is_broadcast() || a == 0 || shared {
            Self::Private
        } else {
            Self::Public
        }
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    #[test]
    fn reaches() {
        for (url, reach) in [
            ("http://localhost/", Reach::Loopback),
            ("http://a.localhost./", Reach::Loopback),
            ("http://127.8.8.8/", Reach::Loopback),
            ("http://2130706433/", Reach::Loopback),
            ("http://[::1]/", Reach::Loopback),
            ("http://[::ffff:127.0.0.1]/", Reach::Loopback),
            ("http://10.0.0.1/", Reach::Private),
            ("http://192.168.1.1/", Reach::Private),
            ("http://172.16.0.1/", Reach::Private),
            ("http://169.254.169.254/", Reach::Private),
            ("http://100.64.0.1/", Reach::Private),
            ("http://0.0.0.0/", Reach::Private),
            ("http://[fd00::1]/", Reach::Private),
            ("http://[fe80::1]/", Reach::Private),
            ("http://[::ffff:10.0.0.1]/", Reach::Private),
            ("http://8.8.8.8/", Reach::Public),
            ("http://huggingface.co/", Reach::Public),
        ] {
            assert_eq!(Reach::of(&Url::parse(url).unwrap().host().unwrap()), reach, "{url}");
        }
    }
}
