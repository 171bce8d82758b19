use super::*;
use crate::exec::Layerwise;
use crate::graph::{Conv, Graph, GraphBuilder, Op};
use crate::quant::quantizers;
use crate::shape::Shape;
use lowbit_kernels::random;

const IMAGES: usize = 8;
const CHANNELS: usize = 6;

/// A convolution of six channels, and what makes a model of it.
fn graph(groups: usize) -> Graph {
    let mut graph = GraphBuilder::new("one", Shape::new(9, 8, CHANNELS), &["a".into(), "b".into()]);
    let conv = Op::Conv(Conv {
        out_channels: 12,
        kernel: [3; 2],
        stride: [2; 2],
        padding: [1; 4],
        dilation: [1; 2],
        groups,
        bias: false,
    });
    let x = graph.add("conv", conv, &[0]);
    let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(2), &[x]);
    graph.finish().unwrap()
}

/// Images whose neighboring pixels and channels are alike.
fn images(graph: &Graph) -> Vec<u8> {
    let mut rng = random::stream(4, "test", 0);
    let mut last = 0;
    let mut next = |i: usize| {
        last = (3 * last + random::below(&mut rng, 160)) / 4 + i as u32 / 9 % 64;
        last.min(255) as u8
    };
    (0..IMAGES * graph.input().len()).map(&mut next).collect()
}

fn kernel(len: usize) -> Vec<f32> {
    let mut rng = random::stream(5, "test", 0);
    (0..len).map(|_| random::uniform(&mut rng) - 0.45).collect()
}

fn nearest(kernel: &[f32], channels: usize, bits: WeightBits) -> QuantizedLayer {
    let mut weights = vec![0; kernel.len()];
    let taps = kernel.len() / channels;
    let pairs = kernel
        .chunks_exact(taps)
        .zip(weights.chunks_exact_mut(taps));
    let scale = pairs
        .map(|(w, q)| quantizers::quantize_channel(w, bits, q))
        .collect();
    QuantizedLayer {
        bits,
        weights,
        scale,
        bias: vec![0.0; channels],
    }
}

/// `H` of the inputs `[pixels, taps]` less their means, damped: plain loops.
fn hessian(read: &[f64], mean: &[f64]) -> Vec<f64> {
    let taps = mean.len();
    let mut h = vec![0.0; taps * taps];
    for row in read.chunks_exact(taps) {
        for i in 0..taps {
            for j in 0..taps {
                h[i * taps + j] += (row[i] - mean[i]) * (row[j] - mean[j]);
            }
        }
    }
    let damping = 0.01 * (0..taps).map(|i| h[i * taps + i]).sum::<f64>() / taps as f64;
    (0..taps).for_each(|i| h[i * taps + i] += damping);
    h
}

/// The inverse, by Gauss and Jordan's elimination.
fn inverse(h: &[f64]) -> Vec<f64> {
    let n = h.len().isqrt();
    let (mut a, mut inverse) = (h.to_vec(), vec![0.0; n * n]);
    (0..n).for_each(|i| inverse[i * n + i] = 1.0);
    for i in 0..n {
        let pivot = a[i * n + i];
        for j in 0..n {
            a[i * n + j] /= pivot;
            inverse[i * n + j] /= pivot;
        }
        for k in (0..n).filter(|&k| k != i) {
            let factor = a[k * n + i];
            for j in 0..n {
                a[k * n + j] -= factor * a[i * n + j];
                inverse[k * n + j] -= factor * inverse[i * n + j];
            }
        }
    }
    inverse
}

/// OBQ's loop with the inverse of `h` at hand (Frantar & Alistarh 2022, equations 3 and 4), tap by tap from the last on.
fn textbook(h: &[f64], filter: &[f32], scale: f32, bits: WeightBits) -> Vec<i16> {
    let n = filter.len();
    let mut inverse = inverse(h);
    let mut w: Vec<f64> = filter
        .iter()
        .map(|&w| f64::from(w) / f64::from(scale))
        .collect();
    let limit = f64::from(bits.magnitude_max());
    let mut integers = vec![0; n];
    for tap in (0..n).rev() {
        let nearer = |a: &i16, b: &i16| {
            let off = |q: i16| (w[tap] - f64::from(q)).abs();
            off(*a).total_cmp(&off(*b))
        };
        let q = match bits {
            WeightBits::B1 => f64::from(i8::from(w[tap] >= 0.0) * 2 - 1),
            WeightBits::B2 => [-3, -1, 1, 3].into_iter().min_by(nearer).unwrap().into(),
            WeightBits::Odd4 => {
                let odd = (-15..=15).step_by(2);
                odd.min_by(nearer).unwrap().into()
            }
            _ => w[tap].round_ties_even().clamp(-limit, limit),
        };
        integers[tap] = q as i16;
        let (column, pivot) = (inverse.clone(), inverse[tap * n + tap]);
        let off = (w[tap] - q) / pivot;
        for r in 0..n {
            w[r] -= off * column[r * n + tap];
            for c in 0..n {
                inverse[r * n + c] -= column[r * n + tap] * column[tap * n + c] / pivot;
            }
        }
    }
    integers
}

