//! Writes models as ONNX, the images that they are for, and the logits that lowbit gives: `exported DIR [MODEL.onnx …]`, for
//! bench/onnx/exported.py. Of each network DIR gets NAME.json, NAME.images (u8 `[n, h, w, c]`) and, for each form of it,
//! NAME.FORM.onnx and NAME.FORM.logits (f32).

#[path = "../tests/networks/mod.rs"]
mod networks;

use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::format::{StoredModel, load};
use lowbit::quant::QuantizedModel;
use lowbit::{ActivationBits, Graph, Quantizer, WeightBits, Weights};
use lowbit_onnx::{Exported, Input, Options, export_float, export_quantized, read};
use std::path::Path;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("exported DIR [MODEL …]")?;
    let folder = Path::new(&folder);
    let files: Vec<String> = arguments.collect();
    if files.is_empty() {
        for graph in networks::all().into_iter().chain(networks::tokens()) {
            let weights = networks::weights(&graph);
            forms(folder, graph.name(), &graph, &weights)?;
        }
    }
    for file in files {
        let path = Path::new(&file);
        let name = path.file_stem().ok_or("no name")?.to_string_lossy();
        if file.ends_with(".onnx") {
            let options = Options {
                image_size: Some(64),
                ..Options::default()
            };
            let imported = read(path, &options)?;
            forms(folder, &name, &imported.graph, &imported.weights)?;
            continue;
        }
        match load(path)? {
            StoredModel::Float { graph, weights } => forms(folder, &name, &graph, &weights)?,
            StoredModel::Quantized(model) => {
                let images = write_images(folder, &name, &model.graph)?;
                form(
                    folder,
                    &format!("{name}.stored"),
                    &model,
                    Input::Normalized,
                    &images,
                )?;
            }
        }
    }
    Ok(())
}

fn write_images(folder: &Path, name: &str, graph: &Graph) -> Result<Vec<u8>, Failure> {
    let images = networks::images(graph.input(), 12);
    std::fs::write(folder.join(format!("{name}.images")), &images)?;
    let normalization = graph.normalization();
    let about = format!(
        r#"{{"shape": {:?}, "mean": {:?}, "std": {:?}}}"#,
        graph.input().extents(),
        normalization.mean(),
        normalization.std()
    );
    std::fs::write(folder.join(format!("{name}.json")), about)?;
    Ok(images)
}

fn forms(folder: &Path, name: &str, graph: &Graph, weights: &Weights) -> Result<(), Failure> {
    let images = write_images(folder, name, graph)?;
    let model = FloatModel::new(graph, weights)?;
    for (form, input) in [("fp32", Input::Normalized), ("fp32_pixels", Input::Pixels)] {
        let exported = export_float(graph, weights, input)?;
        write(
            folder,
            &format!("{name}.{form}"),
            &exported,
            &model,
            &images,
        )?;
    }
    let quantizer = || Quantizer::new(graph, weights);
    let int8 = quantizer().calibrate(&images)?;
    for (form_name, input) in [("int8", Input::Normalized), ("int8_pixels", Input::Pixels)] {
        form(
            folder,
            &format!("{name}.{form_name}"),
            &int8,
            input,
            &images,
        )?;
    }
    form(
        folder,
        &format!("{name}.int8_reduced"),
        &int8.with_reduced_range()?,
        Input::Normalized,
        &images,
    )?;
    for (form_name, bits) in [
        ("w16", WeightBits::B16),
        ("w4", WeightBits::B4),
        ("w2", WeightBits::B2),
        ("w2_ternary", WeightBits::Ternary),
        ("w4_odd", WeightBits::Odd4),
        ("w1", WeightBits::B1),
    ] {
        let model = quantizer().weight_bits(bits).calibrate(&images)?;
        form(
            folder,
            &format!("{name}.{form_name}"),
            &model,
            Input::Normalized,
            &images,
        )?;
    }
    let model = quantizer()
        .activation_bits(ActivationBits::B4)
        .calibrate(&images)?;
    form(
        folder,
        &format!("{name}.a4"),
        &model,
        Input::Normalized,
        &images,
    )?;
    for (form_name, bits) in [
        ("weight_only", WeightBits::B8),
        ("weight_only4", WeightBits::B4),
        ("weight_only2", WeightBits::B2),
        ("weight_only2_ternary", WeightBits::Ternary),
        ("weight_only1", WeightBits::B1),
    ] {
        let model = quantizer().weight_bits(bits).weight_only()?;
        form(
            folder,
            &format!("{name}.{form_name}"),
            &model,
            Input::Normalized,
            &images,
        )?;
    }
    Ok(())
}

fn form(
    folder: &Path,
    name: &str,
    model: &QuantizedModel,
    input: Input,
    images: &[u8],
) -> Result<(), Failure> {
    let exported = export_quantized(model, input)?;
    write(folder, name, &exported, &IntegerModel::new(model)?, images)
}

fn write(
    folder: &Path,
    name: &str,
    exported: &Exported,
    model: &dyn Model,
    images: &[u8],
) -> Result<(), Failure> {
    for note in &exported.notes {
        println!("{name}: {note}");
    }
    exported.write(&folder.join(format!("{name}.onnx")))?;
    let mut logits = vec![0.0; model.count(images) * model.graph().classes()];
    model.run(images, &mut logits)?;
    let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    Ok(std::fs::write(
        folder.join(format!("{name}.logits")),
        bytes,
    )?)
}
