//! Who comes by, what they like and what they do.

use super::products::{Item, Shelf};
use super::sample::{Weighted, normal, one};
use super::{DAY_MICROS, DemoShop, EVENT_DAYS};
use crate::catalog::{Event, EventKind};
use crate::store::StoreError;
use rand::Rng;
use time::OffsetDateTime;

const SECOND: i64 = 1_000_000;
/// How uneven popularity is: among the kinds of thing, and among the items of one kind.
const SHELF_ZIPF: f64 = 0.6;
const ITEM_ZIPF: f64 = 0.9;
/// A visit in a favourite aisle.
const FAVOURITE: f64 = 0.8;
/// Looking at more of the same kind rather than elsewhere in the aisle.
const SAME_KIND: f64 = 0.7;
const TO_CART: f64 = 0.22;
const TO_PURCHASE: f64 = 0.45;
/// Visits by the hour of the day, UTC.
const HOURS: [f64; 24] = [
    2.0, 1.0, 0.7, 0.5, 0.5, 0.8, 1.5, 3.0, 4.0, 4.5, 5.0, 5.2, 6.0, 5.5, 5.0, 5.0, 5.3, 6.0, 7.0,
    8.5, 9.5, 9.0, 7.0, 4.0,
];

/// One user's taste.
#[derive(Debug)]
struct Taste {
    /// Favourite shelves; their aisles are the favourite aisles.
    shelves: Vec<usize>,
    brands: Vec<&'static str>,
    /// The tier of brands they buy from, 1 to 3.
    tier: u8,
}

impl Taste {
    fn new(shelves: &[Shelf], popular: &Weighted, random: &mut impl Rng) -> Self {
        let mut taste = Self {
            shelves: Vec::new(),
            brands: Vec::new(),
            tier: [1, 1, 1, 2, 2, 2, 2, 3, 3][random.random_range(0..9)],
        };
        for _ in 0..random.random_range(1..=3) {
            let shelf = popular.draw(random);
            taste.shelves.push(shelf);
            let brand = one(random, &shelves[shelf].items).brand;
            taste.brands.push(brand);
        }
        taste
    }

    /// How likely they look at an item that they come across, 0 to 1.
    fn likes(&self, item: &Item) -> f64 {
        let brand = if self.brands.contains(&item.brand) { 1.0 } else { 0.4 };
        let tier = [1.0, 0.5, 0.2][usize::from(self.tier.abs_diff(item.tier))];
        brand * tier
    }
}

/// Lets users visit until there are as many events as the shop wants.
pub(super) fn visit(
    shop: &DemoShop,
    shelves: &[Shelf],
    random: &mut impl Rng,
    put: &mut dyn FnMut(Event) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let popular = Weighted::zipf(shelves.len(), SHELF_ZIPF);
    let ranks: Vec<Weighted> =
        shelves.iter().map(|shelf| Weighted::zipf(shelf.items.len(), ITEM_ZIPF)).collect();
    let tastes: Vec<Taste> =
        (0..shop.users).map(|_| Taste::new(shelves, &popular, random)).collect();
    // A few come every day, many came once.
    let active = Weighted::new((0..shop.users).map(|_| (normal(random) * 1.2).exp()));
    let hours = Weighted::new(HOURS);
    let mut number = 0;
    while number < shop.events {
        let user = active.draw(random);
        let at = moment(shop, &hours, random);
        let room = Room { shelves, ranks: &ranks, popular: &popular, at };
        for (item, kind, at_micros) in room.session(&tastes[user], random) {
            if number == shop.events {
                break;
            }
            number += 1;
            put(Event {
                event_id: format!("demo-{}-{number}", shop.seed),
                user_id: format!("user-{}", user + 1),
                product_id: item.id.clone(),
                kind,
                at_micros: at_micros.min(shop.as_of_micros),
                source: ["web", "web", "app"][user % 3].to_owned(),
            })?;
        }
    }
    Ok(())
}

