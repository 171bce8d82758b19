//! Mixed widths: what each layer loses, weighs and takes at each width by itself, and the models that a budget buys.

use super::candidates::{Candidate, LEARNED, MIXED};
use super::knapsack::{Item, knapsack};
use crate::LabError;
use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::format::packed_len;
use lowbit::quant::QuantizedModel;
use lowbit::quantize::{LayerBits, at_widths};
use lowbit::{WeightBits, Weights};
use lowbit_kernels::Isa;
use serde::{Deserialize, Serialize};

/// Fewer bits than the eight that a layer begins with.
const NARROWER: [WeightBits; 2] = [WeightBits::B4, WeightBits::B2];

/// Images on which a layer's loss is measured, at most.
const IMAGES: usize = 128;

/// Times that a model's layers are timed.
const TIMINGS: usize = 7;

/// Share of the time that fewer bits must save by themselves, lest a model is made for it.
const WORTH: f64 = 0.03;

/// A layer at one width.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerOption {
    /// Bits per weight.
    #[serde(with = "crate::config::number")]
    pub bits: WeightBits,
    /// By how much the mean Kullback-Leibler divergence of the model's classes from FP32's grows, in nats, with this layer
    /// alone at this width.
    pub divergence: f64,
    /// Bytes of its packed weights.
    pub bytes: u64,
    /// Milliseconds that it takes of a call, on one thread.
    pub ms: f64,
}

/// What is known of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerOptions {
    /// Its name.
    pub name: String,
    /// 8 bits first.
    pub options: Vec<LayerOption>,
}

impl LayerOptions {
    /// Whether it has all widths in their order.
    pub(super) fn is_whole(&self) -> bool {
        let bits = self.options.iter().map(|option| option.bits);
        bits.eq([WeightBits::B8].into_iter().chain(NARROWER))
    }
}

/// What is expected of a model with mixed widths, beside the one with 8 bits everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// Bytes of its file.
    pub bytes: u64,
    /// Its time over that of 8 bits, on one thread.
    pub time_of_8_bits: f64,
    /// The sum of its layers' divergences.
    pub divergence: f64,
}

/// What layers are measured with.
pub(super) struct Measuring<'a> {
    pub(super) weights: &'a Weights,
    pub(super) fp32: &'a FloatModel,
    /// 8 bits everywhere.
    pub(super) base: &'a QuantizedModel,
    /// Images that set ranges.
    pub(super) calibration: &'a [u8],
    /// Images of a timed call.
    pub(super) timed: &'a [u8],
    pub(super) isa: Isa,
}

impl Measuring<'_> {
    /// Measures all layers but the first and the last; none once `is_over` says so.
    pub(super) fn layers(
        &self,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<LayerOptions>>, LabError> {
        let program = self
            .base
            .graph
            .program()
            .map_err(lowbit::quantize::QuantError::from)?;
        let edges = program.edges();
        let image_len = self.base.graph.input().len();
        let images = (self.calibration.len() / image_len).min(IMAGES);
        let images = &self.calibration[..images * image_len];
        let narrow = at_widths(
            self.weights,
            self.base,
            &NARROWER,
            self.calibration,
            self.isa,
        )?;
        let expected = log_shares(self.fp32, images);
        let divergence = |model: &QuantizedModel| -> Result<f64, LabError> {
            let model = IntegerModel::compile(model, self.isa)?;
            Ok(divergence(
                &expected,
                &log_shares(&model, images),
                self.fp32.graph().classes(),
            ))
        };
        let inner: Vec<usize> = (0..narrow.len())
            .filter(|index| !narrow[*index].is_empty() && !edges.contains(index))
            .collect();
        let at_base = divergence(self.base)?;
        let mut losses = vec![vec![0.0]; inner.len()];
        let mut all_narrow = NARROWER.map(|_| self.base.clone());
        for (&index, losses) in inner.iter().zip(&mut losses) {
            for (layer, all) in narrow[index].iter().zip(&mut all_narrow) {
                if is_over() {
                    return Ok(None);
                }
                let mut model = self.base.clone();
                model.layers[index] = Some(layer.clone());
                losses.push(grown(divergence(&model)?, at_base));
                all.layers[index] = Some(layer.clone());
            }
        }
        let models: Vec<&QuantizedModel> = [self.base].into_iter().chain(&all_narrow).collect();
        let times = self.times(&models)?;
        let of_layer = |(&index, losses): (&usize, &Vec<f64>)| {
            let weights = self.base.layers[index]
                .as_ref()
                .map_or(0, |l| l.weights.len());
            let channels = self.base.layers[index].as_ref().map_or(1, |l| l.bias.len());
            let widths = [WeightBits::B8].into_iter().chain(NARROWER);
            let option = |(number, bits): (usize, WeightBits)| LayerOption {
                bits,
                divergence: losses[number],
                bytes: (channels * packed_len(weights / channels, bits)) as u64,
                ms: times[number][index],
            };
            LayerOptions {
                name: program.steps()[index].name.clone(),
                options: widths.enumerate().map(option).collect(),
            }
        };
        Ok(Some(inner.iter().zip(&losses).map(of_layer).collect()))
    }

    /// Milliseconds of each step of each model on one thread: medians of rounds in which they take turns.
    fn times(&self, models: &[&QuantizedModel]) -> Result<Vec<Vec<f64>>, LabError> {
        let compiled = models
            .iter()
            .map(|model| IntegerModel::compile(model, self.isa));
        let compiled = compiled.collect::<Result<Vec<_>, _>>()?;
        let mut rounds: Vec<Vec<Vec<f64>>> = vec![Vec::new(); models.len()];
        for _ in 0..TIMINGS {
            for (model, rounds) in compiled.iter().zip(&mut rounds) {
                let layers = model.profile(self.timed)?;
                rounds.push(layers.iter().map(|layer| layer.seconds * 1e3).collect());
            }
        }
        let median = |rounds: &Vec<Vec<f64>>| {
            let of_step = |step: usize| {
                let mut all: Vec<f64> = rounds.iter().map(|round| round[step]).collect();
                all.sort_by(f64::total_cmp);
                all[all.len() / 2]
            };
            (0..rounds[0].len()).map(of_step).collect()
        };
        Ok(rounds.iter().map(median).collect())
    }
}

