//! From the values of a pickle to named tensors.
//!
//! A tensor is a call of one of the functions of `torch/_utils.py` that is never made. Names are the keys on the way to
//! it, joined by dots. What optimizers and schedulers keep is no weight and is left out.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::error::TorchError;
use super::pickle::{Graph, Id, Value};
use super::strided::Strided;
use crate::formats::weight::elements;
use crate::formats::{Dtype, Encoding, Limits, TensorInfo};

/// Where storages are in the file.
pub(super) trait Places {
    /// The bytes of a storage; `None` where there is none of this key.
    fn place(&self, key: &str) -> Result<Option<Range<u64>>, TorchError>;
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Tensors {
    /// Those whose elements follow one another in the order of their rows.
    pub plain: Vec<TensorInfo>,
    /// The others.
    pub others: Vec<Other>,
    /// Further names of matrices that are there under another one, with that.
    pub aliases: Vec<(String, String)>,
}

/// A tensor whose elements do not follow one another, or that is not read.
#[derive(Debug)]
pub struct Other {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its shape; empty where that is not known.
    pub shape: Vec<u64>,
    /// The bytes of the file from its first element to its last one.
    pub bytes: Range<u64>,
    /// How it is stored, or why it is not read.
    pub form: Result<Arc<dyn Encoding>, String>,
}

/// A storage, as its persistent id has it.
pub(super) struct Storage<'g> {
    pub(super) key: &'g str,
    kind: &'g str,
    elements: u64,
    /// First element of the view that an old version made.
    offset: u64,
}

impl<'g> Storage<'g> {
    /// `('storage', class, key, location, elements)`, with `(key, offset, elements)` of a view behind it in old files.
    fn read(graph: &'g Graph<'_>, id: Id) -> Option<Self> {
        let Value::Persistent(id) = graph.get(id) else { return None };
        let [tag, class, key, _location, elements, rest @ ..] = graph.tuple(*id)? else { return None };
        if graph.text(*tag) != Some("storage") {
            return None;
        }
        let view = rest.first().and_then(|view| graph.tuple(*view));
        let offset = view.and_then(|view| graph.int(*view.get(1)?)).unwrap_or(0);
        Some(Self {
            key: graph.text(*key)?,
            kind: graph.global(*class)?.1,
            elements: graph.int(*elements)?.try_into().ok()?,
            offset: offset.try_into().ok()?,
        })
    }

    fn dtype(&self) -> Option<Dtype> {
        dtype(self.kind.strip_suffix("Storage")?)
    }

    /// Its size; `None` where its type is not known.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.elements.checked_mul(self.dtype()?.bits() / 8)
    }
}

/// All storages that a pickle names.
pub(super) fn storages<'g>(graph: &'g Graph<'_>) -> impl Iterator<Item = Storage<'g>> {
    (0..).zip(graph.values()).filter_map(|(id, _)| Storage::read(graph, id))
}

/// The type of a storage's class or of `torch.dtype`, by the name of it.
fn dtype(name: &str) -> Option<Dtype> {
    Dtype::parse(match name {
        "Float" | "float32" => "F32",
        "Double" | "float64" => "F64",
        "Half" | "float16" => "F16",
        "BFloat16" | "bfloat16" => "BF16",
        "Char" | "int8" | "QInt8" | "qint8" => "I8",
        "Byte" | "uint8" | "Untyped" | "QUInt8" | "quint8" => "U8",
        "Bool" | "bool" => "BOOL",
        "Short" | "int16" => "I16",
        "Int" | "int32" | "QInt32" | "qint32" => "I32",
        "Long" | "int64" => "I64",
        "uint16" => "U16",
        "uint32" => "U32",
        "uint64" => "U64",
        "ComplexFloat" | "complex64" => "C64",
        "ComplexDouble" | "complex128" => "C128",
        "Float8_e4m3fn" | "float8_e4m3fn" => "F8_E4M3",
        "Float8_e5m2" | "float8_e5m2" => "F8_E5M2",
        "Float8_e4m3fnuz" | "float8_e4m3fnuz" => "F8_E4M3FNUZ",
        "Float8_e5m2fnuz" | "float8_e5m2fnuz" => "F8_E5M2FNUZ",
        "Float8_e8m0fnu" | "float8_e8m0fnu" => "F8_E8M0",
        _ => return None,
    })
}

