//! A parquet file's footer: where the images and the labels lie, and what the classes are called.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::column::Number;
use super::schema::{Features, Leaf, image_column, label_column, leaves};
use super::thrift::{self, Value};
use crate::foreign::{HEAD_BYTES, describe};

/// The largest footer accepted.
const MAX_FOOTER_BYTES: u64 = 1 << 24;
/// The most rows accepted in one file: a claim beyond is not allocated for.
const MAX_ROWS: usize = 1 << 24;

const MAGIC: &[u8; 4] = b"PAR1";

/// What the footer says.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) groups: Vec<Group>,
    /// The type of the labels; `None` where they are text.
    pub(super) label_type: Option<Number>,
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
    pub(super) listed: bool,
}

/// Reads the footer of an open file.
pub(super) fn read(file: &mut File) -> Result<Footer, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut head = Vec::new();
    file.take(HEAD_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(text)?;
    if let Some(kind) = describe(&head).filter(|_| !head.starts_with(MAGIC)) {
        return Err(format!("it is {kind}"));
    }
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
    let label = label_column(&leaves, image, &features)?;
    for column in [image, label] {
        if leaves[column].max_repetition > 1 {
            return Err(format!(
                "its column {} holds lists of lists",
                leaves[column].name
            ));
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
        let images = place(&columns[image], &leaves[image], body_end)?;
        let labels = place(&columns[label], &leaves[label], body_end)?;
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
        label_type: leaves[label].number(),
        class_names: features.class_names(&leaves[label].name),
    })
}

fn place(column: &Value, leaf: &Leaf, body_end: u64) -> Result<Place, String> {
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
        max_definition: leaf.max_definition,
        listed: leaf.max_repetition > 0,
    })
}
