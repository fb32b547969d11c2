//! A file to import: opened, unzipped, its format known.

use super::columns::{Entity, Mapping};
use super::error::{ImportError, Place};
use super::read::{CsvRows, JsonRows, ParquetRows, Rows};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const PARQUET: &[u8] = b"PAR1";
const READ_BYTES: usize = 256 * 1024;

/// A file's format. Whether it is gzipped is seen from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    JsonLines,
    /// Apache Parquet.
    Parquet,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name.to_lowercase().as_str() {
            "csv" => Ok(Self::Csv),
            "jsonl" | "ndjson" | "jsonlines" => Ok(Self::JsonLines),
            "parquet" | "pq" => Ok(Self::Parquet),
            _ => Err(format!("`{name}` is not csv, jsonl or parquet")),
        }
    }
}

impl Format {
    /// From the name of a file: `.csv`, `.jsonl` or `.ndjson`, `.parquet`, with or without `.gz`.
    pub fn of_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        name.rsplit_once('.')?.1.parse().ok()
    }
}

/// A file to import.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// What its rows are.
    pub entity: Entity,
    /// Its format; `None`: by its name, and by its first bytes.
    pub format: Option<Format>,
}

/// An opened file.
pub(super) struct Opened {
    pub(super) rows: Box<dyn Rows>,
    /// Size of the file.
    pub(super) bytes: u64,
    /// How much of it was read.
    pub(super) read: Arc<AtomicU64>,
}

/// A file at its beginning.
struct Found {
    file: File,
    bytes: u64,
    /// The first bytes of its content.
    head: Vec<u8>,
    /// Whether it is gzipped.
    packed: bool,
}

impl Source {
    /// Opens the file and reads as much as its header. A gzipped Parquet file is unpacked into an
    /// unnamed file in `scratch`: its index is at its end.
    pub(super) fn open(&self, mapping: &Mapping, scratch: &Path) -> Result<Opened, ImportError> {
        let found = self.found()?;
        let format = self.format(&found.head)?;
        if format == Format::Parquet {
            let Found { file, bytes, packed, .. } = found;
            let file = match packed {
                false => file,
                true => self.unpack(file, scratch)?,
            };
            let read = Arc::new(AtomicU64::new(0));
            let rows = ParquetRows::open(file, self.entity, mapping, bytes, read.clone());
            let rows = Box::new(rows.map_err(|why| self.refused(format, why))?);
            return Ok(Opened { rows, bytes, read });
        }
        self.text(found, |text| match format {
            Format::Csv => Ok(Box::new(CsvRows::open(text, self.entity, mapping)?)),
            _ => Ok(Box::new(JsonRows::open(text, self.entity, mapping))),
        })
    }

    /// Opens a text file, whatever its name says, with a reader of rows.
    pub(super) fn open_text(
        &self,
        rows: impl FnOnce(Box<dyn Read>) -> Result<Box<dyn Rows>, String>,
    ) -> Result<Opened, ImportError> {
        self.text(self.found()?, rows)
    }

    fn text(
        &self,
        found: Found,
        rows: impl FnOnce(Box<dyn Read>) -> Result<Box<dyn Rows>, String>,
    ) -> Result<Opened, ImportError> {
        let Found { file, bytes, packed, .. } = found;
        let read = Arc::new(AtomicU64::new(0));
        let counted =
            Counted { from: BufReader::with_capacity(READ_BYTES, file), read: read.clone() };
        let text: Box<dyn Read> = match packed {
            true => Box::new(BufReader::with_capacity(
                READ_BYTES,
                MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, counted)),
            )),
            false => Box::new(counted),
        };
        let refused = |why| self.refused(Format::Csv, why);
        let text = without_bom(text).map_err(|e| refused(e.to_string()))?;
        Ok(Opened { rows: rows(Box::new(text)).map_err(refused)?, bytes, read })
    }

    fn found(&self) -> Result<Found, ImportError> {
        let cannot = |error| ImportError::Open { file: self.path.clone(), error };
        let mut file = File::open(&self.path).map_err(cannot)?;
        let found = file.metadata().map_err(cannot)?;
        if found.is_dir() {
            return Err(cannot(io::Error::other("it is a folder")));
        }
        let (head, packed) = self.head(&mut file)?;
        Ok(Found { file, bytes: found.len(), head, packed })
    }

    /// The first bytes of the content, and whether the file is gzipped.
    fn head(&self, file: &mut File) -> Result<(Vec<u8>, bool), ImportError> {
        let start = |from: &mut dyn Read| {
            let mut head = Vec::new();
            from.take(4).read_to_end(&mut head).map(|_| head)
        };
        let cannot = |error| ImportError::Open { file: self.path.clone(), error };
        let mut head = start(file).map_err(cannot)?;
        file.seek(SeekFrom::Start(0)).map_err(cannot)?;
        let packed = head.starts_with(&GZIP);
        if packed {
            head = start(&mut MultiGzDecoder::new(&mut *file)).map_err(|e| self.torn(&e))?;
            file.seek(SeekFrom::Start(0)).map_err(cannot)?;
        }
        if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
            return Err(ImportError::Format {
                file: self.path.clone(),
                why: "this is UTF-16; save it as UTF-8".into(),
            });
        }
        Ok((head, packed))
    }

    fn format(&self, head: &[u8]) -> Result<Format, ImportError> {
        match self.format {
            Some(format) => Ok(format),
            None if head == PARQUET => Ok(Format::Parquet),
            None => Format::of_name(&self.path).ok_or_else(|| ImportError::Format {
                file: self.path.clone(),
                why: "the name does not tell the format; say --format csv, jsonl or parquet".into(),
            }),
        }
    }

    fn unpack(&self, file: File, scratch: &Path) -> Result<File, ImportError> {
        let cannot = |error| ImportError::Open { file: scratch.to_path_buf(), error };
        let mut plain = tempfile::tempfile_in(scratch).map_err(cannot)?;
        let mut unzip = MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, file));
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = unzip.read(&mut buffer).map_err(|e| self.torn(&e))?;
            if read == 0 {
                break;
            }
            io::Write::write_all(&mut plain, &buffer[..read]).map_err(cannot)?;
        }
        plain.seek(SeekFrom::Start(0)).map_err(cannot)?;
        Ok(plain)
    }

    fn torn(&self, error: &io::Error) -> ImportError {
        ImportError::Torn {
            place: Place { file: self.path.clone(), number: 1, unit: "line" },
            why: format!("the gzip is torn or damaged ({error})"),
        }
    }

    fn refused(&self, format: Format, why: String) -> ImportError {
        let file = self.path.clone();
        match format {
            Format::Parquet if why.starts_with("not a sound") => ImportError::Format { file, why },
            _ => ImportError::Columns { file, why },
        }
    }
}

/// Counts what is taken from the file.
struct Counted {
    from: BufReader<File>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Spreadsheets begin UTF-8 files with a mark that is no part of the first column's name.
fn without_bom(mut text: Box<dyn Read>) -> io::Result<Chain<Cursor<Vec<u8>>, Box<dyn Read>>> {
    let mut head = Vec::new();
    (&mut text).take(3).read_to_end(&mut head)?;
    if head == [0xef, 0xbb, 0xbf] {
        head.clear();
    }
    Ok(Cursor::new(head).chain(text))
}
