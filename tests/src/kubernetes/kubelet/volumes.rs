//! The volumes of a pod: directories whose files are changed all at once, as the real kubelet does it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, ServiceAccountTokenProjection,
    Volume,
};
use kube::ResourceExt;

use super::objects::{Entries, Objects, field};
use super::problem::Problem;
use super::text::Mounts;

const ROOM: &str = "there is room for small files";

/// Without another wish, tokens are good for an hour.
const TOKEN_SECONDS: i64 = 3_600;

/// What the volumes of a pod hold.
#[derive(Debug)]
pub(super) struct Volumes {
    folder: PathBuf,
    /// How often each was published, and with what.
    published: BTreeMap<String, (u32, Entries)>,
    /// Tokens by volume and path, and when each is to be replaced.
    tokens: BTreeMap<(String, String), (String, Instant)>,
}

/// What a volume is filled from.
struct Source<'a> {
    objects: &'a Objects,
    pod: &'a Pod,
    ip: &'a str,
    volume: &'a str,
}

impl Volumes {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.join("volumes"), published: BTreeMap::new(), tokens: BTreeMap::new() }
    }

    /// Where a container has its volumes.
    pub(super) fn mounts_of(&self, container: &Container) -> Result<Mounts, Problem> {
        let mut mounts = Mounts::default();
        for mount in container.volume_mounts.iter().flatten() {
            if mount.sub_path_expr.is_some() {
                return Err(Problem::not_played("subPathExpr"));
            }
            let mut target = self.folder.join(&mount.name);
            target.extend(mount.sub_path.as_deref().filter(|path| !path.is_empty()));
            mounts.add(&mount.mount_path, target);
        }
        Ok(mounts)
    }

    /// Brings all volumes up to date. In files, paths that containers would see are replaced by the real ones.
    pub(super) fn refresh(
        &mut self,
        objects: &Objects,
        pod: &Pod,
        ip: &str,
        mounts: &Mounts,
    ) -> Result<(), Problem> {
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
        for volume in volumes.into_iter().flatten() {
            let folder = self.folder.join(&volume.name);
            if volume.empty_dir.is_some() {
                std::fs::create_dir_all(&folder).expect(ROOM);
                continue;
            }
            let source = Source { objects, pod, ip, volume: &volume.name };
            let mut entries = self.gather(&source, volume)?;
            for entry in entries.values_mut() {
                if let Ok(text) = std::str::from_utf8(entry) {
                    *entry = mounts.rewrite(text).into_bytes();
                }
            }
            let (times, published) = self.published.entry(volume.name.clone()).or_default();
            if *times == 0 || *published != entries {
                *times += 1;
                publish(&folder, *times, &entries);
                *published = entries;
            }
        }
        Ok(())
    }

    fn gather(&mut self, source: &Source<'_>, volume: &Volume) -> Result<Entries, Problem> {
        if let Some(map) = &volume.config_map {
            source.config_map(&map.name, map.items.as_deref(), map.optional)
        } else if let Some(secret) = &volume.secret {
            let name = secret.secret_name.as_deref().unwrap_or_default();
            source.secret(name, secret.items.as_deref(), secret.optional)
        } else if let Some(fields) = &volume.downward_api {
            source.fields(fields.items.as_deref())
        } else if let Some(projected) = &volume.projected {
            self.projected(source, projected)
        } else {
            Err(Problem::not_played(format!("the kind of the volume {}", volume.name)))
        }
    }

    fn projected(&mut self, source: &Source<'_>, volume: &ProjectedVolumeSource) -> Result<Entries, Problem> {
        let mut all = Entries::new();
        for part in volume.sources.iter().flatten() {
            let entries = if let Some(map) = &part.config_map {
                source.config_map(&map.name, map.items.as_deref(), map.optional)?
            } else if let Some(secret) = &part.secret {
                source.secret(&secret.name, secret.items.as_deref(), secret.optional)?
            } else if let Some(fields) = &part.downward_api {
                source.fields(fields.items.as_deref())?
            } else if let Some(token) = &part.service_account_token {
                Entries::from([(token.path.clone(), self.token(source, token)?.into_bytes())])
            } else {
                return Err(Problem::not_played(format!("a source of the volume {}", source.volume)));
            };
            all.extend(entries);
        }
        Ok(all)
    }

    fn token(
        &mut self,
        source: &Source<'_>,
        wish: &ServiceAccountTokenProjection,
    ) -> Result<String, Problem> {
        let key = (source.volume.to_owned(), wish.path.clone());
        if let Some((token, until)) = self.tokens.get(&key)
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let seconds = wish.expiration_seconds.unwrap_or(TOKEN_SECONDS);
        let token = source.objects.token(source.pod, wish.audience.as_deref(), seconds);
        let token = token.map_err(|error| Problem::volume(error.to_string()))?;
        // The real kubelet replaces them when four fifths of their time are over.
        let kept = Duration::from_secs(seconds.unsigned_abs()) * 4 / 5;
        self.tokens.insert(key, (token.clone(), Instant::now() + kept));
        Ok(token)
    }
}

