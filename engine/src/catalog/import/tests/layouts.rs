//! Sets as they are published.

use super::*;

impl Shop {
    /// Writes the files of a set and reads them as `layout`.
    fn laid_out(&self, layout: Layout, files: &[(&str, &str)]) -> Result<Summary, ImportError> {
        for (name, text) in files {
            match name.ends_with(".gz") {
                true => self.put(name, &gzip(text.as_bytes())),
                false => self.put(name, text.as_bytes()),
            };
        }
        let mut plan = self.plan(&[]);
        layout.rules(&mut plan.events);
        plan.layout = Some((layout, self.folder.path().to_owned()));
        self.run(plan)
    }

    /// `id: name [category] price`, a line a product.
    fn catalogue(&self) -> Vec<String> {
        let line = |p: &Product| {
            let price = p.price.map(|price| format!(" {price}")).unwrap_or_default();
            format!("{}: {} [{}]{price}", p.id, p.name, p.category)
        };
        self.products().iter().map(line).collect()
    }

    /// `user kind product @seconds`, a line an event, sorted.
    fn history(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .events()
            .iter()
            .map(|(user, event)| {
                let seconds = event.at_micros / 1_000_000;
                format!("{user} {} {} @{seconds}", event.kind.name(), event.product_id)
            })
            .collect();
        lines.sort();
        lines
    }
}

const OLIST: &[(&str, &str)] = &[
    (
        "olist_customers_dataset.csv",
        "\"customer_id\",\"customer_unique_id\",\"customer_state\"\nc1,ada,SP\nc2,ada,SP\nc3,bob,RJ\n",
    ),
    (
        "olist_orders_dataset.csv.gz",
        "order_id,customer_id,order_status,order_purchase_timestamp,order_approved_at\n\
         o1,c1,delivered,2017-10-02 10:56:33,\no2,c2,shipped,2018-01-01 00:00:00,\n\
         o3,c3,canceled,2018-01-02 00:00:00,\n",
    ),
    (
        "olist_order_items_dataset.csv",
        "order_id,order_item_id,product_id,seller_id,shipping_limit_date,price,freight_value\n\
         o1,1,0123456789abcdef,s,2017-10-06 11:07:15,58.90,13.29\n\
         o1,2,0123456789abcdef,s,2017-10-06 11:07:15,58.90,13.29\n\
         o2,1,0123456789abcdef,s,2017-10-06 11:07:15,40,13.29\n\
         o2,2,p2,s,2017-10-06 11:07:15,12.5,1\no3,1,p2,s,2017-10-06 11:07:15,12.5,1\n",
    ),
    (
        "product_category_name_translation.csv",
        "\u{feff}product_category_name,product_category_name_english\nbeleza_saude,health_beauty\n",
    ),
    (
        "olist_products_dataset.csv",
        "product_id,product_category_name,product_name_lenght\n0123456789abcdef,beleza_saude,40\n\
         p2,pc_gamer,3\np3,,\n",
    ),
];

#[test]
fn olist_sells_by_category_and_customer() {
    let shop = Shop::new();
    assert_eq!(Layout::of_folder(shop.folder.path()), None);
    let summary = shop.laid_out(Layout::Olist, OLIST).unwrap();
    assert_eq!(Layout::of_folder(shop.folder.path()), Some(Layout::Olist));
    assert_eq!(
        shop.catalogue(),
        [
            "0123456789abcdef: Health beauty 89abcdef [Health beauty] 58.9",
            "p2: Pc gamer p2 [Pc gamer] 12.5",
            "p3: Product p3 []",
        ]
    );
    assert_eq!(
        shop.history(),
        [
            "ada purchase 0123456789abcdef @1506941793",
            "ada purchase 0123456789abcdef @1514764800",
            "ada purchase p2 @1514764800",
        ]
    );
    // Two of one product in an order; a cancelled order.
    assert_eq!(summary.imported.events_known, 1);
    let skipped: u64 = summary.files.iter().map(|file| file.no_preference).sum();
    assert_eq!((skipped, shop.bad()), (1, vec![]));
    again_adds_nothing(&shop, Layout::Olist);
}

