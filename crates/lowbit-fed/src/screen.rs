//! What of the clients' messages is taken, and why the rest is not.

use crate::schema::{Role, Schema};
use crate::wire::{self, Header, Kind, Parts, WireError};
use serde::{Deserialize, Serialize};

/// Why a client's work did not count in a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Failure {
    /// It was gone before it answered.
    DroppedOut,
    /// It answered after the deadline.
    Late {
        /// Seconds that it took.
        seconds: f64,
    },
    /// Its training failed.
    Training {
        /// Why.
        text: String,
    },
    /// Its message cannot be read: cut off, of another model, numbers that are not finite.
    Message {
        /// Why.
        text: String,
    },
    /// Its update is far larger than the others'.
    TooLarge {
        /// Length of its update.
        norm: f64,
        /// The median of all.
        typical: f64,
    },
}

/// A client that did not count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientFailure {
    /// The client.
    pub client: u32,
    /// Why.
    #[serde(flatten)]
    pub failure: Failure,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::DroppedOut => f.write_str("dropped out"),
            Self::Late { seconds } => write!(f, "answered after {seconds:.1} s, too late"),
            Self::Training { text } | Self::Message { text } => f.write_str(text),
            Self::TooLarge { norm, typical } => {
                write!(
                    f,
                    "its update is {:.0} times as large as the others'",
                    norm / typical
                )
            }
        }
    }
}

/// An update this many times as long as the median one is refused.
pub const LARGEST: f64 = 10.0;

/// A number of an update beyond this is refused: the model with it could not be sent on.
const LARGEST_NUMBER: f32 = 1e30;

/// Reads `client`'s message for `round` into `values`.
///
/// # Errors
/// [`Failure::Message`] for one that cannot be read, or is not that client's for that round.
pub fn open(
    schema: &Schema,
    (client, round): (u32, u32),
    bytes: &[u8],
    values: &mut [f32],
) -> Result<(Header, Parts), Failure> {
    let refuse = |text: String| Failure::Message { text };
    let read = wire::decode(schema, bytes, values);
    let (header, parts) = read.map_err(|error: WireError| refuse(error.to_string()))?;
    if header.kind != Kind::Update || (header.round, header.base) != (round, round) {
        return Err(refuse(format!(
            "its message is of round {} to the model of round {}, this is round {round}",
            header.round, header.base
        )));
    }
    if header.sender != client || header.images == 0 {
        return Err(refuse(format!(
            "its message says client {} with {} images",
            header.sender, header.images
        )));
    }
    if let Some(index) = values.iter().position(|x| x.abs() > LARGEST_NUMBER) {
        let number = values[index];
        return Err(refuse(format!("its number {index} is {number:e}")));
    }
    let statistics = schema.of_role(Role::Statistic);
    for index in statistics {
        let tensor = &schema.tensors()[index];
        let negative = |value: &f32| *value < 0.0;
        let span = schema.span(index..index + 1);
        if tensor.name.ends_with(".running_var") && values[span].iter().any(negative) {
            return Err(refuse(format!("{} is negative", tensor.name)));
        }
    }
    Ok((header, parts))
}

/// Length of what an update changes.
#[must_use]
pub fn norm(schema: &Schema, values: &[f32]) -> f64 {
    let square = |&x: &f32| f64::from(x) * f64::from(x);
    values[schema.trained()]
        .iter()
        .map(square)
        .sum::<f64>()
        .sqrt()
}

/// For each length, whether it is too large beside the others; with fewer than three there is nothing to compare.
#[must_use]
pub fn too_large(norms: &[f64]) -> Vec<Option<Failure>> {
    let mut sorted = norms.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let typical = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    norms
        .iter()
        .map(|&norm| {
            (norms.len() >= 3 && norm > LARGEST * typical)
                .then_some(Failure::TooLarge { norm, typical })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_update_of_several_may_be_too_large() {
        let found = too_large(&[1.0, 120.0, 1.5]);
        assert_eq!(
            found[1],
            Some(Failure::TooLarge {
                norm: 120.0,
                typical: 1.5
            })
        );
        assert_eq!((&found[0], &found[2]), (&None, &None));
        assert_eq!(
            found[1].as_ref().unwrap().to_string(),
            "its update is 80 times as large as the others'"
        );
        assert_eq!(too_large(&[1.0, 120.0]), [None, None]);
        assert_eq!(too_large(&[]), []);
    }
}
