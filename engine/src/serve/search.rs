//! `GET /search`: understand, retrieve in parallel, rank.

use super::run::Run;
use super::{Answer, EngineError, Field, SearchAsk};
use crate::catalog::Catalog;
use crate::query::normalise;
use crate::rank::Ranked;
use crate::resilience::Mode;
use crate::retrieve::{Ask, Candidate, Retriever, Source};
use std::sync::Arc;

/// What a search found, before it is cut to the page and dressed.
pub(super) struct Searched {
    pub ask: Arc<Ask>,
    pub ranked: Vec<Ranked>,
}

pub(super) async fn search(mut run: Run<'_>, ask: SearchAsk) -> Result<Answer, EngineError> {
    let (k, fields): (usize, Vec<Field>) = (ask.k, ask.fields.clone());
    let found = find(&mut run, ask).await?;
    let items = run.items(found.ranked, k, &fields, &reason).await;
    Ok(Answer { items, mode: run.mode, trace: run.trace })
}

/// Everything up to the order.
pub(super) async fn find(run: &mut Run<'_>, ask: SearchAsk) -> Result<Searched, EngineError> {
    let text = understand(&ask.q, run.policy.query.max_chars)?;
    if run.is_to_be_cheap() {
        run.stage("understand");
        let ranked = run.most_popular_instead(&ask.filter, ask.k, None);
        return Ok(Searched { ask: Arc::new(run.ask(ask.k)), ranked });
    }
    let allowed = run.allowed(&ask.filter).await?;
    let mut question = Ask { text, allowed, ..run.ask(ask.k) };
    run.stage("understand");
    if question.allowed.as_ref().is_some_and(|allowed| allowed.is_empty()) {
        return Ok(Searched { ask: Arc::new(question), ranked: Vec::new() });
    }
    let mut retrievers = applicable(run, &question);
    let personal = retrievers.iter().any(|retriever| retriever.personal());
    let impersonal = run.most.leaves_out(Mode::Unpersonalised);
    let user = ask.user_id.as_deref().filter(|_| personal);
    let typed = by_id(run, &ask.q, &question);
    // Whether an id was typed is asked as it was written; everything else without capitals and blanks.
    let as_id = if typed.is_some() { ask.q.trim() } else { "" };
    let (remember, remembered) = run
        .candidates(&["search", as_id], &question, &ask.filter, user.filter(|_| !impersonal))
        .await;
    if let Some(pool) = remembered {
        note_remembered(run);
        let ranked = run.rank_again(pool).await?;
        return Ok(Searched { ask: Arc::new(question), ranked });
    }
    if let Some(user) = user {
        if impersonal {
            retrievers.retain(|retriever| !retriever.personal());
            run.degrade(Mode::Unpersonalised, run.most.why.clone());
        } else {
            question.history = run.history(user).await;
        }
    }
    let question = Arc::new(question);
    let mut lists = run.retrieve(&question, retrievers).await?;
    note_missing(run);
    if run.mode == Mode::Popular {
        // Nothing that reads text is left: what is popular is better than nothing.
        let popular = Ask { text: String::new(), ..(*question).clone() };
        let popular = Arc::new(popular);
        let lists = run.popular(&popular).await?;
        let (ranked, _) = run.rank(&popular, lists).await?;
        return Ok(Searched { ask: popular, ranked });
    }
    lists.extend(typed);
    let (ranked, pool) = run.rank(&question, lists).await?;
    run.remember(remember, &pool);
    Ok(Searched { ask: question, ranked })
}

/// The product whose id was typed, as staff and customers with a receipt do: a perfect match.
fn by_id(run: &Run<'_>, q: &str, question: &Ask) -> Option<Vec<Candidate>> {
    /// Shorter ids are numbers and words that mean something else.
    const LENGTH: usize = 4;
    let q = q.trim();
    let ordinal = run.snapshot.catalog.ordinal(q).filter(|_| q.len() >= LENGTH)?;
    let allowed = question.allowed.as_ref().is_none_or(|allowed| allowed.contains(ordinal));
    let candidate = Candidate { ordinal, score: 1.0, raw: 1.0, source: Source::Keyword };
    allowed.then(|| vec![candidate])
}

/// The mode, from the retrievers that read text and took no part.
pub(super) fn note_missing(run: &mut Run<'_>) {
    let took_part = |source: Source| {
        let mut reports = run.trace.retrievers.iter();
        reports.any(|r| r.source == source && matches!(r.outcome, super::Outcome::Found { .. }))
    };
    note_parts(run, took_part(Source::Keyword), took_part(Source::Semantic));
}