/// A tensor that is not made.
enum Made {
    View(View),
    /// Not read, for this reason, and what it would be made of.
    Unreadable(String, Id),
}

/// A tensor over a storage.
struct View {
    storage: Id,
    dtype: Option<Id>,
    offset: Id,
    shape: Id,
    strides: Id,
}

/// A class or function by its path.
fn path(global: Option<(&str, &str)>) -> String {
    let shortened = |text: &str| text.chars().take(80).collect::<String>();
    global.map_or_else(|| "what has no name".into(), |(module, name)| shortened(&format!("{module}.{name}")))
}

/// Most calls that wrap a tensor: a parameter, a subclass.
const MOST_WRAPPED: usize = 8;

/// The tensor that a value is, if it is one.
fn made(graph: &Graph<'_>, mut id: Id) -> Option<Made> {
    for _ in 0..MOST_WRAPPED {
        let Value::Object(object) = graph.get(id) else { return None };
        let (mut maker, mut arguments) = (graph.global(object.maker)?, graph.tuple(object.arguments)?);
        if let ("torch._tensor", "_rebuild_from_type" | "_rebuild_from_type_v2") = maker {
            let [function, class, of_function, ..] = arguments else { return None };
            let class = graph.global(*class);
            // What any other class makes of its values, it alone knows: torchao, DTensor.
            if !matches!(class, Some(("torch", "Tensor") | ("torch.nn.parameter", _))) {
                return Some(Made::Unreadable(format!("of class {}, which is not read", path(class)), id));
            }
            (maker, arguments) = (graph.global(*function)?, graph.tuple(*of_function)?);
        }
        let (dtype, view) = match (maker, arguments) {
            (
                ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
                | ("torch.nn.parameter", "Parameter"),
                [data, ..],
            ) => {
                id = *data;
                continue;
            }
            (("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2"), view) => (None, view),
            (("torch._utils", "_rebuild_tensor_v3"), view) => (view.get(6).copied(), view),
            (("torch._utils", name), _) if name.starts_with("_rebuild") => {
                return Some(Made::Unreadable(
                    format!("made by {}, which is not read", path(Some(maker))),
                    id,
                ));
            }
            _ => return None,
        };
        let [storage, offset, shape, strides, ..] = *view else { return None };
        return Some(Made::View(View { storage, dtype, offset, shape, strides }));
    }
    None
}

/// A tuple of lengths, or the `torch.Size` of one.
fn lengths(graph: &Graph<'_>, id: Id) -> Option<Vec<u64>> {
    let id = match graph.get(id) {
        Value::Object(object) if graph.global(object.maker) == Some(("torch", "Size")) => {
            *graph.tuple(object.arguments)?.first()?
        }
        _ => id,
    };
    let list = graph.tuple(id).filter(|list| list.len() <= MOST_LENGTHS)?;
    list.iter().map(|n| u64::try_from(graph.int(*n)?).ok()).collect()
}

/// Most lengths that a shape may have to be looked at: torch itself reads 64.
const MOST_LENGTHS: usize = 64;

/// Most values that are looked at of a tensor that is not read.
const MOST_LOOKED_AT: usize = 64;

/// Shape and largest storage of a tensor that is not read: how much of the file that is.
fn outline(graph: &Graph<'_>, id: Id) -> (Vec<u64>, Option<Id>) {
    let mut shape = None;
    let mut largest = (0, None);
    let mut queue = VecDeque::from([id]);
    for _ in 0..MOST_LOOKED_AT {
        let Some(id) = queue.pop_front() else { break };
        if let Some(elements) = Storage::read(graph, id).map(|storage| storage.elements)
            && (largest.1.is_none() || elements > largest.0)
        {
            largest = (elements, Some(id));
        }
        if shape.is_none() {
            shape = lengths(graph, id).filter(|shape| !shape.is_empty());
        }
        match graph.get(id) {
            Value::Tuple(list) => queue.extend(list.iter().take(MOST_LOOKED_AT)),
            Value::Dict(items) => queue.extend(items.iter().map(|(_, value)| *value).take(MOST_LOOKED_AT)),
            Value::Object(object) => queue.extend([object.arguments].into_iter().chain(object.state)),
            _ => {}
        }
    }
    (shape.unwrap_or_default(), largest.1)
}

/// How the name of a child continues that of its parent.
enum Key<'g> {
    Text(&'g str),
    Number(i64),
    /// Not at all.
    Same,
}

