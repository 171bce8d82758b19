//! Patterns of layers' names: which layers stay f32, or have bits of their own.

use crate::graph::Program;
use std::collections::BTreeSet;

/// Names that an error lists.
const LISTED: usize = 3;

/// A pattern that matches no layer, and names that are near it.
pub(super) struct Unknown {
    pub(super) pattern: String,
    pub(super) near: String,
}

/// The steps with weights whose names match one of the patterns, in which `*` stands for any text.
///
/// # Errors
/// [`Unknown`] for the first pattern that matches none.
pub(super) fn named<'a>(
    program: &Program,
    patterns: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeSet<usize>, Unknown> {
    let layers: Vec<(usize, &str)> = program
        .steps()
        .iter()
        .enumerate()
        .filter(|(_, step)| step.has_weights())
        .map(|(index, step)| (index, step.name.as_str()))
        .collect();
    let mut found = BTreeSet::new();
    for pattern in patterns {
        let matching = layers.iter().filter(|(_, name)| is_named(pattern, name));
        let matching: Vec<usize> = matching.map(|&(index, _)| index).collect();
        found.extend(&matching);
        if matching.is_empty() {
            let names = layers.iter().map(|&(_, name)| name).collect();
            return Err(Unknown {
                pattern: pattern.trim().to_owned(),
                near: near(pattern.trim(), names).join(", "),
            });
        }
    }
    Ok(found)
}

/// Whether a layer is meant by a pattern. Names of ONNX nodes lose their first slash when they are read.
pub(super) fn is_named(pattern: &str, name: &str) -> bool {
    matches(pattern.trim().trim_start_matches('/'), name)
}

/// Whether a name is what a pattern with `*` describes.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The names that look most like a pattern: those that hold it first.
fn near<'a>(pattern: &str, mut names: Vec<&'a str>) -> Vec<&'a str> {
    let plain = pattern.replace('*', "").to_lowercase();
    names.sort_by_cached_key(|name| {
        let name = name.to_lowercase();
        let holds = !plain.is_empty() && (name.contains(&plain) || plain.contains(&name));
        (!holds, distance(&plain, &name))
    });
    names.truncate(LISTED);
    names
}

/// Characters to insert, delete or replace from one text to another.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name) in [
            ("conv1", "conv1"),
            ("conv*", "conv1"),
            ("*", "anything"),
            ("*/depthwise/*", "block3/depthwise/conv"),
            ("a*b*c", "aXbYbZc"),
            ("fc*", "fc"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("conv1", "conv10"),
            ("conv", "conv1"),
            ("*1", "conv2"),
            ("ab*ba", "aba"),
            ("", "fc"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn names_near_a_wrong_one_are_those_that_hold_it_or_differ_least() {
        let names = || vec!["stem", "block1/conv", "block2/conv", "fc1", "fc2"];
        assert_eq!(
            near("conv", names()),
            ["block1/conv", "block2/conv", "stem"][..]
        );
        assert_eq!(near("fc3", names())[..2], ["fc1", "fc2"]);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
