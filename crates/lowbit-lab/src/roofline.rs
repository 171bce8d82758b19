//! The roofline of a model (Williams, Waterman & Patterson 2009): how near each layer comes, at each weight width, to
//! what the machine can do, and whether arithmetic or memory sets that limit.

use crate::machine::Machine;
use crate::statistics::Summary;
use crate::{LabError, timing};
use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::graph::{Program, Step};
use lowbit::quantize::{PtqConfig, quantize};
use lowbit::{Graph, ModelBits, WeightBits, Weights, format};
use lowbit_kernels::peak::{self, Peaks};
use lowbit_kernels::{Isa, random};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What sets a layer's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The arithmetic units.
    Arithmetic,
    /// Memory, if nothing stayed in a cache.
    Memory,
    /// Neither: the layer was measured at less than half of both limits, so that what it does besides (loading tiles,
    /// storing, short loops) takes the time.
    Neither,
}

impl Bound {
    fn of(measured: f64, peak: f64, memory: f64) -> Self {
        if measured < 0.5 * peak.min(memory) {
            Self::Neither
        } else if memory < peak {
            Self::Memory
        } else {
            Self::Arithmetic
        }
    }
}

/// One layer at one weight width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RooflineLayer {
    /// The layer's name.
    pub name: String,
    /// Bits per weight.
    pub bits: ModelBits,
    /// Multiply-accumulates per batch.
    pub macs: u64,
    /// Activations in and out, and weights once per batch.
    pub bytes: u64,
    /// Median milliseconds per batch.
    pub ms: f64,
    /// 10⁹ multiply-accumulates per second.
    pub gmac_per_s: f64,
    /// The limit of this width's arithmetic units.
    pub peak_gmac_per_s: f64,
    /// Measured over peak.
    pub share_of_peak: f64,
    /// The limit that memory would set if every byte came from there.
    pub memory_gmac_per_s: f64,
    /// The lower of the two limits, if the layer comes near it.
    pub bound: Bound,
}

/// `roofline.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Roofline {
    /// Name of the model.
    pub model: String,
    /// Height, width and channels of an image.
    pub input: [usize; 3],
    /// Images per batch, on one thread.
    pub batch: usize,
    /// Register-only limit of f32.
    pub fp32_gmac_per_s: f64,
    /// Register-only limit of i16 × i16.
    pub i16_gmac_per_s: f64,
    /// Register-only limit of u8 × i8.
    pub u8i8_gmac_per_s: f64,
    /// Bytes read from memory.
    pub memory_gb_per_s: f64,
    /// Width by width, layer by layer.
    pub layers: Vec<RooflineLayer>,
    /// What it was measured on.
    pub machine: Machine,
}

/// Images per batch.
const BATCH: usize = 64;
/// Rounds over all widths, which take turns.
const ROUNDS: usize = 15;

/// Measures every layer of `graph` with weights of every width of `widths`, on one thread and random images.
///
/// # Errors
/// [`LabError`] when the weights do not fit the graph.
pub fn measure(
    graph: &Graph,
    weights: &Weights,
    widths: &[ModelBits],
    isa: Isa,
) -> Result<Roofline, LabError> {
    let mut rng = random::stream(1, "roofline", 0);
    let images: Vec<u8> = (0..BATCH * graph.input().len())
        .map(|_| random::below(&mut rng, 256) as u8)
        .collect();
    let mut models: Vec<(ModelBits, Box<dyn Model>)> = Vec::new();
    for &bits in widths {
        let model: Box<dyn Model> = match bits {
            ModelBits::Fp32 => Box::new(FloatModel::compile(graph, weights, isa)?),
            ModelBits::Packed(bits) => {
                let config = PtqConfig {
                    weight_bits: bits,
                    edge_bits: bits,
                    ..PtqConfig::default()
                };
                let some = &images[..8 * graph.input().len()];
                let quantized = quantize(graph, weights, &config, some, isa)?;
                Box::new(IntegerModel::compile(&quantized, isa)?)
            }
        };
        models.push((bits, model));
    }
    let peaks = peak::measure(isa, Duration::from_millis(1500));
    let seconds = timing::pool(1).install(|| rounds(&models, &images));
    let blocks = graph.program()?;
    let mut layers = Vec::new();
    for ((bits, _), seconds) in models.iter().zip(&seconds) {
        for (block, seconds) in blocks.steps().iter().zip(seconds) {
            if block.has_weights() {
                let median = Summary::of(seconds).median;
                layers.push(layer(&blocks, block, *bits, median, &peaks));
            }
        }
    }
    Ok(Roofline {
        model: graph.name().to_owned(),
        input: [graph.input().h(), graph.input().w(), graph.input().c()],
        batch: BATCH,
        fp32_gmac_per_s: peaks.f32_gmac_per_s,
        i16_gmac_per_s: peaks.i16_gmac_per_s,
        u8i8_gmac_per_s: peaks.u8i8_gmac_per_s,
        memory_gb_per_s: peaks.memory_gb_per_s,
        layers,
        machine: Machine::here(isa),
    })
}

