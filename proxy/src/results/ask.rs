//! A question to the engine: its key among what is remembered, and how it is put.

use crate::route::Endpoint;
use bytes::Bytes;
use penstock_config::policy::Policy;
use penstock_engine::cache::{CacheKind, Key, PRICES, Tags, digest};
use penstock_engine::query::{Filter, normalise};
use penstock_engine::resilience::{AtMost, Mode};
use penstock_engine::serve::{
    Answer, Engine, EngineError, Field, Made, ProductAsk, RecommendAsk, SearchAsk,
};
use std::fmt::Write;
use std::sync::Arc;

/// A question whose answer is a list of products.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// `GET /search`
    Search(SearchAsk),
    /// `GET /recommend/{user_id}`
    Recommend(RecommendAsk),
    /// `GET /similar/{product_id}`
    Similar(ProductAsk),
    /// `GET /popular`
    Popular(ProductAsk),
}

/// Nobody in particular: who asks makes no difference. No id is empty.
const ANYBODY: &str = "";
/// All categories.
const GLOBAL: &str = "global";

impl Ask {
    /// The layer its answer is remembered in.
    pub fn kind(&self) -> CacheKind {
        match self {
            Self::Popular(_) => CacheKind::Popular,
            _ => CacheKind::Results,
        }
    }

    /// Its key: the same for all who get the same answer. Also whose history the answer depends on. A question of
    /// somebody nobody knows becomes one of nobody in particular: what such a user does from now on must not get
    /// into the answer that all others are given. `cheap`: who is not remembered to be known is not known.
    pub async fn key(
        &mut self,
        engine: &Engine,
        policy: &Arc<Policy>,
        made: &Made,
        cheap: bool,
    ) -> (Key, Option<String>) {
        let key = |kind, parts: &[&str]| Key::new(kind, &made.versions, parts.iter().copied());
        match self {
            Self::Search(ask) => {
                let user = ask.user_id.clone().filter(|_| engine.search_is_personal());
                let asked = hash(&engine.canonical(&ask.q), &ask.filter, &ask.fields);
                let k = ask.k.to_string();
                let parts = ["search", &asked, user.as_deref().unwrap_or(ANYBODY), &k];
                (key(CacheKind::Results, &parts), user)
            }
            Self::Recommend(ask) => {
                let known = if cheap {
                    engine.remembers_user(policy.clone(), &ask.user_id)
                } else {
                    Box::pin(engine.knows_user(policy.clone(), &ask.user_id)).await
                };
                let user = known.then(|| ask.user_id.clone());
                if !known {
                    ask.user_id.clear();
                }
                let k = ask.k.to_string();
                let shape = category_or_hash(&ask.filter, &ask.fields);
                let parts = ["recommend", user.as_deref().unwrap_or(ANYBODY), &shape, &k];
                (key(CacheKind::Results, &parts), user)
            }
            Self::Similar(ask) => {
                let product = ask.product_id.as_deref().unwrap_or_default();
                let shape = category_or_hash(&ask.filter, &ask.fields);
                (key(CacheKind::Results, &["similar", product, &shape, &ask.k.to_string()]), None)
            }
            Self::Popular(ask) => {
                let shape = category_or_hash(&ask.filter, &ask.fields);
                (key(CacheKind::Popular, &["popular", &shape, &ask.k.to_string()]), None)
            }
        }
    }

