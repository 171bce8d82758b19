//! Every ISA against the scalar twin, over odd shapes.

use super::*;
use crate::geometry::SLACK;
use crate::guard::AtTheEnd;
use crate::images::tests::{border_pixels, odd, with_gaps};
use crate::random::{self, below, stream, uniform};
use crate::{AlignedBuffer, Isa, WeightShape, WeightWidth};
use std::collections::BTreeMap;

/// A case with random everything; input and output are views with gaps.
struct Case {
    geometry: ConvGeometry,
    weights: Vec<i16>,
    input: AlignedBuffer<u8>,
    offset: Vec<i32>,
    multiplier: Vec<f32>,
    bias: Vec<f32>,
}

fn case(number: u64, width: WeightWidth) -> Case {
    let mut rng = stream(11, "u8i8", number);
    let mut pick = |low: u32, high: u32| (low + below(&mut rng, high - low + 1)) as usize;
    let linear = number % 4 == 3;
    let (in_c, out_c) = (pick(1, 67), pick(1, 67));
    let geometry = if linear {
        let gap = pick(0, 5);
        ConvGeometry {
            in_pixel_stride: in_c + gap,
            out_pixel_stride: out_c + gap,
            ..ConvGeometry::linear(pick(1, 70), in_c, out_c)
        }
    } else {
        let (kernel_h, kernel_w, stride) = (pick(1, 5), pick(1, 5), pick(1, 2));
        let (in_h, in_w) = (kernel_h + pick(0, 24), kernel_w + pick(0, 35));
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
    };
    case_of(geometry, number, width)
}

/// A case of a geometry, with random everything else.
fn case_of(geometry: ConvGeometry, number: u64, width: WeightWidth) -> Case {
    let mut rng = stream(12, "u8i8", number);
    let shape = shape(&geometry);
    let mut input = AlignedBuffer::zeroed(geometry.input_extent());
    // The slack is filled as well: it must not matter.
    input
        .with_slack_mut()
        .fill_with(|| below(&mut rng, 256) as u8);
    // As large as the width and the accumulators allow; every seventh case has nothing else.
    let fitting = width.max_magnitude_sum() / shape.fan_in() as u64;
    let high = fitting.min(*width.range().end() as u64) as i32;
    let low = -(fitting.min(width.range().start().unsigned_abs().into()) as i32);
    let extreme = number.is_multiple_of(7);
    let mut weight = || {
        let any = low + below(&mut rng, (high - low + 1) as u32) as i32;
        match width {
            _ if extreme => low as i16,
            _ if width.is_odd() && any % 2 == 0 => any as i16 - 1 + 2 * i16::from(any <= 0),
            _ => any as i16,
        }
    };
    let weights = (0..shape.len()).map(|_| weight()).collect();
    let channels = geometry.out_channels;
    Case {
        geometry,
        weights,
        input,
        offset: (0..channels)
            .map(|_| below(&mut rng, 100_000) as i32 - 50_000)
            .collect(),
        multiplier: (0..channels)
            .map(|_| 0.25 / high as f32 * uniform(&mut rng))
            .collect(),
        bias: (0..channels)
            .map(|_| 40.0 * random::normal(&mut rng))
            .collect(),
    }
}

fn shape(g: &ConvGeometry) -> WeightShape {
    WeightShape {
        out_channels: g.out_channels,
        kernel_h: g.kernel_h,
        kernel_w: g.kernel_w,
        in_channels: g.in_channels,
    }
}

#[test]
fn every_isa_gives_the_scalar_bytes_over_odd_shapes() {
    compare(WeightWidth::Bits8, 0..400);
}

#[test]
fn every_isa_gives_the_scalar_bytes_at_16_bits() {
    compare(WeightWidth::Bits16, 400..550);
}

#[test]
fn every_isa_gives_the_scalar_bytes_at_4_bits() {
    compare(WeightWidth::Bits4, 550..700);
}

#[test]
fn every_isa_gives_the_scalar_bytes_at_2_bits() {
    compare(WeightWidth::Bits2, 700..850);
}

#[test]
fn every_isa_gives_the_scalar_bytes_at_1_bit() {
    compare(WeightWidth::Bits1, 850..1000);
}

#[test]
fn every_isa_gives_the_scalar_bytes_of_odd_weights() {
    compare(WeightWidth::Odd4, 1000..1150);
    compare(WeightWidth::Odd2, 1150..1300);
}

