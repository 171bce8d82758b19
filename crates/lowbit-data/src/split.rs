//! Which images are for training and which for testing.

use lowbit_kernels::random::{shuffle, stream};

/// Indices of the chosen images, each list in rising order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) train: Vec<usize>,
    pub(crate) test: Vec<usize>,
    /// How the two were told apart.
    pub(crate) description: String,
}

/// A seeded split with the same share of each class on both sides; a class of two or more images has one on each.
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
        if members.len() >= 2 {
            tested = tested.clamp(1, members.len() - 1);
        }
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
    fn a_limit_is_spread_evenly_and_never_exceeded() {
        let labels = labels();
        let few = limited(&labels, (0..100).collect(), 3, Some(70), 1);
        assert_eq!([25, 25, 20], [0, 1, 2].map(|c| count(&labels, &few, c)));
        assert_eq!(limited(&labels, (0..100).collect(), 3, Some(2), 1).len(), 2);
        assert_eq!(limited(&labels, vec![3, 9], 3, Some(5), 1), [3, 9]);
        assert_eq!(limited(&labels, vec![3, 9], 3, None, 1), [3, 9]);
    }
}
