//! The files of `deploy/` parse, and agree with the code and with each other. No container engine runs
//! where this is tested: what only an engine can show is not shown.

use super::{read, repository, run_if_installed};
use penstock_config::policy::{FileSet, Policy};
use penstock_tests::binaries::run;
use serde_yaml::Value;

/// The alert rules; the tests of `a.yml` are in `a.test.yml`.
pub(super) const RULES: [&str; 4] = [
    "deploy/prometheus/rules.yml",
    "deploy/prometheus/rate-limits.yml",
    "deploy/prometheus/caches.yml",
    "deploy/prometheus/database.yml",
];

fn tests_of(rules: &str) -> String {
    rules.replace(".yml", ".test.yml")
}

fn yaml(relative: &str) -> Value {
    serde_yaml::from_str(&read(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// `a.b.c` in a document.
fn at<'a>(document: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(document, |value, key| {
        value.get(key).unwrap_or_else(|| panic!("{path}: there is no {key}"))
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("text, not {value:?}"))
}

fn list(value: &Value) -> impl Iterator<Item = &str> {
    value.as_sequence().unwrap_or_else(|| panic!("a list, not {value:?}")).iter().map(text)
}

/// The port of `host:port`.
fn port(address: &str) -> &str {
    address.rsplit(':').next().expect("rsplit gives at least one")
}

#[test]
fn compose_mounts_and_builds_from_what_exists() {
    let mut compose = yaml("deploy/compose.yaml");
    compose.apply_merge().expect("merge keys are maps");
    let services = at(&compose, "services").as_mapping().expect("services");
    let volumes = at(&compose, "volumes").as_mapping().expect("volumes");
    for (name, service) in services {
        if let Some(build) = service.get("build") {
            let context = repository("deploy").join(text(at(build, "context")));
            assert!(context.join(text(at(build, "dockerfile"))).is_file(), "{name:?}");
        }
        let image = text(at(service, "image"));
        assert!(image == "penstock" || image.contains(':'), "{name:?}: {image} has no version");
        for mount in service.get("volumes").into_iter().flat_map(list) {
            let mount = mount.replace("${CATALOGUE:-./systemd}", "./systemd");
            let source = mount.split(':').next().expect("split gives at least one");
            if source.starts_with('.') {
                assert!(repository("deploy").join(source).exists(), "{name:?}: {source}");
            } else {
                assert!(volumes.contains_key(source), "{name:?}: no volume {source}");
            }
        }
        // Nothing is open to the network of the machine unless somebody decides so.
        for published in service.get("ports").into_iter().flat_map(list) {
            assert!(published.starts_with("127.0.0.1:"), "{name:?}: {published}");
        }
    }
}

#[test]
fn ports_agree() {
    let compose = yaml("deploy/compose.yaml");
    let image = read("deploy/Containerfile");
    let public = list(at(&compose, "services.proxy.ports")).next().map(port);
    assert!(image.contains(&format!("PENSTOCK_LISTEN=0.0.0.0:{}", public.unwrap_or_default())));
    let ops = port(text(at(&compose, "services.proxy.environment.PENSTOCK_OPS_LISTEN")));
    assert!(image.contains(&format!("/dev/tcp/127.0.0.1/{ops} ")), "health check");
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    let job = &at(&prometheus, "scrape_configs")[0]["static_configs"][0]["targets"];
    assert_eq!(list(job).collect::<Vec<_>>(), [format!("proxy:{ops}")]);
    let grafana = yaml("deploy/grafana/provisioning/datasources/prometheus.yaml");
    assert_eq!(text(&grafana["datasources"][0]["url"]), "http://prometheus:9090");
}

#[test]
fn the_pod_has_what_it_mounts_and_probes_what_it_opens() {
    let documents = read("deploy/kubernetes/sidecar.yaml");
    let documents: Vec<Value> = documents
        .split("\n---\n")
        .map(|document| serde_yaml::from_str(document).expect("YAML"))
        .collect();
    let kinds: Vec<&str> = documents.iter().map(|it| text(at(it, "kind"))).collect();
    assert_eq!(kinds, ["ConfigMap", "StatefulSet", "Service"]);
    let pod = at(&documents[1], "spec.template.spec");
    let named = |list: &str| -> Vec<String> {
        let items = at(pod, list).as_sequence().expect("a list");
        items.iter().map(|it| text(at(it, "name")).to_owned()).collect()
    };
    // What holds acknowledged events outlives its pod.
    let claims = at(&documents[1], "spec.volumeClaimTemplates").as_sequence().expect("a list");
    let claims: Vec<String> =
        claims.iter().map(|it| text(at(it, "metadata.name")).to_owned()).collect();
    assert_eq!(claims, ["data"]);
    let volumes = [named("volumes"), claims].concat();
    let proxy = &at(pod, "containers")[0];
    for mount in at(proxy, "volumeMounts").as_sequence().expect("a list") {
        assert!(volumes.contains(&text(at(mount, "name")).to_owned()), "{mount:?}");
    }
    let ports = at(proxy, "ports").as_sequence().expect("a list");
    let ports: Vec<&str> = ports.iter().map(|it| text(at(it, "name"))).collect();
    for probe in ["readinessProbe", "livenessProbe"] {
        assert!(ports.contains(&text(at(proxy, &format!("{probe}.httpGet.port")))));
    }
    // Nothing stops before the rest of the cluster knows, and all of it fits into the grace period.
    let grace = at(pod, "terminationGracePeriodSeconds").as_u64().expect("a number");
    for container in at(pod, "containers").as_sequence().expect("a list") {
        let sleep = at(container, "lifecycle.preStop.sleep.seconds").as_u64().expect("a number");
        const DRAIN: u64 = 10;
        assert!(sleep > 0 && sleep + DRAIN < grace, "{container:?}");
    }
    // The policy in the example is one the proxy would take.
    let policy = text(&at(&documents[0], "data")["ranking.toml"]);
    let (_, warnings) = Policy::from_files(&FileSet::of([("ranking.toml", policy)]))
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn the_image_is_built_from_what_exists_and_runs_without_root() {
    let image = read("deploy/Containerfile");
    let toolchain = read("rust-toolchain.toml");
    let rust =
        image.lines().find_map(|line| line.strip_prefix("ARG RUST=")).expect("the version of Rust");
    assert!(toolchain.contains(&format!("\"{rust}\"")), "{rust} is not the pinned toolchain");
    for kept in
        read("deploy/Containerfile.dockerignore").lines().filter_map(|line| line.strip_prefix('!'))
    {
        assert!(repository(kept).exists(), "{kept}");
    }
    let user = image.lines().position(|line| line == "USER penstock");
    let entry = image.lines().position(|line| line.starts_with("ENTRYPOINT"));
    assert!(user.is_some() && user < entry);
    // Every member of the workspace is needed to resolve it.
    for member in ["config", "engine", "proxy", "control", "tests"] {
        assert!(read("deploy/Containerfile.dockerignore").contains(&format!("!{member}\n")));
    }
}

/// Units are verified with the path of a program that exists.
#[test]
fn systemd_units_are_valid() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    for unit in ["penstock.service", "penstock-import.service"] {
        let content = read(&format!("deploy/systemd/{unit}"));
        let content = content
            .replace("/usr/local/bin/penstock-control", "/bin/true")
            .replace("/usr/local/bin/penstock", "/bin/true");
        std::fs::write(folder.path().join(unit), content).expect("a temporary file");
        let path = folder.path().join(unit);
        let path = path.to_str().expect("UTF-8");
        if let Some((valid, said)) =
            run_if_installed("systemd-analyze", &["verify", "--man=no", path])
        {
            assert!(valid && !said.contains(unit), "{said}");
        }
    }
}

/// Asked for help after its arguments, a program reads all of them and does nothing.
#[test]
fn the_programs_take_the_arguments_of_their_units() {
    for unit in ["penstock.service", "penstock-import.service"] {
        let content = read(&format!("deploy/systemd/{unit}"));
        let lines = content.lines().filter(|line| line.starts_with("Exec"));
        let commands: Vec<&str> = lines.filter_map(|line| Some(line.split_once('=')?.1)).collect();
        assert!(commands.len() >= 2, "{unit}: {commands:?}");
        for command in commands {
            let mut words = command.split_whitespace();
            let program = words.next().expect("a program");
            let name = program.rsplit('/').next().expect("rsplit gives at least one");
            let args: Vec<&str> = words.chain(["--help"]).collect();
            let ran = run(name, &args);
            assert_eq!(ran.code, Some(0), "{unit}: {command}: {}", ran.text());
        }
    }
}

#[test]
fn prometheus_accepts_its_files() {
    let config = "deploy/prometheus/prometheus.yml";
    let mut checks = vec![["check", "config", config].map(str::to_owned)];
    for rules in RULES {
        checks.push(["check", "rules", rules].map(str::to_owned));
        checks.push(["test".into(), "rules".into(), tests_of(rules)]);
        let name = rules.rsplit('/').next().expect("rsplit gives at least one");
        assert!(list(&yaml(config)["rule_files"]).any(|file| file == name), "{name} is not read");
    }
    for args in &checks {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        if let Some((valid, said)) = run_if_installed("promtool", &args) {
            assert!(valid, "{said}");
        }
    }
}

#[test]
fn every_alert_has_a_runbook_and_a_test() {
    for file in RULES {
        let document = yaml(file);
        let tests = read(&tests_of(file));
        let rules = document["groups"][0]["rules"].as_sequence().expect("rules");
        assert!(!rules.is_empty());
        for rule in rules {
            let alert = text(&rule["alert"]);
            let runbook = text(at(rule, "annotations.runbook"));
            let (file, anchor) = runbook.split_once('#').expect("file#heading");
            assert_eq!(anchor, alert.to_lowercase());
            assert!(read(file).contains(&format!("## {alert}\n")), "{file} has no {alert}");
            // One that fires, not only one that does not.
            let tested = tests.contains(&format!("alertname: {alert}\n"));
            assert!(tested, "{alert} is not tested");
        }
    }
}
