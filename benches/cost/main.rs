//! What a fingerprint costs in bytes, requests, seconds and memory, and what other ways to look at the same models
//! cost: the tables of docs/cost.md, from real requests to the local Hub server.
//!
//! `bash benches/cost.sh` installs what it needs and rewrites the tables in the document. `cargo bench --bench cost --
//! SECTION...` with some of `shapes`, `formats`, `lines`, `night`, `small`, `early`, `evidence` makes only those and prints them.
//! Every measured command is a process of its own, so that processor time and peak memory are its own; the server is in this one.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its tables and stops at what is wrong"
)]

#[path = "../shared/document.rs"]
mod document;
mod early;
mod evidence;
mod hub;
mod lines;
mod night;
mod peers;
mod shapes;
mod small;

use std::path::{Path, PathBuf};

use document::{bytes, replace, seconds, table};

/// A section of the document and what makes its tables.
type Section = (&'static str, fn(&Work) -> String);

const SECTIONS: [Section; 7] = [
    ("shapes", shapes::tables),
    ("formats", shapes::formats),
    ("lines", lines::tables),
    ("night", night::tables),
    ("small", small::tables),
    ("early", early::tables),
    ("evidence", evidence::tables),
];
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cost.md");

/// Where checkpoints are kept: made once, used by all sections.
struct Work {
    folder: PathBuf,
}

impl Work {
    /// A Hub folder with one model, `made-up/SHAPE`.
    fn checkpoint(&self, shape: &str) -> PathBuf {
        self.made(shape, shape, &[]).0
    }

    /// A Hub folder with one model of a shape, and the model's name.
    fn made(&self, name: &str, shape: &str, options: &[&str]) -> (PathBuf, String) {
        let (folder, id) = (self.folder.join(name), model(shape));
        if !folder.is_dir() {
            eprintln!("making {name}");
            let to = folder.display().to_string();
            hub::hubprint(&[&["dev", "checkpoint", shape, "--to", &to, "--as", &id], options].concat());
        }
        (folder, id)
    }
}

/// The name of a shape's model.
fn model(shape: &str) -> String {
    format!("made-up/{shape}")
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [one, method, hub, id] = &args[..]
        && one == "--one"
    {
        println!("{}", peers::run(method, hub, id));
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    // Kept from run to run where a place is named.
    let folder =
        std::env::var_os("HUBPRINT_COST_DIR").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    let work = Work { folder };
    for (name, tables) in SECTIONS {
        if args.is_empty() || args.iter().any(|arg| arg == name) {
            let text = tables(&work);
            println!("{text}");
            if args.is_empty() {
                replace(Path::new(DOCUMENT), name, &text);
            }
        }
    }
}
