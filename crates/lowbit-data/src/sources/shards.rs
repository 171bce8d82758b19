//! Data in several files: whether all of them are there and belong together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::DataError;
use crate::error::{one_line, some_of};

const REMEDY: &str = "fetch the whole set again";

/// Refuses a set of which files of a `…-00000-of-00003…` numbering are missing, with their names.
///
/// `names` are relative paths with `/`. The numbers may count from 0 or from 1.
pub(crate) fn complete(root: &Path, names: &[String]) -> Result<(), DataError> {
    let mut sets: BTreeMap<(&str, &str, &str, &str), BTreeSet<u64>> = BTreeMap::new();
    let mut widths = BTreeMap::new();
    for name in names {
        if let Some(shard) = Shard::of(name) {
            let key = (shard.before, shard.of, shard.total, shard.after);
            sets.entry(key).or_default().insert(shard.index);
            widths.insert(key, shard.width);
        }
    }
    let mut missing = Vec::new();
    for (key @ (before, of, total, after), found) in &sets {
        let count: u64 = total.parse().unwrap_or(0);
        let first = u64::from(!found.contains(&0) && found.contains(&count));
        let width = widths[key];
        let gone = (first..first.saturating_add(count)).filter(|index| !found.contains(index));
        // A total that no set of files has would name millions.
        missing.extend(
            gone.take(1 << 10)
                .map(|index| format!("{before}{index:0width$}{of}{total}{after}")),
        );
    }
    match missing.len() {
        0 => Ok(()),
        _ => Err(DataError::Incomplete {
            path: root.to_owned(),
            missing: some_of(missing),
            remedy: REMEDY,
        }),
    }
}

/// A file name of a numbered set: `<before><index>-of-<total><after>`, or with `_of_`.
struct Shard<'a> {
    before: &'a str,
    index: u64,
    /// Digits of the index as written.
    width: usize,
    of: &'a str,
    total: &'a str,
    /// The extension. A checksum that stands before it differs from file to file.
    after: &'a str,
}

impl<'a> Shard<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let found = ["-of-", "_of_"].map(|of| name.rfind(of).map(|at| (at, of)));
        let (at, of) = found.into_iter().flatten().max()?;
        let (head, rest) = (&name[..at], &name[at + of.len()..]);
        let before = head.trim_end_matches(|c: char| c.is_ascii_digit());
        let index = &head[before.len()..];
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (total, after) = rest.split_at(end);
        total.parse::<u64>().ok()?;
        Some(Self {
            before,
            index: index.parse().ok()?,
            width: index.len(),
            of,
            total,
            after: after.find('.').map_or("", |dot| &after[dot..]),
        })
    }
}

/// Refuses files that lie in the folders of several configurations, each with data of the same part.
///
/// `files` are pairs of a relative path with `/` and the part that it belongs to; `says_part` tells a folder that is
/// named after a part from one that is named after a configuration.
pub(crate) fn one_configuration<P: Ord>(
    root: &Path,
    files: &[(String, P)],
    says_part: impl Fn(&str) -> bool,
) -> Result<(), DataError> {
    let mut folders: BTreeMap<&P, BTreeSet<String>> = BTreeMap::new();
    for (path, part) in files {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let own: Vec<&str> = folder.split('/').filter(|name| !says_part(name)).collect();
        folders.entry(part).or_default().insert(own.join("/"));
    }
    let Some(mixed) = folders.values().find(|folders| folders.len() > 1) else {
        return Ok(());
    };
    let names = mixed.iter().map(|folder| match folder.as_str() {
        "" => "the folder itself".to_owned(),
        folder => format!("{folder}/"),
    });
    let reason = format!(
        "it holds several configurations of a data set, which are not to be mixed: {}",
        some_of(names)
    );
    let remedy = "name one of these folders instead";
    Err(DataError::broken(root, reason, remedy))
}

