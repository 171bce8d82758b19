//! The inverse cosine transform of one block, to the bit that of libjpeg's "islow".
//!
//! Loeffler, Ligtenberg and Moschytz, "Practical Fast 1-D DCT Algorithms with 11 Multiplications", 1989, in fixed point: 13
//! bits behind the point in the constants, 2 more between the passes. Columns go first. Everything is rounded where
//! libjpeg rounds; values that no encoder writes wrap at 16 bits as in libjpeg-turbo's vector code.

/// One value of each of eight columns.
type Row = [i16; 8];

const CONST_BITS: u32 = 13;
const PASS1_BITS: u32 = 2;

/// Writes the 8×8 pixels of `coefficients` times `quantizers`, both in rows, to the first 8 of every `stride` of `out`.
pub(super) fn idct(
    coefficients: &[i16; 64],
    quantizers: &[i16; 64],
    out: &mut [u8],
    stride: usize,
) {
    let mut rows = [[0i16; 8]; 8];
    for (at, row) in rows.iter_mut().enumerate() {
        for column in 0..8 {
            let index = at * 8 + column;
            row[column] = coefficients[index].wrapping_mul(quantizers[index]);
        }
    }
    let columns = pass::<{ CONST_BITS - PASS1_BITS }>(&rows);
    let pixels = pass::<{ CONST_BITS + PASS1_BITS + 3 }>(&transposed(&columns));
    for (row, out) in transposed(&pixels).iter().zip(out.chunks_mut(stride)) {
        for (out, &value) in out.iter_mut().zip(row) {
            *out = pixel(value);
        }
    }
}

/// [`idct`] of a block whose only coefficient is the first.
pub(super) fn idct_of_mean(first: i16, quantizer: i16, out: &mut [u8], stride: usize) {
    let scaled = i32::from(first.wrapping_mul(quantizer).wrapping_mul(1 << PASS1_BITS));
    let value = pixel(((scaled + 16) >> 5) as i16);
    for row in out.chunks_mut(stride).take(8) {
        let end = row.len().min(8);
        row[..end].fill(value);
    }
}

fn pixel(value: i16) -> u8 {
    (value.clamp(-128, 127) + 128) as u8
}

fn transposed(rows: &[Row; 8]) -> [Row; 8] {
    std::array::from_fn(|column| std::array::from_fn(|row| rows[row][column]))
}

/// The transform along the eight rows for each column; drops `SHIFT` bits, rounded.
#[inline(always)]
fn pass<const SHIFT: u32>(rows: &[Row; 8]) -> [Row; 8] {
    let mut out = [[0i16; 8]; 8];
    for c in 0..8 {
        let times = |value: i16, constant: i16| i32::from(value) * i32::from(constant);
        // Even part: 4433 is 0.541196100, 6270 is 0.765366865, 15137 is 1.847759065, times 2^13.
        let (z2, z3) = (rows[2][c], rows[6][c]);
        let tmp2 = times(z2, 4433) + times(z3, 4433 - 15137);
        let tmp3 = times(z2, 4433 + 6270) + times(z3, 4433);
        let tmp0 = i32::from(rows[0][c].wrapping_add(rows[4][c])) << CONST_BITS;
        let tmp1 = i32::from(rows[0][c].wrapping_sub(rows[4][c])) << CONST_BITS;
        let even = [tmp0 + tmp3, tmp1 + tmp2, tmp1 - tmp2, tmp0 - tmp3];
        // Odd part: 9633 is 1.175875602, 16069 is 1.961570560, 3196 is 0.390180644, 2446 is 0.298631336, 7373 is
        // 0.899976223, 16819 is 2.053119869, 20995 is 2.562915447, 25172 is 3.072711026, 12299 is 1.501321110.
        let (o0, o1, o2, o3) = (rows[7][c], rows[5][c], rows[3][c], rows[1][c]);
        let (z3, z4) = (o0.wrapping_add(o2), o1.wrapping_add(o3));
        let z3_turned = times(z3, 9633 - 16069) + times(z4, 9633);
        let z4_turned = times(z3, 9633) + times(z4, 9633 - 3196);
        let odd = [
            times(o3, 12299 - 7373) - times(o0, 7373) + z4_turned,
            times(o2, 25172 - 20995) - times(o1, 20995) + z3_turned,
            times(o1, 16819 - 20995) - times(o2, 20995) + z4_turned,
            times(o0, 2446 - 7373) - times(o3, 7373) + z3_turned,
        ];
        for row in 0..4 {
            out[row][c] = rounded::<SHIFT>(even[row].wrapping_add(odd[row]));
            out[7 - row][c] = rounded::<SHIFT>(even[row].wrapping_sub(odd[row]));
        }
    }
    out
}

#[inline(always)]
fn rounded<const SHIFT: u32>(value: i32) -> i16 {
    let value = value.wrapping_add(1 << (SHIFT - 1)) >> SHIFT;
    value.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowbit_kernels::random::{below, stream};

    #[test]
    fn the_transform_is_the_cosine_sum_within_a_level() {
        for round in 0..200 {
            let mut rng = stream(3, "idct", round);
            let count = 1 + below(&mut rng, 20);
            let mut coefficients = [0i16; 64];
            for _ in 0..count {
                let value = below(&mut rng, 41) as i16 - 20;
                coefficients[below(&mut rng, 64) as usize] = value;
            }
            let mut out = [0; 64];
            idct(&coefficients, &[5; 64], &mut out, 8);
            for (y, x) in (0..8).flat_map(|y| (0..8).map(move |x| (y, x))) {
                let exact = cosine_sum(&coefficients, 5.0, y, x);
                let ours = f64::from(out[y * 8 + x]);
                assert!((ours - exact.clamp(0.0, 255.0)).abs() < 0.6, "{round}");
            }
        }
    }

    /// T.81, A.3.3.
    fn cosine_sum(coefficients: &[i16; 64], quantizer: f64, y: usize, x: usize) -> f64 {
        let angle = |at: usize, k: usize| {
            let turn = (2 * at + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0;
            turn.cos() * if k == 0 { 0.5f64.sqrt() } else { 1.0 }
        };
        let term = |k: usize| {
            let value = f64::from(coefficients[k]) * quantizer;
            value * angle(y, k / 8) * angle(x, k % 8)
        };
        128.0 + (0..64).map(term).sum::<f64>() / 4.0
    }

    #[test]
    fn a_block_of_its_mean_alone_takes_a_shorter_way_to_the_same() {
        for first in -1100..1100 {
            let mut coefficients = [0; 64];
            coefficients[0] = first;
            let (mut long, mut short) = ([0; 80], [0; 80]);
            idct(&coefficients, &[3; 64], &mut long, 10);
            idct_of_mean(first, 3, &mut short, 10);
            assert_eq!(long, short);
        }
    }

    #[test]
    fn values_that_no_encoder_writes_do_not_panic() {
        let mut out = [0; 64];
        for value in [i16::MIN, i16::MAX] {
            idct(&[value; 64], &[i16::MAX; 64], &mut out, 8);
            idct_of_mean(value, i16::MAX, &mut out, 8);
        }
    }
}
