use super::*;
use crate::analysis::analyze;
use crate::analysis::runs::Run;
use crate::experiments::sweep::{CompressionMetrics, RoundRecord, RunResults};
use crate::machine::Machine;
use crate::roofline::{Bound, RooflineLayer};

fn run(bits: u8, accuracy: f64, size_mb: f64) -> Run {
    let round = |round: usize, test_accuracy: f64| RoundRecord {
        round,
        train_loss: 1.0 / round as f64,
        train_accuracy: test_accuracy + 0.01,
        test_loss: 0.5,
        test_accuracy,
        validation_loss: None,
        validation_accuracy: None,
    };
    let results: RunResults = serde_json::from_str(&format!(
        "{{\"bit_width\": {bits}, \"final_test_accuracy\": {accuracy}}}"
    ))
    .unwrap();
    Run {
        folder: format!("outputs/{bits}bit/run").into(),
        results: RunResults {
            results_per_round: vec![round(1, accuracy - 0.1), round(2, accuracy)],
            compression_metrics: Some(CompressionMetrics {
                bit_width: bits,
                original_size_mb: 1.7,
                compressed_size_mb: size_mb,
                compression_ratio: 1.7 / size_mb,
                size_reduction_percent: 100.0 * (1.0 - size_mb / 1.7),
            }),
            model: "model <b>".into(),
            data: "data & more".into(),
            img_per_s: Some(1000.0 * f64::from(32 / bits)),
            ..results
        },
    }
}

#[test]
fn the_page_stands_alone_and_escapes_what_came_from_outside() {
    let runs = Runs {
        runs: vec![run(32, 0.92, 1.7), run(8, 0.919, 0.45), run(2, 0.88, 0.12)],
        skipped: vec!["x/training_results.json: <half>".into()],
        beside: vec![],
    };
    let page = page(&runs, &analyze(&runs, 1.0), None, None);
    assert!(page.contains("model &lt;b&gt; on data &amp; more"));
    assert!(page.contains("&lt;half&gt;") && !page.contains("<half>"));
    for outside in ["http://", "https://", "<link", "src="] {
        let found = page
            .replace("http://www.w3.org/2000/svg", "")
            .contains(outside);
        assert!(!found, "{outside} loads from outside");
    }
    // Three trade-off charts, two learning curves.
    assert_eq!(page.matches("<svg class=\"chart\"").count(), 5);
    assert!(page.contains("on the Pareto front") && page.contains("As text"));
}

#[test]
fn runs_that_say_little_still_make_a_page() {
    let bare = |bits: u8| Run {
        folder: "old".into(),
        results: serde_json::from_str(&format!(
            "{{\"bit_width\": {bits}, \"final_test_accuracy\": 0.5}}"
        ))
        .unwrap(),
    };
    let runs = Runs {
        runs: vec![bare(8)],
        skipped: vec![],
        beside: vec![],
    };
    let page = page(&runs, &analyze(&runs, 1.0), None, None);
    assert!(page.contains("No run tells.") && page.contains("These runs do not say."));
}

/// One layer at 32 bits and at 8.
pub(super) fn roofline() -> Roofline {
    let layer = |bits: u8, gmac_per_s: f64| RooflineLayer {
        name: "conv1".into(),
        bits: bits.try_into().unwrap(),
        macs: 64_000_000,
        bytes: 2_000_000,
        ms: 64.0 / gmac_per_s,
        gmac_per_s,
        peak_gmac_per_s: 2.0 * gmac_per_s,
        share_of_peak: 0.5,
        memory_gmac_per_s: 1000.0,
        bound: Bound::Arithmetic,
    };
    Roofline {
        model: "m".into(),
        input: [64, 64, 3],
        batch: 64,
        fp32_gmac_per_s: 51.25,
        i16_gmac_per_s: 77.5,
        u8i8_gmac_per_s: 103.75,
        memory_gb_per_s: 12.5,
        layers: vec![layer(32, 40.0), layer(8, 90.0)],
        machine: Machine::here(lowbit_kernels::Isa::current().unwrap()),
    }
}

#[test]
fn a_roofline_stands_on_the_page_with_its_peaks() {
    let runs = Runs {
        runs: vec![run(32, 0.92, 1.7), run(8, 0.919, 0.45)],
        skipped: vec![],
        beside: vec![],
    };
    let analysis = analyze(&runs, 1.0);
    let without = page(&runs, &analysis, None, None);
    assert!(!without.contains("Roofline"));
    let with = page(&runs, &analysis, Some(&roofline()), None);
    for told in [
        "One thread, batches of 64",
        "51.2 GMAC/s in f32",
        "77.5 in i16",
        "103.8 in u8×i8",
        "12.5 GB/s",
        "conv1",
    ] {
        assert!(with.contains(told), "{told}");
    }
    assert_eq!(
        with.matches("<svg class=\"chart\"").count(),
        without.matches("<svg class=\"chart\"").count() + 1
    );
}

#[test]
fn a_roofline_alone_names_its_widths_one_below_the_other() {
    let svg = roofline_svg(&roofline());
    assert!(svg.contains("<text x=\"560\" y=\"210\"") && svg.contains("<text x=\"560\" y=\"228\""));
    assert!(svg.contains("8 bits</text>"), "{svg}");
    assert_eq!(svg.matches("</svg>").count(), 1);
}
