//! A machine for pickles that builds nothing and calls nothing: what a pickle would call is kept as a value.
//!
//! Values lie in an arena and name each other by number, so neither dropping nor walking them recurses, and a value that
//! is used a million times is there once. Memory grows with the length of the pickle alone. Opcodes are those of protocols
//! 0 to 5 (`pickletools` of Python 3.13); a few that no checkpoint has are refused by name.

use std::borrow::Cow;
use std::collections::HashMap;

/// Bytes of memory that a byte of a pickle may take: an empty list with its place in the memo takes 52 and has 2.
const MEMORY_PER_BYTE: usize = 32;
/// Bytes of memory that any pickle may take, and most that one may: those of some 70,000 tensors.
const LEAST_MEMORY: usize = 1 << 16;
const MOST_MEMORY: usize = 64 << 20;

/// The number of a value.
pub(super) type Id = u32;

/// What a pickle holds.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little-endian.
    Long(&'a [u8]),
    Float,
    Text(Cow<'a, str>),
    Bytes,
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or a function, by module and name.
    Global(Box<(Cow<'a, str>, Cow<'a, str>)>),
    /// What the writer has elsewhere, by what it wrote here.
    Persistent(Id),
    /// What a call would make.
    Object(Box<Object>),
}

/// What a call would make, and what would be put into it then.
#[derive(Debug)]
pub(super) struct Object {
    /// What would be called.
    pub(super) maker: Id,
    /// With what.
    pub(super) arguments: Id,
    pub(super) state: Option<Id>,
    pub(super) items: Vec<(Id, Id)>,
    pub(super) list: Vec<Id>,
}

/// Why a pickle is not read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// It ends before it is whole; at least so many bytes from its begin are needed.
    #[error("it ends after {there} bytes and needs at least {needed}")]
    Truncated {
        /// Bytes that are there.
        there: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// No pickler writes this.
    #[error("byte {at}: {what}")]
    Damaged {
        /// Where.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// What no checkpoint has.
    #[error("byte {at}: {what} is not read")]
    Refused {
        /// Where.
        at: usize,
        /// The opcode.
        what: &'static str,
    },
    /// It would take more memory than a pickle of its length may.
    #[error("byte {at}: its values take too much memory")]
    Memory {
        /// Where.
        at: usize,
    },
}

/// The values of a pickle.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    values: Vec<Value<'a>>,
    /// The value of the whole.
    pub(super) root: Id,
    /// Bytes of the pickle.
    pub(super) length: usize,
}

impl<'a> Graph<'a> {
    /// Reads the pickle at the begin of these bytes.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, PickleError> {
        let memory =
            bytes.len().saturating_mul(MEMORY_PER_BYTE).saturating_add(LEAST_MEMORY).min(MOST_MEMORY);
        let mut machine = Machine {
            bytes,
            at: 0,
            begin: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            constants: HashMap::new(),
            memory,
        };
        let root = machine.run()?;
        Ok(Self { root, length: machine.at, values: machine.values })
    }

    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        // The machine has no numbers but those of its values.
        self.values.get(id as usize).unwrap_or(&Value::None)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Value<'a>> {
        self.values.iter()
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        if let Value::Text(text) = self.get(id) { Some(text) } else { None }
    }

    pub(super) fn int(&self, id: Id) -> Option<i64> {
        if let Value::Int(number) = self.get(id) { Some(*number) } else { None }
    }

    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        if let Value::Tuple(items) = self.get(id) { Some(items) } else { None }
    }

    /// Module and name of a class or function.
    pub(super) fn global(&self, id: Id) -> Option<(&str, &str)> {
        if let Value::Global(global) = self.get(id) { Some((&global.0, &global.1)) } else { None }
    }
}

