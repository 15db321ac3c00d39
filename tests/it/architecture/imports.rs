//! Which file of a crate uses which: every path is followed to the file that defines what it names.
//!
//! A `mod` declaration is no import, and neither is what a module shows of its children under its own name (`pub use`).
//! Whoever uses such a name imports the file behind it. Code that is only there in tests does not count.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, Item, ItemMod, ItemUse, Macro, Meta, UseTree, Visibility};

type Names = Vec<String>;

/// What a name stands for in a module.
enum Meaning {
    /// Something that the module itself defines.
    Own,
    Child(usize),
    Import(Names),
}

/// Where a path leads to: a module, or something that a module defines.
#[derive(Clone, Copy)]
enum Place {
    Module(usize),
    Inside(usize),
}

struct Module {
    file: String,
    parent: Option<usize>,
    items: Vec<Item>,
    names: HashMap<String, Vec<Meaning>>,
    globs: Vec<Names>,
}

/// The imports between the files of a crate.
#[derive(Default)]
pub(super) struct Imports {
    /// From a file to those that it uses, each with a path that does.
    of: BTreeMap<String, BTreeMap<String, String>>,
    /// Paths into the crate that lead nowhere: what this reader does not understand.
    pub(super) lost: Vec<String>,
}

impl Imports {
    /// Reads a crate from the texts of its files, by their paths below `src/`, beginning with `lib.rs`.
    pub(super) fn read(files: &BTreeMap<String, String>) -> Self {
        let mut tree = Tree::default();
        tree.add_file(files, "lib.rs", "", None);
        let mut imports = Self::default();
        for (number, module) in tree.modules.iter().enumerate() {
            imports.of.entry(module.file.clone()).or_default();
            let mut reader = Reader { tree: &tree, module: number, imports: &mut imports };
            module.items.iter().for_each(|item| reader.visit_item(item));
        }
        imports
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &String> {
        self.of.keys()
    }

    /// All imports: from, to, and a path by which.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.of.iter().flat_map(|(from, uses)| {
            uses.iter().map(|(to, path)| (from.as_str(), to.as_str(), path.as_str()))
        })
    }

    /// The files that are in circles, those together of which each reaches each other.
    pub(super) fn circles(&self) -> Vec<BTreeSet<String>> {
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            self.of.keys().map(|file| (file.as_str(), self.reached(file).into_keys().collect())).collect();
        let groups: BTreeSet<BTreeSet<String>> = reached
            .iter()
            .filter(|(file, others)| others.contains(*file))
            .map(|(file, others)| {
                others
                    .iter()
                    .filter(|other| reached[*other].contains(file))
                    .map(|other| (*other).to_owned())
                    .collect()
            })
            .collect();
        groups.into_iter().collect()
    }

    /// The shortest circle through a file, as `a.rs -> b.rs -> a.rs`.
    pub(super) fn circle(&self, file: &str) -> Option<String> {
        let before = self.reached(file);
        let mut steps = vec![file, before.get(file)?];
        while steps.last() != Some(&file) {
            steps.push(before[steps[steps.len() - 1]]);
        }
        steps.reverse();
        Some(steps.join(" -> "))
    }

    /// All files that a file leads to, the nearest first, each with the one before it.
    fn reached<'a>(&'a self, file: &'a str) -> BTreeMap<&'a str, &'a str> {
        let mut before = BTreeMap::new();
        let mut next = VecDeque::from([file]);
        while let Some(from) = next.pop_front() {
            for to in self.of[from].keys() {
                if !before.contains_key(to.as_str()) {
                    before.insert(to.as_str(), from);
                    next.push_back(to);
                }
            }
        }
        before
    }
}

#[derive(Default)]
struct Tree {
    modules: Vec<Module>,
}

impl Tree {
    /// `below` is the folder of the module's children.
    fn add_file(
        &mut self,
        files: &BTreeMap<String, String>,
        file: &str,
        below: &str,
        parent: Option<usize>,
    ) -> usize {
        let items = syn::parse_file(&files[file]).unwrap_or_else(|e| panic!("{file}: {e}")).items;
        self.add(files, file, below, parent, items)
    }

