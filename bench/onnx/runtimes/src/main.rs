//! What tract and rten run of an ONNX file, node by node: `runtimes tract|rten FILE.onnx SIZE`, for an input of 1×3×SIZE×SIZE.
//! Prints lines `op<TAB>name<TAB>types of the inputs`; or one line `refused<TAB>why`.

use rten::RunOptions;
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use std::process::ExitCode;
use tract_onnx::prelude::*;

fn with_tract(file: &str, size: i64) -> TractResult<()> {
    let model = tract_onnx::onnx()
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true)
        .model_for_path(file)?
        .with_input_fact(0, f32::fact([1, 3, size, size]).into())?
        .into_typed()?
        .into_decluttered()?;
    for node in model.eval_order()? {
        let node = model.node(node);
        let types: Vec<String> = node
            .inputs
            .iter()
            .map(|input| Ok(format!("{:?}", model.outlet_fact(*input)?.datum_type)))
            .collect::<TractResult<_>>()?;
        println!("{}\t{}\t{}", node.op.name(), node.name, types.join(" "));
    }
    Ok(())
}

fn with_rten(file: &str, size: usize) -> Result<(), Box<dyn std::error::Error>> {
    let model = rten::Model::load_file(file)?;
    let input = NdTensor::from_data([1, 3, size, size], vec![0.5_f32; 3 * size * size]);
    model.run_one(input.view().into(), Some(RunOptions::default().with_verbose(true)))?;
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, runtime, file, size] = &arguments[..] else {
        eprintln!("runtimes tract|rten FILE.onnx SIZE");
        return ExitCode::from(2);
    };
    let size: usize = size.parse().expect("a size");
    let done = match runtime.as_str() {
        "tract" => with_tract(file, size as i64).map_err(|error| format!("{error:#}")),
        _ => with_rten(file, size).map_err(|error| error.to_string()),
    };
    if let Err(why) = done {
        println!("refused\t{}", why.replace('\n', " "));
    }
    ExitCode::SUCCESS
}
