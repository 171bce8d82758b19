//! A federation on Flower as tasks of a cluster: one runs the SuperLink and the server, one each a SuperNode. What the tasks do is
//! in the Python package (`lowbit/flower/_cluster.py`): Flower is Python.

use crate::failure::Failure;
use crate::federate_args::Flagged;
use lowbit::ModelBits;
use lowbit_jobs::Task;
use lowbit_jobs::manifest::Binary;
use lowbit_jobs::resources::Resources;
use lowbit_jobs::scheduler::Engine;
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
    federation: &Flagged,
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
    let wanted = federation.clients() + 1;
    match resources.max_parallel {
        Some(most) if most < wanted => Err(Failure::Input(format!(
            "--max-parallel {most}: the server and {} clients are {wanted} tasks that run at the same time",
            federation.clients()
        ))),
        _ => Ok(()),
    }
}

/// The server's task, and one for each client; `settings` are the experiment's, in TOML.
pub(super) fn tasks(
    bits: ModelBits,
    federation: &Flagged,
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
    let own = federation.run_config(bits).map_err(Failure::Input)?;
    let all = own.into_iter().chain(settings);
    server.extend(all.map(|(key, value)| format!("{}={value}", key.replace('_', "-"))));
    let client = |number: u32| {
        let argv = ["flower", "client", &number.to_string()].map(str::to_owned);
        task(format!("client_{number}"), argv.into())
    };
    let clients = (0..federation.clients()).map(client);
    Ok(std::iter::once(task("server".into(), server))
        .chain(clients)
        .collect())
}