/// The images of a measurement are made for the graph of its models.
const WHOLE_IMAGES: &str = "images are made for the graph";

/// Seconds per batch: by model, by block, by round.
fn rounds(models: &[(ModelBits, Box<dyn Model>)], images: &[u8]) -> Vec<Vec<Vec<f64>>> {
    let mut seconds: Vec<Vec<Vec<f64>>> = vec![Vec::new(); models.len()];
    for round in 0..=ROUNDS {
        for ((_, model), seconds) in models.iter().zip(&mut seconds) {
            let profile = model.profile(images).expect(WHOLE_IMAGES);
            seconds.resize(profile.len(), Vec::new());
            // The first round warms up.
            if round > 0 {
                for (seconds, layer) in seconds.iter_mut().zip(&profile) {
                    seconds.push(layer.seconds);
                }
            }
        }
    }
    seconds
}

fn layer(
    blocks: &Program,
    block: &Step,
    bits: ModelBits,
    seconds: f64,
    peaks: &Peaks,
) -> RooflineLayer {
    let peak = match bits {
        ModelBits::Fp32 => peaks.f32_gmac_per_s,
        ModelBits::Packed(WeightBits::B16) => peaks.i16_gmac_per_s,
        ModelBits::Packed(_) => peaks.u8i8_gmac_per_s,
    };
    let macs = block.macs * BATCH as u64;
    let bytes = bytes(blocks, block, bits);
    let gmac_per_s = macs as f64 * 1e-9 / seconds;
    let memory_gmac_per_s = peaks.memory_gb_per_s * macs as f64 / bytes as f64;
    RooflineLayer {
        name: block.name.clone(),
        bits,
        macs,
        bytes,
        ms: seconds * 1e3,
        gmac_per_s,
        peak_gmac_per_s: peak,
        share_of_peak: gmac_per_s / peak,
        memory_gmac_per_s,
        bound: Bound::of(gmac_per_s, peak, memory_gmac_per_s),
    }
}

/// Bytes of a batch's activations in and out, each once, and of the packed weights.
fn bytes(blocks: &Program, block: &Step, bits: ModelBits) -> u64 {
    let element = bits.packed().map_or(4, |_| 1);
    let last = blocks.values() - 1;
    let input =
        blocks.value_shape(block.inputs[0]).len() * if block.inputs[0] == 0 { 1 } else { element };
    // The logits are floats.
    let is_last = blocks.steps().last().is_some_and(|b| b.name == block.name);
    let output = if is_last {
        4 * blocks.value_shape(last).len()
    } else {
        element * block.out_shape.len()
    };
    let [out, rest @ ..] = block
        .weight_extents()
        .expect("only blocks with weights are asked for");
    let fan_in: usize = rest.iter().product();
    let weights = match bits {
        ModelBits::Fp32 => 4 * out * fan_in,
        ModelBits::Packed(bits) => out * format::packed_len(fan_in, bits),
    };
    (BATCH * (input + output) + weights) as u64
}

impl Roofline {
    /// Names of the columns of [`Roofline::rows`].
    pub const COLUMNS: [&str; 7] = ["layer", "bits", "GMAC/s", "of peak", "MB", "ms", "bound by"];

