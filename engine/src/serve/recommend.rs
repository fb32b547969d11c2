//! `GET /recommend`, `/similar`, `/popular`: answers without a query.

use super::remembered::Question;
use super::run::Run;
use super::search::{applicable, note_missing, note_remembered};
use super::{Answer, EngineError, Field, ProductAsk, RecommendAsk};
use crate::catalog::Catalog;
use crate::features::Taste;
use crate::query::Filter;
use crate::rank::Ranked;
use crate::resilience::Mode;
use crate::retrieve::Ask;
use std::collections::HashSet;
use std::sync::Arc;

/// What the user cares for: collaborative candidates (once there is a model) and what is popular in
/// the user's categories, blended with general popularity while the user is new.
pub(super) async fn recommend(mut run: Run<'_>, ask: RecommendAsk) -> Result<Answer, EngineError> {
    if run.is_to_be_cheap() {
        let ranked = run.most_popular_instead(&ask.filter, ask.k, None);
        let reason = |_: &Catalog, _: &Ranked| "popular with everybody".to_owned();
        return dressed(run, ranked, ask.k, &ask.fields, &reason).await;
    }
    let mut question = limited(&mut run, &ask.filter, ask.k).await?;
    run.stage("understand");
    if run.most.leaves_out(Mode::Unpersonalised) {
        run.degrade(Mode::Unpersonalised, run.most.why.clone());
    } else if !ask.user_id.is_empty() {
        (question.history, question.long_term) = run.user(&ask.user_id).await;
    }
    let taste = question.taste(&run.snapshot.catalog);
    let reason = |catalog: &Catalog, ranked: &Ranked| why_recommended(catalog, ranked, &taste);
    answer(run, question, ask.k, &ask.fields, &reason, None).await
}

/// What is like a product, by its words and by its embedding.
pub(super) async fn similar(mut run: Run<'_>, ask: ProductAsk) -> Result<Answer, EngineError> {
    let id = ask.product_id.unwrap_or_default();
    let catalog = run.snapshot.catalog.clone();
    let like = catalog.ordinal(&id).and_then(|ordinal| Some((ordinal, catalog.row(ordinal)?)));
    let Some((like, row)) = like else {
        return Err(EngineError::UnknownProduct(id));
    };
    if run.is_to_be_cheap() {
        let ranked = run.most_popular_instead(&ask.filter, ask.k, Some(like));
        return dressed(run, ranked, ask.k, &ask.fields, &popular_instead).await;
    }
    let text = crate::query::normalise(&format!("{} {}", row.name, row.brand));
    let mut question = limited(&mut run, &ask.filter, ask.k).await?;
    (question.like, question.text) = (Some(like), text);
    run.stage("understand");
    let reason = |_: &Catalog, _: &Ranked| format!("similar to {}", row.name);
    let (remember, remembered) =
        run.candidates(&["similar", &id], &question, &ask.filter, None).await;
    if let Some(pool) = remembered {
        note_remembered(&mut run);
        let ranked = run.rank_again(pool).await?;
        return dressed(run, ranked, ask.k, &ask.fields, &reason).await;
    }
    answer(run, question, ask.k, &ask.fields, &reason, remember).await
}

/// What everybody buys; by popularity alone.
pub(super) async fn popular(mut run: Run<'_>, ask: ProductAsk) -> Result<Answer, EngineError> {
    let ranked = if run.is_to_be_cheap() {
        // The same, but for filters that let hardly anything pass.
        run.most_popular(&ask.filter, ask.k, None)
    } else {
        by_popularity(&mut run, &ask).await?
    };
    let category = ask.filter.category.clone();
    let reason = |_: &Catalog, _: &Ranked| match &category {
        Some(category) => format!("popular in {category}"),
        None => "popular".to_owned(),
    };
    dressed(run, ranked, ask.k, &ask.fields, &reason).await
}

async fn by_popularity(run: &mut Run<'_>, ask: &ProductAsk) -> Result<Vec<Ranked>, EngineError> {
    let question = Arc::new(limited(run, &ask.filter, ask.k).await?);
    run.stage("understand");
    let lists = run.popular(&question).await?;
    let (mut ranked, _) = run.rank(&question, lists).await?;
    ranked.iter_mut().for_each(|ranked| ranked.score = ranked.parts.popularity);
    let id = |ranked: &Ranked| run.snapshot.catalog.row(ranked.ordinal).map(|row| row.id.clone());
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| id(a).cmp(&id(b))));
    Ok(ranked)
}

async fn limited(run: &mut Run<'_>, filter: &Filter, k: usize) -> Result<Ask, EngineError> {
    Ok(Ask { allowed: run.allowed(filter).await?, ..run.ask(k) })
}

async fn dressed(
    mut run: Run<'_>,
    ranked: Vec<Ranked>,
    k: usize,
    fields: &[Field],
    reason: super::items::Reason<'_>,
) -> Result<Answer, EngineError> {
    let items = run.items(ranked, k, fields, reason).await;
    Ok(Answer { items, mode: run.mode, trace: run.trace })
}

fn popular_instead(_: &Catalog, _: &Ranked) -> String {
    "popular; similar is limited at the moment".to_owned()
}

async fn answer(
    mut run: Run<'_>,
    question: Ask,
    k: usize,
    fields: &[Field],
    reason: super::items::Reason<'_>,
    remember: Option<Question>,
) -> Result<Answer, EngineError> {
    let question = Arc::new(question);
    let retrievers = applicable(&run, &question);
    let mut lists = run.retrieve(&question, retrievers).await?;
    if question.like.is_some() {
        note_missing(&mut run);
    }
    let replaced = run.mode == Mode::Popular;
    if replaced {
        lists = run.popular(&question).await?;
    }
    let (ranked, pool) = run.rank(&question, lists).await?;
    if !replaced {
        run.remember(remember, &pool);
    }
    let reason: super::items::Reason<'_> = if replaced { &popular_instead } else { reason };
    dressed(run, ranked, k, fields, reason).await
}

fn why_recommended(catalog: &Catalog, ranked: &Ranked, taste: &Taste) -> String {
    let categories = catalog.categories();
    let of_product: HashSet<_> = catalog
        .row(ranked.ordinal)
        .into_iter()
        .flat_map(|row| row.categories.iter())
        .flat_map(|id| categories.ancestry(*id))
        .collect();
    match taste.categories.iter().find(|(id, _)| of_product.contains(id)) {
        Some((id, _)) if taste.only_long_term.contains(id) => {
            format!("popular in {}, which you came for before", categories.path(*id))
        }
        Some((id, _)) => format!("popular in {}, where you were lately", categories.path(*id)),
        None => "popular with everybody".to_owned(),
    }
}
