//! Every vector compared with the query. Right for small catalogues, and the oracle in tests.

use super::vectors::{Best, Hit, Positions, VectorError, VectorIndex, check, dot};
use std::fs;
use std::io;
use std::path::Path;

/// Catalogues up to this many vectors are scanned: at 256 dimensions 5,000 vectors take 0.2 ms, and
/// nothing is missed.
pub const MAX_VECTORS: usize = 5_000;

/// A matrix of unit vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Exact {
    dims: usize,
    values: Vec<f32>,
}

impl Exact {
    /// From rows of `dims` numbers, one after the other.
    pub fn new(dims: usize, values: Vec<f32>) -> Result<Self, VectorError> {
        if dims == 0 || !values.len().is_multiple_of(dims) {
            return Err(VectorError::Length { found: values.len(), expected: dims });
        }
        check(&values, values.len())?;
        Ok(Self { dims, values })
    }

    /// Writes the rows as little-endian f32, nothing else.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let bytes: Vec<u8> = self.values.iter().flat_map(|x| x.to_le_bytes()).collect();
        fs::write(path, bytes)
    }

    /// Reads what [`Exact::write`] wrote.
    pub fn read(path: &Path, dims: usize) -> Result<Self, VectorError> {
        let refuse = |why: String| VectorError::Index(format!("{}: {why}", path.display()));
        let bytes = fs::read(path).map_err(|error| refuse(error.to_string()))?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(refuse("it ends in the middle of a number".into()));
        }
        Self::new(dims, numbers.iter().map(|&x| f32::from_le_bytes(x)).collect())
            .map_err(|error| refuse(error.to_string()))
    }

    fn row(&self, position: u32) -> Option<&[f32]> {
        let start = position as usize * self.dims;
        self.values.get(start..start + self.dims)
    }
}

impl VectorIndex for Exact {
    fn dims(&self) -> usize {
        self.dims
    }

    fn len(&self) -> usize {
        self.values.len() / self.dims
    }

    fn search(
        &self,
        query: &[f32],
        k: usize,
        among: Option<&Positions>,
    ) -> Result<Vec<Hit>, VectorError> {
        check(query, self.dims)?;
        let mut best = Best::new(k);
        if let Some(among) = among {
            for position in among.iter() {
                if let Some(row) = self.row(position) {
                    best.offer(position, dot(query, row));
                }
            }
        } else {
            for (row, position) in self.values.chunks_exact(self.dims).zip(0..) {
                best.offer(position, dot(query, row));
            }
        }
        Ok(best.into_sorted())
    }

    fn copy(&self, position: u32, out: &mut [f32]) -> Result<(), VectorError> {
        let row = self
            .row(position)
            .ok_or_else(|| VectorError::Index(format!("there is no vector {position}")))?;
        check(out, self.dims)?;
        out.copy_from_slice(row);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Exact, VectorError, VectorIndex};

    #[test]
    fn what_was_written_is_read_and_what_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vectors.f32");
        let vectors = Exact::new(2, vec![1.0, 0.0, 0.0, 1.0, 0.6, 0.8]).unwrap();
        vectors.write(&path).unwrap();
        assert_eq!(Exact::read(&path, 2), Ok(vectors.clone()));
        let found = vectors.search(&[0.0, 1.0], 2, None).unwrap();
        assert_eq!(found.iter().map(|hit| hit.position).collect::<Vec<_>>(), [1, 2]);

        let check = |bytes: &[u8], dims, expected: &str| {
            std::fs::write(&path, bytes).unwrap();
            let refused = Exact::read(&path, dims).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        };
        check(&[0; 23], 2, "in the middle of a number");
        check(&[0; 24], 5, "6 numbers");
        check(&[0; 24], 0, "6 numbers");
        check(&f32::NAN.to_le_bytes(), 1, "not finite");
        assert!(Exact::read(&folder.path().join("none"), 2).is_err());
        assert_eq!(vectors.search(&[f32::NAN, 0.0], 1, None), Err(VectorError::NotFinite));
        assert!(vectors.search(&[1.0], 1, None).is_err());
        assert!(vectors.copy(3, &mut [0.0; 2]).is_err() && vectors.copy(0, &mut [0.0; 3]).is_err());
    }
}
