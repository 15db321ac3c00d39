//! The message, field by field. What is in it is kept as far as weights need it; what is long is passed over, and read by
//! rows later. A frame stands for each message that has begun, so that a graph in a graph is no recursion.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Range;

use super::graph::Graph;
use super::info::{Data, Info};
use super::node::Node;
use super::window::Window;
use super::{Model, OnnxError};
use crate::formats::text::printable;
use crate::formats::varint::{self, NoVarint};
use crate::formats::{Foreign, Limits};

/// What the decoder answers.
#[derive(Debug)]
pub enum Decoded {
    /// These bytes of the file are needed.
    Need(Range<u64>),
    /// Done.
    Done(Model),
}

/// Longest text of metadata that is kept, bytes.
const MOST_TEXT: u64 = 4096;
/// Most pairs of metadata that are kept.
const MOST_PAIRS: usize = 256;
/// Inputs of a node that are kept: `MatMulNBits` has its zero points in the fourth.
const MOST_INPUTS: usize = 8;
/// Values that are kept with the header: a scale or a zero point.
const SMALL: u64 = 8;
/// Gaps between what is read of one file: the weights of a model of 2 GB, which is the most that one message may have.
const MOST_RANGES: usize = 4096;

/// A message that has begun.
#[derive(Debug)]
struct Frame {
    end: u64,
    open: Open,
}

#[derive(Debug)]
enum Open {
    Model,
    Graph,
    Node(Box<Node>),
    Attribute(Box<Attribute>),
    Tensor(Box<Info>),
    Pair(Pair),
}

/// An attribute of a node.
#[derive(Debug, Default)]
struct Attribute {
    name: String,
    int: Option<i64>,
    tensor: Option<Info>,
}

/// A key and its value.
#[derive(Debug, Default)]
struct Pair {
    key: String,
    value: String,
}

/// A field, and where its value is.
struct Field {
    number: u64,
    value: Value,
}

enum Value {
    Number(u64),
    /// Of so many bytes.
    Fixed,
    Bytes(Range<u64>),
}

/// What is done with a field.
enum Take {
    /// Nothing.
    Pass,
    /// It is a message that is looked into.
    Enter(Open),
    /// Its bytes are needed.
    Whole,
    /// Where it is matters, and not what it is.
    Place,
}

/// A push decoder of one file.
#[derive(Debug)]
pub struct Decoder {
    window: Window,
    at: u64,
    frames: Vec<Frame>,
    has_graph: bool,
    graph: Graph,
    metadata: BTreeMap<String, String>,
    ranges: usize,
    limits: Limits,
}

impl Decoder {
    /// For a file of this size, bytes.
    pub fn new(size: u64, limits: &Limits) -> Self {
        Self {
            window: Window::new(size),
            at: 0,
            frames: vec![Frame { end: size, open: Open::Model }],
            has_graph: false,
            graph: Graph::default(),
            metadata: BTreeMap::new(),
            ranges: 0,
            limits: limits.clone(),
        }
    }

    /// What it needs next, or what the file holds. It asks for no bytes beyond its end, nor for any twice.
    pub fn step(&mut self) -> Result<Decoded, OnnxError> {
        match self.walk() {
            Ok(Some(need)) => {
                self.ranges += 1;
                if self.ranges > MOST_RANGES {
                    return Err(too_many(
                        "ranges that hold no values",
                        self.ranges as u64,
                        MOST_RANGES as u64,
                    ));
                }
                Ok(Decoded::Need(need))
            }
            Ok(None) if self.has_graph => {
                let metadata = mem::take(&mut self.metadata);
                let weights = mem::take(&mut self.graph).weights()?;
                Ok(Decoded::Done(Model { weights, metadata }))
            }
            Ok(None) => Err(self.foreign(OnnxError::NoGraph)),
            Err(error) => Err(self.foreign(error)),
        }
    }

    /// The bytes of a range that it asked for.
    pub fn give(&mut self, start: u64, bytes: &[u8]) {
        self.window.give(start, bytes);
    }

    /// What a file is that cannot be read from its first field on.
    fn foreign(&self, error: OnnxError) -> OnnxError {
        let head = self.window.from(0);
        match error {
            OnnxError::Length { .. } | OnnxError::Field { .. } | OnnxError::NoGraph if !self.has_graph => {
                Foreign::of_weights(head).map_or(error, OnnxError::Foreign)
            }
            error => error,
        }
    }

    /// Goes on to the end, or to what must be read first.
    fn walk(&mut self) -> Result<Option<Range<u64>>, OnnxError> {
        while let Some(frame) = self.frames.last() {
            if self.at >= frame.end {
                self.close()?;
                continue;
            }
            let end = frame.end;
            let held = self.window.from(self.at);
            let left = usize::try_from(end - self.at).unwrap_or(usize::MAX);
            // A tag, and a length or number.
            let wanted = left.min(2 * varint::MOST);
            if held.len() < wanted {
                return Ok(Some(self.window.need(self.at)));
            }
            let (field, length) = field(held.get(..wanted).unwrap_or_default(), self.at, end)?;
            if let Some(need) = self.field(field, self.at + length)? {
                return Ok(Some(need));
            }
        }
        Ok(None)
    }

