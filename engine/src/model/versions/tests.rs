use super::{Building, Version, VersionError, current, names, point_to, prune};
use crate::model::manifest::{FORMAT, Manifest, Part};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// 2026-11-23T20:16:58.123Z, then a second later for each version.
const START: i64 = 1_795_465_018_123_000;

fn manifest() -> Manifest {
    Manifest {
        format: FORMAT,
        created_at: String::new(),
        code_version: "0.1.0".into(),
        store_id: "store-a".into(),
        catalog_revision: 7,
        products: 3,
        options: BTreeMap::new(),
        embedding: None,
        vectors: None,
        parts: BTreeMap::new(),
    }
}

fn publish(data_dir: &Path, second: i64) -> Version {
    let building = Building::begin(data_dir).unwrap();
    for (part, name, content) in [
        (Part::Keyword, "meta.json", "words"),
        (Part::Keyword, "segments/1.idx", "postings"),
        (Part::Vectors, "vectors.f32", "numbers"),
        (Part::Vectors, "empty", ""),
    ] {
        let file = building.part(part).unwrap().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    building.publish(manifest(), START + second * 1_000_000).unwrap()
}

#[test]
fn a_published_version_is_in_force_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(current(folder.path()).unwrap(), None);
    assert_eq!(names(folder.path()).unwrap(), [""; 0]);
    let version = publish(folder.path(), 0);
    assert!(version.name.starts_with("20261123T201658123Z-"), "{}", version.name);
    assert_eq!(version.manifest.created_at, "2026-11-23T20:16:58.123Z");
    assert_eq!(current(folder.path()).unwrap(), Some(version.clone()));
    assert!(version.check_store("store-a").is_ok());
    let refused = version.check_store("store-b").unwrap_err();
    assert!(matches!(refused, VersionError::WrongStore { .. }), "{refused}");
    assert_eq!(version.verify(Part::Keyword).unwrap(), version.folder.join("keyword"));
    assert!(version.verify(Part::Vectors).is_ok());
    let refused = version.verify(Part::Embedding).unwrap_err();
    assert_eq!(refused.to_string(), "embedding: the index version has no such part");
}

#[test]
fn damage_in_one_part_leaves_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let version = publish(folder.path(), 0);
    fs::write(version.folder.join("keyword/segments/1.idx"), "postinGs").unwrap();
    let refused = version.verify(Part::Keyword).unwrap_err();
    assert_eq!(refused.to_string(), "keyword: checksum of keyword/segments/1.idx does not match");
    assert!(version.verify(Part::Vectors).is_ok());

    // What the manifest does not name is not looked at.
    fs::write(version.folder.join("vectors/.tantivy-meta.lock"), "").unwrap();
    assert!(version.verify(Part::Vectors).is_ok());

    let file = version.folder.join("vectors/vectors.f32");
    fs::rename(&file, folder.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &file).unwrap();
    let refused = version.verify(Part::Vectors).unwrap_err();
    assert_eq!(refused.to_string(), "vectors: vectors/vectors.f32 is a symbolic link");
}

#[test]
fn a_manifest_is_believed_only_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let version = publish(folder.path(), 0);
    let other = publish(folder.path(), 1);
    point_to(folder.path(), &version.name).unwrap();
    let path = version.folder.join("manifest.json");
    let whole = fs::read_to_string(&path).unwrap();
    let check = |content: &str, expected: &str| {
        fs::write(&path, content).unwrap();
        let refused = current(folder.path()).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    };
    let changed = "checksum of manifest.json does not match";
    check("", changed);
    check(&whole[..whole.len() / 2], changed);
    check(&whole.replace("store-a", "store-b"), changed);
    check(&fs::read_to_string(other.folder.join("manifest.json")).unwrap(), changed);
    fs::remove_file(&path).unwrap();
    assert!(current(folder.path()).unwrap_err().to_string().contains("No such file"));
}

#[test]
fn manifests_that_are_not_ours_are_refused() {
    let check = |edit: &dyn Fn(&mut serde_json::Value), expected: &str| {
        let mut value = serde_json::to_value(manifest()).unwrap();
        edit(&mut value);
        let refused = Manifest::parse(&serde_json::to_vec(&value).unwrap()).unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    };
    check(&|value| value["format"] = 2.into(), "its format is 2, this program reads 1");
    check(&|value| value["format"] = "1".into(), "invalid type");
    check(&|value| value["surprise"] = 1.into(), "unknown field");
    check(&|value| drop(value.as_object_mut().unwrap().remove("store_id")), "missing field");
    for path in [
        "../../etc/passwd",
        "/etc/passwd",
        "keyword/../../x",
        "keyword/./x",
        "vectors/x",
        "keyword",
        "",
        "keyword/\0",
    ] {
        let file = serde_json::json!([{"path": path, "bytes": 1, "sha256": ""}]);
        check(&|value| value["parts"]["keyword"] = file.clone(), "is not a path inside keyword");
    }
    assert!(Manifest::parse(b"").is_err() && Manifest::parse(&[0xFF; 100]).is_err());
}

#[test]
fn current_names_versions_only() {
    let folder = tempfile::tempdir().unwrap();
    let version = publish(folder.path(), 0);
    let check = |line: &str| {
        fs::write(folder.path().join("indexes/CURRENT"), line).unwrap();
        let refused = current(folder.path()).unwrap_err();
        assert!(matches!(refused, VersionError::Broken { .. }), "{line:?}: {refused}");
    };
    check("");
    check("../../somewhere");
    check("20261123T201658123Z-../..");
    check(&version.name[..version.name.len() - 1]);
    check(&version.name.replace('2', "3"));
    fs::write(folder.path().join("indexes/CURRENT"), [0xFF, 0xFE]).unwrap();
    assert!(current(folder.path()).is_err());
    assert!(point_to(folder.path(), "../x").is_err());
    point_to(folder.path(), &version.name).unwrap();
    assert_eq!(current(folder.path()).unwrap(), Some(version));
}

#[test]
fn rolling_back_and_pruning_keep_what_is_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let made: Vec<String> = (0..5).map(|second| publish(folder.path(), second).name).collect();
    let newest_first: Vec<String> = made.iter().rev().cloned().collect();
    assert_eq!(names(folder.path()).unwrap(), newest_first);

    point_to(folder.path(), &made[1]).unwrap();
    assert_eq!(current(folder.path()).unwrap().unwrap().name, made[1]);
    assert_eq!(prune(folder.path(), 2).unwrap(), [made[2].clone(), made[0].clone()]);
    assert_eq!(names(folder.path()).unwrap(), [&made[4], &made[3], &made[1]].map(Clone::clone));
    point_to(folder.path(), &made[4]).unwrap();
    assert_eq!(prune(folder.path(), 0).unwrap(), [made[3].clone(), made[1].clone()]);
    assert_eq!(names(folder.path()).unwrap(), [made[4].clone()]);
}

#[test]
fn one_builder_at_a_time_and_the_dead_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let indexes = folder.path().join("indexes");
    let building = Building::begin(folder.path()).unwrap();
    building.part(Part::Keyword).unwrap();
    let refused = Building::begin(folder.path()).unwrap_err();
    assert_eq!(refused, VersionError::Busy(indexes.clone()));
    let built_in = building.folder.clone();
    drop(building);
    assert!(!built_in.exists(), "given up");

    let dead = indexes.join(".building-1");
    fs::create_dir_all(dead.join("keyword")).unwrap();
    fs::write(dead.join("keyword/half"), "half").unwrap();
    let version = publish(folder.path(), 0);
    assert!(!dead.exists());
    assert_eq!(names(folder.path()).unwrap(), [version.name]);
}
