//! export: who descends from whom, as a list of edges for other tools.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{Float32Type, Float64Type};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use serde::Serialize;

use crate::retrieval::LINEAGE;
use crate::retrieval::tables::{self, Lineage, Named};
use crate::store::schema::{Summary, numbers, text};
use crate::store::{Database, StoreError, atomic, checkpoint_name, shard};

/// Two checkpoints with a link that the weights confirm. The older one is the source, as far as dates are known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Edge {
    /// The repository of the older one, or of the one that was known first, by its name of today.
    pub source: String,
    /// That of the younger one.
    pub target: String,
    /// `copy`: the same content; `link`: shared weights.
    pub kind: &'static str,
    /// Name of the family.
    pub family: String,
    /// Mean correlation of the weights; 1 for copies.
    pub correlation: f32,
    /// Of the link, corrected; none for copies, and where a member was placed by its vector beside its head.
    pub p_value: Option<f64>,
    /// Whether the target's card names the source as its base.
    pub declared: bool,
    /// Licence of the source, as its card has it.
    pub source_license: Option<String>,
    /// Licence of the target.
    pub target_license: Option<String>,
    /// The Hub's immutable id of the source: names change, and are used again.
    pub source_hub_id: String,
    /// That of the target.
    pub target_hub_id: String,
    /// Which checkpoint of the source; empty for the main one.
    pub source_component: String,
    /// Which one of the target.
    pub target_component: String,
}

/// Summaries by immutable id and component.
type Summaries = HashMap<(String, String), Summary>;

/// All edges of the database's index.
pub fn edges(db: &Database) -> Result<Vec<Edge>, StoreError> {
    let missing = || StoreError::NoIndex { path: db.location().to_string().into() };
    let index = db.manifest().index.as_ref().ok_or_else(missing)?;
    let entry = index.files.get(LINEAGE).ok_or_else(missing)?;
    let path = db.files().local(entry)?;
    entry.verify(&path)?;
    let key = |summary: &Summary| (summary.hub_id.clone(), summary.component.clone());
    let live = db.live()?;
    let summaries: Summaries =
        db.summaries(&live)?.into_iter().map(|summary| (key(&summary), summary)).collect();
    // The index may be of before its name became that of another repository, of which a compaction keeps nothing.
    let is_dead = |hub_id: &String| live.of(hub_id).is_none_or(|known| known.is_superseded);
    let is_live = |edge: &Edge| ![&edge.source_hub_id, &edge.target_hub_id].into_iter().any(is_dead);
    let edges = tables::read_lineage(&path)?;
    Ok(edges.iter().filter_map(|lineage| edge(lineage, &summaries)).filter(is_live).collect())
}

fn edge(lineage: &Lineage, summaries: &Summaries) -> Option<Edge> {
    let (other, kind, correlation, p_value) = match (&lineage.copy_of, &lineage.linked_to) {
        (Some(copy), _) => (copy, "copy", 1.0, None),
        (None, Some(linked)) => (linked, "link", lineage.correlation?, lineage.p_value),
        (None, None) => return None,
    };
    let summary = |of: &Named| summaries.get(&(of.hub_id.clone(), of.component.clone()));
    let age = |of: &Named| summary(of)?.created_at;
    let (mut source, mut target) = (other, &lineage.this);
    if let (Some(a), Some(b)) = (age(source), age(target))
        && b < a
    {
        std::mem::swap(&mut source, &mut target);
    }
    let license = |of: &Named| summary(of)?.license.clone();
    let name = |of: &Named| summary(of).map_or(&of.repo_id, |summary| &summary.repo_id).clone();
    // A card may name it as it was called then.
    let names = [&source.repo_id, &name(source)];
    let declares = |summary: &Summary| summary.declared_bases.iter().any(|base| names.contains(&base));
    Some(Edge {
        declared: summary(target).is_some_and(declares),
        source_license: license(source),
        target_license: license(target),
        source: name(source),
        target: name(target),
        source_hub_id: source.hub_id.clone(),
        target_hub_id: target.hub_id.clone(),
        source_component: source.component.clone(),
        target_component: target.component.clone(),
        kind,
        family: lineage.family.clone(),
        correlation,
        p_value,
    })
}

