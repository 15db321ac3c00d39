//! Rows for tests.

use crate::signals::coverage::{Coverage, Extent, Rest, RestKind};
use crate::signals::fingerprint::EXTRACTION_VERSION;
use crate::signals::profile::{POINTS, Profile, TokenGram};
use crate::signals::{Fingerprint, Role};
use crate::store::row::{AdapterFacts, Outcome, Row, WeightFile};

/// A row of a model with every optional field set or, for `fingerprint: None`, unset.
pub(crate) fn row(name: &str, fingerprint: Option<Fingerprint>) -> Row {
    let indexed = fingerprint.is_some();
    let some = |s: &str| indexed.then(|| s.to_owned());
    let coverage = Coverage {
        parameters: 1234,
        parameters_read: 1000,
        bytes: 2468,
        bytes_read: 2000,
        rest: vec![Rest {
            kind: RestKind::UnknownName,
            what: "vision_tower".into(),
            parameters: 234,
            bytes: 468,
        }],
    };
    let extent = Extent::new(Some(&coverage), true, Some(32_000));
    let fingerprint = fingerprint.map(|fingerprint| Fingerprint { extent, ..fingerprint });
    Row {
        repo_id: format!("org/{name}"),
        hub_id: format!("id-{name}"),
        component: String::new(),
        sha: some("c0ffee"),
        created_at: indexed.then_some(1_700_000_000_000),
        last_modified: None,
        crawled_at: 1_800_000_000_000,
        gone_at: indexed.then_some(1_900_000_000_000),
        outcome: if indexed { Outcome::Indexed } else { Outcome::Gated },
        reason: (!indexed).then(|| "no access".to_owned()),
        gated: "false".into(),
        downloads: indexed.then_some(7),
        likes: None,
        pipeline_tag: some("text-generation"),
        library_name: None,
        license: some("mit"),
        declared_bases: if indexed { vec!["org/base".into()] } else { vec![] },
        model_type: some("llama"),
        architecture: some("LlamaForCausalLM"),
        quantization: None,
        config: indexed.then(Default::default),
        tokenizer: None,
        dtype: some("BF16"),
        parameters: indexed.then_some(1234),
        weight_files: vec![WeightFile {
            path: "model.safetensors".into(),
            size: Some(9),
            sha256: some("aa"),
        }],
        bytes_in_repo: 99,
        bytes_fetched: 9,
        weights_digest: some(&format!("w-{name}")),
        extraction_key: some(&format!("r-{name}")),
        sample_digest: some(&format!("s-{name}")),
        extraction_version: EXTRACTION_VERSION,
        coverage: indexed.then_some(coverage),
        adapter: None,
        profile: indexed.then(|| Profile {
            norms: Some([0.5; POINTS]),
            energy: [(Role::Query, [0.25; POINTS])].into(),
            gram: TokenGram { keys: vec![3, 9], cosines: vec![-5] },
        }),
        fingerprint,
    }
}

/// The same of an adapter.
pub(crate) fn adapter_row(name: &str, fingerprint: Fingerprint) -> Row {
    let facts = AdapterFacts {
        rank: 8,
        targets: vec!["q_proj".into(), "v_proj".into()],
        base: Some("org/base".into()),
        revision: None,
    };
    let mut row = row(name, Some(fingerprint));
    if let Some(fingerprint) = &mut row.fingerprint {
        fingerprint.extent.rank = Some(facts.rank);
    }
    Row { adapter: Some(facts), ..row }
}
