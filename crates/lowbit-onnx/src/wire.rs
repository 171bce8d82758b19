//! A look at the bytes before they are decoded: a message is decoded only if every length lies within what is there, and if
//! neither the depth nor the number of messages is beyond what models have. Decoding then allocates at most a fixed multiple
//! of the file's size.

use crate::error::Fault;

/// Subgraphs within subgraphs; models that lowbit runs have none.
const MAX_DEPTH: usize = 40;
/// Messages of all kinds; the largest classifiers have some ten thousand nodes.
const MAX_MESSAGES: usize = 4_000_000;

/// Kinds of messages that hold others.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Function,
    SparseTensor,
    ValueInfo,
    Type,
    Leaf,
}

impl Kind {
    /// The kind of the message in field `tag`; none where it is a number, a text or bytes.
    fn of(self, tag: u64) -> Option<Self> {
        match (self, tag) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Node, 5) | (Self::Function, 11) => Some(Self::Attribute),
            (Self::Attribute, 22 | 23) | (Self::Graph, 15) => Some(Self::SparseTensor),
            (Self::Graph, 11..=13) | (Self::Function, 12) => Some(Self::ValueInfo),
            (Self::ValueInfo, 2) | (Self::Attribute, 14 | 15) => Some(Self::Type),
            // Sequences of sequences, optionals of sequences, shapes.
            (Self::Type, 1 | 4 | 5 | 8 | 9) => Some(Self::Type),
            (Self::Attribute, 5 | 10)
            | (Self::Graph, 5 | 14 | 16)
            | (Self::Model, 8 | 14 | 20 | 26)
            | (Self::Node, 9 | 10)
            | (Self::Function, 9 | 14)
            | (Self::SparseTensor, 1 | 2)
            | (Self::Type, 2) => Some(Self::Leaf),
            _ => None,
        }
    }
}

/// Whether `bytes` are a message of the shape of a model.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Fault> {
    let mut messages = 0;
    walk(bytes, Kind::Model, 0, &mut messages).map_err(Fault::Damaged)
}

fn walk(mut bytes: &[u8], kind: Kind, depth: usize, messages: &mut usize) -> Result<(), String> {
    *messages += 1;
    if *messages > MAX_MESSAGES {
        return Err(format!("it holds more than {MAX_MESSAGES} messages"));
    }
    if depth > MAX_DEPTH {
        return Err(format!("it is nested more than {MAX_DEPTH} levels deep"));
    }
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => drop(varint(&mut bytes)?),
            1 => drop(take(&mut bytes, 8)?),
            5 => drop(take(&mut bytes, 4)?),
            2 => {
                let len = varint(&mut bytes)?;
                let inner = take(&mut bytes, len)?;
                if let Some(kind) = kind.of(key >> 3) {
                    walk(inner, kind, depth + 1, messages)?;
                }
            }
            other => return Err(format!("it has a field of wire type {other}")),
        }
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], len: u64) -> Result<&'a [u8], String> {
    let found = bytes.len();
    let (taken, rest) = usize::try_from(len)
        .ok()
        .and_then(|len| bytes.split_at_checked(len))
        .ok_or_else(|| format!("a field says {len} bytes, {found} are left: is it cut off?"))?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("it has a number of more than ten bytes".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        check(bytes).unwrap_err().to_string()
    }

    fn message(tag: u8, inner: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag << 3 | 2];
        let mut len = inner.len();
        while len >= 0x80 {
            bytes.push((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        bytes.push(len as u8);
        [bytes, inner.to_vec()].concat()
    }

    #[test]
    fn a_length_beyond_the_end_is_refused_before_anything_is_allocated() {
        let bomb = [7 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(refused(&bomb).contains("0 are left"), "{}", refused(&bomb));
        assert!(refused(&[0xff; 12]).contains("ten bytes"));
        assert!(refused(&[7 << 3 | 3]).contains("wire type 3"));
    }

    #[test]
    fn graphs_within_graphs_end_somewhere() {
        let mut graph = vec![];
        for _ in 0..20 {
            graph = message(1, &message(5, &message(6, &graph)));
        }
        assert!(refused(&message(7, &graph)).contains("nested"));
    }
}
