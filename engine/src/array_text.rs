//! Arrays from their text form, `{1,NULL,"a b"}` (PostgreSQL manual, section 8.15.6), of one dimension.

use std::sync::Arc;

use arrow::array::{Array as _, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::FieldRef;
use datafusion::common::ScalarValue;
use types::SqlState;

use crate::error::{EngineError, Result};
use crate::values::scalar_from_text;

fn malformed(text: &str) -> EngineError {
    let message = format!("malformed array literal: \"{text}\"");
    EngineError::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
}

/// The items of an array's text, `None` for NULL.
pub(crate) fn array_items(text: &str) -> Result<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let inner = inner.ok_or_else(|| malformed(text))?;
    let mut items = Vec::new();
    if inner.trim().is_empty() {
        return Ok(items);
    }
    let (mut item, mut quoted, mut was_quoted) = (String::new(), false, false);
    let mut characters = inner.chars();
    loop {
        match characters.next() {
            Some('\\') => item.push(characters.next().ok_or_else(|| malformed(text))?),
            Some('"') => {
                if !quoted && !was_quoted && !item.trim().is_empty() {
                    return Err(malformed(text));
                }
                if !quoted {
                    item.clear();
                }
                quoted = !quoted;
                was_quoted = true;
            }
            Some(c) if quoted => item.push(c),
            Some('{') => {
                return Err(EngineError::unsupported("an array of more than one dimension"));
            }
            Some(c) if c != ',' => {
                if was_quoted && !c.is_whitespace() {
                    return Err(malformed(text));
                }
                if !was_quoted {
                    item.push(c);
                }
            }
            end => {
                let value = std::mem::take(&mut item);
                items.push(match (was_quoted, value.trim()) {
                    (true, _) => Some(value),
                    (false, "") => return Err(malformed(text)),
                    (false, null) if null.eq_ignore_ascii_case("null") => None,
                    (false, plain) => Some(plain.to_owned()),
                });
                was_quoted = false;
                if end.is_none() {
                    break;
                }
            }
        }
    }
    if quoted { Err(malformed(text)) } else { Ok(items) }
}

/// An array of items that are values already.
///
/// # Errors
/// When they are not of the type of `item`.
pub fn array_of(item: &FieldRef, items: Vec<ScalarValue>) -> Result<ScalarValue> {
    let values = if items.is_empty() {
        arrow::array::new_empty_array(item.data_type())
    } else {
        ScalarValue::iter_to_array(items)?
    };
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    let list = ListArray::try_new(Arc::clone(item), offsets, values, None)?;
    Ok(ScalarValue::List(Arc::new(list)))
}

/// An array from its text.
pub(crate) fn array_from_text(item: &FieldRef, text: &str) -> Result<ScalarValue> {
    let value = |text: Option<String>| match text {
        Some(text) => scalar_from_text(item.data_type(), &text),
        None => Ok(ScalarValue::try_new_null(item.data_type())?),
    };
    let items: Vec<ScalarValue> =
        array_items(text)?.into_iter().map(value).collect::<Result<_>>()?;
    array_of(item, items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_told_apart() {
        let read = |text: &str| {
            let items = array_items(text).ok()?;
            let shown = items.into_iter().map(|item| item.unwrap_or_else(|| "-".to_owned()));
            Some(shown.collect::<Vec<_>>())
        };
        let cases: [(&str, Option<Vec<&str>>); 11] = [
            ("{}", Some(vec![])),
            ("{1, 2,NULL}", Some(vec!["1", "2", "-"])),
            ("{\"a b\",\"NULL\", \"\"}", Some(vec!["a b", "NULL", ""])),
            ("{\"a\\\"b\\\\\",c\\,d}", Some(vec!["a\"b\\", "c,d"])),
            ("{a b}", Some(vec!["a b"])),
            ("{1,}", None),
            ("1,2", None),
            ("{1", None),
            ("{\"a}", None),
            ("{a\"b\"}", None),
            ("{{1},{2}}", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|items| items.into_iter().map(str::to_owned).collect());
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
