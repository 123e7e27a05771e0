//! The environment of a container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};
use kube::ResourceExt;

use super::objects::{Entries, Objects, field};
use super::problem::Problem;
use super::text::expand;

/// All variables that the container's spec names, before paths are replaced in them.
pub(super) fn variables(
    objects: &Objects,
    pod: &Pod,
    container: &Container,
    ip: &str,
) -> Result<BTreeMap<String, String>, Problem> {
    let namespace = pod.namespace().unwrap_or_default();
    let mut variables = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        let (kind, name, optional, entries) = if let Some(map) = &source.config_map_ref {
            ("ConfigMap", &map.name, map.optional, objects.config_map(&namespace, &map.name))
        } else if let Some(secret) = &source.secret_ref {
            ("Secret", &secret.name, secret.optional, objects.secret(&namespace, &secret.name))
        } else {
            return Err(Problem::not_played("this source of variables"));
        };
        let prefix = source.prefix.as_deref().unwrap_or_default();
        match entries.map_err(|error| Problem::config(error.to_string()))? {
            Some(entries) => {
                for (key, value) in entries {
                    variables.insert(format!("{prefix}{key}"), text_of(value)?);
                }
            }
            None if optional == Some(true) => {}
            None => return Err(Problem::config(format!("{kind} \"{name}\" not found"))),
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(objects, pod, variable, ip)? {
            let value = if variable.value_from.is_none() { expand(&value, &variables) } else { value };
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

fn value(objects: &Objects, pod: &Pod, variable: &EnvVar, ip: &str) -> Result<Option<String>, Problem> {
    let namespace = pod.namespace().unwrap_or_default();
    let Some(source) = &variable.value_from else {
        return Ok(Some(variable.value.clone().unwrap_or_default()));
    };
    if let Some(source) = &source.field_ref {
        return field(pod, ip, &source.field_path).map(Some);
    }
    if let Some(source) = &source.config_map_key_ref {
        let entries = objects.config_map(&namespace, &source.name);
        return entry("ConfigMap", &source.name, &source.key, source.optional, entries);
    }
    if let Some(source) = &source.secret_key_ref {
        let entries = objects.secret(&namespace, &source.name);
        return entry("Secret", &source.name, &source.key, source.optional, entries);
    }
    Err(Problem::not_played(format!("the source of the variable {}", variable.name)))
}

fn entry(
    kind: &str,
    name: &str,
    key: &str,
    optional: Option<bool>,
    entries: kube::Result<Option<Entries>>,
) -> Result<Option<String>, Problem> {
    let entries = entries.map_err(|error| Problem::config(error.to_string()))?;
    let there = entries.is_some();
    match entries.and_then(|mut entries| entries.remove(key)) {
        Some(value) => text_of(value).map(Some),
        None if optional == Some(true) => Ok(None),
        None if there => Err(Problem::config(format!("couldn't find key {key} in {kind} {name}"))),
        None => Err(Problem::config(format!("{kind} \"{name}\" not found"))),
    }
}

fn text_of(value: Vec<u8>) -> Result<String, Problem> {
    String::from_utf8(value).map_err(|_| Problem::config("a variable's value is not text"))
}
