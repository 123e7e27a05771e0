//! The settings of `vault-server`: flags, or environment variables of the same names.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::error::ErrorKind;
use clap::{ArgAction, Parser, ValueEnum};
use vault_format::limits::{MAX_ENDPOINT_BYTES, MAX_VALUE_BYTES};
use vault_format::names::Prefix;

use crate::limits::{DEFAULT_MESSAGE_BYTES, MAX_CONNECTIONS, MAX_VAULT_UID_BYTES};
use crate::log::pacing::Pacing;

/// Publish and subscribe with replay: an append-only log on page blobs, with HTTP in front of it.
///
/// Every flag can be given as an environment variable. Durations have a unit: `500ms`, `30s`, `2m`.
#[derive(Clone, Debug, Parser)]
#[command(name = "vault-server", version)]
pub struct Config {
    /// Where messages are kept: `azure:` with the account that AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT
    /// names, `azure:<account or URL>`, `file:<directory>`, or `memory:`, which loses everything when the server ends.
    #[arg(
        long,
        env = "MESSAGEVAULT_STORAGE",
        default_value = "file:./data",
        value_parser = StorageSetting::parse,
        help_heading = "Storage"
    )]
    pub storage: StorageSetting,

    /// What the names of the vault's containers begin with. One vault has one prefix, for ever.
    #[arg(
        long,
        env = "MESSAGEVAULT_PREFIX",
        default_value = "mv-",
        value_parser = prefix,
        help_heading = "Storage"
    )]
    pub prefix: Prefix,

    /// Another storage account in which streams may live, by its name or the URL of its blob service; can be given several
    /// times, or with commas between. Let in by `AZURE_STORAGE_CONNECTION_STRING_<NAME>`, or by the identity.
    #[arg(
        long = "account",
        env = "MESSAGEVAULT_ACCOUNT",
        value_name = "NAME OR URL",
        value_delimiter = ',',
        help_heading = "Storage"
    )]
    pub accounts: Vec<String>,

    /// The vault that this server is for: it refuses to work where it finds another. Without it, it works for the one
    /// that it finds, or makes a new one
    #[arg(long, env = "MESSAGEVAULT_VAULT_UID", value_name = "UID", value_parser = vault_uid, help_heading = "Storage")]
    pub vault_uid: Option<String>,

    /// The address and port to listen on; port 0 takes a free one.
    #[arg(
        long,
        env = "MESSAGEVAULT_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8480",
        help_heading = "Network"
    )]
    pub listen: SocketAddr,

    /// The URL under which clients and other replicas reach this server. [default: http:// or https:// and the --listen
    /// address]
    #[arg(long, env = "MESSAGEVAULT_ADVERTISE", value_name = "URL", value_parser = url, help_heading = "Network")]
    pub advertise: Option<String>,

    /// The certificate chain, PEM, with which connections are encrypted; read again when it changes. Goes with --tls-key.
    #[arg(long, env = "MESSAGEVAULT_TLS_CERT", value_name = "FILE", help_heading = "Network")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert, PEM; read again when it changes.
    #[arg(long, env = "MESSAGEVAULT_TLS_KEY", value_name = "FILE", help_heading = "Network")]
    pub tls_key: Option<PathBuf>,

    /// Certificates of authorities, PEM, by which other servers of the vault are trusted, besides those of the system.
    #[arg(long, env = "MESSAGEVAULT_TLS_CA", value_name = "FILE", help_heading = "Network")]
    pub tls_ca: Option<PathBuf>,

    /// What the certificates of other servers of the vault are made out to, where those servers advertise an address
    /// instead of a name.
    #[arg(long, env = "MESSAGEVAULT_TLS_NAME", value_name = "NAME", value_parser = host_name, help_heading = "Network")]
    pub tls_name: Option<String>,

    /// A second address and port, for /livez, /readyz, /status, /metrics, GET /streams and POST /refresh, without TLS;
    /// nobody is asked who they are there. With it, --listen serves neither /status nor /metrics
    #[arg(long, env = "MESSAGEVAULT_INTERNAL_LISTEN", value_name = "ADDRESS:PORT", help_heading = "Network")]
    pub internal_listen: Option<SocketAddr>,

    /// Listen beyond loopback although nobody is asked who they are.
    #[arg(long, env = "MESSAGEVAULT_ALLOW_ANONYMOUS", help_heading = "Network")]
    pub allow_anonymous: bool,

    /// The file that says who may use the server (docs/access.md); can be given several times, or with commas between:
    /// they are taken together. A change of one comes into force by itself. Without any nobody is asked who they are.
    #[arg(
        long,
        env = "MESSAGEVAULT_ACCESS",
        value_name = "FILE",
        value_delimiter = ',',
        help_heading = "Network"
    )]
    pub access: Vec<PathBuf>,

    /// The most connections at once; one more is answered 503 and closed.
    #[arg(
        long,
        env = "MESSAGEVAULT_MAX_CONNECTIONS",
        value_name = "NUMBER",
        default_value_t = MAX_CONNECTIONS as u64,
        value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000_000),
        help_heading = "Limits"
    )]
    max_connections: u64,

    /// The longest value of a message, in bytes, at most 2097152.
    #[arg(
        long,
        env = "MESSAGEVAULT_MAX_MESSAGE_BYTES",
        value_name = "BYTES",
        default_value_t = DEFAULT_MESSAGE_BYTES as u64,
        value_parser = RangedU64ValueParser::<u64>::new().range(1..=MAX_VALUE_BYTES as u64),
        help_heading = "Limits"
    )]
    max_message_bytes: u64,

    /// How long an append waits until its messages are stored.
    #[arg(
        long,
        env = "MESSAGEVAULT_APPEND_TIMEOUT",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = duration,
        help_heading = "Limits"
    )]
    pub append_timeout: Duration,

    /// How long any other request waits for the storage.
    #[arg(
        long,
        env = "MESSAGEVAULT_REQUEST_TIMEOUT",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = duration,
        help_heading = "Limits"
    )]
    pub request_timeout: Duration,

    /// How long a connection may be idle, and how long the head of a request may take. Best longer than clients keep
    /// idle connections, so that it is they who close them
    #[arg(
        long,
        env = "MESSAGEVAULT_IDLE_TIMEOUT",
        value_name = "DURATION",
        default_value = "120s",
        value_parser = duration,
        help_heading = "Limits"
    )]
    pub idle_timeout: Duration,

    /// Create a stream when it is first appended to. [default: true for file: and memory:, false for azure:]
    #[arg(
        long,
        env = "MESSAGEVAULT_AUTO_CREATE",
        value_name = "true|false",
        action = ArgAction::Set,
        help_heading = "Streams"
    )]
    auto_create: Option<bool>,

    /// What is logged: a level (error, warn, info, debug), or `target=level` for parts, with commas between.
    #[arg(
        long,
        env = "MESSAGEVAULT_LOG",
        value_name = "FILTER",
        default_value = "info",
        value_parser = crate::logging::check_filter,
        help_heading = "Log"
    )]
    pub log: String,

    /// How the log is written to stderr; `auto` is `human` on a terminal, else `json`.
    #[arg(
        long,
        env = "MESSAGEVAULT_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t = LogFormat::Auto,
        help_heading = "Log"
    )]
    pub log_format: LogFormat,
}

