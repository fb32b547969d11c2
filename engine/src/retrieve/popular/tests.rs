use super::*;
use crate::catalog::{EventKind, Product, UserEvent};
use crate::features::PopularityBuilder;
use penstock_config::policy::Policy;

/// Ten mugs and ten pans; mug `m0` and pan `p0` are the most popular of theirs, mugs outsell pans.
fn popular() -> Popular {
    let mut catalog = Catalog::new(1);
    let policy = Policy::default();
    for index in 0..20_u32 {
        let (letter, category) = if index < 10 { ("m", "Mugs") } else { ("p", "Pans") };
        let product = Product {
            id: format!("{letter}{}", index % 10),
            category: category.into(),
            ..Product::default()
        };
        catalog.push(Ordinal(index), &product);
    }
    let ranking = &policy.ranking;
    let mut builder = PopularityBuilder::new(20, ranking.events, ranking.popularity_half_life);
    for index in 0..20_u32 {
        let sales = if index < 10 { 40 } else { 20 } - 2 * (index % 10);
        (0..sales).for_each(|_| builder.add(Ordinal(index), EventKind::View, 1));
    }
    let popularity = Arc::new(builder.finish(&catalog));
    Popular::new(Arc::new(catalog), popularity)
}

fn ask(history: &[(&str, EventKind)], allowed: Option<Allowed>) -> Ask {
    let history = history
        .iter()
        .map(|(id, kind)| UserEvent { product_id: (*id).into(), kind: *kind, at_micros: 1 })
        .collect();
    Ask {
        policy: Arc::default(),
        text: String::new(),
        history,
        long_term: crate::features::Affinity::default(),
        like: None,
        allowed: allowed.map(Arc::new),
        k: 3,
    }
}

fn top(popular: &Popular, ask: &Ask) -> Vec<String> {
    let found = popular.retrieve(ask).expect("popular never fails");
    assert!(found.iter().all(|c| (0.0..=1.0).contains(&c.score)), "{found:?}");
    let id = |c: &Candidate| popular.catalog.row(c.ordinal).expect("row").id.to_string();
    found.iter().take(3).map(id).collect()
}

#[test]
fn a_stranger_sees_what_everybody_buys_and_a_fan_sees_the_own_category() {
    use EventKind::{Purchase, View};
    let popular = popular();
    let check = |history: &[(&str, EventKind)], expected: [&str; 3]| {
        assert_eq!(top(&popular, &ask(history, None)), expected, "{history:?}");
    };
    check(&[], ["m0", "m1", "m2"]);
    check(&[("p5", View); 6], ["p0", "p1", "p2"]);
    check(&[("unknown", View); 6], ["m0", "m1", "m2"]);
    // What was bought is not recommended again.
    check(&[("p0", Purchase); 6], ["p1", "p2", "p3"]);
    check(&[("m1", Purchase)], ["m0", "m2", "m3"]);
}

#[test]
fn the_cheap_order_is_the_order_of_a_stranger() {
    let popular = popular();
    let check = |filter: Filter, k: usize, expected: &[&str]| {
        let id = |c: &Candidate| popular.catalog.row(c.ordinal).expect("row").id.to_string();
        let found: Vec<String> = popular.best(&filter, k).iter().map(id).collect();
        assert_eq!(found, expected, "{filter:?}");
    };
    let category = |text: &str| Filter { category: Some(text.into()), ..Filter::default() };
    check(Filter::default(), 3, &["m0", "m1", "m2"]);
    check(category("pans"), 2, &["p0", "p1"]);
    check(category("nothing"), 2, &[]);
    check(Filter { brand: Some("Acme".into()), ..category("pans") }, 2, &[]);
    check(Filter { min_price: Some(1.0), ..Filter::default() }, 2, &[]);
    let stranger = popular.retrieve(&ask(&[], None)).expect("popular never fails");
    assert_eq!(popular.best(&Filter::default(), 3), stranger[..3]);
}

#[test]
fn filters_and_small_categories_are_filled_with_what_is_allowed() {
    let popular = popular();
    let pans = Allowed::from_ordinals((10..13).map(Ordinal));
    let ask = ask(&[("m3", EventKind::View); 6], Some(pans));
    assert_eq!(top(&popular, &ask), ["p0", "p1", "p2"]);
    let one = popular.score(&ask, Ordinal(10)).expect("in the catalogue");
    assert_eq!(Some(&one), popular.retrieve(&ask).expect("popular never fails").first());
}

#[test]
fn after_changes_the_order_is_that_of_sorting_all_again() {
    use crate::store::{ChangedProduct, Changes};
    let mut popular = popular();
    let product = |n: u32, category: &str, figure: f64| Product {
        id: format!("x{n}"),
        category: category.into(),
        popularity: Some(figure),
        ..Product::default()
    };
    let batches = [
        vec![(20, Some(product(20, "Mugs > Tall", 5.0))), (3, None)],
        vec![(21, Some(product(21, "Pans|Mugs", 9.0))), (0, None), (20, None)],
        vec![(22, Some(product(22, "", 1.0))), (21, Some(product(21, "Pots", 9.0)))],
    ];
    for (revision, batch) in (2..).zip(batches) {
        let numbers: Vec<Ordinal> = batch.iter().map(|(number, _)| Ordinal(*number)).collect();
        let products = batch.into_iter().map(|(number, product)| ChangedProduct {
            ordinal: Ordinal(number),
            id: product.as_ref().map_or_else(String::new, |product| product.id.clone()),
            product,
        });
        let changes = Changes { revision, products: products.collect() };
        let catalog = Arc::new(popular.catalog.after(&changes));
        let popularity = Arc::new(popular.popularity.after(&catalog, numbers.iter().copied()));
        let after = popular.after(catalog.clone(), popularity.clone(), &numbers);
        let anew = Popular::new(catalog, popularity);
        assert_eq!(after.everywhere, anew.everywhere);
        assert_eq!(after.by_category, anew.by_category);
        popular = after;
    }
}
