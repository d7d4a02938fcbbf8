use std::fmt;

/// Where a value is in the body, as a chain on the stack: it costs nothing until something is wrong.
#[derive(Debug, Clone, Copy)]
pub enum Path<'p> {
    /// The body itself.
    Root,
    /// A member of an object.
    Key(&'p Path<'p>, &'p str),
    /// An element of an array.
    Index(&'p Path<'p>, usize),
}

impl<'p> Path<'p> {
    /// The member `key` of the object here.
    pub fn key(&'p self, key: &'p str) -> Self {
        Path::Key(self, key)
    }

    /// The element `index` of the array here.
    pub fn index(&'p self, index: usize) -> Self {
        Path::Index(self, index)
    }

    /// The RFC 6901 pointer.
    pub fn pointer(&self) -> String {
        let mut out = String::new();
        self.push(&mut out);
        out
    }

    // Paths are as deep as the reader recurses, and no deeper.
    fn push(&self, out: &mut String) {
        match self {
            Path::Root => {}
            Path::Key(parent, key) => {
                parent.push(out);
                push_token(out, key);
            }
            Path::Index(parent, index) => {
                parent.push(out);
                out.push('/');
                out.push_str(&index.to_string());
            }
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pointer())
    }
}

/// Appends one reference token to an RFC 6901 pointer.
pub fn push_token(pointer: &mut String, token: &str) {
    pointer.push('/');
    for char in token.chars() {
        match char {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}
