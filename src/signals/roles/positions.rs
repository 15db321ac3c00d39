//! From names and shapes to positions.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::naming::Naming;
use super::role::{Layout, Position, Role, Stack};

/// The positions of a checkpoint's tensors, from names and shapes. What names leave open is settled by looking
/// at all of them, and whatever stays open has no role:
///
/// - GPT-2 and GPT-Neo share names but not the layout, and so do families with all experts in one tensor: the
///   side that has the width of the norms is the residual one.
/// - The bare towers of CLIP, ViT and wav2vec 2.0 share some names with BART and BERT, but never those of
///   attention and norms together: a stack without them is no language model unless it has a token embedding.
/// - An output head is known by its name and by having the shape of the embedding.
/// - Two tensors can claim one position (a tied embedding stored twice): the first by name has it.
pub fn positions<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [u64])>) -> Vec<Option<Position>> {
    survey(tensors).0
}

/// The [`positions`], and how the tensors are named.
pub fn survey<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a [u64])>,
) -> (Vec<Option<Position>>, Naming) {
    let tensors: Vec<(&str, &[u64])> = tensors.into_iter().collect();
    let naming = Naming::of(tensors.iter().map(|(name, _)| *name));
    let mut found: Vec<Option<Position>> = tensors.iter().map(|(name, _)| naming.position(name)).collect();
    settle_layout(&tensors, &mut found);
    turn_round(&tensors, &mut found);
    settle_fused(&tensors, &mut found);
    settle_norms(&mut found);
    drop_fragments(&mut found);
    drop_duplicates(&tensors, &mut found);
    find_head(&tensors, &naming, &mut found);
    (found, naming)
}

/// The positions of differences to the weights of another model, by the names of those, and how they are named. There
/// are no norms or embeddings beside them that tell how matrices are stored; as differences all are `[out, in]`.
pub fn of_differences<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a [u64])>,
) -> (Vec<Option<Position>>, Naming) {
    let tensors: Vec<(&str, &[u64])> = tensors.into_iter().collect();
    let naming = Naming::of_differences(tensors.iter().map(|(name, _)| *name));
    let position = |(name, _): &(&str, &[u64])| {
        let position = naming.position(name)?;
        let layout = if position.layout == Layout::Conv1d { Layout::Linear } else { position.layout };
        Some(Position { layout, ..position })
    };
    let mut found: Vec<Option<Position>> = tensors.iter().map(position).collect();
    drop_duplicates(&tensors, &mut found);
    (found, naming)
}

/// Modules that are output heads of language models.
const HEADS: [&str; 7] =
    ["lm_head", "output", "embed_out", "output_layer", "output_projection", "proj_out", "decoder"];

/// Gives the output head its role: the tensor with the shape of the embedding in a module of that name. Of several it is
/// the one that has most of its name in common with the prefix of the model, then the one with the shortest name; what
/// stands behind the prefix of another model is never it.
fn find_head(tensors: &[(&str, &[u64])], naming: &Naming, found: &mut [Option<Position>]) {
    let embedding = tensors.iter().zip(found.iter()).find_map(|((_, shape), position)| {
        position.filter(|p| p.role == Role::Embedding && p.stack == Stack::Main).map(|_| *shape)
    });
    let Some(embedding) = embedding else { return };
    let is_head = |name: &str| {
        let mut components = name.rsplit('.');
        components.next() == Some("weight") && components.next().is_some_and(|module| HEADS.contains(&module))
    };
    let free =
        tensors.iter().enumerate().filter(|(i, (_, shape))| found[*i].is_none() && *shape == embedding);
    let in_common =
        |name: &str, prefix: &str| name.split('.').zip(prefix.split('.')).take_while(|(x, y)| x == y).count();
    let own = |name: &str| in_common(name, naming.prefix());
    let is_of_another =
        |name: &str| naming.others().iter().any(|other| in_common(name, &other.prefix) > own(name));
    let heads = free.filter(|(_, (name, _))| is_head(name) && !is_of_another(name));
    if let Some((head, _)) = heads.min_by_key(|(_, (name, _))| (Reverse(own(name)), name.len(), *name)) {
        found[head] = Some(Position::main(Role::Head, 0));
    }
}

