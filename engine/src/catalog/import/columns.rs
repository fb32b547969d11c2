//! Which column of a file is which field.
//!
//! A field takes, best first: the column that [`Mapping`] names, the column with the field's own
//! name, the first of the field's aliases that is there. Names are compared without regard to case,
//! blanks, dashes and underscores at their ends or between words.

use std::collections::HashMap;

/// What a file's rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entity {
    /// Products.
    Products,
    /// Events.
    Events,
}

impl Entity {
    /// `products` or `events`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Products => "products",
            Self::Events => "events",
        }
    }

    /// The fields, in the order of a [`Record`](super::read::Record)'s values.
    pub(super) fn fields(self) -> &'static [Field] {
        match self {
            Self::Products => PRODUCT_FIELDS,
            Self::Events => EVENT_FIELDS,
        }
    }
}

/// A field of products or events.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    required: bool,
    aliases: &'static [&'static str],
}

impl Field {
    /// What joins the parts of a list, and of a list of lists; `None`: the field cannot be a list.
    pub(super) fn joined_by(&self) -> Option<(&'static str, &'static str)> {
        match self.name {
            "category" => Some((" > ", "|")),
            "description" => Some(("\n", "\n")),
            _ => None,
        }
    }
}

const fn field(name: &'static str, required: bool, aliases: &'static [&'static str]) -> Field {
    Field { name, required, aliases }
}

/// Positions in [`PRODUCT_FIELDS`].
pub(super) mod product_field {
    pub(in super::super) const ID: usize = 0;
    pub(in super::super) const NAME: usize = 1;
    pub(in super::super) const DESCRIPTION: usize = 2;
    pub(in super::super) const CATEGORY: usize = 3;
    pub(in super::super) const BRAND: usize = 4;
    pub(in super::super) const PRICE: usize = 5;
    pub(in super::super) const CREATED_AT: usize = 6;
    pub(in super::super) const POPULARITY: usize = 7;
}

static PRODUCT_FIELDS: &[Field] = &[
    field(
        "id",
        true,
        &["product_id", "sku", "item_id", "article_id", "asin", "stock_code", "stockcode"],
    ),
    field("name", true, &["title", "product_name", "product_title", "item_name", "article_name"]),
    field(
        "description",
        false,
        &[
            "product_description",
            "short_description",
            "long_description",
            "desc",
            "summary",
            "body",
        ],
    ),
    field(
        "category",
        false,
        &[
            "categories",
            "category_path",
            "cat_path",
            "category_name",
            "product_type",
            "department",
            "genres",
        ],
    ),
    field("brand", false, &["brand_name", "manufacturer", "vendor", "supplier", "maker"]),
    field("price", false, &["unit_price", "sale_price", "list_price", "amount"]),
    field(
        "created_at",
        false,
        &[
            "created",
            "date_added",
            "added_at",
            "release_date",
            "date_released",
            "published_at",
            "available_from",
        ],
    ),
    field("popularity", false, &["popularity_score"]),
];

/// Positions in [`EVENT_FIELDS`].
pub(super) mod event_field {
    pub(in super::super) const USER_ID: usize = 0;
    pub(in super::super) const PRODUCT_ID: usize = 1;
    pub(in super::super) const EVENT_TYPE: usize = 2;
    pub(in super::super) const TIMESTAMP: usize = 3;
    pub(in super::super) const VALUE: usize = 4;
    pub(in super::super) const EVENT_ID: usize = 5;
    pub(in super::super) const SOURCE: usize = 6;
}

static EVENT_FIELDS: &[Field] = &[
    field(
        "user_id",
        true,
        &["user", "customer_id", "customer", "visitor_id", "client_id", "reviewer_id"],
    ),
    field(
        "product_id",
        true,
        &["product", "item_id", "item", "sku", "article_id", "asin", "stock_code", "stockcode"],
    ),
    // Required unless a default is given; `run` checks that.
    field("event_type", false, &["event", "type", "action", "kind", "behavior", "behaviour"]),
    field(
        "timestamp",
        false,
        &["time", "ts", "event_time", "datetime", "date", "created_at", "occurred_at"],
    ),
    field("value", false, &["rating", "score", "stars"]),
    // Not `id`: a row number of one file would hide the rows of another.
    field("event_id", false, &["event_uuid"]),
    field("source", false, &["channel", "origin"]),
];

/// Columns named by the operator: which column a field is read from.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    columns: HashMap<&'static str, String>,
}

