//! Whose batch-norm is: the server's, averaged over the clients, or each client's own.

use std::str::FromStr;

/// What becomes of batch-norm's four tensors: scale, shift, running mean and running variance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Norm {
    /// They travel like the rest of the model, and the server averages them.
    #[default]
    Server,
    /// They stay with each client and are in no message (Li et al. 2021, FedBN).
    Local,
}

impl std::fmt::Display for Norm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Local => "local",
        })
    }
}

impl FromStr for Norm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "server" => Ok(Self::Server),
            "local" => Ok(Self::Local),
            _ => Err(format!("norm {text}: use server or local")),
        }
    }
}
