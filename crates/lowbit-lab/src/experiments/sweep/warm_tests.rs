//! Runs that begin with wider ones, and learn from them.

use super::tests::{Counted, config, go};
use super::*;
use crate::config::areas::OWN_TEACHER;
use crate::decisive::Decisive;
use crate::experiments::artifacts::FP32;
use crate::experiments::inputs::float_model;
use crate::experiments::inputs::tests::input;
use crate::experiments::inputs::tests::widths;
use std::path::Path;

fn decisive(run: &Finished) -> &Decisive {
    run.results.decisive.as_ref().unwrap()
}

fn by_hand(config: &Config, bits: u8, start: Option<&Path>) -> Finished {
    let (input, isa) = (input(), Isa::current().unwrap());
    let subject = match start {
        Some(folder) => {
            let model = float_model(&folder.join(FP32), &Config::default()).unwrap();
            Subject::trained(model, &input, Evaluated::own_test(2))
        }
        None => Subject::named(config, &input).unwrap(),
    };
    let silent = Counted::default();
    sweep(config, &widths([bits]), 1, &subject, isa, &silent)
        .unwrap()
        .finished
        .remove(0)
}

#[test]
fn each_width_begins_with_the_next_wider_one_of_its_seed() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut chained = config(folder.path());
    chained.chain.warm_start = true;
    let (done, _) = go(&chained, &[2, 32, 8], 2, &input());
    let ids = |run: &Finished| (run.results.bit_width, run.results.seed);
    let expected = [(32, 1), (8, 1), (2, 1), (32, 2), (8, 2), (2, 2)];
    assert_eq!(done.iter().map(ids).collect::<Vec<_>>(), expected);
    assert_eq!(done[3].results.began_with, None);
    let began = done[5].results.began_with.as_ref().unwrap();
    assert_eq!(began.widths, [32, 8]);
    assert!(done[4].folder.ends_with(&began.run));
    let list = decisive(&done[5]);
    assert_eq!(
        (list.get("start"), list.get("warm_start")),
        (Some("scratch"), Some("32, 8"))
    );
    assert_eq!(list.row(), decisive(&done[2]).row());
    assert_ne!(
        list.get("warm_weights"),
        decisive(&done[2]).get("warm_weights")
    );
    assert!(
        done.iter()
            .all(|run| decisive(run).shared() == list.shared())
    );
    // The same training, begun by hand with the same weights; fresh ones end elsewhere.
    let mut alone = config(other.path()).with_seed(2);
    alone.repeats.seeds = 1;
    let rounds = |run: &Finished| run.results.results_per_round.clone();
    let same = by_hand(&alone, 2, Some(&done[4].folder));
    assert_eq!(rounds(&same), rounds(&done[5]));
    assert_ne!(rounds(&by_hand(&alone, 2, None)), rounds(&done[5]));
    // What is done is found again, and the widest is the run of a sweep without a chain.
    let earlier = |counted: &Counted| {
        let finished = counted.finished.lock().unwrap();
        finished.iter().filter(|(_, earlier)| *earlier).count()
    };
    let (again, counted) = go(&chained, &[32, 8, 2], 1, &input());
    assert_eq!(earlier(&counted), 6);
    assert!(again.iter().zip(&done).all(|(a, b)| a.folder == b.folder));
    chained.chain.warm_start = false;
    let (_, counted) = go(&chained, &[32, 8], 1, &input());
    assert_eq!(earlier(&counted), 2);
    // Behind another width it is another run.
    chained.chain.warm_start = true;
    let (_, counted) = go(&chained, &[32, 2], 1, &input());
    assert_eq!(earlier(&counted), 2);
}

#[test]
fn a_width_whose_wider_one_has_changed_is_trained_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.repeats.seeds = 1;
    config.chain.warm_start = true;
    let (done, _) = go(&config, &[32, 8], 1, &input());
    // Another file of the same name: what a run began with is what its weights were.
    let mut wide = float_model(&done[0].folder.join(FP32), &Config::default()).unwrap();
    let name = wide.graph.parameters()[0].name.clone();
    wide.weights.get_mut(&name).unwrap().data_mut()[0] += 0.5;
    let (file, record) = (done[0].folder.join(FP32), wide.record.as_ref());
    lowbit::format::save_float(&file, &wide.graph, &wide.weights, record).unwrap();
    let (again, counted) = go(&config, &[32, 8], 1, &input());
    let earlier: Vec<bool> = counted
        .finished
        .lock()
        .unwrap()
        .iter()
        .map(|(_, e)| *e)
        .collect();
    assert_eq!(earlier, [true, false]);
    assert_ne!(again[1].folder, done[1].folder);
}

#[test]
fn the_32_bit_run_of_the_seed_teaches_the_others() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut taught = config(folder.path());
    taught.recipe.teacher = OWN_TEACHER.into();
    let (done, _) = go(&taught, &[4, 32], 3, &input());
    let list = decisive(&done[1]);
    assert_eq!((done[1].results.bit_width, list.get("teacher")), (4, None));
    let how = "weight 0.5, temperature 4";
    assert_eq!(list.get("own_teacher"), Some(how));
    assert_ne!(
        list.get("teacher_weights"),
        decisive(&done[3]).get("teacher_weights")
    );
    assert_eq!(list.row(), decisive(&done[3]).row());
    assert!(
        done.iter()
            .all(|run| decisive(run).shared() == list.shared())
    );
    // No file of this place stands in the results.
    let asked = done[1].results.config.as_ref().unwrap();
    assert_eq!(asked.recipe.teacher, Path::new(OWN_TEACHER));
    // The same training, its teacher named by hand; the teacher itself has none.
    let mut alone = config(other.path());
    alone.repeats.seeds = 1;
    let rounds = |run: &Finished| run.results.results_per_round.clone();
    assert_eq!(rounds(&by_hand(&alone, 32, None)), rounds(&done[0]));
    assert_ne!(rounds(&by_hand(&alone, 4, None)), rounds(&done[1]));
    alone.recipe.teacher = done[0].folder.join(FP32);
    assert_eq!(rounds(&by_hand(&alone, 4, None)), rounds(&done[1]));
    // Rows say so, and plain ones beside them are others.
    let plain = config(folder.path());
    let (more, _) = go(&plain, &[32, 4], 1, &input());
    assert!(more[0].earlier && !more[1].earlier);
    let found = crate::analysis::runs::read(folder.path()).unwrap();
    let analysis = crate::analysis::analyze(&found, 1.0);
    let labels: Vec<&str> = analysis
        .newest
        .widths
        .iter()
        .map(|row| &*row.label)
        .collect();
    assert_eq!(labels.len(), 3, "{labels:?}");
    assert!(
        labels.contains(&"4") && labels.contains(&"4 (taught by 32)"),
        "{labels:?}"
    );
}

#[test]
fn the_parts_of_a_submitted_sweep_find_what_the_others_trained() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.chain.warm_start = true;
    config.recipe.teacher = OWN_TEACHER.into();
    let (input, isa) = (input(), Isa::current().unwrap());
    let subject = Subject::named(&config, &input).unwrap();
    let events = Counted::default();
    let widths = widths([32, 8, 2]);
    train_widths(&config, &widths, Some(2), 1, &subject, isa, &events).unwrap();
    let measured = measure(&config, &widths, &subject, isa, &events).unwrap();
    let ids: Vec<_> = measured
        .iter()
        .map(|run| (run.results.bit_width, run.results.seed))
        .collect();
    assert_eq!(ids, [(32, 2), (8, 2), (2, 2)]);
    assert!(measured.iter().all(|run| run.results.img_per_s.is_some()));
}
