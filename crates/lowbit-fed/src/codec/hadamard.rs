//! A rotation that makes any numbers look normal: random signs, then a Walsh-Hadamard transform, block by block.

/// Numbers in a block.
pub(super) const BLOCK: usize = 4096;

/// A rest below this is not rotated.
pub(super) const SMALLEST: usize = 64;

/// Lengths of the blocks of `len` numbers: 4096 as often as it fits, then the powers of two of the rest, largest first, down
/// to 64; what remains is one block that is not rotated.
pub(super) fn blocks(len: usize) -> impl Iterator<Item = usize> + Clone {
    let mut left = len;
    std::iter::from_fn(move || {
        let block = match left {
            0 => return None,
            1..SMALLEST => left,
            _ => BLOCK.min(1 << left.ilog2()),
        };
        left -= block;
        Some(block)
    })
}

/// 64 random signs, those of the numbers `64 · word` and on (Steele et al. 2014, SplitMix64).
fn signs(seed: u64, word: usize) -> u64 {
    let mut z = seed.wrapping_add((word as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Changes the sign of the numbers whose bit is 1; `first` (a multiple of 64) is the block's place among all numbers.
fn flip(seed: u64, first: usize, block: &mut [f32]) {
    for (index, part) in block.chunks_mut(64).enumerate() {
        let signs = signs(seed, first / 64 + index);
        for (bit, x) in part.iter_mut().enumerate() {
            let sign = ((signs >> bit) as u32 & 1) << 31;
            *x = f32::from_bits(x.to_bits() ^ sign);
        }
    }
}

/// Rotates a block in place; blocks below 64 stay as they are.
pub(super) fn rotate(seed: u64, first: usize, block: &mut [f32]) {
    if block.len() >= SMALLEST {
        flip(seed, first, block);
        transform(block);
    }
}

/// Undoes [`rotate`].
pub(super) fn rotate_back(seed: u64, first: usize, block: &mut [f32]) {
    if block.len() >= SMALLEST {
        transform(block);
        flip(seed, first, block);
    }
}

/// The orthonormal Walsh-Hadamard transform of a power of two of at least 64 numbers: its own inverse. Each stage adds and
/// subtracts numbers `step` apart, `step` = 1, 2, 4, …; the factor comes last.
fn transform(block: &mut [f32]) {
    for part in block.as_chunks_mut::<8>().0 {
        *part = eight(*part);
    }
    let mut step = 8;
    while step < block.len() {
        for pair in block.chunks_exact_mut(2 * step) {
            let (low, high) = pair.split_at_mut(step);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        step *= 2;
    }
    let factor = 1.0 / (block.len() as f32).sqrt();
    for x in block {
        *x *= factor;
    }
}

/// The first three stages.
#[inline(always)]
fn eight(x: [f32; 8]) -> [f32; 8] {
    let [a, b, c, d, e, f, g, h] = x;
    let (a, b, c, d) = (a + b, a - b, c + d, c - d);
    let (e, f, g, h) = (e + f, e - f, g + h, g - h);
    let (a, b, c, d) = (a + c, b + d, a - c, b - d);
    let (e, f, g, h) = (e + g, f + h, e - g, f - h);
    [a + e, b + f, c + g, d + h, a - e, b - f, c - g, d - h]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_powers_of_two_and_a_rest_that_fill_the_length() {
        assert_eq!(
            blocks(4096 * 2 + 2400 + 7).collect::<Vec<_>>(),
            [4096, 4096, 2048, 256, 64, 39]
        );
        assert_eq!(blocks(63).collect::<Vec<_>>(), [63]);
        assert_eq!(blocks(0).count(), 0);
        for len in [1, 64, 4095, 4096, 432_992] {
            assert_eq!(blocks(len).sum::<usize>(), len);
        }
    }

    #[test]
    fn the_transform_is_the_matrix_of_parities() {
        // Entry (i, j) of the matrix is (−1)^(bits that i and j share), over √n.
        let n = 128;
        let x: Vec<f32> = (0..n).map(|i| ((i * i) % 17) as f32 - 8.0).collect();
        let mut y = x.clone();
        transform(&mut y);
        for (i, &y) in y.iter().enumerate() {
            let sign = |j: usize| {
                if (i & j).count_ones().is_multiple_of(2) {
                    1.0
                } else {
                    -1.0
                }
            };
            let sum: f64 = (0..n).map(|j| sign(j) * f64::from(x[j])).sum();
            assert!((f64::from(y) - sum / (n as f64).sqrt()).abs() < 1e-4);
        }
    }

    #[test]
    fn rotation_keeps_lengths_and_comes_back() {
        let x: Vec<f32> = (0..1024)
            .map(|i| if i == 5 { 100.0 } else { 0.01 })
            .collect();
        let mut y = x.clone();
        rotate(7, 4096, &mut y);
        let norm = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((norm(&x) - norm(&y)).abs() < 1e-3);
        // A spike is spread over all: its share of each number is 100 / √1024 = 3.1.
        assert!(y.iter().all(|y| (y.abs() - 3.125).abs() < 0.4));
        rotate_back(7, 4096, &mut y);
        assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-4));
    }
}