    /// A row per layer and width, as text.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |layer: &RooflineLayer| {
            vec![
                layer.name.clone(),
                layer.bits.to_string(),
                format!("{:.1}", layer.gmac_per_s),
                format!("{:.0} %", 100.0 * layer.share_of_peak),
                format!("{:.2}", layer.bytes as f64 * 1e-6),
                format!("{:.3}", layer.ms),
                match layer.bound {
                    Bound::Arithmetic => "arithmetic".into(),
                    Bound::Memory => "memory".into(),
                    Bound::Neither => "neither".into(),
                },
            ]
        };
        self.layers.iter().map(row).collect()
    }

    /// Where fewer bits cannot make a layer faster, and where they can: a sentence for people.
    #[must_use]
    pub fn verdict(&self) -> String {
        let narrow = |bound: Bound| {
            let mut names: Vec<&str> = Vec::new();
            let layers = self
                .layers
                .iter()
                .filter(|layer| layer.bits <= WeightBits::B8.into());
            for layer in layers.filter(|layer| layer.bound == bound) {
                if !names.contains(&layer.name.as_str()) {
                    names.push(&layer.name);
                }
            }
            names
        };
        let memory = narrow(Bound::Memory);
        let arithmetic: Vec<_> = narrow(Bound::Arithmetic)
            .into_iter()
            .filter(|name| !memory.contains(name))
            .collect();
        let mut text = String::new();
        if !arithmetic.is_empty() {
            text += &format!(
                "Arithmetic bounds {}: fewer than 8 bits make their weights smaller, not their products faster, since \
                 narrow weights are widened to 8 bits before they are multiplied.",
                arithmetic.join(", ")
            );
        }
        if !memory.is_empty() {
            text += if text.is_empty() { "" } else { " " };
            text += &format!(
                "Memory bounds {} at some width: fewer bits move fewer bytes.",
                memory.join(", ")
            );
        }
        let neither: Vec<_> = narrow(Bound::Neither)
            .into_iter()
            .filter(|name| !memory.contains(name) && !arithmetic.contains(name))
            .collect();
        if !neither.is_empty() {
            text += if text.is_empty() { "" } else { " " };
            text += &format!(
                "{} stay below half of both limits: what surrounds the products takes the time, not the width of the \
                 weights.",
                neither.join(", ")
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiments::inputs::tests::widths;
    use lowbit::Shape;
    use lowbit::graph::zoo;

    #[test]
    fn bytes_are_activations_once_and_packed_weights() {
        let classes = ["a".into(), "b".into()];
        let graph = zoo::build("mlp", Shape::new(8, 8, 3), &classes).unwrap();
        let blocks = graph.program().unwrap();
        let block = &blocks.steps()[0];
        let weights: usize = block.weight_extents().unwrap().iter().product();
        let (input, output) = (8 * 8 * 3, block.out_shape.len());
        let expected =
            |element: usize, weights: usize| (BATCH * (input + element * output) + weights) as u64;
        let of = |bits: u8| bytes(&blocks, block, bits.try_into().unwrap());
        assert_eq!(of(32), expected(4, 4 * weights));
        assert_eq!(of(8), expected(1, weights));
        assert_eq!(of(2), expected(1, weights / 4));
    }

    #[test]
    fn every_layer_with_weights_is_measured_at_every_width() {
        let classes = ["a".into(), "b".into()];
        let graph = zoo::build("mlp", Shape::new(8, 8, 3), &classes).unwrap();
        let weights = Weights::init(&graph, 1);
        let found = measure(
            &graph,
            &weights,
            &widths([32, 8, 1]),
            Isa::current().unwrap(),
        )
        .unwrap();
        let layers = graph
            .program()
            .unwrap()
            .steps()
            .iter()
            .filter(|b| b.has_weights())
            .count();
        assert_eq!(found.layers.len(), 3 * layers);
        for layer in &found.layers {
            assert!(
                layer.gmac_per_s > 0.0 && layer.share_of_peak > 0.0,
                "{layer:?}"
            );
        }
        assert!(!found.verdict().is_empty());
    }

    #[test]
    fn a_layer_far_from_both_limits_is_bound_by_neither() {
        assert_eq!(Bound::of(60.0, 100.0, 500.0), Bound::Arithmetic);
        assert_eq!(Bound::of(60.0, 500.0, 100.0), Bound::Memory);
        assert_eq!(Bound::of(49.0, 500.0, 100.0), Bound::Neither);
        assert_eq!(Bound::of(49.0, 100.0, 500.0), Bound::Neither);
    }
}
