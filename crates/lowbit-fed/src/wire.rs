//! Messages: what really goes from server to client and back, to the byte (docs/wire-format.md).

use crate::codec::{self, Codec, CodecError, Dither, MessageBits, Rounding};
use crate::schema::{Role, Schema};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// First bytes of every message.
pub const MAGIC: [u8; 4] = *b"LBFM";
/// Version of the messages that this build writes and reads.
pub const VERSION: u8 = 1;
/// The sender that is the server.
pub const SERVER: u32 = u32::MAX;

const HEADER: usize = 48;
const ENTRY: usize = 8;
const CHECKSUM: usize = 4;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Start from the fresh weights of this seed, which every lowbit makes alike.
    Seed(u64),
    /// All values as they are.
    Model,
    /// Differences to the model of round [`Header::base`]; statistics as they are.
    Update,
}

/// What stands before the numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Header {
    /// What the message is for.
    pub kind: Kind,
    /// Round, from 1.
    pub round: u32,
    /// Round of the model that an update changes.
    pub base: u32,
    /// Client, or [`SERVER`].
    pub sender: u32,
    /// Training images of the client; 0 from the server.
    pub images: u32,
    /// What training came to; zeros from the server.
    pub report: Report,
}

/// What a client says about its training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Mean loss of the last local epoch, while the weights changed.
    pub train_loss: f32,
    /// Accuracy (0–1) of the last local epoch, while the weights changed.
    pub train_accuracy: f32,
    /// Accuracy (0–1) of the client's model on the images that it keeps apart.
    pub local_test_accuracy: f32,
}

/// Bytes by what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Headers of messages and entries, checksums.
    pub headers: u64,
    /// Scales, magnitudes, seeds of rotations.
    pub scales: u64,
    /// Differences (in a whole model: values) of weights.
    pub codes: u64,
    /// Differences of biases and of batch-norm's scale and shift.
    pub vectors: u64,
    /// Batch-norm's running statistics, quantizers' steps.
    pub statistics: u64,
}

impl Parts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.headers + self.scales + self.codes + self.vectors + self.statistics
    }

    /// So many times each.
    #[must_use]
    pub fn times(&self, count: u64) -> Self {
        Self {
            headers: count * self.headers,
            scales: count * self.scales,
            codes: count * self.codes,
            vectors: count * self.vectors,
            statistics: count * self.statistics,
        }
    }
}

impl std::ops::AddAssign for Parts {
    fn add_assign(&mut self, other: Self) {
        self.headers += other.headers;
        self.scales += other.scales;
        self.codes += other.codes;
        self.vectors += other.vectors;
        self.statistics += other.statistics;
    }
}

/// Why bytes are not a message of this federation.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Fewer bytes than the header or the lengths in it say, or more.
    #[error(
        "the message has {found} bytes, expected {expected}: it was cut off or joined with another"
    )]
    Length {
        /// Bytes there are.
        found: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// Not a message.
    #[error("the message begins with {0:02x?}, expected \"LBFM\": not one of lowbit's")]
    Magic([u8; 4]),
    /// Another version.
    #[error(
        "the message has version {found}, this lowbit reads version {VERSION}: update the older side"
    )]
    Version {
        /// Its version.
        found: u8,
    },
    /// Another model.
    #[error(
        "the message is of a model with digest {found:016x}, this one has {expected:016x}: both sides need the same model and widths"
    )]
    Schema {
        /// Its digest.
        found: u64,
        /// This side's.
        expected: u64,
    },
    /// Bits changed on the way.
    #[error(
        "the message's checksum is {found:08x}, its bytes give {expected:08x}: it was damaged on the way"
    )]
    Checksum {
        /// As sent.
        found: u32,
        /// As computed.
        expected: u32,
    },
    /// A header that makes no sense.
    #[error("the message's {field} is {value}")]
    Field {
        /// Which.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// Entries that do not cover the tensors once each.
    #[error("entry {entry} covers tensors up to {end} of {tensors}")]
    Cover {
        /// Which.
        entry: usize,
        /// Where it ends.
        end: usize,
        /// How many there are.
        tensors: usize,
    },
    /// Numbers that cannot be read.
    #[error("entry {entry} ({tensor} and on): {source}")]
    Codec {
        /// Which.
        entry: usize,
        /// Its first tensor.
        tensor: String,
        /// What is wrong.
        source: CodecError,
    },
}

