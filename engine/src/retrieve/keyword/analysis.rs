//! From text to what is indexed, and to what is asked: the same reading for both.
//!
//! Shop text is half language, half codes and measures. A word is indexed in the singular and, when
//! that differs, under its stem. A number keeps its unit (`18-Volt`, `18 volts` and `18V` are all
//! `18v`), a size keeps its neighbours (`2 in. x 4 in.` is also `2x4`), and what is written in one go
//! is also indexed in one piece (`LP-123` is `lp`, `123` and `lp123`), so that each is found however it
//! is typed.

use super::pieces::{Glue, Kind, MAX_WORD, Piece, pieces};
use super::units::unit;
use super::words::{singular, stem, stem_term, stop};
use std::ops::Range;

/// One thing a text mentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// The term: a word in the singular, or a number.
    pub term: String,
    /// As written, but lower-case and without accents; with the unit where that is glued on (`18v`).
    pub surface: String,
    /// Number and unit, `18v`.
    pub measure: Option<String>,
    /// This number and the next one of a size, `2x4`.
    pub size: Option<String>,
    /// A number.
    pub number: bool,
    /// Says nothing.
    pub stop: bool,
    /// Written in one go with the item before it: nothing or a hyphen between them.
    pub attached: bool,
}

/// What `text` mentions, in order.
pub(super) fn items(text: &str) -> Vec<Item> {
    let pieces = pieces(text);
    let mut out: Vec<Item> = Vec::with_capacity(pieces.len());
    let mut at = 0;
    let mut breaks = true;
    // The number whose size goes on with the next number.
    let mut open_size: Option<usize> = None;
    while let Some(piece) = pieces.get(at) {
        at += 1;
        let attached = !breaks && matches!(piece.glue, Glue::None | Glue::Hyphen);
        breaks = false;
        let mut item = Item {
            term: piece.text.clone(),
            surface: piece.text.clone(),
            measure: None,
            size: None,
            number: piece.kind == Kind::Number,
            stop: false,
            attached,
        };
        if !item.number {
            item.term = singular(&piece.text);
            item.stop = stop(&piece.text);
            out.push(item);
            continue;
        }
        if let Some((name, used)) = unit_after(&pieces[at..]) {
            item.measure = Some(format!("{}{name}", piece.text));
            if used == 1 && pieces[at].glue == Glue::None {
                item.surface.push_str(&pieces[at].text);
            } else {
                breaks = true;
            }
            at += used;
        }
        if let Some(first) = open_size.take() {
            out[first].size = Some(format!("{}x{}", out[first].term, item.term));
        }
        if let Some(used) = times_after(&pieces[at..]) {
            at += used;
            breaks = true;
            open_size = Some(out.len());
        }
        out.push(item);
    }
    out
}

/// The unit that starts `rest`, right after a number, and how many pieces it takes: `in`, `cu ft`.
fn unit_after(rest: &[Piece]) -> Option<(String, usize)> {
    let near = |piece: &&Piece| piece.kind == Kind::Word && piece.glue != Glue::Slash;
    let first = rest.first().filter(near)?;
    let power = match first.text.as_str() {
        "cu" | "cubic" => "cu",
        "sq" | "square" => "sq",
        text => return unit(text).map(|name| (name.to_owned(), 1)),
    };
    let second = rest.get(1).filter(near)?;
    unit(&second.text).map(|name| (format!("{power}{name}"), 2))
}

/// How many pieces the `x` of a size takes, when a number follows it: `x`, `by`, `w x`.
fn times_after(rest: &[Piece]) -> Option<usize> {
    let side = |piece: &Piece| matches!(piece.text.as_str(), "w" | "h" | "d" | "l");
    let skipped = usize::from(rest.first().is_some_and(side));
    let sign = rest.get(skipped)?;
    let number = rest.get(skipped + 1)?;
    (matches!(sign.text.as_str(), "x" | "by") && number.kind == Kind::Number).then_some(skipped + 1)
}

