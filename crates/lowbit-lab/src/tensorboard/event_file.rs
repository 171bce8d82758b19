//! The part of TensorBoard's file format that scalars need: records as TensorFlow frames them (a length, its checksum, the
//! bytes, their checksum), each an `Event` of `tensorflow/core/util/event.proto`.

use prost::{Message, Oneof};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    // One of several kinds: it is written where it is zero, too.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    /// 1 is `START`.
    #[prost(int32, tag = "1")]
    status: i32,
}

/// A file of scalars that grows.
#[derive(Debug)]
pub(super) struct EventFile(File);

impl EventFile {
    /// Makes a file of its own in `folder`. What TensorBoard has read there of `step` and later steps gives way to it.
    pub(super) fn create(folder: &Path, step: usize) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let now = since_1970();
        // TensorBoard reads the files of a folder in the order of their names.
        let (seconds, nanos) = (now.as_secs(), now.subsec_nanos());
        let process = std::process::id();
        let name = format!("events.out.tfevents.{seconds}.{nanos:09}.{process}");
        let mut file = Self(File::create_new(folder.join(name))?);
        file.append(0, What::FileVersion("brain.Event:2".into()))?;
        file.append(step, What::SessionLog(SessionLog { status: 1 }))?;
        Ok(file)
    }

    /// Appends the values of one step.
    pub(super) fn scalars(&mut self, step: usize, values: &[(&str, f64)]) -> io::Result<()> {
        let value = values.iter().map(|&(tag, value)| Value {
            tag: tag.to_owned(),
            simple_value: Some(value as f32),
        });
        let value = value.collect();
        self.append(step, What::Summary(Summary { value }))
    }

    fn append(&mut self, step: usize, what: What) -> io::Result<()> {
        let event = Event {
            wall_time: since_1970().as_secs_f64(),
            step: step as i64,
            what: Some(what),
        };
        self.0.write_all(&record(&event.encode_to_vec()))
    }
}

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let checksum = |bytes: &[u8]| masked(crc32c(bytes)).to_le_bytes();
    [&length[..], &checksum(&length), bytes, &checksum(bytes)].concat()
}

/// A checksum of bytes that hold checksums is masked, so that it is not one of them.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: a record has some 200 bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    });
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standards() {
        // RFC 3720, B.4, and the check value of catalogs.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(masked(0), 0xa282_ead8);
    }

    /// Event(wall_time=1.5, step=3, summary=Summary(value=[Summary.Value(tag="a/b", simple_value=0.0)])) as TensorBoard's own
    /// `SerializeToString` and `RecordWriter` write it (bench/peers/golden_events.py).
    #[test]
    fn a_record_has_the_bytes_of_tensorboard() {
        let value = Value {
            tag: "a/b".into(),
            simple_value: Some(0.0),
        };
        let event = Event {
            wall_time: 1.5,
            step: 3,
            what: Some(What::Summary(Summary { value: vec![value] })),
        };
        let hex: String = record(&event.encode_to_vec())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str =
        "19000000000000008bf1082809000000000000f83f10032a0c0a0a0a03612f62150000000064869293";
}
