//! Reads two-dimensional arrays of `numpy` of `<f2` or `<f4` (NEP 1, versions 1 and 2).

use std::path::Path;

/// An array, row-major.
#[derive(Debug)]
pub struct Array {
    /// Numbers in a row.
    pub columns: usize,
    /// All numbers.
    pub values: Vec<f32>,
}

/// Reads an array.
///
/// # Errors
/// When the file is not one of the kinds above.
#[expect(clippy::disallowed_methods, reason = "a measuring tool reads data sets by path")]
pub fn read(path: &Path) -> Result<Array, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&bytes).ok_or_else(|| format!("{}: not a 2-d array of f2 or f4", path.display()))
}

fn parse(bytes: &[u8]) -> Option<Array> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (start, length) = match rest {
        [1, _, a, b, ..] => (4, usize::from(u16::from_le_bytes([*a, *b]))),
        [2, _, a, b, c, d, ..] => (6, u32::from_le_bytes([*a, *b, *c, *d]) as usize),
        _ => return None,
    };
    let header = std::str::from_utf8(rest.get(start..start + length)?).ok()?;
    let shape = header.split("'shape': (").nth(1)?.split(')').next()?;
    let mut sizes = shape.split(',').map(|n| n.trim().parse::<usize>());
    let (rows, columns) = (sizes.next()?.ok()?, sizes.next()?.ok()?);
    let data = rest.get(start + length..)?;
    let values: Vec<f32> = if header.contains("'<f2'") {
        let (numbers, _) = data.as_chunks::<2>();
        numbers.iter().map(|n| half::f16::from_le_bytes(*n).to_f32()).collect()
    } else if header.contains("'<f4'") {
        data.as_chunks::<4>().0.iter().map(|n| f32::from_le_bytes(*n)).collect()
    } else {
        return None;
    };
    (values.len() == rows * columns).then_some(Array { columns, values })
}
