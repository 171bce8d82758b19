//! Two training images made into one, with both labels: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).
//!
//! As torchvision's transforms of these names do: one share for a batch, and each image's partner is the one before it.

use lowbit::Shape;
use lowbit_kernels::random::{self, RngCore, below, uniform};

/// Parameters of the Beta distributions that shares are drawn from; 0 for none. With both, each batch draws which.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mix {
    pub(super) mixup: f32,
    pub(super) cutmix: f32,
}

/// The other label of each image, and the share of its own.
pub(super) struct Mixed {
    pub(super) others: Vec<u32>,
    pub(super) share: f32,
}

impl Mix {
    /// Mixes a batch of `[n, h, w, c]` pixels in place; none if nothing is to be mixed.
    pub(super) fn apply(
        self,
        seed: u64,
        step: u64,
        (images, labels): (&mut [u8], &[u32]),
        shape: Shape,
    ) -> Option<Mixed> {
        let count = labels.len();
        if (self.mixup == 0.0 && self.cutmix == 0.0) || count < 2 {
            return None;
        }
        let mut rng = random::stream(seed, "mix", step);
        let cut = match (self.mixup > 0.0, self.cutmix > 0.0) {
            (true, true) => below(&mut rng, 2) == 1,
            (_, cut) => cut,
        };
        let mut others = labels.to_vec();
        others.rotate_right(1);
        let len = shape.len();
        let original = images.to_vec();
        let partner = |index: usize| &original[(index + count - 1) % count * len..][..len];
        if cut {
            let share = beta(&mut rng, self.cutmix);
            let hole = Hole::draw(&mut rng, share, shape);
            for (index, image) in images.chunks_exact_mut(len).enumerate() {
                hole.fill(image, partner(index), shape);
            }
            let share = 1.0 - hole.area() as f32 / (shape.h() * shape.w()) as f32;
            return Some(Mixed { others, share });
        }
        let share = beta(&mut rng, self.mixup);
        for (index, image) in images.chunks_exact_mut(len).enumerate() {
            for (x, &other) in image.iter_mut().zip(partner(index)) {
                let mixed = share * f32::from(*x) + (1.0 - share) * f32::from(other);
                *x = mixed.round() as u8;
            }
        }
        Some(Mixed { others, share })
    }
}

/// A rectangle of an image: rows and columns.
#[derive(Clone, Debug, PartialEq)]
struct Hole {
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

impl Hole {
    /// A rectangle of the image's proportions with `1 − share` of its area, anywhere, cut off at the edges.
    fn draw(rng: &mut impl RngCore, share: f32, shape: Shape) -> Self {
        let (h, w) = (shape.h(), shape.w());
        let half = 0.5 * (1.0 - share).sqrt();
        let mut range = |size: usize| {
            let center = below(rng, size as u32) as isize;
            let reach = (half * size as f32) as isize;
            let end = |at: isize| at.clamp(0, size as isize) as usize;
            end(center - reach)..end(center + reach)
        };
        Self {
            rows: range(h),
            columns: range(w),
        }
    }

    fn area(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    fn fill(&self, image: &mut [u8], from: &[u8], shape: Shape) {
        let (w, c) = (shape.w(), shape.c());
        for row in self.rows.clone() {
            let pixels = (row * w + self.columns.start) * c..(row * w + self.columns.end) * c;
            image[pixels.clone()].copy_from_slice(&from[pixels]);
        }
    }
}

/// A draw of Beta(α, α) with 0 < α ≤ 1 (Jöhnk 1964).
fn beta(rng: &mut impl RngCore, alpha: f32) -> f32 {
    loop {
        let mut power = || uniform(rng).powf(1.0 / alpha);
        let (x, y) = (power(), power());
        if x + y > 0.0 && x + y <= 1.0 {
            return x / (x + y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape::new(4, 4, 1)
    }

    fn batch() -> (Vec<u8>, Vec<u32>) {
        let images = [10u8, 110, 210].iter().flat_map(|&x| [x; 16]).collect();
        (images, vec![0, 1, 2])
    }

    #[test]
    fn mixup_takes_the_share_of_both_images() {
        let mix = Mix {
            mixup: 1.0,
            cutmix: 0.0,
        };
        let (mut images, labels) = batch();
        let mixed = mix.apply(1, 7, (&mut images, &labels), shape()).unwrap();
        assert_eq!(mixed.others, [2, 0, 1]);
        let share = mixed.share;
        assert!(share > 0.0 && share < 1.0);
        for (index, (own, other)) in [(10.0, 210.0), (110.0, 10.0), (210.0, 110.0)]
            .iter()
            .enumerate()
        {
            let expected = (share * own + (1.0 - share) * other).round() as u8;
            assert!(images[16 * index..][..16].iter().all(|&x| x == expected));
        }
        let (mut again, _) = batch();
        mix.apply(1, 7, (&mut again, &labels), shape()).unwrap();
        assert_eq!(images, again);
    }

    #[test]
    fn cutmix_pastes_a_rectangle_and_counts_its_pixels() {
        let mix = Mix {
            mixup: 0.0,
            cutmix: 1.0,
        };
        let mut shares = Vec::new();
        for step in 0..50 {
            let (mut images, labels) = batch();
            let mixed = mix.apply(1, step, (&mut images, &labels), shape()).unwrap();
            for (index, (own, other)) in [(10, 210), (110, 10), (210, 110)].iter().enumerate() {
                let image = &images[16 * index..][..16];
                let kept = image.iter().filter(|&x| x == own).count();
                assert_eq!(kept + image.iter().filter(|&x| x == other).count(), 16);
                assert_eq!(mixed.share, kept as f32 / 16.0);
            }
            shares.push(mixed.share);
        }
        let among = |low: f32, high: f32| shares.iter().any(|share| (low..high).contains(share));
        // Holes of four rows and columns reach one pixel to each side at most.
        assert!(among(0.7, 0.8) && among(0.9, 1.1), "{shares:?}");
    }

    #[test]
    fn a_hole_is_cut_off_at_the_edges() {
        for step in 0..100 {
            let mut rng = random::stream(1, "test", step);
            let hole = Hole::draw(&mut rng, 0.0, shape());
            assert!(hole.rows.end <= 4 && hole.columns.end <= 4);
            assert!(
                hole.area() >= 4,
                "at least a quarter of the image: {hole:?}"
            );
        }
    }

    #[test]
    fn shares_have_the_mean_and_the_variance_of_a_beta_distribution() {
        for alpha in [1.0, 0.4] {
            let mut rng = random::stream(5, "test", 0);
            let draws: Vec<f64> = (0..20_000)
                .map(|_| f64::from(beta(&mut rng, alpha)))
                .collect();
            let mean = draws.iter().sum::<f64>() / 20_000.0;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
            let expected = 1.0 / (4.0 * (2.0 * f64::from(alpha) + 1.0));
            assert!((mean - 0.5).abs() < 0.01, "{alpha}: {mean}");
            assert!(
                (variance - expected).abs() < 0.005,
                "{alpha}: {variance}, {expected}"
            );
        }
    }

    #[test]
    fn nothing_is_mixed_without_settings() {
        let none = Mix {
            mixup: 0.0,
            cutmix: 0.0,
        };
        let (mut images, labels) = batch();
        assert!(none.apply(1, 7, (&mut images, &labels), shape()).is_none());
        assert_eq!(images, batch().0);
    }
}
