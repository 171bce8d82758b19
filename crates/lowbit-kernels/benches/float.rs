//! GMAC/s of the f32 kernels on the layers of `eurosat-cnn` and `resnet8`, one thread, best of many short runs, beside the
//! peak of a register-only loop. `cargo bench -p lowbit-kernels --bench float [-- FILTER]`

use lowbit_kernels::float::{Epilogue, PackedWeights, conv, conv_grad_weights};
use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, WeightShape};
use std::hint::black_box;
use std::time::Instant;

/// Name, input with halo, output channels, kernel, stride, pool.
type Layer = (
    &'static str,
    (usize, usize, usize),
    usize,
    usize,
    usize,
    usize,
);

const LAYERS: [Layer; 6] = [
    ("conv1 5x5 3->32", (64, 64, 3), 32, 5, 1, 2),
    ("conv2 5x5 32->64", (30, 30, 32), 64, 5, 1, 2),
    ("conv3 3x3 64->96", (13, 13, 64), 96, 3, 1, 2),
    ("res 3x3 16->16", (34, 34, 16), 16, 3, 1, 1),
    ("res 3x3 32->32", (18, 18, 32), 32, 3, 1, 1),
    ("res 3x3 64->64", (10, 10, 64), 64, 3, 1, 1),
];

fn best(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed().as_secs_f64() < 0.25 {
        let run = Instant::now();
        work();
        best = best.min(run.elapsed().as_secs_f64());
    }
    best
}

fn main() {
    for isa in Isa::available().into_iter().rev() {
        if isa == Isa::Portable {
            continue;
        }
        println!("{isa}: GMAC/s      forward  pooled   grad input  grad weights");
        for (name, input_shape, out_c, kernel, stride, pool) in LAYERS {
            let g = ConvGeometry::dense(input_shape, out_c, (kernel, kernel), stride, 1);
            let pooled = ConvGeometry::dense(input_shape, out_c, (kernel, kernel), stride, pool);
            let shape = WeightShape {
                out_channels: out_c,
                kernel_h: kernel,
                kernel_w: kernel,
                in_channels: input_shape.2,
            };
            let weights = vec![0.01; shape.len()];
            let packed = PackedWeights::pack(isa, &weights, shape);
            let backward = PackedWeights::pack_backward(isa, &weights, shape);
            let input = AlignedBuffer::<f32>::zeroed(g.input_extent());
            let mut out = AlignedBuffer::<f32>::zeroed(g.output_extent(g.out_h));
            let bias = vec![0.1; out_c];
            let epilogue = Epilogue {
                bias: Some(&bias),
                relu: true,
            };
            let gmacs = g.macs() as f64 * 1e-9;
            let forward = best(|| {
                conv(
                    &packed,
                    &g,
                    0..g.out_h,
                    input.with_slack(),
                    &epilogue,
                    black_box(&mut out),
                )
            });
            let fused = best(|| {
                conv(
                    &packed,
                    &pooled,
                    0..pooled.pooled_h(),
                    input.with_slack(),
                    &epilogue,
                    black_box(&mut out),
                )
            });
            let turned = ConvGeometry::dense(
                (
                    g.out_h + 2 * (kernel - 1),
                    g.out_w + 2 * (kernel - 1),
                    out_c,
                ),
                input_shape.2,
                (kernel, kernel),
                1,
                1,
            );
            let grad_out = AlignedBuffer::<f32>::zeroed(turned.input_extent());
            let mut grad_in = AlignedBuffer::<f32>::zeroed(turned.output_extent(turned.out_h));
            let back = best(|| {
                conv(
                    &backward,
                    &turned,
                    0..turned.out_h,
                    grad_out.with_slack(),
                    &Epilogue::default(),
                    black_box(&mut grad_in),
                )
            });
            let mut grad_w = vec![0.0; shape.len()];
            let grad = best(|| {
                conv_grad_weights(
                    isa,
                    &g,
                    input.with_slack(),
                    out.with_slack(),
                    black_box(&mut grad_w),
                )
            });
            println!(
                "{name:18} {:8.1} {:8.1} {:8.1} {:8.1}",
                gmacs / forward,
                gmacs / fused,
                gmacs / back,
                gmacs / grad
            );
        }
    }
}
