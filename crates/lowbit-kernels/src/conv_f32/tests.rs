//! Every ISA against the scalar twins, over odd shapes.

use super::*;
use crate::images::tests::{border_pixels, odd, with_gaps};
use crate::random::{below, stream, uniform};

fn geometry(number: u64) -> ConvGeometry {
    let mut rng = stream(21, "float", number);
    let mut pick = |low: u32, high: u32| (low + below(&mut rng, high - low + 1)) as usize;
    let (in_c, out_c) = (pick(1, 67), pick(1, 67));
    if number % 4 == 3 {
        let gap = pick(0, 5);
        return ConvGeometry {
            in_pixel_stride: in_c + gap,
            out_pixel_stride: out_c + gap,
            ..ConvGeometry::linear(pick(1, 70), in_c, out_c)
        };
    }
    let (kernel_h, kernel_w, stride) = (pick(1, 5), pick(1, 5), pick(1, 3));
    let (in_h, in_w) = (kernel_h + pick(0, 14), kernel_w + pick(0, 35));
    let pool = if in_h > kernel_h + 2 && in_w > kernel_w + 2 {
        pick(1, 2)
    } else {
        1
    };
    let mut g = ConvGeometry::dense(
        (in_h, in_w, in_c),
        out_c,
        (kernel_h, kernel_w),
        stride,
        pool,
    );
    // Groups: pixels hold more channels than this convolution reads.
    g.in_pixel_stride += if number.is_multiple_of(3) {
        pick(1, 9)
    } else {
        0
    };
    g.in_row_stride = in_w * g.in_pixel_stride + pick(0, 7);
    g.out_pixel_stride += if number.is_multiple_of(5) { 3 } else { 0 };
    g.out_row_stride = g.pooled_w() * g.out_pixel_stride + pick(0, 7);
    g
}

fn shape(g: &ConvGeometry) -> WeightShape {
    WeightShape {
        out_channels: g.out_channels,
        kernel_h: g.kernel_h,
        kernel_w: g.kernel_w,
        in_channels: g.in_channels,
    }
}

fn numbers(number: u64, purpose: &str, len: usize) -> AlignedBuffer<f32> {
    let mut rng = stream(22, purpose, number);
    let mut buffer = AlignedBuffer::zeroed(len);
    // The slack is filled as well: it must not matter.
    buffer
        .with_slack_mut()
        .fill_with(|| 2.0 * uniform(&mut rng) - 1.0);
    buffer
}

#[test]
fn every_isa_convolves_to_the_scalar_bits_over_odd_shapes() {
    for number in 0..120 {
        let g = geometry(number);
        let rows = if number % 2 == 0 {
            0..g.pooled_h()
        } else {
            g.pooled_h() / 3..g.pooled_h()
        };
        let weights = numbers(number, "weights", shape(&g).len());
        let bias = numbers(number, "bias", g.out_channels);
        let input = numbers(number, "input", g.input_extent());
        let epilogue = Epilogue {
            bias: (number % 3 != 0).then_some(&bias[..]),
            relu: number % 2 == 0,
            ceiling: None,
        };
        let run = |isa| {
            let packed = PackedWeights::pack(isa, &weights, shape(&g));
            let mut out = vec![99.0; g.output_extent(rows.len())];
            conv(
                &packed,
                &g,
                rows.clone(),
                input.with_slack(),
                &epilogue,
                &mut out,
            );
            out
        };
        let expected = run(Isa::PORTABLE);
        for isa in Isa::available() {
            assert_eq!(run(isa), expected, "case {number} on {isa}: {g:?}");
        }
    }
}

#[test]
fn a_border_of_zeros_is_skipped_to_the_same_bits() {
    for number in 0..160 {
        let g = geometry(number);
        let in_h = (g.out_h - 1) * g.stride + g.kernel_h;
        let in_w = (g.out_w - 1) * g.stride + g.kernel_w;
        let border = (number as usize / 4 % 7).min(in_h / 2).min(in_w / 2);
        let weights = numbers(number, "weights", shape(&g).len());
        let mut input = numbers(number, "input", g.input_extent());
        for (y, x) in (0..in_h).flat_map(|y| (0..in_w).map(move |x| (y, x))) {
            if y.min(x) < border || y >= in_h - border || x >= in_w - border {
                let pixel = y * g.in_row_stride + x * g.in_pixel_stride;
                input[pixel..pixel + g.in_channels].fill(0.0);
            }
        }
        for isa in Isa::available() {
            let packed = PackedWeights::pack(isa, &weights, shape(&g));
            let mut expected = vec![99.0; g.output_extent(g.pooled_h())];
            let mut found = expected.clone();
            let (rows, view, plain) = (0..g.pooled_h(), input.with_slack(), Epilogue::default());
            conv(&packed, &g, rows.clone(), view, &plain, &mut expected);
            conv_haloed(&packed, &g, rows, border, view, &plain, &mut found);
            assert_eq!(
                found, expected,
                "case {number} on {isa}, {border} wide: {g:?}"
            );
        }
    }
}

