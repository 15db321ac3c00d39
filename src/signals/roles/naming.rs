//! From the names of a whole checkpoint to the families in it: which prefix stands in front of which.
//!
//! Training tools, value heads, robots and multimodal models put what they like in front of the names of a language
//! model. So the table is sought behind every prefix, and the one behind which it explains most is that of the model.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::names::{self, Entry, Reading, number, see_through};
use super::role::{Position, Role, Stack};

/// Texts in front of layer numbers that are looked at, largest first: more than any model has.
const MOST_SITES: usize = 64;

/// How the tensors of a checkpoint are named.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    sites: Vec<Site>,
    outside: HashMap<String, Entry>,
    prefix: String,
    depth: Option<u16>,
    others: Vec<Component>,
}

/// A further model in the same files, whole and under a prefix of its own. Its tensors have no position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// What stands in front of its names; of one without a prefix what stands in front of its layer numbers.
    pub prefix: String,
    /// The names that are its own: all in its layers, its embedding and norms outside them, and what else has its prefix,
    /// or is beside it where no other model is.
    pub tensors: Vec<String>,
}

/// Layers of one stack: a text with the layer number behind it.
#[derive(Clone, Debug)]
struct Site {
    /// With the dot in front of the number.
    text: String,
    stack: Stack,
    reading: Reading,
    /// Layers that only draft the next tokens and are no part of the stack.
    drafts: BTreeSet<u16>,
}

impl Naming {
    /// Finds the model among the tensors of a checkpoint. Give the names of all of them, or of all that are known; of
    /// packed weights the plain ones.
    ///
    /// - Components that training tools leave in names do not count, wherever they stand.
    /// - Names behind one prefix are one family. It is whole if it has an embedding and matrices in layers, or else
    ///   attention with its norms. Behind an unknown prefix only a whole family has roles.
    /// - Of several the model is the one with an embedding that has most tensors; the other whole ones are
    ///   [`Naming::others`]. No position is taken from two of them.
    /// - The embedding and the final norm may stand beside the layers, under a prefix with the same parent, or
    ///   directly above them.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::find(names, true)
    }

    /// The same where the names are those that an adapter changes: it has no embedding that would tell a language model
    /// from a tower.
    pub fn of_differences<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::find(names, false)
    }

    fn find<'a>(names: impl IntoIterator<Item = &'a str>, has_embedding: bool) -> Self {
        let given: Vec<&str> = names.into_iter().collect();
        let names: Vec<Cow<'a, str>> = given.iter().map(|name| see_through(name)).collect();
        let mut families = families(&names);
        families.sort_by_cached_key(|family| Reverse(family.rank()));
        // Without a whole one there may be a part of one: a static embedding, a shard.
        let Some(main) = families
            .iter()
            .position(Family::may_be_the_model)
            .or_else(|| families.iter().position(|f| f.is_known && !(has_embedding && f.lacks_embedding())))
        else {
            return Self::default();
        };
        let main = families.remove(main);
        // Of what stands above two of them, the model has it.
        let of_main: HashSet<&str> = main.outside.iter().map(|(name, _)| *name).collect();
        for other in &mut families {
            other.outside.retain(|(name, _)| !of_main.contains(name));
        }
        let wholes: Vec<&Family<'_>> = families.iter().filter(|family| family.is_whole).collect();
        let prefixes: Vec<&str> = wholes.iter().map(|family| family.prefix).chain([main.prefix]).collect();
        let others = wholes.iter().map(|family| family.component(&given, &names, &prefixes)).collect();
        main.naming(&names, others)
    }

    /// The position of one of the tensors, by its name.
    pub fn position(&self, name: &str) -> Option<Position> {
        let name = see_through(name);
        let Some((site, layer, inside)) = self.within(&name) else {
            return self.outside.get(&*name).map(|entry| entry.at(0, None));
        };
        let (entries, expert) = site.reading.inside(inside);
        let entry = entries.into_iter().find(|entry| entry.stack == site.stack)?;
        (!site.drafts.contains(&layer)).then(|| entry.at(layer, expert))
    }

    /// The layer that a tensor is in, with a role or not, and its stack.
    pub fn layer(&self, name: &str) -> Option<(Stack, u16)> {
        let name = see_through(name);
        let (site, layer, _) = self.within(&name)?;
        (!site.drafts.contains(&layer)).then_some((site.stack, layer))
    }

    /// The layers that a name is in, the number, and what follows it.
    fn within<'a>(&self, name: &'a str) -> Option<(&Site, u16, &'a str)> {
        self.sites.iter().find_map(|site| {
            let (layer, inside) = number(name.strip_prefix(&site.text)?)?;
            Some((site, layer, inside))
        })
    }

    /// Layers of the main stack by the numbers in all names, with a role or not; `None` where there is no main stack.
    pub fn depth(&self) -> Option<u16> {
        self.depth
    }

    /// What stands in front of the names of the model; empty where there is none.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The further whole models, largest first.
    pub fn others(&self) -> &[Component] {
        &self.others
    }
}

