//! From names and shapes to positions.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use super::role::{Layout, Position, Role, Stack};
use super::table::{SCHEMES, Scheme, WRAPPERS};

/// What a name in the table says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    stack: Stack,
    role: Role,
    layout: Layout,
    expert: Option<u16>,
}

/// What may follow the layer number, for each text in front of it.
static INSIDE: LazyLock<HashMap<String, HashMap<String, Entry>>> = LazyLock::new(|| {
    let mut heads: HashMap<String, HashMap<String, Entry>> = HashMap::new();
    for scheme in SCHEMES {
        let names: HashMap<String, Entry> = scheme.entries(scheme.inside).collect();
        for root in scheme.roots {
            heads.entry(format!("{root}{}", scheme.layers)).or_default().extend(names.clone());
        }
    }
    heads
});

/// Whole names outside the layers.
static OUTSIDE: LazyLock<HashMap<String, Entry>> = LazyLock::new(|| {
    let names = SCHEMES.iter().flat_map(|scheme| {
        let rooted = |(name, entry)| scheme.roots.iter().map(move |root| (format!("{root}{name}"), entry));
        scheme.entries(scheme.outside).flat_map(rooted)
    });
    names.collect()
});

impl Scheme {
    fn entries(&self, names: &'static [(&str, Role)]) -> impl Iterator<Item = (String, Entry)> {
        names.iter().flat_map(move |&(name, role)| {
            let layout = match self.layout {
                Layout::Interleaved if role != Role::Qkv => Layout::Linear,
                _ if !role.is_matrix() => Layout::Linear,
                layout => layout,
            };
            let expert = if name.contains("shared_expert") {
                Some(Position::SHARED)
            } else {
                (self.stacked || name.contains('#')).then_some(0)
            };
            let entry = Entry { stack: self.stack, role, layout, expert };
            self.ends.iter().map(move |end| (format!("{name}{end}"), entry))
        })
    }
}

/// The position of the tensor with this name, or `None` when no scheme has it.
///
/// Names alone do not tell everything; [`positions`] does better where the shapes are known.
pub fn position(name: &str) -> Option<Position> {
    let mut name = name;
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        name = rest;
    }
    let (entry, layer, expert) = match split_at_number(name) {
        Some((head, layer, inside)) => {
            let names = INSIDE.get(head)?;
            match inside.split_once(".experts.").and_then(|(block, rest)| Some((block, number(rest)?))) {
                Some((block, (expert, rest))) => {
                    (names.get(&format!("{block}.experts.#.{rest}"))?, layer, Some(expert))
                }
                None => (names.get(inside)?, layer, None),
            }
        }
        None => (OUTSIDE.get(name)?, 0, None),
    };
    let Entry { stack, role, layout, expert: fixed } = *entry;
    Some(Position { stack, layer, expert: expert.or(fixed), role, layout })
}

/// Text before the first component that is a number, the number, and the text behind it.
fn split_at_number(name: &str) -> Option<(&str, u16, &str)> {
    let dots = name.match_indices('.').map(|(dot, _)| dot);
    dots.filter(|dot| name.as_bytes().get(dot + 1).is_some_and(u8::is_ascii_digit)).find_map(|dot| {
        let (layer, inside) = number(&name[dot + 1..])?;
        Some((&name[..dot], layer, inside))
    })
}

/// The number of up to four digits with which the text begins, and what follows the dot behind it.
fn number(text: &str) -> Option<(u16, &str)> {
    let (digits, rest) = text.split_once('.')?;
    let is_number = digits.len() <= 4 && digits.bytes().all(|b| b.is_ascii_digit());
    Some((digits.parse().ok().filter(|_| is_number)?, rest))
}

