use super::{EmbedError, Embedder, Kind, open, product_text, recognise, to_unit};
use crate::catalog::Product;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// A tokenizer that knows `words` (number 0 is `[UNK]`) and splits at spaces.
pub(super) fn tokenizer(words: &[&str]) -> Vec<u8> {
    let vocabulary: serde_json::Map<_, _> = std::iter::once("[UNK]")
        .chain(words.iter().copied())
        .enumerate()
        .map(|(id, word)| (word.to_owned(), id.into()))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    });
    serde_json::to_vec(&tokenizer).unwrap()
}

pub(super) fn tensors(named: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let views = named.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    serialize(views, None).unwrap()
}

const WORDS: [&str; 3] = ["red", "mug", "lamp"];
/// One row per token: [UNK], red, mug, lamp.
const ROWS: [f32; 8] = [9.0, 9.0, 1.0, 0.0, 0.0, 1.0, 3.0, 4.0];

fn f32s(rows: &[f32]) -> Vec<u8> {
    rows.iter().flat_map(|x| x.to_le_bytes()).collect()
}

pub(crate) fn static_model(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let table = tensors(&[("embedding.weight", Dtype::F32, vec![4, 2], f32s(&ROWS))]);
    fs::write(folder.join("table.safetensors"), table).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer(&WORDS)).unwrap();
}

fn embed(model: &Arc<dyn Embedder>, text: &str) -> Option<Vec<f32>> {
    model.embed(&[text]).unwrap().pop().unwrap()
}

fn why(outcome: Result<Arc<dyn Embedder>, EmbedError>) -> String {
    outcome.unwrap_err().to_string()
}

#[test]
fn a_static_table_gives_the_direction_of_the_mean() {
    let folder = tempfile::tempdir().unwrap();
    static_model(folder.path());
    let model = open(folder.path()).unwrap();
    assert_eq!((model.kind(), model.dims()), (Kind::Static, 2));
    let half = 0.5_f32.sqrt();
    let check = |text: &str, expected: Option<[f32; 2]>| {
        let found = embed(&model, text);
        match (&found, expected) {
            (None, None) => {}
            (Some(found), Some(expected)) => {
                assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
            }
            _ => panic!("{text:?}: {found:?}, not {expected:?}"),
        }
    };
    check("red", Some([1.0, 0.0]));
    check("red mug", Some([half, half]));
    check("MUG  Red", Some([half, half]));
    check("lamp", Some([0.6, 0.8]));
    check("red unheard-of", Some([1.0, 0.0]));
    check("unheard of", None);
    check("", None);
    check(" \n\t", None);
    check("🎧\0\u{FFFD}", None);
    check(&"red ".repeat(1_000_000), Some([1.0, 0.0]));
    check(&"耳".repeat(100_000), None);
    let together = model.embed(&["red", "", "lamp"]).unwrap();
    let alone = ["red", "", "lamp"].map(|text| embed(&model, text));
    assert_eq!(together, alone);
}

#[test]
fn static_tables_come_in_several_layouts() {
    let check = |table: &str, name: &str, tokenizer_file: &str, dtype: Dtype, bytes: Vec<u8>| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(tokenizer_file), tokenizer(&WORDS)).unwrap();
        let tensors = tensors(&[
            (name, dtype, vec![4, 2], bytes),
            ("scale", Dtype::F32, vec![1], f32s(&[1.0])),
        ]);
        fs::write(folder.path().join(table), tensors).unwrap();
        fs::write(folder.path().join("README.md"), "").unwrap();
        assert_eq!(recognise(folder.path()), Ok(Kind::Static));
        let lamp = embed(&open(folder.path()).unwrap(), "lamp").unwrap();
        assert!((lamp[0] - 0.6).abs() < 1e-3 && (lamp[1] - 0.8).abs() < 1e-3, "{lamp:?}");
    };
    let halves = |to: fn(f32) -> [u8; 2]| ROWS.iter().flat_map(|x| to(*x)).collect::<Vec<u8>>();
    check("model.safetensors", "embeddings", "tokenizer.json", Dtype::F32, f32s(&ROWS));
    let f16s = halves(|x| f16::from_f32(x).to_le_bytes());
    check("a_256.safetensors", "embedding.weight", "a_tokenizer_config.json", Dtype::F16, f16s);
    let bf16s = halves(|x| bf16::from_f32(x).to_le_bytes());
    check("t.safetensors", "x", "Tokenizer.JSON", Dtype::BF16, bf16s);
}

