use super::*;
use crate::random::{self, RngCore};

fn uniform(rng: &mut impl RngCore, len: usize) -> Vec<f32> {
    (0..len).map(|_| 4.0 * random::uniform(rng) - 2.0).collect()
}

fn shapes() -> impl Iterator<Item = MapShape> {
    let sizes = [(1, 1), (2, 2), (3, 4), (5, 7), (12, 11)];
    let channels = [1, 7, 16, 37, 64];
    sizes.into_iter().flat_map(move |(h, w)| {
        channels.into_iter().flat_map(move |c| {
            let infinite = f32::INFINITY;
            let cuts = [
                (1, false, infinite),
                (1, true, infinite),
                (2, true, infinite),
                (2, false, infinite),
                (1, true, 1.5),
                (2, false, 0.5),
            ];
            cuts.map(|(pool, relu, ceiling)| MapShape {
                h,
                w,
                c,
                pool,
                cut: Cut { relu, ceiling },
            })
        })
    })
}

/// Everything that the passes make of one map: the result, the gradient up to the winners, and the map's.
#[derive(Debug, PartialEq)]
struct Passes {
    out: Vec<f32>,
    cut: Vec<f32>,
    grad: Vec<f32>,
}

struct Input {
    map: Vec<f32>,
    grad: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    coefficients: [Vec<f32>; 3],
}

/// Rows and pixels of the gradient's view are this much further apart than in a dense one.
const GAP: usize = 3;

fn input(shape: &MapShape, seed: u64) -> Input {
    let mut rng = random::stream(seed, "norm", shape.len() as u64);
    let mut map = uniform(&mut rng, shape.len());
    // Equal neighbors, so that the first of them must win.
    map.iter_mut().for_each(|x| *x = (*x * 2.0).round());
    Input {
        map,
        grad: uniform(&mut rng, shape.pooled_len()),
        scale: uniform(&mut rng, shape.c),
        shift: uniform(&mut rng, shape.c),
        coefficients: [(); 3].map(|()| uniform(&mut rng, shape.c)),
    }
}

fn strides(shape: &MapShape) -> (usize, usize) {
    let pixel = shape.c + GAP;
    (shape.w * pixel + GAP, pixel)
}

fn run(isa: Isa, shape: &MapShape, input: &Input) -> Passes {
    let c = shape.c;
    let (mut peaks, mut winners) = (vec![0.0; shape.pooled_len()], vec![0; shape.pooled_len()]);
    let sign: Vec<f32> = input.scale.iter().map(|s| s.signum()).collect();
    if shape.pool == 2 {
        pool_peaks(isa, shape, &input.map, &sign, &mut peaks, &mut winners);
    } else {
        peaks.copy_from_slice(&input.map);
    }
    let (h, w) = shape.pooled();
    let out_row_stride = w * c + GAP;
    let mut out = vec![9.0; h * out_row_stride];
    let affine = [&input.scale[..], &input.shift];
    normalize(isa, shape, &peaks, affine, &mut out, out_row_stride);
    let mut cut = input.grad.clone();
    let mut sums = vec![vec![0.0; c]; 2];
    let [dy, dy_x] = &mut sums[..] else {
        unreachable!()
    };
    let pivot = vec![0.0; c];
    let affine = [&input.scale[..], &input.shift, &pivot];
    cut_and_sum(isa, shape.cut, &mut cut, &peaks, affine, [dy, dy_x]);
    let (row_stride, pixel_stride) = strides(shape);
    let mut grad = vec![9.0; shape.h * row_stride];
    let [a, b, shift] = &input.coefficients;
    let strides = (row_stride, pixel_stride);
    map_gradient(
        isa,
        shape,
        &input.map,
        &cut,
        &winners,
        [a, b, shift],
        &mut grad,
        strides,
    );
    Passes { out, cut, grad }
}

