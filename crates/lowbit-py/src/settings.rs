//! Keyword arguments as settings: the keys, values and checks of the command line.

use crate::errors::Class;
use lowbit_lab::Config;
use lowbit_lab::config::Layers;
use pyo3::prelude::*;
use serde_json::Value;

/// Pairs of key and value, as text.
pub(crate) type Pairs = Vec<(String, String)>;

/// The settings that are not defaults, laid over these.
pub(crate) fn config(pairs: &Pairs) -> PyResult<Config> {
    over(Config::default(), pairs)
}

/// The same over others.
pub(crate) fn over(defaults: Config, pairs: &Pairs) -> PyResult<Config> {
    let mut layers = Layers::over(defaults);
    for (key, value) in pairs {
        let pair = format!("{key}={value}");
        layers.pair(&pair).map_err(|error| {
            let line = error.to_string();
            Class::Setting.error(line.strip_prefix("--set ").unwrap_or(&line))
        })?;
    }
    Ok(layers.finish())
}

/// The training settings of a recipe, as JSON; which network and which data it is for is left to the caller.
#[pyfunction]
pub(crate) fn recipe(name: &str) -> PyResult<String> {
    let mut layers = Layers::over(Config::default());
    layers.recipe(name).map_err(|error| {
        let line = error.to_string();
        Class::Setting.error(line.strip_prefix("--").unwrap_or(&line))
    })?;
    let table = |config: &Config| match serde_json::to_value(config) {
        Ok(Value::Object(table)) => table,
        _ => unreachable!("settings are plain data"),
    };
    let (mut settings, defaults) = (table(&layers.finish()), table(&Config::default()));
    settings.retain(|key, value| {
        !matches!(key.as_str(), "model" | "data") && defaults.get(key) != Some(value)
    });
    Ok(Value::Object(settings).to_string())
}
