//! One value of a file, as the type a setting has.

use super::suggest::{closest, printable};
use crate::units::{format_bytes, format_duration, parse_bytes, parse_duration};
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::de::{DeInteger, DeValue};

/// The value; or what is wrong, a clause, and what to write instead.
pub(crate) type Read<T> = Result<T, (String, Option<String>)>;

pub(super) fn number(value: &DeValue<'_>, range: &RangeInclusive<f64>) -> Read<f64> {
    let number = number_of(value).ok_or_else(|| {
        let text = value.as_str();
        let unquoted = text.and_then(|text| text.trim().parse::<f64>().ok());
        (
            format!("expected a number, found {}", article(value)),
            unquoted.map(|number| format!("write {number} without quotes")),
        )
    })?;
    if !number.is_finite() {
        return Err((format!("must be finite, found {number}"), None));
    }
    in_range(&number, range, |number| short(*number)).map(|()| number)
}

pub(super) fn count(value: &DeValue<'_>, range: &RangeInclusive<usize>) -> Read<usize> {
    let integer = value.as_integer().ok_or_else(|| {
        let message = format!("expected a whole number, found {}", article(value));
        (message, None)
    })?;
    // Wider than 128 bits is out of every range of ours, on the side its sign says.
    let widest = if integer.as_str().starts_with('-') { i128::MIN } else { i128::MAX };
    let number = i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(widest);
    let bounds = *range.start() as i128..=*range.end() as i128;
    in_range(&number, &bounds, ToString::to_string)?;
    Ok(usize::try_from(number).unwrap_or(*range.end()))
}

/// `usual` is the unit to advise when there is none.
pub(super) fn duration(
    value: &DeValue<'_>,
    range: &RangeInclusive<Duration>,
    usual: &str,
) -> Read<Duration> {
    let Some(text) = value.as_str() else {
        let Some(number) = number_of(value) else {
            let message = format!("expected a duration, found {}", article(value));
            return Err((message, None));
        };
        let advice = format!("write \"{number}{usual}\"");
        return Err(("a duration needs its unit".into(), Some(advice)));
    };
    let duration = parse_duration(text).map_err(|(message, hint)| {
        let bare = text.trim().parse::<u64>().ok();
        let advice = bare.map(|number| format!("write \"{number}{usual}\""));
        (message, hint.or(advice))
    })?;
    in_range(&duration, range, |duration| format_duration(*duration)).map(|()| duration)
}

pub(super) fn bytes(value: &DeValue<'_>, range: &RangeInclusive<u64>) -> Read<u64> {
    let Some(text) = value.as_str() else {
        if let Some(number) = number_of(value) {
            let advice = format!("write \"{number}MiB\"");
            return Err(("a size needs its unit".into(), Some(advice)));
        }
        return Err((format!("expected a size, found {}", article(value)), None));
    };
    let bytes = parse_bytes(text)?;
    in_range(&bytes, range, |bytes| format_bytes(*bytes)).map(|()| bytes)
}

pub(super) fn flag(value: &DeValue<'_>) -> Read<bool> {
    value.as_bool().ok_or_else(|| {
        let word = value.as_str().map(|text| text.trim().to_lowercase());
        let meant = match word.as_deref() {
            Some("true" | "yes" | "on") => Some("true"),
            Some("false" | "no" | "off") => Some("false"),
            _ => None,
        };
        (
            format!("expected true or false, found {}", article(value)),
            meant.map(|word| format!("write {word} without quotes")),
        )
    })
}

pub(super) fn choice<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Read<T> {
    let text = value.as_str().ok_or_else(|| {
        let message = format!("expected a word, found {}", article(value));
        (message, None)
    })?;
    if let Some((_, chosen)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*chosen);
    }
    let words = choices.iter().map(|(word, _)| *word);
    let all: Vec<_> = words.clone().map(|word| format!("\"{word}\"")).collect();
    let message = format!("\"{}\" is not one of {}", printable(text), all.join(", "));
    let near = closest(text, words).map(|word| format!("did you mean \"{word}\"?"));
    Err((message, near))
}

fn short(number: f64) -> String {
    if number.abs() < 1e15 { number.to_string() } else { format!("{number:e}") }
}

pub(super) fn plain_digits(integer: &DeInteger<'_>) -> String {
    i128::from_str_radix(integer.as_str(), integer.radix())
        .map_or_else(|_| integer.to_string(), |number| number.to_string())
}

fn number_of(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(float) => float.as_str().parse().ok(),
        DeValue::Integer(integer) => {
            i128::from_str_radix(integer.as_str(), integer.radix()).map(|number| number as f64).ok()
        }
        _ => None,
    }
}

fn in_range<T: PartialOrd>(
    value: &T,
    range: &RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Read<()> {
    if value < range.start() {
        let message = format!("must be at least {}, found {}", show(range.start()), show(value));
        return Err((message, None));
    }
    if value > range.end() {
        let message = format!("must be at most {}, found {}", show(range.end()), show(value));
        return Err((message, None));
    }
    Ok(())
}

pub(super) fn article(value: &DeValue<'_>) -> String {
    match value.type_str() {
        kind @ ("integer" | "array") => format!("an {kind}"),
        kind => format!("a {kind}"),
    }
}
