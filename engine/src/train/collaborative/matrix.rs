//! A sparse matrix of interactions in compressed rows (CSR).

/// Row `i` has the columns `columns[starts[i]..starts[i + 1]]`, strictly ascending, with strengths above 0 in `values`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matrix {
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
    width: usize,
}

impl Matrix {
    /// From entries in any order; strengths of the same pair add up. Every row is below `rows`, every column below
    /// `width`.
    pub fn from_entries(rows: usize, width: usize, mut entries: Vec<(u32, u32, f32)>) -> Self {
        // Stable, so that sums of single precision do not depend on how it sorts.
        entries.sort_by_key(|(row, column, _)| (*row, *column));
        let mut all = Self { starts: vec![0; rows + 1], width, ..Self::default() };
        let mut last = None;
        for (row, column, value) in entries {
            if last == Some((row, column)) {
                *all.values.last_mut().expect("an entry of this pair") += value;
                continue;
            }
            last = Some((row, column));
            all.starts[row as usize + 1] += 1;
            all.columns.push(column);
            all.values.push(value);
        }
        for row in 0..rows {
            all.starts[row + 1] += all.starts[row];
        }
        all
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// There are no entries.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Columns and strengths of a row.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.starts[row]..self.starts[row + 1];
        (&self.columns[range.clone()], &self.values[range])
    }

    /// Entries of a row.
    pub fn row_len(&self, row: usize) -> usize {
        self.starts[row + 1] - self.starts[row]
    }

    /// Every entry as row, column, strength; by row, then column.
    pub fn entries(&self) -> impl Iterator<Item = (u32, u32, f32)> + '_ {
        (0..self.rows()).flat_map(|row| {
            let (columns, values) = self.row(row);
            columns.iter().zip(values).map(move |(column, value)| (row as u32, *column, *value))
        })
    }

    /// Columns as rows.
    pub fn transposed(&self) -> Self {
        let mut starts = vec![0; self.width + 1];
        self.columns.iter().for_each(|column| starts[*column as usize + 1] += 1);
        (0..self.width).for_each(|column| starts[column + 1] += starts[column]);
        let mut next = starts.clone();
        let (mut columns, mut values) = (vec![0; self.len()], vec![0.0; self.len()]);
        for (row, column, value) in self.entries() {
            let at = &mut next[column as usize];
            (columns[*at], values[*at]) = (row, value);
            *at += 1;
        }
        Self { starts, columns, values, width: self.rows() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_add_up_and_turn_around() {
        let entries = vec![(1, 2, 1.0), (0, 1, 3.0), (1, 2, 0.5), (1, 0, 2.0)];
        let matrix = Matrix::from_entries(3, 4, entries);
        assert_eq!((matrix.rows(), matrix.width(), matrix.len()), (3, 4, 3));
        assert_eq!(matrix.row(1), (&[0, 2][..], &[2.0, 1.5][..]));
        assert_eq!((matrix.row_len(0), matrix.row_len(2)), (1, 0));
        let turned = matrix.transposed();
        assert_eq!(turned.row(2), (&[1][..], &[1.5][..]));
        assert_eq!((turned.rows(), turned.width()), (4, 3));
        assert_eq!(turned.transposed(), matrix);
        assert!(Matrix::from_entries(0, 0, vec![]).is_empty());
    }
}
