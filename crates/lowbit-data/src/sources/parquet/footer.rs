//! A parquet file's footer: where the images and the labels lie, and what the classes are called.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::thrift::{self, Value};

/// The largest footer accepted.
const MAX_FOOTER_BYTES: u64 = 1 << 24;
/// The most rows accepted in one file: a claim beyond is not allocated for.
const MAX_ROWS: usize = 1 << 24;

const MAGIC: &[u8; 4] = b"PAR1";

/// What the footer says.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) groups: Vec<Group>,
    /// Bytes of one label: 4 or 8.
    pub(super) label_width: usize,
    /// From the Hugging Face metadata, where the file has it.
    pub(super) class_names: Option<Vec<String>>,
}

/// A row group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) rows: usize,
    pub(super) images: Place,
    pub(super) labels: Place,
}

/// A column chunk in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) codec: i64,
    pub(super) max_definition: u32,
}

/// A column of the schema that holds values.
struct Leaf {
    path: String,
    kind: i64,
    max_definition: u32,
    repeated: bool,
}

const BYTE_ARRAY: i64 = 6;

/// Reads the footer of an open file.
pub(super) fn read(file: &mut File) -> Result<Footer, String> {
    let text = |error: std::io::Error| error.to_string();
    let file_len = file.metadata().map_err(text)?.len();
    if file_len < 12 {
        return Err(format!("{file_len} bytes are no parquet file"));
    }
    let mut tail = [0; 8];
    file.seek(SeekFrom::Start(file_len - 8)).map_err(text)?;
    file.read_exact(&mut tail).map_err(text)?;
    let [a, b, c, d, magic @ ..] = tail;
    if &magic != MAGIC {
        return Err(
            "it does not end as a parquet file does, so it is cut off or of another kind".into(),
        );
    }
    let footer_len = u64::from(u32::from_le_bytes([a, b, c, d]));
    let body_len = (file_len - 12).checked_sub(footer_len);
    let body_len = body_len.filter(|_| footer_len <= MAX_FOOTER_BYTES);
    let body_end = 4 + body_len.ok_or_else(|| format!("its footer claims {footer_len} bytes"))?;
    let mut bytes = vec![0; footer_len as usize];
    file.seek(SeekFrom::Start(body_end)).map_err(text)?;
    file.read_exact(&mut bytes).map_err(text)?;
    let (footer, _) = thrift::read(&bytes).map_err(|error| format!("its footer: {error}"))?;
    understand(&footer, body_end)
}

