//! Points in time as files write them.

use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime};

const SECOND: i64 = 1_000_000;

/// Microseconds since 1970, UTC, from RFC 3339 (`2024-05-01T12:00:00Z`; a blank for the `T`, no
/// seconds and no zone, which then is UTC, are understood), a date (`2024-05-01`, `20240501`), or a
/// Unix time in seconds (with or without a fraction), milli-, micro- or nanoseconds, told apart by
/// size: a number of seconds has at most eleven digits. `None` when it is none of them.
pub fn parse_micros(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() {
        return None;
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return compact_date(text).or_else(|| unix(text.parse().ok()?));
    }
    if digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let seconds: f64 = text.parse().ok()?;
        return (seconds.abs() < 1e11).then(|| (seconds * SECOND as f64).round() as i64);
    }
    date_time(text)
}

fn unix(number: i64) -> Option<i64> {
    match number.unsigned_abs() {
        0..100_000_000_000 => number.checked_mul(SECOND),
        100_000_000_000..100_000_000_000_000 => number.checked_mul(1000),
        100_000_000_000_000..100_000_000_000_000_000 => Some(number),
        _ => Some(number / 1000),
    }
}

/// Eight digits are a date when they can be: as seconds they would all lie in 1970.
fn compact_date(text: &str) -> Option<i64> {
    if text.len() != 8 {
        return None;
    }
    let (year, month, day) = (&text[..4], &text[4..6], &text[6..]);
    let year = year.parse().ok().filter(|y| (1800..=2200).contains(y))?;
    midnight(year, month.parse().ok()?, day.parse().ok()?)
}

fn midnight(year: i32, month: u8, day: u8) -> Option<i64> {
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    Some(date.midnight().assume_utc().unix_timestamp() * SECOND)
}

fn date_time(text: &str) -> Option<i64> {
    if !text.is_ascii() || text.len() < 10 {
        return None;
    }
    let (date, rest) = text.split_at(10);
    if rest.is_empty() {
        let mut parts = date.splitn(3, '-');
        let mut next = || parts.next()?.parse::<u16>().ok();
        let (year, month, day) = (next()?, next()?, next()?);
        return midnight(year.into(), month.try_into().ok()?, day.try_into().ok()?);
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let zone = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone);
    let clock = clock.trim_end();
    let seconds = if clock.len() == 5 { ":00" } else { "" };
    let zone = if zone.is_empty() { "Z" } else { zone };
    let full = format!("{date}T{clock}{seconds}{zone}");
    let when = OffsetDateTime::parse(&full, &Rfc3339).ok()?;
    i64::try_from(when.unix_timestamp_nanos() / 1000).ok()
}