    /// The endpoint that is asked.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Search(_) => Endpoint::Search,
            Self::Recommend(_) => Endpoint::Recommend,
            Self::Similar(_) => Endpoint::Similar,
            Self::Popular(_) => Endpoint::Popular,
        }
    }

    /// Nothing that is remembered is to be used.
    pub fn make_anew(&mut self) {
        *self.wishes().1 = true;
    }

    fn wishes(&mut self) -> (&mut AtMost, &mut bool) {
        match self {
            Self::Search(SearchAsk { most, anew, .. })
            | Self::Recommend(RecommendAsk { most, anew, .. })
            | Self::Similar(ProductAsk { most, anew, .. })
            | Self::Popular(ProductAsk { most, anew, .. }) => (most, anew),
        }
    }

    /// Asks the engine; nothing better than `best` is wanted.
    pub async fn put(
        mut self,
        engine: &Engine,
        policy: Arc<Policy>,
        best: AtMost,
    ) -> Result<Answer, EngineError> {
        *self.wishes().0 = best;
        match self {
            Self::Search(ask) => engine.search(policy, ask).await,
            Self::Recommend(ask) => engine.recommend(policy, ask).await,
            Self::Similar(ask) => engine.similar(policy, ask).await,
            Self::Popular(ask) => engine.popular(policy, ask).await,
        }
    }

    /// The target it can be asked by again, the same for all who get the same answer; `None`: it is about somebody,
    /// or no query.
    pub fn target(&self) -> Option<String> {
        let Self::Search(SearchAsk { q, k, filter, fields, .. }) = self else {
            return None;
        };
        let mut target = format!("/search?q={}&k={k}", encoded(&normalise(q)));
        let Filter { category, brand, min_price, max_price } = filter;
        let fields = fields.iter().map(|field| field.name()).collect::<Vec<_>>().join(",");
        let given = [
            ("category", category.clone()),
            ("brand", brand.clone()),
            ("min_price", min_price.map(|price| price.to_string())),
            ("max_price", max_price.map(|price| price.to_string())),
            ("fields", Some(fields).filter(|fields| !fields.is_empty())),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                let _ = write!(target, "&{name}={}", encoded(&value));
            }
        }
        Some(target)
    }

    /// Less was done for `answer` than `best`, the best mode there is.
    pub fn is_degraded(&self, answer: &Answer, best: Mode) -> bool {
        match self {
            Self::Search(_) | Self::Similar(_) => answer.mode > best,
            Self::Recommend(_) | Self::Popular(_) => answer.mode > Mode::Full,
        }
    }

    fn filter(&self) -> &Filter {
        match self {
            Self::Search(SearchAsk { filter, .. })
            | Self::Recommend(RecommendAsk { filter, .. })
            | Self::Similar(ProductAsk { filter, .. })
            | Self::Popular(ProductAsk { filter, .. }) => filter,
        }
    }

    /// What an answer to it depends on. One to `similar` depends on the product it is about, too, and one with
    /// limits of prices on all prices.
    pub fn tags(&self, answer: &Answer, user: Option<&str>) -> Tags {
        let about = match self {
            Self::Similar(ask) => ask.product_id.as_deref(),
            _ => None,
        };
        let products = answer.items.iter().map(|item| item.product_id.as_str());
        let prices = self.filter().limits_price().then_some(PRICES);
        Tags::of(products.chain(about).chain(prices), user)
    }
}

fn encoded(text: &str) -> impl std::fmt::Display + '_ {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}

/// The bytes an answer is sent as.
pub fn bytes(answer: &Answer) -> Bytes {
    crate::respond::json(&answer.items)
}

fn hash(text: &str, filter: &Filter, fields: &[Field]) -> String {
    let fields: Vec<&str> = fields.iter().map(|field| field.name()).collect();
    digest([text, &filter.canonical(), &fields.join(",")])
}

/// The part of a key that operators know as the category: its name where nothing else is asked, `global` where
/// not even that is, and a hash of everything where more is.
fn category_or_hash(filter: &Filter, fields: &[Field]) -> String {
    let only_category =
        Filter { category: filter.category.clone(), ..Filter::default() } == *filter;
    match &filter.category {
        _ if !only_category || !fields.is_empty() => format!("~{}", hash("", filter, fields)),
        Some(category) => match category.trim().to_lowercase() {
            // Not the name of a category that is called so.
            taken if taken == GLOBAL || taken.starts_with('~') => {
                format!("~{}", hash("", filter, fields))
            }
            name => name,
        },
        None => GLOBAL.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_can_be_asked_again_by_its_target() {
        let check = |query: &str| {
            let ask = Ask::Search(crate::params::search(query.as_bytes(), 200).unwrap());
            let target = ask.target().unwrap();
            let (path, again) = target.split_once('?').unwrap();
            assert_eq!(path, "/search");
            let Ask::Search(again) =
                Ask::Search(crate::params::search(again.as_bytes(), 200).unwrap())
            else {
                unreachable!()
            };
            let Ask::Search(ask) = ask else { unreachable!() };
            assert_eq!(normalise(&again.q), normalise(&ask.q), "{target}");
            let rest = |ask: SearchAsk| (ask.k, ask.filter, ask.fields);
            assert_eq!(rest(again), rest(ask), "{target}");
        };
        check("q=Coffee+Mug");
        check("q=caf%C3%A9+%26+t%2Bea&k=7");
        check("q=a&category=Home+%3E+Mugs&brand=A%26B&min_price=1.5&max_price=9&fields=price,name");
    }

    #[test]
    fn the_category_is_a_name_where_nothing_else_is_asked() {
        let category = Filter { category: Some(" Home > Mugs ".into()), ..Filter::default() };
        assert_eq!(category_or_hash(&Filter::default(), &[]), "global");
        assert_eq!(category_or_hash(&category, &[]), "home > mugs");
        let called_global = Filter { category: Some("Global".into()), ..Filter::default() };
        assert!(category_or_hash(&called_global, &[]).starts_with('~'));
        let priced = Filter { max_price: Some(5.0), ..category.clone() };
        for (filter, fields) in [
            (&priced, &[][..]),
            (&category, &[Field::Name][..]),
            (&Filter::default(), &[Field::Name]),
        ] {
            let hash = category_or_hash(filter, fields);
            assert!(hash.starts_with('~') && hash.len() == 33, "{hash}");
        }
        assert_ne!(
            category_or_hash(&category, &[Field::Name, Field::Price]),
            category_or_hash(&category, &[Field::Price, Field::Name]),
            "fields are sent in the order asked for"
        );
    }
}
