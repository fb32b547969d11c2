// Numbers are read as they are written, to the bit.
#![allow(clippy::float_cmp)]

use super::*;
use proptest::prelude::*;
use std::time::Duration;

/// The problems and warnings of one file, as shown, with the defaults for the other files.
fn read(name: &str, text: &str) -> (Result<Policy, Vec<String>>, Vec<String>) {
    let shown = |problems: &[Problem]| problems.iter().map(ToString::to_string).collect();
    match Policy::from_files(&FileSet::of([(name, text)])) {
        Ok((policy, warnings)) => (Ok(policy), shown(&warnings)),
        Err(problems) => (Err(shown(problems.as_slice())), Vec::new()),
    }
}

#[test]
fn the_default_files_are_valid_alone_and_say_everything() {
    let policy = Policy::default();
    assert_eq!(policy.ranking.weights.search, 0.4);
    assert_eq!(policy.ranking.popularity_half_life, Duration::from_hours(30 * 24));
    assert_eq!(policy.ranking.fusion, Fusion::Max { semantic_weight: 0.3, tie_breaker: 0.0 });
    assert_eq!(policy.query.keyword.boosts.name, 3.0);
    assert_eq!(policy.resilience.deadlines.retrieve, Duration::from_millis(80));
    let limit = |scope, class| {
        let mut about = policy.limits.about(scope, class, "GET", "");
        about.find(|rule| rule.enabled).map(|rule| (rule.limit.per_minute, rule.limit.burst))
    };
    assert_eq!(limit(Scope::Address, Class::Search), Some((100, 150)));
    assert_eq!(limit(Scope::Address, Class::Recommend), Some((50, 75)));
    assert_eq!(limit(Scope::Key, Class::Search), Some((1_000, 1_500)));
    assert_eq!(limit(Scope::Key, Class::Recommend), Some((500, 750)));
    assert_eq!(limit(Scope::Address, Class::Passthrough), None);
    assert_eq!(limit(Scope::Global, Class::Search), None);
    assert_eq!(policy.version.len(), 12);

    for file in FILES {
        let document = crate::read::Document::parse(file.name, file.default);
        // Without fallback: a key that is missing from the default file is a problem.
        match file.name {
            "ranking.toml" => drop(document.read(None, ranking::read)),
            "query.toml" => drop(document.read(None, query::read)),
            "resilience.toml" => drop(document.read(None, resilience::read)),
            "limits.toml" => drop(document.read(None, limits::read)),
            "access.toml" => drop(document.read(None, access::read)),
            "cache.toml" => drop(document.read(None, cache::read)),
            other => panic!("{other} is not read in this test"),
        }
        let found = document.into_findings();
        assert_eq!((found.problems, found.warnings), (vec![], vec![]), "{}", file.name);
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let policy = Policy::default();
    assert_eq!(policy.cache.results.ttl, Duration::from_secs(300));
    assert_eq!(policy.cache.features.product_ttl, Duration::from_hours(1));
    assert_eq!(policy.cache.features.user_ttl, Duration::from_hours(24));
    assert_eq!(policy.cache.ranking.ttl, Duration::from_hours(24));
    assert_eq!(policy.cache.popular.ttl, Duration::from_secs(300));
    let check = |text: &str, expected: &[&str]| {
        let (found, _) = read("cache.toml", text);
        assert_eq!(found.expect_err(text), expected, "{text}");
    };
    check(
        "[results]\nmemory = 64\nttl = \"0s\"\njitter = 1\n",
        &[
            "cache.toml:2:1: results.memory: a size needs its unit; write \"64MiB\"",
            "cache.toml:3:1: results.ttl: must be at least 1s, found 0s",
            "cache.toml:4:1: results.jitter: must be at most 0.9, found 1",
        ],
    );
    check(
        "[popular]\nmemory = \"4KiB\"\n[features]\nttl = \"5m\"\n",
        &[
            "cache.toml:2:1: popular.memory: must be at least 1MiB, found 4KiB",
            "cache.toml:4:1: features.ttl: unknown key; known here: enabled, memory, product_ttl, \
             user_ttl, popularity_ttl",
        ],
    );
    let (found, warnings) = read("cache.toml", "[results]\nempty_ttl = \"10m\"\n");
    assert!(found.is_ok());
    assert_eq!(
        warnings,
        ["cache.toml:2:1: results.empty_ttl: is longer than ttl, the life of a whole answer"]
    );
}

#[test]
fn every_mistake_has_its_place_and_advice() {
    let check = |name: &str, text: &str, expected: &[&str]| {
        let (found, _) = read(name, text);
        assert_eq!(found.expect_err(text), expected, "{text}");
    };
    let ranking = |text, expected| check("ranking.toml", text, expected);
    ranking(
        "[weights]\nserch = 0.5\n",
        &[r#"ranking.toml:2:1: weights.serch: unknown key; did you mean "search"?"#],
    );
    ranking(
        "[weights]\nsearch = -0.5\ncf = nan\npopularity = inf\nfreshness = 1e300\n",
        &[
            "ranking.toml:2:1: weights.search: must be at least 0, found -0.5",
            "ranking.toml:3:1: weights.cf: must be finite, found NaN",
            "ranking.toml:4:1: weights.popularity: must be finite, found inf",
            "ranking.toml:5:1: weights.freshness: must be at most 1000000, found 1e300",
        ],
    );
    ranking(
        "[weights]\nsearch = \"0.5\"\ncf = true\n",
        &[
            "ranking.toml:2:1: weights.search: expected a number, found a string; \
             write 0.5 without quotes",
            "ranking.toml:3:1: weights.cf: expected a number, found a boolean",
        ],
    );
    ranking(
        "[weights]\nsearch = 0\ncf = 0\npopularity = 0\nfreshness = 0\n",
        &["ranking.toml:1:2: weights: all weights are 0, so nothing would be ranked"],
    );
    ranking(
        "[events]\nview = 0\nadd_to_cart = 0\npurchase = 0\n",
        &["ranking.toml:1:2: events: all events count 0, so nothing would be popular"],
    );
    ranking(
        "[popularity]\nhalf_life = 14\n[freshness]\nhalf_life_days = 60\n",
        &[
            "ranking.toml:2:1: popularity.half_life: a duration needs its unit; write \"14d\"",
            "ranking.toml:4:1: freshness.half_life_days: unknown key; \
             write half_life = \"…\" with the unit in the value",
        ],
    );
    ranking(
        "[popularity]\nhalf_life = \"0d\"\n[freshness]\nhalf_life = \"20000d\"\n",
        &[
            "ranking.toml:2:1: popularity.half_life: must be at least 1m, found 0s",
            "ranking.toml:4:1: freshness.half_life: must be at most 3650d, found 20000d",
        ],
    );
    ranking(
        "[popularity]\nhalf_life = \"14\"\n[freshness]\nhalf_life = \"2 months\"\n",
        &[
            "ranking.toml:2:1: popularity.half_life: \
             a duration needs its unit: w, d, h, m, s, ms or us; write \"14d\"",
            "ranking.toml:4:1: freshness.half_life: a duration is a whole number with its unit; \
             write it as \"250ms\", \"30s\", \"12h\" or \"14d\"",
        ],
    );
    ranking(
        "[fusion]\nmethod = \"rff\"\nsemantic_weight = 1.5\nrrf_k = 0\n",
        &[
            "ranking.toml:2:1: fusion.method: \"rff\" is not one of \"max\", \"weighted\", \"rrf\"; \
             did you mean \"rrf\"?",
            "ranking.toml:3:1: fusion.semantic_weight: must be at most 1, found 1.5",
            "ranking.toml:4:1: fusion.rrf_k: must be at least 1, found 0",
        ],
    );
    ranking(
        "[category_weights.Mugs]\ncf = -1\n[category_weights.\"mugs \"]\n\
         [category_weights.\" > \"]\n[category_weights]\nshoes = 3\n",
        &[
            "ranking.toml:2:1: category_weights.Mugs.cf: must be at least 0, found -1",
            "ranking.toml:3:19: category_weights.\"mugs \": \"mugs\" has weights already; \
             capitals and spaces around > make no difference",
            "ranking.toml:4:19: category_weights.\" > \": the name of the category is empty",
            "ranking.toml:6:1: category_weights.shoes: expected a table, found an integer",
        ],
    );
    ranking(
        "weights = 3\nsearch = 0.4\n",
        &[
            "ranking.toml:1:1: weights: expected a table, found an integer; \
             write [weights] and its keys below it",
            "ranking.toml:2:1: search: unknown key; \
             known here: weights, category_weights, events, popularity, freshness, fusion",
        ],
    );
    // What is torn does not hide what is wrong elsewhere.
    ranking(
        "[weights]\nsearch = \ncf = -1\n",
        &[
            "ranking.toml:2:10: not TOML: string values must be quoted, expected literal string",
            "ranking.toml:3:1: weights.cf: must be at least 0, found -1",
        ],
    );
    check(
        "query.toml",
        "max_chars = 0\nmax_terms = 1.5\n[semantic]\nenabled = \"yes\"\ncandidates = 10_001\n\
         min_similarity = -1.1\n[keyword]\ncandidates = 999999999999999999999999\n",
        &[
            "query.toml:1:1: max_chars: must be at least 1, found 0",
            "query.toml:2:1: max_terms: expected a whole number, found a float",
            "query.toml:4:1: semantic.enabled: expected true or false, found a string; \
             write true without quotes",
            "query.toml:5:1: semantic.candidates: must be at most 10000, found 10001",
            "query.toml:6:1: semantic.min_similarity: must be at least -1, found -1.1",
            "query.toml:8:1: keyword.candidates: must be at most 10000, \
             found 999999999999999999999999",
        ],
    );
    check(
        "resilience.toml",
        "[deadlines]\nretrieve = 80\nstore = \"50\"\n[upstream]\nretries = 6\nidle = false\n",
        &[
            "resilience.toml:2:1: deadlines.retrieve: a duration needs its unit; write \"80ms\"",
            "resilience.toml:3:1: deadlines.store: \
             a duration needs its unit: w, d, h, m, s, ms or us; write \"50ms\"",
            "resilience.toml:5:1: upstream.retries: must be at most 5, found 6",
            "resilience.toml:6:1: upstream.idle: expected a duration, found a boolean",
        ],
    );
}

#[test]
fn problems_of_all_files_come_at_once() {
    let files = FileSet::of([
        ("resilience.toml", &b"[engine]\nmax_queue = 0\n"[..]),
        ("query.toml", b"max_chars = \xff\n"),
        ("ranking.toml", b"[weights]\nsearch = -1\n"),
    ]);
    let problems = Policy::from_files(&files).expect_err("all three are wrong");
    let shown: Vec<_> = problems.as_slice().iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "ranking.toml:2:1: weights.search: must be at least 0, found -1",
            "query.toml:1: the text is not UTF-8 from here on; save the file as UTF-8",
            "resilience.toml:2:1: engine.max_queue: must be at least 1, found 0",
        ]
    );
}

