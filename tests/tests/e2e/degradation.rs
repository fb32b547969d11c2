//! Parts are missing or broken: less is answered, and it says so.

use crate::popular;
use penstock_tests::items::{assert_ranked, ids};
use penstock_tests::{Penstock, Shop, Traffic, until, urlencode};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The largest file of a part of the index in force.
fn largest(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.is_file())
        .max_by_key(|path| path.metadata().unwrap().len())
        .expect("a part has files")
}

fn flip_a_byte(path: &Path) {
    let length = path.metadata().unwrap().len();
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(length / 2)).unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(&mut file, &mut byte).unwrap();
    file.seek(SeekFrom::Start(length / 2)).unwrap();
    file.write_all(&[byte[0] ^ 0xff]).unwrap();
}

fn truncate(path: &Path) {
    let length = path.metadata().unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(length / 2).unwrap();
}

async fn name_of_a_product(penstock: &Penstock) -> (String, String) {
    let product = popular(penstock).await.swap_remove(0);
    (product.product_id.clone(), urlencode(product.text("name")))
}

#[tokio::test]
async fn without_its_vectors_search_is_by_words_and_says_so() {
    for (how, damage) in [
        ("deleted", (|path| fs::remove_file(path).unwrap()) as fn(&Path)),
        ("corrupt", flip_a_byte),
        ("truncated", truncate),
        ("empty", |path| fs::write(path, b"").unwrap()),
    ] {
        let shop = Shop::demo();
        damage(&largest(&shop.current_index().join("vectors")));
        let penstock = Penstock::over(shop).start().await;
        let (id, name) = name_of_a_product(&penstock).await;
        let reply = penstock.get(&format!("/search?q={name}")).await.expect(200);
        assert_eq!(reply.header("x-penstock-mode"), "keyword_only", "{how}");
        let items = reply.items();
        assert_ranked(&items);
        assert!(!items.is_empty(), "{how}");
        let status = penstock.status().await;
        assert!(status.to_string().contains("vectors"), "{how}: {status:#}");
        assert!(status.to_string().contains("keyword_only"), "{how}: {status:#}");
        // What needs no vectors is as before; what needs them still answers.
        penstock.items("/recommend/u").await;
        let similar = penstock.items(&format!("/similar/{}", urlencode(&id))).await;
        assert!(!similar.is_empty(), "{how}");
    }
}

#[tokio::test]
async fn without_its_keyword_part_search_still_answers() {
    let shop = Shop::demo();
    let keyword = shop.current_index().join("keyword");
    flip_a_byte(&largest(&keyword));
    let penstock = Penstock::over(shop).start().await;
    let (_, name) = name_of_a_product(&penstock).await;
    let reply = penstock.get(&format!("/search?q={name}")).await.expect(200);
    assert_ne!(reply.header("x-penstock-mode"), "full");
    assert!(!reply.items().is_empty());
    let status = penstock.status().await;
    assert!(status.to_string().contains("keyword"), "{status:#}");
}

#[tokio::test]
async fn an_index_with_a_broken_manifest_is_refused() {
    for content in ["", "{", "null", "{\"version\": 7}", "\u{0}"] {
        let shop = Shop::demo();
        fs::write(shop.current_index().join("manifest.json"), content).unwrap();
        let penstock = Penstock::over(shop).start().await;
        let reply = penstock.get("/search?q=mug").await.expect(200);
        assert_ne!(reply.header("x-penstock-mode"), "full", "{content:?}");
        assert_eq!(penstock.items("/popular").await.len(), 10);
    }
    for current in ["no-such-version\n", "", "../../../etc\n"] {
        let shop = Shop::demo();
        fs::write(shop.indexes().join("CURRENT"), current).unwrap();
        let penstock = Penstock::over(shop).start().await;
        // There is a whole version: it serves, and the status page says what is wrong.
        let reply = penstock.get("/search?q=mug").await.expect(200);
        assert_eq!(reply.header("x-penstock-mode"), "full", "{current:?}");
        let status = penstock.status().await;
        let notes = status["engine"]["notes"].as_array().unwrap();
        assert!(!notes.is_empty(), "{current:?}: {status:#}");
    }
}

#[tokio::test]
async fn without_an_index_what_is_popular_is_answered() {
    let penstock = Penstock::over(Shop::demo_without_index()).start().await;
    let popular = penstock.items("/popular").await;
    assert_eq!(popular.len(), 10);
    let reply = penstock.get("/search?q=mug").await.expect(200);
    assert_eq!(reply.header("x-penstock-mode"), "popular");
    assert_ranked(&reply.items());
    assert_eq!(penstock.items("/recommend/u").await.len(), 10);
}

