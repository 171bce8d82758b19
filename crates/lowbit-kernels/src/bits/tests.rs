use super::*;
use crate::AlignedBuffer;
use crate::qconv::PackedWeights;
use crate::random::{below, stream};
use crate::{WeightWidth, qconv};

#[test]
fn packed_signs_are_the_same_on_every_isa() {
    let mut rng = stream(31, "signs", 0);
    for channels in 1..100 {
        let values: Vec<u8> = (0..7 * channels)
            .map(|_| below(&mut rng, 256) as u8)
            .collect();
        let run = |isa| {
            let mut out = vec![0; 7 * words(channels)];
            pack_signs(isa, &values, channels, 100, &mut out);
            out
        };
        let expected = run(Isa::PORTABLE);
        let last = (channels - 1) % 32;
        assert_eq!(
            expected[words(channels) - 1] >> last,
            u32::from(values[channels - 1] < 100)
        );
        for isa in Isa::available() {
            assert_eq!(run(isa), expected, "{isa}, {channels} channels");
        }
    }
}

/// The same signs as u8 activations of 0 and 2 with zero point 1, and as bits.
fn compare(number: u64) {
    let mut rng = stream(32, "bits", number);
    let mut pick = |low: u32, high: u32| (low + below(&mut rng, high - low + 1)) as usize;
    let (kernel, stride, pool) = ((pick(1, 4), pick(1, 4)), pick(1, 2), pick(1, 2));
    let (in_h, in_w) = (kernel.0 + 2 + pick(0, 9), kernel.1 + 2 + pick(0, 30));
    let (in_c, out_c) = (pick(1, 150), pick(1, 67));
    let bytes = ConvGeometry::dense((in_h, in_w, in_c), out_c, kernel, stride, pool);
    let mut bits = ConvGeometry::dense((in_h, in_w, words(in_c)), out_c, kernel, stride, pool);
    let gap = pick(0, 1);
    bits.in_pixel_stride += gap;
    bits.in_row_stride += in_w * gap + pick(0, 3);
    let signs: Vec<u8> = (0..in_h * in_w * in_c)
        .map(|_| 2 * pick(0, 1) as u8)
        .collect();
    let shape = WeightShape {
        out_channels: out_c,
        kernel_h: kernel.0,
        kernel_w: kernel.1,
        in_channels: in_c,
    };
    let weights: Vec<i16> = (0..shape.len())
        .map(|_| 2 * pick(0, 1) as i16 - 1)
        .collect();

    let mut packed = vec![0; in_h * in_w * words(in_c)];
    pack_signs(Isa::PORTABLE, &signs, in_c, 1, &mut packed);
    let mut view = vec![u32::MAX; bits.in_row_stride * in_h + crate::geometry::SLACK];
    for (pixel, words) in packed.chunks_exact(words(in_c)).enumerate() {
        let at = pixel / in_w * bits.in_row_stride + pixel % in_w * bits.in_pixel_stride;
        view[at..][..words.len()].copy_from_slice(words);
    }
    let input = AlignedBuffer::from_slice(&signs);
    let reference = PackedWeights::pack_width(Isa::PORTABLE, WeightWidth::Bits1, &weights, shape);
    let offset: Vec<i32> = reference.sums().iter().map(|sum| 3 - sum).collect();
    let (multiplier, bias) = (vec![0.9; out_c], vec![-2.0; out_c]);
    let dequantize = Dequantize {
        acc_offset: &offset,
        multiplier: &multiplier,
        bias: &bias,
        relu: false,
    };
    let extent = bytes.output_extent(bytes.pooled_h());
    let (rows, mut expected) = (pick(0, 1)..bytes.pooled_h(), vec![0.0; extent]);
    qconv::conv_f32(
        &reference,
        &bytes,
        rows.clone(),
        input.with_slack(),
        &dequantize,
        &mut expected,
    );
    let requantize = Requantize {
        acc_offset: &vec![3; out_c],
        multiplier: &multiplier,
        bias: &bias,
        zero_point: 128,
        low: 0,
        high: 255,
    };
    let dequantize = Dequantize {
        acc_offset: &vec![3; out_c],
        ..dequantize
    };
    for isa in Isa::available() {
        let weights = BitWeights::pack(isa, &weights, shape);
        let (mut floats, mut levels) = (vec![0.0; extent], vec![128; extent]);
        conv_f32(
            &weights,
            &bits,
            rows.clone(),
            &view,
            &dequantize,
            &mut floats,
        );
        assert_eq!(floats, expected, "case {number} on {isa}: {bits:?}");
        conv_u8(
            &weights,
            &bits,
            rows.clone(),
            &view,
            &requantize,
            &mut levels,
        );
        let rounded: Vec<u8> = floats
            .iter()
            .map(|x| (x.round_ties_even() + 128.0).clamp(0.0, 255.0) as u8)
            .collect();
        assert_eq!(levels, rounded, "case {number} on {isa}: {bits:?}");
    }
}

#[test]
fn bits_give_the_sums_of_the_same_signs_as_bytes_on_every_isa() {
    for number in 0..150 {
        compare(number);
    }
}
