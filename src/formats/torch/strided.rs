//! Matrices whose elements do not follow one another: transposed ones, and slices of larger ones.

use std::ops::Range;

use crate::formats::{Dtype, Encoding, PartRange};

/// Element (r, c) lies `r * row + c * column` elements behind the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strided {
    /// The type of an element, whose values can be decoded.
    pub dtype: Dtype,
    /// Columns of the matrix.
    pub columns: u64,
    /// Elements from one row to the next.
    pub row: u64,
    /// Elements from one column to the next.
    pub column: u64,
}

impl Strided {
    /// Elements from the first of these rows to the end of the last one; `None` where they are more than a file holds.
    fn extent(&self, rows: u64) -> Option<u64> {
        let last = |n: u64, stride: u64| n.checked_sub(1)?.checked_mul(stride);
        last(rows, self.row)?.checked_add(last(self.columns, self.column)?)?.checked_add(1)
    }

    fn bytes(&self) -> u64 {
        self.dtype.bits() / 8
    }
}

impl Encoding for Strided {
    fn name(&self) -> &str {
        self.dtype.name()
    }

    fn is_quantised(&self) -> bool {
        false
    }

    fn is_strided(&self) -> bool {
        self.column != 1
    }

    fn ranges(&self, rows: &Range<u64>, columns: u64) -> Result<Vec<PartRange>, String> {
        if columns != self.columns {
            return Err(format!("a view of {} columns, not of {columns}", self.columns));
        }
        let count = rows.end.saturating_sub(rows.start);
        let start = rows.start.checked_mul(self.row).and_then(|start| start.checked_mul(self.bytes()));
        let length = if count == 0 { Some(0) } else { self.extent(count) };
        let length = length.and_then(|length| length.checked_mul(self.bytes()));
        let bytes = start.and_then(|start| Some(start..start.checked_add(length?)?));
        let bytes = bytes.ok_or_else(|| format!("rows {rows:?} of a view are more than a file can hold"))?;
        Ok(vec![PartRange { suffix: "", bytes }])
    }

    fn decode(&self, rows: Range<u64>, pieces: &[&[u8]]) -> Result<Vec<f32>, String> {
        let [piece] = pieces else { return Err("not in one piece".into()) };
        let all =
            self.dtype.decode(piece).ok_or_else(|| format!("{} is not read", Encoding::name(&self.dtype)))?;
        let count = rows.end.saturating_sub(rows.start);
        if self.extent(count).is_none_or(|extent| extent != all.len() as u64) {
            return Err(format!("{} elements are not {count} rows of a view", all.len()));
        }
        let places = (0..count).flat_map(|r| (0..self.columns).map(move |c| r * self.row + c * self.column));
        Ok(places.filter_map(|place| all.get(place as usize).copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0, 1, 2 ... in F32.
    fn count(elements: u8) -> Vec<u8> {
        (0..elements).flat_map(|n| f32::from(n).to_le_bytes()).collect()
    }

    fn rows(view: &Strided, rows: Range<u64>, storage: &[u8]) -> Vec<f32> {
        let ranges = view.ranges(&rows, view.columns).unwrap();
        let bytes = ranges[0].bytes.start as usize..ranges[0].bytes.end as usize;
        view.decode(rows, &[&storage[bytes]]).unwrap()
    }

    #[test]
    fn a_transposed_matrix() {
        let view = Strided { dtype: Dtype::F32, columns: 3, row: 1, column: 4 };
        assert!(view.is_strided());
        assert_eq!(rows(&view, 1..3, &count(12)), [1.0, 5.0, 9.0, 2.0, 6.0, 10.0]);
    }

    #[test]
    fn a_slice_of_the_columns() {
        let view = Strided { dtype: Dtype::F32, columns: 2, row: 4, column: 1 };
        assert!(!view.is_strided());
        assert_eq!(rows(&view, 0..3, &count(12)), [0.0, 1.0, 4.0, 5.0, 8.0, 9.0]);
        assert_eq!(view.ranges(&(1..2), 2).unwrap()[0].bytes, 16..24);
    }

    #[test]
    fn numbers_that_overflow() {
        let view = Strided { dtype: Dtype::F32, columns: 2, row: u64::MAX / 2, column: u64::MAX };
        assert!(view.ranges(&(0..9), 2).is_err());
        assert!(view.decode(0..9, &[&[0; 8]]).is_err());
        assert!(view.ranges(&(0..1), 3).is_err());
    }
}
