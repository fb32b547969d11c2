//! Durations as people write them (`14d`, `250ms`) and times as machines log them (RFC 3339).

use std::fmt::Write;
use std::time::Duration;

/// Units of a duration, largest first, with their length in microseconds.
const UNITS: [(&str, u64); 7] = [
    ("w", 7 * 86_400_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Reads `14d`, `250ms` or `1h30m`: whole numbers, each with its unit (w d h m s ms us).
/// The error is a clause for a person; the second part is what they may have meant.
pub fn parse_duration(text: &str) -> Result<Duration, (String, Option<String>)> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(("a duration is a number with its unit".into(), None));
    }
    let mut micros: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_alphabetic()).len();
        let (unit, next) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| malformed(text))?;
        let length = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, length)| *length)
            .ok_or_else(|| unknown_unit(number, unit, next, text))?;
        micros = number
            .checked_mul(length)
            .and_then(|part| micros.checked_add(part))
            .ok_or_else(|| ("this duration is too long to count".to_owned(), None))?;
        rest = next;
    }
    Ok(Duration::from_micros(micros))
}

fn malformed(text: &str) -> (String, Option<String>) {
    let decimal = text
        .trim()
        .trim_end_matches(|c: char| c.is_alphabetic())
        .parse::<f64>()
        .is_ok_and(|n| n.is_finite() && n >= 0.0);
    let hint = if decimal {
        "write whole numbers with a smaller unit, such as \"1500ms\" for 1.5 seconds"
    } else {
        "write it as \"250ms\", \"30s\", \"12h\" or \"14d\""
    };
    ("a duration is a whole number with its unit".into(), Some(hint.into()))
}

fn unknown_unit(number: u64, unit: &str, rest: &str, text: &str) -> (String, Option<String>) {
    if unit.is_empty() && !rest.is_empty() {
        return malformed(text);
    }
    if unit.is_empty() {
        return ("a duration needs its unit: w, d, h, m, s, ms or us".into(), None);
    }
    let meant = match unit.to_lowercase().as_str() {
        "week" | "weeks" => Some("w"),
        "day" | "days" => Some("d"),
        "hour" | "hours" | "hr" | "hrs" => Some("h"),
        "min" | "mins" | "minute" | "minutes" => Some("m"),
        "sec" | "secs" | "second" | "seconds" => Some("s"),
        "msec" | "millis" | "millisecond" | "milliseconds" => Some("ms"),
        "usec" | "micros" | "microsecond" | "microseconds" | "µs" => Some("us"),
        lower => UNITS.iter().map(|(name, _)| *name).find(|name| *name == lower),
    };
    (
        "the unit of a duration is one of w, d, h, m, s, ms, us".into(),
        meant.map(|unit| format!("did you mean \"{number}{unit}\"?")),
    )
}

/// The last unit of a duration's text, or an empty string.
pub(crate) fn unit_of(text: &str) -> &str {
    text.trim().trim_start_matches(|c: char| c.is_ascii_digit())
}

/// The shortest text [`parse_duration`] reads back to the same duration (to the microsecond).
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    // Weeks are read but not written: "60d" is plainer than "8w4d".
    for (unit, length) in &UNITS[1..] {
        if rest >= *length {
            let _ = write!(text, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    text
}

/// Units of a size, largest first, with their bytes.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `64MiB`: a whole number with its unit (B KiB MiB GiB). The error is a clause for a person; the second
/// part is what they may have meant.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, (String, Option<String>)> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let Ok(number) = number.parse::<u64>() else {
        let hint = "write it as \"512KiB\", \"64MiB\" or \"2GiB\"";
        return Err(("a size is a whole number with its unit".into(), Some(hint.into())));
    };
    let unit = unit.trim();
    if let Some((_, bytes)) = SIZES.iter().find(|(name, _)| *name == unit) {
        return number
            .checked_mul(*bytes)
            .ok_or_else(|| ("this size is too large to count".to_owned(), None));
    }
    let meant = match unit.to_lowercase().as_str() {
        "" | "m" | "mb" | "mib" => "MiB",
        "k" | "kb" | "kib" => "KiB",
        "g" | "gb" | "gib" => "GiB",
        "b" | "byte" | "bytes" => "B",
        _ => return Err(("the unit of a size is one of B, KiB, MiB, GiB".into(), None)),
    };
    let hint = format!("did you mean \"{number}{meant}\"?");
    Err(("the unit of a size is one of B, KiB, MiB, GiB".into(), Some(hint)))
}

/// In the largest unit that says it in a whole number.
pub(crate) fn format_bytes(bytes: u64) -> String {
    let whole = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    let (name, unit) = SIZES.iter().find(whole).unwrap_or(&SIZES[3]);
    format!("{}{name}", bytes / unit)
}

/// Microseconds since 1970 as RFC 3339 in UTC, to the millisecond: `2026-02-03T04:05:06.789Z`.
pub fn rfc3339(unix_micros: i64) -> String {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
    );
    time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_micros) * 1_000)
        .ok()
        .and_then(|when| when.format(FORMAT).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00.000Z".into())
}

/// Seconds since 1970 as RFC 3339 in UTC: `2026-02-03T04:05:06Z`.
pub fn rfc3339_seconds(unix: i64) -> String {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] =
        time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    time::OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|when| when.format(FORMAT).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".into())
}

