//! The compiled modules that components share. Each is in memory at most once, while a program needs it, and on disk
//! once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use cerebelum_history::Digest;
use parking_lot::Mutex;
use wasmtime::{Engine, Module};

use crate::cache::Cache;
use crate::compile_box::CompileError;
use crate::compiler::Compiler;
use crate::shared_modules;

/// A compiled module. Programs hold it as long as they exist; guests that outlive their program hold its code.
pub(crate) struct CachedModule {
    pub(crate) digest: Digest,
    pub(crate) module: Module,
    /// Whether the module was written to the disk cache or loaded from it.
    is_kept: AtomicBool,
}

/// The shared modules of one engine.
#[derive(Default)]
pub(crate) struct ModuleCache {
    modules: Mutex<HashMap<Digest, Weak<CachedModule>>>,
    compiled: AtomicU64,
}

impl ModuleCache {
    /// Finds a module in memory or on disk.
    pub(crate) fn find(&self, (engine, cache): (&Engine, &Cache), digest: &Digest) -> Option<Arc<CachedModule>> {
        // Reading takes milliseconds. A concurrent request for the same module would only read it again.
        let mut modules = self.modules.lock();
        if let Some(found) = modules.get(digest).and_then(Weak::upgrade) {
            return Some(found);
        }
        let module = cache.load_module(engine, digest)?;
        Some(put(&mut modules, CachedModule { digest: digest.clone(), module, is_kept: AtomicBool::new(true) }))
    }

    /// Finds a module in memory or on disk, or compiles it from its bytes.
    pub(crate) fn find_or_compile(
        &self,
        from: (&Engine, &Cache),
        compiler: &mut Compiler,
        taken_out: &shared_modules::SharedModule<'_>,
    ) -> Result<Arc<CachedModule>, CompileError> {
        if let Some(found) = self.find(from, &taken_out.digest) {
            return Ok(found);
        }
        // Compiling takes seconds, so the lock is not held meanwhile.
        let module = compiler.module(from.0, taken_out.bytes)?;
        self.compiled.fetch_add(1, Ordering::Relaxed);
        let digest = taken_out.digest.clone();
        Ok(put(&mut self.modules.lock(), CachedModule { digest, module, is_kept: AtomicBool::new(false) }))
    }

    /// How many modules were compiled.
    pub(crate) fn compiled(&self) -> u64 {
        self.compiled.load(Ordering::Relaxed)
    }
}

fn put(modules: &mut HashMap<Digest, Weak<CachedModule>>, module: CachedModule) -> Arc<CachedModule> {
    modules.retain(|_, module| module.strong_count() > 0);
    let module = Arc::new(module);
    modules.insert(module.digest.clone(), Arc::downgrade(&module));
    module
}

impl CachedModule {
    /// Writes the module to the disk cache unless it is there. Called only for accepted components, so that no unneeded
    /// module is stored.
    pub(crate) fn keep(&self, cache: &Cache) {
        if !self.is_kept.swap(true, Ordering::Relaxed) || !cache.has_module(&self.digest) {
            cache.store_module(&self.module, &self.digest);
        }
    }
}
