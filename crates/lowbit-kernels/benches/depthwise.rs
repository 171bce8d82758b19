//! Depthwise convolutions of MobileNetV2 and V3 at 224×224 on one thread, per ISA, in f32 and u8: GMAC/s.
//!
//! `cargo bench -p lowbit-kernels --bench depthwise`

use lowbit_kernels::depthwise::{
    DepthwiseGeometry, Epilogue, FloatWeights, IntegerWeights, Requantize, conv_f32, conv_u8,
};
use lowbit_kernels::geometry::SLACK;
use lowbit_kernels::{AlignedBuffer, Isa, random};
use std::time::{Duration, Instant};

/// Channels, rows and columns of the result, kernel, stride.
const LAYERS: [(usize, usize, usize, usize); 8] = [
    (32, 112, 3, 1),
    (96, 56, 3, 2),
    (144, 56, 3, 1),
    (192, 28, 3, 1),
    (384, 14, 3, 1),
    (960, 7, 3, 1),
    (240, 14, 5, 1),
    (672, 7, 5, 2),
];

/// The shortest of many runs, in seconds.
fn best_s(mut run: impl FnMut()) -> f64 {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < Duration::from_millis(250) {
        let begin = Instant::now();
        run();
        best = best.min(begin.elapsed().as_secs_f64());
    }
    best
}

fn main() {
    println!("channels  result  kernel  isa        f32 GMAC/s  u8 GMAC/s");
    for (channels, size, kernel, stride) in LAYERS {
        let columns = (size - 1) * stride + kernel;
        let g = DepthwiseGeometry {
            channels,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            in_row_stride: columns * channels,
            in_pixel_stride: channels,
            out_row_stride: size * channels,
            out_pixel_stride: channels,
        };
        let mut rng = random::stream(1, "bench", 0);
        let taps = channels * kernel * kernel;
        let integers: Vec<i16> = (0..taps)
            .map(|_| random::below(&mut rng, 255) as i16 - 127)
            .collect();
        let floats: Vec<f32> = integers.iter().map(|&w| f32::from(w) * 0.01).collect();
        let len = g.input_extent(size, size) + SLACK;
        let mut codes = AlignedBuffer::<u8>::zeroed(len);
        codes
            .iter_mut()
            .enumerate()
            .for_each(|(i, x)| *x = (i * 91 % 256) as u8);
        let mut reals = AlignedBuffer::<f32>::zeroed(len);
        reals
            .iter_mut()
            .zip(codes.iter())
            .for_each(|(x, &q)| *x = f32::from(q) * 0.02);
        let mut out_codes = AlignedBuffer::<u8>::zeroed(g.output_extent(size, size));
        let mut out_reals = AlignedBuffer::<f32>::zeroed(g.output_extent(size, size));
        let macs = (taps * size * size) as f64;
        for isa in Isa::available() {
            let weights = FloatWeights::pack(isa, &floats, channels, [kernel; 2]);
            let epilogue = Epilogue {
                bias: None,
                relu: true,
                ceiling: Some(6.0),
            };
            let all = || [0..size, 0..size];
            let float = best_s(|| {
                conv_f32(&weights, &g, all(), &reals, &epilogue, &mut out_reals);
            });
            let weights = IntegerWeights::pack(isa, &integers, channels, [kernel; 2]);
            let (factors, offsets) = (vec![1e-3; channels], vec![0; channels]);
            let requantize = Requantize {
                acc_offset: &offsets,
                multiplier: &factors,
                bias: &factors,
                zero_point: 0,
                low: 0,
                high: 255,
            };
            let integer = best_s(|| {
                conv_u8(&weights, &g, all(), &codes, &requantize, &mut out_codes);
            });
            let rate = |seconds: f64| macs / seconds / 1e9;
            println!(
                "{channels:8}  {size:6}  {kernel}×{kernel}/{stride}   {:9}  {:10.1}  {:9.1}",
                isa.name(),
                rate(float),
                rate(integer)
            );
        }
    }
}
