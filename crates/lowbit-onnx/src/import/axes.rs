//! Which axis of a value is which: ONNX's order of axes changes on the way through a model, lowbit's is always `[h, w, c]`.
//!
//! A Transpose moves no data here: it renames axes. What reads a value afterwards finds the axes that it needs where it
//! needs them, or refuses.

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
}

/// An axis of an image that was flattened, with its extent.
pub(crate) type Order = (Part, usize);

/// An axis of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Row,
    Column,
    Channel,
}

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
    let extents = |dims: &[usize], places: &[usize]| -> Vec<usize> {
        places.iter().map(|&i| dims[i]).collect()
    };
    if extents(from, &old) == extents(to, &new) {
        for (&old, &new) in old.iter().zip(&new) {
            result[new] = axes[old];
        }
        return Some(result);
    }
    let &[only] = &new[..] else {
        return None;
    };
    let part = |&i: &usize| -> Option<Order> {
        let part = match axes[i] {
            Axis::Row => Part::Row,
            Axis::Column => Part::Column,
            Axis::Channel => Part::Channel,
            Axis::Batch | Axis::One | Axis::Flat(_) => return None,
        };
        Some((part, from[i]))
    };
    let mut parts: Vec<Order> = old.iter().map(part).collect::<Option<_>>()?;
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
        assert_eq!(regroup(&NCHW, &[1, 4, 3, 4], &[1, 2, 2, 3, 4]), None);
    }
}
