//! Tokens by what they stand for, so that vocabularies compare across kinds of tokenizer.
//!
//! One word is `Ġhello` to a byte-level BPE, `▁hello` to SentencePiece, `hello` to WordPiece, whose `##hello`
//! is `hello` to the other two. A token is brought to a normal form of kind and bytes, and that to a key: a
//! 64-bit hash. Two tokens of 500,000 share a key by chance with probability 1e-8.
//!
//! The form follows from the spelling alone, never from the flags that files attach to a token, because those
//! change in a fine-tune, or with the kind of file.

use super::hash::{key, mix};
use super::minhash::MinHash;
use crate::formats::tokenizer::{Token, TokenKind, Tokenizer};

/// What a token stands for, apart from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Begins a word.
    Beginning,
    /// Continues one.
    Inside,
    /// Ends one: alphabets that mark the end (`</w>`) do not mark the beginning.
    Ending,
    /// A byte that is no character by itself, or the fallback for one.
    Byte,
    /// No text: `<s>`, `<|im_start|>`, `[MASK]`. Matched literally. Which of them begins a sequence or fills a
    /// batch is compared apart ([`super::tokenizer`]), for that changes without any token changing.
    Control,
}

/// How a vocabulary marks where words begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// Every byte is a printable character; a space is `Ġ`.
    ByteLevel,
    /// A space is `▁`.
    Metaspace,
    /// Pieces end in `</w>` where a word ends, spelled in bytes as above.
    WordEnd,
    /// Pieces inside a word have a prefix, `##`.
    Prefix,
}

const WORD_END: &str = "</w>";

impl Spelling {
    /// The spelling with the most marks; a vocabulary of whole words has none and counts as [`Self::Prefix`].
    fn of(tokenizer: &Tokenizer) -> Self {
        let mut marks = [(Self::Prefix, 0), (Self::ByteLevel, 0), (Self::Metaspace, 0), (Self::WordEnd, 0)];
        let prefix = prefix(tokenizer);
        for token in tokenizer.vocabulary.tokens() {
            let text = &*token.text;
            marks[0].1 += usize::from(text.starts_with(prefix));
            marks[1].1 += usize::from(text.starts_with('Ġ'));
            marks[2].1 += usize::from(text.starts_with('▁'));
            marks[3].1 += usize::from(text.ends_with(WORD_END));
        }
        // Of equals the first.
        marks.into_iter().rev().max_by_key(|(_, n)| *n).map_or(Self::Prefix, |(spelling, _)| spelling)
    }
}

fn prefix(tokenizer: &Tokenizer) -> &str {
    tokenizer.continuing_prefix.as_deref().unwrap_or("##")
}

/// Kind and bytes of a token.
fn normal_form(token: &Token, spelling: Spelling, prefix: &str) -> (Kind, Vec<u8>) {
    let text = &*token.text;
    if let Some(byte) = fallback_byte(text) {
        return (Kind::Byte, vec![byte]);
    }
    if is_control(text) {
        return (Kind::Control, text.into());
    }
    // Added tokens are plain text, whatever the alphabet of the learned ones.
    let bytes =
        |text: &str| if token.kind == TokenKind::Ordinary { from_byte_level(text) } else { text.into() };
    let (kind, bytes) = match spelling {
        Spelling::Prefix => match text.strip_prefix(prefix) {
            Some(rest) if !rest.is_empty() => (Kind::Inside, rest.into()),
            _ => (Kind::Beginning, text.into()),
        },
        Spelling::WordEnd => match text.strip_suffix(WORD_END) {
            Some(rest) => (Kind::Ending, bytes(rest)),
            None => (Kind::Inside, bytes(text)),
        },
        Spelling::ByteLevel => after_space(bytes(text)),
        Spelling::Metaspace => after_space(text.replace('▁', " ").into()),
    };
    match bytes[..] {
        [byte] if !byte.is_ascii_graphic() && byte != b' ' => (Kind::Byte, bytes),
        _ => (kind, bytes),
    }
}

/// A first space says that a word begins.
fn after_space(mut bytes: Vec<u8>) -> (Kind, Vec<u8>) {
    if bytes.first() != Some(&b' ') {
        return (Kind::Inside, bytes);
    }
    bytes.remove(0);
    (Kind::Beginning, bytes)
}

