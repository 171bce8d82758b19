use super::*;
use crate::Config;
use crate::analysis::analyze;
use crate::analysis::runs::Runs;
use crate::decisive::{Decisive, Quantized};
use crate::experiments::inputs::Input;
use crate::experiments::inputs::tests::{input, split};
use crate::experiments::learning::Learning;
use crate::experiments::results::DataResults;
use crate::experiments::sweep::{CompressionMetrics, RoundRecord};

/// A finished run of these settings; `at` is its time.
fn run(input: &Input, config: &Config, bits: u8, accuracy: f64, at: &str) -> Run {
    let graph = input.graph("mlp").unwrap();
    let quantized = (bits < 32).then(|| Quantized {
        qat: config.qat(bits.try_into().unwrap()),
        frozen_epochs: config.qat.freeze_bn_epochs,
    });
    let decisive = Decisive::of(config, input, &graph, quantized, None);
    let bare: RunResults = serde_json::from_str(&format!(
        "{{\"bit_width\": {bits}, \"final_test_accuracy\": {accuracy}}}"
    ))
    .unwrap();
    Run {
        folder: format!("out/{bits}bit/{}", decisive.folder()).into(),
        results: RunResults {
            num_rounds: config.training.epochs,
            batch_size: config.training.batch_size,
            learning_rate: config.training.lr,
            seed: config.run.seed,
            model: "mlp".into(),
            data: input.data.name.clone(),
            timestamp: at.into(),
            decisive: Some(decisive),
            images: Some(DataResults::of(input)),
            evaluated: None,
            config: Some(config.clone()),
            compression_metrics: Some(CompressionMetrics::of(
                bits.try_into().unwrap(),
                1_000_000,
                31_250 * u64::from(bits),
            )),
            training_time_seconds: Some(10.0 * accuracy),
            img_per_s: Some(1000.0 / f64::from(bits)),
            speedup: Some(32.0 / f64::from(bits)),
            results_per_round: vec![RoundRecord {
                round: 1,
                train_loss: 0.5,
                train_accuracy: accuracy + 0.02,
                test_loss: 0.5,
                test_accuracy: accuracy,
                validation_loss: None,
                validation_accuracy: None,
            }],
            ..bare
        },
    }
}

fn other_images() -> Input {
    let mut data = input().data;
    data.name = "hard".into();
    data.train = split(50, 8);
    Input::new(data, input().split).unwrap()
}

fn found(runs: Vec<Run>) -> Runs {
    Runs {
        runs,
        skipped: vec![],
        beside: vec![],
    }
}

#[test]
fn runs_are_averaged_over_seeds_and_over_nothing_else() {
    let config = Config::default();
    let easy = input();
    let runs = found(vec![
        run(&easy, &config, 32, 0.90, "1"),
        run(&easy, &config.with_seed(2), 32, 0.94, "2"),
        run(&easy, &config, 8, 0.89, "3"),
        run(&easy, &config.with_seed(2), 8, 0.91, "4"),
        run(&other_images(), &config, 32, 0.40, "0"),
        run(&other_images(), &config, 8, 0.30, "0"),
    ]);
    let analysis = analyze(&runs, 1.0);
    let rows = &analysis.newest.widths;
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].bit_width, rows[0].runs), (32, 2));
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
    near(rows[0].test_accuracy.value, 92.0);
    // Two runs: t(1) · s/√2 = 12.706 · 2.
    near(rows[0].test_accuracy.high, 92.0 + 12.706 * 2.0);
    near(rows[0].train_accuracy, 94.0);
    near(rows[0].overfitting_gap, 2.0);
    near(rows[0].accuracy_delta.unwrap(), 0.0);
    near(rows[0].size_mb, 1.0);
    near(rows[1].test_accuracy.value, 90.0);
    near(rows[1].accuracy_delta.unwrap(), -2.0);
    near(rows[1].size_mb, 0.25);
    near(rows[1].compression_ratio, 4.0);
    near(rows[1].size_reduction_percent, 75.0);
    near(rows[1].training_time_seconds, 9.0);
    near(rows[1].img_per_s, 125.0);
    near(rows[1].speedup, 4.0);
    assert_eq!(rows[1].folder, runs.runs[3].folder);
    assert_eq!(analysis.others.len(), 1);
    let other = &analysis.others[0];
    assert!(
        other
            .title
            .starts_with("mlp on hard, 8 + 2 images of 2×2×1"),
        "{}",
        other.title
    );
    assert_eq!((other.widths[0].runs, other.widths[1].runs), (1, 1));
    near(other.widths[1].accuracy_delta.unwrap(), -10.0);
    assert_eq!(analysis.tables().count(), 2);
}