type Children<'g> = Box<dyn Iterator<Item = (Key<'g>, Id)> + 'g>;

/// Words in keys at the top whose values a training needs and a model does not.
const LEFT_BEHIND: [&str; 9] =
    ["optimizer", "optimizers", "optim", "scheduler", "schedulers", "callbacks", "loops", "scaler", "rng"];

/// What is inside a value that may hold tensors. `is_top` where it is the whole of the pickle.
fn children<'g>(graph: &'g Graph<'_>, id: Id, is_top: bool) -> Children<'g> {
    match graph.get(id) {
        Value::Dict(items) => of_items(graph, items, is_top),
        Value::List(list) => of_list(list),
        Value::Tuple(list) => of_list(list),
        Value::Object(object) => {
            let module = graph.global(object.maker).map_or("", |(module, _)| module);
            // How TorchScript writes lists.
            if module == "torch.jit._pickle" {
                let first = graph.tuple(object.arguments).and_then(<[_]>::first);
                return Box::new(first.map(|list| (Key::Same, *list)).into_iter());
            }
            let inside = of_items(graph, &object.items, is_top).chain(of_list(&object.list));
            let Some(Value::Dict(state)) = object.state.map(|state| graph.get(state)) else {
                return Box::new(inside);
            };
            // A module of TorchScript has all in one, one of torch has them apart.
            if module == "__torch__" || module.starts_with("__torch__.") {
                return Box::new(inside.chain(of_items(graph, state, is_top)));
            }
            let parts = ["_parameters", "_buffers", "_modules"];
            let is_part = move |key: Id| graph.text(key).is_some_and(|key| parts.contains(&key));
            let parts = state.iter().filter(move |(key, _)| is_part(*key));
            Box::new(inside.chain(parts.map(|(_, part)| (Key::Same, *part))))
        }
        _ => Box::new(std::iter::empty()),
    }
}

fn of_list(list: &[Id]) -> Children<'_> {
    Box::new((0..).zip(list).map(|(place, id)| (Key::Number(place), *id)))
}

fn of_items<'g>(graph: &'g Graph<'_>, items: &'g [(Id, Id)], is_top: bool) -> Children<'g> {
    let has = |name: &str| items.iter().any(|(key, _)| graph.text(*key) == Some(name));
    // The state of an optimizer, as every one of torch has it.
    if has("param_groups") && has("state") {
        return Box::new(std::iter::empty());
    }
    let key = |id: Id| match graph.get(id) {
        Value::Text(text) => Some(Key::Text(text)),
        Value::Int(number) => Some(Key::Number(*number)),
        _ => None,
    };
    let is_left = move |key: &Key<'_>| match key {
        Key::Text(text) => is_top && text.split('_').any(|word| LEFT_BEHIND.contains(&word)),
        Key::Number(_) | Key::Same => false,
    };
    let named = items.iter().filter_map(move |(name, value)| Some((key(*name)?, *value)));
    Box::new(named.filter(move |(key, _)| !is_left(key)))
}

/// Keys of a state dict that lies in another dict.
const WRAPPERS: [&str; 9] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
];

/// The tensors of a pickle. Where all lie in one dict of the top, its key is no part of their names.
pub(super) fn read(graph: &Graph<'_>, places: &dyn Places, limits: &Limits) -> Result<Tensors, TorchError> {
    let mut walk = Walk {
        graph,
        places,
        limits,
        name: String::new(),
        top: None,
        tops: HashSet::new(),
        found: Tensors::default(),
        name_bytes: 0,
        names: HashSet::new(),
        known: HashMap::new(),
    };
    walk.all()?;
    let Walk { mut found, tops, .. } = walk;
    let wrapper =
        tops.iter().next().copied().flatten().filter(|key| tops.len() == 1 && WRAPPERS.contains(key));
    if let Some(wrapper) = wrapper {
        let plain = found.plain.iter_mut().map(|tensor| &mut tensor.name);
        let others = found.others.iter_mut().map(|tensor| &mut tensor.name);
        let aliases = found.aliases.iter_mut().flat_map(|(alias, first)| [alias, first]);
        for name in plain.chain(others).chain(aliases) {
            if let Some(own) = name.strip_prefix(wrapper).and_then(|rest| rest.strip_prefix('.')) {
                *name = own.to_owned();
            }
        }
    }
    Ok(found)
}

