//! The safetensors header: a push decoder that says which bytes it needs.
//!
//! The `safetensors` crate wants the whole file and accepts duplicate keys, and fails on a dtype that it does
//! not know; a crawl has only the first bytes and must go on with one unknown dtype among many. So the
//! header is parsed here, strictly in structure (bounds, overlaps, holes, duplicates, sizes) and tolerantly in
//! dtype. A test holds it against the crate.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};

use super::{Dtype, Foreign, Limits};

/// First read of a file, bytes: of the checkpoints of up to 400 tensors every header fits; larger ones cost
/// one more range.
pub const FIRST_READ: u64 = 64 * 1024;

/// One tensor as the header lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the checkpoint.
    pub name: String,
    /// Element type; `None` for a name that no version of the format knows.
    pub dtype: Option<Dtype>,
    /// Row-major shape.
    pub shape: Vec<u64>,
    /// Bytes in the *file* (not in the data section).
    pub bytes: Range<u64>,
}

impl TensorInfo {
    /// Rows and columns: the first dimension against the product of the others. A vector is one row.
    pub fn matrix(&self) -> (u64, u64) {
        match self.shape.as_slice() {
            [] => (1, 1),
            [n] => (1, *n),
            // Saturating: [0, 2^40, 2^40] is a legal, empty shape.
            [rows, rest @ ..] => (*rows, rest.iter().fold(1, |product, n| n.saturating_mul(product))),
        }
    }

    /// Number of elements (0 as soon as one dimension is 0, saturating otherwise).
    pub fn elements(&self) -> u64 {
        let (rows, columns) = self.matrix();
        rows.saturating_mul(columns)
    }
}

/// A checked header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Tensors in file order.
    pub tensors: Vec<TensorInfo>,
    /// `__metadata__`, where present.
    pub metadata: BTreeMap<String, String>,
    /// Length of the length field and the JSON together, bytes.
    pub len: u64,
}

/// What the decoder answers.
#[derive(Debug)]
pub enum Decoded {
    /// Call again with the file's bytes from 0 to this end.
    Need(u64),
    /// The header.
    Done(Header),
}

/// Why a header was refused.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// Another kind of file.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// The file cannot hold even the length field.
    #[error("the file has {size} bytes, a safetensors file has at least 8")]
    TooShort {
        /// Size of the file.
        size: u64,
    },
    /// The header claims more than is read.
    #[error("the header claims {claimed} bytes; {limit} are read at most")]
    TooLarge {
        /// The length that the file states.
        claimed: u64,
        /// The limit.
        limit: u64,
    },
    /// The headers of several shards are larger together than one may be.
    #[error("with its header, the headers of this checkpoint have more than {limit} bytes")]
    Together {
        /// The limit.
        limit: u64,
    },
    /// The header claims to be longer than the file.
    #[error("the header claims {claimed} bytes, but the file ends after {size}")]
    PastEnd {
        /// The length that the file states.
        claimed: u64,
        /// Size of the file.
        size: u64,
    },
    /// Not the JSON that the format asks for.
    #[error("the header is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// A tensor whose shape and dtype do not give its byte count, or overflow.
    #[error("tensor {name:?}: shape {shape:?} of {dtype:?} does not fill bytes {begin}..{end}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its dtype as written, cut to what a report can show.
        dtype: String,
        /// First byte, in the data section.
        begin: u64,
        /// End, in the data section.
        end: u64,
    },
    /// Two tensors overlap, or bytes between them belong to none.
    #[error("tensor {name:?} begins at byte {begin} of the data, the one before it ends at {expected}")]
    Layout {
        /// The tensor.
        name: String,
        /// Where it begins.
        begin: u64,
        /// Where it should.
        expected: u64,
    },
    /// The file is shorter or longer than the header says.
    #[error("the header describes a file of {expected} bytes, the file has {actual}")]
    Size {
        /// Size by the header.
        expected: u64,
        /// Real size.
        actual: u64,
    },
    /// More tensors, or a longer name or shape, than is read.
    #[error("{what}: {found}, at most {limit} are read")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many the file has.
        found: usize,
        /// How many are read.
        limit: usize,
    },
}

