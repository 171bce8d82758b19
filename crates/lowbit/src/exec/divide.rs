//! Cutting one image's work into parts for a team.

use crate::lower::Layout;
use crate::pool::share;
use lowbit_kernels::team::Team;
use std::ops::Range;

/// Bytes of an image from which on threads share bringing it into its layout.
const LARGE_IMAGE: usize = 32 << 10;

/// Brings an image into its layout, large ones' rows over the team.
pub(super) fn load_shared<T: Send>(
    layout: &Layout,
    image: &[u8],
    out: &mut [T],
    team: Option<&Team>,
    load: impl Fn(&[u8], &mut [T]) + Sync,
) {
    match team {
        Some(team) if size_of::<T>() * layout.image_len >= LARGE_IMAGE => {
            let rows = layout.h.div_ceil(team.threads());
            let parts = image.chunks(rows * layout.row_len());
            let parts = parts.zip(out.chunks_mut(rows * layout.row_stride));
            share(team, parts.collect(), |(rows, out)| load(rows, out));
        }
        _ => load(image, out),
    }
}

/// Cuts an output into ranges of pixels.
pub(super) fn divide<'a, T>(
    layout: &Layout,
    parts: &[Range<usize>],
    out: &'a mut [T],
) -> Vec<(Range<usize>, &'a mut [T])> {
    let (mut rest, mut taken) = (out, 0);
    let mut divided = Vec::with_capacity(parts.len());
    for range in parts {
        let end = layout.pixel(range.end);
        let (own, others) = rest.split_at_mut(end.min(taken + rest.len()) - taken);
        (rest, taken) = (others, end);
        divided.push((range.clone(), own));
    }
    divided
}

/// A range of pixels in row order, as rectangles: the end of a row, whole rows, the start of a row.
pub(super) fn pixels_of<T>(
    layout: &Layout,
    range: Range<usize>,
    out: &mut [T],
    mut each: impl FnMut(Range<usize>, Range<usize>, &mut [T]),
) {
    let first = layout.pixel(range.start);
    let mut pixel = range.start;
    while pixel < range.end {
        let (row, column, left) = (pixel / layout.w, pixel % layout.w, range.end - pixel);
        let (rows, columns) = if column == 0 && left >= layout.w {
            (row..range.end / layout.w, 0..layout.w)
        } else {
            (row..row + 1, column..layout.w.min(column + left))
        };
        let start = layout.pixel(pixel) - first;
        pixel += rows.len() * columns.len();
        each(rows, columns, &mut out[start..]);
    }
}