/// Reads the bytes of `place`.
pub(super) fn chunk(path: &Path, place: Place) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(place.start))?;
    let mut bytes = Vec::new();
    file.take(place.len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn understand(footer: &Value, body_end: u64) -> Result<Footer, String> {
    let leaves = leaves(footer.list(2))?;
    let features = Features::of(footer);
    let image = image_column(&leaves, &features)?;
    let label = label_column(&leaves, &features)?;
    for column in [image, label] {
        if leaves[column].repeated {
            return Err(format!("its column {} holds lists", leaves[column].path));
        }
    }
    let mut groups = Vec::new();
    let (mut rows_left, mut bytes_left) = (MAX_ROWS, body_end);
    for group in footer.list(4) {
        let rows = group
            .size(3)
            .ok_or("a row group without a number of rows")?;
        rows_left = rows_left
            .checked_sub(rows)
            .ok_or_else(|| format!("it claims more than {MAX_ROWS} rows"))?;
        let columns = group.list(1);
        if columns.len() != leaves.len() {
            return Err("a row group lacks columns".into());
        }
        let images = place(&columns[image], leaves[image].max_definition, body_end)?;
        let labels = place(&columns[label], leaves[label].max_definition, body_end)?;
        // Chunks do not overlap, so that a small file cannot stand for a large one.
        bytes_left = bytes_left
            .checked_sub(images.len)
            .and_then(|left| left.checked_sub(labels.len))
            .ok_or("its columns overlap")?;
        if rows > 0 {
            groups.push(Group {
                rows,
                images,
                labels,
            });
        }
    }
    Ok(Footer {
        groups,
        label_width: if leaves[label].kind == 1 { 4 } else { 8 },
        class_names: features.class_names(&leaves[label].path),
    })
}

fn leaves(schema: &[Value]) -> Result<Vec<Leaf>, String> {
    let mut leaves = Vec::new();
    // The enclosing structs: name, children left, definition level, repeated.
    let mut open: Vec<(String, usize, u32, bool)> = Vec::new();
    for (index, element) in schema.iter().enumerate() {
        let name = element.text(4).ok_or("a column without a name")?;
        let (mut path, definition, repeated) = match open.last_mut() {
            Some((path, left, definition, repeated)) => {
                *left -= 1;
                (path.clone(), *definition, *repeated)
            }
            None if index == 0 => (String::new(), 0, false),
            None => return Err("its schema has two roots".into()),
        };
        // 0 is required, 1 optional, 2 repeated; the root has none.
        let repetition = element.int(3).filter(|_| index > 0).unwrap_or(0);
        let definition = definition + u32::from(repetition != 0);
        let repeated = repeated || repetition == 2;
        if index > 0 {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
        }
        if open.len() > 16 {
            return Err("its columns nest too deep".into());
        }
        match element.size(5) {
            Some(children) if children > 0 => open.push((path, children, definition, repeated)),
            _ => leaves.push(Leaf {
                path,
                kind: element.int(1).unwrap_or(-1),
                max_definition: definition,
                repeated,
            }),
        }
        while open.last().is_some_and(|(_, left, _, _)| *left == 0) {
            open.pop();
        }
    }
    Ok(leaves)
}

fn image_column(leaves: &[Leaf], features: &Features) -> Result<usize, String> {
    let named = features.of_kind("Image");
    let usual = ["image", "img", "picture", "pixels"].map(str::to_owned);
    for name in named.iter().chain(&usual) {
        let inside = format!("{name}.bytes");
        let found =
            |leaf: &Leaf| leaf.kind == BYTE_ARRAY && (leaf.path == inside || leaf.path == *name);
        if let Some(index) = leaves.iter().position(found) {
            return Ok(index);
        }
    }
    Err(format!(
        "it has no column image.bytes with encoded images, but {}",
        listed(leaves)
    ))
}

fn label_column(leaves: &[Leaf], features: &Features) -> Result<usize, String> {
    let usual = ["label", "labels", "fine_label", "class", "target"].map(str::to_owned);
    for name in usual.iter().chain(&features.of_kind("ClassLabel")) {
        let found = |leaf: &Leaf| matches!(leaf.kind, 1 | 2) && leaf.path == *name;
        if let Some(index) = leaves.iter().position(found) {
            return Ok(index);
        }
    }
    Err(format!(
        "it has no column label with whole numbers, but {}",
        listed(leaves)
    ))
}

fn listed(leaves: &[Leaf]) -> String {
    let names: Vec<&str> = leaves.iter().take(8).map(|leaf| &*leaf.path).collect();
    match names.is_empty() {
        true => "no column at all".into(),
        false => names.join(", "),
    }
}

fn place(column: &Value, max_definition: u32, body_end: u64) -> Result<Place, String> {
    let about = column.get(3).ok_or("a column without its description")?;
    let offset = |id| about.size(id).filter(|&at| at > 0).map(|at| at as u64);
    let data = offset(9).ok_or("a column without a place")?;
    let start = offset(11).map_or(data, |dictionary| dictionary.min(data));
    let len = about.size(7).ok_or("a column without a length")? as u64;
    if start.checked_add(len).is_none_or(|end| end > body_end) {
        return Err("a column ends beyond the file".into());
    }
    Ok(Place {
        start,
        len,
        codec: about.int(4).ok_or("a column without a codec")?,
        max_definition,
    })
}

/// The data set's description that the Hugging Face libraries put into the file.
struct Features(serde_json::Value);

impl Features {
    fn of(footer: &Value) -> Self {
        let entry = footer
            .list(5)
            .iter()
            .find(|e| e.text(1) == Some("huggingface"));
        let json = entry.and_then(|entry| serde_json::from_str(entry.text(2)?).ok());
        let features =
            json.and_then(|json: serde_json::Value| json.pointer("/info/features").cloned());
        Self(features.unwrap_or_default())
    }

    /// The features of a kind, by name.
    fn of_kind(&self, kind: &str) -> Vec<String> {
        let features = self.0.as_object().into_iter().flatten();
        features
            .filter(|(_, about)| about.get("_type").is_some_and(|it| it == kind))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn class_names(&self, label: &str) -> Option<Vec<String>> {
        let names = self.0.get(label)?.get("names")?;
        // A list, or an object of numbers and names in older files.
        let name_at = |index: usize| match names.as_array() {
            Some(list) => list.get(index),
            None => names.get(index.to_string()),
        };
        let names: Vec<String> = (0..)
            .map_while(|index| Some(name_at(index)?.as_str()?.to_owned()))
            .collect();
        Some(names).filter(|names| !names.is_empty())
    }
}
