//! How much of a model was read, to and from columns: four numbers, and a list of what the rest is.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{UInt8Type, UInt32Type, UInt64Type};

use super::arrays::{lists, numbers, texts};
use super::reader::Reader;
use crate::signals::coverage::{Coverage, Extent, MOST_RESTS, Rest, RestKind};
use crate::store::StoreError;
use crate::store::row::Row;

/// The column that says whether the others do.
const PARAMETERS: &str = "coverage_parameters";
/// How many tokens the tokenizer has.
const TOKENS: &str = "tokenizer_tokens";
/// Whether the matrices are packed or lie on a grid.
const QUANTISED: &str = "quantised";

/// The columns; those of rows that do not say are null and empty.
pub(super) fn coverage_columns(rows: &[Row]) -> Vec<(&'static str, ArrayRef)> {
    let number = |of: fn(&Coverage) -> u64| {
        numbers::<UInt64Type>(rows.iter().map(|row| row.coverage.as_ref().map(of)))
    };
    let rest = || {
        rows.iter().map(|row| row.coverage.iter().flat_map(|coverage| coverage.rest.iter().take(MOST_RESTS)))
    };
    vec![
        (PARAMETERS, number(|c| c.parameters)),
        ("coverage_parameters_read", number(|c| c.parameters_read)),
        ("coverage_bytes", number(|c| c.bytes)),
        ("coverage_bytes_read", number(|c| c.bytes_read)),
        ("rest_kind", texts(rest().map(|rest| rest.map(|rest| Some(rest.kind.name()))))),
        ("rest_what", texts(rest().map(|rest| rest.map(|rest| Some(rest.what.as_str()))))),
        (
            "rest_parameters",
            lists::<UInt64Type, _>(rest().map(|rest| rest.map(|rest| Some(rest.parameters)))),
        ),
        ("rest_bytes", lists::<UInt64Type, _>(rest().map(|rest| rest.map(|rest| Some(rest.bytes))))),
        (TOKENS, numbers::<UInt32Type>(rows.iter().map(|row| row.fingerprint.as_ref()?.extent.tokens))),
        (
            QUANTISED,
            numbers::<UInt8Type>(
                rows.iter().map(|row| Some(u8::from(row.fingerprint.as_ref()?.extent.quantised))),
            ),
        ),
    ]
}

/// Whether it is a column of coverage, which shards of formats up to 5 lack.
pub(super) fn is_of_coverage(column: &str) -> bool {
    column.starts_with("coverage_") || column.starts_with("rest_") || [TOKENS, QUANTISED].contains(&column)
}

impl Reader<'_> {
    /// The coverage of a row; of shards from before it was said, `None`.
    pub(super) fn coverage(&self, i: usize) -> Result<Option<Coverage>, StoreError> {
        if !self.has(PARAMETERS) {
            return Ok(None);
        }
        let number = |name| self.number::<UInt64Type>(name, i);
        let [Some(parameters), Some(parameters_read), Some(bytes), Some(bytes_read)] = [
            number(PARAMETERS)?,
            number("coverage_parameters_read")?,
            number("coverage_bytes")?,
            number("coverage_bytes_read")?,
        ] else {
            return Ok(None);
        };
        Ok(Some(Coverage { parameters, parameters_read, bytes, bytes_read, rest: self.rest(i)? }))
    }

    /// What the fingerprint of a row with this coverage stands for.
    pub(super) fn extent(&self, i: usize, coverage: Option<&Coverage>) -> Result<Extent, StoreError> {
        let tokens = if self.has(TOKENS) { self.number::<UInt32Type>(TOKENS, i)? } else { None };
        let quantised = self.has(QUANTISED) && self.number::<UInt8Type>(QUANTISED, i)? == Some(1);
        Ok(Extent { rank: self.rank(i)?, ..Extent::new(coverage, quantised, tokens) })
    }

    fn rest(&self, i: usize) -> Result<Vec<Rest>, StoreError> {
        let length = self.list("rest_kind", i)?.len();
        if length > MOST_RESTS {
            return Err(self.damaged(format!("the rest of row {i} has {length} parts")));
        }
        let parameters = self.numbers::<UInt64Type>("rest_parameters", i)?;
        let bytes = self.numbers::<UInt64Type>("rest_bytes", i)?;
        let (kinds, whats) = (self.texts("rest_kind", i)?, self.texts("rest_what", i)?);
        if [whats.len(), parameters.len(), bytes.len()].iter().any(|n| *n != length) {
            return Err(self.damaged(format!("the lists of the rest of row {i} have different lengths")));
        }
        let parts = kinds.into_iter().zip(whats).zip(parameters.values()).zip(bytes.values());
        let rest = parts.map(|(((kind, what), parameters), bytes)| {
            let kind = kind.unwrap_or_default();
            let Some(kind) = RestKind::from_name(&kind) else {
                return Err(self.damaged(format!("unknown kind of rest {kind:?}")));
            };
            Ok(Rest { kind, what: what.unwrap_or_default(), parameters: *parameters, bytes: *bytes })
        });
        rest.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{from_batch, testing, to_batch};
    use super::*;
    use crate::signals::testing::Model;

    fn row_with(rest: Vec<Rest>) -> Row {
        let row = testing::row("a", Some(Model::random(1, 3, 64).fingerprint()));
        let coverage = row.coverage.clone().map(|coverage| Coverage { rest, ..coverage });
        let mut row = Row { coverage, ..row };
        let fingerprint = row.fingerprint.as_mut().unwrap();
        let Extent { quantised, tokens, rank, .. } = fingerprint.extent;
        fingerprint.extent = Extent { rank, ..Extent::new(row.coverage.as_ref(), quantised, tokens) };
        row
    }

    #[test]
    fn the_rest_is_told_in_few_parts() {
        let part = |kind| Rest { kind, what: "x".into(), parameters: u64::MAX, bytes: 0 };
        let every: Vec<Rest> = RestKind::ALL.into_iter().map(part).collect();
        let rows = [row_with(every), row_with(Vec::new())];
        let path = Path::new("x");
        assert_eq!(from_batch(&to_batch(&rows).unwrap(), path).unwrap(), rows);
        let more = row_with(vec![part(RestKind::Vector); MOST_RESTS + 1]);
        let read = from_batch(&to_batch(&[more]).unwrap(), path).unwrap();
        assert_eq!(read.first().and_then(|row| row.coverage.as_ref()).unwrap().rest.len(), MOST_RESTS);
    }
}
