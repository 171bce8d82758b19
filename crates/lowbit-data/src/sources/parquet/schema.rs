//! A parquet file's columns: which holds the images and which the labels.

use super::column::Number;
use super::thrift::Value;

/// A column of the schema that holds values.
pub(super) struct Leaf {
    /// Its name, those of the structs around it before; what lists put in between is left out.
    pub(super) name: String,
    kind: i64,
    /// Whether its bytes are marked as text.
    text: bool,
    pub(super) max_definition: u32,
    pub(super) max_repetition: u32,
}

const BYTE_ARRAY: i64 = 6;

/// Names that images go by; those of WebDataset are the files' endings.
const IMAGES: [&str; 13] = [
    "image",
    "img",
    "picture",
    "pixels",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "image_bytes",
    "image_data",
    "bytes",
    "data",
    "content",
];
/// Names that labels go by.
const LABELS: [&str; 14] = [
    "label",
    "labels",
    "fine_label",
    "fine_labels",
    "cls",
    "class",
    "target",
    "targets",
    "category",
    "class_id",
    "label_id",
    "class_name",
    "label_name",
    "y",
];
/// Columns of text that name the image, not its class.
const ELSE: [&str; 8] = [
    "path",
    "file",
    "filename",
    "file_name",
    "image_path",
    "key",
    "id",
    "url",
];

impl Leaf {
    /// The type of its numbers, where it holds numbers.
    pub(super) fn number(&self) -> Option<Number> {
        Some(match self.kind {
            0 => Number::Bool,
            1 => Number::I32,
            2 => Number::I64,
            4 => Number::F32,
            5 => Number::F64,
            _ => return None,
        })
    }

    fn is_binary(&self) -> bool {
        self.kind == BYTE_ARRAY
    }

    /// The name of the struct around it, or its own.
    fn outer(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }
}

/// The columns of a schema that hold values, in the file's order.
pub(super) fn leaves(schema: &[Value]) -> Result<Vec<Leaf>, String> {
    let mut leaves = Vec::new();
    // The enclosing structs, and how many of their children are still to come.
    let mut open: Vec<(Around, usize)> = Vec::new();
    for (index, element) in schema.iter().enumerate() {
        let name = element.text(4).ok_or("a column without a name")?;
        let around = match open.last_mut() {
            Some((around, left)) => {
                *left -= 1;
                around.clone()
            }
            None if index == 0 => Around::default(),
            None => return Err("its schema has two roots".into()),
        };
        // 0 is required, 1 optional, 2 repeated; the root has none.
        let repetition = element.int(3).filter(|_| index > 0).unwrap_or(0);
        let around = around.with(if index > 0 { name } else { "" }, repetition);
        if open.len() > 16 {
            return Err("its columns nest too deep".into());
        }
        match element.size(5) {
            Some(children) if children > 0 => open.push((around, children)),
            _ => leaves.push(Leaf {
                kind: element.int(1).unwrap_or(-1),
                // ConvertedType UTF8, ENUM or JSON; LogicalType STRING, ENUM or JSON.
                text: matches!(element.int(6), Some(0 | 4 | 19))
                    || [1, 4, 12]
                        .iter()
                        .any(|&id| element.get(10).is_some_and(|it| it.get(id).is_some())),
                name: around.name,
                max_definition: around.definition,
                max_repetition: around.repetition,
            }),
        }
        while open.last().is_some_and(|(_, left)| *left == 0) {
            open.pop();
        }
    }
    Ok(leaves)
}

/// What a column inherits from the structs and lists around it.
#[derive(Clone, Default)]
struct Around {
    name: String,
    definition: u32,
    repetition: u32,
    /// Whether the parent is what repeats: its child is only called "element" or the like.
    in_list: bool,
}

impl Around {
    fn with(mut self, name: &str, repetition: i64) -> Self {
        self.definition += u32::from(repetition != 0);
        self.repetition += u32::from(repetition == 2);
        let wrapper =
            matches!(name, "element" | "item" | "array_element" | "array") && self.in_list;
        self.in_list = repetition == 2;
        if !(name.is_empty() || wrapper || repetition == 2 && !self.name.is_empty()) {
            if !self.name.is_empty() {
                self.name.push('.');
            }
            self.name.push_str(name);
        }
        self
    }
}

/// The column with encoded images: by the data set's description, by its name, or because no other can be.
pub(super) fn image_column(leaves: &[Leaf], features: &Features) -> Result<usize, String> {
    let named = features.of_kind("Image");
    let usual = IMAGES.map(str::to_owned);
    for name in named.iter().chain(&usual) {
        let inside = format!("{name}.bytes");
        let found = |leaf: &Leaf| {
            leaf.is_binary() && !leaf.text && (leaf.name == inside || leaf.name == *name)
        };
        if let Some(index) = leaves.iter().position(found) {
            return Ok(index);
        }
    }
    let binary = |leaf: &Leaf| leaf.is_binary() && !leaf.text;
    only(leaves, binary).ok_or_else(|| {
        let listed = listed(leaves);
        format!("it has no column like image.bytes or image with encoded images, but {listed}")
    })
}

/// The column with labels: by its name, by the data set's description, or because no other can be.
pub(super) fn label_column(
    leaves: &[Leaf],
    image: usize,
    features: &Features,
) -> Result<usize, String> {
    let beside = |leaf: &Leaf| leaf.outer() != leaves[image].outer();
    for name in LABELS
        .map(str::to_owned)
        .iter()
        .chain(&features.of_kind("ClassLabel"))
    {
        let found = |leaf: &Leaf| {
            beside(leaf) && leaf.name == *name && (leaf.number().is_some() || leaf.is_binary())
        };
        if let Some(index) = leaves.iter().position(found) {
            return Ok(index);
        }
    }
    let own = |leaf: &Leaf| beside(leaf) && !ELSE.contains(&leaf.outer().trim_matches('_'));
    let whole = |leaf: &Leaf| own(leaf) && matches!(leaf.number(), Some(Number::I32 | Number::I64));
    let text = |leaf: &Leaf| own(leaf) && leaf.text;
    let found = match leaves.iter().any(whole) {
        true => only(leaves, whole),
        false => only(leaves, text),
    };
    found.ok_or_else(|| {
        let listed = listed(leaves);
        format!("it has no column like label with whole numbers or names, but {listed}")
    })
}

/// The column that `fits`, if there is one alone.
fn only(leaves: &[Leaf], fits: impl Fn(&Leaf) -> bool) -> Option<usize> {
    let mut found = (0..leaves.len()).filter(|&index| fits(&leaves[index]));
    found.next().filter(|_| found.next().is_none())
}

fn listed(leaves: &[Leaf]) -> String {
    let names: Vec<&str> = leaves.iter().take(8).map(|leaf| &*leaf.name).collect();
    match names.is_empty() {
        true => "no column at all".into(),
        false => names.join(", "),
    }
}

/// The data set's description that the Hugging Face libraries put into the file.
pub(super) struct Features(serde_json::Value);

impl Features {
    pub(super) fn of(footer: &Value) -> Self {
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

    pub(super) fn class_names(&self, label: &str) -> Option<Vec<String>> {
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
