//! The access file: who may use the server, as YAML. Reading it is pure; `watch` brings its content.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use crate::access::grants::Grant;
use crate::access::password::Password;
use crate::access::texts::{IssuerUrl, Name, Sha256, Subject, Text};
use crate::limits::{MAX_ACCESS_NAMES, MAX_GRANTS, MAX_ISSUER_RULES, MAX_ISSUERS, MAX_WATCHED_FILE_BYTES};

/// What an access file holds.
#[derive(Default, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessFile {
    #[serde(default, deserialize_with = "some::<_, _, MAX_ACCESS_NAMES>")]
    pub(super) users: Vec<User>,
    #[serde(default, deserialize_with = "some::<_, _, MAX_ACCESS_NAMES>")]
    pub(super) tokens: Vec<Token>,
    #[serde(default, deserialize_with = "some::<_, _, MAX_ISSUERS>")]
    pub(super) issuers: Vec<IssuerEntry>,
}

/// Somebody with a password.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    pub(super) name: Name,
    pub(super) password: Password,
    #[serde(deserialize_with = "grants")]
    pub(super) grants: Arc<[Grant]>,
}

/// A token that is no more than a long random text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    pub(super) name: Name,
    pub(super) sha256: Sha256,
    #[serde(deserialize_with = "grants")]
    pub(super) grants: Arc<[Grant]>,
}

/// Somebody whose signed tokens are good.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuerEntry {
    pub(super) url: IssuerUrl,
    pub(super) audience: Text,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) token_file: Option<PathBuf>,
    #[serde(deserialize_with = "some::<_, _, MAX_ISSUER_RULES>")]
    pub(super) grants: Vec<Rule>,
}

/// Whom of an issuer's subjects is granted what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) subject: Option<Subject>,
    #[serde(default)]
    pub(super) claims: BTreeMap<String, String>,
    #[serde(deserialize_with = "grants")]
    pub(super) grants: Arc<[Grant]>,
}

fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let all = Vec::<T>::deserialize(deserializer)?;
    if all.len() > MOST {
        return Err(serde::de::Error::custom(format!("there are {}; at most {MOST} are allowed", all.len())));
    }
    Ok(all)
}

fn grants<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[Grant]>, D::Error> {
    some::<_, _, MAX_GRANTS>(deserializer).map(Arc::from)
}

/// Why a text is not an access file, in a sentence that names line and field, and nothing that may be secret.
pub(super) fn parse(content: &[u8]) -> Result<AccessFile, String> {
    let mut all = AccessFile::default();
    all.join(content)?;
    Ok(all)
}

impl AccessFile {
    /// Takes what another file holds together with this, as if it stood behind it in one file; or says what is wrong with
    /// it, as [`parse`] does.
    pub(super) fn join(&mut self, content: &[u8]) -> Result<(), String> {
        let file = read(content)?;
        self.check_names_in(&file)?;
        for (what, count, most) in [
            ("users", self.users.len() + file.users.len(), MAX_ACCESS_NAMES),
            ("tokens", self.tokens.len() + file.tokens.len(), MAX_ACCESS_NAMES),
            ("issuers", self.issuers.len() + file.issuers.len(), MAX_ISSUERS),
        ] {
            if count > most {
                return Err(format!(
                    "{what}: with those of the files before there are {count}; at most {most} are allowed"
                ));
            }
        }
        self.users.extend(file.users);
        self.tokens.extend(file.tokens);
        self.issuers.extend(file.issuers);
        Ok(())
    }

    /// Whether nothing in `file` has a name that is there before, in it or here.
    fn check_names_in(&self, file: &Self) -> Result<(), String> {
        let mut seen: HashSet<_> = self.users.iter().map(|user| &user.name).collect();
        for (index, user) in file.users.iter().enumerate() {
            if !seen.insert(&user.name) {
                return Err(format!("users[{index}].name: there is a user of this name before"));
            }
        }
        let mut seen: HashSet<_> = self.tokens.iter().map(|token| &token.name).collect();
        let mut hashes: HashSet<_> = self.tokens.iter().map(|token| &token.sha256).collect();
        for (index, token) in file.tokens.iter().enumerate() {
            if !seen.insert(&token.name) {
                return Err(format!("tokens[{index}].name: there is a token of this name before"));
            }
            if !hashes.insert(&token.sha256) {
                return Err(format!("tokens[{index}].sha256: there is this token before"));
            }
        }
        let mut seen: HashSet<_> = self.issuers.iter().map(|issuer| &issuer.url).collect();
        for (index, issuer) in file.issuers.iter().enumerate() {
            if !seen.insert(&issuer.url) {
                return Err(format!("issuers[{index}].url: there is this issuer before"));
            }
        }
        Ok(())
    }
}

