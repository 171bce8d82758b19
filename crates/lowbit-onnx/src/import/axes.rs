//! Which axis of a value is which: ONNX's order of axes changes on the way through a model, lowbit's is always `[h, w, c]`.
//!
//! A Transpose moves no data here: it renames axes. What reads a value afterwards finds the axes that it needs where it
//! needs them, or refuses.

use super::factors::{Factor, Mixed, Part, apart, joined};
use lowbit::Shape;

/// What an axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    /// The batch.
    Batch,
    /// Rows of an image.
    Row,
    /// Columns of an image.
    Column,
    /// Channels of an image, features of a vector.
    Channel,
    /// Nothing: its extent is 1.
    One,
    /// All elements of an image, in an order of its axes.
    Flat([Order; 3]),
    /// Parts of several of these.
    Mixed(Mixed),
}

/// An axis of an image that was flattened, with its extent.
pub(crate) type Order = (Part, usize);

/// The axes of a batch of images as PyTorch has them.
pub(crate) const NCHW: [Axis; 4] = [Axis::Batch, Axis::Channel, Axis::Row, Axis::Column];
/// The axes of a batch of images as TensorFlow has them.
pub(crate) const NHWC: [Axis; 4] = [Axis::Batch, Axis::Row, Axis::Column, Axis::Channel];

/// Whether axes are those of `like`, apart from extents of 1, which are any.
pub(crate) fn matches(axes: &[Axis], dims: &[usize], like: &[Axis]) -> bool {
    axes.len() == like.len()
        && axes
            .iter()
            .zip(dims)
            .zip(like)
            .all(|((axis, &dim), like)| axis == like || dim == 1)
}

/// The axes of a value whose elements keep their order, under new extents; none where no image or vector comes of it.
pub(crate) fn regroup(axes: &[Axis], from: &[usize], to: &[usize]) -> Option<Vec<Axis>> {
    let has_extent =
        |dims: &[usize]| -> Vec<usize> { (0..dims.len()).filter(|&i| dims[i] > 1).collect() };
    let (old, new) = (has_extent(from), has_extent(to));
    let mut result = vec![Axis::One; to.len()];
    if let Some(first) = result.first_mut()
        && to[0] == 1
    {
        *first = Axis::Batch;
    }
    let at = |dims: &[usize], places: &[usize]| -> Vec<usize> {
        places.iter().map(|&i| dims[i]).collect()
    };
    if at(from, &old) == at(to, &new) {
        for (&old, &new) in old.iter().zip(&new) {
            result[new] = axes[old];
        }
        return Some(result);
    }
    let &[only] = &new[..] else {
        return regrouped(axes, from, to);
    };
    let whole = extents(axes, from);
    let mut parts: Vec<Order> = Vec::new();
    for factor in old.iter().flat_map(|&i| factors(axes[i], from[i])) {
        // Only axes of an image as a whole have an order.
        if factor.step != 1 || factor.extent != whole[factor.part as usize] {
            return regrouped(axes, from, to);
        }
        parts.push((factor.part, factor.extent));
    }
    // Axes of extent 1 may stand anywhere.
    for missing in [Part::Row, Part::Column, Part::Channel] {
        if parts.iter().all(|&(part, _)| part != missing) {
            parts.insert(0, (missing, 1));
        }
    }
    let order: [Order; 3] = parts.try_into().ok()?;
    let is_natural = {
        let seen: Vec<Part> = order
            .iter()
            .filter(|part| part.1 > 1)
            .map(|part| part.0)
            .collect();
        seen.is_sorted()
    };
    result[only] = if is_natural {
        Axis::Channel
    } else {
        Axis::Flat(order)
    };
    Some(result)
}

/// The same as [`regroup`], in parts.
fn regrouped(axes: &[Axis], from: &[usize], to: &[usize]) -> Option<Vec<Axis>> {
    if from.iter().chain(to).any(|&dim| dim == 0) {
        return None;
    }
    let whole = extents(axes, from);
    let own = axes.iter().zip(from);
    let all = own.flat_map(|(&axis, &dim)| factors(axis, dim)).collect();
    let mut result: Vec<Axis> = apart(all, to)?
        .into_iter()
        .map(|factors| named(factors, whole))
        .collect::<Option<_>>()?;
    if let Some(first) = result.first_mut()
        && to[0] == 1
    {
        *first = Axis::Batch;
    }
    Some(result)
}

