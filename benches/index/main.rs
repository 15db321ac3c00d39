//! Retrieval measured as whole runs: the tables of docs/retrieval.md, from ordinary commands on made-up databases.
//!
//! `bash benches/retrieval.sh` does it. `cargo bench --bench index -- SIZE...` prints the tables of some numbers of models
//! and leaves the document as it is; without SIZE it takes 2,000. `HUBPRINT_RETRIEVAL_DIR` names a folder where the
//! databases are kept from run to run.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its tables and stops at what is wrong"
)]

#[path = "../shared/document.rs"]
mod document;
mod methods;
mod whole;

use std::path::{Path, PathBuf};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/retrieval.md");

/// Fewest models that growth is told from, where more were measured as well: below, what a query takes in any case hides
/// what it takes for each model.
const GROWS_FROM: usize = 10_000;

/// How a cost grows with the number of models, from (models, cost) in the order of the models.
fn growth(costs: &[(usize, f64)]) -> Option<String> {
    let (last, smaller) = costs.split_last()?;
    let first = smaller.iter().find(|cost| cost.0 >= GROWS_FROM).or(smaller.first())?;
    let exponent = (last.1 / first.1).ln() / (last.0 as f64 / first.0 as f64).ln();
    Some(format!("N^{exponent:.2} from {} to {} models", first.0, last.0))
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["--one", method, folder] => return println!("{}", methods::one(method, Path::new(folder))),
        ["--timed", ..] => return println!("{}", whole::timed(&words[1..])),
        ["--open", folder] => return println!("{}", whole::opened(Path::new(folder))),
        _ => {}
    }
    let writes = words.first() == Some(&"--write");
    let mut sizes: Vec<usize> =
        words.iter().skip(usize::from(writes)).map(|size| size.parse().unwrap()).collect();
    if sizes.is_empty() {
        sizes.push(2000);
    }
    sizes.sort_unstable();
    let temporary = tempfile::tempdir().unwrap();
    // Kept from run to run where a place is named.
    let folder =
        std::env::var_os("HUBPRINT_RETRIEVAL_DIR").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let runs: Vec<whole::Run> =
        sizes.iter().map(|size| whole::run(*size, &folder.join(size.to_string()))).collect();
    let folders: Vec<(usize, PathBuf)> = runs.iter().map(|run| (run.models, run.folder.clone())).collect();
    // Each is told before the next is made: the other methods take longest by far.
    let tables: [(&str, &dyn Fn() -> String); 4] = [
        ("whole", &|| whole::table(&runs)),
        ("recall", &|| whole::recall(&runs)),
        ("kit", &|| whole::beside_the_kit(&runs)),
        ("methods", &|| methods::table(&folders)),
    ];
    for (name, table) in tables {
        let text = table();
        println!("{text}");
        if writes {
            document::replace(Path::new(DOCUMENT), name, &text);
        }
    }
}
