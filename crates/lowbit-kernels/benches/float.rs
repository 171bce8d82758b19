//! GMAC/s of the f32 kernels on the layers of `eurosat-cnn` and `resnet8`, on one thread, beside the peak of a
//! register-only loop: `cargo bench -p lowbit-kernels --bench float [-- PART_OF_A_NAME]`.
//!
//! Each figure is the best of many short runs, and the peak is taken between them, so that neither other work on the
//! machine nor its changing clock falls on one side alone.

use lowbit_kernels::float::{Epilogue, PackedWeights, conv, conv_grad_weights, conv_haloed};
use lowbit_kernels::peak::f32_gmac_per_s;
use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, WeightShape};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// One convolution with its padding in the input, or a linear layer (a convolution with one row).
struct Layer {
    name: &'static str,
    /// `[h, w, c]`; for a linear layer `[1, batch, features]`.
    input: (usize, usize, usize),
    out_channels: usize,
    kernel: usize,
    stride: usize,
    pool: usize,
    /// Of `input`, on each side.
    padding: usize,
}

const fn layer(
    name: &'static str,
    input: (usize, usize, usize),
    out_channels: usize,
    [kernel, stride, padding, pool]: [usize; 4],
) -> Layer {
    Layer {
        name,
        input,
        out_channels,
        kernel,
        stride,
        pool,
        padding,
    }
}

const LAYERS: [Layer; 13] = [
    layer("conv 5x5 3>32", (64, 64, 3), 32, [5, 1, 0, 2]),
    layer("conv 5x5 32>64", (30, 30, 32), 64, [5, 1, 0, 2]),
    layer("conv 3x3 64>96", (13, 13, 64), 96, [3, 1, 0, 2]),
    layer("linear 2400>128, batch 1", (1, 1, 2400), 128, [1, 1, 0, 1]),
    layer("linear 2400>128, batch 8", (1, 8, 2400), 128, [1, 1, 0, 1]),
    layer(
        "linear 2400>128, batch 64",
        (1, 64, 2400),
        128,
        [1, 1, 0, 1],
    ),
    layer("linear 128>128, batch 64", (1, 64, 128), 128, [1, 1, 0, 1]),
    layer("res 3x3 3>16", (34, 34, 3), 16, [3, 1, 1, 1]),
    layer("res 3x3 16>16", (34, 34, 16), 16, [3, 1, 1, 1]),
    layer("res 3x3 16>32 /2", (34, 34, 16), 32, [3, 2, 1, 1]),
    layer("res 3x3 32>32", (18, 18, 32), 32, [3, 1, 1, 1]),
    layer("res 1x1 32>64 /2", (16, 16, 32), 64, [1, 2, 0, 1]),
    layer("res 3x3 64>64", (10, 10, 64), 64, [3, 1, 1, 1]),
];

/// The kernels' best GMAC/s and share of the peak measured beside them.
fn report(isa: Isa, gmac: f64, mut work: impl FnMut()) {
    let start = Instant::now();
    let (mut best, mut peak) = (f64::INFINITY, 0.0f64);
    while start.elapsed() < Duration::from_millis(300) {
        peak = peak.max(f32_gmac_per_s(isa, Duration::from_micros(100)));
        for _ in 0..5 {
            let run = Instant::now();
            work();
            best = best.min(run.elapsed().as_secs_f64());
        }
    }
    let rate = gmac / best;
    print!(" {rate:7.1} ({:3.0} %)", 100.0 * rate / peak);
}

/// Not all equal, not all zero.
fn numbers(len: usize) -> AlignedBuffer<f32> {
    let mut buffer = AlignedBuffer::zeroed(len);
    for (i, value) in buffer.with_slack_mut().iter_mut().enumerate() {
        *value = (i * 7919 % 1000) as f32 * 1e-3 - 0.5;
    }
    buffer
}

fn bench(isa: Isa, layer: &Layer) {
    let &Layer {
        input: (in_h, in_w, in_c),
        out_channels,
        kernel,
        stride,
        pool,
        padding,
        ..
    } = layer;
    let kernel_size = (kernel, kernel);
    let g = ConvGeometry::dense(layer.input, out_channels, kernel_size, stride, 1);
    let pooled = ConvGeometry::dense(layer.input, out_channels, kernel_size, stride, pool);
    let shape = WeightShape {
        out_channels,
        kernel_h: kernel,
        kernel_w: kernel,
        in_channels: in_c,
    };
    let gmac = g.macs() as f64 * 1e-9;
    let weights = numbers(shape.len());
    let input = numbers(g.input_extent());
    let bias = numbers(out_channels);
    let mut out = numbers(g.output_extent(g.out_h));
    print!("{:26}", layer.name);
    let packed = PackedWeights::pack(isa, &weights, shape);
    let epilogue = Epilogue {
        bias: Some(&bias),
        relu: true,
        ceiling: None,
    };
    for g in [&g, &pooled] {
        let (rows, view) = (0..g.pooled_h(), input.with_slack());
        report(isa, gmac, || {
            conv(
                &packed,
                g,
                rows.clone(),
                view,
                &epilogue,
                black_box(&mut out),
            );
        });
    }
    let grad_out = numbers(g.output_extent(g.out_h));
    let mut grad_weights = vec![0.0; shape.len()];
    report(isa, gmac, || {
        let (input, grad_out) = (input.with_slack(), grad_out.with_slack());
        conv_grad_weights(isa, &g, input, grad_out, black_box(&mut grad_weights));
    });
    // The gradient of the layer's own input, without its padding; with a stride, of a dilated map.
    let (h, w) = (
        in_h - 2 * padding.min(in_h / 2),
        in_w - 2 * padding.min(in_w / 2),
    );
    let halo = kernel - 1 - padding;
    let turned = ConvGeometry::dense(
        (h + kernel - 1, w + kernel - 1, out_channels),
        in_c,
        kernel_size,
        1,
        1,
    );
    let backward = PackedWeights::pack_backward(isa, &weights, shape);
    let grad_out = numbers(turned.input_extent());
    let mut grad_in = numbers(turned.output_extent(turned.out_h));
    report(isa, gmac, || {
        let (rows, view) = (0..turned.out_h, grad_out.with_slack());
        let (plain, out) = (Epilogue::default(), black_box(&mut grad_in));
        conv_haloed(&backward, &turned, rows, halo, view, &plain, out);
    });
    println!();
}

fn main() {
    let filter = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    for isa in Isa::available().into_iter().rev() {
        let of = f32_gmac_per_s(isa, Duration::from_millis(100));
        println!("{isa}: GMAC/s (of the peak, {of:.0} at the start)");
        println!(
            "                                 forward         pooled   grad weights     grad input"
        );
        for layer in &LAYERS {
            if filter
                .as_ref()
                .is_none_or(|part| layer.name.contains(part.as_str()))
            {
                bench(isa, layer);
            }
        }
    }
}
