//! Connection strings of storage accounts: `AccountName=...;AccountKey=...;EndpointSuffix=...`.
//!
//! No error repeats a value: one of them is a key.

use std::collections::BTreeMap;

use azure_core::credentials::Secret;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::settings::{AccountAddress, AzureSettings, Credential, account_of, endpoint};

/// The account that every emulator has, and its key, which is the same everywhere and no secret.
const EMULATOR: &str = "AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1";

/// The parts, by their names in lower case.
fn parts(text: &str) -> Result<BTreeMap<String, &str>, String> {
    let mut parts = BTreeMap::new();
    for (number, part) in text.split(';').enumerate().filter(|(_, part)| !part.trim().is_empty()) {
        let Some((name, value)) = part.split_once('=') else {
            return Err(format!("part {} has no `=`", number + 1));
        };
        let name = name.trim().to_ascii_lowercase();
        if parts.insert(name, value.trim()).is_some() {
            return Err(format!("part {} names what was named before", number + 1));
        }
    }
    parts.retain(|_, value| !value.is_empty());
    Ok(parts)
}

/// Reads a connection string. An error ends a sentence that begins with where the string came from.
pub(super) fn parse(text: &str) -> Result<AzureSettings, String> {
    let parts = parts(text)?;
    let get = |name: &str| parts.get(name).copied();
    if let Some(value) = get("usedevelopmentstorage") {
        if get("developmentstorageproxyuri").is_some() {
            return Err(
                "names a DevelopmentStorageProxyUri: give the emulator's BlobEndpoint instead".to_owned()
            );
        }
        if !value.eq_ignore_ascii_case("true") || parts.len() > 1 {
            return Err("must hold UseDevelopmentStorage=true alone, or not at all".to_owned());
        }
        return parse(EMULATOR);
    }
    let name = get("accountname");
    let endpoint = match (get("blobendpoint"), name) {
        (Some(url), _) => endpoint(url).map_err(|why| format!("has a BlobEndpoint that {why}"))?,
        (None, Some(name)) => {
            let protocol = get("defaultendpointsprotocol").unwrap_or("https").to_ascii_lowercase();
            let suffix = get("endpointsuffix").unwrap_or("core.windows.net");
            let url = format!("{protocol}://{name}.blob.{suffix}");
            self::endpoint(&url).map_err(|why| format!("leads to an endpoint that {why}"))?
        }
        (None, None) => return Err("has neither AccountName nor BlobEndpoint".to_owned()),
    };
    let credential = match (get("accountkey"), get("sharedaccesssignature")) {
        (Some(_), Some(_)) => return Err("has both AccountKey and SharedAccessSignature".to_owned()),
        (None, None) => return Err("has neither AccountKey nor SharedAccessSignature".to_owned()),
        (Some(_), None) if name.is_none() => return Err("has an AccountKey but no AccountName".to_owned()),
        (Some(key), None) => {
            if BASE64_STANDARD.decode(key).is_err() {
                return Err("has an AccountKey that is not base64: copy it again".to_owned());
            }
            Credential::Key(Secret::new(key.to_owned()))
        }
        (None, Some(sas)) => {
            let sas = sas.trim_start_matches('?');
            if !sas.split('&').any(|pair| pair.starts_with("sig=")) {
                return Err("has a SharedAccessSignature without `sig=`: copy it again".to_owned());
            }
            Credential::Sas(Secret::new(sas.to_owned()))
        }
    };
    let name = name.map_or_else(|| account_of(&endpoint), ToOwned::to_owned);
    Ok(AzureSettings { account: AccountAddress { name, endpoint }, credential })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "U0VDUkVU";

    fn parsed(text: &str) -> (String, String, Credential) {
        let AzureSettings { account, credential } = parse(text).unwrap();
        (account.name, account.endpoint.to_string(), credential)
    }

    #[test]
    fn a_portal_string_leads_to_the_accounts_endpoint() {
        let text = format!(
            "DefaultEndpointsProtocol=https;AccountName=mine;AccountKey={KEY};EndpointSuffix=core.windows.net;"
        );
        let (name, endpoint, credential) = parsed(&text);
        assert_eq!((&*name, &*endpoint), ("mine", "https://mine.blob.core.windows.net/"));
        assert!(matches!(credential, Credential::Key(key) if key.secret() == KEY));
        let elsewhere = format!("accountname=mine;accountkey={KEY};endpointsuffix=core.chinacloudapi.cn");
        assert_eq!(parsed(&elsewhere).1, "https://mine.blob.core.chinacloudapi.cn/");
    }

    #[test]
    fn padding_of_a_key_is_a_part_of_it() {
        let (_, _, credential) = parsed("AccountName=a;AccountKey=QUI=");
        assert!(matches!(credential, Credential::Key(key) if key.secret() == "QUI="));
    }

    #[test]
    fn a_sas_needs_an_endpoint_alone() {
        let text = "BlobEndpoint=https://mine.blob.core.windows.net/;QueueEndpoint=https://q/;\
                    SharedAccessSignature=?sv=2024-11-04&sig=a%2Bb%3D";
        let (name, _, credential) = parsed(text);
        assert_eq!(name, "mine");
        assert!(matches!(credential, Credential::Sas(sas) if sas.secret() == "sv=2024-11-04&sig=a%2Bb%3D"));
    }

    #[test]
    fn the_emulator_has_its_account_in_the_path() {
        let (name, endpoint, _) = parsed("UseDevelopmentStorage=true");
        assert_eq!((&*name, &*endpoint), ("devstoreaccount1", "http://127.0.0.1:10000/devstoreaccount1"));
        let (name, ..) = parsed("BlobEndpoint=http://localhost:1/other;SharedAccessSignature=sig=x");
        assert_eq!(name, "other");
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_secret() {
        for (text, said) in [
            ("", "neither AccountName nor BlobEndpoint"),
            ("AccountName=a", "neither AccountKey nor"),
            ("AccountKey=U0VDUkVU", "neither AccountName nor"),
            ("BlobEndpoint=https://a.b/;AccountKey=U0VDUkVU", "no AccountName"),
            ("AccountName=a;AccountKey=U0VDUkVU;SharedAccessSignature=sig=U0VDUkVU", "both"),
            ("AccountName=a;AccountKey=U0VDUkVU!", "not base64"),
            ("AccountName=a;AccountKey=U0VDUkVU;AccountKey=U0VDUkVU", "named before"),
            ("AccountName=a;U0VDUkVU", "part 2 has no `=`"),
            ("AccountName=a;SharedAccessSignature=U0VDUkVU", "without `sig=`"),
            ("AccountName=a;AccountKey=U0VDUkVU;DefaultEndpointsProtocol=ftp", "https://"),
            ("BlobEndpoint=U0VDUkVU;AccountName=a;AccountKey=U0VDUkVU", "is not a URL"),
            ("BlobEndpoint=https://a.b/?sig=U0VDUkVU;AccountName=a;AccountKey=U0VDUkVU", "query"),
            ("UseDevelopmentStorage=false", "UseDevelopmentStorage=true alone"),
            ("UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://x", "DevelopmentStorageProxyUri"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(said) && !why.contains("U0VDUkVU"), "{text}: {why}");
        }
    }
}
