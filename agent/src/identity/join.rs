//! How the host comes to its identity at the start: the file, or else a join token.

use std::{fs, io, path::Path, time::Duration};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use shef_common::{
    backoff::Backoff,
    client::{CallError, HostClient},
    files,
    ids::{NodeName, NodeUid},
    problem::Problem,
    tls::{InvalidCredential, JOIN_PATH, Join, JoinToken, Joined, Tls, TlsMode, to_ca},
};

use super::IdentityFile;

/// The file in the data directory with the token that the bootstrap was given for the host.
pub const TOKEN_FILE: &str = "join-token";
/// The file there that says that the host has been a member.
const MEMBER_FILE: &str = "identity-was-made";
/// The file there with the key of a host that is about to join.
const KEY_FILE: &str = "identity.key";
/// How long one try to join may take.
const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// What a host needs to become a member.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Whether it speaks TLS. A host without identity and token does not, if that is optional, or if it came
    /// into its cluster with an earlier version.
    pub mode: TlsMode,
    /// The token that it was given.
    pub token: Option<JoinToken>,
    /// Where its identity is kept.
    pub data_dir: &'a Path,
    /// The name that it wants.
    pub node: NodeName,
    /// Its lasting identity.
    pub uid: NodeUid,
    /// Whether it has never been a member, with TLS or without.
    pub is_new: bool,
    /// Whether it was told to speak TLS alone.
    pub only_tls: bool,
    /// The masters, as `http://HOST:PORT`.
    pub masters: &'a [String],
}

/// Why a host is no member.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file is there and cannot be used.
    #[error("the host's identity in {path} cannot be used: {source}")]
    File {
        /// The path of the identity, its key or its note.
        path: String,
        /// What the system says, or the file's format.
        source: io::Error,
    },
    /// The certificate of the file or of the master is not one of this host.
    #[error("the host's certificate cannot be used: {0}")]
    Credential(#[from] InvalidCredential),
    /// The file is of another host than the ledger.
    #[error(
        "{path} is of host {found}, and the ledger beside it of host {ledger}: they belong together; bring \
         back the right ones, or begin with an empty data directory and a new join token"
    )]
    OtherHost {
        /// The path of the identity.
        path: String,
        /// Whose it is.
        found: NodeUid,
        /// Whose the ledger is.
        ledger: NodeUid,
    },
    /// The host has nothing to become a member with.
    #[error(
        "this host is no member of a cluster yet and has no join token: set join_token (JOIN_TOKEN) to what \
         `shef token join` prints on a master; only for a cluster without TLS, where anyone who reaches the \
         agent's port commands the host, set tls = \"off\" (SHEF_TLS)"
    )]
    NoToken,
    /// The host was a member, and what makes it one is gone.
    #[error(
        "this host is a member of a cluster, and its {path} is gone: bring it back, or forget the host \
         (`shef node rm`), empty the agent's data directory, and give it a new join token (JOIN_TOKEN)"
    )]
    Lost {
        /// Where the identity was.
        path: String,
    },
    /// No master can be asked to let the host in.
    #[error("the request for a certificate cannot be made: {0}")]
    Request(#[from] rcgen::Error),
    /// The master does not let it in.
    #[error("the master refuses to let this host in: {0}")]
    Refused(String),
}

/// The host's TLS; `None`: it has none, and goes on without. Waits for a master while none answers.
///
/// # Errors
/// [`IdentityError`] for what waiting does not mend.
pub async fn establish(asked: Asked<'_>) -> Result<Option<(IdentityFile, Tls)>, IdentityError> {
    if asked.mode == TlsMode::Off {
        log::warn!("tls is off: anyone who reaches the agent's port commands this host");
        return Ok(None);
    }
    let laid = asked.data_dir.join(TOKEN_FILE);
    let tokens: Vec<JoinToken> = asked.token.iter().cloned().chain(laid_token(&laid)).collect();
    let in_file = |source| {
        let path = IdentityFile::path(asked.data_dir).display().to_string();
        IdentityError::File { path, source }
    };
    if let Some(file) = IdentityFile::read(asked.data_dir).map_err(in_file)? {
        if file.uid != asked.uid {
            let path = IdentityFile::path(asked.data_dir).display().to_string();
            return Err(IdentityError::OtherHost { path, found: file.uid, ledger: asked.uid });
        }
        let tls = Tls::new(&file.credential())?;
        note_member(asked.data_dir).map_err(in_file)?;
        // A token of an unknown CA belongs to a cluster that was set up again, or whose CA was replaced after
        // a theft.
        let Some(token) = tokens.into_iter().find(|token| !file.knows(&token.ca)) else {
            _ = fs::remove_file(&laid);
            return Ok(Some((file, tls)));
        };
        let key = KeyPair::from_pem(file.key())?;
        return match join(&asked, &token, &key, Tries::Once).await {
            Ok(joined) => joined.kept(&asked, &laid).map(Some),
            Err(why) => {
                log::warn!(why:%; "the join token does not count; this host goes on as the member that it \
                                   is");
                Ok(Some((file, tls)))
            }
        };
    }
    let Some(token) = tokens.into_iter().next() else {
        if asked.data_dir.join(MEMBER_FILE).exists() {
            let path = IdentityFile::path(asked.data_dir).display().to_string();
            return Err(IdentityError::Lost { path });
        }
        if (asked.is_new || asked.only_tls) && asked.mode == TlsMode::Required {
            return Err(IdentityError::NoToken);
        }
        log::warn!(
            "this host came into its cluster without TLS: anyone who reaches the agent's port commands it, \
             until the agent is started with a join token"
        );
        return Ok(None);
    };
    let key = key_to_join_with(asked.data_dir)?;
    join(&asked, &token, &key, Tries::UntilAnswered).await?.kept(&asked, &laid).map(Some)
}

