//! `limits.toml`, from text to rules.

use super::super::abuse;
use super::{
    Class, Lease, Limit, Limits, Mode, OverLimit, PathPattern, Prices, Refusals, Rule, Scope,
};
use crate::read::{Read, Section};
use std::time::Duration;

/// Most requests a minute of everybody together, and in any 60 seconds.
const MOST_GLOBAL: usize = 100_000_000;

/// Longest name of an operator's own rule, bytes.
const LONGEST_NAME: usize = 64;

const CLASSES: [(&str, Class); 4] = [
    ("search", Class::Search),
    ("recommend", Class::Recommend),
    ("events", Class::Events),
    ("passthrough", Class::Passthrough),
];
const OVER_LIMIT: [(&str, OverLimit); 2] =
    [("refuse", OverLimit::Refuse), ("degrade", OverLimit::Degrade)];
const SCOPES: [(&str, Scope); 3] =
    [("address", Scope::Address), ("key", Scope::Key), ("global", Scope::Global)];

pub(in crate::policy) fn read(file: &Section<'_>) -> Limits {
    let enabled = file.flag("enabled");
    let mut limits = Limits {
        max_clients: file.count("max_clients", 1_000..=100_000_000),
        mode: file.choice("mode", &[("strict", Mode::Strict), ("leased", Mode::Leased)]),
        lease: file.table("lease", |section| Lease {
            percent: section.count("percent", 1..=50) as u32,
            lives: section.duration("lives", Duration::from_millis(100)..=Duration::from_secs(60)),
        }),
        least_instances: file.count("least_instances", 1..=10_000) as u32,
        prices: file.table("prices", |section| Prices {
            per_results: section.count("per_results", 0..=100) as u32,
            semantic: section.count("semantic", 0..=1_000) as u32,
        }),
        refusals: file.table("refusals", |section| Refusals {
            per_second: section.count("per_second", 1..=100_000) as u32,
            longest_pause: section
                .duration("longest_pause", Duration::ZERO..=Duration::from_secs(10)),
            max_paused: section.count("max_paused", 0..=1_000_000),
        }),
        abuse: file.table("abuse", |section| abuse::read(section, enabled)),
        rules: Vec::new(),
    };
    for (name, scope) in SCOPES {
        file.table(name, |section| {
            for (class_name, class) in CLASSES {
                let name = format!("{name}.{class_name}");
                limits.rules.push(
                    section.table(class_name, |section| read_rule(section, &name, scope, class)),
                );
            }
        });
    }
    file.table("rule", |template| drop(read_own(template, "template")));
    let own = file.tables("rules", "rule", |name, section| {
        check_name(section, name);
        read_own(section, name)
    });
    limits.rules.extend(own);
    check_names(file, &limits.rules);
    if !enabled {
        limits.rules.clear();
    }
    limits
}

/// A rule with a name of the operator's choice.
fn read_own(section: &Section<'_>, name: &str) -> Rule {
    let scope = section.choice("scope", &SCOPES);
    let class = section.choice("class", &CLASSES);
    let path = section.parsed("path", false, PathPattern::parse);
    let methods = section.list("methods", method);
    if path.is_some() && class != Class::Passthrough {
        let message = "our own endpoints have one path each; paths are for class = \"passthrough\"";
        section.problem("path", message, Some("remove the path, or the class".to_owned()));
    }
    if path.as_ref().is_some_and(PathPattern::is_ours) {
        let message =
            "begins like an endpoint of Penstock's own, which rules with a path are not about";
        let advice = "write class = \"search\", \"recommend\" or \"events\" in place of the path";
        section.warning("path", message, Some(advice.to_owned()));
    }
    let rule = read_rule(section, &format!("rules.{name}"), scope, class);
    Rule { path, methods, ..rule }
}

/// A rule's name is in headers, metrics and keys of Redis.
fn check_name(section: &Section<'_>, name: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
        let message = "the name of a rule has 1 to 64 letters, digits, _ and -";
        section.problem("", message, Some("write [rules.login], for example".to_owned()));
    }
}

fn method(text: &str) -> Read<String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        return Ok(text.to_owned());
    }
    let upper = text.to_ascii_uppercase();
    Err(("methods are written in capital letters".to_owned(), Some(format!("write \"{upper}\""))))
}

fn read_rule(section: &Section<'_>, name: &str, scope: Scope, class: Class) -> Rule {
    let (most, most_burst) = match scope {
        Scope::Global => (MOST_GLOBAL, MOST_GLOBAL),
        Scope::Address | Scope::Key => (Limit::MOST_PER_MINUTE, Limit::MOST_BURST),
    };
    let limit = Limit {
        per_minute: section.count("per_minute", 1..=most) as u32,
        burst: section.count("burst", 1..=most_burst) as u32,
    };
    let rule = Rule {
        id: id_of(name),
        name: name.into(),
        scope,
        class,
        path: None,
        methods: Vec::new(),
        limit,
        enabled: section.flag("enabled"),
        shadow: section.flag("shadow"),
        over_limit: section.choice("over_limit", &OVER_LIMIT),
        weighs: section.flag("weigh"),
    };
    let cheaper = matches!(class, Class::Search | Class::Recommend);
    if rule.over_limit == OverLimit::Degrade && !cheaper {
        let message = "there is nothing cheaper than what a request of this class asks for";
        let advice = "write \"refuse\", or use it for the classes search and recommend";
        section.problem("over_limit", message, Some(advice.to_owned()));
    }
    let least = Limit::least_burst(limit.per_minute);
    if limit.burst < least {
        let message = "no minute may admit more than burst, so per_minute cannot be reached";
        let advice = format!("write {least} or more, or lower per_minute");
        section.problem("burst", message, Some(advice));
    }
    rule
}

/// FNV-1a of a rule's name.
fn id_of(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Two names with one id would count together: rare enough to ask for another name.
fn check_names(file: &Section<'_>, rules: &[Rule]) {
    for (at, rule) in rules.iter().enumerate() {
        if let Some(other) = rules[..at].iter().find(|other| other.id == rule.id) {
            let message =
                format!("{} and {} cannot be told apart by their ids", rule.name, other.name);
            file.problem("rules", &message, Some("give one of them another name".to_owned()));
        }
    }
}
