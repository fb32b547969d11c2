//! Olist: the orders of a Brazilian marketplace.
//!
//! Orders, and what was paid for each product, are kept in memory: the published set has a hundred
//! thousand of either. Reviews, sellers, payments and places are not read.
#![expect(
    clippy::unnecessary_wraps,
    reason = "rows of other files can be bad; all are converted alike"
)]

use super::folder::Folder;
use crate::catalog::import::columns::{Entity, event_field, product_field};
use crate::catalog::import::error::ImportError;
use crate::catalog::import::event::EventRules;
use crate::catalog::import::read::{Record, Step};
use crate::catalog::import::source::{Opened, Source};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

pub(super) const PRODUCTS: &str = "olist_products_dataset.csv";
const TRANSLATION: &str = "product_category_name_translation.csv";
const CUSTOMERS: &str = "olist_customers_dataset.csv";
const ORDERS: &str = "olist_orders_dataset.csv";
const ITEMS: &str = "olist_order_items_dataset.csv";

/// What the state of an order says about its products.
const STATES: [(&str, &str); 8] = [
    ("created", "purchase"),
    ("approved", "purchase"),
    ("invoiced", "purchase"),
    ("processing", "purchase"),
    ("shipped", "purchase"),
    ("delivered", "purchase"),
    ("canceled", "skip"),
    ("unavailable", "skip"),
];

/// Products have no names. As much of the end of an id as tells those of one category apart.
const TAIL: usize = 8;

/// What one file says about the rows of another.
#[derive(Debug, Default)]
struct Known {
    /// Who is behind the customer of an order.
    customers: HashMap<String, Rc<str>>,
    orders: HashMap<String, Order>,
    /// What was paid for each product.
    paid: HashMap<String, Vec<f64>>,
    /// English names of categories.
    english: HashMap<String, String>,
}

#[derive(Debug)]
struct Order {
    customer: Rc<str>,
    state: String,
    at: String,
}

pub(super) fn rules(rules: &mut EventRules) {
    for (state, meaning) in STATES {
        rules.set(state, meaning).expect("the meanings above are meanings");
    }
}

pub(super) fn open(folder: &Folder<'_>) -> Result<Vec<(Source, Opened)>, ImportError> {
    folder.need(&[PRODUCTS, TRANSLATION, CUSTOMERS, ORDERS, ITEMS])?;
    let known = Rc::new(RefCell::new(Known::default()));
    let with = |row: fn(&mut Known, &mut Record, &mut Record) -> Result<Step, String>| {
        let known = known.clone();
        move |raw: &mut Record, record: &mut Record| row(&mut known.borrow_mut(), raw, record)
    };
    let (products, events) = (Entity::Products, Entity::Events);
    let order = ["order_id", "customer_id", "order_status", "order_purchase_timestamp"];
    let english = ["product_category_name", "product_category_name_english"];
    Ok(vec![
        folder.csv(CUSTOMERS, events, &["customer_id", "customer_unique_id"], with(customer))?,
        folder.csv(ORDERS, events, &order, with(self::order))?,
        folder.csv(ITEMS, events, &["order_id", "product_id", "price"], with(item))?,
        folder.csv(TRANSLATION, products, &english, with(translation))?,
        folder.csv(PRODUCTS, products, &["product_id", "product_category_name"], with(product))?,
    ])
}

fn customer(known: &mut Known, row: &mut Record, _: &mut Record) -> Result<Step, String> {
    known.customers.insert(row.take(0), row.take(1).into());
    Ok(Step::Aside)
}

fn order(known: &mut Known, row: &mut Record, _: &mut Record) -> Result<Step, String> {
    let customer = known.customers.get(row.get(1)).cloned();
    let customer =
        customer.ok_or_else(|| format!("customer {:?} is not in {CUSTOMERS}", row.get(1)))?;
    let order = Order { customer, state: row.take(2), at: row.take(3) };
    known.orders.insert(row.take(0), order);
    Ok(Step::Aside)
}

/// One event for a product in an order, however many of it: the second has the id of the first.
fn item(known: &mut Known, row: &mut Record, event: &mut Record) -> Result<Step, String> {
    let price: f64 = super::folder::number(row, 2, "price")?;
    let (order_id, product_id) = (row.get(0), row.get(1));
    let order = known.orders.get(order_id);
    let order = order.ok_or_else(|| format!("order {order_id:?} is not in {ORDERS}"))?;
    event.set(event_field::EVENT_ID, &format!("{order_id}/{product_id}"));
    event.set(event_field::USER_ID, &order.customer);
    event.set(event_field::PRODUCT_ID, product_id);
    event.set(event_field::EVENT_TYPE, &order.state);
    event.set(event_field::TIMESTAMP, &order.at);
    known.paid.entry(row.take(1)).or_default().push(price);
    Ok(Step::Row)
}

fn translation(known: &mut Known, row: &mut Record, _: &mut Record) -> Result<Step, String> {
    known.english.insert(row.take(0), row.take(1));
    Ok(Step::Aside)
}

fn product(known: &mut Known, row: &mut Record, product: &mut Record) -> Result<Step, String> {
    let id = row.get(0).trim();
    let category = row.get(1).trim();
    let category = words(known.english.get(category).map_or(category, String::as_str));
    let tail = id.char_indices().rev().nth(TAIL - 1).map_or(id, |(at, _)| &id[at..]);
    let kind = if category.is_empty() { "Product" } else { &category };
    product.set(product_field::ID, id);
    product.set(product_field::NAME, &format!("{kind} {tail}"));
    product.set(product_field::CATEGORY, &category);
    if let Some(price) = known.paid.remove(id).and_then(median) {
        product.set(product_field::PRICE, &price.to_string());
    }
    Ok(Step::Row)
}

/// `health_beauty` is `Health beauty`.
fn words(name: &str) -> String {
    let name = name.replace('_', " ");
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The lower one of the two in the middle: a price that somebody paid.
fn median(mut prices: Vec<f64>) -> Option<f64> {
    prices.sort_by(f64::total_cmp);
    prices.get(prices.len().checked_sub(1)? / 2).copied()
}
