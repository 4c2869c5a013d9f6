//! Batches of requests, held by Python.

use crate::engine::{door, fault, seconds, Engine};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{Mutex, MutexGuard};
use wordmill_batch::{Bad, Blocks as CoreBlocks, Rules, Segment as CoreSegment, Splitter as CoreSplitter};

fn rules(text: &str) -> PyResult<Rules> {
    serde_json::from_str(text).map_err(|error| PyValueError::new_err(format!("rules of a batch: {error}")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| fault(error.to_string()))
}

/// See `_engine.pyi`.
#[pyfunction]
pub fn texts(py: Python<'_>, json: &[u8]) -> PyResult<String> {
    py.detach(|| wordmill_batch::texts(json)).map_err(PyValueError::new_err)
}

/// See `_engine.pyi`.
#[pyfunction]
pub fn words(text: &str) -> String {
    wordmill_batch::words(text)
}

/// See `_engine.pyi`.
type Cut = (u64, u64, u64, u64, String, String, u64);

/// See `_engine.pyi`.
#[pyclass(frozen, module = "wordmill._engine")]
pub struct Splitter {
    core: Mutex<CoreSplitter>,
}

#[pymethods]
impl Splitter {
    #[new]
    fn new(rules: &str) -> PyResult<Self> {
        Ok(Splitter { core: Mutex::new(CoreSplitter::new(self::rules(rules)?)) })
    }

    fn feed(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        door(|| {
            py.detach(|| lock(&self.core).feed(data));
            Ok(())
        })
    }

    fn finish(&self) -> PyResult<()> {
        door(|| {
            lock(&self.core).finish();
            Ok(())
        })
    }

    fn blocks(&self) -> PyResult<Vec<Cut>> {
        let blocks = lock(&self.core).blocks();
        blocks
            .into_iter()
            .map(|block| Ok((block.offset, block.size, block.first, block.lines, json(&block.models)?, json(&block.bad)?, block.python)))
            .collect()
    }
}

/// See `_engine.pyi`.
#[pyclass(frozen, module = "wordmill._engine")]
pub struct Segment {
    core: CoreSegment,
}

#[pymethods]
impl Segment {
    #[getter]
    fn number(&self) -> u64 {
        self.core.number
    }

    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.core.data)
    }

    #[getter]
    fn lines(&self) -> Vec<u64> {
        self.core.rows.iter().map(|row| row.line).collect()
    }

    #[getter]
    fn custom_ids(&self) -> Vec<Option<&str>> {
        self.core.rows.iter().map(|row| row.custom_id.as_deref()).collect()
    }

    #[getter]
    fn statuses(&self) -> Vec<&str> {
        self.core.rows.iter().map(|row| row.status.as_str()).collect()
    }

    #[getter]
    fn models(&self) -> Vec<&str> {
        self.core.rows.iter().map(|row| row.model.as_str()).collect()
    }

    #[getter]
    fn seconds(&self) -> Vec<f64> {
        self.core.rows.iter().map(|row| row.seconds).collect()
    }

    #[getter]
    fn input_tokens(&self) -> Vec<u64> {
        self.core.rows.iter().map(|row| row.input_tokens).collect()
    }

    #[getter]
    fn output_tokens(&self) -> Vec<u64> {
        self.core.rows.iter().map(|row| row.output_tokens).collect()
    }

    #[getter]
    fn money(&self) -> Vec<f64> {
        self.core.rows.iter().map(|row| row.money).collect()
    }

    #[getter]
    fn attempts(&self) -> Vec<u32> {
        self.core.rows.iter().map(|row| row.attempts).collect()
    }

    #[getter]
    fn cached(&self) -> Vec<bool> {
        self.core.rows.iter().map(|row| row.cached).collect()
    }

    fn __len__(&self) -> usize {
        self.core.rows.len()
    }
}

/// See `_engine.pyi`.
#[pyclass(frozen, module = "wordmill._engine")]
pub struct Blocks {
    core: Mutex<CoreBlocks>,
}

#[pymethods]
impl Blocks {
    #[new]
    fn new(engine: &Engine, batch: &str, path: &str, rules: &str, share: bool) -> PyResult<Self> {
        Ok(Blocks { core: Mutex::new(CoreBlocks::new(engine.core(), batch, path, self::rules(rules)?, share)) })
    }

    fn add(&self, py: Python<'_>, number: u64, first: u64, data: &[u8], bad: &str) -> PyResult<()> {
        let bad: Vec<Bad> = serde_json::from_str(bad).map_err(|error| PyValueError::new_err(error.to_string()))?;
        door(|| {
            py.detach(|| lock(&self.core).add(number, first, data.to_vec(), bad));
            Ok(())
        })
    }

    fn step(&self, py: Python<'_>, timeout: f64) -> PyResult<usize> {
        let timeout = seconds(timeout)?;
        door(|| py.detach(|| lock(&self.core).step(timeout)).map_err(fault))
    }

    fn abandon(&self, code: &str, message: &str) -> PyResult<()> {
        door(|| {
            lock(&self.core).abandon(code, message);
            Ok(())
        })
    }

    fn ended(&self) -> Vec<Segment> {
        lock(&self.core).ended().into_iter().map(|core| Segment { core }).collect()
    }

    #[getter]
    fn open(&self) -> usize {
        lock(&self.core).open()
    }

    #[getter]
    fn left(&self) -> usize {
        lock(&self.core).left()
    }
}