/// For each place of a vector in lowbit's order `[h, w, c]`, the place in the vector that `order` makes.
pub(crate) fn places(order: &[Order; 3]) -> Vec<usize> {
    let extent = |wanted: Part| {
        order
            .iter()
            .find(|part| part.0 == wanted)
            .map_or(1, |part| part.1)
    };
    let step = |wanted: Part| -> usize {
        let place = order.iter().position(|part| part.0 == wanted).unwrap_or(2);
        order[place + 1..].iter().map(|part| part.1).product()
    };
    let (rows, columns, channels) = (
        extent(Part::Row),
        extent(Part::Column),
        extent(Part::Channel),
    );
    let (row, column, channel) = (step(Part::Row), step(Part::Column), step(Part::Channel));
    let mut places = Vec::with_capacity(rows * columns * channels);
    for y in 0..rows {
        for x in 0..columns {
            places.extend((0..channels).map(|c| y * row + x * column + c * channel));
        }
    }
    places
}

/// lowbit's shape of a value.
pub(crate) fn shape(axes: &[Axis], dims: &[usize]) -> Shape {
    let extent = |wanted: Axis| {
        axes.iter()
            .position(|&axis| axis == wanted)
            .map_or(1, |i| dims[i])
    };
    let flat = axes.iter().position(|axis| matches!(axis, Axis::Flat(_)));
    match flat {
        Some(place) => Shape::vector(dims[place]),
        None => Shape::new(
            extent(Axis::Row),
            extent(Axis::Column),
            extent(Axis::Channel),
        ),
    }
}

/// The extents of lowbit's axes: rows, columns and channels.
pub(crate) type Extents = [usize; 3];

/// The factors of an axis.
pub(crate) fn factors(axis: Axis, dim: usize) -> Vec<Factor> {
    let whole = |part, extent| Factor {
        part,
        extent,
        step: 1,
    };
    let all = match axis {
        Axis::Batch | Axis::One => vec![],
        Axis::Row => vec![whole(Part::Row, dim)],
        Axis::Column => vec![whole(Part::Column, dim)],
        Axis::Channel => vec![whole(Part::Channel, dim)],
        Axis::Flat(order) => order.map(|(part, extent)| whole(part, extent)).to_vec(),
        Axis::Mixed(mixed) => mixed.factors().collect(),
    };
    joined(all)
}

/// The axis of these factors; none where they are too many.
pub(crate) fn named(all: Vec<Factor>, extents: Extents) -> Option<Axis> {
    let all = joined(all);
    let is_whole =
        |factor: &Factor| factor.step == 1 && factor.extent == extents[factor.part as usize];
    match &all[..] {
        [] => Some(Axis::One),
        [only] if is_whole(only) => Some(match only.part {
            Part::Row => Axis::Row,
            Part::Column => Axis::Column,
            Part::Channel => Axis::Channel,
        }),
        all => Mixed::of(all).map(Axis::Mixed),
    }
}

/// The extents of lowbit's axes, of which a value's axes hold all.
pub(crate) fn extents(axes: &[Axis], dims: &[usize]) -> Extents {
    let mut extents = [1; 3];
    for (&axis, &dim) in axes.iter().zip(dims) {
        for factor in factors(axis, dim) {
            extents[factor.part as usize] *= factor.extent;
        }
    }
    extents
}

/// Whether an axis holds all pixels of an image, in row order.
pub(crate) fn is_pixels(axis: Axis, dim: usize, [rows, columns, _]: Extents) -> bool {
    let all = [(Part::Row, rows), (Part::Column, columns)].map(|(part, extent)| Factor {
        part,
        extent,
        step: 1,
    });
    dim == rows * columns && factors(axis, dim) == joined(all.to_vec())
}