#[test]
fn odd_encodings_are_read_or_named() {
    let check = |bytes: &[u8], expected: &str| {
        let found = match Policy::from_files(&FileSet::of([("ranking.toml", bytes)])) {
            Ok((policy, _)) => policy.ranking.weights.search.to_string(),
            Err(problems) => problems.to_string(),
        };
        assert_eq!(found, expected);
    };
    check(b"\xef\xbb\xbf[weights]\r\nsearch = 0.7\r\n", "0.7");
    check(b"", "0.4");
    check(b"# nothing", "0.4");
    check(b"\xff\xfe[\0w\0", "ranking.toml: the file is UTF-16; save it as UTF-8");
    check(
        &vec![b'#'; (1 << 20) + 1],
        "ranking.toml: the file has 1048577 bytes; the most that is read is 1048576",
    );
    check(
        "[weights]\n\"sé\u{1b}rch\" = 1\n".as_bytes(),
        "ranking.toml:2:4: not TOML: invalid basic string, expected non-double-quote visible characters, `\\`",
    );
}

#[test]
fn category_weights_inherit_what_they_leave_out() {
    let (policy, _) = read(
        "ranking.toml",
        "[weights]\nsearch = 0.9\n[category_weights.\"Kitchen>  Mugs\"]\nfreshness = 0.5\n",
    );
    let by_category = policy.expect("valid").ranking.by_category;
    let expected = Weights { search: 0.9, cf: 0.3, popularity: 0.2, freshness: 0.5 };
    assert_eq!(
        by_category.into_iter().collect::<Vec<_>>(),
        [("kitchen > mugs".to_owned(), expected)]
    );
}

