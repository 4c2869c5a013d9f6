//! The Python door to the engine: conversion only, whole batches, the lock released.
//!
//! Every function here is typed and documented in `src/wordmill/_engine.pyi`.

mod batch;
mod engine;
mod rehearsal;

use pyo3::prelude::*;

/// Records are made by one thread and freed by another: the system's allocator spends a tenth of
/// the engine's time on that. Python's own memory is not touched.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[pymodule]
mod _engine {
    #[pymodule_export]
    use super::batch::{texts, words, Blocks, Segment, Splitter};
    #[pymodule_export]
    use super::engine::{cache_prune, cache_stats, digest, public_address, redis_check, redis_state, Batch, Engine, EngineFault, Stream};
    #[pymodule_export]
    use super::rehearsal::Rehearsal;
}
