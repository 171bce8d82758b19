use super::*;
use crate::Silent;
use crate::experiments::inputs::Input;
use crate::experiments::inputs::tests::input;
use crate::experiments::unseen::{Evaluated, Which};
use lowbit::format;
use lowbit::graph::{GraphBuilder, Op};
use lowbit::{Graph, Shape, Weights};
use lowbit_data::Split;

fn part(value: f64, half: f64) -> PartScore {
    PartScore {
        images: 400,
        accuracy_percent: 90.0 - value,
        drop_points: Difference {
            value,
            low: value - half,
            high: value + half,
        },
        changed: 4,
    }
}

/// A measured row: points lost with half their interval, milliseconds, bytes.
fn row(name: &str, lost: f64, half: f64, ms: f64, bytes: u64) -> Row {
    Row {
        name: name.into(),
        group: name.into(),
        bytes,
        seconds: 1.0,
        choosing: part(lost, half),
        verdict: Some(part(lost, half)),
        latency_ms: Some(Summary::of(&[ms])),
        speedup: Some(Summary::of(&[10.0 / ms])),
        memory_bytes: Some(1_234_567),
        predicted: None,
        epochs: None,
        on_front: false,
        file: None,
        onnx: None,
        command: String::new(),
    }
}

#[test]
fn what_ships_is_kept_even_where_another_row_is_better_on_images_that_chose_nothing() {
    let mut ships = row("a", 0.2, 0.4, 2.0, 100);
    let verdict = Verdict {
        ship: "a".into(),
        fits: true,
        sentence: String::new(),
        next: None,
    };
    assert!(is_kept(&ships, &verdict));
    ships.name = "b".into();
    assert!(!is_kept(&ships, &verdict));
    ships.on_front = true;
    assert!(is_kept(&ships, &verdict));
}

#[test]
fn a_chart_names_what_it_leaves_out() {
    let rows = [
        row(FP32, 0.0, 0.4, 10.0, 400),
        row("near", 19.0, 0.4, 2.0, 100),
        row("far", 21.0, 0.4, 2.0, 50),
    ];
    let shown = |max_drop| {
        let (shown, about) = page::near(&rows, max_drop);
        (shown.len(), about)
    };
    assert_eq!(shown(0.5), (2, " (not shown, far below: far)".into()));
    assert_eq!(shown(2.0), (3, String::new()));
}

fn decided(target: Target, rows: &[Row]) -> Verdict {
    decide(&rows.iter().collect::<Vec<_>>(), target, 1.0, 400)
}

#[test]
fn the_fastest_that_is_shown_to_fit_ships_and_of_equals_the_smaller() {
    let rows = [
        row(FP32, 0.0, 0.4, 10.0, 400),
        row("a", 0.1, 0.4, 2.00, 100),
        row("b", 0.2, 0.4, 2.05, 50),
        row("too far", 0.8, 0.4, 1.0, 25),
    ];
    let verdict = decided(Target::Latency, &rows);
    assert_eq!((verdict.ship.as_str(), verdict.fits), ("b", true));
    assert!(
        verdict.sentence.contains("8.00× smaller"),
        "{}",
        verdict.sentence
    );
    assert!(
        verdict.sentence.contains("-0.20 points"),
        "{}",
        verdict.sentence
    );
    // Where it is not equal, speed wins.
    let mut slower = rows.clone();
    slower[2] = row("b", 0.2, 0.4, 2.2, 50);
    assert_eq!(decided(Target::Latency, &slower).ship, "a");
    assert_eq!(decided(Target::Size, &slower).ship, "b");
}

#[test]
fn fp32_stays_where_nothing_is_faster() {
    let rows = [
        row(FP32, 0.0, 0.4, 10.0, 400),
        row("a", 0.1, 0.4, 11.0, 100),
    ];
    let verdict = decided(Target::Latency, &rows);
    assert_eq!((verdict.ship.as_str(), verdict.fits), (FP32, true));
    assert!(
        verdict.sentence.contains("0.91× its speed"),
        "{}",
        verdict.sentence
    );
    assert_eq!(decided(Target::Size, &rows).ship, "a");
}

