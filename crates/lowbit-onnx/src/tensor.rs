//! Tensors of a file: the types, the places their values can stand in, and external data.

use crate::constant::{Constant, Stored, count, wrong};
use crate::error::Fault;
use crate::proto::TensorProto;
use crate::proto::tensor_proto::{DataLocation, DataType};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// Reads tensors of the model in a folder.
pub(crate) struct Tensors<'a> {
    /// The model's folder; external data are read from within it alone.
    pub(crate) folder: Option<&'a Path>,
}

impl Tensors<'_> {
    /// Converts a tensor; floats become f32, integers i64.
    pub(crate) fn read(&self, proto: &TensorProto) -> Result<Constant, Fault> {
        let name = proto.name();
        let fail = |reason: String| wrong(name, reason);
        let (dims, elements) = dims(proto)?;
        let kind = DataType::try_from(proto.data_type())
            .map_err(|_| fail(format!("its type {} is unknown", proto.data_type())))?;
        let bits = bits(kind)
            .ok_or_else(|| fail(format!("its type {} is not supported", kind.as_str_name())))?;
        let bytes = bytes_of(elements, bits);
        let external;
        let raw: Option<&[u8]> = if proto.data_location() == DataLocation::External {
            external = self.external(proto, bytes)?;
            Some(&external)
        } else {
            proto.raw_data.as_deref()
        };
        if let Some(raw) = raw {
            if raw.len() != bytes {
                let found = raw.len();
                return Err(fail(format!(
                    "it has {found} bytes, its shape needs {bytes}"
                )));
            }
            return Ok(match bits {
                ..8 => Constant::int(dims, unpacked(raw, kind, elements)),
                _ => of_bytes(kind, dims, raw),
            }
            .stored_as(stored(kind)));
        }
        let constant = of_fields(kind, dims, elements, proto).stored_as(stored(kind));
        match constant.len() {
            found if found == elements => Ok(constant),
            found => Err(fail(format!(
                "it has {found} values, its shape needs {elements}"
            ))),
        }
    }

    /// The file of the model's folder that a tensor's bytes stand in; none if they stand in the model's own.
    pub(crate) fn external_file(&self, proto: &TensorProto) -> Result<Option<PathBuf>, Fault> {
        match proto.data_location() {
            DataLocation::External => self.located(proto).map(|(_, path)| Some(path)),
            DataLocation::Default => Ok(None),
        }
    }

    /// Where the bytes of an external tensor stand: as the model says it, and the file.
    fn located<'p>(&self, proto: &'p TensorProto) -> Result<(&'p str, PathBuf), Fault> {
        let fail = |reason: String| wrong(proto.name(), reason);
        let location = entry(proto, "location")
            .ok_or_else(|| fail("its external data have no place".into()))?;
        Ok((location, self.within(location).map_err(fail)?))
    }

    /// The bytes of a tensor that stand in another file of the model's folder.
    fn external(&self, proto: &TensorProto, bytes: usize) -> Result<Vec<u8>, Fault> {
        let name = proto.name();
        let fail = |reason: String| wrong(name, reason);
        let number = |key: &str| match entry(proto, key) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(fail(format!("the {key} of its external data is {text:?}"))),
            },
        };
        let (location, path) = self.located(proto)?;
        let offset = number("offset")?.unwrap_or(0);
        if let Some(length) = number("length")?
            && length != bytes as u64
        {
            return Err(fail(format!(
                "its external data have {length} bytes, its shape needs {bytes}"
            )));
        }
        let read = || -> std::io::Result<Result<Vec<u8>, u64>> {
            let mut file = File::open(&path)?;
            let size = file.metadata()?.len();
            if offset
                .checked_add(bytes as u64)
                .is_none_or(|end| end > size)
            {
                return Ok(Err(size));
            }
            file.seek(SeekFrom::Start(offset))?;
            let mut data = vec![0; bytes];
            file.read_exact(&mut data)?;
            Ok(Ok(data))
        };
        match read() {
            Ok(Ok(data)) => Ok(data),
            Ok(Err(size)) => Err(fail(format!(
                "needs bytes {offset} to {} of {location}, which has {size}: is it cut off?",
                offset.saturating_add(bytes as u64)
            ))),
            Err(source) => Err(fail(format!(
                "cannot read its external data {location}: {source}: keep the file beside the model"
            ))),
        }
    }

    /// The file `location` of the model's folder; not one that lies elsewhere, by whatever way.
    fn within(&self, location: &str) -> Result<PathBuf, String> {
        let folder = self
            .folder
            .ok_or("it has external data, and the model is not a file")?;
        let relative = Path::new(location);
        let is_plain = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let escapes = || {
            format!(
                "its external data {location:?} lie outside the model's folder: lowbit reads none from there"
            )
        };
        // What a path of another system would mean is not for this one to say.
        if !is_plain || location.contains(['\\', ':', '\0']) {
            return Err(escapes());
        }
        let path = folder.join(relative);
        let folder = std::fs::canonicalize(folder).map_err(|error| error.to_string())?;
        match std::fs::canonicalize(&path) {
            Ok(real) if real.starts_with(&folder) => Ok(real),
            Ok(_) => Err(escapes()),
            Err(error) => Err(format!(
                "cannot read its external data {location}: {error}: keep the file beside the model"
            )),
        }
    }
}

/// What an external tensor says of its place under `key`.
fn entry<'p>(proto: &'p TensorProto, key: &str) -> Option<&'p str> {
    let found = proto.external_data.iter().find(|entry| entry.key() == key);
    found.map(|entry| entry.value())
}

