//! The source tree is what `src/lib.rs` says it is.

mod imports;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use self::imports::Imports;
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

/// The code of a file without comments and string literals, which may name anything.
fn code(path: &Path) -> String {
    UNINTERESTING.replace_all(&text(path), "").into_owned()
}

/// The imports between the files of src/, by their paths below it.
static IMPORTS: LazyLock<Imports> = LazyLock::new(|| {
    let root = source("src");
    let file = |path: PathBuf| (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), text(&path));
    Imports::read(&files_below(&root).into_iter().map(file).collect())
});

/// The folder of src/ that a file is in.
fn folder(file: &str) -> &str {
    file.split_once('/').map_or("", |(folder, _)| folder)
}

#[test]
fn every_path_is_understood() {
    let files = IMPORTS.files().count();
    assert!(files > 150, "only {files} files found");
    assert!(IMPORTS.lost.is_empty(), "{}", IMPORTS.lost.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut found = String::new();
    for group in &IMPORTS.circles() {
        let circles: BTreeSet<String> = group.iter().filter_map(|file| IMPORTS.circle(file)).collect();
        found += &format!("\n{}\n", group.iter().cloned().collect::<Vec<_>>().join(" "));
        for circle in circles {
            found += &format!("  {circle}\n");
        }
        for (from, to, path) in
            IMPORTS.all().filter(|(from, to, _)| group.contains(*from) && group.contains(*to))
        {
            found += &format!("    {from} uses {path} of {to}\n");
        }
    }
    assert!(found.is_empty(), "files import each other in circles:\n{found}");
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

    let place = |name: &str| order.iter().position(|other| other == name);
    let wrong: Vec<String> = IMPORTS
        .all()
        .filter(|(from, to, _)| place(folder(from)) < place(folder(to)))
        .map(|(from, _, path)| format!("{from} uses {path}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_local_hub_stands_alone() {
    for (from, to, path) in IMPORTS.all().filter(|(from, ..)| folder(from) == "local_hub") {
        assert!(["local_hub", "formats"].contains(&folder(to)), "{from} uses {path}");
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
