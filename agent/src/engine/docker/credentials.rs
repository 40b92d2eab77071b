//! Credentials of registries, as the engine reads them.

use bollard::{BollardRequest, auth::DockerCredentials};
use shef_common::{
    image::ImageRef,
    registry::{Credentials, RegistryHost},
};

/// What bollard hands to the engine for a pull.
pub(super) fn login(image: &ImageRef, shown: &Credentials) -> DockerCredentials {
    let registry = image.registry();
    // Engines compare the address with the one that they go to, and know Docker Hub by this name.
    let address = if registry.as_str() == RegistryHost::DEFAULT {
        "https://index.docker.io/v1/"
    } else {
        registry.as_str()
    };
    DockerCredentials {
        username: Some(shown.username.clone()),
        password: Some(shown.password.clone()),
        serveraddress: Some(address.to_owned()),
        ..Default::default()
    }
}

/// Engines read `X-Registry-Auth` as base64 for addresses and take one that they cannot read for
/// none; bollard writes plain base64. The two differ in two letters, which passwords with `>`, `?`, `~` or
/// anything beyond ASCII bring in.
pub(super) fn url_safe(mut request: BollardRequest) -> BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("x-registry-auth") {
        let letters = value.as_bytes().iter().map(|letter| match letter {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        });
        let letters: Vec<u8> = letters.collect();
        if let Ok(mut changed) = letters.as_slice().try_into() {
            std::mem::swap(value, &mut changed);
            value.set_sensitive(true);
        }
    }
    request
}
