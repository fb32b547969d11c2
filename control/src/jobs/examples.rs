//! `penstock-control examples`: five requests worth trying on this very catalogue.

use super::Common;
use penstock_engine::catalog::Product;
use penstock_engine::store::{Bulk, StoreError};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;

/// Prints five curl commands with products and users of this catalogue
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where the proxy listens
    #[arg(long, env = "PENSTOCK_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    address: String,
}

/// Runs the command.
pub fn run(common: &Common, options: &Options) -> anyhow::Result<()> {
    let text = match pick(&*common.store()?)? {
        Some(picked) => commands(&options.address, &picked).join("\n"),
        None => "The catalogue is empty; penstock-control import fills it.".to_owned(),
    };
    // Not println: it panics when whoever reads has seen enough.
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// What the examples ask about.
#[derive(Debug)]
struct Picked {
    product: Product,
    user_id: String,
}

/// The product and the user with the most events; without events a product with many fields.
fn pick(store: &dyn Bulk) -> Result<Option<Picked>, StoreError> {
    let mut products: HashMap<String, u32> = HashMap::new();
    let mut users: HashMap<String, u32> = HashMap::new();
    store.scan_events(&mut |user, event| {
        *users.entry(user.to_owned()).or_default() += 1;
        *products.entry(event.product_id).or_default() += 1;
    })?;
    let mut best: Option<((u32, bool), Product)> = None;
    store.scan_products(&mut |stored| {
        let product = stored.product;
        let events = products.get(&product.id).copied().unwrap_or(0);
        let worth = (events, !product.brand.is_empty() && product.price.is_some());
        if best.as_ref().is_none_or(|(other, _)| worth > *other) {
            best = Some((worth, product));
        }
    })?;
    // Ties go to the lesser id, so that the same catalogue has the same examples.
    let user_id = users
        .into_iter()
        .max_by(|(a, m), (b, n)| m.cmp(n).then_with(|| b.cmp(a)))
        .map_or_else(|| "somebody-new".to_owned(), |(user, _)| user);
    Ok(best.map(|(_, product)| Picked { product, user_id }))
}

fn commands(address: &str, picked: &Picked) -> [String; 5] {
    let Picked { product, user_id } = picked;
    let (query, id) = (encode(&query(&product.name)), encode(&product.id));
    let user = encode(user_id);
    let event = serde_json::json!([
        { "user_id": user_id, "product_id": product.id, "event_type": "view" }
    ]);
    let event = event.to_string().replace('\'', "'\\''");
    [
        format!("curl 'http://{address}/search?q={query}&k=5&fields=name,price'"),
        format!("curl 'http://{address}/recommend/{user}?k=5&fields=name'"),
        format!("curl 'http://{address}/similar/{id}?k=5&fields=name'"),
        format!("curl 'http://{address}/search/explain?q={query}&product_id={id}'"),
        format!("curl -H 'content-type: application/json' -d '{event}' 'http://{address}/events'"),
    ]
}

/// The last words of a name: in most catalogues those say what it is, the first whose it is.
fn query(name: &str) -> String {
    let words = name
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().count() > 2 && word.chars().all(char::is_alphabetic));
    let words: Vec<String> = words.map(str::to_lowercase).collect();
    if words.is_empty() {
        name.trim().to_owned()
    } else {
        words[words.len().saturating_sub(2)..].join(" ")
    }
}

/// Percent-encoding that suits a path segment and a query value alike; safe in single quotes.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_queries() {
        let check = |name: &str, expected: &str| assert_eq!(query(name), expected, "{name}");
        check("WHITE HANGING HEART T-LIGHT HOLDER", "light holder");
        check("Oak table, 120 cm", "oak table");
        check("Lamp", "lamp");
        check("A4", "A4");
        check("Größe: älter", "größe älter");
        check("", "");
    }

    /// Whatever a shop's ids hold, the line means the same to a shell as to us.
    #[test]
    fn commands_survive_a_shell() {
        for id in ["85123A", "it's; rm -rf /", "a/b?c#d", "名前", "$(x)`y`\\"] {
            let picked = Picked {
                product: Product { id: id.into(), name: "Red lamp".into(), ..Product::default() },
                user_id: id.into(),
            };
            for command in commands("127.0.0.1:8080", &picked) {
                let script = format!("curl() {{ printf '%s\\n' \"$@\"; }}; {command}");
                let output =
                    std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
                assert!(output.status.success(), "{command}");
                let said = String::from_utf8(output.stdout).unwrap();
                let url = said.lines().find(|line| line.starts_with("http://"));
                assert!(url.is_some_and(|url| !url.contains([' ', '\''])), "{said}");
                if command.contains("/events") {
                    let body = said.lines().find(|line| line.starts_with('[')).unwrap();
                    let body: serde_json::Value = serde_json::from_str(body).unwrap();
                    assert_eq!(body[0]["product_id"], id);
                }
            }
        }
    }
}
