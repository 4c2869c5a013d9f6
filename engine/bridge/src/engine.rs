//! The request engine, held by Python.

use pyo3::create_exception;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyList, PyString};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use wordmill_core::config::Config;
use wordmill_core::json;
use wordmill_core::record::Outcome;
use wordmill_core::stream::{Next, Stream as CoreStream};
use wordmill_core::{panic_words, Engine as Core};

create_exception!(wordmill._engine, EngineFault, PyRuntimeError, "A panic or an input/output fault inside the engine, in words.");

pub fn fault(words: String) -> PyErr {
    EngineFault::new_err(words)
}

/// Longer times are as good as for ever, and later than a clock can count.
const YEAR: f64 = 365.0 * 86_400.0;

pub fn seconds(value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(if value > YEAR { YEAR } else { value })
        .map_err(|_| PyValueError::new_err(format!("{value} is not a time in seconds")))
}

/// Do what was asked; a panic becomes an exception that can be caught.
pub fn door<T>(work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(fault(format!("the engine panicked; this is a fault of Wordmill: {}", panic_words(&*panic)))))
}

/// See `_engine.pyi`.
#[pyclass(frozen, module = "wordmill._engine")]
pub struct Batch {
    #[pyo3(get)]
    ids: Py<PyList>,
    #[pyo3(get)]
    texts: Py<PyList>,
    #[pyo3(get)]
    errors: Py<PyList>,
    #[pyo3(get)]
    details: Py<PyList>,
    #[pyo3(get)]
    finishes: Py<PyList>,
    #[pyo3(get)]
    models: Py<PyList>,
    #[pyo3(get)]
    input_tokens: Py<PyList>,
    #[pyo3(get)]
    output_tokens: Py<PyList>,
    #[pyo3(get)]
    costs: Py<PyList>,
    #[pyo3(get)]
    attempts: Py<PyList>,
    #[pyo3(get)]
    seconds: Py<PyList>,
    #[pyo3(get)]
    flags: Py<PyList>,
    #[pyo3(get)]
    digests: Py<PyList>,
    #[pyo3(get)]
    bodies: Py<PyList>,
    length: usize,
}

#[pymethods]
impl Batch {
    fn __len__(&self) -> usize {
        self.length
    }
}

impl Batch {
    fn new(py: Python<'_>, engine: &Core, outcomes: &[Outcome]) -> PyResult<Self> {
        // A few words come again and again: one Python string for each.
        let mut finishes = Words::default();
        let mut models = Words::default();
        let mut kinds = Words::default();
        let text = |outcome: &Outcome| match &outcome.result {
            Ok(reply) => PyString::new(py, &reply.text),
            Err(_) => PyString::new(py, &outcome.partial),
        };
        Ok(Batch {
            ids: PyList::new(py, outcomes.iter().map(|o| o.id))?.unbind(),
            texts: PyList::new(py, outcomes.iter().map(text))?.unbind(),
            errors: PyList::new(py, outcomes.iter().map(|o| o.result.as_ref().err().map(|f| kinds.get(py, f.kind.word()))))?.unbind(),
            details: PyList::new(py, outcomes.iter().map(|o| o.result.as_ref().err().map_or("", |f| f.detail.as_str())))?.unbind(),
            finishes: PyList::new(
                py,
                outcomes.iter().map(|o| o.result.as_ref().ok().and_then(|r| r.finish.as_deref()).map(|word| finishes.get(py, word))),
            )?
            .unbind(),
            models: PyList::new(py, outcomes.iter().map(|o| models.get(py, engine.lane_name(o.lane))))?.unbind(),
            input_tokens: PyList::new(py, outcomes.iter().map(|o| o.result.as_ref().map_or(0, |r| r.input_tokens)))?.unbind(),
            output_tokens: PyList::new(py, outcomes.iter().map(|o| o.result.as_ref().map_or(0, |r| r.output_tokens)))?.unbind(),
            costs: PyList::new(py, outcomes.iter().map(|o| PyFloat::new(py, o.spent.money)))?.unbind(),
            attempts: PyList::new(py, outcomes.iter().map(|o| PyInt::new(py, o.attempts)))?.unbind(),
            seconds: PyList::new(py, outcomes.iter().map(|o| PyFloat::new(py, o.micros as f64 / 1e6)))?.unbind(),
            flags: PyList::new(py, outcomes.iter().map(|o| o.flags))?.unbind(),
            digests: PyList::new(py, outcomes.iter().map(|o| json::hex(&o.key)))?.unbind(),
            bodies: PyList::new(py, outcomes.iter().map(|o| o.result.as_ref().is_ok_and(|r| r.rich).then(|| PyBytes::new(py, &o.raw))))?
                .unbind(),
            length: outcomes.len(),
        })
    }
}

/// The last few words and their Python strings.
#[derive(Default)]
struct Words<'py>(Vec<(String, Bound<'py, PyString>)>);

