//! Single products from JSON: an object, an array of objects, or objects one after the other (JSON Lines).
//!
//! Stricter than an import: the caller says what one product is to be, so a key that means nothing is a fault and
//! not a column to be left out.

use super::parse_micros;
use crate::catalog::{Product, category_paths, check_id};
use crate::store::{ProductChange, ProductPatch};
use serde_json::{Map, Value};

/// Whether the objects are whole products or new values for some that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The product is to be exactly so.
    Put,
    /// What is said is to be so, the rest stays.
    Patch,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line the product begins on, or on which reading ended; from 1.
    pub line: usize,
    /// What, in words.
    pub why: String,
}

const KEYS: [&str; 8] =
    ["id", "name", "description", "category", "brand", "price", "created_at", "popularity"];

/// Every change in `text`, in its order; or everything that is wrong with it.
pub fn changes(text: &str, wanted: Wanted) -> Result<Vec<ProductChange>, Vec<Fault>> {
    let (mut changes, mut faults) = (Vec::new(), Vec::new());
    for (line, value) in values(text) {
        match value.map_err(|why| vec![why]).and_then(|value| change(&value, wanted)) {
            Ok(change) => changes.push(change),
            Err(whys) => faults.extend(whys.into_iter().map(|why| Fault { line, why })),
        }
    }
    if faults.is_empty() { Ok(changes) } else { Err(faults) }
}

/// The change that an object asks for; or everything that is wrong with it.
pub fn change(value: &Value, wanted: Wanted) -> Result<ProductChange, Vec<String>> {
    let Value::Object(object) = value else {
        return Err(vec!["a product is a JSON object".into()]);
    };
    let mut fields = Fields { object, faults: Vec::new() };
    fields.refuse_unknown();
    let patch = ProductPatch {
        id: fields.text("id").unwrap_or_default(),
        name: fields.text("name"),
        description: fields.text("description"),
        category: fields.category(),
        brand: fields.text("brand"),
        price: fields.amount("price"),
        created_at: fields.time("created_at"),
        popularity: fields.amount("popularity"),
    };
    let mut faults = fields.faults;
    if !faults.is_empty() {
        return Err(faults);
    }
    let there = match wanted {
        Wanted::Put => Product { id: patch.id.clone(), ..Product::default() },
        // Of what is there, only the name could be wrong, and it is not.
        Wanted::Patch => Product { id: patch.id.clone(), name: "-".into(), ..Product::default() },
    };
    let product = patch.clone().applied(there);
    faults.extend(check_id(&patch.id).and_then(|()| product.check()).err());
    match (faults.is_empty(), wanted) {
        (false, _) => Err(faults),
        (true, Wanted::Put) => Ok(ProductChange::Put(product)),
        (true, Wanted::Patch) => Ok(ProductChange::Patch(patch)),
    }
}

struct Fields<'o> {
    object: &'o Map<String, Value>,
    faults: Vec<String>,
}

impl Fields<'_> {
    fn refuse_unknown(&mut self) {
        for key in self.object.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            self.faults
                .push(format!("`{key}` is no field of a product; there are {}", KEYS.join(", ")));
        }
    }

    fn fault<T>(&mut self, name: &str, what: &str) -> Option<T> {
        self.faults.push(format!("`{name}` must be {what}"));
        None
    }

    /// Text without blanks around it; `null` is empty. Ids may be numbers.
    fn text(&mut self, name: &str) -> Option<String> {
        match self.object.get(name)? {
            Value::Null => Some(String::new()),
            Value::String(text) => Some(text.trim().to_owned()),
            Value::Number(number) if name == "id" && !number.is_f64() => Some(number.to_string()),
            _ => self.fault(name, "text"),
        }
    }

    /// A path as text, or its parts.
    fn category(&mut self) -> Option<String> {
        let Some(Value::Array(parts)) = self.object.get("category") else {
            return Some(category_paths(&self.text("category")?));
        };
        let parts: Option<Vec<&str>> = parts.iter().map(Value::as_str).collect();
        match parts {
            Some(parts) => Some(category_paths(&parts.join(" > "))),
            None => self.fault("category", "text, or a list of the parts of its path"),
        }
    }

    #[allow(clippy::option_option)] // not said, unknown from now on, or a number
    fn amount(&mut self, name: &str) -> Option<Option<f64>> {
        match self.object.get(name)? {
            Value::Null => Some(None),
            // `-0` is stored as 0.
            Value::Number(number) => Some(number.as_f64().map(|number| number + 0.0)),
            _ => self.fault(name, "a number, or null"),
        }
    }

    #[allow(clippy::option_option)] // as above
    fn time(&mut self, name: &str) -> Option<Option<i64>> {
        let text = match self.object.get(name)? {
            Value::Null => return Some(None),
            Value::Number(seconds) => seconds.to_string(),
            Value::String(text) => text.clone(),
            _ => String::new(),
        };
        match parse_micros(&text) {
            Some(micros) => Some(Some(micros.div_euclid(1_000_000))),
            None => self.fault(name, "a time like 2024-05-01T12:00:00Z, or seconds since 1970"),
        }
    }
}