/// Reads one file by itself.
fn read(content: &[u8]) -> Result<AccessFile, String> {
    if content.len() > MAX_WATCHED_FILE_BYTES {
        return Err(format!("it has more than {MAX_WATCHED_FILE_BYTES} bytes"));
    }
    let file: AccessFile = match serde_yaml::from_slice(content) {
        Ok(file) => file,
        // Nothing, or comments alone.
        Err(error) if error.location().is_none() && content_is_blank(content) => AccessFile::default(),
        Err(error) => return Err(without_values(&error.to_string())),
    };
    for (index, issuer) in file.issuers.iter().enumerate() {
        for (rule, Rule { subject, claims, .. }) in issuer.grants.iter().enumerate() {
            if subject.is_none() && claims.is_empty() {
                let why = "a rule names a `subject` (* for all), `claims`, or both";
                return Err(format!("issuers[{index}].grants[{rule}]: {why}"));
            }
            if claims.len() > MAX_GRANTS {
                return Err(format!(
                    "issuers[{index}].grants[{rule}].claims: at most {MAX_GRANTS} are allowed"
                ));
            }
        }
    }
    Ok(file)
}

fn content_is_blank(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

/// An error of serde without the value that it is about: that may be a password in the wrong place.
fn without_values(error: &str) -> String {
    let mut text = error.to_owned();
    for what in ["invalid type: ", "invalid value: "] {
        if let Some(begin) = text.find(what)
            && let Some(end) = text.rfind(", expected ")
            && end >= begin
        {
            text.replace_range(begin..end + 2, "");
        }
    }
    // What stands in the place of a field's name is repeated, and may hold anything.
    text.chars().flat_map(shown).collect()
}

fn shown(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_default());
    let itself = escaped.is_none().then_some(character);
    escaped.into_iter().flatten().chain(itself)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str =
        "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    fn wrong(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_whole_file_is_understood() {
        let sha256 = "ab".repeat(32);
        let text = format!(
            "users:\n- name: shop\n  password: {HASH}\n  grants: ['orders:write', 'shop-*:read']\n\
             tokens:\n- {{name: ci, sha256: {sha256}, grants: ['all:admin']}}\n\
             issuers:\n- url: https://issuer.example\n  audience: messagevault\n  ca_file: /ca\n  token_file: /token\n  \
             grants:\n  - subject: system:serviceaccount:shop:*\n    grants: ['orders:write']\n  \
             - claims: {{roles: admin}}\n    grants: ['all:admin']\n"
        );
        let file = parse(text.as_bytes()).unwrap();
        assert_eq!((file.users.len(), file.tokens.len(), file.issuers.len()), (1, 1, 1));
        assert_eq!(file.tokens[0].sha256.0, [0xab; 32]);
        let rules = &file.issuers[0].grants;
        let subject = rules[0].subject.as_ref().unwrap();
        assert!(subject.covers("system:serviceaccount:shop:till"));
        assert!(!subject.covers("system:serviceaccount:shops"));
        assert_eq!(rules[1].claims["roles"], "admin");
        let shown = format!("{file:?}");
        assert!(
            !shown.contains("CTFhFdXPJO1a") && !shown.contains("ab, ab") && !shown.contains("171"),
            "{shown}"
        );
        for empty in ["", "# nobody\n", "{}", "users: []"] {
            assert!(parse(empty.as_bytes()).unwrap().users.is_empty(), "{empty}");
        }
    }

    #[test]
    fn the_examples_of_the_documentation_are_valid() {
        let documentation = include_str!("../../../docs/access.md");
        let blocks = documentation.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        let files: Vec<_> =
            blocks.filter(|block| block.starts_with("users:") || block.starts_with("issuers:")).collect();
        assert_eq!(files.len(), 2);
        for text in &files {
            parse(text.as_bytes()).unwrap();
        }
        assert!(parse(files[0].as_bytes()).unwrap().users[0].password.is(b"correct-horse"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_field() {
        for (text, says) in [
            (
                "users:\n- name: a\n  password: x\n  grants: []\n",
                &["users[0].password", "line 3", "argon2id"] as &[_],
            ),
            (
                &format!("users:\n- name: a\n  password: {HASH}\n  grants: ['a:b']\n"),
                &["users[0].grants", "line 4", "`read`"],
            ),
            (
                &format!("users:\n- name: 'a:b'\n  password: {HASH}\n  grants: []\n"),
                &["users[0].name", "colon"],
            ),
            ("tokens:\n- name: a\n  sha256: abc\n  grants: []\n", &["tokens[0].sha256", "line 3", "64"]),
            ("tokens:\n- name: a\n  sha: abc\n", &["tokens[0]", "unknown field", "line 3"]),
            ("tokens:\n- name: a\n", &["tokens[0]", "missing field", "line 2"]),
            ("issuers:\n- url: http://issuer.example\n", &["issuers[0].url", "https", "line 2"]),
            ("issuers:\n- url: https://a\n  audience: ''\n", &["issuers[0].audience", "empty", "line 3"]),
            (
                "issuers:\n- url: https://a\n  audience: a\n  grants: [{grants: []}]\n",
                &["issuers[0].grants[0]", "subject"],
            ),
            ("user: []\n", &["unknown field `user`"]),
            ("\"us\\ner\": []\n", &["unknown field `us\\ner`"]),
            ("users: [\n", &["line"]),
            ("- a\n", &["expected"]),
            ("\u{0}", &[""]),
        ] {
            let wrong = wrong(text);
            for part in says {
                assert!(wrong.contains(part), "{text}: {wrong}");
            }
            assert!(!wrong.contains('\n'), "{wrong}");
        }
        let twice = |list: &str, entry: &str| wrong(&format!("{list}:\n- {entry}\n- {entry}\n"));
        assert!(
            twice("users", &format!("{{name: a, password: {HASH:?}, grants: []}}")).contains("users[1].name")
        );
        let token = format!("{{name: a, sha256: {}, grants: []}}", "0".repeat(64));
        assert!(twice("tokens", &token).contains("tokens[1].name"));
        assert!(twice("issuers", "{url: 'https://a', audience: a, grants: []}").contains("issuers[1].url"));
    }

    #[test]
    fn several_files_are_as_one() {
        let user = |name: &str| format!("users:\n- {{name: {name}, password: {HASH:?}, grants: []}}\n");
        let token = |name: &str, digit: &str| {
            format!("tokens:\n- {{name: {name}, sha256: '{}', grants: []}}\n", digit.repeat(64))
        };
        let issuer = |url: &str| format!("issuers:\n- {{url: 'https://{url}', audience: a, grants: []}}\n");
        let mut all = parse(format!("{}{}{}", user("a"), token("a", "1"), issuer("a")).as_bytes()).unwrap();
        for text in [user("b"), token("b", "2"), issuer("b"), String::new()] {
            all.join(text.as_bytes()).unwrap();
        }
        for (text, says) in [
            (user("b"), "users[0].name"),
            (token("a", "3"), "tokens[0].name"),
            (token("c", "2"), "tokens[0].sha256"),
            (issuer("a"), "issuers[0].url"),
            ("users: [\n".to_owned(), "line"),
        ] {
            let why = all.join(text.as_bytes()).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
        assert_eq!((all.users.len(), all.tokens.len(), all.issuers.len()), (2, 2, 2));
        for number in 2..MAX_ISSUERS {
            all.join(issuer(&format!("n{number}")).as_bytes()).unwrap();
        }
        let why = all.join(issuer("last").as_bytes()).unwrap_err();
        assert!(why.contains("issuers: ") && why.contains("there are 17; at most 16"), "{why}");
    }

    #[test]
    fn an_error_holds_no_value_that_may_be_secret() {
        for text in [
            "users:\n- name: a\n  password: 7777777\n  grants: []\n",
            "users:\n- name: a\n  password: [7777777]\n  grants: []\n",
            "users:\n- name: a\n  password: $argon2id$7777777\n  grants: []\n",
            "users: '7777777, expected'\n",
            "users: ['7777777']\n",
            "tokens:\n- name: a\n  sha256: 7777777\n  grants: []\n",
            "tokens:\n- name: a\n  sha256: '7777777'\n  grants: 7777777\n",
            "'7777777'",
        ] {
            let wrong = wrong(text);
            assert!(!wrong.contains("7777777"), "{wrong}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        assert!(wrong(&" ".repeat(MAX_WATCHED_FILE_BYTES + 1)).contains("bytes"));
        let issuer = "- {url: 'https://a', audience: a, grants: []}\n";
        let issuers = format!("issuers:\n{}", issuer.repeat(MAX_ISSUERS + 1));
        assert!(wrong(&issuers).contains("at most 16"), "{}", wrong(&issuers));
        let grants = "'a:read',".repeat(MAX_GRANTS + 1);
        let text = format!("users:\n- name: a\n  password: {HASH}\n  grants: [{grants}]\n");
        assert!(wrong(&text).contains("at most 100"), "{}", wrong(&text));
        let claims: String = (0..=MAX_GRANTS).map(|n| format!("c{n}: x, ")).collect();
        let rule = format!("{{claims: {{{claims}}}, grants: []}}");
        let text = format!("issuers:\n- {{url: 'https://a', audience: a, grants: [{rule}]}}\n");
        assert!(wrong(&text).contains("issuers[0].grants[0].claims"), "{}", wrong(&text));
        // Aliases that double with each line.
        let mut bomb = "a0: &a0 [x,x]\n".to_owned();
        for n in 1..40 {
            bomb.push_str(&format!("a{n}: &a{n} [*a{m},*a{m}]\n", m = n - 1));
        }
        assert!(parse(format!("{bomb}users: *a39\n").as_bytes()).is_err());
    }
}
