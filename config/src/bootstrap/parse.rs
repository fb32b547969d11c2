//! Readers of single settings: text in, value or a sentence out.

use super::ProxyProtocol;
use crate::read::{Read, closest, printable};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

pub(super) fn address(text: &str) -> Read<SocketAddr> {
    text.parse().map_err(|_| {
        let hint = if text.parse::<u16>().is_ok() {
            format!("write \"127.0.0.1:{text}\", or \"0.0.0.0:{text}\" for all interfaces")
        } else if text.parse::<IpAddr>().is_ok() {
            "add a port".to_owned()
        } else if let Some(port) = text.strip_prefix(':') {
            format!("write \"0.0.0.0:{port}\" for all interfaces")
        } else if let Some(port) = text.strip_prefix("localhost:") {
            format!("write \"127.0.0.1:{port}\"")
        } else {
            "write an IP address and a port, as in \"127.0.0.1:8080\" or \"[::1]:8080\"".to_owned()
        };
        let message = format!("\"{}\" is not an address to listen on", printable(text));
        (message, Some(hint))
    })
}

pub(super) fn path(text: &str) -> Read<PathBuf> {
    if text.trim().is_empty() {
        return Err(("the path is empty".into(), None));
    }
    if text.contains('\0') {
        return Err(("a path has no zero bytes".into(), None));
    }
    Ok(PathBuf::from(text))
}

/// A network, or an address as the network of it alone.
pub(super) fn network(text: &str) -> Read<IpNet> {
    crate::network::parse(text)
}

pub(super) fn proxy_protocol(text: &str) -> Read<ProxyProtocol> {
    word(text, &[("off", ProxyProtocol::Off), ("required", ProxyProtocol::Required)])
}

/// One of a few words.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Read<T> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let message = format!("\"{}\" is not one of {}", printable(text), known.join(", "));
    let meant = closest(text, words.iter().map(|(word, _)| *word));
    Err((message, meant.map(|word| format!("did you mean \"{word}\"?"))))
}

pub(super) fn whole_number(text: &str) -> Read<u64> {
    text.parse().map_err(|_| {
        let message = format!("\"{}\" is not a whole number of at least 0", printable(text));
        (message, None)
    })
}

pub(super) fn within(number: u64, range: &RangeInclusive<u64>) -> Read<u64> {
    if range.contains(&number) {
        return Ok(number);
    }
    let (least, most) = (range.start(), range.end());
    Err((format!("must be from {least} to {most}, found {number}"), None))
}

/// The path of a health check; empty: none.
pub(super) fn url_path(text: &str) -> Read<Option<String>> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.starts_with('/') {
        let hint = format!("write \"/{}\"", printable(text));
        return Err(("a path starts with /".into(), Some(hint)));
    }
    if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Ok(Some(text.to_owned()));
    }
    let message = "a path has no spaces, no # and only ASCII characters";
    Err((message.into(), Some("percent-encode the others".into())))
}

/// A level, or directives as the tracing crate reads them. A word near to a level is a mistyped
/// level; any other word may be the name of a module.
pub(super) fn log_filter(text: &str) -> Read<String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    for directive in text.split(',') {
        let level = directive.rsplit('=').next().unwrap_or_default().trim();
        let is_level = LEVELS.contains(&level.to_lowercase().as_str());
        let meant = closest(level, LEVELS).filter(|_| !is_level);
        if let Some(near) = meant {
            let message = format!("\"{}\" is not a level", printable(level));
            return Err((message, Some(format!("did you mean \"{near}\"?"))));
        }
        if directive.contains('=') && !is_level {
            let message = format!("\"{}\" is not a level", printable(level));
            let hint = format!("one of {}", LEVELS.join(", "));
            return Err((message, Some(hint)));
        }
    }
    Ok(text.to_owned())
}

pub(super) fn file_name(text: &str) -> Read<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=100).contains(&text.len()) && !text.starts_with('.') && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    let message = format!("\"{}\" cannot be part of a file name", printable(text));
    let hint = "write 1 to 100 letters, digits, dots, dashes or underscores, no dot first";
    Err((message, Some(hint.into())))
}

/// The machine's name, or `penstock`.
pub(super) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .and_then(|name| file_name(name.trim()).ok())
        .unwrap_or_else(|| "penstock".into())
}
