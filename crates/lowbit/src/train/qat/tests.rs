//! Quantizers and their gradients against PyTorch's autograd, from tests/golden/quantizers.json.

use super::*;
use crate::lower::Layout;
use crate::train::parameter::Parameter;
use crate::train::recipe;
use crate::{Shape, Tensor, Weights};
use lowbit_kernels::Isa;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f32> {
    let list = value.as_array().unwrap().iter();
    list.map(|x| x.as_f64().unwrap() as f32).collect()
}

/// A tensor by the recipe.
fn made(given: &Value, len: usize) -> Vec<f32> {
    let start = given["start"].as_u64().unwrap();
    let scale = given["scale"].as_f64().unwrap() as f32;
    let lowest = given["lowest"]
        .as_f64()
        .map_or(f32::NEG_INFINITY, |x| x as f32);
    let values = (start..start + len as u64).map(|i| recipe::signed(i) * scale);
    values.map(|x| x.max(lowest)).collect()
}

fn close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (&f, &e)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f - e).abs() <= 2e-6 + 1e-5 * e.abs(),
            "{what}[{index}]: {f}, not {e}"
        );
    }
}

#[test]
fn weights_and_their_gradients_are_those_of_pytorch() {
    let golden = recipe::golden("quantizers");
    let channels = golden["channels"].as_u64().unwrap() as usize;
    for case in golden["weights"].as_array().unwrap() {
        let bits = WeightBits::try_from(case["bits"].as_u64().unwrap() as u8).unwrap();
        let grid = case["grid"]
            .as_str()
            .unwrap_or("mid-tread")
            .parse()
            .unwrap();
        let bits = bits.on(grid);
        let mut config = QatConfig::of(bits);
        config.quantizer = case["quantizer"].as_str().unwrap().parse().unwrap();
        let what = format!("{} {bits} {grid}", config.quantizer);
        let expected = numbers(&case["y"]);
        let latent = made(&case["w"], expected.len());
        let steps = numbers(&case["step"]);
        let mut stored = Weights::new();
        let ln_steps = steps.iter().map(|step| step.ln()).collect();
        stored.insert(
            "layer.weight_ln_scale",
            Tensor::new(vec![channels], ln_steps),
        );
        stored.insert(
            "layer.weight",
            Tensor::new(vec![channels, latent.len() / channels], latent.clone()),
        );
        let parameter = Parameter::new("layer.weight".into(), &stored);
        let mut state = WeightState::new(&config, bits, "layer", &parameter, &stored);
        state.forward(&latent);
        close(&format!("{what}: steps"), &state.scale, &steps);
        close(&format!("{what}: y"), &state.dequantized, &expected);
        let mut grad = made(&case["dy"], latent.len());
        state.backward(&latent, &mut grad);
        close(&format!("{what}: dw"), &grad, &numbers(&case["dw"]));
        let of_steps = numbers(&case["dln_step"]);
        close(
            &format!("{what}: dln_step"),
            &state.parameter().grad,
            &of_steps,
        );
    }
}

#[test]
fn activations_and_their_gradients_are_those_of_pytorch() {
    let golden = recipe::golden("quantizers");
    for case in golden["activations"].as_array().unwrap() {
        let bits = ActivationBits::try_from(case["bits"].as_u64().unwrap() as u8).unwrap();
        let kind: ActivationQuantizer = case["quantizer"].as_str().unwrap().parse().unwrap();
        let relu = case["relu"].as_bool().unwrap();
        let what = format!("{kind} {bits}, relu {relu}");
        let expected = numbers(&case["y"]);
        let mut stored = Weights::new();
        let ln_step = (case["step"].as_f64().unwrap() as f32).ln();
        stored.insert(
            "layer.activation_ln_scale",
            Tensor::new(vec![1], vec![ln_step]),
        );
        for isa in Isa::available() {
            let mut state = ActivationState::new(kind, bits, relu, "layer", &stored);
            let layout = Layout::new(Shape::new(1, expected.len(), 1), [0; 4]);
            let mut value = made(&case["x"], expected.len());
            state.forward(isa, (&layout, 1), &mut value, false);
            close(&format!("{what}: y"), &value, &expected);
            let mut grad = made(&case["dy"], expected.len());
            state.backward(isa, 1, expected.len(), &mut grad, true);
            close(&format!("{what}: dx"), &grad, &numbers(&case["dx"]));
            let of_step = numbers(&case["dln_step"]);
            close(
                &format!("{what}: dln_step"),
                &state.parameter().grad,
                &of_step,
            );
        }
    }
}
