//! Settings from several places, each laid over the one before.

use super::recipes::{RECIPES, names};
use super::{Config, ConfigError};
use std::ops::Range;
use std::path::Path;

/// Lays settings from files, pairs and flags over defaults, in the order of the calls.
#[derive(Debug)]
pub struct Layers {
    config: Config,
}

impl Layers {
    /// Begins with what a command does when nothing is said.
    #[must_use]
    pub fn over(defaults: Config) -> Self {
        Self { config: defaults }
    }

    /// The settings.
    #[must_use]
    pub fn finish(self) -> Config {
        self.config
    }

    /// Lays a TOML file over what there is.
    ///
    /// # Errors
    /// [`ConfigError`] for a file that cannot be read, an unknown key or a value that cannot be, with line and column.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        self.toml(&text, path)
    }

    /// Lays a recipe over what there is.
    ///
    /// # Errors
    /// [`ConfigError`] where none has that name.
    pub fn recipe(&mut self, name: &str) -> Result<(), ConfigError> {
        match RECIPES.iter().find(|recipe| recipe.name == name) {
            Some(recipe) => self.toml(recipe.toml, Path::new(name)),
            None => Err(ConfigError::Value {
                origin: format!("--recipe {name}"),
                reason: format!("there is none of that name; use {}", names().join(" or ")),
            }),
        }
    }

    fn toml(&mut self, text: &str, path: &Path) -> Result<(), ConfigError> {
        let (table, keys) = parse(text).map_err(|error| {
            let (line, column) = place(text, error.span());
            ConfigError::Toml {
                path: path.to_owned(),
                line,
                column,
                reason: error.message().replace('\n', " "),
            }
        })?;
        for (key, span) in keys {
            let (line, column) = place(text, Some(span));
            let origin = format!("{}:{line}:{column}", path.display());
            let value = table[&key].clone();
            self.set(&key.replace('-', "_"), Given::Toml(value), &origin)?;
        }
        Ok(())
    }

    /// Lays `key=value` over what there is; returns the key.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown key or a value that cannot be; the error begins with `--set` and the pair.
    pub fn pair(&mut self, pair: &str) -> Result<String, ConfigError> {
        let origin = format!("--set {pair}");
        let Some((key, value)) = pair.split_once('=') else {
            let reason = "expected key=value".into();
            return Err(ConfigError::Value { origin, reason });
        };
        let key = key.trim().replace('-', "_");
        self.set(&key, Given::Text(value.trim()), &origin)?;
        Ok(key)
    }

    /// Lays the value of a flag over what there is.
    ///
    /// # Errors
    /// [`ConfigError`] for a value that cannot be; the error begins with the flag and its value.
    pub fn flag(&mut self, flag: &str, key: &str, value: &str) -> Result<(), ConfigError> {
        self.set(key, Given::Text(value), &format!("--{flag} {value}"))
    }

    fn set(&mut self, key: &str, given: Given<'_>, origin: &str) -> Result<(), ConfigError> {
        let mut all = toml::Table::try_from(&self.config).expect("settings are plain data");
        let Some(known) = all.get(key) else {
            return Err(ConfigError::Unknown {
                origin: origin.into(),
                key: key.into(),
                suggestion: closest(key, all.keys()),
            });
        };
        // A flag and a pair say the key themselves.
        let named = match given {
            Given::Toml(_) => format!("{key}: "),
            Given::Text(_) => String::new(),
        };
        let value = given.into_kind_of(known);
        let wrong = |reason: String| ConfigError::Value {
            origin: origin.into(),
            reason,
        };
        let expected = match (known, &value) {
            (toml::Value::Integer(_), toml::Value::Integer(_) | toml::Value::String(_))
            | (toml::Value::String(_), toml::Value::String(_)) => None,
            (toml::Value::Integer(_), _) => Some("a whole number"),
            (toml::Value::Float(_), _) => Some("a number"),
            (toml::Value::Boolean(_), _) => Some("true or false"),
            _ => Some("a text"),
        };
        let is_text = matches!(known, toml::Value::String(_));
        all.insert(key.to_owned(), value.clone());
        let config: Config = all.try_into().map_err(|error: toml::de::Error| {
            let reason = error.message().replace('\n', " ");
            // A text that takes numbers too says itself what is wrong with one.
            let is_of_kind = is_text
                && !reason.starts_with("invalid type")
                && !reason.starts_with("data did not match");
            match (expected, &value) {
                (Some(expected), _) if !is_of_kind => wrong(format!("{key} must be {expected}")),
                (None, toml::Value::Integer(_)) if reason.starts_with("invalid value") => {
                    wrong(format!("{key} = {value} is out of range"))
                }
                (None, _) if reason.starts_with("invalid type") => {
                    wrong(format!("{key} must be a whole number"))
                }
                _ => wrong(format!("{named}{reason}")),
            }
        })?;
        config.check().map_err(wrong)?;
        self.config = config;
        Ok(())
    }
}

/// A value as it was given.
enum Given<'a> {
    /// In a file, with a type.
    Toml(toml::Value),
    /// On the command line, as text.
    Text(&'a str),
}

impl Given<'_> {
    /// The value in the type of the setting that it is for, as far as it can be.
    fn into_kind_of(self, known: &toml::Value) -> toml::Value {
        let value = match self {
            Self::Toml(value) => value,
            Self::Text(text) => match (known, toml_value(text)) {
                // A text is taken as it stands, `2024` too; quotes around it are TOML's.
                (toml::Value::String(_), Some(quoted @ toml::Value::String(_))) => quoted,
                (toml::Value::String(_), _) | (_, None) => text.into(),
                (_, Some(value)) => value,
            },
        };
        match (known, value) {
            // Whole numbers are welcome where fractions stand.
            (toml::Value::Float(_), toml::Value::Integer(whole)) => {
                toml::Value::Float(whole as f64)
            }
            (_, value) => value,
        }
    }
}

fn toml_value(text: &str) -> Option<toml::Value> {
    let mut table: toml::Table = format!("value = {text}").parse().ok()?;
    (table.len() == 1).then(|| table.remove("value")).flatten()
}

/// The values of a file, and its keys with their places, in the file's order.
#[allow(clippy::type_complexity)]
fn parse(text: &str) -> Result<(toml::Table, Vec<(String, Range<usize>)>), toml::de::Error> {
    let table: toml::Table = text.parse()?;
    let spanned = toml::de::DeTable::parse(text)?;
    let mut keys: Vec<_> = spanned
        .get_ref()
        .keys()
        .map(|key| (key.get_ref().to_string(), key.span()))
        .collect();
    keys.sort_by_key(|(_, span)| span.start);
    Ok((table, keys))
}

/// Line and column, both from 1, of a span's beginning.
fn place(text: &str, span: Option<Range<usize>>) -> (usize, usize) {
    let before = &text[..span.map_or(0, |span| span.start).min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        1 + before.matches('\n').count(),
        1 + before[line_start..].chars().count(),
    )
}

/// The key with the fewest edits, if there are few.
fn closest<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> Option<String> {
    known
        .map(|candidate| (edits(key, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= key.len().div_ceil(3).min(3))
        .map(|(_, candidate)| candidate.clone())
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
