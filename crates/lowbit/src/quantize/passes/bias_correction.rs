//! Bias correction: each channel of a quantized layer gets the mean that it has in FP32 (Nagel et al. 2019, section 4.2, with
//! measured means).
//!
//! Rounding errors of a filter's weights do not cancel where it has few of them (nine in a depthwise layer): all its results
//! move the same way, and layers behind add it up. Before its activation a layer is linear, so the mean of its results is the
//! result of its mean input: `E[Σ w·x + b] = Σ w·E[x] + b`. What the integers are at each tap comes from the integer engine
//! itself, which has run the corrected layers before this one.

use crate::quant::QuantizedLayer;

/// Sets the bias so that the layer's means over the batch are those of FP32. `means` holds the mean input at each tap
/// (`[groups, taps]`) of FP32 and of the quantized model.
pub(super) fn correct(
    layer: &mut QuantizedLayer,
    (kernel, bias): (&[f32], &[f32]),
    [float, quantized]: &[Vec<f64>; 2],
) {
    let channels = bias.len();
    let taps = kernel.len() / channels;
    let per_group = channels * taps / float.len();
    for (c, corrected) in layer.bias.iter_mut().enumerate() {
        let of_group = c / per_group * taps..(c / per_group + 1) * taps;
        let weights = c * taps..(c + 1) * taps;
        let wanted: f64 = kernel[weights.clone()]
            .iter()
            .zip(&float[of_group.clone()])
            .map(|(&w, x)| f64::from(w) * x)
            .sum();
        let found: f64 = layer.weights[weights]
            .iter()
            .zip(&quantized[of_group])
            .map(|(&q, x)| f64::from(q) * x)
            .sum();
        let moved = wanted - f64::from(layer.scale[c]) * found;
        *corrected = (f64::from(bias[c]) + moved) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::WeightBits;

    #[test]
    fn a_channel_gets_its_mean_again_worked_out_by_hand() {
        // Two groups of one channel with two taps. FP32: 0.7·1 + 0.2·3 = 1.3; integers 0.5·(1·2 + 0·3) = 1.0.
        // Second group: −1·10 + 0·0 = −10; 2·(−1·9 + 1·1) = −16.
        let mut layer = QuantizedLayer {
            bits: WeightBits::B8,
            weights: vec![1, 0, -1, 1],
            scale: vec![0.5, 2.0],
            bias: vec![0.0, 0.0],
        };
        let means = [vec![1.0, 3.0, 10.0, 0.0], vec![2.0, 3.0, 9.0, 1.0]];
        correct(&mut layer, (&[0.7, 0.2, -1.0, 0.0], &[4.0, 5.0]), &means);
        assert!((layer.bias[0] - 4.3).abs() < 1e-6, "{:?}", layer.bias);
        assert!((layer.bias[1] - 11.0).abs() < 1e-6, "{:?}", layer.bias);
        // From the bias of FP32, not from what it was corrected to before.
        let once = layer.clone();
        correct(&mut layer, (&[0.7, 0.2, -1.0, 0.0], &[4.0, 5.0]), &means);
        assert_eq!(layer, once);
    }
}
