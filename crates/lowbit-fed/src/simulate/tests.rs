use super::*;
use crate::checkpoint;
use crate::client::Trained;
use crate::round::{RoundSummary, Silent};
use crate::schema::tests::small;
use crate::screen::Failure;
use crate::wire::Report;

/// Pulls every number towards a target of the client's own.
struct Pull {
    schema: Schema,
    clients: u32,
}

impl Pull {
    fn target(client: u32, at: usize) -> f32 {
        ((at * 7 + client as usize * 13) % 19) as f32 * 0.1
    }
}

impl Local for Pull {
    fn train(
        &self,
        client: u32,
        round: u32,
        model: &[f32],
        own: &[f32],
    ) -> Result<Trained, String> {
        let pull = |(at, &x): (usize, &f32)| x + 0.5 * (Self::target(client, at) - x);
        // What a client keeps tells all rounds in which it trained.
        let keep = |x: &f32| 2.0 * x + (client + 10 * round) as f32;
        Ok(Trained {
            model: model.iter().enumerate().map(pull).collect(),
            own: own.iter().map(keep).collect(),
            report: Report {
                train_loss: 1.0,
                train_accuracy: 0.5,
                local_test_accuracy: 0.25,
            },
        })
    }

    fn images(&self, client: u32) -> u32 {
        assert!(client < self.clients);
        10 + client
    }
}

fn local(clients: u32) -> Pull {
    Pull {
        schema: small(),
        clients,
    }
}

fn start<'a>(settings: Settings, local: &'a Pull) -> Federation<'a> {
    start_with(settings, local, &[])
}

/// A federation whose clients keep tensors of their own, `fresh` at first.
fn start_with<'a>(settings: Settings, local: &'a Pull, fresh: &[f32]) -> Federation<'a> {
    let schema = local.schema.clone();
    let model = vec![0.25; schema.len()];
    Federation::new(
        settings,
        schema,
        model,
        fresh.to_vec(),
        Start::Seed(1),
        local,
    )
    .unwrap()
}

fn run(federation: &mut Federation<'_>, rounds: u32) -> Vec<RoundSummary> {
    (0..rounds)
        .map(|_| federation.run_round(&Silent).unwrap())
        .collect()
}

fn bits(up: &str, down: &str) -> Settings {
    let mut settings = Settings::default();
    settings.up.bits = up.parse().unwrap();
    settings.down.bits = down.parse().unwrap();
    settings
}

/// What the weighted mean of the targets is.
fn goal(clients: u32, at: usize) -> f64 {
    let weight = |client: u32| f64::from(10 + client);
    let sum: f64 = (0..clients)
        .map(|c| weight(c) * f64::from(Pull::target(c, at)))
        .sum();
    sum / (0..clients).map(weight).sum::<f64>()
}

#[test]
fn f32_messages_average_as_arithmetic_does() {
    let local = local(10);
    let mut federation = start(bits("32", "32"), &local);
    run(&mut federation, 1);
    for (at, &x) in federation.server().global().iter().enumerate() {
        let expected = 0.25 + 0.5 * (goal(10, at) - 0.25);
        assert!(
            (f64::from(x) - expected).abs() < 1e-6,
            "{at}: {x} for {expected}"
        );
    }
}

#[test]
fn every_width_ends_near_the_same_model() {
    let local = local(10);
    for (up, down) in [
        ("32", "32"),
        ("8", "8"),
        ("4", "4"),
        ("2", "2"),
        ("1", "4"),
        ("1", "1"),
        ("ternary:25", "8"),
    ] {
        let mut federation = start(bits(up, down), &local);
        run(&mut federation, 60);
        let trained = local.schema.trained();
        let off = trained
            .clone()
            .map(|at| (f64::from(federation.server().global()[at]) - goal(10, at)).powi(2));
        let off = (off.sum::<f64>() / trained.len() as f64).sqrt();
        assert!(off < 0.2, "{up}/{down}: {off}");
    }
}

#[test]
fn bytes_by_hand() {
    let local = local(10);
    let mut federation = start(bits("8", "4"), &local);
    let rounds = run(&mut federation, 2);
    // Seeds of 60 bytes first, then updates; lengths as in the wire's own test.
    let around = 48 + 4 + 3 * 8 + 6 * 4 + 7 * 4;
    assert_eq!(rounds[0].down.total(), 10 * 60);
    assert_eq!(rounds[1].down.total(), 10 * (around + 170));
    assert_eq!(rounds[1].up.total(), 10 * (around + 340));
    assert_eq!(rounds[1].catch_up.total(), 0);
    assert_eq!(rounds[1].report.train_accuracy, 0.5);
}

