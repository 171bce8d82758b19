//! What a file says about itself beside its graph: who wrote it, the names of its classes, how pixels become its input.

use lowbit::graph::Normalization;
use std::collections::BTreeMap;

/// The producer and the metadata of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) producer: String,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// How pixels become a model's input, as its metadata have it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stated {
    pub(crate) normalization: Normalization,
    pub(crate) bgr: bool,
    /// The keys that said so.
    pub(crate) keys: String,
}

/// Keys of names of classes: lists, or mappings from their numbers (Ultralytics's `names`, transformers' `id2label`).
const NAMES: [&str; 6] = [
    "class_names",
    "classes",
    "labels",
    "names",
    "categories",
    "id2label",
];

/// Keys of the mean and the standard deviation of pixels: lowbit's and transformers' first.
const MOMENTS: [[&str; 2]; 4] = [
    ["image_mean", "image_std"],
    ["input_mean", "input_std"],
    ["norm_mean", "norm_std"],
    ["mean", "std"],
];

/// Means and deviations beyond this are of pixels between 0 and 255, below it of those between 0 and 1.
const BEYOND_UNIT: f64 = 2.0;

impl About {
    fn get(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(|text| text.trim())
    }

    /// The names of the classes: a list in JSON, Python's brackets or lines, or a mapping from numbers.
    pub(crate) fn class_names(&self) -> Option<Vec<String>> {
        let text = NAMES.iter().find_map(|&key| self.get(key))?;
        let names = match text.chars().next()? {
            '{' => in_order(&tokens(text)?)?,
            '[' | '(' => {
                let tokens = tokens(text)?;
                let is_list = tokens.iter().all(|(_, end)| *end != ':');
                is_list.then(|| tokens.into_iter().map(|(name, _)| name).collect())?
            }
            _ => {
                let separator = if text.contains('\n') { '\n' } else { ',' };
                let parts = text.split(separator).map(|name| name.trim().to_owned());
                parts.collect::<Vec<_>>()
            }
        };
        let are_names = names.iter().all(|name| !name.is_empty());
        (names.len() > 1 && are_names).then_some(names)
    }

    /// How pixels become the input of a model that takes so many channels; none where nothing says so in words that are known.
    pub(crate) fn preprocessing(&self, channels: usize) -> Option<Stated> {
        let bgr = self.is_bgr();
        self.by_moments(channels, bgr)
            .or_else(|| self.by_range(bgr))
            .or_else(|| self.by_producer())
    }

    fn is_bgr(&self) -> bool {
        let order = ["Image.BitmapPixelFormat", "channel_order", "color_format"];
        let order = order.iter().find_map(|&key| self.get(key));
        order.is_some_and(|order| order.to_ascii_lowercase().starts_with("bgr"))
    }

    fn by_moments(&self, channels: usize, bgr: bool) -> Option<Stated> {
        let [mean_key, std_key] = MOMENTS
            .into_iter()
            .find(|[mean, std]| self.get(mean).is_some() && self.get(std).is_some())?;
        let (mean, std) = (numbers(self.get(mean_key)?)?, numbers(self.get(std_key)?)?);
        let fits = |values: &[f64]| values.len() == 1 || values.len() == channels;
        if mean.len() != std.len() || !fits(&mean) || std.iter().any(|&std| std <= 0.0) {
            return None;
        }
        // Transformers say what pixels are multiplied with first.
        let rescaled = self
            .get("rescale_factor")
            .and_then(|text| text.parse::<f64>().ok());
        let is_beyond = |&x: &f64| x.abs() > BEYOND_UNIT;
        let unit = match rescaled {
            Some(factor) if factor.is_finite() && factor > 0.0 => 1.0 / (255.0 * factor),
            Some(_) => return None,
            None if mean.iter().chain(&std).any(is_beyond) => 1.0 / 255.0,
            None => 1.0,
        };
        let scaled =
            |values: &[f64]| -> Vec<f32> { values.iter().map(|x| (x * unit) as f32).collect() };
        let (mean, std) = (scaled(&mean), scaled(&std));
        if std.iter().any(|&std| !(std.is_finite() && std > 0.0)) {
            return None;
        }
        Some(Stated {
            normalization: match (&mean[..], &std[..]) {
                (&[mean], &[std]) => Normalization::uniform(mean, std),
                _ => Normalization::per_channel(&mean, &std),
            },
            bgr,
            keys: format!("{mean_key}, {std_key}"),
        })
    }