/// How the log is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people on a terminal, else JSON.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Whether the log is JSON.
    #[must_use]
    pub fn is_json(self) -> bool {
        match self {
            Self::Auto => !std::io::stderr().is_terminal(),
            Self::Human => false,
            Self::Json => true,
        }
    }
}

/// Which storage, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StorageSetting {
    /// In this process.
    Memory,
    /// In a directory.
    File(PathBuf),
    /// In Azure: the account's name or URL, or nothing where the environment says all.
    Azure(String),
}

impl StorageSetting {
    /// Reads what `--storage` takes.
    ///
    /// # Errors
    ///
    /// One sentence that says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("file", directory)) if !directory.is_empty() => Ok(Self::File(directory.into())),
            Some(("azure", account)) => Ok(Self::Azure(account.to_owned())),
            _ => Err(format!("unknown storage `{text}`: say azure:, file:<directory> or memory:")),
        }
    }

    /// The kind, in a word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File(_) => "file",
            Self::Azure(_) => "azure",
        }
    }

    /// How the puts of a stream follow each other.
    #[must_use]
    pub fn pacing(&self) -> Pacing {
        match self {
            Self::Memory => Pacing::UNBOUNDED,
            Self::File(_) => Pacing::FILES,
            Self::Azure(_) => Pacing::AZURE,
        }
    }

    /// Whether a stream is created when it is first appended to, unless the settings say otherwise.
    fn auto_create(&self) -> bool {
        match self {
            Self::Memory | Self::File(_) => true,
            Self::Azure(_) => false,
        }
    }
}

