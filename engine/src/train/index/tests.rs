use super::{BuildOptions, Built, Model, build, up_to_date};
use crate::catalog::{Ordinal, Product};
use crate::model::embedding::tests::static_model;
use crate::model::manifest::{Part, VectorLayout};
use crate::model::versions::{self, VersionError};
use crate::resilience::Mode;
use crate::retrieve::semantic::{SemanticError, SemanticIndex};
use crate::retrieve::{Allowed, Ask, RetrieveError, Retriever};
use crate::serve::{Engine, Options};
use crate::store::{Bulk, SqliteStore};
use penstock_config::policy::Policy;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

mod overlay;

/// Product number `n` of a small world: what it is, of what, for whom.
fn product(n: usize) -> Product {
    const THINGS: [(&str, &str); 5] = [
        ("Mug", "Kitchen > Mugs"),
        ("Teapot", "Kitchen > Teapots"),
        ("Headphones", "Audio > Headphones"),
        ("Loudspeaker", "Audio > Loudspeakers"),
        ("Lamp", "Home > Lamps"),
    ];
    const ABOUT: [&str; 5] = [
        "for hot coffee and tea, dishwasher safe ceramic",
        "brews tea leaves, ceramic with a lid",
        "wireless music with noise cancelling and bluetooth",
        "fills the room with music over bluetooth",
        "warm light for the desk, dimmable bulb",
    ];
    let (thing, category) = THINGS[n % 5];
    let colour = ["red", "blue", "green", "white", "black", "yellow", "grey"][n % 7];
    let brand = ["Acme", "Borealis", "Cumulus"][n % 3];
    Product {
        id: format!("p{n}"),
        name: format!("{brand} {colour} {thing} {n}"),
        // Two words of its own, so that thousands of products differ.
        description: format!("{}, style {} {}", ABOUT[n % 5], word(n % 97), word(100 + n / 97)),
        category: category.into(),
        brand: brand.into(),
        ..Product::default()
    }
}

fn word(n: usize) -> String {
    const SYLLABLES: [&str; 10] = ["ka", "li", "mo", "nu", "re", "sa", "ti", "vo", "wu", "ze"];
    [n / 100, n / 10, n].map(|n| SYLLABLES[n % 10]).concat()
}

fn put(store: &SqliteStore, products: impl IntoIterator<Item = Product>) {
    let mut import = store.begin_import().unwrap();
    for product in products {
        import.put_product(product).unwrap();
    }
    import.commit().unwrap();
}

struct Shop {
    folder: tempfile::TempDir,
    store: SqliteStore,
    options: BuildOptions,
}

fn shop(products: usize) -> Shop {
    let folder = tempfile::tempdir().unwrap();
    let clock = penstock_config::clock::system();
    let store = SqliteStore::open(folder.path().join("store.sqlite"), clock).unwrap();
    put(&store, (0..products).map(product));
    let mut options = BuildOptions::new(folder.path());
    options.dims = 32;
    Shop { folder, store, options }
}

impl Shop {
    fn build(&self) -> Built {
        build(&self.store, &self.options, &|_, _, _| {}).unwrap()
    }

    fn open(&self) -> Result<SemanticIndex, SemanticError> {
        SemanticIndex::open(&versions::current(self.folder.path()).unwrap().unwrap(), None)
    }
}

fn ask(text: &str) -> Ask {
    Ask {
        policy: Arc::new(Policy::default()),
        text: text.into(),
        history: Vec::new(),
        long_term: crate::features::Affinity::default(),
        like: None,
        allowed: None,
        k: 10,
    }
}

/// Names of what is found; the number of the product is that of its ordinal's order of import.
fn found(index: &SemanticIndex, store: &SqliteStore, ask: &Ask) -> Vec<String> {
    let mut names = std::collections::HashMap::new();
    store
        .scan_products(&mut |stored| {
            names.insert(stored.ordinal, stored.product.name);
        })
        .unwrap();
    let candidates = index.retrieve(ask).unwrap();
    candidates.iter().map(|candidate| names[&candidate.ordinal].clone()).collect()
}