impl IdentityFile {
    /// Keeps it, and the token no longer, which is used up.
    fn kept(self, asked: &Asked<'_>, laid: &Path) -> Result<(Self, Tls), IdentityError> {
        let tls = Tls::new(&self.credential())?;
        self.write(asked.data_dir).map_err(|source| {
            let path = Self::path(asked.data_dir).display().to_string();
            IdentityError::File { path, source }
        })?;
        note_member(asked.data_dir).map_err(|source| {
            let path = asked.data_dir.join(MEMBER_FILE).display().to_string();
            IdentityError::File { path, source }
        })?;
        _ = fs::remove_file(laid);
        _ = fs::remove_file(asked.data_dir.join(KEY_FILE));
        log::info!(node:% = self.node, cluster:% = self.cluster; "this host is a member now");
        Ok((self, tls))
    }
}

/// How often masters are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tries {
    /// Each of them once.
    Once,
    /// Until one answers.
    UntilAnswered,
}

/// Notes that this host has been a member: without its identity it does not go on as one that never was.
fn note_member(data_dir: &Path) -> io::Result<()> {
    let path = data_dir.join(MEMBER_FILE);
    if path.exists() { Ok(()) } else { files::replace(&path, files::PRIVATE, b"") }
}

/// The host's key, stored before the first request: after a lost answer the host asks again with the same
/// key.
fn key_to_join_with(data_dir: &Path) -> Result<KeyPair, IdentityError> {
    let path = data_dir.join(KEY_FILE);
    let in_file = |source| IdentityError::File { path: path.display().to_string(), source };
    match files::read(&path) {
        Ok(pem) => Ok(KeyPair::from_pem(&String::from_utf8_lossy(&pem))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            files::replace(&path, files::PRIVATE, key.serialize_pem().as_bytes()).map_err(in_file)?;
            Ok(key)
        }
        Err(error) => Err(in_file(error)),
    }
}

/// The token that the bootstrap has laid beside the ledger.
fn laid_token(path: &Path) -> Option<JoinToken> {
    let text = files::read(path).ok()?;
    JoinToken::parse(std::str::from_utf8(&text).ok()?.trim())
}

/// Asks one master after the other until one lets the host in, or refuses.
async fn join(
    asked: &Asked<'_>,
    token: &JoinToken,
    key: &KeyPair,
    tries: Tries,
) -> Result<IdentityFile, IdentityError> {
    let request = Join {
        id: token.id.clone(),
        secret: token.secret.clone(),
        node: asked.node.clone(),
        uid: asked.uid.clone(),
        csr: csr(key)?,
    };
    let client = HostClient::new(Some(to_ca(vec![token.ca.clone()])));
    let mut failures = 0;
    loop {
        for master in asked.masters {
            let url = format!("{}{JOIN_PATH}", over_tls(master));
            match client.post::<_, Joined>(&url, &request, JOIN_LIMIT).await {
                Ok(joined) => return Ok(IdentityFile::of(asked.uid.clone(), key.serialize_pem(), joined)),
                Err(CallError::Refused { status, body, .. }) if status.is_client_error() => {
                    let why = match serde_json::from_slice::<Problem>(&body) {
                        Ok(problem) => problem.detail,
                        Err(_) => format!("it answered {status}"),
                    };
                    return Err(IdentityError::Refused(why));
                }
                Err(error) => log::warn!(why:% = error; "this host is not let in yet; asking again"),
            }
        }
        if tries == Tries::Once {
            return Err(IdentityError::Refused("no master of the token's cluster answers".to_owned()));
        }
        failures += 1;
        tokio::time::sleep(Backoff::CALL.after(failures).into()).await;
    }
}

/// A request for a certificate of `key`. It asks for nothing: the master knows who is let in.
pub(super) fn csr(key: &KeyPair) -> Result<String, rcgen::Error> {
    CertificateParams::default().serialize_request(key)?.pem()
}

/// A master's address, with TLS.
#[must_use]
pub fn over_tls(master: &str) -> String {
    master.strip_prefix("http://").map_or_else(|| master.to_owned(), |host| format!("https://{host}"))
}