/// The positions of a checkpoint's tensors, from names and shapes. What names leave open is settled by looking
/// at all of them, and whatever stays open has no role:
///
/// - GPT-2 and GPT-Neo share names but not the layout, and so do families with all experts in one tensor: the
///   side that has the width of the norms is the residual one.
/// - The bare towers of CLIP, ViT and wav2vec 2.0 share some names with BART and BERT, but never those of
///   attention and norms together: a stack without them is no language model unless it has a token embedding.
/// - Two tensors can claim one position (a tied embedding stored twice): the first by name has it.
pub fn positions<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [u64])>) -> Vec<Option<Position>> {
    let tensors: Vec<(&str, &[u64])> = tensors.into_iter().collect();
    let mut found: Vec<Option<Position>> = tensors.iter().map(|(name, _)| position(name)).collect();
    settle_layout(&tensors, &mut found);
    drop_fragments(&mut found);
    drop_duplicates(&tensors, &mut found);
    found
}

/// Decides between `Linear` and `Conv1d` where the table says `Conv1d`.
fn settle_layout(tensors: &[(&str, &[u64])], found: &mut [Option<Position>]) {
    let known = || tensors.iter().zip(found.iter()).filter_map(|((_, shape), p)| Some((shape, (*p)?)));
    let hidden = known().find(|(_, p)| p.role == Role::AttentionNorm).map(|(shape, p)| p.matrix(shape).1);
    let witness = known()
        .filter(|(_, p)| p.layout == Layout::Conv1d && p.role.reads_residual())
        .map(|(shape, p)| (p.role, p.matrix(shape)))
        .find(|(_, (rows, columns))| rows != columns);
    let layout = witness.and_then(|(_, (rows, columns))| match hidden {
        Some(d) if d == columns => Some(Layout::Linear),
        Some(d) if d == rows => Some(Layout::Conv1d),
        _ => None,
    });
    // GPT-BigCode with many key heads alternates the parts of its fused matrix, Qwen 1 does not.
    let gated = known().any(|(_, p)| p.role == Role::Gate);
    for ((_, shape), slot) in tensors.iter().zip(found) {
        let Some(p) = slot.as_mut().filter(|p| p.layout == Layout::Conv1d) else { continue };
        let (rows, columns) = p.matrix(shape);
        match layout {
            Some(Layout::Linear) if p.role == Role::Qkv && columns.checked_mul(3) == Some(rows) && !gated => {
                p.layout = Layout::Interleaved;
            }
            Some(layout) => p.layout = layout,
            None => *slot = None,
        }
    }
}

/// Takes the roles from stacks that have neither an embedding nor attention with norms.
fn drop_fragments(found: &mut [Option<Position>]) {
    for stack in [Stack::Main, Stack::Encoder] {
        let has =
            |roles: &[Role]| found.iter().flatten().any(|p| p.stack == stack && roles.contains(&p.role));
        let whole = has(&[Role::Embedding])
            || has(&[Role::Output, Role::SsmOut]) && has(&[Role::AttentionNorm, Role::MlpNorm]);
        if !whole {
            found.iter_mut().filter(|p| p.is_some_and(|p| p.stack == stack)).for_each(|p| *p = None);
        }
    }
}

/// Leaves each position to one tensor.
fn drop_duplicates(tensors: &[(&str, &[u64])], found: &mut [Option<Position>]) {
    let mut owners = HashMap::with_capacity(found.len());
    for (i, p) in found.iter().enumerate() {
        let Some(p) = p else { continue };
        let owner = owners.entry((p.stack, p.layer, p.expert, p.role)).or_insert(i);
        if tensors[i].0 < tensors[*owner].0 {
            *owner = i;
        }
    }
    let keep: BTreeSet<usize> = owners.into_values().collect();
    found.iter_mut().enumerate().filter(|(i, _)| !keep.contains(i)).for_each(|(_, p)| *p = None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_for_two_things() {
        let mut entries: HashMap<String, Entry> = HashMap::new();
        for scheme in SCHEMES {
            for root in scheme.roots {
                let inside =
                    scheme.entries(scheme.inside).map(|(n, e)| (format!("{root}{}.0.{n}", scheme.layers), e));
                let outside = scheme.entries(scheme.outside).map(|(n, e)| (format!("{root}{n}"), e));
                for (name, entry) in inside.chain(outside) {
                    assert_eq!(*entries.entry(name.clone()).or_insert(entry), entry, "{name}");
                }
            }
        }
    }
}