fn compare(width: WeightWidth, numbers: Range<u64>) {
    for number in numbers {
        let case = case(number, width);
        let g = &case.geometry;
        let rows = if number.is_multiple_of(2) {
            0..g.pooled_h()
        } else {
            g.pooled_h() / 3..g.pooled_h()
        };
        let requantize = Requantize {
            acc_offset: &case.offset,
            multiplier: &case.multiplier,
            bias: &case.bias,
            zero_point: 7,
            low: if number.is_multiple_of(2) { 7 } else { 0 },
            high: 250,
        };
        let dequantize = Dequantize {
            acc_offset: &case.offset,
            multiplier: &case.multiplier,
            bias: &case.bias,
            relu: number.is_multiple_of(2),
        };
        let run = |isa| {
            let weights = PackedWeights::pack_width(isa, width, &case.weights, shape(g));
            let extent = g.output_extent(rows.len());
            let (mut bytes, mut floats) = (vec![99; extent], vec![99.0; extent]);
            // No more than what may be read, at the end of readable memory: reading too far is a fault.
            let input = &AtTheEnd::of(&case.input.with_slack()[..g.input_extent() + SLACK]);
            conv_u8(&weights, g, rows.clone(), input, &requantize, &mut bytes);
            conv_f32(&weights, g, rows.clone(), input, &dequantize, &mut floats);
            (bytes, floats)
        };
        let expected = run(Isa::PORTABLE);
        for isa in Isa::available() {
            assert_eq!(
                run(isa),
                expected,
                "case {number} on {isa}, {width:?}: {g:?}"
            );
        }
    }
}

#[test]
#[should_panic(expected = "slack")]
fn an_input_without_slack_is_refused() {
    let g = ConvGeometry::dense((3, 3, 4), 4, (3, 3), 1, 1);
    let weights = PackedWeights::pack(Isa::best(), &[1; 144], shape(&g));
    let requantize = Requantize {
        acc_offset: &[0; 4],
        multiplier: &[1.0; 4],
        bias: &[0.0; 4],
        zero_point: 0,
        low: 0,
        high: 255,
    };
    conv_u8(&weights, &g, 0..1, &[0; 36], &requantize, &mut [0; 4]);
}

#[test]
fn extreme_multipliers_and_biases_give_the_scalar_bytes() {
    let values = [
        0.0,
        f32::MIN_POSITIVE,
        1e-45,
        1e30,
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
    ];
    let biases = [0.0, -0.0, 0.5, 1e30, -1e30, f32::NEG_INFINITY, f32::NAN];
    // 32 channels of finite constants first: a whole panel on every ISA, which is cut in another order.
    let finite = (0..32).map(|c| (values[1 + c / 4 % 4], biases[1 + c % 4]));
    let all = values.iter().flat_map(|&m| biases.map(|b| (m, b)));
    let (multiplier, bias): (Vec<f32>, Vec<f32>) = finite.chain(all).unzip();
    let channels = multiplier.len();
    let g = ConvGeometry::dense((6, 7, 5), channels, (3, 3), 1, 2);
    let mut rng = stream(13, "u8i8", 0);
    let weights: Vec<i8> = (0..shape(&g).len())
        .map(|_| below(&mut rng, 256) as i8)
        .collect();
    let mut input = AlignedBuffer::zeroed(g.input_extent());
    input.fill_with(|| below(&mut rng, 256) as u8);
    let offset: Vec<i32> = (0..channels)
        .map(|c| [0, i32::MAX, i32::MIN, -5][c % 4])
        .collect();
    for zero_point in [0, 255, -1_000_000, i32::MAX] {
        let run = |isa| {
            let requantize = Requantize {
                acc_offset: &offset,
                multiplier: &multiplier,
                bias: &bias,
                zero_point,
                low: 3,
                high: 250,
            };
            let dequantize = Dequantize {
                acc_offset: &offset,
                multiplier: &multiplier,
                bias: &bias,
                relu: zero_point == 0,
            };
            let weights = PackedWeights::pack(isa, &weights, shape(&g));
            let extent = g.output_extent(g.pooled_h());
            let (mut bytes, mut floats) = (vec![99; extent], vec![99.0f32; extent]);
            let (rows, input) = (0..g.pooled_h(), input.with_slack());
            conv_u8(&weights, &g, rows.clone(), input, &requantize, &mut bytes);
            conv_f32(&weights, &g, rows, input, &dequantize, &mut floats);
            // A NaN is a NaN, whatever its payload.
            let bits: Vec<u32> = floats
                .iter()
                .map(|x| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() })
                .collect();
            (bytes, bits)
        };
        let expected = run(Isa::PORTABLE);
        for isa in Isa::available() {
            assert_eq!(run(isa), expected, "{isa}, zero point {zero_point}");
        }
    }
}

#[test]
#[should_panic = "weights must fill their shape"]
fn no_weights_are_not_those_of_a_shape_whose_size_wraps() {
    let shape = WeightShape {
        out_channels: 1,
        kernel_h: 1 << (usize::BITS / 2),
        kernel_w: 1 << (usize::BITS / 2),
        in_channels: 1,
    };
    let _ = PackedWeights::pack(Isa::best(), &[], shape);
}

const WIDTHS: [WeightWidth; 7] = {
    use WeightWidth::*;
    [Bits8, Bits16, Bits4, Bits2, Bits1, Odd4, Odd2]
};

