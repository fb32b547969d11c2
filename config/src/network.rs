//! Networks as operators write them.

use crate::read::printable;
use ipnet::{IpNet, Ipv4Net};
use std::net::IpAddr;

/// Reads `10.0.0.0/8`, `2001:db8::/32` or one address (as the network of it alone). Bits behind the
/// prefix are cut off, and IPv4 in IPv6 clothes (`::ffff:10.0.0.0/104`) is IPv4, as clients are. The
/// error is a clause for a person and what to write.
pub fn parse(text: &str) -> Result<IpNet, (String, Option<String>)> {
    let text = text.trim();
    let network = text.parse::<IpNet>();
    let network = network.or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        let message = format!("\"{}\" is not a network", printable(text));
        let hint = "write \"10.0.0.0/8\", \"fd00::/8\", or one address";
        (message, Some(hint.to_owned()))
    })?;
    Ok(canonical(network))
}

/// The network with IPv4-mapped IPv6 as IPv4 and no bits behind the prefix.
pub fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    if let IpNet::V6(v6) = network
        && v6.prefix_len() >= MAPPED_BITS
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Ok(v4) = Ipv4Net::new(v4, v6.prefix_len() - MAPPED_BITS)
    {
        return IpNet::V4(v4.trunc());
    }
    network.trunc()
}

/// The network as one writes it: an address alone has no prefix.
pub fn plain(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_one_spelling() {
        let check = |text: &str, expected: &str| {
            let found = parse(text).map(|network| plain(&network));
            assert_eq!(found.unwrap_or_else(|(what, _)| what), expected, "{text}");
        };
        check("10.1.2.3/8", "10.0.0.0/8");
        check(" 10.1.2.3 ", "10.1.2.3");
        check("10.1.2.3/32", "10.1.2.3");
        check("2001:DB8::1", "2001:db8::1");
        check("2001:db8::1/32", "2001:db8::/32");
        check("::ffff:10.1.2.3", "10.1.2.3");
        check("::ffff:10.1.2.3/104", "10.0.0.0/8");
        check("::ffff:0:0/96", "0.0.0.0/0");
        check("::/0", "::/0");
        check("10.0.0.0/33", "\"10.0.0.0/33\" is not a network");
        check("shop.example", "\"shop.example\" is not a network");
        check("", "\"\" is not a network");
    }
}
