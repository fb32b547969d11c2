//! Who always passes and who never does: the lists of `access.toml`, made fit for looking up.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use penstock_config::keys::KeyId;
use penstock_config::network;
use penstock_config::policy::{Entry, List, Target};
use prefix_trie::PrefixMap;
use serde::Serialize;
use std::collections::HashMap;
use std::net::IpAddr;

/// The entry that decided about a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// On which list it is.
    pub list: List,
    /// What it is about: `address` or `key`.
    pub by: &'static str,
    /// As in `access.toml`.
    pub entry: String,
    /// Why, in the operator's words. For records, not for answers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Listed {
    fn of(entry: &Entry) -> Self {
        let by = match entry.target {
            Target::Address(_) => "address",
            Target::Key(_) => "key",
        };
        let Entry { list, target, reason, .. } = entry;
        Self { list: *list, by, entry: target.to_string(), reason: reason.clone() }
    }
}

/// All entries about one target, whichever list they are on.
type Entries = Vec<Entry>;

/// Both lists. Immutable; made when a policy is accepted.
#[derive(Debug, Default)]
pub struct Lists {
    v4: PrefixMap<Ipv4Net, Entries>,
    v6: PrefixMap<Ipv6Net, Entries>,
    keys: HashMap<KeyId, Entries>,
}

impl Lists {
    /// From entries of any source, or several, in any order.
    pub fn compile<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> Self {
        let mut lists = Self::default();
        for entry in entries {
            let place = match entry.target {
                Target::Key(id) => lists.keys.entry(id).or_default(),
                Target::Address(network) => match network::canonical(network) {
                    IpNet::V4(v4) => lists.v4.entry(v4).or_default(),
                    IpNet::V6(v6) => lists.v6.entry(v6).or_default(),
                },
            };
            place.push(entry.clone());
        }
        lists
    }

    /// The entry that decides about a request from `address` with a valid `key` at `now` (seconds since
    /// 1970). A key's beats an address's; of several networks the longest prefix that has an entry in
    /// force; on equal terms deny.
    pub fn look(&self, address: IpAddr, key: Option<KeyId>, now: i64) -> Option<Listed> {
        let of_key = key.and_then(|id| strongest(self.keys.get(&id)?, now));
        of_key.or_else(|| self.of_address(address, now)).map(Listed::of)
    }

    fn of_address(&self, address: IpAddr, now: i64) -> Option<&Entry> {
        let decides = |entries| strongest(entries, now);
        // Networks come shortest first. One whose entries have all expired is as good as not there.
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.cover_values(&v4.into()).filter_map(decides).last(),
            IpAddr::V6(v6) => self.v6.cover_values(&v6.into()).filter_map(decides).last(),
        }
    }

    /// Entries in force at `now` (seconds since 1970), on the allow list and on the deny list.
    pub fn in_force(&self, now: i64) -> [usize; 2] {
        let all = self.v4.values().chain(self.v6.values()).chain(self.keys.values());
        let mut counts = [0; 2];
        for entry in all.flatten().filter(|entry| entry.is_in_force(now)) {
            counts[usize::from(entry.list == List::Deny)] += 1;
        }
        counts
    }
}