/// Most elements of a view that has fewer stored: strides of 0 cost nothing in the file.
const MOST_EXPANDED: u64 = 1 << 24;

/// Most values that lie in one another on the way to a tensor.
const MOST_DEPTH: usize = 1000;

/// Where a tensor is, and what of it.
type Place = (Range<u64>, Dtype, Vec<u64>, Vec<u64>);

fn fits(what: &'static str, found: usize, limit: usize) -> Result<(), TorchError> {
    if found > limit { Err(TorchError::TooMany { what, found, limit }) } else { Ok(()) }
}

struct Walk<'g> {
    graph: &'g Graph<'g>,
    places: &'g dyn Places,
    limits: &'g Limits,
    /// Of the value under way.
    name: String,
    /// The key of the child of the whole that it is in; none where it is that child itself, or that has no text for a key.
    top: Option<&'g str>,
    /// In which of them tensors were found.
    tops: HashSet<Option<&'g str>>,
    found: Tensors,
    /// Bytes of the names that were given so far.
    name_bytes: usize,
    /// The names.
    names: HashSet<String>,
    /// Matrices that were found before, with their names.
    known: HashMap<Place, String>,
}

impl Walk<'_> {
    /// Every value that may hold tensors is visited once, so that neither circles nor sharing cost anything.
    fn all(&mut self) -> Result<(), TorchError> {
        let root = self.graph.root;
        if let Some(made) = made(self.graph, root) {
            self.name.push_str("tensor");
            return self.add(made);
        }
        let mut visited = HashSet::from([root]);
        // The children that are left of each value on the way, and the length of its name.
        let mut way = vec![(children(self.graph, root, true), 0)];
        while let Some(depth) = way.len().checked_sub(1)
            && let Some((left, length)) = way.last_mut()
        {
            self.name.truncate(*length);
            let Some((key, id)) = left.next() else {
                way.pop();
                continue;
            };
            let dot = if self.name.is_empty() { "" } else { "." };
            match key {
                Key::Text(text) => self.name.extend([dot, text]),
                Key::Number(number) => self.name.extend([dot, &number.to_string()]),
                Key::Same => {}
            }
            let text = if let Key::Text(text) = key { Some(text) } else { None };
            if depth == 0 {
                self.top = None;
            }
            if let Some(made) = made(self.graph, id) {
                self.add(made)?;
                continue;
            }
            let may_hold = matches!(
                self.graph.get(id),
                Value::Dict(_) | Value::List(_) | Value::Tuple(_) | Value::Object(_)
            );
            if !may_hold || !visited.insert(id) {
                continue;
            }
            if depth == 0 {
                self.top = text;
            }
            fits("bytes in a tensor name", self.name.len(), self.limits.name_bytes)?;
            fits("values in one another", way.len(), MOST_DEPTH)?;
            way.push((children(self.graph, id, false), self.name.len()));
        }
        Ok(())
    }

    fn add(&mut self, made: Made) -> Result<(), TorchError> {
        let Tensors { plain, others, aliases } = &self.found;
        fits("bytes in a tensor name", self.name.len(), self.limits.name_bytes)?;
        // A tensor that is named a million times has a million names.
        self.name_bytes = self.name_bytes.saturating_add(self.name.len());
        let most = usize::try_from(self.limits.header_bytes).unwrap_or(usize::MAX);
        fits("bytes in tensor names", self.name_bytes, most)?;
        fits("tensors", plain.len() + others.len() + aliases.len() + 1, self.limits.tensors)?;
        self.tops.insert(self.top);
        if !self.names.insert(self.name.clone()) {
            return Err(TorchError::SameName(self.name.clone()));
        }
        match made {
            Made::View(view) => self.add_view(&view),
            Made::Unreadable(reason, id) => {
                let (shape, storage) = outline(self.graph, id);
                let key = storage.and_then(|id| Storage::read(self.graph, id)).map(|storage| storage.key);
                let place = key.map_or(Ok(None), |key| self.places.place(key))?;
                self.add_unreadable(shape, place.unwrap_or_default(), reason);
                Ok(())
            }
        }
    }

    fn add_unreadable(&mut self, shape: Vec<u64>, bytes: Range<u64>, reason: String) {
        let name = self.name.clone();
        self.found.others.push(Other { name, shape, bytes, form: Err(reason) });
    }

    fn add_view(&mut self, view: &View) -> Result<(), TorchError> {
        let graph = self.graph;
        let (shape, strides) = (lengths(graph, view.shape), lengths(graph, view.strides));
        let offset = graph.int(view.offset).and_then(|offset| u64::try_from(offset).ok());
        let (Some(shape), Some(strides), Some(offset)) = (shape, strides, offset) else {
            return Err(TorchError::Shapeless { name: self.name.clone() });
        };
        fits("dimensions of a tensor", shape.len(), self.limits.rank)?;
        let Some(storage) = Storage::read(graph, view.storage) else {
            self.add_unreadable(shape, 0..0, "without a storage in the file".into());
            return Ok(());
        };
        let (stated, kind) = match view.dtype {
            Some(id) => (graph.global(id).and_then(|(_, name)| dtype(name)), path(graph.global(id))),
            None => (storage.dtype(), storage.kind.chars().take(80).collect()),
        };
        let outside = || TorchError::Outside {
            name: self.name.clone(),
            shape: shape.clone(),
            storage: storage.key.chars().take(80).collect(),
        };
        let place = self.places.place(storage.key)?.ok_or_else(outside)?;
        let Some(dtype) = stated else {
            self.add_unreadable(shape, place, format!("of type {kind}, which is not read"));
            return Ok(());
        };
        let bytes = bytes(&place, dtype, storage.offset.checked_add(offset), &shape, &strides);
        let bytes = bytes.filter(|_| shape.len() == strides.len()).ok_or_else(outside)?;
        let stored = (place.end - place.start) / (dtype.bits() / 8).max(1);
        if elements(&shape) > stored.max(MOST_EXPANDED) {
            self.add_unreadable(Vec::new(), bytes, "a view of far more elements than it has stored".into());
            return Ok(());
        }
        // A matrix under two names is one weight; what packed layers share belongs to each of them.
        if shape.len() > 1 && dtype.is_plain_float() && !bytes.is_empty() {
            let place = (bytes.clone(), dtype, shape.clone(), strides.clone());
            if let Some(first) = self.known.get(&place) {
                self.found.aliases.push((self.name.clone(), first.clone()));
                return Ok(());
            }
            self.known.insert(place, self.name.clone());
        }
        if is_contiguous(&shape, &strides) {
            let name = self.name.clone();
            self.found.plain.push(TensorInfo { name, dtype: Some(dtype), shape, bytes });
            return Ok(());
        }
        let matrix = match (&shape[..], &strides[..]) {
            ([columns], [column]) => Some((*columns, *columns, *column)),
            ([_, columns], [row, column]) => Some((*columns, *row, *column)),
            _ => None,
        };
        match matrix.filter(|_| dtype.decodable_bytes().is_some()) {
            Some((columns, row, column)) => {
                let form = Ok(Arc::new(Strided { dtype, columns, row, column }) as _);
                self.found.others.push(Other { name: self.name.clone(), shape, bytes, form });
            }
            None => self.add_unreadable(shape, bytes, format!("a view with strides {strides:?}")),
        }
        Ok(())
    }
}

/// The bytes of the file from the first element of a view to its last one; `None` where they are not inside the storage.
fn bytes(
    storage: &Range<u64>,
    dtype: Dtype,
    offset: Option<u64>,
    shape: &[u64],
    strides: &[u64],
) -> Option<Range<u64>> {
    let is_empty = shape.contains(&0);
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(0u64, |sum, (n, stride)| sum.checked_add(n.saturating_sub(1).checked_mul(*stride)?));
    let extent = if is_empty { 0 } else { last?.checked_add(1)? };
    // Elements that all lie in one place may be more than there are bytes.
    shape.iter().try_fold(1u64, |product, n| product.checked_mul(*n))?;
    let at = |element: u64| storage.start.checked_add(element.checked_mul(dtype.bits() / 8)?);
    let (start, end) = (at(offset?)?, at(offset?.checked_add(extent)?)?);
    (end <= storage.end).then_some(start..end)
}

/// Whether each element follows the one before it, in the order of the rows.
fn is_contiguous(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = 1u64;
    let dense = shape.iter().zip(strides).rev().all(|(n, stride)| {
        let fits = *n == 1 || *stride == expected;
        expected = expected.saturating_mul(*n);
        fits
    });
    dense || shape.contains(&0)
}
