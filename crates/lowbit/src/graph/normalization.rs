//! How u8 pixels become the network's real input, and which integers stand for them.

use super::{Graph, GraphError};
use crate::quant::{ActivationParams, InputParams};
use serde::{Deserialize, Serialize};

/// How u8 pixels become the network's real input: `(x / 255 − mean) / std`, with one mean and std for all channels or one
/// of each per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    mean: PerChannel,
    std: PerChannel,
}

/// Written as one number where all channels share it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum PerChannel {
    All(f32),
    Each(Vec<f32>),
}

impl PerChannel {
    fn values(&self) -> &[f32] {
        match self {
            Self::All(value) => std::slice::from_ref(value),
            Self::Each(values) => values,
        }
    }
}

impl Default for Normalization {
    /// Mean and std of ½: pixels between −1 and 1.
    fn default() -> Self {
        Self::uniform(0.5, 0.5)
    }
}

impl Normalization {
    /// Returns a normalization that treats all channels alike.
    #[must_use]
    pub fn uniform(mean: f32, std: f32) -> Self {
        Self {
            mean: PerChannel::All(mean),
            std: PerChannel::All(std),
        }
    }

    /// Returns a normalization with a mean and a std for each channel, as ImageNet's.
    #[must_use]
    pub fn per_channel(mean: &[f32], std: &[f32]) -> Self {
        Self {
            mean: PerChannel::Each(mean.to_vec()),
            std: PerChannel::Each(std.to_vec()),
        }
    }

    /// Returns what is subtracted from pixels in 0..1, once or per channel.
    #[must_use]
    pub fn mean(&self) -> &[f32] {
        self.mean.values()
    }

    /// Returns what divides the difference, once or per channel.
    #[must_use]
    pub fn std(&self) -> &[f32] {
        self.std.values()
    }

    /// Whether it is one of images with `channels` channels.
    ///
    /// # Errors
    /// [`GraphError::Whole`] with the reason.
    pub(super) fn check(&self, graph: &str, channels: usize) -> Result<(), GraphError> {
        let whole = |reason: String| GraphError::Whole {
            graph: graph.to_owned(),
            reason,
        };
        for (what, values) in [("mean", &self.mean), ("std", &self.std)] {
            let found = values.values().len();
            if matches!(values, PerChannel::Each(_)) && found != channels {
                return Err(whole(format!(
                    "the normalization has a {what} for {found} channels, the input {channels}"
                )));
            }
        }
        let is_usable = self.mean().iter().all(|mean| mean.is_finite())
            && self.std().iter().all(|std| std.is_finite() && *std > 0.0);
        if !is_usable {
            let reason = "the normalization needs a finite mean and a positive std";
            return Err(whole(reason.into()));
        }
        Ok(())
    }

    /// The first version of the format that can say it.
    #[cfg(feature = "format")]
    pub(crate) fn format_version(&self) -> u32 {
        match (&self.mean, &self.std) {
            (PerChannel::All(_), PerChannel::All(_)) => 1,
            (PerChannel::All(_) | PerChannel::Each(_), _) => 2,
        }
    }
}

/// What the pixels of a graph's images stand for.
#[derive(Clone, Debug)]
pub(crate) struct Pixels {
    /// `x ↦ x·scale + shift`, one for all channels or one for each.
    pub(crate) maps: Vec<(f32, f32)>,
    /// What the integers that stand for the pixels mean. The real zero of a pixel may lie between two of them.
    pub(crate) params: InputParams,
    /// Per channel, the integer of each pixel value; empty where pixels stand for themselves.
    tables: Vec<[u8; 256]>,
}

impl Pixels {
    pub(crate) fn of(graph: &Graph) -> Self {
        let (mean, std) = (graph.normalization().mean(), graph.normalization().std());
        let channels = mean.len().max(std.len());
        let maps: Vec<(f32, f32)> = (0..channels)
            .map(|c| {
                let (mean, std) = (mean[c % mean.len()], std[c % std.len()]);
                (1.0 / (255.0 * std), -mean / std)
            })
            .collect();
        if let [(scale, shift)] = maps[..] {
            return Self {
                params: exact(scale, shift),
                maps,
                tables: Vec::new(),
            };
        }
        // Channels that differ meet on the grid that covers all of them.
        let params = covering(&maps);
        Self::on_grid(maps, params)
    }

    /// The pixels of a model, whose image may have a grid of its own.
    pub(crate) fn of_model(graph: &Graph, grid: Option<ActivationParams>) -> Self {
        let pixels = Self::of(graph);
        let Some(grid) = grid else {
            return pixels;
        };
        let (mean, std) = (graph.normalization().mean(), graph.normalization().std());
        // In f32 and in this order, as programs prepare pixels for a model that rounds its input itself: where pixels lie in the
        // middle of two levels it matters. Pixels that are taken as they are have no rounding before.
        let real = |(c, &(scale, shift)): (usize, &(f32, f32)), x: u8| match scale {
            1.0 => f32::from(x) + shift,
            _ => (f32::from(x) / 255.0 - mean[c % mean.len()]) / std[c % std.len()],
        };
        let level = |channel: (usize, &(f32, f32)), x: usize| {
            let level = (real(channel, x as u8) / grid.scale).round_ties_even();
            (level + f32::from(grid.zero_point)).clamp(0.0, 255.0) as u8
        };
        let channels = pixels.maps.iter().enumerate();
        let tables = channels.map(|channel| std::array::from_fn(|x| level(channel, x)));
        Self::of_tables(tables.collect(), pixels.maps, grid)
    }

