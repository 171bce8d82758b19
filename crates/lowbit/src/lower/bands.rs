//! Steps that run a few rows at a time, one behind the other, so that what they hand on stays in a near cache: an expansion, the
//! depthwise convolution that sees it and the projection behind that ("depth first"). A value in between has no buffer of its own,
//! only the rows that are needed at a time.

use super::forms::{ExecProgram, ExecStep, Work};
use super::layout::Layout;
use crate::ops::Op;
use std::ops::Range;

/// Bytes of a value from which on it is worth it: smaller ones stay in the second-level cache by themselves.
const LARGE: usize = 384 << 10;

/// Bytes of the rows that are kept at a time, where more than two rows of the result are computed at once.
const KEPT: usize = 320 << 10;

/// Bytes that two rows of the result may need: more than that would not stay in the second-level cache.
const MOST_KEPT: usize = 768 << 10;

/// Steps that run together.
#[derive(Clone, Debug)]
pub(crate) struct Band {
    pub(crate) steps: Range<usize>,
    /// Rows of the last step's result at a time.
    pub(crate) rows: usize,
    /// How the value behind each step but the last is kept.
    pub(crate) kept: Vec<Kept>,
}

/// Some rows of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// Of the whole value.
    pub(crate) layout: Layout,
    pub(crate) window: RowWindow,
    /// Rows that fit, halo included.
    pub(crate) rows: usize,
}

/// Which rows of its input a row of a step's result sees: `extent` rows from `stride` times its number on, the halo included,
/// which is the step's padding, since nothing else sees the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowWindow {
    stride: usize,
    extent: usize,
}

impl RowWindow {
    const SAME: Self = Self {
        stride: 1,
        extent: 1,
    };

    /// The rows that some rows of the result, one at least, see, counted from the first one of the halo on.
    pub(crate) fn seen(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.stride..(rows.end - 1) * self.stride + self.extent
    }
}

impl Kept {
    /// Elements of all rows that fit.
    pub(crate) fn len(&self) -> usize {
        self.rows * self.layout.row_stride
    }
}

/// The bands among the first `split` steps, which run image by image.
pub(super) fn bands(exec: &ExecProgram, layouts: &[Layout], split: usize) -> Vec<Band> {
    let mut bands = Vec::new();
    let mut first = 0;
    while first < split {
        let mut longest = None;
        if begins(exec, &exec.steps[first]) {
            for next in first + 1..split {
                let follows = hands_on(exec, layouts, next - 1);
                match follows.then(|| band(exec, layouts, first..next + 1)) {
                    Some(Some(band)) => longest = Some(band),
                    _ => break,
                }
            }
        }
        first = longest.as_ref().map_or(first + 1, |band| band.steps.end);
        bands.extend(longest);
    }
    bands
}

/// Whether a step can begin a band: a convolution, but none that takes neighboring rows together to save products, or whose
/// products are many for what it hands on.
fn begins(exec: &ExecProgram, step: &ExecStep) -> bool {
    let is_operator = matches!(step.work, Work::Operator(_));
    is_operator
        && match exec.layer(step).op {
            Op::Conv(conv) => {
                let channels = exec.layer(step).in_shapes[0].c();
                conv.kernel == [1, 1] || conv.stride != [1, 1] || conv.is_depthwise(channels)
            }
            _ => false,
        }
}

/// Whether a step's result is large and seen by the next step alone, which can compute rows of some rows of it.
fn hands_on(exec: &ExecProgram, layouts: &[Layout], step: usize) -> bool {
    let (step, next) = (&exec.steps[step], &exec.steps[step + 1]);
    let value = step.output;
    let is_seen = |step: &&ExecStep| step.inputs.contains(&value);
    let readers = exec.steps.iter().filter(is_seen).count();
    let numbers = exec.values[value].numbers;
    let of_same = [step, next]
        .iter()
        .all(|step| step.work == Work::Operator(numbers));
    let is_large = layouts[value].dense_len() * numbers.size() >= LARGE;
    is_large
        && readers == 1
        && of_same
        && next.inputs == [value]
        && exec.layer(next).in_shapes == [exec.values[value].shape]
        && window(exec, next).is_some()
}

/// The rows that a step sees, where it can run on some rows of its input.
fn window(exec: &ExecProgram, step: &ExecStep) -> Option<RowWindow> {
    let layer = exec.layer(step);
    match layer.op {
        Op::Conv(conv) if !layer.epilogue.max_pool => {
            let is_pointwise = conv.kernel == [1, 1]
                && conv.stride == [1, 1]
                && conv.padding == [0; 4]
                && conv.groups == 1;
            let is_depthwise = conv.is_depthwise(layer.in_shapes[0].c());
            (is_pointwise || is_depthwise).then_some(RowWindow {
                stride: conv.stride[0],
                extent: conv.span(0),
            })
        }
        Op::Relu | Op::Sigmoid | Op::Unary(_) => Some(RowWindow::SAME),
        _ => None,
    }
}

