//! 3×3 convolutions of step one with fewer products: F(2×2, 3×3) of Winograd's minimal filtering (Lavin & Gray, "Fast Algorithms for
//! Convolutional Neural Networks", 2016, section 4.1), `Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A`.
//!
//! A tile of 2×2 results takes 16 products per input channel, not 36: each of the 16 numbers of a transformed tile has a matrix
//! product of its own, over all tiles at hand. Transforms are sums alone (the weights' halves are exact), so that results lie as near
//! to the exact ones as those of direct sums do, within a small factor.

use super::{Epilogue, PackedWeights, conv as product};
use crate::geometry::SLACK;
use crate::lanes::{self, LANES, Lanes};
use crate::vectorize::vectorized;
use crate::{ConvGeometry, Isa, WeightShape};
use std::ops::Range;

/// Rows and columns of a tile of the input.
const SIDE: usize = 4;

/// Numbers of a transformed tile.
const POINTS: usize = SIDE * SIDE;

/// Tiles that are taken at a time: as many as make the products' weights worth reading, and whole rows of their register tiles.
const TILES: usize = 56;

/// Channels of a tile that are transformed at a time, in the first-level cache.
const AT_ONCE: usize = 4 * LANES;

/// Weights of a 3×3 convolution as 16 products.
#[derive(Clone, Debug)]
pub struct WinogradWeights {
    isa: Isa,
    shape: WeightShape,
    points: Vec<PackedWeights>,
}

/// Several images, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// How many there are.
    pub count: usize,
    /// From one image's first element to the next one's, in the input.
    pub in_stride: usize,
    /// The same in the output.
    pub out_stride: usize,
}

impl WinogradWeights {
    /// Transforms and packs `weights` (`[out, 3, 3, in]`) for `isa`.
    ///
    /// # Panics
    /// If [`suits`](Self::suits) says no, or `weights.len() != shape.len()`.
    #[must_use]
    pub fn pack(isa: Isa, weights: &[f32], shape: WeightShape) -> Self {
        let mut packed = Self::zeroed(isa, shape);
        packed.repack(weights);
        packed
    }

    /// Weights of zero, for [`repack`](Self::repack) or [`repack_backward`](Self::repack_backward); `shape` is the one that the kernel
    /// sees.
    ///
    /// # Panics
    /// If [`suits`](Self::suits) says no.
    #[must_use]
    pub fn zeroed(isa: Isa, shape: WeightShape) -> Self {
        assert!(Self::suits(shape), "another kernel or part of a vector");
        let one = WeightShape {
            kernel_h: 1,
            kernel_w: 1,
            ..shape
        };
        let points = (0..POINTS).map(|_| PackedWeights::zeroed(isa, one));
        Self {
            isa,
            shape,
            points: points.collect(),
        }
    }

    /// As [`WinogradWeights::pack`], into the memory of this one.
    ///
    /// # Panics
    /// If `weights` has not as many elements as were packed before.
    pub fn repack(&mut self, weights: &[f32]) {
        let planes = self.transformed(weights, self.shape.in_channels);
        let each = planes.chunks_exact(self.plane_len());
        for (point, plane) in self.points.iter_mut().zip(each) {
            point.repack(plane);
        }
    }

    /// Packs the weights of the gradient with respect to the input, as [`PackedWeights::repack_backward`] does: `weights` are those of
    /// the forward convolution.
    ///
    /// # Panics
    /// If `weights` has not as many elements as were packed before.
    pub fn repack_backward(&mut self, weights: &[f32]) {
        let len = self.plane_len();
        // The kernel's output channels are the layer's inputs.
        let planes = self.transformed(weights, self.shape.out_channels);
        // A kernel that is turned exchanges the ends of its transform.
        let turned = |at: usize| [3, 1, 2, 0][at];
        for (number, point) in self.points.iter_mut().enumerate() {
            let from = SIDE * turned(number / SIDE) + turned(number % SIDE);
            point.repack_backward(&planes[from * len..][..len]);
        }
    }

    /// `G g Gᵀ` of kernels `[3, 3, in_channels]`: 16 matrices `[kernel][channel]`.
    fn transformed(&self, weights: &[f32], in_channels: usize) -> Vec<f32> {
        assert_eq!(
            weights.len(),
            self.shape.len(),
            "weights must fill their shape"
        );
        let mut planes = vec![0.0; POINTS * self.plane_len()];
        vectorized!(self.isa, || transform(weights, in_channels, &mut planes));
        planes
    }

    fn plane_len(&self) -> usize {
        self.shape.out_channels * self.shape.in_channels
    }

    /// Whether such weights can be had in this form: a 3×3 kernel, whole vectors of channels.
    #[must_use]
    pub fn suits(shape: WeightShape) -> bool {
        let whole = |channels: usize| channels > 0 && channels.is_multiple_of(LANES);
        [shape.kernel_h, shape.kernel_w] == [3, 3]
            && whole(shape.in_channels)
            && whole(shape.out_channels)
    }

    /// Elements of scratch memory that [`conv`] needs.
    #[must_use]
    pub fn scratch_len(&self) -> usize {
        POINTS * (plane(self.shape.in_channels) + plane(self.shape.out_channels))
    }
}

