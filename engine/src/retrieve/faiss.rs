//! HNSW by FAISS: nearest vectors of large catalogues in well under a millisecond.
//!
//! The project's one unsafe module. The faiss crate searches through `&mut self` only
//! (faiss-rs#96), and its id selectors neither keep their bitmap alive nor are ever freed, so search
//! goes to the C API from here. What makes that sound is written at each block; in short: FAISS
//! documents concurrent reads of an index as safe, and after [`Hnsw::build`] or [`Hnsw::read`]
//! nothing here changes it.
//!
//! Sharp edges this module is built around:
//! - A NaN in a query or in a stored vector makes search loop for ever: all are refused at the door.
//! - A corrupt file can crash the process: only files whose checksum was verified may be read.
//! - Every thread that searches would start an OpenMP team: each is set to one thread first.
//! - How far search looks (efSearch) is a field of the index, so it is set before publishing.

#![allow(unsafe_code)]

use super::vectors::{Best, Hit, Positions, VectorError, VectorIndex, check, dot};
use faiss::index::autotune::ParameterSpace;
use faiss::index::{Idx, IndexImpl};
use faiss::{Index, MetricType, index_factory, read_index, write_index};
use faiss_sys::{
    FaissIDSelector, FaissIDSelectorBitmap, FaissSearchParameters, faiss_IDSelectorBitmap_free,
    faiss_IDSelectorBitmap_new, faiss_Index_search, faiss_Index_search_with_params,
    faiss_SearchParameters_free, faiss_SearchParameters_new, faiss_get_last_error,
};
use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::path::Path;
use std::ptr;

/// Neighbours per vector and layer.
const NEIGHBOURS: usize = 32;
/// Candidates looked at when a vector is linked in.
const EF_CONSTRUCTION: u16 = 120;
/// Candidates looked at in a search: recall@10 0.99 and more on text embeddings.
const EF_SEARCH: u16 = 128;
/// Vectors scanned where the graph might find too few: some 5 ms.
const SCANNED_AT_MOST: usize = 30_000;
/// Vectors added at a time, between two progress reports.
const BATCH: usize = 10_000;

unsafe extern "C" {
    // From the OpenMP runtime (libgomp), which faiss-sys links.
    fn omp_set_num_threads(threads: c_int);
}

/// Sets the size of the OpenMP teams that this thread starts; other threads keep theirs.
fn set_threads(threads: usize) {
    let threads = c_int::try_from(threads).unwrap_or(1).max(1);
    // SAFETY: takes an integer by value and writes a variable of the calling thread only
    // (OpenMP 5, section 3.2.1: "the nthreads-var ICV of the current task").
    unsafe { omp_set_num_threads(threads) }
}

/// Before the first search of a thread.
fn search_alone() {
    thread_local!(static ALONE: Cell<bool> = const { Cell::new(false) });
    if !ALONE.replace(true) {
        set_threads(1);
    }
}

/// An HNSW graph over unit vectors, by inner product. Complete from the start: there is no adding.
pub struct Hnsw {
    index: IndexImpl,
    dims: usize,
    len: usize,
}

// SAFETY: the index is owned and not tied to the thread that made it (the crate says so itself for
// `Send`). Shared access only reads: FAISS documents that concurrent searches are safe on CPU
// indexes ("Threads and asynchronous calls" in its wiki), `reconstruct` copies from the vector
// storage, and no method of `Hnsw` that takes `&self` writes to the index.
unsafe impl Sync for Hnsw {}
// SAFETY: as above.
unsafe impl Send for Hnsw {}

impl std::fmt::Debug for Hnsw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hnsw({} × {})", self.len, self.dims)
    }
}

fn refuse(what: impl std::fmt::Display) -> VectorError {
    VectorError::Index(what.to_string())
}