/// Of the entries about one target, the one that decides.
fn strongest(entries: &Entries, now: i64) -> Option<&Entry> {
    let in_force = || entries.iter().filter(|entry| entry.is_in_force(now));
    in_force().find(|entry| entry.list == List::Deny).or_else(|| in_force().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_000;

    /// `deny 10.0.0.0/8`, `allow 10.1.0.0/16 until 1000`.
    fn entry(text: &str) -> Entry {
        let words: Vec<_> = text.split(' ').collect();
        Entry {
            list: if words[0] == "deny" { List::Deny } else { List::Allow },
            target: Target::parse(words[1]).unwrap(),
            reason: String::new(),
            expires: words.get(3).map(|moment| moment.parse().unwrap()),
        }
    }

    fn shown(listed: Option<Listed>) -> String {
        listed.map_or("-".into(), |listed| format!("{} {}", listed.list.name(), listed.entry))
    }

    #[test]
    fn the_longest_prefix_in_force_decides() {
        let check = |entries: &[&str], rows: &[(&str, &str)]| {
            let entries: Vec<_> = entries.iter().map(|text| entry(text)).collect();
            let both = [Lists::compile(&entries), Lists::compile(entries.iter().rev())];
            for (address, expected) in rows {
                for lists in &both {
                    let found = shown(lists.look(address.parse().unwrap(), None, NOW));
                    assert_eq!(found, *expected, "{address}");
                }
            }
        };
        check(&[], &[("10.0.0.1", "-"), ("::1", "-")]);
        let nested = ["deny 10.0.0.0/8", "allow 10.1.0.0/16", "deny 10.1.1.0/24", "allow 10.1.1.7"];
        check(
            &nested,
            &[
                ("10.9.0.1", "deny 10.0.0.0/8"),
                ("10.1.9.1", "allow 10.1.0.0/16"),
                ("10.1.1.1", "deny 10.1.1.0/24"),
                ("10.1.1.7", "allow 10.1.1.7"),
                ("::ffff:10.1.1.7", "allow 10.1.1.7"),
                ("11.0.0.1", "-"),
                ("::a01:107", "-"),
            ],
        );
        check(&["allow 10.0.0.1", "deny 10.0.0.1/32"], &[("10.0.0.1", "deny 10.0.0.1")]);
        check(
            &["deny 0.0.0.0/0", "allow 2001:db8::/32", "deny 2001:db8::1"],
            &[
                ("10.0.0.1", "deny 0.0.0.0/0"),
                ("2001:db8::1", "deny 2001:db8::1"),
                ("2001:db8::2", "allow 2001:db8::/32"),
                ("2001:db9::2", "-"),
            ],
        );
        // What has expired is not there: the next network counts, not none.
        check(
            &["deny 10.0.0.0/8", "allow 10.1.0.0/16 until 1000", "deny 10.1.1.0/24 until 1001"],
            &[("10.1.9.1", "deny 10.0.0.0/8"), ("10.1.1.1", "deny 10.1.1.0/24")],
        );
        check(
            &["allow 10.0.0.1", "deny 10.0.0.1 until 1000", "deny 10.0.0.0/8"],
            &[("10.0.0.1", "allow 10.0.0.1")],
        );
    }

    #[test]
    fn a_key_counts_before_any_address() {
        let (denied, allowed, other) = ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc");
        let entries = [
            format!("deny {denied}"),
            format!("allow {allowed}"),
            "deny 10.0.0.1".into(),
            "allow 10.0.0.2".into(),
        ]
        .map(|text| entry(&text));
        let lists = Lists::compile(&entries);
        let check = |address: &str, key: Option<&str>, expected: &str| {
            let key = key.map(|key| KeyId::parse(key.as_bytes()).unwrap());
            let found = shown(lists.look(address.parse().unwrap(), key, NOW));
            assert_eq!(found, expected, "{address} {key:?}");
        };
        check("10.0.0.2", Some(denied), "deny aaaaaaaaaaaa");
        check("10.0.0.1", Some(allowed), "allow bbbbbbbbbbbb");
        check("10.0.0.1", Some(other), "deny 10.0.0.1");
        check("10.0.0.2", None, "allow 10.0.0.2");
        check("10.0.0.3", Some(other), "-");
        assert_eq!(lists.in_force(NOW), [2, 2]);
    }

    proptest! {
        /// Against the plain reading of the rule: look at every entry, keep the best.
        #[test]
        fn looking_up_is_looking_at_all(
            rows in proptest::collection::vec((any::<bool>(), 0_u32..64, 26_u8..=32, proptest::option::of(900_i64..1_100)), 0..30),
            last in 0_u32..64,
        ) {
            let base = u32::from(std::net::Ipv4Addr::new(10, 0, 0, 0));
            let entries: Vec<_> = rows.iter().map(|(deny, address, prefix, expires)| Entry {
                list: if *deny { List::Deny } else { List::Allow },
                target: Target::Address(Ipv4Net::new((base + address).into(), *prefix).unwrap().trunc().into()),
                reason: String::new(),
                expires: *expires,
            }).collect();
            let address = IpAddr::V4((base + last).into());
            let expected = entries.iter().filter_map(|entry| {
                let Target::Address(network) = entry.target else { return None };
                let counts = network.contains(&address) && entry.is_in_force(NOW);
                counts.then_some((network.prefix_len(), entry.list == List::Deny))
            }).max();
            let found = Lists::compile(&entries).look(address, None, NOW);
            prop_assert_eq!(found.map(|listed| listed.list == List::Deny), expected.map(|(_, deny)| deny));
        }
    }
}
