use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn parse(text: &str, env: &[(&str, &str)]) -> Result<Bootstrap, Vec<String>> {
    let env: HashMap<_, _> = env.iter().copied().collect();
    let env = |name: &str| env.get(name).map(|value| (*value).to_owned());
    Bootstrap::parse("penstock.toml", text.as_bytes(), &env)
        .map_err(|problems| problems.as_slice().iter().map(ToString::to_string).collect())
}

fn valid(text: &str, env: &[(&str, &str)]) -> Bootstrap {
    parse(text, env).unwrap_or_else(|problems| panic!("{text}: {problems:#?}"))
}

#[test]
fn the_defaults_are_the_contract() {
    let found = valid("", &[]);
    assert_eq!(found.listen.public.to_string(), "127.0.0.1:8080");
    assert_eq!(found.listen.ops.to_string(), "127.0.0.1:6190");
    assert_eq!(found.listen.control.to_string(), "127.0.0.1:9090");
    assert_eq!(found.data_dir, Path::new("./data"));
    assert_eq!(found.policy_dir, Path::new("./data/policy"));
    assert_eq!((found.upstream.servers.len(), found.trusted_proxies.len()), (0, 0));
    assert_eq!((found.tls, found.embedding_model), (None, None));
    assert_eq!(found.log, "info");
    assert!(found.workers >= 1);
    assert!(found.instance.ends_with("-8080"), "{}", found.instance);
    assert_eq!(found.bounds.max_header_bytes, 16 << 10);
    assert_eq!(found.bounds.max_body_bytes, 1 << 20);
    assert_eq!(found.bounds.header_timeout, Duration::from_secs(10));
    assert_eq!(found.drain, Duration::from_secs(10));
    assert_eq!(found.upstream.health_check.interval, Duration::from_secs(5));
    assert_eq!(found.upstream.health_check.path, None);
}

/// Every setting: its key in the file, its variable, a value, and where it ends up.
#[test]
fn every_setting_has_a_key_and_a_variable_and_the_variable_wins() {
    type Show = fn(&Bootstrap) -> String;
    let rows: [(&str, &str, [&str; 2], Show); 17] = [
        ("data_dir", "DATA_DIR", ["/a", "/b"], |b| b.data_dir.display().to_string()),
        ("policy_dir", "POLICY_DIR", ["/a", "/b"], |b| b.policy_dir.display().to_string()),
        ("instance", "INSTANCE", ["a-1", "b-2"], |b| b.instance.clone()),
        ("log", "LOG", ["warn", "warn,penstock_engine=debug"], |b| b.log.clone()),
        ("workers", "WORKERS", ["3", "4"], |b| b.workers.to_string()),
        ("embedding_model", "EMBEDDING_MODEL", ["/m", "/n"], |b| {
            b.embedding_model.as_ref().map(|p| p.display().to_string()).unwrap_or_default()
        }),
        ("trusted_proxies", "TRUSTED_PROXIES", ["10.0.0.0/8", "::1"], |b| {
            b.trusted_proxies.iter().map(|n| n.to_string().replace("/128", "")).collect()
        }),
        ("listen.public", "LISTEN", ["0.0.0.0:1", "[::1]:2"], |b| b.listen.public.to_string()),
        ("listen.ops", "OPS_LISTEN", ["0.0.0.0:1", "[::1]:2"], |b| b.listen.ops.to_string()),
        ("listen.control", "CONTROL_LISTEN", ["0.0.0.0:1", "[::1]:2"], |b| {
            b.listen.control.to_string()
        }),
        ("upstream.urls", "UPSTREAM", ["http://a:80", "https://b:443"], |b| {
            b.upstream.servers.iter().map(ToString::to_string).collect()
        }),
        ("upstream.health_check.path", "HEALTH_CHECK_PATH", ["/up", "/ok?full=1"], |b| {
            b.upstream.health_check.path.clone().unwrap_or_default()
        }),
        (
            "upstream.health_check.interval_seconds",
            "HEALTH_CHECK_INTERVAL_SECONDS",
            ["1", "2"],
            |b| b.upstream.health_check.interval.as_secs().to_string(),
        ),
        ("bounds.max_header_bytes", "MAX_HEADER_BYTES", ["2048", "4096"], |b| {
            b.bounds.max_header_bytes.to_string()
        }),
        ("bounds.max_body_bytes", "MAX_BODY_BYTES", ["2048", "4096"], |b| {
            b.bounds.max_body_bytes.to_string()
        }),
        ("bounds.header_timeout_seconds", "HEADER_TIMEOUT_SECONDS", ["1", "2"], |b| {
            b.bounds.header_timeout.as_secs().to_string()
        }),
        ("shutdown.drain_seconds", "DRAIN_SECONDS", ["0", "3600"], |b| {
            b.drain.as_secs().to_string()
        }),
    ];
    for (key, variable, [in_file, in_env], show) in rows {
        let text = match key {
            "trusted_proxies" | "upstream.urls" => format!("{key} = [\"{in_file}\"]\n"),
            _ if in_file.parse::<u64>().is_ok() => format!("{key} = {in_file}\n"),
            _ => format!("{key} = \"{in_file}\"\n"),
        };
        let variable = format!("PENSTOCK_{variable}");
        assert_eq!(show(&valid(&text, &[])), in_file, "{key}");
        assert_eq!(show(&valid(&text, &[(&variable, in_env)])), in_env, "{variable}");
        assert_eq!(show(&valid("", &[(&variable, in_env)])), in_env, "{variable} alone");
    }
}