/// How a side encodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoding {
    /// Width of the weights' differences.
    pub bits: MessageBits,
    /// Whether the sender keeps what was lost and adds it to the next message. Below 4 bits rounding is then to the nearest
    /// level (of clients, whose messages are averaged, by [`Rounding::NearestUnbiased`]), else, and from 4 bits up always,
    /// stochastic.
    pub feedback: bool,
    /// Whether differences are rotated below 4 bits.
    pub rotate: bool,
}

impl Encoding {
    /// The entries of a message: codec and tensors.
    fn entries(self, schema: &Schema, kind: Kind, sender: u32) -> Vec<(Codec, Range<usize>)> {
        let [matrix, vector, statistic] =
            [Role::Matrix, Role::Vector, Role::Statistic].map(|role| schema.of_role(role));
        let entries = match (kind, self.bits) {
            (Kind::Seed(_), _) => vec![],
            (Kind::Model, _) | (_, MessageBits::Float) => vec![
                (Codec::Plain, matrix),
                (Codec::Plain, vector),
                (Codec::Plain, statistic),
            ],
            (Kind::Update, MessageBits::Ternary(share)) => vec![
                (Codec::Ternary { share }, matrix.start..vector.end),
                (Codec::Half, statistic),
            ],
            (Kind::Update, MessageBits::Uniform(bits)) => {
                let rounding = match self.feedback && bits < 4 {
                    // The server's message is one; those of clients are averaged.
                    true if sender == SERVER => Rounding::Nearest,
                    true => Rounding::NearestUnbiased,
                    false => Rounding::Stochastic,
                };
                let codec = match self.rotate && bits < 4 {
                    true => Codec::Rotated { bits, rounding },
                    false => Codec::Rows { bits, rounding },
                };
                vec![
                    (codec, matrix),
                    (Codec::Plain, vector),
                    (Codec::Plain, statistic),
                ]
            }
        };
        entries
            .into_iter()
            .filter(|(_, tensors)| !schema.span(tensors.clone()).is_empty())
            .collect()
    }
}

/// Writes a message; `values` is empty for [`Kind::Seed`], else as long as the schema.
///
/// # Panics
/// If `values` has another length.
#[must_use]
pub fn encode(
    schema: &Schema,
    header: &Header,
    values: &[f32],
    encoding: Encoding,
    dither: &mut Dither,
) -> Vec<u8> {
    let entries = encoding.entries(schema, header.kind, header.sender);
    let mut out = Vec::with_capacity(HEADER + 64 + values.len());
    out.extend(MAGIC);
    let kind = match header.kind {
        Kind::Seed(_) => 0,
        Kind::Model => 1,
        Kind::Update => 2,
    };
    out.extend([VERSION, kind]);
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend(schema.digest().to_le_bytes());
    let Report {
        train_loss,
        train_accuracy,
        local_test_accuracy,
    } = header.report;
    for word in [header.round, header.base, header.sender, header.images, 0] {
        out.extend(word.to_le_bytes());
    }
    for number in [train_loss, train_accuracy, local_test_accuracy] {
        out.extend(number.to_le_bytes());
    }
    if let Kind::Seed(seed) = header.kind {
        out.extend(seed.to_le_bytes());
    } else {
        assert_eq!(values.len(), schema.len(), "values of this schema");
    }
    for (codec, tensors) in entries {
        let (id, bits) = codec.id();
        out.extend([id, bits]);
        out.extend((tensors.len() as u16).to_le_bytes());
        let place = out.len();
        out.extend([0; 4]);
        let rows = schema.rows(tensors.clone());
        codec.encode(&values[schema.span(tensors)], rows, dither, &mut out);
        let length = (out.len() - place - 4) as u32;
        out[place..place + 4].copy_from_slice(&length.to_le_bytes());
    }
    let body = (out.len() - HEADER) as u32;
    out[32..36].copy_from_slice(&body.to_le_bytes());
    let checksum = crc32fast::hash(&out);
    out.extend(checksum.to_le_bytes());
    out
}

