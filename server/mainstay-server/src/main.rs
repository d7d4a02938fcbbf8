//! The mainstay server.
fn main() {}
