//! Which images are for training, which for validation and which for testing.

pub(crate) mod named;
mod rule;

pub use rule::SplitRule;

use std::path::Path;

use lowbit_kernels::random::{shuffle, stream};

use crate::error::{empty_class, some_of};
use crate::listing::Part;
use crate::{DataError, Dataset, LoadOptions};

/// Indices of the chosen images, each list in rising order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) train: Vec<usize>,
    /// Those that a split by names keeps for validation; shares of the training images are taken when they are loaded.
    pub(crate) validation: Vec<usize>,
    pub(crate) test: Vec<usize>,
    /// How they were told apart.
    pub(crate) description: String,
    /// What the user should know about it.
    pub(crate) notes: Vec<String>,
}

impl Selection {
    /// The images of each part: for training, for validation, for testing.
    pub(crate) fn parts(&self) -> [&Vec<usize>; 3] {
        [&self.train, &self.validation, &self.test]
    }
}

/// Which images are for training, validation and testing. A class that is tested must have images to learn from.
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
        let test_fraction = options.split.test_fraction(options.test_fraction);
        let [test, train] = stratified(labels, classes, test_fraction, (options.seed, "split"));
        Selection {
            train,
            validation: Vec::new(),
            test,
            description: match &options.split {
                SplitRule::Shares(_) => {
                    format!(
                        "seeded stratified {} (seed {})",
                        options.split, options.seed
                    )
                }
                _ => {
                    let percent = (test_fraction * 100.0).round();
                    let rest = 100.0 - percent;
                    format!("seeded stratified {rest}/{percent} (seed {})", options.seed)
                }
            },
            notes: Vec::new(),
        }
    } else {
        if let SplitRule::Validation(_) = options.split
            && parts.contains(&Part::Validation)
        {
            let reason = format!(
                "it comes with validation images of its own; leave --split {} out",
                options.split
            );
            return Err(DataError::Layout {
                path: path.to_owned(),
                reason,
            });
        }
        if let SplitRule::Shares(_) = options.split {
            return Err(DataError::Layout {
                path: path.to_owned(),
                reason: format!(
                    "its images come in training and test parts of their own, which --split {} does not undo; --split val:10 \
                     keeps 10 % of the training images for validation",
                    options.split
                ),
            });
        }
        Selection {
            train: of(Part::Train),
            validation: of(Part::Validation),
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
    for indices in [
        &mut selection.train,
        &mut selection.validation,
        &mut selection.test,
    ] {
        let all = std::mem::take(indices);
        *indices = limited(labels, all, classes, options.limit, options.seed);
    }
    Ok(selection)
}

/// A seeded split with the same share of each class on both sides: the share, and the rest. A class of two or more images has
/// one on each side, a single image is in the rest.
pub(crate) fn stratified(
    labels: &[u32],
    classes: usize,
    share: f64,
    (seed, stream_name): (u64, &str),
) -> [Vec<usize>; 2] {
    let (mut taken, mut rest) = (Vec::new(), Vec::new());
    for (class, mut members) in by_class(labels, 0..labels.len(), classes)
        .into_iter()
        .enumerate()
    {
        shuffle(&mut stream(seed, stream_name, class as u64), &mut members);
        let count = (members.len() as f64 * share).round() as usize;
        let count = match members.len() {
            0 | 1 => 0,
            len => count.clamp(1, len - 1),
        };
        taken.extend_from_slice(&members[..count]);
        rest.extend_from_slice(&members[count..]);
    }
    taken.sort_unstable();
    rest.sort_unstable();
    [taken, rest]
}

/// Keeps the share of the training images that the split asks for as validation images.
pub(crate) fn keep_for_validation(data: &mut Dataset, options: &LoadOptions<'_>) {
    let share = options.split.validation_fraction();
    if share == 0.0 {
        return;
    }
    let (labels, classes) = (data.train.labels(), data.class_names.len());
    let [kept, rest] = stratified(labels, classes, share, (options.seed, "validation"));
    data.validation = data.train.take(&kept);
    data.train = data.train.take(&rest);
    if let SplitRule::Validation(percent) = options.split {
        data.split += &format!(
            ", {percent} % of the training images for validation (seed {})",
            options.seed
        );
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
        let [test, train] = stratified(&labels, 3, 0.2, (1, "split"));
        assert_eq!([10, 6, 4], [0, 1, 2].map(|c| count(&labels, &test, c)));
        assert_eq!([40, 24, 16], [0, 1, 2].map(|c| count(&labels, &train, c)));
        let mut all = [train, test].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..100));
    }

    #[test]
    fn the_split_depends_on_the_seed_only() {
        let labels = labels();
        assert_eq!(
            stratified(&labels, 3, 0.2, (1, "split")),
            stratified(&labels, 3, 0.2, (1, "split"))
        );
        assert_ne!(
            stratified(&labels, 3, 0.2, (1, "split")),
            stratified(&labels, 3, 0.2, (2, "split"))
        );
    }

    #[test]
    fn a_class_of_two_has_one_image_on_each_side() {
        let [test, train] = stratified(&[0, 0, 1], 2, 0.01, (1, "split"));
        assert_eq!((train.len(), test.len()), (2, 1));
    }

    #[test]
    fn a_single_image_is_for_training_whatever_the_share() {
        let [_, train] = stratified(&[0, 0, 1], 2, 0.9, (1, "split"));
        assert_eq!(count(&[0, 0, 1], &train, 1), 1);
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
