//! Nodes whose results are known without an image.

use super::arithmetic::{binary, reduce, unary};
use super::movement::{concat, expand, gather, reshape, strides, transpose};
use super::shapes::{axes_of, axis_of, infer, order_of, sizes_of, slice_of, to_dims};
use crate::constant::{Constant, Data, Stored, count};
use crate::error::Fault;
use crate::model::{Attribute, Model, Node};

/// The results of a node that are constant; none where it needs the image.
pub(super) fn evaluate(model: &Model, node: &Node) -> Result<Option<Vec<Constant>>, Fault> {
    let fail = |reason: String| node.wrong(reason);
    let one = |constant| Ok(Some(vec![constant]));
    match node.op.as_str() {
        "Constant" => return one(constant_of(node)?),
        "Shape" => {
            let dims = model.shape(node.need(0)?);
            let end = |key: &str, otherwise: usize| -> Result<usize, Fault> {
                let place = node.int_or(key, otherwise as i64)?;
                let place = if place < 0 {
                    place + dims.len() as i64
                } else {
                    place
                };
                Ok(place.clamp(0, dims.len() as i64) as usize)
            };
            let (start, end) = (end("start", 0)?, end("end", dims.len())?);
            let dims = dims.get(start..end).unwrap_or_default();
            let data: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
            return one(Constant::int(vec![data.len()], data));
        }
        "Size" => {
            let size = count(model.shape(node.need(0)?)).map_err(fail)?;
            return one(Constant::int(vec![], vec![size as i64]));
        }
        _ => {}
    }
    let inputs: Option<Vec<&Constant>> = node
        .inputs
        .iter()
        .filter(|name| !name.is_empty())
        .map(|name| model.constants.get(name))
        .collect();
    let Some(inputs) = inputs.filter(|inputs| !inputs.is_empty()) else {
        return Ok(None);
    };
    let x = inputs[0];
    // The shape rules are those of every other node; the elements follow.
    let dims = || -> Result<Vec<usize>, Fault> {
        let shapes = infer(model, node)?;
        let shape = shapes.into_iter().next().unwrap_or_default();
        count(&shape).map_err(fail)?;
        Ok(shape)
    };
    let computed = match node.op.as_str() {
        "Dropout"
            if inputs
                .get(2)
                .and_then(|it| it.ints())
                .is_some_and(|it| it != [0]) =>
        {
            return Err(node.wrong("training_mode: export the model for inference (model.eval())"));
        }
        "Mod" if node.int_or("fmod", 0)? != 0 => {
            return Err(node.wrong("fmod=1 is not supported"));
        }
        "Identity" | "Dropout" => x.clone(),
        "Cast" => cast(node, x)?,
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => reshape(x, dims()?),
        "Transpose" => transpose(x, &order_of(node, x.dims.len())?).map_err(fail)?,
        "Expand" => expand(x, dims()?).map_err(fail)?,
        "Concat" => concat(&inputs, axis_of(node, x.dims.len(), 0)?).map_err(fail)?,
        "Gather" => gathered(node, x, inputs.get(1).copied())?,
        "Slice" => {
            let slice = slice_of(model, node)?;
            let steps = strides(&x.dims);
            gather(x, dims()?, |at| {
                let places = at.iter().zip(&slice).zip(&steps);
                places.map(|((&i, part), &step)| part.at(i) * step).sum()
            })
            .map_err(fail)?
        }
        "Split" => return split(model, node, x).map(Some),
        "ConstantOfShape" => {
            let dims = to_dims(node, x)?;
            let total = count(&dims).map_err(fail)?;
            match node.attributes.get("value") {
                None => Constant::float(dims, vec![0.0; total]),
                Some(Attribute::Tensor(value)) if value.len() == 1 => match &value.data {
                    Data::Float(value) => Constant::float(dims, vec![value[0]; total]),
                    Data::Int(value) => Constant::int(dims, vec![value[0]; total]),
                },
                Some(_) => return Err(fail("its value is no single element".into())),
            }
        }
        "Clip" => {
            let mut clipped = x.clone();
            for (index, key, op) in [(1, "min", "Max"), (2, "max", "Min")] {
                let limit = match (model.constant(node, index), node.attributes.get(key)) {
                    (Some(limit), _) => limit.clone(),
                    (None, Some(Attribute::Float(limit))) => Constant::float(vec![], vec![*limit]),
                    _ => continue,
                };
                match binary(op, &clipped, &limit).map_err(fail)? {
                    Some(next) => clipped = next,
                    None => return Ok(None),
                }
            }
            clipped
        }
        "Range" => range(node, &inputs)?,
        "Where" => choose(node, &inputs)?,
        "Sum" | "Min" | "Max" if inputs.len() != 2 => {
            let mut sum = x.clone();
            for other in &inputs[1..] {
                match binary(&node.op, &sum, other).map_err(fail)? {
                    Some(next) => sum = next,
                    None => return Ok(None),
                }
            }
            sum
        }
        op if op.starts_with("Reduce") => {
            let keeps = node.int_or("keepdims", 1)? == 1;
            let all =
                axes_of(model, node, x.dims.len())?.is_none_or(|axes| axes.len() == x.dims.len());
            match reduce(op, x).filter(|_| all) {
                Some(value) if keeps => reshape(&value, vec![1; x.dims.len()]),
                Some(value) => value,
                None => return Ok(None),
            }
        }
        op => {
            let computed = match inputs[..] {
                [x] => unary(op, x),
                [a, b] => binary(op, a, b).map_err(fail)?,
                _ => None,
            };
            match computed {
                Some(computed) => computed,
                None => return Ok(None),
            }
        }
    };
    one(computed)
}