/// As [`note_missing`], for candidates that are remembered: everybody who would be asked now took part.
pub(super) fn note_remembered(run: &mut Run<'_>) {
    let (keyword, semantic) = asked_now(run);
    note_parts(run, keyword, semantic);
}

/// Whether keyword and semantic retrieval are loaded and wanted.
pub(super) fn asked_now(run: &Run<'_>) -> (bool, bool) {
    let keyword = run.snapshot.retriever(Source::Keyword).is_some();
    let semantic = run.policy.query.semantic.enabled
        && run.snapshot.retriever(Source::Semantic).is_some()
        && !(keyword && run.most.leaves_out(Mode::KeywordOnly));
    (keyword, semantic)
}

fn note_parts(run: &mut Run<'_>, keyword: bool, semantic: bool) {
    let mode = match (keyword, semantic) {
        (true, true) => return,
        (true, false) => Mode::KeywordOnly,
        (false, true) => Mode::SemanticOnly,
        (false, false) => Mode::Popular,
    };
    let mut whys: Vec<String> = Vec::new();
    for (source, took_part) in [(Source::Keyword, keyword), (Source::Semantic, semantic)] {
        if !took_part {
            whys.push(why_missing(run, source));
        }
    }
    run.degrade(mode, whys.join("; "));
}

fn why_missing(run: &Run<'_>, source: Source) -> String {
    let name = source.name();
    if let Some(report) = run.trace.retrievers.iter().find(|report| report.source == source) {
        return match &report.outcome {
            super::Outcome::Failed { why } => format!("{name}: {why}"),
            _ => format!("{name}: later than its deadline"),
        };
    }
    if source == Source::Semantic && !run.policy.query.semantic.enabled {
        return "semantic: switched off in query.toml".into();
    }
    let loaded = run.snapshot.retriever(source).is_some();
    if source == Source::Semantic && loaded && run.most.leaves_out(Mode::KeywordOnly) {
        return run.most.why.clone();
    }
    let note = run.snapshot.index.notes.iter().find(|note| note.starts_with(name));
    note.cloned().unwrap_or_else(|| format!("{name}: no index is loaded"))
}

/// The normalised query, or why it is none.
fn understand(q: &str, max_chars: usize) -> Result<String, EngineError> {
    let text = normalise(q);
    if text.is_empty() {
        return Err(EngineError::BadAsk("q is empty: say what to search for, as in q=mug".into()));
    }
    let chars = text.chars().count();
    if chars > max_chars {
        return Err(EngineError::BadAsk(format!(
            "q has {chars} characters; the longest query accepted has {max_chars}"
        )));
    }
    Ok(text)
}

fn reason(_: &Catalog, ranked: &Ranked) -> String {
    let strong = |found: Option<crate::rank::Found>, least: f32| {
        found.is_some_and(|found| found.candidate.score >= least)
    };
    let keyword = strong(ranked.found.keyword, f32::MIN_POSITIVE);
    // A completed score says "how close", not "found": only the list's own candidates count.
    let semantic = ranked.found.semantic.is_some_and(|found| found.rank > 0);
    let mut reason = match (keyword, semantic) {
        (true, true) => "matches the words and the meaning".to_owned(),
        (true, false) => "matches the words".to_owned(),
        (false, true) => "matches the meaning".to_owned(),
        (false, false) => return "popular; search is limited at the moment".to_owned(),
    };
    if ranked.parts.popularity >= 0.7 {
        reason.push_str("; popular");
    }
    if ranked.parts.freshness >= 0.7 {
        reason.push_str("; new");
    }
    reason
}

/// The retrievers that apply to a question, without the semantic one where less is wanted and the words are there.
pub(super) fn applicable(run: &Run<'_>, ask: &Ask) -> Vec<Arc<dyn Retriever>> {
    let apply = run.snapshot.retrievers().filter(|retriever| retriever.applies(ask));
    let mut retrievers: Vec<Arc<dyn Retriever>> = apply.cloned().collect();
    let by_words = retrievers.iter().any(|retriever| retriever.source() == Source::Keyword);
    if by_words && run.most.leaves_out(Mode::KeywordOnly) {
        retrievers.retain(|retriever| retriever.source() != Source::Semantic);
    }
    retrievers
}