#[test]
fn every_setting_of_the_recipe_makes_a_sweep_of_its_own() {
    let one = Config::default();
    type Change = fn(&mut Config);
    let changes: [Change; 6] = [
        |c| c.training.epochs = 11,
        |c| c.training.batch_size = 32,
        |c| c.training.lr = 2e-3,
        |c| c.training.optimizer = "sgd".parse().unwrap(),
        |c| c.training.schedule = "constant".parse().unwrap(),
        |c| c.training.augment = "flip".parse().unwrap(),
    ];
    for change in changes {
        let mut other = one.clone();
        change(&mut other);
        let runs = [
            run(&input(), &one, 8, 0.9, "1"),
            run(&input(), &other, 8, 0.8, "2"),
        ];
        let sorted = series(&runs);
        assert_eq!(sorted.len(), 2);
        assert_eq!((sorted[0].len(), sorted[1].len()), (1, 1));
        // The newest is the first, and its title says what it is.
        assert_eq!(sorted[0].groups[0].1[0].results.timestamp, "2");
        assert_ne!(sorted[0].title, sorted[1].title);
    }
}

#[test]
fn what_belongs_to_quantization_makes_a_row_of_the_same_sweep() {
    let plain = Config::default();
    type Change = fn(&mut Config);
    let changes: [(Change, &str); 9] = [
        (
            |c| c.other_widths.weight_grid = WeightGrid::MidRise,
            "4 (mid-rise)",
        ),
        (|c| c.other_widths.edge_bits = WeightBits::B4, "4 (edges 4)"),
        (
            |c| c.other_widths.act_bits = ActivationBits::B4,
            "4 (activations 4)",
        ),
        (
            |c| c.other_widths.act_bits = ActivationBits::Float,
            "4 (float activations)",
        ),
        (
            |c| c.qat.quantizer = "absmax".parse().unwrap(),
            "4 (weights by absmax)",
        ),
        (
            |c| c.qat.act_quantizer = "ema".parse().unwrap(),
            "4 (activations by ema)",
        ),
        (|c| c.qat.ste = false, "4 (no STE)"),
        (|c| c.qat.freeze_bn_epochs = 2, "4 (2 frozen)"),
        (
            |c| {
                c.other_widths.edge_bits = WeightBits::B4;
                c.qat.ste = false;
            },
            "4 (edges 4, no STE)",
        ),
    ];
    for (change, label) in changes {
        let mut other = plain.clone();
        change(&mut other);
        let runs = [
            run(&input(), &plain, 4, 0.9, "1"),
            run(&input(), &other, 4, 0.8, "2"),
            run(&input(), &other, 32, 0.8, "3"),
        ];
        let sorted = series(&runs);
        assert_eq!(sorted.len(), 1, "{label}");
        let mut labels: Vec<String> = sorted[0]
            .groups
            .iter()
            .map(|(kind, _)| kind.label())
            .collect();
        labels.sort();
        assert_eq!(labels, ["32", "4", label]);
        assert!(sorted[0].groups.iter().all(|(_, runs)| runs.len() == 1));
    }
    // Two bits were three values once, and may be again; whose edges are, is no row of others.
    let grids = [WeightGrid::Auto, WeightGrid::MidRise, WeightGrid::MidTread];
    for (bits, edges, expected) in [
        (2, WeightBits::B8, ["2", "2", "2 (mid-tread)"]),
        (
            1,
            WeightBits::B2,
            ["1 (edges 2)", "1 (edges 2)", "1 (edges 2, mid-tread)"],
        ),
        (
            4,
            WeightBits::B2,
            ["4 (edges 4)", "4 (edges 4, mid-rise)", "4 (edges 4)"],
        ),
        (8, WeightBits::B8, ["8"; 3]),
    ] {
        let labels = grids.map(|grid| {
            let mut config = plain.clone();
            config.other_widths.edge_bits = edges;
            config.other_widths.weight_grid = grid;
            Kind::of(&run(&input(), &config, bits, 0.9, "1").results).label()
        });
        assert_eq!(labels, expected);
    }
    // A width of somebody else's.
    let mut foreign = run(&input(), &plain, 4, 0.9, "1");
    foreign.results.bit_width = 3;
    assert_eq!(Kind::of(&foreign.results).label(), "3");
    // What is chosen automatically is the same row when it is asked for.
    let mut asked = plain.clone();
    asked.qat.quantizer = "lsq".parse().unwrap();
    let runs = [
        run(&input(), &plain, 4, 0.9, "1"),
        run(&input(), &asked.with_seed(2), 4, 0.8, "2"),
    ];
    assert_eq!(series(&runs)[0].groups.len(), 1);
}

