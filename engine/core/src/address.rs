//! Which addresses strangers may have us ask: those of the public Internet, and hosts that are allowed by name.
//!
//! What is private, of this machine, of the link, shared, reserved or for documentation is refused, and so is
//! every form that carries another address inside (mapped, NAT64, 6to4, Teredo). Checked where a connection is
//! made, with the very addresses that it goes to: a name that means something else a moment later gains nothing.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

/// IPv4 networks that are not public, with the length of their prefixes. Sources: IANA's registry of
/// special-purpose addresses (RFC 6890 and later), RFC 5771 (multicast), RFC 1112 (reserved).
const IPV4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// All that is public of IPv6 (RFC 4291).
const GLOBAL: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What of it is not: IETF protocols with Teredo, documentation, 6to4.
const IPV6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether an address belongs to the public Internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !IPV4.iter().any(|(network, length)| (u32::from(address) ^ u32::from(*network)) >> (32 - length) == 0),
        IpAddr::V6(address) => {
            let within = |(network, length): &(Ipv6Addr, u32)| (u128::from(address) ^ u128::from(*network)) >> (128 - length) == 0;
            within(&GLOBAL) && !IPV6.iter().any(within)
        }
    }
}

/// An address that may not be asked.
#[derive(Debug)]
pub struct Refused {
    host: String,
    address: IpAddr,
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused { host, address } = self;
        let leads = if host.as_str() == address.to_string() { String::new() } else { format!(" leads to {address}, which") };
        write!(out, "the address {host}{leads} is not public: an admin allows hosts by the setting private_hosts")
    }
}

impl Error for Refused {}

/// The rule for one endpoint.
#[derive(Clone, Debug)]
pub struct Guard {
    allowed: Arc<[String]>,
}

impl Guard {
    /// `allowed`: hosts that may be asked wherever they lead, as they stand in addresses.
    pub fn new(allowed: &[String]) -> Self {
        Guard { allowed: allowed.iter().map(|host| bare(host).to_ascii_lowercase()).collect() }
    }

    /// Whether a host may be asked at all, as far as it is an address itself.
    pub fn host(&self, host: &str) -> Result<(), Refused> {
        match bare(host).parse() {
            Ok(address) => self.pass(host, [SocketAddr::new(address, 0)]).map(drop),
            Err(_) => Ok(()),
        }
    }

    /// Of the addresses of a host, those that may be asked.
    fn pass(&self, host: &str, found: impl IntoIterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
        let name = bare(host);
        let all = self.allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name));
        let mut refused = None;
        let mut passed = Vec::new();
        for one in found {
            if all || is_public(one.ip()) {
                passed.push(one);
            } else {
                refused = Some(Refused { host: name.into(), address: one.ip() });
            }
        }
        match refused {
            Some(refused) if passed.is_empty() => Err(refused),
            _ => Ok(passed),
        }
    }
}

/// A host without brackets and without the dot of a full name.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.')
}

/// The system's resolver, whose answers are checked where there is a guard.
#[derive(Clone)]
pub struct Resolver {
    system: GaiResolver,
    guard: Option<Guard>,
}

impl Resolver {
    pub fn new(guard: Option<Guard>) -> Self {
        Resolver { system: GaiResolver::new(), guard }
    }
}

type Found = Result<vec::IntoIter<SocketAddr>, Box<dyn Error + Send + Sync>>;

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Found> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.system.poll_ready(context).map_err(|error: io::Error| error.into())
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let asked = self.system.call(name.clone());
        let guard = self.guard.clone();
        Box::pin(async move {
            let found = asked.await?;
            let passed = match guard {
                None => found.collect(),
                Some(guard) => guard.pass(name.as_str(), found)?,
            };
            Ok(passed.into_iter())
        })
    }
}

/// The refusal among the causes of an error.
pub fn refusal<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Refused> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_vectors_hold() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/addresses.json")).unwrap();
        let vectors: HashMap<String, Vec<String>> = serde_json::from_str(&text).unwrap();
        for (kind, expected) in [("public", Some(true)), ("refused", Some(false)), ("none", None)] {
            assert!(vectors[kind].len() > 9);
            for text in &vectors[kind] {
                assert_eq!(text.parse().ok().map(is_public), expected, "{text}");
            }
        }
    }

    fn guard(allowed: &str) -> Guard {
        Guard::new(&[allowed.to_string()])
    }

    #[test]
    fn a_host_that_is_an_address_is_judged_at_once() {
        assert!(guard("models.internal").host("8.8.8.8").is_ok());
        assert!(guard("models.internal").host("models.elsewhere").is_ok());
        assert!(guard("10.0.0.1").host("10.0.0.1").is_ok());
        assert!(guard("[::1]").host("[::1]").is_ok());
        let refused = guard("10.0.0.1").host("[::1]").unwrap_err();
        assert_eq!(refused.to_string(), "the address ::1 is not public: an admin allows hosts by the setting private_hosts");
    }

    #[test]
    fn only_what_is_public_passes() {
        let found = |texts: &[&str]| texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 80)).collect::<Vec<_>>();
        let mixed = found(&["10.1.2.3", "8.8.8.8", "::1"]);
        assert_eq!(guard("x").pass("some.host", mixed.clone()).unwrap(), found(&["8.8.8.8"]));
        assert_eq!(guard("Some.Host.").pass("some.host", mixed.clone()).unwrap(), mixed);
        let refused = guard("x").pass("some.host", found(&["10.1.2.3"])).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the address some.host leads to 10.1.2.3, which is not public: an admin allows hosts by the setting private_hosts"
        );
    }
}
