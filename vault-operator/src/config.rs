//! The settings of `vault-operator`: flags, or environment variables of the same names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
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

/// Where the keys are with which tokens of ServiceAccounts are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum IssuerKeys {
    /// As the issuer's URL and the API server's discovery say.
    Auto,
    /// At the API server, vouched for by the cluster's own authority.
    InCluster,
    /// At a public place, vouched for by a public authority.
    Public,
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

    /// The Lease by which one of several operators works. Operators that look after different namespaces from one
    /// namespace need different ones.
    #[arg(
        long,
        env = "MESSAGEVAULT_OPERATOR_LEASE",
        value_name = "NAME",
        default_value = "message-vault-operator"
    )]
    pub lease: String,

    /// The namespace of the Lease, and of resources in --bootstrap that name none.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "message-vault-system")]
    pub namespace: String,

    /// What this operator is called in the Lease, with something random behind it, and in events.
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "vault-operator")]
    pub identity: String,

    /// A directory with files of resources that are applied at the start and when they change.
    #[arg(long, env = "MESSAGEVAULT_OPERATOR_BOOTSTRAP", value_name = "DIRECTORY")]
    pub bootstrap: Option<PathBuf>,

    /// Who signs the tokens of ServiceAccounts. [default: asked of the API server]
    #[arg(long, env = "MESSAGEVAULT_OPERATOR_CLUSTER_ISSUER", value_name = "URL")]
    pub cluster_issuer: Option<String>,

    /// Where the keys of that issuer are.
    #[arg(
        long,
        env = "MESSAGEVAULT_OPERATOR_CLUSTER_ISSUER_KEYS",
        value_name = "PLACE",
        value_enum,
        default_value_t = IssuerKeys::Auto
    )]
    pub cluster_issuer_keys: IssuerKeys,

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
        let arguments = Arguments::try_parse_from(["vault-operator", "--lease", "other"]).unwrap();
        assert!(arguments.command.is_none() && arguments.config.lease == "other");
        let crds = Arguments::try_parse_from(["vault-operator", "crds"]).unwrap();
        assert!(matches!(crds.command, Some(Command::Crds)));
    }
}
