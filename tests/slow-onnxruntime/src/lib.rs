//! ONNX Runtime, with a pause before each call of a model: a model that takes time but no processor, so that
//! one machine runs many workers at their full load.
//!
//! `ORT_DYLIB_PATH` names this library, `SLOW_ONNXRUNTIME_LIBRARY` the true one, which answers every call,
//! and `SLOW_ONNXRUNTIME_MILLISECONDS` the pause.

use std::env;
use std::ffi::c_char;
use std::ptr;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use libloading::Library;
use ort_sys::{ORT_API_VERSION, OrtApi, OrtApiBase, OrtRunOptions, OrtSession, OrtStatusPtr, OrtValue};

const LIBRARY: &str = "SLOW_ONNXRUNTIME_LIBRARY";
const PAUSE: &str = "SLOW_ONNXRUNTIME_MILLISECONDS";

struct Slow {
    base: OrtApiBase,
    /// The true functions.
    api: OrtApi,
    /// The same, with our own `Run`.
    slow: OrtApi,
    pause: Duration,
    _library: Library,
}

// SAFETY: The tables hold addresses of functions that ONNX Runtime allows every thread to call; nothing else
// in them is dereferenced, and they are never written after they were made.
unsafe impl Send for Slow {}
// SAFETY: As above.
unsafe impl Sync for Slow {}

static SLOW: LazyLock<Option<Slow>> = LazyLock::new(|| {
    let path = env::var_os(LIBRARY).or_else(|| missing(LIBRARY))?;
    let pause = env::var(PAUSE).ok().and_then(|pause| pause.parse().ok()).or_else(|| missing(PAUSE))?;
    // SAFETY: The library is ONNX Runtime, whose constructors need nothing of us. It is never unloaded.
    let library = unsafe { Library::new(path) }.inspect_err(|error| eprintln!("{LIBRARY}: {error}")).ok()?;
    // SAFETY: ONNX Runtime documents this function with this signature.
    let base =
        unsafe { library.get::<unsafe extern "C" fn() -> *const OrtApiBase>(b"OrtGetApiBase") }.ok()?;
    // SAFETY: It returns its one table, which lives as long as the library.
    let base = unsafe { base().as_ref() }?;
    // SAFETY: It returns the table of this version, which has the fields of this `OrtApi`, or null.
    let api = unsafe { (base.GetApi)(ORT_API_VERSION).as_ref() }?;
    let slow = OrtApi { Run: run, ..api.clone() };
    let base = OrtApiBase { GetApi: api_of_version, GetVersionString: base.GetVersionString };
    Some(Slow { base, api: api.clone(), slow, pause: Duration::from_millis(pause), _library: library })
});

fn missing<T>(variable: &str) -> Option<T> {
    eprintln!("{variable}: expected a value, there is none");
    None
}

/// The entry point of ONNX Runtime; null where the variables or the true library are not right.
// SAFETY: No other symbol of this name is linked: the true one is loaded by name.
#[unsafe(no_mangle)]
pub extern "system" fn OrtGetApiBase() -> *const OrtApiBase {
    SLOW.as_ref().map_or(ptr::null(), |slow| &slow.base)
}

/// The table of the one version that was compiled in: another one has more fields than it.
unsafe extern "system" fn api_of_version(version: u32) -> *const OrtApi {
    SLOW.as_ref().filter(|_| version == ORT_API_VERSION).map_or(ptr::null(), |slow| &slow.slow)
}

#[allow(clippy::too_many_arguments)]
unsafe extern "system" fn run(
    session: *mut OrtSession,
    options: *const OrtRunOptions,
    input_names: *const *const c_char,
    inputs: *const *const OrtValue,
    input_count: usize,
    output_names: *const *const c_char,
    output_count: usize,
    outputs: *mut *mut OrtValue,
) -> OrtStatusPtr {
    let slow = SLOW.as_ref().expect("who calls this has its address from the table");
    thread::sleep(slow.pause);
    // SAFETY: The caller's promises about the arguments are those of the true function, which gets them
    // unchanged.
    unsafe {
        (slow.api.Run)(
            session,
            options,
            input_names,
            inputs,
            input_count,
            output_names,
            output_count,
            outputs,
        )
    }
}