    /// What ONNX itself has a key for (docs/MetadataProps.md of its repository), as Custom Vision and WinML write it.
    fn by_range(&self, bgr: bool) -> Option<Stated> {
        let key = "Image.NominalPixelRange";
        let normalization = match self.get(key)? {
            "NominalRange_0_255" => Normalization::uniform(0.0, 1.0 / 255.0),
            "Normalized_0_1" => Normalization::uniform(0.0, 1.0),
            "Normalized_1_1" => Normalization::uniform(0.5, 0.5),
            _ => return None,
        };
        Some(Stated {
            normalization,
            bgr,
            keys: key.to_owned(),
        })
    }

    /// Ultralytics's classifiers take pixels between 0 and 1, and say who they are.
    fn by_producer(&self) -> Option<Stated> {
        let is_theirs = self.get("author") == Some("Ultralytics");
        (is_theirs && self.get("task") == Some("classify")).then(|| Stated {
            normalization: Normalization::uniform(0.0, 1.0),
            bgr: false,
            keys: "author, task".into(),
        })
    }
}

/// Numbers in brackets or not, with commas or spaces between.
fn numbers(text: &str) -> Option<Vec<f64>> {
    let inner = text.trim_matches(|c: char| "[](){}".contains(c));
    let parts = inner.split(|c: char| c == ',' || c.is_whitespace());
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    let values: Vec<f64> = parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
    (!values.is_empty() && values.iter().all(|x| x.is_finite())).then_some(values)
}

/// What stands within brackets, quoted or not, each with the character that ended it; none where it does not come apart.
fn tokens(text: &str) -> Option<Vec<(String, char)>> {
    let mut found = Vec::new();
    let mut characters = text.chars().peekable();
    characters.next();
    loop {
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        let mut token = String::new();
        match characters.peek().copied()? {
            // After the last comma, or of nothing.
            ']' | ')' | '}' => return Some(found),
            quote @ ('"' | '\'') => {
                characters.next();
                loop {
                    match characters.next()? {
                        '\\' => token.push(match characters.next()? {
                            'n' => '\n',
                            // Rare, and a wrong name would be worse than none.
                            'u' | 'x' => return None,
                            other => other,
                        }),
                        c if c == quote => break,
                        c => token.push(c),
                    }
                }
                while characters.next_if(|c| c.is_whitespace()).is_some() {}
            }
            _ => {
                while let Some(c) = characters.next_if(|c| !",:])}[({".contains(*c)) {
                    token.push(c);
                }
                token.truncate(token.trim_end().len());
            }
        }
        let end = characters.next()?;
        match end {
            ',' | ':' => found.push((token, end)),
            ']' | ')' | '}' => {
                found.push((token, end));
                return Some(found);
            }
            _ => return None,
        }
    }
}

