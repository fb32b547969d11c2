//! The same rows in every format, plain and gzipped.

use super::parquet_file::{Column, parquet};
use super::*;

/// Two products: `(id, name, category, price)`.
fn expected() -> Vec<Product> {
    let product = |id: &str, name: &str, category: &str, price| Product {
        id: id.into(),
        name: name.into(),
        category: category.into(),
        price,
        ..Product::default()
    };
    vec![
        product("1", "Sofa, \"large\"", "Home > Sofas", Some(19.99)),
        product("2", "Ürn", "", None),
    ]
}

const CSV: &str = "price,colour,Name,id,category\r\n\
                   19.99,red,\"Sofa, \"\"large\"\"\",1,Home > Sofas\r\n\
                   ,,Ürn,2,\r\n";
const JSON: &str = r#"{"id": 1, "name": "Sofa, \"large\"", "category": ["Home", "Sofas"], "price": 19.99, "colour": {"a": 1}}

{"price": null, "name": "Ürn", "id": "2"}
"#;

fn columnar() -> Vec<u8> {
    parquet(
        "message shop {
            optional double price;
            required binary colour (UTF8);
            optional binary name (UTF8);
            required int64 id;
            optional binary category (UTF8);
        }",
        &[
            Column::Double(&[Some(19.99), None]),
            Column::Bytes(&[b"red", b""]),
            Column::Text(&[Some("Sofa, \"large\""), Some("Ürn")]),
            Column::Long(&[1, 2]),
            Column::Text(&[Some("Home > Sofas"), None]),
        ],
    )
}

#[test]
fn every_format_gives_the_same_products() {
    let check = |name: &str, bytes: &[u8]| {
        let shop = Shop::new();
        let summary = shop.import(name, bytes).unwrap();
        assert_eq!(shop.products(), expected(), "{name}");
        assert_eq!(summary.files[0].ignored, ["colour"], "{name}");
    };
    let bom = |text: &str| [b"\xef\xbb\xbf", text.as_bytes()].concat();
    let columnar = columnar();
    check("p.csv", CSV.as_bytes());
    check("p.CSV", CSV.replace('\r', "").as_bytes());
    check("p.csv", CSV.trim_end().as_bytes());
    check("p.csv", &bom(CSV));
    check("p.csv.gz", &gzip(CSV.as_bytes()));
    check("p.csv.gz", &gzip(&bom(CSV)));
    check("p.jsonl", JSON.as_bytes());
    check("p.ndjson", &bom(JSON.trim_end()));
    check("p.jsonl.gz", &gzip(JSON.as_bytes()));
    check("p.parquet", &columnar);
    check("p.parquet.gz", &gzip(&columnar));
    // Gzip and Parquet are known by their first bytes, whatever they are called.
    check("p.csv", &gzip(CSV.as_bytes()));
    check("p.csv.gz", CSV.as_bytes());
    check("p.jsonl", &gzip(JSON.as_bytes()));
    check("p.parquet", &gzip(&columnar));
    check("p", &columnar);
    // Two gzips one after the other are one.
    let (head, tail) = CSV.split_at(40);
    check("p.csv.gz", &[gzip(head.as_bytes()), gzip(tail.as_bytes())].concat());
}

