//! The settings of `vault-operator`: flags, or environment variables of the same names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use vault_server::config::LogFormat;

/// The operator of Message Vault: turns MessageVault and VaultStream resources into servers and streams.
#[derive(Clone, Debug, Parser)]
#[command(name = "vault-operator", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How to run.
    #[command(flatten)]
    pub config: Config,
}

/// What the program does.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Reconcile until told to end; what is done without a command.
    Run(Box<Config>),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
}

/// How the operator runs. Every flag can be given as an environment variable.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// The image of servers whose MessageVault names none.
    #[arg(
        long,
        env = "MESSAGEVAULT_OPERATOR_SERVER_IMAGE",
        value_name = "IMAGE",
        default_value = concat!("ghcr.io/message-vault/message-vault-server:", env!("CARGO_PKG_VERSION"))
    )]
    pub server_image: String,

    /// Watch this namespace alone instead of all.
    #[arg(long, env = "MESSAGEVAULT_OPERATOR_WATCH_NAMESPACE", value_name = "NAMESPACE")]
    pub watch_namespace: Option<String>,

    /// The address and port of /livez, /readyz and /metrics.
    #[arg(
        long,
        env = "MESSAGEVAULT_OPERATOR_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "[::]:8080"
    )]
    pub listen: SocketAddr,

    /// Work only while holding a Lease, so that several operators may run.
    #[arg(long, env = "MESSAGEVAULT_OPERATOR_LEADER_ELECT")]
    pub leader_elect: bool,

    /// The namespace of the Lease, and of resources in --bootstrap that name none.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "message-vault-system")]
    pub namespace: String,

    /// Who this operator is among several. [default: a random name]
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,

    /// A directory with files of resources that are applied at the start and when they change.
    #[arg(long, env = "MESSAGEVAULT_OPERATOR_BOOTSTRAP", value_name = "DIRECTORY")]
    pub bootstrap: Option<PathBuf>,

    /// Who signs the tokens of ServiceAccounts. [default: asked of the API server]
    #[arg(long, env = "MESSAGEVAULT_OPERATOR_CLUSTER_ISSUER", value_name = "URL")]
    pub cluster_issuer: Option<String>,

    /// The Entra tenant of workload identities that name none.
    #[arg(long, env = "AZURE_TENANT_ID", value_name = "ID")]
    pub tenant_id: Option<String>,

    /// How often each resource, and with it its containers, is looked at although nothing has told of a change; give or
    /// take a fifth.
    #[arg(
        long,
        env = "MESSAGEVAULT_OPERATOR_LOOK_EVERY",
        value_name = "DURATION",
        default_value = "5m",
        value_parser = vault_server::config::duration
    )]
    pub look_every: Duration,

    /// What is logged: a level (error, warn, info, debug), or `target=level` for parts, with commas between.
    #[arg(
        long,
        env = "MESSAGEVAULT_OPERATOR_LOG",
        value_name = "FILTER",
        default_value = "info",
        value_parser = vault_server::logging::check_filter
    )]
    pub log: String,

    /// How the log is written to stderr; `auto` is `human` on a terminal, else `json`.
    #[arg(
        long,
        env = "MESSAGEVAULT_OPERATOR_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t = LogFormat::Auto
    )]
    pub log_format: LogFormat,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_is_whole_and_running_is_the_default() {
        Arguments::command().debug_assert();
        let arguments = Arguments::try_parse_from(["vault-operator", "--leader-elect"]).unwrap();
        assert!(arguments.command.is_none() && arguments.config.leader_elect);
        let crds = Arguments::try_parse_from(["vault-operator", "crds"]).unwrap();
        assert!(matches!(crds.command, Some(Command::Crds)));
    }
}
