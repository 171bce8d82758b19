//! Settings from defaults, files, pairs and flags.

use super::*;
use lowbit::quant::Observer;

fn of_pairs(pairs: &[&str]) -> Result<Config, ConfigError> {
    let mut layers = Layers::over(Config::default());
    for pair in pairs {
        layers.pair(pair)?;
    }
    Ok(layers.finish())
}

fn of_file(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    std::fs::write(&path, text).unwrap();
    let mut layers = Layers::over(Config::default());
    layers.file(&path)?;
    Ok(layers.finish())
}

#[test]
fn flags_beat_pairs_and_pairs_beat_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    std::fs::write(&path, "epochs = 3\nlr = 1\nseed = 5\nbatch-size = 7").unwrap();
    let mut layers = Layers::over(Config::default());
    layers.file(&path).unwrap();
    for pair in ["epochs=4", "observer=percentile:99.9", "seed=6"] {
        layers.pair(pair).unwrap();
    }
    layers.flag("seed", "seed", "9").unwrap();
    let config = layers.finish();
    let training = &config.training;
    assert_eq!(
        (training.epochs, training.lr, training.batch_size),
        (4, 1.0, 7)
    );
    assert_eq!(config.run.seed, 9);
    assert_eq!(config.ptq.observer, Observer::Percentile(99.9));
    assert_eq!(config.network, areas::Network::default());
    for (text, bits) in [
        ("act_bits=float", ActivationBits::Float),
        ("act_bits=4", ActivationBits::B4),
    ] {
        assert_eq!(of_pairs(&[text]).unwrap().other_widths.act_bits, bits);
    }
}

#[test]
fn texts_that_look_like_numbers_stay_texts() {
    let config = of_pairs(&["out=2024", "data=\"my photos\"", "model = 1.5"]).unwrap();
    assert_eq!(config.results.out, std::path::Path::new("2024"));
    assert_eq!(config.images.data, "my photos");
    assert_eq!(config.network.model, "1.5");
}

#[test]
fn unknown_settings_are_named_with_the_closest_one() {
    assert_eq!(
        of_pairs(&["epoch=3"]).unwrap_err().to_string(),
        "--set epoch=3: unknown setting epoch (did you mean epochs?)"
    );
}

#[test]
fn a_file_is_refused_with_line_and_column() {
    for (text, expected) in [
        (
            "epochs = 3\n\n  sed = 1",
            ":3:3: unknown setting sed (did you mean seed?)",
        ),
        ("# ä\nlr = \"high\"", ":2:1: lr must be a number"),
        ("seed = 1\nepochs = -3", ":2:1: epochs = -3 is out of range"),
        ("seed = 1\nepochs = 0", ":2:1: epochs must be at least 1"),
        ("ste = 1", ":1:1: ste must be true or false"),
        ("out = 3", ":1:1: out must be a text"),
        ("epochs = 3.5", ":1:1: epochs must be a whole number"),
        ("epochs = 3\nseed = ", ":2:8: "),
        ("epochs = 3\nepochs = 4", ":2:1: "),
    ] {
        let error = of_file(text).unwrap_err().to_string();
        assert!(error.contains(&format!("run.toml{expected}")), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn values_of_another_kind_are_refused_with_their_place() {
    for (pair, part) in [
        ("epochs=many", "epochs must be a whole number"),
        ("epochs=0", "at least 1"),
        ("lr=-1", "positive"),
        ("lr=fast", "lr must be a number"),
        ("schedule=linear", "unknown schedule linear"),
        ("epochs", "expected key=value"),
        ("act_bits=7", "8, 4, 2, 1 or float"),
        ("bits=3", "3-bit weights: use 16, 8, 4, 2 or 1"),
        ("bits=300", "bits = 300 is out of range"),
        ("edge_bits=5", "5-bit weights: use 16, 8, 4, 2 or 1"),
        ("act_bits=half", "8, 4, 2, 1 or float"),
        ("augment=rotate", "unknown augmentation rotate"),
    ] {
        let error = of_pairs(&[pair]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("--set {pair}: ")), "{error}");
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn every_setting_stands_in_one_group_and_takes_the_values_that_it_names() {
    let all = toml::Table::try_from(Config::default()).unwrap();
    let mut keys: Vec<&str> = GROUPS
        .iter()
        .flat_map(|group| group.settings)
        .map(|setting| setting.key)
        .collect();
    assert_eq!(keys.len(), all.len());
    keys.sort_unstable();
    assert_eq!(keys, all.keys().collect::<Vec<_>>());
    for setting in GROUPS.iter().flat_map(|group| group.settings) {
        let values = match setting.values {
            Values::OneOf(list) => list(),
            Values::Like(_, list) => list.to_vec(),
            _ => continue,
        };
        for value in values {
            of_pairs(&[&format!("{}={value}", setting.key)]).unwrap();
        }
    }
}

#[test]
fn settings_are_one_flat_list_in_results() {
    let config = of_pairs(&["lr=0.25", "act_bits=float", "optimizer=sgd"]).unwrap();
    let json = serde_json::to_value(&config).unwrap();
    assert_eq!(json["lr"], 0.25);
    assert_eq!(json["optimizer"], "sgd");
    assert_eq!(serde_json::from_value::<Config>(json).unwrap(), config);
    // What a later version added, or an earlier one lacked, is no reason to refuse a run's settings.
    let partial = serde_json::json!({"seed": 4, "of_tomorrow": true});
    let config: Config = serde_json::from_value(partial).unwrap();
    assert_eq!(config, Config::default().with_seed(4));
}
