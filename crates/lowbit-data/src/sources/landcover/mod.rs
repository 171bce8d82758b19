//! `landcover`: synthetic 64×64 RGB patches for EuroSAT's ten class names, so that every command works without any file.
//!
//! Each image is drawn from its own random stream, so the set does not depend on the number of threads, and a limited set
//! is a part of the full one. A patch is a scene of its own class with a part of a neighboring class's scene, seen through
//! a soft lens in changing light with sensor noise. What keeps a network from 100 % is that neighbor ([`DIFFICULTY`]).

mod canvas;
mod scenes;

use std::path::Path;

use lowbit_kernels::random::{RngCore, below, normal, stream, uniform};
use rayon::prelude::*;

use super::raw::resized;
use crate::listing::Shape;
use crate::{DataError, Dataset, LoadOptions, Split, SplitRule, Unit};
use canvas::{Canvas, SIDE};

/// The largest share of a patch that its neighbor class may cover; above one half, the label is a matter of luck.
const DIFFICULTY: f32 = 0.3;

/// Patches in both parts together.
const TOTAL: usize = 7500;

/// EuroSAT's class names (Helber et al. 2019), in its order.
pub(crate) const CLASSES: [&str; 10] = [
    "AnnualCrop",
    "Forest",
    "HerbaceousVegetation",
    "Highway",
    "Industrial",
    "Pasture",
    "PermanentCrop",
    "Residential",
    "River",
    "SeaLake",
];

/// Where the test patches' streams begin: far from the training patches', whatever their number.
const TEST_STREAMS: u64 = 1 << 32;

const IMAGE_LEN: usize = SIDE * SIDE * 3;

pub(crate) fn generate(options: &LoadOptions) -> Result<Dataset, DataError> {
    options.check_nameless(Path::new("landcover"))?;
    let limit = options.limit.unwrap_or(TOTAL);
    let test_len =
        (TOTAL as f64 * options.split.test_fraction(options.test_fraction)).round() as usize;
    let (train_len, test_len) = ((TOTAL - test_len).min(limit), test_len.min(limit));
    options.progress.begin(
        "generating landcover",
        (train_len + test_len) as u64,
        Unit::Images,
    );
    let train = patches(options, 0, train_len);
    let test = patches(options, TEST_STREAMS, test_len);
    options.progress.finish();
    let own = Shape {
        height: SIDE,
        width: SIDE,
        channels: 3,
    };
    let (shape, [train, test]) = resized(Path::new("landcover"), own, [train?, test?], options)?;
    Ok(Dataset {
        name: "landcover".into(),
        source: format!("landcover (synthetic, seed {})", options.seed),
        synthetic: true,
        class_names: CLASSES.map(String::from).to_vec(),
        height: shape.height,
        width: shape.width,
        channels: shape.channels,
        train,
        validation: Split::default(),
        test,
        split: match options.split {
            SplitRule::Shares(_) => format!("generated apart, {}", options.split),
            _ => "generated apart".into(),
        },
        notes: Vec::new(),
    })
}

fn patches(options: &LoadOptions, first: u64, count: usize) -> Result<Split, DataError> {
    let mut pixels = vec![0; count * IMAGE_LEN];
    pixels
        .par_chunks_exact_mut(IMAGE_LEN)
        .enumerate()
        .for_each(|(index, image)| {
            let mut rng = stream(options.seed, "landcover", first + index as u64);
            patch(&mut rng, index % CLASSES.len(), image);
            options.progress.advance(1);
        });
    let labels = (0..count)
        .map(|index| (index % CLASSES.len()) as u32)
        .collect();
    Split::new(IMAGE_LEN, pixels, labels)
}