fn constant_of(node: &Node) -> Result<Constant, Fault> {
    let found = node
        .attributes
        .iter()
        .find(|(key, _)| key.starts_with("value"));
    Ok(match found {
        Some((_, Attribute::Tensor(value))) => value.clone(),
        Some((_, Attribute::Float(value))) => Constant::float(vec![], vec![*value]),
        Some((_, Attribute::Int(value))) => Constant::int(vec![], vec![*value]),
        Some((_, Attribute::Floats(values))) => Constant::float(vec![values.len()], values.clone()),
        Some((_, Attribute::Ints(values))) => Constant::int(vec![values.len()], values.clone()),
        _ => return Err(node.wrong("its value is of a kind that is not supported")),
    })
}

/// Whether ONNX's number of a type means floats.
pub(crate) fn is_float(kind: i64) -> bool {
    matches!(kind, 1 | 10 | 11 | 16)
}

/// The integers of a type by ONNX's number; of 64 bits, those that are i64.
fn limits(kind: i64) -> (i64, i64) {
    match kind {
        2 => (0, u8::MAX.into()),
        3 => (i8::MIN.into(), i8::MAX.into()),
        4 => (0, u16::MAX.into()),
        5 => (i16::MIN.into(), i16::MAX.into()),
        6 => (i32::MIN.into(), i32::MAX.into()),
        12 => (0, u32::MAX.into()),
        13 => (0, i64::MAX),
        _ => (i64::MIN, i64::MAX),
    }
}

/// A type of at most 32 bits by ONNX's number.
fn narrow(kind: i64) -> Option<Stored> {
    let (bits, is_signed) = match kind {
        2 => (8, false),
        3 => (8, true),
        4 => (16, false),
        5 => (16, true),
        6 => (32, true),
        12 => (32, false),
        _ => return None,
    };
    Some(Stored { bits, is_signed })
}

fn cast(node: &Node, x: &Constant) -> Result<Constant, Fault> {
    let to = node.int_or("to", 0)?;
    let is_int = matches!(to, 2..=7 | 9 | 12 | 13);
    let dims = x.dims.clone();
    let none_such = |number: &dyn std::fmt::Display| {
        node.wrong(format!(
            "it casts {number} to a type that has no such number"
        ))
    };
    Ok(match &x.data {
        Data::Float(_) if is_float(to) => x.clone(),
        Data::Int(data) if is_float(to) => {
            Constant::float(dims, data.iter().map(|&x| x as f32).collect())
        }
        Data::Int(data) if to == 9 => {
            Constant::int(dims, data.iter().map(|&x| (x != 0).into()).collect())
        }
        Data::Int(data) if is_int => {
            let (low, high) = limits(to);
            if let Some(number) = data.iter().find(|&&x| x < low || x > high) {
                return Err(none_such(number));
            }
            x.clone().stored_as(narrow(to))
        }
        Data::Float(data) if to == 9 => {
            Constant::int(dims, data.iter().map(|&x| (x != 0.0).into()).collect())
        }
        Data::Float(data) if is_int => {
            let (low, high) = limits(to);
            let has = |x: f32| (low as f64..=high as f64).contains(&f64::from(x).trunc());
            if let Some(number) = data.iter().find(|&&x| !has(x)) {
                return Err(none_such(number));
            }
            let data = data.iter().map(|&x| x as i64).collect();
            Constant::int(dims, data).stored_as(narrow(to))
        }
        _ => return Err(node.wrong(format!("it casts to type {to}, which is not supported"))),
    })
}

