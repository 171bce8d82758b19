//! A federation between two rounds, as a file: enough to go on with the same bits.
//!
//! `LBFC`, version, length of a JSON document, the document, f32 vectors and messages as they are, CRC-32.

use crate::server::Broadcast;
use crate::simulate::{FedError, Federation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const MAGIC: [u8; 8] = *b"LBFC\x01\0\0\0";

/// The part that is JSON.
#[derive(Serialize, Deserialize)]
struct Document {
    /// Settings that decide the result, and what has been recorded so far: the caller's.
    identity: BTreeMap<String, String>,
    records: String,
    round: u32,
    digest: u64,
    in_step: BTreeMap<u32, u32>,
    /// Numbers in the vectors global, reference, first, second.
    vectors: [usize; 4],
    /// Client and numbers.
    residuals: Vec<(u32, usize)>,
    /// Client and numbers of its own tensors; files of versions that knew none have none.
    #[serde(default)]
    own: Vec<(u32, usize)>,
    /// Round and bytes.
    log: Vec<(u32, usize)>,
}

/// Writes `federation`, the caller's `records`, and the settings by which a later call knows that it may go on.
///
/// # Errors
/// [`FedError::Format`] when the file cannot be written.
pub fn save(
    path: &Path,
    federation: &Federation<'_>,
    identity: &BTreeMap<String, String>,
    records: &str,
) -> Result<(), FedError> {
    let server = &federation.server;
    let vectors = [
        &server.global,
        &server.reference,
        &server.memory.first,
        &server.memory.second,
    ];
    let document = Document {
        identity: identity.clone(),
        records: records.to_owned(),
        round: server.round,
        digest: server.schema().digest(),
        in_step: server.in_step.clone(),
        vectors: vectors.map(Vec::len),
        residuals: lengths(&federation.residuals),
        own: lengths(&federation.own),
        log: server
            .log
            .iter()
            .map(|sent| (sent.round, sent.bytes.len()))
            .collect(),
    };
    let json = serde_json::to_vec(&document).expect("plain data");
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend((json.len() as u64).to_le_bytes());
    out.extend(json);
    let of_clients = federation.residuals.values().chain(federation.own.values());
    for vector in vectors.into_iter().chain(of_clients) {
        out.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
    }
    for sent in &server.log {
        out.extend(&sent.bytes);
    }
    let checksum = crc32fast::hash(&out);
    out.extend(checksum.to_le_bytes());
    lowbit::format::write_atomically(path, &out)?;
    Ok(())
}

fn lengths(vectors: &BTreeMap<u32, Vec<f32>>) -> Vec<(u32, usize)> {
    let length = |(&client, vector): (&u32, &Vec<f32>)| (client, vector.len());
    vectors.iter().map(length).collect()
}

/// The settings that a checkpoint was written with; none if it cannot be read.
#[must_use]
pub fn identity(path: &Path) -> Option<BTreeMap<String, String>> {
    let bytes = std::fs::read(path).ok()?;
    let (length, rest) = bytes.strip_prefix(&MAGIC)?.split_first_chunk::<8>()?;
    let json = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let document: Document = serde_json::from_slice(json).ok()?;
    Some(document.identity)
}

/// Brings `federation`, fresh with the same settings, to where the file was written; the caller's records.
///
/// # Errors
/// [`FedError::Checkpoint`] for a file that cannot be read, is damaged, or was written with other settings.
pub fn restore(
    path: &Path,
    federation: &mut Federation<'_>,
    identity: &BTreeMap<String, String>,
) -> Result<String, FedError> {
    let refuse = |reason: String| FedError::Checkpoint {
        path: path.to_owned(),
        reason,
    };
    let damaged =
        || refuse("not a usable checkpoint of a federation: remove it to start again".into());
    let bytes = std::fs::read(path).map_err(|error| refuse(format!("cannot read: {error}")))?;
    let (body, checksum) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err(damaged());
    }
    let rest = body.strip_prefix(&MAGIC).ok_or_else(damaged)?;
    let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| damaged())?;
    let (json, mut rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
    let document: Document = serde_json::from_slice(json).map_err(|_| damaged())?;
    for (key, expected) in identity {
        let found = document.identity.get(key).map_or("nothing", String::as_str);
        if found != expected {
            return Err(refuse(format!(
                "made with {key} = {found}, this run has {expected}: drop --resume, or use the same settings"
            )));
        }
    }
    let schema = federation.server.schema();
    if document.digest != schema.digest() || document.vectors[..2] != [schema.len(); 2] {
        return Err(refuse("made with another model: drop --resume".into()));
    }
    let mut floats = |count: usize| -> Result<Vec<f32>, FedError> {
        let bytes = count.checked_mul(4).ok_or_else(damaged)?;
        let (taken, left) = rest.split_at_checked(bytes).ok_or_else(damaged)?;
        rest = left;
        let float = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
        Ok(taken.as_chunks::<4>().0.iter().map(float).collect())
    };
    let [global, reference, first, second] = document.vectors;
    let server = &mut federation.server;
    server.global = floats(global)?;
    server.reference = floats(reference)?;
    server.memory.first = floats(first)?;
    server.memory.second = floats(second)?;
    federation.residuals.clear();
    for (client, count) in document.residuals {
        federation.residuals.insert(client, floats(count)?);
    }
    federation.own.clear();
    for (client, count) in document.own {
        if count != federation.fresh.len() {
            return Err(damaged());
        }
        federation.own.insert(client, floats(count)?);
    }
    server.log.clear();
    for (round, count) in document.log {
        let (bytes, left) = rest.split_at_checked(count).ok_or_else(damaged)?;
        rest = left;
        server.log.push(Broadcast {
            round,
            bytes: bytes.to_vec(),
        });
    }
    server.round = document.round;
    server.in_step = document.in_step;
    Ok(document.records)
}