/// The same by its definition: every `y` of every window, its first maximum, the ReLU behind it.
fn naive(shape: &MapShape, input: &Input) -> Passes {
    let (c, pool) = (shape.c, shape.pool);
    let (h, w) = shape.pooled();
    let out_row_stride = w * c + GAP;
    let (row_stride, pixel_stride) = strides(shape);
    let mut out = vec![9.0; h * out_row_stride];
    let mut cut = vec![0.0; h * w * c];
    let mut grad = vec![9.0; shape.h * row_stride];
    let [a, b, shift] = &input.coefficients;
    for y in 0..shape.h {
        for x in 0..shape.w {
            for i in 0..c {
                grad[y * row_stride + x * pixel_stride + i] =
                    b[i] * input.map[(y * shape.w + x) * c + i] + shift[i];
            }
        }
    }
    for (row, column, i) in
        (0..h).flat_map(|r| (0..w).flat_map(move |q| (0..c).map(move |i| (r, q, i))))
    {
        let place = |tap: usize| (row * pool + tap / pool, column * pool + tap % pool);
        let value = |tap: usize| {
            let (y, x) = place(tap);
            input.map[(y * shape.w + x) * c + i] * input.scale[i] + input.shift[i]
        };
        let mut winner = 0;
        for tap in 1..pool * pool {
            if value(tap) > value(winner) {
                winner = tap;
            }
        }
        let Cut { relu, ceiling } = shape.cut;
        let passed = (!relu || value(winner) > 0.0) && value(winner) < ceiling;
        let low = if relu { 0.0 } else { f32::NEG_INFINITY };
        out[row * out_row_stride + column * c + i] = value(winner).max(low).min(ceiling);
        let at = (row * w + column) * c + i;
        cut[at] = if passed { input.grad[at] } else { 0.0 };
        let (y, x) = place(winner);
        let grad = &mut grad[y * row_stride + x * pixel_stride + i];
        *grad = a[i] * cut[at] + (b[i] * input.map[(y * shape.w + x) * c + i] + shift[i]);
    }
    Passes { out, cut, grad }
}

#[test]
fn all_passes_agree_with_their_definition_on_every_isa() {
    for (seed, shape) in shapes().enumerate() {
        let input = input(&shape, seed as u64);
        let expected = naive(&shape, &input);
        for isa in Isa::available() {
            let found = run(isa, &shape, &input);
            assert_eq!(found, expected, "{shape:?} on {isa}");
        }
    }
}

#[test]
fn sums_do_not_depend_on_the_isa_and_a_pivot_keeps_them_exact() {
    let channels = 37;
    // A mean that is a thousand times the deviation.
    let map: Vec<f32> = (0..channels * 331)
        .map(|i| ((i * 7919) % 1000) as f32 * 1e-3 + 300.0)
        .collect();
    let dy: Vec<f32> = map.iter().map(|x| (x * 77.0).sin()).collect();
    let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
    let pivot = vec![300.4; channels];
    let run = |isa| {
        let mut sums = vec![vec![0.5f64; channels]; 4];
        let [a, b, c, d] = &mut sums[..] else {
            unreachable!()
        };
        channel_moments(isa, &map, &pivot, [a, b]);
        let affine = [&ones[..], &zeros, &pivot];
        cut_and_sum(
            isa,
            Cut {
                relu: true,
                ceiling: f32::INFINITY,
            },
            &mut dy.clone(),
            &map,
            affine,
            [c, d],
        );
        sums
    };
    let expected = run(Isa::PORTABLE);
    for channel in 0..channels {
        let at = (channel..map.len()).step_by(channels);
        let centered = |i: usize| f64::from(map[i]) - f64::from(pivot[channel]);
        let naive: [f64; 4] = [
            at.clone().map(centered).sum(),
            at.clone().map(|i| centered(i).powi(2)).sum(),
            at.clone().map(|i| f64::from(dy[i])).sum(),
            at.clone().map(|i| f64::from(dy[i]) * centered(i)).sum(),
        ];
        for (sums, naive) in expected.iter().zip(naive) {
            assert!((sums[channel] - 0.5 - naive).abs() < 1e-3);
        }
    }
    for isa in Isa::available() {
        assert_eq!(run(isa), expected, "{isa}");
    }
}