#[test]
fn every_isa_adds_weight_gradients_to_the_scalar_bits_over_odd_shapes() {
    for number in 0..120 {
        let mut g = geometry(number);
        g.pool = 1;
        g.out_row_stride = g.out_w * g.out_pixel_stride + 5;
        let input = numbers(number, "input", g.input_extent());
        let grad_out = numbers(number, "grad", g.output_extent(g.out_h));
        let run = |isa| {
            let mut grad = numbers(number, "start", shape(&g).len()).to_vec();
            conv_grad_weights(
                isa,
                &g,
                input.with_slack(),
                grad_out.with_slack(),
                &mut grad,
            );
            grad
        };
        let expected = run(Isa::PORTABLE);
        for isa in Isa::available() {
            assert_eq!(run(isa), expected, "case {number} on {isa}: {g:?}");
        }
    }
}

#[test]
fn backward_weights_turn_the_kernel_and_exchange_the_channels() {
    // One input pixel's gradient is the sum over the outputs that it reached.
    let (in_c, out_c, k) = (3, 5, 3);
    let shape = WeightShape {
        out_channels: out_c,
        kernel_h: k,
        kernel_w: k,
        in_channels: in_c,
    };
    let weights = numbers(1, "weights", shape.len());
    // A single non-zero output gradient at (1, 1) of 2×2, channel 4; haloed by 2.
    let g = ConvGeometry::dense((6, 6, out_c), in_c, (k, k), 1, 1);
    let mut grad_out = AlignedBuffer::zeroed(g.input_extent());
    grad_out[(3 * 6 + 3) * out_c + 4] = 2.0;
    for isa in Isa::available() {
        let packed = PackedWeights::pack_backward(isa, &weights, shape);
        let mut grad_in = vec![0.0; 4 * 4 * in_c];
        conv(
            &packed,
            &g,
            0..4,
            grad_out.with_slack(),
            &Epilogue::default(),
            &mut grad_in,
        );
        for y in 0..4 {
            for x in 0..4 {
                for c in 0..in_c {
                    let reached = (1..4).contains(&y) && (1..4).contains(&x);
                    let expected = if reached {
                        2.0 * weights[((4 * k + y - 1) * k + x - 1) * in_c + c]
                    } else {
                        0.0
                    };
                    assert_eq!(
                        grad_in[(y * 4 + x) * in_c + c],
                        expected,
                        "{isa} {y} {x} {c}"
                    );
                }
            }
        }
    }
}

/// The same input with zeros in all borders.
fn without_border(g: &ImagesGeometry, input: &AlignedBuffer<f32>) -> AlignedBuffer<f32> {
    let mut zeroed = AlignedBuffer::zeroed(input.len());
    zeroed.with_slack_mut().copy_from_slice(input.with_slack());
    for pixel in border_pixels(g) {
        zeroed[pixel..pixel + g.image.in_channels].fill(0.0);
    }
    zeroed
}

#[test]
fn several_images_at_once_give_the_bits_of_each_alone() {
    for number in 0..200 {
        // Every other one as a group of more channels.
        let gap = if number % 2 == 0 {
            0
        } else {
            number as usize % 5
        };
        let g = with_gaps(odd(number, 1), gap);
        let shape = g.image.weight_shape();
        let weights = numbers(number, "weights", shape.len());
        let bias = numbers(number, "bias", shape.out_channels);
        let input = numbers(number, "input", g.input_extent());
        let epilogue = Epilogue {
            bias: (number % 3 != 0).then_some(&bias[..]),
            relu: number % 2 == 0,
            ceiling: (number % 5 == 0).then_some(0.5),
        };
        let zeroed = without_border(&g, &input);
        let mut expected = vec![99.0; g.output_extent()];
        for image in 0..g.images {
            let packed = PackedWeights::pack(Isa::PORTABLE, &weights, shape);
            let view = &zeroed.with_slack()[image * g.in_image_stride..];
            let out = &mut expected[image * g.out_image_stride..];
            conv(&packed, &g.image, 0..g.image.out_h, view, &epilogue, out);
        }
        for isa in Isa::available() {
            let packed = PackedWeights::pack(isa, &weights, shape);
            let mut found = vec![99.0; g.output_extent()];
            conv_images(&packed, &g, input.with_slack(), &epilogue, &mut found);
            assert_eq!(found, expected, "case {number} on {isa}: {g:?}");
        }
    }
}

#[test]
fn weight_gradients_of_several_images_are_the_sums_of_each() {
    for number in 0..150 {
        // Every other one as a group of more channels.
        let gap = (number as usize % 2) * (number as usize % 5);
        let g = with_gaps(odd(number, 1), gap);
        let shape = g.image.weight_shape();
        let input = numbers(number, "input", g.input_extent());
        let grad_out = numbers(number, "grad", g.output_extent());
        let zeroed = without_border(&g, &input);
        let mut expected = vec![0.0; shape.len()];
        for image in 0..g.images {
            let view = &zeroed.with_slack()[image * g.in_image_stride..];
            let grad = &grad_out.with_slack()[image * g.out_image_stride..];
            conv_grad_weights(Isa::PORTABLE, &g.image, view, grad, &mut expected);
        }
        for isa in Isa::available() {
            let mut found = vec![f32::NAN; shape.len()];
            let (input, grad) = (input.with_slack(), grad_out.with_slack());
            conv_images_grad_weights(isa, &g, input, grad, &mut found);
            assert_eq!(found, expected, "case {number} on {isa}: {g:?}");
        }
    }
}
