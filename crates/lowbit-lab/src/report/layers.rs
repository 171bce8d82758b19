//! Weights before and after, layer by layer, from the model files of a run.

use crate::analysis::Kind;
use crate::analysis::runs::Run;
use lowbit::format::{self, StoredModel};
use lowbit::graph::fold_batch_norm;
use lowbit::quant::QuantizedLayer;
use std::path::Path;

/// One layer of one width.
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) bits: u8,
    /// 10·log₁₀(Σw² / Σ(w − ŵ)²).
    pub(super) sqnr_db: f64,
    /// Ends of the histograms, in quantization steps.
    pub(super) low: f64,
    pub(super) high: f64,
    /// Share of the weights per bin.
    pub(super) before: Vec<f64>,
    pub(super) after: Vec<f64>,
}

/// The layers of one width.
pub(super) struct WidthLayers {
    pub(super) label: String,
    pub(super) layers: Vec<Layer>,
}

/// The first run of each quantized width whose model files are still there.
pub(super) fn of(groups: &[(Kind, Vec<&Run>)]) -> Vec<WidthLayers> {
    let width = |(kind, runs): &(Kind, Vec<&Run>)| {
        let layers = runs
            .iter()
            .find_map(|run| read(&run.folder, run.results.bit_width))?;
        Some(WidthLayers {
            label: kind.label(),
            layers,
        })
    };
    groups.iter().filter_map(width).collect()
}

fn read(folder: &Path, bits: u8) -> Option<Vec<Layer>> {
    let StoredModel::Float { graph, weights } =
        format::load(&folder.join("model_fp32.safetensors")).ok()?
    else {
        return None;
    };
    let packed = folder.join(format!("model_{bits}bit.safetensors"));
    let StoredModel::Quantized(model) = format::load(&packed).ok()? else {
        return None;
    };
    weights.check(&graph).ok()?;
    let program = graph.program().ok()?;
    if model.layers.len() != program.steps().len() {
        return None;
    }
    let layers = program
        .steps()
        .iter()
        .zip(&model.layers)
        .filter_map(|(block, packed)| {
            let packed = packed.as_ref()?;
            let (kernel, _) = fold_batch_norm(block, &weights);
            (kernel.len() == packed.weights.len()).then(|| layer(&block.name, &kernel, packed))
        });
    let layers: Vec<Layer> = layers.collect();
    (!layers.is_empty()).then_some(layers)
}

/// Bins of a histogram.
const BINS: usize = 96;

fn layer(name: &str, kernel: &[f32], packed: &QuantizedLayer) -> Layer {
    let fan_in = kernel.len() / packed.scale.len();
    let (mut signal, mut noise) = (0.0, 0.0);
    let most = f64::from(
        packed
            .weights
            .iter()
            .map(|q| q.unsigned_abs())
            .max()
            .unwrap_or(1)
            .max(1),
    );
    let (low, high) = (-1.5 * most - 0.5, 1.5 * most + 0.5);
    let (mut before, mut after) = (vec![0.0; BINS], vec![0.0; BINS]);
    let count = kernel.len() as f64;
    let add = |bins: &mut Vec<f64>, step: f64| {
        let at = ((step - low) / (high - low) * BINS as f64).clamp(0.0, BINS as f64 - 1.0);
        bins[at as usize] += 1.0 / count;
    };
    for (index, (&w, &q)) in kernel.iter().zip(&packed.weights).enumerate() {
        let scale = f64::from(packed.scale[index / fan_in]);
        let (w, q) = (f64::from(w), f64::from(q));
        signal += w * w;
        noise += (w - scale * q) * (w - scale * q);
        add(&mut before, w / scale);
        add(&mut after, q);
    }
    Layer {
        name: name.to_owned(),
        bits: packed.bits.get(),
        sqnr_db: 10.0 * (signal / noise.max(f64::MIN_POSITIVE)).log10(),
        low,
        high,
        before,
        after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_those_of_both_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let names = ["a", "b"].map(String::from);
        let graph = lowbit::graph::zoo::build("mlp", lowbit::Shape::new(2, 2, 1), &names).unwrap();
        let weights = lowbit::Weights::init(&graph, 1);
        assert!(read(folder.path(), 8).is_none());
        format::save_float(&path("model_fp32.safetensors"), &graph, &weights, None).unwrap();
        assert!(read(folder.path(), 8).is_none());
        let model = lowbit::Quantizer::new(&graph, &weights)
            .weight_only()
            .unwrap();
        format::save_quantized(&path("model_8bit.safetensors"), &model, None).unwrap();
        let found = read(folder.path(), 8).unwrap();
        let quantized = model.layers.iter().flatten().count();
        assert!(found.len() == quantized && quantized > 1, "{}", found.len());
        assert!(
            found
                .iter()
                .all(|layer| layer.sqnr_db > 30.0 && layer.bits == 8)
        );
        assert!(read(folder.path(), 4).is_none());
    }

    #[test]
    fn the_ratio_is_that_of_the_definition() {
        let packed = QuantizedLayer {
            bits: lowbit::WeightBits::Ternary,
            weights: vec![1, -1, 1, 0],
            scale: vec![0.5, 1.0],
            bias: vec![0.0; 2],
        };
        let found = layer("fc", &[0.6, -0.5, 1.0, 0.2], &packed);
        let far = layer("fc", &[9.0, -9.0, 1.0, 0.2], &packed);
        assert_eq!((far.before[0], far.before[BINS - 1]), (0.25, 0.25));
        let (signal, noise) = (0.36 + 0.25 + 1.0 + 0.04, 0.01 + 0.0 + 0.0 + 0.04);
        let expected = 10.0 * f64::log10(signal / noise);
        assert!(
            (found.sqnr_db - expected).abs() < 1e-5,
            "{} against {expected}",
            found.sqnr_db
        );
        // Four bins of 96 to a tenth of a step or so: −2 to 2 in 96.
        assert_eq!((found.low, found.high, found.bits), (-2.0, 2.0, 2));
        let filled = |bins: &[f64]| {
            let bins = bins.iter().enumerate().filter(|(_, share)| **share > 0.0);
            bins.map(|(bin, &share)| (bin, share)).collect::<Vec<_>>()
        };
        // 1.2, −1, 1 and 0.2 steps; then 1, −1, 1 and 0.
        let quarter = |bins: &[usize]| bins.iter().map(|&bin| (bin, 0.25)).collect::<Vec<_>>();
        assert_eq!(filled(&found.before), quarter(&[24, 52, 72, 76]));
        assert_eq!(filled(&found.after), [(24, 0.25), (48, 0.25), (72, 0.5)]);
        for shares in [&found.before, &found.after] {
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
}
