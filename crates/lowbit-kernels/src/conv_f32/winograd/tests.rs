//! Every ISA against a scalar twin that is made from the paper's matrices, over odd shapes.

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
            let w =
                |kh: usize, kw: usize| case.weights[((o * 3 + kh) * 3 + kw) * g.in_channels + c];
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

#[test]
fn backward_weights_turn_the_kernel_and_exchange_the_channels() {
    for number in 0..12 {
        let case = case(number);
        let seen = case.g.weight_shape();
        // What the layer's own weights look like, whose gradient this is.
        let [outs, ins] = [seen.in_channels, seen.out_channels];
        let mut turned = vec![0.0; seen.len()];
        for (o, i) in (0..outs).flat_map(|o| (0..ins).map(move |i| (o, i))) {
            for tap in 0..9 {
                turned[(i * 9 + 8 - tap) * outs + o] = case.weights[(o * 9 + tap) * ins + i];
            }
        }
        for isa in Isa::available() {
            let expected = WinogradWeights::pack(isa, &turned, seen);
            let mut found = WinogradWeights::zeroed(isa, seen);
            found.repack_backward(&case.weights);
            for (found, expected) in found.points.iter().zip(&expected.points) {
                assert!(
                    bits(&found.packed) == bits(&expected.packed),
                    "{isa:?}, {seen:?}"
                );
            }
        }
    }
}
