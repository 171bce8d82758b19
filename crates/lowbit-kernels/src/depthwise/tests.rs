//! Every ISA against the scalar twin, and the twin against the general convolution, channel by channel.

use super::*;
use crate::guard::AtTheEnd;
use crate::random::{below, stream, uniform};
use crate::{ConvGeometry, Isa, WeightShape, conv_f32, qconv};

/// Kernel, stride, dilation, output rows and columns, channels, elements between pixels of the input and of the result.
type Case = ([usize; 2], [usize; 2], [usize; 2], [usize; 2], [usize; 3]);

const CASES: [Case; 22] = [
    ([3, 3], [1, 1], [1, 1], [5, 7], [16, 16, 16]),
    ([3, 3], [2, 2], [1, 1], [4, 6], [24, 24, 24]),
    ([5, 5], [1, 1], [1, 1], [3, 13], [8, 8, 8]),
    ([5, 5], [2, 2], [1, 1], [3, 5], [40, 41, 43]),
    ([1, 1], [1, 1], [1, 1], [2, 9], [33, 33, 33]),
    ([7, 7], [1, 1], [1, 1], [2, 4], [3, 5, 4]),
    ([3, 2], [2, 1], [1, 3], [4, 5], [17, 20, 17]),
    ([1, 5], [1, 3], [2, 1], [1, 1], [7, 7, 7]),
    ([2, 3], [3, 2], [2, 2], [3, 3], [1, 1, 1]),
    ([3, 3], [1, 1], [1, 1], [1, 6], [64, 64, 64]),
    ([4, 4], [1, 1], [1, 1], [2, 3], [15, 15, 30]),
    ([3, 3], [1, 1], [2, 2], [3, 11], [9, 9, 9]),
    ([3, 3], [1, 1], [1, 1], [2, 36], [24, 26, 25]),
    ([3, 3], [2, 2], [1, 1], [2, 23], [20, 20, 20]),
    ([5, 5], [1, 1], [1, 1], [3, 29], [13, 13, 14]),
    ([3, 3], [1, 1], [1, 1], [5, 70], [96, 96, 96]),
    ([9, 3], [1, 1], [1, 1], [3, 5], [144, 147, 145]),
    ([3, 3], [2, 2], [1, 1], [3, 9], [80, 80, 80]),
    ([5, 5], [2, 2], [1, 1], [5, 7], [72, 72, 72]),
    ([7, 7], [1, 1], [1, 1], [3, 8], [40, 40, 40]),
    ([1, 70], [1, 1], [1, 1], [1, 3], [70, 70, 70]),
    // More than 256 KiB of input, which is cut into rows at a time.
    ([3, 3], [1, 1], [1, 1], [9, 30], [910, 910, 910]),
];

fn geometry((kernel, stride, dilation, out, [channels, from, to]): Case) -> DepthwiseGeometry {
    let in_w = (out[1] - 1) * stride[1] + (kernel[1] - 1) * dilation[1] + 1;
    DepthwiseGeometry {
        channels,
        kernel,
        stride,
        dilation,
        in_row_stride: in_w * from + 3,
        in_pixel_stride: from,
        out_row_stride: out[1] * to + 2,
        out_pixel_stride: to,
    }
}

/// Rectangles of a result: all of it, and one from within.
fn rectangles([rows, columns]: [usize; 2]) -> [[Range<usize>; 2]; 2] {
    [
        [0..rows, 0..columns],
        [rows / 2..rows, columns / 3..columns],
    ]
}

#[test]
fn every_isa_gives_the_bits_of_the_twin_in_f32() {
    let mut rng = stream(51, "depthwise", 0);
    for case in CASES {
        let (kernel, .., out, [channels, ..]) = case;
        let g = geometry(case);
        let mut values =
            |len: usize| -> Vec<f32> { (0..len).map(|_| uniform(&mut rng) - 0.4).collect() };
        let filters = values(channels * kernel[0] * kernel[1]);
        let (input, bias) = (
            values(g.input_extent(out[0], out[1]) + SLACK),
            values(channels),
        );
        for rectangle in rectangles(out) {
            for (relu, ceiling) in [(false, None), (true, None), (true, Some(0.25))] {
                let epilogue = Epilogue {
                    bias: Some(&bias),
                    relu,
                    ceiling,
                };
                let run = |isa| {
                    let weights = FloatWeights::pack(isa, &filters, channels, kernel);
                    let mut y = vec![7.0; g.output_extent(out[0], out[1])];
                    conv_f32(&weights, &g, rectangle.clone(), &input, &epilogue, &mut y);
                    y
                };
                let expected = run(Isa::PORTABLE);
                for isa in Isa::available() {
                    assert_eq!(run(isa), expected, "{isa}, {case:?}");
                }
            }
        }
    }
}

