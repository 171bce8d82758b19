//! Speed: two models in turn on the same images, so that a drift of the machine hits both.

use crate::statistics::Summary;
use lowbit::runtime::Model;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Rounds of each pair: every model runs once per round.
const ROUNDS: usize = 25;

/// A measurement lasts at least so long; short ones are repeated within a round.
const LEAST_SECONDS: f64 = 0.02;

/// The speed of FP32 and INT8 for one batch size and number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedCell {
    /// Threads.
    pub threads: usize,
    /// Images per call.
    pub batch: usize,
    /// Milliseconds per call of the float model.
    pub fp32_ms: Summary,
    /// Milliseconds per call of the integer model.
    pub int8_ms: Summary,
    /// Float time over integer time, round by round.
    pub speedup: Summary,
}

impl SpeedCell {
    /// Images per second at the median.
    #[must_use]
    pub fn fp32_img_per_s(&self) -> f64 {
        self.batch as f64 * 1e3 / self.fp32_ms.median
    }

    /// Images per second at the median.
    #[must_use]
    pub fn int8_img_per_s(&self) -> f64 {
        self.batch as f64 * 1e3 / self.int8_ms.median
    }
}

/// One block's work and time in both models, at batch 64 on one thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerSpeed {
    /// The block's name.
    pub name: String,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Milliseconds per batch of the float model (median).
    pub fp32_ms: f64,
    /// Milliseconds per batch of the integer model (median).
    pub int8_ms: f64,
    /// 10⁹ multiply-accumulates per second of the float model.
    pub fp32_gmac_per_s: f64,
    /// 10⁹ multiply-accumulates per second of the integer model.
    pub int8_gmac_per_s: f64,
}

pub(crate) fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("the system grants a few threads")
}

/// Times both models in turn at batch 1 and 64 (or as many images as there are), on one thread and on `threads`.
///
/// # Panics
/// If there are no images.
#[must_use]
pub fn measure(
    fp32: &dyn Model,
    int8: &dyn Model,
    images: &[u8],
    threads: usize,
) -> Vec<SpeedCell> {
    let available = fp32.count(images);
    assert!(available > 0, "timing needs an image");
    let mut thread_counts = vec![1];
    if threads > 1 {
        thread_counts.push(threads);
    }
    let mut batches = vec![1];
    if available > 1 {
        batches.push(available.min(64));
    }
    let mut cells = Vec::new();
    for threads in thread_counts {
        let pool = pool(threads);
        for &batch in &batches {
            let images = &images[..batch * fp32.graph().input().len()];
            cells.push(pool.install(|| cell(fp32, int8, images, threads, batch)));
        }
    }
    cells
}

/// Times both models in turn on all images at once, on one thread.
#[must_use]
pub fn one_thread(fp32: &dyn Model, other: &dyn Model, images: &[u8]) -> SpeedCell {
    pool(1).install(|| cell(fp32, other, images, 1, fp32.count(images)))
}

fn cell(
    fp32: &dyn Model,
    int8: &dyn Model,
    images: &[u8],
    threads: usize,
    batch: usize,
) -> SpeedCell {
    let mut logits = vec![0.0; batch * fp32.graph().classes()];
    let mut time = |model: &dyn Model, repeats: usize| {
        let start = Instant::now();
        for _ in 0..repeats {
            model.run(images, &mut logits);
        }
        start.elapsed().as_secs_f64() * 1e3 / repeats as f64
    };
    let mut repeats_of = |model: &dyn Model| {
        time(model, 3);
        let once_ms = time(model, 3).max(1e-3);
        ((LEAST_SECONDS * 1e3 / once_ms).ceil() as usize).clamp(1, 10_000)
    };
    let (fp32_repeats, int8_repeats) = (repeats_of(fp32), repeats_of(int8));
    let (mut float, mut integer, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Each goes first every other time.
        let (a, b) = if round % 2 == 0 {
            let a = time(fp32, fp32_repeats);
            (a, time(int8, int8_repeats))
        } else {
            let b = time(int8, int8_repeats);
            (time(fp32, fp32_repeats), b)
        };
        float.push(a);
        integer.push(b);
        ratio.push(a / b);
    }
    SpeedCell {
        threads,
        batch,
        fp32_ms: Summary::of(&float),
        int8_ms: Summary::of(&integer),
        speedup: Summary::of(&ratio),
    }
}

/// Times every block of both models in turn, on one thread.
#[must_use]
pub fn layers(fp32: &dyn Model, int8: &dyn Model, images: &[u8]) -> Vec<LayerSpeed> {
    let batch = fp32.count(images).min(64);
    let images = &images[..batch * fp32.graph().input().len()];
    pool(1).install(|| {
        let mut samples: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
        let mut profile = Vec::new();
        for _ in 0..ROUNDS {
            let float = fp32.profile(images);
            let integer = int8.profile(images);
            samples.resize_with(float.len(), Default::default);
            for (sample, (float, integer)) in samples.iter_mut().zip(float.iter().zip(&integer)) {
                sample.0.push(float.seconds);
                sample.1.push(integer.seconds);
            }
            profile = float;
        }
        let row =
            |(layer, (float, integer)): (&lowbit::runtime::LayerProfile, &(Vec<f64>, Vec<f64>))| {
                let (fp32, int8) = (Summary::of(float).median, Summary::of(integer).median);
                let gmacs = layer.macs as f64 * batch as f64 * 1e-9;
                LayerSpeed {
                    name: layer.name.clone(),
                    macs: layer.macs,
                    fp32_ms: fp32 * 1e3,
                    int8_ms: int8 * 1e3,
                    fp32_gmac_per_s: gmacs / fp32,
                    int8_gmac_per_s: gmacs / int8,
                }
            };
        profile.iter().zip(&samples).map(row).collect()
    })
}
