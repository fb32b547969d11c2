//! The engine over a store in memory and retrievers made for the test.

use super::*;
use crate::catalog::{Event, EventKind, Ordinal, Product, UserEvent};
use crate::query::Filter;
use crate::resilience::{AtMost, Mode};
use crate::retrieve::{Ask, Candidate, RetrieveError, Retriever, Source};
use crate::store::{
    Bulk, Changed, Counts, Import, ProductChange, Store, StoreError, StoredProduct,
};
use futures::future::BoxFuture;
use penstock_config::clock;
use penstock_config::policy::Policy;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

mod most;

#[derive(Default)]
struct Memory {
    products: Vec<Product>,
    events: Mutex<Vec<Event>>,
    broken: AtomicBool,
}

impl Memory {
    fn check(&self) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("broken by the test".into()));
        }
        Ok(())
    }
}

impl Store for Memory {
    fn products(
        &self,
        ids: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Option<Product>>, StoreError>> {
        Box::pin(async move {
            self.check()?;
            let find = |id: &String| self.products.iter().find(|p| p.id == *id).cloned();
            Ok(ids.iter().map(find).collect())
        })
    }

    fn recent_events(
        &self,
        user_id: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserEvent>, StoreError>> {
        Box::pin(async move {
            self.check()?;
            let events = self.events.lock().expect("events");
            let of_user = events.iter().rev().filter(|event| event.user_id == user_id);
            Ok(of_user.take(limit).map(seen).collect())
        })
    }

    fn append_events(&self, events: Vec<Event>) -> BoxFuture<'_, Result<Vec<bool>, StoreError>> {
        Box::pin(async move {
            self.check()?;
            let new = vec![true; events.len()];
            self.events.lock().expect("events").extend(events);
            Ok(new)
        })
    }
}

fn seen(event: &Event) -> UserEvent {
    let Event { product_id, kind, at_micros, .. } = event.clone();
    UserEvent { product_id, kind, at_micros }
}

impl Bulk for Memory {
    fn place(&self) -> String {
        "memory".into()
    }

    fn store_id(&self) -> Result<String, StoreError> {
        Ok("memory".into())
    }

    fn catalog_revision(&self) -> Result<u64, StoreError> {
        Ok(1)
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        let events = self.events.lock().expect("events").len() as u64;
        Ok(Counts { products: self.products.len() as u64, events })
    }

    fn scan_products(&self, each: &mut dyn FnMut(StoredProduct)) -> Result<(), StoreError> {
        for (index, product) in self.products.iter().enumerate() {
            each(StoredProduct { ordinal: Ordinal(index as u32 + 1), product: product.clone() });
        }
        Ok(())
    }

    fn scan_events(&self, each: &mut dyn FnMut(&str, UserEvent)) -> Result<(), StoreError> {
        for event in self.events.lock().expect("events").iter() {
            each(&event.user_id, seen(event));
        }
        Ok(())
    }

    fn begin_import(&self) -> Result<Box<dyn Import + '_>, StoreError> {
        Err(StoreError::Unavailable("not in this test".into()))
    }

    fn change_products(&self, _: Vec<ProductChange>) -> Result<Vec<Changed>, StoreError> {
        Err(StoreError::Unavailable("not in this test".into()))
    }
}

/// Finds the products it was given, best first; or fails, or panics, or waits for ever.
struct Fixed {
    source: Source,
    finds: Vec<u32>,
    fault: Fault,
}

#[derive(PartialEq)]
enum Fault {
    None,
    Fails,
    Panics,
    Hangs,
}

impl Retriever for Fixed {
    fn source(&self) -> Source {
        self.source
    }

    fn applies(&self, ask: &Ask) -> bool {
        !ask.text.is_empty()
    }

