//! The query string: from text to a question the engine can take.
//!
//! Unknown parameters are ignored, so that a shop can send its campaign tags along. A known one
//! that appears twice is refused: whoever reads the first and whoever reads the last would answer
//! different questions.

use crate::route::{Plus, decode};
use penstock_engine::query::Filter;
use penstock_engine::serve::{Field, ProductAsk, RecommendAsk, SearchAsk};
use std::borrow::Cow;
use std::fmt::Write;

/// Results when `k` is not given.
const DEFAULT_K: usize = 10;
/// Most results in one answer.
const MAX_K: usize = 100;
/// Longest `user_id`, `product_id`, `category` and `brand`, in bytes.
const MAX_TEXT_BYTES: usize = 512;
/// Longest id, in bytes; the engine's ids are no longer.
const MAX_ID_BYTES: usize = 256;

const KNOWN: [&str; 9] =
    ["q", "user_id", "product_id", "k", "category", "brand", "min_price", "max_price", "fields"];

/// A parameter that cannot be used, with a sentence that says what to send instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct BadParameter {
    /// Which.
    pub parameter: &'static str,
    /// What is wrong with it.
    pub detail: String,
}

fn bad(parameter: &'static str, detail: impl Into<String>) -> BadParameter {
    BadParameter { parameter, detail: detail.into() }
}

/// `GET /search`. `max_chars` is the policy's bound on `q`.
pub fn search(query: &[u8], max_chars: usize) -> Result<SearchAsk, BadParameter> {
    let given = Given::read(query)?;
    Ok(SearchAsk {
        q: given.q(max_chars)?,
        user_id: given.id("user_id")?,
        k: given.k()?,
        filter: given.filter()?,
        fields: given.fields()?,
        ..SearchAsk::default()
    })
}

/// `GET /search/explain`: a search and the product it is about.
pub fn explain(query: &[u8], max_chars: usize) -> Result<(SearchAsk, String), BadParameter> {
    let given = Given::read(query)?;
    let product = given.id("product_id")?.ok_or_else(|| {
        bad(
            "product_id",
            "product_id is missing: say which product's place in the results to explain",
        )
    })?;
    Ok((search(query, max_chars)?, product))
}

/// `GET /recommend/{user_id}`.
pub fn recommend(query: &[u8], user_id: String) -> Result<RecommendAsk, BadParameter> {
    let given = Given::read(query)?;
    let (k, filter, fields) = (given.k()?, given.filter()?, given.fields()?);
    Ok(RecommendAsk { user_id, k, filter, fields, ..RecommendAsk::default() })
}

/// `GET /similar/{product_id}` and `GET /popular`.
pub fn products(query: &[u8], product_id: Option<String>) -> Result<ProductAsk, BadParameter> {
    let given = Given::read(query)?;
    let (k, filter, fields) = (given.k()?, given.filter()?, given.fields()?);
    Ok(ProductAsk { product_id, k, filter, fields, ..ProductAsk::default() })
}

/// What a request asks for, as far as can be told before it is read whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `k`. Who writes nonsense is refused later, and pays for the most until then.
    pub results: usize,
    /// `q`.
    pub query: Option<String>,
}

/// Reads what is wanted; what cannot be read is not there.
pub fn wanted(query: &[u8]) -> Wanted {
    match Given::read(query) {
        Ok(given) => {
            Wanted { results: given.k().unwrap_or(MAX_K), query: given.raw("q").map(str::to_owned) }
        }
        Err(_) => Wanted { results: MAX_K, query: None },
    }
}

/// The known parameters of a query string, decoded, each at most once.
struct Given<'q>([Option<Cow<'q, str>>; KNOWN.len()]);

