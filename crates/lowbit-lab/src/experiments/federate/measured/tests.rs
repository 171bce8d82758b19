use crate::evaluate::evaluate;
use crate::experiments::federate::{
    FederateConfig, FederateEvents, Federated, FederatedRound, Resume, federate,
};
use crate::experiments::inputs::{Input, tests::input};
use crate::{Config, LabError};
use lowbit::exec::{FloatModel, IntegerModel};
use lowbit::format::{self, StoredModel};
use lowbit_data::{Partition, Split};
use lowbit_fed::round::{FedEvents, Silent};
use lowbit_fed::{Norm, Settings};
use lowbit_kernels::Isa;
use std::path::{Path, PathBuf};

/// 16 training images and 6 test images of 16×16 pixels, for networks with batch-norm.
fn images() -> Input {
    let small = input();
    let split = |from: u32, count: u32| {
        let pixel = |at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8;
        let pixels = (from * 256..(from + count) * 256).map(pixel).collect();
        Split::new(256, pixels, (0..count).map(|index| index % 2).collect()).unwrap()
    };
    let mut data = small.data.clone();
    (data.height, data.width) = (16, 16);
    (data.train, data.test) = (split(0, 16), split(16, 6));
    Input::new(data, small.split.clone()).unwrap()
}

fn local(bits: u8, norm: Norm) -> FederateConfig {
    FederateConfig {
        rounds: 3,
        local_epochs: 1,
        bits: bits.try_into().unwrap(),
        partition: Partition::Iid,
        local_test: Partition::HELD,
        settings: Settings {
            clients: 3,
            norm,
            ..Settings::default()
        },
        resume: Resume::No,
    }
}

fn run(
    out: &Path,
    model: &str,
    settings: &FederateConfig,
    events: &dyn FederateEvents,
) -> Result<Federated, LabError> {
    let mut config = Config::default();
    config.results.out = out.to_owned();
    config.network.model = model.into();
    let isa = Isa::current().unwrap();
    federate(&config, settings, &images(), isa, events)
}

/// Loss and accuracy of a written model on the test images.
fn score(file: &Path) -> (f64, f64) {
    let isa = Isa::current().unwrap();
    let test = images().data.test;
    let found = match format::load(file).unwrap() {
        StoredModel::Float { graph, weights } => {
            evaluate(&FloatModel::compile(&graph, &weights, isa).unwrap(), &test).unwrap()
        }
        StoredModel::Quantized(model) => {
            evaluate(&IntegerModel::compile(&model, isa).unwrap(), &test).unwrap()
        }
    };
    (found.loss, found.accuracy())
}

#[test]
fn what_is_said_of_clients_that_keep_their_batch_norm_is_the_mean_of_what_they_would_deploy() {
    for bits in [32, 4] {
        let out = tempfile::tempdir().unwrap();
        let done = run(out.path(), "resnet8", &local(bits, Norm::Local), &Silent).unwrap();
        assert_eq!(done.federation.settings["norm"], "local");
        // No one model ships, and none is written.
        assert!(!done.folder.join("model_fp32.safetensors").exists());
        let kind = if bits == 32 { "fp32" } else { "4bit" };
        let of_client = |client: u32| {
            let folder = done.folder.join(format!("client_{client}"));
            score(&folder.join(format!("model_{kind}.safetensors")))
        };
        let scores: Vec<(f64, f64)> = (0..3).map(of_client).collect();
        assert!(scores[0].0 != scores[1].0 && scores[1].0 != scores[2].0);
        let last = done.rounds.last().unwrap();
        let mean = |of: fn(&(f64, f64)) -> f64| scores.iter().map(of).sum::<f64>() / 3.0;
        assert!((last.test_loss - mean(|score| score.0)).abs() < 1e-12);
        assert!((last.test_accuracy - mean(|score| score.1)).abs() < 1e-12);
        assert_eq!(done.results.final_test_accuracy, last.test_accuracy);
        let each = last.test_per_client.unwrap();
        let accuracies = scores.iter().map(|score| score.1);
        assert_eq!(each.max, accuracies.clone().fold(0.0, f64::max));
        assert_eq!(each.min, accuracies.fold(1.0, f64::min));
        assert_eq!(each.untrained, 0);
    }
}

