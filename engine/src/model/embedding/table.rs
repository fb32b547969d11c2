//! A table of vectors in a safetensors file: one row per token or word.

use super::EmbedError;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// Rows of `dims` finite numbers.
#[derive(Debug)]
pub(super) struct Table {
    dims: usize,
    values: Vec<f32>,
}

impl Table {
    /// The tensor called `name` if there is one, else the only one with two dimensions. Holds f32,
    /// f16 or bf16; becomes f32, since lookups are the whole cost of an embedding.
    pub(super) fn parse(bytes: &[u8], name: &str, file: &Path) -> Result<Self, EmbedError> {
        let refuse = |why: String| EmbedError::model(file, why);
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| refuse(error.to_string()))?;
        let tensor = tensors.tensor(name).or_else(|_| {
            let mut flat = tensors.tensors();
            flat.retain(|(_, tensor)| tensor.shape().len() == 2);
            match <[_; 1]>::try_from(flat) {
                Ok([(_, only)]) => Ok(only),
                Err(several) => Err(refuse(format!(
                    "it has no tensor {name:?} and {} others with two dimensions; expected one",
                    several.len()
                ))),
            }
        })?;
        let &[rows, dims] = tensor.shape() else {
            return Err(refuse(format!("tensor {name:?} is not [rows, dims]")));
        };
        if rows == 0 || dims == 0 {
            return Err(refuse("the table is empty".into()));
        }
        let data = tensor.data();
        let values: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => chunks(data, f32::from_le_bytes),
            Dtype::F16 => chunks(data, |pair| f16::from_le_bytes(pair).to_f32()),
            Dtype::BF16 => chunks(data, |pair| bf16::from_le_bytes(pair).to_f32()),
            other => return Err(refuse(format!("numbers of type {other:?} are not read"))),
        };
        if !values.iter().all(|value| value.is_finite()) {
            return Err(refuse("the table holds numbers that are not finite".into()));
        }
        Ok(Self { dims, values })
    }

    pub(super) fn dims(&self) -> usize {
        self.dims
    }

    pub(super) fn rows(&self) -> usize {
        self.values.len() / self.dims
    }

    /// Adds `weight` times row `row` to `sum`; `false` when there is no such row.
    pub(super) fn add(&self, row: u32, weight: f32, sum: &mut [f32]) -> bool {
        let start = row as usize * self.dims;
        let Some(vector) = self.values.get(start..start + self.dims) else {
            return false;
        };
        for (sum, value) in sum.iter_mut().zip(vector) {
            *sum += weight * value;
        }
        true
    }
}

fn chunks<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (whole, _) = data.as_chunks::<N>();
    whole.iter().map(|&bytes| number(bytes)).collect()
}
