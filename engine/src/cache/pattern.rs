//! Patterns of key names, as operators write them: `search:*`, `recommend:ann:*`, `popular:global:1?`.

/// A pattern: `*` for any characters or none, `?` for one; everything else stands for itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

/// Longest pattern, bytes: as long as the longest key.
const MAX_BYTES: usize = 1_024;

impl Pattern {
    /// From an operator's text; the error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("the pattern is empty; * means everything".into());
        }
        if text.len() > MAX_BYTES {
            return Err(format!("the pattern has {} bytes; it may have {MAX_BYTES}", text.len()));
        }
        let in_names = |c: char| c.is_ascii_alphanumeric() || "-_.~@+:%*?".contains(c);
        if let Some(stranger) = text.chars().find(|c| !in_names(*c)) {
            return Err(format!(
                "no name has {stranger:?} in it, so nothing would match; what is not a letter, a digit or one \
                 of - _ . ~ @ + is written %20 and so on"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Everything matches.
    pub fn is_everything(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    /// Whether `name` is meant. Linear in practice: one place to come back to, the last `*`.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(&byte) if byte == b'?' || byte == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match &mut star {
                    Some((at, taken)) => {
                        *taken += 1;
                        (p, n) = (*at + 1, *taken);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&byte| byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_operators_mean() {
        let check = |pattern: &str, name: &str, expected: bool| {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(name), expected, "{pattern} of {name}");
        };
        check("*", "", true);
        check("*", "search:1:-:10", true);
        check("search:*", "search:1:-:10", true);
        check("search:*", "xsearch:1:-:10", false);
        check("recommend:ann:*", "recommend:ann:-:10", true);
        check("recommend:ann:*", "recommend:anna:-:10", false);
        check("*:10", "popular:global:10", true);
        check("*:10", "popular:global:100", false);
        check("popular:*:1?", "popular:Home:10", true);
        check("a*b*c", "aXbXbXc", true);
        check("a*b*c", "aXbXbX", false);
        check("a", "a", true);
        check("a", "ab", false);
        check("?", "", false);
        // As bad as it gets for one that goes back.
        check(&"*a".repeat(100), &"a".repeat(99), false);
    }

    #[test]
    fn a_pattern_of_nothing_is_none() {
        assert!(Pattern::parse("  ").is_err());
        assert!(Pattern::parse(&"x".repeat(2_000)).is_err());
        for never in ["search:running shoes*", "[a", "caf\u{e9}", "a/b"] {
            assert!(Pattern::parse(never).unwrap_err().contains("%20"), "{never}");
        }
        assert!(Pattern::parse("popular:home%20%3E%20mugs:*").is_ok());
        assert!(Pattern::parse("**").unwrap().is_everything());
        assert!(!Pattern::parse("a*").unwrap().is_everything());
    }
}
