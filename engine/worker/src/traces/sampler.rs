//! Which executions have their spans exported. It is decided once, at the start.

/// Decides which executions have their spans exported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// This part of the executions, from 0 to 1.
    ratio: f64,
    /// Whether the caller's decision counts where there is a caller with a trace.
    asks_parent: bool,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { ratio: 1.0, asks_parent: true }
    }
}

impl Sampler {
    /// The sampler that the variables `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` name.
    ///
    /// # Errors
    /// One line for a person, when there is no such sampler, or the ratio is not one.
    pub fn parse(name: Option<&str>, argument: Option<&str>) -> Result<Self, String> {
        let ratio = || match argument.map(|text| (text, text.trim().parse::<f64>())) {
            None => Ok(1.0),
            Some((_, Ok(ratio))) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
            Some((text, _)) => Err(format!("OTEL_TRACES_SAMPLER_ARG is `{text}`: set it to a number from 0 to 1")),
        };
        let name = name.unwrap_or("parentbased_always_on").trim();
        let (asks_parent, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => ratio()?,
            _ => {
                return Err(format!(
                    "OTEL_TRACES_SAMPLER is `{name}`: choose always_on, always_off, traceidratio, or one of these behind parentbased_"
                ));
            }
        };
        Ok(Self { ratio, asks_parent })
    }

    /// Whether the caller's decision counts.
    pub(super) fn asks_parent(self) -> bool {
        self.asks_parent
    }

    /// The decision for an execution with this trace, whose caller has decided already or not.
    pub(super) fn decides_for(self, caller: Option<bool>, trace: [u8; 16]) -> bool {
        if let Some(is_sampled) = caller.filter(|_| self.asks_parent) {
            return is_sampled;
        }
        // The end of the id is what other samplers go by as well.
        let [.., a, b, c, d, e, f, g, h] = trace;
        let drawn = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 11;
        (drawn as f64) < self.ratio * (1_u64 << 53) as f64
    }
}