/// Decodes the header of a file of `file_size` bytes from its first bytes.
///
/// Answers [`Decoded::Need`] until `prefix` is long enough; at most two calls are needed when the first
/// passes [`FIRST_READ`] bytes.
pub fn try_decode(prefix: &[u8], file_size: u64, limits: &Limits) -> Result<Decoded, HeaderError> {
    decode(prefix, file_size, limits).map_err(|error| match error {
        HeaderError::TooLarge { .. } | HeaderError::PastEnd { .. } | HeaderError::Json(_) => {
            foreign(prefix).map_or(error, HeaderError::Foreign)
        }
        error => error,
    })
}

/// What a file with a damaged header is, unless it begins as this format does.
fn foreign(prefix: &[u8]) -> Option<Foreign> {
    match prefix.get(8) {
        Some(b'{') => Foreign::of_text(prefix),
        _ => Foreign::of_weights(prefix),
    }
}

fn decode(prefix: &[u8], file_size: u64, limits: &Limits) -> Result<Decoded, HeaderError> {
    if file_size < 8 {
        return Err(HeaderError::TooShort { size: file_size });
    }
    let Some(length) = prefix.first_chunk::<8>() else {
        return Ok(Decoded::Need(FIRST_READ.min(file_size)));
    };
    let claimed = u64::from_le_bytes(*length);
    if claimed > limits.header_bytes {
        return Err(HeaderError::TooLarge { claimed, limit: limits.header_bytes });
    }
    let len = 8 + claimed; // cannot overflow: claimed is below the limit
    if len > file_size {
        return Err(HeaderError::PastEnd { claimed, size: file_size });
    }
    let Some(json) = usize::try_from(len).ok().and_then(|end| prefix.get(8..end)) else {
        return Ok(Decoded::Need(len));
    };
    let raw: RawHeader = serde_json::from_slice(json)?;
    check(raw, len, file_size, limits).map(Decoded::Done)
}

