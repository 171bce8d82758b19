//! The mean, weighted by training images.

/// A sum of updates that need not be kept.
#[derive(Clone, Debug)]
pub struct WeightedMean {
    sum: Vec<f64>,
    images: u64,
}

impl WeightedMean {
    /// Nothing so far, of `len` numbers.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self {
            sum: vec![0.0; len],
            images: 0,
        }
    }

    /// Adds the update of a client with `images` images.
    pub fn add(&mut self, update: &[f32], images: u32) {
        let weight = f64::from(images);
        for (sum, &x) in self.sum.iter_mut().zip(update) {
            *sum += weight * f64::from(x);
        }
        self.images += u64::from(images);
    }

    /// The mean; zeros if nothing was added.
    #[must_use]
    pub fn finish(mut self) -> Vec<f64> {
        let images = self.images.max(1) as f64;
        self.sum.iter_mut().for_each(|sum| *sum /= images);
        self.sum
    }
}
