//! Whether a training learned anything: of a model that guesses, nobody can tell what quantization does to it.

use crate::config::areas::Recipe;
use lowbit_data::Split;
use serde::{Deserialize, Serialize};

/// A mean loss above this many times that of a uniform guess is no learning.
const DIVERGED: f64 = 2.0;

/// Whether a training learned anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learning {
    /// The model knows more than a guess.
    #[default]
    Learned,
    /// The test accuracy is not above that of always naming the most frequent class, within 95 %.
    AtChance,
    /// The last epoch's loss is far above that of a uniform guess.
    Diverged,
}

/// What is known of a trained model, to judge it by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Test accuracy, 0–1.
    pub accuracy: f64,
    /// Test images.
    pub images: usize,
    /// Share of the most frequent class among them, 0–1.
    pub guess: f64,
    /// Classes that have test images.
    pub classes: usize,
    /// Mean training loss of the last epoch, where the model was trained here.
    pub train_loss: Option<f64>,
}

impl Outcome {
    /// What is known of a model with this accuracy on `test`. A loss that a teacher has a part in is no measure: that part
    /// depends on its temperature.
    #[must_use]
    pub fn of(
        accuracy: f64,
        test: &Split,
        classes: usize,
        train_loss: Option<f64>,
        recipe: &Recipe,
    ) -> Self {
        let train_loss = train_loss.filter(|_| recipe.teacher.as_os_str().is_empty());
        let counts = test.counts(classes);
        let most = counts.iter().copied().max().unwrap_or(0);
        Self {
            accuracy,
            images: test.len(),
            guess: most as f64 / test.len().max(1) as f64,
            classes: counts.iter().filter(|&&count| count > 0).count(),
            train_loss,
        }
    }

    /// Judges the model.
    #[must_use]
    pub fn learning(&self) -> Learning {
        let uniform = (self.classes.max(2) as f64).ln();
        if self
            .train_loss
            .is_some_and(|loss| loss > DIVERGED * uniform)
        {
            return Learning::Diverged;
        }
        // Nor is anything known where there is one class alone.
        if wilson_low(self.accuracy, self.images) <= self.guess {
            return Learning::AtChance;
        }
        Learning::Learned
    }

    /// Says why there is no verdict, and what to try; nothing of a model that learned.
    #[must_use]
    pub fn no_verdict(&self, lr: f32) -> Option<String> {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let why = match self.learning() {
            Learning::Learned => return None,
            Learning::AtChance => format!(
                "the FP32 model is not shown to be better than a guess: {} of {} right, where always naming the most frequent \
                 class gets {}",
                percent(self.accuracy),
                crate::plural::of(self.images, "test image"),
                percent(self.guess),
            ),
            Learning::Diverged => format!(
                "training diverged: the loss of its last epoch is {:.3e}, that of a uniform guess {:.2}",
                self.train_loss.unwrap_or(f64::NAN),
                (self.classes.max(2) as f64).ln(),
            ),
        };
        let attempt = match self.learning() {
            Learning::Diverged => format!("a lower --lr than {lr}"),
            _ => format!(
                "more --epochs, another --lr than {lr}, more images, and look at the labels"
            ),
        };
        Some(format!(
            "No verdict: {why}; what quantization costs cannot be told. Try {attempt}."
        ))
    }
}

/// Lower end of Wilson's one-sided 95 % interval of a share (Wilson 1927).
fn wilson_low(share: f64, count: usize) -> f64 {
    const Z: f64 = 1.644_854;
    let n = count.max(1) as f64;
    let center = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    (center - spread) / (1.0 + Z * Z / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_with_a_teacher_s_part_is_no_divergence() {
        let test = Split::new(1, vec![0; 40], (0..40).map(|i| i % 2).collect()).unwrap();
        let learning = |recipe: &Recipe| Outcome::of(0.9, &test, 2, Some(9.0), recipe).learning();
        let mut recipe = Recipe::default();
        assert_eq!(learning(&recipe), Learning::Diverged);
        recipe.teacher = "teacher.safetensors".into();
        assert_eq!(learning(&recipe), Learning::Learned);
    }

    fn outcome(accuracy: f64, images: usize, train_loss: Option<f64>) -> Outcome {
        Outcome {
            accuracy,
            images,
            guess: 0.25,
            classes: 4,
            train_loss,
        }
    }

    #[test]
    fn wilsons_lower_end_is_the_published_one() {
        // 8 of 20 with z = 1.644854: (0.4 + 0.067639 − 1.644854·√(0.012 + 0.0016910)) / 1.1352772.
        assert!(
            (wilson_low(0.4, 20) - 0.242_388).abs() < 1e-4,
            "{}",
            wilson_low(0.4, 20)
        );
        // Nothing right: zero. All of 10 right: n / (n + z²).
        assert!(wilson_low(0.0, 10).abs() < 1e-12);
        assert!((wilson_low(1.0, 10) - 10.0 / 12.705_545).abs() < 1e-6);
    }

    #[test]
    fn few_images_need_a_higher_accuracy_to_be_more_than_a_guess() {
        let of = |accuracy, images| outcome(accuracy, images, None).learning();
        assert_eq!(of(0.25, 10_000), Learning::AtChance);
        assert_eq!(of(0.20, 10_000), Learning::AtChance);
        assert_eq!(of(0.27, 10_000), Learning::Learned);
        assert_eq!(of(0.27, 100), Learning::AtChance);
        assert_eq!(of(0.40, 20), Learning::AtChance);
        assert_eq!(of(0.60, 20), Learning::Learned);
    }

    #[test]
    fn a_loss_far_above_a_guess_is_no_learning_whatever_the_accuracy() {
        // ln 4 = 1.386; twice that is 2.773.
        let of = |loss| outcome(0.9, 100, Some(loss)).learning();
        assert_eq!(of(2.7), Learning::Learned);
        assert_eq!(of(2.8), Learning::Diverged);
        assert_eq!(of(f64::INFINITY), Learning::Diverged);
        assert_eq!(outcome(0.9, 100, None).learning(), Learning::Learned);
    }

    #[test]
    fn a_guess_is_the_most_frequent_class_of_those_that_have_images() {
        let labels = vec![0, 0, 0, 2];
        let split = Split::new(1, vec![0; 4], labels).unwrap();
        let outcome = Outcome::of(1.0, &split, 3, None, &Recipe::default());
        assert_eq!(
            (outcome.guess, outcome.classes, outcome.images),
            (0.75, 2, 4)
        );
        let one = Split::new(1, vec![0; 4], vec![1; 4]).unwrap();
        assert_eq!(
            Outcome::of(1.0, &one, 3, None, &Recipe::default()).learning(),
            Learning::AtChance
        );
    }

    #[test]
    fn no_verdict_says_why_and_what_to_try() {
        assert_eq!(outcome(0.9, 100, Some(0.1)).no_verdict(0.1), None);
        let chance = outcome(0.25, 100, Some(1.3)).no_verdict(0.1).unwrap();
        for part in [
            "No verdict",
            "25.00 % of 100 test images right",
            "more --epochs",
            "--lr than 0.1",
        ] {
            assert!(chance.contains(part), "{chance}");
        }
        let diverged = outcome(0.25, 100, Some(1e7)).no_verdict(1000.0).unwrap();
        for part in ["diverged", "1.000e7", "1.39", "a lower --lr than 1000"] {
            assert!(diverged.contains(part), "{diverged}");
        }
    }
}
