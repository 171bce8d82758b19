use super::*;
use lowbit::graph::{Conv, Unary};

fn affine(scale: &[f64], shift: &[f64], input: usize) -> Item {
    Item {
        name: "affine".into(),
        work: Work::Affine {
            scale: scale.to_vec(),
            shift: shift.to_vec(),
        },
        inputs: vec![input],
        weight: None,
        bias: None,
        codes: None,
        grid: None,
        shape: Shape::new(1, 1, 2),
    }
}

fn linear(input: usize) -> Item {
    Item {
        name: "fc".into(),
        work: Work::Op(Op::linear(2)),
        inputs: vec![input],
        weight: Some(Tensor::new(vec![2, 2], vec![1.0, 2.0, 3.0, 4.0])),
        bias: Some(vec![10.0, 20.0]),
        codes: None,
        grid: None,
        shape: Shape::new(1, 1, 2),
    }
}

#[test]
fn maps_before_the_first_product_become_the_normalization() {
    let mut draft = Draft::new(Shape::new(1, 1, 2));
    draft.push(affine(&[2.0, 4.0], &[1.0, 0.0], 0));
    draft.push(affine(&[0.5, 1.0], &[0.0, 3.0], 1));
    draft.push(linear(2));
    let mut normalization = Normalization::uniform(0.0, 1.0);
    draft.fold_affine(&mut normalization);
    assert_eq!(draft.items.len(), 2);
    // x·1 + 0.5 and x·4 + 3.
    assert_eq!(normalization.mean(), [-0.5, -0.75]);
    assert_eq!(normalization.std(), [1.0, 0.25]);
}

#[test]
fn factors_go_before_the_relu_and_signs_and_summands_behind_it() {
    let mut draft = Draft::new(Shape::new(1, 1, 2));
    draft.push(linear(0));
    draft.op("relu", Op::Relu, &[1], Shape::new(1, 1, 2));
    draft.push(affine(&[0.5, -4.0], &[1.0, 0.5], 2));
    draft.push(linear(3));
    draft.fold_affine(&mut Normalization::default());
    assert_eq!(draft.items.len(), 4);
    let [first, last] = [1, 3].map(|index: usize| &draft.items[index]);
    assert_eq!(
        first.weight.as_ref().unwrap().data(),
        [0.5, 1.0, 12.0, 16.0]
    );
    assert_eq!(first.bias, Some(vec![5.0, 80.0]));
    // Columns 1 and −1; 10 + 1·1 + 2·0.5 and 20 + 3·1 + 4·0.5.
    assert_eq!(last.weight.as_ref().unwrap().data(), [1.0, -2.0, 3.0, -4.0]);
    assert_eq!(last.bias, Some(vec![12.0, 25.0]));
}

#[test]
fn a_map_behind_a_product_scales_its_rows_and_one_before_it_its_columns() {
    let mut draft = Draft::new(Shape::new(1, 1, 2));
    draft.op("relu", Op::Relu, &[0], Shape::new(1, 1, 2));
    draft.push(affine(&[2.0, -1.0], &[1.0, 0.5], 1));
    draft.push(linear(2));
    draft.push(affine(&[10.0, 0.5], &[0.0, 7.0], 3));
    draft.fold_affine(&mut Normalization::default());
    assert_eq!(draft.items.len(), 3);
    let fc = &draft.items[2];
    assert_eq!(fc.weight.as_ref().unwrap().data(), [20.0, -20.0, 3.0, -2.0]);
    // Rows first: 10·(10 + 1·1 + 2·0.5), then 0.5·(20 + 3·1 + 4·0.5) + 7.
    assert_eq!(fc.bias.as_ref().unwrap()[..], [120.0, 19.5]);
}

#[test]
fn a_shift_does_not_pass_a_padded_convolution() {
    let mut draft = Draft::new(Shape::new(4, 4, 2));
    draft.op("relu", Op::Relu, &[0], Shape::new(4, 4, 2));
    draft.push(affine(&[2.0, 2.0], &[1.0, 0.0], 1));
    draft.push(Item {
        work: Work::Op(Op::conv(1, 3, 1, 1)),
        weight: Some(Tensor::full(&[1, 3, 3, 2], 1.0)),
        bias: None,
        ..linear(2)
    });
    draft.fold_affine(&mut Normalization::default());
    assert_eq!(draft.items.len(), 4);
}

#[test]
fn channels_on_grids_of_their_own_come_to_one_by_the_scales_of_the_products_around() {
    let codes = || {
        Some(LayerCodes {
            bits: WeightBits::B8,
            weights: vec![1, 2, 3, 4],
            scale: vec![0.5, 0.25],
            bias: None,
        })
    };
    let ceiling = |max: f32| Op::Unary(Unary::Clip { min: 0.0, max });
    let grid = ActivationParams {
        scale: 0.5,
        zero_point: 0,
    };
    let folded = |max: f32| {
        let mut draft = Draft::new(Shape::new(1, 1, 2));
        draft.push(Item {
            codes: codes(),
            ..linear(0)
        });
        draft.op("clip", ceiling(max), &[1], Shape::new(1, 1, 2));
        draft.push(affine(&[2.0, 4.0], &[0.0, 0.0], 2));
        draft.push(Item {
            work: Work::Grid(grid),
            ..affine(&[], &[], 3)
        });
        draft.push(affine(&[0.5, 0.25], &[0.0, 0.0], 4));
        draft.push(Item {
            work: Work::Op(Op::Conv(Conv {
                out_channels: 4,
                kernel: [1; 2],
                stride: [1; 2],
                padding: [0; 4],
                dilation: [1; 2],
                groups: 2,
                bias: false,
            })),
            weight: Some(Tensor::full(&[4, 1, 1, 1], 1.0)),
            bias: None,
            codes: Some(LayerCodes {
                weights: vec![1; 4],
                scale: vec![1.0; 4],
                ..codes().unwrap()
            }),
            ..linear(5)
        });
        draft.fold_affine(&mut Normalization::default());
        draft
    };
    // Both channels end at 255 steps of 0.5 before they come to the ceiling.
    let draft = folded(64.0);
    assert_eq!(draft.items.len(), 5);
    let [first, clip, last] = [1, 2, 4].map(|index: usize| &draft.items[index]);
    assert_eq!(first.codes.as_ref().unwrap().scale, [1.0, 1.0]);
    assert_eq!(first.bias, Some(vec![20.0, 80.0]));
    assert_eq!(clip.work, Work::Op(Op::Relu));
    assert_eq!(last.codes.as_ref().unwrap().scale, [0.5, 0.5, 0.25, 0.25]);
    // The first one does not: the ceiling stays, and the map behind it.
    let draft = folded(63.0);
    assert_eq!(draft.items.len(), 6);
    assert_eq!(draft.items[2].work, Work::Op(ceiling(63.0)));
    assert_eq!(draft.items[1].codes.as_ref().unwrap().scale, [0.5, 0.25]);
}