impl Hnsw {
    /// Links `values` (rows of `dims` numbers) with `threads` threads; `progress` is told how many
    /// rows are done. With one thread the same input gives the same graph.
    pub fn build(
        dims: usize,
        values: &[f32],
        threads: usize,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<Self, VectorError> {
        if dims == 0 || !values.len().is_multiple_of(dims) {
            return Err(VectorError::Length { found: values.len(), expected: dims });
        }
        check(values, values.len())?;
        // On a thread of its own, whose OpenMP setting ends with it.
        let linked = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    set_threads(threads);
                    link(dims, values, progress)
                })
                .join()
        });
        Self::new(linked.map_err(|_| refuse("the building thread died"))??)
    }

    /// Reads what [`Hnsw::write`] wrote. The file's checksum must have been verified: FAISS trusts
    /// what it reads.
    pub fn read(path: &Path, dims: usize, len: usize) -> Result<Self, VectorError> {
        let name = path.to_str().ok_or_else(|| refuse("the file's path is not UTF-8"))?;
        let index = Self::new(read_index(name).map_err(refuse)?)?;
        if (index.dims, index.len) != (dims, len) {
            return Err(refuse(format!(
                "{name} holds {} × {} numbers, not {len} × {dims}",
                index.len, index.dims
            )));
        }
        Ok(index)
    }

    /// Writes the index to a file of its own.
    pub fn write(&self, path: &Path) -> Result<(), VectorError> {
        let name = path.to_str().ok_or_else(|| refuse("the file's path is not UTF-8"))?;
        write_index(&self.index, name).map_err(refuse)
    }

    fn new(index: IndexImpl) -> Result<Self, VectorError> {
        if index.metric_type() != MetricType::InnerProduct {
            return Err(refuse("the index does not compare by inner product"));
        }
        ParameterSpace::new()
            .and_then(|space| space.set_index_parameter(&index, "efSearch", EF_SEARCH))
            .map_err(refuse)?;
        Ok(Self {
            dims: index.d() as usize,
            len: usize::try_from(index.ntotal()).map_err(refuse)?,
            index,
        })
    }

    /// Whether to search the graph for `k` neighbours among `among` of all vectors, rather than scan
    /// them. The graph expands about efSearch nearest vectors, of which those that pass a filter must
    /// be enough to be sure; a scan is exact, but of many vectors it takes longer than a request may.
    /// Between the two the graph's answer is good: the neighbours it visits without expanding them
    /// are offered, too, some thousands.
    fn prefers_graph(&self, k: usize, among: Option<&Positions>) -> bool {
        let passing = among.map_or(self.len, Positions::len);
        let enough = k.saturating_mul(self.len) <= usize::from(EF_SEARCH).saturating_mul(passing);
        enough || passing > SCANNED_AT_MOST
    }

    fn search_graph(
        &self,
        query: &[f32],
        k: usize,
        among: Option<&Positions>,
    ) -> Result<Vec<Hit>, VectorError> {
        search_alone();
        let k = k.min(self.len);
        let mut similarities = vec![0.0_f32; k];
        let mut labels = vec![-1_i64; k];
        let parameters = among.map(Parameters::new).transpose()?;
        let index = self.index.inner_ptr();
        // SAFETY: `index` is alive as long as `self` and only read, see `Sync`. `query` has `dims`
        // finite numbers (checked by the caller), one query is asked, both outputs have `k` places,
        // and `parameters` with the bitmap they point to outlive the call.
        let code = unsafe {
            let (x, distances, labels) =
                (query.as_ptr(), similarities.as_mut_ptr(), labels.as_mut_ptr());
            let k = k as i64;
            match &parameters {
                None => faiss_Index_search(index, 1, x, k, distances, labels),
                Some(parameters) => {
                    let raw = parameters.raw;
                    faiss_Index_search_with_params(index, 1, x, k, raw, distances, labels)
                }
            }
        };
        succeeded(code)?;
        let mut hits: Vec<Hit> = labels
            .into_iter()
            .zip(similarities)
            // FAISS fills up with label −1 when it finds less than asked.
            .filter_map(|(label, similarity)| {
                let position = u32::try_from(label).ok()?;
                Some(Hit { position, similarity })
            })
            .collect();
        hits.sort_unstable_by(Hit::order);
        Ok(hits)
    }

    fn scan(
        &self,
        query: &[f32],
        k: usize,
        positions: impl Iterator<Item = u32>,
    ) -> Result<Vec<Hit>, VectorError> {
        let mut best = Best::new(k);
        let mut row = vec![0.0; self.dims];
        for position in positions {
            self.copy(position, &mut row)?;
            best.offer(position, dot(query, &row));
        }
        Ok(best.into_sorted())
    }
}

