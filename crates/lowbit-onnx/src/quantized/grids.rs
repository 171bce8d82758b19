//! Gives each rounding of a draft to the operator whose result it rounds.

use crate::draft::{Draft, Item, Work};
use lowbit::graph::{Op, Slice, Unary};
use lowbit::quant::ActivationParams;

/// Takes a draft's roundings away, each into the operator before it.
pub(crate) fn settle(draft: &mut Draft) {
    let only = only_grids(draft);
    // Integers are made of the image by who reads it with some; before others it is rounded by an operator of its own.
    let rounds_image = draft.items[0].grid.is_none() && !only_codes_read(draft, 0);
    let items = std::mem::take(&mut draft.items);
    let mut settled = Settled {
        only,
        rounds_image,
        places: Vec::with_capacity(items.len()),
        draft,
    };
    for (index, item) in items.into_iter().enumerate() {
        let place = match item.work {
            Work::Grid(grid) => settled.round(item.inputs[0], grid),
            _ => settled.place(index, item),
        };
        settled.places.push(place);
    }
    settled.end_in_reals();
}

/// Whether what an operator gives of values on a grid lies on it: what it cuts or chooses.
fn stays_on_grid(op: &Op) -> bool {
    matches!(
        op,
        Op::Relu
            | Op::MaxPool(_)
            | Op::Slice(_)
            | Op::ChannelShuffle(_)
            | Op::Concat
            | Op::Prefix(_)
            | Op::Transpose
    )
}

/// A clip whose ceiling is the level that it has in f32, where ONNX rounds it.
fn ceiled(work: Work, grid: Option<ActivationParams>) -> Work {
    match (work, grid) {
        (Work::Op(Op::Unary(Unary::Clip { min, max })), Some(grid)) => {
            let exact = (f64::from(max) / f64::from(grid.scale)).round_ties_even();
            let rounded = (max / grid.scale).round_ties_even();
            let max = match exact == f64::from(rounded) {
                true => max,
                false => rounded * grid.scale,
            };
            Work::Op(Op::Unary(Unary::Clip { min, max }))
        }
        (work, _) => work,
    }
}

/// The grid to which all readers of an item round it, or what they choose of it, from the last item to the first: rounding
/// keeps the order of numbers, so that the largest of some is the same before and after.
fn only_grids(draft: &Draft) -> Vec<Option<ActivationParams>> {
    // None as long as nothing has read it; then one grid or no common one.
    let mut found: Vec<Option<Option<ActivationParams>>> = vec![None; draft.items.len()];
    for (index, item) in draft.items.iter().enumerate().rev() {
        let wanted = match &item.work {
            Work::Grid(grid) => Some(*grid),
            Work::Op(Op::Flatten | Op::Reshape(_)) => found[index].flatten(),
            Work::Op(op) if stays_on_grid(op) => found[index].flatten(),
            _ => None,
        };
        for &input in &item.inputs {
            found[input] = match found[input] {
                Some(known) if known != wanted => Some(None),
                _ => Some(wanted),
            };
        }
    }
    found.into_iter().map(Option::flatten).collect()
}

/// Whether nothing but layers of integers reads an item, or what moves or rounds it alone.
fn only_codes_read(draft: &Draft, read: usize) -> bool {
    let readers = draft.items.iter().enumerate();
    let mut readers = readers.filter(|(_, item)| item.inputs.contains(&read));
    readers.all(|(index, item)| match item.work {
        Work::Grid(_) | Work::Op(Op::Flatten | Op::Reshape(_)) => only_codes_read(draft, index),
        _ => item.codes.is_some(),
    })
}

/// A draft in the making, without roundings of their own.
struct Settled<'a> {
    /// The grid to which all readers of an item of the one before round it, if there is one.
    only: Vec<Option<ActivationParams>>,
    /// Whether an operator of its own rounds the image.
    rounds_image: bool,
    draft: &'a mut Draft,
    /// The new place of each item.
    places: Vec<usize>,
}

impl Settled<'_> {
    /// The item that holds what an item gives: a flatten moves nothing.
    fn root(&self, mut place: usize) -> usize {
        while matches!(
            self.draft.items[place].work,
            Work::Op(Op::Flatten | Op::Reshape(_))
        ) {
            place = self.draft.items[place].inputs[0];
        }
        place
    }

    fn grid(&self, place: usize) -> Option<ActivationParams> {
        self.draft.items[self.root(place)].grid
    }

    /// Places an operator.
    fn place(&mut self, index: usize, item: Item) -> usize {
        let own = self.only[index];
        let mut inputs: Vec<usize> = item
            .inputs
            .iter()
            .map(|&input| self.places[input])
            .collect();
        let first = inputs.first().and_then(|&input| self.grid(input));
        let are_alike = inputs.iter().all(|&input| self.grid(input) == first);
        let stays = matches!(&item.work, Work::Op(op) if stays_on_grid(op));
        let grid = match item.work {
            Work::Op(Op::Flatten | Op::Reshape(_)) => None,
            _ if own.is_none() && stays && are_alike => first,
            _ => item.grid.or(own),
        };
        // An operator that would be taken up into the one before rounds behind it, not between: on one grid that is the same.
        let may_fuse = matches!(
            item.work,
            Work::Op(Op::Relu | Op::MaxPool(_) | Op::Unary(Unary::Clip { .. }))
        );
        if may_fuse && first.is_some() && first != grid && inputs[0] > 0 {
            inputs[0] = self.on_grid(inputs[0], first);
        }
        self.draft.items.push(Item {
            inputs,
            grid,
            work: ceiled(item.work, grid),
            ..item
        });
        self.draft.items.len() - 1
    }

    /// Places a rounding.
    fn round(&mut self, from: usize, grid: ActivationParams) -> usize {
        let place = self.places[from];
        let root = self.root(place);
        let is_there = self.draft.items[root].grid == Some(grid);
        if is_there && !(root == 0 && self.rounds_image) {
            return place;
        }
        self.on_grid(place, Some(grid))
    }

    /// A value brought to a grid by an operator that does nothing else.
    fn on_grid(&mut self, place: usize, grid: Option<ActivationParams>) -> usize {
        let shape = self.draft.items[place].shape;
        let whole = Slice {
            first: 0,
            channels: shape.c(),
        };
        let name = format!("{}.grid", self.draft.items[place].name);
        let added = self.draft.op(&name, Op::Slice(whole), &[place], shape);
        self.draft.items[added].grid = grid;
        added
    }

    /// Logits are real numbers: those that were rounded are taken from their integers at the end.
    fn end_in_reals(&mut self) {
        let last = self.places.last().copied().unwrap_or_default();
        self.draft.items.truncate(last + 1);
        if self.grid(last).is_some() {
            self.on_grid(last, None);
        }
    }
}
