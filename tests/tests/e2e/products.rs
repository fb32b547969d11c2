//! Single products change while a proxy serves: found, not found, gone, within moments and without a new index.

use penstock_config::clock;
use penstock_tests::items::ids;
use penstock_tests::wait::until_true;
use penstock_tests::{Penstock, Shop};
use serde_json::{Value, json};
use std::time::Duration;

/// How soon a change is in force; a loaded machine has a little more time than is promised.
const SOON: Duration = Duration::from_secs(5);

fn change(shop: &Shop, how: &str, products: &Value) -> Value {
    let file = shop.write("incoming/change.json", products.to_string());
    let file = file.to_str().unwrap();
    serde_json::from_str(&shop.control(&["products", how, file, "--json"]).ok().stdout).unwrap()
}

async fn finds(penstock: &Penstock, target: &str, id: &str) -> bool {
    ids(&penstock.items(target).await).contains(&id)
}

async fn soon(penstock: &Penstock, target: &str, id: &str, expected: bool) {
    let began = clock::now();
    until_true(&format!("{id} in {target}: {expected}"), SOON, async || {
        finds(penstock, target, id).await == expected
    })
    .await;
    println!("{target}: {:?}", began.elapsed());
}

fn lamp() -> Value {
    json!({
        "id": "zeppelin-1", "name": "Zeppelin reading lamp", "brand": "Quixotic",
        "category": "Home > Airships", "description": "Brass, dimmable", "price": 49.5,
    })
}

#[tokio::test]
async fn a_product_comes_changes_and_goes_while_a_proxy_serves() {
    let penstock = Penstock::demo().await;
    let shop = penstock.shop.clone();
    let search = "/search?q=zeppelin+lamp&k=20";
    // Remembered without it.
    assert!(!finds(&penstock, search, "zeppelin-1").await);
    assert_eq!(penstock.get(search).await.header("x-cache"), "hit-l1");

    let told = change(&shop, "put", &lamp());
    assert_eq!(told["products"], json!([{ "id": "zeppelin-1", "changed": "added" }]));
    soon(&penstock, search, "zeppelin-1", true).await;
    let first = penstock.items(search).await;
    assert_eq!(first[0].product_id, "zeppelin-1", "{first:?}");
    soon(&penstock, "/popular?category=airships", "zeppelin-1", true).await;
    soon(&penstock, "/search?q=lamp&brand=quixotic", "zeppelin-1", true).await;
    let shown = penstock.get("/products/zeppelin-1").await.expect(200).json();
    assert_eq!(shown["price"], 49.5);
    // Similar to it are products of the index, and it is among those similar to them.
    let similar = penstock.items("/similar/zeppelin-1?k=5").await;
    assert!(!similar.is_empty());

    // A price: what is limited by prices follows, and what shows it.
    let priced = "/search?q=zeppelin+lamp&max_price=20&k=20";
    assert!(!finds(&penstock, priced, "zeppelin-1").await);
    change(&shop, "patch", &json!([{ "id": "zeppelin-1", "price": 12 }]));
    soon(&penstock, priced, "zeppelin-1", true).await;
    assert_eq!(penstock.get("/products/zeppelin-1").await.json()["price"], 12.0);

    // A name: found under the new one, and not by the old word.
    change(&shop, "patch", &json!({ "id": "zeppelin-1", "name": "Montgolfier reading lamp" }));
    soon(&penstock, "/search?q=montgolfier&k=1", "zeppelin-1", true).await;
    let status = penstock.status().await;
    assert_eq!(status["engine"]["overlay"], json!({ "products": 1, "gone": 0, "behind": 0 }));
    assert_eq!(status["engine"]["notes"], json!([]));
    let explained = penstock.get("/search/explain?q=zeppelin&product_id=zeppelin-1").await;
    assert!(explained.json()["retrieval"]["keyword"].is_null(), "{}", explained.text());

    // All the same after a restart, without another index.
    let index = status["engine"]["index_version"].clone();
    let setup = penstock.setup();
    drop(penstock);
    let penstock = setup.start().await;
    assert!(finds(&penstock, "/search?q=montgolfier&k=1", "zeppelin-1").await);
    assert_eq!(penstock.status().await["engine"]["overlay"]["products"], 1);
    assert_eq!(penstock.status().await["engine"]["index_version"], index);

    // Gone.
    assert!(finds(&penstock, "/popular?category=airships", "zeppelin-1").await);
    shop.control(&["products", "delete", "zeppelin-1"]).ok().text();
    soon(&penstock, "/search?q=montgolfier&k=1", "zeppelin-1", false).await;
    for target in ["/products/zeppelin-1", "/similar/zeppelin-1"] {
        penstock.get(target).await.expect(404).problem();
    }
    assert!(!finds(&penstock, "/popular?category=airships", "zeppelin-1").await);
}