/// Elements of one of the 16 matrices of a block of tiles.
fn plane(channels: usize) -> usize {
    TILES * channels + SLACK
}

/// Writes [`WinogradWeights::transformed`].
#[inline(always)]
fn transform(weights: &[f32], in_channels: usize, planes: &mut [f32]) {
    let len = planes.len() / POINTS;
    for (number, kernel) in weights.chunks_exact(9 * in_channels).enumerate() {
        for c in (0..in_channels).step_by(LANES) {
            let tap = |row: usize, column: usize| {
                lanes::load(kernel, (3 * row + column) * in_channels + c, LANES)
            };
            let rows = [0, 1, 2].map(|row| spread([tap(row, 0), tap(row, 1), tap(row, 2)]));
            for column in 0..SIDE {
                let points = spread([rows[0][column], rows[1][column], rows[2][column]]);
                for (row, point) in points.into_iter().enumerate() {
                    let at = (SIDE * row + column) * len + number * in_channels + c;
                    lanes::store(planes, at, LANES, point);
                }
            }
        }
    }
}

/// `G` of three weights, for each of some channels.
#[inline(always)]
fn spread([a, b, c]: [Lanes<f32>; 3]) -> [Lanes<f32>; SIDE] {
    let (mut sums, mut differences) = ([0.0; LANES], [0.0; LANES]);
    for i in 0..LANES {
        let ends = a[i] + c[i];
        sums[i] = 0.5 * (ends + b[i]);
        differences[i] = 0.5 * (ends - b[i]);
    }
    [a, sums, differences, c]
}

/// A tile: an image, and the row and column of its first result before pooling.
#[derive(Clone, Copy)]
struct Tile {
    image: usize,
    y: usize,
    x: usize,
}

/// Convolves a rectangle (rows and columns after pooling) of several images; the first image's view begins at `input[0]`, its
/// rectangle at `out[0]`.
///
/// Of finite numbers a result does not depend on the rectangle, the other images, or the ISA: tiles begin at even rows and columns,
/// and sums are of one order. What is not finite spoils its whole tile. `scratch` holds at least [`WinogradWeights::scratch_len`] elements, whatever they are.
///
/// # Panics
/// If the weights, the geometry and the slices do not fit together.
pub fn conv(
    weights: &WinogradWeights,
    geometry: &ConvGeometry,
    images: Images,
    [rows, columns]: [Range<usize>; 2],
    (input, scratch): (&[f32], &mut [f32]),
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let g = geometry;
    assert_eq!(g.weight_shape(), weights.shape, "weights of this layer");
    assert!(g.stride == 1 && matches!(g.pool, 1 | 2), "a step of one");
    assert!(
        rows.end <= g.pooled_h() && columns.end <= g.pooled_w(),
        "a rectangle of the result"
    );
    // Of pooled results a tile has one.
    let tiles = |range: &Range<usize>| match g.pool {
        1 => range.start / 2..range.end.div_ceil(2),
        _ => range.clone(),
    };
    let of_row = |image: usize, ty: usize| {
        tiles(&columns).map(move |tx| Tile {
            image,
            y: 2 * ty,
            x: 2 * tx,
        })
    };
    let of_image = |image: usize| tiles(&rows).flat_map(move |ty| of_row(image, ty));
    let mut all = (0..images.count).flat_map(of_image);
    let (planes_in, planes_out) = (plane(g.in_channels), plane(g.out_channels));
    let (values, sums) = scratch.split_at_mut(POINTS * planes_in);
    let mut block = Vec::with_capacity(TILES);
    loop {
        block.clear();
        block.extend(all.by_ref().take(TILES));
        if block.is_empty() {
            return;
        }
        vectorized!(weights.isa, || gather(&block, g, images, input, values));
        let of_block = ConvGeometry::linear(block.len(), g.in_channels, g.out_channels);
        for (point, of_point) in weights.points.iter().enumerate() {
            let values = &values[point * planes_in..][..planes_in];
            let sums = &mut sums[point * planes_out..][..planes_out];
            product(
                of_point,
                &of_block,
                0..1,
                values,
                &Epilogue::default(),
                sums,
            );
        }
        let rectangle = [rows.clone(), columns.clone()];
        vectorized!(weights.isa, || finish(
            &block, g, images, &rectangle, sums, epilogue, out
        ));
    }
}

