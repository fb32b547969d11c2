//! What a row of events becomes, and why not.

use super::*;
use EventKind::{AddToCart, Purchase, View};

const DAY: i64 = 86_400_000_000;

/// One CSV row of `user_id,product_id,event_type,timestamp,value`: its kind, or nothing when it is
/// skipped, or why it is bad.
fn kind(row: &str, rules: fn(&mut EventRules)) -> Result<Option<EventKind>, String> {
    let shop = Shop::new();
    let header = "user_id,product_id,event_type,timestamp,value";
    shop.put("events.csv", format!("{header}\n{row}\n").as_bytes());
    let mut plan = shop.plan(&["events.csv"]);
    rules(&mut plan.events);
    let summary = shop.run(plan).unwrap();
    match shop.events().pop() {
        Some((_, event)) => Ok(Some(event.kind)),
        None if summary.files[0].no_preference == 1 => Ok(None),
        None => Err(shop.bad().join("; ").replace("events.csv, line 2: ", "")),
    }
}

#[test]
fn types() {
    let check = |name: &str, value: &str, rules: fn(&mut EventRules), expected: &str| {
        let got = match kind(&format!("u,p,{name},,{value}"), rules) {
            Ok(Some(kind)) => kind.name().to_owned(),
            Ok(None) => "skipped".into(),
            Err(reason) => reason,
        };
        assert!(got.starts_with(expected), "{name} {value}: {got}");
    };
    let plain: fn(&mut EventRules) = |_| {};
    for name in ["view", "click", "page_view", "PageView", " View "] {
        check(name, "", plain, "view");
    }
    for name in ["add_to_cart", "cart", "Add to Cart", "add-to-cart", "addtocart"] {
        check(name, "", plain, "add_to_cart");
    }
    for name in ["purchase", "order", "buy", "transaction", "review"] {
        check(name, "", plain, "purchase");
    }
    check("rating", "4", plain, "view");
    check("rating", "5.0", plain, "view");
    check("rating", "3.5", plain, "skipped");
    check("rating", "", plain, "a rating needs a `value`");
    check("rating", "NaN", plain, "a rating needs a `value`");
    check("wishlist", "", plain, "`event_type` \"wishlist\" is not known");
    check("", "", plain, "`event_type` is empty");
    check("rating", "3", |r| r.min_value = 3.0, "view");
    check("rating", "5", |r| r.set("rating", "purchase").unwrap(), "purchase");
    check("rating", "2", |r| r.set("rating", "purchase").unwrap(), "skipped");
    check("hearts", "5", |r| r.set("hearts", "rating").unwrap(), "view");
    check("Wish List", "", |r| r.set("wish_list", "add_to_cart").unwrap(), "add_to_cart");
    check("view", "", |r| r.set("view", "skip").unwrap(), "skipped");
    check("review", "", |r| r.set("review", "view").unwrap(), "view");
    check("", "", |r| r.set_default("buy").unwrap(), "purchase");
    check("", "4", |r| r.set_default("rating").unwrap(), "view");
    let mut rules = EventRules::default();
    assert!(rules.set("x", "love").unwrap_err().contains("view, add_to_cart, purchase"));
    assert!(rules.set_default("x").is_err());
}

#[test]
fn a_file_without_types_needs_a_default() {
    let shop = Shop::new();
    shop.put("events.csv", b"user,item,rating\nu,a,5\nu,b,1\n");
    let mut plan = shop.plan(&["events.csv"]);
    let error = shop.run(plan.clone()).unwrap_err().to_string();
    assert!(error.contains("--default-event"), "{error}");
    plan.events.set_default("rating").unwrap();
    let summary = shop.run(plan).unwrap();
    assert_eq!((summary.imported.events_added, summary.files[0].no_preference), (1, 1));
}

#[test]
fn bad_rows() {
    let check = |row: &str, reason: &str| {
        let got = kind(row, |_| {}).unwrap_err();
        assert_eq!(got, reason, "{row}");
    };
    check(",p,view,,", "`user_id` is empty");
    check("u,,view,,", "`product_id` is empty");
    check(
        &format!("{},p,view,,", "u".repeat(300)),
        "`user_id` has 300 bytes, at most 256 are allowed",
    );
    check(
        "u,p,view,soon,",
        "`timestamp` \"soon\" is not a time (write it like 2024-05-01T12:00:00Z, or as a Unix time)",
    );
    check("u,p,view,1969-12-31,", "`timestamp` \"1969-12-31\" is before 1970");
    check(
        "u,p,view,2026-05-02T09:00:01Z,",
        "`timestamp` \"2026-05-02T09:00:01Z\" is more than a day in the future",
    );
    assert_eq!(kind("u,p,view,2026-05-02T08:59:59Z,", |_| {}), Ok(Some(View)));
}

#[test]
fn ids_are_derived_from_the_facts() {
    let shop = Shop::new();
    let add = |text: &str| {
        let header = "user_id,product_id,event_type,timestamp,event_id\n";
        let done = shop.import("events.csv", format!("{header}{text}")).unwrap().imported;
        (done.events_added, done.events_known)
    };
    let dated = "u,p,view,2024-05-01,\nu,p,view,2024-05-02,\n";
    assert_eq!(add(dated), (2, 0));
    assert_eq!(add(dated), (0, 2));
    // The same time said otherwise is the same event, wherever its row is.
    assert_eq!(add("u,p,click,1714608000,\nu,p,view,2024-05-01T02:00:00+02:00,\n"), (0, 2));
    // Each fact counts, and their border does.
    assert_eq!(add("u,p,cart,2024-05-01,\nu,q,view,2024-05-01,\nv,p,view,2024-05-01,\n"), (3, 0));
    assert_eq!(add("up,x,view,2024-05-01,\nu,px,view,2024-05-01,\n"), (2, 0));
    assert_eq!(add("u,p,view,2024-05-01,mine\nu,p,view,2024-05-01,mine\n"), (1, 1));
    // Without a time the row takes its place: a second row is a second event.
    let undated = "u,p,view,,\nu,p,view,,\n";
    assert_eq!(add(undated), (2, 0));
    assert_eq!(add(undated), (0, 2));
}

#[test]
fn events_without_a_time_keep_their_order() {
    let shop = Shop::new();
    let rows: String = ["c", "a", "b"].iter().map(|p| format!("u,{p},view\n")).collect();
    shop.import("events.csv", format!("user_id,product_id,event_type\n{rows}")).unwrap();
    let mut events = shop.events();
    events.sort_by_key(|(_, e)| e.at_micros);
    let order: Vec<_> = events.iter().map(|(_, e)| &*e.product_id).collect();
    assert_eq!(order, ["c", "a", "b"]);
    let years_ago = NOW - 20 * 365 * DAY;
    assert!(events.iter().all(|(_, e)| e.at_micros < years_ago && e.at_micros > 0));
}

#[test]
fn kinds_users_and_sources_arrive() {
    let shop = Shop::new();
    let text = "item_id,Customer ID,action,ts,channel\n\
                p1,ann,buy,1714564800,app\n\
                p2,bob,cart,1714564801,\n";
    shop.import("events.csv", text).unwrap();
    let event = |product: &str, kind, at: i64| UserEvent {
        product_id: product.into(),
        kind,
        at_micros: at * 1_000_000,
    };
    let mut events = shop.events();
    events.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("ann".to_owned(), event("p1", Purchase, 1_714_564_800)),
        ("bob".to_owned(), event("p2", AddToCart, 1_714_564_801)),
    ];
    assert_eq!(events, expected);
}
