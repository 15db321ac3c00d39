//! One name against the table: what frameworks wrap around it, and what the table has for the rest.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::role::{Layout, Position, Role, Stack};
use super::table::{SCHEMES, SEEN_THROUGH, Scheme, WRAPPERS};

/// What a name in the table says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) stack: Stack,
    pub(super) role: Role,
    /// See [`Scheme`].
    pub(super) needs_embedding: bool,
    layout: Layout,
    expert: Option<u16>,
}

impl Entry {
    /// Whether both say the same of a tensor.
    fn is_like(self, other: Self) -> bool {
        self == Self { needs_embedding: self.needs_embedding, ..other }
    }

    /// The position of the tensor in this layer.
    pub(super) fn at(self, layer: u16, expert: Option<u16>) -> Position {
        let Self { stack, role, layout, expert: fixed, .. } = self;
        Position { stack, layer, expert: expert.or(fixed), role, layout }
    }
}

/// What may follow the layer number. Layers of both stacks may be called alike, and have inner names in common: which
/// of them it is shows in the others.
type Inside = HashMap<String, Vec<Entry>>;

/// Names that the table has behind one text, and how much of that text is the root.
struct Rooted<T> {
    root: usize,
    names: T,
}

/// What may follow the layer number, for each text in front of it.
static INSIDE: LazyLock<HashMap<String, Rooted<Inside>>> = LazyLock::new(|| {
    let mut heads: HashMap<String, Rooted<Inside>> = HashMap::new();
    for scheme in SCHEMES {
        for root in scheme.roots {
            let none = || Rooted { root: root.len(), names: Inside::new() };
            let head = heads.entry(format!("{root}{}", scheme.layers)).or_insert_with(none);
            for (name, entry) in scheme.entries(scheme.inside) {
                let entries = head.names.entry(name).or_default();
                match entries.iter_mut().find(|known| known.is_like(entry)) {
                    // Towers have the names of one of the two.
                    Some(known) => known.needs_embedding &= entry.needs_embedding,
                    None => entries.push(entry),
                }
            }
        }
    }
    heads
});

/// Whole names outside the layers.
static OUTSIDE: LazyLock<HashMap<String, Rooted<Entry>>> = LazyLock::new(|| {
    let names = SCHEMES.iter().flat_map(|scheme| {
        let rooted = |(name, entry)| {
            let below =
                move |root: &&str| (format!("{root}{name}"), Rooted { root: root.len(), names: entry });
            scheme.roots.iter().map(below)
        };
        scheme.entries(scheme.outside).flat_map(rooted)
    });
    names.collect()
});

impl Scheme {
    fn entries(&self, names: &'static [(&str, Role)]) -> impl Iterator<Item = (String, Entry)> {
        names.iter().flat_map(move |&(name, role)| {
            let layout = match self.layout {
                Layout::Interleaved if role != Role::Qkv => Layout::Linear,
                Layout::UpFirst if !matches!(role, Role::GateUp | Role::Up) => Layout::Linear,
                _ if !role.is_matrix() => Layout::Linear,
                layout => layout,
            };
            let is_shared =
                ["share_expert", "shared_expert", "_shexp"].iter().any(|part| name.contains(part));
            let expert = if is_shared {
                Some(Position::SHARED)
            } else {
                (self.stacked || name.contains('#')).then_some(0)
            };
            let Self { stack, needs_embedding, .. } = *self;
            let entry = Entry { stack, role, needs_embedding, layout, expert };
            self.ends.iter().map(move |end| (format!("{name}{end}"), entry))
        })
    }
}

/// The name without the components that training tools leave in it, wherever they stand.
pub(super) fn see_through(name: &str) -> Cow<'_, str> {
    let is_wrapper = |component: &str| component.starts_with('_') || SEEN_THROUGH.contains(&component);
    if !name.split('.').any(is_wrapper) {
        return Cow::Borrowed(name);
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut components = name.split('.').peekable();
    while let Some(component) = components.next() {
        if component == "modules_to_save" {
            // The name of the adapter.
            components.next();
        } else if component == "parametrizations" {
            // `a.parametrizations.weight.original` is what `a.weight` was before an adapter was added to it.
            kept.extend(components.next());
            components.next_if_eq(&"original");
        } else if !is_wrapper(component) {
            kept.push(component);
        }
    }
    Cow::Owned(kept.join("."))
}

/// Every way to read a text in front of a layer number: one for each prefix that leaves a text of the table.
pub(super) fn readings(site: &str) -> Vec<Reading> {
    let known = known(site);
    let mut readings: Vec<Reading> = Vec::new();
    for start in components(site) {
        let Some(head) = INSIDE.get(&site[start..]) else { continue };
        let prefix = start + head.root;
        let is_known = start == known;
        match readings.iter_mut().find(|reading| reading.prefix == prefix) {
            Some(reading) => {
                reading.heads.push(&head.names);
                reading.is_known |= is_known;
            }
            None => readings.push(Reading { prefix, is_known, heads: vec![&head.names] }),
        }
    }
    readings
}

/// One way to read the text in front of a layer number.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// Length of what stands in front of the names of the family.
    pub(super) prefix: usize,
    /// Whether the table has that prefix too.
    pub(super) is_known: bool,
    heads: Vec<&'static Inside>,
}