#[test]
fn rows_stand_widest_first() {
    let config = Config::default();
    let mut narrow = config.clone();
    narrow.other_widths.edge_bits = WeightBits::B2;
    let runs = [
        run(&input(), &narrow, 2, 0.9, "1"),
        run(&input(), &config, 2, 0.9, "1"),
        run(&input(), &config, 16, 0.9, "1"),
        run(&input(), &config, 32, 0.9, "1"),
    ];
    let sorted = series(&runs);
    let labels: Vec<String> = sorted[0]
        .groups
        .iter()
        .map(|(kind, _)| kind.label())
        .collect();
    assert_eq!(labels, ["32", "16", "2", "2 (edges 2)"]);
}

#[test]
fn older_runs_are_apart_where_they_say_that_they_differ() {
    let bare = |model: &str, rounds: usize| -> Run {
        let results = serde_json::from_str(&format!(
            "{{\"bit_width\": 8, \"final_test_accuracy\": 0.5, \"model\": \"{model}\", \"num_rounds\": {rounds}}}"
        ))
        .unwrap();
        Run {
            folder: "old".into(),
            results,
        }
    };
    let runs = [
        bare("mlp", 3),
        bare("mlp", 3),
        bare("mlp", 4),
        bare("cnn", 3),
    ];
    let mut sizes: Vec<usize> = series(&runs).iter().map(Series::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 2]);
    let mut small = run(&input(), &Config::default(), 8, 0.9, "1");
    small.results.decisive = None;
    let mut large = small.clone();
    if let Some(config) = &mut large.results.config {
        config.input.image_size = 64;
    }
    assert_eq!(series(&[small.clone(), large]).len(), 2);
    assert_eq!(series(&[small.clone(), small]).len(), 1);
}

#[test]
fn a_title_says_what_the_rows_are_of() {
    let mut config = Config::default();
    config.training.augment = "flip".parse().unwrap();
    config.training.epochs = 1;
    config.images.split = "60/20/20".parse().unwrap();
    let split = run(&input(), &config, 8, 0.9, "1");
    let rows = [split];
    let title = &series(&rows)[0].title;
    assert!(
        title.contains("of 2×2×1, split 60/20/20, 1 epoch"),
        "{title}"
    );
    config.images.split = "auto".parse().unwrap();
    let mut one = run(&input(), &config, 8, 0.9, "1");
    assert_eq!(
        series(&[one.clone()])[0].title,
        "mlp on photos, 8 + 2 images of 2×2×1, 1 epoch, batch 64, lr 0.001, adam, cosine, flip"
    );
    one.results.synthetic = true;
    one.results.num_rounds = 5;
    let title = series(&[one])[0].title.clone();
    assert!(
        title.starts_with("mlp on photos (synthetic data), ") && title.contains("5 epochs"),
        "{title}"
    );
    let mut federated = run(&input(), &config, 8, 0.9, "1");
    federated.results.local_epochs = 2;
    let clients = ("clients".to_owned(), "10".to_owned());
    federated.results.decisive = Some(Decisive::of_named([clients].into()));
    let title = series(&[federated])[0].title.clone();
    assert!(
        title.contains(", 1 round of 2 epochs on 10 clients, "),
        "{title}"
    );
    let bare = Run {
        folder: "old".into(),
        results: serde_json::from_str("{\"bit_width\": 8, \"final_test_accuracy\": 0.5}").unwrap(),
    };
    assert_eq!(series(&[bare])[0].title, "a model on unknown data");
}

#[test]
fn a_baseline_that_did_not_learn_allows_no_sweet_spot() {
    let config = Config::default();
    let mut runs = vec![
        run(&input(), &config, 32, 0.5, "1"),
        run(&input(), &config, 8, 0.5, "1"),
    ];
    runs[1].results.learning = Some(Learning::AtChance);
    let table = |runs: &[Run]| series(runs)[0].table(1.0);
    let found = table(&runs);
    // What knows nothing loses nothing that could be told.
    assert_eq!(found.summary.sweet_spot.as_deref(), Some("32"));
    assert_eq!(found.summary.not_learned, ["8"]);
    assert_eq!(found.summary.no_verdict, None);
    for (learning, word) in [
        (Learning::AtChance, "not shown to be better than a guess"),
        (Learning::Diverged, "diverged"),
    ] {
        runs[0].results.learning = Some(learning);
        let found = table(&runs);
        assert_eq!(found.summary.sweet_spot, None);
        assert!(found.summary.no_verdict.unwrap().contains(word));
        assert_eq!(found.summary.not_learned, ["32", "8"]);
    }
}