impl Source<'_> {
    fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }

    fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<Entries, Problem> {
        let entries = self.objects.config_map(&self.namespace(), name);
        self.chosen("configmap", name, entries, items, optional)
    }

    fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<Entries, Problem> {
        let entries = self.objects.secret(&self.namespace(), name);
        self.chosen("secret", name, entries, items, optional)
    }

    /// What stands at which path.
    fn chosen(
        &self,
        kind: &str,
        name: &str,
        entries: kube::Result<Option<Entries>>,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<Entries, Problem> {
        let told = |what: String| Problem::volume(format!("the volume {}: {what}", self.volume));
        let optional = optional == Some(true);
        let entries = match entries.map_err(|error| told(error.to_string()))? {
            Some(entries) => entries,
            None if optional => Entries::new(),
            None => return Err(told(format!("{kind} \"{name}\" not found"))),
        };
        let Some(items) = items else { return Ok(entries) };
        let mut chosen = Entries::new();
        for item in items {
            match entries.get(&item.key) {
                Some(entry) => {
                    chosen.insert(item.path.clone(), entry.clone());
                }
                None if optional => {}
                None => return Err(told(format!("{kind} \"{name}\" has no key {}", item.key))),
            }
        }
        Ok(chosen)
    }

    fn fields(&self, items: Option<&[DownwardAPIVolumeFile]>) -> Result<Entries, Problem> {
        let file = |item: &DownwardAPIVolumeFile| {
            let path = item.field_ref.as_ref().map(|field| field.field_path.as_str());
            let path = path.ok_or_else(|| Problem::not_played("resources as files"))?;
            Ok((item.path.clone(), field(self.pod, self.ip, path)?.into_bytes()))
        };
        items.unwrap_or_default().iter().map(file).collect()
    }
}

/// Makes the files of a directory these. They stand in a directory of their own, which a link leads to; the link is
/// replaced in one step, so that nobody sees some of the old and some of the new.
fn publish(folder: &Path, times: u32, entries: &Entries) {
    let fresh = format!("..{times}");
    for (path, entry) in entries {
        let file = folder.join(&fresh).join(path);
        std::fs::create_dir_all(file.parent().expect("it is in the folder")).expect(ROOM);
        std::fs::write(file, entry).expect(ROOM);
    }
    std::fs::create_dir_all(folder.join(&fresh)).expect(ROOM);
    let (data, next) = (folder.join("..data"), folder.join("..data_tmp"));
    let before = std::fs::read_link(&data).ok();
    std::os::unix::fs::symlink(&fresh, &next).expect(ROOM);
    std::fs::rename(&next, &data).expect(ROOM);

    let first = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    let names: std::collections::BTreeSet<String> = entries.keys().map(first).collect();
    for name in &names {
        // It may be there from before.
        let _ = std::os::unix::fs::symlink(Path::new("..data").join(name), folder.join(name));
    }
    for seen in std::fs::read_dir(folder).expect(ROOM) {
        let name = seen.expect(ROOM).file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !names.contains(&name) {
            std::fs::remove_file(folder.join(name)).expect(ROOM);
        }
    }
    if let Some(before) = before {
        std::fs::remove_dir_all(folder.join(before)).expect(ROOM);
    }
}

#[cfg(test)]
mod tests {
    use super::publish;

    #[test]
    fn files_are_replaced_and_removed() {
        let folder = crate::server::temporary_directory();
        let at = folder.path().join("volume");
        let bytes = |text: &str| text.as_bytes().to_vec();
        publish(&at, 1, &[("a".to_owned(), bytes("1")), ("b/c".to_owned(), bytes("2"))].into());
        assert_eq!(std::fs::read(at.join("b/c")).unwrap(), b"2");
        publish(&at, 2, &[("a".to_owned(), bytes("3"))].into());
        assert_eq!(std::fs::read(at.join("a")).unwrap(), b"3");
        assert!(!at.join("b").exists() && !at.join("..1").exists());
    }
}
