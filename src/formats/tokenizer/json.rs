//! `tokenizer.json`. The vocabulary and the merges, tens of megabytes, are visited where they lie and never
//! become a tree of values: their text is sliced out first, so that each is read with a visitor of its own.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::structure::MergeHasher;
use super::vocabulary::Tokens;
use super::{Algorithm, Component, Function, Structure, TokenKind, Tokenizer, TokenizerError};
use crate::formats::Limits;

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    model: &'a RawValue,
    #[serde(borrow)]
    added_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow)]
    pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow)]
    post_processor: Option<&'a RawValue>,
    #[serde(borrow)]
    decoder: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawModel<'a> {
    #[serde(borrow, rename = "type")]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    vocab: &'a RawValue,
    #[serde(borrow)]
    merges: Option<&'a RawValue>,
    #[serde(borrow)]
    unk_token: Option<&'a RawValue>,
    #[serde(borrow)]
    unk_id: Option<&'a RawValue>,
    #[serde(borrow)]
    byte_fallback: Option<&'a RawValue>,
    #[serde(borrow)]
    continuing_subword_prefix: Option<&'a RawValue>,
}

/// Reads tokenizer.json.
pub(super) fn read(json: &[u8], limits: &Limits) -> Result<Tokenizer, TokenizerError> {
    let in_part = |part| move |source| TokenizerError::Json { part, source };
    let raw: Raw<'_> = serde_json::from_slice(json).map_err(in_part("tokenizer.json"))?;
    let model: RawModel<'_> =
        serde_json::from_str(raw.model.get()).map_err(in_part("tokenizer.json, model"))?;

    let mut tokens = Tokens::new(limits);
    visit(model.vocab, VocabularyVisitor(&mut tokens)).map_err(in_part("tokenizer.json, vocab"))?;
    let learned =
        tokens.finish().map_err(|source| TokenizerError::Token { file: "tokenizer.json", source })?;
    let mut added = Tokens::new(limits);
    if let Some(raw) = raw.added_tokens {
        visit(raw, AddedVisitor(&mut added)).map_err(in_part("tokenizer.json, added_tokens"))?;
    }
    let vocabulary = learned.with_added(added);

    let mut merges = MergeHasher::default();
    if let Some(raw) = model.merges {
        visit(raw, MergesVisitor(&mut merges)).map_err(in_part("tokenizer.json, merges"))?;
    }

    let unknown = said::<String>(model.unk_token).filter(|text| text.len() <= limits.token_bytes);
    let unknown = unknown.or_else(|| {
        let token = vocabulary.get(said(model.unk_id)?)?;
        Some(token.text.to_string())
    });
    let (normaliser, lowercase) = Component::parse("normalizer", raw.normalizer, limits)?;
    Ok(Tokenizer {
        algorithm: algorithm(&model),
        merges: model.merges.map(|_| merges.finish()),
        structure: Some(Structure {
            normaliser,
            pre_tokeniser: Component::parse("pre_tokenizer", raw.pre_tokenizer, limits)?.0,
            post_processor: Component::parse("post_processor", raw.post_processor, limits)?.0,
            decoder: Component::parse("decoder", raw.decoder, limits)?.0,
        }),
        special: unknown.map(|text| (Function::Unknown, text)).into_iter().collect(),
        byte_fallback: said(model.byte_fallback),
        lowercase: Some(lowercase),
        continuing_prefix: said::<String>(model.continuing_subword_prefix)
            .filter(|prefix| !prefix.is_empty() && prefix.len() <= limits.token_bytes),
        vocabulary,
        ..Tokenizer::default()
    })
}

/// Reads an object of token to id, as in vocab.json.
pub(super) fn read_ids(
    file: &'static str,
    json: &[u8],
    tokens: &mut Tokens<'_>,
    kind: TokenKind,
) -> Result<(), TokenizerError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = IdsVisitor { tokens, kind };
    serde::Deserializer::deserialize_map(&mut deserializer, read)
        .and_then(|()| deserializer.end())
        .map_err(|source| TokenizerError::Json { part: file, source })
}