#[test]
fn every_isa_gives_the_bytes_of_the_twin_and_reads_no_further_than_the_slack() {
    let mut rng = stream(52, "depthwise", 0);
    for case in CASES {
        let (kernel, .., out, [channels, ..]) = case;
        let g = geometry(case);
        for largest in [1, 7, 127, 128, 32767] {
            let filters: Vec<i16> = (0..channels * kernel[0] * kernel[1])
                .map(|_| (below(&mut rng, 2 * largest + 1) as i32 - largest as i32) as i16)
                .collect();
            let mut input = vec![0u8; g.input_extent(out[0], out[1]) + SLACK];
            input
                .iter_mut()
                .for_each(|x| *x = below(&mut rng, 256) as u8);
            let input = AtTheEnd::of(&input);
            let mut reals = |scale: f32| -> Vec<f32> {
                (0..channels).map(|_| uniform(&mut rng) * scale).collect()
            };
            let (multiplier, bias) = (reals(2.0 / largest as f32), reals(90.0));
            for rectangle in rectangles(out) {
                let run = |isa| {
                    let weights = IntegerWeights::pack(isa, &filters, channels, kernel);
                    let offset: Vec<i32> =
                        weights.sums().iter().map(|&sum| -7 * sum as i32).collect();
                    let requantize = Requantize {
                        acc_offset: &offset,
                        multiplier: &multiplier,
                        bias: &bias,
                        zero_point: 11,
                        low: 11,
                        high: 250,
                    };
                    let mut bytes = vec![1; g.output_extent(out[0], out[1])];
                    let part = rectangle.clone();
                    conv_u8(&weights, &g, part, &input, &requantize, &mut bytes);
                    let dequantize = Dequantize {
                        acc_offset: &offset,
                        multiplier: &multiplier,
                        bias: &bias,
                        relu: largest > 7,
                    };
                    let mut reals = vec![1.0; g.output_extent(out[0], out[1])];
                    let part = rectangle.clone();
                    conv_u8_f32(&weights, &g, part, &input, &dequantize, &mut reals);
                    (bytes, reals)
                };
                let expected = run(Isa::PORTABLE);
                for isa in Isa::available() {
                    assert_eq!(run(isa), expected, "{isa}, {case:?}, up to {largest}");
                }
            }
        }
    }
}

/// The general convolution's view of one channel.
fn one_channel(g: &DepthwiseGeometry, [out_h, out_w]: [usize; 2]) -> (ConvGeometry, WeightShape) {
    let [kernel_h, kernel_w] = g.kernel;
    let geometry = ConvGeometry {
        kernel_h,
        kernel_w,
        stride: g.stride[0],
        in_channels: 1,
        out_channels: 1,
        in_row_stride: g.in_row_stride,
        in_pixel_stride: g.in_pixel_stride,
        out_h,
        out_w,
        pool: 1,
        out_row_stride: g.out_row_stride,
        out_pixel_stride: g.out_pixel_stride,
    };
    let shape = WeightShape {
        out_channels: 1,
        kernel_h,
        kernel_w,
        in_channels: 1,
    };
    (geometry, shape)
}

#[test]
fn each_channel_is_the_general_convolution_of_its_own() {
    let mut rng = stream(53, "depthwise", 0);
    let isa = Isa::best();
    for case in CASES {
        let (kernel, stride, dilation, out, [channels, ..]) = case;
        if stride[0] != stride[1] || dilation != [1, 1] {
            continue;
        }
        let g = geometry(case);
        let taps = kernel[0] * kernel[1];
        let integers: Vec<i16> = (0..channels * taps)
            .map(|_| below(&mut rng, 255) as i16 - 127)
            .collect();
        let filters: Vec<f32> = integers.iter().map(|&w| f32::from(w) * 0.37).collect();
        let codes: Vec<u8> = (0..g.input_extent(out[0], out[1]) + SLACK + channels)
            .map(|_| below(&mut rng, 256) as u8)
            .collect();
        let input: Vec<f32> = codes.iter().map(|&x| f32::from(x) * 0.13 - 4.0).collect();
        let (len, all) = (g.output_extent(out[0], out[1]), [0..out[0], 0..out[1]]);
        let (mut found, mut expected) = (vec![0.0; len], vec![0.0; len]);
        let weights = FloatWeights::pack(isa, &filters, channels, kernel);
        let none = Epilogue::default();
        conv_f32(&weights, &g, all.clone(), &input, &none, &mut found);
        let weights = IntegerWeights::pack(isa, &integers, channels, kernel);
        let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
        let offset = vec![5; channels];
        let sums = Dequantize {
            acc_offset: &offset,
            multiplier: &ones,
            bias: &zeros,
            relu: false,
        };
        let (mut found_sums, mut expected_sums) = (vec![0.0; len], vec![0.0; len]);
        conv_u8_f32(&weights, &g, all, &codes, &sums, &mut found_sums);
        let (view, shape) = one_channel(&g, out);
        for c in 0..channels {
            let filter = &filters[c * taps..][..taps];
            let weights = conv_f32::PackedWeights::pack(isa, filter, shape);
            let (x, y) = (&input[c..], &mut expected[c..]);
            conv_f32::conv(&weights, &view, 0..out[0], x, &none, y);
            let filter = &integers[c * taps..][..taps];
            let width = crate::WeightWidth::Bits8;
            let weights = qconv::PackedWeights::pack_width(isa, width, filter, shape);
            let sums = Dequantize {
                acc_offset: &[5],
                multiplier: &[1.0],
                bias: &[0.0],
                relu: false,
            };
            let (x, y) = (&codes[c..], &mut expected_sums[c..]);
            qconv::conv_f32(&weights, &view, 0..out[0], x, &sums, y);
        }
        assert_eq!(found, expected, "{case:?}");
        assert_eq!(found_sums, expected_sums, "{case:?}");
    }
}

