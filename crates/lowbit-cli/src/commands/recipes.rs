//! `lowbit recipes`: trainings that are worth repeating.

use crate::failure::Failure;
use crate::output::{Output, bold};
use lowbit_lab::config::recipes::{RECIPES, names};
use serde_json::json;

pub(super) fn run(output: Output, name: Option<&str>) -> Result<(), Failure> {
    let Some(name) = name else {
        let values: Vec<_> = RECIPES
            .iter()
            .map(|recipe| json!({ "name": recipe.name, "about": recipe.about, "reached": recipe.reached }))
            .collect();
        return output.results(&values, list);
    };
    match RECIPES.iter().find(|recipe| recipe.name == name) {
        Some(recipe) => output.results(&json!({ "name": name, "toml": recipe.toml }), || {
            recipe.toml.trim_end().to_owned()
        }),
        None => Err(Failure::Input(format!(
            "recipe {name}: there is none of that name; use {}",
            names().join(" or ")
        ))),
    }
}

/// A name, and behind it what it trains and what came of it.
fn list() -> String {
    let described = RECIPES.iter().map(|recipe| {
        let reached = recipe.reached.unwrap_or("not run to its end yet");
        format!("{}\n  {}\n  {reached}\n", bold(recipe.name), recipe.about)
    });
    described.collect()
}
