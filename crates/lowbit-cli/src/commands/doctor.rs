//! `lowbit doctor`: what is wrong with a model, or will be.

use super::Context;
use crate::doctor_args::Doctor;
use crate::failure::Failure;
use crate::output::bold;
use lowbit_lab::doctor::{Diagnosis, Finding, Level};
use lowbit_lab::experiments::doctor::{Request, doctor};
use lowbit_lab::plural;
use lowbit_lab::plural::grouped;
use std::collections::BTreeMap;

pub(super) fn run(context: &Context, asked: &Doctor) -> Result<(), Failure> {
    let request = Request {
        file: &asked.file,
        with_images: asked.settings.given.sets("data"),
        choice: asked.which.into(),
        timed: asked.time,
    };
    if asked.time && !request.with_images {
        return Err(Failure::Input(
            "--time: layers are timed on images: give --data".into(),
        ));
    }
    context.refuse_said_again(&asked.file, None)?;
    let found = doctor(&context.config, request, context.isa, &context.progress)?;
    context.progress.stop();
    context.output.results(&found, || text(&found))?;
    match found.has_errors() {
        true => Err(Failure::Told(1)),
        false => Ok(()),
    }
}

fn text(found: &Diagnosis) -> String {
    let count = |level, noun| plural::of(found.count(level), noun);
    let mut text = format!(
        "{}: {}, {}, {} ({} looked)\n",
        found.model,
        count(Level::Error, "error"),
        count(Level::Warning, "warning"),
        count(Level::Note, "note"),
        plural::of(grouped(found.looked.len() as u64), "rule"),
    );
    for finding in &found.findings {
        text += &paragraph(finding);
    }
    // Rules that lack the same thing stand together.
    let mut lacking = BTreeMap::<&str, Vec<&str>>::new();
    for rule in &found.not_looked {
        lacking.entry(&rule.why).or_default().push(&rule.rule);
    }
    if !lacking.is_empty() {
        text += "\n";
    }
    for (why, rules) in lacking {
        text += &format!("not looked at: {}: {why}\n", rules.join(", "));
    }
    text
}

fn paragraph(finding: &Finding) -> String {
    let Finding {
        level,
        rule,
        evidence,
        cost,
        remedy,
        ..
    } = finding;
    let head = bold(&format!("{level}: {rule}"));
    format!("\n{head}\n  {evidence}\n  costs: {cost}\n  do: {remedy}\n")
}
