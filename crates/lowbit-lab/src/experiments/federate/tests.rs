use super::*;
use crate::experiments::inputs::tests::input;
use lowbit::format;
use lowbit_fed::round::Silent;
use lowbit_fed::wire::Parts;
use std::collections::BTreeMap;

fn two_clients(bits: u8) -> FederateConfig {
    FederateConfig {
        rounds: 2,
        local_epochs: 1,
        bits: bits.try_into().unwrap(),
        partition: Partition::Iid,
        local_test: Partition::HELD,
        settings: Settings {
            clients: 2,
            ..Settings::default()
        },
        resume: Resume::No,
    }
}

pub(super) fn config(out: &Path) -> Config {
    let mut config = Config::default();
    config.results.out = out.to_owned();
    config.network.model = "mlp".into();
    config
}

#[test]
fn a_federation_on_ten_images_leaves_what_it_says_and_is_run_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let isa = Isa::current().unwrap();
    let done = federate(&config, &two_clients(4), &input(), isa, &Silent).unwrap();
    assert!(!done.earlier);
    assert_eq!((done.results.bit_width, done.results.num_rounds), (4, 2));
    let rounds: Vec<usize> = done.rounds.iter().map(|round| round.clients).collect();
    assert_eq!(rounds, [2, 2]);
    let labels: Vec<usize> = done.federation.labels_per_client.concat();
    assert_eq!(labels.iter().sum::<usize>(), 8);
    assert_eq!(done.federation.failures, 0);
    let up: u64 = done.rounds.iter().map(|round| round.bytes_up).sum();
    assert_eq!(done.federation.bytes_up, up);
    let metrics = done.results.compression_metrics.as_ref().unwrap();
    for (name, mb) in [
        ("model_fp32.safetensors", metrics.original_size_mb),
        ("model_4bit.safetensors", metrics.compressed_size_mb),
    ] {
        let file = done.folder.join(name);
        assert_eq!(std::fs::metadata(&file).unwrap().len() as f64 / 1e6, mb);
        // The file says what it was trained on, so that it is not measured on it.
        let (_, record) = format::load_with_record(&file).unwrap();
        assert_eq!(record, Some(input().record(1)));
    }
    let value = json(&done);
    assert_eq!(value["federation"]["bytes_up"], up);
    assert_eq!(value["results_per_round"].as_array().unwrap().len(), 2);
    let again = federate(&config, &two_clients(4), &input(), isa, &Silent).unwrap();
    assert!(again.earlier);
    assert_eq!(again.folder, done.folder);
    // Times in a file are text: their last digit may differ.
    assert_eq!(again.rounds.len(), 2);
    assert_eq!(again.rounds[1].test_loss, done.rounds[1].test_loss);
    assert_eq!(again.federation.parts, done.federation.parts);
    assert_eq!(again.federation.settings, done.federation.settings);
    let float = federate(&config, &two_clients(32), &input(), isa, &Silent).unwrap();
    assert_ne!(float.folder, done.folder);
    assert!(!float.folder.join("model_32bit.safetensors").exists());
    let metrics = float.results.compression_metrics.unwrap();
    assert_eq!(metrics.compression_ratio, 1.0);
}

#[test]
fn a_runs_name_is_a_hash_of_its_settings() {
    let list = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let owned = pairs.iter().map(|&(a, b)| (a.to_owned(), b.to_owned()));
        owned.collect()
    };
    // FNV-1a of "", "a=b\n" and "a=b\nc=d\n", both halves in one.
    assert_eq!(name(&list(&[])), "4fd0bfc1");
    assert_eq!(name(&list(&[("a", "b")])), "2ffe1a79");
    assert_eq!(name(&list(&[("c", "d"), ("a", "b")])), "bf98742a");
}

#[test]
fn clients_change_their_training_images_as_the_settings_say() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    let isa = Isa::current().unwrap();
    let plain = federate(&config, &two_clients(32), &input(), isa, &Silent).unwrap();
    // Runs of versions that knew no augmentation are still found.
    assert!(!plain.federation.settings.contains_key("augment"));
    config.training.augment = "flip,shift:2".parse().unwrap();
    let moved = federate(&config, &two_clients(32), &input(), isa, &Silent).unwrap();
    assert_eq!(moved.federation.settings["augment"], "flip,shift:2");
    assert_ne!(moved.folder, plain.folder);
    assert_ne!(moved.rounds[0].train_loss, plain.rounds[0].train_loss);
    let elsewhere = tempfile::tempdir().unwrap();
    config.results.out = elsewhere.path().to_owned();
    let twice = federate(&config, &two_clients(32), &input(), isa, &Silent).unwrap();
    assert_eq!(twice.rounds[1].train_loss, moved.rounds[1].train_loss);
    assert_eq!(twice.rounds[1].test_loss, moved.rounds[1].test_loss);
}

#[test]
fn a_model_of_32_bits_is_not_quantized() {
    let config = Config::default();
    assert!(qat(&config, ModelBits::Fp32).is_none());
    let bits = |bits: u8| qat(&config, bits.try_into().unwrap()).map(|qat| qat.weight_bits.get());
    assert_eq!([16, 8, 1].map(bits), [Some(16), Some(8), Some(1)]);
}

#[test]
fn the_overhead_is_the_share_of_the_time_that_is_neither_training_nor_measuring() {
    let round = |training_seconds, evaluation_seconds, other_seconds| FederatedRound {
        training_seconds,
        evaluation_seconds,
        other_seconds,
        round: 1,
        train_loss: 0.0,
        train_accuracy: 0.0,
        test_loss: 0.0,
        test_accuracy: 0.0,
        test_per_client: None,
        local_test_accuracy: Some(0.0),
        bytes_up: 0,
        bytes_down: 0,
        up: Parts::default(),
        down: Parts::default(),
        catch_up: Parts::default(),
        clients: 2,
        failures: vec![],
    };
    // A model that has gone wrong leaves a record that can be read.
    let lost = FederatedRound {
        test_loss: f64::NAN,
        ..round(1.0, 1.0, 1.0)
    };
    let json = serde_json::to_string(&lost).unwrap();
    let read: FederatedRound = serde_json::from_str(&json).unwrap();
    assert!(read.test_loss.is_nan());
    // 1 of 10 seconds, and 1 + 2 of 10 + 10.
    assert_eq!(overhead(&[round(7.0, 2.0, 1.0)]), 0.1);
    assert_eq!(
        overhead(&[round(7.0, 2.0, 1.0), round(5.0, 3.0, 2.0)]),
        0.15
    );
}
