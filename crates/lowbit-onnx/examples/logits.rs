//! Runs models as fast as they come: lines `MODEL IMAGES OUT [SIDE]` on standard input, where IMAGES holds the u8 pixels of whole
//! images `[n, h, w, c]` and OUT gets the logits as little-endian f32, in integers where the model is quantized. Pixels are divided by 255. For
//! bench/onnx/check.py, bench/onnx/quantized.py and bench/peers/cold.py.

use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit_onnx::{Options, read};
use std::io::BufRead;

fn main() {
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("text");
        match run(&line.split('\t').collect::<Vec<_>>()) {
            Ok(nodes) => println!("ok {nodes}"),
            Err(error) => println!("error {error}"),
        }
    }
}

fn run(parts: &[&str]) -> Result<String, Box<dyn std::error::Error>> {
    let (&[file, images, out], side) = (match parts {
        [first @ .., side] if parts.len() == 4 => (first, side.parse()?),
        _ => (parts, 64),
    }) else {
        return Err("expected MODEL, IMAGES, OUT and perhaps SIDE, with tabs between".into());
    };
    let imported = read(
        file.as_ref(),
        &Options {
            image_size: Some(side),
            ..Options::default()
        },
    )?;
    let model: Box<dyn Model> = match &imported.quantized {
        Some(quantized) => Box::new(IntegerModel::new(quantized)?),
        None => Box::new(FloatModel::new(&imported.graph, &imported.weights)?),
    };
    let images = std::fs::read(images)?;
    let mut logits = vec![0.0; model.count(&images) * imported.graph.classes()];
    model.run(&images, &mut logits)?;
    let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(out, bytes)?;
    Ok(format!(
        "{} nodes, {} parameters",
        imported.graph.nodes().len(),
        imported.graph.parameter_count()
    ))
}