#[test]
fn doubtful_things_are_warnings() {
    let (policy, warnings) =
        read("resilience.toml", "[deadlines]\nstore = \"1s\"\nrequest = \"500ms\"\n");
    assert!(policy.is_ok());
    assert_eq!(
        warnings,
        ["resilience.toml:2:1: deadlines.store: is longer than the deadline of the whole \
             request, which ends first"]
    );
    let (_, warnings) = read("rankng.toml", "");
    assert_eq!(
        warnings,
        ["rankng.toml: this version of Penstock reads no policy file of this name; \
             did you mean ranking.toml?"]
    );
    let (policy, _) = read("ranking.toml", "[category_weights.mugz]\ncf = 0\n");
    let warnings = check_categories(&policy.expect("valid"), &|path| path == "mugs");
    assert_eq!(
        warnings[0].to_string(),
        "ranking.toml: category_weights.\"mugz\": no product has this category; \
         check the spelling against the catalogue, or remove these weights"
    );
}

#[test]
fn the_same_content_is_the_same_version() {
    let default = FileSet::default().version();
    let check = |files: &[(&str, &str)], same: bool| {
        let version = FileSet::of(files.iter().copied()).version();
        assert_eq!(version == default, same, "{files:?}");
    };
    check(&[("ranking.toml", FILES[0].default)], true);
    check(&[("notes.toml", "anything")], true);
    check(&[("ranking.toml", "")], false);
    // Moving content from one file to another is a change.
    let a = FileSet::of([("ranking.toml", "x"), ("query.toml", "")]).version();
    let b = FileSet::of([("ranking.toml", ""), ("query.toml", "x")]).version();
    assert_ne!(a, b);

    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(install_defaults(dir.path()).expect("written").len(), FILES.len());
    let (policy, warnings) = Policy::load(dir.path()).expect("valid");
    assert_eq!((policy.version, warnings), (default, vec![]));
}