/// When a visit begins: more lately, more at weekends, more in the evening.
fn moment(shop: &DemoShop, hours: &Weighted, random: &mut impl Rng) -> i64 {
    loop {
        let back: f64 = random.random::<f64>() * EVENT_DAYS as f64;
        let day = shop.as_of_micros - (back.floor() as i64 + 1) * DAY_MICROS;
        let grown = 1.0 - 0.4 * back / EVENT_DAYS as f64;
        // 1970 began on a Thursday.
        let weekend = matches!((day.div_euclid(DAY_MICROS) + 4).rem_euclid(7), 0 | 6);
        if random.random::<f64>() < grown * if weekend { 1.0 } else { 0.75 } {
            let hour = hours.draw(random) as i64;
            return day + hour * 3600 * SECOND + random.random_range(0..3600 * SECOND);
        }
    }
}

/// The shop as it is at one moment.
struct Room<'a> {
    shelves: &'a [Shelf],
    ranks: &'a [Weighted],
    popular: &'a Weighted,
    at: i64,
}

impl<'a> Room<'a> {
    /// A visit: one to a dozen views; some of what was seen goes into the cart, some of that is
    /// bought at the end.
    fn session(&self, taste: &Taste, random: &mut impl Rng) -> Vec<(&'a Item, EventKind, i64)> {
        let shelf = self.shelf(taste, random);
        let mut done = Vec::new();
        let mut cart = Vec::new();
        let mut at = self.at;
        for _ in 0..12 {
            if let Some(item) = self.item(shelf, taste, random) {
                done.push((item, EventKind::View, at));
                if random.random_bool(TO_CART * (0.5 + 0.5 * taste.likes(item))) {
                    at += random.random_range(15..90) * SECOND;
                    done.push((item, EventKind::AddToCart, at));
                    cart.push(item);
                }
            }
            at += random.random_range(20..180) * SECOND;
            if random.random_bool(0.28) {
                break;
            }
        }
        at += random.random_range(60..400) * SECOND;
        for item in cart {
            if random.random_bool(TO_PURCHASE) {
                done.push((item, EventKind::Purchase, at));
            }
        }
        done
    }

    /// What they came for: a favourite, or whatever is popular and in season.
    fn shelf(&self, taste: &Taste, random: &mut impl Rng) -> usize {
        if random.random_bool(FAVOURITE) {
            return *one(random, &taste.shelves);
        }
        let month = OffsetDateTime::from_unix_timestamp(self.at / SECOND)
            .map_or(1, |at| u8::from(at.month()));
        loop {
            let shelf = self.popular.draw(random);
            let away = month.abs_diff(self.shelves[shelf].peak_month);
            let away = f64::from(away.min(12 - away));
            if random.random::<f64>() < 1.0 - away / 12.0 {
                return shelf;
            }
        }
    }

    /// An item of the shelf or of its aisle that is in the catalogue by now and to their taste;
    /// failing that, the last one they came across.
    fn item(&self, shelf: usize, taste: &Taste, random: &mut impl Rng) -> Option<&'a Item> {
        let shelf =
            if random.random_bool(SAME_KIND) { shelf } else { self.neighbour(shelf, random) };
        let items = &self.shelves[shelf].items;
        let mut seen = None;
        for _ in 0..12 {
            let item = &items[self.ranks[shelf].draw(random)];
            if item.created_micros > self.at {
                continue;
            }
            seen = Some(item);
            if random.random::<f64>() < taste.likes(item) {
                break;
            }
        }
        seen
    }

    /// Another shelf of the same aisle, or of the same department.
    fn neighbour(&self, shelf: usize, random: &mut impl Rng) -> usize {
        let here = &self.shelves[shelf];
        let aisle = random.random_bool(0.75);
        let near: Vec<usize> = (0..self.shelves.len())
            .filter(|at| {
                let there = &self.shelves[*at];
                match aisle {
                    true => there.aisle == here.aisle,
                    false => there.department == here.department,
                }
            })
            .collect();
        *one(random, &near)
    }
}