    /// Tables are dropped where pixels stand for themselves.
    fn of_tables(
        mut tables: Vec<[u8; 256]>,
        maps: Vec<(f32, f32)>,
        params: ActivationParams,
    ) -> Self {
        let is_identity =
            |table: &[u8; 256]| (0..=255u8).all(|pixel| table[usize::from(pixel)] == pixel);
        if tables.iter().all(is_identity) {
            tables.clear();
        }
        Self {
            tables,
            maps,
            params: params.into(),
        }
    }

    /// Whether the integers of pixels are the pixels themselves.
    pub(crate) fn stand_for_themselves(&self) -> bool {
        self.tables.is_empty()
    }

    /// Pixels as the nearest levels of a grid.
    fn on_grid(maps: Vec<(f32, f32)>, params: ActivationParams) -> Self {
        let table = |&(scale, shift): &(f32, f32)| {
            std::array::from_fn(|x| {
                let real = x as f64 * f64::from(scale) + f64::from(shift);
                let level = (real / f64::from(params.scale)).round_ties_even();
                (level + f64::from(params.zero_point)).clamp(0.0, 255.0) as u8
            })
        };
        Self::of_tables(maps.iter().map(table).collect(), maps, params)
    }

    /// Writes the integers that stand for whole pixels.
    pub(crate) fn write_integers(&self, pixels: &[u8], out: &mut [u8]) {
        if self.tables.is_empty() {
            return out.copy_from_slice(pixels);
        }
        let channels = self.tables.iter().cycle();
        for ((out, &x), table) in out.iter_mut().zip(pixels).zip(channels) {
            *out = table[usize::from(x)];
        }
    }

    /// What each pixel value is to the network, per channel.
    #[cfg(any(test, feature = "train"))]
    pub(crate) fn reals(&self) -> Vec<[f32; 256]> {
        let table = |&(scale, shift): &(f32, f32)| {
            std::array::from_fn(|x| (x as f32).mul_add(scale, shift))
        };
        self.maps.iter().map(table).collect()
    }
}

/// The grid that covers the pixels of all channels.
fn covering(maps: &[(f32, f32)]) -> ActivationParams {
    let ends = maps
        .iter()
        .flat_map(|&(scale, shift)| [shift, 255.0 * scale + shift]);
    let low = ends.clone().fold(f32::INFINITY, f32::min);
    let high = ends.fold(f32::NEG_INFINITY, f32::max);
    ActivationParams::covering(low, high, u8::MAX)
}

/// Pixels that stand for themselves.
fn exact(scale: f32, shift: f32) -> InputParams {
    let zero = -f64::from(shift) / f64::from(scale);
    let zero_point = zero.round_ties_even().clamp(0.0, 255.0) as u8;
    InputParams {
        params: ActivationParams { scale, zero_point },
        residual: f64::from(zero_point) - zero,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{GraphBuilder, Op};
    use crate::shape::Shape;

    fn graph(normalization: Normalization) -> Result<Graph, GraphError> {
        let classes = ["a".to_owned(), "b".to_owned()];
        let mut graph = GraphBuilder::new("test", Shape::new(2, 2, 3), &classes);
        let x = graph.add("flatten", Op::Flatten, &[0]);
        graph.add("fc", Op::linear(2), &[x]);
        graph.normalization(normalization).finish()
    }

    #[test]
    fn channels_of_their_own_meet_on_one_grid_to_half_a_step() {
        let (mean, std) = ([0.485f64, 0.456, 0.406], [0.229f64, 0.224, 0.225]);
        let [means, stds] = [mean, std].map(|values| values.map(|x| x as f32));
        let pixels = Pixels::of(&graph(Normalization::per_channel(&means, &stds)).unwrap());
        let ActivationParams { scale, zero_point } = pixels.params.params;
        // The darkest pixel of the first channel and the lightest of the last are the ends.
        let (low, high) = (-0.485 / 0.229, (1.0 - 0.406) / 0.225);
        assert!((f64::from(scale) - (high - low) / 255.0).abs() < 1e-6);
        for x in 0..=255u8 {
            let mut out = [0; 3];
            pixels.write_integers(&[x; 3], &mut out);
            for c in 0..3 {
                let real = (f64::from(x) / 255.0 - mean[c]) / std[c];
                let found = (f64::from(out[c]) - f64::from(zero_point)) * f64::from(scale);
                assert!((found - real).abs() < 0.51 * f64::from(scale), "{x} of {c}");
                let float = f64::from(pixels.reals()[c][usize::from(x)]);
                assert!((float - real).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn numbers_for_other_channels_than_the_images_have_are_refused() {
        let refused = |normalization| graph(normalization).unwrap_err().to_string();
        let two = Normalization::per_channel(&[0.5; 2], &[0.5; 3]);
        assert!(refused(two).contains("a mean for 2 channels, the input 3"));
        let zero = Normalization::per_channel(&[0.5; 3], &[0.5, 0.0, 0.5]);
        assert!(refused(zero).contains("positive std"));
    }

    #[test]
    fn one_number_for_all_channels_is_written_as_one() {
        let json = serde_json::to_string(&Normalization::default()).unwrap();
        assert_eq!(json, r#"{"mean":0.5,"std":0.5}"#);
        let each = Normalization::per_channel(&[0.25], &[0.5]);
        let json = serde_json::to_string(&each).unwrap();
        assert_eq!(json, r#"{"mean":[0.25],"std":[0.5]}"#);
        assert_eq!(serde_json::from_str::<Normalization>(&json).unwrap(), each);
    }
}
