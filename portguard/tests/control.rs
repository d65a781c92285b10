//! The control socket: the two sides against each other, and against clients and services that misbehave.

mod control {
    mod clients;
    mod directory;
    mod harness;
    mod requests;
    mod services;
}
