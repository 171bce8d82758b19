//! Convolutions and products of the zoo's layers with u8 activations on one thread, per ISA: GMAC/s for weights of 16, 8, 4,
//! 2 and 1 bit and for weights and activations of 1 bit, and the 8-bit kernel's share of the register-only peak.
//!
//! `cargo bench -p lowbit-kernels --bench u8i8`, of one level `cargo bench -p lowbit-kernels --bench u8i8 -- avx2`

use lowbit_kernels::bits::{self, BitWeights};
use lowbit_kernels::geometry::SLACK;
use lowbit_kernels::qconv::{PackedWeights, Requantize, conv_u8};
use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, WeightShape, WeightWidth, peak, random};
use std::time::{Duration, Instant};

struct Layer {
    name: &'static str,
    geometry: ConvGeometry,
}

fn conv(
    name: &'static str,
    input: (usize, usize, usize),
    out_channels: usize,
    kernel: usize,
    stride: usize,
    pool: usize,
) -> Layer {
    let geometry = ConvGeometry::dense(input, out_channels, (kernel, kernel), stride, pool);
    Layer { name, geometry }
}

fn linear(name: &'static str, batch: usize, in_features: usize, out_features: usize) -> Layer {
    let geometry = ConvGeometry::linear(batch, in_features, out_features);
    Layer { name, geometry }
}

fn layers() -> Vec<Layer> {
    vec![
        conv("eurosat conv 1, 5x5 3-32 + pool", (64, 64, 3), 32, 5, 1, 2),
        conv(
            "eurosat conv 2, 5x5 32-64 + pool",
            (30, 30, 32),
            64,
            5,
            1,
            2,
        ),
        conv(
            "eurosat conv 3, 3x3 64-96 + pool",
            (13, 13, 64),
            96,
            3,
            1,
            2,
        ),
        linear("eurosat linear 2400-128, batch 1", 1, 2400, 128),
        linear("eurosat linear 2400-128, batch 64", 64, 2400, 128),
        linear("eurosat linear 128-128, batch 1", 1, 128, 128),
        conv("resnet8 3x3 3-16", (34, 34, 3), 16, 3, 1, 1),
        conv("resnet8 3x3 16-16", (34, 34, 16), 16, 3, 1, 1),
        conv("resnet8 3x3 16-32, stride 2", (34, 34, 16), 32, 3, 2, 1),
        conv("resnet8 3x3 32-32", (18, 18, 32), 32, 3, 1, 1),
        conv("resnet8 3x3 64-64", (10, 10, 64), 64, 3, 1, 1),
        conv("resnet8 1x1 32-64, stride 2", (15, 15, 32), 64, 1, 2, 1),
        linear("linear 4096-4096, batch 1", 1, 4096, 4096),
        linear("linear 8192-8192, batch 1", 1, 8192, 8192),
    ]
}

/// The shortest of many runs, in seconds.
fn best_s(budget: Duration, mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed() < budget {
        let begin = Instant::now();
        run();
        best = best.min(begin.elapsed().as_secs_f64());
    }
    best
}

fn measure(isa: Isa, layer: &Layer, width: WeightWidth) -> f64 {
    let g = &layer.geometry;
    let shape = WeightShape {
        out_channels: g.out_channels,
        kernel_h: g.kernel_h,
        kernel_w: g.kernel_w,
        in_channels: g.in_channels,
    };
    // Bell-shaped, as trained weights are: the sum of four uniform numbers, ±3.5 σ wide.
    let high = f32::from(*width.range().end()).min(900.0);
    let mut rng = random::stream(1, "bench", 0);
    let values: Vec<i16> = (0..shape.len())
        .map(|_| {
            let sum: f32 = (0..4).map(|_| random::uniform(&mut rng) - 0.5).sum();
            let weight = (sum / 2.0 * high).round_ties_even() as i16;
            if weight == 0 { 1 } else { weight }
        })
        .collect();
    let weights = PackedWeights::pack_width(isa, width, &values, shape);
    let mut input = AlignedBuffer::<u8>::zeroed(g.input_extent());
    for (i, x) in input.iter_mut().enumerate() {
        *x = (i * 91 % 256) as u8;
    }
    let mut out = AlignedBuffer::<u8>::zeroed(g.output_extent(g.pooled_h()));
    let requantize = Requantize {
        acc_offset: &vec![5; g.out_channels],
        multiplier: &vec![1e-4; g.out_channels],
        bias: &vec![0.5; g.out_channels],
        zero_point: 3,
        low: 3,
        high: 255,
    };
    best_s(Duration::from_millis(100), || {
        conv_u8(
            &weights,
            g,
            0..g.pooled_h(),
            input.with_slack(),
            &requantize,
            &mut out,
        );
    })
}

/// 1-bit weights and activations.
fn measure_bits(isa: Isa, layer: &Layer) -> f64 {
    let g = &layer.geometry;
    let shape = WeightShape {
        out_channels: g.out_channels,
        kernel_h: g.kernel_h,
        kernel_w: g.kernel_w,
        in_channels: g.in_channels,
    };
    let words = bits::words(g.in_channels);
    let geometry = ConvGeometry {
        in_channels: words,
        in_row_stride: g.in_row_stride / g.in_channels * words,
        in_pixel_stride: words,
        ..*g
    };
    let values: Vec<i16> = (0..shape.len()).map(|i| i as i16 * 37 % 5 - 2).collect();
    let weights = BitWeights::pack(isa, &values, shape);
    let input = vec![0x5353_a1b2; geometry.input_extent() + SLACK];
    let mut out = AlignedBuffer::<u8>::zeroed(g.output_extent(g.pooled_h()));
    let requantize = Requantize {
        acc_offset: &vec![0; g.out_channels],
        multiplier: &vec![0.1; g.out_channels],
        bias: &vec![0.5; g.out_channels],
        zero_point: 128,
        low: 0,
        high: 255,
    };
    let rows = 0..g.pooled_h();
    best_s(Duration::from_millis(100), || {
        bits::conv_u8(
            &weights,
            &geometry,
            rows.clone(),
            &input,
            &requantize,
            &mut out,
        );
    })
}

fn main() {
    let widths = [16, 8, 4, 2, 1].map(|bits| WeightWidth::of_bits(bits).expect("a width"));
    // Cargo adds `--bench`.
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    if let Some(unknown) = asked.iter().find(|name| Isa::named(name).is_err()) {
        println!("{unknown}: no instruction set of this machine");
    }
    for isa in Isa::available() {
        let wanted = asked.is_empty() || asked.iter().any(|name| name == isa.name());
        if isa == Isa::PORTABLE || !wanted {
            continue;
        }
        let peaks = peak::measure(isa, Duration::from_millis(500));
        println!("{isa}: {peaks:.0?}");
        let titles = "16 bits  8 bits (µs, of peak)   4 bits   2 bits    1 bit      1×1";
        println!("{:36} {titles}", "GMAC/s");
        for layer in layers() {
            let macs = layer.geometry.macs() as f64;
            let [s16, s8, s4, s2, s1] = widths.map(|width| measure(isa, &layer, width));
            let [r16, r8, r4, r2, r1] = [s16, s8, s4, s2, s1].map(|s| macs / s / 1e9);
            let (us, share) = (s8 * 1e6, 100.0 * r8 / peaks.u8i8_gmac_per_s);
            let name = layer.name;
            let bits = macs / measure_bits(isa, &layer) / 1e9;
            print!("{name:36} {r16:7.1} {r8:7.1} {us:9.2} {share:5.1} %");
            println!(" {r4:8.1} {r2:8.1} {r1:8.1} {bits:8.1}");
        }
    }
}