#[test]
fn defaults_never_replace_a_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let mine = dir.path().join("query.toml");
    std::fs::write(&mine, "max_chars = 9\n").expect("written");
    let others = ["ranking.toml", "resilience.toml", "limits.toml", "access.toml", "cache.toml"];
    assert_eq!(install_defaults(dir.path()).expect("written"), others);
    assert_eq!(std::fs::read_to_string(&mine).expect("read"), "max_chars = 9\n");
    assert!(install_defaults(dir.path()).expect("nothing to do").is_empty());
}

#[test]
fn a_folder_that_cannot_be_read_is_an_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let check = |path: &Path, expected: &str| {
        let problem = Policy::load(path).expect_err("unreadable").to_string();
        assert!(problem.contains(expected), "{problem}");
    };
    check(&dir.path().join("none"), "create it, or set PENSTOCK_POLICY_DIR");
    std::os::unix::fs::symlink("nowhere", dir.path().join("ranking.toml")).expect("linked");
    check(dir.path(), "ranking.toml: this link leads nowhere");
    std::fs::remove_file(dir.path().join("ranking.toml")).expect("removed");
    std::fs::create_dir(dir.path().join("query.toml")).expect("made");
    check(dir.path(), "query.toml: cannot be read: this is not a file");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        name in prop::sample::select(vec!["ranking.toml", "query.toml", "resilience.toml"]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Policy::from_files(&FileSet::of([(name, bytes)]));
    }

    /// Near misses of a real file get further into the reader than noise does.
    #[test]
    fn a_damaged_file_is_read_or_refused(
        file in prop::sample::select(FILES),
        at in any::<prop::sample::Index>(),
        length in 0_usize..40,
        patch in "[\\PC\n\"\\[\\]=.0-9]{0,20}",
    ) {
        let mut text: Vec<char> = file.default.chars().collect();
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, patch.chars());
        let text: String = text.into_iter().collect();
        if let Ok((policy, _)) = Policy::from_files(&FileSet::of([(file.name, text)])) {
            let w = policy.ranking.weights;
            prop_assert!([w.search, w.cf, w.popularity, w.freshness].iter().all(|w| *w >= 0.0));
            prop_assert!(policy.query.keyword.candidates >= 1);
        }
    }
}

