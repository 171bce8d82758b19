//! Integers that use fewer levels than their width has.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::Patient;
use super::super::rule::Rule;
use crate::{LabError, plural};

pub(in super::super) const RULE: Rule = Rule {
    name: "unused-levels",
    looks_at: LooksAt::Weights,
    finds: "filters whose integers stay within half of their width's levels",
    source: "a range twice as wide as the weights costs a bit; per-tensor scales and stale ranges do so (Krishnamoorthi 2018, section 3.1)",
    look,
};

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (mut layers, mut filters, mut unused) = (Vec::new(), 0, 0);
    for product in &patient.products {
        // Widths of three levels have none to spare; 16 bits leave some so that sums fit.
        if !(3..16).contains(&product.bits) {
            continue;
        }
        let reach = product.reach();
        let each = product.each_filter().enumerate();
        // Seven bits in eight are a choice (reduce_range), 63 or 64 of 127.
        let wasteful = each.filter(|(filter, codes)| {
            let largest = product.largest(*filter, codes);
            largest > 0 && largest.saturating_add(1) < reach / 2 + reach % 2
        });
        let count = wasteful.count();
        filters += product.filters;
        if count > 0 {
            unused += count;
            layers.push((count, product.name.as_str()));
        }
    }
    if unused == 0 || 10 * unused < filters {
        return Ok(vec![]);
    }
    layers.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let names: Vec<&str> = layers.iter().map(|(_, name)| *name).collect();
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        evidence: format!(
            "{unused} of {} use less than half of their levels: {}",
            plural::of(filters, "filter"),
            some_of(&names)
        ),
        places: places(&names),
        cost: "a bit of precision or more, at the same size".into(),
        remedy: "quantize again with a scale per channel, from the FP32 model".into(),
    }])
}
