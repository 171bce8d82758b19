//! One option for each layer, within a budget.

/// What an option of a layer takes of the budget, and what it loses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) cost: f64,
    pub(super) loss: f64,
}

/// Parts that a budget is counted in.
const PARTS: usize = 8192;

/// For each layer the number of its option, so that the sum of costs is within `budget` and the sum of losses is the smallest;
/// none where even the cheapest options cost more. Dynamic programming over the budget in [`PARTS`] parts, costs rounded to the
/// nearest one, or up where that would pass the budget: it always holds, and what is found is the best to a part per layer.
pub(super) fn knapsack(layers: &[Vec<Item>], budget: f64) -> Option<Vec<usize>> {
    if budget.is_nan() || budget <= 0.0 {
        return layers.is_empty().then(Vec::new);
    }
    let cost = |chosen: &[usize]| -> f64 {
        let items = layers.iter().zip(chosen);
        items.map(|(options, &option)| options[option].cost).sum()
    };
    // What is rounded may be half a part too much for each layer.
    let nearest = in_parts(
        layers,
        budget,
        (PARTS + layers.len().div_ceil(2), f64::round),
    );
    nearest
        .filter(|chosen| cost(chosen) <= budget)
        .or_else(|| in_parts(layers, budget, (PARTS, f64::ceil)))
}

/// The choice with costs in whole parts, `all` of them at most.
fn in_parts(
    layers: &[Vec<Item>],
    budget: f64,
    (all, whole): (usize, fn(f64) -> f64),
) -> Option<Vec<usize>> {
    let part = budget / PARTS as f64;
    let parts = |item: &Item| whole(item.cost / part).max(0.0);
    // best[spent] is the smallest loss of the layers so far; choices[layer][spent] which option led there.
    let mut best = vec![f64::INFINITY; all + 1];
    best[0] = 0.0;
    let mut choices: Vec<Vec<usize>> = Vec::with_capacity(layers.len());
    for options in layers {
        let mut next = vec![f64::INFINITY; all + 1];
        let mut choice = vec![usize::MAX; all + 1];
        for (number, item) in options.iter().enumerate() {
            let parts = parts(item);
            if parts > all as f64 {
                continue;
            }
            let parts = parts as usize;
            for spent in parts..=all {
                let loss = best[spent - parts] + item.loss;
                if loss < next[spent] {
                    next[spent] = loss;
                    choice[spent] = number;
                }
            }
        }
        best = next;
        choices.push(choice);
    }
    let least = |a: &usize, b: &usize| best[*a].total_cmp(&best[*b]);
    let mut spent = (0..=all).min_by(least)?;
    if best[spent].is_infinite() {
        return None;
    }
    let mut chosen = vec![0; layers.len()];
    for (layer, options) in layers.iter().enumerate().rev() {
        chosen[layer] = choices[layer][spent];
        spent -= parts(&options[chosen[layer]]) as usize;
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowbit_kernels::random::{stream, uniform};

    fn item(cost: f64, loss: f64) -> Item {
        Item { cost, loss }
    }

    #[test]
    fn the_best_choice_is_that_of_trying_all() {
        let mut rng = stream(7, "knapsack", 0);
        for round in 0..20 {
            let layers: Vec<Vec<Item>> = (0..6)
                .map(|_| {
                    let size = 10.0 + 90.0 * f64::from(uniform(&mut rng)).round();
                    let hurt = f64::from(uniform(&mut rng));
                    vec![
                        item(8.0 * size, 0.0),
                        item(4.0 * size, hurt),
                        item(2.0 * size, 5.0 * hurt * f64::from(uniform(&mut rng))),
                    ]
                })
                .collect();
            let all: f64 = layers.iter().map(|options| options[0].cost).sum();
            let budget = all * (0.3 + 0.03 * f64::from(round));
            let sum = |chosen: &[usize]| {
                let items = layers.iter().zip(chosen).map(|(options, &o)| options[o]);
                items.fold((0.0, 0.0), |sum, i| (sum.0 + i.cost, sum.1 + i.loss))
            };
            let tried = (0..3usize.pow(6)).map(|code| {
                let chosen: Vec<usize> = (0..6).map(|layer| code / 3usize.pow(layer) % 3).collect();
                sum(&chosen)
            });
            // Within the budget less what rounding may cost.
            let rounding = budget * 6.0 / PARTS as f64;
            let fitting = tried.filter(|&(cost, _)| cost <= budget - rounding);
            let expected = fitting.map(|(_, loss)| loss).fold(f64::INFINITY, f64::min);
            let (cost, loss) = sum(&knapsack(&layers, budget).unwrap());
            assert!(cost <= budget, "{cost} of {budget}");
            assert!(loss <= expected + 1e-12, "{loss}, not {expected}");
        }
    }

    #[test]
    fn what_costs_too_much_in_any_case_has_no_choice() {
        let layers = vec![vec![item(8.0, 0.0), item(4.0, 1.0)]; 3];
        assert_eq!(knapsack(&layers, 11.9), None);
        assert_eq!(knapsack(&layers, 12.1), Some(vec![1, 1, 1]));
        assert_eq!(knapsack(&layers, 24.0), Some(vec![0, 0, 0]));
        assert_eq!(knapsack(&layers, 0.0), None);
        assert_eq!(knapsack(&[], 1.0), Some(vec![]));
    }
}
