use super::*;

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
