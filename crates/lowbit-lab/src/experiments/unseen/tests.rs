use super::fitted::listed;
use super::*;
use crate::experiments::inputs::tests::{input, split};
use lowbit::format::SplitRecord;
use lowbit::graph::zoo;
use std::path::PathBuf;

struct Model {
    file: PathBuf,
    graph: Graph,
    record: Option<TrainingRecord>,
}

impl Model {
    /// Trained on `input`.
    fn of(input: &Input) -> Self {
        Self {
            file: "m.safetensors".into(),
            graph: input.graph("mlp").unwrap(),
            record: Some(input.record(1)),
        }
    }

    fn measured(&self) -> Measured<'_> {
        Measured {
            foreign: None,
            file: &self.file,
            graph: &self.graph,
            record: self.record.as_ref(),
        }
    }
}

/// Images numbered from `train` and from `test`, of a split that this program drew, or of the data's own.
fn other(train: (u32, u32), test: (u32, u32), rule: &str) -> Input {
    let data = Dataset {
        name: "others".into(),
        train: split(train.0, train.1),
        test: split(test.0, test.1),
        split: rule.into(),
        ..input().data
    };
    let split = SplitRecord {
        rule: rule.into(),
        ..input().split
    };
    Input::new(data, split).unwrap()
}

const DRAWN: &str = "seeded stratified 80/20 (seed 1)";

fn of_other(model: &Model, purpose: Purpose, input: Input) -> Result<Chosen, LabError> {
    of_other_data(&model.measured(), purpose, input, &Config::default())
}

fn parts(chosen: &Chosen) -> (usize, usize, Which) {
    let data = &chosen.input.data;
    assert_eq!(chosen.evaluated.count, data.test.len());
    (data.train.len(), data.test.len(), chosen.evaluated.images)
}

#[test]
fn images_that_were_held_out_are_measured_whole() {
    let model = Model::of(&input());
    let held_out = || other((100, 16), (200, 4), DRAWN);
    let chosen = of_other(&model, Purpose::Evaluate, held_out()).unwrap();
    assert_eq!(parts(&chosen), (16, 20, Which::All));
    assert_eq!(chosen.evaluated.seen, Some(0));
    assert_eq!(chosen.evaluated.possibly_seen, Some(0));
    let text = chosen.describe();
    assert_eq!(
        text,
        "all 20 images of others, none of them among the training images"
    );
    // Those that set ranges are not measured as well; the smaller part is enough for that.
    let chosen = of_other(&model, Purpose::CalibrateAndEvaluate, held_out()).unwrap();
    assert_eq!(parts(&chosen), (4, 16, Which::AllButCalibration));
    let chosen = of_other(&model, Purpose::FineTune, held_out()).unwrap();
    assert_eq!(parts(&chosen), (16, 4, Which::TestOfThisSplit));
    let mut dynamic = Config::default();
    dynamic.ptq.method = lowbit::quant::ActivationQuant::Dynamic;
    let purpose = Purpose::CalibrateAndEvaluate;
    let chosen = of_other_data(&model.measured(), purpose, held_out(), &dynamic).unwrap();
    assert_eq!(parts(&chosen), (16, 20, Which::All));
}

#[test]
fn data_with_test_images_of_their_own_are_measured_on_those() {
    let model = Model::of(&input());
    for purpose in [
        Purpose::Evaluate,
        Purpose::CalibrateAndEvaluate,
        Purpose::FineTune,
    ] {
        // Training images among the data's own training images do no harm.
        let shipped = other((4, 10), (100, 5), "as shipped");
        let chosen = of_other(&model, purpose, shipped).unwrap();
        assert_eq!(parts(&chosen), (10, 5, Which::ShippedTest), "{purpose:?}");
    }
    let seen = other((100, 10), (7, 5), "as shipped");
    let error = of_other(&model, Purpose::Evaluate, seen).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("1 of these 5 images of others"), "{error}");
}

