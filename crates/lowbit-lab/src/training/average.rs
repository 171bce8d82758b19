//! The moving average of a model's weights over its steps, which generalizes better than the last of them (Polyak & Juditsky
//! 1992; as `torch.optim.swa_utils.AveragedModel` with an exponential average).

use lowbit::Weights;

/// What the average's tensors are called in a checkpoint.
const PREFIX: &str = "average.";

/// `a ← d·a + (1 − d)·w` after step t (from 1), with `d = min(decay, (1 + t) / (10 + t))`, so that the first weights are
/// forgotten early. It begins with the weights after the first step: before it, activations have no scale.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Average {
    decay: f64,
    weights: Weights,
}

impl Average {
    /// An average of nothing yet; none if `decay` is 0.
    pub(super) fn new(decay: f32) -> Option<Self> {
        (decay > 0.0).then(|| Self {
            decay: f64::from(decay),
            weights: Weights::new(),
        })
    }

    /// Takes in the weights after step `step`, counted from 1.
    pub(super) fn add(&mut self, weights: &Weights, step: u64) {
        let step = step as f64;
        let kept = self.decay.min((1.0 + step) / (10.0 + step));
        for (name, tensor) in weights.iter() {
            match self.weights.get_mut(name) {
                Some(average) => {
                    let pairs = average.data_mut().iter_mut().zip(tensor.data());
                    for (average, &x) in pairs {
                        *average =
                            (kept * f64::from(*average) + (1.0 - kept) * f64::from(x)) as f32;
                    }
                }
                None => self.weights.insert(name.to_owned(), tensor.clone()),
            }
        }
    }

    pub(super) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Puts its tensors beside those of a checkpoint's optimizer.
    pub(super) fn save(&self, tensors: &mut Weights) {
        for (name, tensor) in self.weights.iter() {
            tensors.insert(format!("{PREFIX}{name}"), tensor.clone());
        }
    }

    /// Takes its tensors from a checkpoint's; whether there were any.
    pub(super) fn restore(&mut self, tensors: &Weights) -> bool {
        let mut weights = Weights::new();
        for (name, tensor) in tensors.iter() {
            if let Some(name) = name.strip_prefix(PREFIX) {
                weights.insert(name.to_owned(), tensor.clone());
            }
        }
        self.weights = weights;
        self.weights.iter().next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowbit::Tensor;

    fn weights(x: f32) -> Weights {
        let mut weights = Weights::new();
        weights.insert("w", Tensor::new(vec![1], vec![x]));
        weights
    }

    #[test]
    fn the_average_follows_its_formula_and_survives_a_checkpoint() {
        let mut average = Average::new(0.5).unwrap();
        average.add(&weights(1.0), 1);
        assert_eq!(average.weights(), &weights(1.0));
        // d = 3/12 after the second step, and at most a half.
        average.add(&weights(12.0), 2);
        let expected = 0.25 + 12.0 * 0.75;
        assert!((average.weights().slice("w")[0] - expected).abs() < 1e-5);
        average.add(&weights(0.0), 1000);
        assert!((average.weights().slice("w")[0] - expected / 2.0).abs() < 1e-5);
        let mut tensors = weights(7.0);
        average.save(&mut tensors);
        let mut again = Average::new(0.5).unwrap();
        assert!(again.restore(&tensors));
        assert_eq!(again, average);
        assert!(!again.restore(&weights(7.0)));
        assert!(Average::new(0.0).is_none());
    }
}
