//! The compiled modules that components share: each is in memory once while any program needs it, and on disk once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cerebelum_history::Digest;
use wasmtime::{Engine, Module};

use crate::cache::Cache;
use crate::shared_modules;

/// A compiled module. Programs hold it for as long as they live; guests that outlive their program hold the code.
pub(crate) struct CachedModule {
    pub(crate) digest: Digest,
    pub(crate) module: Module,
    /// Whether the cache was given it, or gave it.
    is_kept: AtomicBool,
}

/// The shared modules of one engine.
#[derive(Default)]
pub(crate) struct ModuleCache {
    shelf: Mutex<HashMap<Digest, Weak<CachedModule>>>,
    compiled: AtomicU64,
}

impl ModuleCache {
    /// A module from memory or from disk.
    pub(crate) fn find(&self, (engine, cache): (&Engine, &Cache), digest: &Digest) -> Option<Arc<CachedModule>> {
        // Reading takes milliseconds; whoever wants the same one meanwhile would only read it again.
        let mut shelf = self.shelf();
        if let Some(found) = shelf.get(digest).and_then(Weak::upgrade) {
            return Some(found);
        }
        let module = cache.load_module(engine, digest)?;
        Some(put(&mut shelf, CachedModule { digest: digest.clone(), module, is_kept: AtomicBool::new(true) }))
    }

    /// A module from memory, from disk, or compiled from its bytes.
    pub(crate) fn find_or_compile(
        &self,
        from: (&Engine, &Cache),
        taken_out: &shared_modules::ModuleCache<'_>,
    ) -> wasmtime::Result<Arc<CachedModule>> {
        if let Some(found) = self.find(from, &taken_out.digest) {
            return Ok(found);
        }
        // Seconds: not while others wait for the shelf.
        let module = Module::from_binary(from.0, taken_out.bytes)?;
        self.compiled.fetch_add(1, Ordering::Relaxed);
        let digest = taken_out.digest.clone();
        Ok(put(&mut self.shelf(), CachedModule { digest, module, is_kept: AtomicBool::new(false) }))
    }

    /// How many modules were compiled.
    pub(crate) fn compiled(&self) -> u64 {
        self.compiled.load(Ordering::Relaxed)
    }

    fn shelf(&self) -> MutexGuard<'_, HashMap<Digest, Weak<CachedModule>>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(shelf: &mut HashMap<Digest, Weak<CachedModule>>, module: CachedModule) -> Arc<CachedModule> {
    shelf.retain(|_, module| module.strong_count() > 0);
    let module = Arc::new(module);
    shelf.insert(module.digest.clone(), Arc::downgrade(&module));
    module
}

impl CachedModule {
    /// Gives it to the cache unless that has it. Only for components that were accepted: what nobody needs stays away.
    pub(crate) fn keep(&self, cache: &Cache) {
        if !self.is_kept.swap(true, Ordering::Relaxed) || !cache.has_module(&self.digest) {
            cache.store_module(&self.module, &self.digest);
        }
    }
}