/// The names of a mapping between numbers from 0 on and names, whichever come first.
fn in_order(tokens: &[(String, char)]) -> Option<Vec<String>> {
    let mut names = BTreeMap::new();
    let (pairs, rest) = tokens.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    for [(key, colon), (value, end)] in pairs {
        if *colon != ':' || *end == ':' {
            return None;
        }
        let (number, name) = match (key.parse::<usize>(), value.parse::<usize>()) {
            (Ok(number), _) => (number, value),
            (Err(_), Ok(number)) => (number, key),
            (Err(_), Err(_)) => return None,
        };
        if names.insert(number, name.clone()).is_some() {
            return None;
        }
    }
    let is_whole = names.keys().copied().eq(0..names.len());
    is_whole.then(|| names.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(entries: &[(&str, &str)]) -> About {
        About {
            producer: String::new(),
            metadata: entries
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    #[test]
    fn names_are_lists_or_mappings_from_numbers() {
        let names = |key, text| about(&[(key, text)]).class_names();
        let expected = Some(vec!["sea".to_owned(), "river, lake".to_owned()]);
        for (key, text) in [
            ("class_names", r#"["sea", "river, lake"]"#),
            ("names", "{0: 'sea', 1: 'river, lake'}"),
            ("id2label", r#"{"1": "river, lake", "0": "sea"}"#),
            ("classes", r#"{"sea": 0, "river, lake": 1,}"#),
            ("labels", "sea\nriver, lake\n"),
            ("categories", "('sea', 'river, lake')"),
        ] {
            assert_eq!(names(key, text), expected, "{text}");
        }
        assert_eq!(
            names("labels", "it's, well"),
            Some(vec!["it's".into(), "well".into()])
        );
        assert_eq!(names("labels", r#"["it\"s", b]"#).unwrap(), ["it\"s", "b"]);
        for text in [
            "",
            "one",
            "[",
            "['a', ",
            "['a' 'b']",
            "{0: 'a', 2: 'b'}",
            "{0: 'a', 0: 'b'}",
            "{0: {1: 'a'}}",
            "{'a': 'b', 'c': 'd'}",
            "[[1, 2], [3]]",
            "[1: 2]",
            "{1, 2}",
            "['\\u00e9', 'b']",
        ] {
            assert_eq!(names("names", text), None, "{text}");
        }
    }

    #[test]
    fn preprocessing_stands_under_the_keys_of_several_tools() {
        let of = |entries: &[(&str, &str)]| about(entries).preprocessing(3);
        let found = of(&[
            ("image_mean", "0.5, 0.4, 0.3"),
            ("image_std", "[0.2, 0.2, 0.1]"),
        ])
        .unwrap();
        assert_eq!(found.normalization.mean(), [0.5, 0.4, 0.3]);
        assert_eq!(found.normalization.std(), [0.2, 0.2, 0.1]);
        let pixels = of(&[("mean", "127.5"), ("std", "255"), ("channel_order", "BGR")]).unwrap();
        assert_eq!(
            (pixels.normalization.mean(), pixels.bgr),
            (&[0.5][..], true)
        );
        assert_eq!(pixels.normalization.std(), [1.0]);
        let rescaled = [
            ("image_mean", "1"),
            ("image_std", "1"),
            ("rescale_factor", "0.00784313725490196"),
        ];
        let rescaled = of(&rescaled).unwrap().normalization;
        assert!((rescaled.mean()[0] - 0.5).abs() < 1e-6 && (rescaled.std()[0] - 0.5).abs() < 1e-6);
        let ranged = of(&[
            ("Image.NominalPixelRange", "Normalized_1_1"),
            ("Image.BitmapPixelFormat", "Bgr8"),
        ]);
        let ranged = ranged.unwrap();
        assert_eq!((ranged.normalization.std(), ranged.bgr), (&[0.5][..], true));
        let unit = of(&[("author", "Ultralytics"), ("task", "classify")]).unwrap();
        assert_eq!(unit.normalization.std(), [1.0]);
        for entries in [
            &[("mean", "0.5")][..],
            &[("mean", "0.5"), ("std", "0")],
            &[("mean", "0.5"), ("std", "nan")],
            &[("mean", "0.5, 0.5"), ("std", "1, 1")],
            &[("mean", "a"), ("std", "1")],
            &[("Image.NominalPixelRange", "NominalRange_16_235")],
            &[("author", "Ultralytics"), ("task", "detect")],
            &[("mean", "1e39"), ("std", "1e-44")],
        ] {
            assert_eq!(of(entries), None, "{entries:?}");
        }
    }
}
