//! Speed: two models in turn on the same images, so that a drift of the machine hits both.

use crate::statistics::Summary;
use lowbit::exec::Model;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Rounds of each pair: every model runs once per round.
const ROUNDS: usize = 25;

/// A measurement lasts at least so long; short ones are repeated within a round.
const LEAST_SECONDS: f64 = 0.02;

/// The speed of a float model and of a quantized one for one batch size and number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedCell {
    /// Threads.
    pub threads: usize,
    /// Images per call.
    pub batch: usize,
    /// Milliseconds per call of the float model.
    pub fp32_ms: Summary,
    /// Milliseconds per call of the quantized model.
    #[serde(alias = "int8_ms")]
    pub quantized_ms: Summary,
    /// Float time over quantized time, round by round.
    pub speedup: Summary,
}

impl SpeedCell {
    /// Images per second of the float model at the median.
    #[must_use]
    pub fn fp32_img_per_s(&self) -> f64 {
        self.batch as f64 * 1e3 / self.fp32_ms.median
    }

    /// Images per second of the quantized model at the median.
    #[must_use]
    pub fn quantized_img_per_s(&self) -> f64 {
        self.batch as f64 * 1e3 / self.quantized_ms.median
    }
}

/// One block's work and time in both models, on one thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerSpeed {
    /// The block's name.
    pub name: String,
    /// Images per call: 64, or as many as there were.
    #[serde(default = "most")]
    pub batch: usize,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Milliseconds per batch of the float model (median).
    pub fp32_ms: f64,
    /// Milliseconds per batch of the quantized model (median).
    #[serde(alias = "int8_ms")]
    pub quantized_ms: f64,
    /// 10⁹ multiply-accumulates per second of the float model.
    pub fp32_gmac_per_s: f64,
    /// 10⁹ multiply-accumulates per second of the quantized model.
    #[serde(alias = "int8_gmac_per_s")]
    pub quantized_gmac_per_s: f64,
}

/// Images per call at most.
const MOST: usize = 64;

/// What results of versions that did not say it were measured at.
fn most() -> usize {
    MOST
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
    quantized: &dyn Model,
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
        batches.push(available.min(MOST));
    }
    let mut cells = Vec::new();
    for threads in thread_counts {
        let pool = pool(threads);
        for &batch in &batches {
            let images = &images[..batch * fp32.graph().input().len()];
            cells.push(pool.install(|| cell(fp32, quantized, images, threads, batch)));
        }
    }
    cells
}

/// Times both models in turn on all images at once, on one thread.
#[must_use]
pub fn one_thread(fp32: &dyn Model, other: &dyn Model, images: &[u8]) -> SpeedCell {
    pool(1).install(|| cell(fp32, other, images, 1, fp32.count(images)))
}

/// Times both models in turn on all images at once, on the threads of rayon's current pool.
#[must_use]
pub fn in_turns(fp32: &dyn Model, other: &dyn Model, images: &[u8]) -> SpeedCell {
    let threads = rayon::current_num_threads();
    cell(fp32, other, images, threads, fp32.count(images))
}

/// Images and logits are cut by the FP32 model, whose graph is the other's.
const FITS: &str = "both models have one graph";

fn cell(
    fp32: &dyn Model,
    quantized: &dyn Model,
    images: &[u8],
    threads: usize,
    batch: usize,
) -> SpeedCell {
    let mut logits = vec![0.0; batch * fp32.graph().classes()];
    let mut time = |model: &dyn Model, repeats: usize| {
        let start = Instant::now();
        for _ in 0..repeats {
            model.run(images, &mut logits).expect(FITS);
        }
        start.elapsed().as_secs_f64() * 1e3 / repeats as f64
    };
    let mut repeats_of = |model: &dyn Model| {
        time(model, 3);
        let once_ms = time(model, 3).max(1e-3);
        ((LEAST_SECONDS * 1e3 / once_ms).ceil() as usize).clamp(1, 10_000)
    };
    let (fp32_repeats, quantized_repeats) = (repeats_of(fp32), repeats_of(quantized));
    let (mut float, mut integer, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Each goes first every other time.
        let (a, b) = if round % 2 == 0 {
            let a = time(fp32, fp32_repeats);
            (a, time(quantized, quantized_repeats))
        } else {
            let b = time(quantized, quantized_repeats);
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
        quantized_ms: Summary::of(&integer),
        speedup: Summary::of(&ratio),
    }
}

/// Times every block of both models in turn, on one thread.
#[must_use]
pub fn layers(fp32: &dyn Model, quantized: &dyn Model, images: &[u8]) -> Vec<LayerSpeed> {
    let batch = fp32.count(images).min(MOST);
    let images = &images[..batch * fp32.graph().input().len()];
    pool(1).install(|| {
        let mut samples: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
        let mut profile = Vec::new();
        for _ in 0..ROUNDS {
            let float = fp32.profile(images).expect(FITS);
            let integer = quantized.profile(images).expect(FITS);
            samples.resize_with(float.len(), Default::default);
            for (sample, (float, integer)) in samples.iter_mut().zip(float.iter().zip(&integer)) {
                sample.0.push(float.seconds);
                sample.1.push(integer.seconds);
            }
            profile = float;
        }
        let row =
            |(layer, (float, integer)): (&lowbit::exec::LayerProfile, &(Vec<f64>, Vec<f64>))| {
                let (fp32, quantized) = (Summary::of(float).median, Summary::of(integer).median);
                let gmacs = layer.macs as f64 * batch as f64 * 1e-9;
                LayerSpeed {
                    name: layer.name.clone(),
                    batch,
                    macs: layer.macs,
                    fp32_ms: fp32 * 1e3,
                    quantized_ms: quantized * 1e3,
                    fp32_gmac_per_s: gmacs / fp32,
                    quantized_gmac_per_s: gmacs / quantized,
                }
            };
        profile.iter().zip(&samples).map(row).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_under_the_names_of_version_0_1_are_read() {
        let summary = serde_json::to_value(Summary::of(&[2.0])).unwrap();
        let cell = serde_json::json!({
            "threads": 1, "batch": 64, "fp32_ms": summary, "int8_ms": summary, "speedup": summary,
        });
        let cell: SpeedCell = serde_json::from_value(cell).unwrap();
        assert_eq!(cell.quantized_img_per_s(), 32_000.0);
        let layer = serde_json::json!({
            "name": "conv1", "macs": 5, "fp32_ms": 2.0, "int8_ms": 1.0, "fp32_gmac_per_s": 3.0, "int8_gmac_per_s": 6.0,
        });
        let layer: LayerSpeed = serde_json::from_value(layer).unwrap();
        assert_eq!((layer.quantized_ms, layer.quantized_gmac_per_s), (1.0, 6.0));
        assert_eq!(layer.batch, 64);
    }
}