/// Reads a message into `values`, which is as long as the schema (and left alone by [`Kind::Seed`]).
///
/// # Errors
/// [`WireError`] for anything that [`encode`] does not write; `values` may then hold anything. Nothing is allocated.
pub fn decode(
    schema: &Schema,
    bytes: &[u8],
    values: &mut [f32],
) -> Result<(Header, Parts), WireError> {
    let (header, entries, mut body) = open(schema, bytes)?;
    let mut parts = Parts {
        headers: (HEADER + CHECKSUM) as u64,
        ..Parts::default()
    };
    if matches!(header.kind, Kind::Seed(_)) {
        parts.headers += 8;
        return Ok((header, parts));
    }
    let tensors = schema.tensors().len();
    let mut first = 0;
    for entry in 0..usize::from(entries) {
        let (head, rest) = body.split_first_chunk::<ENTRY>().ok_or(WireError::Length {
            found: body.len(),
            expected: ENTRY,
        })?;
        let end = first + usize::from(u16::from_le_bytes([head[2], head[3]]));
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if end > tensors || end == first {
            return Err(WireError::Cover {
                entry,
                end,
                tensors,
            });
        }
        let (coded, rest) = rest.split_at_checked(length).ok_or(WireError::Length {
            found: rest.len(),
            expected: length,
        })?;
        let span = schema.span(first..end);
        let rows = schema.rows(first..end);
        let id = (head[0], head[1]);
        let found = codec::decode(id, coded, rows, &mut values[span]).map_err(|source| {
            WireError::Codec {
                entry,
                tensor: schema.tensors()[first].name.clone(),
                source,
            }
        })?;
        parts.headers += ENTRY as u64;
        parts.scales += found.scales as u64;
        *match schema.tensors()[first].role {
            Role::Matrix => &mut parts.codes,
            Role::Vector => &mut parts.vectors,
            Role::Statistic => &mut parts.statistics,
        } += found.codes as u64;
        (first, body) = (end, rest);
    }
    let covered = schema.span(0..first).len();
    if covered != schema.len() || !body.is_empty() {
        return Err(WireError::Cover {
            entry: usize::from(entries),
            end: first,
            tensors,
        });
    }
    Ok((header, parts))
}

/// Checks all that stands around the numbers.
fn open<'a>(schema: &Schema, bytes: &'a [u8]) -> Result<(Header, u16, &'a [u8]), WireError> {
    let least = HEADER + CHECKSUM;
    let short = WireError::Length {
        found: bytes.len(),
        expected: least,
    };
    let (head, rest) = bytes.split_first_chunk::<HEADER>().ok_or(short.clone())?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if head[..4] != MAGIC {
        return Err(WireError::Magic([head[0], head[1], head[2], head[3]]));
    }
    if head[4] != VERSION {
        return Err(WireError::Version { found: head[4] });
    }
    let expected = least.saturating_add(word(32) as usize);
    if bytes.len() != expected {
        let found = bytes.len();
        return Err(WireError::Length { found, expected });
    }
    let (body, checksum) = rest.split_last_chunk::<CHECKSUM>().ok_or(short)?;
    let found = u32::from_le_bytes(*checksum);
    let expected = crc32fast::hash(&bytes[..bytes.len() - CHECKSUM]);
    if found != expected {
        return Err(WireError::Checksum { found, expected });
    }
    let digest = u64::from(word(8)) | u64::from(word(12)) << 32;
    if digest != schema.digest() {
        return Err(WireError::Schema {
            found: digest,
            expected: schema.digest(),
        });
    }
    let field = |field, value: String| Err(WireError::Field { field, value });
    let kind = match (head[5], body.first_chunk::<8>()) {
        (0, Some(seed)) if body.len() == 8 => Kind::Seed(u64::from_le_bytes(*seed)),
        (1, _) => Kind::Model,
        (2, _) => Kind::Update,
        (other, _) => return field("kind", other.to_string()),
    };
    let number = |at| f32::from_bits(word(at));
    let report = Report {
        train_loss: number(36),
        train_accuracy: number(40),
        local_test_accuracy: number(44),
    };
    if !report.train_loss.is_finite() {
        return field("loss", report.train_loss.to_string());
    }
    for share in [report.train_accuracy, report.local_test_accuracy] {
        if !(0.0..=1.0).contains(&share) {
            return field("accuracy", share.to_string());
        }
    }
    let header = Header {
        kind,
        round: word(16),
        base: word(20),
        sender: word(24),
        images: word(28),
        report,
    };
    Ok((header, u16::from_le_bytes([head[6], head[7]]), body))
}

/// Changes `model` by an update, or replaces it: what every receiver of a message does, in the same order.
pub fn apply(schema: &Schema, kind: Kind, values: &[f32], model: &mut [f32]) {
    match kind {
        Kind::Seed(_) => {}
        Kind::Model => model.copy_from_slice(values),
        Kind::Update => {
            let trained = schema.trained();
            let (model, statistics) = model.split_at_mut(trained.end);
            for (x, &difference) in model.iter_mut().zip(&values[trained.clone()]) {
                *x += difference;
            }
            statistics.copy_from_slice(&values[trained.end..]);
        }
    }
}

#[cfg(test)]
mod tests;
