//! Thrift's compact protocol, as far as Parquet's headers use it, read into a tree of values.
//!
//! Specification: apache/thrift, doc/specs/thrift-compact-protocol.md.

/// Structures within structures: Parquet's own go four deep.
const MAX_DEPTH: usize = 24;

/// One value; strings and binaries point into the input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Bool(bool),
    Int(i64),
    Double,
    Bytes(&'a [u8]),
    List(Vec<Value<'a>>),
    Struct(Vec<(i16, Value<'a>)>),
}

static NOTHING: Value = Value::Double;

impl<'a> Value<'a> {
    /// Field `id` of a structure; a value that is no kind of anything where there is none.
    pub(crate) fn field(&self, id: i16) -> &Value<'a> {
        match self {
            Value::Struct(fields) => fields
                .iter()
                .find(|(found, _)| *found == id)
                .map_or(&NOTHING, |(_, value)| value),
            _ => &NOTHING,
        }
    }

    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// A number that counts something.
    pub(crate) fn count(&self) -> Option<usize> {
        self.int().and_then(|value| usize::try_from(value).ok())
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        match self {
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> &[Value<'a>] {
        match self {
            Value::List(values) => values,
            _ => &[],
        }
    }
}

/// Reads bytes from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    /// An unsigned number, seven bits a byte, the lowest first.
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

/// Reads one structure from the front of `cursor`; `None` when it is broken.
pub(crate) fn structure<'a>(cursor: &mut Cursor<'a>) -> Option<Value<'a>> {
    read(cursor, 12, 0)
}

fn read<'a>(cursor: &mut Cursor<'a>, kind: u8, depth: usize) -> Option<Value<'a>> {
    if depth > MAX_DEPTH {
        return None;
    }
    Some(match kind {
        1 => Value::Bool(true),
        2 => Value::Bool(false),
        3 => Value::Int(i64::from(cursor.byte()? as i8)),
        4..=6 => Value::Int(cursor.zigzag()?),
        7 => cursor.take(8).map(|_| Value::Double)?,
        8 => {
            let len = usize::try_from(cursor.varint()?).ok()?;
            Value::Bytes(cursor.take(len)?)
        }
        9 | 10 => list(cursor, depth)?,
        12 => Value::Struct(fields(cursor, depth)?),
        _ => return None,
    })
}

fn list<'a>(cursor: &mut Cursor<'a>, depth: usize) -> Option<Value<'a>> {
    let header = cursor.byte()?;
    let count = match header >> 4 {
        15 => cursor.varint()?,
        few => u64::from(few),
    };
    let kind = header & 15;
    let mut values = Vec::new();
    for _ in 0..count {
        // In a list, unlike in a field, a truth value takes a byte.
        values.push(match kind {
            1 | 2 => Value::Bool(cursor.byte()? == 1),
            _ => read(cursor, kind, depth + 1)?,
        });
    }
    Some(Value::List(values))
}

fn fields<'a>(cursor: &mut Cursor<'a>, depth: usize) -> Option<Vec<(i16, Value<'a>)>> {
    let mut fields = Vec::new();
    let mut id = 0i16;
    loop {
        let header = cursor.byte()?;
        if header == 0 {
            return Some(fields);
        }
        id = match header >> 4 {
            0 => i16::try_from(cursor.zigzag()?).ok()?,
            step => id.checked_add(i16::from(step))?,
        };
        fields.push((id, read(cursor, header & 15, depth + 1)?));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Option<Value<'_>> {
        structure(&mut Cursor { rest: bytes })
    }

    #[test]
    fn fields_lists_and_strings_are_read() {
        // 1: i32 = -3, 2: list<binary> = ["ab"], 5: true.
        let bytes = [0x15, 0x05, 0x19, 0x18, 0x02, b'a', b'b', 0x31, 0x00];
        let value = parse(&bytes).expect("reads");
        assert_eq!(value.field(1).int(), Some(-3));
        assert_eq!(value.field(2).list()[0].text(), Some("ab"));
        assert_eq!(value.field(5), &Value::Bool(true));
        assert_eq!(value.field(9).count(), None);
    }

    #[test]
    fn claims_beyond_the_input_are_refused() {
        assert_eq!(parse(&[0x18, 0xFF, 0xFF, 0xFF, 0x7F]), None);
        assert_eq!(parse(&[0x19, 0xFC, 0xFF, 0xFF, 0xFF, 0x7F]), None);
        assert_eq!(parse(&[0x1C; 200]), None);
        assert_eq!(parse(&[]), None);
    }
}
