use proptest::prelude::*;

use super::*;
use crate::formats::{Limits, varint};

fn parse(parts: &[(&str, &[u8])]) -> Result<Tokenizer, TokenizerError> {
    let mut files = TokenizerFiles::default();
    for (name, bytes) in parts {
        files.insert(name, bytes);
    }
    Tokenizer::parse(&files, &Limits::default())
}

fn json(text: &str) -> Result<Tokenizer, TokenizerError> {
    parse(&[("tokenizer.json", text.as_bytes())])
}

fn demo(model: &str) -> Tokenizer {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/demo-hub/models");
    let read = |name| std::fs::read(format!("{folder}/{model}/{name}")).unwrap();
    parse(&[
        ("tokenizer.json", &read("tokenizer.json")),
        ("tokenizer_config.json", &read("tokenizer_config.json")),
    ])
    .unwrap()
}

fn texts(tokenizer: &Tokenizer) -> Vec<(u32, &str, TokenKind)> {
    tokenizer.vocabulary.tokens().iter().map(|t| (t.id, &*t.text, t.kind)).collect()
}

#[test]
fn reads_a_byte_level_bpe() {
    let llama = demo("lumenworks/stdlib-llama-500k");
    assert_eq!(llama.algorithm, Some(Algorithm::Bpe));
    assert_eq!(llama.vocabulary.len(), 1024);
    assert_eq!(llama.vocabulary.get(3).unwrap().text.as_ref(), "!");
    assert_eq!(llama.vocabulary.get(0).unwrap().kind, TokenKind::Special);
    assert!(llama.vocabulary.get(1024).is_none());
    let merges = llama.merges.unwrap();
    assert_eq!((merges.count, merges.prefixes.len()), (765, 2));
    let structure = llama.structure.unwrap();
    assert!(structure.normaliser.steps.is_empty());
    assert_eq!(structure.pre_tokeniser.steps, ["ByteLevel"]);
    assert_eq!(llama.special.len(), 3, "{:?}", llama.special);
    assert_eq!((llama.byte_fallback, llama.model_max_length), (Some(false), None));
}

#[test]
fn reads_a_wordpiece() {
    let bert = demo("lumenworks/stdlib-bert");
    assert_eq!(bert.algorithm, Some(Algorithm::WordPiece));
    assert_eq!((bert.merges, bert.lowercase), (None, Some(true)));
    assert_eq!(bert.continuing_prefix.as_deref(), Some("##"));
    assert_eq!(bert.special[&Function::Mask], "[MASK]");
    assert_eq!(bert.structure.unwrap().post_processor.steps, ["BertProcessing"]);
}

