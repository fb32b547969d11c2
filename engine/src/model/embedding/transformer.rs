//! A BERT-class sentence encoder (such as all-MiniLM-L6-v2), run in candle on the CPU.
//!
//! Mean of the last layer over the tokens of the text, length 1, as sentence-transformers does it
//! (Reimers, Gurevych: "Sentence-BERT", EMNLP 2019).

use super::{EmbedError, Embedder, Kind, fingerprint, to_unit};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use std::fs;
use std::path::Path;
use tokenizers::{Encoding, Tokenizer, TruncationParams};

/// Tokens of a text that are read, as the MiniLM models were trained.
const MAX_TOKENS: usize = 256;
/// Bytes of a text that are tokenised: more than 256 tokens of any language.
const MAX_BYTES: usize = 8_192;
/// Texts that go through the network together: memory grows with it, speed no more.
const BATCH: usize = 32;

/// A sentence encoder.
pub struct Transformer {
    tokenizer: Tokenizer,
    model: BertModel,
    dims: usize,
    fingerprint: String,
}

impl std::fmt::Debug for Transformer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transformer({} dimensions, {})", self.dims, self.fingerprint)
    }
}

impl Transformer {
    /// Opens `config.json`, `tokenizer.json` and `model.safetensors` in `folder`.
    pub fn open(folder: &Path) -> Result<Self, EmbedError> {
        let refuse = |name: &str, why: String| EmbedError::model(&folder.join(name), why);
        let read = |name: &str| {
            fs::read(folder.join(name)).map_err(|error| refuse(name, error.to_string()))
        };
        let config_bytes = read("config.json")?;
        let tokenizer_bytes = read("tokenizer.json")?;
        let model_bytes = read("model.safetensors")?;
        let fingerprint =
            fingerprint("transformer 1", [&config_bytes[..], &tokenizer_bytes, &model_bytes]);

        let config: Config = serde_json::from_slice(&config_bytes)
            .map_err(|error| refuse("config.json", format!("it describes no BERT: {error}")))?;
        let bad_tokenizer = |why: String| refuse("tokenizer.json", why);
        let mut tokenizer = Tokenizer::from_bytes(&tokenizer_bytes)
            .map_err(|error| bad_tokenizer(error.to_string()))?;
        let words = tokenizer.get_vocab_size(true);
        if words > config.vocab_size {
            return Err(bad_tokenizer(format!(
                "it has {words} tokens, but the model knows {}: they do not belong together",
                config.vocab_size
            )));
        }
        let truncation = TruncationParams {
            max_length: MAX_TOKENS.min(config.max_position_embeddings),
            ..TruncationParams::default()
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|error| bad_tokenizer(error.to_string()))?;
        tokenizer.with_padding(None);

        let bad_model = |error: candle_core::Error| refuse("model.safetensors", error.to_string());
        let weights = VarBuilder::from_buffered_safetensors(model_bytes, DType::F32, &Device::Cpu)
            .map_err(bad_model)?;
        Ok(Self {
            model: BertModel::load(weights, &config).map_err(bad_model)?,
            tokenizer,
            dims: config.hidden_size,
            fingerprint,
        })
    }

    fn tokens(&self, text: &str) -> Result<Encoding, EmbedError> {
        let text = &text[..text.floor_char_boundary(MAX_BYTES)];
        self.tokenizer.encode_fast(text, true).map_err(|error| EmbedError::Text(error.to_string()))
    }

    /// Shape: `[texts, tokens of the longest]` in, `[texts, dims]` out.
    fn encode(&self, texts: &[Encoding]) -> candle_core::Result<Vec<Vec<f32>>> {
        let longest = texts.iter().map(Encoding::len).max().unwrap_or(0);
        let shape = (texts.len(), longest);
        let padded = |numbers: fn(&Encoding) -> &[u32]| {
            let rows = texts.iter().flat_map(|text| {
                let row = numbers(text);
                row.iter().copied().chain(std::iter::repeat_n(0, longest - row.len()))
            });
            Tensor::from_vec(rows.collect::<Vec<u32>>(), shape, &Device::Cpu)
        };
        let ids = padded(Encoding::get_ids)?;
        // Padding is masked, so its id and type do not matter.
        let types = ids.zeros_like()?;
        let mask = padded(Encoding::get_attention_mask)?;
        let states = self.model.forward(&ids, &types, Some(&mask))?;
        let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
        // Their sum has the direction of their mean, and only that is kept.
        states.broadcast_mul(&mask)?.sum(1)?.to_vec2()
    }
}

impl Embedder for Transformer {
    fn dims(&self) -> usize {
        self.dims
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Option<Vec<f32>>>, EmbedError> {
        let mut vectors = vec![None; texts.len()];
        // The model would give a vector to nothing, too: that of its own start and end marks.
        let mut tokens = Vec::with_capacity(texts.len());
        for (at, text) in texts.iter().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            tokens.push((at, self.tokens(text)?));
        }
        // Texts of one length together: padding is computed like text.
        tokens.sort_by_key(|(_, tokens)| tokens.len());
        let (places, tokens): (Vec<usize>, Vec<Encoding>) = tokens.into_iter().unzip();
        for (places, tokens) in places.chunks(BATCH).zip(tokens.chunks(BATCH)) {
            let rows = self.encode(tokens).map_err(|error| EmbedError::Text(error.to_string()))?;
            for (place, row) in places.iter().zip(rows) {
                vectors[*place] = to_unit(row);
            }
        }
        Ok(vectors)
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn kind(&self) -> Kind {
        Kind::Transformer
    }
}

#[cfg(test)]
mod tests;