/// Why the server does not start, or what was asked for instead of starting.
#[derive(Debug)]
pub enum NoConfig {
    /// Help or version, to be printed.
    Asked(String),
    /// What is wrong, in a sentence.
    Wrong(String),
}

impl Config {
    /// Reads flags and environment.
    pub fn read(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Self, NoConfig> {
        let config = Self::try_parse_from(arguments).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => NoConfig::Asked(error.to_string()),
            _ => NoConfig::Wrong(sentence(&error)),
        })?;
        if !config.access.is_empty() && config.allow_anonymous {
            return Err(NoConfig::Wrong(
                "--access says who may use this server, and --allow-anonymous that everybody may: leave one out"
                    .to_owned(),
            ));
        }
        if !config.listen.ip().is_loopback() && config.access.is_empty() && !config.allow_anonymous {
            return Err(NoConfig::Wrong(format!(
                "--listen {} is open to the network, and this server asks nobody who they are: listen on 127.0.0.1, \
                 name an --access file, or say --allow-anonymous",
                config.listen
            )));
        }
        if config.tls_cert.is_some() != config.tls_key.is_some() {
            return Err(NoConfig::Wrong("--tls-cert and --tls-key go together".to_owned()));
        }
        if !config.accounts.is_empty() && !matches!(config.storage, StorageSetting::Azure(_)) {
            return Err(NoConfig::Wrong("--account goes with --storage azure: alone".to_owned()));
        }
        Ok(config)
    }

    /// Whether a stream is created when it is first appended to.
    #[must_use]
    pub fn auto_create(&self) -> bool {
        self.auto_create.unwrap_or_else(|| self.storage.auto_create())
    }

    /// The longest value of a message.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        usize::try_from(self.max_message_bytes).expect("its range ends at 2 MiB")
    }

    /// The most connections at once.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        usize::try_from(self.max_connections).expect("its range ends at a million")
    }
}

/// The first line of what clap has to say; what follows it are hints and usage.
fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    format!("{first} (vault-server --help names every setting)")
}

fn prefix(text: &str) -> Result<Prefix, String> {
    Prefix::new(text).map_err(|error| error.to_string())
}

/// A uid stands in metadata, whose values are printable ASCII.
fn vault_uid(text: &str) -> Result<String, String> {
    let fits =
        (1..=MAX_VAULT_UID_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!("give 1 to {MAX_VAULT_UID_BYTES} printable ASCII characters"))
    }
}

fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or_default();
    if rest.is_empty() || text.contains(char::is_whitespace) {
        return Err("give a URL such as http://vault.example:8480".to_owned());
    }
    if text.len() > MAX_ENDPOINT_BYTES {
        return Err(format!("the URL may have at most {MAX_ENDPOINT_BYTES} bytes"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A name as certificates have it.
fn host_name(text: &str) -> Result<String, String> {
    let part = |part: &str| {
        let inner = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&part.len()) && inner && !part.starts_with('-') && !part.ends_with('-')
    };
    if text.len() > 253 || !text.split('.').all(part) || text.parse::<std::net::IpAddr>().is_ok() {
        return Err("give a name such as vault.example".to_owned());
    }
    Ok(text.to_ascii_lowercase())
}

/// Reads what flags take for a time: a whole number and a unit, `ms`, `s` or `m`.
///
/// # Errors
///
/// One sentence that says what to write.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "give a whole number and a unit, such as 500ms, 30s or 2m".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    // A day is more than anybody waits, and keeps the arithmetic of clocks far from its ends.
    let ms = number.checked_mul(unit_ms).filter(|ms| (1..=86_400_000).contains(ms));
    ms.map(Duration::from_millis).ok_or_else(|| "the time must be from 1ms to a day".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{DEFAULT_APPEND_TIMEOUT, DEFAULT_IDLE_TIMEOUT};

    fn read(arguments: &[&str]) -> Result<Config, String> {
        let arguments = ["vault-server"].iter().chain(arguments).map(std::ffi::OsString::from);
        Config::read(arguments).map_err(|no| match no {
            NoConfig::Asked(text) | NoConfig::Wrong(text) => text,
        })
    }

    #[test]
    fn the_defaults_are_whole() {
        let config = read(&[]).unwrap();
        assert_eq!(config.storage, StorageSetting::File("./data".into()));
        assert_eq!(config.listen.to_string(), "127.0.0.1:8480");
        assert_eq!((config.max_message_bytes(), config.max_connections()), (1 << 20, 16_384));
        assert_eq!(config.append_timeout, DEFAULT_APPEND_TIMEOUT);
        assert_eq!(config.idle_timeout, DEFAULT_IDLE_TIMEOUT);
        assert!(config.auto_create() && !config.allow_anonymous);
    }

    #[test]
    fn a_wrong_setting_is_one_sentence_that_says_what_to_set() {
        for (arguments, says) in [
            (
                ["--storage", "s3:bucket"],
                "unknown storage `s3:bucket`: say azure:, file:<directory> or memory:",
            ),
            (["--account", "two"], "--storage azure:"),
            (["--vault-uid", "a b"], "printable"),
            (["--storage", "file:"], "unknown storage `file:`"),
            (["--append-timeout", "30"], "500ms, 30s or 2m"),
            (["--append-timeout", "0s"], "from 1ms to a day"),
            (["--max-message-bytes", "2097153"], "2097152"),
            (["--max-message-bytes", "0"], "--max-message-bytes"),
            (["--prefix", "Mv_"], "lower-case"),
            (["--listen", "8480"], "--listen"),
            (["--listen", "0.0.0.0:80"], "--allow-anonymous"),
            (["--advertise", "vault:80"], "http://vault.example:8480"),
            (["--log", "=,="], "--log"),
            (["--auto-create", "maybe"], "--auto-create"),
            (["--nonsense", "1"], "--nonsense"),
        ] {
            let wrong = read(&arguments).unwrap_err();
            assert!(wrong.contains(says) && !wrong.contains('\n'), "{arguments:?}: {wrong}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "1h", "-1s", "1.5s", "99999999999999999999s", "99999999999999999m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_open_network_is_asked_for_by_name() {
        assert!(read(&["--listen", "0.0.0.0:80", "--allow-anonymous"]).is_ok());
        assert!(read(&["--listen", "[::1]:80"]).is_ok());
        assert!(read(&["--listen", "0.0.0.0:80", "--access", "/access"]).is_ok());
        let several = read(&["--access", "/a,/b", "--access", "/c"]).unwrap();
        assert_eq!(several.access, ["/a", "/b", "/c"].map(PathBuf::from));
        for empty in [&["--access="][..], &["--access", "/a,"]] {
            assert!(read(empty).is_err(), "{empty:?}");
        }
        let both = read(&["--access", "/access", "--allow-anonymous"]).unwrap_err();
        assert!(both.contains("--allow-anonymous that everybody may"), "{both}");
    }

    #[test]
    fn every_flag_has_a_variable_and_stands_in_the_help() {
        let help = read(&["--help"]).unwrap_err();
        let command = <Config as clap::CommandFactory>::command();
        for flag in command.get_arguments().filter_map(|flag| flag.get_long()) {
            if flag != "help" && flag != "version" {
                let variable = format!("MESSAGEVAULT_{}", flag.replace('-', "_").to_uppercase());
                assert!(help.contains(&format!("--{flag}")) && help.contains(&variable), "{flag}");
            }
        }
    }
}
