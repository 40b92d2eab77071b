//! `POST /v1/registry-login`: whether a registry takes a user and a password, as this host's engine sees it.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use shef_common::registry::{LoginCheck, LoginQuery};

use crate::console::Consoles;

/// How long the engine may take to ask.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// 200 `LoginCheck`.
pub async fn post(body: web::Json<LoginQuery>, consoles: web::Data<Consoles>) -> HttpResponse {
    let check = match tokio::time::timeout(ASK_LIMIT, consoles.check_login(&body)).await {
        Ok(Ok(check)) => check,
        Ok(Err(reason)) => LoginCheck::Unknown { reason },
        Err(_) => LoginCheck::Unknown {
            reason: format!("the engine has not answered within {} s", ASK_LIMIT.as_secs()),
        },
    };
    HttpResponse::Ok().json(check)
}
