use super::super::tests::{tensors, tokenizer};
use super::super::{Kind, open};
use safetensors::tensor::Dtype;
use serde_json::json;
use std::fs;
use std::path::Path;

const HIDDEN: usize = 16;
const INNER: usize = 32;
const WORDS: [&str; 6] = ["red", "mug", "lamp", "warm", "light", "tea"];
const VOCABULARY: usize = WORDS.len() + 1;
const POSITIONS: usize = 300;

/// A random BERT of two layers, written the way sentence-transformers writes them.
fn model(folder: &Path) {
    let config = json!({
        "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": HIDDEN,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": INNER,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer(&WORDS)).unwrap();

    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".into(), vec![VOCABULARY, HIDDEN]),
        ("embeddings.position_embeddings.weight".into(), vec![POSITIONS, HIDDEN]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, HIDDEN]),
    ];
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in 0..2 {
        let layer = format!("encoder.layer.{layer}");
        for (name, from, to) in [
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", HIDDEN, INNER),
            ("output.dense", INNER, HIDDEN),
        ] {
            shapes.push((format!("{layer}.{name}.weight"), vec![to, from]));
            shapes.push((format!("{layer}.{name}.bias"), vec![to]));
        }
        norms.push(format!("{layer}.attention.output.LayerNorm"));
        norms.push(format!("{layer}.output.LayerNorm"));
    }
    for norm in norms {
        shapes.push((format!("{norm}.weight"), vec![HIDDEN]));
        shapes.push((format!("{norm}.bias"), vec![HIDDEN]));
    }
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let named: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = shapes
        .iter()
        .map(|(name, shape)| {
            let count = shape.iter().product::<usize>();
            let bytes = (0..count).flat_map(|_| random().to_le_bytes()).collect();
            (name.as_str(), Dtype::F32, shape.clone(), bytes)
        })
        .collect();
    fs::write(folder.join("model.safetensors"), tensors(&named)).unwrap();
}

fn close(a: &Option<Vec<f32>>, b: &Option<Vec<f32>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5),
        (None, None) => true,
        _ => false,
    }
}

#[test]
fn texts_become_unit_vectors_that_do_not_depend_on_their_company() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    let model = open(folder.path()).unwrap();
    assert_eq!((model.kind(), model.dims()), (Kind::Transformer, HIDDEN));
    let long = "warm light ".repeat(1_000);
    let mut texts: Vec<&str> = vec!["red mug", "", "lamp", &long, "warm light lamp tea", " "];
    // More than one batch, of many lengths.
    let more: Vec<String> = (0..70)
        .map(|n| {
            WORDS
                .iter()
                .cycle()
                .take(1 + n % 23)
                .fold(String::new(), |text, word| text + word + " ")
        })
        .collect();
    texts.extend(more.iter().map(String::as_str));

    let together = model.embed(&texts).unwrap();
    assert_eq!(together.len(), texts.len());
    for (text, vector) in texts.iter().zip(&together) {
        // Alone there is no padding; in company there is.
        let alone = model.embed(&[text]).unwrap().pop().unwrap();
        assert!(close(&alone, vector), "{text:?}: {alone:?} {vector:?}");
        assert_eq!(vector.is_none(), text.trim().is_empty(), "{text:?}");
        if let Some(vector) = vector {
            assert_eq!(vector.len(), HIDDEN);
            let length: f32 = vector.iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-5, "{length}");
        }
    }
    assert!(!close(&together[0], &together[2]), "different texts differ");
    let order = model.embed(&["red mug", "mug red"]).unwrap();
    assert!(!close(&order[0], &order[1]), "word order counts");
    // What comes after 256 tokens is not read.
    let first = "warm light ".repeat(128);
    assert!(close(&model.embed(&[&first]).unwrap()[0], &together[3]));
}

#[test]
fn a_torn_or_foreign_transformer_is_refused() {
    let check = |name: &str, content: &[u8], expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        model(folder.path());
        assert!(open(folder.path()).is_ok());
        fs::write(folder.path().join(name), content).unwrap();
        let refused = open(folder.path()).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    };
    check("config.json", br#"{"num_hidden_layers": 2}"#, "it describes no BERT");
    check("model.safetensors", b"", "model.safetensors");
    let other = tensors(&[("x", Dtype::F32, vec![1, 1], vec![0; 4])]);
    check("model.safetensors", &other, "embeddings.word_embeddings.weight");
    check("tokenizer.json", b"{}", "tokenizer.json");
    let more: Vec<String> = (0..VOCABULARY).map(|n| format!("w{n}")).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    check("tokenizer.json", &tokenizer(&more), "they do not belong together");
}