/// As Parquet.
pub fn write_parquet(edges: &[Edge], path: &Path) -> Result<(), StoreError> {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("source", text(edges.iter().map(|e| Some(&e.source)))),
        ("target", text(edges.iter().map(|e| Some(&e.target)))),
        ("kind", text(edges.iter().map(|e| Some(e.kind)))),
        ("family", text(edges.iter().map(|e| Some(&e.family)))),
        ("correlation", numbers::<Float32Type>(edges.iter().map(|e| Some(e.correlation)))),
        ("p_value", numbers::<Float64Type>(edges.iter().map(|e| e.p_value))),
        ("declared", std::sync::Arc::new(edges.iter().map(|e| Some(e.declared)).collect::<BooleanArray>())),
        ("source_license", text(edges.iter().map(|e| e.source_license.as_ref()))),
        ("target_license", text(edges.iter().map(|e| e.target_license.as_ref()))),
        ("source_hub_id", text(edges.iter().map(|e| Some(&e.source_hub_id)))),
        ("target_hub_id", text(edges.iter().map(|e| Some(&e.target_hub_id)))),
        ("source_component", text(edges.iter().map(|e| Some(&e.source_component)))),
        ("target_component", text(edges.iter().map(|e| Some(&e.target_component)))),
    ];
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, a)| (name, a, true)));
    shard::write_batch(path, &batch.map_err(StoreError::damaged(path))?)
}

/// As comma-separated values with a line of names.
pub fn write_csv(edges: &[Edge], path: &Path) -> Result<(), StoreError> {
    atomic::write_with(path, |file| {
        let mut writer = csv::Writer::from_writer(std::io::BufWriter::new(file));
        for edge in edges {
            writer.serialize(edge).map_err(|e| StoreError::io(path)(e.into()))?;
        }
        writer.flush().map_err(StoreError::io(path))
    })
}

/// As GraphML, a node for each checkpoint: its id is the Hub's with its component, if it has one, its name an attribute.
pub fn write_graphml(edges: &[Edge], path: &Path) -> Result<(), StoreError> {
    atomic::write_with(path, |file| {
        graphml(edges, std::io::BufWriter::new(file)).map_err(StoreError::io(path))
    })
}

/// Attributes of an edge: name, type, value.
fn attributes(edge: &Edge) -> [(&'static str, &'static str, Option<String>); 7] {
    [
        ("kind", "string", Some(edge.kind.to_owned())),
        ("family", "string", Some(edge.family.clone())),
        ("correlation", "float", Some(edge.correlation.to_string())),
        ("p_value", "double", edge.p_value.map(|p| p.to_string())),
        ("declared", "boolean", Some(edge.declared.to_string())),
        ("source_license", "string", edge.source_license.clone()),
        ("target_license", "string", edge.target_license.clone()),
    ]
}