#[test]
fn folders_without_a_sound_model_are_refused_with_a_sentence() {
    let check = |spoil: &dyn Fn(&Path), expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        static_model(folder.path());
        assert!(open(folder.path()).is_ok());
        spoil(folder.path());
        let refused = why(open(folder.path()));
        assert!(refused.contains(expected), "{refused}");
    };
    let table = |dtype, shape: Vec<usize>, bytes: Vec<u8>| {
        move |folder: &Path| {
            let tensors = tensors(&[("embedding.weight", dtype, shape.clone(), bytes.clone())]);
            fs::write(folder.join("table.safetensors"), tensors).unwrap();
        }
    };
    let write = |name: &'static str, bytes: Vec<u8>| {
        move |folder: &Path| fs::write(folder.join(name), &bytes).unwrap()
    };
    check(&|folder| fs::remove_dir_all(folder).unwrap(), "there is no such folder");
    check(&|folder| fs::remove_file(folder.join("tokenizer.json")).unwrap(), "no model in it");
    check(&write("other.safetensors", vec![]), "no model in it");
    check(&write("table.safetensors", vec![]), "eader");
    check(&write("table.safetensors", vec![0xFF; 64]), "eader");
    check(&write("tokenizer.json", b"{".to_vec()), "EOF");
    let words: Vec<String> = (0..9).map(|n| format!("w{n}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    check(&write("tokenizer.json", tokenizer(&words)), "10 tokens, but the table has 4 rows");
    check(&table(Dtype::F32, vec![8], f32s(&ROWS)), "is not [rows, dims]");
    check(&table(Dtype::F32, vec![0, 2], vec![]), "the table is empty");
    check(&table(Dtype::U8, vec![4, 2], vec![0; 8]), "type U8");
    let mut rows = ROWS;
    rows[3] = f32::NAN;
    check(&table(Dtype::F32, vec![4, 2], f32s(&rows)), "not finite");
    let infinite = f16::INFINITY.to_le_bytes().repeat(8);
    check(&table(Dtype::F16, vec![4, 2], infinite), "not finite");
}

#[test]
fn a_fingerprint_is_that_of_the_contents() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    folders.iter().for_each(|folder| static_model(folder.path()));
    let fingerprint = |at: usize| open(folders[at].path()).unwrap().fingerprint().to_owned();
    assert_eq!(fingerprint(0), fingerprint(1));
    assert_eq!(fingerprint(0).len(), 16);
    fs::write(folders[1].path().join("tokenizer.json"), tokenizer(&["mug", "red", "lamp"]))
        .unwrap();
    assert_ne!(fingerprint(0), fingerprint(1));
}

#[test]
fn only_unit_vectors_leave() {
    let check = |vector: &[f32], expected: Option<&[f32]>| {
        assert_eq!(to_unit(vector.to_vec()).as_deref(), expected, "{vector:?}");
    };
    check(&[3.0, 4.0], Some(&[0.6, 0.8]));
    check(&[1e-10, 0.0], Some(&[1.0, 0.0]));
    check(&[-1e30, 0.0], Some(&[-1.0, 0.0]));
    check(&[0.0, 0.0], None);
    check(&[], None);
    check(&[f32::NAN, 1.0], None);
    check(&[f32::INFINITY, 1.0], None);
    check(&[f32::INFINITY, f32::NEG_INFINITY], None);
}

#[test]
fn a_product_is_read_name_first() {
    let product = Product {
        name: "Red mug ".into(),
        brand: "Acme".into(),
        category: "Kitchen > Mugs|Gifts".into(),
        description: "Holds coffee.".into(),
        ..Product::default()
    };
    let check =
        |product: &Product, kind, expected| assert_eq!(product_text(product, kind), expected);
    let bag = "red mug red mug acme kitchen mugs gifts holds coffee.";
    check(&product, Kind::Learnt, bag);
    check(&product, Kind::Static, bag);
    let read = "red mug. acme. kitchen mugs gifts. holds coffee.";
    check(&product, Kind::Transformer, read);
    let named = Product { name: "Lamp".into(), ..Product::default() };
    check(&named, Kind::Transformer, "lamp");
    check(&Product::default(), Kind::Learnt, "");
}

#[cfg(not(feature = "transformer"))]
#[test]
fn without_the_feature_a_transformer_says_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    static_model(folder.path());
    fs::rename(folder.path().join("table.safetensors"), folder.path().join("model.safetensors"))
        .unwrap();
    fs::write(folder.path().join("config.json"), r#"{"num_hidden_layers": 6}"#).unwrap();
    assert!(why(open(folder.path())).contains("--features transformer"));
}