/// Every value of `text` with the line it begins on. What cannot be read is told, and reading goes on with the next
/// line where that is possible.
fn values(text: &str) -> Vec<(usize, Result<Value, String>)> {
    let mut reading = Reading { text, at: 0, line: 1 };
    let mut found = Vec::new();
    reading.skip_blanks();
    let array = reading.skip("[");
    loop {
        reading.skip_blanks();
        if array && reading.skip("]") {
            reading.skip_blanks();
            if !reading.rest().is_empty() {
                found.push((reading.line, Err("something follows the end of the list".into())));
            }
            return found;
        }
        if reading.rest().is_empty() {
            if array {
                found.push((reading.line, Err("the list does not end: `]` is missing".into())));
            }
            return found;
        }
        let line = reading.line;
        match reading.value() {
            Ok(value) => found.push((line, Ok(value))),
            Err((line, why)) => {
                found.push((line, Err(why)));
                if array {
                    return found;
                }
                reading.skip_line();
            }
        }
        if array {
            reading.skip_blanks();
            if !reading.skip(",") && !reading.rest().starts_with(']') {
                found.push((reading.line, Err("`,` or `]` is missing after a product".into())));
                return found;
            }
        }
    }
}

struct Reading<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

impl<'t> Reading<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn go(&mut self, bytes: usize) {
        self.line += self.rest()[..bytes].matches('\n').count();
        self.at += bytes;
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        // Editors begin files with a byte order mark.
        let blanks = |c: char| c.is_whitespace() || c == '\u{feff}';
        self.go(rest.len() - rest.trim_start_matches(blanks).len());
    }

    fn skip(&mut self, sign: &str) -> bool {
        let is_there = self.rest().starts_with(sign);
        self.go(if is_there { sign.len() } else { 0 });
        is_there
    }

    fn skip_line(&mut self) {
        let rest = self.rest();
        self.go(rest.find('\n').map_or(rest.len(), |end| end + 1));
    }

    fn value(&mut self) -> Result<Value, (usize, String)> {
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter();
        match values.next() {
            Some(Ok(value)) => {
                self.go(values.byte_offset());
                Ok(value)
            }
            Some(Err(error)) => {
                let what = error.to_string();
                let what = what.split(" at line ").next().unwrap_or_default().to_owned();
                let line = self.line + error.line().saturating_sub(1);
                Err((line, format!("not JSON: {what} (column {})", error.column())))
            }
            None => Err((self.line, "not JSON".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, wanted: Wanted) -> Vec<String> {
        let faults = changes(text, wanted).unwrap_err();
        faults.into_iter().map(|fault| format!("{}: {}", fault.line, fault.why)).collect()
    }

    #[test]
    fn objects_arrays_and_lines_are_read() {
        let lamp = r#"{"id": 7, "name": " Lamp ", "category": ["Home", "Lamps"], "price": 3,
            "created_at": "1970-01-01T00:01:00Z"}"#;
        let product = Product {
            id: "7".into(),
            name: "Lamp".into(),
            category: "Home > Lamps".into(),
            price: Some(3.0),
            created_at: Some(60),
            ..Product::default()
        };
        for (text, count) in [
            (lamp.to_owned(), 1),
            (format!("[{lamp},\n {lamp}]\n"), 2),
            (format!("\u{feff}{lamp}\n{lamp}\n\n{lamp}"), 3),
            ("[]".into(), 0),
            (String::new(), 0),
        ] {
            let expected = vec![ProductChange::Put(product.clone()); count];
            assert_eq!(changes(&text, Wanted::Put), Ok(expected), "{text}");
        }
        let patch = ProductPatch {
            id: "a".into(),
            brand: Some(String::new()),
            price: Some(None),
            ..ProductPatch::default()
        };
        let read = changes(r#"{"id":"a","brand":null,"price":null}"#, Wanted::Patch);
        assert_eq!(read, Ok(vec![ProductChange::Patch(patch)]));
    }

    #[test]
    fn everything_wrong_is_told_with_its_line() {
        let text = "{\"id\":\"a\"}\n{\"id\":\"b\",\"name\":\"B\"}\n{nonsense\n\
            {\"id\":\"c\",\"name\":\"C\",\"price\":-1}\n7\n{\"id\":\"d\",\"nam\":\"D\",\"price\":\"1\"}";
        let told = lines(text, Wanted::Put);
        let expected = [
            "1: product \"a\" has no name",
            "3: not JSON",
            "4: `price` must be a number from 0",
            "5: a product is a JSON object",
            "6: `nam` is no field",
            "6: `price` must be a number, or null",
        ];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told}");
        }
        let check = |text: &str, wanted, expected: &str| {
            let told = lines(text, wanted);
            assert!(told.last().unwrap().starts_with(expected), "{told:?}");
        };
        check("[{\"id\":\"a\",\"name\":\"A\"}\n", Wanted::Put, "2: `,` or `]` is missing");
        check("[\n{\"id\":\"a\",\"name\":\"A\"},", Wanted::Put, "2: the list does not end");
        check("[] {}", Wanted::Put, "1: something follows");
        check("{\"name\":\"A\"}", Wanted::Patch, "1: `id` is empty");
        check("{\"id\":\"a\",\"name\":\"\"}", Wanted::Patch, "1: product \"a\" has no name");
        check(
            "{\"id\":\"a\",\"created_at\":\"soon\"}",
            Wanted::Patch,
            "1: `created_at` must be a time",
        );
    }
}
