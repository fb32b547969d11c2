//! Less is done on demand, and it says so.

use super::*;
use crate::resilience::breaker::State;

fn at_most(mode: Mode) -> AtMost {
    AtMost::new(mode, "load: as the test wants")
}

#[tokio::test]
async fn a_search_does_no_more_than_is_wanted() {
    use Fault::{Fails, None, Panics};
    let popular = vec!["pan", "cup", "hose", "mug"];
    let rows = [
        (Mode::Full, both(None, None), Mode::Full, vec!["mug", "cup", "hose"]),
        (Mode::KeywordOnly, both(None, Panics), Mode::KeywordOnly, vec!["mug", "cup"]),
        // Nothing but words is looked at anyway: there is nothing personal to leave out.
        (Mode::Unpersonalised, both(None, Panics), Mode::KeywordOnly, vec!["mug", "cup"]),
        (Mode::Stale, both(Panics, Panics), Mode::Popular, popular.clone()),
        (Mode::Popular, both(Panics, Panics), Mode::Popular, popular.clone()),
        // Of what is wanted a part is missing.
        (Mode::KeywordOnly, both(Fails, None), Mode::Popular, popular.clone()),
    ];
    for (wanted, retrievers, mode, expected) in rows {
        let shop = shop(retrievers);
        let ask = SearchAsk { user_id: Some("ann".into()), most: at_most(wanted), ..search("mug") };
        let answer = shop.engine.search(shop.policy.clone(), ask).await.expect("answer");
        assert_eq!((answer.mode, ids(&answer)), (mode, expected), "{wanted:?} {:?}", answer.trace);
        let said = answer.trace.degraded.iter().any(|why| why.contains("load: as the test"));
        assert_eq!(said, wanted > Mode::Full, "{wanted:?} {:?}", answer.trace);
        assert!(answer.items.windows(2).all(|pair| pair[0].score >= pair[1].score));
    }
}

#[tokio::test]
async fn without_words_a_search_by_meaning_is_better_than_none() {
    let only = Fixed { source: Source::Semantic, finds: vec![2, 4], fault: Fault::None };
    let shop = shop(vec![only]);
    let ask = SearchAsk { most: at_most(Mode::KeywordOnly), ..search("mug") };
    let answer = shop.engine.search(shop.policy.clone(), ask).await.expect("answer");
    assert_eq!((answer.mode, ids(&answer)), (Mode::SemanticOnly, vec!["cup", "hose"]));
}

#[tokio::test]
async fn recommendations_leave_out_the_history_and_then_everything() {
    let shop = shop(vec![]);
    // Asked of a store that does not answer: what does not ask it does not notice.
    shop.store.broken.store(true, Ordering::SeqCst);
    for (wanted, why) in
        [(Mode::Unpersonalised, "load"), (Mode::Popular, "load"), (Mode::KeywordOnly, "history")]
    {
        let ask = RecommendAsk {
            user_id: "ann".into(),
            k: 2,
            most: at_most(wanted),
            ..RecommendAsk::default()
        };
        let answer = shop.engine.recommend(shop.policy.clone(), ask).await.expect("answer");
        let expected = wanted.max(Mode::Unpersonalised);
        assert_eq!((answer.mode, ids(&answer)), (expected, vec!["pan", "cup"]), "{wanted:?}");
        assert!(answer.trace.degraded[0].starts_with(why), "{:?}", answer.trace);
    }
}

