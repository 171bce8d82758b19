//! Keyword arguments as settings: the keys, values and checks of the command line.

use crate::errors::Class;
use lowbit_lab::Config;
use lowbit_lab::config::Layers;
use pyo3::prelude::*;

/// Pairs of key and value, as text.
pub(crate) type Pairs = Vec<(String, String)>;

/// The settings that are not defaults, laid over these.
pub(crate) fn config(pairs: &Pairs) -> PyResult<Config> {
    let mut layers = Layers::over(Config::default());
    for (key, value) in pairs {
        let pair = format!("{key}={value}");
        layers.pair(&pair).map_err(|error| {
            let line = error.to_string();
            Class::Setting.error(line.strip_prefix("--set ").unwrap_or(&line))
        })?;
    }
    Ok(layers.finish())
}