#[test]
fn olist_names_rows_that_lead_nowhere() {
    let shop = Shop::new();
    let mut files = OLIST.to_vec();
    files[1].1 = "order_id,customer_id,order_status,order_purchase_timestamp\n\
                  o1,c9,delivered,2017-10-02 10:56:33\no2,c2,lost,2018-01-01 00:00:00\n";
    shop.laid_out(Layout::Olist, &files).unwrap();
    let bad = shop.bad();
    assert_eq!(
        bad[0],
        r#"olist_orders_dataset.csv.gz, line 2: customer "c9" is not in olist_customers_dataset.csv"#
    );
    assert_eq!(
        bad[1],
        r#"olist_order_items_dataset.csv, line 2: order "o1" is not in olist_orders_dataset.csv"#
    );
    assert!(bad[3].contains(r#"`event_type` "lost" is not known"#), "{bad:?}");
    assert_eq!(shop.store.counts().unwrap().events, 0);
}

const RETAILROCKET: &[(&str, &str)] = &[
    (
        "events.csv",
        "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,20,\n\
         1433221332118,257597,addtocart,20,\n1433221332119,257597,transaction,20,4000\n\
         1433221332120,7,view,3,\n",
    ),
    (
        "item_properties_part1.csv",
        "timestamp,itemid,property,value\n1435460400000,20,categoryid,1016\n\
         1435460400000,20,888,1116713 960601 n277.200\n1435460400000,20,790,n12.500\n\
         1435460400000,100,available,0\n",
    ),
    (
        "item_properties_part2.csv.gz",
        "timestamp,itemid,property,value\n1436460400000,20,categoryid,213\n\
         1434460400000,20,790,n99.000\n1434460400000,100,790,n4.000\n\
         1434460400000,100,790,four\n",
    ),
    ("category_tree.csv", "categoryid,parentid\n213,1016\n1016,250\n250,\n8,9\n9,8\n"),
];

#[test]
fn retailrocket_takes_the_latest_of_an_item() {
    let shop = Shop::new();
    let summary = shop.laid_out(Layout::RetailRocket, RETAILROCKET).unwrap();
    assert_eq!(Layout::of_folder(shop.folder.path()), Some(Layout::RetailRocket));
    assert_eq!(
        shop.catalogue(),
        ["3: Item 3 []", "20: Item 20 [250 > 1016 > 213] 12.5", "100: Item 100 [] 4"]
    );
    assert_eq!(
        shop.history(),
        [
            "257597 add_to_cart 20 @1433221332",
            "257597 purchase 20 @1433221332",
            "257597 view 20 @1433221332",
            "7 view 3 @1433221332",
        ]
    );
    assert_eq!(
        shop.bad(),
        [r#"item_properties_part2.csv.gz, line 5: the price "four" is not like n12.000"#]
    );
    assert_eq!(summary.imported.events_adrift, 0);
    again_adds_nothing(&shop, Layout::RetailRocket);
}

#[test]
fn a_tree_that_goes_in_circles_ends() {
    let shop = Shop::new();
    let mut files = RETAILROCKET.to_vec();
    files[1].1 = "timestamp,itemid,property,value\n1435460400000,3,categoryid,8\n";
    shop.laid_out(Layout::RetailRocket, &files).unwrap();
    assert!(shop.catalogue()[0].starts_with("3: Item 3 ["), "{:?}", shop.catalogue());
}

#[test]
fn movielens_in_each_of_its_forms() {
    let csv = [
        (
            "movies.csv",
            "movieId,title,genres\n1,Toy Story (1995),Adventure|Children's\n2,\"Cité, La\",(no genres listed)\n",
        ),
        (
            "ratings.csv.gz",
            "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,2,5.0,964982704\n2,1,3.5,964982705\n",
        ),
    ];
    let dat = [
        ("movies.dat", "1::Toy Story (1995)::Adventure|Children's\n2::Cité, La::\n"),
        ("ratings.dat", "1::1::4::964982703\n1::2::5::964982704\n2::1::3::964982705\n"),
    ];
    let flags = |set: &[usize]| {
        (0..19).map(|at| if set.contains(&at) { "|1" } else { "|0" }).collect::<String>()
    };
    let item = format!(
        "1|Toy Story (1995)|01-Jan-1995||http://x{}\n2|Cité, La|||{}\n",
        flags(&[2, 4]),
        flags(&[0])
    );
    let hundred = [
        ("u.item", item.as_str()),
        ("u.data", "1\t1\t4\t964982703\n1\t2\t5\t964982704\n2\t1\t3\t964982705\n"),
    ];
    for files in [csv, dat, hundred] {
        let shop = Shop::new();
        let summary = shop.laid_out(Layout::MovieLens, &files).unwrap();
        assert_eq!(Layout::of_folder(shop.folder.path()), Some(Layout::MovieLens));
        let expected = ["1: Toy Story [Adventure|Children's]", "2: Cité, La []"];
        assert_eq!(shop.catalogue(), expected, "{files:?}");
        let created: Vec<Option<i64>> = shop.products().iter().map(|p| p.created_at).collect();
        assert_eq!(created, [Some(788_918_400), None]);
        assert_eq!(shop.history(), ["1 view 1 @964982703", "1 view 2 @964982704"]);
        assert_eq!((summary.files[1].no_preference, shop.bad()), (1, vec![]));
        again_adds_nothing(&shop, Layout::MovieLens);
    }
}

#[test]
fn movielens_of_before_utf_8() {
    let shop = Shop::new();
    shop.put("movies.dat", b"1::Mis\xe9rables, Les (1995)::Drama\n2::One field too few\n");
    shop.laid_out(Layout::MovieLens, &[("ratings.dat", "")]).unwrap();
    assert_eq!(shop.catalogue(), ["1: Misérables, Les [Drama]"]);
    assert_eq!(shop.bad(), ["movies.dat, line 2: 2 fields between `::` where 3 are expected"]);
}

#[test]
fn what_is_missing_is_said_with_what_is_expected() {
    let check = |layout: Layout, files: &[(&str, &str)], expected: &[&str]| {
        let shop = Shop::new();
        let error = shop.laid_out(layout, files).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{error}");
        }
        shop.is_untouched();
    };
    check(
        Layout::Olist,
        &OLIST[3..],
        &[
            "for the layout olist there is no olist_customers_dataset.csv, olist_orders_dataset.csv, \
             olist_order_items_dataset.csv (each may end in .gz)",
        ],
    );
    check(Layout::RetailRocket, &RETAILROCKET[..3], &["there is no category_tree.csv"]);
    check(Layout::MovieLens, &[], &["movies.csv with ratings.csv", "u.item with u.data"]);
    check(
        Layout::MovieLens,
        &[("movies.csv", "id,title\n"), ("ratings.csv", "userId,movieId,rating,timestamp\n")],
        &[
            "movies.csv",
            "no column is `movieid`; expected are movieid, title, genres, the columns are id, title",
        ],
    );
}

#[test]
fn a_folder_with_products_is_a_catalogue() {
    let shop = Shop::new();
    shop.put("movies.csv", b"");
    shop.put("ratings.csv", b"");
    assert_eq!(Layout::of_folder(shop.folder.path()), Some(Layout::MovieLens));
    shop.put("products.jsonl", b"");
    assert_eq!(Layout::of_folder(shop.folder.path()), None);
    assert_eq!("MovieLens".parse(), Ok(Layout::MovieLens));
    assert!("movie".parse::<Layout>().unwrap_err().contains("olist, retailrocket, movielens"));
}

fn again_adds_nothing(shop: &Shop, layout: Layout) {
    let (products, events) = (shop.catalogue().len() as u64, shop.history().len());
    let again = shop.laid_out(layout, &[]).unwrap().imported;
    assert_eq!((again.products_added, again.products_updated, again.events_added), (0, 0, 0));
    assert_eq!((again.products_unchanged, shop.history().len()), (products, events));
}
