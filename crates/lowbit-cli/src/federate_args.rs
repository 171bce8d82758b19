//! What makes a federation, as flags: of `lowbit federate`, of `lowbit sweep --federated`, and of the jobs that run either.

use crate::settings::{Flags, of};
use clap::Args;
use lowbit::ModelBits;
use lowbit_data::Partition;
use lowbit_fed::codec::MessageBits;
use lowbit_fed::simulate::ClientFault;
use lowbit_fed::wire::Encoding;
use lowbit_fed::{Aggregator, Norm, Settings, Strategy};
use lowbit_lab::Config;
use lowbit_lab::experiments::federate::{FederateConfig, Resume};

/// What makes a federation.
#[derive(Debug, Args)]
pub(crate) struct Federate {
    #[command(flatten)]
    pub(crate) federation: Flagged,
    /// Bits per weight of the model that clients train and the server deploys: 32, 16, 8, 4, 2 or 1
    #[arg(
        long,
        default_value = "8",
        value_name = "N",
        help_heading = "Federation"
    )]
    pub(crate) bits: ModelBits,
    /// Go on with a run that was stopped
    #[arg(long)]
    pub(crate) resume: bool,
    /// Show how many images of each class each client has, and stop
    #[arg(long)]
    pub(crate) show_partitions: bool,
    #[command(flatten)]
    pub(crate) settings: Flags<of::Federate>,
}

/// Settings of a federation of any width.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Federation")]
pub(crate) struct Flagged {
    /// Clients that hold the training images
    #[arg(long, default_value_t = 10, value_name = "N")]
    clients: u32,
    /// Rounds: clients train, the server averages
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// Passes of a client over its images in a round
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    local_epochs: u32,
    /// Share of the clients that is chosen for a round
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    fraction: f64,
    /// Bits per weight of messages from the clients: 32, 16, 8, 4, 2, 1, or ternary:1 for the largest 1 percent
    #[arg(long, default_value = "8", value_name = "N")]
    up_bits: MessageBits,
    /// The same for messages to the clients
    #[arg(long, default_value = "8", value_name = "N")]
    down_bits: MessageBits,
    /// How images are spread over clients: iid, dirichlet:0.3, dirichlet:0.3:balanced (no further class for
    /// clients that have a fair share of all images) or shards:2
    #[arg(
        id = "deal",
        long = "partition",
        visible_alias = "deal",
        default_value = "iid",
        value_name = "HOW"
    )]
    partition: Partition,
    /// Share of its images that a client keeps apart, to measure its own model on; 0 for none
    #[arg(long, default_value_t = Partition::HELD, value_name = "SHARE")]
    local_test: f64,
    /// What the server does with the mean update: fedavg, fedprox:0.01, fedavgm:0.9 or fedadam:0.01
    #[arg(long, default_value = "fedavg", value_name = "NAME")]
    strategy: Strategy,
    /// How updates become one: mean, median, trimmed-mean:0.1 or krum:1
    #[arg(long, default_value = "mean", value_name = "NAME")]
    aggregator: Aggregator,
    /// Whose batch-norm is: server (averaged), or local (each client keeps its own, and its own model is measured)
    #[arg(long, default_value_t = Norm::Server, value_name = "WHOSE")]
    norm: Norm,
    /// Probability that a client drops out of a round after it received the model
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    dropout: f64,
    /// Time after which a client's answer does not count, e.g. 30s; with it, runs do not repeat to the bit
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    deadline: Option<f64>,
    /// Fewest clients that must answer in a round
    #[arg(long, default_value_t = 2, value_name = "N")]
    min_clients: u32,
    /// A client that misbehaves in every round: 3=nan, 3=x100 or 3=cut (may be repeated)
    #[arg(long, value_name = "CLIENT=WHAT")]
    fault: Vec<ClientFault>,
    /// Forget what rounding lost instead of sending it with the next message
    #[arg(long)]
    no_feedback: bool,
    /// Do not rotate messages below 4 bits
    #[arg(long)]
    no_rotation: bool,
    /// Clients that train at the same time, each on its share of the threads; 0 for as many as there are threads
    #[arg(long, default_value_t = 0, value_name = "N")]
    at_a_time: usize,
}