#[test]
fn a_proxy_header_is_believed_from_trusted_proxies_only() {
    let required = "listen.proxy_protocol = \"required\"\n";
    let trusting = format!("{required}trusted_proxies = [\"10.0.0.0/8\"]\n");
    let found = |text: &str, env| valid(text, env).listen.proxy_protocol;
    assert_eq!(found("", &[]), ProxyProtocol::Off);
    assert_eq!(found(&trusting, &[]), ProxyProtocol::Required);
    assert_eq!(found(&trusting, &[("PENSTOCK_PROXY_PROTOCOL", "off")]), ProxyProtocol::Off);
    let env = [("PENSTOCK_PROXY_PROTOCOL", "required"), ("PENSTOCK_TRUSTED_PROXIES", "::1")];
    assert_eq!(found("", &env), ProxyProtocol::Required);
    let problems = parse(required, &[]).expect_err("nobody is trusted");
    assert!(problems[0].contains("trusted_proxies"), "{problems:?}");
    let problems = parse("listen.proxy_protocol = \"on\"\n", &[]).expect_err("no such word");
    assert!(problems[0].contains("\"required\""), "{problems:?}");
}

#[test]
fn an_empty_variable_is_none_where_none_is_a_value() {
    let text = "embedding_model = \"/m\"\ntrusted_proxies = [\"::1\"]\nworkers = 3\n\
                upstream.urls = [\"http://a\"]\nredis.url = \"redis://a\"\n";
    let empty = [
        ("PENSTOCK_EMBEDDING_MODEL", ""),
        ("PENSTOCK_TRUSTED_PROXIES", " "),
        ("PENSTOCK_UPSTREAM", ""),
        ("PENSTOCK_WORKERS", ""),
        ("PENSTOCK_REDIS_URL", ""),
    ];
    let found = valid(text, &empty);
    assert_eq!(found.embedding_model, None);
    assert_eq!(found.trusted_proxies, []);
    assert_eq!(found.upstream.servers, []);
    assert_eq!(found.workers, 3);
    assert_eq!(found.redis, None);
}

#[test]
fn redis_is_read_from_its_url() {
    let check = |url: &str, shown: &str| {
        let found = valid("", &[("PENSTOCK_REDIS_URL", url)]).redis.expect(url);
        assert_eq!(found.url.to_string(), shown, "{url}");
        assert_eq!(found.namespace, "penstock");
        found.url
    };
    check("redis://a", "redis://a:6379");
    check("redis://a:1/0", "redis://a:1");
    check("rediss://[::1]/7", "rediss://[::1]:6379/7");
    let url = check("REDIS://me:p%40s%3As@A.b:1/2", "redis://me@a.b:1/2");
    assert_eq!(url.password.as_ref().map(Secret::expose), Some("p@s:s"));
    assert!(!format!("{url:?}").contains("p@s"), "{url:?}");
    let url = check("redis://:pw@a", "redis://a:6379");
    assert_eq!((url.user, url.password.as_ref().map(Secret::expose)), (None, Some("pw")));
    let url = check("redis+sentinel://a,b:7/shop/3", "redis+sentinel://a:26379,b:7/shop/3");
    assert_eq!(url.kind, RedisKind::Sentinel { service: "shop".into() });
    check("rediss+sentinel://a/shop", "rediss+sentinel://a:26379/shop");
    check("redis+cluster://a,b:7, c/", "redis+cluster://a:6379,b:7,c:6379");
    check("rediss+cluster://u:x@a", "rediss+cluster://u@a:6379");
    let file = "redis = { url = \"redis://a\", namespace = \"shop-1\" }\n";
    let env = [("PENSTOCK_REDIS_NAMESPACE", "shop-2")];
    assert_eq!(valid(file, &[]).redis.map(|redis| redis.namespace).as_deref(), Some("shop-1"));
    assert_eq!(valid(file, &env).redis.map(|redis| redis.namespace).as_deref(), Some("shop-2"));
}