#[test]
fn mappings_work_in_every_format() {
    let json = "{\"nr\": 7, \"label\": \"A\", \"cost\": \"2.5\", \"name\": \"no\"}\n";
    let columnar = parquet(
        "message m { required int32 nr; optional binary label (UTF8); required int64 cost;
                     optional binary name (UTF8); }",
        &[
            Column::Int(&[7]),
            Column::Text(&[Some("A")]),
            Column::Long(&[3]),
            Column::Text(&[Some("no")]),
        ],
    );
    for (name, bytes, price) in [
        ("p.csv", &b"name,nr,label,cost\nno,7,A,2.5\n"[..], 2.5),
        ("p.csv.gz", &gzip(b"name,nr,label,cost\nno,7,A,2.5\n"), 2.5),
        ("p.jsonl", json.as_bytes(), 2.5),
        ("p.jsonl.gz", &gzip(json.as_bytes()), 2.5),
        ("p.parquet", &columnar, 3.0),
        ("p.parquet.gz", &gzip(&columnar), 3.0),
    ] {
        let shop = Shop::new();
        shop.put(name, bytes);
        let mut plan = shop.plan(&[name]);
        for (field, column) in [("id", "nr"), ("name", "label"), ("price", "cost")] {
            plan.mapping.add(field, column).unwrap();
        }
        shop.run(plan.clone()).unwrap();
        let product = shop.products().pop().unwrap();
        let got = (&*product.id, &*product.name, product.price);
        assert_eq!(got, ("7", "A", Some(price)), "{name}");
        // A column that is not there is an error, not silence.
        plan.mapping.add("brand", "maker").unwrap();
        let error = shop.run(plan).unwrap_err().to_string();
        assert!(error.contains("maker") && error.contains("brand"), "{name}: {error}");
    }
}

#[test]
fn the_format_can_be_said() {
    let shop = Shop::new();
    shop.put("products.txt", CSV.as_bytes());
    let mut plan = shop.plan(&["products.txt"]);
    let error = shop.run(plan.clone()).unwrap_err().to_string();
    assert!(error.contains("--format"), "{error}");
    plan.sources[0].format = Some(Format::Csv);
    shop.run(plan).unwrap();
    assert_eq!(shop.products(), expected());
    for (name, format) in [
        ("csv", Some(Format::Csv)),
        ("JSONL", Some(Format::JsonLines)),
        ("ndjson", Some(Format::JsonLines)),
        ("parquet", Some(Format::Parquet)),
        ("xlsx", None),
    ] {
        assert_eq!(name.parse().ok(), format);
    }
}