impl<'py> Words<'py> {
    fn get(&mut self, py: Python<'py>, word: &str) -> Bound<'py, PyString> {
        if let Some((_, known)) = self.0.iter().find(|(known, _)| known == word) {
            return known.clone();
        }
        let new = PyString::new(py, word);
        if self.0.len() < 16 {
            self.0.push((word.to_string(), new.clone()));
        }
        new
    }
}

/// See `_engine.pyi`.
#[pyclass(frozen, module = "wordmill._engine")]
pub struct Engine {
    core: Arc<Core>,
}

impl Engine {
    pub fn core(&self) -> Arc<Core> {
        self.core.clone()
    }
}

/// The text of each item; None where it is no text (half of a surrogate pair).
fn texts<'a>(list: &'a [Bound<'_, PyString>]) -> Vec<Option<&'a str>> {
    list.iter().map(|text| text.to_str().ok()).collect()
}

#[pymethods]
impl Engine {
    #[new]
    fn new(py: Python<'_>, config: &str) -> PyResult<Self> {
        let config = Config::parse(config).map_err(PyValueError::new_err)?;
        let core = door(|| py.detach(|| wordmill_redis::start(config)).map_err(fault))?;
        Ok(Engine { core: Arc::new(core) })
    }

    fn shape(&self, lane: &str, path: &str, body: &str) -> PyResult<usize> {
        door(|| self.core.shape(lane, path, body).map_err(PyValueError::new_err))
    }

    fn submit(
        &self,
        py: Python<'_>,
        shape: usize,
        ids: Vec<u64>,
        texts: Vec<Bound<'_, PyString>>,
        salts: Vec<u64>,
        timeout: f64,
    ) -> PyResult<usize> {
        let slots = self.core.slots(shape).map_err(PyValueError::new_err)?;
        if texts.len() != ids.len() * slots || salts.len() != ids.len() {
            return Err(PyValueError::new_err(format!(
                "{} requests of {slots} slots need as many texts and salts: {} and {} came",
                ids.len(),
                texts.len(),
                salts.len()
            )));
        }
        let timeout = seconds(timeout)?;
        let texts = self::texts(&texts);
        door(|| py.detach(|| self.core.submit(shape, &ids, &texts, &salts, timeout)).map_err(fault))
    }

    #[allow(clippy::too_many_arguments)]
    fn submit_bodies(
        &self,
        py: Python<'_>,
        lane: &str,
        path: &str,
        ids: Vec<u64>,
        bodies: Vec<Bound<'_, PyBytes>>,
        salts: Vec<u64>,
        timeout: f64,
    ) -> PyResult<usize> {
        let timeout = seconds(timeout)?;
        let bodies: Vec<&[u8]> = bodies.iter().map(|body| body.as_bytes()).collect();
        door(|| py.detach(|| self.core.submit_bodies(lane, path, &ids, &bodies, &salts, timeout)).map_err(fault))
    }

    fn submit_jsonl(&self, py: Python<'_>, lane: &str, path: &str, file: &str) -> PyResult<()> {
        door(|| py.detach(|| self.core.submit_jsonl(lane, path, file)).map_err(fault))
    }

    fn finish(&self) {
        self.core.finish();
    }

    #[pyo3(signature = (limit, timeout, linger = 0.0))]
    fn poll(&self, py: Python<'_>, limit: usize, timeout: f64, linger: f64) -> PyResult<Batch> {
        let (timeout, linger) = (seconds(timeout)?, seconds(linger)?);
        door(|| {
            let outcomes = py.detach(|| self.core.poll(limit, timeout, linger)).map_err(fault)?;
            let batch = Batch::new(py, &self.core, &outcomes)?;
            py.detach(|| drop(outcomes));
            Ok(batch)
        })
    }

    #[getter]
    fn idle(&self) -> bool {
        self.core.idle()
    }

    fn fileno(&self) -> PyResult<i32> {
        door(|| self.core.descriptor().map_err(fault))
    }

    #[pyo3(signature = (lane, path, body, salt = 0, whole = false))]
    fn stream(&self, lane: &str, path: &str, body: &[u8], salt: u64, whole: bool) -> PyResult<Stream> {
        let stream = door(|| self.core.stream(lane, path, body, salt, whole).map_err(fault))?;
        Ok(Stream { core: self.core.clone(), stream, record: Mutex::new(None) })
    }

    fn ready(&self) -> PyResult<Vec<u64>> {
        door(|| self.core.ready().map_err(fault))
    }

    fn stream_fileno(&self) -> PyResult<i32> {
        door(|| self.core.stream_descriptor().map_err(fault))
    }

    fn keep_rows(&self, rows: Vec<i64>, values: Vec<Bound<'_, PyBytes>>) -> PyResult<()> {
        if rows.len() != values.len() {
            return Err(PyValueError::new_err(format!("{} rows and {} values came", rows.len(), values.len())));
        }
        let rows = rows.into_iter().zip(&values).map(|(row, value)| (row, value.as_bytes().to_vec())).collect();
        door(|| self.core.keep_rows(rows).map_err(fault))
    }

    fn sync_rows(&self, py: Python<'_>) -> PyResult<()> {
        door(|| py.detach(|| self.core.sync_rows()).map_err(fault))
    }

    fn rows<'py>(&self, py: Python<'py>, low: i64, high: i64) -> PyResult<Vec<(i64, Bound<'py, PyBytes>)>> {
        let rows = door(|| py.detach(|| self.core.rows(low, high)).map_err(fault))?;
        Ok(rows.into_iter().map(|(row, value)| (row, PyBytes::new(py, &value))).collect())
    }

    fn row_numbers(&self, py: Python<'_>) -> PyResult<Vec<i64>> {
        door(|| py.detach(|| self.core.row_numbers()).map_err(fault))
    }

    fn metrics(&self) -> PyResult<String> {
        door(|| Ok(self.core.metrics().to_string()))
    }

    fn cancel(&self, grace: f64) -> PyResult<()> {
        let grace = seconds(grace)?;
        door(|| {
            self.core.cancel(grace);
            Ok(())
        })
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        door(|| {
            py.detach(|| self.core.close());
            Ok(())
        })
    }
}

/// See `_engine.pyi`.
#[pyclass(frozen, module = "wordmill._engine")]
pub struct Stream {
    core: Arc<Core>,
    stream: CoreStream,
    record: Mutex<Option<Py<Batch>>>,
}

#[pymethods]
impl Stream {
    #[getter]
    fn id(&self) -> u64 {
        self.stream.id()
    }

