//! Operators that move elements of constants and compute none.

use crate::constant::{Constant, Data, count};

/// A constant whose element at each place is that of `from` at the place that `source` names.
pub(super) fn gather(
    from: &Constant,
    dims: Vec<usize>,
    mut source: impl FnMut(&[usize]) -> usize,
) -> Result<Constant, String> {
    let total = count(&dims)?;
    let mut at = vec![0; dims.len()];
    let mut places = Vec::with_capacity(total);
    for _ in 0..total {
        let place = source(&at);
        if place >= from.len() {
            return Err("an index lies outside the tensor".into());
        }
        places.push(place);
        for axis in (0..dims.len()).rev() {
            at[axis] += 1;
            if at[axis] < dims[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    let gathered = match &from.data {
        Data::Float(data) => {
            Constant::float(dims, places.iter().map(|&place| data[place]).collect())
        }
        Data::Int(data) => Constant::int(dims, places.iter().map(|&place| data[place]).collect()),
    };
    Ok(gathered.stored_as(from.stored))
}

/// Distances of neighbors along each axis.
pub(super) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; dims.len()];
    for axis in (0..dims.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1].saturating_mul(dims[axis + 1]);
    }
    strides
}

/// The same elements under other extents.
pub(super) fn reshape(from: &Constant, dims: Vec<usize>) -> Constant {
    Constant {
        dims,
        data: from.data.clone(),
        stored: from.stored,
    }
}

/// The axes in another order.
pub(super) fn transpose(from: &Constant, order: &[usize]) -> Result<Constant, String> {
    let steps = strides(&from.dims);
    let dims = order.iter().map(|&axis| from.dims[axis]).collect();
    gather(from, dims, |at| {
        at.iter()
            .zip(order)
            .map(|(&i, &axis)| i * steps[axis])
            .sum()
    })
}

/// Repeated along axes of extent 1, as broadcasting does.
pub(super) fn expand(from: &Constant, dims: Vec<usize>) -> Result<Constant, String> {
    let steps = strides(&from.dims);
    let lead = dims.len().checked_sub(from.dims.len());
    let lead = lead.ok_or("a tensor does not shrink by broadcasting")?;
    let own = from.dims.clone();
    gather(from, dims, |at| {
        let inner = at[lead..].iter().zip(&own).zip(&steps);
        inner
            .map(|((&i, &dim), &step)| if dim == 1 { 0 } else { i * step })
            .sum()
    })
}

/// Joined along an axis.
pub(super) fn concat(parts: &[&Constant], axis: usize) -> Result<Constant, String> {
    let first = parts.first().ok_or("it has no inputs")?;
    let mut dims = first.dims.clone();
    let matching = |part: &&Constant| {
        part.dims.len() == dims.len()
            && (0..dims.len()).all(|i| i == axis || part.dims[i] == dims[i])
    };
    if axis >= dims.len() || !parts.iter().all(matching) {
        return Err("its inputs have shapes that do not join".into());
    }
    dims[axis] = parts.iter().map(|part| part.dims[axis]).sum();
    let total = count(&dims)?;
    let outer: usize = dims[..axis].iter().product();
    let inner = |part: &Constant| part.dims[axis..].iter().product::<usize>();
    if parts.iter().all(|part| part.floats().is_some()) {
        let mut data = Vec::with_capacity(total);
        for i in 0..outer {
            for part in parts {
                let values = part.floats().unwrap_or_default();
                data.extend_from_slice(&values[i * inner(part)..][..inner(part)]);
            }
        }
        return Ok(Constant::float(dims, data));
    }
    if parts.iter().any(|part| part.ints().is_none()) {
        return Err("its inputs are of different types".into());
    }
    let mut data = Vec::with_capacity(total);
    for i in 0..outer {
        for part in parts {
            let values = part.ints().unwrap_or_default();
            data.extend_from_slice(&values[i * inner(part)..][..inner(part)]);
        }
    }
    Ok(Constant::int(dims, data))
}
