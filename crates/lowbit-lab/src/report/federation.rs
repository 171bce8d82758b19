//! The page's part about federations: accuracy by round and by bytes, bytes by what they hold, labels per client.

use super::charts::{Axis, Bars, Chart, Point, Series};
use super::figures::Figure;
use super::{figure, table};
use crate::analysis::runs::Runs;
use crate::analysis::{federation_words, named_partition};
use crate::experiments::federate::{self, Federated, FederatedRound};
use maud::{Markup, html};

/// Every federation among the runs; nothing if there is none.
///
/// With `cost_per_mb`, a column says what the bytes cost.
pub(super) fn section(runs: &Runs, cost_per_mb: Option<f64>) -> Markup {
    let read = runs
        .runs
        .iter()
        .filter_map(|run| federate::read(&run.folder.join("training_results.json")));
    let all: Vec<Federated> = read.collect();
    if all.is_empty() {
        return html! {};
    }
    let mut header = vec![
        "run",
        "rounds",
        "test %",
        "MB up",
        "MB down",
        "of 32/32 %",
        "MB to 32/32 − 1",
        "did not count",
        "overhead %",
    ];
    let mut rows: Vec<Vec<String>> = all.iter().map(|run| row(run, &all)).collect();
    if let Some(price) = cost_per_mb {
        header.push("cost");
        for (row, run) in rows.iter_mut().zip(&all) {
            row.push(format!("{:.2}", price * megabytes(total(run))));
        }
    }
    html! {
        section {
            h2 { "Federation" }
            p { "A run is named by the bits of its model, of messages up and down, by its partition and seed. Bytes are those "
                "of all messages in both directions, headers, scales and batch-norm statistics included."
                @if all.iter().any(|run| setting(run, "norm") == "local") {
                    " Where norm is local, each client keeps its batch-norm, and test % is the mean over the clients' own models."
                }
                @if let Some(price) = cost_per_mb { " Cost: " (price) " per MB." } }
            div class="figures" {
                (figure(&by_round(&all).into()))
                (figure(&by_bytes(&all).into()))
                (figure(&parts(&all)))
            }
            (table("federation", &header, &rows))
            @for run in partitions(&all) { (labels(run)) }
        }
    }
}

fn setting<'a>(run: &'a Federated, key: &str) -> &'a str {
    run.federation.settings.get(key).map_or("?", String::as_str)
}

/// The model's bits, the messages' bits up and down, how images are spread, the seed, what is not usual, and what else tells
/// it from the others.
fn name(run: &Federated, all: &[Federated]) -> String {
    let settings = &run.federation.settings;
    let said = settings.iter().filter(|(key, _)| {
        let of = |other: &Federated| other.federation.settings.get(*key).cloned();
        let differs = all.iter().any(|other| of(other) != of(run));
        differs && TELLING.contains(&key.as_str())
    });
    let mut parts = vec![run.results.bit_width.to_string()];
    let mut words = federation_words(&|key| settings.get(key).map(String::as_str));
    let special = words.split_off(2);
    parts.extend(words);
    parts.push(format!("seed {}", run.results.seed));
    parts.extend(special);
    parts.extend(said.map(|(key, value)| format!("{key} {value}")));
    parts.join(" · ")
}

fn partition(run: &Federated) -> String {
    named_partition(setting(run, "partition"))
}

/// Settings that a run is named by only where others have another value.
const TELLING: [&str; 14] = [
    "model",
    "rounds",
    "local-epochs",
    "lr",
    "batch-size",
    "optimizer",
    "quantizers",
    "schedule",
    "clients",
    "local-test",
    "deadline",
    "min-clients",
    "feedback",
    "rotate",
];

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn total(run: &Federated) -> u64 {
    run.federation.bytes_up + run.federation.bytes_down
}

/// The run that differs in its messages alone, f32 in both directions.
fn reference<'a>(run: &Federated, all: &'a [Federated]) -> Option<&'a Federated> {
    all.iter().find(|other| {
        let messages = ["up-bits", "down-bits"];
        let same = |(key, value): (&String, &String)| {
            messages.contains(&key.as_str()) || other.federation.settings.get(key) == Some(value)
        };
        messages.iter().all(|key| setting(other, key) == "32")
            && run.federation.settings.iter().all(same)
    })
}

