//! RetailRocket: a shop's visits, and what its items were in the course of time.
//!
//! Twenty million rows of properties become two numbers an item: its latest category and its latest
//! price. Whether it is available is not taken over: the events reach into times when it was.

use super::folder::{Convert, Folder, number};
use crate::catalog::import::columns::{Entity, event_field, product_field};
use crate::catalog::import::error::ImportError;
use crate::catalog::import::read::{Record, Step};
use crate::catalog::import::source::{Opened, Source};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

pub(super) const EVENTS: &str = "events.csv";
pub(super) const PROPERTIES: [&str; 2] = ["item_properties_part1.csv", "item_properties_part2.csv"];
const TREE: &str = "category_tree.csv";

/// The property that is the price; most others are hashed and say nothing.
const PRICE: &str = "790";
const CATEGORY: &str = "categoryid";

/// Levels of a category's path; more are a circle.
const DEPTH: usize = 32;

/// The latest value and since when, milliseconds since 1970.
type Latest<T> = Option<(i64, T)>;

#[derive(Debug, Default)]
struct Item {
    category: Latest<u32>,
    price: Latest<f64>,
}

/// By id, so that an import again meets products in the same order.
type Items = BTreeMap<u64, Item>;

pub(super) fn open(folder: &Folder<'_>) -> Result<Vec<(Source, Opened)>, ImportError> {
    let [part1, part2] = PROPERTIES;
    folder.need(&[EVENTS, part1, part2, TREE])?;
    let items = Rc::new(RefCell::new(Items::new()));
    let with = |row: fn(&mut Items, &mut Record, &mut Record) -> Result<Step, String>| {
        let items = items.clone();
        move |raw: &mut Record, record: &mut Record| row(&mut items.borrow_mut(), raw, record)
    };
    let products = Entity::Products;
    let event = ["timestamp", "visitorid", "event", "itemid"];
    let values = ["timestamp", "itemid", "property", "value"];
    let tree = Tree { items: items.clone(), parents: HashMap::new() };
    Ok(vec![
        folder.csv(EVENTS, Entity::Events, &event, with(self::event))?,
        folder.csv(part1, products, &values, with(property))?,
        folder.csv(part2, products, &values, with(property))?,
        // Products come when all that is about them was read.
        folder.csv(TREE, products, &["categoryid", "parentid"], tree)?,
    ])
}

fn event(items: &mut Items, row: &mut Record, event: &mut Record) -> Result<Step, String> {
    items.entry(number(row, 3, "itemid")?).or_default();
    let fields = [
        event_field::TIMESTAMP,
        event_field::USER_ID,
        event_field::EVENT_TYPE,
        event_field::PRODUCT_ID,
    ];
    for (at, field) in fields.into_iter().enumerate() {
        event.set(field, row.get(at));
    }
    Ok(Step::Row)
}

fn property(items: &mut Items, row: &mut Record, _: &mut Record) -> Result<Step, String> {
    let item = items.entry(number(row, 1, "itemid")?).or_default();
    match row.get(2) {
        CATEGORY => {
            let category = number(row, 3, "value")?;
            keep(&mut item.category, number(row, 0, "timestamp")?, category);
        }
        PRICE => {
            let price = amount(row.get(3));
            let price =
                price.ok_or_else(|| format!("the price {:?} is not like n12.000", row.get(3)))?;
            keep(&mut item.price, number(row, 0, "timestamp")?, price);
        }
        _ => {}
    }
    Ok(Step::Aside)
}

fn keep<T>(latest: &mut Latest<T>, at: i64, value: T) {
    if latest.as_ref().is_none_or(|(since, _)| *since <= at) {
        *latest = Some((at, value));
    }
}

/// `n12.000` is a number; text stands beside some.
fn amount(value: &str) -> Option<f64> {
    value.split_whitespace().find_map(|word| word.strip_prefix('n')?.parse().ok())
}

/// Reads the tree of categories; then gives the products.
struct Tree {
    items: Rc<RefCell<Items>>,
    parents: HashMap<u32, u32>,
}

impl Tree {
    /// From the root, ` > ` between: `250 > 1016 > 213`.
    fn path(&self, category: u32) -> String {
        let mut path = category.to_string();
        let mut at = category;
        for _ in 0..DEPTH {
            let Some(parent) = self.parents.get(&at) else { break };
            path = format!("{parent} > {path}");
            at = *parent;
        }
        path
    }
}

impl Convert for Tree {
    fn row(&mut self, row: &mut Record, _: &mut Record) -> Result<Step, String> {
        // A root has no parent.
        if !row.is_empty(1) {
            let category = number(row, 0, "categoryid")?;
            self.parents.insert(category, number(row, 1, "parentid")?);
        }
        Ok(Step::Aside)
    }

    fn rest(&mut self, product: &mut Record) -> Step {
        let Some((id, item)) = self.items.borrow_mut().pop_first() else { return Step::End };
        product.set(product_field::ID, &id.to_string());
        product.set(product_field::NAME, &format!("Item {id}"));
        if let Some((_, category)) = item.category {
            product.set(product_field::CATEGORY, &self.path(category));
        }
        if let Some((_, price)) = item.price {
            product.set(product_field::PRICE, &price.to_string());
        }
        Step::Row
    }
}
