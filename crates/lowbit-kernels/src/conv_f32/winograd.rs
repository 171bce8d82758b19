//! 3×3 convolutions of step one with fewer products: F(2×2, 3×3) of Winograd's minimal filtering (Lavin & Gray, "Fast Algorithms for
//! Convolutional Neural Networks", 2016, section 4.1), `Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A`.
//!
//! A tile of 2×2 results takes 16 products per input channel, not 36: each of the 16 numbers of a transformed tile has a matrix
//! product of its own, over all tiles at hand. Transforms are sums alone (the weights' halves are exact), so that results lie as near
//! to the exact ones as those of direct sums do, within a small factor.

use super::{Epilogue, PackedWeights, conv as product};
use crate::geometry::SLACK;
use crate::lanes::LANES;
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
        assert!(Self::suits(shape), "another kernel or part of a vector");
        assert_eq!(weights.len(), shape.len(), "weights must fill their shape");
        let WeightShape {
            out_channels,
            in_channels,
            ..
        } = shape;
        let mut transformed = vec![vec![0.0; out_channels * in_channels]; POINTS];
        for (out, kernel) in weights.chunks_exact(9 * in_channels).enumerate() {
            for c in 0..in_channels {
                let tap = |row: usize, column: usize| kernel[(3 * row + column) * in_channels + c];
                let rows = [0, 1, 2].map(|row| spread([tap(row, 0), tap(row, 1), tap(row, 2)]));
                for column in 0..SIDE {
                    let points = spread([rows[0][column], rows[1][column], rows[2][column]]);
                    for (row, point) in points.into_iter().enumerate() {
                        transformed[SIDE * row + column][out * in_channels + c] = point;
                    }
                }
            }
        }
        let one = WeightShape {
            kernel_h: 1,
            kernel_w: 1,
            ..shape
        };
        let points = transformed.iter();
        Self {
            isa,
            shape,
            points: points
                .map(|point| PackedWeights::pack(isa, point, one))
                .collect(),
        }
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

