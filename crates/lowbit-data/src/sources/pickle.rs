//! Python pickles of plain values and NumPy arrays of bytes, read without executing anything.
//!
//! A pickle is a program for a stack machine that may call any function. Here nothing is called: a call is kept as the
//! function's name and its arguments, and the reader of CIFAR's batches knows the three that stand for an array. Values
//! are numbers in one list, so that a value used twice is kept once and memory grows with the file alone.
//!
//! The instructions: Python's `Lib/pickletools.py`.

use std::collections::HashMap;
use std::ops::Range;

/// The most values accepted; a batch of CIFAR has about two for each image.
const MAX_VALUES: usize = 1 << 22;

/// The index of a value.
type Id = usize;

/// A value, with the values in it by index.
#[derive(Debug, Clone)]
enum Value {
    None,
    Int(i64),
    /// Bytes, or text of any encoding: where it lies in the file.
    Bytes(Range<usize>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A function or class: where its module's and its own name lie.
    Global(Range<usize>, Range<usize>),
    /// What a function would return, and the state that it would be given then.
    Call {
        function: Id,
        arguments: Id,
        state: Option<Id>,
    },
}

/// A pickle that was read.
pub(crate) struct Pickle<'a> {
    bytes: &'a [u8],
    values: Vec<Value>,
    top: Id,
}

/// An array of bytes.
pub(crate) struct Array<'a> {
    pub(crate) shape: Vec<usize>,
    /// In C's order.
    pub(crate) bytes: std::borrow::Cow<'a, [u8]>,
}

