//! Which images are for training and which for testing.

use std::path::Path;

use lowbit_kernels::random::{shuffle, stream};

use crate::error::{empty_class, some_of};
use crate::listing::Part;
use crate::{DataError, LoadOptions};

/// Indices of the chosen images, each list in rising order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) train: Vec<usize>,
    pub(crate) test: Vec<usize>,
    /// How the two were told apart.
    pub(crate) description: String,
    /// What the user should know about it.
    pub(crate) notes: Vec<String>,
}

/// Which images are for training and which for testing. A class that is tested must have images to learn from.
pub(crate) fn select(
    path: &Path,
    class_names: &[String],
    labels: &[u32],
    parts: &[Part],
    options: &LoadOptions,
) -> Result<Selection, DataError> {
    let classes = class_names.len();
    if let Some(index) = labels.iter().position(|&label| label as usize >= classes) {
        return Err(DataError::LabelOutOfRange {
            path: path.to_owned(),
            index,
            label: i64::from(labels[index]),
            classes,
        });
    }
    if classes < 2 {
        let reason = format!(
            "it has {classes} class with images{}, learning needs at least two",
            class_names
                .first()
                .map_or_else(String::new, |name| format!(" (`{name}`)"))
        );
        return Err(DataError::unknown(path, reason));
    }
    let of = |wanted: Part| -> Vec<usize> {
        (0..parts.len())
            .filter(|&index| parts[index] == wanted)
            .collect()
    };
    let mut selection = if parts.contains(&Part::Undivided) {
        stratified(labels, classes, options.test_fraction, options.seed)
    } else {
        Selection {
            train: of(Part::Train),
            test: of(Part::Test),
            description: "as shipped".into(),
            notes: Vec::new(),
        }
    };
    let counted = |indices: &[usize]| {
        let mut counts = vec![0usize; classes];
        for &index in indices {
            counts[labels[index] as usize] += 1;
        }
        counts
    };
    let (train, test) = (counted(&selection.train), counted(&selection.test));
    if let Some(class) = train.iter().position(|&count| count == 0) {
        return Err(empty_class(path, &class_names[class], "training"));
    }
    if selection.test.is_empty() {
        return Err(empty_class(path, &class_names[0], "test"));
    }
    let untested: Vec<String> = (0..classes)
        .filter(|&class| test[class] == 0)
        .map(|class| format!("`{}`", class_names[class]))
        .collect();
    if !untested.is_empty() {
        selection
            .notes
            .push(format!("no test images of {}", some_of(&untested)));
    }
    for indices in [&mut selection.train, &mut selection.test] {
        let all = std::mem::take(indices);
        *indices = limited(labels, all, classes, options.limit, options.seed);
    }
    Ok(selection)
}

/// A seeded split with the same share of each class on both sides; a class of two or more images has one on each, a
/// single image is for training.
pub(crate) fn stratified(
    labels: &[u32],
    classes: usize,
    test_fraction: f64,
    seed: u64,
) -> Selection {
    let mut train = Vec::new();
    let mut test = Vec::new();
    for (class, mut members) in by_class(labels, 0..labels.len(), classes)
        .into_iter()
        .enumerate()
    {
        shuffle(&mut stream(seed, "split", class as u64), &mut members);
        let mut tested = (members.len() as f64 * test_fraction).round() as usize;
        tested = match members.len() {
            0 | 1 => 0,
            len => tested.clamp(1, len - 1),
        };
        test.extend_from_slice(&members[..tested]);
        train.extend_from_slice(&members[tested..]);
    }
    train.sort_unstable();
    test.sort_unstable();
    let percent = (test_fraction * 100.0).round();
    Selection {
        train,
        test,
        description: format!(
            "seeded stratified {}/{percent} (seed {seed})",
            100.0 - percent
        ),
        notes: Vec::new(),
    }
}