/// Refuses files whose class names differ. `files` are pairs of a name and the class names that it states, if any.
pub(crate) fn same_classes(
    root: &Path,
    files: &[(String, Option<Vec<String>>)],
) -> Result<(), DataError> {
    let mut named = files
        .iter()
        .filter_map(|(file, names)| names.as_ref().map(|names| (file, names)));
    let Some((first, expected)) = named.next() else {
        return Ok(());
    };
    let Some((file, found)) = named.find(|(_, names)| *names != expected) else {
        return Ok(());
    };
    let at = (0..expected.len().max(found.len()))
        .find(|&at| expected.get(at) != found.get(at))
        .unwrap_or(0);
    let name = |names: &[String]| {
        names
            .get(at)
            .map_or_else(|| "no class".into(), |name| format!("`{}`", one_line(name)))
    };
    let reason = format!(
        "the class names of {first} and {file} differ: label {at} is {} in the one and {} in the other",
        name(expected),
        name(found)
    );
    let remedy = "use files that belong together";
    Err(DataError::broken(root, reason, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn missing(names: &[&str]) -> Option<String> {
        complete(Path::new("set"), &owned(names))
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn missing_shards_are_named_whether_they_count_from_0_or_from_1() {
        let whole = [
            "train-00000-of-00002.parquet",
            "train-00001-of-00002.parquet",
        ];
        assert_eq!(missing(&whole), None);
        assert_eq!(missing(&["x-1-of-2.tar", "x-2-of-2.tar"]), None);
        assert_eq!(
            missing(&["a.parquet", "list-of-things.txt", "x-of-3"]),
            None
        );
        let holes = [
            "d/train-00000-of-00003.parquet",
            "d/train-00002-of-00003.parquet",
        ];
        let message = missing(&holes).expect("one is missing");
        assert!(
            message.contains(" d/train-00001-of-00003.parquet"),
            "{message}"
        );
        let hashed = ["x-00000-of-00003-ab.parquet", "x-00001-of-00003-cd.parquet"];
        let last = missing(&hashed).expect("the last is missing");
        assert!(
            last.contains(": x-00002-of-00003.parquet missing"),
            "{last}"
        );
        let under = missing(&["part_0_of_2.parquet"]).expect("missing");
        assert!(under.contains("part_1_of_2.parquet"), "{under}");
    }

    #[test]
    fn each_part_is_numbered_for_itself_and_a_wild_total_stays_short() {
        let both = ["train-0-of-1.parquet", "test-1-of-2.parquet"];
        assert!(missing(&both).expect("missing").contains("test-0-of-2"));
        let wild = missing(&["x-0-of-99999999999.parquet"]).expect("missing");
        assert!(
            wild.contains("and 1004 more") && wild.len() < 2000,
            "{wild}"
        );
    }

    #[test]
    fn two_configurations_are_refused_and_folders_of_parts_are_none() {
        let says_part = |name: &str| name == "train" || name == "test";
        let check = |files: &[(&str, u8)]| {
            let files: Vec<(String, u8)> = files
                .iter()
                .map(|&(name, part)| (name.to_owned(), part))
                .collect();
            one_configuration(Path::new("set"), &files, says_part)
        };
        assert!(check(&[("data/train-0", 0), ("data/test-0", 1)]).is_ok());
        assert!(check(&[("train/0", 0), ("train/1", 0), ("test/0", 1)]).is_ok());
        let error = check(&[("mnist/train-0", 0), ("letters/train-0", 0)]).expect_err("two");
        let message = error.to_string();
        assert!(message.contains("letters/, mnist/"), "{message}");
    }

    #[test]
    fn differing_class_names_are_shown_with_their_label() {
        let files = |second: &[&str]| {
            vec![
                ("a".to_owned(), Some(owned(&["cat", "dog"]))),
                ("n".to_owned(), None),
                ("b".to_owned(), Some(owned(second))),
            ]
        };
        let check = |second: &[&str]| same_classes(Path::new("set"), &files(second));
        assert!(check(&["cat", "dog"]).is_ok());
        let swapped = check(&["dog", "cat"]).expect_err("swapped").to_string();
        assert!(
            swapped.contains("label 0 is `cat` in the one and `dog`"),
            "{swapped}"
        );
        let more = check(&["cat", "dog", "eel"]).expect_err("more").to_string();
        assert!(more.contains("label 2 is no class in the one"), "{more}");
    }
}