impl<'a> Pickle<'a> {
    /// # Errors
    /// What is wrong with it, and where.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine {
            bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let top = machine.run()?;
        Ok(Self {
            bytes,
            values: machine.values,
            top,
        })
    }

    /// The value of `key` in the dictionary that the pickle holds.
    fn get(&self, key: &str) -> Option<&Value> {
        let Value::Dict(pairs) = &self.values[self.top] else {
            return None;
        };
        let found = pairs
            .iter()
            .rev()
            .find(|&&(name, _)| self.text(name) == Some(key))?;
        Some(&self.values[found.1])
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn text(&self, id: Id) -> Option<&'a str> {
        match &self.values[id] {
            Value::Bytes(range) => std::str::from_utf8(&self.bytes[range.clone()]).ok(),
            // The encoding of a text is the text, for those of ASCII that are compared here.
            Value::Call {
                function,
                arguments,
                ..
            } if self.function(*function)? == "encode" => {
                match self.values[*self.list(*arguments)?.first()?] {
                    Value::Bytes(ref range) => std::str::from_utf8(&self.bytes[range.clone()]).ok(),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// A list of whole numbers, or an array of them.
    pub(crate) fn numbers(&self, key: &str) -> Option<Vec<i64>> {
        let value = self.get(key)?;
        if let Value::List(items) = value {
            let number = |&id: &Id| match self.values[id] {
                Value::Int(number) => Some(number),
                _ => None,
            };
            return items.iter().map(number).collect();
        }
        let (kind, array) = self.array_of(value)?;
        let width = kind[1..]
            .parse()
            .ok()
            .filter(|width| [1, 2, 4, 8].contains(width))?;
        let number = |bytes: &[u8]| {
            let mut word = [0; 8];
            word[..width].copy_from_slice(bytes);
            i64::from_le_bytes(word)
        };
        Some(array.bytes.chunks_exact(width).map(number).collect())
    }

    /// A list of texts.
    pub(crate) fn texts(&self, key: &str) -> Option<Vec<&'a str>> {
        match self.get(key)? {
            Value::List(items) => items.iter().map(|&id| self.text(id)).collect(),
            _ => None,
        }
    }

    /// An array of bytes.
    pub(crate) fn array(&self, key: &str) -> Option<Array<'a>> {
        let (kind, array) = self.array_of(self.get(key)?)?;
        (kind == "u1").then_some(array)
    }

    /// A NumPy array and the kind of its elements, `u1` or `i8`, little-endian and in C's order.
    fn array_of(&self, value: &Value) -> Option<(String, Array<'a>)> {
        let Value::Call {
            function,
            arguments,
            state,
        } = value
        else {
            return None;
        };
        let (shape, kind, bytes) = match (self.function(*function)?, state) {
            // (version, shape, kind, is in Fortran's order, bytes)
            ("_reconstruct", Some(state)) => {
                let [_, shape, kind, fortran, bytes] = self.list(*state)?[..] else {
                    return None;
                };
                match self.values[fortran] {
                    Value::Int(0) => (shape, kind, bytes),
                    _ => return None,
                }
            }
            // (bytes, kind, shape, order)
            ("_frombuffer", _) => {
                let [bytes, kind, shape, order] = self.list(*arguments)?[..] else {
                    return None;
                };
                (self.text(order) == Some("C")).then_some((shape, kind, bytes))?
            }
            _ => return None,
        };
        let side = |&id: &Id| match self.values[id] {
            Value::Int(side) => usize::try_from(side).ok(),
            _ => None,
        };
        let shape: Vec<usize> = self.list(shape)?.iter().map(side).collect::<Option<_>>()?;
        let kind = self.kind(kind)?;
        let width: usize = kind.get(1..)?.parse().ok()?;
        let bytes = self.bytes_of(bytes)?;
        let len = shape
            .iter()
            .try_fold(width, |len, &side| len.checked_mul(side));
        (len == Some(bytes.len())).then_some((kind, Array { shape, bytes }))
    }

    /// A NumPy data type: `dtype("u1", …)`, little-endian by its state.
    fn kind(&self, id: Id) -> Option<String> {
        let Value::Call {
            function,
            arguments,
            state,
        } = &self.values[id]
        else {
            return None;
        };
        if self.function(*function)? != "dtype" {
            return None;
        }
        let name = self.text(*self.list(*arguments)?.first()?)?;
        let order = state
            .and_then(|state| self.list(state)?.get(1).copied())
            .and_then(|order| self.text(order))
            .unwrap_or("<");
        let name = name.trim_start_matches(['|', '<', '=']);
        let known = name.len() == 2 && name.starts_with(['u', 'i']);
        (known && order != ">").then(|| name.to_owned())
    }

    /// Bytes; Python 3 writes them for Python 2 as text and a call that encodes it.
    fn bytes_of(&self, id: Id) -> Option<std::borrow::Cow<'a, [u8]>> {
        match &self.values[id] {
            Value::Bytes(range) => Some(self.bytes[range.clone()].into()),
            Value::Call {
                function,
                arguments,
                ..
            } if self.function(*function)? == "encode" => {
                let text = self.text(*self.list(*arguments)?.first()?)?;
                let bytes: Result<Vec<u8>, _> =
                    text.chars().map(|c| u8::try_from(u32::from(c))).collect();
                bytes.ok().map(Into::into)
            }
            _ => None,
        }
    }

    fn list(&self, id: Id) -> Option<&[Id]> {
        match &self.values[id] {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    fn function(&self, id: Id) -> Option<&'a str> {
        match &self.values[id] {
            Value::Global(module, name) => {
                let text = |range: &Range<usize>| std::str::from_utf8(&self.bytes[range.clone()]);
                let module = text(module).ok()?;
                let known = module.starts_with("numpy") || module == "_codecs";
                text(name).ok().filter(|_| known)
            }
            _ => None,
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack where a mark stands.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let at = self.at;
            match self.step() {
                Ok(None) => {}
                Ok(Some(top)) => return Ok(top),
                Err(reason) => return Err(format!("{reason} (at byte {at} of the pickle)")),
            }
        }
    }

    /// One instruction; the pickle's value after the last.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let code = self.take(1)?.start;
        match self.bytes[code] {
            b'.' => return self.pop().map(Some),
            // A protocol's number, a frame's length.
            0x80 => {
                self.take(1)?;
            }
            0x95 => {
                self.take(8)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.marked()?),
            b'2' => self.stack.push(self.last()?),
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Int(1))?,
            0x89 => self.push(Value::Int(0))?,
            code @ (b'K' | b'M' | b'J' | 0x8A | b'I' | b'L') => self.number(code)?,
            code @ (b'U' | b'C' | 0x8C | b'T' | b'B' | b'X' | 0x8D | 0x8E | 0x96) => {
                self.text(code)?;
            }
            code @ (b']' | b')' | b'l' | b't' | 0x85..=0x87 | b'}' | b'd') => {
                self.container(code)?;
            }
            code @ (b'a' | b'e' | b's' | b'u') => self.fill(code)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(module, name))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.values[module], &self.values[name]) {
                    (Value::Bytes(module), Value::Bytes(name)) => {
                        self.push(Value::Global(module.clone(), name.clone()))?;
                    }
                    _ => return Err("a function's name is no text".into()),
                }
            }
            // Calls a function, makes an object: kept, not done.
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.push(Value::Call {
                    function,
                    arguments,
                    state: None,
                })?;
            }
            b'b' => {
                let (given, object) = (self.pop()?, self.last()?);
                if let Value::Call { state, .. } = &mut self.values[object] {
                    *state = Some(given);
                }
            }
            code @ (b'q' | b'r' | b'h' | b'j' | 0x94) => self.remember(code)?,
            code => {
                return Err(format!(
                    "instruction {code:#04x} is not among those read here"
                ));
            }
        }
        Ok(None)
    }

    fn number(&mut self, code: u8) -> Result<(), String> {
        let number = match code {
            b'K' => self.word(1)? as i64,
            b'M' => self.word(2)? as i64,
            b'J' => i64::from(self.word(4)? as u32 as i32),
            0x8A => {
                let len = self.word(1)? as usize;
                let range = self.take(len)?;
                let bytes = &self.bytes[range];
                if bytes.len() > 8 {
                    return Err("a number of more than 64 bits".into());
                }
                let sign = bytes.last().is_some_and(|&last| last & 0x80 != 0);
                let mut word = [if sign { 0xFF } else { 0 }; 8];
                word[..bytes.len()].copy_from_slice(bytes);
                i64::from_le_bytes(word)
            }
            _ => {
                let line = self.line()?;
                let text = std::str::from_utf8(&self.bytes[line]).unwrap_or("");
                let text = text.trim_end_matches('L');
                text.parse().map_err(|_| "a number that is none")?
            }
        };
        self.push(Value::Int(number))
    }

    fn text(&mut self, code: u8) -> Result<(), String> {
        let width = match code {
            b'U' | b'C' | 0x8C => 1,
            b'T' | b'B' | b'X' => 4,
            _ => 8,
        };
        let len = usize::try_from(self.word(width)?).unwrap_or(usize::MAX);
        let range = self.take(len)?;
        self.push(Value::Bytes(range))
    }

    fn container(&mut self, code: u8) -> Result<(), String> {
        let value = match code {
            b']' | b')' => Value::List(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            b'l' | b't' => Value::List(self.marked()?),
            b'd' => Value::Dict(pairs(&self.marked()?)?),
            _ => {
                let len = usize::from(code - 0x84);
                let start = self.stack.len().checked_sub(len).ok_or(SHORT)?;
                Value::List(self.stack.split_off(start))
            }
        };
        self.push(value)
    }

    /// Adds what lies on the stack to the list or dictionary below it.
    fn fill(&mut self, code: u8) -> Result<(), String> {
        let new = match code {
            b'a' => vec![self.pop()?],
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            _ => self.marked()?,
        };
        let into = self.last()?;
        match (&mut self.values[into], code) {
            (Value::List(items), b'a' | b'e') => items.extend(new),
            (Value::Dict(items), b's' | b'u') => items.extend(pairs(&new)?),
            _ => return Err("values are added to what holds none".into()),
        }
        Ok(())
    }

    fn remember(&mut self, code: u8) -> Result<(), String> {
        let key = match code {
            b'q' | b'h' => self.word(1)?,
            b'r' | b'j' => self.word(4)?,
            _ => self.memo.len() as u64,
        };
        if let b'h' | b'j' = code {
            let known = self
                .memo
                .get(&key)
                .ok_or("a value that was not remembered")?;
            self.stack.push(*known);
        } else {
            let last = self.last()?;
            self.memo.insert(key, last);
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.values.len() >= MAX_VALUES {
            return Err(format!("it holds more than {MAX_VALUES} values"));
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.stack.pop().ok_or_else(|| SHORT.into())
    }

    fn last(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| SHORT.into())
    }

    /// What lies above the last mark.
    fn marked(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or(SHORT)?))
    }

    fn take(&mut self, len: usize) -> Result<Range<usize>, String> {
        let start = self.at;
        let end = start
            .checked_add(len)
            .filter(|&end| end <= self.bytes.len());
        self.at = end.ok_or("it ends too early")?;
        Ok(start..self.at)
    }

    /// A little-endian number of at most 8 bytes.
    fn word(&mut self, len: usize) -> Result<u64, String> {
        let range = self.take(len)?;
        let mut word = [0; 8];
        word[..len].copy_from_slice(&self.bytes[range]);
        Ok(u64::from_le_bytes(word))
    }

    fn line(&mut self) -> Result<Range<usize>, String> {
        let rest = &self.bytes[self.at..];
        let len = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or("it ends too early")?;
        let line = self.take(len + 1)?;
        Ok(line.start..line.end - 1)
    }
}

const SHORT: &str = "a value is missing on the stack";

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    let pairs = items.chunks_exact(2);
    match pairs.remainder() {
        [] => Ok(pairs.map(|pair| (pair[0], pair[1])).collect()),
        _ => Err("a key without a value".into()),
    }
}

#[cfg(test)]
mod tests;
