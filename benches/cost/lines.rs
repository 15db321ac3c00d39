//! Seconds of one model over lines of several lengths and widths.

use super::hub::{Hub, crawl};
use super::shapes::SHAPES;
use super::{Work, seconds, table};

/// Latency of a request in milliseconds, and Mbit/s; 0 is no limit.
const LINES: [(u64, u64); 7] = [(0, 0), (0, 1000), (30, 1000), (100, 1000), (0, 100), (30, 100), (100, 100)];

pub(crate) fn tables(work: &Work) -> String {
    let mut rows = Vec::new();
    for shape in SHAPES {
        let folder = work.checkpoint(shape);
        let mut row = vec![shape.to_owned()];
        for (latency, mbit) in LINES {
            let line = [format!("line.latency_ms={latency}"), format!("line.mbit_per_second={mbit}.0")];
            let hub = Hub::serve(&folder, &line);
            row.push(seconds(crawl(&hub.url, ["", ""]).took.seconds));
        }
        rows.push(row);
    }
    let names: Vec<String> = LINES
        .iter()
        .map(|(latency, mbit)| {
            let width = match mbit {
                0 => "no limit".to_owned(),
                1000 => "1 Gbit/s".to_owned(),
                n => format!("{n} Mbit/s"),
            };
            format!("{latency} ms, {width}")
        })
        .collect();
    let head: Vec<&str> = std::iter::once("shape").chain(names.iter().map(String::as_str)).collect();
    table(&head, &rows)
}