fn link(
    dims: usize,
    values: &[f32],
    progress: &(dyn Fn(usize) + Sync),
) -> Result<IndexImpl, VectorError> {
    let d = u32::try_from(dims).map_err(refuse)?;
    let kind = format!("HNSW{NEIGHBOURS}");
    let mut index = index_factory(d, kind, MetricType::InnerProduct).map_err(refuse)?;
    ParameterSpace::new()
        .and_then(|space| space.set_index_parameter(&index, "efConstruction", EF_CONSTRUCTION))
        .map_err(refuse)?;
    let rows = values.len() / dims;
    for batch in values.chunks(BATCH * dims) {
        index.add(batch).map_err(refuse)?;
        progress(index.ntotal() as usize);
    }
    if index.ntotal() as usize != rows {
        return Err(refuse(format!("{} of {rows} vectors were taken", index.ntotal())));
    }
    Ok(index)
}

impl VectorIndex for Hnsw {
    fn dims(&self) -> usize {
        self.dims
    }

    fn len(&self) -> usize {
        self.len
    }

    fn search(
        &self,
        query: &[f32],
        k: usize,
        among: Option<&Positions>,
    ) -> Result<Vec<Hit>, VectorError> {
        check(query, self.dims)?;
        if k == 0 || self.len == 0 || among.is_some_and(Positions::is_empty) {
            return Ok(Vec::new());
        }
        if self.prefers_graph(k, among) {
            return self.search_graph(query, k, among);
        }
        match among {
            Some(among) => self.scan(query, k, among.iter()),
            None => self.scan(query, k, 0..self.len as u32),
        }
    }

    fn copy(&self, position: u32, out: &mut [f32]) -> Result<(), VectorError> {
        check(out, self.dims)?;
        if position as usize >= self.len {
            return Err(refuse(format!("there is no vector {position}")));
        }
        self.index.reconstruct(Idx::new(u64::from(position)), out).map_err(refuse)
    }
}

/// Search parameters with a filter on positions.
struct Parameters<'a> {
    raw: *mut FaissSearchParameters,
    selector: *mut FaissIDSelectorBitmap,
    _bitmap: &'a Positions,
}

impl<'a> Parameters<'a> {
    fn new(among: &'a Positions) -> Result<Self, VectorError> {
        let mut parameters =
            Self { raw: ptr::null_mut(), selector: ptr::null_mut(), _bitmap: among };
        let bytes = among.bytes();
        // SAFETY: the selector keeps the pointer to `bytes`, which is borrowed for as long as the
        // selector lives; its length is given in bytes, and FAISS treats positions beyond as absent.
        // IDSelectorBitmap derives from IDSelector alone, so its address is the base's address.
        // What was made when a later step fails is freed by `Drop`.
        unsafe {
            succeeded(faiss_IDSelectorBitmap_new(
                &raw mut parameters.selector,
                bytes.len(),
                bytes.as_ptr(),
            ))?;
            let selector = parameters.selector.cast::<FaissIDSelector>();
            succeeded(faiss_SearchParameters_new(&raw mut parameters.raw, selector))?;
        }
        Ok(parameters)
    }
}

impl Drop for Parameters<'_> {
    fn drop(&mut self) {
        // SAFETY: both were made by the matching `_new`, are freed once, and freeing null does
        // nothing (C++ `delete`). The parameters do not own the selector.
        unsafe {
            faiss_SearchParameters_free(self.raw);
            faiss_IDSelectorBitmap_free(self.selector);
        }
    }
}

fn succeeded(code: c_int) -> Result<(), VectorError> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: FAISS keeps the last error's text in thread-local storage; it is a C string or null,
    // valid until this thread's next failure, and copied at once.
    let text = unsafe {
        let text = faiss_get_last_error();
        if text.is_null() {
            return Err(refuse(format!("FAISS failed with code {code}")));
        }
        CStr::from_ptr(text).to_string_lossy().into_owned()
    };
    Err(refuse(text))
}

#[cfg(test)]
mod tests;
