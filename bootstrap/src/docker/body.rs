//! What the engine is given to make a container of.

use std::io::Read as _;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, Mount, MountType, RestartPolicy, RestartPolicyNameEnum,
};

use shef_common::spec::{DEFAULT_PIDS, NO_NEW_PRIVILEGES};

use crate::system::{Part, Wanted};

/// A tar of files that root alone can read.
pub(super) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o400);
        header.set_size(content.len() as u64);
        // Into memory: it does not fail.
        let _ = tar.append_data(&mut header, name, content.as_bytes());
    }
    tar.into_inner().unwrap_or_default()
}

/// The content of the first file in a tar.
pub(super) fn first_file(archive: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let mut archive = tar::Archive::new(archive);
    let mut files = archive.entries().ok()?.flatten().filter(|entry| entry.header().entry_type().is_file());
    files.next()?.read_to_end(&mut content).ok()?;
    Some(content)
}

/// None, though the image may have one.
pub(super) fn no_health_check() -> HealthConfig {
    HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() }
}

pub(super) fn body(wanted: &Wanted) -> ContainerCreateBody {
    let mounts = wanted.mounts.iter().map(|(source, target, read_only)| Mount {
        typ: Some(if source.starts_with('/') { MountType::BIND } else { MountType::VOLUME }),
        source: Some(source.clone()),
        target: Some(target.clone()),
        read_only: Some(*read_only),
        ..Default::default()
    });
    let is_agent = wanted.part == Part::Agent;
    ContainerCreateBody {
        image: Some(wanted.image.clone()),
        user: (!wanted.user.is_empty()).then(|| wanted.user.clone()),
        cmd: Some(wanted.command.clone()),
        env: Some(wanted.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        host_config: Some(HostConfig {
            network_mode: Some("host".to_owned()),
            security_opt: Some(vec![NO_NEW_PRIVILEGES.to_owned()]),
            pids_limit: i64::try_from(DEFAULT_PIDS).ok(),
            // An agent tells whose process listens on a port of the host (health checks). It holds the
            // engine's socket, and so the host, anyway.
            pid_mode: is_agent.then(|| "host".to_owned()),
            cap_add: is_agent.then(|| vec!["SYS_PTRACE".to_owned()]),
            mounts: Some(mounts.collect()),
            // Of the two ways to mount, the one by which an engine makes a source that is missing.
            binds: wanted.made_dir.as_ref().map(|directory| vec![format!("{directory}:{directory}")]),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}
