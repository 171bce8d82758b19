//! Errors of the libraries as Python's exceptions, with the same one line each. The classes are Python's own
//! (`lowbit/_errors.py`): an exception of two bases cannot be made here.

use lowbit::format::FormatError;
use lowbit_lab::LabError;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// A class of `lowbit._errors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Images, labels and the files that hold them.
    Data,
    /// Images that a model has learned from.
    Seen,
    /// Models, weights and the files that hold them.
    Model,
    /// A setting that is none.
    Setting,
    /// A training that cannot go on.
    Training,
    /// What the file system refuses.
    File,
    /// A federation's messages.
    Wire,
    /// A fault of ours.
    Internal,
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Self::Data => "DataError",
            Self::Seen => "SeenError",
            Self::Model => "ModelError",
            Self::Setting => "SettingError",
            Self::Training => "TrainingError",
            Self::File => "FileError",
            Self::Wire => "WireError",
            Self::Internal => "InternalError",
        }
    }

    /// An exception of this class that says `line`, with keywords where it names flags.
    pub(crate) fn error(self, line: impl Into<String>) -> PyErr {
        let line = line.into();
        Python::attach(|py| {
            let made = py.import("lowbit._errors").and_then(|module| {
                let class = module.getattr(self.name())?.cast_into::<PyType>()?;
                let line = module.call_method1("in_python", (line,))?.unbind();
                Ok(PyErr::from_type(class, (line,)))
            });
            made.unwrap_or_else(|error| error)
        })
    }
}

/// The exception of an error of the experiments.
pub(crate) fn of(error: impl Into<LabError>) -> PyErr {
    let error = error.into();
    let class = match &error {
        LabError::Data(_) | LabError::Mismatch(_) => Class::Data,
        LabError::Seen(_) => Class::Seen,
        LabError::Config(_) | LabError::Isa(_) => Class::Setting,
        LabError::Format(FormatError::Write { .. } | FormatError::Read { .. })
        | LabError::Io { .. }
        | LabError::OwnInput { .. }
        | LabError::Output { .. } => Class::File,
        LabError::Format(_)
        | LabError::Graph(_)
        | LabError::Quant(_)
        | LabError::Runtime(_)
        | LabError::Onnx(_) => Class::Model,
        LabError::Export(_) => Class::File,
        LabError::Train(_)
        | LabError::Diverged { .. }
        | LabError::Overflowed { .. }
        | LabError::Unquantizable { .. }
        | LabError::OtherRun { .. }
        | LabError::DamagedCheckpoint { .. }
        | LabError::Busy { .. }
        | LabError::Memory { .. }
        | LabError::Stopped { .. } => Class::Training,
        LabError::Federation(_) => Class::Wire,
    };
    class.error(error.to_string())
}
