//! What a row of products becomes, and why not.

use super::*;

/// One CSV row of all eight fields.
fn row(row: &str) -> Result<Product, String> {
    let shop = Shop::new();
    let header = "id,name,description,category,brand,price,created_at,popularity";
    shop.import("products.csv", format!("{header}\n{row}\n")).unwrap();
    match shop.products().pop() {
        Some(product) => Ok(product),
        None => Err(shop.bad().join("; ").replace("products.csv, line 2: ", "")),
    }
}

#[test]
fn good_rows() {
    let full = Product {
        id: "1".into(),
        name: "Sofa".into(),
        description: "Soft".into(),
        category: "Home > Sofas".into(),
        brand: "Acme".into(),
        price: Some(19.99),
        created_at: Some(1_714_521_600),
        popularity: Some(3.0),
    };
    let check = |text: &str, change: fn(&mut Product)| {
        let mut expected = full.clone();
        change(&mut expected);
        assert_eq!(row(text), Ok(expected), "{text}");
    };
    check("1,Sofa,Soft,Home > Sofas,Acme,19.99,2024-05-01,3", |_| {});
    check(" 1 , Sofa ,  Soft,Home>Sofas, Acme ,19.990 , 2024-05-01 ,3e0", |_| {});
    check("1,Sofa,,,,,,", |p| {
        *p = Product { id: "1".into(), name: "Sofa".into(), ..Product::default() };
    });
    check("1,Sofa,Soft,Home > > Sofas >,Acme,19.99,2024-05-01,3", |_| {});
    check("1,Sofa,Soft, Home >Sofas | |Sale,Acme,19.99,1714521600,3", |p| {
        p.category = "Home > Sofas|Sale".into();
    });
    check("1,Sofa,Soft,Home > Sofas,Acme,0,1960-01-01,0", |p| {
        (p.price, p.created_at, p.popularity) = (Some(0.0), Some(-315_619_200), Some(0.0));
    });
    check("1,So\tfa\u{7},\"a\nb\",Home > Sofas,Acme,19.99,2024-05-01,3", |p| {
        (p.name, p.description) = ("So fa ".into(), "a\nb".into());
    });
    check("1,\"So, \"\"fa\"\"\",Soft,Home > Sofas,Acme,19.99,2024-05-01,3", |p| {
        p.name = "So, \"fa\"".into();
    });
    check("1,💺 ソファ,Soft,Home > Sofas,Acme,19.99,2030-01-01,3", |p| {
        (p.name, p.created_at) = ("💺 ソファ".into(), Some(1_893_456_000));
    });
}

