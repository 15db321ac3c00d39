//! GPTQ and AWQ, which store `[in, out]`, and AutoRound, which stores either.

use super::parts::{group_index, number, part, shape, words};
use crate::formats::TensorInfo;
use crate::formats::packed::packing::{Codes, Groups, Order, Packing, ScaleKind, Scales, Zeros};
use crate::formats::packed::{PackedError, Parts, QuantConfig};

/// GPTQ, packed along the input, or AWQ, packed along the output. The tensors tell which; `None` for neither.
pub(super) fn transposed(parts: &Parts<'_>, config: &QuantConfig) -> Result<Option<Packing>, PackedError> {
    let (weight_x, weight_y) = words(parts, "qweight")?;
    let (zero_x, zero_y) = words(parts, "qzeros")?;
    let scales = part(parts, "scales")?;
    let [groups, rows] = scales.shape[..] else { return Ok(None) };
    let (method, bits, columns, order, plus) = if weight_y == rows {
        let Some(plus) = plus(config) else { return Ok(None) };
        let Some(bits) = (2..=8).find(|bits| (rows * bits).div_ceil(32) == zero_y) else {
            return Ok(None);
        };
        ("GPTQ", bits, weight_x * 32 / bits, Order::Down, plus)
    } else if weight_y * 8 == rows && zero_y == weight_y {
        ("AWQ", 4, weight_x, Order::Interleaved, 0)
    } else {
        return Ok(None);
    };
    if rows == 0 || columns == 0 || zero_x != groups {
        return Err(shape("scales", &scales.shape, "not the groups of qzeros and the output of qweight"));
    }
    let group_index = group_index(parts, "g_idx", columns)?;
    let span = if group_index.is_some() { columns } else { group_columns(columns, groups, scales, config)? };
    let zero_order = if order == Order::Down { Order::Across } else { order };
    let codes = |suffix, order, x: u64, y: u64| Codes { suffix, order, stride: y * 32, bytes: x * y * 4 };
    Ok(Some(Packing {
        name: format!("{method} {bits}-bit"),
        rows,
        columns,
        table: (0..1u16 << bits).map(f32::from).collect(),
        bits,
        codes: codes("qweight", order, weight_x, weight_y),
        transposed: true,
        scales: Scales {
            suffix: "scales",
            kind: ScaleKind::Number(number("scales", scales)?, 1.0),
            groups: Groups::Transposed { columns: span, across: groups },
            entries: groups * rows,
            global: None,
        },
        zeros: Zeros::Codes { codes: codes("qzeros", zero_order, zero_x, zero_y), plus },
        group_index,
        format: false,
    }))
}

/// What is added to the stored zero points. GPTQ's first version stores them less 1, its second one as they are, and
/// AutoRound says which by naming the packer: its own ones (`auto_round`, `auto_round:gptqmodel`, before 0.5 also
/// `auto_round:exllamav2`) store them as they are, those of AutoGPTQ (`auto_round:auto_gptq`, `auto_round:gptq:...`)
/// less 1. `None` for other versions.
fn plus(config: &QuantConfig) -> Option<usize> {
    match config.version.as_deref() {
        None | Some("gptq" | "auto") => Some(1),
        Some("gptq_v2") => Some(0),
        Some(packer) if config.is_auto_round() => {
            Some(usize::from(packer.contains("gptq") && !packer.contains("gptqmodel")))
        }
        Some(_) => None,
    }
}

/// Columns of a group of GPTQ or AWQ: as config.json says where that fits, else equal parts.
pub(super) fn group_columns(
    columns: u64,
    groups: u64,
    scales: &TensorInfo,
    config: &QuantConfig,
) -> Result<u64, PackedError> {
    let stated = config.group_size.filter(|&n| columns.div_ceil(n) == groups);
    let equal = (groups > 0 && columns.is_multiple_of(groups)).then(|| columns / groups);
    stated
        .or(equal)
        .filter(|&n| n > 0)
        .ok_or_else(|| shape("scales", &scales.shape, "not groups of the input"))
}
