//! What a Parquet file's footer says: its columns, its row groups and what Hugging Face noted about its classes.
//!
//! Specification: apache/parquet-format, src/main/thrift/parquet.thrift; the numbers below are its field numbers.

use super::thrift::{Cursor, Value, structure};

/// How a column's bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Plain,
    Snappy,
    Gzip,
}

/// How a column's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Physical {
    Int32,
    Int64,
    Bytes,
}

/// One column's part of a row group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) start: usize,
    pub(crate) len: usize,
    pub(crate) values: usize,
    pub(crate) codec: Codec,
    pub(crate) physical: Physical,
    /// How many of the column's levels may be absent.
    pub(crate) optional_levels: u32,
}

/// The two columns of a row group that matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowGroup {
    pub(crate) rows: usize,
    pub(crate) images: Chunk,
    pub(crate) labels: Chunk,
}

/// A file's row groups and, where Hugging Face noted them, its class names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) groups: Vec<RowGroup>,
    pub(crate) class_names: Option<Vec<String>>,
}

/// A leaf of the schema: its path, what it holds and how many of its levels may be absent.
struct Leaf<'a> {
    path: Vec<&'a str>,
    kind: i64,
    optional_levels: u32,
    repeated: bool,
}

/// Reads the footer `bytes` of a file of `file_len` bytes.
pub(crate) fn read(bytes: &[u8], file_len: usize) -> Result<Footer, String> {
    let broken = || "its footer is broken".to_owned();
    let meta = structure(&mut Cursor { rest: bytes }).ok_or_else(broken)?;
    let leaves = leaves(meta.field(2).list()).ok_or_else(broken)?;
    let hint = class_label(&meta);
    let images = find_images(&leaves)?;
    let labels = find_labels(&leaves, hint.as_ref().map(|(name, _)| name.as_str()))?;
    let mut groups = Vec::new();
    let mut total = 0usize;
    for group in meta.field(4).list() {
        let rows = group.field(3).count().ok_or_else(broken)?;
        // Every image takes bytes, so a file has fewer rows than bytes: what claims more is not allocated for.
        total = total
            .checked_add(rows)
            .filter(|&total| total <= file_len)
            .ok_or_else(broken)?;
        let chunk = |leaf: usize| {
            let column = group.field(1).list().get(leaf).ok_or_else(broken)?;
            chunk(column.field(3), &leaves[leaf], rows, file_len)
        };
        groups.push(RowGroup {
            rows,
            images: chunk(images)?,
            labels: chunk(labels)?,
        });
    }
    Ok(Footer {
        groups,
        class_names: hint.map(|(_, names)| names),
    })
}

/// The schema's leaves in order; its list is the tree, parents before their children.
fn leaves<'a>(elements: &[Value<'a>]) -> Option<Vec<Leaf<'a>>> {
    let mut leaves = Vec::new();
    let mut open: Vec<(usize, &str, bool, bool)> = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let name = element.field(4).text()?;
        let children = element.field(5).count().unwrap_or(0);
        let repetition = element.field(3).int();
        let (optional, repeated) = (repetition == Some(1), repetition == Some(2));
        if children == 0 {
            let levels = open.iter().filter(|level| level.2).count() as u32;
            let mut path: Vec<&str> = open.iter().skip(1).map(|level| level.1).collect();
            path.push(name);
            leaves.push(Leaf {
                path,
                kind: element.field(1).int()?,
                optional_levels: levels + u32::from(optional),
                repeated: repeated || open.iter().any(|level| level.3),
            });
            while let Some(parent) = open.last_mut() {
                parent.0 -= 1;
                if parent.0 > 0 {
                    break;
                }
                open.pop();
            }
        } else {
            // The root's own repetition says nothing.
            open.push((children, name, index > 0 && optional, index > 0 && repeated));
        }
    }
    open.is_empty().then_some(leaves)
}

/// The leaf `image.bytes`, or the only one called `bytes`.
fn find_images(leaves: &[Leaf]) -> Result<usize, String> {
    let fits = |leaf: &Leaf| {
        leaf.path.len() == 2 && leaf.path[1] == "bytes" && leaf.kind == 6 && !leaf.repeated
    };
    ["image", "img"]
        .iter()
        .find_map(|name| leaves.iter().position(|l| fits(l) && l.path[0] == *name))
        .or_else(|| leaves.iter().position(fits))
        .ok_or_else(|| "it has no column image: {bytes, path}".to_owned())
}

/// The leaf that Hugging Face calls a class label, or `label`.
fn find_labels(leaves: &[Leaf], hint: Option<&str>) -> Result<usize, String> {
    let fits = |leaf: &Leaf| leaf.path.len() == 1 && matches!(leaf.kind, 1 | 2) && !leaf.repeated;
    hint.into_iter()
        .chain(["label", "labels", "fine_label"])
        .find_map(|name| leaves.iter().position(|l| fits(l) && l.path[0] == name))
        .ok_or_else(|| "it has no column label of whole numbers".to_owned())
}

fn chunk(meta: &Value, leaf: &Leaf, rows: usize, file_len: usize) -> Result<Chunk, String> {
    let name = leaf.path.join(".");
    let broken = || format!("its footer is broken at column {name}");
    let codec = match meta.field(4).int() {
        Some(0) => Codec::Plain,
        Some(1) => Codec::Snappy,
        Some(2) => Codec::Gzip,
        Some(other) => {
            let known = ["LZO", "Brotli", "LZ4", "Zstandard", "LZ4"];
            let found = usize::try_from(other - 3).ok().and_then(|at| known.get(at));
            return Err(format!(
                "column {name} is compressed by {}, known are snappy, gzip and none",
                found.unwrap_or(&"something unknown")
            ));
        }
        None => return Err(broken()),
    };
    let data = meta.field(9).count().ok_or_else(broken)?;
    let start = meta
        .field(11)
        .count()
        .filter(|&at| at > 0)
        .map_or(data, |at| at.min(data));
    let len = meta.field(7).count().ok_or_else(broken)?;
    if start.checked_add(len).is_none_or(|end| end > file_len)
        || meta.field(5).count() != Some(rows)
        || meta.field(1).int() != Some(leaf.kind)
    {
        return Err(broken());
    }
    Ok(Chunk {
        start,
        len,
        values: rows,
        codec,
        physical: match leaf.kind {
            1 => Physical::Int32,
            2 => Physical::Int64,
            _ => Physical::Bytes,
        },
        optional_levels: leaf.optional_levels,
    })
}

/// The first `ClassLabel` feature in the metadata of the key `huggingface`: its column and its class names.
fn class_label(meta: &Value) -> Option<(String, Vec<String>)> {
    let note = meta
        .field(5)
        .list()
        .iter()
        .find(|pair| pair.field(1).text() == Some("huggingface"))?;
    let note: serde_json::Value = serde_json::from_str(note.field(2).text()?).ok()?;
    let features = note.get("info")?.get("features")?.as_object()?;
    let known = ["label", "labels", "fine_label"];
    let mut labels: Vec<(&String, &Vec<serde_json::Value>)> = features
        .iter()
        .filter_map(|(name, feature)| Some((name, feature.get("names")?.as_array()?)))
        .collect();
    labels.sort_by_key(|(name, _)| {
        known
            .iter()
            .position(|known| known == name)
            .unwrap_or(known.len())
    });
    let (name, names) = labels.first()?;
    let names: Option<Vec<String>> = names
        .iter()
        .map(|name| name.as_str().map(str::to_owned))
        .collect();
    Some(((*name).clone(), names?))
}