fn check(raw: RawHeader, len: u64, file_size: u64, limits: &Limits) -> Result<Header, HeaderError> {
    let too_many = |what, found, limit| Err(HeaderError::TooMany { what, found, limit });
    if raw.tensors.len() > limits.tensors {
        return too_many("tensors", raw.tensors.len(), limits.tensors);
    }
    let mut entries = raw.tensors;
    entries.sort_by_key(|(_, t)| t.data_offsets);
    let mut tensors = Vec::with_capacity(entries.len());
    let mut expected = 0;
    for (name, t) in entries {
        if name.len() > limits.name_bytes {
            return too_many("bytes in a tensor name", name.len(), limits.name_bytes);
        }
        if t.shape.len() > limits.rank {
            return too_many("dimensions of a tensor", t.shape.len(), limits.rank);
        }
        let (begin, end) = t.data_offsets;
        let dtype = Dtype::parse(&t.dtype);
        let elements = t.shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
        let fits = match (dtype, elements) {
            (_, None) => false,
            (None, Some(_)) => end >= begin,
            (Some(d), Some(n)) => n
                .checked_mul(d.bits())
                .is_some_and(|bits| bits % 8 == 0 && end.checked_sub(begin) == Some(bits / 8)),
        };
        if !fits {
            let dtype = t.dtype.chars().take(80).collect();
            return Err(HeaderError::Shape { name, shape: t.shape, dtype, begin, end });
        }
        if begin != expected {
            return Err(HeaderError::Layout { name, begin, expected });
        }
        expected = end;
        // Bounded: if the sum overflowed, the size check below could not hold for any real file.
        let bytes = len.saturating_add(begin)..len.saturating_add(end);
        tensors.push(TensorInfo { name, dtype, shape: t.shape, bytes });
    }
    let described = len.saturating_add(expected);
    if described != file_size {
        return Err(HeaderError::Size { expected: described, actual: file_size });
    }
    Ok(Header { tensors, metadata: raw.metadata, len })
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

struct RawHeader {
    tensors: Vec<(String, RawTensor)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader { tensors: Vec::new(), metadata: BTreeMap::new() };
                let mut seen = std::collections::HashSet::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "__metadata__" {
                        header.metadata = map.next_value()?;
                    } else {
                        let tensor = map.next_value()?;
                        header.tensors.push((key.clone(), tensor));
                    }
                    if !seen.insert(key.clone()) {
                        let shown: String = key.chars().take(80).collect();
                        return Err(de::Error::custom(format_args!("key {shown:?} occurs twice")));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(json: &str, data: usize) -> (Vec<u8>, u64) {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        let size = (bytes.len() + data) as u64;
        (bytes, size)
    }

    fn decode(json: &str, data: usize) -> Result<Header, HeaderError> {
        let (bytes, size) = file(json, data);
        match try_decode(&bytes, size, &Limits::default())? {
            Decoded::Done(header) => Ok(header),
            Decoded::Need(end) => panic!("asked for {end} of {}", bytes.len()),
        }
    }

    #[test]
    fn asks_for_what_it_needs() {
        let limits = Limits::default();
        assert!(matches!(try_decode(&[], 1 << 30, &limits), Ok(Decoded::Need(FIRST_READ))));
        let claim = 100_000u64.to_le_bytes();
        assert!(matches!(try_decode(&claim, 1 << 30, &limits), Ok(Decoded::Need(100_008))));
    }

    #[test]
    fn reads_tensors_in_file_order_with_absolute_bytes() {
        let json = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;
        let header = decode(json, 16).unwrap();
        let names: Vec<_> = header.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(header.tensors[1].bytes, header.len + 4..header.len + 16);
        assert_eq!(header.tensors[1].matrix(), (2, 3));
    }

    #[test]
    fn a_header_that_claims_two_to_the_sixty() {
        let claim = (1u64 << 60).to_le_bytes();
        assert!(matches!(
            try_decode(&claim, 1 << 20, &Limits::default()),
            Err(HeaderError::TooLarge { claimed, .. }) if claimed == 1 << 60
        ));
    }

    #[test]
    fn a_shape_that_overflows() {
        let json = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,4]}}"#;
        assert!(matches!(decode(json, 4), Err(HeaderError::Shape { .. })));
    }

    #[test]
    fn a_truncated_file() {
        let json = r#"{"a":{"dtype":"F32","shape":[10],"data_offsets":[0,40]}}"#;
        assert!(matches!(decode(json, 17), Err(HeaderError::Size { .. })));
    }

    #[test]
    fn overlaps_holes_and_duplicates() {
        let overlap = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
        assert!(matches!(decode(overlap, 6), Err(HeaderError::Layout { .. })));
        let hole = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}}"#;
        assert!(matches!(decode(hole, 6), Err(HeaderError::Layout { .. })));
        let twice = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
        assert!(matches!(decode(twice, 2), Err(HeaderError::Json(_))));
    }

    #[test]
    fn an_unknown_dtype_is_kept_and_not_read() {
        let json = r#"{"a":{"dtype":"F3_NEW","shape":[9],"data_offsets":[0,4]}}"#;
        assert_eq!(decode(json, 4).unwrap().tensors[0].dtype, None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), size in any::<u64>()) {
            let _ = try_decode(&bytes, size, &Limits::default());
        }

        #[test]
        fn never_panics_on_json_like_input(json in r#"\{("[ab]":\{"dtype":"(F32|F4|X)","shape":\[[0-9]{0,20}(,[0-9]{1,20})?\],"data_offsets":\[[0-9]{1,20},[0-9]{1,20}\]\},?){0,3}\}"#) {
            let (bytes, size) = file(&json, 8);
            let _ = try_decode(&bytes, size, &Limits::default());
        }

        #[test]
        fn agrees_with_the_crate(shapes in proptest::collection::vec(proptest::collection::vec(0usize..5, 0..4), 0..6)) {
            let data: Vec<Vec<u8>> = shapes.iter().map(|s| vec![0u8; s.iter().product::<usize>() * 2]).collect();
            let views: Vec<_> = shapes.iter().zip(&data).enumerate().map(|(i, (s, d))| {
                (format!("t{i}"), safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, s.clone(), d).unwrap())
            }).collect();
            let bytes = safetensors::serialize(views, None).unwrap();
            let Ok(Decoded::Done(header)) = try_decode(&bytes, bytes.len() as u64, &Limits::default()) else {
                panic!("a valid file was refused");
            };
            let (crate_len, crate_meta) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
            prop_assert_eq!(header.len, crate_len as u64 + 8);
            prop_assert_eq!(header.tensors.len(), crate_meta.tensors().len());
            for tensor in &header.tensors {
                let info = crate_meta.info(&tensor.name).unwrap();
                prop_assert_eq!(tensor.bytes.start - header.len, info.data_offsets.0 as u64);
                prop_assert_eq!(tensor.bytes.end - header.len, info.data_offsets.1 as u64);
            }
        }
    }
}