/// The position of the tensor with this name, when nothing is known of the others. [`Naming`] and
/// [`positions`](super::positions()) do better.
pub fn position(name: &str) -> Option<Position> {
    Naming::of([name]).position(name)
}

/// What the table explains of the layers behind one text, in one reading and for one stack.
#[derive(Clone, Debug)]
struct Tally<'a> {
    text: &'a str,
    stack: Stack,
    reading: Reading,
    explained: usize,
    roles: HashSet<Role>,
    /// Whether towers of other modalities have such names too.
    needs_embedding: bool,
}

impl<'a> Tally<'a> {
    fn prefix(&self) -> &'a str {
        &self.text[..self.reading.prefix]
    }

    fn matrices(&self) -> usize {
        self.roles.iter().filter(|role| role.is_matrix()).count()
    }

    /// Whether attention and both norms are there: most towers share single names with language models, never these
    /// together.
    fn has_attention_with_norms(&self) -> bool {
        let has = |role| self.roles.contains(&role);
        !self.needs_embedding
            && (has(Role::Output) || has(Role::SsmOut))
            && has(Role::AttentionNorm)
            && has(Role::MlpNorm)
    }
}

/// Names behind one prefix.
struct Family<'a> {
    prefix: &'a str,
    is_known: bool,
    is_whole: bool,
    /// Whether the embedding that is there belongs to something else.
    is_tower: bool,
    /// At most one for each stack.
    sites: Vec<Tally<'a>>,
    outside: Vec<(&'a str, Entry)>,
}