#[test]
fn redis_urls_that_are_none_say_why_and_keep_the_password() {
    let check = |url: &str, expected: &str| {
        let problems = parse("", &[("PENSTOCK_REDIS_URL", url)]).expect_err(url).join("\n");
        assert!(problems.contains(expected), "{url}: {problems}");
        assert!(!problems.contains("hush"), "{problems}");
    };
    check("shop:6379", "has no scheme; write \"redis://shop:6379\"");
    check("me:hush@shop", "has no scheme; write \"redis://…@shop\"");
    check("reddis://me:hush@shop", "did you mean redis://?");
    check("redis-cluster://shop", "did you mean redis+cluster://?");
    check("http://u:hush@shop", "write redis://, redis+sentinel:// or redis+cluster://");
    check("redis://me:hu%sh%@shop", "not percent-encoded");
    check("redis://shop?db=3", "the URL takes no options");
    check("redis://shop/x", "\"x\" is not the number of a database");
    check("redis://shop/1/2", "at most the number of a database");
    check("redis://a,b", "more than one server; write redis+sentinel://");
    check("redis+sentinel://a,b", "the name of the service");
    check("redis+sentinel://a,b/shop/x", "not the number of a database");
    check("redis+cluster://a/1", "only database 0");
    check("redis://", "not a name and not an address");
    check("redis://a,", "not a name and not an address");
    check("redis://::1", "in brackets: [::1]");
    check("redis://a:0", "the port of \"a\"");
    let both =
        [("PENSTOCK_REDIS_URL", "redis://:hush@a"), ("PENSTOCK_REDIS_PASSWORD_FILE", "/dev/null")];
    assert!(parse("", &both).expect_err("both").join("").contains("keep one of the two"));
    let namespace = [("PENSTOCK_REDIS_NAMESPACE", "{a}")];
    let problems = parse("", &namespace).expect_err("braces").join("");
    assert!(problems.contains("cannot begin the keys"), "{problems}");
}

#[test]
fn a_password_file_is_read_when_it_is_needed() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("password");
    let env = [
        ("PENSTOCK_REDIS_URL", "redis://a"),
        ("PENSTOCK_REDIS_PASSWORD_FILE", path.to_str().expect("UTF-8")),
    ];
    let redis = valid("", &env).redis.expect("set");
    let check = |content: &[u8], expected: Option<&str>| {
        std::fs::write(&path, content).expect("written");
        let password = redis.password().expect("readable");
        assert_eq!(password.as_ref().map(Secret::expose), expected);
    };
    check(b"one\n", Some("one"));
    check(b"two words \r\n", Some("two words "));
    check(b"\n", None);
    std::fs::write(&path, [b'x'; 5_000]).expect("written");
    assert!(redis.password().is_err());
    std::fs::remove_file(&path).expect("there");
    assert!(redis.password().is_err());
}

#[test]
fn lists_are_read_whole() {
    let env = [
        (
            "PENSTOCK_UPSTREAM",
            " http://a , https://B.example/,h2c://[::1]:9000, http://10.0.0.1:81",
        ),
        ("PENSTOCK_TRUSTED_PROXIES", "10.1.2.3/8,192.168.1.7, fd00::/8,::1"),
    ];
    let found = valid("", &env);
    let servers: Vec<_> = found.upstream.servers.iter().map(ToString::to_string).collect();
    assert_eq!(
        servers,
        ["http://a:80", "https://b.example:443", "h2c://[::1]:9000", "http://10.0.0.1:81"]
    );
    let networks: Vec<_> = found.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.168.1.7/32", "fd00::/8", "::1/128"]);
}