/// The flags of [`Flagged`]: a sweep takes them with `--federated` alone.
pub(crate) fn only_federated(arg: clap::Arg) -> clap::Arg {
    match arg.get_help_heading() {
        Some("Federation") => arg.requires("federated"),
        _ => arg,
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('s').unwrap_or(text).parse();
    number.map_err(|_| format!("{text}: use seconds, e.g. 30s"))
}

impl Flagged {
    /// The flags that say the same, each of them.
    pub(crate) fn argv(&self) -> Vec<String> {
        // All fields by name: a new one must be passed on.
        let Self {
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
            no_feedback,
            no_rotation,
            at_a_time,
        } = self;
        let mut argv = vec![
            format!("--clients={clients}"),
            format!("--rounds={rounds}"),
            format!("--local-epochs={local_epochs}"),
            format!("--fraction={fraction}"),
            format!("--up-bits={up_bits}"),
            format!("--down-bits={down_bits}"),
            format!("--partition={partition}"),
            format!("--local-test={local_test}"),
            format!("--strategy={strategy}"),
            format!("--aggregator={aggregator}"),
            format!("--norm={norm}"),
            format!("--dropout={dropout}"),
            format!("--min-clients={min_clients}"),
            format!("--at-a-time={at_a_time}"),
        ];
        argv.extend(deadline.map(|seconds| format!("--deadline={seconds}s")));
        argv.extend(fault.iter().map(|fault| format!("--fault={fault}")));
        let switches = [
            ("--no-feedback", no_feedback),
            ("--no-rotation", no_rotation),
        ];
        let on = switches.into_iter().filter(|(_, on)| **on);
        argv.extend(on.map(|(flag, _)| flag.to_owned()));
        argv
    }

    /// How many clients there are.
    pub(crate) fn clients(&self) -> u32 {
        self.clients
    }

    /// The same as keys and values of a run on Flower, in TOML (docs/flower.md).
    ///
    /// # Errors
    /// A line about a flag that is about clients of one process.
    pub(crate) fn run_config(&self, bits: ModelBits) -> Result<Vec<(String, String)>, String> {
        // All fields by name: a new one must be passed on.
        let Self {
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
            no_feedback,
            no_rotation,
            at_a_time,
        } = self;
        let only_here = [
            ("local-test", *local_test != Partition::HELD),
            ("dropout", *dropout != 0.0),
            ("deadline", deadline.is_some()),
            ("fault", !fault.is_empty()),
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
            ("feedback", (!no_feedback).to_string()),
            ("rotate", (!no_rotation).to_string()),
        ];
        Ok(pairs.map(|(key, value)| (key.to_owned(), value)).into())
    }

    pub(crate) fn config(
        &self,
        config: &Config,
        bits: ModelBits,
        resume: Resume,
    ) -> FederateConfig {
        let encoding = |bits| Encoding {
            bits,
            feedback: !self.no_feedback,
            rotate: !self.no_rotation,
        };
        let at_a_time = match self.at_a_time {
            0 => rayon::current_num_threads(),
            given => given,
        };
        FederateConfig {
            rounds: self.rounds,
            local_epochs: self.local_epochs,
            bits,
            partition: self.partition,
            local_test: self.local_test,
            settings: Settings {
                clients: self.clients,
                fraction: self.fraction,
                up: encoding(self.up_bits),
                down: encoding(self.down_bits),
                strategy: self.strategy,
                aggregator: self.aggregator,
                norm: self.norm,
                dropout: self.dropout,
                deadline: self.deadline,
                min_clients: self.min_clients,
                seed: config.run.seed,
                faults: self.fault.clone(),
                at_a_time,
            },
            resume,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Flagged, ModelBits};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flagged: Flagged,
    }

    #[test]
    fn batch_norm_of_clients_does_not_go_with_flower() {
        let parse = |words: &[&str]| Line::parse_from([&["federate"], words].concat()).flagged;
        assert!(parse(&[]).run_config(ModelBits::Fp32).is_ok());
        let line = parse(&["--norm", "local"])
            .run_config(ModelBits::Fp32)
            .unwrap_err();
        assert!(
            line.starts_with("--norm local: a server on Flower"),
            "{line}"
        );
        // Whoever passes the flags on passes this one on.
        assert!(
            parse(&["--norm", "local"])
                .argv()
                .contains(&"--norm=local".to_owned())
        );
    }
}