#[test]
fn training_images_among_the_others_are_counted_and_refused() {
    let model = Model::of(&input());
    // Images 0 to 7 were learned from: 5, 6, 7 are here.
    let mixed = || other((100, 10), (5, 6), DRAWN);
    for (purpose, measured) in [
        (Purpose::Evaluate, 16),
        (Purpose::CalibrateAndEvaluate, 16),
        (Purpose::FineTune, 6),
    ] {
        let error = of_other(&model, purpose, mixed()).unwrap_err().to_string();
        let count = format!("3 of these {measured} images");
        assert!(error.contains(&count), "{error}");
        // The file knows all of its training images.
        assert!(!error.contains("at least"), "{error}");
        for part in [
            "m.safetensors",
            "others",
            "--split-seed",
            "were training images",
        ] {
            assert!(error.contains(part), "{error}");
        }
        // Training goes on with what is not measured: with all images nothing would be left.
        assert_eq!(error.contains("--all"), purpose != Purpose::FineTune);
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn ranges_are_set_by_training_images_and_not_by_a_mixture() {
    let model = Model::of(&input());
    // All of them training images, none, some.
    let all = of_other(&model, Purpose::Calibrate, other((0, 6), (100, 4), DRAWN));
    assert_eq!(all.unwrap().input.data.train.len(), 6);
    let none = of_other(&model, Purpose::Calibrate, other((50, 6), (0, 4), DRAWN));
    assert_eq!(none.unwrap().input.data.train.len(), 6);
    let some = of_other(&model, Purpose::Calibrate, other((4, 6), (100, 4), DRAWN));
    let error = some.unwrap_err().to_string();
    assert!(
        error.contains("4 of these 6 images") && error.contains("its test images"),
        "{error}"
    );
}

#[test]
fn the_data_of_the_training_keep_the_split_of_the_training() {
    let input = input();
    let model = Model::of(&input);
    let chosen = as_trained_on(&model.measured(), input.clone(), 0).unwrap();
    assert_eq!(parts(&chosen), (8, 2, Which::TestOfTraining));
    assert!(chosen.same_data);
    assert_eq!(
        chosen.describe(),
        "2 test images of the split that the model was trained with (seeded stratified 80/20 (seed 1))"
    );
    let chosen = as_trained_on(&model.measured(), input, 1).unwrap();
    assert_eq!(parts(&chosen), (8, 1, Which::TestOfTraining));
}

#[test]
fn what_a_model_saw_before_its_last_training_counts_as_well() {
    let input = input();
    let mut model = Model::of(&input);
    let before = other((9, 4), (100, 2), DRAWN).record(1);
    model.record.as_mut().unwrap().earlier = Some(Box::new(before));
    // Image 9 is a test image now and was a training image then.
    let error = as_trained_on(&model.measured(), input, 0).unwrap_err();
    assert!(error.to_string().contains("1 of these 2 images"), "{error}");
    let mixed = other((7, 6), (100, 4), DRAWN);
    let error = of_other(&model, Purpose::Evaluate, mixed).unwrap_err();
    // 7 of the last training; 9, 10, 11 and 12 of the one before.
    assert!(
        error.to_string().contains("5 of these 10 images"),
        "{error}"
    );
}

#[test]
fn a_person_may_measure_what_was_seen_and_is_told() {
    let input = input();
    let model = Model::of(&input);
    let all = whole(&model.measured(), input.clone(), Which::All).unwrap();
    assert_eq!(parts(&all), (10, 10, Which::All));
    assert_eq!((all.evaluated.seen, all.same_data), (Some(8), true));
    assert!(
        all.describe()
            .contains("WARNING: 8 of them are training images")
    );
    let again = other((2, 8), (0, 2), DRAWN);
    let chosen = as_told(&model.measured(), again).unwrap();
    assert_eq!(parts(&chosen), (8, 2, Which::TestOfThisSplit));
    assert_eq!((chosen.evaluated.seen, chosen.same_data), (Some(2), false));
    let shipped = as_told(&model.measured(), other((9, 8), (0, 2), "as shipped")).unwrap();
    assert_eq!(parts(&shipped).2, Which::ShippedTest);
}

#[test]
fn a_file_that_says_nothing_is_measured_with_a_warning() {
    let mut model = Model::of(&input());
    model.record = None;
    let chosen = as_told(&model.measured(), input()).unwrap();
    assert_eq!(parts(&chosen), (8, 2, Which::TestOfThisSplit));
    assert_eq!(
        (chosen.evaluated.seen, chosen.evaluated.possibly_seen),
        (None, None)
    );
    assert!(
        chosen
            .describe()
            .contains("does not say what it was trained on")
    );
    model.record = Some(TrainingRecord {
        sketch: "###".into(),
        ..input().record(1)
    });
    let error = as_told(&model.measured(), input()).unwrap_err().to_string();
    assert!(
        error.contains("m.safetensors") && error.contains("sketch"),
        "{error}"
    );
}

#[test]
fn a_sample_of_many_training_images_says_how_many_it_can_tell_of() {
    // 2,560 training images: the file keeps a tenth of them.
    let large = other((0, 2560), (5000, 2), DRAWN);
    let model = Model::of(&large);
    let held_out = other((10_000, 400), (20_000, 100), DRAWN);
    let chosen = of_other(&model, Purpose::Evaluate, held_out).unwrap();
    let possibly = chosen.evaluated.possibly_seen.unwrap();
    assert_eq!(chosen.evaluated.seen, Some(0));
    assert!((400..490).contains(&possibly), "{possibly}");
    let text = chosen.describe();
    assert!(
        text.contains(&format!(
            "none of the {} that can be checked",
            500 - possibly
        )),
        "{text}"
    );
    let seen = other((0, 400), (20_000, 100), DRAWN);
    let error = of_other(&model, Purpose::Evaluate, seen)
        .unwrap_err()
        .to_string();
    assert!(error.contains("at least "), "{error}");
}

#[test]
fn a_sample_that_tells_of_none_of_the_images_is_no_clearance() {
    let evaluated = Evaluated {
        images: Which::All,
        count: 20,
        seen: Some(0),
        possibly_seen: Some(20),
    };
    assert!(evaluated.doubts().contains("WARNING") && evaluated.doubts().contains("none of these"));
}

#[test]
fn classes_get_the_numbers_that_the_model_has_for_their_names() {
    let input = input();
    let shape = input.shape();
    let names = ["bee", "cow", "ant"].map(String::from);
    let mut model = Model::of(&input);
    model.graph = zoo::build("mlp", shape, &names).unwrap();
    let fitted = fitted(&model.measured(), input.clone()).unwrap();
    assert_eq!(fitted.data.class_names, names);
    // Ants were 0 and are 2, bees were 1 and are 0.
    assert_eq!(fitted.data.train.labels(), [2, 0, 2, 0, 2, 0, 2, 0]);
    assert_eq!(
        fitted.data.train.images().unwrap(),
        input.data.train.images().unwrap()
    );
    assert_ne!(fitted.identity.fingerprint, input.identity.fingerprint);
    assert_eq!(fitted.identity, fitted.data.identity().unwrap());
    model.graph = zoo::build("mlp", shape, &["ant", "cow"].map(String::from)).unwrap();
    let error = super::fitted(&model.measured(), input)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("not bee of photos") && error.contains("ant, cow"),
        "{error}"
    );
}

#[test]
fn gray_images_are_shown_to_a_model_of_colors() {
    let input = input();
    let mut model = Model::of(&input);
    let names = &input.data.class_names;
    model.graph = zoo::build("mlp", lowbit::Shape::new(2, 2, 3), names).unwrap();
    let fitted = fitted(&model.measured(), input.clone()).unwrap();
    assert_eq!(fitted.shape(), lowbit::Shape::new(2, 2, 3));
    assert_eq!(fitted.data.test.image(1).unwrap()[..6], [9, 9, 9, 0, 0, 0]);
    model.graph = zoo::build("mlp", lowbit::Shape::new(4, 4, 1), names).unwrap();
    let error = super::fitted(&model.measured(), input)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("4×4×1") && error.contains("2×2×1") && error.contains("--image-size"),
        "{error}"
    );
}