/// The byte that `<0x0A>` stands for.
fn fallback_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hexadecimal.then(|| u8::from_str_radix(digits, 16).ok())?
}

/// Whether a token looks like one that steers the model: `<...>`, or `[...]` in capitals.
fn is_control(text: &str) -> bool {
    let between =
        |open, close| text.strip_prefix(open)?.strip_suffix(close).filter(|inner: &&str| !inner.is_empty());
    between('<', '>').is_some_and(|inner| !inner.contains(char::is_whitespace))
        || between('[', ']').is_some_and(|inner| {
            inner.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })
}

/// Undoes the alphabet of GPT-2: bytes that print as Latin-1 stand for themselves, the other 68, in order, are
/// the characters from U+0100 on. Characters outside the alphabet stay as they are.
fn from_byte_level(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c) {
            n @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => bytes.push(n as u8),
            n @ 0x100..=0x120 => bytes.push((n - 0x100) as u8),
            n @ 0x121..=0x142 => bytes.push((n - 0x121 + 0x7f) as u8),
            0x143 => bytes.push(0xad),
            _ => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    bytes
}

/// The key of a normal form: 8 bytes at a time, folded as in [`key`].
fn token_key(kind: Kind, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(key(&[kind as u64, bytes.len() as u64]), |k, chunk| {
        let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        mix(k ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    })
}

/// The key of a text as it stands, for what is compared literally.
pub(super) fn literal_key(text: &str) -> u64 {
    token_key(Kind::Control, text.as_bytes())
}

/// Whether a token is fit to be an anchor: learned, and at least 2 letters and nothing else, so that it occurs
/// in text (`[unused7]` does not) and means about the same to every model.
fn is_wordlike(token: &Token, bytes: &[u8]) -> bool {
    let letters = |text: &str| text.chars().all(char::is_alphabetic) && text.chars().nth(1).is_some();
    token.kind == TokenKind::Ordinary && std::str::from_utf8(bytes).is_ok_and(letters)
}

/// One token with its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    key: u64,
    id: u32,
    wordlike: bool,
}

/// The keys of a vocabulary, 32 bytes a token. Where two tokens have one key, the one with the smaller id has
/// it, and the other has none.
#[derive(Clone, Debug)]
pub struct TokenKeys {
    /// In order of key, no key twice.
    by_key: Vec<Entry>,
    /// (id, key), in order of id.
    by_id: Vec<(u32, u64)>,
}

impl TokenKeys {
    /// Brings every token to its key.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let (spelling, prefix) = (Spelling::of(tokenizer), prefix(tokenizer));
        let entry = |token: &Token| {
            let (kind, bytes) = normal_form(token, spelling, prefix);
            Entry { key: token_key(kind, &bytes), id: token.id, wordlike: is_wordlike(token, &bytes) }
        };
        let mut by_key: Vec<Entry> = tokenizer.vocabulary.tokens().iter().map(entry).collect();
        by_key.sort_unstable();
        by_key.dedup_by_key(|entry| entry.key);
        let mut by_id: Vec<(u32, u64)> = by_key.iter().map(|entry| (entry.id, entry.key)).collect();
        by_id.sort_unstable();
        Self { by_key, by_id }
    }

    /// How many tokens have a key.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The key of a token.
    pub fn key(&self, id: u32) -> Option<u64> {
        let at = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.by_id.get(at).map(|(_, key)| *key)
    }

    /// The token with a key.
    pub fn id(&self, key: u64) -> Option<u32> {
        let at = self.by_key.binary_search_by_key(&key, |entry| entry.key).ok()?;
        self.by_key.get(at).map(|entry| entry.id)
    }

    /// The `k` words with the smallest keys, as (key, id) in order of key. The keys are as good as random, so
    /// this is a sample of the vocabulary; and it is the same sample in every model: of two vocabularies both
    /// choose the same tokens as far as both have them (bottom-k sampling, Cohen and Kaplan 2007).
    pub fn anchors(&self, k: usize) -> Vec<(u64, u32)> {
        let wordlike = self.by_key.iter().filter(|entry| entry.wordlike);
        wordlike.take(k).map(|entry| (entry.key, entry.id)).collect()
    }

    /// Exact overlap with another vocabulary.
    pub fn overlap(&self, other: &Self) -> Overlap {
        let (small, large) = if self.len() <= other.len() { (self, other) } else { (other, self) };
        let shared = small.by_key.iter().filter(|entry| large.id(entry.key).is_some()).count();
        Overlap { sizes: (self.len(), other.len()), shared }
    }

    /// 128 numbers that estimate the overlap with any other vocabulary.
    pub fn minhash(&self) -> MinHash<128> {
        MinHash::of(self.by_key.iter().map(|entry| entry.key))
    }

    /// A hash of which id has which key: equal for vocabularies that are the same throughout.
    pub fn digest(&self) -> u64 {
        self.by_id.iter().fold(key(&[]), |k, (id, token)| mix(mix(k ^ u64::from(*id)) ^ token))
    }
}