    fn retrieve(&self, ask: &Ask) -> Result<Vec<Candidate>, RetrieveError> {
        match self.fault {
            Fault::Fails => {
                return Err(RetrieveError::Unavailable {
                    source_name: self.source.name(),
                    why: "broken by the test".into(),
                });
            }
            Fault::Panics => panic!("as the test wants"),
            Fault::Hangs => std::thread::park_timeout(std::time::Duration::from_secs(5)),
            Fault::None => {}
        }
        let allowed = |o: &Ordinal| ask.allowed.as_ref().is_none_or(|a| a.contains(*o));
        let ordinals = self.finds.iter().map(|o| Ordinal(*o)).filter(allowed);
        Ok(ordinals.filter_map(|ordinal| self.score(ask, ordinal)).collect())
    }

    fn score(&self, _: &Ask, ordinal: Ordinal) -> Option<Candidate> {
        let place = self.finds.iter().position(|o| *o == ordinal.0)?;
        let score = 1.0 / (place as f32 + 1.0);
        Some(Candidate { ordinal, score, raw: 10.0 * score, source: self.source })
    }
}

fn product(id: &str, category: &str, price: f64) -> Product {
    Product {
        id: id.into(),
        name: format!("The {id}"),
        description: format!("All about {id}"),
        category: category.into(),
        price: Some(price),
        ..Product::default()
    }
}

fn event(user: &str, product: &str, kind: EventKind) -> Event {
    Event {
        event_id: String::new(),
        user_id: user.into(),
        product_id: product.into(),
        kind,
        at_micros: 1,
        source: String::new(),
    }
}

struct Shop {
    engine: Arc<Engine>,
    store: Arc<Memory>,
    policy: Arc<Policy>,
    _folder: tempfile::TempDir,
}

/// Four products; `pan` has been looked at, the others have not.
fn shop(retrievers: Vec<Fixed>) -> Shop {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Memory {
        products: vec![
            product("mug", "Kitchen > Mugs", 5.0),
            product("cup", "Kitchen > Mugs", 6.0),
            product("pan", "Kitchen > Pans", 30.0),
            product("hose", "Garden", 20.0),
        ],
        events: Mutex::new(vec![event("ann", "pan", EventKind::View)]),
        broken: AtomicBool::new(false),
    });
    let policy = Arc::new(Policy::default());
    let options = Options {
        data_dir: folder.path().into(),
        embedding_model: None,
        workers: 2,
        clock: clock::system(),
        caches: None,
    };
    let engine = Engine::with_store(options, store.clone(), policy.clone()).expect("an engine");
    let index = super::snapshot::Index {
        version: String::new(),
        retrievers: retrievers.into_iter().map(|r| Arc::new(r) as Arc<dyn Retriever>).collect(),
        notes: Vec::new(),
        ..super::snapshot::Index::default()
    };
    engine.publish_index(index);
    Shop { engine, store, policy, _folder: folder }
}

fn both(keyword: Fault, semantic: Fault) -> Vec<Fixed> {
    vec![
        Fixed { source: Source::Keyword, finds: vec![1, 2], fault: keyword },
        Fixed { source: Source::Semantic, finds: vec![2, 4], fault: semantic },
    ]
}

fn search(q: &str) -> SearchAsk {
    SearchAsk { q: q.into(), k: 10, ..SearchAsk::default() }
}

fn ids(answer: &Answer) -> Vec<&str> {
    answer.items.iter().map(|item| item.product_id.as_str()).collect()
}

#[tokio::test]
async fn the_mode_says_what_was_missing_and_an_answer_comes_all_the_same() {
    use Fault::{Fails, Hangs, None, Panics};
    let rows = [
        (both(None, None), Mode::Full, vec!["mug", "cup", "hose"]),
        (both(None, Fails), Mode::KeywordOnly, vec!["mug", "cup"]),
        (both(None, Panics), Mode::KeywordOnly, vec!["mug", "cup"]),
        (both(None, Hangs), Mode::KeywordOnly, vec!["mug", "cup"]),
        (both(Fails, None), Mode::SemanticOnly, vec!["cup", "hose"]),
        (both(Fails, Panics), Mode::Popular, vec!["pan", "cup", "hose", "mug"]),
        (vec![], Mode::Popular, vec!["pan", "cup", "hose", "mug"]),
    ];
    for (retrievers, mode, expected) in rows {
        let shop = shop(retrievers);
        let answer = shop.engine.search(shop.policy.clone(), search("mug")).await.expect("answer");
        assert_eq!((answer.mode, ids(&answer)), (mode, expected), "{:?}", answer.trace);
        assert_eq!(answer.trace.degraded.is_empty(), mode == Mode::Full, "{:?}", answer.trace);
        assert!(answer.items.windows(2).all(|pair| pair[0].score >= pair[1].score));
    }
}

