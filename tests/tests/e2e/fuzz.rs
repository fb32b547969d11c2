//! Thousands of random requests from a seed: no 5xx, no panic, the process lives.

use penstock_tests::{Penstock, Raw};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::time::Duration;

const SEED: u64 = 0x70_65_6e_73_74_6f_63_6b;
const CLIENTS: u64 = 8;
const REQUESTS_PER_CLIENT: usize = 400;

const METHODS: [&str; 9] = ["GET", "GET", "GET", "POST", "HEAD", "PUT", "OPTIONS", "TRACE", "get"];
const PATHS: [&str; 16] = [
    "/search",
    "/search/explain",
    "/recommend/u1",
    "/recommend/",
    "/similar/1",
    "/similar/",
    "/popular",
    "/products/1",
    "/products/",
    "/events",
    "/health",
    "/",
    "//",
    "/../search",
    "/search/",
    "*",
];
const KEYS: [&str; 12] = [
    "q",
    "k",
    "user_id",
    "category",
    "brand",
    "min_price",
    "max_price",
    "fields",
    "product_id",
    "",
    "Q",
    "q[]",
];
const VALUES: [&str; 20] = [
    "mug",
    "red+mug",
    "10",
    "0",
    "-1",
    "1e9",
    "NaN",
    "inf",
    "%ff",
    "%zz",
    "%",
    "%00",
    "%E2%98%95",
    "name,price",
    "\"",
    "name:*",
    "' OR 1=1",
    "true",
    "99999999999999999999",
    "%2e%2e%2f",
];
const HEADERS: [&str; 14] = [
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Expect",
    "Upgrade",
    "Content-Type",
    "traceparent",
    "X-Forwarded-For",
    "Forwarded",
    "Range",
    "If-None-Match",
    "Accept-Encoding",
    "X-API-Key",
];
const HEADER_VALUES: [&str; 16] = [
    "",
    "s",
    "0",
    "5",
    "-1",
    "chunked",
    "chunked, chunked",
    "close",
    "keep-alive",
    "100-continue",
    "application/json",
    "00-0-0-00",
    "1.2.3.4, ::1, _hidden",
    "for=\"[::1]:80\";by=",
    "bytes=0-0",
    "\u{1F375}",
];
const BODIES: [&str; 8] = [
    "",
    "{}",
    "[]",
    "[{}]",
    "{\"user_id\":\"u\",\"product_id\":\"p\",\"event_type\":\"view\"}",
    "5\r\nhello\r\n0\r\n\r\n",
    "0\r\n\r\nGET /health HTTP/1.1\r\n\r\n",
    "ffffffffffffffff\r\n",
];

fn pick<'a>(random: &mut ChaCha8Rng, from: &[&'a str]) -> &'a str {
    from.choose(random).copied().unwrap_or_default()
}

/// A request that is almost right, then, in a third of the cases, damaged.
fn request(random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut text = format!("{} {}", pick(random, &METHODS), pick(random, &PATHS));
    for n in 0..random.random_range(0..5) {
        text.push(if n == 0 { '?' } else { '&' });
        text += pick(random, &KEYS);
        text.push('=');
        text += &pick(random, &VALUES).replace(' ', "+");
    }
    text += pick(random, &[" HTTP/1.1\r\n", " HTTP/1.1\r\n", " HTTP/1.1\r\n", " HTTP/1.0\r\n"]);
    if random.random_bool(0.9) {
        text += "Host: s\r\n";
    }
    let body = pick(random, &BODIES);
    match random.random_range(0..4) {
        0 => text += &format!("Content-Length: {}\r\n", body.len()),
        1 if !body.is_empty() => {
            text +=
                &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        _ => {}
    }
    for _ in 0..random.random_range(0..3) {
        let (name, value) = (pick(random, &HEADERS), pick(random, &HEADER_VALUES));
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    text += body;
    let mut bytes = text.into_bytes();
    if random.random_bool(0.33) {
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..bytes.len().max(1));
            bytes.resize(bytes.len().max(1), 0);
            match random.random_range(0..4) {
                0 => bytes[at] = random.random(),
                1 => bytes.insert(at, random.random()),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_are_never_a_500() {
    let penstock = Arc::new(Penstock::demo().await);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let penstock = Arc::clone(&penstock);
        clients.spawn(async move {
            let mut random = ChaCha8Rng::seed_from_u64(SEED + client);
            let mut answered = 0;
            for number in 0..REQUESTS_PER_CLIENT {
                let bytes = request(&mut random);
                let mut connection = Raw::connect(penstock.address).await;
                connection.send(&bytes).await.finish().await;
                let (replies, _) = connection.replies(Duration::from_millis(300)).await;
                answered += usize::from(!replies.is_empty());
                for reply in replies {
                    assert!(
                        reply.status < 500,
                        "client {client}, request {number}: {} {}\n{}",
                        reply.status,
                        reply.text(),
                        String::from_utf8_lossy(&bytes)
                    );
                }
            }
            answered
        });
    }
    let answered: usize = clients.join_all().await.into_iter().sum();
    println!("{answered} of {} got an answer", CLIENTS as usize * REQUESTS_PER_CLIENT);
    assert!(answered > CLIENTS as usize * REQUESTS_PER_CLIENT / 4);
    penstock.items("/popular").await;
    penstock.ops("/readyz").await.expect(200);
    assert!(!penstock.logs().contains("panicked"));
}