#[test]
fn extreme_constants_give_the_bytes_of_the_twin() {
    let g = geometry(([3, 3], [1, 1], [1, 1], [2, 11], [20, 20, 20]));
    let mut rng = stream(54, "depthwise", 0);
    let filters: Vec<i16> = (0..20 * 9)
        .map(|_| below(&mut rng, 255) as i16 - 127)
        .collect();
    let input: Vec<u8> = (0..g.input_extent(2, 11) + SLACK)
        .map(|_| below(&mut rng, 256) as u8)
        .collect();
    let offset: Vec<i32> = (0..20)
        .map(|c| [0, 1 << 30, -(1 << 30), -5][c % 4])
        .collect();
    for (last, zero_point) in [(1e30, 255), (f32::NAN, 0), (f32::INFINITY, 11)] {
        let multipliers = [0.0, 1e-45, 0.003, 1e30, f32::MAX];
        let mut multiplier: Vec<f32> = (0..20).map(|c| multipliers[c / 4]).collect();
        multiplier[19] = last;
        let biases = [0.5, -1e30, 1e30, -0.0];
        let bias: Vec<f32> = (0..20).map(|c| biases[(c + c / 4) % 4]).collect();
        let run = |isa| {
            let weights = IntegerWeights::pack(isa, &filters, 20, [3, 3]);
            let requantize = Requantize {
                acc_offset: &offset,
                multiplier: &multiplier,
                bias: &bias,
                zero_point,
                low: 3,
                high: 250,
            };
            let mut bytes = vec![1; g.output_extent(2, 11)];
            conv_u8(&weights, &g, [0..2, 0..11], &input, &requantize, &mut bytes);
            bytes
        };
        let expected = run(Isa::PORTABLE);
        for isa in Isa::available() {
            assert_eq!(run(isa), expected, "{isa}, {last}");
        }
    }
}

#[test]
#[should_panic = "weights must fill their shape"]
fn no_f32_filters_are_not_those_of_a_kernel_whose_size_wraps() {
    let half = 1 << (usize::BITS / 2);
    let _ = FloatWeights::pack(Isa::best(), &[], 1, [half, half]);
}

#[test]
#[should_panic = "weights must fill their shape"]
fn no_integer_filters_are_not_those_of_a_kernel_whose_size_wraps() {
    let half = 1 << (usize::BITS / 2);
    let _ = IntegerWeights::pack(Isa::best(), &[], half, [half, 1]);
}

#[test]
#[should_panic = "pixels must not overlap"]
fn pixels_that_overlap_are_refused() {
    let mut g = geometry(([3, 3], [1, 1], [1, 1], [2, 2], [8, 8, 8]));
    g.out_pixel_stride = 7;
    let weights = FloatWeights::pack(Isa::best(), &[0.0; 72], 8, [3, 3]);
    let input = vec![0.0; g.input_extent(2, 2) + SLACK];
    conv_f32(
        &weights,
        &g,
        [0..2, 0..2],
        &input,
        &Epilogue::default(),
        &mut [0.0; 32],
    );
}

#[test]
#[should_panic = "extent and the slack"]
fn an_input_that_ends_too_early_is_refused() {
    let g = geometry(CASES[0]);
    let weights = FloatWeights::pack(Isa::best(), &[0.0; 16 * 9], 16, [3, 3]);
    let input = vec![0.0; g.input_extent(5, 7) + SLACK - 1];
    let mut out = vec![0.0; g.output_extent(5, 7)];
    let none = Epilogue::default();
    conv_f32(&weights, &g, [0..5, 0..7], &input, &none, &mut out);
}

#[test]
#[should_panic = "32-bit sums"]
fn a_filter_whose_sum_could_overflow_is_refused() {
    let _ = IntegerWeights::pack(Isa::best(), &[i16::MAX; 300], 1, [20, 15]);
}
