//! portguard-ebpf
fn main() {}
