//! Sums of a block of channels of a few pixels of one or two rows. Four rows of the input are interleaved once for all pixels
//! and taps that see them; then each instruction multiplies and adds four taps, one below the other, of sixteen channels:
//! exact.

use super::vector::ByteVector;

/// Most pixels of a tile of one row, and of two.
pub(super) const MOST: [usize; 2] = [6, 3];

/// What a tile works on.
pub(super) struct Tile {
    /// The interleaved column that the first tap of the first pixel sees.
    pub(super) x: *const u8,
    /// Bytes from one kernel column and pixel to the next.
    pub(super) column: usize,
    pub(super) step: usize,
    /// Kernel columns, and fours of its rows.
    pub(super) columns: usize,
    pub(super) quads: usize,
    /// The block's weights for each row of pixels.
    pub(super) w: [*const u8; 2],
}

/// Computes a tile, row by row, pixel by pixel, four vectors each. `start` is where the sums begin.
///
/// # Safety
/// AVX-512 with VNNI is available; interleaved columns are readable for all taps of all pixels, weights from each `w` on;
/// `sums` is writable for four vectors of each pixel.
pub(super) type Sums<V> = unsafe fn(&Tile, &[V; 4], *mut V);

/// The functions for tiles of one row and 1 to 6 pixels, or two rows and 1 to 3.
pub(super) fn tiles<V: ByteVector>(rows: usize) -> &'static [Sums<V>] {
    match rows {
        1 => &[
            sums::<V, 1, 1>,
            sums::<V, 1, 2>,
            sums::<V, 1, 3>,
            sums::<V, 1, 4>,
            sums::<V, 1, 5>,
            sums::<V, 1, 6>,
        ],
        _ => &[sums::<V, 2, 1>, sums::<V, 2, 2>, sums::<V, 2, 3>],
    }
}

/// # Safety
/// As [`Sums`], for `N` pixels of `ROWS` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn sums<V: ByteVector, const ROWS: usize, const N: usize>(
    tile: &Tile,
    start: &[V; 4],
    sums: *mut V,
) {
    let mut acc = [[*start; N]; ROWS];
    for column in 0..tile.columns {
        for quad in 0..tile.quads {
            // SAFETY: the caller's promises.
            unsafe {
                let x = tile.x.add(column * tile.column + quad * 4 * V::CHANNELS);
                let from = (column * tile.quads + quad) * 4 * V::CHANNELS;
                for quarter in 0..4 {
                    let at = quarter * V::CHANNELS;
                    let w: [V; ROWS] =
                        std::array::from_fn(|row| V::load(tile.w[row].add(from + at)));
                    for p in 0..N {
                        let x = V::load(x.add(p * tile.step + at));
                        for row in 0..ROWS {
                            acc[row][p][quarter] = acc[row][p][quarter].dot(x, w[row]);
                        }
                    }
                }
            }
        }
    }
    for (number, of_pixel) in acc.as_flattened().iter().enumerate() {
        for (quarter, &sum) in of_pixel.iter().enumerate() {
            // SAFETY: as above.
            unsafe { sum.store(sums.add(4 * number + quarter).cast()) };
        }
    }
}

/// Where rows of the input are interleaved from.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// The first row's first column.
    pub(super) x: *const u8,
    /// Bytes from one row and column to the next.
    pub(super) row: usize,
    pub(super) column: usize,
    /// Rows; what is missing of the last four is zero.
    pub(super) count: usize,
}

/// Interleaves `columns` columns of some rows, four rows at a time: `[column][four rows][vector]`.
///
/// # Safety
/// AVX-512 is available; the vector's bytes are readable at each row and column, and `to` is writable for all columns.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn interleave<V: ByteVector>(
    rows: Rows,
    columns: usize,
    quads: usize,
    to: *mut u8,
) {
    for quad in 0..quads {
        // SAFETY: the caller's promises.
        unsafe {
            let x = rows.x.add(4 * quad * rows.row);
            let to = to.add(quad * 4 * V::CHANNELS);
            let rows_here = Rows { x, ..rows };
            let stride = quads * 4 * V::CHANNELS;
            match rows.count - 4 * quad {
                1 => interleave_four::<V, 1>(rows_here, columns, stride, to),
                2 => interleave_four::<V, 2>(rows_here, columns, stride, to),
                3 => interleave_four::<V, 3>(rows_here, columns, stride, to),
                _ => interleave_four::<V, 4>(rows_here, columns, stride, to),
            }
        }
    }
}

/// # Safety
/// As [`interleave`]; `ROWS` rows are readable, the others zero.
#[inline(always)]
unsafe fn interleave_four<V: ByteVector, const ROWS: usize>(
    rows: Rows,
    columns: usize,
    stride: usize,
    to: *mut u8,
) {
    for column in 0..columns {
        // SAFETY: the caller's promises.
        unsafe {
            let x = rows.x.add(column * rows.column);
            let row = |row: usize| match row < ROWS {
                true => V::load(x.add(row * rows.row)),
                false => V::zero(),
            };
            let [near, far] = row(0).mix_bytes(row(1));
            let [below_near, below_far] = row(2).mix_bytes(row(3));
            let vectors = [near.mix_words(below_near), far.mix_words(below_far)];
            for (quarter, vector) in vectors.as_flattened().iter().enumerate() {
                vector.store(to.add(column * stride + quarter * V::CHANNELS));
            }
        }
    }
}