#[test]
fn tls_needs_all_of_its_parts() {
    let text = "[tls]\nlisten = \"0.0.0.0:8443\"\ncert = \"c.pem\"\nkey = \"k.pem\"\n";
    let tls = valid(text, &[]).tls.expect("configured");
    assert_eq!(tls.listen.to_string(), "0.0.0.0:8443");
    assert_eq!((tls.cert, tls.key), (PathBuf::from("c.pem"), PathBuf::from("k.pem")));
    let mixed = valid(
        "[tls]\ncert = \"c.pem\"\n",
        &[("PENSTOCK_TLS_LISTEN", "0.0.0.0:8443"), ("PENSTOCK_TLS_KEY", "k.pem")],
    );
    assert!(mixed.tls.is_some());
}

#[test]
fn every_mistake_has_its_place_and_advice() {
    let check = |text: &str, env: &[(&str, &str)], expected: &[&str]| {
        assert_eq!(parse(text, env).expect_err(text), expected, "{text}{env:?}");
    };
    check(
        "wokers = 2\n[listne]\n[bounds]\nmax_header_byte = 16\ndrain_seconds = 3\n",
        &[],
        &[
            "penstock.toml:1:1: wokers: unknown key; did you mean \"workers\"?",
            "penstock.toml:2:2: listne: unknown key; did you mean \"listen\"?",
            "penstock.toml:4:1: bounds.max_header_byte: unknown key; did you mean \"max_header_bytes\"?",
            "penstock.toml:5:1: bounds.drain_seconds: unknown key; \
             known here: max_header_bytes, max_body_bytes, header_timeout_seconds",
        ],
    );
    check(
        "workers = 0\nlog = \"inof\"\ntrusted_proxies = \"::1\"\ndata_dir = 7\n\
         [shutdown]\ndrain_seconds = \"10\"\n",
        &[],
        &[
            "penstock.toml:1:1: workers: must be from 1 to 1024, found 0",
            "penstock.toml:2:1: log: \"inof\" is not a level; did you mean \"info\"?",
            "penstock.toml:3:1: trusted_proxies: expected a list of texts, found a string; \
             write [\"::1\"]",
            "penstock.toml:4:1: data_dir: expected a text, found an integer",
            "penstock.toml:6:1: shutdown.drain_seconds: expected a whole number, found a string",
        ],
    );
    // The file and the environment, all at once.
    check(
        "[listen]\npublic = \"localhost:80\"\nops = \"8080\"\ncontrol = \"::\"\n",
        &[
            ("PENSTOCK_WORKERS", "many"),
            ("PENSTOCK_DRAIN_SECONDS", "9999"),
            ("PENSTOCK_LOG", "penstock=loud"),
            ("PENSTOCK_INSTANCE", "../x"),
            ("PENSTOCK_HEALTH_CHECK_PATH", "up"),
        ],
        &[
            "penstock.toml:2:1: listen.public: \"localhost:80\" is not an address to listen on; \
             write \"127.0.0.1:80\"",
            "penstock.toml:3:1: listen.ops: \"8080\" is not an address to listen on; \
             write \"127.0.0.1:8080\", or \"0.0.0.0:8080\" for all interfaces",
            "penstock.toml:4:1: listen.control: \"::\" is not an address to listen on; add a port",
            "environment: PENSTOCK_HEALTH_CHECK_PATH: a path starts with /; write \"/up\"",
            "environment: PENSTOCK_INSTANCE: \"../x\" cannot be part of a file name; \
             write 1 to 100 letters, digits, dots, dashes or underscores, no dot first",
            "environment: PENSTOCK_WORKERS: \"many\" is not a whole number of at least 0",
            "environment: PENSTOCK_LOG: \"loud\" is not a level; \
             one of error, warn, info, debug, trace, off",
            "environment: PENSTOCK_DRAIN_SECONDS: must be from 0 to 3600, found 9999",
        ],
    );
    check(
        "[tls]\ncert = \"c.pem\"\n",
        &[],
        &[
            "penstock.toml:1:2: tls.listen: TLS needs listen, cert and key; \
             set tls.listen or PENSTOCK_TLS_LISTEN",
            "penstock.toml:1:2: tls.key: TLS needs listen, cert and key; \
             set tls.key or PENSTOCK_TLS_KEY",
        ],
    );
    // Settings that do not go together.
    check(
        "[listen]\npublic = \"0.0.0.0:6190\"\n",
        &[("PENSTOCK_UPSTREAM", "http://localhost:6190,http://127.0.0.1:6190,http://127.0.0.1:80")],
        &[
            "settings: listen.ops: 127.0.0.1:6190 is taken by listen.public (0.0.0.0:6190)",
            "settings: upstream.urls: http://localhost:6190 is this proxy's own address",
            "settings: upstream.urls: http://127.0.0.1:6190 is this proxy's own address",
        ],
    );
}

