//! portguard-common
#![no_std]
