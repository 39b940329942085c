//! Traces by the variables that OpenTelemetry has for them: where the spans of executions go, and the span from which a
//! command comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::CallerSpan;
use cerebelum_server::OtlpExporter;
use cerebelum_worker::{Sampler, TraceSettings};
use percent_encoding::percent_decode_str;

/// How spans are exported; none if these variables name no collector.
///
/// # Errors
/// One line for a person, when a variable has a value that cannot be used.
pub(crate) fn settings(
    variables: &BTreeMap<String, String>,
    segment_after: Duration,
) -> Result<Option<TraceSettings>, String> {
    // A variable that is empty counts as one that is not set.
    let get = |name: &str| variables.get(name).map(String::as_str).filter(|value| !value.trim().is_empty());
    let of_traces = |name: &str| {
        let specific = get(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"));
        specific.or_else(|| get(&format!("OTEL_EXPORTER_OTLP_{name}")))
    };
    let is_off = get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let Some(url) = of_traces("ENDPOINT").filter(|_| !is_off && get("OTEL_TRACES_EXPORTER") != Some("none")) else {
        return Ok(None);
    };
    if let Some(protocol) = of_traces("PROTOCOL").filter(|protocol| *protocol != "grpc") {
        return Err(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL is `{protocol}`: this engine sends spans with `grpc`, which collectors take on port 4317"
        ));
    }
    let sampler = Sampler::parse(get("OTEL_TRACES_SAMPLER"), get("OTEL_TRACES_SAMPLER_ARG"))?;
    let headers = of_traces("HEADERS").map_or(Ok(Vec::new()), |list| pairs("OTEL_EXPORTER_OTLP_HEADERS", list))?;
    let mut resource =
        get("OTEL_RESOURCE_ATTRIBUTES").map_or(Ok(Vec::new()), |list| pairs("OTEL_RESOURCE_ATTRIBUTES", list))?;
    if let Some(name) = get("OTEL_SERVICE_NAME") {
        resource.retain(|(key, _)| key != "service.name");
        resource.push(("service.name".to_owned(), name.to_owned()));
    }
    if !resource.iter().any(|(key, _)| key == "service.name") {
        resource.push(("service.name".to_owned(), "cerebelum".to_owned()));
    }
    let exporter = OtlpExporter::new(url, &headers, &resource).map_err(|why| format!("OTEL_EXPORTER_OTLP_…: {why}"))?;
    Ok(Some(TraceSettings { sampler, segment_after, exporter: Arc::new(exporter) }))
}

/// The pairs of a list `name=value,name=value`, whose values may be percent-encoded. The values may be secrets, so the
/// error does not show them.
fn pairs(variable: &str, list: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').filter(|(name, _)| !name.trim().is_empty())?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((name.trim().to_owned(), value.into_owned()))
    };
    let texts = list.split(',').filter(|text| !text.trim().is_empty());
    texts
        .enumerate()
        .map(|(number, text)| {
            let wrong = || format!("entry {} of {variable} is not NAME=VALUE with a percent-encoded value", number + 1);
            pair(text).ok_or_else(wrong)
        })
        .collect()
}

/// Adds the span from which this command comes to a request, as the variables `TRACEPARENT` and `TRACESTATE` name it.
pub(crate) fn add_caller<T>(request: &mut tonic::Request<T>) {
    let [parent, state] = ["TRACEPARENT", "TRACESTATE"].map(|variable| std::env::var(variable).ok());
    for (header, value) in caller_headers(parent.as_deref(), state.as_deref()) {
        if let Ok(value) = value.parse() {
            request.metadata_mut().insert(header, value);
        }
    }
}

/// The headers of a caller's span. What the engine would not keep is left out: a request with it might be refused.
fn caller_headers(parent: Option<&str>, state: Option<&str>) -> Vec<(&'static str, String)> {
    let Some((parent, caller)) = parent.and_then(|parent| Some((parent, CallerSpan::of(parent, state)?))) else {
        return Vec::new();
    };
    let state = caller.state.map(|state| ("tracestate", state));
    std::iter::once(("traceparent", parent.to_owned())).chain(state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings_of(variables: &[(&str, &str)]) -> Result<bool, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings(&variables.collect(), Duration::from_secs(1)).map(|found| found.is_some())
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");

    #[test]
    fn spans_are_exported_only_if_a_collector_is_named() {
        assert_eq!(settings_of(&[]), Ok(false));
        assert_eq!(settings_of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), Ok(false));
        assert_eq!(settings_of(&[ENDPOINT]), Ok(true));
        assert_eq!(settings_of(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector:4317")]), Ok(true));
        assert_eq!(settings_of(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]), Ok(false));
        assert_eq!(settings_of(&[ENDPOINT, ("OTEL_SDK_DISABLED", "true")]), Ok(false));
    }

    #[test]
    fn what_cannot_be_used_is_named_and_no_secret_is_shown() {
        for (variable, value, said) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "http://HOST:PORT"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "grpc"),
            ("OTEL_TRACES_SAMPLER", "sometimes", "parentbased_"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,hunter2", "entry 2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=%FFhunter2", "entry 1"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=hunter2", "`a b`"),
        ] {
            let why = settings_of(&[ENDPOINT, (variable, value)]).unwrap_err();
            assert!(why.contains(said) && !why.contains("hunter2") && !why.contains('\n'), "{variable}: {why}");
        }
    }

    #[test]
    fn a_caller_that_the_engine_would_not_keep_is_left_out() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let state = format!("a={}", "x".repeat(70_000));
        let headers =
            |parent, state| caller_headers(parent, state).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(headers(Some(parent), Some("a=b")), ["traceparent", "tracestate"]);
        assert_eq!(headers(Some(parent), Some(&state)), ["traceparent"]);
        assert!(headers(Some("00-7"), Some("a=b")).is_empty() && headers(None, Some("a=b")).is_empty());
    }

    #[test]
    fn lists_are_read_as_the_specification_says() {
        let read = pairs("X", " a = b%2Cc , d=e=f,").unwrap();
        assert_eq!(read, [("a", "b,c"), ("d", "e=f")].map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