fn error(h: &[f64], filter: &[f32], scale: f32, integers: &[i16]) -> f64 {
    let n = filter.len();
    let e: Vec<f64> = filter
        .iter()
        .zip(integers)
        .map(|(&w, &q)| f64::from(w) - f64::from(scale) * f64::from(q))
        .collect();
    let row = |i: usize| -> f64 { (0..n).map(|j| h[i * n + j] * e[j]).sum() };
    (0..n).map(|i| e[i] * row(i)).sum()
}

/// Dense, grouped and depthwise; with inputs as they are and from their means.
#[test]
fn it_rounds_as_the_textbook_does_and_better_than_to_the_nearest() {
    for groups in [1, 2, CHANNELS] {
        let graph = graph(groups);
        let images = images(&graph);
        let taps = 9 * CHANNELS / groups;
        let kernel = kernel(12 * taps);
        let folded = |_: &_, layer: usize| match layer {
            0 => (kernel.clone(), vec![0.0; 12]),
            _ => (vec![0.0; 24], vec![0.0; 2]),
        };
        let mut model = Layerwise::float(&graph, Isa::best(), folded).unwrap();
        model.begin(&images, &graph);
        let read = model.before(0);
        assert_eq!((read.taps(), read.groups), (taps, groups));
        let (means, pixels) = (read.means(), (0..read.pixels()).collect::<Vec<_>>());
        let widths = [
            WeightBits::B8,
            WeightBits::B4,
            WeightBits::B2,
            WeightBits::B1,
            WeightBits::Odd4,
            WeightBits::Ternary,
        ];
        for (bits, centered) in widths.into_iter().flat_map(|b| [(b, false), (b, true)]) {
            let rounded = nearest(&kernel, 12, bits);
            let mut layer = rounded.clone();
            let compensation = Compensation {
                kernel: &kernel,
                ranges: false,
                means: centered.then_some(&means),
                isa: Isa::best(),
            };
            compensation.round(&mut layer, 0, &read);
            assert_eq!(layer.scale, rounded.scale);
            let (mut sums, mut moved) = ([0.0; 2], 0);
            for c in 0..12 {
                let group = c / (12 / groups);
                let mut gathered = vec![0.0; pixels.len() * taps];
                read.gather(group, &pixels, &mut gathered);
                let gathered: Vec<f64> = gathered.into_iter().map(f64::from).collect();
                let mean = match centered {
                    true => means[group * taps..(group + 1) * taps].to_vec(),
                    false => vec![0.0; taps],
                };
                let h = hessian(&gathered, &mean);
                let own = c * taps..(c + 1) * taps;
                let (filter, scale) = (&kernel[own.clone()], layer.scale[c]);
                let found = &layer.weights[own.clone()];
                let errors = [&rounded.weights[own], found].map(|q| error(&h, filter, scale, q));
                let expected = textbook(&h, filter, scale, bits);
                if error(&h, filter, scale, &expected) < errors[0] {
                    assert_eq!(found, expected, "{groups} groups, {bits} bits, channel {c}");
                    moved += 1;
                }
                assert!(
                    errors[1] <= errors[0],
                    "{groups} groups, {bits} bits, channel {c}"
                );
                (0..2).for_each(|i| sums[i] += errors[i]);
            }
            let case = format!("{groups} groups, {bits} bits, {centered}: {sums:?}, {moved} moved");
            assert!(sums[1] < 0.7 * sums[0] && moved >= 6, "{case}");
        }
    }
}

#[test]
fn three_weights_worked_out_by_hand() {
    // The last weight is rounded from 0.6 to 1: off by −0.4. With the columns of the inverse, (1, −2, 3)/4, the others become
    // 0.4 + 0.4/3 and 0.3 − 0.8/3 = 0.0333, which is rounded to 0. Of the first two alone the inverse is (2, −1; −1, 2)/3: the
    // first becomes 0.5333 + 0.0333/2 = 0.55, and is rounded up.
    let mut lower = vec![2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 2.0];
    cholesky::factor(&mut lower, 3, 1e-6);
    let factor = Factor { part: 0..3, lower };
    let mut integers = [0, 0, 1];
    let filter = Filter {
        kernel: &[0.4, 0.3, 0.6],
        integers: &mut integers,
        scale: &mut 1.0,
    };
    factor.round(&mut [filter], WeightBits::B4, &[]);
    assert_eq!(integers, [1, 0, 1]);
    // e = (0.4, 0.3, −0.4): 2·0.41 + 2·(0.12 − 0.12); e = (−0.6, 0.3, −0.4): 2·0.61 − 2·(0.18 + 0.12).
    let steps = [0.4, 0.3, 0.6].map(|w| [w; LANES]);
    for (integers, expected) in [([0.0, 0.0, 1.0], 0.82), ([1.0, 0.0, 1.0], 0.62)] {
        let mut seen = Vec::new();
        let errors = factor.walk(&steps, |tap, wanted| {
            seen.push(wanted[0]);
            [integers[tap]; LANES]
        });
        assert!((errors[0] - expected).abs() < 1e-12, "{errors:?}");
        assert!((seen[1] - 0.1 / 3.0).abs() < 1e-12, "{seen:?}");
    }
}