    /// Takes a field whose value, if it is a number, ends at `behind`, and goes on behind it; or what must be read first.
    fn field(&mut self, field: Field, behind: u64) -> Result<Option<Range<u64>>, OnnxError> {
        let depth = self.frames.len();
        let Some(frame) = self.frames.last_mut() else { return Ok(None) };
        let bytes = match field.value {
            Value::Number(number) => {
                frame.open.number(field.number, number, &self.limits)?;
                self.at = behind;
                return Ok(None);
            }
            Value::Fixed => {
                frame.open.fixed(field.number);
                self.at = behind;
                return Ok(None);
            }
            Value::Bytes(bytes) => bytes,
        };
        match frame.open.take(field.number, bytes.end - bytes.start, &self.limits)? {
            Take::Pass => self.at = bytes.end,
            Take::Place => {
                frame.open.place(field.number, bytes.clone());
                self.at = bytes.end;
            }
            Take::Enter(open) => {
                // A graph, a node and an attribute for each level, and what is in the last one.
                let most = 3 * self.limits.nesting + 3;
                if depth > most {
                    return Err(OnnxError::Nesting { limit: self.limits.nesting });
                }
                self.has_graph |= matches!(open, Open::Graph);
                self.frames.push(Frame { end: bytes.end, open });
                self.at = bytes.start;
            }
            Take::Whole => {
                let length = usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX);
                let Some(content) = self.window.from(bytes.start).get(..length) else {
                    // The tag is read again with it.
                    return Ok(Some(self.window.need(self.at)));
                };
                frame.open.whole(field.number, bytes.clone(), content, &self.limits)?;
                self.at = bytes.end;
            }
        }
        Ok(None)
    }

    /// Ends the innermost message.
    fn close(&mut self) -> Result<(), OnnxError> {
        let Some(Frame { open, .. }) = self.frames.pop() else { return Ok(()) };
        let above = self.frames.last_mut().map(|frame| &mut frame.open);
        match (open, above) {
            (Open::Node(node), _) => self.graph.node(*node, &self.limits)?,
            (Open::Tensor(info), Some(Open::Attribute(attribute))) => attribute.tensor = Some(*info),
            (Open::Tensor(info), _) => self.graph.initializer(*info, &self.limits)?,
            (Open::Attribute(attribute), Some(Open::Node(node))) => {
                let Attribute { name, int, tensor } = *attribute;
                if let Some(int) = int {
                    node.int(&name, int);
                }
                if tensor.is_some() {
                    node.value = tensor;
                }
            }
            (Open::Pair(Pair { key, value }), Some(Open::Node(node))) if key == "namespace" => {
                node.namespace = Some(value);
            }
            (Open::Pair(Pair { key, value }), Some(Open::Tensor(info))) => info.external(&key, value),
            (Open::Pair(Pair { key, value }), Some(Open::Model)) if self.metadata.len() < MOST_PAIRS => {
                self.metadata.insert(printable(key.as_bytes()), printable(value.as_bytes()));
            }
            _ => {}
        }
        Ok(())
    }
}

fn too_many(what: &'static str, found: u64, limit: u64) -> OnnxError {
    OnnxError::TooMany { what, found, limit }
}

/// A field at the begin of these bytes, which lie there in the file, and how long it is without its bytes.
fn field(bytes: &[u8], at: u64, end: u64) -> Result<(Field, u64), OnnxError> {
    let bad = |why| OnnxError::Field { at, why };
    let no_number = |none: NoVarint| bad(none.why());
    let (tag, of_tag) = varint::read(bytes).map_err(no_number)?;
    let rest = bytes.get(of_tag..).unwrap_or_default();
    let number = tag >> 3;
    if number == 0 {
        return Err(bad("its number is 0"));
    }
    let inside = |length: u64, header: usize| {
        let start = at + header as u64;
        let left = end.saturating_sub(start);
        if length > left {
            return Err(OnnxError::Length { at, claimed: length, left });
        }
        Ok(start..start + length)
    };
    let (value, length) = match tag & 7 {
        0 => {
            let (number, length) = varint::read(rest).map_err(no_number)?;
            (Value::Number(number), (of_tag + length) as u64)
        }
        wire @ (1 | 5) => {
            let bytes = inside(if wire == 1 { 8 } else { 4 }, of_tag)?;
            (Value::Fixed, bytes.end - at)
        }
        2 => {
            let (length, of_length) = varint::read(rest).map_err(no_number)?;
            (Value::Bytes(inside(length, of_tag + of_length)?), (of_tag + of_length) as u64)
        }
        _ => return Err(bad("a wire type that does not exist")),
    };
    Ok((Field { number, value }, length))
}