#[test]
fn batch_norm_that_stays_costs_no_bytes() {
    let [one, other] = [Norm::Local, Norm::Server].map(|norm| {
        let out = tempfile::tempdir().unwrap();
        run(out.path(), "resnet8", &local(32, norm), &Silent).unwrap()
    });
    let (one, other) = (&one.rounds[1], &other.rounds[1]);
    assert_eq!((one.up.statistics, one.down.statistics), (0, 0));
    // Nine of them, two beside shortcuts: three of each of these channels. Scale and shift, then mean and variance.
    let channels = 3 * (16 + 32 + 64);
    assert_eq!(other.up.statistics, 3 * 4 * 2 * channels);
    assert_eq!(other.up.vectors - one.up.vectors, 3 * 4 * 2 * channels);
    assert_eq!(one.up.codes, other.up.codes);
    // The entry of the statistics is gone, too.
    let less = other.bytes_up - one.bytes_up;
    assert_eq!(less, 3 * (16 * channels + 8));
}

#[test]
fn clients_that_have_not_trained_have_the_batch_norm_of_the_start() {
    let mut settings = local(32, Norm::Local);
    settings.rounds = 1;
    (settings.settings.fraction, settings.settings.min_clients) = (0.3, 1);
    let out = tempfile::tempdir().unwrap();
    let done = run(out.path(), "resnet8", &settings, &Silent).unwrap();
    let round = &done.rounds[0];
    let each = round.test_per_client.unwrap();
    assert_eq!((round.clients, each.untrained), (1, 2));
    let trained: Vec<PathBuf> = (0..3)
        .map(|client| done.folder.join(format!("client_{client}")))
        .filter(|folder| folder.exists())
        .collect();
    assert_eq!(trained.len(), 1);
    // What the other two have is what one would load without that training: the server's numbers, fresh batch-norm.
    let stored = format::load(&trained[0].join("model_fp32.safetensors")).unwrap();
    let StoredModel::Float { graph, mut weights } = stored else {
        panic!("a float model");
    };
    let own = score(&trained[0].join("model_fp32.safetensors"));
    let fresh = lowbit::Weights::init(&graph, 1);
    let (_, stays) = lowbit_fed::Schema::split(&graph, &weights, Norm::Local);
    stays.write(&stays.flatten(&fresh).unwrap(), &mut weights);
    let isa = Isa::current().unwrap();
    let model = FloatModel::compile(&graph, &weights, isa).unwrap();
    let idle = evaluate(&model, &images().data.test).unwrap();
    let expected = (own.0 + 2.0 * idle.loss) / 3.0;
    assert!((round.test_loss - expected).abs() < 1e-12);
}

/// Keeps a copy of the checkpoint after the first round.
struct Copy<'a> {
    from: &'a Path,
    to: &'a Path,
}

impl FedEvents for Copy<'_> {}

impl FederateEvents for Copy<'_> {
    fn round_done(&self, round: &FederatedRound, _rounds: u32, _bytes: u64) {
        if round.round == 1 {
            let parent = self.from.join("4bit");
            let run = std::fs::read_dir(parent).unwrap().next().unwrap().unwrap();
            let folder = self.to.join("4bit").join(run.file_name());
            std::fs::create_dir_all(&folder).unwrap();
            let name = "checkpoint.lbfc";
            std::fs::copy(run.path().join(name), folder.join(name)).unwrap();
        }
    }
}

#[test]
fn clients_go_on_with_their_batch_norm_where_a_run_was_stopped() {
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut settings = local(4, Norm::Local);
    let copy = Copy {
        from: one.path(),
        to: other.path(),
    };
    let whole = run(one.path(), "resnet8", &settings, &copy).unwrap();
    settings.resume = Resume::Expected;
    let other_width = FederateConfig {
        resume: Resume::Expected,
        ..local(8, Norm::Local)
    };
    let refused = run(other.path(), "resnet8", &other_width, &Silent);
    let line = refused.err().map(|error| error.to_string()).unwrap();
    assert!(
        line.contains("4bit") && line.contains("bits = 4, this run has 8"),
        "{line}"
    );
    let resumed = run(other.path(), "resnet8", &settings, &Silent).unwrap();
    assert_eq!(whole.folder.file_name(), resumed.folder.file_name());
    for client in 0..3 {
        let file = format!("client_{client}/model_4bit.safetensors");
        let bytes = |done: &Federated| std::fs::read(done.folder.join(&file)).unwrap();
        assert!(bytes(&whole) == bytes(&resumed), "client {client}");
    }
    let tests = |done: &Federated| -> Vec<f64> {
        done.rounds.iter().map(|round| round.test_loss).collect()
    };
    assert_eq!(tests(&whole), tests(&resumed));
}

#[test]
fn a_network_without_batch_norm_has_none_to_keep() {
    let out = tempfile::tempdir().unwrap();
    let refused = run(out.path(), "mlp", &local(8, Norm::Local), &Silent);
    let line = refused.err().map(|error| error.to_string()).unwrap();
    assert_eq!(
        line,
        "norm is local: mlp has no batch-norm to keep, use server"
    );
}