#[test]
fn fp32_stays_where_nothing_fits_and_where_images_cannot_tell() {
    let lost = [row(FP32, 0.0, 0.4, 10.0, 400), row("a", 3.0, 0.5, 2.0, 100)];
    let verdict = decided(Target::Latency, &lost);
    assert_eq!((verdict.ship.as_str(), verdict.fits), (FP32, false));
    assert!(
        verdict
            .sentence
            .contains("a was chosen, and loses 3.00 points"),
        "{}",
        verdict.sentence
    );
    // 400 · (2 / (1 − 0.5))² = 6400.
    let unclear = [row(FP32, 0.0, 0.4, 10.0, 400), row("a", 0.5, 2.0, 2.0, 100)];
    let verdict = decided(Target::Latency, &unclear);
    assert!(!verdict.fits);
    assert!(
        verdict.sentence.contains("some 6400"),
        "{}",
        verdict.sentence
    );
    assert!(
        decided(Target::Size, &lost[..1])
            .sentence
            .contains("Keep FP32")
    );
}

#[test]
fn images_that_choose_pick_and_the_others_only_say_whether_it_fits() {
    let fp32 = row(FP32, 0.0, 0.4, 10.0, 400);
    let sound = row("sound", 0.2, 0.4, 4.0, 100);
    // Lucky on the images that chose nothing: that must not choose it.
    let mut lucky = row("lucky", 1.5, 0.4, 2.0, 50);
    lucky.verdict = Some(part(-0.5, 0.4));
    let verdict = decided(Target::Latency, &[fp32.clone(), sound.clone(), lucky]);
    assert_eq!((verdict.ship.as_str(), verdict.fits), ("sound", true));
    // Lucky on those that choose: it is picked, and does not fit.
    let mut unlucky = row("unlucky", 0.1, 0.4, 2.0, 50);
    unlucky.verdict = Some(part(1.5, 0.4));
    let verdict = decided(Target::Latency, &[fp32, sound, unlucky]);
    assert_eq!((verdict.ship.as_str(), verdict.fits), (FP32, false));
    assert!(
        verdict
            .sentence
            .contains("unlucky was chosen, and loses 1.50"),
        "{}",
        verdict.sentence
    );
}

/// What the images that chose nothing say of it, where they differ from those that choose.
fn judged(row: Row, lost: f64, half: f64) -> Row {
    Row {
        verdict: Some(part(lost, half)),
        ..row
    }
}

#[test]
fn the_last_that_is_shown_to_fit_ships_on_the_way_from_the_safest_to_the_fastest() {
    let fp32 = row(FP32, 0.0, 0.4, 10.0, 400);
    let safe = row("safe", 0.0, 0.3, 5.0, 200);
    let bold = row("bold", 0.2, 0.5, 2.0, 100);
    let boldest = row("boldest", 0.3, 0.6, 1.0, 50);
    let unclear = judged(bold.clone(), 0.5, 2.0);
    let rows = [fp32.clone(), boldest.clone(), unclear, safe.clone()];
    let verdict = decided(Target::Latency, &rows);
    // The boldest would be shown to fit, but nothing is looked at behind the first that is not.
    assert_eq!((verdict.ship.as_str(), verdict.fits), ("safe", true));
    let next = "Next: bold lost 0.50 points, but 400 images cannot tell a loss of 1 (95 % interval up to 2.50): give the verdict some 6400.";
    assert_eq!(verdict.next.as_deref(), Some(next));

    let rows = [fp32.clone(), boldest.clone(), bold.clone(), safe.clone()];
    let verdict = decided(Target::Latency, &rows);
    assert_eq!(verdict.ship, "boldest");
    assert_eq!(verdict.next, None);

    let lost = judged(boldest.clone(), 3.0, 0.5);
    let verdict = decided(Target::Size, &[fp32.clone(), lost, bold, safe]);
    assert_eq!(verdict.ship, "bold");
    let next = "Next: boldest was chosen, and loses 3.00 points";
    assert!(verdict.next.unwrap().starts_with(next));

    // What is neither safer nor faster is not on the way.
    let slow = judged(row("slow", 0.1, 0.4, 6.0, 300), 5.0, 0.5);
    let rows = [fp32, slow, boldest, row("safe", 0.0, 0.3, 5.0, 200)];
    assert_eq!(decided(Target::Latency, &rows).ship, "boldest");
}

