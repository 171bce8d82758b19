//! Bits per weight of single layers.

use super::names::is_named;
use crate::bits::WeightBits;
use serde::{Deserialize, Serialize};

/// Bits per weight of layers that have their own, by their names, in which `*` stands for any text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerBits(Vec<(String, WeightBits)>);

/// A text that gives no layers their bits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no NAME=BITS, with 16, 8, 4, 2 or 1 bits")]
pub struct LayerBitsError(String);

impl LayerBits {
    /// Takes names of layers and their bits; of several that a layer is named by, the last counts.
    #[must_use]
    pub fn new(layers: Vec<(String, WeightBits)>) -> Self {
        Self(layers)
    }

    /// Returns the bits of a layer that has its own.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<WeightBits> {
        let named = self
            .0
            .iter()
            .rev()
            .find(|(pattern, _)| is_named(pattern, name));
        named.map(|&(_, bits)| bits)
    }

    /// Returns the layers in the order in which they were named.
    pub fn iter(&self) -> impl Iterator<Item = (&str, WeightBits)> {
        self.0.iter().map(|(name, bits)| (name.as_str(), *bits))
    }

    /// Returns whether no layer has its own.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for LayerBits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let layers: Vec<String> = self
            .iter()
            .map(|(name, bits)| format!("{name}={bits}"))
            .collect();
        f.write_str(&layers.join(","))
    }
}

/// `conv1=4,fc=2`; lines will do as well as commas.
impl std::str::FromStr for LayerBits {
    type Err = LayerBitsError;

    fn from_str(text: &str) -> Result<Self, LayerBitsError> {
        let layer = |text: &str| -> Result<(String, WeightBits), LayerBitsError> {
            let error = || LayerBitsError(text.to_owned());
            // Names may hold the sign.
            let (name, bits) = text.rsplit_once('=').ok_or_else(error)?;
            let bits = bits.trim().parse().map_err(|_| error())?;
            match name.trim() {
                "" => Err(error()),
                name => Ok((name.to_owned(), bits)),
            }
        };
        let parts = text.split([',', '\n']).map(str::trim);
        let layers = parts.filter(|part| !part.is_empty()).map(layer);
        Ok(Self(layers.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_from_commas_and_lines_and_the_last_of_a_name_counts() {
        let layers: LayerBits = "a/Conv=4, b=c=2\nfc=1,a/Conv=8,\n".parse().unwrap();
        assert_eq!(layers.of("a/Conv"), Some(WeightBits::B8));
        assert_eq!(layers.of("b=c"), Some(WeightBits::B2));
        assert_eq!(layers.of("fc"), Some(WeightBits::B1));
        assert_eq!(layers.of("other"), None);
        let patterns: LayerBits = "*=4,block2/*=2".parse().unwrap();
        assert_eq!(patterns.of("block2/conv"), Some(WeightBits::B2));
        assert_eq!(patterns.of("fc"), Some(WeightBits::B4));
        assert_eq!(layers.to_string(), "a/Conv=4,b=c=2,fc=1,a/Conv=8");
        for wrong in ["a", "a=3", "=4", "a=", "a=32"] {
            let error = wrong.parse::<LayerBits>().unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