    fn add(
        &mut self,
        files: &BTreeMap<String, String>,
        file: &str,
        below: &str,
        parent: Option<usize>,
        items: Vec<Item>,
    ) -> usize {
        let mut items: Vec<Item> =
            items.into_iter().filter(|item| !only_in_tests(attributes(item))).collect();
        let number = self.modules.len();
        let mut names: HashMap<String, Vec<Meaning>> = HashMap::new();
        let mut uses = Uses::default();
        for item in &items {
            uses.visit_item(item);
        }
        for (name, path) in uses.names {
            names.entry(name).or_default().push(Meaning::Import(path));
        }
        for name in items.iter().filter_map(defined) {
            names.entry(name).or_default().push(Meaning::Own);
        }
        self.modules.push(Module {
            file: file.to_owned(),
            parent,
            items: Vec::new(),
            names,
            globs: uses.globs,
        });
        for item in &mut items {
            let Item::Mod(child) = item else { continue };
            let name = child.ident.to_string();
            let below_child = format!("{below}{name}/");
            let added = if let Some((_, items)) = child.content.take() {
                self.add(files, file, &below_child, Some(number), items)
            } else {
                let beside = format!("{below}{name}.rs");
                let path = if files.contains_key(&beside) { beside } else { format!("{below_child}mod.rs") };
                self.add_file(files, &path, &below_child, Some(number))
            };
            self.modules[number].names.entry(name).or_default().push(Meaning::Child(added));
        }
        self.modules[number].items = items;
        number
    }

    /// Where a path leads to, seen from a module; nowhere if it leads out of the crate.
    fn follow(&self, module: usize, path: &[String], seen: &mut HashSet<(usize, String)>) -> Vec<Place> {
        let Some((first, rest)) = path.split_first() else { return vec![] };
        let mut places = match first.as_str() {
            "crate" => vec![Place::Module(0)],
            "self" => vec![Place::Module(module)],
            "super" => self.modules[module].parent.map(Place::Module).into_iter().collect(),
            name => self.look_up(module, name, seen),
        };
        for name in rest {
            places = places
                .into_iter()
                .flat_map(|place| match place {
                    Place::Module(m) if name == "super" => {
                        self.modules[m].parent.map(Place::Module).into_iter().collect()
                    }
                    Place::Module(m) => self.look_up(m, name, seen),
                    Place::Inside(_) => vec![place],
                })
                .collect();
        }
        places
    }

    fn look_up(&self, module: usize, name: &str, seen: &mut HashSet<(usize, String)>) -> Vec<Place> {
        if !seen.insert((module, name.to_owned())) {
            return vec![];
        }
        let mut places = Vec::new();
        for meaning in self.modules[module].names.get(name).into_iter().flatten() {
            match meaning {
                Meaning::Own => places.push(Place::Inside(module)),
                Meaning::Child(child) => places.push(Place::Module(*child)),
                Meaning::Import(path) => places.extend(self.follow(module, path, seen)),
            }
        }
        if places.is_empty() {
            for path in &self.modules[module].globs {
                for place in self.follow(module, path, seen) {
                    if let Place::Module(m) = place {
                        places.extend(self.look_up(m, name, seen));
                    }
                }
            }
        }
        seen.remove(&(module, name.to_owned()));
        places
    }

    fn is_below(&self, module: usize, above: usize) -> bool {
        self.modules[module].parent.is_some_and(|parent| parent == above || self.is_below(parent, above))
    }
}

/// Reads the imports of one module.
struct Reader<'a> {
    tree: &'a Tree,
    module: usize,
    imports: &'a mut Imports,
}

