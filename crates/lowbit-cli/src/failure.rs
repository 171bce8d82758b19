//! How a command ends when it cannot go on: one line, a hint where there is one, an exit code.

use lowbit_lab::LabError;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Bad input: exit code 2, like a wrong flag.
    Input(String),
    /// A command line that clap cannot read, in clap's own words: exit code 2.
    Usage(String),
    /// Anything else: exit code 1.
    Run(String),
    /// The results say it: only an exit code is left.
    Told(u8),
    /// Whoever read standard output has read enough: nothing to say, exit code 0.
    Closed,
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Input(_) | Self::Usage(_) => 2,
            Self::Run(_) => 1,
            Self::Told(code) => *code,
            Self::Closed => 0,
        }
    }
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        use lowbit::format::FormatError;
        use lowbit_lab::models::{Fault, OnnxError};
        let mut text = error.to_string();
        let unreadable = match &error {
            LabError::Format(FormatError::Damaged { path, .. }) => Some((path, "safetensors")),
            LabError::Onnx(OnnxError {
                path,
                fault: Fault::Damaged(_),
            }) => Some((path, "ONNX")),
            _ => None,
        };
        if let Some((path, own)) = unreadable
            && let Some(kind) =
                lowbit_data::what_is(path).filter(|kind| !kind.contains(own) && kind != "a text")
        {
            text = format!("{}: no model, but {kind}", path.display());
        }
        match error {
            LabError::Format(FormatError::Write { .. })
            | LabError::Export(lowbit_lab::models::ExportError::Write(_))
            | LabError::Diverged { .. }
            | LabError::Overflowed { .. }
            | LabError::Unquantizable { .. }
            | LabError::Busy { .. }
            | LabError::Stopped { .. }
            | LabError::Federation(lowbit_fed::FedError::TooFew { .. }) => Self::Run(text),
            // What is not there was named wrongly.
            LabError::Io { source, .. } if source.kind() != std::io::ErrorKind::NotFound => {
                Self::Run(text)
            }
            _ => Self::Input(text),
        }
    }
}

impl From<lowbit_jobs::JobError> for Failure {
    fn from(error: lowbit_jobs::JobError) -> Self {
        let text = error.to_string();
        if error.is_input() {
            Self::Input(text)
        } else {
            Self::Run(text)
        }
    }
}

/// Errors of the libraries take the same way as the lab's.
macro_rules! through_lab {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                LabError::from(error).into()
            }
        })*
    };
}

through_lab!(
    lowbit_data::DataError,
    lowbit_lab::config::ConfigError,
    lowbit::format::FormatError,
    lowbit::GraphError,
    lowbit::quantize::QuantError,
    lowbit::exec::RuntimeError,
    lowbit::train::TrainError,
    lowbit_kernels::IsaError
);