#[test]
fn a_database_is_read_with_what_replicas_leave_out() {
    let read = |pairs: &[(&str, &str)]| parse("", pairs).unwrap().database;
    assert_eq!(read(&[]), None);
    assert_eq!(read(&[("PENSTOCK_DATABASE_URL", "")]), None);
    let found = read(&[
        ("PENSTOCK_DATABASE_URL", "postgres://shop:p%40ss@db1,db2:5433/catalogue"),
        (
            "PENSTOCK_REPLICA_URLS",
            "postgres://db3, postgresql://reader@[::1]:5434/x?sslmode=disable",
        ),
        ("PENSTOCK_KEEP_MONTHS", "24"),
        ("PENSTOCK_READ_FROM", "round-robin"),
    ]);
    let found = found.unwrap();
    assert_eq!(found.url.to_string(), "postgres://shop@db1:5432,db2:5433/catalogue");
    let password = |url| found.password(url).unwrap().unwrap().expose().to_owned();
    assert_eq!(password(&found.url), "p@ss");
    assert_eq!(found.url.tls, DatabaseTls::Verified);
    let replicas: Vec<String> = found.replicas.iter().map(ToString::to_string).collect();
    assert_eq!(replicas, ["postgres://shop@db3:5432/catalogue", "postgres://reader@[::1]:5434/x"]);
    assert_eq!(password(&found.replicas[0]), "p@ss");
    assert_eq!(found.replicas[1].tls, DatabaseTls::Disabled);
    assert_eq!((found.pool.connections, found.pool.overflow), (20, 10));
    assert_eq!((found.keep_months, found.read_from), (Some(24), ReadFrom::RoundRobin));
    assert!(!format!("{found:?}").contains("p@ss"));

    let local = read(&[("PENSTOCK_DATABASE_URL", "postgres://shop@localhost")]).unwrap();
    assert_eq!(local.url.to_string(), "postgres://shop@localhost:5432/shop");
    assert_eq!(local.url.tls, DatabaseTls::Disabled);
    // A replica elsewhere is protected, unless it was said of the primary that nothing is.
    let tls_of_replica = |url| {
        let pairs = [("PENSTOCK_DATABASE_URL", url), ("PENSTOCK_REPLICA_URLS", "postgres://db3")];
        read(&pairs).unwrap().replicas[0].tls
    };
    assert_eq!(tls_of_replica("postgres://shop@localhost"), DatabaseTls::Verified);
    assert_eq!(tls_of_replica("postgres://shop@localhost?sslmode=disable"), DatabaseTls::Disabled);
}

#[test]
fn urls_that_are_no_database_say_why() {
    let check = |url: &str, expected: &str| {
        let problems = parse("", &[("PENSTOCK_DATABASE_URL", url)]).expect_err(url).join("\n");
        assert!(problems.contains(expected), "{url}: {problems}");
        assert!(!problems.contains("secret"), "{problems}");
    };
    check("shop:secret@db", "has no scheme; write \"postgres://…@db\"");
    check("postgre://shop:secret@db", "did you mean postgres://?");
    check("mysql://db", "write postgres://");
    check("postgres://db/shop", "the URL names no user; write postgres://user@host/database");
    check("postgres://u:secret@db:99999/shop", "is not a number from 1 to 65535");
    check("postgres://u:secret%zz@db", "not percent-encoded");
    check("postgres://u@db/a/b", "only the name of the database");
    check("postgres://u:secret@db/a?sslmode=maybe", "sslmode is disable, require or verify-full");
    let replicas = |url| parse("", &[("PENSTOCK_REPLICA_URLS", url)]).expect_err(url).join("\n");
    assert!(replicas("postgres://a@b").contains("no database.url to write to"));
}

