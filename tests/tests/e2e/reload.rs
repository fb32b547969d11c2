//! Policy files change while traffic flows: what is right is in force within a quarter of a
//! second, what is wrong changes nothing and is shown.

use crate::FIELDS;
use penstock_config::clock;
use penstock_tests::items::{assert_ranked, ids};
use penstock_tests::traffic::Sample;
use penstock_tests::{Item, Penstock, Shop, Traffic, until};
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

/// From the rename to the first answer under the new policy.
const IN_FORCE: Duration = Duration::from_millis(250);

/// Popularity alone.
const BY_POPULARITY: &str =
    "[weights]\nsearch = 0.0\ncf = 0.0\npopularity = 1.0\nfreshness = 0.0\n";
/// Freshness alone.
const BY_FRESHNESS: &str = "[weights]\nsearch = 0.0\ncf = 0.0\npopularity = 0.0\nfreshness = 1.0\n";

fn version(sample: &Sample) -> String {
    sample.reply.header("x-policy-version").to_owned()
}

fn items(sample: &Sample) -> Vec<Item> {
    sample.reply.clone().items()
}

/// How long after `changed` the first answer came that was made under another policy than the
/// first, and that answer.
fn first_new(samples: &[Sample], changed: Instant) -> (Duration, &Sample) {
    let old = version(&samples[0]);
    let new = samples
        .iter()
        .filter(|sample| version(sample) != old)
        .min_by_key(|sample| sample.done)
        .expect("the new policy came into force");
    (new.done.saturating_duration_since(changed), new)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_is_in_force_within_250_ms_and_no_request_fails() {
    let penstock = Penstock::over(Shop::demo()).policy("ranking.toml", BY_POPULARITY).start().await;
    let traffic = Traffic::keep_alive(&penstock.url(&format!("/search?q=a&k=20&{FIELDS}")), 2);
    let mut waits = Vec::new();
    traffic.wait_for(50).await;
    let changed = clock::now();
    penstock.shop.rename_policy("ranking.toml", BY_FRESHNESS);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let samples = traffic.stop().await;
    let (after, new) = first_new(&samples, changed);
    waits.push(after);
    assert_ne!(ids(&items(&samples[0])), ids(&items(new)), "the order follows the weights");
    // One snapshot per request: the same version always means the same answer.
    for sample in &samples {
        assert_ranked(&items(sample));
        let same = if version(sample) == version(new) { new } else { &samples[0] };
        assert_eq!(ids(&items(sample)), ids(&items(same)));
    }
    println!("rename to first answer: {waits:?}, {} requests, none failed", samples.len());
    assert!(after <= IN_FORCE, "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_edit_changes_nothing_and_is_shown() {
    let penstock = Penstock::over(Shop::demo()).policy("ranking.toml", BY_POPULARITY).start().await;
    let before = penstock.get("/popular").await.header("x-policy-version").to_owned();
    for (broken, reason) in [
        ("[weights]\nsearch = 0.4\nsaerch = 0.4\n", "saerch"),
        ("[weights]\nsearch = -1.0\n", "search"),
        ("[weights]\npopularity = nan\n", "popularity"),
        ("[weights\n", "ranking.toml"),
        ("[popularity]\nhalf_life = \"soon\"\n", "half_life"),
        ("\u{0}\u{1}\u{2}", "ranking.toml"),
    ] {
        let traffic = Traffic::keep_alive(&penstock.url("/popular"), 2);
        penstock.shop.rename_policy("ranking.toml", broken);
        let shown = until(reason, Duration::from_secs(5), async || {
            let status = penstock.status().await;
            let policy = status["policy"].to_string();
            (policy.contains("ranking.toml") && policy.contains(reason)).then_some(status)
        })
        .await;
        assert!(shown["policy"].to_string().contains("line"), "{shown:#}");
        let samples = traffic.stop().await;
        assert!(samples.iter().all(|sample| version(sample) == before), "{broken}");
    }
    // And a right one is taken again.
    penstock.shop.rename_policy("ranking.toml", BY_FRESHNESS);
    until("the next right edit", Duration::from_secs(5), async || {
        let now = penstock.get("/popular").await;
        (now.header("x-policy-version") != before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_map_is_swapped_by_its_link() {
    let shop = Shop::demo();
    // As the kubelet lays it out: file → ..data/file, ..data → ..<time>.
    let mount = shop.data().join("mounted");
    let version_of = |name: &str, content: &str| {
        let folder = mount.join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ranking.toml"), content).unwrap();
        for file in ["resilience.toml", "limits.toml"] {
            fs::copy(shop.policy().join(file), folder.join(file)).unwrap();
        }
    };
    version_of("..2026_11_23_1", BY_POPULARITY);
    symlink("..2026_11_23_1", mount.join("..data")).unwrap();
    for file in ["ranking.toml", "resilience.toml", "limits.toml"] {
        symlink(format!("..data/{file}"), mount.join(file)).unwrap();
    }
    version_of("..2026_11_23_2", BY_FRESHNESS);
    let penstock = Penstock::over(shop).env("PENSTOCK_POLICY_DIR", mount.display()).start().await;
    let traffic = Traffic::keep_alive(&penstock.url("/search?q=a"), 2);
    traffic.wait_for(20).await;
    symlink("..2026_11_23_2", mount.join("..data_tmp")).unwrap();
    let changed = clock::now();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    fs::remove_dir_all(mount.join("..2026_11_23_1")).unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    let samples = traffic.stop().await;
    let (after, _) = first_new(&samples, changed);
    println!("link swapped to first answer: {after:?}");
    assert!(after <= IN_FORCE, "{after:?}");
}

#[tokio::test]
async fn a_start_over_a_broken_file_keeps_the_last_good_version() {
    let mut penstock =
        Penstock::over(Shop::demo()).policy("ranking.toml", BY_POPULARITY).start().await;
    let good = penstock.get("/popular").await.header("x-policy-version").to_owned();
    penstock.signal("TERM");
    penstock.exit().await;
    penstock.shop.rename_policy("ranking.toml", "[weights]\nsearch = \"much\"\n");
    let penstock = penstock.setup().start().await;
    let reply = penstock.get("/popular").await.expect(200);
    assert_eq!(reply.header("x-policy-version"), good);
    let status = penstock.status().await;
    assert!(status["policy"].to_string().contains("ranking.toml"), "{status:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_write_is_never_in_force() {
    let penstock = Penstock::over(Shop::demo()).policy("ranking.toml", BY_POPULARITY).start().await;
    let path = penstock.shop.policy().join("ranking.toml");
    let traffic = Traffic::keep_alive(&penstock.url("/popular"), 2);
    traffic.wait_for(10).await;
    // In place, byte by byte, by a writer that is slower than the watcher. Each start of the text
    // is either broken or the builtin weights, never a mix of two files.
    let mut written = String::new();
    for line in BY_FRESHNESS.split_inclusive('\n') {
        written += line;
        fs::write(&path, &written).unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    let samples = traffic.stop().await;
    let last = version(samples.last().unwrap());
    assert_ne!(last, version(&samples[0]));
    let fresh = Penstock::over(Shop::demo()).policy("ranking.toml", BY_FRESHNESS).start().await;
    let expected = fresh.get("/popular").await;
    assert_eq!(expected.header("x-policy-version"), last, "the version is the contents' own");
}