/// A text that is kept.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Open {
    /// What is done with a field of bytes.
    #[expect(clippy::match_same_arms, reason = "by message, in the order of their fields")]
    fn take(&self, number: u64, length: u64, limits: &Limits) -> Result<Take, OnnxError> {
        let name = |what| match length {
            _ if length > limits.name_bytes as u64 => Err(too_many(what, length, limits.name_bytes as u64)),
            _ => Ok(Take::Whole),
        };
        let short = if length > MOST_TEXT { Take::Pass } else { Take::Whole };
        Ok(match (self, number) {
            (Self::Model, 7) => Take::Enter(Self::Graph),
            (Self::Model, 14) | (Self::Node(_), 9) | (Self::Tensor(_), 13) => {
                Take::Enter(Self::Pair(Pair::default()))
            }
            // Whose nodes are functions of the exporter.
            (Self::Model, _) => Take::Pass,
            (Self::Graph, 1) => Take::Enter(Self::Node(Box::default())),
            (Self::Graph, 5) => Take::Enter(Self::Tensor(Box::default())),
            (Self::Graph, _) => Take::Pass,
            (Self::Node(_), 5) => Take::Enter(Self::Attribute(Box::default())),
            (Self::Node(_), 1..=4) => return name("bytes in the name of a node"),
            (Self::Node(_), _) => Take::Pass,
            (Self::Attribute(_), 5) => Take::Enter(Self::Tensor(Box::default())),
            (Self::Attribute(_), 6 | 11) => Take::Enter(Self::Graph),
            (Self::Attribute(_), 1) => return name("bytes in the name of an attribute"),
            (Self::Attribute(_), _) => Take::Pass,
            (Self::Tensor(_), 1) => {
                let most = (varint::MOST * limits.rank) as u64;
                if length > most {
                    return Err(too_many("bytes in a shape", length, most));
                }
                Take::Whole
            }
            (Self::Tensor(_), 8) => return name("bytes in a tensor name"),
            // Of a scale the value is needed to know what the others are.
            (Self::Tensor(_), 4 | 9 | 10) if length <= SMALL => Take::Whole,
            (Self::Tensor(_), 4 | 5 | 7 | 9 | 10 | 11) => Take::Place,
            (Self::Tensor(_), _) => Take::Pass,
            (Self::Pair(_), 1 | 2) => short,
            (Self::Pair(_), _) => Take::Pass,
        })
    }

    fn number(&mut self, number: u64, value: u64, limits: &Limits) -> Result<(), OnnxError> {
        match (self, number) {
            (Self::Tensor(info), 1) => info.dimension(value, limits)?,
            (Self::Tensor(info), 2) => info.kind = value,
            (Self::Tensor(info), 14) => info.is_external = value == 1,
            (Self::Tensor(info), 4..=11) => info.data = Data::Scattered,
            (Self::Attribute(attribute), 3) => attribute.int = Some(value.cast_signed()),
            _ => {}
        }
        Ok(())
    }

    /// A number of fixed length: an element of a list that is not packed.
    fn fixed(&mut self, number: u64) {
        if let (Self::Tensor(info), 4 | 10) = (self, number) {
            info.data = Data::Scattered;
        }
    }

    /// Values that are not read here.
    fn place(&mut self, number: u64, bytes: Range<u64>) {
        if let Self::Tensor(info) = self {
            info.values(number, bytes);
        }
    }

    fn whole(&mut self, number: u64, at: Range<u64>, bytes: &[u8], limits: &Limits) -> Result<(), OnnxError> {
        match (self, number) {
            (Self::Node(node), 1) if node.inputs.len() < MOST_INPUTS => node.inputs.push(text(bytes)),
            (Self::Node(node), 2) if node.output.is_empty() => node.output = text(bytes),
            (Self::Node(node), 3) => node.name = text(bytes),
            (Self::Node(node), 4) => node.op = text(bytes),
            (Self::Attribute(attribute), 1) => attribute.name = text(bytes),
            (Self::Tensor(info), 1) => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    let bad = |none: NoVarint| OnnxError::Field { at: at.start, why: none.why() };
                    let (number, length) = varint::read(rest).map_err(bad)?;
                    info.dimension(number, limits)?;
                    rest = rest.get(length..).unwrap_or_default();
                }
            }
            (Self::Tensor(info), 8) => info.name = text(bytes),
            (Self::Tensor(info), 4 | 9 | 10) => {
                info.small = bytes.to_vec();
                info.values(number, at);
            }
            (Self::Pair(pair), 1) => pair.key = text(bytes),
            (Self::Pair(pair), 2) => pair.value = text(bytes),
            _ => {}
        }
        Ok(())
    }
}