/// The steps as a band; none where two rows need too much.
fn band(exec: &ExecProgram, layouts: &[Layout], steps: Range<usize>) -> Option<Band> {
    let mut kept: Vec<Kept> = steps
        .clone()
        .skip(1)
        .map(|step| Kept {
            layout: layouts[exec.steps[step].inputs[0]],
            window: window(exec, &exec.steps[step]).expect("it follows"),
            rows: 0,
        })
        .collect();
    let last = layouts[exec.steps[steps.end - 1].output].h;
    let numbers = exec.values[exec.steps[steps.start].output].numbers;
    let mut fit = |rows: usize| {
        let mut of = rows;
        for kept in kept.iter_mut().rev() {
            kept.rows = kept.window.seen(&(0..of)).end;
            // What lies in the halo is not computed.
            of = kept.rows.min(kept.layout.h);
        }
        kept.iter().map(Kept::len).sum::<usize>() * numbers.size()
    };
    // Even numbers: some kernels take two rows at once.
    let mut rows = 2.min(last);
    if fit(rows) > MOST_KEPT {
        return None;
    }
    while rows + 2 <= last && fit(rows + 2) <= KEPT {
        rows += 2;
    }
    fit(rows);
    Some(Band { steps, rows, kept })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::GraphBuilder;
    use crate::lower::{Plan, Within, assign};
    use crate::ops::{Conv, Unary};
    use crate::shape::Shape;

    fn conv(channels: usize, kernel: usize, stride: usize, groups: usize) -> Op {
        Op::Conv(Conv {
            stride: [stride; 2],
            groups,
            ..Conv::same(channels, kernel)
        })
    }

    fn plan(side: usize) -> Plan {
        let classes = ["a".to_owned(), "b".to_owned()];
        let mut graph = GraphBuilder::new("test", Shape::new(side, side, 3), &classes);
        let x = graph.add("stem", conv(8, 3, 2, 1), &[0]);
        let x = graph.add("expand", conv(48, 1, 1, 1), &[x]);
        let x = graph.add("swish", Op::Unary(Unary::HardSwish), &[x]);
        let x = graph.add("depthwise", conv(48, 5, 2, 48), &[x]);
        let x = graph.add("project", conv(8, 1, 1, 1), &[x]);
        let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
        graph.add("fc", Op::linear(2), &[x]);
        Plan::new(ExecProgram::float(
            graph.finish().unwrap().program().unwrap(),
        ))
        .unwrap()
    }

    #[test]
    fn a_bands_result_does_not_take_the_buffer_of_what_it_reads() {
        let plan = plan(128);
        let slots = assign(&plan, Within::Rows, |_| 0);
        // Both are dense f32; without the band, the result lies where the values before lay.
        let (read, result) = (1, 4);
        assert!(plan.layouts[read].is_dense() && plan.layouts[result].is_dense());
        assert_ne!(slots.of_value[read], slots.of_value[result]);
        // Nor where the values within have buffers, since the band may run by rows there, too.
        let all = assign(&plan, Within::Values, |_| 0);
        assert_ne!(all.of_value[read], all.of_value[result]);
        let mut whole = plan.clone();
        whole.bands.clear();
        let whole = assign(&whole, Within::Values, |_| 0);
        assert_eq!(whole.of_value[read], whole.of_value[result]);
        assert!(slots.bytes(1) * 3 < all.bytes(1));
    }

    #[test]
    fn large_values_that_one_step_sees_are_handed_on_by_rows() {
        // 128×128: expand's result has 64×64×48 f32, which is 786 kB; depthwise's 32×32×48, 197 kB.
        let [band] = &plan(128).bands[..] else {
            panic!("one band")
        };
        assert_eq!(band.steps, 1..4);
        // A row of the depthwise result sees five rows, and two rows further down those of the next begin.
        let rows = band.kept.iter().map(|kept| kept.rows).collect::<Vec<_>>();
        assert_eq!(rows, [2 * (band.rows - 1) + 5; 2]);
        assert!(band.rows >= 2 && band.rows % 2 == 0);
        let bytes = 4 * band.kept.iter().map(Kept::len).sum::<usize>();
        assert!(bytes <= KEPT, "{bytes}");
        assert!(plan(64).bands.is_empty());
    }

    fn bands_of(shape: Shape, convs: &[Conv]) -> Vec<Band> {
        let classes = ["a".to_owned(), "b".to_owned()];
        let mut graph = GraphBuilder::new("test", shape, &classes);
        let mut x = 0;
        for (number, &conv) in convs.iter().enumerate() {
            x = graph.add(&format!("conv{number}"), Op::Conv(conv), &[x]);
        }
        let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
        graph.add("fc", Op::linear(2), &[x]);
        let program = graph.finish().unwrap().program().unwrap();
        Plan::new(ExecProgram::float(program)).unwrap().bands
    }

    #[test]
    fn no_more_rows_are_kept_than_there_are() {
        let of = |op: Op| match op {
            Op::Conv(conv) => conv,
            _ => unreachable!(),
        };
        // 65 rows of the second value are seen, of which one is there, and so one of the first, not 262,145.
        let steps = Conv {
            stride: [4096, 1],
            ..of(conv(96, 1, 1, 96))
        };
        let spread = Conv {
            kernel: [2, 1],
            dilation: [64, 1],
            padding: [64, 0, 0, 0],
            ..of(conv(96, 1, 1, 96))
        };
        let convs = [of(conv(96, 1, 1, 1)), steps, spread];
        let bands = bands_of(Shape::new(1, 1024, 3), &convs);
        for kept in bands.iter().flat_map(|band| &band.kept) {
            let [above, _, below, _] = kept.layout.halo;
            assert!(kept.rows <= kept.layout.h + above + below, "{kept:?}");
        }
        // Rows of 44 kB, 32 at a time, are not worth it.
        let large = [of(conv(128, 1, 1, 1)), of(conv(128, 31, 1, 128))];
        assert!(bands_of(Shape::new(56, 56, 8), &large).is_empty());
        let small = [of(conv(128, 1, 1, 1)), of(conv(128, 5, 1, 128))];
        assert_eq!(bands_of(Shape::new(56, 56, 8), &small).len(), 1);
        let dense = [of(conv(128, 3, 1, 1)), of(conv(128, 5, 1, 128))];
        assert!(bands_of(Shape::new(56, 56, 8), &dense).is_empty());
    }
}
