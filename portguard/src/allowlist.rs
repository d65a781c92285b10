//! YAML -> validated prefixes, with spans; pure.
