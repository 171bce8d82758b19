//! Builds a model, quantizes it to 8 and to 2 bits, saves the files and compares the logits.
//!
//! `cargo run --release -p lowbit --example quantize_a_model`

use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::format;
use lowbit::graph::zoo;
use lowbit::{Quantizer, Shape, WeightBits, Weights};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let classes: Vec<String> = ["water", "forest", "town"].map(String::from).into();
    let graph = zoo::build("resnet8", Shape::new(32, 32, 3), &classes)?;
    // Fresh weights: train them with `lowbit::train::Trainer`, or load a file with `format::load`.
    let weights = Weights::init(&graph, 1);
    let images: Vec<u8> = (0..8 * graph.input().len())
        .map(|i| (i * 37 % 251) as u8)
        .collect();

    let float = FloatModel::new(&graph, &weights)?;
    let mut expected = vec![0.0; 8 * graph.classes()];
    float.run(&images, &mut expected)?;

    let folder = std::env::temp_dir();
    for bits in [WeightBits::B8, WeightBits::B2] {
        let model = Quantizer::new(&graph, &weights)
            .weight_bits(bits)
            .calibrate(&images)?;
        let path = folder.join(format!("resnet8_{bits}bit.safetensors"));
        let bytes = format::save_quantized(&path, &model, None)?;
        let mut logits = vec![0.0; expected.len()];
        IntegerModel::new(&model)?.run(&images, &mut logits)?;
        let error: f32 = logits
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .sum();
        println!(
            "{bits} bits: {bytes} bytes, mean error {:.4}",
            error / logits.len() as f32
        );
        std::fs::remove_file(path)?;
    }
    Ok(())
}