    fn next(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<String>> {
        let timeout = seconds(timeout)?;
        // Asked before: what an engine said at its end is there when it is gone.
        let gone = self.core.gone();
        match door(|| Ok(py.detach(|| self.stream.next(timeout))))? {
            Next::Text(text) => Ok(Some(text)),
            Next::End => Ok(None),
            Next::Later => gone.map_or_else(|| Ok(Some(String::new())), |words| Err(fault(words))),
        }
    }

    fn next_reasoning(&self) -> String {
        self.stream.reasoning()
    }

    fn record(&self, py: Python<'_>) -> PyResult<Option<Py<Batch>>> {
        let mut record = self.record.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if record.is_none() {
            if let Some(outcome) = self.stream.take_outcome() {
                let batch = door(|| Batch::new(py, &self.core, std::slice::from_ref(&outcome)))?;
                *record = Some(Py::new(py, batch)?);
            }
        }
        Ok(record.as_ref().map(|batch| batch.clone_ref(py)))
    }

    fn cancel(&self) {
        self.stream.cancel();
    }
}

/// See `_engine.pyi`.
#[pyfunction]
pub fn public_address(address: &str) -> PyResult<bool> {
    let address = address.parse().map_err(|_| PyValueError::new_err(format!("{address:?} is no address")))?;
    Ok(wordmill_core::address::is_public(address))
}

/// See `_engine.pyi`.
#[pyfunction]
pub fn digest(text: &str) -> PyResult<String> {
    let form = door(|| json::canonical(text.as_bytes()).map_err(PyValueError::new_err))?;
    Ok(json::hex(&json::digest(&form)))
}

/// See `_engine.pyi`.
#[pyfunction]
pub fn cache_stats(py: Python<'_>, cache: &str) -> PyResult<String> {
    let size = door(|| py.detach(|| wordmill_core::cache::stats(cache)).map_err(fault))?;
    serde_json::to_string(&size).map_err(|error| fault(error.to_string()))
}

/// See `_engine.pyi`.
#[pyfunction]
pub fn cache_prune(
    py: Python<'_>,
    cache: &str,
    older_than_seconds: Option<f64>,
    larger_than_bytes: Option<u64>,
    keep: Vec<String>,
) -> PyResult<String> {
    let age = older_than_seconds.map(seconds).transpose()?;
    let removed = door(|| py.detach(|| wordmill_core::cache::prune(cache, age, larger_than_bytes, &keep)).map_err(fault))?;
    serde_json::to_string(&removed).map_err(|error| fault(error.to_string()))
}

/// See `_engine.pyi`.
#[pyfunction]
pub fn redis_check(py: Python<'_>, url: &str) -> PyResult<String> {
    door(|| py.detach(|| wordmill_redis::check(url)).map(|facts| facts.to_string()).map_err(fault))
}

/// See `_engine.pyi`.
#[pyfunction]
pub fn redis_state(url: &str) -> PyResult<String> {
    door(|| Ok(wordmill_redis::state(url).map_or_else(|| "{}".into(), |state| state.to_string())))
}
