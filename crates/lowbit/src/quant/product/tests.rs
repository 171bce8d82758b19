//! Products against the definition of a layer.

use super::*;
use crate::quant::ActivationParams;
use lowbit_kernels::AlignedBuffer;
use lowbit_kernels::random;

fn numbers(count: usize, below: u32, stream: u64) -> Vec<i16> {
    let mut rng = random::stream(1, "product", stream);
    (0..count)
        .map(|_| random::below(&mut rng, below) as i16)
        .collect()
}

/// Runs a layer of one output pixel per image, and the definition in 128-bit sums beside it.
fn against_the_definition(bits: WeightBits, fan_in: usize, weight: impl Fn(i16) -> i16) {
    let (images, channels) = (3, 5);
    let weights: Vec<i16> = numbers(channels * fan_in, 256, 1)
        .into_iter()
        .map(weight)
        .collect();
    let mut input = AlignedBuffer::<u8>::zeroed(images * fan_in);
    for (x, q) in input.iter_mut().zip(numbers(images * fan_in, 256, 2)) {
        *x = q as u8;
    }
    // One image that is all light, the worst case of all-positive weights.
    input[..fan_in].fill(255);
    let params = ActivationParams {
        scale: 0.01,
        zero_point: 3,
    };
    let scale = vec![1e-4; channels];
    let shape = WeightShape::linear(channels, fan_in);
    for isa in Isa::available() {
        let product = Product::pack(isa, bits, &weights, shape, false).unwrap();
        assert!(matches!(product.form, Form::Parts(_)), "{fan_in}");
        let requant = Requant::new(product.sums(), &scale, None, params.into(), None);
        let multiplier = requant.multiplier.clone();
        let constants = product.constants(requant);
        let geometry = ConvGeometry::linear(images, fan_in, channels);
        let mut out = vec![0.0; images * channels];
        let view = input.with_slack();
        product.run_f32(&constants, false, &geometry, 0..1, view, &mut out);
        for (at, &found) in out.iter().enumerate() {
            let (image, c) = (at / channels, at % channels);
            let pixels = &input[image * fan_in..][..fan_in];
            let filter = &weights[c * fan_in..][..fan_in];
            let terms = pixels.iter().zip(filter);
            let acc: i128 = terms
                .map(|(&q, &w)| (i128::from(q) - 3) * i128::from(w))
                .sum();
            assert_eq!(found, acc as f32 * multiplier[c], "{isa}, {fan_in} inputs");
        }
    }
}

#[test]
fn a_layer_too_large_for_32_bit_sums_is_split_and_stays_exact() {
    // All-positive bytes: 127 · 255 · 100,000 is more than 2³¹.
    against_the_definition(WeightBits::B8, 100_000, |q| 120 + q % 8);
    against_the_definition(WeightBits::B8, 140_000, |q| (q - 128).max(-127));
    against_the_definition(WeightBits::B4, 150_001, |q| q % 15 - 7);
    against_the_definition(WeightBits::B1, 140_003, |q| 1 - 2 * (q % 2));
}

#[test]
fn a_split_convolution_pools_as_a_whole_one_does() {
    let shape = WeightShape {
        out_channels: 3,
        kernel_h: 2,
        kernel_w: 2,
        in_channels: 6,
    };
    let weights: Vec<i16> = numbers(shape.len(), 255, 3)
        .into_iter()
        .map(|q| q - 127)
        .collect();
    let input: Vec<u8> = numbers(7 * 9 * 6, 256, 4)
        .into_iter()
        .map(|q| q as u8)
        .collect();
    let input = AlignedBuffer::from_slice(&input);
    let params = ActivationParams {
        scale: 0.02,
        zero_point: 100,
    };
    for isa in Isa::available() {
        let whole = Product::pack(isa, WeightBits::B8, &weights, shape, false).unwrap();
        let parts = vec![
            Part {
                first: 0,
                weights: part(isa, &weights, shape, 0..4),
            },
            Part {
                first: 4,
                weights: part(isa, &weights, shape, 4..6),
            },
        ];
        let split = Product {
            form: Form::Parts(parts),
            sums: whole.sums.clone(),
            ..Product::pack(isa, WeightBits::B8, &weights, shape, false).unwrap()
        };
        let geometry = ConvGeometry::dense((7, 9, 6), 3, (2, 2), 1, 2);
        let results = [&whole, &split].map(|product| {
            let requant = Requant::new(
                product.sums(),
                &[1e-3; 3],
                None,
                params.into(),
                Some(params),
            );
            let constants = product.constants(requant);
            let levels = Levels {
                zero_point: 100,
                low: 100,
                high: 250,
            };
            let mut out = vec![0; 2 * 4 * 3];
            let view = input.with_slack();
            product.run_u8(&constants, levels, &geometry, 1..3, view, &mut out);
            out
        });
        assert_eq!(results[0], results[1], "{isa}");
        assert!(results[0].iter().any(|&q| q != results[0][0]));
    }
}

fn part(
    isa: Isa,
    weights: &[i16],
    shape: WeightShape,
    range: Range<usize>,
) -> qconv::PackedWeights {
    let own: Vec<i16> = weights
        .chunks_exact(shape.in_channels)
        .flat_map(|pixel| pixel[range.clone()].to_vec())
        .collect();
    let shape = WeightShape {
        in_channels: range.len(),
        ..shape
    };
    qconv::PackedWeights::pack_width(isa, WeightBits::B8.width(), &own, shape)
}

#[test]
fn weights_of_another_width_are_refused() {
    let shape = WeightShape::linear(1, 3);
    let refused = |bits, weights: [i16; 3]| check(bits, &weights, shape).unwrap_err();
    assert!(refused(WeightBits::B4, [1, 8, 0]).contains("weight 8"));
    assert!(refused(WeightBits::B1, [1, 0, -1]).contains("weight 0"));
    assert!(check(WeightBits::B16, &[i16::MIN, 0, i16::MAX], shape).is_ok());
}
