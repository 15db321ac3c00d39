//! The source tree is what `src/lib.rs` says it is.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use crate::support::{files_below, read};

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &Path) -> String {
    String::from_utf8(read(path)).unwrap()
}

/// The folders of src/, in the order in which they may use each other.
fn folders() -> Vec<String> {
    let lib = text(&source("src/lib.rs"));
    let (_, list) = lib.split_once("each on those before it").expect("lib.rs has the list of folders");
    let list = list.split("\n\n").next().unwrap();
    let name = pattern(r"\[`(\w+)`\]");
    name.captures_iter(list).map(|found| found[1].to_owned()).collect()
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

static UNINTERESTING: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(?m)//.*$|"(?:[^"\\]|\\.)*""#));
static PLAIN: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bcrate::(\w+)"));
static GROUPED: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?s)\bcrate::\{(.*?)\};"));
static INNER: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:^|,)\s*(\w+)"));
static NESTED: LazyLock<Regex> = LazyLock::new(|| pattern(r"\{[^{}]*\}"));

/// The code of a file without comments and string literals, which may name anything.
fn code(path: &Path) -> String {
    UNINTERESTING.replace_all(&text(path), "").into_owned()
}

/// The folders that a piece of code names: `crate::x::...` and `crate::{x::..., y}`.
fn used(code: &str) -> Vec<String> {
    let mut found: Vec<String> = PLAIN.captures_iter(code).map(|m| m[1].to_owned()).collect();
    for group in GROUPED.captures_iter(code) {
        let mut flat = group[1].to_owned();
        while NESTED.is_match(&flat) {
            flat = NESTED.replace_all(&flat, "").into_owned();
        }
        found.extend(INNER.captures_iter(&flat).map(|m| m[1].to_owned()));
    }
    found
}

#[test]
fn imports_are_found_in_every_form() {
    let example = "use crate::hub::{Hub, Id};\nuse crate::{\n    signals::{a, b},\n    store,\n};\nlet x = crate::formats::f();";
    assert_eq!(used(example), ["hub", "formats", "signals", "store"]);
}

#[test]
fn folders_use_only_those_before_them() {
    let order = folders();
    let mut listed = order.clone();
    listed.sort();
    let mut present: Vec<String> = std::fs::read_dir(source("src"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    present.sort();
    assert_eq!(listed, present, "lib.rs lists the folders of src/");

    let mut wrong = Vec::new();
    let mut checked = 0;
    for (place, folder) in order.iter().enumerate() {
        for path in files_below(&source("src").join(folder)) {
            for name in used(&code(&path)) {
                checked += 1;
                let own = name == *folder;
                let before = order.iter().position(|other| *other == name).is_some_and(|other| other < place);
                if !own && !before {
                    wrong.push(format!("{} uses crate::{name}", path.display()));
                }
            }
        }
    }
    assert!(checked > 50, "only {checked} imports found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_local_hub_stands_alone() {
    for path in files_below(&source("src/local_hub")) {
        for name in used(&code(&path)) {
            assert!(
                ["local_hub", "formats"].contains(&name.as_str()),
                "{} uses crate::{name}",
                path.display()
            );
        }
    }
}

#[test]
fn only_the_printer_writes_to_stdout_and_stderr() {
    let output = pattern(r"\be?print(ln)?!|\bio::std(out|err)\(\)\.lock|\bdbg!");
    let found: Vec<PathBuf> =
        files_below(&source("src")).into_iter().filter(|path| output.is_match(&code(path))).collect();
    assert_eq!(found, [source("src/cli/printer.rs")]);
}

#[test]
fn stages_have_one_name_in_the_table_the_module_and_the_tests() {
    let lib = text(&source("src/lib.rs"));
    let row = pattern(r"(?m)^//! \| (\w+) \| \[`(\w+)::(\w+)`\]");
    let mut stages = Vec::new();
    for found in row.captures_iter(&lib) {
        let (stage, room) = (&found[1], &found[2]);
        assert_eq!(stage, &found[3]);
        let file = source("src").join(room).join(stage).with_extension("rs");
        let file = if file.is_file() { file } else { source("src").join(room).join(stage).join("mod.rs") };
        assert!(
            text(&file).starts_with(&format!("//! {stage}: ")),
            "the file of {stage} begins with its name"
        );
        // plan is pure: its tests are beside it.
        let tests = source("tests/it").join(stage).with_extension("rs");
        assert!(stage == "plan" || tests.is_file(), "no integration tests of stage {stage}");
        stages.push(stage.to_owned());
    }
    assert_eq!(stages.len(), 9, "{stages:?}");
}