#[test]
fn bad_rows() {
    let check = |text: &str, reason: &str| assert_eq!(row(text), Err(reason.into()), "{text}");
    let long = "x".repeat(257);
    check(",Sofa,,,,,,", "`id` is empty");
    check(&format!("{long},Sofa,,,,,,"), "`id` has 257 bytes, at most 256 are allowed");
    check("a\u{0}b,Sofa,,,,,,", r#"`id` "a\0b" has control characters"#);
    check("1, ,,,,,,", r#"product "1" has no name"#);
    check("1,A,,,,-1,,", r#"`price` "-1" is negative"#);
    check("1,A,,,,9 or 10,,", r#"`price` "9 or 10" is not a number (write it like 1234.56)"#);
    check("1,A,,,,1.299 EURO,,", r#"`price` "1.299 EURO" is not a number (write it like 1234.56)"#);
    check("1,A,,,,\"1,5\",,", r#"`price` "1,5" is not a number (write it like 1234.56)"#);
    check("1,A,,,,NaN,,", r#"`price` "NaN" is not a number (write it like 1234.56)"#);
    check("1,A,,,,inf,,", r#"`price` "inf" is not a number (write it like 1234.56)"#);
    check("1,A,,,,1e13,,", r#"`price` "1e13" is too large"#);
    check("1,A,,,,,,-3", r#"`popularity` "-3" is negative"#);
    check(
        "1,A,,,,,yesterday,",
        "`created_at` \"yesterday\" is not a time (write it like 2024-05-01 or \
         2024-05-01T12:00:00Z)",
    );
    check("1,A,,,,1", "6 fields where the header has 8 (a quote or a comma too many?)");
    check("1,A,,,,,,,,", "10 fields where the header has 8 (a quote or a comma too many?)");
    let name = format!("1,{},,,,,,", "n".repeat(2049));
    check(&name, "`name` has 2049 bytes, at most 2048 are allowed");
    let price = format!("1,A,,,,{},,", "9x".repeat(400));
    let shown = "9x".repeat(20);
    check(&price, &format!("`price` \"{shown}\"… is not a number (write it like 1234.56)"));
    // The longest that fits.
    assert!(row(&format!("{},{},,,,,,", "i".repeat(256), "n".repeat(2048))).is_ok());
}

#[test]
fn columns_by_name() {
    let check = |header: &str, map: &[(&str, &str)], expected: Result<&str, &str>| {
        let shop = Shop::new();
        // Every cell holds its column's number, so that the product shows where it came from.
        let cells: Vec<String> = (1..=header.split(',').count()).map(|n| n.to_string()).collect();
        shop.put("products.csv", format!("{header}\n{}\n", cells.join(",")).as_bytes());
        let mut plan = shop.plan(&["products.csv"]);
        for (field, column) in map {
            plan.mapping.add(field, column).unwrap();
        }
        let got = shop.run(plan).map(|_| {
            let p = shop.products().pop().unwrap();
            let price = p.price.map(|price| price.to_string()).unwrap_or_default();
            [p.id, p.name, p.description, p.category, p.brand, price].join("|")
        });
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{header}"),
            (Err(got), Err(expected)) => {
                assert!(got.to_string().contains(expected), "{header}: {got}");
                shop.is_untouched();
            }
            (got, expected) => panic!("{header}: {got:?}, not {expected:?}"),
        }
    };
    check("id,name,description,category,brand,price", &[], Ok("1|2|3|4|5|6"));
    check("price,x,name,y,id", &[], Ok("5|3||||1"));
    check("SKU,Title,Unit Price,Manufacturer,cat-path", &[], Ok("1|2||5|4|3"));
    check("\u{feff}id,name", &[], Ok("1|2||||"));
    check("\u{feff}\"id\",\"name\"", &[], Ok("1|2||||"));
    // The exact name wins over an alias, an earlier alias over a later one, in any order.
    check("title,name,sku,id", &[], Ok("4|2||||"));
    check("item_name,title,sku,product_id", &[], Ok("4|2||||"));
    check("id,name,amount,unit_price", &[], Ok("1|2||||4"));
    // What is mapped wins over everything.
    check("id,name,price,cost", &[("price", "cost")], Ok("1|2||||4"));
    check("id,name,title", &[("name", "Title")], Ok("1|3||||"));
    check("id,name", &[("description", "name")], Ok("1|2|2|||"));
    check("Id,id,name", &[], Ok("1|3||||"));
    check("id,name,price", &[("price", "cost")], Err("there is no column `cost` for `price`"));
    check("name,price", &[], Err("no column is `id`"));
    check("id,price", &[], Err("--map name=COLUMN"));
    check("id,name,name", &[], Err("two columns `name`"));
    check("1,2,3", &[], Err("the columns are 1, 2, 3"));
    // Two columns that nobody needs may be called the same.
    check("id,name,x,x", &[], Ok("1|2||||"));

    let mut mapping = Mapping::default();
    assert!(mapping.add("colour", "x").unwrap_err().contains("the fields are id, name"));
    assert!(mapping.add("price", " ").is_err());
    mapping.add("Price", "a").unwrap();
    assert!(mapping.add("price", "b").unwrap_err().contains("twice"));
}