impl Reading {
    /// What the table says of the text behind a layer number, for each stack at most one thing, and the number of the
    /// expert in it.
    pub(super) fn inside(&self, inside: &str) -> (Vec<Entry>, Option<u16>) {
        let get = |name: &str| {
            let mut found: Vec<Entry> = Vec::new();
            for entry in self.heads.iter().filter_map(|names| names.get(name)).flatten() {
                if found.iter().all(|other| other.stack != entry.stack) {
                    found.push(*entry);
                }
            }
            found
        };
        // `mlp.experts.7.up_proj`, `mlp.experts.expert_7.wi`, `experts.7.w1`.
        let numbered = inside.find("experts.").filter(|at| *at == 0 || inside[..*at].ends_with('.'));
        let numbered = numbered.and_then(|at| {
            let rest = &inside[at + "experts.".len()..];
            Some((&inside[..at], number(rest.strip_prefix("expert_").unwrap_or(rest))?))
        });
        match numbered {
            Some((block, (expert, rest))) => (get(&format!("{block}experts.#.{rest}")), Some(expert)),
            None => (get(inside), None),
        }
    }
}

/// Every way to read a name outside the layers: the length of the prefix, whether the table has it too, and what
/// the table says of the rest.
pub(super) fn outside(name: &str) -> Vec<(usize, bool, Entry)> {
    let known = known(name);
    let mut readings: Vec<(usize, bool, Entry)> = Vec::new();
    for start in components(name) {
        let Some(found) = OUTSIDE.get(&name[start..]) else { continue };
        let prefix = start + found.root;
        match readings.iter_mut().find(|(at, ..)| *at == prefix) {
            Some((_, is_known, _)) => *is_known |= start == known,
            None => readings.push((prefix, start == known, found.names)),
        }
    }
    readings
}

/// A name or a prefix of one with `#` for each of its numbers: the same for tensors of one kind in all layers.
pub fn without_numbers(name: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    name.split('.').map(|part| if is_number(part) { "#" } else { part }).collect::<Vec<_>>().join(".")
}

/// Length of the wrappers of the table in front of a name.
fn known(name: &str) -> usize {
    let mut rest = name;
    while let Some(inner) = WRAPPERS.iter().find_map(|wrapper| rest.strip_prefix(wrapper)) {
        rest = inner;
    }
    name.len() - rest.len()
}

/// Where the components of a name begin behind which the table may have something: a name that is longer than all of
/// its names is none of them, and names from outside may be long.
fn components(name: &str) -> impl Iterator<Item = usize> + '_ {
    let from = name.len().saturating_sub(*LONGEST);
    let begins = move |at: &usize| *at == 0 || name.as_bytes().get(at - 1) == Some(&b'.');
    (from..name.len()).filter(begins)
}

/// Length of the longest text of the table.
static LONGEST: LazyLock<usize> =
    LazyLock::new(|| INSIDE.keys().chain(OUTSIDE.keys()).map(String::len).max().unwrap_or(0));

/// Most numbers of a name that are looked at; public names have at most four.
const MOST_NUMBERS: usize = 8;

/// The first numbers among the components behind the first: the text before each, the number, and the text behind it.
pub(super) fn numbers(name: &str) -> impl Iterator<Item = (&str, u16, &str)> {
    let dots = name.match_indices('.').map(|(dot, _)| dot);
    let numbered = dots.filter(|dot| name.as_bytes().get(dot + 1).is_some_and(u8::is_ascii_digit));
    let all = numbered.filter_map(|dot| {
        let (layer, inside) = number(&name[dot + 1..])?;
        Some((&name[..dot], layer, inside))
    });
    all.take(MOST_NUMBERS)
}

/// The number of up to four digits with which the text begins, and what follows the dot behind it.
pub(super) fn number(text: &str) -> Option<(u16, &str)> {
    let (digits, rest) = text.split_once('.')?;
    let is_number = digits.len() <= 4 && digits.bytes().all(|b| b.is_ascii_digit());
    Some((digits.parse().ok().filter(|_| is_number)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_for_two_things() {
        let mut entries: HashMap<(String, Stack), Entry> = HashMap::new();
        for scheme in SCHEMES {
            for root in scheme.roots {
                let inside =
                    scheme.entries(scheme.inside).map(|(n, e)| (format!("{root}{}.0.{n}", scheme.layers), e));
                let outside = scheme.entries(scheme.outside).map(|(n, e)| (format!("{root}{n}"), e));
                for (name, entry) in inside.chain(outside) {
                    let first = *entries.entry((name.clone(), entry.stack)).or_insert(entry);
                    assert!(first.is_like(entry), "{name}: {first:?} and {entry:?}");
                }
            }
        }
    }

    #[test]
    fn no_text_has_two_roots() {
        for scheme in SCHEMES {
            for root in scheme.roots {
                let head = format!("{root}{}", scheme.layers);
                assert_eq!(INSIDE[&head].root, root.len(), "{head}");
            }
        }
    }

    #[test]
    fn wrappers_are_seen_through_wherever_they_stand() {
        for (name, plain) in [
            ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
            ("_orig_mod.model.layers.0._orig_mod.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
            ("a._fsdp_wrapped_module._checkpoint_wrapped_module.b", "a.b"),
            ("module.module.a.module.b", "a.b"),
            ("a.base_layer.weight", "a.weight"),
            ("a.lora_A.default.weight", "a.lora_A.weight"),
            ("a.modules_to_save.other.weight", "a.weight"),
            ("a.original_module.weight", "a.weight"),
            ("a.parametrizations.weight.original", "a.weight"),
            ("a.parametrizations.weight.original0", "a.weight.original0"),
            ("a.parametrizations.weight.0.lora_A", "a.weight.0.lora_A"),
            ("", ""),
            ("modules_to_save", ""),
        ] {
            assert_eq!(see_through(name), plain);
        }
    }
}
