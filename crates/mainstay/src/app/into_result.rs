//! What hooks and loops may answer.

use std::error::Error as StdError;

use crate::{Error, Result};

/// What a hook or a loop may answer: nothing, or a `Result<(), E>` with any error. A loop may also never return.
pub trait IntoResult {
    /// As a result of ours. One of our own errors keeps its kind and exit code.
    ///
    /// # Errors
    /// The error, if it is one.
    fn into_result(self) -> Result<()>;
}

impl IntoResult for () {
    fn into_result(self) -> Result<()> {
        Ok(())
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> IntoResult for Result<(), E> {
    fn into_result(self) -> Result<()> {
        self.map_err(Error::from_any)
    }
}

/// `async { loop { … } }` is of type `!`, which cannot be named here but by this detour.
impl IntoResult for <fn() -> ! as Returns>::Type {
    fn into_result(self) -> Result<()> {
        self
    }
}

#[doc(hidden)]
pub trait Returns {
    type Type;
}

impl<T> Returns for fn() -> T {
    type Type = T;
}