/// The extents of a tensor and the number of its elements.
pub(crate) fn dims(proto: &TensorProto) -> Result<(Vec<usize>, usize), Fault> {
    let fail = |reason: String| wrong(proto.name(), reason);
    let extent =
        |&dim: &i64| usize::try_from(dim).map_err(|_| fail(format!("it has an extent of {dim}")));
    let dims = proto
        .dims
        .iter()
        .map(extent)
        .collect::<Result<Vec<usize>, Fault>>()?;
    let elements = count(&dims).map_err(fail)?;
    Ok((dims, elements))
}

/// Bits of an element in `raw_data`; none for types that no model's weights have.
fn bits(kind: DataType) -> Option<usize> {
    match kind {
        DataType::Double | DataType::Int64 | DataType::Uint64 => Some(64),
        DataType::Float | DataType::Int32 | DataType::Uint32 => Some(32),
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => Some(16),
        DataType::Int8 | DataType::Uint8 | DataType::Bool => Some(8),
        DataType::Int4 | DataType::Uint4 => Some(4),
        DataType::Int2 | DataType::Uint2 => Some(2),
        _ => None,
    }
}

/// Bytes of so many elements, several to a byte where they are small.
pub(crate) fn bytes_of(elements: usize, bits: usize) -> usize {
    (elements * bits).div_ceil(8)
}

fn stored(kind: DataType) -> Option<Stored> {
    let is_signed = match kind {
        DataType::Int32 | DataType::Int16 | DataType::Int8 | DataType::Int4 | DataType::Int2 => {
            true
        }
        DataType::Uint32
        | DataType::Uint16
        | DataType::Uint8
        | DataType::Uint4
        | DataType::Uint2 => false,
        _ => return None,
    };
    let bits = bits(kind)? as u8;
    Some(Stored { bits, is_signed })
}

/// Integers of 4 or 2 bits, the first in the lowest bits of each byte.
fn unpacked(bytes: &[u8], kind: DataType, elements: usize) -> Vec<i64> {
    let Some(Stored { bits, is_signed }) = stored(kind) else {
        return vec![];
    };
    let one = |shift: u8, byte: u8| {
        let code = i64::from(byte >> shift & ((1 << bits) - 1));
        match is_signed && code >> (bits - 1) == 1 {
            true => code - (1 << bits),
            false => code,
        }
    };
    let each = |&byte: &u8| {
        (0..8)
            .step_by(bits.into())
            .map(move |shift| one(shift, byte))
    };
    bytes.iter().flat_map(each).take(elements).collect()
}

fn of_bytes(kind: DataType, dims: Vec<usize>, raw: &[u8]) -> Constant {
    fn each<const N: usize, T>(raw: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (chunks, _) = raw.as_chunks::<N>();
        chunks.iter().map(|&bytes| value(bytes)).collect()
    }
    let float = |data| Constant::float(dims.clone(), data);
    let int = |data| Constant::int(dims.clone(), data);
    match kind {
        DataType::Float => float(each(raw, f32::from_le_bytes)),
        DataType::Double => float(each(raw, |bytes| f64::from_le_bytes(bytes) as f32)),
        DataType::Float16 => float(each(raw, |bytes| half::f16::from_le_bytes(bytes).to_f32())),
        DataType::Bfloat16 => float(each(raw, |bytes| half::bf16::from_le_bytes(bytes).to_f32())),
        DataType::Uint64 => int(each(raw, |bytes| u64::from_le_bytes(bytes).cast_signed())),
        DataType::Int32 => int(each(raw, |bytes| i32::from_le_bytes(bytes).into())),
        DataType::Uint32 => int(each(raw, |bytes| u32::from_le_bytes(bytes).into())),
        DataType::Int16 => int(each(raw, |bytes| i16::from_le_bytes(bytes).into())),
        DataType::Uint16 => int(each(raw, |bytes| u16::from_le_bytes(bytes).into())),
        DataType::Int8 => int(each(raw, |bytes| i8::from_le_bytes(bytes).into())),
        DataType::Uint8 | DataType::Bool => int(each(raw, |bytes| u8::from_le_bytes(bytes).into())),
        // Int64; the others have no width and do not come here.
        _ => int(each(raw, i64::from_le_bytes)),
    }
}

/// The values of a tensor without `raw_data`: small types stand in `int32_data`, floats of 16 bits as their bits.
fn of_fields(kind: DataType, dims: Vec<usize>, elements: usize, proto: &TensorProto) -> Constant {
    let floats = |to: fn(u16) -> f32| proto.int32_data.iter().map(|&x| to(x as u16)).collect();
    match kind {
        DataType::Float => Constant::float(dims, proto.float_data.clone()),
        DataType::Double => {
            Constant::float(dims, proto.double_data.iter().map(|&x| x as f32).collect())
        }
        DataType::Float16 => Constant::float(dims, floats(|x| half::f16::from_bits(x).to_f32())),
        DataType::Bfloat16 => Constant::float(dims, floats(|x| half::bf16::from_bits(x).to_f32())),
        DataType::Int64 => Constant::int(dims, proto.int64_data.clone()),
        DataType::Uint64 | DataType::Uint32 => {
            let data = proto.uint64_data.iter().map(|x| x.cast_signed()).collect();
            Constant::int(dims, data)
        }
        // A byte of them in each.
        DataType::Int4 | DataType::Uint4 | DataType::Int2 | DataType::Uint2 => {
            let bytes: Vec<u8> = proto.int32_data.iter().map(|&x| x as u8).collect();
            let needed = bytes_of(elements, bits(kind).unwrap_or(8));
            let elements = if bytes.len() == needed {
                elements
            } else {
                usize::MAX
            };
            Constant::int(dims, unpacked(&bytes, kind, elements))
        }
        _ => Constant::int(dims, proto.int32_data.iter().map(|&x| x.into()).collect()),
    }
}
