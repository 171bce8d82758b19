//! Values that share a range, so that concatenations, slices and shuffles move their integers as they are.
//!
//! A shuffle and a slice give what they read. What a concatenation reads takes its range where nothing but such moves reads
//! it: its integers end there in any case. What others read as well keeps a range of its own, and moves to the other grid.

use crate::graph::{Op, Program, Step, ValueId};

/// For each value, the first one of those that share its range.
pub(super) fn ties(program: &Program) -> Vec<ValueId> {
    let values = program.values();
    let is_move = |step: &Step| step.op.nature().only_moves && !step.epilogue.relu;
    let mut of: Vec<ValueId> = (0..values).collect();
    for (index, step) in program.steps().iter().enumerate() {
        let output = index + 1;
        // The logits and the image have no range to choose.
        if !is_move(step) || output + 1 == values {
            continue;
        }
        for &input in step.inputs.iter().filter(|&&input| input > 0) {
            let mut readers = program.steps().iter();
            let is_moved_alone = readers.all(|step| !step.inputs.contains(&input) || is_move(step));
            if step.op != Op::Concat || is_moved_alone {
                let (a, b) = (of[input], of[output]);
                for tie in of.iter_mut().filter(|tie| **tie == a.max(b)) {
                    *tie = a.min(b);
                }
            }
        }
    }
    of
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{GraphBuilder, Shape, Slice};

    #[test]
    fn moved_values_share_a_range_and_what_others_read_keeps_its_own() {
        let classes = ["a".to_owned(), "b".to_owned()];
        let mut graph = GraphBuilder::new("test", Shape::new(4, 4, 3), &classes);
        let a = graph.conv("a", 0, 4, 1, (1, 0), true); // value 1
        let b = graph.conv("b", a, 4, 1, (1, 0), true); // 2
        let both = graph.add("both", Op::Concat, &[a, b]); // 3
        let half = |first| Op::Slice(Slice { first, channels: 4 });
        let c = graph.add("c", half(0), &[both]); // 4
        let d = graph.add("d", half(4), &[both]); // 5
        let d = graph.conv("e", d, 4, 1, (1, 0), true); // 6
        let again = graph.add("again", Op::Concat, &[c, d]); // 7
        let mean = graph.add("mean", Op::GlobalAvgPool, &[again]); // 8
        graph.add("fc", Op::linear(2), &[mean]); // 9
        let program = graph.finish().unwrap().program().unwrap();
        let ties = ties(&program);
        // `a` is read by a convolution too. Everything from `b` on that is only moved has one range.
        assert_eq!(ties, [0, 1, 2, 2, 2, 2, 2, 2, 8, 9]);
    }
}
