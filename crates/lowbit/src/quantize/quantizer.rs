//! Quantizing after training, setting by setting.

use super::{Passes, PtqConfig, QuantError, quantize};
use crate::Weights;
use crate::bits::{ActivationBits, WeightBits, WeightGrid};
use crate::graph::Graph;
use crate::quant::{ActivationQuant, Granularity, Observer, QuantizedModel};
use lowbit_kernels::Isa;

/// Quantizes trained weights: set what differs from 8 bits everywhere, then [`calibrate`](Self::calibrate) with images, or
/// finish without any.
///
/// ```
/// use lowbit::quant::Observer;
/// use lowbit::{Quantizer, Shape, WeightBits, Weights, graph::zoo};
///
/// let classes = ["water", "forest"].map(String::from);
/// let graph = zoo::build("mlp", Shape::new(8, 8, 3), &classes)?;
/// let weights = Weights::init(&graph, 1);
/// let images = vec![100; 4 * graph.input().len()];
///
/// let model = Quantizer::new(&graph, &weights)
///     .weight_bits(WeightBits::B4)
///     .edge_bits(WeightBits::B8)
///     .observer(Observer::Mse)
///     .calibrate(&images)?;
/// assert_eq!(model.layers[1].as_ref().unwrap().bits, WeightBits::B4);
///
/// let weights_alone = Quantizer::new(&graph, &weights).weight_only()?;
/// assert!(weights_alone.activations.iter().all(Option::is_none));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a quantizer does nothing until it is finished"]
#[derive(Debug)]
pub struct Quantizer<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    config: PtqConfig,
    isa: Option<Isa>,
}

impl<'a> Quantizer<'a> {
    /// Starts with 8 bits everywhere, a scale per channel, and ranges from the smallest to the largest value seen.
    pub fn new(graph: &'a Graph, weights: &'a Weights) -> Self {
        Self {
            graph,
            weights,
            config: PtqConfig::default(),
            isa: None,
        }
    }

    /// Sets the bits per weight.
    pub fn weight_bits(mut self, bits: WeightBits) -> Self {
        self.config.weight_bits = bits;
        self
    }

    /// Sets the bits per weight of the first and the last layer; fewer than the others' count as theirs.
    pub fn edge_bits(mut self, bits: WeightBits) -> Self {
        self.config.edge_bits = bits;
        self
    }

    /// Sets which integers weights of 4 and 2 bits are.
    pub fn grid(mut self, grid: WeightGrid) -> Self {
        self.config.grid = grid;
        self
    }

    /// Sets the bits per activation.
    pub fn activation_bits(mut self, bits: ActivationBits) -> Self {
        self.config.activation_bits = bits;
        self
    }

    /// Sets how activation ranges are chosen from what calibration sees.
    pub fn observer(mut self, observer: Observer) -> Self {
        self.config.observer = observer;
        self
    }

    /// Sets how many scales a layer's weights have.
    pub fn granularity(mut self, granularity: Granularity) -> Self {
        self.config.granularity = granularity;
        self
    }

    /// Sets which passes repair the rounding: `"mse-weights,bias-correction".parse()`, say.
    pub fn passes(mut self, passes: Passes) -> Self {
        self.config.passes = passes;
        self
    }

    /// Leaves layers f32: all whose names match one of these, in which `*` stands for any text.
    pub fn exclude(mut self, names: &[String]) -> Self {
        self.config.exclude = names.to_vec();
        self
    }

    /// Runs calibration on this instruction set instead of the machine's best. The result does not depend on it.
    pub fn with_isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// Finds activation ranges on `images` (`[n, h, w, c]`): integers flow between the layers of the result.
    ///
    /// # Errors
    /// [`QuantError`] when the weights do not fit the graph, or the images are none of its.
    pub fn calibrate(self, images: &[u8]) -> Result<QuantizedModel, QuantError> {
        self.finish(ActivationQuant::Static, images)
    }

    /// Leaves activation ranges to run time, batch by batch.
    ///
    /// # Errors
    /// [`QuantError`] when the weights do not fit the graph.
    pub fn dynamic(self) -> Result<QuantizedModel, QuantError> {
        self.finish(ActivationQuant::Dynamic, &[])
    }

    /// Quantizes weights alone: activations stay f32.
    ///
    /// # Errors
    /// [`QuantError`] when the weights do not fit the graph.
    pub fn weight_only(mut self) -> Result<QuantizedModel, QuantError> {
        self.config.activation_bits = ActivationBits::Float;
        self.finish(ActivationQuant::WeightOnly, &[])
    }

    fn finish(self, method: ActivationQuant, images: &[u8]) -> Result<QuantizedModel, QuantError> {
        let config = PtqConfig {
            method,
            ..self.config
        };
        let isa = match self.isa {
            Some(isa) => isa,
            None => Isa::current()?,
        };
        quantize(self.graph, self.weights, &config, images, isa)
    }
}