#[test]
fn urls_that_are_no_server_say_why() {
    let check = |url: &str, expected: &str| {
        let problems = parse("", &[("PENSTOCK_UPSTREAM", url)]).expect_err(url).join("\n");
        assert!(problems.contains(expected), "{url}: {problems}");
    };
    check("shop:3000", "has no scheme; write \"http://shop:3000\"");
    check("htp://shop", "did you mean http://?");
    check("ftp://shop", "write http://, https:// or h2c://");
    check("http://shop/base", "write only \"http://shop\"");
    check("http://shop?x", "write only \"http://shop\"");
    check("http://shop#x", "write only \"http://shop\"");
    check("http://me:secret@shop", "user and password");
    check("http://", "the host is not a name");
    check("http://sh op", "the host is not a name");
    check("http://[::1", "the host is not a name");
    check("http://::1", "write IPv6 addresses in brackets: [::1]");
    check("http://[zz]:80", "the host is not a name");
    check("http://shop:0", "not a number from 1 to 65535");
    check("http://shop:99999", "not a number from 1 to 65535");
    check("http://[::1]x", "something between the host and the port");
    check("http://-shop", "the host is not a name");
}

#[test]
fn files_that_are_named_must_exist() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("penstock.toml");
    let text = "embedding_model = \"/none/m\"\n[tls]\nlisten = \"0.0.0.0:8443\"\n\
                cert = \"/none/c.pem\"\nkey = \"/proc\"\n";
    std::fs::write(&file, text).expect("written");
    let problems = Bootstrap::load(Some(&file), &|_| None).expect_err("nothing is there");
    let shown = problems.to_string();
    assert_eq!(
        shown,
        "/none/c.pem: tls.cert: there is no such file; set in the file or by PENSTOCK_TLS_CERT\n\
         /proc: tls.key: there is no such file; set in the file or by PENSTOCK_TLS_KEY\n\
         /none/m: embedding_model: there is no such folder; \
         set in the file or by PENSTOCK_EMBEDDING_MODEL"
    );
    let missing = dir.path().join("none.toml");
    let problems = Bootstrap::load(Some(&missing), &|_| None).expect_err("missing");
    assert!(problems.to_string().contains("none.toml: cannot be read: No such file"));
    assert!(Bootstrap::load(None, &|_| None).is_ok());
}

#[test]
fn the_default_file_says_what_the_code_does() {
    let documented = valid(DEFAULTS, &[]);
    assert_eq!(documented, valid("", &[]));
    // What is commented out is valid too.
    let uncommented = DEFAULTS
        .replace("# [tls]", "[tls]")
        .replace("# listen =", "listen =")
        .replace("# cert ", "cert ")
        .replace("# key ", "key ");
    assert!(valid(&uncommented, &[]).tls.is_some());
}

proptest! {
    #[test]
    fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), value in ".{0,40}") {
        let _ = Bootstrap::parse("penstock.toml", &bytes, &|_| Some(value.clone()));
    }

    #[test]
    fn a_server_shown_is_a_server_read(url in "(http|https|h2c)://([a-z0-9]{1,9}(\\.[a-z]{2,5})?|\\[[0-9a-f:]{2,9}\\])(:[0-9]{1,5})?") {
        if let Ok(server) = server::parse(&url) {
            prop_assert_eq!(server::parse(&server.to_string()), Ok(server));
        }
    }
}

#[test]
fn a_variable_that_is_nearly_one_is_noticed() {
    let asked =
        ["PENSTOCK_LISTEN", "PENSTOCK_POLICY_DIR", "PENSTOCK_LOG"].map(str::to_owned).into();
    let check = |name: &str, expected: Option<&str>| {
        let found = misspelt([name], &asked);
        let expected = expected.map(|meant| (name.to_owned(), meant.to_owned()));
        assert_eq!(found, Vec::from_iter(expected));
    };
    check("PENSTOCK_LISTEN", None);
    check("PENSTOCK_LISTN", Some("PENSTOCK_LISTEN"));
    check("PENSTOCK_POLICYDIR", Some("PENSTOCK_POLICY_DIR"));
    check("PENSTOCK_TEST_BINARIES", None);
    check("LISTEN", None);
}
