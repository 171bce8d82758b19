use super::*;
use crate::experiments::inputs::tests::input;
use lowbit::WeightBits;
use lowbit::graph::zoo;

fn graph(input: &Input) -> Graph {
    zoo::build("mlp", input.shape(), &input.data.class_names).unwrap()
}

fn float(config: &Config, input: &Input) -> Decisive {
    Decisive::of(config, input, &graph(input), None, None)
}

fn quantized(config: &Config, bits: u8, frozen_epochs: usize) -> Decisive {
    let qat = config.qat(bits.try_into().unwrap());
    let input = input();
    let how = Quantized { qat, frozen_epochs };
    Decisive::of(config, &input, &graph(&input), Some(how), None)
}

#[test]
fn every_setting_that_touches_training_makes_another_run() {
    let (config, input) = (Config::default(), input());
    let one = float(&config, &input);
    type Change = fn(&mut Config);
    let changes: [(&str, Change); 15] = [
        ("seed", |c| c.run.seed = 2),
        ("epochs", |c| c.training.epochs = 11),
        ("batch_size", |c| c.training.batch_size = 32),
        ("lr", |c| c.training.lr = 2e-3),
        ("optimizer", |c| {
            c.training.optimizer = Optimizer::Sgd {
                momentum: 0.9,
                nesterov: false,
            }
        }),
        ("schedule", |c| {
            c.training.schedule = "constant".parse().unwrap()
        }),
        ("augment", |c| c.training.augment = "flip".parse().unwrap()),
        ("weight_decay", |c| c.recipe.weight_decay = 0.1),
        ("label_smoothing", |c| c.recipe.label_smoothing = 0.1),
        ("clip_norm", |c| c.recipe.clip_norm = 0.1),
        ("warmup_epochs", |c| c.recipe.warmup_epochs = 1),
        ("mixup", |c| c.recipe.mixup = 0.1),
        ("cutmix", |c| c.recipe.cutmix = 0.1),
        ("ema", |c| c.recipe.ema = 0.1),
        ("bn_reestimation", |c| c.recipe.bn_reestimation = 3),
    ];
    let mut folders = vec![one.folder()];
    for (key, change) in changes {
        let mut other = config.clone();
        change(&mut other);
        let other = float(&other, &input);
        let difference = other.first_difference(&one).expect(key);
        assert_eq!(difference.key, key);
        assert_eq!(difference.found.as_deref(), one.get(key));
        assert_eq!(other.get(key), Some(difference.expected.as_str()));
        folders.push(other.folder());
    }
    folders.sort();
    folders.dedup();
    assert_eq!(folders.len(), 16);
}

#[test]
fn the_data_decide_by_what_they_hold_and_not_by_their_name() {
    let (config, one) = (Config::default(), input());
    let mut moved = one.clone();
    moved.data.name = "elsewhere".into();
    assert_eq!(float(&config, &one), float(&config, &moved));
    let mut renamed = one.data.clone();
    renamed.class_names = vec!["bee".into(), "cow".into()];
    let renamed = Input::new(renamed, one.split.clone()).unwrap();
    let difference = float(&config, &renamed).first_difference(&float(&config, &one));
    let difference = difference.expect("other classes");
    assert_eq!(
        (difference.key.as_str(), difference.found.as_deref()),
        ("classes", Some("ant, bee"))
    );
    assert_eq!(difference.expected, "bee, cow");
}

#[test]
fn settings_that_do_not_touch_training_change_nothing() {
    let (config, input) = (Config::default(), input());
    let mut other = config.clone();
    other.run.threads = 3;
    other.results.out = "elsewhere".into();
    other.repeats.seeds = 9;
    other.calibration.calibration_images = 7;
    other.ptq.observer = "mse".parse().unwrap();
    other.images.cache = false;
    // Of f32 training, all that belongs to quantization.
    other.other_widths.edge_bits = WeightBits::B4;
    other.qat.ste = false;
    other.qat.freeze_bn_epochs = 2;
    assert_eq!(float(&config, &input), float(&other, &input));
    assert_eq!(
        float(&config, &input).folder(),
        float(&other, &input).folder()
    );
}

#[test]
fn quantization_decides_with_its_automatic_choices_made() {
    let config = Config::default();
    let one = quantized(&config, 4, 0);
    let mut asked = config.clone();
    asked.qat.quantizer = "lsq".parse().unwrap();
    assert_eq!(one, quantized(&asked, 4, 0));
    asked.qat.quantizer = "absmax".parse().unwrap();
    let difference = quantized(&asked, 4, 0).first_difference(&one).unwrap();
    assert_eq!(
        (difference.key.as_str(), difference.found.as_deref()),
        ("quantizer", Some("lsq"))
    );
    assert_ne!(one, quantized(&config, 2, 0));
    assert_ne!(one, quantized(&config, 4, 1));
    assert_eq!(one.shared(), quantized(&config.with_seed(5), 2, 1).shared());
    assert_ne!(one.row(), quantized(&config, 2, 0).row());
    assert_eq!(one.row(), quantized(&config.with_seed(5), 4, 0).row());
    assert_eq!(one.shared().get("bits"), None);
    assert_eq!(one.row().get("lr"), None);
}

#[test]
fn a_list_survives_a_checkpoint_and_an_older_one_lacks_what_it_did_not_know() {
    let one = float(&Config::default(), &input());
    let mut metadata = one.pairs().clone();
    metadata.insert("history".into(), "[]".into());
    assert_eq!(Decisive::from_metadata(&metadata), one);
    metadata.remove("classes");
    let difference = one.first_difference(&Decisive::from_metadata(&metadata));
    let difference = difference.unwrap();
    assert_eq!(
        (difference.key.as_str(), difference.found),
        ("classes", None)
    );
}

#[test]
fn an_optimizer_with_other_numbers_is_another_one() {
    assert_eq!(
        optimizer(Optimizer::Sgd {
            momentum: 0.9,
            nesterov: false
        }),
        "sgd"
    );
    let odd = optimizer(Optimizer::Sgd {
        momentum: 0.5,
        nesterov: false,
    });
    assert!(odd.contains("0.5"), "{odd}");
}