#[tokio::test]
async fn what_is_popular_needs_no_thread() {
    let shop = shop(both(Fault::Panics, Fault::Panics));
    let mut policy = Policy::default();
    policy.resilience.max_queue = 0;
    let policy = Arc::new(policy);
    let most = at_most(Mode::Popular);
    let filter = Filter { category: Some("kitchen".into()), ..Filter::default() };
    let ask = SearchAsk { most: most.clone(), filter: filter.clone(), k: 2, ..search("mug") };
    let answer = shop.engine.search(policy.clone(), ask).await.expect("answer");
    assert_eq!(ids(&answer), ["pan", "cup"]);
    assert_eq!(answer.trace.waited_micros, 0);
    let like = ProductAsk {
        product_id: Some("pan".into()),
        k: 2,
        most: most.clone(),
        ..ProductAsk::default()
    };
    let answer = shop.engine.similar(policy.clone(), like.clone()).await.expect("answer");
    assert_eq!((answer.mode, ids(&answer)), (Mode::Popular, vec!["cup", "hose"]));
    // What is popular is all that was asked for.
    let ask = ProductAsk { product_id: None, filter, ..like.clone() };
    let answer = shop.engine.popular(policy.clone(), ask).await.expect("answer");
    assert_eq!((answer.mode, ids(&answer)), (Mode::Full, vec!["pan", "cup"]));
    // The client's mistakes are still told.
    let nothing = ProductAsk { product_id: Some("nothing".into()), ..like };
    let unknown = shop.engine.similar(policy.clone(), nothing).await;
    assert!(matches!(unknown, Err(EngineError::UnknownProduct(_))));
    let empty = shop.engine.search(policy, SearchAsk { most, ..search(" ") }).await;
    assert!(matches!(empty, Err(EngineError::BadAsk(_))));
}

#[tokio::test]
async fn waiting_for_threads_is_told_apart_from_working() {
    let shop = shop(both(Fault::None, Fault::None));
    let answer = shop.engine.search(shop.policy.clone(), search("mug")).await.expect("answer");
    let all: u64 = answer.trace.stages.iter().map(|stage| stage.micros).sum();
    assert!(answer.trace.waited_micros <= all + 1_000_000, "{:?}", answer.trace);
    // Both threads are busy for a while.
    let (release, hold) = crossbeam_channel::bounded::<()>(0);
    let busy = || {
        let hold = hold.clone();
        let work = move || hold.recv().is_ok();
        shop.engine.pool().submit(10, work).expect("room")
    };
    let _busy = [busy(), busy()];
    let mut policy = Policy::default();
    policy.resilience.deadlines.retrieve = std::time::Duration::from_secs(10);
    policy.resilience.deadlines.request = std::time::Duration::from_secs(10);
    let ask = shop.engine.search(Arc::new(policy), search("mug"));
    let later = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        drop(release);
    };
    let (answer, ()) = tokio::join!(ask, later);
    let answer = answer.expect("answer");
    assert!(answer.trace.waited_micros >= 20_000, "{:?}", answer.trace);
}

#[tokio::test]
async fn a_store_that_fails_is_left_alone() {
    let shop = shop(vec![]);
    shop.store.broken.store(true, Ordering::SeqCst);
    let ask = || RecommendAsk { user_id: "ann".into(), k: 2, ..RecommendAsk::default() };
    let mut whys = Vec::new();
    for _ in 0..8 {
        let answer = shop.engine.recommend(shop.policy.clone(), ask()).await.expect("answer");
        assert_eq!(answer.mode, Mode::Unpersonalised);
        whys.push(answer.trace.degraded[0].clone());
    }
    assert!(whys[4].contains("broken by the test"), "{whys:?}");
    assert!(whys[5].contains("the breaker is open"), "{whys:?}");
    assert!(shop.engine.store_breaker().is_shut(clock::now()));
    assert_eq!(shop.engine.store_breaker().state(), State::Open);
    // It works again, but is only asked when its time is over, or when somebody knows.
    shop.store.broken.store(false, Ordering::SeqCst);
    let answer = shop.engine.recommend(shop.policy.clone(), ask()).await.expect("answer");
    assert_eq!(answer.mode, Mode::Unpersonalised);
    shop.engine.store_breaker().force(Some(crate::resilience::breaker::Forced::Closed));
    let answer = shop.engine.recommend(shop.policy.clone(), ask()).await.expect("answer");
    assert_eq!(answer.mode, Mode::Full);
}