#[test]
fn both_spellings_of_merges_and_both_kinds_of_file_say_the_same() {
    let vocab = r#"{"a":0,"b":1,"ab":2,"Ġ":3}"#;
    let bpe = |merges: &str| {
        json(&format!(r#"{{"model":{{"type":"BPE","vocab":{vocab},"merges":{merges}}}}}"#)).unwrap()
    };
    let (old, new) = (bpe(r#"["a b","Ġ a"]"#), bpe(r#"[["a","b"],["Ġ","a"]]"#));
    assert_eq!(old, new);
    let merges_txt = "#version: 0.2\na b\nĠ a\n".as_bytes();
    let plain = parse(&[("vocab.json", vocab.as_bytes()), ("merges.txt", merges_txt)]).unwrap();
    assert_eq!((&plain.merges, &plain.vocabulary), (&old.merges, &old.vocabulary));
    assert_eq!((plain.algorithm, plain.structure), (old.algorithm, None));
    assert_ne!(old.merges, bpe(r#"["Ġ a","a b"]"#).merges);
    assert_ne!(old.merges, bpe(r#"[["a","bĠ"],["","a"]]"#).merges);
}

#[test]
fn reads_a_unigram_by_position() {
    let unigram = json(
        r#"{"model":{"type":"Unigram","unk_id":1,"byte_fallback":true,"vocab":[["<s>",0],["<unk>",-0.5],["▁a",-1e-3]]}}"#,
    )
    .unwrap();
    assert_eq!(unigram.algorithm, Some(Algorithm::Unigram));
    assert_eq!(unigram.vocabulary.get(2).unwrap().text.as_ref(), "▁a");
    assert_eq!(unigram.special[&Function::Unknown], "<unk>");
    assert_eq!(unigram.byte_fallback, Some(true));
}

#[test]
fn added_tokens_come_over_learned_ones() {
    let with = json(
        r#"{"model":{"vocab":{"a":0,"b":1,"c":5}},"added_tokens":[{"id":1,"content":"<b>","special":true},{"id":9,"content":"new"}]}"#,
    )
    .unwrap();
    let (ordinary, added, special) = (TokenKind::Ordinary, TokenKind::Added, TokenKind::Special);
    assert_eq!(
        texts(&with),
        [(0, "a", ordinary), (1, "<b>", special), (5, "c", ordinary), (9, "new", added)]
    );
    let plain = parse(&[
        ("vocab.json", br#"{"a":0,"b":1,"c":5}"#),
        ("added_tokens.json", br#"{"old":9}"#),
        ("tokenizer_config.json", br#"{"added_tokens_decoder":{"1":{"content":"<b>","special":true},"9":{"content":"new"},"x":{"content":"y"}}}"#),
    ])
    .unwrap();
    assert_eq!(texts(&plain), texts(&with));
}

#[test]
fn reads_vocab_txt_by_line() {
    let bert = parse(&[
        ("vocab.txt", b"[PAD]\r\n\n##b\nc"),
        ("tokenizer_config.json", br#"{"do_lower_case":false}"#),
    ])
    .unwrap();
    assert_eq!((bert.algorithm, bert.lowercase), (Some(Algorithm::WordPiece), Some(false)));
    let spelled: Vec<_> = bert.vocabulary.tokens().iter().map(|t| (t.id, &*t.text)).collect();
    assert_eq!(spelled, [(0, "[PAD]"), (1, ""), (2, "##b"), (3, "c")]);
}

#[test]
fn settings_name_special_tokens() {
    let both = parse(&[
        ("vocab.txt", b"a"),
        ("tokenizer_config.json", br#"{"bos_token":{"content":"<s>"},"eos_token":null,"pad_token":7,"model_max_length":512,"chat_template":"{{x}}"}"#),
        ("special_tokens_map.json", br#"{"bos_token":"<x>","eos_token":"</s>"}"#),
    ])
    .unwrap();
    let special: Vec<_> = both.special.iter().map(|(f, t)| (*f, t.as_str())).collect();
    assert_eq!(special, [(Function::Begin, "<s>"), (Function::End, "</s>")]);
    assert_eq!((both.model_max_length, both.chat_template.is_some()), (Some(512), true));
}

/// A field of a protobuf message: bytes, or a number.
fn field(number: u64, value: Result<&[u8], u64>) -> Vec<u8> {
    match value {
        Ok(bytes) => varint::testing::field(number, bytes),
        Err(n) => [number << 3, n].map(varint::testing::varint).concat(),
    }
}

fn sentencepiece_model() -> Vec<u8> {
    let score = [2 << 3 | 5, 0, 0, 0, 0];
    let piece = |text: &str, kind: Option<u64>| {
        let mut message = field(1, Ok(text.as_bytes()));
        message.extend(score);
        message.extend(kind.into_iter().flat_map(|kind| field(3, Err(kind))));
        field(1, Ok(&message))
    };
    let trainer = [field(3, Err(2)), field(35, Err(1)), field(41, Err(1)), field(43, Err(u64::MAX))].concat();
    let pieces = [
        ("<unk>", Some(2)),
        ("<s>", Some(3)),
        ("</s>", Some(3)),
        ("<0x0A>", Some(6)),
        ("▁a", None),
        ("u", Some(4)),
    ];
    let pieces: Vec<u8> = pieces.into_iter().flat_map(|(text, kind)| piece(text, kind)).collect();
    [pieces, field(2, Ok(&trainer))].concat()
}

#[test]
fn reads_a_sentencepiece_model() {
    let read = parse(&[("spiece.model", &sentencepiece_model())]).unwrap();
    assert_eq!((read.algorithm, read.byte_fallback), (Some(Algorithm::Bpe), Some(true)));
    let (ordinary, added, special) = (TokenKind::Ordinary, TokenKind::Added, TokenKind::Special);
    assert_eq!(
        texts(&read),
        [
            (0, "<unk>", special),
            (1, "<s>", special),
            (2, "</s>", special),
            (3, "<0x0A>", ordinary),
            (4, "▁a", ordinary),
            (5, "u", added)
        ]
    );
    let names: Vec<_> = read.special.iter().map(|(f, t)| (*f, t.as_str())).collect();
    assert_eq!(names, [(Function::Begin, "<s>"), (Function::End, "</s>"), (Function::Unknown, "<unk>")]);
    // Marian: ids from vocab.json, the algorithm from the model.
    let marian = parse(&[("vocab.json", br#"{"a":0}"#), ("source.spm", &sentencepiece_model())]).unwrap();
    assert_eq!((marian.algorithm, marian.vocabulary.len()), (Some(Algorithm::Bpe), 1));
}

#[test]
fn a_cut_sentencepiece_model_is_refused_with_the_place() {
    let model = sentencepiece_model();
    let error = parse(&[("spiece.model", &model[..model.len() - 1])]).unwrap_err();
    let last = model.len() - 20;
    assert!(matches!(error, TokenizerError::SentencePiece { offset, .. } if offset == last), "{error}");
    let endless = field(1, Ok(b"")).into_iter().take(1).chain([0xff; 11]).collect::<Vec<u8>>();
    let huge = [1 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    for bytes in [endless.as_slice(), &huge] {
        assert!(matches!(parse(&[("spiece.model", bytes)]), Err(TokenizerError::SentencePiece { .. })));
    }
}

#[test]
fn hostile_files_are_refused_with_evidence() {
    let vocab = |vocab: &str| json(&format!(r#"{{"model":{{"type":"BPE","vocab":{vocab}}}}}"#));
    let long = format!(r#"{{"{}":1}}"#, "x".repeat(5000));
    let cases = [
        (vocab(r#"{"a":-1}"#), "-1"),
        (vocab(r#"{"evil":1152921504606846976}"#), "1152921504606846976"),
        (vocab(r#"{"a":3,"b":3}"#), r#""a" and "b" both have id 3"#),
        (vocab(r#"{"a":1.5}"#), "1.5"),
        (vocab("7"), "tokenizer.json, vocab"),
        (vocab(r#"[["a",0],[]]"#), "token"),
        (vocab(r#"["a"]"#), "score"),
        (vocab(&long), "5000 bytes"),
        (vocab("{}"), "no token"),
        (json(r#"{"model":{"vocab":{"a":0},"merges":["ab"]}}"#), "not two tokens"),
        (json(r#"{"model":{"vocab":{"a":0},"merges":[["a","b","c"]]}}"#), "not two tokens"),
        (json(r#"{"model":{"vocab":{"a":0}},"added_tokens":[{"id":2000000,"content":"x"}]}"#), "2000000"),
        (json("[]"), "tokenizer.json"),
        (json(&"[".repeat(1 << 20)), "tokenizer.json"),
        (parse(&[]), "no file with a vocabulary"),
        (parse(&[("vocab.txt", b"\xff")]), "vocab.txt"),
        (parse(&[("vocab.json", b"{}"), ("merges.txt", b"a b\nab")]), "line 2"),
        (parse(&[("vocab.json", b"{} {}")]), "trailing"),
    ];
    for (i, (result, evidence)) in cases.into_iter().enumerate() {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(evidence), "case {i}: {message}");
    }
}

#[test]
fn counts_and_sizes_are_limited() {
    let limits = Limits { tokens: 2, tokenizer_bytes: 20, ..Limits::default() };
    let read = |text: &'static [u8]| {
        Tokenizer::parse(&TokenizerFiles { vocab_txt: Some(text), ..TokenizerFiles::default() }, &limits)
    };
    assert!(read(b"a\nb").is_ok());
    assert!(matches!(read(b"a\nb\nc"), Err(TokenizerError::Token { source: TokenFault::TooMany(2), .. })));
    assert!(matches!(read(&[b'a'; 21]), Err(TokenizerError::TooLarge { bytes: 21, .. })));
}

#[test]
fn an_early_file_does_not_name_its_algorithm() {
    let model = |rest: &str| json(&format!(r#"{{"model":{{{rest}}}}}"#)).unwrap().algorithm;
    assert_eq!(model(r#""vocab":{"a":0},"merges":[]"#), Some(Algorithm::Bpe));
    assert_eq!(model(r#""vocab":[["a",0]]"#), Some(Algorithm::Unigram));
    assert_eq!(model(r###""vocab":{"a":0},"continuing_subword_prefix":"##""###), Some(Algorithm::WordPiece));
    assert_eq!(model(r#""vocab":{"a":0}"#), None);
}

#[test]
fn the_smallest_set_of_files_is_chosen() {
    let names = files_to_read;
    assert_eq!(
        names(&[
            "vocab.txt",
            "config.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "tokenizer.json"
        ]),
        ["tokenizer.json", "tokenizer_config.json"]
    );
    assert_eq!(
        names(&["tokenizer.json", "special_tokens_map.json", "vocab.json"]),
        ["tokenizer.json", "special_tokens_map.json"]
    );
    assert_eq!(names(&["merges.txt", "vocab.json", "tokenizer.model"]), ["vocab.json", "merges.txt"]);
    assert_eq!(names(&["source.spm", "target.spm", "vocab.json"]), ["vocab.json", "source.spm"]);
    assert_eq!(names(&["tokenizer.model", "added_tokens.json"]), ["added_tokens.json", "tokenizer.model"]);
    assert!(names(&["tokenizer_config.json", "merges.txt", "sentencepiece.bpe.model"]).is_empty());
}

/// Text in the alphabet of JSON, where a random string would seldom get past the first byte.
fn json_like() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:e}")),
        ".{0,6}".prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    let keys = prop_oneof![
        Just("model"),
        Just("vocab"),
        Just("merges"),
        Just("added_tokens"),
        Just("normalizer"),
        Just("type"),
        Just("id"),
        Just("content"),
        Just("unk_id"),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((keys.clone(), inner), 0..6).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(k, v)| format!(r#""{k}":{v}"#)).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// Every file in turn holds these bytes.
fn read_as_everything(bytes: &[u8]) {
    for name in TOKENIZER_FILES {
        let mut files = TokenizerFiles { vocab_txt: Some(b"a"), ..TokenizerFiles::default() };
        if name == "merges.txt" {
            files.vocab_json = Some(b"{}");
        }
        files.insert(name, bytes);
        let _ = Tokenizer::parse(&files, &Limits::default());
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn json_of_any_shape_never_panics(text in json_like(), merges in json_like(), vocab in json_like()) {
        read_as_everything(text.as_bytes());
        let model = format!(r#"{{"model":{{"vocab":{vocab},"merges":{merges}}},"added_tokens":{text},"decoder":{vocab}}}"#);
        read_as_everything(model.as_bytes());
    }

    #[test]
    fn protobuf_of_any_shape_never_panics(
        fields in proptest::collection::vec((0u64..50, any::<Option<u64>>(), proptest::collection::vec(any::<u8>(), 0..30)), 0..20),
        cut in 0usize..500,
    ) {
        let mut bytes: Vec<u8> = fields
            .iter()
            .flat_map(|(number, n, bytes)| field(*number, n.map_or(Ok(bytes.as_slice()), Err)))
            .collect();
        bytes.truncate(cut);
        let _ = parse(&[("tokenizer.model", &bytes)]);
    }

    #[test]
    fn a_vocabulary_reads_back(tokens in proptest::collection::hash_set(".{0,12}", 1..40)) {
        let vocab: serde_json::Map<String, serde_json::Value> =
            tokens.iter().enumerate().map(|(i, text)| (text.clone(), (3 * i).into())).collect();
        let text = serde_json::json!({ "model": { "vocab": vocab } }).to_string();
        let read = json(&text).unwrap();
        for (text, id) in &vocab {
            let id = id.as_u64().unwrap() as u32;
            prop_assert_eq!(&*read.vocabulary.get(id).unwrap().text, text.as_str());
        }
        prop_assert_eq!(read.vocabulary.len(), vocab.len());
    }
}

/// A byte-level BPE as tokenizer.json: a space, a line feed and bytes that are no character are other characters.
const BYTE_LEVEL: &str =
    r#"{"model":{"type":"BPE","vocab":{"!":0,"Ġ":1,"Ċ":2,"Ġthe":3,"é":4,"Â":5,"Ń":6,"ł":7}}}"#;
/// The bytes of its tokens.
const BYTES: [&[u8]; 8] = [b"!", b" ", b"\n", b" the", b"\xe9", b"\xc2", b"\xad", b"\xa0"];

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn tekken(config: &str, rest: &str) -> String {
    let token = |(rank, bytes): (usize, &&[u8])| {
        format!(r#"{{"rank":{rank},"token_bytes":"{}","token_str":null}}"#, base64(bytes))
    };
    let vocab: Vec<String> = BYTES.iter().enumerate().map(token).collect();
    format!(r#"{{"config":{{{config}}},"vocab":[{}]{rest}}}"#, vocab.join(","))
}

#[test]
fn tiktoken_spells_as_tokenizer_json_does() {
    let lines: Vec<String> =
        BYTES.iter().enumerate().map(|(rank, bytes)| format!("{} {rank}", base64(bytes))).collect();
    let expected = json(BYTE_LEVEL).unwrap().vocabulary;
    for name in ["qwen.tiktoken", "tiktoken.model", "tokenizer.model"] {
        for text in [lines.join("\n"), lines.join("\r\n") + "\r\n"] {
            let read = parse(&[(name, text.as_bytes())]).unwrap();
            assert_eq!((read.algorithm, &read.vocabulary), (Some(Algorithm::Bpe), &expected), "{name}");
        }
    }
    // Added tokens stand beside it.
    let settings =
        br#"{"added_tokens_decoder":{"9":{"content":"<|end|>","special":true}},"eos_token":"<|end|>"}"#;
    let text = lines.join("\n");
    let read = parse(&[("tiktoken.model", text.as_bytes()), ("tokenizer_config.json", settings)]).unwrap();
    assert_eq!((read.vocabulary.len(), &*read.vocabulary.get(9).unwrap().text), (9, "<|end|>"));
    assert_eq!(read.special[&Function::End], "<|end|>");
    for damaged in ["IQ== 0\nIQ==", "IQ== 0\n*** 1", "IQ== 0\nIQ== 1 2", "IQ== 0\nIQ== -1"] {
        let said = parse(&[("x.tiktoken", damaged.as_bytes())]).unwrap_err().to_string();
        assert!(said.contains("line 2"), "{said}");
    }
}

#[test]
fn tekken_puts_special_tokens_first() {
    let shifted = |by: u32| -> Vec<(u32, Box<str>)> {
        json(BYTE_LEVEL).unwrap().vocabulary.tokens().iter().map(|t| (t.id + by, t.text.clone())).collect()
    };
    let read = |text: &str| parse(&[("tekken.json", text.as_bytes())]).unwrap();
    let learned = |read: &Tokenizer| -> Vec<(u32, Box<str>)> {
        let all = read.vocabulary.tokens().iter().filter(|token| token.kind == TokenKind::Ordinary);
        all.map(|token| (token.id, token.text.clone())).collect()
    };
    let old = read(&tekken(r#""version":"v3""#, ""));
    assert_eq!(learned(&old), shifted(1000));
    assert_eq!((&*old.vocabulary.get(3).unwrap().text, &*old.special[&Function::Begin]), ("[INST]", "<s>"));
    let special = r#","special_tokens":[{"rank":0,"token_str":"<unk>"},{"rank":1,"token_str":"<|x|>","is_control":true}]"#;
    let new = read(&tekken(r#""default_num_special_tokens":10,"default_vocab_size":16"#, special));
    assert_eq!(learned(&new), shifted(10)[..6], "the rest is in reserve");
    assert_eq!((&*new.vocabulary.get(1).unwrap().text, new.special.len()), ("<|x|>", 1));
    let damaged = r#"{"vocab":[{"rank":0,"token_bytes":"*"}]}"#;
    assert!(parse(&[("tekken.json", damaged.as_bytes())]).unwrap_err().to_string().contains("rank 0"));
}

#[test]
fn files_of_bytes_and_ranks_come_after_those_that_tell_more() {
    assert_eq!(files_to_read(&["tekken.json", "tokenizer.json"]), ["tokenizer.json"]);
    assert_eq!(files_to_read(&["tekken.json", "tokenizer.model", "README.md"]), ["tekken.json"]);
    assert_eq!(
        files_to_read(&["qwen.tiktoken", "tokenizer_config.json", "a/b.tiktoken"]),
        ["tokenizer_config.json", "qwen.tiktoken"]
    );
    assert_eq!(files_to_read(&["tiktoken.model", "config.json"]), ["tiktoken.model"]);
}

#[test]
fn a_file_that_is_something_else_is_named() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2";
    for name in ["tokenizer.json", "tokenizer.model", "tekken.json", "qwen.tiktoken", "vocab.txt"] {
        let said = parse(&[(name, pointer)]).unwrap_err().to_string();
        assert!(said.contains("Git LFS pointer"), "{name}: {said}");
    }
    assert!(parse(&[("vocab.json", b"<!doctype html>")]).unwrap_err().to_string().contains("HTML"));
}
