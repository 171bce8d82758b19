//! Speed of the codecs on one core, in gigabytes of f32 a second: the update of a model of 434,602 parameters.
//!
//! `cargo bench -p lowbit-fed --bench codec`

use lowbit_fed::codec::{Codec, Dither, Rounding, decode};
use lowbit_kernels::random::{normal, stream};
use std::hint::black_box;
use std::time::{Duration, Instant};

fn main() {
    let rows: Vec<usize> = [
        (32, 75),
        (64, 800),
        (96, 576),
        (128, 3456),
        (128, 128),
        (10, 128),
    ]
    .into_iter()
    .flat_map(|(rows, len)| std::iter::repeat_n(len, rows))
    .collect();
    let mut rng = stream(1, "bench", 0);
    let count: usize = rows.iter().sum();
    let values: Vec<f32> = (0..count).map(|_| 0.01 * normal(&mut rng)).collect();
    let mut found = vec![0.0; count];
    println!(
        "{count} numbers, {:.2} MB of f32, one thread",
        count as f64 * 4e-6
    );
    println!(
        "{:<42} {:>9} {:>9} {:>10} {:>9}",
        "codec", "encode", "decode", "bytes", "bits each"
    );
    let stochastic = Rounding::Stochastic;
    let nearest = Rounding::Nearest;
    let unbiased = Rounding::NearestUnbiased;
    let codecs = [
        Codec::Plain,
        Codec::Half,
        Codec::Rows {
            bits: 16,
            rounding: stochastic,
        },
        Codec::Rows {
            bits: 8,
            rounding: stochastic,
        },
        Codec::Rows {
            bits: 4,
            rounding: stochastic,
        },
        Codec::Rows {
            bits: 2,
            rounding: nearest,
        },
        Codec::Rows {
            bits: 1,
            rounding: nearest,
        },
        Codec::Rotated {
            bits: 2,
            rounding: nearest,
        },
        Codec::Rotated {
            bits: 1,
            rounding: nearest,
        },
        Codec::Rotated {
            bits: 2,
            rounding: unbiased,
        },
        Codec::Rotated {
            bits: 1,
            rounding: unbiased,
        },
        Codec::Ternary { share: 0.01 },
    ];
    for codec in codecs {
        let mut dither = Dither::new(1, "bench", 0);
        let mut body = Vec::new();
        let encode = fastest(|| {
            body.clear();
            codec.encode(
                black_box(&values),
                rows.iter().copied(),
                &mut dither,
                &mut body,
            );
        });
        let read = fastest(|| {
            decode(
                codec.id(),
                black_box(&body),
                rows.iter().copied(),
                &mut found,
            )
            .expect("its own bytes");
        });
        let speed = |time: Duration| 4e-9 * count as f64 / time.as_secs_f64();
        println!(
            "{:<42} {:>6.2} GB/s {:>4.2} GB/s {:>8} {:>9.3}",
            format!("{codec:?}").replace("rounding: ", ""),
            speed(encode),
            speed(read),
            body.len(),
            8.0 * body.len() as f64 / count as f64,
        );
    }
}

/// The fastest of many runs: what the code can do when nothing else disturbs it.
fn fastest(mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    let mut best = Duration::MAX;
    while start.elapsed() < Duration::from_millis(700) {
        let begin = Instant::now();
        work();
        best = best.min(begin.elapsed());
    }
    best
}