#[test]
fn limits_that_cannot_be_kept_are_refused() {
    let refused = |text: &str, expected: &str| {
        let problems = read("limits.toml", text).0.expect_err(text);
        assert!(problems.iter().any(|p| p.contains(expected)), "{problems:?}");
    };
    refused("[address.search]\nper_minute = 0\n", "address.search.per_minute: must be at least 1");
    refused("[address.search]\nburst = 100\n", "write 106 or more");
    refused("[address.serch]\n", "did you mean \"search\"");
    refused("[rules.x]\nclass = \"search\"\npath = \"/login\"\n", "one path each");
    let (_, warnings) = read("limits.toml", "[rules.x]\npath = \"/search\"\n");
    assert!(warnings[0].contains("endpoint of Penstock's own"), "{warnings:?}");
    refused("[rules.x]\npath = \"login\"\n", "write \"/login\"");
    refused("[rules.x]\nmethods = [\"post\"]\n", "write \"POST\"");
    refused("[rules.x]\nscope = \"adress\"\n", "did you mean \"address\"");
    for name in ["a\\nb", "a b", "é", "a.b", "", &"x".repeat(65)] {
        let text = format!("[rules.\"{name}\"]\n");
        refused(&text, "the name of a rule has 1 to 64 letters, digits, _ and -");
    }
    let (longest, _) = read("limits.toml", &format!("[rules.A_9-{}]\n", "x".repeat(60)));
    assert!(longest.is_ok(), "{longest:?}");
    let (policy, _) = read("limits.toml", "enabled = false\n");
    assert!(policy.unwrap().limits.rules.is_empty());
}

#[test]
fn rules_of_the_operators_own_come_on_top() {
    let text = "[rules.login]\npath = \"/login\"\nmethods = [\"POST\"]\nper_minute = 10\nburst = 12\n\
                [rules.page]\npath = \"/page\"\nmethods = [\"GET\"]\n\
                [rules.headers]\npath = \"/headers\"\nmethods = [\"HEAD\"]\n\
                [rules.tighter]\nclass = \"search\"\nshadow = true\nweigh = true\n";
    let limits = read("limits.toml", text).0.unwrap().limits;
    let dotted = limits.path_of(Class::Passthrough, b"/x/../login");
    let names = |class, method, path| -> Vec<&str> {
        let about = limits.about(Scope::Address, class, method, path);
        about.filter(|rule| rule.enabled).map(|rule| &*rule.name).collect()
    };
    assert_eq!(names(Class::Passthrough, "POST", "/login"), ["rules.login"]);
    for method in ["post", "Post"] {
        assert_eq!(names(Class::Passthrough, method, "/login"), ["rules.login"], "{method}");
    }
    for method in ["GET", "get", "HEAD", "head"] {
        assert_eq!(names(Class::Passthrough, method, "/page"), ["rules.page"], "{method}");
        assert!(names(Class::Passthrough, method, "/login").is_empty(), "{method}");
    }
    assert!(names(Class::Passthrough, "POST", "/page").is_empty());
    assert!(names(Class::Passthrough, "GET", "/headers").is_empty());
    assert_eq!(names(Class::Passthrough, "head", "/headers"), ["rules.headers"]);
    assert_eq!(names(Class::Passthrough, "POST", &dotted), ["rules.login"]);
    assert!(names(Class::Passthrough, "POST", "/logout").is_empty());
    assert_eq!(names(Class::Search, "GET", "/search"), ["address.search", "rules.tighter"]);
    let tighter = limits.rules.iter().find(|rule| &*rule.name == "rules.tighter").unwrap();
    assert!(tighter.shadow && tighter.weighs && tighter.limit.per_minute == 60);
    let prices = limits.prices;
    assert_eq!([1, 25, 26, 100].map(|k| prices.of(k, false)), [1, 1, 2, 4]);
    assert_eq!(prices.of(100, true), 5);
}