/// Names outside the layers, by prefix.
type Outside<'a> = BTreeMap<&'a str, (bool, Vec<(&'a str, Entry)>)>;

/// Every family in these names.
fn families<'a>(names: &'a [Cow<'_, str>]) -> Vec<Family<'a>> {
    let (sites, homes) = sites(names);
    let mut outside = Outside::new();
    for name in names {
        for (prefix, is_known, entry) in names::outside(name) {
            let (known, there) = outside.entry(&name[..prefix]).or_default();
            *known |= is_known;
            there.push((name, entry));
        }
    }
    let mut families: Vec<Family<'a>> = Vec::new();
    for site in sites {
        let prefix = site.prefix();
        let is_free =
            |f: &&mut Family<'_>| f.prefix == prefix && f.sites.iter().all(|s| s.stack != site.stack);
        if let Some(family) = families.iter_mut().find(is_free) {
            family.is_known |= site.reading.is_known;
            family.sites.push(site);
            continue;
        }
        // Behind one prefix the largest has what stands outside.
        let own = if families.iter().any(|f| f.prefix == prefix) { None } else { outside.remove(prefix) };
        let is_known = site.reading.is_known;
        let outside = own.map(|(_, there)| there).unwrap_or_default();
        families.push(Family {
            prefix,
            is_known,
            is_whole: false,
            is_tower: false,
            sites: vec![site],
            outside,
        });
    }
    let prefixes: Vec<&str> = families.iter().map(|family| family.prefix).collect();
    // A tower with numbered layers keeps its norm.
    outside.retain(|prefix, _| !prefixes.contains(prefix));
    for family in &mut families {
        family.adopt(&outside, &homes);
    }
    let is_embedding = |(_, entry): &(&str, Entry)| entry.role == Role::Embedding;
    let elsewhere = outside.values().flat_map(|(_, there)| there).any(is_embedding);
    let mut patterns: HashMap<String, usize> = HashMap::new();
    for family in &families {
        *patterns.entry(names::without_numbers(family.prefix)).or_default() += 1;
    }
    for family in &mut families {
        // The stages of a tower have such prefixes.
        let repeats = patterns.get(&names::without_numbers(family.prefix)).is_some_and(|n| *n > 1);
        family.is_whole = family.has_embedding()
            && family.sites.iter().map(Tally::matrices).sum::<usize>() > 1
            || (family.is_known || !repeats) && family.sites.iter().any(Tally::has_attention_with_norms);
        family.is_tower = !family.is_known && !family.has_embedding() && elsewhere;
    }
    let alone = outside.into_iter().filter(|(_, (is_known, _))| *is_known);
    families.extend(alone.map(|(prefix, (is_known, outside))| Family {
        prefix,
        is_known,
        is_whole: false,
        is_tower: false,
        sites: Vec::new(),
        outside,
    }));
    families
}

/// The texts in front of layer numbers, each in the reading that explains most, largest first; and every text that
/// has a number behind it.
fn sites<'a>(names: &'a [Cow<'_, str>]) -> (Vec<Tally<'a>>, BTreeSet<&'a str>) {
    let mut found: BTreeMap<&str, Vec<Tally<'_>>> = BTreeMap::new();
    let mut readings: HashMap<&str, Vec<Reading>> = HashMap::new();
    for name in names {
        for (text, _, behind) in names::numbers(name) {
            let readings = readings.entry(text).or_insert_with(|| names::readings(text));
            for reading in readings {
                for entry in reading.inside(behind).0 {
                    let tallies = found.entry(text).or_default();
                    let same =
                        |t: &&mut Tally<'_>| t.reading.prefix == reading.prefix && t.stack == entry.stack;
                    if let Some(tally) = tallies.iter_mut().find(same) {
                        tally.explained += 1;
                        tally.roles.insert(entry.role);
                        tally.needs_embedding |= entry.needs_embedding;
                        continue;
                    }
                    let Entry { stack, role, needs_embedding, .. } = entry;
                    let (reading, roles) = (reading.clone(), [role].into());
                    tallies.push(Tally { text, stack, reading, explained: 1, roles, needs_embedding });
                }
            }
        }
    }
    for tallies in found.values_mut() {
        let most = tallies.iter().map(|tally| tally.explained).max();
        tallies.retain(|tally| Some(tally.explained) == most);
        tallies.sort_by_key(|tally| tally.reading.prefix);
    }
    let mains: BTreeSet<&str> =
        found.values().flatten().filter(|t| t.stack == Stack::Main).map(Tally::prefix).collect();
    // An encoder is one only beside a decoder, if its names can be read in another way.
    // A norm of cross attention without the attention is another norm, in another reading.
    let fits = |tally: &Tally<'_>| {
        let has = |role| tally.roles.contains(&role);
        (tally.stack == Stack::Main || mains.contains(tally.prefix()))
            && (has(Role::CrossQuery) || !has(Role::CrossNorm))
    };
    let choose = |mut tallies: Vec<Tally<'a>>| {
        let chosen = tallies.iter().position(fits).unwrap_or(0);
        tallies.swap_remove(chosen)
    };
    let mut sites: Vec<Tally<'_>> = found.into_values().map(choose).collect();
    sites.sort_by_key(|site| (Reverse(site.explained), site.text));
    sites.truncate(MOST_SITES);
    (sites, readings.into_keys().collect())
}

/// The prefix above a prefix.
fn parent(prefix: &str) -> Option<&str> {
    let inner = prefix.strip_suffix('.')?;
    Some(inner.rfind('.').map_or("", |dot| &prefix[..=dot]))
}

impl<'a> Family<'a> {
    fn has(&self, role: Role) -> bool {
        self.outside.iter().any(|(_, entry)| entry.role == role)
    }

    fn has_embedding(&self) -> bool {
        self.has(Role::Embedding)
    }

    /// Whether it may as well be a tower of another modality.
    fn lacks_embedding(&self) -> bool {
        !self.has_embedding() && self.sites.iter().any(|site| site.needs_embedding)
    }

    /// Takes what it lacks from a prefix beside or directly above it that has no layers, if only one has it.
    fn adopt(&mut self, outside: &Outside<'a>, homes: &BTreeSet<&str>) {
        let Some(above) = parent(self.prefix) else { return };
        if !self.sites.iter().any(Tally::has_attention_with_norms) {
            return;
        }
        let has_layers =
            |prefix: &str| homes.range(prefix..).next().is_some_and(|home| home.starts_with(prefix));
        let near = |prefix: &str| prefix == above || (parent(prefix) == Some(above) && !has_layers(prefix));
        for role in [Role::Embedding, Role::EmbeddingNorm, Role::FinalNorm] {
            if self.has(role) {
                continue;
            }
            // Heads beside the model have norms too.
            let fits = |prefix: &str| if role == Role::FinalNorm { prefix == above } else { near(prefix) };
            let there = outside.iter().filter(|(prefix, _)| fits(prefix)).flat_map(|(_, (_, there))| there);
            let mut there = there.filter(|(_, entry)| entry.role == role && entry.stack == Stack::Main);
            // One name may be given twice.
            if let Some(only) = there.next()
                && there.all(|(name, _)| *name == only.0)
            {
                self.outside.push(*only);
            }
        }
    }

    fn may_be_the_model(&self) -> bool {
        self.is_whole && !self.is_tower
    }

    /// The largest is the model.
    fn rank(&self) -> (bool, usize, bool, Reverse<&'a str>) {
        let explained = self.sites.iter().map(|site| site.explained).sum::<usize>() + self.outside.len();
        (self.has_embedding() && !self.sites.is_empty(), explained, self.is_known, Reverse(self.prefix))
    }

    /// As a further model beside those with these prefixes, its own among them.
    fn component(&self, given: &[&str], names: &[Cow<'_, str>], prefixes: &[&str]) -> Component {
        // A head stands beside the model, above its prefix.
        let is_free = |home: &&str| {
            !home.is_empty() && prefixes.iter().filter(|prefix| prefix.starts_with(home)).count() == 1
        };
        let mut homes = [parent(self.prefix), Some(self.prefix)].into_iter().flatten();
        let home = homes.find(is_free);
        let own: HashSet<&str> = self.outside.iter().map(|(name, _)| *name).collect();
        let is_below = |name: &str, site: &Tally<'_>| {
            name.strip_prefix(site.text).and_then(|rest| number(rest.strip_prefix('.')?)).is_some()
        };
        let is_own = |name: &str| {
            own.contains(name)
                || home.is_some_and(|home| name.starts_with(home))
                || self.sites.iter().any(|site| is_below(name, site))
        };
        let tensors = given.iter().zip(names).filter(|(_, name)| is_own(name));
        let of_layers = || self.sites.first().map_or_else(String::new, |site| format!("{}.", site.text));
        let prefix = if self.prefix.is_empty() { of_layers() } else { self.prefix.to_owned() };
        Component { prefix, tensors: tensors.map(|(given, _)| (*given).to_owned()).collect() }
    }

    fn naming(self, names: &[Cow<'_, str>], others: Vec<Component>) -> Naming {
        let mut depth = None;
        let mut sites = Vec::new();
        for Tally { text, stack, reading, .. } in self.sites {
            let text = format!("{text}.");
            let numbered = || names.iter().filter_map(|name| number(name.strip_prefix(&text)?));
            // DeepSeek and GLM store the layer that predicts one more token behind the others.
            let drafts: BTreeSet<u16> =
                numbered().filter(|(_, inside)| inside.starts_with("eh_proj.")).map(|(n, _)| n).collect();
            if stack == Stack::Main {
                depth = numbered().map(|(n, _)| n).filter(|n| !drafts.contains(n)).max().map(|n| n + 1);
            }
            sites.push(Site { text, stack, reading, drafts });
        }
        let outside = self.outside.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect();
        Naming { sites, outside, prefix: self.prefix.to_owned(), depth, others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small model of Llama's names below a prefix.
    fn llama(prefix: &str, layers: u16) -> Vec<String> {
        let inside = [
            "self_attn.q_proj",
            "self_attn.o_proj",
            "mlp.up_proj",
            "input_layernorm",
            "post_attention_layernorm",
        ];
        let inside = (0..layers)
            .flat_map(|n| inside.iter().map(move |name| format!("{prefix}model.layers.{n}.{name}.weight")));
        inside.chain([format!("{prefix}model.embed_tokens.weight")]).collect()
    }

    fn naming(names: &[String]) -> Naming {
        Naming::of(names.iter().map(String::as_str))
    }

    #[test]
    fn layers_without_a_role_are_layers() {
        let mut names = llama("x.", 2);
        names.push("x.model.layers.11.nobody.knows.weight".into());
        let naming = naming(&names);
        assert_eq!(naming.depth(), Some(12));
        assert_eq!(naming.layer("x.model.layers.11.nobody.knows.weight"), Some((Stack::Main, 11)));
        assert_eq!(naming.layer("model.layers.1.mlp.up_proj.weight"), None);
    }

    #[test]
    fn a_layer_that_drafts_is_none() {
        let mut names = llama("", 3);
        names.push("model.layers.2.eh_proj.weight".into());
        let naming = naming(&names);
        assert_eq!(naming.depth(), Some(2));
        assert!(naming.position("model.layers.1.mlp.up_proj.weight").is_some());
        assert_eq!(naming.position("model.layers.2.mlp.up_proj.weight"), None);
    }

    #[test]
    fn the_smaller_of_two_models_is_named() {
        let names: Vec<String> = [llama("a.", 2), llama("b.", 3)].concat();
        let naming = naming(&names);
        assert_eq!(naming.prefix(), "b.model.");
        assert_eq!(naming.position("a.model.embed_tokens.weight"), None);
        let [other] = naming.others() else { panic!("{:?}", naming.others()) };
        assert_eq!((other.prefix.as_str(), other.tensors.len()), ("a.model.", llama("a.", 2).len()));
    }

    #[test]
    fn repeated_stages_of_a_tower_are_no_model() {
        let stage = |n: u16| llama(&format!("tower.stages.{n}."), 2);
        let names: Vec<String> =
            (0..3).flat_map(stage).filter(|name| !name.contains("embed_tokens")).collect();
        assert_eq!(naming(&names).depth(), None);
    }

    #[test]
    fn a_decoder_without_cross_attention_has_no_norm_for_it() {
        let names: Vec<String> =
            llama("", 2).into_iter().map(|name| name.replace("model.", "decoder.")).collect();
        let norm = naming(&names).position("decoder.layers.0.post_attention_layernorm.weight");
        assert_eq!(norm.map(|p| p.role), Some(Role::MlpNorm));
    }

    #[test]
    fn of_the_two_sides_of_clip_the_one_with_tokens_is_a_language_model() {
        let inside =
            ["self_attn.q_proj", "self_attn.out_proj", "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"];
        let side = |prefix: &str| -> Vec<String> {
            inside.map(|name| format!("{prefix}encoder.layers.0.{name}.weight")).into()
        };
        let text = |prefix: &str| -> Vec<String> {
            let tokens = format!("{prefix}embeddings.token_embedding.weight");
            side(prefix).into_iter().chain([tokens]).collect()
        };
        for prefix in ["", "text_model.", "cond_stage_model.transformer.text_model."] {
            let naming = naming(&text(prefix));
            assert!(
                naming.position(&format!("{prefix}encoder.layers.0.mlp.fc1.weight")).is_some(),
                "{prefix}"
            );
        }
        for prefix in ["", "vision_model.", "model.vision_tower.vision_model."] {
            let naming = naming(&side(prefix));
            assert_eq!((naming.depth(), naming.others()), (None, &[][..]), "{prefix}");
        }
        let both = naming(&[text("text_model."), side("vision_model.")].concat());
        assert_eq!((both.prefix(), both.others().len()), ("text_model.", 0));
    }

    #[test]
    fn a_great_many_prefixes_cost_little() {
        let mut names = llama("model_of_mine.", 2);
        names.extend((0..50_000).map(|n| format!("p{n}.layers.0.self_attn.q_proj.weight")));
        assert_eq!(naming(&names).prefix(), "model_of_mine.model.");
    }
}