/// Brings the transformed tiles `Bᵀ d B` of a block into the 16 matrices `[tile][channel]`.
#[inline(always)]
fn gather(block: &[Tile], g: &ConvGeometry, images: Images, input: &[f32], values: &mut [f32]) {
    // What lies behind the last row or column counts for no result that is kept.
    let last = [g.out_h + 1, g.out_w + 1];
    let plane = plane(g.in_channels);
    let mut lines = [[0.0; AT_ONCE]; POINTS];
    for (number, tile) in block.iter().enumerate() {
        let at = |y: usize, x: usize| {
            let [y, x] = [(tile.y + y).min(last[0]), (tile.x + x).min(last[1])];
            tile.image * images.in_stride + y * g.in_row_stride + x * g.in_pixel_stride
        };
        for c in (0..g.in_channels).step_by(AT_ONCE) {
            let len = AT_ONCE.min(g.in_channels - c);
            for (y, line) in lines.chunks_exact_mut(SIDE).enumerate() {
                let pixel = |x: usize| &input[at(y, x) + c..][..len];
                let [p, q, r, s] = line else {
                    unreachable!("a tile is 4 wide")
                };
                let from = [pixel(0), pixel(1), pixel(2), pixel(3)];
                differences(len, from, [p, q, r, s].map(|line| &mut line[..len]));
            }
            for x in 0..SIDE {
                let line = |y: usize| &lines[SIDE * y + x][..len];
                let mut planes = values[x * plane..].chunks_mut(SIDE * plane);
                let first = number * g.in_channels + c;
                let mut to = || &mut planes.next().expect("16 planes")[first..][..len];
                let to = [to(), to(), to(), to()];
                differences(len, [line(0), line(1), line(2), line(3)], to);
            }
        }
    }
}

/// `Bᵀ` of four numbers, for each of `len` channels.
#[inline(always)]
fn differences(len: usize, [a, b, c, d]: [&[f32]; SIDE], [p, q, r, s]: [&mut [f32]; SIDE]) {
    let (a, b, c, d) = (&a[..len], &b[..len], &c[..len], &d[..len]);
    let (p, q, r, s) = (&mut p[..len], &mut q[..len], &mut r[..len], &mut s[..len]);
    for i in 0..len {
        p[i] = a[i] - c[i];
        q[i] = b[i] + c[i];
        r[i] = c[i] - b[i];
        s[i] = b[i] - d[i];
    }
}

/// `Aᵀ` of four numbers, for each of `len` channels.
#[inline(always)]
fn sums_of(len: usize, [a, b, c, d]: [&[f32]; SIDE], [p, q]: [&mut [f32]; 2]) {
    let (a, b, c, d) = (&a[..len], &b[..len], &c[..len], &d[..len]);
    let (p, q) = (&mut p[..len], &mut q[..len]);
    for i in 0..len {
        p[i] = a[i] + b[i] + c[i];
        q[i] = b[i] - c[i] - d[i];
    }
}

/// Makes results of a block's products and stores those of the rectangle.
#[inline(always)]
fn finish(
    block: &[Tile],
    g: &ConvGeometry,
    images: Images,
    [rows, columns]: &[Range<usize>; 2],
    sums: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let plane = plane(g.out_channels);
    let mut lines = [[0.0; AT_ONCE]; 2 * SIDE];
    let mut results = [[0.0; AT_ONCE]; 4];
    for (number, tile) in block.iter().enumerate() {
        for c in (0..g.out_channels).step_by(AT_ONCE) {
            let len = AT_ONCE.min(g.out_channels - c);
            let first = number * g.out_channels + c;
            for (y, line) in lines.chunks_exact_mut(2).enumerate() {
                let point = |x: usize| &sums[(SIDE * y + x) * plane + first..][..len];
                let [p, q] = line else {
                    unreachable!("a result is 2 wide")
                };
                let from = [point(0), point(1), point(2), point(3)];
                sums_of(len, from, [&mut p[..len], &mut q[..len]]);
            }
            let (above, below) = results.split_at_mut(2);
            for x in 0..2 {
                let line = |y: usize| &lines[2 * y + x][..len];
                let from = [line(0), line(1), line(2), line(3)];
                sums_of(len, from, [&mut above[x][..len], &mut below[x][..len]]);
            }
            for result in &mut results {
                epilogue_of(epilogue, c, &mut result[..len]);
            }
            let mut put = |y: usize, x: usize, result: &[f32]| {
                if rows.contains(&y) && columns.contains(&x) {
                    let at = tile.image * images.out_stride
                        + (y - rows.start) * g.out_row_stride
                        + (x - columns.start) * g.out_pixel_stride;
                    out[at + c..][..len].copy_from_slice(result);
                }
            };
            if g.pool == 2 {
                let [a, b, c, d] = &mut results;
                for i in 0..len {
                    a[i] = a[i].max(b[i]).max(c[i].max(d[i]));
                }
                put(tile.y / 2, tile.x / 2, &a[..len]);
                continue;
            }
            for (number, result) in results.iter().enumerate() {
                put(tile.y + number / 2, tile.x + number % 2, &result[..len]);
            }
        }
    }
}

/// The results for the sums of the channels from `c` on.
#[inline(always)]
fn epilogue_of(epilogue: &Epilogue<'_>, c: usize, sums: &mut [f32]) {
    if let Some(bias) = epilogue.bias {
        let bias = &bias[c..][..sums.len()];
        sums.iter_mut()
            .zip(bias)
            .for_each(|(sum, &bias)| *sum += bias);
    }
    if epilogue.relu {
        sums.iter_mut().for_each(|sum| *sum = sum.max(0.0));
    }
    if let Some(ceiling) = epilogue.ceiling {
        sums.iter_mut().for_each(|sum| *sum = sum.min(ceiling));
    }
}

#[cfg(test)]
mod tests;