#[test]
fn of_two_clients_one_with_numbers_that_cannot_be_sent_on_is_refused() {
    let local = local(2);
    let mut settings = bits("32", "8");
    (settings.clients, settings.min_clients) = (2, 1);
    settings.faults = vec!["0=x3e38".parse().unwrap()];
    let mut federation = start(settings, &local);
    for summary in run(&mut federation, 3) {
        assert_eq!(summary.accepted, [1]);
        let failure = summary.failures[0].failure.to_string();
        assert!(failure.contains("its number 0 is"), "{failure}");
    }
}

#[test]
fn faulty_clients_are_named_and_do_no_harm() {
    let local = local(10);
    for bits_up in ["32", "8", "1"] {
        let mut settings = bits(bits_up, "8");
        settings.faults = ["2=nan", "5=x100", "7=cut"]
            .map(|fault| fault.parse().unwrap())
            .to_vec();
        let mut federation = start(settings, &local);
        for summary in run(&mut federation, 5) {
            assert_eq!(summary.accepted, [0, 1, 3, 4, 6, 8, 9]);
            let failed: Vec<u32> = summary
                .failures
                .iter()
                .map(|failed| failed.client)
                .collect();
            assert_eq!(failed, [2, 5, 7], "{bits_up}");
            assert!(matches!(
                summary.failures[0].failure,
                Failure::Message { .. }
            ));
            assert!(matches!(
                summary.failures[1].failure,
                Failure::TooLarge { .. }
            ));
            assert!(summary.failures[2].failure.to_string().contains("cut off"));
        }
        assert!(
            federation
                .server()
                .global()
                .iter()
                .all(|x| x.is_finite() && x.abs() < 3.0)
        );
    }
}

#[test]
fn dropouts_cost_a_download_and_nothing_else() {
    let local = local(10);
    let mut settings = bits("8", "8");
    settings.dropout = 0.4;
    let mut federation = start(settings, &local);
    let rounds = run(&mut federation, 20);
    let dropped: usize = rounds.iter().map(|round| round.failures.len()).sum();
    assert!((40..120).contains(&dropped), "{dropped} of 200");
    for round in &rounds {
        assert_eq!(round.accepted.len() + round.failures.len(), 10);
        assert!(
            round
                .failures
                .iter()
                .all(|failed| failed.failure == Failure::DroppedOut)
        );
        assert_eq!(round.catch_up.total(), 0);
    }
}

#[test]
fn too_few_clients_stop_the_run_in_one_line() {
    let local = local(3);
    let mut settings = bits("8", "8");
    (settings.clients, settings.min_clients) = (3, 3);
    settings.faults = vec!["1=nan".parse().unwrap()];
    let error = start(settings, &local)
        .run_round(&Silent)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("2 clients count, at least 3 must") && error.contains("client 1"),
        "{error}"
    );
    assert!(!error.contains('\n'));
}

#[test]
fn bits_do_not_depend_on_how_many_train_at_a_time() {
    let local = local(10);
    let mut first = start(bits("1", "2"), &local);
    let mut settings = bits("1", "2");
    settings.at_a_time = 4;
    let mut second = start(settings, &local);
    run(&mut first, 4);
    run(&mut second, 4);
    assert_eq!(first.server, second.server);
    assert_eq!(first.residuals, second.residuals);
}

#[test]
fn a_thousand_clients_cost_the_residuals_of_those_that_trained() {
    let local = local(1000);
    let mut settings = bits("4", "8");
    (settings.clients, settings.fraction) = (1000, 0.01);
    let mut federation = start(settings, &local);
    let rounds = run(&mut federation, 5);
    let mut seen: Vec<u32> = rounds
        .iter()
        .flat_map(|round| round.selected.clone())
        .collect();
    assert_eq!(seen.len(), 50);
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 40);
    let one = 4 * local.schema.trained().len();
    assert_eq!(federation.residual_bytes(), seen.len() * one);
    let log: usize = federation
        .server
        .log
        .iter()
        .map(|sent| sent.bytes.len())
        .sum();
    assert!(log <= 4 * local.schema.len());
    // Who comes late must catch up, and that is counted.
    assert!(rounds[4].catch_up.total() > 0);
}