/// A constant that is there once, however often it is written.
#[derive(PartialEq, Eq, Hash)]
enum Constant {
    None,
    Bool(bool),
    Small(u16),
    EmptyTuple,
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the opcode under way begins.
    begin: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Lengths of the stack where it was marked.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    constants: HashMap<Constant, Id>,
    /// Bytes of memory that are left.
    memory: usize,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, PickleError> {
        loop {
            self.begin = self.at;
            let opcode = self.byte()?;
            match opcode {
                b'.' => return self.pop(),
                b'(' => {
                    self.spend(size_of::<usize>())?;
                    self.marks.push(self.stack.len());
                }
                b'0' => {
                    // A mark is popped where nothing lies on it.
                    if self.marks.last() == Some(&self.stack.len()) {
                        self.marks.pop();
                    } else {
                        self.pop()?;
                    }
                }
                b'1' => {
                    self.popped()?;
                }
                b'2' => {
                    let top = self.top()?;
                    self.push_id(top)?;
                }
                0x80 => {
                    if self.byte()? > 5 {
                        return Err(self.refused("a protocol above 5"));
                    }
                }
                0x95 => {
                    self.take(8)?;
                }
                b'N' => self.constant(Constant::None, Value::None)?,
                0x88 => self.constant(Constant::Bool(true), Value::Bool(true))?,
                0x89 => self.constant(Constant::Bool(false), Value::Bool(false))?,
                b')' => self.constant(Constant::EmptyTuple, Value::Tuple(Box::default()))?,
                b'K' => {
                    let number = u16::from(self.byte()?);
                    self.small(number)?;
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.array()?);
                    self.small(number)?;
                }
                b'J' => {
                    let number = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(number.into()))?;
                }
                b'I' | b'L' => self.decimal()?,
                0x8a => {
                    let length = u64::from(self.byte()?);
                    self.long(length)?;
                }
                0x8b => {
                    let length = u64::from(u32::from_le_bytes(self.array()?));
                    self.long(length)?;
                }
                b'F' => {
                    self.line()?;
                    self.push(Value::Float)?;
                }
                b'G' => {
                    self.take(8)?;
                    self.push(Value::Float)?;
                }
                0x8c | b'U' => self.text(1)?,
                b'X' | b'T' => self.text(4)?,
                0x8d => self.text(8)?,
                b'V' => {
                    let line = self.line()?;
                    let text = unescaped(line).ok_or_else(|| self.damaged("a text is not one"))?;
                    self.spend(text.len())?;
                    self.push(Value::Text(text))?;
                }
                b'S' => {
                    let line = self.line()?;
                    let inner = quoted(line).ok_or_else(|| self.damaged("a string without quotes"))?;
                    self.string(inner)?;
                }
                b'C' => self.blob(1)?,
                b'B' => self.blob(4)?,
                0x8e | 0x96 => self.blob(8)?,
                b']' | 0x8f => self.push(Value::List(Vec::new()))?,
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b't' => {
                    let items = self.popped()?;
                    self.push_tuple(items)?;
                }
                0x85..=0x87 => {
                    let from = self.stack.len().checked_sub(usize::from(opcode - 0x84));
                    let from = from.filter(|from| *from >= self.floor()).ok_or_else(|| self.underflow())?;
                    let items = self.stack.split_off(from);
                    self.push_tuple(items)?;
                }
                b'l' | 0x91 => {
                    let items = self.popped()?;
                    self.spend(items.len() * size_of::<Id>())?;
                    self.push(Value::List(items))?;
                }
                b'd' => {
                    let items = self.popped()?;
                    let pairs = self.pairs(&items)?;
                    self.push(Value::Dict(pairs))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(&[item])?;
                }
                b'e' | 0x90 => {
                    let items = self.popped()?;
                    self.append(&items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set(&[key, value])?;
                }
                b'u' => {
                    let items = self.popped()?;
                    self.set(&items)?;
                }
                b'c' => {
                    let (module, name) = (self.utf8_line()?, self.utf8_line()?);
                    self.push_global(module.into(), name.into())?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let part = |id: Id| match self.values.get(id as usize) {
                        Some(Value::Text(text)) => Ok(text.clone()),
                        _ => Err(self.damaged("a global without a name")),
                    };
                    let (module, name) = (part(module)?, part(name)?);
                    self.push_global(module, name)?;
                }
                b'R' | 0x81 => {
                    let (arguments, maker) = (self.pop()?, self.pop()?);
                    self.call(maker, arguments)?;
                }
                0x92 => {
                    let (_named, arguments, maker) = (self.pop()?, self.pop()?, self.pop()?);
                    self.call(maker, arguments)?;
                }
                b'o' => {
                    let mut items = self.popped()?;
                    if items.is_empty() {
                        return Err(self.underflow());
                    }
                    let maker = items.remove(0);
                    self.call_with(maker, items)?;
                }
                b'i' => {
                    let (module, name) = (self.utf8_line()?, self.utf8_line()?);
                    let items = self.popped()?;
                    self.push_global(module.into(), name.into())?;
                    let maker = self.pop()?;
                    self.call_with(maker, items)?;
                }
                b'b' => {
                    let state = self.pop()?;
                    let top = self.top()?;
                    // Whatever else has a state, holds no tensors.
                    if let Some(Value::Object(object)) = self.values.get_mut(top as usize) {
                        object.state = Some(state);
                    }
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.push(Value::Persistent(id))?;
                }
                b'q' => {
                    let slot = u32::from(self.byte()?);
                    self.remember(slot)?;
                }
                b'r' => {
                    let slot = u32::from_le_bytes(self.array()?);
                    self.remember(slot)?;
                }
                b'p' => {
                    let slot = self.slot()?;
                    self.remember(slot)?;
                }
                0x94 => {
                    let slot = self.memo.len() as u32; // bounded by the memory
                    self.remember(slot)?;
                }
                b'h' => {
                    let slot = u32::from(self.byte()?);
                    self.recall(slot)?;
                }
                b'j' => {
                    let slot = u32::from_le_bytes(self.array()?);
                    self.recall(slot)?;
                }
                b'g' => {
                    let slot = self.slot()?;
                    self.recall(slot)?;
                }
                b'P' => return Err(self.refused("a persistent id of protocol 0")),
                0x82..=0x84 => return Err(self.refused("a registered extension (EXT)")),
                0x97 | 0x98 => return Err(self.refused("a buffer outside the pickle (NEXT_BUFFER)")),
                _ => return Err(self.damaged("no opcode")),
            }
        }
    }

    fn damaged(&self, what: &'static str) -> PickleError {
        PickleError::Damaged { at: self.begin, what }
    }

    fn refused(&self, what: &'static str) -> PickleError {
        PickleError::Refused { at: self.begin, what }
    }

    fn underflow(&self) -> PickleError {
        self.damaged("the stack is empty")
    }

    fn spend(&mut self, bytes: usize) -> Result<(), PickleError> {
        self.memory = self.memory.checked_sub(bytes).ok_or(PickleError::Memory { at: self.begin })?;
        Ok(())
    }

    // Bytes.

    fn take(&mut self, length: u64) -> Result<&'a [u8], PickleError> {
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let taken = end.and_then(|end| Some((end, self.bytes.get(self.at..end)?)));
        let Some((end, taken)) = taken else {
            let needed = (self.at as u64).saturating_add(length);
            return Err(PickleError::Truncated { there: self.bytes.len() as u64, needed });
        };
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let taken = self.take(N as u64)?;
        taken.try_into().map_err(|_| self.damaged("no number"))
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// To the end of the line, which is taken but not given.
    fn line(&mut self) -> Result<&'a [u8], PickleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()) as u64;
        let line = self.take(length)?;
        self.take(1)?;
        Ok(line)
    }

    fn utf8_line(&mut self) -> Result<&'a str, PickleError> {
        let line = self.line()?;
        std::str::from_utf8(line).map_err(|_| self.damaged("a name is not UTF-8"))
    }

    fn number(&mut self) -> Result<&'a str, PickleError> {
        Ok(self.utf8_line()?.trim())
    }

    fn slot(&mut self) -> Result<u32, PickleError> {
        self.number()?.parse().map_err(|_| self.damaged("no number of the memo"))
    }

    /// What follows a length of so many bytes.
    fn counted(&mut self, width: usize) -> Result<&'a [u8], PickleError> {
        let mut length = [0; 8];
        for (to, from) in length.iter_mut().zip(self.take(width as u64)?) {
            *to = *from;
        }
        self.take(u64::from_le_bytes(length))
    }

    // The stack.

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn push_id(&mut self, id: Id) -> Result<(), PickleError> {
        self.spend(size_of::<Id>())?;
        self.stack.push(id);
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), PickleError> {
        self.spend(size_of::<Value<'_>>())?;
        let id = Id::try_from(self.values.len()).map_err(|_| PickleError::Memory { at: self.begin })?;
        self.values.push(value);
        self.push_id(id)
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        if self.stack.len() <= self.floor() {
            return Err(self.underflow());
        }
        self.stack.pop().ok_or_else(|| self.underflow())
    }

    fn top(&self) -> Result<Id, PickleError> {
        let top = self.stack.last().filter(|_| self.stack.len() > self.floor());
        top.copied().ok_or_else(|| self.underflow())
    }

    /// What lies above the last mark, which is popped too.
    fn popped(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.damaged("there is no mark"))?;
        // The stack was never shorter since.
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn remember(&mut self, slot: u32) -> Result<(), PickleError> {
        let top = self.top()?;
        self.spend(2 * size_of::<(u32, Id)>())?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), PickleError> {
        let id = self.memo.get(&slot).copied().ok_or_else(|| self.damaged("nothing is remembered there"))?;
        self.push_id(id)
    }

    // Values.

    fn constant(&mut self, constant: Constant, value: Value<'a>) -> Result<(), PickleError> {
        if let Some(known) = self.constants.get(&constant) {
            return self.push_id(*known);
        }
        self.push(value)?;
        let id = self.top()?;
        self.constants.insert(constant, id);
        Ok(())
    }

    fn small(&mut self, number: u16) -> Result<(), PickleError> {
        self.constant(Constant::Small(number), Value::Int(number.into()))
    }

    fn decimal(&mut self) -> Result<(), PickleError> {
        let line = self.number()?;
        match line {
            "00" => return self.constant(Constant::Bool(false), Value::Bool(false)),
            "01" => return self.constant(Constant::Bool(true), Value::Bool(true)),
            _ => {}
        }
        let digits = line.strip_suffix('L').unwrap_or(line);
        let value = match digits.parse() {
            Ok(number) => Value::Int(number),
            Err(_) if digits.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit()) => Value::Long(&[]),
            Err(_) => return Err(self.damaged("no number")),
        };
        self.push(value)
    }

    fn long(&mut self, length: u64) -> Result<(), PickleError> {
        let bytes = self.take(length)?;
        let is_negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut number = [if is_negative { 0xff } else { 0 }; 8];
        if bytes.len() > number.len() {
            return self.push(Value::Long(bytes));
        }
        for (to, from) in number.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.push(Value::Int(i64::from_le_bytes(number)))
    }

    fn text(&mut self, width: usize) -> Result<(), PickleError> {
        let bytes = self.counted(width)?;
        self.string(bytes)
    }

    /// Text where it is UTF-8: Python 2 knew no other strings, and Python 3 writes lone surrogates as if they were
    /// characters.
    fn string(&mut self, bytes: &'a [u8]) -> Result<(), PickleError> {
        let text = std::str::from_utf8(bytes);
        self.push(text.map_or(Value::Bytes, |text| Value::Text(text.into())))
    }

    fn blob(&mut self, width: usize) -> Result<(), PickleError> {
        self.counted(width)?;
        self.push(Value::Bytes)
    }

    fn push_tuple(&mut self, items: Vec<Id>) -> Result<(), PickleError> {
        if items.is_empty() {
            return self.constant(Constant::EmptyTuple, Value::Tuple(Box::default()));
        }
        self.spend(items.len() * size_of::<Id>())?;
        self.push(Value::Tuple(items.into()))
    }

    fn push_global(&mut self, module: Cow<'a, str>, name: Cow<'a, str>) -> Result<(), PickleError> {
        // A text that is not in the pickle as it stands is copied.
        let copied = |text: &Cow<'_, str>| if let Cow::Owned(text) = text { text.len() } else { 0 };
        self.spend(2 * size_of::<Cow<'_, str>>() + copied(&module) + copied(&name))?;
        self.push(Value::Global(Box::new((module, name))))
    }

    fn call(&mut self, maker: Id, arguments: Id) -> Result<(), PickleError> {
        self.spend(size_of::<Object>())?;
        let object = Object { maker, arguments, state: None, items: Vec::new(), list: Vec::new() };
        self.push(Value::Object(Box::new(object)))
    }

    fn call_with(&mut self, maker: Id, arguments: Vec<Id>) -> Result<(), PickleError> {
        self.push_tuple(arguments)?;
        let arguments = self.pop()?;
        self.call(maker, arguments)
    }

    fn pairs(&mut self, items: &[Id]) -> Result<Vec<(Id, Id)>, PickleError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.damaged("a key without a value"));
        }
        self.spend(2 * size_of_val(items))?;
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    /// Puts keys and values into what is on top.
    fn set(&mut self, items: &[Id]) -> Result<(), PickleError> {
        let pairs = self.pairs(items)?;
        let top = self.top()?;
        match self.values.get_mut(top as usize) {
            Some(Value::Dict(known)) => known.extend(pairs),
            Some(Value::Object(object)) => object.items.extend(pairs),
            _ => return Err(self.damaged("a key in what is no dict")),
        }
        Ok(())
    }

    /// Puts items behind those of what is on top.
    fn append(&mut self, items: &[Id]) -> Result<(), PickleError> {
        self.spend(2 * size_of_val(items))?;
        let top = self.top()?;
        match self.values.get_mut(top as usize) {
            Some(Value::List(known)) => known.extend(items),
            Some(Value::Object(object)) => object.list.extend(items),
            _ => return Err(self.damaged("an item in what is no list")),
        }
        Ok(())
    }
}

/// A string of protocol 0, without its quotes. Escapes stay as they are: names of tensors have none.
fn quoted(line: &[u8]) -> Option<&[u8]> {
    match line.trim_ascii_end() {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => Some(inner),
        _ => None,
    }
}

/// A text of protocol 0: Latin 1 with `\uXXXX` and `\UXXXXXXXX` (`raw-unicode-escape`).
fn unescaped(line: &[u8]) -> Option<Cow<'_, str>> {
    if let Ok(text) = std::str::from_utf8(line)
        && text.is_ascii()
        && !text.contains('\\')
    {
        return Some(text.into());
    }
    let mut text = String::new();
    let mut rest = line;
    while let Some((first, behind)) = rest.split_first() {
        let digits = match rest {
            [b'\\', b'u', ..] => 4,
            [b'\\', b'U', ..] => 8,
            _ => {
                text.push(char::from(*first));
                rest = behind;
                continue;
            }
        };
        let (escape, behind) = rest.split_at_checked(2 + digits)?;
        let code = u32::from_str_radix(std::str::from_utf8(escape.get(2..)?).ok()?, 16).ok()?;
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = behind;
    }
    Some(text.into())
}