/// Runs of items written in one go; two items or more.
pub(super) fn runs(items: &[Item]) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut start = 0;
    for at in 1..=items.len() {
        if items.get(at).is_some_and(|item| item.attached) {
            continue;
        }
        if at - start > 1 {
            out.push(start..at);
        }
        start = at;
    }
    out
}

/// Items as one term, unless it gets too long: `lp123`, `wifi`.
pub(super) fn joined(items: &[Item]) -> Option<String> {
    one_word(items.iter().map(|item| item.surface.as_str()))
}

/// Two neighbours as one term, a number with its unit: `drill` after `18 volts` is `18vdrill`.
pub(super) fn pair(items: &[Item]) -> Option<String> {
    if items.iter().any(|item| item.stop) {
        return None;
    }
    one_word(items.iter().map(|item| item.measure.as_deref().unwrap_or(&item.surface)))
}

fn one_word<'a>(parts: impl Iterator<Item = &'a str>) -> Option<String> {
    let text: String = parts.collect();
    (text.len() <= MAX_WORD).then(|| singular(&text))
}

/// Every term under which `text` is indexed, with its position.
pub(super) fn terms(text: &str) -> Vec<(usize, String)> {
    let items = items(text);
    let mut out: Vec<(usize, String)> = Vec::with_capacity(items.len() * 2);
    for (position, item) in items.iter().enumerate() {
        if !item.stop {
            out.push((position, item.term.clone()));
            let stem = stem(&item.surface);
            if !item.number && stem != item.term {
                out.push((position, stem_term(&stem)));
            }
        }
        let more = item.measure.iter().chain(&item.size);
        out.extend(more.map(|term| (position, term.clone())));
    }
    for run in runs(&items) {
        out.extend(joined(&items[run.clone()]).map(|term| (run.start, term)));
    }
    out.sort_by_key(|(position, _)| *position);
    out
}

/// Neighbouring words written as one, with their positions. One list serves two ends: a product whose
/// name has the query's words side by side is worth more than one that has them somewhere, and
/// `firepit` finds `fire pit`.
pub(super) fn pairs(text: &str) -> Vec<(usize, String)> {
    let items = items(text);
    let pairs = items.windows(2).enumerate();
    pairs.filter_map(|(at, two)| Some((at, pair(two)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::{pairs, terms};

    fn shown(terms: Vec<(usize, String)>) -> String {
        let terms: Vec<String> = terms.into_iter().map(|(_, term)| term).collect();
        terms.join(" ")
    }

    #[test]
    fn what_is_indexed() {
        for (input, expected) in [
            ("", ""),
            ("the and of", ""),
            ("Dishwashers", "dishwasher ~dishwash"),
            ("18-Volt drill", "18 18v drill"),
            ("18v", "18 18v"),
            ("18 volts", "18 18v"),
            ("3/4 in. pipe", "0.75 0.75in pipe"),
            ("4.2 cu. ft.", "4.2 4.2cuft"),
            ("2x4", "2 2x4 4"),
            ("2 in. x 4 in. x 8 ft.", "2 2in 2x4 4 4in 4x8 8 8ft"),
            ("36 in. W x 72 in. H", "36 36in 36x72 72 72in h"),
            ("LP-123", "lp lp123 123"),
            ("lp123", "lp lp123 123"),
            ("x230a", "x x230a 230 230a"),
            ("Wi-Fi", "wi wifi fi"),
            ("black/white", "black white"),
            ("T-shirts", "t tshirt shirt"),
        ] {
            assert_eq!(shown(terms(input)), expected, "{input:?}");
        }
    }

    #[test]
    fn neighbours() {
        for (input, expected) in [
            ("lamp", ""),
            ("Fire Pits", "firepit"),
            ("box of nails", ""),
            ("18 volt drill kit", "18vdrill drillkit"),
        ] {
            assert_eq!(shown(pairs(input)), expected, "{input:?}");
        }
    }
}