fn graphml(edges: &[Edge], out: impl Write) -> std::io::Result<()> {
    let mut xml = Writer::new_with_indent(out, b' ', 1);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let root =
        BytesStart::new("graphml").with_attributes([("xmlns", "http://graphml.graphdrawing.org/xmlns")]);
    xml.write_event(Event::Start(root))?;
    let none = Edge {
        source: String::new(),
        target: String::new(),
        kind: "",
        family: String::new(),
        correlation: 0.0,
        p_value: None,
        declared: false,
        source_license: None,
        target_license: None,
        source_hub_id: String::new(),
        target_hub_id: String::new(),
        source_component: String::new(),
        target_component: String::new(),
    };
    xml.create_element("key")
        .with_attributes([("id", "name"), ("for", "node"), ("attr.name", "name"), ("attr.type", "string")])
        .write_empty()?;
    for (name, kind, _) in attributes(&none) {
        xml.create_element("key")
            .with_attributes([("id", name), ("for", "edge"), ("attr.name", name), ("attr.type", kind)])
            .write_empty()?;
    }
    let graph = BytesStart::new("graph").with_attributes([("id", "lineage"), ("edgedefault", "directed")]);
    xml.write_event(Event::Start(graph))?;
    let source = |e: &Edge, of: &str| checkpoint_name(of, &e.source_component);
    let target = |e: &Edge, of: &str| checkpoint_name(of, &e.target_component);
    let ends = edges.iter().flat_map(|e| {
        [
            (source(e, &e.source_hub_id), source(e, &e.source)),
            (target(e, &e.target_hub_id), target(e, &e.target)),
        ]
    });
    let nodes: BTreeMap<String, String> = ends.collect();
    for (id, name) in nodes {
        xml.create_element("node").with_attribute(("id", id.as_str())).write_inner_content(|xml| {
            let data = xml.create_element("data").with_attribute(("key", "name"));
            data.write_text_content(BytesText::new(&name)).map(drop)
        })?;
    }
    for edge in edges {
        xml.create_element("edge")
            .with_attributes([
                ("source", source(edge, &edge.source_hub_id).as_str()),
                ("target", target(edge, &edge.target_hub_id).as_str()),
            ])
            .write_inner_content(|xml| {
                for (name, _, value) in attributes(edge) {
                    if let Some(value) = value {
                        xml.create_element("data")
                            .with_attribute(("key", name))
                            .write_text_content(BytesText::new(&value))?;
                    }
                }
                Ok(())
            })?;
    }
    xml.write_event(Event::End(BytesEnd::new("graph")))?;
    xml.write_event(Event::End(BytesEnd::new("graphml")))?;
    xml.into_inner().flush()
}

/// Writes edges in the form that a file's ending names.
pub fn write(edges: &[Edge], path: &Path) -> Result<(), StoreError> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("csv") => write_csv(edges, path),
        Some("graphml") => write_graphml(edges, path),
        _ => write_parquet(edges, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges() -> Vec<Edge> {
        let edge = |target: &str, kind, p_value| Edge {
            source: "a/<base>&".into(),
            target: target.into(),
            kind,
            family: "0123".into(),
            correlation: 0.5,
            p_value,
            declared: true,
            source_license: Some("mit, or \"so\"".into()),
            target_license: None,
            source_hub_id: "id-<base>&".into(),
            target_hub_id: format!("id-{target}"),
            source_component: String::new(),
            target_component: String::new(),
        };
        let of_a_pipeline = Edge { target_component: "unet".into(), ..edge("b/y", "copy", None) };
        vec![edge("b/x", "link", Some(1e-9)), of_a_pipeline]
    }

    #[test]
    fn every_form_keeps_every_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["e.csv", "e.graphml", "e.parquet"] {
            write(&edges(), &path(name)).unwrap();
        }
        let csv = std::fs::read_to_string(path("e.csv")).unwrap();
        assert!(csv.starts_with(
            "source,target,kind,family,correlation,p_value,declared,source_license,target_license,source_hub_id,target_hub_id,source_component,target_component\n"
        ));
        let line = "a/<base>&,b/x,link,0123,0.5,1e-9,true,\"mit, or \"\"so\"\"\",,id-<base>&,id-b/x,,\n";
        assert!(csv.contains(line), "{csv}");
        let xml = std::fs::read_to_string(path("e.graphml")).unwrap();
        let mut reader = quick_xml::Reader::from_str(&xml);
        let mut nodes = Vec::new();
        loop {
            match reader.read_event().unwrap() {
                Event::Eof => break,
                Event::Start(e) if e.name().as_ref() == b"node" => {
                    let id = e.try_get_attribute("id").unwrap().unwrap();
                    nodes.push(id.normalized_value(quick_xml::XmlVersion::Explicit1_0).unwrap().into_owned());
                }
                _ => {}
            }
        }
        assert_eq!(nodes, ["id-<base>&", "id-b/x", "id-b/y[unet]"]);
        assert!(xml.contains(">a/&lt;base&gt;&amp;<") && xml.contains(">b/y[unet]<"), "{xml}");
        assert!(std::fs::metadata(path("e.parquet")).unwrap().len() > 100);
    }
}
