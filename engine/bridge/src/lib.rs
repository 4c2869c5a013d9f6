//! The Python door to the engine: conversion only, whole batches, the lock released.
//!
//! Every function here is typed and documented in `src/wordmill/_engine.pyi`.

mod engine;
mod rehearsal;

use pyo3::prelude::*;

#[pymodule]
mod _engine {
    #[pymodule_export]
    use super::engine::{cache_prune, cache_stats, canonical, digest, Batch, Engine, EngineFault, Stream};
    #[pymodule_export]
    use super::rehearsal::Rehearsal;
}
