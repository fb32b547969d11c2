//! Real catalogues, when they are there.

use crate::FIELDS;
use penstock_tests::binaries::text;
use penstock_tests::items::{assert_ranked, ids};
use penstock_tests::{Penstock, Shop, sets, urlencode};

#[tokio::test]
async fn online_retail_is_imported_searched_and_recommended() {
    let Some(folder) = sets::folder("online_retail") else {
        return;
    };
    let shop = Shop::empty();
    shop.import(&folder.join("products.csv"), Some(&folder.join("events.csv.gz")));
    shop.index();
    assert_eq!(shop.count("SELECT count(*) FROM products"), 3_791);
    let penstock = Penstock::over(shop).start().await;
    for (query, word) in [
        ("red retrospot bag", "BAG"),
        ("christmas decoration", "CHRISTMAS"),
        ("tea towels", "TEA"),
        ("heart t-light holder", "LIGHT"),
        ("lunch box", "LUNCH"),
        ("alarm clock", "CLOCK"),
    ] {
        let url = format!("/search?q={}&k=5&{FIELDS}", urlencode(query));
        let items = penstock.items(&url).await;
        assert_ranked(&items);
        let hits = items.iter().filter(|item| item.text("name").contains(word));
        assert!(hits.count() >= 3, "{query}: {items:#?}");
    }
    assert_eq!(penstock.items("/popular?k=50").await.len(), 50);
    assert_eq!(penstock.items("/recommend/nobody").await.len(), 10);
}

#[tokio::test]
async fn icecat_is_imported_and_searched() {
    let Some(folder) = sets::folder("icecat") else {
        return;
    };
    let shop = Shop::empty();
    shop.import(&folder.join("products.csv.gz"), None);
    shop.index();
    let penstock = Penstock::over(shop).start().await;
    for (query, brand) in
        [("hp notebook", "hp"), ("samsung monitor", "samsung"), ("epson printer", "epson")]
    {
        let url = format!("/search?q={}&k=5&{FIELDS}", urlencode(query));
        let items = penstock.items(&url).await;
        assert_ranked(&items);
        let hits = items.iter().filter(|item| {
            let text = format!("{} {}", item.text("brand"), item.text("name")).to_lowercase();
            text.contains(brand)
        });
        assert!(hits.count() >= 3, "{query}: {items:#?}");
    }
    let found = penstock.items("/search?q=zzzzqqqq").await;
    println!("nonsense finds {:?}", ids(&found));
}

#[test]
fn every_set_is_imported_whole() {
    for (set, products, events) in [
        ("online_retail", 3_791, 182_930),
        ("icecat", 19_406, 0),
        ("homedepot", 54_667, 0),
        ("bestbuy", 1_651, 0),
        ("instacart", 49_688, 0),
        // A rating below 4 is no preference.
        ("movielens_small", 9_125, 51_568),
        ("amazon_beauty", 0, 198_502),
    ] {
        let Some(folder) = sets::folder(set) else {
            return;
        };
        let shop = Shop::empty();
        drop(shop.control(&["import", text(&folder)]).ok());
        assert_eq!(shop.count("SELECT count(*) FROM products"), products, "{set}");
        assert_eq!(shop.count("SELECT count(*) FROM events"), events, "{set}");
    }
}
