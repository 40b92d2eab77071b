//! Packs the files of Swagger UI that the page `/docs` is made of, from the archive that a crate carries.
//! Nothing is downloaded.

use std::{
    borrow::Cow,
    env,
    error::Error,
    fs::File,
    io::{Cursor, copy},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

const FILES: [&str; 2] = ["swagger-ui-bundle.js", "swagger-ui.css"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    for file in FILES {
        let end = format!("/dist/{file}");
        let name = archive.file_names().flatten().find(|name| name.ends_with(&end)).map(Cow::into_owned);
        let name = name.ok_or_else(|| format!("the archive of Swagger UI has no {file}"))?;
        let packed = File::create(Path::new(&out).join(format!("{file}.gz")))?;
        let mut packed = GzEncoder::new(packed, Compression::best());
        copy(&mut archive.by_name(&name)?, &mut packed)?;
        packed.finish()?;
    }
    Ok(())
}
