//! Static token embeddings: tokenise, look up, mean, length 1.

use super::table::Table;
use super::{EmbedError, Embedder, Kind, fingerprint, to_unit};
use std::fs;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// Text beyond this many bytes is not read: a description this long says no more about a product,
/// and a hostile one shall not hold a thread.
const MAX_BYTES: usize = 8_192;

/// One vector per token of a tokenizer's vocabulary.
#[derive(Debug)]
pub struct StaticTable {
    tokenizer: Tokenizer,
    table: Table,
    unknown: Option<u32>,
    fingerprint: String,
}

/// `[table, tokenizer]` in `folder`: the only `.safetensors`, and `tokenizer.json` or else the only
/// `.json` with "tokenizer" in its name.
pub(super) fn files(folder: &Path) -> Result<[PathBuf; 2], EmbedError> {
    let refuse = |why: String| EmbedError::model(folder, why);
    let entries = fs::read_dir(folder).map_err(|error| refuse(error.to_string()))?;
    let (mut tables, mut tokenizers) = (Vec::new(), Vec::new());
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if name.ends_with(".safetensors") {
            tables.push(path);
        } else if name.ends_with(".json") && name.contains("tokenizer") {
            tokenizers.push(path);
        }
    }
    let exact = folder.join("tokenizer.json");
    if tokenizers.contains(&exact) {
        tokenizers = vec![exact];
    }
    match (&tables[..], &tokenizers[..]) {
        ([table], [tokenizer]) => Ok([table.clone(), tokenizer.clone()]),
        _ => Err(refuse(format!(
            "expected one .safetensors file and one tokenizer .json, found {} and {}",
            tables.len(),
            tokenizers.len()
        ))),
    }
}

impl StaticTable {
    /// Opens the table and the tokenizer in `folder`.
    pub fn open(folder: &Path) -> Result<Self, EmbedError> {
        let [table_file, tokenizer_file] = files(folder)?;
        let read = |path: &Path| {
            fs::read(path).map_err(|error| EmbedError::model(path, error.to_string()))
        };
        let (table_bytes, tokenizer_bytes) = (read(&table_file)?, read(&tokenizer_file)?);
        let table = Table::parse(&table_bytes, "embedding.weight", &table_file)?;
        let refuse = |why: String| EmbedError::model(&tokenizer_file, why);
        let mut tokenizer =
            Tokenizer::from_bytes(&tokenizer_bytes).map_err(|error| refuse(error.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| refuse(error.to_string()))?;
        let words = tokenizer.get_vocab_size(true);
        if words > table.rows() {
            return Err(refuse(format!(
                "it has {words} tokens, but the table has {} rows: they do not belong together",
                table.rows()
            )));
        }
        let unknown = ["<unk>", "[UNK]"].iter().find_map(|token| tokenizer.token_to_id(token));
        Ok(Self {
            fingerprint: fingerprint("static 1", [&table_bytes[..], &tokenizer_bytes]),
            tokenizer,
            table,
            unknown,
        })
    }

    fn embed_one(&self, text: &str) -> Result<Option<Vec<f32>>, EmbedError> {
        // Without case: queries are typed in lower case, catalogues are not.
        let text = text[..text.floor_char_boundary(MAX_BYTES)].to_lowercase();
        let tokens = self
            .tokenizer
            .encode_fast(text.trim(), false)
            .map_err(|error| EmbedError::Text(error.to_string()))?;
        let mut sum = vec![0.0; self.table.dims()];
        for &token in tokens.get_ids() {
            if Some(token) != self.unknown {
                self.table.add(token, 1.0, &mut sum);
            }
        }
        Ok(to_unit(sum))
    }
}

impl Embedder for StaticTable {
    fn dims(&self) -> usize {
        self.table.dims()
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Option<Vec<f32>>>, EmbedError> {
        texts.iter().map(|text| self.embed_one(text)).collect()
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn kind(&self) -> Kind {
        Kind::Static
    }
}
