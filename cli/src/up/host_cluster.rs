//! Which cluster the host of `shef up` belongs to, where the master's directory holds none.

use std::{fs, path::Path};

use shef_agent::IdentityFile;
use shef_common::{files, tls::CaDigest};
use shef_master::{TAKEN_OVER, identity::COPY, store::embedded};

use crate::Failure;

/// The file in the agent's directory with the CA of the cluster that `shef up` has begun.
const BEGUN: &str = "shef-up-ca";

/// A master whose directory was deleted leads the cluster of its host anew, and takes over what that one
/// holds, if `shef up` has begun that cluster. Another cluster has a master elsewhere.
///
/// # Errors
/// The host belongs to a cluster that `shef up` has not begun, or a file cannot be read or written.
pub(super) fn go_on(master: &Path, agent: &Path) -> Result<(), Failure> {
    let noted = master.join(TAKEN_OVER);
    if master.join(COPY).exists() || noted.exists() {
        return Ok(());
    }
    let identity = IdentityFile::path(agent);
    let member = IdentityFile::read(agent)
        .map_err(|error| Failure::because(format!("cannot read {}", identity.display()), &error))?;
    let Some(member) = member else { return Ok(()) };
    let begun = fs::read_to_string(agent.join(BEGUN)).ok().and_then(|ca| CaDigest::parse(ca.trim()));
    if begun.is_some_and(|ca| member.knows(&ca)) {
        return files::make_data_dir(master)
            .and_then(|()| files::replace(&noted, files::PRIVATE, member.cluster.as_str().as_bytes()))
            .map_err(|error| cannot_write(&noted, &error));
    }
    // A store knows by itself which cluster it is of.
    if master.join(embedded::FILE).exists() {
        return Ok(());
    }
    Err(Failure(format!(
        "this host is a member of cluster {cluster} ({identity}), which `shef up` has not begun, and \
         {master} holds no cluster: nothing was changed. To stay a member, start `shef agent` with that \
         cluster's master. To leave it and begin a cluster here, delete {identity}. If the master of \
         {cluster} is lost for good, and this one is to lead that cluster, write {cluster} into {noted}",
        cluster = member.cluster,
        identity = identity.display(),
        master = master.display(),
        noted = noted.display(),
    )))
}

/// Notes that `shef up` leads the cluster of this CA.
///
/// # Errors
/// The file cannot be written.
pub(super) fn note(ca: &CaDigest, agent: &Path) -> Result<(), Failure> {
    let path = agent.join(BEGUN);
    files::make_data_dir(agent)
        .and_then(|()| files::replace(&path, files::PRIVATE, ca.to_string().as_bytes()))
        .map_err(|error| cannot_write(&path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::because(format!("cannot write {}", path.display()), error)
}
