//! A federation on Flower as tasks of a cluster: one runs the SuperLink and the server, one each a SuperNode. What the tasks do is
//! in the Python package (`lowbit/flower/_cluster.py`): Flower is Python.

use crate::failure::Failure;
use lowbit::ModelBits;
use lowbit_data::Partition;
use lowbit_fed::Norm;
use lowbit_jobs::Task;
use lowbit_jobs::manifest::Binary;
use lowbit_jobs::resources::Resources;
use lowbit_jobs::scheduler::Engine;
use lowbit_lab::config::areas::Federating;
use std::collections::BTreeMap;

/// Why the program alone does not do it.
pub(super) fn needs_python() -> Failure {
    Failure::Input(
        "a federation on Flower needs the Python package, with Flower: pip install '.[flower]', and its command lowbit"
            .into(),
    )
}

/// Refuses what cannot become a federation: too few tasks at once, or a queue of one machine.
pub(super) fn check(
    engine: Engine,
    resources: &Resources,
    federation: &Federating,
) -> Result<(), Failure> {
    if !Binary::is_script() {
        return Err(needs_python());
    }
    if engine == Engine::Local {
        return Err(Failure::Input(
            "--transport flower: for several machines; on one, --transport process runs the same federation in one task, to the same bits"
                .into(),
        ));
    }
    let wanted = federation.clients + 1;
    match resources.max_parallel {
        Some(most) if most < wanted => Err(Failure::Input(format!(
            "--max-parallel {most}: the server and {} clients are {wanted} tasks that run at the same time",
            federation.clients
        ))),
        _ => Ok(()),
    }
}

/// The server's task, and one for each client; `settings` are the experiment's, in TOML.
pub(super) fn tasks(
    bits: ModelBits,
    federation: &Federating,
    settings: Vec<(String, String)>,
    shown: &BTreeMap<String, String>,
) -> Result<Vec<Task>, Failure> {
    let task = |name: String, argv: Vec<String>| Task {
        index: 0,
        stage: 0,
        exclusive: false,
        name,
        settings: shown.clone(),
        argv,
    };
    let mut server = vec!["flower".to_owned(), "server".to_owned()];
    let own = run_config(federation, bits).map_err(Failure::Input)?;
    let all = own.into_iter().chain(settings);
    server.extend(all.map(|(key, value)| format!("{}={value}", key.replace('_', "-"))));
    let client = |number: u32| {
        let argv = ["flower", "client", &number.to_string()].map(str::to_owned);
        task(format!("client_{number}"), argv.into())
    };
    let clients = (0..federation.clients).map(client);
    Ok(std::iter::once(task("server".into(), server))
        .chain(clients)
        .collect())
}

/// The federation as keys and values of a run on Flower, in TOML (docs/flower.md).
///
/// # Errors
/// A line about a setting that is about clients of one process.
fn run_config(federation: &Federating, bits: ModelBits) -> Result<Vec<(String, String)>, String> {
    // All by name: a new one must be passed on.
    let Federating {
        clients,
        rounds,
        local_epochs,
        fraction,
        up_bits,
        down_bits,
        partition,
        local_test,
        strategy,
        aggregator,
        norm,
        dropout,
        deadline,
        min_clients,
        fault,
        feedback,
        rotation,
        at_a_time,
    } = federation;
    let only_here = [
        ("local-test", *local_test != Partition::HELD),
        ("dropout", *dropout != 0.0),
        ("deadline", deadline.0.is_some()),
        ("fault", !fault.0.is_empty()),
        ("at-a-time", *at_a_time != 0),
    ];
    if let Some((flag, _)) = only_here.iter().find(|(_, given)| *given) {
        return Err(format!(
            "--{flag}: is about clients of one process, and --transport flower has real ones; leave it out"
        ));
    }
    if *norm == Norm::Local {
        return Err("--norm local: a server on Flower has no client's batch-norm to measure a model with; leave it out, or use --transport process".into());
    }
    let text = |value: &dyn std::fmt::Display| format!("\"{value}\"");
    let pairs = [
        ("num-server-rounds", rounds.to_string()),
        ("clients", clients.to_string()),
        ("fraction-train", format!("{fraction:?}")),
        ("min-clients", min_clients.to_string()),
        ("local-epochs", local_epochs.to_string()),
        ("bits", bits.to_string()),
        ("up-bits", text(up_bits)),
        ("down-bits", text(down_bits)),
        ("partition", text(partition)),
        ("strategy", text(strategy)),
        ("aggregator", text(aggregator)),
        ("feedback", feedback.to_string()),
        ("rotate", rotation.to_string()),
    ];
    Ok(pairs.map(|(key, value)| (key.to_owned(), value)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_norm_of_clients_does_not_go_with_flower() {
        let mut federation = Federating::default();
        assert!(run_config(&federation, ModelBits::Fp32).is_ok());
        federation.norm = Norm::Local;
        let line = run_config(&federation, ModelBits::Fp32).unwrap_err();
        assert!(
            line.starts_with("--norm local: a server on Flower"),
            "{line}"
        );
    }
}