#[tokio::test]
async fn a_product_is_found_by_its_id() {
    let shop = shop(both(Fault::None, Fault::None));
    let answer = shop.engine.search(shop.policy.clone(), search(" hose ")).await.expect("answer");
    assert_eq!(ids(&answer)[0], "hose");
    let filter = Filter { max_price: Some(5.5), ..Filter::default() };
    let ask = SearchAsk { filter, ..search("hose") };
    let answer = shop.engine.search(shop.policy.clone(), ask).await.expect("answer");
    assert_eq!(ids(&answer), ["mug"]);
}

#[tokio::test]
async fn similar_without_its_retrievers_is_what_is_popular() {
    for retrievers in [both(Fault::Fails, Fault::Panics), vec![]] {
        let shop = shop(retrievers);
        let ask = ProductAsk { product_id: Some("pan".into()), k: 10, ..ProductAsk::default() };
        let answer = shop.engine.similar(shop.policy.clone(), ask).await.expect("answer");
        assert_eq!((answer.mode, ids(&answer)), (Mode::Popular, vec!["cup", "hose", "mug"]));
        assert!(answer.items[0].reason.starts_with("popular"), "{:?}", answer.items[0]);
    }
}

#[tokio::test]
async fn deadlines_of_retrievers_do_not_add_up() {
    let shop = shop(both(Fault::Hangs, Fault::Hangs));
    let began = clock::now();
    let answer = shop.engine.search(shop.policy.clone(), search("mug")).await.expect("answer");
    assert_eq!(answer.mode, Mode::Popular);
    let deadline = shop.policy.resilience.deadlines.retrieve;
    let reports = answer.trace.retrievers.iter().filter(|r| r.outcome == Outcome::Late);
    let waited: u64 = reports.map(|report| report.micros).sum();
    assert!(waited <= deadline.as_micros() as u64 + 1_000, "{:?}", answer.trace);
    assert!(clock::now() - began >= deadline);
}

#[tokio::test]
async fn bad_questions_are_the_clients_fault() {
    let shop = shop(both(Fault::None, Fault::None));
    for q in ["", "   ", "\u{0}\n", &"x".repeat(513)] {
        let answer = shop.engine.search(shop.policy.clone(), search(q)).await;
        assert!(matches!(answer, Err(EngineError::BadAsk(_))), "{q:?}");
    }
}

#[tokio::test]
async fn filters_limit_and_fields_are_added() {
    let shop = shop(both(Fault::None, Fault::None));
    let filter = Filter { max_price: Some(5.5), ..Filter::default() };
    let fields = vec![Field::Name, Field::Description, Field::Brand];
    let ask = SearchAsk { filter, fields, ..search("mug") };
    let answer = shop.engine.search(shop.policy.clone(), ask.clone()).await.expect("an answer");
    let json = serde_json::to_value(&answer.items).expect("json");
    assert_eq!(json.as_array().map(Vec::len), Some(1));
    assert_eq!(json[0]["product_id"], "mug");
    assert_eq!(json[0]["name"], "The mug");
    assert_eq!(json[0]["description"], "All about mug");
    assert_eq!(json[0]["brand"], serde_json::Value::Null);
    // The store fails: the page comes without its descriptions, and the record says so.
    shop.store.broken.store(true, Ordering::SeqCst);
    let answer = shop.engine.search(shop.policy.clone(), ask).await.expect("an answer");
    assert_eq!(answer.items[0].fields["description"], serde_json::Value::Null);
    assert!(answer.trace.degraded[0].starts_with("description"), "{:?}", answer.trace);
}

