use super::*;
use crate::report::tests::roofline as one_layer;
use crate::roofline::RooflineLayer;
use crate::statistics::Difference;

fn row(label: &str, size_mb: f64, img_per_s: f64, accuracy: f64) -> WidthRow {
    WidthRow {
        bit_width: 8,
        label: label.into(),
        runs: 1,
        size_mb,
        compression_ratio: 1.0,
        size_reduction_percent: 0.0,
        test_accuracy: Difference {
            value: accuracy,
            low: accuracy - 1.0,
            high: accuracy + 1.0,
        },
        train_accuracy: 0.0,
        overfitting_gap: 0.0,
        accuracy_delta: None,
        accuracy_delta_interval: None,
        img_per_s,
        speedup: 1.0,
        training_time_seconds: 1.0,
        learning: Default::default(),
        warm_started: false,
        folder: Default::default(),
    }
}

/// Where a series' points stand.
fn places(series: &Series) -> Vec<(f64, f64)> {
    series
        .points
        .iter()
        .map(|point| (point.x, point.y))
        .collect()
}

#[test]
fn the_front_holds_what_no_other_row_beats_in_both() {
    let rows = [
        row("32", 4.0, 1.0, 90.0),
        row("8", 2.0, 1.0, 91.0),
        row("4", 1.0, 1.0, 85.0),
        row("2", f64::NAN, 1.0, 99.0),
    ];
    assert_eq!(pareto(&rows, |row| row.size_mb), [false, true, true, false]);
    // Of two that are alike, none beats the other; one that is as good and larger is beaten.
    let rows = [
        row("8", 2.0, 1.0, 91.0),
        row("8", 2.0, 1.0, 91.0),
        row("16", 3.0, 1.0, 91.0),
        row("4", 2.0, 1.0, 90.0),
    ];
    assert_eq!(pareto(&rows, |row| row.size_mb), [true, true, false, false]);
}

#[test]
fn points_stand_at_kilobytes_and_images_a_second_and_the_front_is_a_line() {
    let rows = [
        row("32", 4.0, 100.0, 90.0),
        row("8", 2.0, 400.0, 91.0),
        row("4", 1.0, 300.0, 85.0),
    ];
    let chart = by_size(&rows);
    assert_eq!(chart.series.len(), 2);
    assert_eq!(places(&chart.series[0]), [(1000.0, 85.0), (2000.0, 91.0)]);
    assert_eq!(places(&chart.series[1]), [(4000.0, 90.0)]);
    assert_eq!((chart.series[0].line, chart.series[1].line), (true, false));
    assert_eq!(chart.series[1].points[0].interval, Some((89.0, 91.0)));
    assert_eq!((chart.x.logarithmic, chart.x.label), (true, "file, kB"));
    // More images a second are better: 8 bits beat both others.
    let chart = by_speed(&rows);
    assert_eq!(places(&chart.series[0]), [(400.0, 91.0)]);
    assert_eq!(places(&chart.series[1]), [(100.0, 90.0), (300.0, 85.0)]);
    let tip = |series: usize| chart.series[series].points[0].tip.as_str();
    assert_eq!(tip(0), "8 bits: 91.00 %, 400 img/s, on the Pareto front");
    assert_eq!(tip(1), "32 bits: 90.00 %, 100 img/s");
}

fn layer(name: &str, sqnr_db: f64) -> Layer {
    Layer {
        name: name.into(),
        bits: 2,
        sqnr_db,
        low: -2.0,
        high: 2.0,
        before: vec![0.25, 0.75],
        after: vec![1.0, 0.0],
    }
}

#[test]
fn a_distribution_is_drawn_as_steps_over_its_bins() {
    let chart = distribution(&layer("fc", 7.25));
    assert_eq!(chart.title, "fc, 2 bits, 7.2 dB");
    let [packed, latent] = &chart.series[..] else {
        panic!("two series")
    };
    let x = [-2.0, 0.0, 0.0, 2.0];
    let at = |y: [f64; 4]| x.into_iter().zip(y).collect::<Vec<_>>();
    assert_eq!(places(packed), at([100.0, 100.0, 0.0, 0.0]));
    assert_eq!(places(latent), at([25.0, 25.0, 75.0, 75.0]));
}

#[test]
fn each_width_has_a_bar_for_each_layer_that_it_has() {
    let width = |label: &str, layers: Vec<Layer>| WidthLayers {
        label: label.into(),
        layers,
    };
    let bars = noise(&[
        width("8", vec![layer("a", 40.0), layer("b", 41.0)]),
        width("1", vec![layer("b", 3.0)]),
    ]);
    assert_eq!(bars.groups, ["a", "b"]);
    assert_eq!(
        bars.series,
        [
            ("8 bits".into(), 1, vec![Some(40.0), Some(41.0)]),
            ("1 bit".into(), 2, vec![None, Some(3.0)]),
        ]
    );
}

#[test]
fn limits_bend_where_memory_and_arithmetic_meet_and_layers_stand_at_their_intensity() {
    let layer = |bits: u8, macs: u64, bytes: u64, gmac_per_s: f64| RooflineLayer {
        name: "conv".into(),
        bits: bits.try_into().unwrap(),
        macs,
        bytes,
        gmac_per_s,
        share_of_peak: 0.25,
        ..one_layer().layers.remove(0)
    };
    let mut roofline = Roofline {
        fp32_gmac_per_s: 20.0,
        i16_gmac_per_s: 40.0,
        u8i8_gmac_per_s: 42.0,
        memory_gb_per_s: 10.0,
        layers: vec![
            layer(32, 240, 200, 6.0),
            layer(32, 800, 100, 15.0),
            layer(8, 1200, 100, 30.0),
        ],
        ..one_layer()
    };
    let chart = limits_and_layers(&roofline);
    let [float, bytes, fp32, int8] = &chart.series[..] else {
        panic!("two limits and two widths: {}", chart.series.len())
    };
    let near = |found: Vec<(f64, f64)>, expected: &[(f64, f64)]| {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!(
                (a.0 - b.0).abs() < 1e-9 && (a.1 - b.1).abs() < 1e-9,
                "{found:?}"
            );
        }
    };
    // The ridge at 20 / 10; from a little left of the lowest intensity (1.2) to a little right of the highest (12).
    let name = f64::sqrt(2.0 * 13.2);
    near(
        places(float),
        &[(1.0, 10.0), (2.0, 20.0), (name, 20.0), (13.2, 20.0)],
    );
    let name = f64::sqrt(4.2 * 13.2);
    near(
        places(bytes),
        &[(1.0, 10.0), (4.2, 42.0), (name, 42.0), (13.2, 42.0)],
    );
    assert_eq!(bytes.points[2].label, "i16, u8×i8");
    near(places(fp32), &[(1.2, 6.0), (8.0, 15.0)]);
    near(places(int8), &[(12.0, 30.0)]);
    assert_eq!(
        int8.points[0].tip,
        "conv, 8 bits: 30.0 GMAC/s, 25 % of peak"
    );
    // Limits that are apart have a line each; one whose ridge lies outside still has it.
    roofline.u8i8_gmac_per_s = 200.0;
    let chart = limits_and_layers(&roofline);
    assert_eq!(chart.series.len(), 5);
    near(
        places(&chart.series[2])[2..].to_vec(),
        &[(20.0, 200.0), (20.0, 200.0)],
    );
}