/// At most `limit` of `indices`, spread over the classes as evenly as they allow.
pub(crate) fn limited(
    labels: &[u32],
    indices: Vec<usize>,
    classes: usize,
    limit: Option<usize>,
    seed: u64,
) -> Vec<usize> {
    let Some(limit) = limit.filter(|&limit| limit < indices.len()) else {
        return indices;
    };
    let mut groups = by_class(labels, indices, classes);
    for (class, members) in groups.iter_mut().enumerate() {
        shuffle(&mut stream(seed, "limit", class as u64), members);
    }
    let mut chosen = Vec::with_capacity(limit);
    for round in 0.. {
        let before = chosen.len();
        for members in &groups {
            if let Some(&index) = members.get(round)
                && chosen.len() < limit
            {
                chosen.push(index);
            }
        }
        if chosen.len() == before {
            break;
        }
    }
    chosen.sort_unstable();
    chosen
}

fn by_class(
    labels: &[u32],
    indices: impl IntoIterator<Item = usize>,
    classes: usize,
) -> Vec<Vec<usize>> {
    let mut groups = vec![Vec::new(); classes];
    for index in indices {
        groups[labels[index] as usize].push(index);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<u32> {
        (0..100)
            .map(|index| u32::from(index >= 50) + u32::from(index >= 80))
            .collect()
    }

    fn count(labels: &[u32], indices: &[usize], class: u32) -> usize {
        indices.iter().filter(|&&i| labels[i] == class).count()
    }

    #[test]
    fn every_class_is_split_by_the_same_share_and_nothing_is_lost() {
        let labels = labels();
        let selection = stratified(&labels, 3, 0.2, 1);
        assert_eq!(
            [10, 6, 4],
            [0, 1, 2].map(|c| count(&labels, &selection.test, c))
        );
        assert_eq!(
            [40, 24, 16],
            [0, 1, 2].map(|c| count(&labels, &selection.train, c))
        );
        let mut all = [selection.train, selection.test].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..100));
        assert_eq!(selection.description, "seeded stratified 80/20 (seed 1)");
    }

    #[test]
    fn the_split_depends_on_the_seed_only() {
        let labels = labels();
        assert_eq!(
            stratified(&labels, 3, 0.2, 1),
            stratified(&labels, 3, 0.2, 1)
        );
        assert_ne!(
            stratified(&labels, 3, 0.2, 1).test,
            stratified(&labels, 3, 0.2, 2).test
        );
    }

    #[test]
    fn a_class_of_two_has_one_image_on_each_side() {
        let selection = stratified(&[0, 0, 1], 2, 0.01, 1);
        assert_eq!((selection.train.len(), selection.test.len()), (2, 1));
    }

    #[test]
    fn a_single_image_is_for_training_whatever_the_share() {
        let selection = stratified(&[0, 0, 1], 2, 0.9, 1);
        assert_eq!(count(&[0, 0, 1], &selection.train, 1), 1);
    }

    fn selected(names: &[&str], labels: &[u32], parts: &[Part]) -> Result<Selection, String> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let options = LoadOptions::new(1);
        select(Path::new("set"), &names, labels, parts, &options).map_err(|e| e.to_string())
    }

    #[test]
    fn a_class_that_is_tested_and_not_trained_is_refused() {
        use Part::{Test, Train};
        let error = selected(&["a", "b"], &[0, 1], &[Train, Test]).expect_err("b");
        assert!(error.contains("`b` has no training images"), "{error}");
        let ok = selected(&["a", "b"], &[0, 1, 0], &[Train, Train, Test]).expect("selects");
        assert_eq!((ok.train, ok.test), (vec![0, 1], vec![2]));
        assert_eq!(ok.notes, ["no test images of `b`"]);
    }

    #[test]
    fn a_limit_is_spread_evenly_and_never_exceeded() {
        let labels = labels();
        let few = limited(&labels, (0..100).collect(), 3, Some(70), 1);
        assert_eq!([25, 25, 20], [0, 1, 2].map(|c| count(&labels, &few, c)));
        assert_eq!(limited(&labels, (0..100).collect(), 3, Some(2), 1).len(), 2);
        assert_eq!(limited(&labels, vec![3, 9], 3, Some(5), 1), [3, 9]);
        assert_eq!(limited(&labels, vec![3, 9], 3, None, 1), [3, 9]);
    }
}
