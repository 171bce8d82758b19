//! The flags of `lowbit recommend`.

use crate::settings::{Flags, of};
use crate::which_images::WhichImages;
use clap::{Args, ValueHint};
use lowbit_lab::experiments::recommend::Target;
use std::path::PathBuf;
use std::time::Duration;

/// The flags of the command.
#[derive(Debug, Args)]
pub(crate) struct Recommend {
    /// A model file with FP32 weights, lowbit's or ONNX
    #[arg(value_name = "MODEL", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Points of accuracy that may be lost
    #[arg(
        long,
        default_value_t = 1.0,
        value_name = "POINTS",
        allow_negative_numbers = true
    )]
    pub(crate) max_drop: f64,
    /// How long trying may take: 90s, 5m, 1h
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = duration)]
    pub(crate) time: Duration,
    /// Also train, quantized, the widths at which rounding is not shown to lose at most --max-drop, for so long besides: 30m.
    /// The training part of the images trains, and chooses nothing
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) train: Option<Duration>,
    /// What the model should be best at
    #[arg(long, value_enum, default_value_t = What::Latency)]
    target: What,
    /// Images of a timed call, 1 to 4096 [default: 1; 64 with --target throughput]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: Option<u16>,
    /// List what would be tried
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take quantized models that an earlier run has made
    #[arg(long)]
    pub(crate) resume: bool,
    #[command(flatten)]
    pub(crate) which: WhichImages,
    #[command(flatten)]
    pub(crate) settings: Flags<of::Recommend>,
}

/// What the model to ship should be best at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Time of one call.
    Latency,
    /// Images per second in large batches.
    Throughput,
    /// Bytes of the file.
    Size,
}

impl What {
    /// Images of a timed call where nobody says how many.
    fn batch(self) -> usize {
        match self {
            Self::Throughput => 64,
            Self::Latency | Self::Size => 1,
        }
    }
}

impl Recommend {
    /// What the model should be best at.
    pub(crate) fn target(&self) -> Target {
        self.target.into()
    }

    /// Images of a timed call.
    pub(crate) fn images_per_call(&self) -> usize {
        self.batch.map_or(self.target.batch(), usize::from)
    }
}

impl From<What> for Target {
    fn from(what: What) -> Self {
        match what {
            What::Latency => Self::Latency,
            What::Throughput => Self::Throughput,
            What::Size => Self::Size,
        }
    }
}

/// `90s`, `5m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len()),
    );
    let seconds = match unit {
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("use 90s, 5m or 1h".into()),
    };
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 && number * seconds <= 1e7 => {
            Ok(Duration::from_secs_f64(number * seconds))
        }
        _ => Err("use 90s, 5m or 1h".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        let seconds = |text| duration(text).map(|time| time.as_secs_f64());
        assert_eq!(seconds("90s"), Ok(90.0));
        assert_eq!(seconds("1.5m"), Ok(90.0));
        assert_eq!(seconds("2h"), Ok(7200.0));
        for wrong in ["", "m", "-5m", "5d", "0s", "1e9h", "5 m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