fn row(run: &Federated, all: &[Federated]) -> Vec<String> {
    let reference = reference(run, all);
    let of = reference.map(|reference| 100.0 * total(run) as f64 / total(reference) as f64);
    let reached = reference
        .and_then(|reference| bytes_to(&run.rounds, reference.results.final_test_accuracy - 0.01));
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".into());
    vec![
        name(run, all),
        run.rounds.len().to_string(),
        format!("{:.2}", 100.0 * run.results.final_test_accuracy),
        format!("{:.2}", megabytes(run.federation.bytes_up)),
        format!("{:.2}", megabytes(run.federation.bytes_down)),
        or_dash(of.map(|percent| format!("{percent:.1}"))),
        or_dash(reached.map(|bytes| format!("{:.2}", megabytes(bytes)))),
        run.federation.failures.to_string(),
        format!("{:.1}", 100.0 * run.federation.overhead),
    ]
}

/// Bytes sent until the model's accuracy reached `goal`; none if it never did.
fn bytes_to(rounds: &[FederatedRound], goal: f64) -> Option<u64> {
    let mut sent = 0;
    rounds.iter().find_map(|round| {
        sent += round.bytes_up + round.bytes_down;
        (round.test_accuracy >= goal).then_some(sent)
    })
}

fn curve(
    title: &str,
    x: Axis,
    all: &[Federated],
    at: impl Fn(usize, &FederatedRound, u64) -> f64,
) -> Chart {
    let series = all.iter().enumerate().map(|(color, run)| {
        let mut sent = 0;
        let point = |(index, round): (usize, &FederatedRound)| {
            sent += round.bytes_up + round.bytes_down;
            Point {
                x: at(index, round, sent),
                y: 100.0 * round.test_accuracy,
                interval: None,
                label: String::new(),
                tip: format!(
                    "{}: round {}, {:.2} %, {:.2} MB sent",
                    name(run, all),
                    round.round,
                    100.0 * round.test_accuracy,
                    megabytes(sent)
                ),
            }
        };
        Series {
            name: name(run, all),
            color,
            points: run.rounds.iter().enumerate().map(point).collect(),
            line: true,
            marks: true,
        }
    });
    Chart {
        title: title.into(),
        x,
        y: Axis {
            label: "test accuracy, %",
            logarithmic: false,
        },
        series: series.collect(),
    }
}

fn by_round(all: &[Federated]) -> Chart {
    let x = Axis {
        label: "round",
        logarithmic: false,
    };
    curve("Accuracy by round", x, all, |_, round, _| {
        f64::from(round.round)
    })
}

fn by_bytes(all: &[Federated]) -> Chart {
    let x = Axis {
        label: "MB sent, both directions",
        logarithmic: true,
    };
    curve("Accuracy by bytes sent", x, all, |_, _, sent| {
        megabytes(sent)
    })
}

fn parts(all: &[Federated]) -> Figure {
    let of = |part: fn(&lowbit_fed::wire::Parts) -> u64| {
        all.iter()
            .map(|run| Some(megabytes(part(&run.federation.parts))))
            .collect()
    };
    let bars = Bars {
        title: "Bytes by what they hold".into(),
        y_label: "MB",
        groups: all
            .iter()
            .map(|run| format!("{}/{}", setting(run, "up-bits"), setting(run, "down-bits")))
            .collect(),
        series: vec![
            ("codes".into(), 0, of(|parts| parts.codes)),
            ("scales".into(), 1, of(|parts| parts.scales)),
            ("biases and batch-norm".into(), 2, of(|parts| parts.vectors)),
            ("statistics".into(), 3, of(|parts| parts.statistics)),
            ("headers".into(), 4, of(|parts| parts.headers)),
        ],
        stacked: false,
    };
    Figure {
        title: bars.title.clone(),
        svg: bars.svg(),
        legend: bars.legend(),
    }
}

/// One run of every partition and seed.
fn partitions(all: &[Federated]) -> Vec<&Federated> {
    let mut found: Vec<&Federated> = Vec::new();
    for run in all {
        let known = |other: &&Federated| {
            other.federation.labels_per_client == run.federation.labels_per_client
        };
        if !found.iter().any(known) {
            found.push(run);
        }
    }
    found
}

/// Images of each class, one bar to a client.
fn labels_figure(run: &Federated) -> Figure {
    let counts = &run.federation.labels_per_client;
    let of_class = |class: usize| {
        let count = |client: &Vec<usize>| client.get(class).map(|&count| count as f64);
        counts.iter().map(count).collect()
    };
    let names = run.federation.class_names.iter().enumerate();
    let bars = Bars {
        title: format!(
            "Images per client, {}, seed {}",
            partition(run),
            run.results.seed
        ),
        y_label: "images",
        // Numbers of more clients would lie over each other.
        groups: (0..counts.len())
            .map(|client| match counts.len() {
                ..=30 => client.to_string(),
                many if client % many.div_ceil(20) == 0 => client.to_string(),
                _ => String::new(),
            })
            .collect(),
        series: names
            .map(|(class, name)| (name.clone(), class, of_class(class)))
            .collect(),
        stacked: true,
    };
    Figure {
        title: bars.title.clone(),
        svg: bars.svg(),
        legend: bars.legend(),
    }
}

