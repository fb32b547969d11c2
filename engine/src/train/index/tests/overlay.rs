//! What an engine makes of products that changed since its index was built, when it starts.

use super::*;
use crate::serve::Overlay;
use crate::store::{ProductChange, ProductPatch};

fn engine(shop: &Shop) -> Arc<Engine> {
    let options = Options {
        data_dir: shop.folder.path().into(),
        embedding_model: None,
        workers: 1,
        clock: penstock_config::clock::system(),
        caches: None,
    };
    Engine::open(options, Arc::new(Policy::default())).unwrap()
}

fn patch(shop: &Shop, patch: ProductPatch) {
    shop.store.change_products(vec![ProductChange::Patch(patch)]).unwrap();
}

#[test]
fn what_changed_is_known_after_a_start_also_where_the_store_forgot_it() {
    let shop = shop(60);
    shop.build();
    let priced = ProductPatch { id: "p1".into(), price: Some(Some(3.0)), ..Default::default() };
    let renamed =
        ProductPatch { id: "p2".into(), name: Some("Zither".into()), ..Default::default() };
    patch(&shop, priced);
    patch(&shop, renamed);
    shop.store.change_products(vec![ProductChange::Delete("p3".into())]).unwrap();
    let expected = Overlay { products: 1, gone: 1, behind: 0 };
    let check = || {
        let status = engine(&shop).status();
        assert_eq!((status.overlay, status.notes), (expected, Vec::<String>::new()));
    };
    check();
    // All products are read and compared with the texts of the version.
    let file = rusqlite::Connection::open(shop.store.path()).unwrap();
    file.execute("DELETE FROM product_changes", []).unwrap();
    check();
}
