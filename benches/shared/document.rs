//! The tables of a document that a bench rewrites.

use std::path::Path;

use hubprint::store::atomic;

/// Puts a text between the marks of a section.
pub(crate) fn replace(document: &Path, name: &str, text: &str) {
    let before = std::fs::read_to_string(document).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let from = before.find(&begin).unwrap() + begin.len();
    let to = before.find(&end).unwrap();
    let after = format!("{}\n{}\n{}", &before[..from], text.trim_end(), &before[to..]);
    atomic::write(document, after.as_bytes()).unwrap();
}

/// A Markdown table, numbers to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head.iter().map(|cell| (*cell).to_owned()).collect());
    text += &line((0..head.len()).map(|i| if i == 0 { "---".into() } else { "---:".into() }).collect());
    text += &rows.iter().cloned().map(line).collect::<String>();
    text
}

/// Bytes for people: three digits and a decimal unit.
pub(crate) fn bytes(n: f64) -> String {
    let (value, unit) = match n {
        n if n >= 1e9 => (n / 1e9, "GB"),
        n if n >= 1e6 => (n / 1e6, "MB"),
        n => (n / 1e3, "KB"),
    };
    let digits = usize::from(value < 10.0) + usize::from(value < 100.0 && unit != "KB");
    format!("{value:.digits$} {unit}")
}

/// Seconds for people.
pub(crate) fn seconds(n: f64) -> String {
    match n {
        n if n >= 86_400.0 => format!("{:.1} d", n / 86_400.0),
        n if n >= 7200.0 => format!("{:.1} h", n / 3600.0),
        n if n >= 100.0 => format!("{n:.0} s"),
        n if n >= 1.0 => format!("{n:.1} s"),
        n => format!("{:.0} ms", n * 1000.0),
    }
}