/// Reads an RFC 3339 time with its offset as seconds since 1970, fractions cut off. The error is a
/// clause for a person and what to write.
pub fn parse_rfc3339(text: &str) -> Result<i64, (String, Option<String>)> {
    use time::format_description::well_known::Rfc3339;
    let read = time::OffsetDateTime::parse(text.trim(), &Rfc3339);
    read.map(time::OffsetDateTime::unix_timestamp).map_err(|_| {
        let hint = "write it as \"2027-01-31T00:00:00Z\", with the offset".to_owned();
        ("this is not a time of RFC 3339".to_owned(), Some(hint))
    })
}

/// RFC 3339 in files, seconds since 1970 in the program.
pub(crate) mod unix_seconds {
    use super::{parse_rfc3339, rfc3339_seconds};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::borrow::Cow;

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    pub(crate) fn serialize<S: Serializer>(unix: &i64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&rfc3339_seconds(*unix))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        parse_rfc3339(&text).map_err(|(what, _)| D::Error::custom(what))
    }

    /// The same for what may be absent; absent fields need `#[serde(default)]` beside it.
    pub(crate) mod option {
        use super::{Cow, Deserialize, Deserializer, Error, Serializer, parse_rfc3339};

        #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
        pub(crate) fn serialize<S: Serializer>(
            unix: &Option<i64>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match unix {
                Some(unix) => super::serialize(unix, to),
                None => to.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D>(from: D) -> Result<Option<i64>, D::Error>
        where
            D: Deserializer<'de>,
        {
            let text = Option::<Cow<str>>::deserialize(from)?;
            let read = text.map(|text| parse_rfc3339(&text)).transpose();
            read.map_err(|(what, _)| D::Error::custom(what))
        }
    }
}

/// Until when something lasts: `30d` from `now` on (seconds since 1970), or a time of RFC 3339, which must
/// be to come. The error is a clause.
pub fn until(text: &str, now: i64) -> Result<i64, &'static str> {
    /// Beyond it no file can say when.
    const LATEST: i64 = 253_402_300_799;
    let moment = match (parse_duration(text), parse_rfc3339(text)) {
        (Ok(duration), _) => {
            now.saturating_add(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
        }
        (_, Ok(moment)) => moment,
        _ => return Err("write how long (\"30d\") or until when (\"2027-01-31T00:00:00Z\")"),
    };
    if moment <= now || moment > LATEST {
        return Err("the time must be to come, before the year 10000");
    }
    Ok(moment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        let check = |text: &str, expected: Result<u64, &str>| match (parse_duration(text), expected)
        {
            (Ok(found), Ok(millis)) => assert_eq!(found, Duration::from_millis(millis), "{text}"),
            (Err((message, hint)), Err(part)) => {
                let whole = format!("{message}; {}", hint.unwrap_or_default());
                assert!(whole.contains(part), "{text}: {whole}");
            }
            (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
        };
        check("250ms", Ok(250));
        check("30s", Ok(30_000));
        check(" 14d ", Ok(14 * 86_400_000));
        check("1h30m", Ok(5_400_000));
        check("2w", Ok(14 * 86_400_000));
        check("0s", Ok(0));
        check("", Err("number with its unit"));
        check("14", Err("needs its unit"));
        check("14days", Err("did you mean \"14d\"?"));
        check("5 min", Err("write it as"));
        check("14D", Err("did you mean \"14d\"?"));
        check("1.5s", Err("1500ms"));
        check("-3s", Err("whole number"));
        check("soon", Err("write it as"));
        check("99999999999999999w", Err("too long"));
        check("999999999999999999999999s", Err("whole number"));
        check("5fortnights", Err("one of w, d, h"));
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        let check = |text: &str, expected: Result<u64, &str>| match (parse_bytes(text), expected) {
            (Ok(found), Ok(bytes)) => {
                assert_eq!(found, bytes, "{text}");
                assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes), "{text}");
            }
            (Err((message, hint)), Err(part)) => {
                let whole = format!("{message}; {}", hint.unwrap_or_default());
                assert!(whole.contains(part), "{text}: {whole}");
            }
            (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
        };
        check("64MiB", Ok(64 << 20));
        check(" 2 GiB ", Ok(2 << 30));
        check("1536KiB", Ok(1_536 << 10));
        check("0B", Ok(0));
        check("64", Err("did you mean \"64MiB\"?"));
        check("64mb", Err("did you mean \"64MiB\"?"));
        check("3kb", Err("did you mean \"3KiB\"?"));
        check("3TiB", Err("one of B, KiB, MiB, GiB"));
        check("1.5GiB", Err("one of B, KiB, MiB, GiB"));
        check("-1MiB", Err("whole number"));
        check("99999999999999999999GiB", Err("whole number"));
        check("99999999999999GiB", Err("too large"));
        assert_eq!(format_bytes(10 << 10), "10KiB");
        assert_eq!(format_bytes(1_500), "1500B");
    }

    #[test]
    fn times_are_rfc3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_770_091_506_789_123), "2026-02-03T04:05:06.789Z");
        assert_eq!(rfc3339(i64::MAX), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn times_are_read_with_their_offset() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(parse_rfc3339(text).ok(), expected, "{text}");
        };
        check("1970-01-01T00:00:00Z", Some(0));
        check("2026-02-03T05:05:06.789+01:00", Some(1_770_091_506));
        check("2026-02-03T04:05:06", None);
        check("2026-02-03", None);
        check("tomorrow", None);
        assert_eq!(rfc3339_seconds(1_770_091_506), "2026-02-03T04:05:06Z");
        assert_eq!(rfc3339_seconds(i64::MAX), "1970-01-01T00:00:00Z");
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(micros in 0..u64::MAX / 2) {
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = parse_duration(&text);
        }
    }
}
