use super::*;
use crate::random::{below, stream};

const WIDTHS: [WeightWidth; 5] = [
    WeightWidth::Bits1,
    WeightWidth::Bits2,
    WeightWidth::Bits4,
    WeightWidth::Bits8,
    WeightWidth::Bits16,
];

#[test]
fn every_weight_of_every_width_comes_back_from_its_code() {
    for width in WIDTHS {
        for weight in width.range() {
            if width == WeightWidth::Bits1 && weight == 0 {
                continue;
            }
            let code = width.code(weight);
            assert!(u64::from(code) < 1 << width.bits());
            assert_eq!(width.weight(code), weight, "{width:?}");
        }
    }
}

#[test]
fn codes_hold_their_bits_a_weight_and_come_back() {
    let shape = WeightShape {
        out_channels: 5,
        kernel_h: 3,
        kernel_w: 3,
        in_channels: 7,
    };
    let mut rng = stream(21, "codes", 0);
    for width in WIDTHS {
        let (low, high) = (*width.range().start(), *width.range().end());
        let span = (i32::from(high) - i32::from(low) + 1) as u32;
        let weights: Vec<i16> = (0..shape.len())
            .map(|_| (i32::from(low) + below(&mut rng, span) as i32) as i16)
            .map(|w| {
                if width == WeightWidth::Bits1 && w == 0 {
                    1
                } else {
                    w
                }
            })
            .collect();
        let codes = Codes::pack(width, &weights, shape);
        let bits = shape.fan_in() * width.bits() as usize;
        assert_eq!(codes.bytes(), shape.out_channels * bits.div_ceil(8));
        let mut channel = Vec::new();
        for c in 0..shape.out_channels {
            codes.channel(c, &mut channel);
            assert_eq!(channel, weights[c * shape.fan_in()..][..shape.fan_in()]);
        }
    }
}

#[test]
fn a_channel_that_could_overflow_does_not_fit() {
    assert!(WeightWidth::Bits16.fits(&[32767; 257]));
    assert!(!WeightWidth::Bits16.fits(&[32767; 258]));
    assert!(WeightWidth::Bits4.fits(&[-8; 65_000]));
    assert!(!WeightWidth::Bits4.fits(&[-8; 66_000]));
    assert!(!WeightWidth::Bits4.fits(&[8]));
    assert!(!WeightWidth::Bits1.fits(&[1, 0, -1]));
}