#[test]
fn queries_find_what_they_mean() {
    let shop = shop(600);
    let built = shop.build();
    assert_eq!(built.version.manifest.products, 600);
    let index = shop.open().unwrap();
    assert_eq!(index.len(), 600);
    let check = |query: &str, thing: &str| {
        let found = found(&index, &shop.store, &ask(query));
        assert!(found.len() >= 10, "{query}: {found:?}");
        assert!(found[..10].iter().all(|name| name.contains(thing)), "{query}: {:?}", &found[..10]);
    };
    check("mug", "Mug");
    check("MUGS", "Mug");
    // Words that no product name has, an inflection, a typo.
    check("dishwasher safe coffee", "Mug");
    check("noise cancelling", "Headphones");
    check("dimmable", "Lamp");
    check("hedphones", "Headphones");
    assert_eq!(found(&index, &shop.store, &ask("zzzz qqqq 999999")), [""; 0]);
    assert!(!index.applies(&ask("  ")) && index.applies(&ask("mug")));
}

#[test]
fn answers_obey_policy_filter_and_k() {
    let shop = shop(600);
    shop.build();
    let index = shop.open().unwrap();
    let mut question = ask("mug");
    let all = index.retrieve(&question).unwrap();
    assert_eq!(all.len(), 100, "the policy's figure, being above k");
    assert!(all.is_sorted_by(|a, b| a.raw > b.raw || (a.raw == b.raw && a.ordinal < b.ordinal)));
    assert!(all.iter().all(|c| (0.0..=1.0).contains(&c.score) && c.raw <= 1.0001));
    let explained = index.score(&question, all[3].ordinal).unwrap();
    assert!(
        (explained.raw - all[3].raw).abs() < 1e-5 && (explained.score - all[3].score).abs() < 1e-5
    );

    let allowed = Allowed::from_ordinals(all[50..60].iter().map(|c| c.ordinal));
    question.allowed = Some(Arc::new(allowed));
    assert_eq!(index.retrieve(&question).unwrap(), all[50..60]);
    question.allowed = Some(Arc::new(Allowed::default()));
    assert_eq!(index.retrieve(&question).unwrap(), []);
    question.allowed = None;

    let mut policy = Policy::default();
    policy.query.semantic.candidates = 3;
    policy.query.semantic.min_similarity = -1.0;
    question.policy = Arc::new(policy.clone());
    assert_eq!(index.retrieve(&question).unwrap().len(), 10, "k is above the policy's figure");
    question.k = 5_000;
    assert_eq!(index.retrieve(&question).unwrap().len(), 600);
    policy.query.semantic.min_similarity = all[7].raw;
    question.policy = Arc::new(policy.clone());
    assert!(index.retrieve(&question).unwrap().iter().all(|c| c.raw >= all[7].raw));
    policy.query.semantic.enabled = false;
    question.policy = Arc::new(policy);
    assert!(!index.applies(&question));

    let mut similar = ask("");
    similar.like = Some(all[0].ordinal);
    assert!(index.applies(&similar));
    let neighbours = index.retrieve(&similar).unwrap();
    assert_eq!(neighbours.len(), 100);
    assert!(neighbours.iter().all(|c| c.ordinal != all[0].ordinal));
    similar.like = Some(Ordinal(4_000_000));
    assert_eq!(index.retrieve(&similar).unwrap(), [], "a product without a vector");
}

#[test]
fn large_catalogues_get_a_graph_that_answers_alike() {
    let shop = shop(6_000);
    let built = shop.build();
    assert_eq!(built.version.manifest.vectors.as_ref().unwrap().layout, VectorLayout::Hnsw);
    let index = shop.open().unwrap();
    assert!(found(&index, &shop.store, &ask("mug"))[..10].iter().all(|name| name.contains("Mug")));
    // A filter so narrow that the graph would miss it.
    let last = index.retrieve(&ask("lamp")).unwrap().pop().unwrap().ordinal;
    let mut narrow = ask("lamp");
    narrow.allowed = Some(Arc::new(Allowed::from_ordinals([last, Ordinal(0)])));
    assert_eq!(index.retrieve(&narrow).unwrap()[0].ordinal, last);
}