#[test]
fn abuse_is_read_and_its_contradictions_are_refused() {
    let check = |text: &str, expected: &[&str]| {
        let found = read("limits.toml", text).0.expect_err(text);
        assert_eq!(found, expected, "{text}");
    };
    let abuse = Policy::default().limits.abuse;
    assert!(abuse.enabled && !abuse.shadow);
    let queries = RepeatedQuery { enabled: true, per_minute: 20 };
    assert_eq!(abuse.repeated_query, queries);
    let (run, within) = (20, Duration::from_secs(60));
    let walks = SequentialIds { enabled: true, run, within, max_stride: 100 };
    assert_eq!(abuse.sequential_ids, walks);
    check(
        "[abuse.penalty]\nfirst = \"2h\"\n",
        &["limits.toml:1:8: abuse.penalty.longest: is shorter than the first penalty; \
           write the length of first or more, or shorten first"],
    );
    check(
        "[abuse]\nmax_clients = 10\n[abuse.repeated_query]\nper_minute = 251\n\
         [abuse.sequential_ids]\nrun = 4\nmax_stride = 0\nwithin = 60\n",
        &[
            "limits.toml:2:1: abuse.max_clients: must be at least 1000, found 10",
            "limits.toml:4:1: abuse.repeated_query.per_minute: must be at most 250, found 251",
            "limits.toml:6:1: abuse.sequential_ids.run: must be at least 5, found 4",
            "limits.toml:7:1: abuse.sequential_ids.max_stride: must be at least 1, found 0",
            "limits.toml:8:1: abuse.sequential_ids.within: a duration needs its unit; \
             write \"60s\"",
        ],
    );
    check(
        "[abuse]\nmax_flaged = 10\n",
        &["limits.toml:2:1: abuse.max_flaged: unknown key; did you mean \"max_flagged\"?"],
    );
    let (policy, _) = read("limits.toml", "enabled = false\n");
    assert!(!policy.unwrap().limits.abuse.enabled, "nothing is counted when limits are off");
}

#[test]
fn lists_are_read_with_every_mistake() {
    let text = "deny = [{ address = \"::ffff:10.1.2.3/104\", reason = \"r\" }]\n\
                [[allow]]\nkey = \"abcdefghij27\"\nexpires = 1970-01-01T00:00:10Z\n";
    let policy = read("access.toml", text).0.expect("valid, expired or not");
    let deny = Entry {
        list: List::Deny,
        target: Target::Address("10.0.0.0/8".parse().expect("a network")),
        reason: "r".into(),
        expires: None,
    };
    let target = Target::parse("abcdefghij27").expect("an id");
    let allow = Entry { list: List::Allow, target, reason: String::new(), expires: Some(10) };
    assert!(allow.is_in_force(9) && !allow.is_in_force(10) && deny.is_in_force(i64::MAX));
    assert_eq!(policy.access.entries, [allow, deny]);

    let refused = |text: &str, expected: &str| {
        let problems = read("access.toml", text).0.expect_err(text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(expected), "{problems:?}");
    };
    refused(
        "deny = \"10.0.0.1\"\n",
        "access.toml:1:1: deny: expected a list of tables, found a string",
    );
    refused("deny = [1]\n", "expected a table, found an integer; write [[deny]]");
    refused(
        "\n[[deny]]\naddress = \"10.0.0.0/40\"\n",
        "access.toml:3:1: deny.address: \"10.0.0.0/40\"",
    );
    refused("[[deny]]\nadress = \"10.0.0.1\"\naddress = \"::1\"\n", "did you mean \"address\"");
    refused("[[deny]]\n\n[[deny]]\naddress = \"::1\"\n", "access.toml:1:1: deny: ");
    refused("[[allow]]\naddress = \"::1\"\nkey = \"abcdefghij27\"\n", "not both");
    refused("[[allow]]\nkey = \"psk_abcdefghij27_0\"\n", "not secret any more");
    refused("[[allow]]\nkey = \"abcdefghij18\"\n", "is not the id of a key");
    refused("[[allow]]\naddress = \"::1\"\nexpires = \"soon\"\n", "RFC 3339");
    refused("[[allow]]\naddress = \"::1\"\nexpires = 2026-01-01\n", "RFC 3339");
    refused("[[allow]]\naddress = \"::1\"\nexpires = 3\n", "expected a time, found an integer");
}
