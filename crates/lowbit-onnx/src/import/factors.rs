//! Axes of lowbit's in parts: tokens are rows and columns in one axis of ONNX's; heads are a part of the channels, the outer
//! one; MobileViT takes the rows and the columns of an image apart. A Reshape joins factors and takes them apart, a Transpose
//! moves axes, and nothing moves in memory.

/// Most factors of one axis.
const MOST: usize = 6;

/// An axis of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Row = 0,
    Column = 1,
    Channel = 2,
}

/// Every `step`-th index of an axis of lowbit's, `extent` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Factor {
    pub(crate) part: Part,
    pub(crate) extent: usize,
    pub(crate) step: usize,
}

/// The factors of an axis, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mixed {
    factors: [Option<Factor>; MOST],
}

impl Mixed {
    /// None where there are too many.
    pub(crate) fn of(all: &[Factor]) -> Option<Self> {
        let mut factors = [None; MOST];
        for (index, &factor) in all.iter().enumerate() {
            *factors.get_mut(index)? = Some(factor);
        }
        Some(Self { factors })
    }

    pub(crate) fn factors(&self) -> impl Iterator<Item = Factor> + use<> {
        self.factors.into_iter().flatten()
    }
}

/// Factors without extents of 1, and with neighbors joined that follow each other in memory.
pub(crate) fn joined(all: Vec<Factor>) -> Vec<Factor> {
    let mut result: Vec<Factor> = Vec::with_capacity(all.len());
    for factor in all.into_iter().filter(|factor| factor.extent != 1) {
        match result.last_mut() {
            Some(outer)
                if outer.part == factor.part && outer.step == factor.step * factor.extent =>
            {
                *outer = Factor {
                    extent: outer.extent * factor.extent,
                    ..factor
                };
            }
            _ => result.push(factor),
        }
    }
    result
}

/// Factors in the same order, as axes of these extents; none where they do not come apart so.
pub(crate) fn apart(all: Vec<Factor>, to: &[usize]) -> Option<Vec<Vec<Factor>>> {
    let mut rest = all;
    rest.reverse();
    let mut result = Vec::with_capacity(to.len());
    for &dim in to {
        let mut missing = dim;
        let mut own = Vec::new();
        while missing > 1 {
            let factor = rest.pop()?;
            if missing.is_multiple_of(factor.extent) {
                missing /= factor.extent;
                own.push(factor);
            } else if factor.extent.is_multiple_of(missing) {
                let extent = factor.extent / missing;
                own.push(Factor {
                    extent: missing,
                    step: factor.step * extent,
                    ..factor
                });
                rest.push(Factor { extent, ..factor });
                missing = 1;
            } else {
                return None;
            }
        }
        result.push(own);
    }
    rest.is_empty().then_some(result)
}
