//! The columns of a shard, and rows to and from Arrow.
//!
//! | column | type | unit and meaning |
//! |---|---|---|
//! | repo_id, hub_id | string | name at crawl time; the Hub's immutable id |
//! | component | string | which checkpoint of the repository; empty for the main one |
//! | sha | string? | commit |
//! | created_at, last_modified, crawled_at, gone_at | timestamp(ms, UTC) | crawled_at is never null; gone_at is null while the Hub lists the repository |
//! | outcome, reason | string, string? | see [`Outcome`](crate::store::Outcome); reason is null when indexed |
//! | gated | string | false, auto, manual |
//! | downloads, likes | uint64? | |
//! | pipeline_tag, library_name, license | string? | from the listing |
//! | declared_bases | `list<string>` | `base_model:` tags, else what the weight files name |
//! | model_type, architecture, quantization | string? | from config.json, else from the weight files |
//! | config | string? | what screening needs of config.json, as JSON |
//! | tokenizer | string? | features and vocabulary sketch, as JSON; rows with one tokenizer share one value |
//! | dtype, parameters | string?, uint64? | from the tensors |
//! | weight_file_path, weight_file_size, weight_file_sha256 | lists of equal length | |
//! | bytes_in_repo, bytes_fetched | uint64 | bytes |
//! | weights_digest, reading, sample_digest | string? | hex SHA-256; `reading` is the extraction key |
//! | extraction_version | uint32 | of the extraction that made the row |
//! | coverage_parameters, coverage_parameters_read, coverage_bytes, coverage_bytes_read | uint64? | of the whole checkpoint, and of what was read of it; null where not known |
//! | tokenizer_tokens | uint32? | tokens of the tokenizer |
//! | quantised | uint8? | 1 where the matrices are packed or lie on a grid of few values |
//! | rest_kind, rest_what, rest_parameters, rest_bytes | lists of equal length, at most 16 | what was not read: see [`Rest`](crate::signals::coverage::Rest) |
//! | adapter_rank | uint32? | of an adapter, whose weights are differences to those of another model |
//! | adapter_targets | `list<string>` | the modules that it changes |
//! | adapter_base, adapter_revision | string? | from adapter_config.json, where that was read |
//! | hidden_size, layers, vocabulary | uint32?, uint16?, uint32? | from the tensors |
//! | profile_norms | `list<float32>` | 16 quantiles of embedding norms; empty where unknown |
//! | profile_energy_role, profile_energy | `list<uint8>`, `list<float32>` | 16 values a role: weight size over depth |
//! | gram_keys, gram_cosines | `list<uint64>`, `list<int8>` | n tokens, n(n-1)/2 cosines in 1/127 |
//! | resemblance | `list<float32>` | gains, residual, inner, embedding; empty without fingerprint |
//! | cell_role .. cell_residual | lists of equal length n | see [`crate::signals::fingerprint::Cell`] |
//! | cell_sketch | `list<int8>` | 32 n bytes |
//! | products | `fixed_size_list<int8>[512]?` | sketch of the products of rows; null where too few were read |
//! | product_concentration, product_rows | float32?, uint16? | see [`GramSketch`](crate::signals::gram::GramSketch) |
//! | vector | `fixed_size_list<int8>[1024]?` | retrieval vector |

mod adapter;
mod arrays;
mod coverage;
mod fingerprint;
mod partial;
mod reader;
mod rows;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use arrays::{numbers, text, time};
pub use partial::{
    INDEX_COLUMNS, IndexRow, KEY_COLUMNS, Key, SUMMARY_COLUMNS, Summary, index_rows_from_batch,
    keys_from_batch, summaries_from_batch, waiting_from_batch, waiting_to_batch,
};
pub use rows::{complete, from_batch, of_version, schema, to_batch};