#[tokio::test]
async fn explain_adds_up_to_the_score_of_the_search() {
    let shop = shop(both(Fault::None, Fault::None));
    let answer = shop.engine.search(shop.policy.clone(), search("mug")).await.expect("answer");
    for (place, item) in answer.items.iter().enumerate() {
        let told = shop.engine.explain(shop.policy.clone(), search("mug"), item.product_id.clone());
        let told = told.await.expect("an explanation");
        let number = |value: &serde_json::Value| value.as_f64().expect("a number") as f32;
        let terms = told["terms"].as_object().expect("terms").values().map(number).sum::<f32>();
        assert!((terms - item.score).abs() < 1e-6, "{told}");
        assert!((number(&told["score"]) - item.score).abs() < 1e-6, "{told}");
        assert_eq!(told["rank"], place + 1);
    }
    let told = shop.engine.explain(shop.policy.clone(), search("mug"), "pan".into()).await;
    let told = told.expect("an explanation");
    assert_eq!((&told["candidate"], &told["rank"]), (&false.into(), &serde_json::Value::Null));
    let unknown = shop.engine.explain(shop.policy.clone(), search("mug"), "nothing".into()).await;
    assert!(matches!(unknown, Err(EngineError::UnknownProduct(_))));
}

#[tokio::test]
async fn a_users_events_change_what_is_recommended_at_once() {
    let shop = shop(both(Fault::None, Fault::None));
    let ask = RecommendAsk { user_id: "bob".into(), k: 10, ..RecommendAsk::default() };
    let before = shop.engine.recommend(shop.policy.clone(), ask.clone()).await.expect("answer");
    assert_eq!((ids(&before)[0], before.mode), ("pan", Mode::Full));
    let events = (0..6).map(|_| event("bob", "hose", EventKind::View)).collect();
    assert_eq!(shop.engine.record(events).await.expect("stored"), [true; 6]);
    let after = shop.engine.recommend(shop.policy.clone(), ask.clone()).await.expect("answer");
    assert_eq!(ids(&after)[0], "hose", "{after:?}");
    assert!(after.items[0].reason.contains("Garden"), "{after:?}");
    shop.store.broken.store(true, Ordering::SeqCst);
    let blind = shop.engine.recommend(shop.policy.clone(), ask).await.expect("answer");
    assert_eq!((ids(&blind), blind.mode), (ids(&before), Mode::Unpersonalised));
}

#[tokio::test]
async fn similar_leaves_the_product_itself_out() {
    let shop = shop(both(Fault::None, Fault::None));
    let ask = |id: &str| ProductAsk { product_id: Some(id.into()), k: 10, ..ProductAsk::default() };
    let answer = shop.engine.similar(shop.policy.clone(), ask("mug")).await.expect("an answer");
    assert_eq!(ids(&answer), ["cup", "hose"]);
    let unknown = shop.engine.similar(shop.policy.clone(), ask("nothing")).await;
    assert!(matches!(unknown, Err(EngineError::UnknownProduct(_))));
}

#[tokio::test]
async fn popular_is_ordered_by_popularity_alone() {
    let shop = shop(vec![]);
    let filter = Filter { category: Some("kitchen".into()), ..Filter::default() };
    let ask = ProductAsk { k: 2, filter, ..ProductAsk::default() };
    let answer = shop.engine.popular(shop.policy.clone(), ask).await.expect("an answer");
    assert_eq!((ids(&answer), answer.mode), (vec!["pan", "cup"], Mode::Full));
}

#[tokio::test]
async fn a_full_queue_is_refused_and_says_when_to_come_back() {
    let shop = shop(both(Fault::None, Fault::None));
    let mut policy = Policy::default();
    policy.resilience.max_queue = 0;
    let answer = shop.engine.search(Arc::new(policy), search("mug")).await;
    assert!(matches!(answer, Err(EngineError::Overloaded { .. })), "{answer:?}");
}
