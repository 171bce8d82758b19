//! Roundings to a grid.

use super::Importer;
use crate::draft::{Item, Work};
use crate::error::Fault;
use crate::model::Node;

/// QuantizeLinear as `crate::quantized` leaves it: with the DequantizeLinear behind it.
pub(super) fn quantize(importer: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    let value = importer.framed(node, 0)?;
    let Some(&grid) = importer.model.grids.get(node.output()) else {
        return Err(node.wrong("its grid is not known"));
    };
    // Zeros are on every grid.
    if let Some(frame) = value.frame.filter(|frame| frame.value != 0.0) {
        let reason = format!("it rounds an image padded with {}", frame.value);
        return Err(node.wrong(format!("{reason}: only 0 is supported")));
    }
    let item = importer.draft.push(Item {
        name: node.name.clone(),
        work: Work::Grid(grid),
        inputs: vec![value.item],
        weight: None,
        bias: None,
        codes: None,
        grid: None,
        shape: importer.shape(&value),
    });
    let value = super::Value { item, ..value };
    importer.set_framed(node, value);
    Ok(())
}

/// A DequantizeLinear of a value is taken away before; one that is still there reads what nothing has quantized.
pub(super) fn dequantize(_: &mut Importer<'_>, node: &Node) -> Result<(), Fault> {
    Err(node.wrong("what it reads was not quantized by QuantizeLinear"))
}
