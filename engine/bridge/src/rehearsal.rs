//! The rehearsal model, held by Python.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use wordmill_rehearsal::{Fault, Handle, Options, Server};

/// See `_engine.pyi`.
#[pyclass(frozen, module = "wordmill._engine")]
pub struct Rehearsal {
    port: u16,
    handle: Mutex<Handle>,
}

impl Rehearsal {
    fn handle(&self) -> std::sync::MutexGuard<'_, Handle> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Rehearsal {
    #[new]
    fn new(py: Python<'_>, config: &str) -> PyResult<Self> {
        let options = Options::from_json(config).map_err(PyValueError::new_err)?;
        let handle = py.detach(|| Server::start(options)).map_err(PyOSError::new_err)?;
        Ok(Self { port: handle.port(), handle: Mutex::new(handle) })
    }

    /// Names of the faults that can be ordered.
    #[staticmethod]
    fn faults() -> Vec<&'static str> {
        Fault::ALL.iter().map(|fault| fault.name()).collect()
    }

    #[getter]
    fn port(&self) -> u16 {
        self.port
    }

    fn stats(&self, py: Python<'_>) -> String {
        py.detach(|| self.handle().stats())
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.handle().stop());
    }
}