fn labels(run: &Federated) -> Markup {
    let mut header = vec!["client"];
    header.extend(run.federation.class_names.iter().map(String::as_str));
    let rows: Vec<Vec<String>> = run
        .federation
        .labels_per_client
        .iter()
        .enumerate()
        .map(|(client, counts)| {
            let mut row = vec![client.to_string()];
            row.extend(counts.iter().map(usize::to_string));
            row
        })
        .collect();
    let seed = run.results.seed;
    let id = format!("labels-{seed}-{}", partition(run).replace([':', ' '], "-"));
    html! {
        details {
            summary { "Images per client and class: " (partition(run)) ", seed " (seed) }
            (figure(&labels_figure(run)))
            (table(&id, &header, &rows))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiments::federate::FederationResults;
    use lowbit_fed::wire::Parts;
    use std::collections::BTreeMap;

    fn round(number: u32, accuracy: f64) -> FederatedRound {
        serde_json::from_value(serde_json::json!({
            "round": number, "train_loss": 1.0, "train_accuracy": 0.5, "test_loss": 1.0, "test_accuracy": accuracy,
            "local_test_accuracy": 0.5, "bytes_up": 1_000_000, "bytes_down": 500_000,
            "up": {"headers": 1, "scales": 2, "codes": 3, "vectors": 4, "statistics": 5},
            "down": {"headers": 1, "scales": 2, "codes": 3, "vectors": 4, "statistics": 5},
            "catch_up": {"headers": 0, "scales": 0, "codes": 0, "vectors": 0, "statistics": 0},
            "clients": 10, "failures": [{"client": 3, "reason": "dropped_out"}],
            "training_seconds": 1.0, "evaluation_seconds": 0.1, "other_seconds": 0.01
        }))
        .unwrap()
    }

    #[test]
    fn bytes_are_summed_up_to_the_round_that_reaches_the_goal() {
        let rounds = [round(1, 0.5), round(2, 0.7), round(3, 0.6), round(4, 0.8)];
        assert_eq!(bytes_to(&rounds, 0.65), Some(3_000_000));
        assert_eq!(bytes_to(&rounds, 0.8), Some(6_000_000));
        assert_eq!(bytes_to(&rounds, 0.9), None);
    }

    /// A run of 8 bits whose messages have `up` and `down` bits, half a megabyte in all per round of so many.
    fn run(up: u8, down: u8, more: &[(&str, &str)], rounds: Vec<FederatedRound>) -> Federated {
        let mut settings: BTreeMap<String, String> = [
            ("up-bits", up.to_string()),
            ("down-bits", down.to_string()),
            ("partition", "iid".into()),
            ("strategy", "fedavg".into()),
            ("aggregator", "mean".into()),
            ("dropout", "0".into()),
            ("faults", String::new()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        settings.extend(more.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())));
        let accuracy = rounds.last().map_or(0.0, |round| round.test_accuracy);
        let results =
            format!("{{\"bit_width\": 8, \"final_test_accuracy\": {accuracy}, \"seed\": 3}}");
        Federated {
            folder: "out".into(),
            results: serde_json::from_str(&results).unwrap(),
            federation: FederationResults {
                settings,
                labels_per_client: vec![vec![1]],
                class_names: vec!["a".into()],
                bytes_up: u64::from(up) * 100_000,
                bytes_down: u64::from(down) * 50_000,
                parts: Parts::default(),
                failures: 2,
                overhead: 0.125,
            },
            rounds,
            earlier: false,
        }
    }

    #[test]
    fn a_row_tells_bytes_as_a_share_of_those_of_the_same_run_in_f32() {
        let float = run(32, 32, &[], vec![round(1, 0.5), round(2, 0.8)]);
        let own = run(8, 16, &[], vec![round(1, 0.795), round(2, 0.9)]);
        let half = run(32, 8, &[], vec![round(1, 0.1)]);
        let other = run(32, 32, &[("partition", "shards:2")], vec![round(1, 0.9)]);
        let all = [half, other, float.clone()];
        // (0.8 + 0.8) of (3.2 + 1.6) MB; one round reached 80 − 1 %, with 1.5 MB.
        assert_eq!(
            row(&own, &all),
            [
                "8 · 8/16 · iid · seed 3",
                "2",
                "90.00",
                "0.80",
                "0.80",
                "33.3",
                "1.50",
                "2",
                "12.5"
            ]
        );
        assert_eq!(row(&own, &all[..2])[5..7], ["–", "–"]);
        assert_eq!(row(&float, &all)[5], "100.0");
    }

    #[test]
    fn a_name_tells_what_is_not_as_usual() {
        let plain = run(4, 4, &[], vec![]);
        assert_eq!(name(&plain, &[]), "8 · 4/4 · iid · seed 3");
        let special = run(
            4,
            4,
            &[("dropout", "0.2"), ("aggregator", "median")],
            vec![],
        );
        assert_eq!(
            name(&special, &[]),
            "8 · 4/4 · iid · seed 3 · aggregator median · dropout 0.2"
        );
        let mut old = plain;
        old.federation.settings.remove("strategy");
        assert_eq!(name(&old, &[]), "8 · 4/4 · iid · seed 3");
        // What differs among the runs of a page tells them apart.
        let slow = run(4, 4, &[("lr", "0.001")], vec![]);
        let all = [slow, run(4, 4, &[("lr", "0.01")], vec![])];
        let names = all.each_ref().map(|run| name(run, &all));
        assert_eq!(
            names,
            ["0.001", "0.01"].map(|lr| format!("8 · 4/4 · iid · seed 3 · lr {lr}"))
        );
    }

    #[test]
    fn curves_stand_at_rounds_and_at_all_megabytes_sent_so_far() {
        let all = [
            run(8, 8, &[], vec![round(1, 0.5), round(2, 0.75)]),
            run(4, 4, &[], vec![round(1, 0.25)]),
        ];
        let places = |chart: &Chart, which: usize| -> Vec<(f64, f64)> {
            let points = chart.series[which].points.iter();
            points.map(|point| (point.x, point.y)).collect()
        };
        let chart = by_round(&all);
        assert_eq!(places(&chart, 0), [(1.0, 50.0), (2.0, 75.0)]);
        assert_eq!(places(&chart, 1), [(1.0, 25.0)]);
        let chart = by_bytes(&all);
        assert_eq!(places(&chart, 0), [(1.5, 50.0), (3.0, 75.0)]);
        assert_eq!(
            chart.series[0].points[1].tip,
            "8 · 8/8 · iid · seed 3: round 2, 75.00 %, 3.00 MB sent"
        );
    }

    #[test]
    fn a_table_of_counts_has_a_short_name() {
        let of = |counts: &str| partition(&run(8, 8, &[("partition", counts)], vec![]));
        let name = of("counts:60,568;214,73");
        assert_eq!(name.len(), "table 01234567".len(), "{name}");
        assert_ne!(name, of("counts:60,568;214,74"));
        assert_eq!(of("dirichlet:0.3"), "dirichlet:0.3");
    }

    #[test]
    fn a_partition_is_shown_once() {
        let mut all = [8, 4, 2].map(|bits| run(bits, bits, &[], vec![]));
        all[2].federation.labels_per_client = vec![vec![2]];
        let found: Vec<&str> = partitions(&all)
            .into_iter()
            .map(|run| setting(run, "up-bits"))
            .collect();
        assert_eq!(found, ["8", "2"]);
    }

    /// Top and height of each value's rectangle.
    fn rectangles(svg: &str) -> Vec<(f64, f64)> {
        let number = |hit: &str, key: &str| -> f64 {
            let (_, rest) = hit.split_once(key).unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        };
        let hits = svg.split("<rect class=\"hit\"").skip(1);
        hits.map(|hit| (number(hit, " y=\""), number(hit, " height=\"")))
            .collect()
    }

    #[test]
    fn a_clients_classes_stand_on_each_other() {
        let mut run = run(8, 8, &[], vec![]);
        run.federation.class_names = vec!["a".into(), "b".into()];
        run.federation.labels_per_client = vec![vec![30, 10], vec![20, 20]];
        let figure = labels_figure(&run);
        assert_eq!(figure.title, "Images per client, iid, seed 3");
        let found = rectangles(&figure.svg.unwrap());
        // Of the first class for both clients, then of the second.
        let [a0, a1, b0, b1] = found[..] else {
            panic!("four bars: {found:?}")
        };
        for (under, over) in [(a0, b0), (a1, b1)] {
            assert!((over.0 + over.1 - under.0).abs() <= 1.0, "{found:?}");
        }
        assert!((a0.1 - 3.0 * b0.1).abs() <= 3.0, "{found:?}");
        // Both have forty images.
        assert!((b0.0 - b1.0).abs() <= 1.0, "{found:?}");
    }
}