impl Reader<'_> {
    fn follow(&mut self, path: &[String]) -> Vec<usize> {
        let places = self.tree.follow(self.module, path, &mut HashSet::new());
        if places.is_empty() && ["crate", "self", "super"].contains(&path[0].as_str()) && path.len() > 1 {
            self.imports.lost.push(format!("{}: {}", self.tree.modules[self.module].file, path.join("::")));
        }
        let inside = |place| match place {
            Place::Inside(module) => Some(module),
            Place::Module(_) => None,
        };
        places.into_iter().filter_map(inside).collect()
    }

    fn uses(&mut self, module: usize, path: &[String]) {
        let (from, to) = (&self.tree.modules[self.module].file, &self.tree.modules[module].file);
        if from != to {
            let uses = self.imports.of.entry(from.clone()).or_default();
            uses.entry(to.clone()).or_insert_with(|| path.join("::"));
        }
    }

    fn path(&mut self, path: &[String]) {
        for module in self.follow(path) {
            self.uses(module, path);
        }
    }

    /// The paths among tokens that are not parsed: what is given to macros and attributes.
    fn tokens(&mut self, tokens: TokenStream, literals: bool) {
        let mut tokens = tokens.into_iter().peekable();
        let mut path: Names = Vec::new();
        let (mut colons, mut member) = (0, false);
        loop {
            let token = tokens.next();
            match &token {
                Some(TokenTree::Ident(name)) if colons == 2 && !path.is_empty() => {
                    path.push(name.to_string());
                }
                Some(TokenTree::Punct(p)) if p.as_char() == ':' && colons < 2 => {
                    colons += 1;
                    continue;
                }
                _ => {
                    if !path.is_empty() && !member {
                        self.path(&path);
                    }
                    path.clear();
                    member = false;
                    match token {
                        Some(TokenTree::Ident(name)) if colons != 2 => path.push(name.to_string()),
                        Some(TokenTree::Punct(p)) if p.as_char() == '.' => {
                            // A field or a method, but for `..name` and `..=name`.
                            let next = matches!(tokens.peek(), Some(TokenTree::Ident(_)));
                            member = next;
                            if let (true, Some(TokenTree::Ident(name))) = (next, tokens.next()) {
                                path.push(name.to_string());
                            }
                        }
                        Some(TokenTree::Group(group)) => self.tokens(group.stream(), literals),
                        Some(TokenTree::Literal(literal)) if literals => {
                            if let Ok(path) = syn::parse_str::<syn::LitStr>(&literal.to_string())
                                .and_then(|s| s.parse::<syn::Path>())
                            {
                                self.visit_path(&path);
                            }
                        }
                        Some(_) => {}
                        None => return,
                    }
                }
            }
            colons = 0;
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !only_in_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !only_in_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    /// A module inside the file is read by itself.
    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let mut uses = Uses::default();
        uses.visit_item_use(item);
        let shown = !matches!(item.vis, Visibility::Inherited);
        for path in uses.names.into_iter().map(|(_, path)| path).chain(uses.globs) {
            for module in self.follow(&path) {
                if !shown || !self.tree.is_below(module, self.module) {
                    self.uses(module, &path);
                }
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.path(&names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone(), false);
    }

    /// Attributes name code in strings, too: `#[serde(default = "path")]`.
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone(), true);
        }
    }
}

/// The `use` declarations of a module, those inside of its functions among them.
#[derive(Default)]
struct Uses {
    /// Names and what they stand for.
    names: Vec<(String, Names)>,
    globs: Vec<Names>,
}

impl Uses {
    fn add(&mut self, tree: &UseTree, mut before: Names) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add(&path.tree, before);
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add(tree, before.clone())),
            UseTree::Glob(_) => self.globs.push(before),
            UseTree::Name(name) => self.name(&name.ident.to_string(), None, before),
            UseTree::Rename(name) => {
                self.name(&name.ident.to_string(), Some(name.rename.to_string()), before);
            }
        }
    }

    fn name(&mut self, name: &str, renamed: Option<String>, mut path: Names) {
        if name != "self" {
            path.push(name.to_owned());
        }
        let name = renamed.unwrap_or_else(|| path[path.len() - 1].clone());
        // `use serde;` names a crate, which is not looked for in this one.
        if path.len() > 1 || path[0] != name {
            self.names.push((name, path));
        }
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() && !only_in_tests(&item.attrs) {
            self.add(&item.tree, Vec::new());
        }
    }
}

fn only_in_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn defined(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Macro(item) => item.ident.as_ref()?.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        _ => return None,
    })
}

fn example(files: &[(&str, &str)]) -> Imports {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    let imports = Imports::read(&files);
    assert!(imports.lost.is_empty(), "{:?}", imports.lost);
    imports
}

fn arrows(imports: &Imports) -> Vec<String> {
    imports.all().map(|(from, to, _)| format!("{from} -> {to}")).collect()
}

#[test]
fn every_form_of_a_path_is_an_import() {
    let forms = [
        "use super::b::f;",
        "use super::b::{self, f};\nfn g() { b::f() }",
        "use crate::{b::{T as U}};",
        "use self::super::b::f;",
        "fn g() { super::b::f() }",
        "fn g() { use crate::b; b::f() }",
        "use super::*;\nfn g() { b::f() }",
        "use super::b::*;\nfn g() { f() }",
        "fn g(_: Vec<crate::b::T>) {}",
        "fn g() { println!(\"{}\", super::b::f()) }",
        "fn g() { assert!(vec![1].iter().all(|x| x == super::b::f())) }",
        "use super::b;\nfn g() { vec![..b::f()] }",
        "#[serde(default = \"super::b::f\")]\nstruct S;",
        "#[arg(parser = super::b::f)]\nstruct S;",
        "impl crate::b::T { }",
        "fn g() { crate::b::T::new() }",
        "mod inner { use super::super::b::f; }",
    ];
    for form in forms {
        let files = [("lib.rs", "mod a;\nmod b;"), ("a.rs", form), ("b.rs", "pub struct T;\npub fn f() {}")];
        assert_eq!(arrows(&example(&files)), ["a.rs -> b.rs"], "{form}");
    }
}