impl<'q> Given<'q> {
    fn read(query: &'q [u8]) -> Result<Self, BadParameter> {
        let mut given = Self(Default::default());
        for pair in query.split(|&byte| byte == b'&') {
            let cut = pair.iter().position(|&byte| byte == b'=');
            let (name, value) = match cut {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            let Ok(name) = decode(name, Plus::Space) else {
                continue;
            };
            let Some(which) = KNOWN.iter().position(|known| *known == name) else {
                continue;
            };
            let parameter = KNOWN[which];
            let value = decode(value, Plus::Space)
                .map_err(|why| bad(parameter, format!("{parameter} {why}")))?;
            if given.0[which].replace(value).is_some() {
                return Err(bad(parameter, format!("{parameter} is given twice; send it once")));
            }
        }
        Ok(given)
    }

    fn raw(&self, name: &str) -> Option<&str> {
        let which = KNOWN.iter().position(|known| *known == name)?;
        self.0[which].as_deref()
    }

    /// Trimmed; empty counts as not given, as an empty form field does.
    fn text(&self, name: &'static str, max_bytes: usize) -> Result<Option<&str>, BadParameter> {
        match self.raw(name).map(str::trim) {
            None | Some("") => Ok(None),
            Some(text) if text.len() > max_bytes => {
                Err(bad(name, format!("{name} has {} bytes; it may have {max_bytes}", text.len())))
            }
            Some(text) => Ok(Some(text)),
        }
    }

    fn id(&self, name: &'static str) -> Result<Option<String>, BadParameter> {
        Ok(self.text(name, MAX_ID_BYTES)?.map(str::to_owned))
    }

    fn q(&self, max_chars: usize) -> Result<String, BadParameter> {
        let Some(q) = self.raw("q") else {
            return Err(bad(
                "q",
                "q is missing: say what to search for, as in /search?q=coffee+mug",
            ));
        };
        let q = q.trim();
        if q.is_empty() {
            return Err(bad("q", "q is empty: say what to search for, as in /search?q=coffee+mug"));
        }
        let chars = q.chars().count();
        if chars > max_chars {
            return Err(bad("q", format!("q has {chars} characters; it may have {max_chars}")));
        }
        Ok(q.to_owned())
    }

    fn k(&self) -> Result<usize, BadParameter> {
        let Some(k) = self.text("k", MAX_TEXT_BYTES)? else {
            return Ok(DEFAULT_K);
        };
        let digits_only = k.bytes().all(|byte| byte.is_ascii_digit());
        match k.parse() {
            Ok(k) if digits_only && (1..=MAX_K).contains(&k) => Ok(k),
            _ => Err(bad(
                "k",
                format!("k must be a whole number from 1 to {MAX_K}, not {}", quoted(k)),
            )),
        }
    }

    fn filter(&self) -> Result<Filter, BadParameter> {
        let text = |name| Ok(self.text(name, MAX_TEXT_BYTES)?.map(str::to_owned));
        let filter = Filter {
            category: text("category")?,
            brand: text("brand")?,
            min_price: self.price("min_price")?,
            max_price: self.price("max_price")?,
        };
        match (filter.min_price, filter.max_price) {
            (Some(min), Some(max)) if min > max => Err(bad(
                "min_price",
                format!("min_price ({min}) is above max_price ({max}): no product can match"),
            )),
            _ => Ok(filter),
        }
    }

    fn price(&self, name: &'static str) -> Result<Option<f64>, BadParameter> {
        let Some(text) = self.text(name, MAX_TEXT_BYTES)? else {
            return Ok(None);
        };
        match text.parse::<f64>() {
            Ok(price) if price.is_finite() && price >= 0.0 => Ok(Some(price)),
            _ => Err(bad(
                name,
                format!("{name} must be a number of at least 0, as in 19.99, not {}", quoted(text)),
            )),
        }
    }

    fn fields(&self) -> Result<Vec<Field>, BadParameter> {
        let mut fields = Vec::new();
        let names = self.text("fields", MAX_TEXT_BYTES)?.unwrap_or_default();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let field = Field::from_name(name).ok_or_else(|| {
                let known: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
                bad(
                    "fields",
                    format!(
                        "fields names {}, which no product has; there are {}",
                        quoted(name),
                        known.join(", ")
                    ),
                )
            })?;
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
        Ok(fields)
    }
}

/// The client's own text inside a sentence: short, and nothing invisible in it.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for (at, c) in text.chars().enumerate() {
        if at == 40 {
            out.push('…');
            break;
        }
        if c.is_control() {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
