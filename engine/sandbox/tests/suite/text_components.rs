//! Components written by hand, for cases that no compiler would produce.

/// Assembles a component from its text.
pub(crate) fn binary(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// A component that exports the contract's entry with dummy functions, around this core code.
pub(crate) fn with_entry(core: &str) -> Vec<u8> {
    let workflow = "(func (export \"workflow\"))";
    entry(core, workflow, "(type $entry (func async))")
}

/// The same with entry functions that are not `async`.
pub(crate) fn with_plain_entry() -> Vec<u8> {
    entry("", "(func (export \"workflow\"))", "(type $entry (func))")
}

fn entry(core: &str, workflow: &str, entry_type: &str) -> Vec<u8> {
    binary(&format!(
        r#"(component
            (core module $m
                (func (export "describe")) {workflow}
                {core}
            )
            (core instance $i (instantiate $m))
            {entry_type}
            (func $describe (canon lift (core func $i "describe")))
            (func $workflow (type $entry) (canon lift (core func $i "workflow")))
            (instance $guest
                (export "describe" (func $describe))
                (export "workflow" (func $workflow))
                (export "step" (func $workflow))
            )
            (export "cerebelum:guest/guest@1.0.0" (instance $guest))
        )"#
    ))
}

/// A component whose start function makes a durable call, lowered asynchronously, and traps unless the call is refused.
pub(crate) fn calling_from_start() -> Vec<u8> {
    binary(
        r#"(component
            (import "cerebelum:guest/durable@1.0.0" (instance $durable
                (type $f (record (field "kind" string) (field "message" string) (field "details" (option string)) (field "retryable" bool)))
                (export "failure" (type $failure (eq $f)))
                (export "sleep" (func async (param "duration" u64) (result (result (error $failure)))))
            ))
            (core module $libc
                (memory (export "memory") 2)
                (global $free (mut i32) (i32.const 1024))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                    (local $at i32)
                    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
                    (global.set $free (i32.add (local.get $at) (local.get 3)))
                    (local.get $at))
            )
            (core instance $libc (instantiate $libc))
            (alias core export $libc "memory" (core memory $memory))
            (alias core export $libc "realloc" (core func $realloc))
            (core func $sleep (canon lower (func $durable "sleep") async (memory $memory) (realloc $realloc)))
            (core module $m
                (import "host" "sleep" (func $sleep (param i64 i32) (result i32)))
                (import "libc" "memory" (memory 2))
                (func (export "describe")) (func (export "workflow"))
                (func $start
                    ;; 2 is "returned"; the first byte of the result is 1 for an error.
                    (if (i32.ne (i32.and (call $sleep (i64.const 5) (i32.const 64)) (i32.const 15)) (i32.const 2)) (then unreachable))
                    (if (i32.ne (i32.load8_u (i32.const 64)) (i32.const 1)) (then unreachable)))
                (start $start)
            )
            (core instance $host (export "sleep" (func $sleep)))
            (core instance $i (instantiate $m (with "host" (instance $host)) (with "libc" (instance $libc))))
            (func $describe (canon lift (core func $i "describe")))
            (func $workflow async (canon lift (core func $i "workflow")))
            (instance $guest
                (export "describe" (func $describe))
                (export "workflow" (func $workflow))
                (export "step" (func $workflow))
            )
            (export "cerebelum:guest/guest@1.0.0" (instance $guest))
        )"#,
    )
}