#[test]
fn empty_and_wordless_catalogues_have_no_vectors() {
    let check = |products: Vec<Product>, vectors: usize| {
        let shop = shop(0);
        let count = products.len() as u64;
        put(&shop.store, products);
        let built = shop.build();
        assert_eq!(built.version.manifest.products, count);
        let found = built.version.manifest.vectors.as_ref().map_or(0, |vectors| vectors.products);
        assert_eq!(found, vectors);
        assert_eq!(shop.open().err(), (vectors == 0).then_some(SemanticError::Empty));
        assert!(up_to_date(&shop.store, &shop.options).unwrap().is_some());
    };
    let named =
        |id: &str, name: &str| Product { id: id.into(), name: name.into(), ..Product::default() };
    check(vec![], 0);
    check(vec![named("a", ""), named("b", "🎧 !!")], 0);
    check(vec![named("a", "Red mug")], 1);
    check(vec![named("a", "Red mug"), named("b", "red MUG"), named("c", "mug")], 3);
    check(vec![named("a", ""), named("b", "Red mug"), named("c", "Blue lamp")], 2);
}

#[test]
fn the_same_catalogue_gives_the_same_vectors() {
    let (one, two) = (shop(500), shop(500));
    let mut fewer_threads = two.options.clone();
    fewer_threads.threads = 1;
    let first = one.build().version.manifest;
    let second = build(&two.store, &fewer_threads, &|_, _, _| {}).unwrap().version.manifest;
    assert_eq!(first.parts[&Part::Vectors], second.parts[&Part::Vectors]);
    assert_eq!(first.parts[&Part::Embedding], second.parts[&Part::Embedding]);
    fewer_threads.seed += 1;
    let third = build(&two.store, &fewer_threads, &|_, _, _| {}).unwrap().version.manifest;
    assert_ne!(first.parts[&Part::Vectors], third.parts[&Part::Vectors]);
}

#[test]
fn only_what_changes_something_is_built_again() {
    let mut shop = shop(50);
    let current = |shop: &Shop| up_to_date(&shop.store, &shop.options).unwrap().map(|v| v.name);
    assert_eq!(current(&shop), None);
    let first = shop.build().version.name;
    assert_eq!(current(&shop), Some(first.clone()));

    // Two in fifty are taken up by whoever serves; a price is nothing to an index.
    put(&shop.store, [product(50), product(51)]);
    put(&shop.store, (0..50).map(|n| Product { price: Some(0.5), ..product(n) }));
    assert_eq!(current(&shop), Some(first.clone()), "a few products more");
    put(&shop.store, [product(52)]);
    assert_eq!(current(&shop), None, "more than one in twenty");
    let second = shop.build().version;
    assert_eq!(current(&shop), Some(second.name.clone()));

    shop.options.dims += 1;
    assert_eq!(current(&shop), None, "other options");
    shop.options.dims -= 1;
    let file = second.folder.join(&second.manifest.parts[&Part::Vectors][0].path);
    fs::OpenOptions::new().append(true).open(&file).unwrap().set_len(1).unwrap();
    assert_eq!(current(&shop), None, "a torn file");

    versions::point_to(shop.folder.path(), &first).unwrap();
    assert_eq!(current(&shop), None, "rolled back to an older catalogue");
}

#[test]
fn progress_reaches_the_end_of_every_stage() {
    let shop = shop(300);
    let seen = Mutex::new(std::collections::BTreeMap::new());
    build(&shop.store, &shop.options, &|stage, done, total| {
        assert!(done <= total);
        seen.lock().unwrap().insert(stage, (done, total));
    })
    .unwrap();
    let seen = seen.into_inner().unwrap();
    let stages: Vec<_> = seen.keys().map(|stage| stage.name()).collect();
    assert_eq!(stages, ["read", "learn", "embed", "publish"]);
    assert!(seen.values().all(|(done, total)| done == total && *total > 0), "{seen:?}");
}