/// By how much a divergence has grown; all there is where it is no number.
fn grown(divergence: f64, base: f64) -> f64 {
    match divergence.is_nan() || base.is_nan() {
        true => f64::MAX,
        false => (divergence - base).max(0.0),
    }
}

/// Logarithms of the classes' shares.
fn log_shares(model: &dyn Model, images: &[u8]) -> Vec<f64> {
    let classes = model.graph().classes();
    let mut logits = vec![0.0f32; model.count(images) * classes];
    let ran = model.run(images, &mut logits);
    ran.expect("calibration images have the shape of the model's");
    let mut shares = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(classes) {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let own = |x: f32| f64::from(x) - f64::from(most);
        let sum: f64 = row.iter().map(|&x| own(x).exp()).sum();
        shares.extend(row.iter().map(|&x| own(x) - sum.ln()));
    }
    shares
}

/// Mean Kullback-Leibler divergence of classes from those expected, in nats.
fn divergence(expected: &[f64], found: &[f64], classes: usize) -> f64 {
    let terms = expected.iter().zip(found);
    let sum: f64 = terms.map(|(&p, &q)| p.exp() * (p - q)).sum();
    sum / (expected.len() / classes).max(1) as f64
}

/// The models that are worth making: one with the bytes halfway between 8 and 4 bits, one with those of 4 bits, and one that
/// takes less time, where fewer bits save any.
pub(super) fn mixes(layers: &[LayerOptions], base_bytes: u64) -> Vec<(Candidate, Predicted)> {
    if layers.is_empty() {
        return Vec::new();
    }
    let sum = |of: &dyn Fn(&LayerOptions) -> f64| layers.iter().map(of).sum::<f64>();
    let bytes = |option: &LayerOption| option.bytes as f64;
    let all_bytes = |number: usize| sum(&|layer| bytes(&layer.options[number]));
    let all_ms = sum(&|layer| layer.options[0].ms);
    let fastest = |layer: &LayerOptions| {
        let times = layer.options.iter().map(|option| option.ms);
        times.fold(f64::INFINITY, f64::min)
    };
    let least_ms = sum(&fastest);
    let pick = |cost: &dyn Fn(&LayerOption) -> f64, budget: f64| {
        let item = |option: &LayerOption| Item {
            cost: cost(option),
            loss: option.divergence,
        };
        let items: Vec<Vec<Item>> = layers
            .iter()
            .map(|layer| layer.options.iter().map(item).collect())
            .collect();
        knapsack(&items, budget)
    };
    let [halfway, four, time] = MIXED;
    let mut picked = vec![
        (halfway, pick(&bytes, (all_bytes(0) + all_bytes(1)) / 2.0)),
        (four, pick(&bytes, all_bytes(1))),
    ];
    if least_ms < (1.0 - WORTH) * all_ms {
        picked.push((time, pick(&|option| option.ms, (all_ms + least_ms) / 2.0)));
    }
    let made = |(group, chosen): (&'static str, Option<Vec<usize>>)| {
        let chosen = chosen?;
        let options = || {
            layers
                .iter()
                .zip(&chosen)
                .map(|(layer, &o)| &layer.options[o])
        };
        let own = layers
            .iter()
            .zip(options())
            .filter(|(_, option)| option.bits != WeightBits::B8);
        let own: Vec<(String, WeightBits)> = own
            .map(|(layer, option)| (layer.name.clone(), option.bits))
            .collect();
        let saved = all_bytes(0) - options().map(bytes).sum::<f64>();
        let predicted = Predicted {
            bytes: base_bytes - saved as u64,
            time_of_8_bits: options().map(|option| option.ms).sum::<f64>() / all_ms,
            divergence: options().map(|option| option.divergence).sum(),
        };
        (!own.is_empty()).then(|| {
            let candidate = Candidate::mixed(group, LayerBits::new(own), LEARNED);
            (candidate, predicted)
        })
    };
    picked.into_iter().filter_map(made).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowbit::Shape;
    use lowbit::graph::zoo;
    use lowbit::quantize::{PtqConfig, quantize};

    fn layer(name: &str, options: [(u8, f64, u64, f64); 3]) -> LayerOptions {
        let option = |(bits, divergence, bytes, ms): (u8, _, _, _)| LayerOption {
            bits: bits.try_into().unwrap(),
            divergence,
            bytes,
            ms,
        };
        LayerOptions {
            name: name.into(),
            options: options.map(option).to_vec(),
        }
    }

    #[test]
    fn the_layer_that_suffers_keeps_its_bits_and_what_is_expected_is_the_sum() {
        let layers = [
            layer(
                "tough",
                [(8, 0.0, 800, 1.0), (4, 0.01, 400, 1.0), (2, 0.1, 200, 1.0)],
            ),
            layer(
                "tender",
                [(8, 0.0, 800, 1.0), (4, 3.0, 400, 1.0), (2, 9.0, 200, 1.0)],
            ),
        ];
        let made = mixes(&layers, 5000);
        // Nothing is faster with fewer bits: none is made for time.
        let names: Vec<&str> = made.iter().map(|(candidate, _)| candidate.group).collect();
        assert_eq!(names, ["mixed, 6 bits", "mixed, 4 bits"]);
        let bits = |number: usize| made[number].0.config.layer_bits.to_string();
        assert_eq!(bits(0), "tough=4");
        assert_eq!((made[0].1.bytes, made[0].1.divergence), (4600, 0.01));
        // 800 bytes hold both at 4 bits; with one at 8, the other would need 0.
        assert_eq!(bits(1), "tough=4,tender=4");
        assert_eq!(made[1].1.bytes, 4200);
        assert_eq!(made[1].1.time_of_8_bits, 1.0);
    }

    #[test]
    fn where_fewer_bits_are_faster_one_is_made_for_time() {
        let layers = [
            layer(
                "a",
                [(8, 0.0, 80, 2.0), (4, 1.0, 40, 1.0), (2, 2.0, 20, 1.0)],
            ),
            layer(
                "b",
                [(8, 0.0, 80, 2.0), (4, 0.5, 40, 1.0), (2, 2.0, 20, 1.0)],
            ),
        ];
        let (candidate, predicted) = mixes(&layers, 1000).pop().unwrap();
        assert_eq!(candidate.group, "mixed, time");
        assert_eq!(candidate.config.layer_bits.to_string(), "b=4");
        assert_eq!((predicted.time_of_8_bits, predicted.bytes), (0.75, 960));
    }

    #[test]
    fn layers_between_the_first_and_the_last_are_measured_at_each_width() {
        let classes = ["a", "b", "c"].map(String::from);
        let graph = zoo::build("resnet8", Shape::new(16, 16, 3), &classes).unwrap();
        let weights = Weights::init(&graph, 1);
        let calibration: Vec<u8> = (0..20 * graph.input().len())
            .map(|i| (i * 37 % 251) as u8)
            .collect();
        let isa = Isa::best();
        let base = quantize(&graph, &weights, &PtqConfig::default(), &calibration, isa).unwrap();
        let fp32 = FloatModel::compile(&graph, &weights, isa).unwrap();
        let measuring = Measuring {
            weights: &weights,
            fp32: &fp32,
            base: &base,
            calibration: &calibration,
            timed: &calibration[..graph.input().len()],
            isa,
        };
        let layers = measuring.layers(&|| false).unwrap().unwrap();
        let with_weights = base.layers.iter().flatten().count();
        assert_eq!(layers.len(), with_weights - 2);
        for layer in &layers {
            let [eight, four, two] = layer.options[..] else {
                panic!("three widths");
            };
            assert_eq!(
                [eight, four, two].map(|option| option.bits.get()),
                [8, 4, 2]
            );
            assert_eq!((eight.bytes, eight.divergence), (2 * four.bytes, 0.0));
            assert_eq!(four.bytes, 2 * two.bytes);
            assert!(two.divergence > four.divergence, "{layer:?}");
            assert!(eight.ms > 0.0 && four.ms > 0.0 && two.ms > 0.0);
        }
        assert_eq!(measuring.layers(&|| true).unwrap(), None);
    }

    #[test]
    fn a_divergence_is_that_of_the_definition() {
        let logs = |shares: [f64; 4]| shares.map(f64::ln);
        let p = logs([0.5, 0.5, 0.9, 0.1]);
        let q = logs([0.25, 0.75, 0.9, 0.1]);
        let expected = 0.5 * (0.5 * 2.0f64.ln() + 0.5 * (0.5f64 / 0.75).ln());
        assert!((divergence(&p, &q, 2) - expected).abs() < 1e-12);
        assert_eq!(divergence(&p, &p, 2), 0.0);
        // A model whose answers are no numbers loses all there is, and not nothing.
        assert_eq!(grown(f64::NAN, 0.0), f64::MAX);
        assert_eq!((grown(3.0, 1.0), grown(1.0, 3.0)), (2.0, 0.0));
    }
}