/// Files of early versions do not name the algorithm.
fn algorithm(model: &RawModel<'_>) -> Option<Algorithm> {
    let Some(name) = said::<String>(model.name) else {
        let is_list = model.vocab.get().starts_with('[');
        return match (is_list, model.merges, model.continuing_subword_prefix) {
            (true, _, _) => Some(Algorithm::Unigram),
            (_, Some(_), _) => Some(Algorithm::Bpe),
            (_, _, Some(_)) => Some(Algorithm::WordPiece),
            _ => None,
        };
    };
    match name.as_str() {
        "BPE" => Some(Algorithm::Bpe),
        "WordPiece" => Some(Algorithm::WordPiece),
        "Unigram" => Some(Algorithm::Unigram),
        "WordLevel" => Some(Algorithm::WordLevel),
        _ => None,
    }
}

/// A field, if it is there and of this type.
fn said<T: DeserializeOwned>(raw: Option<&RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

fn visit<'de, V: Visitor<'de, Value = ()>>(raw: &'de RawValue, visitor: V) -> serde_json::Result<()> {
    serde::Deserializer::deserialize_any(&mut serde_json::Deserializer::from_str(raw.get()), visitor)
}

/// `{"token": id, ...}`.
struct IdsVisitor<'t, 'l> {
    tokens: &'t mut Tokens<'l>,
    kind: TokenKind,
}

impl<'de> Visitor<'de> for IdsVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of token to id")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(text) = map.next_key::<Box<str>>()? {
            self.tokens.push(map.next_value()?, text, self.kind).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// `{"token": id, ...}`, or of a Unigram `[["token", score], ...]` where the position is the id.
struct VocabularyVisitor<'t, 'l>(&'t mut Tokens<'l>);

impl<'de> Visitor<'de> for VocabularyVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of token to id or a list of tokens with scores")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        IdsVisitor { tokens: self.0, kind: TokenKind::Ordinary }.visit_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Piece(self.0))?.is_some() {}
        Ok(())
    }
}

/// `["token", score]`.
struct Piece<'t, 'l>(&'t mut Tokens<'l>);

impl<'de> DeserializeSeed<'de> for Piece<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Piece<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token with its score")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut piece: A) -> Result<(), A::Error> {
        let text = piece.next_element::<Box<str>>()?;
        let text = text.ok_or_else(|| A::Error::invalid_length(0, &"a token"))?;
        self.0.push(self.0.len(), text, TokenKind::Ordinary).map_err(A::Error::custom)?;
        while piece.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// `[{"id": 0, "content": "token", "special": true}, ...]`.
struct AddedVisitor<'t, 'l>(&'t mut Tokens<'l>);

#[derive(Deserialize)]
struct RawAdded {
    id: u64,
    content: String,
    #[serde(default)]
    special: bool,
}

impl<'de> Visitor<'de> for AddedVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of added tokens")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(added) = list.next_element::<RawAdded>()? {
            let kind = if added.special { TokenKind::Special } else { TokenKind::Added };
            self.0.push(added.id, added.content, kind).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// `["a b", ...]`, or since 2024 `[["a", "b"], ...]`.
struct MergesVisitor<'m>(&'m mut MergeHasher);

impl<'de> Visitor<'de> for MergesVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Merge(self.0))?.is_some() {}
        Ok(())
    }
}

struct Merge<'m>(&'m mut MergeHasher);

impl<'de> DeserializeSeed<'de> for Merge<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Merge<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("two tokens")
    }

    fn visit_str<E: Error>(self, merge: &str) -> Result<(), E> {
        let (left, right) =
            merge.split_once(' ').ok_or_else(|| E::custom("a merge that is not two tokens"))?;
        self.0.push(left, right);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<(), A::Error> {
        let (left, right, more) = (
            pair.next_element::<String>()?,
            pair.next_element::<String>()?,
            pair.next_element::<IgnoredAny>()?,
        );
        let (Some(left), Some(right), None) = (left, right, more) else {
            return Err(A::Error::custom("a merge that is not two tokens"));
        };
        self.0.push(&left, &right);
        Ok(())
    }
}
