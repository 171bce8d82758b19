//! Thrift's compact protocol, as far as parquet's footers and page headers use it.
//!
//! Apache Thrift, "Thrift Compact protocol encoding"; field numbers are those of parquet-format's `parquet.thrift`.

/// Structures nest less deep than this in any parquet file.
const MAX_DEPTH: usize = 16;
/// The most values that one footer may hold: 128 MiB of them in memory.
const MAX_VALUES: usize = 1 << 22;

/// A value that borrows its bytes from the encoded text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Bool(bool),
    Int(i64),
    Double(f64),
    Binary(&'a [u8]),
    List(Vec<Value<'a>>),
    Struct(Vec<(i16, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// The field `id` of a struct.
    pub(super) fn get(&self, id: i16) -> Option<&Value<'a>> {
        let Value::Struct(fields) = self else {
            return None;
        };
        let found = fields.iter().find(|(field, _)| *field == id);
        found.map(|(_, value)| value)
    }

    pub(super) fn int(&self, id: i16) -> Option<i64> {
        match self.get(id)? {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The field `id` as a size or an offset.
    pub(super) fn size(&self, id: i16) -> Option<usize> {
        self.int(id).and_then(|value| value.try_into().ok())
    }

    pub(super) fn bool(&self, id: i16) -> Option<bool> {
        match self.get(id)? {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn text(&self, id: i16) -> Option<&'a str> {
        match self.get(id)? {
            Value::Binary(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The elements of the list in field `id`; none where there is no such field.
    pub(super) fn list(&self, id: i16) -> &[Value<'a>] {
        match self.get(id) {
            Some(Value::List(values)) => values,
            _ => &[],
        }
    }
}

/// Reads one struct from the beginning of `bytes`; returns it and how many bytes it took.
pub(super) fn read(bytes: &[u8]) -> Result<(Value<'_>, usize), String> {
    let mut reader = Reader {
        bytes,
        at: 0,
        values: 0,
    };
    let value = reader.fields(0)?;
    Ok((value, reader.at))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, String> {
        let byte = *self.bytes.get(self.at).ok_or("it ends too early")?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(len);
        let taken = end
            .and_then(|end| self.bytes.get(self.at..end))
            .ok_or("it ends too early")?;
        self.at += len;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("it holds a number of too many bytes".into())
    }

    fn zigzag(&mut self) -> Result<i64, String> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn len(&mut self) -> Result<usize, String> {
        usize::try_from(self.varint()?).map_err(|error| error.to_string())
    }

    fn fields(&mut self, depth: usize) -> Result<Value<'a>, String> {
        let mut fields = Vec::new();
        let mut last = 0i16;
        loop {
            let header = self.byte()?;
            let kind = header & 0x0F;
            if kind == 0 {
                return Ok(Value::Struct(fields));
            }
            let step = i16::from(header >> 4);
            let id = match step {
                0 => self.zigzag()? as i16,
                _ => last.wrapping_add(step),
            };
            last = id;
            let value = match kind {
                1 | 2 => Value::Bool(kind == 1),
                _ => self.value(kind, depth + 1)?,
            };
            fields.push((id, value));
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Result<Value<'a>, String> {
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err("it holds too many values or nests too deep".into());
        }
        Ok(match kind {
            1 | 2 => Value::Bool(self.byte()? == 1),
            3 => Value::Int(i64::from(self.byte()? as i8)),
            4..=6 => Value::Int(self.zigzag()?),
            7 => {
                let bytes = self.take(8)?;
                Value::Double(f64::from_le_bytes(std::array::from_fn(|i| bytes[i])))
            }
            8 => {
                let len = self.len()?;
                Value::Binary(self.take(len)?)
            }
            9 | 10 => self.list(depth)?,
            12 => self.fields(depth)?,
            _ => return Err(format!("it holds a value of the unknown type {kind}")),
        })
    }

    fn list(&mut self, depth: usize) -> Result<Value<'a>, String> {
        let header = self.byte()?;
        let len = match usize::from(header >> 4) {
            15 => self.len()?,
            len => len,
        };
        // Every element takes at least a byte, so a claim beyond the end fails before it grows.
        if len > self.bytes.len() - self.at {
            return Err("it ends too early".into());
        }
        let mut values = Vec::new();
        for _ in 0..len {
            values.push(self.value(header & 0x0F, depth + 1)?);
        }
        Ok(Value::List(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lists_and_nested_structs_are_read() {
        // {1: i32 -3, 3: "ab", 4: [i64 1, 2], 20: true, 21: {1: false}}
        let bytes = [
            0x15, 5, 0x28, 2, b'a', b'b', 0x19, 0x26, 2, 4, 0x01, 40, 0x1C, 0x12, 0, 0, 99,
        ];
        let (value, len) = read(&bytes).expect("reads");
        assert_eq!(len, bytes.len() - 1);
        assert_eq!((value.int(1), value.text(3)), (Some(-3), Some("ab")));
        assert_eq!(value.list(4), [Value::Int(1), Value::Int(2)]);
        assert_eq!(value.bool(20), Some(true));
        assert_eq!(value.get(21).and_then(|inner| inner.bool(1)), Some(false));
        assert_eq!((value.int(2), value.list(1).len()), (None, 0));
    }

    #[test]
    fn nesting_without_end_and_lists_beyond_the_end_are_errors() {
        assert!(read(&[0x1C; 1000]).is_err());
        assert!(read(&[0x19, 0xF5, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 1]).is_err());
        assert!(read(&[0x15, 0xFF]).is_err());
        assert!(read(&[]).is_err());
    }
}