/// For each element in lowbit's order, the place of it in ONNX's.
pub(crate) fn elements(axes: &[Axis], dims: &[usize]) -> Vec<usize> {
    let [rows, columns, channels] = extents(axes, dims);
    let mut elements = vec![0; rows * columns * channels];
    let strides = [columns * channels, channels, 1];
    // In ONNX's order, the offset in lowbit's of each element.
    let mut offsets = vec![0];
    for (&axis, &dim) in axes.iter().zip(dims) {
        for factor in factors(axis, dim) {
            let stride = factor.step * strides[factor.part as usize];
            let steps = 0..factor.extent;
            offsets = offsets
                .iter()
                .flat_map(|offset| steps.clone().map(move |step| offset + step * stride))
                .collect();
        }
    }
    for (place, offset) in offsets.into_iter().enumerate() {
        elements[offset] = place;
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flatten_of_channels_first_is_a_permutation_and_of_channels_last_none() {
        let flat = regroup(&NCHW, &[1, 2, 3, 4], &[1, 24]).unwrap();
        let Axis::Flat(order) = flat[1] else {
            panic!("{flat:?}")
        };
        // The first two elements of lowbit's vector are the two channels of the first pixel.
        let places = places(&order);
        assert_eq!(places[..3], [0, 12, 1]);
        let mut sorted = places.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..24).collect::<Vec<_>>());
        assert_eq!(
            regroup(&NHWC, &[1, 3, 4, 2], &[1, 24]),
            Some(vec![Axis::Batch, Axis::Channel])
        );
    }

    #[test]
    fn extents_of_one_come_and_go() {
        assert_eq!(
            regroup(&NCHW, &[1, 8, 1, 1], &[1, 8]),
            Some(vec![Axis::Batch, Axis::Channel])
        );
        let back = regroup(&[Axis::Batch, Axis::Channel], &[1, 8], &[1, 8, 1, 1]).unwrap();
        assert_eq!(back, [Axis::Batch, Axis::Channel, Axis::One, Axis::One]);
        assert!(matches(&back, &[1, 8, 1, 1], &NCHW));
        assert!(!matches(&NHWC, &[1, 3, 4, 2], &NCHW));
        // A gray image in another order of axes is the same in memory.
        assert_eq!(
            regroup(&NCHW, &[1, 1, 3, 4], &[1, 12]),
            Some(vec![Axis::Batch, Axis::Channel])
        );
        assert_eq!(regroup(&NCHW, &[1, 4, 3, 4], &[1, 8, 6]), None);
    }

    fn turned<T: Copy>(of: &[T], order: &[usize]) -> Vec<T> {
        order.iter().map(|&axis| of[axis]).collect()
    }

    #[test]
    fn heads_are_parts_of_the_channels_and_come_back() {
        // Tokens [1, 6, 12] of an image of 2×3 pixels, as 2 heads of 6 channels.
        let tokens = regroup(&NCHW, &[1, 12, 2, 3], &[1, 12, 6]).unwrap();
        let tokens = turned(&tokens, &[0, 2, 1]);
        assert!(is_pixels(tokens[1], 6, [2, 3, 12]));
        assert_eq!(tokens[2], Axis::Channel);
        let heads = regroup(&tokens, &[1, 6, 12], &[1, 6, 2, 6]).unwrap();
        let head = |extent, step| Factor {
            part: Part::Channel,
            extent,
            step,
        };
        assert_eq!(factors(heads[2], 2), [head(2, 6)]);
        assert_eq!(factors(heads[3], 6), [head(6, 1)]);
        let turned = turned(&heads, &[0, 2, 1, 3]);
        // In another order they do not.
        assert_eq!(regroup(&turned, &[1, 2, 6, 6], &[1, 6, 12]), None);
        assert_eq!(regroup(&heads, &[1, 6, 2, 6], &[1, 6, 12]), Some(tokens));
        assert_eq!(regroup(&heads, &[1, 6, 2, 6], &[1, 9, 8]), None);
    }

    #[test]
    fn the_pixels_of_patches_come_apart_and_back() {
        // MobileViT's unfolding of [1, 3, 4, 6] into patches of 2×2, and back.
        let steps: [(&[usize], &[usize]); 3] = [
            (&[3 * 2, 2, 3, 2], &[0, 2, 1, 3]),
            (&[1, 3, 6, 4], &[0, 3, 2, 1]),
            (&[4, 6, 3], &[0, 1, 2]),
        ];
        let (mut axes, mut dims) = (NCHW.to_vec(), vec![1, 3, 4, 6]);
        for (to, order) in steps {
            axes = turned(&regroup(&axes, &dims, to).unwrap(), order);
            dims = turned(to, order);
        }
        assert_eq!(axes[2], Axis::Channel);
        let factor = |part, extent, step| Factor { part, extent, step };
        let (row, column) = (Part::Row, Part::Column);
        assert_eq!(
            factors(axes[0], 4),
            [factor(row, 2, 1), factor(column, 2, 1)]
        );
        assert_eq!(
            factors(axes[1], 6),
            [factor(row, 2, 2), factor(column, 3, 2)]
        );
        // Element (0, 1, 2) is channel 2 of the pixel in row 0, column 2.
        let elements = elements(&axes, &dims);
        assert_eq!(elements[2 * 3 + 2], 3 + 2);
        let back: [(&[usize], &[usize]); 3] = [
            (&[1, 4, 6, 3], &[0, 3, 2, 1]),
            (&[6, 3, 2, 2], &[0, 2, 1, 3]),
            (&[1, 3, 4, 6], &[0, 1, 2, 3]),
        ];
        for (to, order) in back {
            axes = turned(&regroup(&axes, &dims, to).unwrap(), order);
            dims = turned(to, order);
        }
        assert_eq!(axes, NCHW);
    }

    #[test]
    fn elements_are_those_of_a_transpose() {
        assert_eq!(elements(&NCHW, &[1, 2, 3, 4])[..3], [0, 12, 1]);
        assert_eq!(regroup(&NCHW, &[1, 0, 3, 4], &[1, 0, 2, 6]), None);
    }
}