fn gathered(node: &Node, x: &Constant, indices: Option<&Constant>) -> Result<Constant, Fault> {
    let fail = |reason: &str| node.wrong(reason);
    let indices = indices.ok_or_else(|| fail("it lacks its indices"))?;
    let numbers = indices
        .ints()
        .ok_or_else(|| fail("its indices are no integers"))?;
    let axis = axis_of(node, x.dims.len(), 0)?;
    let extent = x.dims[axis] as i64;
    let places: Option<Vec<usize>> = numbers
        .iter()
        .map(|&i| if i < 0 { i + extent } else { i })
        .map(|i| usize::try_from(i).ok().filter(|_| i < extent))
        .collect();
    let places = places.ok_or_else(|| fail("an index lies outside the tensor"))?;
    let inner = indices.dims.len();
    let dims = [&x.dims[..axis], &indices.dims, &x.dims[axis + 1..]].concat();
    let (steps, rows) = (strides(&x.dims), strides(&indices.dims));
    gather(x, dims, |at| {
        let index: usize = at[axis..axis + inner]
            .iter()
            .zip(&rows)
            .map(|(&i, &row)| i * row)
            .sum();
        let before: usize = at[..axis]
            .iter()
            .zip(&steps)
            .map(|(&i, &step)| i * step)
            .sum();
        let after = at[axis + inner..].iter().zip(&steps[axis + 1..]);
        let after: usize = after.map(|(&i, &step)| i * step).sum();
        before + places[index] * steps[axis] + after
    })
    .map_err(|reason| node.wrong(reason))
}

fn split(model: &Model, node: &Node, x: &Constant) -> Result<Vec<Constant>, Fault> {
    let (axis, sizes) = sizes_of(model, node, &x.dims)?;
    let steps = strides(&x.dims);
    let mut start = 0;
    let mut parts = Vec::new();
    for size in sizes {
        let mut dims = x.dims.clone();
        dims[axis] = size;
        let part = gather(x, dims, |at| {
            let place: usize = at.iter().zip(&steps).map(|(&i, &step)| i * step).sum();
            place + start * steps[axis]
        });
        parts.push(part.map_err(|reason| node.wrong(reason))?);
        start += size;
    }
    Ok(parts)
}

fn range(node: &Node, inputs: &[&Constant]) -> Result<Constant, Fault> {
    let numbers: Option<Vec<i64>> = inputs
        .iter()
        .map(|input| {
            input
                .ints()
                .filter(|ints| ints.len() == 1)
                .map(|ints| ints[0])
        })
        .collect();
    match numbers.as_deref() {
        Some(&[start, limit, step]) if step != 0 => {
            let mut data = Vec::new();
            let mut value = start;
            while (step > 0 && value < limit) || (step < 0 && value > limit) {
                if data.len() > 1 << 20 {
                    return Err(node.wrong("it counts further than models do"));
                }
                data.push(value);
                value = value.saturating_add(step);
            }
            Ok(Constant::int(vec![data.len()], data))
        }
        _ => Err(node.wrong("only ranges of integers are supported")),
    }
}

fn choose(node: &Node, inputs: &[&Constant]) -> Result<Constant, Fault> {
    let fail = |reason: String| node.wrong(reason);
    let &[which, a, b] = inputs else {
        return Err(fail("it needs three inputs".into()));
    };
    let dims = super::arithmetic::broadcast(&which.dims, &a.dims).map_err(fail)?;
    let dims = super::arithmetic::broadcast(&dims, &b.dims).map_err(fail)?;
    let wide = |x: &Constant| expand(x, dims.clone()).map_err(fail);
    let (which, a, b) = (wide(which)?, wide(a)?, wide(b)?);
    let which = which
        .ints()
        .ok_or_else(|| fail("its condition is no truth value".into()))?;
    match (&a.data, &b.data) {
        (Data::Int(a), Data::Int(b)) => {
            let picked = which.iter().enumerate();
            let picked = picked.map(|(i, &first)| if first != 0 { a[i] } else { b[i] });
            Ok(Constant::int(dims.clone(), picked.collect()))
        }
        (Data::Float(a), Data::Float(b)) => {
            let picked = which.iter().enumerate();
            let picked = picked.map(|(i, &first)| if first != 0 { a[i] } else { b[i] });
            Ok(Constant::float(dims.clone(), picked.collect()))
        }
        _ => Err(fail("its inputs are of different types".into())),
    }
}
