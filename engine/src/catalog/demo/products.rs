//! What is on the shelves.

use super::sample::{normal, one};
use super::vocabulary::{Aisle, Brand, Department, Thing, departments};
use super::{CATALOGUE_DAYS, DAY_MICROS, DemoShop};
use crate::catalog::Product;
use crate::store::StoreError;
use rand::Rng;
use rand::seq::SliceRandom;
use std::collections::HashSet;

/// A brand's prices, by its tier, as a multiple of the usual.
const TIER_PRICE: [f64; 3] = [0.65, 1.0, 1.7];
const COLOURS: &[&str] = &[
    "black",
    "white",
    "grey",
    "navy",
    "forest green",
    "terracotta",
    "mustard",
    "cream",
    "sky blue",
    "burgundy",
    "sand",
    "rose",
    "olive",
    "charcoal",
];

/// What shoppers see of a product.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) brand: &'static str,
    pub(super) tier: u8,
    pub(super) created_micros: i64,
}

/// One kind of thing and its items, the best sellers first.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) department: usize,
    pub(super) aisle: usize,
    pub(super) peak_month: u8,
    pub(super) items: Vec<Item>,
}

/// Fills the shelves: as many products of each kind, give or take one. Gives them in the order in
/// which they sell, best first.
pub(super) fn stock(
    shop: &DemoShop,
    random: &mut impl Rng,
    put: &mut dyn FnMut(Product) -> Result<(), StoreError>,
) -> Result<Vec<Shelf>, StoreError> {
    let departments = departments();
    let mut shelves = Vec::new();
    let mut aisles = 0;
    for (number, department) in departments.iter().enumerate() {
        for aisle in &department.aisles {
            for thing in &aisle.things {
                let shelf = Shelf {
                    department: number,
                    aisle: aisles,
                    peak_month: department.peak_month,
                    items: Vec::new(),
                };
                shelves.push((shelf, department, aisle, thing));
            }
            aisles += 1;
        }
    }
    // Dealt out in a random order, so that a small shop has something of everything.
    let mut order: Vec<usize> = (0..shelves.len()).collect();
    order.shuffle(random);
    let mut names = HashSet::new();
    for number in 0..shop.products {
        let at = order[number as usize % order.len()];
        let (shelf, department, aisle, thing) = &mut shelves[at];
        let (product, item) = make(shop, random, number, (department, aisle, thing), &mut names);
        shelf.items.push(item);
        put(product)?;
    }
    let mut shelves: Vec<Shelf> = shelves
        .into_iter()
        .map(|(shelf, ..)| shelf)
        .filter(|shelf| !shelf.items.is_empty())
        .collect();
    // What sells best has nothing to do with the order of the vocabulary or of the numbers.
    shelves.shuffle(random);
    for shelf in &mut shelves {
        shelf.items.shuffle(random);
    }
    Ok(shelves)
}

fn make(
    shop: &DemoShop,
    random: &mut impl Rng,
    number: u32,
    (department, aisle, thing): (&Department, &Aisle, &Thing),
    names: &mut HashSet<String>,
) -> (Product, Item) {
    let brand = *one(random, &department.brands);
    let (name, called, is, of) = loop {
        // The best known name is the most usual.
        let called = match random.random_bool(0.5) {
            true => thing.names[0],
            false => *one(random, &thing.names),
        };
        let (is, of) = (*one(random, &aisle.is), *one(random, &aisle.of));
        let mut name = format!("{} {}", brand.name, titled(&format!("{is} {of} {called}")));
        // A shop many times the usual size runs out of combinations.
        if names.contains(&name) && random.random_bool(0.1) {
            name = format!("{name} {}", number + 1);
        }
        if names.insert(name.clone()) {
            break (name, called, is, of);
        }
    };
    let about = describe(random, aisle, thing, brand, (called, is, of));
    let spread = (normal(random) * aisle.spread).exp();
    let tier = TIER_PRICE[usize::from(brand.tier) - 1];
    let price = aisle.median_price * thing.price * tier * spread;
    let age = random.random_range(0..CATALOGUE_DAYS * DAY_MICROS);
    // The first was there from the start: there is always something that a visit can find.
    let age = if number == 0 { CATALOGUE_DAYS * DAY_MICROS } else { age };
    let created_micros = shop.as_of_micros - age;
    let prefix: String =
        department.name.chars().filter(char::is_ascii_alphabetic).take(3).collect();
    let id = format!("{}-{:05}", prefix.to_uppercase(), number + 1);
    let product = Product {
        id: id.clone(),
        name,
        description: about,
        category: format!("{} > {}", department.name, aisle.name),
        brand: brand.name.to_owned(),
        price: Some(tagged(price)),
        created_at: Some(created_micros.div_euclid(1_000_000)),
        popularity: None,
    };
    let item = Item { id, brand: brand.name, tier: brand.tier, created_micros };
    (product, item)
}

/// Two to five sentences. Now and then the thing goes by another of its names.
fn describe(
    random: &mut impl Rng,
    aisle: &Aisle,
    thing: &Thing,
    brand: Brand,
    (called, is, of): (&str, &str, &str),
) -> String {
    let named = match random.random_bool(0.4) {
        true => *one(random, &thing.names),
        false => called,
    };
    let first = random.random_range(0..aisle.uses.len());
    let second = (first + random.random_range(1..aisle.uses.len())) % aisle.uses.len();
    let (first, second) = (aisle.uses[first], aisle.uses[second]);
    let opening = match random.random_range(0..3) {
        0 => format!("{is} {named} of {of}, made for {first}"),
        1 => format!("{is} {named}, good for {first} and for {second}"),
        _ => format!("for {first}: {is} {named} in {of}"),
    };
    let mut has = thing.has.clone();
    has.shuffle(random);
    let mut sentences = vec![opening, format!("with {} and {}", has[0], has[1])];
    if let Some(third) = has.get(2).filter(|_| random.random_bool(0.5)) {
        sentences.push(format!("what people like about it: {third}"));
    }
    sentences.push(match brand.tier {
        1 => format!("good value from {}", brand.name),
        2 => format!("{} gives a warranty of three years", brand.name),
        _ => format!("designed and finished by hand at {}", brand.name),
    });
    if random.random_bool(0.6) {
        sentences.push(format!("colour: {}", one(random, COLOURS)));
    }
    let sentences = sentences.iter().map(|sentence| format!("{}.", capital(sentence)));
    sentences.collect::<Vec<_>>().join(" ")
}

/// A price as on a tag: 8.49, 34.95, 219.
fn tagged(price: f64) -> f64 {
    let price = price.max(1.0);
    let cents = match price {
        ..10.0 => (price * 2.0).ceil() * 50.0 - 1.0,
        ..100.0 => price.ceil() * 100.0 - 5.0,
        ..1000.0 => price.round() * 100.0,
        _ => (price / 10.0).round() * 1000.0 - 100.0,
    };
    cents / 100.0
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters).collect()
}

/// `hot air fryer` → `Hot Air Fryer`.
fn titled(text: &str) -> String {
    text.split(' ').map(capital).collect::<Vec<_>>().join(" ")
}