#[test]
fn losses_against_32_bits_are_those_of_the_same_seeds() {
    let of = |bits: u8, seed: u64, accuracy: f64| {
        let mut config = Config::default();
        config.run.seed = seed;
        let mut run = run(&input(), &config, bits, accuracy, "1");
        run.results.seed = seed;
        run
    };
    let wide = || vec![of(32, 1, 0.7), of(32, 2, 0.8), of(32, 3, 0.9)];
    let table = |narrow: Vec<Run>| series(&[wide(), narrow].concat())[0].table(1.0);
    // One below the mean of the others, and eleven below its own.
    let found = table(vec![of(8, 3, 0.79)]);
    // To the last digit: sums leave nothing behind.
    assert_eq!(found.widths[1].accuracy_delta, Some(-11.0));
    assert_eq!(found.widths[1].accuracy_delta_interval, None);
    assert_eq!(found.summary.sweet_spot.as_deref(), Some("32"));
    // Differences of 0, −1 and −2: the mean ± 4.303 / √3.
    let found = table(vec![of(8, 1, 0.7), of(8, 2, 0.79), of(8, 3, 0.88)]);
    assert_eq!(found.widths[1].accuracy_delta, Some(-1.0));
    let [low, high] = found.widths[1].accuracy_delta_interval.unwrap();
    assert!((low + 3.4843).abs() < 1e-3 && (high - 1.4843).abs() < 1e-3);
    // A loss of the points that are allowed is allowed, whatever sums of floats leave.
    assert_eq!(found.summary.sweet_spot.as_deref(), Some("8"));
    assert!(found.summary.notes[0].contains("do not show it yet, -1.00 points [-3.48, +1.48]"));
    // Runs of unknown seeds are not paired: 32 bits lose nothing against themselves, and equal means are equal.
    let mut unknown = [wide(), vec![of(8, 1, 0.8), of(8, 2, 0.8), of(8, 3, 0.8)]].concat();
    for run in &mut unknown {
        (run.results.seed, run.results.decisive) = (0, None);
    }
    let found = series(&unknown)[0].table(1.0);
    let deltas: Vec<_> = found.widths.iter().map(|row| row.accuracy_delta).collect();
    assert_eq!(deltas, [Some(0.0); 2]);
    assert_eq!(found.widths[1].accuracy_delta_interval, None);
    assert!(found.summary.notes[0].contains("fewer than two seeds in common"));
    // No seed in common: the means are all there is.
    let found = table(vec![of(8, 4, 0.85)]);
    assert_eq!(found.widths[1].accuracy_delta, Some(5.0));
}

#[test]
fn comma_separated_values_hold_every_table_and_say_which() {
    let config = Config::default();
    let runs = found(vec![
        run(&input(), &config, 8, 0.9, "1"),
        run(&other_images(), &config, 4, 0.8, "0"),
    ]);
    let text = analyze(&runs, 1.0).csv();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("bit_width,label,runs,") && lines[0].ends_with(",folder,sweep"));
    assert!(
        lines[1].starts_with(
            "8,\"8\",1,0.2500,4.0000,75.0000,90.0000,,,92.0000,2.0000,,,,125.0000,4.0000,9.0000,"
        ),
        "{}",
        lines[1]
    );
    assert!(lines[1].contains("\"mlp on photos, "));
    assert!(lines[2].starts_with("4,\"4\",1,") && lines[2].contains("\"mlp on hard, "));
}

#[test]
fn the_gap_is_that_of_the_epoch_that_was_kept() {
    let mut one = run(&input(), &Config::default(), 8, 0.9, "1");
    let first = one.results.results_per_round[0];
    one.results.results_per_round.push(RoundRecord {
        round: 2,
        train_accuracy: 1.0,
        ..first
    });
    let gap = |run: &Run| analyze(&found(vec![run.clone()]), 1.0).newest.widths[0].overfitting_gap;
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
    near(gap(&one), 10.0);
    one.results.chosen_epoch = Some(1);
    near(gap(&one), 2.0);
    // A file that lies about it has no gap.
    one.results.chosen_epoch = Some(0);
    assert!(gap(&one).is_nan());
}
