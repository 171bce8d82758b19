//! The scalar twins: plain loops that define what every other kernel must produce.

use super::{DepthwiseGeometry, Epilogue, FloatWeights, IntegerWeights};
use std::ops::Range;

pub(super) fn conv_f32(
    weights: &FloatWeights,
    g: &DepthwiseGeometry,
    rectangle: [Range<usize>; 2],
    input: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    each(g, rectangle, |from, to, c| {
        let taps = g.taps().enumerate();
        let acc = taps.fold(0.0f32, |acc, (tap, at)| {
            input[from + at + c].mul_add(weights.weight(c, tap), acc)
        });
        out[to + c] = epilogue.apply(acc, c);
    });
}

/// `input` comes with where each accumulator starts.
pub(super) fn conv_u8<T>(
    weights: &IntegerWeights,
    g: &DepthwiseGeometry,
    rectangle: [Range<usize>; 2],
    (input, acc_offset): (&[u8], &[i32]),
    out: &mut [T],
    store: impl Fn(i32, usize) -> T,
) {
    each(g, rectangle, |from, to, c| {
        let taps = g.taps().enumerate();
        let sum = taps.fold(acc_offset[c], |acc, (tap, at)| {
            let product = i32::from(input[from + at + c]) * i32::from(weights.weight(c, tap));
            acc.wrapping_add(product)
        });
        out[to + c] = store(sum, c);
    });
}

/// Calls `each` with where a pixel's taps begin, where it is stored, and a channel.
fn each(
    g: &DepthwiseGeometry,
    [rows, columns]: [Range<usize>; 2],
    mut each: impl FnMut(usize, usize, usize),
) {
    for row in rows.clone() {
        for column in columns.clone() {
            let to = (row - rows.start) * g.out_row_stride
                + (column - columns.start) * g.out_pixel_stride;
            (0..g.channels).for_each(|c| each(g.origin(row, column), to, c));
        }
    }
}
