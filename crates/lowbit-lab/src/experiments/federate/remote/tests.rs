use super::*;
use crate::experiments::federate::tests::config;
use crate::experiments::federate::{Resume, federate};
use crate::experiments::inputs::tests::input;
use lowbit::format;
use lowbit_data::Partition;
use lowbit_fed::Settings;
use lowbit_fed::codec::MessageBits;
use lowbit_fed::round::Silent;
use lowbit_fed::screen::Failure;
use std::path::Path;

fn settings(bits: u8, up: MessageBits) -> FederateConfig {
    let mut settings = Settings {
        clients: 3,
        min_clients: 1,
        ..Settings::default()
    };
    settings.up.bits = up;
    settings.down.bits = up;
    FederateConfig {
        rounds: 4,
        local_epochs: 1,
        bits: bits.try_into().unwrap(),
        partition: Partition::Iid,
        local_test: Partition::HELD,
        settings,
        resume: Resume::No,
    }
}

struct Elsewhere {
    server: Server,
    clients: Vec<Client>,
    states: Vec<ClientState>,
}

impl Elsewhere {
    fn new(out: &Path, federate: &FederateConfig) -> Self {
        let isa = Isa::current().unwrap();
        let input = Arc::new(input());
        let client = |index| {
            let input = Arc::clone(&input);
            Client::new(config(out), federate.clone(), input, index, false, isa).unwrap()
        };
        Self {
            clients: (0..3).map(client).collect(),
            states: vec![ClientState::default(); 3],
            server: Server::new(config(out), federate.clone(), input.clone(), isa).unwrap(),
        }
    }

    /// A round in which `lost` clients do not answer after they were sent the model.
    fn round(&mut self, lost: &[u32]) -> FederatedRound {
        let (round, selected) = self.server.open();
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        // In another order than in one process.
        for &client in selected.iter().rev() {
            let messages = self.server.send(client);
            if lost.contains(&client) {
                let failure = Failure::DroppedOut;
                failures.push(ClientFailure { client, failure });
                continue;
            }
            let counted = self.server.counted(client);
            let (side, state) = (
                &self.clients[client as usize],
                &mut self.states[client as usize],
            );
            let answer = side.answer(state, (round, counted), &messages).unwrap();
            answers.push((client, 0.1, answer));
        }
        self.server.close(answers, failures).unwrap()
    }
}

#[test]
fn clients_elsewhere_make_the_model_that_clients_in_one_process_make_to_the_bit() {
    for (bits, up) in [
        (4, MessageBits::Uniform(8)),
        (32, MessageBits::Uniform(2)),
        (32, MessageBits::Ternary(0.05)),
    ] {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let federate_config = settings(bits, up);
        let isa = Isa::current().unwrap();
        let here = federate(
            &config(one.path()),
            &federate_config,
            &input(),
            isa,
            &Silent,
        )
        .unwrap();
        let mut elsewhere = Elsewhere::new(other.path(), &federate_config);
        for expected in &here.rounds {
            let found = elsewhere.round(&[]);
            assert_eq!(found.test_loss, expected.test_loss, "{bits} bits, {up}");
            assert_eq!((found.up, found.down), (expected.up, expected.down));
        }
        let there = elsewhere.server.finish().unwrap();
        assert_eq!(there.folder.file_name(), here.folder.file_name());
        let file = |folder: &Path| std::fs::read(folder.join("model_fp32.safetensors")).unwrap();
        assert_eq!(file(&there.folder), file(&here.folder));
        assert!(format::load(&there.folder.join("model_fp32.safetensors")).is_ok());
    }
}

#[test]
fn a_client_that_was_lost_or_began_anew_catches_up() {
    let out = tempfile::tempdir().unwrap();
    let mut elsewhere = Elsewhere::new(out.path(), &settings(32, MessageBits::Uniform(2)));
    elsewhere.round(&[]);
    assert_eq!(elsewhere.round(&[1]).failures.len(), 1);
    // What it meant to say in the first round counted; it is sent all of the model again.
    let caught_up = elsewhere.round(&[]);
    assert!(caught_up.catch_up.total() > 0 && caught_up.clients == 3);
    let held: Vec<u32> = elsewhere.states.iter().map(|state| state.round).collect();
    assert_eq!(held, [3, 3, 3]);
    assert_eq!(elsewhere.states[1].model, elsewhere.states[0].model);
    // One that lost its state cannot apply a difference, and says so.
    let (round, _) = elsewhere.server.open();
    let messages = elsewhere.server.send(2);
    let error = elsewhere.clients[2]
        .answer(&mut ClientState::default(), (round, 0), &messages)
        .unwrap_err()
        .to_string();
    assert!(error.contains("holds the model of round 0"), "{error}");
}

#[test]
fn an_answer_that_did_not_count_is_said_again() {
    let out = tempfile::tempdir().unwrap();
    let mut elsewhere = Elsewhere::new(out.path(), &settings(32, MessageBits::Uniform(1)));
    elsewhere.round(&[]);
    let state = &elsewhere.states[0];
    assert!(state.residual.is_empty() && !state.pending.is_empty());
    let pending = state.pending.clone();
    let [mut counts, mut refused] = [state.clone(), state.clone()];
    let (round, _) = elsewhere.server.open();
    let messages = elsewhere.server.send(0);
    let client = &elsewhere.clients[0];
    client.answer(&mut counts, (round, 1), &messages).unwrap();
    client.answer(&mut refused, (round, 0), &messages).unwrap();
    assert_eq!(counts.residual, pending);
    assert!(refused.residual.is_empty());
}

#[test]
fn a_finished_federation_is_not_run_over() {
    let out = tempfile::tempdir().unwrap();
    let settings = settings(32, MessageBits::Float);
    let isa = Isa::current().unwrap();
    federate(&config(out.path()), &settings, &input(), isa, &Silent).unwrap();
    let again = Server::new(config(out.path()), settings, Arc::new(input()), isa);
    let error = again.err().map(|error| error.to_string()).unwrap();
    assert!(error.contains("is finished there"), "{error}");
}

#[test]
fn there_is_no_client_beyond_the_last() {
    let out = tempfile::tempdir().unwrap();
    let federate = settings(32, MessageBits::Float);
    let isa = Isa::current().unwrap();
    let made = Client::new(
        config(out.path()),
        federate,
        Arc::new(input()),
        3,
        false,
        isa,
    );
    let error = made.err().map(|error| error.to_string()).unwrap();
    assert!(error.contains("clients 0 to 2"), "{error}");
}

#[test]
fn a_server_over_machines_has_no_batch_norm_of_clients() {
    let out = tempfile::tempdir().unwrap();
    let mut federate = settings(32, MessageBits::Float);
    federate.settings.norm = Norm::Local;
    let isa = Isa::current().unwrap();
    let made = Server::new(config(out.path()), federate, Arc::new(input()), isa);
    let line = made.err().map(|error| error.to_string()).unwrap();
    assert!(
        line.starts_with("norm is local: this server has no client's batch-norm"),
        "{line}"
    );
}
