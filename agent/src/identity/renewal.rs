//! Another certificate before the present one expires. Connections that are open go on.

use std::{path::PathBuf, time::Duration};

use rcgen::KeyPair;
use shef_common::{
    backoff::Backoff,
    client::{CallError, HostClient},
    clock::Now,
    tls::{Joined, RENEW_PATH, Renew, Tls, to_ca},
};

use super::{
    IdentityFile,
    join::{csr, over_tls},
};

/// How long one try may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The clock may be set: how often it is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);

/// Renews the certificate in time, for as long as it is polled.
pub async fn renew_in_time(mut file: IdentityFile, tls: Tls, masters: Vec<String>, data_dir: PathBuf) {
    let mut failures = 0;
    loop {
        let due = tls.renew_at().0.saturating_sub(Now::read().wall.0);
        if due > 0 {
            tokio::time::sleep(Duration::from_millis(due).min(LOOK_AGAIN)).await;
            continue;
        }
        let renewed = match renew(&file, &masters).await {
            Ok(renewed) => renewed,
            Err(why) => {
                failures += 1;
                log::warn!(why:%; "the host's certificate is not renewed yet; asking again");
                let wait: Duration = Backoff::CALL.after(failures).into();
                tokio::time::sleep(wait * 60).await;
                continue;
            }
        };
        failures = 0;
        if let Err(error) = tls.replace(&renewed.credential()) {
            log::error!(error:%; "the master gave a certificate that cannot be used");
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        }
        if let Err(error) = renewed.write(&data_dir) {
            log::error!(error:%; "the host's new certificate cannot be kept: it counts until the agent \
                                  stops");
        }
        log::info!("the host has a new certificate");
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
    let client = HostClient::new(Some(to_ca(file.credential().cas())));
    let mut why = NotRenewed::NoMaster;
    for master in masters {
        match client.post::<_, Joined>(&format!("{}{RENEW_PATH}", over_tls(master)), &request, LIMIT).await {
            Ok(joined) => return Ok(IdentityFile::of(file.uid.clone(), file.key().to_owned(), joined)),
            Err(error) => why = error.into(),
        }
    }
    Err(why)
}
