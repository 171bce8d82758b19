//! Constant tensors: initializers and what is computed of them before the model runs.

use crate::error::Fault;
use std::sync::Arc;

/// More elements than a constant may have: a bound on what a file can make us allocate.
pub(crate) const MAX_ELEMENTS: usize = 1 << 28;

/// A tensor whose values are known, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Constant {
    pub(crate) dims: Vec<usize>,
    pub(crate) data: Data,
    /// Which integers they were in the file, where those are of 32 bits or fewer.
    pub(crate) stored: Option<Stored>,
}

/// A type of integers, of 32 bits or fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) bits: u8,
    pub(crate) is_signed: bool,
}

impl Stored {
    /// Whether it has this number.
    pub(crate) fn holds(self, number: i64) -> bool {
        let half = 1i64 << (self.bits - 1);
        match self.is_signed {
            true => (-half..half).contains(&number),
            false => (0..2 * half).contains(&number),
        }
    }
}

/// A type of 8 bits that a zero point tells for the integers of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Byte {
    Signed,
    Unsigned,
}

impl From<Byte> for Stored {
    fn from(byte: Byte) -> Self {
        Self {
            bits: 8,
            is_signed: byte == Byte::Signed,
        }
    }
}

/// Its elements: floats of every width as f32, integers and truth values as i64.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Float(Arc<Vec<f32>>),
    Int(Arc<Vec<i64>>),
}

/// The integers that stand for a constant of floats: `value = code · scale`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Codes {
    /// The zero point is taken away.
    pub(crate) values: Vec<i32>,
    /// Bits of the integers in the file, where those are 16 or fewer.
    pub(crate) bits: Option<u8>,
    /// One, or one for each index of `axis`.
    pub(crate) scale: Vec<f32>,
    pub(crate) axis: usize,
}

impl Constant {
    pub(crate) fn float(dims: Vec<usize>, data: Vec<f32>) -> Self {
        let data = Data::Float(Arc::new(data));
        Self {
            dims,
            data,
            stored: None,
        }
    }

    pub(crate) fn int(dims: Vec<usize>, data: Vec<i64>) -> Self {
        let data = Data::Int(Arc::new(data));
        Self {
            dims,
            data,
            stored: None,
        }
    }

    /// The same, said to be of a type in the file.
    pub(crate) fn stored_as(mut self, stored: Option<Stored>) -> Self {
        self.stored = stored;
        self
    }

    /// Which integers of 8 bits they were in the file, if such.
    pub(crate) fn byte(&self) -> Option<Byte> {
        match self.stored?.bits {
            8 if self.stored?.is_signed => Some(Byte::Signed),
            8 => Some(Byte::Unsigned),
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.data {
            Data::Float(data) => data.len(),
            Data::Int(data) => data.len(),
        }
    }

    /// Its elements if it holds integers.
    pub(crate) fn ints(&self) -> Option<&[i64]> {
        match &self.data {
            Data::Int(data) => Some(data),
            Data::Float(_) => None,
        }
    }

    /// Its elements if it holds floats.
    pub(crate) fn floats(&self) -> Option<&[f32]> {
        match &self.data {
            Data::Float(data) => Some(data),
            Data::Int(_) => None,
        }
    }

    /// Its element if it is a float, and the only one.
    pub(crate) fn scalar(&self) -> Option<f32> {
        match self.floats() {
            Some(&[value]) => Some(value),
            _ => None,
        }
    }
}

/// The number of elements of `dims`.
pub(crate) fn count(dims: &[usize]) -> Result<usize, String> {
    let count = dims
        .iter()
        .try_fold(1usize, |count, &dim| count.checked_mul(dim));
    match count {
        Some(count) if count <= MAX_ELEMENTS => Ok(count),
        _ => Err(format!(
            "its shape {dims:?} has more than {MAX_ELEMENTS} elements"
        )),
    }
}

/// The tensor `name`, from whose values are wrong for the reason.
pub(crate) fn wrong(name: &str, reason: impl Into<String>) -> Fault {
    Fault::Tensor {
        tensor: name.to_owned(),
        reason: reason.into(),
    }
}
