//! Batch-norm's statistics, measured anew.

use super::*;

#[test]
fn observed_batches_leave_their_mean_in_the_running_statistics_and_nothing_else() {
    let graph = crate::graph::zoo::build("resnet8", Shape::new(16, 16, 3), &classes(6)).unwrap();
    for config in [
        None,
        Some(QatConfig::of(crate::WeightBits::B2)),
        Some(QatConfig::of(crate::WeightBits::B8)),
    ] {
        let (weights, optimizer) = (Weights::init(&graph, 1), Optimizer::default());
        let mut trainer =
            Trainer::compile(&graph, &weights, optimizer, config, Isa::best()).unwrap();
        let (images, labels) = learnable(&graph, 8, 1);
        for _ in 0..3 {
            trainer.step(&images, &labels, 1e-2).unwrap();
        }
        let (before, state) = (trainer.weights(), trainer.state());
        let batches = [7, 8, 9].map(|seed| learnable(&graph, 8, seed).0);
        // What each leaves alone.
        let alone = batches.each_ref().map(|images| {
            trainer.observe(images, 0).unwrap();
            trainer.weights()
        });
        for (number, images) in batches.iter().enumerate() {
            trainer.observe(images, number).unwrap();
        }
        assert_eq!(trainer.state(), state);
        for (name, found) in trainer.weights().iter() {
            if !name.contains("running_") {
                assert_eq!(found, before.get(name).unwrap(), "{name}");
                continue;
            }
            // Behind another pivot a sum rounds otherwise, and a code may change.
            for (channel, &found) in found.data().iter().enumerate() {
                let mean = alone.iter().map(|w| w.slice(name)[channel]).sum::<f32>() / 3.0;
                assert!(
                    (found - mean).abs() <= 2e-3 * mean.abs() + 1e-3,
                    "{name}: {found}, {mean}"
                );
            }
        }
        // And steps go on as they would have.
        trainer.restore(&before, &state).unwrap();
        let mut other = Trainer::compile(&graph, &before, optimizer, config, Isa::best()).unwrap();
        other.restore(&before, &state).unwrap();
        trainer.step(&images, &labels, 1e-2).unwrap();
        other.step(&images, &labels, 1e-2).unwrap();
        assert_eq!(trainer.weights(), other.weights());
    }
    let mut trainer =
        Trainer::new(&graph, &Weights::init(&graph, 1), Optimizer::default()).unwrap();
    for images in [&[][..], &[0; 16 * 16 * 3 + 1]] {
        assert!(matches!(
            trainer.observe(images, 0),
            Err(TrainError::Images { .. })
        ));
    }
}