#[test]
fn a_tap_whose_input_never_changes_is_rounded_to_the_nearest() {
    let mut hessian = Hessian::new(3, Isa::best());
    hessian.batch[..6].copy_from_slice(&[1.0, 0.0, 2.0, 2.0, 0.0, 1.5]);
    hessian.add(2);
    let factor = hessian.factor(0..3).unwrap();
    let mut integers = [0, 0, 1];
    let filter = Filter {
        kernel: &[0.45, 0.45, 1.45],
        integers: &mut integers,
        scale: &mut 1.0,
    };
    factor.round(&mut [filter], WeightBits::B4, &[]);
    assert_eq!(integers, [1, 0, 1]);
    let mut silent = Hessian::new(3, Isa::best());
    silent.add(2);
    assert!(silent.factor(0..3).is_none());
}

#[test]
fn a_long_filter_has_parts_of_nearly_the_same_length() {
    let all = |taps| {
        parts(taps)
            .map(|part| (part.start, part.end))
            .collect::<Vec<_>>()
    };
    assert_eq!(all(9), [(0, 9)]);
    assert_eq!(all(TAPS), [(0, TAPS)]);
    let four = [
        (0, 6272),
        (6272, 12_544),
        (12_544, 18_816),
        (18_816, 25_089),
    ];
    assert_eq!(all(25_089), four);
}

#[test]
fn a_part_of_a_filter_is_rounded_as_if_it_were_all() {
    let mut lower = vec![2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 2.0];
    cholesky::factor(&mut lower, 3, 1e-6);
    let factor = Factor { part: 2..5, lower };
    let mut integers = [3, 3, 0, 0, 1, 3];
    let filter = Filter {
        kernel: &[0.9, 0.9, 0.4, 0.3, 0.6, 0.9],
        integers: &mut integers,
        scale: &mut 1.0,
    };
    factor.round(&mut [filter], WeightBits::B4, &[]);
    assert_eq!(integers, [3, 3, 1, 0, 1, 3]);
}

/// Ternary weights, whose range by their own squared error would cut off what the inputs want most.
#[test]
fn ranges_are_chosen_by_what_the_layer_gives() {
    let (taps, pixels) = (48, 400);
    let mut rng = random::stream(9, "test", 0);
    let mut uniform = || random::uniform(&mut rng) - 0.5;
    let mut hessian = Hessian::new(taps, Isa::best());
    // Neighboring inputs are alike, so that a few weights can stand for many.
    let mut last = 0.0;
    for x in &mut hessian.batch[..pixels * taps] {
        last = 0.9 * last + uniform();
        *x = last;
    }
    hessian.add(pixels);
    let factor = hessian.factor(0..taps).unwrap();
    // The product of three makes a few weights large.
    let kernel: Vec<f32> = (0..taps)
        .map(|_| uniform() * uniform() * uniform())
        .collect();
    for (bits, share) in [(WeightBits::Ternary, 0.9), (WeightBits::B2, 0.95)] {
        let rounded = |scale: f32, ranges: &[f32]| {
            let (mut integers, mut scale) = (vec![0; taps], scale);
            quantizers::round(&kernel, scale, bits, &mut integers);
            let mut filters = [Filter {
                kernel: &kernel,
                integers: &mut integers,
                scale: &mut scale,
            }];
            factor.round(&mut filters, bits, ranges);
            let own = [*filters[0].scale];
            let error = factor.errors_as_they_are(&filters, &own)[0];
            (error, own[0])
        };
        let mut unused = vec![0; taps];
        let by_weights = quantizers::mse(&kernel, bits, &mut unused);
        let (kept, chosen) = (rounded(by_weights, &[]), rounded(by_weights, &RANGES));
        assert_eq!(kept.1, by_weights);
        assert!(chosen.0 < share * kept.0, "{chosen:?}, {kept:?}");
        let (whole, _) = rounded(quantizers::absmax(&kernel, bits, &mut unused), &[]);
        assert!(chosen.0 <= whole, "{chosen:?}, {whole}");
    }
}