impl Mapping {
    /// Reads `field` from `column`. Error: a sentence, when there is no such field or it is mapped
    /// already.
    pub fn add(&mut self, field: &str, column: &str) -> Result<(), String> {
        let known = || PRODUCT_FIELDS.iter().chain(EVENT_FIELDS).map(|f| f.name);
        let Some(name) = known().find(|name| *name == normal(field)) else {
            return Err(format!(
                "there is no field `{field}`; the fields are {}",
                known().collect::<Vec<_>>().join(", ")
            ));
        };
        if column.trim().is_empty() {
            return Err(format!("`{field}=` names no column"));
        }
        match self.columns.insert(name, column.trim().to_owned()) {
            None => Ok(()),
            Some(other) => {
                Err(format!("`{field}` is mapped twice, to `{other}` and to `{column}`"))
            }
        }
    }

    /// The column that was named for `field`.
    pub(super) fn column(&self, field: &str) -> Option<&str> {
        self.columns.get(field).map(String::as_str)
    }

    /// How well `column` serves `field`, 0 best; `None`: not at all.
    fn rank(&self, field: &Field, column: &str) -> Option<usize> {
        if let Some(wanted) = self.columns.get(field.name) {
            return match column {
                c if c == wanted => Some(0),
                c if normal(c) == normal(wanted) => Some(1),
                _ => None,
            };
        }
        let column = normal(column);
        if column == field.name {
            return Some(0);
        }
        let alias = field.aliases.iter().position(|alias| *alias == column);
        alias.map(|at| at + 1)
    }
}

/// The fields that a column of this name may serve, each with its rank (0 best).
pub(super) fn candidates(entity: Entity, mapping: &Mapping, column: &str) -> Vec<(usize, usize)> {
    let fields = entity.fields().iter().enumerate();
    fields.filter_map(|(at, field)| mapping.rank(field, column).map(|rank| (at, rank))).collect()
}

/// Where each field of an entity is in a header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// For each field, its column.
    pub(super) columns: Vec<Option<usize>>,
    /// Columns nobody asked for.
    pub(super) ignored: Vec<String>,
}

/// Finds the fields in a header. Error: a sentence that says what is missing and what to do.
pub(super) fn resolve(
    entity: Entity,
    mapping: &Mapping,
    header: &[String],
) -> Result<Resolved, String> {
    let mut best: Vec<Option<(usize, usize)>> = vec![None; entity.fields().len()];
    for (column, name) in header.iter().enumerate() {
        for (field, rank) in candidates(entity, mapping, name) {
            match best[field] {
                Some((have, other)) if have == rank && header[other] == *name => {
                    return Err(format!("there are two columns `{name}`"));
                }
                Some((have, _)) if have <= rank => {}
                _ => best[field] = Some((rank, column)),
            }
        }
    }
    let columns: Vec<Option<usize>> = best.iter().map(|b| b.map(|(_, column)| column)).collect();
    for (field, column) in entity.fields().iter().zip(&columns) {
        if column.is_some() {
            continue;
        }
        let found = header.join(", ");
        if let Some(wanted) = mapping.column(field.name) {
            return Err(format!(
                "there is no column `{wanted}` for `{}`; the columns are {found}",
                field.name
            ));
        }
        if field.required {
            return Err(format!(
                "no column is `{name}` ({}); the columns are {found}. Name it with --map \
                 {name}=COLUMN",
                field.aliases.join(", "),
                name = field.name,
            ));
        }
    }
    let ignored = header
        .iter()
        .enumerate()
        .filter(|(at, _)| !columns.contains(&Some(*at)))
        .map(|(_, name)| name.clone())
        .collect();
    Ok(Resolved { columns, ignored })
}

/// Finds columns by their own names. Error: a sentence that says what is expected and what is there.
pub(super) fn exactly(wanted: &[&str], header: &[String]) -> Result<Resolved, String> {
    let find = |name: &&str| header.iter().position(|column| normal(column) == *name);
    let columns: Vec<Option<usize>> = wanted.iter().map(find).collect();
    if let Some(missing) = columns.iter().position(Option::is_none) {
        return Err(format!(
            "no column is `{}`; expected are {}, the columns are {}",
            wanted[missing],
            wanted.join(", "),
            header.join(", ")
        ));
    }
    Ok(Resolved { columns, ignored: Vec::new() })
}

/// `" Unit Price"` → `unit_price`.
pub(super) fn normal(name: &str) -> String {
    let words = name.split(|c: char| c.is_whitespace() || c == '-' || c == '_');
    let words: Vec<String> = words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    words.join("_")
}
