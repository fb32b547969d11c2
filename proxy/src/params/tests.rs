use super::*;
use proptest::prelude::*;

fn ask(query: &str) -> Result<SearchAsk, BadParameter> {
    search(query.as_bytes(), 20)
}

#[test]
fn questions() {
    let check = |query: &str, expected: SearchAsk| assert_eq!(ask(query), Ok(expected), "{query}");
    let plain = |q: &str| SearchAsk { q: q.into(), k: 10, ..SearchAsk::default() };
    check("q=mug", plain("mug"));
    check("q=coffee+mug", plain("coffee mug"));
    check("q=coffee%2Bmug", plain("coffee+mug"));
    check("q=%20mug%0A", plain("mug"));
    check("%71=mug", plain("mug"));
    check("q=a=b", plain("a=b"));
    check("q=%F0%9F%98%80", plain("😀"));
    check("q=a%00b", plain("a\0b"));
    check("q=1%27+OR+1%3D1+--", plain("1' OR 1=1 --"));
    check("q=mug&utm_source=x&utm_source=y&broken=%zz&%zz=1", plain("mug"));
    check("&&q=mug&", plain("mug"));
    check("q=mug&user_id=&category=+&k=&fields=&min_price=", plain("mug"));
    check("q=mug&k=100", SearchAsk { k: 100, ..plain("mug") });
    check("q=mug&k=007", SearchAsk { k: 7, ..plain("mug") });
    check("q=mug&user_id=u1", SearchAsk { user_id: Some("u1".into()), ..plain("mug") });
    check(
        "q=mug&category=Kitchen+%3E+Mugs&brand=Acme&min_price=1.5&max_price=1e3",
        SearchAsk {
            filter: Filter {
                category: Some("Kitchen > Mugs".into()),
                brand: Some("Acme".into()),
                min_price: Some(1.5),
                max_price: Some(1000.0),
            },
            ..plain("mug")
        },
    );
    check(
        "q=mug&fields=price,name,,price",
        SearchAsk { fields: vec![Field::Price, Field::Name], ..plain("mug") },
    );
    check(&format!("q={}", "%C3%A9".repeat(20)), plain(&"é".repeat(20)));
}

#[test]
fn refusals_name_the_parameter_and_help() {
    let check = |query: &str, parameter: &str, says: &str| {
        let refused = ask(query).expect_err(query);
        assert_eq!(refused.parameter, parameter, "{query}");
        assert!(refused.detail.contains(says), "{query}: {}", refused.detail);
    };
    check("", "q", "q is missing");
    check("user_id=u1", "q", "q is missing");
    check("q=", "q", "q is empty");
    check("q", "q", "q is empty");
    check("q=%20+%09", "q", "q is empty");
    check(&format!("q={}", "x".repeat(21)), "q", "21 characters; it may have 20");
    check("q=%", "q", "%25");
    check("q=%4", "q", "%25");
    check("q=%zz", "q", "%25");
    check("q=%FF", "q", "not UTF-8");
    check("q=a&q=b", "q", "given twice");
    check("q=a&%71=b", "q", "given twice");
    check("q=a&k=1&k=1", "k", "given twice");
    for k in ["0", "101", "abc", "-1", "%2B5", "1.5", "1e1", "99999999999999999999999", "%D9%A1"] {
        check(&format!("q=a&k={k}"), "k", "from 1 to 100");
    }
    for price in ["NaN", "inf", "-1", "-0.01", "cheap", "1,5"] {
        check(&format!("q=a&min_price={price}"), "min_price", "at least 0");
        check(&format!("q=a&max_price={price}"), "max_price", "at least 0");
    }
    check("q=a&min_price=5&max_price=4", "min_price", "above max_price");
    check(
        "q=a&fields=name,colour",
        "fields",
        "names \"colour\", which no product has; there are name",
    );
    check(&format!("q=a&user_id={}", "x".repeat(257)), "user_id", "257 bytes");
    check(&format!("q=a&brand={}", "x".repeat(513)), "brand", "513 bytes");
    check("q=a&k=%1b[31m", "k", "\\u{1b}[31m");
}

#[test]
fn the_other_questions() {
    assert_eq!(
        explain(b"q=mug&product_id=p1", 20),
        Ok((SearchAsk { q: "mug".into(), k: 10, ..SearchAsk::default() }, "p1".into()))
    );
    assert_eq!(explain(b"q=mug", 20).unwrap_err().parameter, "product_id");
    assert_eq!(explain(b"product_id=p1", 20).unwrap_err().parameter, "q");
    assert_eq!(
        recommend(b"k=3&category=mugs&user_id=ignored", "u1".into()),
        Ok(RecommendAsk {
            user_id: "u1".into(),
            k: 3,
            filter: Filter { category: Some("mugs".into()), ..Filter::default() },
            fields: vec![],
            ..RecommendAsk::default()
        })
    );
    assert_eq!(recommend(b"k=0", "u1".into()).unwrap_err().parameter, "k");
    assert_eq!(products(b"", None), Ok(ProductAsk { k: 10, ..ProductAsk::default() }));
}

proptest! {
    #[test]
    fn never_panics(query in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = search(&query, 20);
        let _ = explain(&query, 20);
        let _ = products(&query, None);
    }

    #[test]
    fn what_is_accepted_is_in_bounds(query in "(q|k|min_price|max_price|fields)=[0-9a-z.%+-]{0,12}(&(q|k|min_price)=[0-9a-z.%+-]{0,12}){0,3}") {
        if let Ok(ask) = ask(&query) {
            prop_assert!((1..=100).contains(&ask.k));
            prop_assert!(!ask.q.trim().is_empty() && ask.q.chars().count() <= 20);
            prop_assert!(ask.filter.min_price.is_none_or(|price| price.is_finite() && price >= 0.0));
        }
    }
}