/// Every way a file goes bad, for every file of every part.
#[test]
fn damaged_files_are_refused_before_they_are_opened() {
    let shop = shop(6_000);
    let version = shop.build().version;
    let open = || {
        SemanticIndex::open(&versions::current(shop.folder.path())?.unwrap(), None)
            .map_err(|error| VersionError::Broken { name: String::new(), why: error.to_string() })
    };
    assert!(open().is_ok());
    let check = |path: &Path, what: &str, bytes: &[u8], expected: &str| {
        let whole = fs::read(path).unwrap();
        fs::write(path, bytes).unwrap();
        let refused = open().expect_err(&format!("{what} {}", path.display())).to_string();
        assert!(refused.contains(expected), "{what} {}: {refused}", path.display());
        fs::write(path, whole).unwrap();
        assert!(open().is_ok());
    };
    for part in [Part::Vectors, Part::Embedding] {
        for file in &version.manifest.parts[&part] {
            let path = version.folder.join(&file.path);
            let whole = fs::read(&path).unwrap();
            check(&path, "truncated", &whole[..whole.len() - 1], "bytes, not");
            check(&path, "empty", &[], "has 0 bytes");
            check(&path, "longer", &[&whole[..], b"x"].concat(), "bytes, not");
            for at in [0, whole.len() / 3, whole.len() - 1] {
                let mut flipped = whole.clone();
                flipped[at] ^= 1;
                check(&path, "flipped", &flipped, "checksum of");
            }
            let mut zeros = vec![0; whole.len()];
            zeros[0] = !whole[0];
            check(&path, "zeroed", &zeros, "checksum of");
        }
    }
    // Two files that are whole, in each other's place.
    let vectors = version.folder.join("vectors");
    fs::rename(vectors.join("ordinals.u32"), vectors.join("x")).unwrap();
    fs::rename(vectors.join("vectors.faiss"), vectors.join("ordinals.u32")).unwrap();
    fs::rename(vectors.join("x"), vectors.join("vectors.faiss")).unwrap();
    assert!(open().unwrap_err().to_string().contains("bytes, not"));
    fs::remove_dir_all(&vectors).unwrap();
    assert!(open().unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn a_model_that_cannot_be_opened_leaves_the_index_in_force() {
    let mut shop = shop(20);
    let before = shop.build().version.name;
    shop.options.model = Model::Folder(shop.folder.path().join("nothing here"));
    let refused = build(&shop.store, &shop.options, &|_, _, _| {}).unwrap_err();
    assert!(refused.to_string().contains("no such folder"), "{refused}");
    assert_eq!(versions::current(shop.folder.path()).unwrap().unwrap().name, before);
    let left: Vec<_> = fs::read_dir(shop.folder.path().join("indexes"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".building"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_broken_semantic_index_is_a_sentence_in_the_answer() {
    let shop = shop(20);
    shop.build();
    let index = shop.open().unwrap();
    let refused = index.nearest(&vec![f32::NAN; index.embedder().dims()], 5, None).unwrap_err();
    assert!(refused.to_string().contains("not finite"));
    let refused = index.nearest(&[1.0], 5, None).unwrap_err();
    assert!(refused.to_string().contains("1 numbers"), "{refused}");
    let error = RetrieveError::Unavailable { source_name: "semantic", why: refused.to_string() };
    assert!(error.to_string().starts_with("semantic: "));
}

/// Only what is lost counts: a version that is as incomplete as the one that serves is taken.
#[test]
fn a_version_is_taken_when_nothing_is_lost_by_it() {
    let mut shop = shop(20);
    let model = shop.folder.path().join("model");
    fs::create_dir(&model).unwrap();
    static_model(&model);
    shop.options.model = Model::Folder(model);
    let first = shop.build().version;
    let options = Options {
        data_dir: shop.folder.path().into(),
        embedding_model: Some(shop.folder.path().join("not-mounted")),
        workers: 1,
        clock: penstock_config::clock::system(),
        caches: None,
    };
    let engine = Engine::open(options, Arc::new(Policy::default())).unwrap();
    let wait = |version: &versions::Version, mode: Mode| {
        let serves = || {
            let status = engine.status();
            status.index_version == version.name && status.mode == mode
        };
        let came = (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            serves()
        });
        assert!(came, "{}: {:?}", version.name, engine.status());
    };
    wait(&first, Mode::KeywordOnly);
    put(&shop.store, [product(20)]);
    wait(&shop.build().version, Mode::KeywordOnly);
    shop.options.model = Model::Learnt;
    wait(&shop.build().version, Mode::Full);
}