#[test]
fn other_crates_declarations_members_and_tests_are_no_imports() {
    let forms = [
        "use std::b::f;\nuse b;",
        "use ::b::f;",
        "fn g(x: X) { x.f() }",
        "fn g(x: X) { println!(\"{}\", x.f()) }",
        "use super::b;",
        "#[cfg(test)]\nmod tests { use crate::b::f; }",
        "#[cfg(test)]\nmod tests;",
        "#[cfg(test)]\nuse crate::b::f;",
        "impl X { #[cfg(test)]\nfn g() { crate::b::f() } }",
        "/// [`crate::b::f`]\nfn g() { \"crate::b::f\" }",
    ];
    for form in forms {
        let files = [("lib.rs", "mod a;\nmod b;"), ("a.rs", form), ("b.rs", "pub fn f() {}")];
        assert!(arrows(&example(&files)).is_empty(), "{form}");
    }
}

#[test]
fn a_name_is_followed_to_the_file_that_defines_it() {
    let files = [
        ("lib.rs", "pub mod room;\nmod user;"),
        ("room/mod.rs", "mod a;\nmod b;\nmod deep;\npub use a::f;\npub use b::*;\npub use deep::{h, low};"),
        ("room/a.rs", "use super::g;\npub fn f() {}"),
        ("room/b.rs", "pub fn g() {}"),
        ("room/deep.rs", "pub mod low;\npub use self::low::T as h;"),
        ("room/deep/low.rs", "pub struct T;"),
        ("user.rs", "use crate::room::{self, h, low};\nfn x() { room::f(); low::T::new() }"),
    ];
    let expected = ["room/a.rs -> room/b.rs", "user.rs -> room/a.rs", "user.rs -> room/deep/low.rs"];
    assert_eq!(arrows(&example(&files)), expected);
}

#[test]
fn a_module_and_its_children_may_be_a_circle() {
    let declares = [("lib.rs", "mod a;\npub use a::f;"), ("a.rs", "pub fn f() {}\nfn g() { crate::f() }")];
    assert!(example(&declares).circles().is_empty());

    for code in ["fn h() { f() }", "fn h() { a::f() }", "use a::f as k;"] {
        let lib = format!("mod a;\npub use a::f;\npub struct T;\n{code}");
        let imports = example(&[("lib.rs", &lib), ("a.rs", "use super::T;\npub fn f() {}")]);
        assert_eq!(imports.circle("a.rs").as_deref(), Some("a.rs -> lib.rs -> a.rs"), "{code}");
    }
}

#[test]
fn circles_are_found_and_named() {
    let files = [
        ("lib.rs", "mod a;\nmod b;\nmod c;\nmod d;\nmod e;"),
        ("a.rs", "use crate::b::B;\npub struct A;"),
        ("b.rs", "use crate::c::C;\npub struct B;"),
        ("c.rs", "use crate::a::A;\npub struct C;"),
        ("d.rs", "use crate::{a::A, e::E};\npub struct D;"),
        ("e.rs", "use crate::d::D;\npub struct E;"),
    ];
    let imports = example(&files);
    let groups: Vec<Vec<String>> =
        imports.circles().into_iter().map(|group| group.into_iter().collect()).collect();
    assert_eq!(groups, [vec!["a.rs", "b.rs", "c.rs"], vec!["d.rs", "e.rs"]]);
    assert_eq!(imports.circle("a.rs").as_deref(), Some("a.rs -> b.rs -> c.rs -> a.rs"));
    assert_eq!(imports.circle("d.rs").as_deref(), Some("d.rs -> e.rs -> d.rs"));
    assert_eq!(imports.circle("lib.rs"), None);
}

#[test]
fn a_path_that_leads_nowhere_is_told() {
    let files = BTreeMap::from([("lib.rs".to_owned(), "use crate::nothing::X;".to_owned())]);
    assert_eq!(Imports::read(&files).lost, ["lib.rs: crate::nothing::X"]);
}
