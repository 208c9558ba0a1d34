//! The reloader's binary.
fn main() {}