#[tokio::test]
async fn a_product_of_the_index_is_taken_out_of_every_answer_and_a_new_index_has_what_memory_had() {
    let penstock = Penstock::demo().await;
    let shop = penstock.shop.clone();
    let popular = penstock.items("/popular?k=3&fields=name").await;
    let [gone, renamed, near] = [0, 1, 2].map(|n| popular[n].product_id.clone());
    let by_name =
        |n: usize| format!("/search?q={}&k=50", popular[n].text("name").replace(' ', "+"));
    let similar = format!("/similar/{near}?k=50");
    assert!(finds(&penstock, &by_name(0), &gone).await);
    let was_similar = penstock.items(&similar).await;

    shop.control(&["products", "delete", &gone]).ok().text();
    change(&shop, "patch", &json!({ "id": renamed, "name": "Quetzalcoatlus" }));
    soon(&penstock, "/search?q=quetzalcoatlus&k=1", &renamed, true).await;
    assert!(!finds(&penstock, &by_name(0), &gone).await);
    assert!(!finds(&penstock, "/popular?k=50", &gone).await);
    assert!(!finds(&penstock, &similar, &gone).await);
    assert_eq!(penstock.items(&similar).await.len(), was_similar.len());
    let overlay = penstock.status().await["engine"]["overlay"].clone();
    assert_eq!(overlay, json!({ "products": 1, "gone": 1, "behind": 0 }));

    // A few changes are no reason to build an index; who does takes them out of memory.
    let said = shop.control(&["index", "--if-needed"]).ok().text();
    assert!(said.contains("is up to date"), "{said}");
    shop.index();
    until_true("the new index serves without an overlay", Duration::from_secs(30), async || {
        let engine = penstock.status().await["engine"].clone();
        engine["index_version"] == *shop.current_index().file_name().unwrap().to_str().unwrap()
            && engine["overlay"] == json!({ "products": 0, "gone": 0, "behind": 0 })
    })
    .await;
    assert!(finds(&penstock, "/search?q=quetzalcoatlus&k=1", &renamed).await);
    assert!(!finds(&penstock, &by_name(0), &gone).await);
}

/// A shop changes prices all the time: what is asked often stays remembered, and no answer shows an old price.
#[tokio::test]
async fn answers_stay_remembered_while_prices_of_others_change() {
    let penstock = Penstock::demo().await;
    let popular = penstock.items("/popular?k=100").await;
    let search = "/search?q=desk+lamp&k=5&fields=price";
    let shown = penstock.items(search).await;
    let other = popular.iter().find(|item| !ids(&shown).contains(&&*item.product_id)).unwrap();
    for price in 1..4 {
        change(&penstock.shop, "patch", &json!({ "id": other.product_id, "price": price }));
        until_true("the price is in force", SOON, async || {
            let target = format!("/products/{}", other.product_id);
            penstock.get(&target).await.json()["price"] == f64::from(price)
        })
        .await;
        assert_eq!(penstock.get(search).await.header("x-cache"), "hit-l1", "{price}");
    }
    change(&penstock.shop, "patch", &json!({ "id": shown[0].product_id, "price": 0.25 }));
    until_true("the answer shows the new price", SOON, async || {
        let items = penstock.items(search).await;
        items.iter().any(|item| item.product_id == shown[0].product_id && item.price() == 0.25)
    })
    .await;
}

#[test]
fn products_are_checked_before_any_is_changed() {
    let shop = Shop::of("id,name\na,Sofa\n", "user_id,product_id,event_type\nu,a,view\n");
    let file =
        shop.write("bad.jsonl", "{\"id\":\"b\",\"name\":\"B\"}\n{\"id\":\"c\"}\n{\"id\":\"\",\n");
    let refused = shop.control(&["products", "put", file.to_str().unwrap()]).refused();
    assert_eq!(refused.code, Some(1));
    for said in ["bad.jsonl:2: product \"c\" has no name", "bad.jsonl:", "nothing was changed"] {
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    assert_eq!(shop.count("SELECT count(*) FROM products"), 1);
    let shown = shop.control(&["products", "get", "a", "b"]);
    assert_eq!(shown.code, Some(1));
    assert!(shown.stdout.contains("Sofa") && shown.stderr.contains("unknown: b"), "{shown:?}");
    let gone = shop.control(&["products", "delete", "a", "nobody"]);
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(gone.stdout.contains("deleted    a") && gone.stdout.contains("unknown    nobody"));
    assert_eq!(shop.control(&["products", "delete"]).code, Some(2));
    assert_eq!(shop.control(&["products", "get", "a"]).code, Some(1));
}
