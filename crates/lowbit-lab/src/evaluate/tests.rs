use super::*;
use lowbit::Shape;
use lowbit::exec::{LayerProfile, RuntimeError};
use lowbit::graph::{Graph, zoo};

/// Says what the first three pixels of an image are.
struct Echo(Graph);

impl Echo {
    fn new() -> Self {
        let names = ["a", "b", "c"].map(String::from);
        Self(zoo::build("mlp", Shape::new(2, 2, 1), &names).unwrap())
    }
}

impl Model for Echo {
    fn graph(&self) -> &Graph {
        &self.0
    }

    fn run(&self, images: &[u8], logits: &mut [f32]) -> Result<(), RuntimeError> {
        for (image, row) in images.chunks(4).zip(logits.chunks_mut(3)) {
            for (logit, &pixel) in row.iter_mut().zip(image) {
                *logit = f32::from(pixel);
            }
        }
        Ok(())
    }

    fn profile(&self, _images: &[u8]) -> Result<Vec<LayerProfile>, RuntimeError> {
        Ok(vec![])
    }

    fn value_bytes(&self, _images: usize) -> usize {
        0
    }
}

fn split(images: &[[u8; 4]], labels: &[u32]) -> Split {
    Split::new(4, images.concat(), labels.to_vec()).unwrap()
}

/// Gives no numbers.
struct Dumb(Echo);

impl Model for Dumb {
    fn graph(&self) -> &Graph {
        self.0.graph()
    }

    fn run(&self, _images: &[u8], logits: &mut [f32]) -> Result<(), RuntimeError> {
        logits.fill(f32::NAN);
        Ok(())
    }

    fn profile(&self, _images: &[u8]) -> Result<Vec<LayerProfile>, RuntimeError> {
        Ok(vec![])
    }

    fn value_bytes(&self, _images: usize) -> usize {
        0
    }
}

#[test]
fn a_model_without_numbers_is_right_of_nothing() {
    let split = split(&[[5, 1, 0, 0], [0, 2, 7, 0]], &[0, 1]);
    let found = evaluate(&Dumb(Echo::new()), &split).unwrap();
    assert_eq!(found.correct, [false, false]);
    assert_eq!(found.confusion, [[0, 1, 0], [1, 0, 0], [0, 0, 0]]);
    assert!(found.loss.is_nan());
}

#[test]
fn predictions_hits_and_confusion_are_counted_by_true_class() {
    let split = split(
        &[[5, 1, 0, 0], [0, 2, 7, 0], [3, 3, 1, 0], [0, 1, 9, 0]],
        &[0, 1, 1, 2],
    );
    let found = evaluate(&Echo::new(), &split).unwrap();
    // Of equal logits the first one wins.
    assert_eq!(found.predictions, [0, 2, 0, 2]);
    assert_eq!(found.correct, [true, false, false, true]);
    assert_eq!(found.confusion, [[1, 0, 0], [1, 0, 1], [0, 0, 1]]);
    assert_eq!(found.accuracy(), 0.5);
    assert_eq!(
        found.score(),
        Score {
            accuracy: 0.5,
            loss: found.loss
        }
    );
}

#[test]
fn the_loss_is_the_mean_cross_entropy() {
    // −ln(e / (e + 2)) = 0.551445, and ln 3 = 1.098612 of three equal logits.
    let split = split(&[[1, 0, 0, 0], [4, 4, 4, 0]], &[0, 2]);
    let found = evaluate(&Echo::new(), &split).unwrap();
    let expected = (0.551_444_7 + 1.098_612_3) / 2.0;
    assert!((found.loss - expected).abs() < 1e-6, "{}", found.loss);
}

#[test]
fn more_images_than_a_batch_are_all_counted() {
    let images: Vec<[u8; 4]> = (0..130u8).map(|index| [index, 60, 0, 0]).collect();
    let labels = vec![0; 130];
    let found = evaluate(&Echo::new(), &split(&images, &labels)).unwrap();
    // Right where the pixel is at least 60.
    assert_eq!(found.correct.len(), 130);
    assert_eq!(found.confusion, [[70, 60, 0], [0, 0, 0], [0, 0, 0]]);
    let none = evaluate(&Echo::new(), &split(&[], &[])).unwrap();
    assert_eq!((none.accuracy(), none.loss), (0.0, 0.0));
}

#[test]
fn changed_predictions_are_counted_whether_right_or_wrong() {
    let one = evaluate(
        &Echo::new(),
        &split(&[[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0]], &[0, 0, 0]),
    )
    .unwrap();
    let other = evaluate(
        &Echo::new(),
        &split(&[[0, 9, 0, 0], [0, 0, 9, 0], [0, 0, 9, 0]], &[0, 0, 0]),
    )
    .unwrap();
    assert_eq!((one.changed(&other), one.changed(&one)), (2, 0));
}

#[test]
fn digests_are_equal_for_equal_bits_alone() {
    assert_eq!(folded(0x1234_5678_0000_0001), 0x1234_5679);
    assert_eq!(folded(0xFF00_FF00_F0F0_F0F0), 0x0FF0_0FF0);
    let digest = |pixel: u8| {
        let split = split(&[[pixel, 1, 2, 0], [3, 4, 5, 0]], &[0, 1]);
        (
            evaluate(&Echo::new(), &split).unwrap().logits_digest,
            images_digest(&split).unwrap(),
        )
    };
    assert_eq!(digest(7), digest(7));
    assert_ne!(digest(7).0, digest(8).0);
    assert_ne!(digest(7).1, digest(8).1);
    let relabeled = split(&[[7, 1, 2, 0], [3, 4, 5, 0]], &[1, 1]);
    assert_ne!(images_digest(&relabeled).unwrap(), digest(7).1);
    assert_eq!(
        evaluate(&Echo::new(), &relabeled).unwrap().logits_digest,
        digest(7).0
    );
}
