//! What is found.

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The model should not ship like this.
    Error,
    /// It costs something.
    Warning,
    /// It is good to know.
    Note,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The rule's name.
    pub rule: String,
    /// Names of the nodes or layers, the worst first; empty where it is the model as a whole.
    pub places: Vec<String>,
    /// What was seen, with numbers.
    pub evidence: String,
    /// What it costs.
    pub cost: String,
    /// What to do.
    pub remedy: String,
}

/// Names, the first few of them.
pub(super) fn some_of(names: &[impl AsRef<str>]) -> String {
    const FEW: usize = 4;
    let shown: Vec<&str> = names.iter().take(FEW).map(AsRef::as_ref).collect();
    let mut text = shown.join(", ");
    if names.len() > FEW {
        text += &format!(" and {} more", names.len() - FEW);
    }
    text
}

/// Several names as they stand in a finding.
pub(super) fn places(names: &[impl AsRef<str>]) -> Vec<String> {
    names.iter().map(|name| name.as_ref().to_owned()).collect()
}
