//! Classes in another order than the model's.

use super::super::finding::{Finding, Level};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use crate::LabError;
use crate::evaluate::evaluate;
use crate::statistics::above_guessing;

pub(in super::super) const RULE: Rule = Rule {
    name: "permuted-labels",
    looks_at: LooksAt::TestImagesPerClass(PER_CLASS),
    finds: "labels in another order than the model's classes: most images are right once they are renamed",
    source: "folders sorted by name against a model's own order (torchvision's and Keras's loaders); onnxruntime-inference-examples#319",
    look,
};

/// The share of right images that a renaming must gain, also over saying the most frequent class always, and reach, to be no
/// accident.
const GAIN: f64 = 0.2;
const REACH: f64 = 0.5;

/// Images that tell it, at most, unless classes are many; and the fewest of a class, as a mean, that do.
const IMAGES: usize = 500;
const PER_CLASS: usize = 4;

/// Another order of classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// For each class of the data the one that the model means by it.
    pub means: Vec<usize>,
    /// The share of right images in the order of the data.
    pub before: f64,
    /// The share in this one.
    pub after: f64,
}

/// Another order of the classes under which many more images are right than in that of a table of true classes (rows) and
/// predicted ones (columns). It is found greedily: a better one may exist.
#[must_use]
pub fn reordered(confusion: &[Vec<usize>]) -> Option<Order> {
    let classes = confusion.len();
    let all: usize = confusion.iter().flatten().sum();
    if classes < 2 || all < PER_CLASS * classes {
        return None;
    }
    let mut cells: Vec<(usize, usize, usize)> = (0..classes)
        .flat_map(|row| (0..classes).map(move |column| (row, column)))
        .map(|(row, column)| (confusion[row][column], row, column))
        .collect();
    // Of equals the class itself first, so that nothing is renamed without a reason.
    cells.sort_by_key(|&(count, row, column)| (std::cmp::Reverse(count), row != column));
    let (mut means, mut taken) = (vec![None; classes], vec![false; classes]);
    let mut right = 0;
    for (count, row, column) in cells {
        if means[row].is_none() && !taken[column] {
            means[row] = Some(column);
            taken[column] = true;
            right += count;
        }
    }
    let share = |count: usize| count as f64 / all as f64;
    let before = share((0..classes).map(|class| confusion[class][class]).sum());
    let after = share(right);
    let most_frequent = share(confusion.iter().map(|row| row.iter().sum()).max()?);
    let means: Option<Vec<usize>> = means.into_iter().collect();
    let order = Order {
        means: means?,
        before,
        after,
    };
    let is_gain = after - before.max(most_frequent) >= GAIN;
    (after >= REACH && after > above_guessing(classes, all) && is_gain).then_some(order)
}

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (Some(images), Some(model)) = (patient.seen(), patient.compiled()?) else {
        return Ok(vec![]);
    };
    let most = IMAGES.max(PER_CLASS * images.class_names.len());
    let some = super::super::patient::spread(&images.test, most);
    let found = evaluate(&*model, &some)?;
    let Some(Order {
        means,
        before,
        after,
    }) = reordered(&found.confusion)
    else {
        return Ok(vec![]);
    };
    let name = |class: usize| images.class_names.get(class).map_or("?", String::as_str);
    let renamed = means
        .iter()
        .enumerate()
        .filter(|(class, means)| class != *means);
    let renamed: Vec<String> = renamed
        .map(|(class, &means)| format!("{} is its {}", name(class), name(means)))
        .collect();
    Ok(vec![Finding {
        level: Level::Error,
        rule: RULE.name.into(),
        places: vec![],
        evidence: format!(
            "{:.1} % of {} images right, and {:.1} % if classes stood in another order: {}",
            100.0 * before,
            some.len(),
            100.0 * after,
            super::super::finding::some_of(&renamed)
        ),
        cost: "every figure of its accuracy is wrong; its weights are not".into(),
        remedy: "give the names of the classes in the model's order: --labels FILE, one a line"
            .into(),
    }])
}
