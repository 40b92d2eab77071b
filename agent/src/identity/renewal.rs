//! Another certificate before the present one expires, when the cluster has another CA, and when no master
//! takes the present one. Connections that are open go on.

use std::{mem::replace, path::PathBuf, sync::Arc, time::Duration};

use rcgen::KeyPair;
use shef_common::{
    backoff::Backoff,
    client::{CallError, HostClient},
    clock::Now,
    tls::{CaDigest, Joined, RENEW_PATH, Renew, Tls, to_ca},
};
use tokio::sync::watch;

use super::{
    IdentityFile,
    join::{csr, over_tls},
};

/// How long one try may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The clock may be set: how often it is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);
/// How far apart renewals are that the master's answers ask for.
const APART: Duration = Duration::from_secs(1);
/// How far apart renewals are that are tried because no master answers.
const UNANSWERED_APART: Duration = Duration::from_secs(15);

/// What the reporter hears of certificates, and what it may tell.
#[derive(Debug, Clone)]
pub struct Heard(Arc<watch::Sender<Told>>);

/// The latest that was heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    /// The CAs of the certificate that is stored.
    stored: Vec<CaDigest>,
    /// The CAs of the cluster, as a master has told them; none: it has not.
    cas: Vec<CaDigest>,
    /// Whether no master has answered since.
    unanswered: bool,
}

impl Heard {
    /// Nothing is heard yet.
    #[must_use]
    pub fn new(file: &IdentityFile) -> Self {
        Self(Arc::new(watch::Sender::new(Told { stored: file.cas(), ..Told::default() })))
    }

    /// A master has told which CAs the cluster has.
    pub fn cas(&self, cas: &[CaDigest]) {
        self.0.send_if_modified(|told| {
            replace(&mut told.unanswered, false) | (replace(&mut told.cas, cas.to_vec()) != cas)
        });
    }

    /// No master answers. It may be that none takes the certificate.
    pub fn unanswered(&self) {
        self.0.send_if_modified(|told| !replace(&mut told.unanswered, true));
    }

    /// The CAs of the certificate that is stored.
    #[must_use]
    pub fn stored(&self) -> Vec<CaDigest> {
        self.0.borrow().stored.clone()
    }

    /// How long to wait with the next renewal, by what was heard last; `None`: nothing asks for one.
    fn asks(&self) -> Option<Duration> {
        let told = self.0.borrow();
        if told.unanswered {
            return Some(UNANSWERED_APART);
        }
        (!told.cas.is_empty() && told.cas != told.stored).then_some(APART)
    }
}

/// Renews the certificate in time, for as long as it is polled.
pub async fn renew_in_time(
    mut file: IdentityFile,
    tls: Tls,
    masters: Vec<String>,
    data_dir: PathBuf,
    heard: Heard,
) {
    let mut failures = 0;
    let mut news = heard.0.subscribe();
    loop {
        let due = Duration::from_millis(tls.renew_at().0.saturating_sub(Now::read().wall.0));
        if !due.is_zero() {
            match heard.asks() {
                Some(wait) => {
                    tokio::time::sleep(wait).await;
                    // It may have been answered meanwhile.
                    if heard.asks().is_none() {
                        continue;
                    }
                }
                None => {
                    _ = tokio::time::timeout(due.min(LOOK_AGAIN), news.changed()).await;
                    continue;
                }
            }
        }
        let renewed = match renew(&file, &masters).await {
            Ok(renewed) => renewed,
            Err(why) => {
                failures += 1;
                if due.is_zero() || failures == 1 {
                    log::warn!(why:%; "the host's certificate is not renewed yet; asking again");
                }
                let wait: Duration = Backoff::CALL.after(failures).into();
                // Somebody who waits for it is not kept waiting.
                tokio::time::sleep(if due.is_zero() { wait * 60 } else { wait }).await;
                continue;
            }
        };
        failures = 0;
        if let Err(error) = tls.replace(&renewed.credential()) {
            log::error!(error:%; "the master gave a certificate that cannot be used");
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        }
        match renewed.write(&data_dir) {
            Ok(()) => heard.0.send_modify(|told| told.stored = renewed.cas()),
            Err(error) => {
                log::error!(error:%; "the host's new certificate cannot be kept: it counts until the agent \
                                      stops");
                // Only what is stored is told.
                tokio::time::sleep(UNANSWERED_APART).await;
            }
        }
        log::info!("the host has a new certificate");
        heard.0.send_modify(|told| told.unanswered = false);
        file = renewed;
    }
}

/// Why no master has renewed the certificate.
#[derive(Debug, thiserror::Error)]
enum NotRenewed {
    /// The request cannot be made.
    #[error("the request cannot be made: {0}")]
    Request(#[from] rcgen::Error),
    /// There is no master to ask.
    #[error("no master is configured")]
    NoMaster,
    /// The last master's answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

async fn renew(file: &IdentityFile, masters: &[String]) -> Result<IdentityFile, NotRenewed> {
    let request = Renew { uid: file.uid.clone(), csr: csr(&KeyPair::from_pem(file.key())?)? };
    // An expired certificate would not be taken: the request's signature proves the key instead.
    let client = HostClient::new(Some(to_ca(file.cas())));
    let mut why = NotRenewed::NoMaster;
    for master in masters {
        match client.post::<_, Joined>(&format!("{}{RENEW_PATH}", over_tls(master)), &request, LIMIT).await {
            Ok(joined) => return Ok(file.renewed(joined)),
            Err(error) => why = error.into(),
        }
    }
    Err(why)
}
