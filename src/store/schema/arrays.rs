//! Arrow columns from values.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanBuilder, FixedSizeListBuilder, Int8Builder, ListBuilder,
    PrimitiveBuilder, StringArray, StringBuilder, TimestampMillisecondArray,
};
use serde::Serialize;

pub(crate) fn text<S: AsRef<str>>(values: impl Iterator<Item = Option<S>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

pub(super) fn json<'a, T: Serialize + 'a>(
    values: impl Iterator<Item = Option<&'a T>>,
) -> Result<ArrayRef, arrow::error::ArrowError> {
    let texts: Result<Vec<Option<String>>, serde_json::Error> =
        values.map(|value| value.map(serde_json::to_string).transpose()).collect();
    let texts = texts.map_err(|error| arrow::error::ArrowError::JsonError(error.to_string()))?;
    Ok(text(texts.into_iter()))
}

pub(crate) fn time(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

pub(crate) fn numbers<T: ArrowPrimitiveType>(values: impl Iterator<Item = Option<T::Native>>) -> ArrayRef {
    let mut builder = PrimitiveBuilder::<T>::new();
    values.for_each(|v| builder.append_option(v));
    Arc::new(builder.finish())
}

pub(super) fn texts<'a, I: Iterator<Item = Option<&'a str>>>(rows: impl Iterator<Item = I>) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for row in rows {
        row.for_each(|v| builder.values().append_option(v));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

pub(super) fn lists<T: ArrowPrimitiveType, I: Iterator<Item = Option<T::Native>>>(
    rows: impl Iterator<Item = I>,
) -> ArrayRef {
    let mut builder = ListBuilder::new(PrimitiveBuilder::<T>::new());
    for row in rows {
        row.for_each(|v| builder.values().append_option(v));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

pub(super) fn flags<I: Iterator<Item = bool>>(rows: impl Iterator<Item = I>) -> ArrayRef {
    let mut builder = ListBuilder::new(BooleanBuilder::new());
    for row in rows {
        row.for_each(|v| builder.values().append_value(v));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

pub(super) fn bytes<'a, const N: usize>(rows: impl Iterator<Item = Option<&'a [i8; N]>>) -> ArrayRef {
    let mut builder = FixedSizeListBuilder::new(Int8Builder::new(), N as i32);
    for row in rows {
        match row {
            Some(bytes) => builder.values().append_slice(bytes),
            None => builder.values().append_nulls(N),
        }
        builder.append(row.is_some());
    }
    Arc::new(builder.finish())
}
