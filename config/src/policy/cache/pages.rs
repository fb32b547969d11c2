//! `[pages]` of `cache.toml`: which answers of the shop's application are kept, and for how long.
//!
//! Nothing is kept unless a rule names its path. A rule says what an answer depends on, and what it
//! does not depend on the application does not get to see: a parameter or a cookie that is not part
//! of the key is taken out of a request whose answer may be kept, so that nobody can be served what
//! was made for somebody else's.

use super::super::limits::PathPattern;
use crate::read::{Read, Section};
use std::sync::Arc;
use std::time::Duration;

/// Which parameters of the query an answer depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageQuery {
    /// All but these.
    AllBut(Vec<String>),
    /// These.
    Only(Vec<String>),
}

impl PageQuery {
    /// A parameter of this name counts.
    pub fn counts(&self, name: &str) -> bool {
        match self {
            Self::AllBut(ignored) => !ignored.iter().any(|other| other == name),
            Self::Only(counted) => counted.iter().any(|other| other == name),
        }
    }
}

/// What is kept of the answers to some paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRule {
    /// The operator's name for it.
    pub name: Arc<str>,
    /// The paths it is about.
    pub path: PathPattern,
    /// Off: nothing of these paths is kept, whatever a wider rule says.
    pub enabled: bool,
    /// Life of answers that say nothing about theirs; zero: they are not kept.
    pub ttl: Duration,
    /// No answer lives longer, whatever it says.
    pub max_ttl: Duration,
    /// Served so long after its life, while it is fetched anew, where the answer says nothing about it.
    pub stale_while_revalidate: Duration,
    /// Served so long after its life, while the application fails, where the answer says nothing about
    /// it.
    pub stale_if_error: Duration,
    /// The part of the query that counts.
    pub query: PageQuery,
    /// Requests with cookies are answered as if they had none; otherwise they are passed through.
    pub ignore_cookies: bool,
    /// `no-cache`, `max-age` and `min-fresh` of a request have the application asked whether the answer
    /// is still good; otherwise they are not listened to.
    pub obey_no_cache: bool,
}

/// Answers of the application that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    /// Off: nothing is kept.
    pub enabled: bool,
    /// Most bytes of this process' memory.
    pub memory: u64,
    /// Larger answers are passed through and not kept, bytes of their body.
    pub largest_body: u64,
    /// The narrowest first.
    pub rules: Vec<PageRule>,
}

impl Pages {
    /// The rule about a path, as [`PathPattern::folded`] has it: the narrowest.
    pub fn rule(&self, folded: &str) -> Option<(usize, &PageRule)> {
        self.rules.iter().enumerate().find(|(_, rule)| rule.path.matches(folded))
    }

    /// Something may be kept.
    pub fn keeps(&self) -> bool {
        self.enabled && self.rules.iter().any(|rule| rule.enabled)
    }
}

/// Longest name of a rule, bytes.
const LONGEST_NAME: usize = 64;

pub(super) fn read(section: &Section<'_>, all_enabled: bool) -> Pages {
    // The template has no path: it is read for what is wrong with it.
    section.table("path", |template| drop(read_rule(template, "template")));
    let own = section.tables("paths", "path", |name, section| {
        if name.is_empty() || name.len() > LONGEST_NAME {
            let message = "the name of a rule has 1 to 64 bytes";
            section.problem("", message, Some("write [pages.paths.catalogue]".to_owned()));
        }
        let rule = read_rule(section, name);
        if rule.is_none() && !section.has("path") {
            let hint = "write path = \"/catalogue/*\", for example".to_owned();
            section.problem("", "a rule needs a path", Some(hint));
        }
        if rule.as_ref().is_some_and(|rule| rule.path.is_ours()) {
            let message =
                "begins like an endpoint of Penstock's own, which never reaches the application";
            section.warning("path", message, None);
        }
        rule
    });
    let mut rules: Vec<PageRule> = own.into_iter().flatten().collect();
    rules.sort_by(|one, other| {
        (other.path.narrowness(), &one.name).cmp(&(one.path.narrowness(), &other.name))
    });
    let pages = Pages {
        enabled: section.flag("enabled") && all_enabled,
        memory: section.bytes("memory", super::MEMORY),
        largest_body: section.bytes("largest_body", 1_024..=1 << 30),
        rules,
    };
    if pages.largest_body > pages.memory / 2 {
        let message = "is more than half of memory, so that one answer would drive out all others";
        section.problem("largest_body", message, Some("lower it, or raise memory".to_owned()));
    }
    pages
}