/// One patch of `class`, `[64, 64, 3]`.
fn patch(rng: &mut impl RngCore, class: usize, image: &mut [u8]) {
    let mut scene = Canvas::new();
    scenes::paint(rng, class, &mut scene);
    let neighbor = (class + 1 + below(rng, CLASSES.len() as u32 - 1) as usize) % CLASSES.len();
    let mut other = Canvas::new();
    scenes::paint(rng, neighbor, &mut other);
    let share = uniform(rng) * DIFFICULTY;
    scene.cover(rng, &other, share);
    scene.blur(0.12 + 0.1 * uniform(rng));
    expose(rng, &scene, image);
}

/// Light, haze and sensor noise, then 8 bits.
fn expose(rng: &mut impl RngCore, scene: &Canvas, image: &mut [u8]) {
    let gain = (0.16 * normal(rng)).exp();
    let cast: [f32; 3] = std::array::from_fn(|_| 1.0 + 0.05 * normal(rng));
    let haze = 0.08 * uniform(rng);
    let (slope_x, slope_y) = (0.12 * normal(rng), 0.12 * normal(rng));
    let noise = 0.012 + 0.02 * uniform(rng);
    for (at, (out, pixel)) in image.chunks_exact_mut(3).zip(&scene.pixels).enumerate() {
        let x = (at % SIDE) as f32 / SIDE as f32 - 0.5;
        let y = (at / SIDE) as f32 / SIDE as f32 - 0.5;
        let light = gain * (1.0 + slope_x * x + slope_y * y);
        let [a, b, c, d] = rng.next_u32().to_le_bytes();
        // Four bytes' sum, of standard deviation 148, is near enough to normal and costs a tenth.
        let grain = noise / 148.0
            * (f32::from(u16::from(a) + u16::from(b) + u16::from(c) + u16::from(d)) - 510.0);
        let speckle = [a, b, c].map(|byte| noise / 512.0 * (f32::from(byte) - 127.5));
        for channel in 0..3 {
            let value = haze + (1.0 - haze) * pixel[channel] * cast[channel] * light;
            out[channel] = ((value + grain + speckle[channel]) * 255.0).clamp(0.0, 255.0) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(seed: u64, limit: usize) -> Dataset {
        generate(&LoadOptions {
            limit: Some(limit),
            ..LoadOptions::new(seed)
        })
        .expect("generates")
    }

    #[test]
    fn the_same_seed_gives_the_same_patches_with_any_number_of_threads() {
        let pool = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("threads start")
        };
        let one = pool(1).install(|| small(1, 60));
        let three = pool(3).install(|| small(1, 60));
        assert_eq!(one, three);
        assert_ne!(one.train, small(2, 60).train);
    }

    #[test]
    fn a_limited_set_is_the_beginning_of_a_larger_one_and_balanced() {
        let (few, more) = (small(1, 20), small(1, 50));
        assert_eq!(few.train.images().unwrap(), more.train.first(20).unwrap());
        assert_eq!(few.test.images().unwrap(), more.test.first(20).unwrap());
        assert_eq!(few.train.counts(10), vec![2; 10]);
        assert_ne!(few.train.image(0).unwrap(), few.test.image(0).unwrap());
    }

    #[test]
    fn it_says_that_it_is_synthetic() {
        let set = small(1, 10);
        assert!(set.synthetic && set.source.contains("synthetic"));
        assert_eq!((set.height, set.width, set.channels), (64, 64, 3));
    }

    #[test]
    fn classes_differ_in_brightness_and_texture_but_not_by_a_constant() {
        let set = small(1, 400);
        let mut mean = [0.0f64; 10];
        for index in 0..set.train.len() {
            let sum: u64 = set
                .train
                .image(index)
                .unwrap()
                .iter()
                .map(|&v| u64::from(v))
                .sum();
            mean[index % 10] += sum as f64 / IMAGE_LEN as f64 / 40.0;
        }
        let (forest, industrial) = (mean[1], mean[4]);
        assert!(industrial > forest + 20.0, "{mean:?}");
        assert!(mean.iter().all(|&m| m > 30.0 && m < 200.0), "{mean:?}");
    }
}