/// Decides between `Linear` and `Conv1d` where the table says `Conv1d`.
fn settle_layout(tensors: &[(&str, &[u64])], found: &mut [Option<Position>]) {
    let known = || tensors.iter().zip(found.iter()).filter_map(|((_, shape), p)| Some((shape, (*p)?)));
    let hidden = known().find(|(_, p)| p.role == Role::AttentionNorm).map(|(shape, p)| p.matrix(shape).1);
    let witness = known()
        .filter(|(_, p)| p.layout == Layout::Conv1d)
        .map(|(shape, p)| (p.role, p.matrix(shape)))
        .find(|(_, (rows, columns))| rows != columns);
    let turned = |(role, (rows, columns)): (Role, (u64, u64))| {
        if role.reads_residual() { (rows, columns) } else { (columns, rows) }
    };
    let layout = witness.map(turned).and_then(|(rows, columns)| match hidden {
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

/// An MLP whose matrices have the width of the norms on the wrong side only is stored as GPT-2's is.
fn turn_round(tensors: &[(&str, &[u64])], found: &mut [Option<Position>]) {
    let mut width: HashMap<Stack, u64> = HashMap::new();
    for ((_, shape), p) in tensors.iter().zip(found.iter()) {
        let Some(p) = p.filter(|p| p.role == Role::AttentionNorm) else { continue };
        width.entry(p.stack).or_insert(p.matrix(shape).1);
    }
    for ((_, shape), slot) in tensors.iter().zip(found) {
        let Some(p) = slot.as_mut().filter(|p| p.layout != Layout::Conv1d) else { continue };
        let (rows, columns) = p.matrix(shape);
        let (residual, inner) = match p.role {
            Role::Up | Role::Gate | Role::GateUp => (columns, rows),
            Role::Down => (rows, columns),
            _ => continue,
        };
        if width.get(&p.stack).is_some_and(|d| *d == inner && *d != residual) {
            p.layout = Layout::Conv1d;
        }
    }
}

/// A first matrix of the MLP with twice the rows that the second one has columns holds the gate too.
fn settle_fused(tensors: &[(&str, &[u64])], found: &mut [Option<Position>]) {
    let place = |p: &Position| (p.stack, p.layer, p.expert);
    let (mut inner, mut gated) = (HashMap::new(), BTreeSet::new());
    for ((_, shape), p) in tensors.iter().zip(found.iter()) {
        let Some(p) = p.filter(|p| p.layout != Layout::Conv1d) else { continue };
        if p.role == Role::Down {
            inner.insert(place(&p), p.matrix(shape).1);
        } else if p.role == Role::Gate {
            gated.insert(place(&p));
        }
    }
    for ((_, shape), slot) in tensors.iter().zip(found) {
        let Some(p) = slot.as_mut().filter(|p| p.role == Role::Up && p.layout != Layout::Conv1d) else {
            continue;
        };
        let fused = inner.get(&place(p)).and_then(|n| n.checked_mul(2)) == Some(p.matrix(shape).0);
        if fused && !gated.contains(&place(p)) {
            p.role = Role::GateUp;
        } else {
            p.layout = Layout::Linear;
        }
    }
}

/// A norm behind the attention with none in front of the MLP, or with one of four, is what most families name after the
/// attention: [`Role::MlpNorm`].
fn settle_norms(found: &mut [Option<Position>]) {
    for stack in [Stack::Main, Stack::Encoder] {
        let is = |p: &Position, role| p.stack == stack && p.role == role;
        if !found.iter().flatten().any(|p| is(p, Role::MlpNorm)) {
            let behind = found.iter_mut().flatten().filter(|p| is(p, Role::PostAttentionNorm));
            behind.for_each(|p| p.role = Role::MlpNorm);
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