/// Several images of few pixels; the border of each is full of what must not matter, and each window has starts of its own.
fn images(number: u64, width: WeightWidth) -> (ImagesGeometry, Case) {
    // Of each width a third with whole blocks of one bit, and every other one as a group of more channels.
    let turn = number as usize / WIDTHS.len();
    let block = if turn.is_multiple_of(3) { 32 } else { 4 };
    let gap = turn % 2 * (1 + turn % 5);
    let geometry = with_gaps(odd(number, block), gap);
    let mut case = case_of(geometry.image, number, width);
    let mut rng = stream(15, "images", number);
    case.input = AlignedBuffer::zeroed(geometry.input_extent());
    let fill = || below(&mut rng, 256) as u8;
    case.input.with_slack_mut().fill_with(fill);
    let windows = geometry.windows().len();
    case.offset = (0..windows * geometry.image.out_channels)
        .map(|_| below(&mut rng, 100_000) as i32 - 50_000)
        .collect();
    (geometry, case)
}

#[test]
fn every_isa_gives_the_scalar_bytes_of_several_images() {
    // Cases that an ISA took: all, and groups of more channels with several taps in a row.
    let mut taken: BTreeMap<(String, usize), [usize; 2]> = BTreeMap::new();
    for number in 0..350 {
        let at = number as usize % WIDTHS.len();
        let width = WIDTHS[at];
        let (g, case) = images(number, width);
        let is_group = g.image.in_pixel_stride > g.image.in_channels && g.image.kernel_w > 1;
        let requantize = Requantize {
            acc_offset: &case.offset,
            multiplier: &case.multiplier,
            bias: &case.bias,
            zero_point: 7,
            low: 7,
            high: 250,
        };
        let dequantize = Dequantize {
            acc_offset: &case.offset,
            multiplier: &case.multiplier,
            bias: &case.bias,
            relu: number.is_multiple_of(2),
        };
        let run = |isa| {
            let shape = g.image.weight_shape();
            let weights = PackedWeights::pack_width(isa, width, &case.weights, shape);
            if !weights.takes_images() {
                return None;
            }
            let extent = g.output_extent();
            let (mut bytes, mut floats) = (vec![99; extent], vec![99.0; extent]);
            let input = &AtTheEnd::of(&case.input.with_slack()[..g.input_extent() + SLACK]);
            conv_images_u8(&weights, &g, input, &requantize, &mut bytes);
            conv_images_f32(&weights, &g, input, &dequantize, &mut floats);
            Some((bytes, floats))
        };
        let expected = run(Isa::PORTABLE);
        for isa in Isa::available() {
            if let Some(found) = run(isa) {
                assert_eq!(
                    Some(found),
                    expected,
                    "case {number} on {isa}, {width:?}: {g:?}"
                );
                let [all, groups] = taken.entry((isa.to_string(), at)).or_default();
                *all += 1;
                *groups += usize::from(is_group);
            }
        }
    }
    for ((isa, at), [all, groups]) in taken {
        let width = WIDTHS[at];
        assert!(
            groups > 1,
            "{isa} took {all} cases of {width:?}, {groups} of groups"
        );
    }
}

#[test]
fn several_images_are_each_of_them_alone_where_padding_is_in_the_starts() {
    let zero_point = 5;
    for number in 0..100 {
        let (g, mut case) = images(number, WeightWidth::Bits8);
        let (image, shape) = (&g.image, g.image.weight_shape());
        // Zero points in the border, as the runtime writes them.
        for pixel in border_pixels(&g) {
            case.input[pixel..pixel + image.in_channels].fill(zero_point);
        }
        let offset: Vec<i32> = case.offset[..shape.out_channels].to_vec();
        let left_out = |window: &crate::images::Window, filter: &[i16]| -> i32 {
            let taps = filter.chunks_exact(shape.in_channels).enumerate();
            let outside = taps.filter(|(tap, _)| {
                let (kh, kw) = (tap / shape.kernel_w, tap % shape.kernel_w);
                !(window.rows.contains(&kh) && window.columns.contains(&kw))
            });
            let weights = outside.flat_map(|(_, weights)| weights);
            weights.map(|&w| i32::from(zero_point) * i32::from(w)).sum()
        };
        let of_windows: Vec<i32> = g
            .windows()
            .iter()
            .flat_map(|window| {
                let filters = case.weights.chunks_exact(shape.fan_in());
                let starts = offset.iter().zip(filters);
                starts
                    .map(|(start, filter)| start + left_out(window, filter))
                    .collect::<Vec<_>>()
            })
            .collect();
        let constants = |acc_offset| Requantize {
            acc_offset,
            multiplier: &case.multiplier,
            bias: &case.bias,
            zero_point: 7,
            low: 0,
            high: 255,
        };
        let weights =
            PackedWeights::pack_width(Isa::PORTABLE, WeightWidth::Bits8, &case.weights, shape);
        let (mut found, mut expected) = (vec![99; g.output_extent()], vec![99; g.output_extent()]);
        let input = case.input.with_slack();
        conv_images_u8(&weights, &g, input, &constants(&of_windows), &mut found);
        for number in 0..g.images {
            let view = &input[number * g.in_image_stride..];
            let out = &mut expected[number * g.out_image_stride..];
            conv_u8(
                &weights,
                image,
                0..image.out_h,
                view,
                &constants(&offset),
                out,
            );
        }
        assert_eq!(found, expected, "case {number}: {g:?}");
    }
}