#[tokio::test]
async fn an_empty_catalogue_runs() {
    let penstock = Penstock::over(Shop::empty()).start().await;
    penstock.get("/health").await.expect(200);
    for target in ["/search?q=mug", "/recommend/u", "/popular", "/popular?category=x"] {
        assert!(penstock.items(target).await.is_empty(), "{target}");
    }
    penstock.get("/products/p").await.expect(404).problem();
    penstock.get("/similar/p").await.expect(404).problem();
    let event = serde_json::json!({"user_id": "u", "product_id": "p", "event_type": "view"});
    penstock.post("/events", &event).await.expect(202);
    assert!(penstock.items("/recommend/u").await.is_empty());
}

#[tokio::test]
async fn an_empty_catalogue_can_be_indexed() {
    let shop = Shop::of(
        "id,name,description,category,brand,price,created_at\n",
        "user_id,product_id,event_type,timestamp\n",
    );
    let penstock = Penstock::over(shop).start().await;
    assert!(penstock.items("/search?q=mug").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_index_is_taken_while_serving() {
    let penstock = Penstock::over(Shop::demo_without_index()).start().await;
    let traffic = Traffic::keep_alive(&penstock.url("/search?q=a"), 2);
    for round in 0..2 {
        traffic.wait_for(20).await;
        let shop = std::sync::Arc::clone(&penstock.shop);
        tokio::task::spawn_blocking(move || shop.index()).await.unwrap();
        let version = penstock.shop.current_index();
        let version = version.file_name().unwrap().to_str().unwrap().to_owned();
        until("the new index is in force", Duration::from_secs(30), async || {
            penstock.status().await.to_string().contains(&version).then_some(())
        })
        .await;
        let reply = penstock.get("/search?q=a").await.expect(200);
        assert_eq!(reply.header("x-penstock-mode"), "full", "round {round}");
    }
    let samples = traffic.stop().await;
    println!("{} requests, none failed", samples.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn products_imported_while_serving_are_found_after_the_next_index() {
    let penstock = Penstock::demo().await;
    let traffic = Traffic::keep_alive(&penstock.url("/search?q=zyzzyva"), 1);
    let products = penstock.shop.write(
        "incoming/products.csv",
        "id,name,description,category,brand,price,created_at\n\
         zyz-1,Zyzzyva lamp,A lamp shaped like a zyzzyva,Home > Lamps,Zyz,19.90,2026-11-01T00:00:00Z\n",
    );
    let shop = std::sync::Arc::clone(&penstock.shop);
    tokio::task::spawn_blocking(move || {
        shop.import(&products, None);
        shop.index();
    })
    .await
    .unwrap();
    until("the new product is found", Duration::from_secs(30), async || {
        let items = penstock.items("/search?q=zyzzyva").await;
        ids(&items).contains(&"zyz-1").then_some(())
    })
    .await;
    penstock.get("/products/zyz-1").await.expect(200);
    traffic.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_new_index_leaves_the_old_one_in_force() {
    let penstock = Penstock::demo().await;
    let old = penstock.shop.current_index();
    let traffic = Traffic::keep_alive(&penstock.url("/search?q=a"), 2);
    const NAME: &str = "29991231T235959999Z-deadbeef";
    let broken = penstock.shop.indexes().join(NAME);
    fs::create_dir(&broken).unwrap();
    penstock_tests::shop::copy_tree(&old, &broken);
    for part in ["keyword", "vectors"] {
        flip_a_byte(&largest(&broken.join(part)));
    }
    let temporary = penstock.shop.write("indexes/CURRENT.new", NAME);
    fs::rename(temporary, penstock.shop.indexes().join("CURRENT")).unwrap();
    let status = until("the refusal is shown", Duration::from_secs(30), async || {
        let status = penstock.status().await;
        status.to_string().contains(NAME).then_some(status)
    })
    .await;
    let samples = traffic.stop().await;
    let first = samples[0].reply.clone().items();
    let now = penstock.get("/search?q=a").await;
    assert_eq!(now.header("x-penstock-mode"), "full");
    assert_eq!(ids(&now.items()), ids(&first), "{status:#}");
}

#[tokio::test]
async fn a_store_that_is_gone_is_an_empty_catalogue() {
    let shop = Shop::demo();
    for file in ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"] {
        let _ = fs::remove_file(shop.data().join(file));
    }
    // The index speaks of products that are no more.
    let penstock = Penstock::over(shop).start().await;
    assert!(penstock.items("/search?q=a").await.is_empty());
    assert!(penstock.items("/popular").await.is_empty());
}
