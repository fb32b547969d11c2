//! `GET /search/explain`: the whole decision about one product.

use super::run::Run;
use super::search::find;
use super::snapshot::Snapshot;
use super::{EngineError, SearchAsk};
use crate::catalog::Ordinal;
use crate::features::{FEATURES, FeatureBatch};
use crate::rank::{Found, Match, Ranked, rank, weights_for};
use crate::retrieve::{Ask, Source};
use penstock_config::policy::Fusion;
use serde_json::{Value, json};

pub(super) async fn explain(
    mut run: Run<'_>,
    ask: SearchAsk,
    product_id: String,
) -> Result<Value, EngineError> {
    let catalog = run.snapshot.catalog.clone();
    let Some(ordinal) = catalog.ordinal(&product_id) else {
        return Err(EngineError::UnknownProduct(product_id));
    };
    let (q, user_id, filter) = (ask.q.clone(), ask.user_id.clone(), ask.filter.clone());
    run.anew = true;
    let found = find(&mut run, ask).await?;
    let passes = found.ask.allowed.as_ref().is_none_or(|allowed| allowed.contains(ordinal));
    let place = found.ranked.iter().position(|ranked| ranked.ordinal == ordinal);
    let ranked = match place {
        Some(index) => found.ranked[index].clone(),
        None => {
            let (snapshot, ask, clock) =
                (run.snapshot.clone(), found.ask.clone(), run.engine.clock().clone());
            let work = move || as_if_found(&snapshot, &ask, ordinal, clock.unix_micros());
            run.on_ranking_thread(run.policy.resilience.max_queue, work).await?
        }
    };
    let (weights, from) = weights_for(ordinal, &catalog, &run.policy.ranking);
    let row = catalog.row(ordinal);
    let mut explanation = json!({
        "query": {"q": q, "normalised": found.ask.text, "user_id": user_id, "filter": filter},
        "product": {
            "product_id": product_id,
            "name": row.map(|row| &row.name),
            "category": row.map(|row| &row.category),
            "brand": row.map(|row| &row.brand),
        },
        "candidate": place.is_some(),
        "why_not": (place.is_none()).then(|| why_not(&run, passes)),
        "rank": place.map(|index| index + 1),
        "candidates": found.ranked.len(),
        "retrieval": {
            "keyword": said(&ranked.found, Source::Keyword),
            "semantic": said(&ranked.found, Source::Semantic),
            "collaborative": said(&ranked.found, Source::Collaborative),
            "popular": said(&ranked.found, Source::Popular),
        },
        "fusion": fusion(&run.policy.ranking.fusion),
        "features": ranked.parts,
        "feature_registry": FEATURES,
        "popularity_raw": run.snapshot.popularity.raw(ordinal),
        "weights": weights,
        "weights_from": from,
        "terms": ranked.parts.weighted(&weights),
        "rules": [],
        "score": ranked.score,
        "mode": run.mode,
        "policy_version": run.policy.version,
        "trace": run.trace,
    });
    shorten(&mut explanation);
    Ok(explanation)
}

/// Numbers as they are in single precision: 0.4, not 0.4000000059604645.
fn shorten(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        Value::Number(number) => {
            let Some(long) = number.as_f64().filter(|_| number.is_f64()) else { return };
            let single = long as f32;
            if f64::from(single) == long
                && let Ok(short) = single.to_string().parse::<f64>()
            {
                *value = json!(short);
            }
        }
        _ => {}
    }
}

fn why_not(run: &Run<'_>, passes: bool) -> String {
    if !passes {
        return "the filters exclude it".into();
    }
    let query = &run.policy.query;
    format!(
        "no retriever brought it among its best (keyword {}, semantic {}); the scores below are what \
         it would have had",
        query.keyword.candidates, query.semantic.candidates
    )
}

/// The scores a product would have had if a retriever had brought it.
fn as_if_found(snapshot: &Snapshot, ask: &Ask, ordinal: Ordinal, now_micros: i64) -> Ranked {
    let mut matched = Match::default();
    for retriever in snapshot.retrievers().filter(|retriever| retriever.applies(ask)) {
        let candidate = retriever.score(ask, ordinal);
        *matched.of_mut(retriever.source()) =
            candidate.map(|candidate| Found { candidate, rank: 0 });
    }
    let ranking = &ask.policy.ranking;
    let features = FeatureBatch::fetch(
        [ordinal].into_iter(),
        &snapshot.catalog,
        &snapshot.popularity,
        now_micros / 1_000_000,
        ranking.freshness_half_life,
    );
    let mut ranked = rank(&[(ordinal, matched)], &features, &snapshot.catalog, ranking);
    ranked.pop().expect("the product is in the catalogue")
}

fn said(found: &Match, source: Source) -> Value {
    match found.of(source) {
        Some(Found { candidate, rank }) => json!({
            "raw": candidate.raw,
            "normalised": candidate.score,
            "rank": (rank > 0).then_some(rank),
        }),
        None => Value::Null,
    }
}

fn fusion(fusion: &Fusion) -> Value {
    match fusion {
        Fusion::Max { semantic_weight, tie_breaker } => json!({
            "method": "max",
            "semantic_weight": semantic_weight,
            "tie_breaker": tie_breaker,
        }),
        Fusion::Weighted { semantic_weight } => {
            json!({"method": "weighted", "semantic_weight": semantic_weight})
        }
        Fusion::ReciprocalRank { k } => json!({"method": "rrf", "k": k}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_they_were_written() {
        let mut value = json!({"weights": [0.4_f32, 1.0_f32], "rank": 3, "exact": 0.1_f64});
        shorten(&mut value);
        assert_eq!(value.to_string(), r#"{"exact":0.1,"rank":3,"weights":[0.4,1.0]}"#);
    }
}