#[test]
fn values_of_json_and_parquet() {
    let shop = Shop::new();
    let check = |line: &str, category: Result<&str, &str>| {
        shop.import("p.jsonl", format!("{{\"id\": \"a\", \"name\": \"A\", {line}}}")).unwrap();
        match category {
            Ok(category) => {
                assert_eq!(shop.bad(), [] as [String; 0], "{line}");
                assert_eq!(shop.products()[0].category, category, "{line}");
            }
            Err(reason) => assert_eq!(shop.bad(), [format!("p.jsonl, line 1: {reason}")]),
        }
    };
    check(r#""category": ["Home", "Sofas"]"#, Ok("Home > Sofas"));
    check(r#""category": [["Home", "Sofas"], ["Sale"]]"#, Ok("Home > Sofas|Sale"));
    check(r#""category": [["Home", "Sofas"]]"#, Ok("Home > Sofas"));
    check(r#""category": []"#, Ok(""));
    check(r#""category": 7"#, Ok("7"));
    check(r#""category": true"#, Ok("true"));
    check(r#""Categories": "x", "category": "y", "department": "z""#, Ok("y"));
    check(r#""category": "y", "categories": "x""#, Ok("y"));
    check(r#""description": ["a", "b"]"#, Ok(""));
    check(r#""category": {"a": 1}"#, Err("`category` is an object, not text or a number"));
    check(r#""brand": ["a"]"#, Err("`brand` is a list, not text or a number"));
    check(r#""price": true"#, Err("`price` \"true\" is not a number (write it like 1234.56)"));

    let shop = Shop::new();
    let file = parquet(
        "message m {
            required binary id;
            required group category (LIST) { repeated group list { required binary element (UTF8); } }
            required int32 created_at (DATE);
            required int32 price (DECIMAL(9,2));
            optional binary name (UTF8);
        }",
        &[
            Column::Bytes(&[b"a", b"\xff", b"c"]),
            Column::Lists(&[&["Home", "Sofas"], &["x"], &["Garden"]]),
            Column::Int(&[19_844, 0, -1]),
            Column::Int(&[1999, 1, 5]),
            Column::Text(&[Some("A"), Some("B"), Some("C")]),
        ],
    );
    shop.import("p.parquet", file).unwrap();
    assert_eq!(shop.bad(), ["p.parquet, row 2: `id` is not UTF-8"]);
    let products = shop.products();
    let got: Vec<_> =
        products.iter().map(|p| (&*p.id, &*p.category, p.created_at, p.price)).collect();
    let expected = [
        ("a", "Home > Sofas", Some(1_714_521_600), Some(19.99)),
        ("c", "Garden", Some(-86_400), Some(0.05)),
    ];
    assert_eq!(got, expected);

    let events = parquet(
        "message m {
            required binary user_id (UTF8); required binary product_id (UTF8);
            required binary event_type (UTF8); required int64 timestamp (TIMESTAMP_MILLIS);
        }",
        &[
            Column::Bytes(&[b"u"]),
            Column::Bytes(&[b"a"]),
            Column::Bytes(&[b"order"]),
            Column::Long(&[1_714_564_800_123]),
        ],
    );
    shop.import("events.parquet", events).unwrap();
    assert_eq!(shop.events()[0].1.at_micros, 1_714_564_800_123_000);
}

#[test]
fn bad_rows_name_their_place() {
    let shop = Shop::new();
    let check = |name: &str, bytes: &[u8], bad: &[&str], good: &[&str]| {
        let shop = Shop::new();
        shop.import(name, bytes).unwrap();
        assert_eq!(shop.bad(), bad, "{name}");
        assert_eq!(ids(&shop.products()), good, "{name}");
    };
    check(
        "p.csv",
        b"id,name\n\n1,\"two\nlines\"\n,x\n2,\xff\xfe\n3,c,d\n4\n5,ok\n",
        &[
            "p.csv, line 5: `id` is empty",
            "p.csv, line 6: field 2 is not UTF-8",
            "p.csv, line 7: 3 fields where the header has 2 (a quote or a comma too many?)",
            "p.csv, line 8: 1 fields where the header has 2 (a quote or a comma too many?)",
        ],
        &["1", "5"],
    );
    check(
        "p.csv",
        b"id,name\r\n1,\"two\r\nlines\"\r\n,x\r\n2,b,c\r\n5,ok\r\n",
        &[
            "p.csv, line 4: `id` is empty",
            "p.csv, line 5: 3 fields where the header has 2 (a quote or a comma too many?)",
        ],
        &["1", "5"],
    );
    // What is not UTF-8 in a column that is not needed costs nothing.
    check("p.csv", b"id,name,x\n1,a,\xff\n", &[], &["1"]);
    check(
        "p.jsonl",
        b"{\"id\":\"1\",\"name\":\"a\"}\n[1]\n\n{\"id\":\n\"\xff\"\n{\"id\":\"5\",\"name\":\"e\"}",
        &[
            "p.jsonl, line 2: not a JSON object",
            "p.jsonl, line 4: not JSON: EOF while parsing a value (column 6)",
            "p.jsonl, line 5: not UTF-8",
        ],
        &["1", "5"],
    );
    let array = shop.import("p.jsonl", "[{\"id\":\"1\",\"name\":\"a\"}]").unwrap();
    assert_eq!(array.files[0].bad, 1);
    assert!(shop.bad()[0].contains("not an array"), "{:?}", shop.bad());
    // A line that is far too long is one bad row.
    let long = format!("{{\"id\":\"1\",\"name\":\"{}\"}}\n", "x".repeat(5_000_000));
    let text = format!("{long}{{\"id\":\"2\",\"name\":\"b\"}}\n{}", long.trim_end());
    shop.import("p.jsonl", text).unwrap();
    let reasons = ["p.jsonl, line 1: longer than", "p.jsonl, line 3: longer than"];
    assert_eq!(shop.bad().len(), 2);
    for (bad, reason) in shop.bad().iter().zip(reasons) {
        assert!(bad.starts_with(reason), "{bad}");
    }
    assert_eq!(ids(&shop.products()), ["2"]);
}