#[test]
fn where_no_row_is_shown_to_fit_by_images_that_choose_those_that_may_compete() {
    let rows = [
        row(FP32, 0.0, 0.4, 10.0, 400),
        judged(row("safe", 0.2, 1.0, 5.0, 200), 0.1, 0.5),
        judged(row("nearest", -0.5, 1.8, 2.0, 100), 0.4, 1.5),
        judged(row("far", 1.5, 0.2, 1.0, 50), 0.0, 0.1),
    ];
    let verdict = decided(Target::Latency, &rows);
    assert_eq!((verdict.ship.as_str(), verdict.fits), ("safe", true));
}

#[test]
fn what_images_can_never_tell_is_refused_with_their_number() {
    assert_eq!(too_few(200, 1.0), None);
    // 1.96² · 0.05 / 0.01² = 1921, and as many that choose.
    let line = too_few(100, 1.0).unwrap();
    assert!(
        line.contains("100 images") && line.contains("some 4000"),
        "{line}"
    );
    assert!(too_few(1_000_000, 0.0).is_some());
}

#[test]
fn the_front_has_what_nothing_beats_in_everything() {
    let rows = [
        row(FP32, 0.0, 0.4, 10.0, 400),
        row("fast", 0.2, 0.4, 2.0, 100),
        row("beaten", 0.3, 0.4, 3.0, 100),
        row("small", 0.5, 0.4, 4.0, 50),
    ];
    let on = front(&rows.iter().collect::<Vec<_>>());
    assert_eq!(on, [true, true, false, true]);
}

/// Dark images of class 0 and bright ones of class 1, 300 to train with and 300 others.
fn bright() -> Chosen {
    let split = |from: usize| {
        let shade = |i: usize| ((i * 37 + from) % 100 + 150 * (i % 2)) as u8;
        let pixels = (0..300).flat_map(|i| [0, 1, 2, 3].map(|p| shade(i).saturating_add(p)));
        Split::new(4, pixels.collect(), (0..300).map(|i| i % 2).collect()).unwrap()
    };
    let mut data = input().data;
    (data.train, data.test) = (split(1), split(2));
    let record = input().split;
    Chosen {
        input: Input::new(data, record).unwrap(),
        evaluated: Evaluated {
            images: Which::TestOfThisSplit,
            count: 300,
            possibly_seen: None,
            seen: None,
        },
        same_data: false,
        knows_train: false,
    }
}

/// Groups of four hidden units: so many that weights, not names, make the file.
const FOURS: usize = 256;

/// The sum of the pixels decides; with `sign` −1 it decides wrongly, with 0 not at all.
fn summing(sign: f32) -> FloatFile {
    let classes = ["ant", "bee"].map(String::from);
    let mut graph = GraphBuilder::new("sum", Shape::new(2, 2, 1), &classes);
    let x = graph.add("flatten", Op::Flatten, &[0]);
    let x = graph.add("hidden", Op::linear(4 * FOURS), &[x]);
    let x = graph.add("relu", Op::Relu, &[x]);
    graph.add("fc", Op::linear(2), &[x]);
    let graph: Graph = graph.finish().unwrap();
    let mut weights = Weights::init(&graph, 1);
    let part = |weight: f32| weight / FOURS as f32;
    for (name, values) in [
        ("hidden.weight", [0.3, 0.25, 0.2, 0.25].repeat(4 * FOURS)),
        ("hidden.bias", vec![1.0; 4 * FOURS]),
        (
            "fc.weight",
            [
                [-1.0, -0.9, -0.8, -1.0].map(part).repeat(FOURS),
                [1.0, 0.9, 0.8, 1.0].map(part).repeat(FOURS),
            ]
            .concat(),
        ),
        ("fc.bias", vec![3.7, -3.7]),
    ] {
        let data = weights.get_mut(name).unwrap().data_mut();
        let factor = if name.starts_with("fc") { sign } else { 1.0 };
        data.iter_mut()
            .zip(values)
            .for_each(|(x, value)| *x = factor * value);
    }
    FloatFile {
        graph,
        weights,
        record: None,
        foreign: None,
    }
}