#[test]
fn a_run_that_was_stopped_ends_with_the_same_bits() {
    let local = local(10);
    let identity: BTreeMap<String, String> = [("seed".into(), "1".into())].into();
    for strategy in ["fedavg", "fedavgm", "fedadam"] {
        let mut settings = bits("1", "2");
        (settings.fraction, settings.dropout) = (0.5, 0.1);
        settings.strategy = strategy.parse().unwrap();
        let mut whole = start_with(settings.clone(), &local, &[0.5, 1.0]);
        run(&mut whole, 9);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.lbfc");
        for stop in [1, 4, 8] {
            let mut part = start_with(settings.clone(), &local, &[0.5, 1.0]);
            run(&mut part, stop);
            checkpoint::save(&path, &part, &identity, "[1]").unwrap();
            let mut resumed = start_with(settings.clone(), &local, &[0.5, 1.0]);
            assert_eq!(
                checkpoint::restore(&path, &mut resumed, &identity).unwrap(),
                "[1]"
            );
            run(&mut resumed, 9 - stop);
            assert_eq!(
                whole.server, resumed.server,
                "{strategy} stopped after {stop}"
            );
            assert_eq!(whole.residuals, resumed.residuals);
            assert_eq!(whole.own, resumed.own);
        }
    }
}

#[test]
fn what_a_client_keeps_is_its_last_training_that_counted() {
    let local = local(4);
    let mut settings = bits("8", "8");
    settings.clients = 4;
    settings.faults = vec!["2=nan".parse().unwrap()];
    let mut federation = start_with(settings, &local, &[0.5, 1.0]);
    let mut plain = start(federation.settings.clone(), &local);
    let [one, other] = [run(&mut federation, 2), run(&mut plain, 2)];
    // Rounds 1 and 2: x becomes 2 x + client + 10, then 2 x + client + 20. Client 2 never counted.
    assert_eq!(federation.own(0), [42.0, 44.0]);
    assert_eq!(federation.own(3), [51.0, 53.0]);
    assert_eq!(federation.own(2), [0.5, 1.0]);
    assert_eq!(federation.with_own().collect::<Vec<_>>(), [0, 1, 3]);
    // None of it is in a message.
    assert_eq!(federation.server, plain.server);
    for (one, other) in one.iter().zip(&other) {
        assert_eq!((one.up, one.down), (other.up, other.down));
    }
}

#[test]
fn a_client_whose_own_tensors_are_no_numbers_does_not_count() {
    let local = local(3);
    let mut settings = bits("8", "8");
    settings.clients = 3;
    let mut federation = start_with(settings, &local, &[0.5]);
    federation.own.insert(1, vec![f32::MAX]);
    let summary = run(&mut federation, 1).remove(0);
    assert_eq!(summary.accepted, [0, 2]);
    let said = summary.failures[0].failure.to_string();
    assert_eq!(said, "its batch-norm is not finite after training");
}

#[test]
fn a_checkpoint_of_other_own_tensors_is_refused() {
    let local = local(10);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.lbfc");
    let mut federation = start_with(bits("8", "8"), &local, &[0.5, 1.0]);
    run(&mut federation, 1);
    checkpoint::save(&path, &federation, &BTreeMap::new(), "").unwrap();
    let mut other = start_with(bits("8", "8"), &local, &[0.5]);
    assert!(checkpoint::restore(&path, &mut other, &BTreeMap::new()).is_err());
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused() {
    let local = local(10);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.lbfc");
    let mut federation = start(bits("8", "8"), &local);
    run(&mut federation, 2);
    let of = |seed: &str| -> BTreeMap<String, String> { [("seed".into(), seed.into())].into() };
    checkpoint::save(&path, &federation, &of("1"), "").unwrap();
    let mut other = start(bits("8", "8"), &local);
    let error = checkpoint::restore(&path, &mut other, &of("2"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("made with seed = 1, this run has 2"),
        "{error}"
    );
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 3, 20, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let error = checkpoint::restore(&path, &mut other, &of("1"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("not a usable checkpoint"), "{error}");
    }
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    std::fs::write(&path, &changed).unwrap();
    assert!(checkpoint::restore(&path, &mut other, &of("1")).is_err());
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let refuse = |change: &dyn Fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.check().unwrap_err().to_string()
    };
    assert!(refuse(&|s| s.clients = 0).contains("clients is 0"));
    assert!(refuse(&|s| s.fraction = 0.0).contains("fraction is 0"));
    assert!(refuse(&|s| s.fraction = f64::NAN).contains("fraction is NaN"));
    assert!(refuse(&|s| s.dropout = 1.0).contains("dropout is 1"));
    assert!(refuse(&|s| s.min_clients = 11).contains("there are 10 clients"));
    assert!(refuse(&|s| s.deadline = Some(0.0)).contains("deadline is 0"));
    assert!(refuse(&|s| s.faults = vec!["10=nan".parse().unwrap()]).contains("clients 0 to 9"));
    for text in ["", "nan", "1=", "1=zz", "x=nan", "1=x"] {
        assert!(text.parse::<ClientFault>().is_err(), "{text}");
    }
}
