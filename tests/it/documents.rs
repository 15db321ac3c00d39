//! Documents lead somewhere: every relative link of every Markdown file.

use std::path::Path;

use regex::Regex;

use crate::support::{files_below, read};

#[test]
fn every_link_leads_to_a_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let link = Regex::new(r"\]\(([^)#\s]+)(#[^)\s]*)?\)").unwrap();
    let mut documents: Vec<_> =
        ["docs", "pipelines", "tests"].iter().flat_map(|f| files_below(&root.join(f))).collect();
    documents.extend(root.read_dir().unwrap().map(|entry| entry.unwrap().path()));
    documents.retain(|path| path.extension().is_some_and(|e| e == "md"));
    assert!(documents.len() > 10, "{documents:?}");
    let (mut links, mut dead) = (0, Vec::new());
    for document in documents {
        let text = String::from_utf8(read(&document)).unwrap();
        for to in link.captures_iter(&text).map(|found| found[1].to_owned()).filter(|to| !to.contains("://"))
        {
            links += 1;
            if !document.with_file_name(&to).exists() {
                dead.push(format!("{}: {to}", document.display()));
            }
        }
    }
    assert!(links > 20, "{links}");
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}