#[test]
fn the_whole_experiment_leaves_what_it_says_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.results.out = folder.path().to_owned();
    let isa = Isa::current().unwrap();
    let file = folder.path().join("model.safetensors");
    fn request<'a>(
        file: &'a Path,
        model: &'a FloatFile,
        resume: bool,
        seconds: f64,
    ) -> Request<'a> {
        Request {
            file,
            model,
            choice: Choice::default(),
            max_drop: 5.0,
            begun: Instant::now(),
            time: Duration::from_secs_f64(seconds),
            target: Target::Size,
            batch: 1,
            resume,
            train: None,
        }
    }
    let go = |model: &FloatFile, resume: bool, seconds: f64| {
        format::save_float(&file, &model.graph, &model.weights, None).unwrap();
        let request = request(&file, model, resume, seconds);
        recommend(&config, &request, &bright(), isa, &Silent)
    };
    let stale = folder.path().join(FOLDER).join("mixed_6_bits.layers");
    std::fs::create_dir_all(stale.parent().unwrap()).unwrap();
    std::fs::write(&stale, "of an earlier run").unwrap();
    let found = go(&summing(1.0), false, 600.0).unwrap();
    let place = folder.path().join(FOLDER);
    let written = std::fs::read_to_string(place.join("recommendation.json")).unwrap();
    assert_eq!(written, serde_json::to_string_pretty(&found).unwrap());
    assert_eq!(
        found.rows.len() + found.skipped.len(),
        1 + candidates().len() + 1,
        "and that there is no layer for mixed widths"
    );
    assert_eq!(found.rows[0].choosing.accuracy_percent, 100.0);
    let mut kept = 0;
    for row in &found.rows[1..] {
        if let Some(file) = &row.file {
            let bytes = std::fs::metadata(place.join(file)).unwrap().len();
            assert_eq!(bytes, row.bytes, "{}", row.name);
            let ships = row.name == found.verdict.ship;
            assert!(row.verdict.is_some() && row.speedup.is_some() && (row.on_front || ships));
            // Which rows are kept depends on their times; a row of 1 bit, which ONNX has not, may be all.
            let has_form = ["W8A8", "W4A8", "W2A8"].iter();
            let mut has_form = has_form.filter(|widths| row.name.starts_with(**widths));
            assert!(
                row.onnx.is_some() || has_form.next().is_none(),
                "{}",
                row.name
            );
            if let Some(file) = &row.onnx {
                assert!(std::fs::metadata(place.join(file)).unwrap().len() > 0);
            }
            kept += 1;
        }
    }
    assert!(kept > 0);
    assert!(found.verdict.fits, "{}", found.verdict.sentence);
    let shipped = found.rows.iter().find(|row| row.name == found.verdict.ship);
    let smallest = found.rows.iter().map(|row| row.bytes).min();
    assert_eq!(shipped.map(|row| row.bytes), smallest);
    assert!(shipped.is_some_and(|row| row.file.is_some()));
    let page = std::fs::read_to_string(place.join("report.html")).unwrap();
    assert!(page.contains(&found.verdict.ship) && page.contains("lowbit quantize"));
    // These images' model does not say what it learned from.
    assert!(page.contains(&found.doubts), "{}", found.doubts);
    // What was made is taken, with the seconds that it took then.
    let again = go(&summing(1.0), true, 600.0).unwrap();
    let made = |found: &Recommendation| -> Vec<(String, f64, u64)> {
        let rows = found.rows.iter();
        rows.map(|row| (row.name.clone(), row.seconds, row.bytes))
            .collect()
    };
    assert_eq!(made(&again)[1..], made(&found)[1..]);
    assert!(!stale.exists());
    // Weights may stand in another file than the model's own: with others nothing is taken.
    let chosen = bright();
    let parts = parts(&chosen, &config, false, 1.0).unwrap();
    for (weight, has) in [(1.0, true), (0.5, false)] {
        let model = summing(weight);
        let request = request(&file, &model, true, 600.0);
        let held = Held::take(folder.path().join(FOLDER)).unwrap();
        let cache = Cache::open(&held, &request, &chosen, &config, &parts, isa).unwrap();
        assert_eq!(cache.has(&candidates()[0]), has, "{weight}");
    }
    // Another model's are not.
    let error = go(&summing(0.0), true, 600.0).unwrap_err().to_string();
    assert!(error.contains("no more than chance"), "{error}");
    let error = go(&summing(1.0), true, 1e-9).unwrap_err().to_string();
    assert!(error.contains("more --time"), "{error}");
}
