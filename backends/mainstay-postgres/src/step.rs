//! Values and statements on their way to the database.

use std::error::Error as Cause;

use bytes::BytesMut;
use mainstay_core::{Error, ErrorKind};
use tokio_postgres::types::{IsNull, ToSql, Type};

/// A value on its way into a statement, with its type: a pooler may not keep what was prepared. It is in the form in which
/// it travels, so that what cannot be sent is known before anything is.
#[derive(Debug)]
pub(crate) struct Param {
    /// `Ok(None)` is null. Otherwise why it has no such form.
    value: Result<Option<BytesMut>, String>,
    pub(crate) of: Type,
}

impl Param {
    pub(crate) fn new(value: impl ToSql, of: Type) -> Param {
        let mut bytes = BytesMut::new();
        let value = match value.to_sql_checked(&of, &mut bytes) {
            Ok(IsNull::No) => Ok(Some(bytes)),
            Ok(IsNull::Yes) => Ok(None),
            Err(e) => Err(e.to_string()),
        };
        Param { value, of }
    }

    pub(crate) fn i64(value: u64) -> Param {
        Param::new(value as i64, Type::INT8)
    }

    pub(crate) fn i64s(values: Vec<i64>) -> Param {
        Param::new(values, Type::INT8_ARRAY)
    }

    pub(crate) fn i32(value: u32) -> Param {
        Param::new(value as i32, Type::INT4)
    }

    pub(crate) fn text(value: &str) -> Param {
        Param::new(value, Type::TEXT)
    }

    pub(crate) fn bytes(value: Vec<u8>) -> Param {
        Param::new(value, Type::BYTEA)
    }

    pub(crate) fn many_bytes(values: Vec<Vec<u8>>) -> Param {
        Param::new(values, Type::BYTEA_ARRAY)
    }

    fn len(&self) -> usize {
        self.value.as_ref().map_or(0, |bytes| bytes.as_ref().map_or(0, BytesMut::len))
    }
}

impl ToSql for Param {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Cause + Sync + Send>> {
        match &self.value {
            Ok(Some(bytes)) => {
                out.extend_from_slice(bytes);
                Ok(IsNull::No)
            }
            Ok(None) => Ok(IsNull::Yes),
            Err(why) => Err(why.clone().into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Cause + Sync + Send>> {
        self.to_sql(of, out)
    }
}

/// A statement with its values. `{s}` in the text stands for the schema, `{p}` for the proof that its transaction was
/// begun by the process that leads: without it, it does nothing.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) sql: String,
    pub(crate) params: Vec<Param>,
    /// How many rows it changes, if that is known.
    pub(crate) rows: Option<u64>,
}

/// PostgreSQL takes no message of 1 GiB or more, and hangs up on whoever sends one.
const MESSAGE: usize = (1 << 30) - (1 << 16);

/// Whether values can be sent together.
///
/// # Errors
/// `Invalid`: why not.
pub(crate) fn can_be_sent<'p>(params: impl IntoIterator<Item = &'p Param>) -> Result<(), Error> {
    let mut bytes = 0;
    for param in params {
        if let Err(why) = &param.value {
            return Err(Error::new(ErrorKind::Invalid, format!("a value cannot be stored: {why}")));
        }
        bytes += 16 + param.len();
    }
    fits(bytes)
}

fn fits(bytes: usize) -> Result<(), Error> {
    if bytes <= MESSAGE {
        return Ok(());
    }
    let message = format!(
        "{bytes} bytes are more than PostgreSQL takes at once ({MESSAGE}): put large values elsewhere and store where"
    );
    Err(Error::new(ErrorKind::Invalid, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_larger_than_a_message_or_of_another_type_is_known_before_anything_is_sent() {
        assert!(fits(MESSAGE).is_ok());
        assert_eq!(fits(MESSAGE + 1).unwrap_err().kind(), ErrorKind::Invalid);
        let (good, bad) = (Param::i64(7), Param::new("seven", Type::INT8));
        assert!(can_be_sent([&good]).is_ok());
        let refused = can_be_sent([&good, &bad]).unwrap_err();
        assert!(refused.to_string().contains("cannot be stored"), "{refused}");
    }
}
