//! Sending traces over OTLP, as OpenTelemetry's environment variables say.

use std::time::Duration;

use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

use crate::authorities;
use crate::limits::TRACES_FLUSH;

/// Traces are sent where one of these names a collector.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// What decides which traces are sent.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// What the server is called unless the environment says something else.
const SERVICE: &str = "message-vault";

/// Sends spans on, in the background and within bounds, until it is ended.
#[derive(Debug)]
pub struct Exporting(SdkTracerProvider);

impl Exporting {
    /// Begins to send traces where the environment, seen through `get`, asks for it. Fails with a sentence where it asks
    /// for what cannot be done. Must not be called on a thread of an async runtime.
    pub fn begin(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let given = |name: &str| get(name).filter(|value| !value.is_empty());
        let of_traces = |end: &str| {
            let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{end}"), format!("OTEL_EXPORTER_OTLP_{end}")];
            names.into_iter().find_map(|name| given(&name).map(|value| (name, value)))
        };
        let off = given("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if off || !ENDPOINTS.iter().any(|name| given(name).is_some()) {
            return Ok(None);
        }
        match given("OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => {
                return Err(format!(
                    "OTEL_TRACES_EXPORTER is `{other}`; this server knows `otlp` and `none`"
                ));
            }
        }
        if let Some((name, protocol)) =
            of_traces("PROTOCOL").filter(|(_, protocol)| protocol != "http/protobuf")
        {
            return Err(format!(
                "{name} is `{protocol}`; this server speaks `http/protobuf`, to which collectors listen at port 4318"
            ));
        }
        check_sampler(given("OTEL_TRACES_SAMPLER").as_deref(), given("OTEL_TRACES_SAMPLER_ARG").as_deref())?;
        let mut client = reqwest::blocking::Client::builder();
        if let Some((_, path)) = of_traces("CERTIFICATE") {
            client = client.tls_certs_merge(authorities::from_file(path.as_ref())?);
        }
        let wrong = |why: &dyn std::fmt::Display| {
            format!("traces cannot be sent as OTEL_EXPORTER_OTLP_... says: {why}")
        };
        let client = client.timeout(timeout(of_traces("TIMEOUT"))?).build().map_err(|error| wrong(&error))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .build()
            .map_err(|error| wrong(&error))?;
        let mut resource = Resource::builder();
        if given("OTEL_SERVICE_NAME").is_none()
            && !given("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="))
        {
            resource = resource.with_service_name(SERVICE);
        }
        let resource =
            resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        global::set_tracer_provider(provider.clone());
        Ok(Some(Self(provider)))
    }

    /// Sends what is left, for a few seconds at most. Must not be called on a thread of an async runtime.
    pub fn end(self) {
        if let Err(error) = self.0.shutdown_with_timeout(TRACES_FLUSH) {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// Whether the SDK, which reads these variables itself, knows the sampler and its share of traces; it would go on with
/// others than were asked for, which send all.
fn check_sampler(sampler: Option<&str>, share: Option<&str>) -> Result<(), String> {
    let Some(sampler) = sampler else { return Ok(()) };
    if !SAMPLERS.contains(&sampler) {
        let known = SAMPLERS.join("`, `");
        return Err(format!("OTEL_TRACES_SAMPLER is `{sampler}`; this server knows `{known}`"));
    }
    let is_share = |share: &str| share.parse().is_ok_and(|share: f64| (0.0..=1.0).contains(&share));
    match share {
        Some(share) if sampler.ends_with("traceidratio") && !is_share(share) => {
            Err(format!("OTEL_TRACES_SAMPLER_ARG is `{share}`; it must be a number from 0 to 1"))
        }
        _ => Ok(()),
    }
}

/// How long the collector may take for an answer.
fn timeout(given: Option<(String, String)>) -> Result<Duration, String> {
    let Some((name, value)) = given else {
        return Ok(opentelemetry_otlp::OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT);
    };
    let wrong = || format!("{name} is `{value}`; it must be a number of milliseconds above 0");
    value.parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(variables: &[(&str, &str)]) -> Result<bool, String> {
        let get = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Exporting::begin(get).map(|exporting| exporting.is_some())
    }

    #[test]
    fn traces_are_off_unless_the_environment_names_a_collector() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
        assert_eq!(begin(&[]), Ok(false));
        assert_eq!(begin(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Ok(false));
        assert_eq!(begin(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]), Ok(false));
        assert_eq!(begin(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]), Ok(false));
    }

    #[test]
    fn what_cannot_be_done_is_said_in_a_sentence() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
        for (name, value) in [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_TRACES_SAMPLER", "xray"),
            ("OTEL_TRACES_SAMPLER", "Always_On"),
        ] {
            let sentence = begin(&[endpoint, (name, value)]).unwrap_err();
            assert!(sentence.contains(value), "{sentence}");
        }
        for sampler in ["traceidratio", "parentbased_traceidratio"] {
            for share in ["1.5", "-0.1", "NaN", "half", "inf", "50%"] {
                let sampler = ("OTEL_TRACES_SAMPLER", sampler);
                let sentence = begin(&[endpoint, sampler, ("OTEL_TRACES_SAMPLER_ARG", share)]).unwrap_err();
                assert!(sentence.contains(share) && sentence.contains("_ARG"), "{sentence}");
            }
        }
    }

    #[test]
    fn samplers_of_the_sdk_are_let_through() {
        for sampler in SAMPLERS {
            assert_eq!(check_sampler(Some(sampler), None), Ok(()));
            for share in ["0", "1", "0.25"] {
                assert_eq!(check_sampler(Some(sampler), Some(share)), Ok(()));
            }
        }
        // Nobody looks at it.
        assert_eq!(check_sampler(Some("always_on"), Some("half")), Ok(()));
        assert_eq!(check_sampler(None, Some("half")), Ok(()));
    }
}