/// `None` without a path that can be used.
fn read_rule(section: &Section<'_>, name: &str) -> Option<PageRule> {
    let path = section.parsed("path", false, PathPattern::parse);
    let ignored = section.list("ignore_query", parameter);
    let query = if section.is_list("query") {
        PageQuery::Only(section.list("query", parameter))
    } else if section.choice("query", &[("all", true), ("none", false)]) {
        PageQuery::AllBut(ignored)
    } else {
        PageQuery::Only(Vec::new())
    };
    if section.has("ignore_query") && matches!(query, PageQuery::Only(_)) {
        section.warning("ignore_query", "says nothing new: query names what counts", None);
    }
    let ttl = section.duration("ttl", Duration::ZERO..=super::WEEK);
    let max_ttl = section.duration("max_ttl", super::LIFE);
    if ttl > max_ttl {
        section.warning("ttl", "is longer than max_ttl, which no answer outlives", None);
    }
    let stale = Duration::ZERO..=super::WEEK;
    let rule = |path| PageRule {
        name: name.into(),
        path,
        enabled: section.flag("enabled"),
        ttl,
        max_ttl,
        stale_while_revalidate: section.duration("stale_while_revalidate", stale.clone()),
        stale_if_error: section.duration("stale_if_error", stale.clone()),
        query,
        ignore_cookies: section.choice("cookies", &[("bypass", false), ("ignore", true)]),
        obey_no_cache: section.choice("no_cache", &[("ignore", false), ("revalidate", true)]),
    };
    // Without a path, too, the rest is read, or its keys would be called unknown.
    let has_path = path.is_some();
    let rule = rule(path.unwrap_or_else(PathPattern::root));
    has_path.then_some(rule)
}

fn parameter(text: &str) -> Read<String> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"&=#?;%+".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(("a parameter is named as it stands in the address, without = and &".to_owned(), None))
}

#[cfg(test)]
mod tests {
    use crate::policy::{FileSet, PageQuery, Pages, PathPattern, Policy};

    fn read(text: &str) -> Result<Pages, String> {
        let files = FileSet::of([("cache.toml", text)]);
        Policy::from_files(&files)
            .map(|(policy, _)| policy.cache.pages)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn nothing_is_kept_that_no_rule_names() {
        let pages = read("").unwrap();
        assert!(pages.enabled && pages.rules.is_empty() && !pages.keeps());
        let off = read("enabled = false\n[pages.paths.a]\npath = \"/a\"\n").unwrap();
        assert!(!off.keeps());
    }

    #[test]
    fn the_narrowest_rule_counts() {
        let pages = read(
            "[pages.path]\nttl = \"1m\"\n\
             [pages.paths.all]\npath = \"/*\"\n\
             [pages.paths.account]\npath = \"/shop/account/*\"\nenabled = false\n\
             [pages.paths.exactly]\npath = \"/shop\"\nquery = [\"page\", \"sort\"]\n\
             [pages.paths.below]\npath = \"/shop/*\"\nignore_query = [\"utm_source\"]\nttl = \"2m\"\n",
        )
        .unwrap();
        let check = |path: &str, name: &str| {
            let (_, rule) = pages.rule(&PathPattern::folded(path.as_bytes())).unwrap();
            assert_eq!(&*rule.name, name, "{path}");
        };
        check("/", "all");
        check("/shop", "exactly");
        check("/shop/x", "below");
        check("/shop/account/orders", "account");
        let rule = |name: &str| pages.rules.iter().find(|rule| &*rule.name == name).unwrap();
        assert_eq!(rule("all").ttl.as_secs(), 60);
        assert_eq!(rule("below").ttl.as_secs(), 120);
        assert_eq!(rule("below").query, PageQuery::AllBut(vec!["utm_source".into()]));
        assert!(rule("exactly").query.counts("page") && !rule("exactly").query.counts("utm"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |text: &str, message: &str| {
            let problems = read(text).unwrap_err();
            assert!(problems.contains(message), "{text}\n{problems}");
        };
        check("[pages.paths.a]\nttl = \"1m\"\n", "a rule needs a path");
        check("[pages.paths.a]\npath = \"a\"\n", "is no path");
        check("[pages.paths.a]\npath = \"/a\"\nquery = \"some\"\n", "is not one of");
        check("[pages.paths.a]\npath = \"/a\"\nquery = [\"a=b\"]\n", "without = and &");
        check("[pages.paths.a]\npath = \"/a\"\ncookie = \"ignore\"\n", "did you mean \"cookies\"");
        check("[pages.paths.a]\npath = \"/a\"\nttl = 60\n", "a duration needs its unit");
        check("[pages.path]\nmax_ttl = \"0s\"\n", "must be at least 1s");
        check("[pages]\nmemory = \"1MiB\"\nlargest_body = \"1MiB\"\n", "more than half of memory");
    }
}