#[test]
fn a_limit_takes_the_classes_in_turn() {
    let pixels = (0..7u8).collect();
    let split = Split::new(1, pixels, vec![0, 0, 0, 0, 1, 1, 2]).unwrap();
    let of = |limit| {
        first_of_each_class(&split, 3, limit)
            .images()
            .unwrap()
            .to_vec()
    };
    assert_eq!(of(3), [0, 4, 6]);
    assert_eq!(of(5), [0, 1, 4, 5, 6]);
    assert_eq!(of(6), [0, 1, 2, 4, 5, 6]);
    assert_eq!(of(99), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn many_names_are_cut_short() {
    let names: Vec<String> = (0..13).map(|index| format!("c{index}")).collect();
    assert!(listed(&names).ends_with("c11, … (13 in all)"));
    assert!(listed(&names[..12]).ends_with("c10, c11"));
}

#[test]
fn generated_data_are_those_of_the_training_whatever_the_seed() {
    let mut config = Config::default();
    config.images.limit = 20;
    config.images.cache = false;
    config.network.model = "mlp".into();
    let silent = lowbit_data::Silent;
    let trained = Input::load(&config, &silent).unwrap();
    let model = Model::of(&trained);
    let other_seed = config.with_seed(5);
    let load = |choice| {
        let measured = model.measured();
        images_for(&measured, Purpose::Evaluate, choice, &other_seed, &silent).unwrap()
    };
    let chosen = load(Choice::default());
    assert!(chosen.same_data);
    assert_eq!(chosen.input, trained);
    let told = load(Choice {
        split_seed: Some(9),
        ..Choice::default()
    });
    assert!(!told.same_data);
    assert_eq!(told.input.split.seed, 9);
    assert_ne!(told.input.data.test, trained.data.test);
    let all = load(Choice {
        all: true,
        ..Choice::default()
    });
    assert_eq!(parts(&all), (40, 40, Which::All));
    // Fewer images of the same data, without a limit of the training being said again.
    let mut fewer = other_seed.clone();
    fewer.images.limit = 10;
    let measured = model.measured();
    let purpose = Purpose::Evaluate;
    let chosen = images_for(&measured, purpose, Choice::default(), &fewer, &silent).unwrap();
    assert_eq!(parts(&chosen), (20, 10, Which::TestOfTraining));
}

#[test]
fn images_are_brought_to_the_size_and_turned_as_in_training() {
    let mut plain = Config::default();
    plain.images.limit = 20;
    plain.images.cache = false;
    plain.network.model = "mlp".into();
    let mut own = plain.clone();
    own.input.image_size = 16;
    own.input.resize = "short:20".parse().unwrap();
    own.input.exif = true;
    let silent = lowbit_data::Silent;
    let trained = Input::load(&own, &silent).unwrap();
    assert_eq!((trained.image_size, trained.exif), (16, true));
    assert_eq!(trained.shape(), lowbit::Shape::new(16, 16, 3));
    let mut model = Model::of(&trained);
    let load = |model: &Model, config: &Config, choice| {
        let measured = model.measured();
        images_for(&measured, Purpose::Evaluate, choice, config, &silent).unwrap()
    };
    let all = Choice {
        all: true,
        ..Choice::default()
    };
    let chosen = load(&model, &plain, Choice::default());
    assert!(chosen.same_data);
    assert_eq!(chosen.input, trained);
    let chosen = load(&model, &plain, all);
    assert_eq!((chosen.input.image_size, chosen.input.exif), (16, true));
    assert_eq!(chosen.input.resize, own.input.resize);
    // Turned now, and not then: the same split, and the same known to be seen.
    model.record.as_mut().unwrap().exif = false;
    let chosen = load(&model, &own, Choice::default());
    assert!(chosen.same_data && chosen.input.exif);
    assert_eq!(chosen.input.data.test, trained.data.test);
    assert_eq!(chosen.evaluated.seen, Some(0));
    let chosen = load(&model, &own, all);
    assert_eq!(chosen.evaluated.seen, Some(20));
}

#[test]
fn what_was_learned_from_before_counts_as_seen() {
    let mut record = other((8, 2), (50, 2), DRAWN).record(1);
    record.earlier = Some(Box::new(input().record(1)));
    // Images 0 to 7 came first, then 8 and 9; 10 and 11 are new.
    let found = overlap(Some(&record), Path::new("m"), &split(0, 12));
    let found = found.unwrap().unwrap();
    assert_eq!((found.images, found.checked, found.seen), (12, 12, 10));
    assert_eq!(overlap(None, Path::new("m"), &split(0, 12)).unwrap(), None);
}

#[test]
fn all_images_are_those_of_all_parts_and_a_split_that_was_told_is_that_split() {
    let model = Model::of(&input());
    let held_out = || {
        let mut input = other((100, 16), (200, 4), DRAWN);
        input.data.validation = split(300, 6);
        input
    };
    let chosen = of_other(&model, Purpose::Evaluate, held_out()).unwrap();
    assert_eq!(parts(&chosen), (16, 26, Which::All));
    let chosen = whole(&model.measured(), held_out(), Which::All).unwrap();
    assert_eq!(parts(&chosen), (26, 26, Which::All));
    for rule in [DRAWN, "EuroSAT's published spatial split"] {
        let told = || {
            let mut input = other((100, 16), (200, 4), rule);
            input.split.asked = "spatial".into();
            input
        };
        let chosen = of_other(&model, Purpose::Evaluate, told()).unwrap();
        assert_eq!(parts(&chosen), (16, 4, Which::TestOfThisSplit));
        let chosen = as_told(&model.measured(), told()).unwrap();
        assert_eq!(parts(&chosen), (16, 4, Which::TestOfThisSplit));
        assert!(chosen.describe().contains(rule), "{}", chosen.describe());
    }
}

#[test]
fn a_split_by_names_of_the_training_does_not_stand_before_other_data() {
    let mut config = Config::default();
    config.images.limit = 10;
    config.images.cache = false;
    config.input.image_size = 8;
    let landcover = Input::load(&config, &lowbit_data::Silent).unwrap();
    let mut model = Model::of(&landcover);
    let record = model.record.as_mut().unwrap();
    // It was trained on photographs whose split went by their names.
    record.fingerprint = input().identity.fingerprint;
    record.sketch = input().identity.train.to_text();
    record.split.asked = "spatial".into();
    let silent = &lowbit_data::Silent;
    let measured = |config: &Config| {
        let (purpose, choice) = (Purpose::Evaluate, Choice::default());
        images_for(&model.measured(), purpose, choice, config, silent)
    };
    let chosen = measured(&config).unwrap();
    assert_eq!(parts(&chosen), (10, 10, Which::ShippedTest));
    // What a person asks for is refused where it cannot be had.
    config.images.split = "spatial".parse().unwrap();
    let error = measured(&config).unwrap_err().to_string();
    assert!(error.contains("--split spatial"), "{error}");
}