/// How much two vocabularies have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Tokens of a and b.
    pub sizes: (usize, usize),
    /// Tokens that both have.
    pub shared: usize,
}

impl Overlap {
    /// Shared tokens over all tokens, 0..=1: vocabulary overlap (VOA).
    pub fn jaccard(self) -> f64 {
        let union = self.sizes.0 + self.sizes.1 - self.shared;
        self.shared as f64 / union.max(1) as f64
    }

    /// Share of the smaller vocabulary that lies in the larger one, 0..=1. At 1, or nearly, with sizes that
    /// differ, one vocabulary is an extension of the other.
    pub fn contained(self) -> f64 {
        self.shared as f64 / self.sizes.0.min(self.sizes.1).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{Limits, TokenizerFiles};

    fn parse(name: &str, bytes: &[u8]) -> Tokenizer {
        let mut files = TokenizerFiles::default();
        files.insert(name, bytes);
        Tokenizer::parse(&files, &Limits::default()).unwrap()
    }

    /// A vocabulary of these tokens with ids from 0.
    fn vocabulary(tokens: &[&str]) -> TokenKeys {
        let vocab: serde_json::Map<String, serde_json::Value> =
            tokens.iter().enumerate().map(|(i, t)| ((*t).to_owned(), i.into())).collect();
        TokenKeys::of(&parse("vocab.json", serde_json::to_string(&vocab).unwrap().as_bytes()))
    }

    fn demo(model: &str) -> Tokenizer {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/demo-hub/models");
        parse("tokenizer.json", &std::fs::read(format!("{folder}/{model}/tokenizer.json")).unwrap())
    }

    #[test]
    fn one_word_has_one_key_in_every_spelling() {
        let bytes = vocabulary(&["Ġhello", "lo", "Ġna", "Ã¯ve", "Ċ", "!", "<s>", "ĠĠĠ", "Ġ"]);
        let pieces = vocabulary(&["▁hello", "lo", "▁na", "ïve", "<0x0A>", "!", "<s>", "▁▁▁", "▁"]);
        let words = vocabulary(&["hello", "##lo", "na", "##ïve", "\n", "##!", "<s>"]);
        for id in 0..9 {
            assert_eq!(bytes.key(id), pieces.key(id), "token {id}");
            if id < 7 {
                assert_eq!(bytes.key(id), words.key(id), "token {id}");
            }
        }
        assert_eq!(bytes.len(), 9);
        let whole = vocabulary(&["hel", "lo</w>", "hello</w>", "<s>"]);
        assert_eq!(whole.overlap(&bytes), Overlap { sizes: (4, 9), shared: 1 });
    }

    #[test]
    fn the_byte_alphabet_is_undone() {
        // The alphabet, as GPT-2 makes it.
        let printing = |b: &u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let others: Vec<u8> = (0..=255).filter(|b| !printing(b)).collect();
        for byte in 0..=255u8 {
            let shift = others.iter().position(|b| *b == byte).map_or(u32::from(byte), |n| 0x100 + n as u32);
            let c = char::from_u32(shift).unwrap();
            assert_eq!(from_byte_level(&c.to_string()), [byte], "{c}");
        }
        assert_eq!(from_byte_level("▁日"), "▁日".as_bytes());
    }

    #[test]
    fn a_second_token_of_the_same_meaning_has_no_key() {
        let twice = vocabulary(&["▁a", "▁b", " b", "\n", "<0x0A>"]);
        assert_eq!((twice.len(), twice.key(2), twice.key(4)), (3, None, None));
        let key = twice.key(1).unwrap();
        assert_eq!(twice.id(key), Some(1));
        assert_eq!((twice.id(key ^ 1), twice.key(99)), (None, None));
    }

    #[test]
    fn bytes_and_steering_tokens_are_kept_apart_from_text() {
        let keys = vocabulary(&["▁A", "A", "<0x41>", "<A>", "[A]", "▁"]);
        assert_eq!(keys.len(), 6);
        for (text, control) in
            [("<|end|>", true), ("[MASK]", true), ("<>", false), ("[i]", false), ("< b>", false)]
        {
            assert_eq!(is_control(text), control, "{text}");
        }
        assert_eq!(fallback_byte("<0x+1>"), None);
    }

    #[test]
    fn an_extended_vocabulary_contains_its_base() {
        let (base, extended) = (demo("lumenworks/stdlib-llama-500k"), demo("kestrel-ai/kestrel-code-ext"));
        let (base, extended) = (TokenKeys::of(&base), TokenKeys::of(&extended));
        assert_eq!((base.len(), extended.len()), (1024, 1056));
        let overlap = base.overlap(&extended);
        assert_eq!(overlap, Overlap { sizes: (1024, 1056), shared: 1024 });
        assert_eq!(overlap.contained(), 1.0);
        assert!((overlap.jaccard() - 1024.0 / 1056.0).abs() < 1e-12);
        assert_eq!(base.overlap(&base).jaccard(), 1.0);
    }

    #[test]
    fn minhash_estimates_the_exact_overlap_of_real_vocabularies() {
        let models = [
            "lumenworks/stdlib-llama-500k",
            "aurelia-labs/aurelia-mini",
            "codewren/wren-gpt2",
            "pebblenet/pebble-llama-200k",
            "lumenworks/stdlib-bert",
            "kestrel-ai/kestrel-code-ext",
        ];
        let all: Vec<_> = models.iter().map(|model| TokenKeys::of(&demo(model))).collect();
        for a in &all {
            for b in &all {
                let exact = a.overlap(b).jaccard();
                let (x, y) = (a.minhash(), b.minhash());
                assert!((x.jaccard(&y) - exact).abs() < 4.0 * x.standard_error(&y), "{exact}");
            }
        }
        let across = all[0].overlap(&all[4]);
        assert!(across.shared > 200, "a BPE and a WordPiece of one corpus share {} tokens", across.shared);
    }

    #[test]
    fn anchors_are_words_that_both_models_choose() {
        let (a, b) = (
            TokenKeys::of(&demo("lumenworks/stdlib-llama-500k")),
            TokenKeys::of(&demo("lumenworks/stdlib-bert")),
        );
        let (of_a, of_b) = (a.anchors(64), b.anchors(64));
        assert_eq!((of_a.len(), of_b.len()), (64, 64));
        assert!(of_a.windows(2).all(|pair| pair[0].0 < pair[1].0));
        // Whatever lies below both last keys and is in both vocabularies was chosen by both.
        let last = of_a[63].0.min(of_b[63].0);
        let wordlike = |keys: &TokenKeys| {
            keys.by_key.iter().filter(|e| e.wordlike && e.key <= last).map(|e| e.key).collect::<Vec<_>>()
        };
        let shared: Vec<u64> = wordlike(&a).into_iter().filter(|key| wordlike(&b).contains(key)).collect();
        assert!(shared.len() > 10);
        for key in shared {
            assert!(of_a.iter().any(|(k, _)| *k == key) && of_b.iter().any(|(k, _)| *k == key));
        }
        let tokenizer = demo("lumenworks/stdlib-bert");
        for (_, id) in of_b {
            let token = tokenizer.vocabulary.get(id).unwrap();
            let text = token.text.trim_start_matches("##");
            assert!(text.chars().count() >= 2 && text.chars().all(char::is_alphabetic), "{text}");
        }
    }

    #[test]
    fn the_digest_is_of_ids_and_meanings() {
        let base = vocabulary(&["▁a", "▁b", "c"]);
        assert_eq!(base.digest(), vocabulary(&["▁a", "▁b", "c"]).digest());
        assert_eq!(base.digest(), vocabulary(&["Ġa", "Ġb", "c"]).digest());
        assert_ne!(base.digest(), vocabulary(&["▁b", "▁a", "c"]).digest());
        assert_ne!(base.digest(), vocabulary(&["▁a", "▁b"]).digest());
    }
}
