//! Images that stay in a file give the results of the same images in memory, to the bit.

use lowbit::WeightBits;
use lowbit::exec::{FloatModel, IntegerModel};
use lowbit::format::{SplitRecord, encode_float, encode_quantized};
use lowbit_data::{LoadOptions, load};
use lowbit_kernels::Isa;
use lowbit_lab::evaluate::{evaluate, images_digest};
use lowbit_lab::experiments::inputs::Input;
use lowbit_lab::training::{Plan, train};
use lowbit_lab::{Config, Silent};
use std::fs;
use std::path::Path;

/// Two classes of 40 images of 8×8 as BMP: the second is brighter to the right.
fn photos(root: &Path) {
    for class in 0..2u32 {
        let folder = root.join(["ant", "bee"][class as usize]);
        fs::create_dir(&folder).unwrap();
        for n in 0..40u32 {
            let value = |at: u32| (n * 31 + at * 7 + class * (at % 8) * 16) % 256;
            let pixels: Vec<u8> = (0..64)
                .flat_map(|at| [value(at) as u8, (value(at) / 2) as u8, 9])
                .collect();
            fs::write(folder.join(format!("{n}.bmp")), bmp(&pixels)).unwrap();
        }
    }
}

/// A file of 8×8 pixels of three bytes each.
fn bmp(pixels: &[u8]) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    let words = |bytes: &mut Vec<u8>, words: &[u32]| {
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    words(&mut bytes, &[54 + pixels.len() as u32, 0, 54, 40, 8, 8]);
    // One plane, 24 bits.
    bytes.extend([1, 0, 24, 0]);
    words(&mut bytes, &[0, pixels.len() as u32, 0, 0, 0, 0]);
    bytes.extend(pixels);
    bytes
}

fn input(root: &Path, cache: &Path, in_memory_bytes: u64) -> Input {
    let options = LoadOptions {
        cache_dir: Some(cache.to_owned()),
        in_memory_bytes,
        ..LoadOptions::new(1)
    };
    let data = load(root.to_str().unwrap(), &options).unwrap();
    assert_eq!(data.train.is_in_memory(), in_memory_bytes > 0);
    let record = SplitRecord {
        rule: data.split.clone(),
        asked: String::new(),
        seed: 1,
        test_fraction: options.test_fraction,
        limit: 0,
    };
    Input::new(data, record).unwrap()
}

/// Everything that a training and its evaluation come to.
fn results(input: &Input) -> (Vec<Vec<u8>>, Vec<u32>, Vec<f64>) {
    let isa = Isa::current().unwrap();
    let mut config = Config::default();
    config.training.epochs = 2;
    let graph = input.graph("mlp").unwrap();
    let plan = Plan {
        qat: Some(config.qat(WeightBits::B4)),
        ..Plan::default()
    };
    let trained = train(&config, &plan, &graph, input, isa, &Silent).unwrap();
    let quantized = trained.quantized.unwrap();
    let float = FloatModel::compile(&graph, &trained.weights, isa).unwrap();
    let integer = IntegerModel::compile(&quantized, isa).unwrap();
    let float = evaluate(&float, &input.data.test).unwrap();
    let integer = evaluate(&integer, &input.data.test).unwrap();
    (
        vec![
            encode_float(&graph, &trained.weights, trained.record.as_ref()),
            encode_quantized(&quantized, trained.record.as_ref()).unwrap(),
            input.calibration(&config).unwrap(),
        ],
        vec![
            float.logits_digest,
            integer.logits_digest,
            images_digest(&input.data.train).unwrap(),
        ],
        vec![float.accuracy(), integer.accuracy(), integer.loss],
    )
}

#[test]
fn a_training_on_images_in_a_file_is_that_on_images_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (root, cache) = (folder.path().join("photos"), folder.path().join("cache"));
    fs::create_dir(&root).unwrap();
    photos(&root);
    let (memory, file) = (input(&root, &cache, u64::MAX), input(&root, &cache, 0));
    assert_eq!(memory.identity, file.identity);
    assert_eq!(results(&memory), results(&file));
}

#[test]
fn a_training_whose_images_can_no_longer_be_read_ends_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let (root, cache) = (folder.path().join("photos"), folder.path().join("cache"));
    fs::create_dir(&root).unwrap();
    photos(&root);
    let input = input(&root, &cache, 0);
    let kept = fs::read_dir(&cache)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let cut = fs::File::options().write(true).open(&kept).unwrap();
    cut.set_len(1000).unwrap();
    let graph = input.graph("mlp").unwrap();
    let (config, isa) = (Config::default(), Isa::current().unwrap());
    let error = train(&config, &Plan::default(), &graph, &input, isa, &Silent).unwrap_err();
    let line = error.to_string();
    assert!(
        line.contains("cannot be read") && line.contains("run again"),
        "{line}"
    );
    assert!(!line.contains('\n'), "{line}");
}
