//! What the scripts promise, with programs that only write down how they were called.

use super::repository;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with a `penstock-control` that notes its arguments.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().expect("a folder for temporary files") };
        let program = bench.path("penstock-control");
        fs::write(&program, "#!/bin/sh\necho \"$@\" >>\"$(dirname \"$0\")/calls\"\n")
            .expect("a temporary file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        bench
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    fn run(&self, script: &str, args: &[&Path]) -> Output {
        Command::new(repository(script))
            .args(args)
            .env("PENSTOCK_DATA_DIR", self.path("data"))
            .output()
            .expect("the scripts are executable")
    }

    /// What was called since the last question, first words only.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.path("calls"));
        calls.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
    }
}

#[test]
fn the_demo_is_prepared_once() {
    let bench = Bench::new();
    for expected in [&["demo", "index"][..], &["index"], &["index"]] {
        let ran = bench.run("scripts/prepare", &[bench.folder.path()]);
        assert!(ran.status.success(), "{ran:?}");
        assert_eq!(bench.calls(), expected);
    }
}

#[test]
fn a_catalogue_is_prepared_again_when_it_has_changed() {
    let bench = Bench::new();
    // A name that is a pattern to the shell.
    let catalogue = bench.path("shop [2026]*");
    fs::create_dir(&catalogue).expect("a temporary folder");
    let missing = bench.run("scripts/prepare", &[bench.folder.path(), &catalogue]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no products file"), "{missing:?}");
    let products = catalogue.join("products.csv");
    let rows = [
        ("id,name\n1,mug\n", &["import", "index"][..]),
        ("id,name\n1,mug\n", &["index"]),
        ("id,name\n1,mug\n2,cup\n", &["import", "index"]),
    ];
    for (content, expected) in rows {
        if fs::read_to_string(&products).unwrap_or_default() != content {
            fs::write(&products, content).expect("a temporary file");
        }
        let ran = bench.run("scripts/prepare", &[bench.folder.path(), &catalogue]);
        assert!(ran.status.success(), "{ran:?}");
        assert_eq!(bench.calls(), expected);
    }
}

#[test]
fn a_published_set_is_a_catalogue() {
    let bench = Bench::new();
    let set = bench.path("ml");
    fs::create_dir(&set).expect("a temporary folder");
    for (ratings, expected) in
        [("1::1::4::1\n", &["import", "index"][..]), ("", &["import", "index"])]
    {
        fs::write(set.join("movies.dat"), "1::Mug::Drama\n").expect("a temporary file");
        fs::write(set.join("ratings.dat"), ratings).expect("a temporary file");
        let ran = bench.run("scripts/prepare", &[bench.folder.path(), &set]);
        assert!(ran.status.success(), "{ran:?}");
        assert_eq!(bench.calls(), expected);
    }
}

fn welcome(bench: &Bench, ops: &str) -> Output {
    let own = std::process::id().to_string();
    let args = [Path::new(&own), Path::new("127.0.0.1:8080"), Path::new(ops), bench.folder.path()];
    // Only what the script itself needs: curl is not there.
    let path = bench.path("path");
    fs::create_dir_all(&path).expect("a temporary folder");
    for tool in ["timeout", "bash", "env", "dirname", "sed", "sleep", "mkdir"] {
        let found = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool));
        let found = found.iter().find(|path| path.exists()).expect("a usual tool");
        let _ = std::os::unix::fs::symlink(found, path.join(tool));
    }
    Command::new("timeout")
        .args(["20", "bash"])
        .arg(repository("scripts/welcome"))
        .args(args)
        .env("PATH", format!("{}:/nowhere", path.display()))
        .env("PENSTOCK_DATA_DIR", bench.path("data"))
        .output()
        .expect("timeout is installed")
}

#[test]
fn the_welcome_needs_no_curl_and_waits_for_no_port_that_is_not_known() {
    let bench = Bench::new();
    let unknown = welcome(&bench, "127.0.0.1:0");
    assert!(unknown.status.success() && unknown.stderr.is_empty(), "{unknown:?}");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of the loopback");
    let ops = listener.local_addr().expect("a bound socket").to_string();
    let answers = std::thread::spawn(move || {
        for status in ["503 Service Unavailable", "200 OK"] {
            let (mut stream, _) = listener.accept().expect("it asks until it is ready");
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
        }
    });
    let ready = welcome(&bench, &ops);
    let said = String::from_utf8_lossy(&ready.stderr);
    assert!(ready.status.success() && said.contains("Penstock serves"), "{ready:?}");
    assert_eq!(bench.calls(), ["examples"]);
    answers.join().expect("it does not panic");
}

/// Cargo hands the tests the paths of the binaries in variables with a dash in their name.
#[test]
fn the_compilers_wrapper_passes_everything_on() {
    let ran = Command::new(repository("scripts/rustc"))
        .args(["sh", "-c", "printf '%s|' \"$@\"", "sh", "a b", "", "*"])
        .output()
        .expect("the scripts are executable");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(said, "a b||*|");
    let direct = Command::new(repository("scripts/rustc"))
        .arg("env")
        .env("CARGO_BIN_EXE_penstock-control", "here")
        .output()
        .expect("the scripts are executable");
    let said = String::from_utf8_lossy(&direct.stdout);
    assert!(said.contains("CARGO_BIN_EXE_penstock-control=here"), "{said}");
    let failed = Command::new(repository("scripts/rustc")).arg("false").status();
    assert_eq!(failed.expect("it runs").code(), Some(1));
}
