//! Operators that compute on constants.

use super::movement::expand;
use crate::constant::{Constant, Data};

/// The shape that two shapes broadcast to.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], axis: usize| {
        let lead = rank - dims.len();
        if axis < lead { 1 } else { dims[axis - lead] }
    };
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(format!("{a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

/// A function of two constants' elements; none where the operator is none.
pub(super) fn binary(op: &str, a: &Constant, b: &Constant) -> Result<Option<Constant>, String> {
    let dims = broadcast(&a.dims, &b.dims)?;
    let narrow = a.stored.or(b.stored);
    let (a, b) = (expand(a, dims.clone())?, expand(b, dims.clone())?);
    match (&a.data, &b.data) {
        (Data::Float(a), Data::Float(b)) => {
            let pairs = || {
                a.iter()
                    .zip(b.iter())
                    .map(|(&a, &b)| (f64::from(a), f64::from(b)))
            };
            let float = |f: fn(f64, f64) -> f64| {
                Constant::float(dims.clone(), pairs().map(|(a, b)| f(a, b) as f32).collect())
            };
            let truth = |f: fn(f64, f64) -> bool| {
                Constant::int(dims.clone(), pairs().map(|(a, b)| f(a, b).into()).collect())
            };
            Ok(Some(match op {
                "Add" | "Sum" => float(|a, b| a + b),
                "Sub" => float(|a, b| a - b),
                "Mul" => float(|a, b| a * b),
                "Div" => float(|a, b| a / b),
                "Pow" => float(f64::powf),
                "Min" => float(f64::min),
                "Max" => float(f64::max),
                "Equal" => truth(|a, b| a == b),
                "Less" => truth(|a, b| a < b),
                "Greater" => truth(|a, b| a > b),
                "LessOrEqual" => truth(|a, b| a <= b),
                "GreaterOrEqual" => truth(|a, b| a >= b),
                _ => return Ok(None),
            }))
        }
        (Data::Int(a), Data::Int(b)) => {
            let f: fn(i64, i64) -> Option<i64> = match op {
                "Add" | "Sum" => i64::checked_add,
                "Sub" => i64::checked_sub,
                "Mul" => i64::checked_mul,
                // ONNX rounds towards zero.
                "Div" => i64::checked_div,
                // The signs of divisor and result agree; extents have no other.
                "Mod" => |a, b| if b > 0 { a.checked_rem_euclid(b) } else { None },
                "Pow" => |a, b| a.checked_pow(u32::try_from(b).ok()?),
                "Min" => |a, b| Some(a.min(b)),
                "Max" => |a, b| Some(a.max(b)),
                "And" => |a, b| Some((a != 0 && b != 0).into()),
                "Or" => |a, b| Some((a != 0 || b != 0).into()),
                "Equal" => |a, b| Some((a == b).into()),
                "Less" => |a, b| Some((a < b).into()),
                "Greater" => |a, b| Some((a > b).into()),
                "LessOrEqual" => |a, b| Some((a <= b).into()),
                "GreaterOrEqual" => |a, b| Some((a >= b).into()),
                _ => return Ok(None),
            };
            let pairs = a.iter().zip(b.iter());
            let data: Option<Vec<i64>> = pairs.map(|(&a, &b)| f(a, b)).collect();
            let data = data.ok_or("a number that does not fit into 64 bits comes of it")?;
            const OF_TRUTH: [&str; 7] = [
                "And",
                "Or",
                "Equal",
                "Less",
                "Greater",
                "LessOrEqual",
                "GreaterOrEqual",
            ];
            let stored = narrow.filter(|_| !OF_TRUTH.contains(&op));
            if let Some(kind) = stored
                && !data.iter().all(|&x| kind.holds(x))
            {
                return Err(format!(
                    "a number that does not fit into its {} bits comes of it",
                    kind.bits
                ));
            }
            Ok(Some(Constant::int(dims, data).stored_as(stored)))
        }
        // A power of another type is allowed; nothing else is.
        (Data::Float(x), Data::Int(y)) if op == "Pow" => {
            let pairs = x.iter().zip(y.iter());
            let data = pairs
                .map(|(&x, &y)| f64::from(x).powf(y as f64) as f32)
                .collect();
            Ok(Some(Constant::float(dims, data)))
        }
        _ => Err("its inputs are of different types".into()),
    }
}

/// A function of a constant's elements; none where the operator is none.
pub(super) fn unary(op: &str, x: &Constant) -> Option<Constant> {
    match &x.data {
        Data::Float(data) => {
            let f: fn(f64) -> f64 = match op {
                "Neg" => |x| -x,
                "Abs" => f64::abs,
                "Sqrt" => f64::sqrt,
                "Reciprocal" => |x| 1.0 / x,
                "Exp" => f64::exp,
                "Log" => f64::ln,
                "Floor" => f64::floor,
                "Ceil" => f64::ceil,
                "Relu" => |x| x.max(0.0),
                _ => return None,
            };
            let data = data.iter().map(|&x| f(f64::from(x)) as f32).collect();
            Some(Constant::float(x.dims.clone(), data))
        }
        Data::Int(data) => {
            let f: fn(i64) -> i64 = match op {
                "Neg" => i64::wrapping_neg,
                "Abs" => i64::wrapping_abs,
                "Not" => |x| (x == 0).into(),
                _ => return None,
            };
            let data: Vec<i64> = data.iter().map(|&x| f(x)).collect();
            let stored = x.stored.filter(|_| op != "Not");
            let fits = stored.is_none_or(|kind| data.iter().all(|&x| kind.holds(x)));
            fits.then(|| Constant::int(x.dims.clone(), data).stored_as(stored))
        }
    }
}

/// All elements reduced to one, in an operator over all axes.
pub(super) fn reduce(op: &str, x: &Constant) -> Option<Constant> {
    let ints = x.ints()?;
    let value = match op {
        "ReduceProd" => ints.iter().try_fold(1i64, |a, &b| a.checked_mul(b))?,
        "ReduceSum" => ints.iter().try_fold(0i64, |a, &b| a.checked_add(b))?,
        "ReduceMin" => *ints.iter().min()?,
        "ReduceMax" => *ints.iter().max()?,
        _ => return None,
    };
    let fits = x.stored.is_none_or(|kind| kind.holds(value));
    fits.then(|| Constant::int(vec![], vec![value]).stored_as(x.stored))
}