/// `G` of three weights.
fn spread([a, b, c]: [f32; 3]) -> [f32; SIDE] {
    let ends = a + c;
    [a, 0.5 * (ends + b), 0.5 * (ends - b), c]
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
mod tests {
    use super::*;
    use crate::conv_f32::conv as direct;
    use crate::random::{below, stream, uniform};

    struct Case {
        g: ConvGeometry,
        images: Images,
        weights: Vec<f32>,
        bias: Vec<f32>,
        input: Vec<f32>,
        relu: bool,
    }

    fn case(number: u64) -> Case {
        let mut rng = stream(23, "winograd", number);
        let mut pick = |low: u32, high: u32| (low + below(&mut rng, high - low + 1)) as usize;
        let (in_c, out_c) = (16 * pick(1, 6), 16 * pick(1, 6));
        let (in_h, in_w) = (pick(4, 13), pick(4, 21));
        let pool = pick(1, 2);
        let mut g = ConvGeometry::dense((in_h, in_w, in_c), out_c, (3, 3), 1, pool);
        g.in_row_stride += pick(0, 7);
        g.out_pixel_stride += pick(0, 3);
        g.out_row_stride = g.pooled_w() * g.out_pixel_stride + pick(0, 7);
        let images = Images {
            count: pick(1, 3),
            in_stride: in_h * g.in_row_stride + pick(0, 9),
            out_stride: g.pooled_h() * g.out_row_stride + pick(0, 9),
        };
        let mut numbers =
            |len: usize| -> Vec<f32> { (0..len).map(|_| 2.0 * uniform(&mut rng) - 1.0).collect() };
        Case {
            weights: numbers(9 * in_c * out_c),
            bias: numbers(out_c),
            input: numbers(images.count * images.in_stride + SLACK),
            relu: number.is_multiple_of(2),
            g,
            images,
        }
    }

    impl Case {
        fn epilogue(&self) -> Epilogue<'_> {
            Epilogue {
                bias: Some(&self.bias),
                relu: self.relu,
                ceiling: self.relu.then_some(3.0),
            }
        }

        fn out(&self) -> Vec<f32> {
            vec![f32::NAN; self.images.count * self.images.out_stride]
        }

        fn run(&self, isa: Isa, rectangle: [Range<usize>; 2], out: &mut [f32]) {
            let weights = WinogradWeights::pack(isa, &self.weights, self.g.weight_shape());
            let mut scratch = vec![f32::NAN; weights.scratch_len()];
            let (input, scratch) = (&self.input[..], &mut scratch[..]);
            let epilogue = self.epilogue();
            conv(
                &weights,
                &self.g,
                self.images,
                rectangle,
                (input, scratch),
                &epilogue,
                out,
            );
        }

        fn whole(&self, isa: Isa) -> Vec<f32> {
            let mut out = self.out();
            self.run(isa, [0..self.g.pooled_h(), 0..self.g.pooled_w()], &mut out);
            out
        }
    }

    /// The scalar twin, from the paper's matrices: the same sums in the same order, one number at a time.
    fn twin(case: &Case) -> Vec<f32> {
        let (g, images) = (&case.g, case.images);
        let mut out = case.out();
        let tile = |image: usize, y: usize, x: usize, o: usize| {
            let mut m = [[0.0f32; 4]; 4];
            for c in 0..g.in_channels {
                let w = |kh: usize, kw: usize| {
                    case.weights[((o * 3 + kh) * 3 + kw) * g.in_channels + c]
                };
                let d = |dy: usize, dx: usize| {
                    let (y, x) = ((y + dy).min(g.out_h + 1), (x + dx).min(g.out_w + 1));
                    let row = image * images.in_stride + y * g.in_row_stride;
                    case.input[row + x * g.in_pixel_stride + c]
                };
                let g1 = |a: [f32; 3]| {
                    let ends = a[0] + a[2];
                    [a[0], 0.5 * (ends + a[1]), 0.5 * (ends - a[1]), a[2]]
                };
                let b1 = |a: [f32; 4]| [a[0] - a[2], a[1] + a[2], a[2] - a[1], a[1] - a[3]];
                let u = [0, 1, 2].map(|kh| g1([w(kh, 0), w(kh, 1), w(kh, 2)]));
                let v = [0, 1, 2, 3].map(|dy| b1([d(dy, 0), d(dy, 1), d(dy, 2), d(dy, 3)]));
                for column in 0..4 {
                    let u = g1([u[0][column], u[1][column], u[2][column]]);
                    let v = b1([v[0][column], v[1][column], v[2][column], v[3][column]]);
                    for row in 0..4 {
                        m[row][column] = v[row].mul_add(u[row], m[row][column]);
                    }
                }
            }
            let a1 = |a: [f32; 4]| [a[0] + a[1] + a[2], a[1] - a[2] - a[3]];
            let lines = m.map(a1);
            let at = |column: usize| a1([0, 1, 2, 3].map(|row| lines[row][column]));
            let (left, right) = (at(0), at(1));
            [[left[0], right[0]], [left[1], right[1]]]
        };
        for image in 0..images.count {
            for y in 0..g.pooled_h() {
                for x in 0..g.pooled_w() {
                    for o in 0..g.out_channels {
                        let result = |dy: usize, dx: usize| {
                            let (y, x) = (y * g.pool + dy, x * g.pool + dx);
                            let of_tile = tile(image, y / 2 * 2, x / 2 * 2, o);
                            case.epilogue().apply(of_tile[y % 2][x % 2], o)
                        };
                        let mut most = result(0, 0);
                        if g.pool == 2 {
                            most = most.max(result(0, 1)).max(result(1, 0)).max(result(1, 1));
                        }
                        let pixel = y * g.out_row_stride + x * g.out_pixel_stride;
                        out[image * images.out_stride + pixel + o] = most;
                    }
                }
            }
        }
        out
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn every_isa_has_the_scalar_twins_bits_over_odd_shapes() {
        for number in 0..24 {
            let case = case(number);
            let expected = bits(&twin(&case));
            for isa in Isa::available() {
                let found = bits(&case.whole(isa));
                assert!(found == expected, "{isa:?}, case {number}: {:?}", case.g);
            }
        }
    }

    #[test]
    fn a_rectangle_has_the_bits_of_the_whole() {
        for number in 0..24 {
            let case = case(number);
            let isa = Isa::best();
            let (g, whole) = (&case.g, case.whole(isa));
            let (h, w) = (g.pooled_h(), g.pooled_w());
            let mut out = case.out();
            for rectangle in [[0..h / 3, 0..w], [h / 3..h, 0..w / 2], [h / 3..h, w / 2..w]] {
                let first =
                    rectangle[0].start * g.out_row_stride + rectangle[1].start * g.out_pixel_stride;
                case.run(isa, rectangle, &mut out[first..]);
            }
            assert!(bits(&out) == bits(&whole), "case {number}: {g:?}");
        }
    }

    #[test]
    fn results_are_near_those_of_direct_sums() {
        for number in 0..24 {
            let case = case(number);
            let g = &case.g;
            let isa = Isa::best();
            let weights = PackedWeights::pack(isa, &case.weights, g.weight_shape());
            let found = case.whole(isa);
            for image in 0..case.images.count {
                let [from, to] = [case.images.in_stride, case.images.out_stride].map(|s| s * image);
                let mut expected = vec![f32::NAN; case.images.out_stride];
                let (rows, input) = (0..g.pooled_h(), &case.input[from..]);
                direct(
                    &weights,
                    g,
                    rows.clone(),
                    input,
                    &case.epilogue(),
                    &mut expected,
                );
                for (&found, &expected) in found[to..].iter().zip(&expected) {
                    // A millionth of what up to 432 products of numbers up to one come to without their signs.
                    let near = (found - expected).abs() < 1e-4;
                    assert!(
                        near || expected.is_nan(),
                        "{found} for {expected}, case {number}"
                    );
                }
            }
        }
    }
}
