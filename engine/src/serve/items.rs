//! From ranked products to what the client reads: fields and reasons.

use super::run::Run;
use super::{EngineError, Field, Item};
use crate::catalog::{Catalog, Product};
use crate::rank::Ranked;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What an item is given as its reason.
pub(super) type Reason<'r> = &'r (dyn Fn(&Catalog, &Ranked) -> String + Sync);

impl Run<'_> {
    /// Items for the best `k`. Only a description costs a read of the store; when that fails it is
    /// `null` and the record says so.
    pub async fn items(
        &mut self,
        mut ranked: Vec<Ranked>,
        k: usize,
        fields: &[Field],
        reason: Reason<'_>,
    ) -> Vec<Item> {
        ranked.truncate(k);
        let catalog = self.snapshot.catalog.clone();
        let rows = ranked.iter().filter_map(|r| Some((r, catalog.row(r.ordinal)?)));
        let mut items: Vec<Item> = rows
            .map(|(ranked, row)| {
                let product = in_memory(row);
                Item {
                    product_id: row.id.to_string(),
                    score: ranked.score,
                    reason: reason(&catalog, ranked),
                    fields: fields.iter().map(|f| (f.name().into(), value(&product, *f))).collect(),
                }
            })
            .collect();
        if fields.contains(&Field::Description) && !items.is_empty() {
            self.describe(&mut items).await;
        }
        self.stage("fields");
        items
    }

    async fn describe(&mut self, items: &mut [Item]) {
        let ids = items.iter().map(|item| item.product_id.clone()).collect();
        match self.stored(ids).await {
            Ok(products) => {
                for (item, product) in items.iter_mut().zip(products) {
                    let text = product.map_or(Value::Null, |p| value(&p, Field::Description));
                    item.fields.insert(Field::Description.name().into(), text);
                }
            }
            Err(why) => self.trace.degraded.push(format!("description: {why}")),
        }
    }

    async fn stored(&self, ids: Vec<String>) -> Result<Vec<Option<Product>>, String> {
        self.read_products(ids).await
    }
}

/// `GET /products/{product_id}`.
pub(super) async fn product(run: Run<'_>, product_id: String) -> Result<Value, EngineError> {
    let unknown = || EngineError::UnknownProduct(product_id.clone());
    let row = run.snapshot.catalog.ordinal(&product_id);
    let row = row.and_then(|ordinal| run.snapshot.catalog.row(ordinal));
    let product = match run.stored(vec![product_id.clone()]).await {
        Ok(mut found) => found.pop().flatten().ok_or_else(unknown)?,
        // The store is late: everything but the description is in memory.
        Err(_) => row.map(in_memory).ok_or_else(unknown)?,
    };
    let mut object = Map::from_iter([("product_id".to_owned(), product.id.clone().into())]);
    object
        .extend(Field::ALL.iter().map(|field| (field.name().to_owned(), value(&product, *field))));
    Ok(Value::Object(object))
}

fn in_memory(row: &crate::catalog::Row) -> Product {
    Product {
        id: row.id.to_string(),
        name: row.name.to_string(),
        category: row.category.to_string(),
        brand: row.brand.to_string(),
        price: row.price,
        created_at: row.created_at,
        ..Product::default()
    }
}

/// One field as the client reads it; `null` where the shop did not say.
fn value(product: &Product, field: Field) -> Value {
    let text = |text: &str| {
        if text.is_empty() { Value::Null } else { text.into() }
    };
    match field {
        Field::Name => text(&product.name),
        Field::Description => text(&product.description),
        Field::Category => text(&product.category),
        Field::Brand => text(&product.brand),
        Field::Price => product.price.map_or(Value::Null, Value::from),
        Field::CreatedAt => product.created_at.and_then(rfc3339).map_or(Value::Null, Value::from),
    }
}

fn rfc3339(seconds: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_as_the_contract_has_them() {
        let product = Product {
            name: "Mug".into(),
            price: Some(4.5),
            created_at: Some(86_400),
            ..Product::default()
        };
        let check = |field: Field, expected: Value| assert_eq!(value(&product, field), expected);
        check(Field::Name, "Mug".into());
        check(Field::Brand, Value::Null);
        check(Field::Price, 4.5.into());
        check(Field::CreatedAt, "1970-01-02T00:00:00Z".into());
    }
}
